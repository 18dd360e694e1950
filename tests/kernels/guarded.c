#include "tests/kernels/guarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FILLER = 0xa5, MAX_BUFFERS = 1024 };

static struct buffer {
    uint8_t *map;
    size_t map_bytes;
    uint8_t *start;         /* what guarded() returned */
} buffers[MAX_BUFFERS];
static size_t n_buffers;

void *guarded(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inner = (bytes + page - 1) / page * page;

    if (n_buffers == MAX_BUFFERS) {
        fprintf(stderr, "guarded: more than %d buffers; call guarded_free_all()\n", MAX_BUFFERS);
        abort();
    }
    struct buffer *b = &buffers[n_buffers++];
    b->map_bytes = inner + 2 * page;
    b->map = mmap(NULL, b->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->map == MAP_FAILED || (inner && mprotect(b->map + page, inner, PROT_READ | PROT_WRITE) != 0)) {
        perror("guarded");
        abort();
    }
    memset(b->map + page, FILLER, inner);
    b->start = b->map + page + inner - bytes;
    return b->start;
}

void guarded_free_all(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    while (n_buffers > 0) {
        struct buffer *b = &buffers[--n_buffers];
        for (const uint8_t *p = b->map + page; p < b->start; p++) {
            if (*p != FILLER) {
                fprintf(stderr, "guarded: byte %zd before a buffer was written\n", b->start - p);
                abort();
            }
        }
        munmap(b->map, b->map_bytes);
    }
}

void rng_seed(struct rng *rng, uint64_t seed)
{
    rng->seed = rng->state = seed;
}

uint64_t rng_u64(struct rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t rng_below(struct rng *rng, uint32_t n)
{
    return (uint32_t)((rng_u64(rng) >> 32) * n >> 32);
}

float rng_float(struct rng *rng, float low, float high)
{
    return low + (high - low) * ((float)(rng_u64(rng) >> 40) * 0x1p-24f);
}

void rng_bytes(struct rng *rng, void *out, size_t n)
{
    uint8_t *p = out;
    for (uint64_t word; n > 0; ) {
        size_t part = n < sizeof(word) ? n : sizeof(word);
        word = rng_u64(rng);
        memcpy(p, &word, part);
        p += part;
        n -= part;
    }
}
