/* avx512/e4m3.h - 64 E4M3 codes to bf16 (kernels/e4m3.h). */
#ifndef FOURWAY_KERNELS_AVX512_E4M3_H
#define FOURWAY_KERNELS_AVX512_E4M3_H

#include <immintrin.h>

#include "kernels/e4m3.h"

/* The bf16 of e = 0 among x. The index of a lookup is its low 5 bits, m and two of e. */
static inline __m512i e4m3_with_denormals(__m512i x)
{
    const __m512i table = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)e4m3_denormals));
    const __mmask32 denormal = _mm512_testn_epi16_mask(x, _mm512_set1_epi16(E4M3_CODE_EXPONENT << 4));
    const __m512i magnitude = _mm512_permutexvar_epi16(_mm512_srli_epi16(x, 4), table);

    return _mm512_mask_mov_epi16(x, denormal, _mm512_or_si512(magnitude, _mm512_and_si512(x, _mm512_set1_epi16((short)0x8000))));
}

/* pairs[j] = the bf16 of pair j of a group of 4 k (panels.h) in 16 rows. */
static inline void e4m3_decode(__m512i pairs[2], __m512i codes)
{
    const __m512i kept = _mm512_set1_epi16((short)E4M3_KEPT), exponent = _mm512_set1_epi16(E4M3_EXPONENT);

    pairs[0] = _mm512_ternarylogic_epi32(_mm512_srai_epi16(codes, 4), kept, exponent, 0xea);           /* a & b | c */
    pairs[1] = _mm512_ternarylogic_epi32(_mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 4), kept, exponent, 0xea);
    if (__builtin_expect(_mm512_testn_epi8_mask(codes, _mm512_set1_epi8(E4M3_CODE_EXPONENT)) != 0, 0)) {
        pairs[0] = e4m3_with_denormals(pairs[0]);
        pairs[1] = e4m3_with_denormals(pairs[1]);
    }
}

#endif
