/*
 * bench.h - what the parts of `check_kernels --bench` share: workers with memory of their own nodes, and passes that are timed beside
 * the machine's yardsticks.
 *
 * All workers run the kernel at once, each on its own slice. A pass lasts from a common start to the end of the last worker. After
 * every pass the same workers read memory and run register-only loops: on a shared machine both swing within seconds, so a share
 * is that of a pass and the yardstick right after it, and of all of these the median.
 */
#ifndef FOURWAY_TESTS_KERNELS_BENCH_H
#define FOURWAY_TESTS_KERNELS_BENCH_H

#include "kernels/kernels.h"
#include "numa/place.h"
#include "numa/pool.h"
#include "tests/kernels/bench_output.h"

struct bench_options {
    enum isa isa;
    size_t threads;             /* 0: one a core */
    const char *type;           /* the only weight type, NULL: all */
    const char *only;           /* the only section, NULL: all */
    bool quick;                 /* little work: does it run? The figures mean nothing */
};

struct bench {
    const struct bench_options *options;
    struct kernels kernels;
    struct topology topology;
    struct pool *pool;
    struct place_arena arenas[TOPOLOGY_MAX_NODES];
    size_t n_workers, n_nodes;
    size_t worker_bytes;                        /* of a worker's slice: together far more than any cache */
    double read_per_s, peak_per_s[ACT_COUNT];   /* bytes and operations, all workers: the best median so far */
    struct output *output;
};

/* Return 0 or a negative errno (logged). bench_close afterwards, always. */
int bench_open(struct bench *b, const struct bench_options *options, struct output *output);
void bench_close(struct bench *b);

enum { BENCH_SCRATCH_BYTES = 8 << 20, BENCH_SHARED_BYTES = 8 << 20 };

/* The worker's slice, worker_bytes; its own scratch; and what a node's workers share. All aligned to 64. */
void *bench_slice(const struct bench *b, const struct worker *w);
void *bench_scratch(const struct bench *b, const struct worker *w);
void *bench_shared(const struct bench *b, const struct worker *w);

/* A worker's part of pass number `pass`. */
typedef void (*bench_fn)(const struct bench *b, const struct worker *w, size_t pass, void *arg);

struct timing {
    double best_s, median_s;            /* of the passes */
    double read_per_s, peak_per_s;      /* the medians between these passes: bytes and operations, all workers */
    double of_read, of_peak;            /* shares, when a pass reads `bytes` and does `ops` */
};

/* Some passes, for half a second or so, each of `bytes` and `ops` of all workers; `unit` is whose peak stands beside them. */
struct timing bench_time(struct bench *b, bench_fn fn, void *arg, enum activation unit, double bytes, double ops);

/* The worker's part of filling memory; not timed. */
void bench_fill(struct bench *b, bench_fn fn, void *arg);

void bench_matmul(struct bench *b);
void bench_attention(struct bench *b);
void bench_rest(struct bench *b);

#endif
