/* measure.c - what this machine can do at most with AVX-512: reading memory, and 8-bit dots (VNNI). */
#include <immintrin.h>

#include "kernels/kernels_internal.h"

/*
 * Four streams a megabyte apart, each prefetched a kilobyte ahead: no multiplication may read faster than this, whose panels come with
 * prefetches, too. Zen 5, virtual machine, two cores; GB/s, medians of 15 passes over 256 MB a core, variants in turn, in two runs:
 *                                         1 core     2 cores
 *     one stream                        34.9, 36.9  45.1, 49.7
 *     one stream, prefetch 4 KB ahead   38.0        46.1
 *     2, 4, 8 streams                   39.0, 38.2, 35.4    46.3, 46.4, 46.5
 *     4 streams, prefetch 0.5 KB ahead  42.6        51.5
 *     4 streams, prefetch 1 KB          43.2        51.8    (to all caches instead of non-temporal: 43.2, 51.0)
 *     4 streams, prefetch 4 KB          41.9        51.6
 *     4 streams 64 KB apart, 1 KB       42.5        51.5
 *     8 streams, prefetch 2 KB          41.5        51.1
 */
static uint64_t read_stream(const void *p, size_t bytes)
{
    enum { STREAMS = 4, APART = 1 << 20, AHEAD = 1024 };
    const uint8_t *at = p;
    __m512i sum[STREAMS] = { 0 };
    size_t i = 0;

    for (; i + STREAMS * APART <= bytes; i += STREAMS * APART) {
        for (size_t j = i; j < i + APART; j += 64) {
#pragma GCC unroll 4
            for (size_t s = 0; s < STREAMS; s++) {
                _mm_prefetch(prefetch_address(at, j + s * APART + AHEAD), _MM_HINT_T0);        /* past the end, too: it cannot fault */
                sum[s] = _mm512_add_epi64(sum[s], _mm512_loadu_si512(at + j + s * APART));
            }
        }
    }
    for (; i + 64 <= bytes; i += 64)
        sum[0] = _mm512_add_epi64(sum[0], _mm512_loadu_si512(at + i));
    for (; i + 8 <= bytes; i += 8) {
        const __mmask8 one = 1;
        sum[0] = _mm512_add_epi64(sum[0], _mm512_maskz_loadu_epi64(one, at + i));
    }
    sum[0] = _mm512_add_epi64(_mm512_add_epi64(sum[0], sum[1]), _mm512_add_epi64(sum[2], sum[3]));
    return (uint64_t)_mm512_reduce_add_epi64(sum[0]);
}

/* 16 sums: more than latency times rate of VPDPBUSD on any processor so far. */
static uint64_t peak_int8(uint64_t n)
{
    enum { SUMS = 16 };
    __m512i sum[SUMS], w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(-5);

#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm512_set1_epi32(i);
    for (uint64_t round = 0; round < n; round++) {
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++)
            sum[i] = _mm512_dpbusd_epi32(sum[i], w, x);
    }
#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++)
        __asm__ volatile("" : : "v"(sum[i]));
    return 2 * 64 * SUMS * n;
}

/* BF16 weights are multiplied as floats at this level. */
static uint64_t peak_float(uint64_t n)
{
    enum { SUMS = 16 };
    __m512 sum[SUMS], w = _mm512_set1_ps(0.5f), x = _mm512_set1_ps(-0.25f);

#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (uint64_t round = 0; round < n; round++) {
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++)
            sum[i] = _mm512_fmadd_ps(w, x, sum[i]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++)
        __asm__ volatile("" : : "v"(sum[i]));
    return 2 * 16 * SUMS * n;
}

void measure_avx512(struct kernels *table)
{
    table->read_stream = read_stream;
    table->peak[ACT_Q8] = peak_int8;
    table->peak[ACT_BF16] = peak_float;
    table->peak[ACT_F32] = peak_float;
}
