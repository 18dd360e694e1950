/*
 * avx2/vec.h - 16 lanes as two registers: the words of functions.h and of the templates beside it.
 *
 * Sixteen as at avx512, so that the templates and the 16 partial sums are the same. What the words mean is said in scalar/vec.h
 * and avx512/vec.h.
 */
#ifndef FOURWAY_KERNELS_AVX2_VEC_H
#define FOURWAY_KERNELS_AVX2_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/dtype.h"

/* Queries and pairs of registers of an attention tile: 4 x 1 or 2 x 2 accumulators leave half of the registers for operands. */
enum { VEC_LANES = 16, TILE_QUERIES = 4, TILE_VECS = 4 };

typedef struct { __m256 low, high; } vec;
typedef struct { __m256i low, high; } ivec;
typedef struct { __m256 low, high; } vmask;

static inline vec vec_set(float x) { return (vec){ _mm256_set1_ps(x), _mm256_set1_ps(x) }; }

#define VEC_BINARY(name, instruction) \
    static inline vec name(vec a, vec b) { return (vec){ instruction(a.low, b.low), instruction(a.high, b.high) }; }
VEC_BINARY(vec_add, _mm256_add_ps)
VEC_BINARY(vec_sub, _mm256_sub_ps)
VEC_BINARY(vec_mul, _mm256_mul_ps)
VEC_BINARY(vec_div, _mm256_div_ps)
VEC_BINARY(vec_min, _mm256_min_ps)
VEC_BINARY(vec_max, _mm256_max_ps)
VEC_BINARY(vec_and, _mm256_and_ps)
VEC_BINARY(vec_andnot, _mm256_andnot_ps)       /* not a, and b */
VEC_BINARY(vec_or, _mm256_or_ps)
VEC_BINARY(vec_xor, _mm256_xor_ps)
#undef VEC_BINARY

static inline vec vec_fma(vec a, vec b, vec c)
{
    return (vec){ _mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high) };
}

static inline vec vec_abs(vec a) { return vec_andnot(vec_set(-0.0f), a); }
static inline vec vec_neg(vec a) { return vec_xor(a, vec_set(-0.0f)); }

static inline vec vec_copysign(vec magnitude, vec sign)
{
    return vec_or(vec_abs(magnitude), vec_and(sign, vec_set(-0.0f)));
}

#define VEC_COMPARE(name, predicate) \
    static inline vmask name(vec a, vec b) \
    { \
        return (vmask){ _mm256_cmp_ps(a.low, b.low, predicate), _mm256_cmp_ps(a.high, b.high, predicate) }; \
    }
VEC_COMPARE(vec_less, _CMP_LT_OQ)
VEC_COMPARE(vec_equal, _CMP_EQ_OQ)
VEC_COMPARE(vec_unordered, _CMP_UNORD_Q)
#undef VEC_COMPARE

static inline vmask vec_is_nan(vec a) { return vec_unordered(a, a); }

static inline vec vec_select(vmask m, vec yes, vec no)
{
    return (vec){ _mm256_blendv_ps(no.low, yes.low, m.low), _mm256_blendv_ps(no.high, yes.high, m.high) };
}

static inline ivec ivec_set(uint32_t x) { return (ivec){ _mm256_set1_epi32((int32_t)x), _mm256_set1_epi32((int32_t)x) }; }

#define IVEC_BINARY(name, instruction) \
    static inline ivec name(ivec a, ivec b) { return (ivec){ instruction(a.low, b.low), instruction(a.high, b.high) }; }
IVEC_BINARY(ivec_add, _mm256_add_epi32)
IVEC_BINARY(ivec_sub, _mm256_sub_epi32)
#undef IVEC_BINARY

static inline ivec ivec_halve(ivec a) { return (ivec){ _mm256_srai_epi32(a.low, 1), _mm256_srai_epi32(a.high, 1) }; }
static inline ivec ivec_to_exponent(ivec a) { return (ivec){ _mm256_slli_epi32(a.low, 23), _mm256_slli_epi32(a.high, 23) }; }
static inline ivec vec_bits(vec a) { return (ivec){ _mm256_castps_si256(a.low), _mm256_castps_si256(a.high) }; }
static inline vec vec_from_bits(ivec a) { return (vec){ _mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high) }; }

static inline vmask vmask_first(size_t n)
{
    static const int32_t lanes[32] = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 };
    const float *mask = (const float *)(lanes + 16 - n);
    return (vmask){ _mm256_loadu_ps(mask), _mm256_loadu_ps(mask + 8) };
}

static inline unsigned vmask_bits(vmask m)
{
    return (unsigned)_mm256_movemask_ps(m.low) | (unsigned)_mm256_movemask_ps(m.high) << 8;
}

static inline size_t vec_lanes(size_t left) { return left < VEC_LANES ? left : VEC_LANES; }
static inline vec vec_load(const float *p) { return (vec){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }

static inline void vec_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
}

static inline vec vec_load_first(const float *p, size_t n)
{
    if (n == VEC_LANES)
        return vec_load(p);
    const vmask m = vmask_first(n);
    return (vec){ _mm256_maskload_ps(p, _mm256_castps_si256(m.low)), _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.high)) };
}

static inline void vec_store_first(float *p, vec a, size_t n)
{
    if (n == VEC_LANES) {
        vec_store(p, a);
        return;
    }
    const vmask m = vmask_first(n);
    _mm256_maskstore_ps(p, _mm256_castps_si256(m.low), a.low);
    _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.high), a.high);
}

static inline void vec_load_bf16_pairs(const bf16 *p, vec *even, vec *odd)
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)p), high = _mm256_loadu_si256((const __m256i *)(p + 16));
    const __m256i upper = _mm256_set1_epi32((int32_t)0xffff0000);

    *even = vec_from_bits((ivec){ _mm256_slli_epi32(low, 16), _mm256_slli_epi32(high, 16) });
    *odd = vec_from_bits((ivec){ _mm256_and_si256(low, upper), _mm256_and_si256(high, upper) });
}

/* bf16_from_float() of 8 lanes, in 32 bits. */
static inline __m256i to_bf16_bits(__m256 a)
{
    __m256i bits = _mm256_castps_si256(a), upper = _mm256_srli_epi32(bits, 16);
    __m256i rounding = _mm256_add_epi32(_mm256_and_si256(upper, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7fff));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, rounding), 16);
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}

static inline void vec_store_bf16(bf16 *p, vec a)
{
    __m256i mixed = _mm256_packus_epi32(to_bf16_bits(a.low), to_bf16_bits(a.high));     /* packs within each half */
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(mixed, _MM_SHUFFLE(3, 1, 2, 0)));
}

static inline vec vec_load_half(const half *p)
{
    return (vec){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))) };
}

static inline vec vec_load_int8(const int8_t *p)
{
    return (vec){ _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p))),
                  _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))) };
}

static inline void vec_store_int8(int8_t *p, vec a)
{
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high));     /* packs within each half */
    words = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

static inline float vec_first(vec a) { return _mm256_cvtss_f32(a.low); }

static inline float vec_sum(vec a)
{
    __m256 eight = _mm256_add_ps(a.low, a.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float vec_largest(vec a)
{
    __m256 eight = _mm256_max_ps(a.low, a.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif
