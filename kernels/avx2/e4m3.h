/* avx2/e4m3.h - 32 E4M3 codes to bf16 (kernels/e4m3.h). */
#ifndef FOURWAY_KERNELS_AVX2_E4M3_H
#define FOURWAY_KERNELS_AVX2_E4M3_H

#include <immintrin.h>

#include "kernels/e4m3.h"

/* The bf16 of e = 0 among x. A lookup goes by bytes 2 m and 2 m + 1. */
static inline __m256i e4m3_with_denormals(__m256i x)
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)e4m3_denormals));
    const __m256i m = _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi16(7));
    const __m256i bytes = _mm256_add_epi16(_mm256_mullo_epi16(m, _mm256_set1_epi16(0x0202)), _mm256_set1_epi16(0x0100));
    const __m256i sign = _mm256_and_si256(x, _mm256_set1_epi16((short)0x8000));
    const __m256i denormal = _mm256_cmpeq_epi16(_mm256_and_si256(x, _mm256_set1_epi16(E4M3_CODE_EXPONENT << 4)), _mm256_setzero_si256());

    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_shuffle_epi8(table, bytes), sign), denormal);
}

static inline __m256i e4m3_normal(__m256i upper)
{
    const __m256i kept = _mm256_and_si256(_mm256_srai_epi16(upper, 4), _mm256_set1_epi16((short)E4M3_KEPT));
    return _mm256_or_si256(kept, _mm256_set1_epi16(E4M3_EXPONENT));
}

/* pairs[j] = the bf16 of pair j of a group of 4 k (panels.h) in 8 rows. */
static inline void e4m3_decode(__m256i pairs[2], __m256i codes)
{
    const __m256i exponents = _mm256_and_si256(codes, _mm256_set1_epi8(E4M3_CODE_EXPONENT));

    pairs[0] = e4m3_normal(codes);
    pairs[1] = e4m3_normal(_mm256_slli_epi16(codes, 8));
    if (__builtin_expect(_mm256_movemask_epi8(_mm256_cmpeq_epi8(exponents, _mm256_setzero_si256())) != 0, 0)) {
        pairs[0] = e4m3_with_denormals(pairs[0]);
        pairs[1] = e4m3_with_denormals(pairs[1]);
    }
}

#endif
