/* matmul_float.c - plain weights, F8_E4M3, and every type for checking, with 256-bit fma. */
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/avx2/e4m3.h"
#include "kernels/kernels_internal.h"

#define INLINE static inline __attribute__((always_inline))

typedef __m256 vec;
enum { VEC_LANES = 8 };

/* Two fma a cycle with a latency of 4: 8 sums; 16 registers hold 12 sums, 2 vectors of weights and an activation. */
#define FEW_TOKENS 3
#define FEW_PANELS 2
#define MANY_TOKENS 6
#define MANY_PANELS 1

INLINE vec vec_zero(void) { return _mm256_setzero_ps(); }
INLINE vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
INLINE vec vec_set1(float x) { return _mm256_set1_ps(x); }
INLINE vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }

INLINE vec load_f32(const void *w, size_t i, size_t part)
{
    return _mm256_loadu_ps((const float *)w + 16 * i + 8 * part);
}

INLINE vec load_f16(const void *w, size_t i, size_t part)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const half *)w + 16 * i + 8 * part)));
}

INLINE vec half_of_pairs(__m256i pairs, bool odd)
{
    return _mm256_castsi256_ps(odd ? _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)) : _mm256_slli_epi32(pairs, 16));
}

INLINE vec bf16_of_pairs(const void *w, size_t i, size_t part, bool odd)
{
    return half_of_pairs(_mm256_loadu_si256((const __m256i *)((const uint32_t *)w + 16 * (i / 2) + 8 * part)), odd);
}

INLINE vec load_bf16(const void *w, size_t i, size_t part)
{
    return bf16_of_pairs(w, i, part, i % 2 == 1);
}

INLINE vec load_bf16_swapped(const void *w, size_t i, size_t part)
{
    return bf16_of_pairs(w, i, part, i % 2 == 0);
}

/* The codes of 4 k, VEC_LANES rows: out[i] = k = i. */
INLINE void load_f8(vec out[4], const uint8_t *codes)
{
    __m256i pairs[2];

    e4m3_decode(pairs, _mm256_loadu_si256((const __m256i *)codes));
    for (int i = 0; i < 4; i++)
        out[i] = half_of_pairs(pairs[i / 2], i % 2 == 1);
}

#include "kernels/matmul_float_template.h"
#include "kernels/matmul_float_f8.h"

void matmul_float_avx2(struct kernels *table)
{
    fill(table);
    fill_f8(table);
}
