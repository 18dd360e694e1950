/* measure.c - what this machine can do at most with AVX2: reading memory, and 8-bit products (VPMADDUBSW). */
#include <immintrin.h>

#include "kernels/kernels_internal.h"

/*
 * Four streams, prefetched: kernels/avx512/measure.c says what others gave. To all caches: a non-temporal prefetch
 * halves the rate on Intel's servers.
 */
static uint64_t read_stream(const void *p, size_t bytes)
{
    enum { STREAMS = 4, APART = 1 << 20, AHEAD = 1024 };
    const uint8_t *at = p;
    __m256i sum[STREAMS] = { 0 };
    uint64_t lanes[4], rest = 0, word;
    size_t i = 0;

    for (; i + STREAMS * APART <= bytes; i += STREAMS * APART) {
        for (size_t j = i; j < i + APART; j += 64) {
#pragma GCC unroll 4
            for (size_t s = 0; s < STREAMS; s++) {
                const uint8_t *line = at + j + s * APART;
                _mm_prefetch(prefetch_address(line, AHEAD), _MM_HINT_T0);      /* past the end, too: it cannot fault */
                sum[s] = _mm256_add_epi64(sum[s], _mm256_add_epi64(_mm256_loadu_si256((const __m256i *)line),
                                                                   _mm256_loadu_si256((const __m256i *)(line + 32))));
            }
        }
    }
    for (; i + 8 <= bytes; i += 8) {
        __builtin_memcpy(&word, at + i, sizeof(word));
        rest += word;
    }
    sum[0] = _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
    _mm256_storeu_si256((__m256i *)lanes, sum[0]);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3] + rest;
}

/* Without VNNI a dot is VPMADDUBSW and an addition of 16-bit sums; both counted as one multiply-add an element. */
static uint64_t peak_int8(uint64_t n)
{
    enum { SUMS = 8 };
    __m256i sum[SUMS] = { 0 }, w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(-5);

    for (uint64_t round = 0; round < n; round++) {
#pragma GCC unroll 8
        for (int i = 0; i < SUMS; i++) {
            __asm__ volatile("" : "+x"(x));         /* or the product would be computed once for all rounds */
            sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(w, x));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < SUMS; i++)
        __asm__ volatile("" : : "x"(sum[i]));
    return 2 * 32 * SUMS * n;
}

/* BF16 weights are multiplied as floats at this level. */
static uint64_t peak_float(uint64_t n)
{
    enum { SUMS = 12 };
    __m256 sum[SUMS], w = _mm256_set1_ps(0.5f), x = _mm256_set1_ps(-0.25f);

#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++)
        sum[i] = _mm256_set1_ps((float)i);
    for (uint64_t round = 0; round < n; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++)
            sum[i] = _mm256_fmadd_ps(w, x, sum[i]);
    }
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++)
        __asm__ volatile("" : : "x"(sum[i]));
    return 2 * 8 * SUMS * n;
}

void measure_avx2(struct kernels *table)
{
    table->read_stream = read_stream;
    table->peak[ACT_Q8] = peak_int8;
    table->peak[ACT_BF16] = peak_float;
    table->peak[ACT_F32] = peak_float;
}
