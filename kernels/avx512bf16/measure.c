/* measure.c - what this machine can do at most with VDPBF16PS, on registers alone. */
#include <immintrin.h>

#include "kernels/kernels_internal.h"

static uint64_t peak_bf16(uint64_t n)
{
    enum { SUMS = 16 };
    __m512 sum[SUMS];
    const __m512bh w = (__m512bh)_mm512_set1_epi32(0x3f003e80), x = (__m512bh)_mm512_set1_epi32(0x3f803f00);

#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (uint64_t round = 0; round < n; round++) {
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], w, x);
    }
#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++)
        __asm__ volatile("" : : "v"(sum[i]));
    return 2 * 32 * SUMS * n;
}

void measure_avx512bf16(struct kernels *table)
{
    table->peak[ACT_BF16] = peak_bf16;
}
