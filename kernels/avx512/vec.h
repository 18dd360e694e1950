/*
 * avx512/vec.h - 16 lanes as one register: the words of functions.h and of the templates beside it.
 *
 * scalar/vec.h says what each word of functions.h means; the others are explained here. `n` counts lanes from the first.
 */
#ifndef FOURWAY_KERNELS_AVX512_VEC_H
#define FOURWAY_KERNELS_AVX512_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/dtype.h"

/* Queries and registers of an attention tile: 8 x 2 or 4 x 4 accumulators, 4 operands and a coefficient fit in 32 registers. */
enum { VEC_LANES = 16, TILE_QUERIES = 8, TILE_VECS = 16 };

typedef __m512 vec;
typedef __m512i ivec;
typedef __mmask16 vmask;

static inline vec vec_set(float x) { return _mm512_set1_ps(x); }
static inline vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec vec_abs(vec a) { return _mm512_abs_ps(a); }
static inline vec vec_neg(vec a) { return _mm512_xor_ps(a, vec_set(-0.0f)); }
static inline vmask vec_less(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vec vec_select(vmask m, vec yes, vec no) { return _mm512_mask_blend_ps(m, no, yes); }

static inline vec vec_copysign(vec magnitude, vec sign)
{
    return _mm512_or_ps(vec_abs(magnitude), _mm512_and_ps(sign, vec_set(-0.0f)));
}

/* p 2^n, rounded once, as the two products of functions.h do it. */
#define VEC_LDEXP
static inline vec vec_ldexp(vec p, vec n, ivec exponent) { (void)exponent; return _mm512_scalef_ps(p, n); }

static inline ivec ivec_set(uint32_t x) { return _mm512_set1_epi32((int32_t)x); }
static inline ivec ivec_add(ivec a, ivec b) { return _mm512_add_epi32(a, b); }
static inline ivec ivec_sub(ivec a, ivec b) { return _mm512_sub_epi32(a, b); }
static inline ivec ivec_halve(ivec a) { return _mm512_srai_epi32(a, 1); }
static inline ivec ivec_to_exponent(ivec a) { return _mm512_slli_epi32(a, 23); }
static inline ivec vec_bits(vec a) { return _mm512_castps_si512(a); }
static inline vec vec_from_bits(ivec bits) { return _mm512_castsi512_ps(bits); }

static inline vmask vmask_first(size_t n) { return (vmask)((1u << n) - 1); }                   /* lanes 0 .. n - 1; n <= 16 */
static inline unsigned vmask_bits(vmask m) { return m; }                                       /* bit i is lane i */
static inline vmask vec_equal(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vmask vec_is_nan(vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }

/* Lanes of the next vec when `left` elements are left. */
static inline size_t vec_lanes(size_t left) { return left < VEC_LANES ? left : VEC_LANES; }

static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec a) { _mm512_storeu_ps(p, a); }

/* The first n lanes, 1 <= n <= 16; nothing else is touched, and the other lanes are +0. */
static inline vec vec_load_first(const float *p, size_t n)
{
    return n == VEC_LANES ? vec_load(p) : _mm512_maskz_loadu_ps(vmask_first(n), p);
}

static inline void vec_store_first(float *p, vec a, size_t n)
{
    if (n == VEC_LANES)
        vec_store(p, a);
    else
        _mm512_mask_storeu_ps(p, vmask_first(n), a);
}

/* 32 bf16: the even ones and the odd ones, exact. */
static inline void vec_load_bf16_pairs(const bf16 *p, vec *even, vec *odd)
{
    ivec pairs = _mm512_loadu_si512(p);
    *even = vec_from_bits(_mm512_slli_epi32(pairs, 16));
    *odd = vec_from_bits(_mm512_and_si512(pairs, ivec_set(0xffff0000)));
}

/* bf16_from_float() of each lane, in 32 bits. */
static inline ivec vec_to_bf16_bits(vec a)
{
    ivec bits = vec_bits(a), upper = _mm512_srli_epi32(bits, 16);
    ivec rounding = ivec_add(_mm512_and_si512(upper, ivec_set(1)), ivec_set(0x7fff));
    ivec rounded = _mm512_srli_epi32(ivec_add(bits, rounding), 16);
    return _mm512_mask_or_epi32(rounded, vec_is_nan(a), upper, ivec_set(0x40));
}

static inline void vec_store_bf16(bf16 *p, vec a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(vec_to_bf16_bits(a)));
}

/* 16 values, exact. */
static inline vec vec_load_half(const half *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

static inline vec vec_load_int8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* Rounded to nearest even; no lane is NaN or beyond 127. */
static inline void vec_store_int8(int8_t *p, vec a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

static inline float vec_first(vec a) { return _mm512_cvtss_f32(a); }

/* The tree of scalar/reduce.h. */
static inline float vec_sum(vec a)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The largest lane; no lane is NaN. */
static inline float vec_largest(vec a)
{
    __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif
