/* matmul_float.c - plain weights, F8_E4M3, and every type for checking, with 512-bit fma. */
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/avx512/e4m3.h"
#include "kernels/kernels_internal.h"

#define INLINE static inline __attribute__((always_inline))

typedef __m512 vec;
enum { VEC_LANES = 16 };

/* Zen 4 starts one 512-bit fma a cycle, with a latency of 4; Intel two: 8 outputs fill either. */
#define FEW_TOKENS 4
#define FEW_PANELS 4
#define MANY_TOKENS 12
#define MANY_PANELS 2

INLINE vec vec_zero(void) { return _mm512_setzero_ps(); }
INLINE vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
INLINE vec vec_set1(float x) { return _mm512_set1_ps(x); }
INLINE vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }

INLINE vec load_f32(const void *w, size_t i, size_t part)
{
    (void)part;
    return _mm512_loadu_ps((const float *)w + 16 * i);
}

INLINE vec load_f16(const void *w, size_t i, size_t part)
{
    (void)part;
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const half *)w + 16 * i)));
}

INLINE vec half_of_pairs(__m512i pairs, bool odd)
{
    return _mm512_castsi512_ps(odd ? _mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)) : _mm512_slli_epi32(pairs, 16));
}

INLINE vec bf16_of_pairs(const void *w, size_t i, bool odd)
{
    return half_of_pairs(_mm512_loadu_si512((const uint32_t *)w + 16 * (i / 2)), odd);
}

INLINE vec load_bf16(const void *w, size_t i, size_t part)
{
    (void)part;
    return bf16_of_pairs(w, i, i % 2 == 1);
}

INLINE vec load_bf16_swapped(const void *w, size_t i, size_t part)
{
    (void)part;
    return bf16_of_pairs(w, i, i % 2 == 0);
}

/* The codes of 4 k, VEC_LANES rows: out[i] = k = i. */
INLINE void load_f8(vec out[4], const uint8_t *codes)
{
    __m512i pairs[2];

    e4m3_decode(pairs, _mm512_loadu_si512(codes));
    for (int i = 0; i < 4; i++)
        out[i] = half_of_pairs(pairs[i / 2], i % 2 == 1);
}

#include "kernels/matmul_float_template.h"
#include "kernels/matmul_float_f8.h"

void matmul_float_avx512(struct kernels *table)
{
    fill(table);
    fill_f8(table);
}
