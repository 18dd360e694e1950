/* streams.c - traffic of writes, mixes and STREAM's kind, a double at a time; and dependent and paced loads, the same at all levels. */
#include <immintrin.h>

#include "kernels/kernels_internal.h"

/* x86-64 has non-temporal stores of a plain register (SSE2). */
static inline void store_nt(double *p, double x)
{
    long long bits;
    __builtin_memcpy(&bits, &x, sizeof(bits));
    _mm_stream_si64((long long *)(void *)p, bits);
}

#define WORD double
#define LOAD(p) (*(p))
#define STORE(p, x) (*(p) = (x))
#define STORE_NT(p, x) store_nt(p, x)
#define SET(value) (value)
#define PLUS(x, y) ((x) + (y))
#define TIMES(x, y) ((x) * (y))
#define FENCE() _mm_sfence()
#include "kernels/stream_template.h"

static const void *chase(const void *start, size_t n)
{
    const void *at = start;

    for (; n >= 8; n -= 8) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            at = *(const void *const *)at;
    }
    for (; n; n--)
        at = *(const void *const *)at;
    return at;
}

/* One word brings its line. A turn of the inner loop takes a cycle: its counter depends on itself. */
static uint64_t read_paced(const void *p, size_t bytes, unsigned delay)
{
    enum { LINE_WORDS = 8, GROUP_LINES = 2 };
    const uint64_t *words = p;
    uint64_t sum = 0;

    for (size_t i = 0; i + GROUP_LINES * LINE_WORDS <= bytes / sizeof(*words); i += GROUP_LINES * LINE_WORDS) {
        sum += words[i] + words[i + LINE_WORDS];
        for (unsigned turn = delay; turn; turn--)
            __asm__ volatile("" : "+r"(turn));
    }
    return sum;
}

void streams_scalar(struct kernels *table)
{
    FILL_STREAMS(&table->streams);
    table->streams.chase = chase;
    table->streams.read_paced = read_paced;
}
