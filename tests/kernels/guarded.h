/*
 * guarded.h - buffers that end at an unreadable page, and the random numbers of the kernel tests.
 *
 * A kernel that reads or writes one byte past a buffer stops the test at that instruction. Buffers are also
 * preceded by such a page; the bytes between it and the buffer are checked when the buffers are freed.
 */
#ifndef FOURWAY_TESTS_KERNELS_GUARDED_H
#define FOURWAY_TESTS_KERNELS_GUARDED_H

#include <stddef.h>
#include <stdint.h>

/*
 * `bytes` bytes that end at the guard page, filled with 0xa5. Aligned like `bytes` is: to 64 when it is a multiple of 64.
 * Never NULL. Owned by this module until guarded_free_all().
 */
void *guarded(size_t bytes);

/* Frees all buffers; aborts with a line when bytes before one were written. */
void guarded_free_all(void);

/* splitmix64 (Steele, Lea, Flood 2014): any seed is good, the same seed gives the same test. */
struct rng {
    uint64_t seed, state;
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_u64(struct rng *rng);
uint32_t rng_below(struct rng *rng, uint32_t n);        /* 0 .. n - 1 */
float rng_float(struct rng *rng, float low, float high);
void rng_bytes(struct rng *rng, void *out, size_t n);

#endif
