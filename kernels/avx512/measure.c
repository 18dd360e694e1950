/* measure.c - what this machine can do at most with AVX-512: reading memory, and 8-bit dots (VNNI). */
#include <immintrin.h>

#include "kernels/kernels_internal.h"

static uint64_t read_stream(const void *p, size_t bytes)
{
    const uint8_t *at = p;
    __m512i sum[4] = { 0 };
    size_t i = 0;

    for (; i + 256 <= bytes; i += 256) {
        sum[0] = _mm512_add_epi64(sum[0], _mm512_loadu_si512(at + i));
        sum[1] = _mm512_add_epi64(sum[1], _mm512_loadu_si512(at + i + 64));
        sum[2] = _mm512_add_epi64(sum[2], _mm512_loadu_si512(at + i + 128));
        sum[3] = _mm512_add_epi64(sum[3], _mm512_loadu_si512(at + i + 192));
    }
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
