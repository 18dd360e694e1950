/*
 * softmax.h - from the scores of some queries and a chunk to probabilities as bf16, for attention by bf16 dots.
 */
#ifndef FOURWAY_KERNELS_AVX512BF16_SOFTMAX_H
#define FOURWAY_KERNELS_AVX512BF16_SOFTMAX_H

#include <math.h>

#include "kernels/avx512/vec.h"
#include "kernels/functions.h"
#include "kernels/kernels_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum { PAIRS = KV_CHUNK / 2 };      /* of positions */

/* As bf16_from_float() but that denormals become zeros, which is what the dots take them for. */
INLINE void store_bf16(void *p, vec a)
{
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(a));
}

INLINE vec capped(vec s, const struct attend_args *args)
{
    s = vec_mul(s, vec_set(args->scale));
    return args->softcap > 0 ? vec_mul(vec_set(args->softcap), vec_tanh(vec_div(s, vec_set(args->softcap)))) : s;
}

/* The four 128-bit parts of the result hold, in all lanes, f of the 16 lanes of a, b, c and d, by the tree of scalar/reduce.h. */
#define REDUCE_FOUR(f, a, b, c, d) \
    ({ \
        const vec ab_ = f(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee)); \
        const vec cd_ = f(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee)); \
        const vec four_ = f(_mm512_shuffle_f32x4(ab_, cd_, 0x88), _mm512_shuffle_f32x4(ab_, cd_, 0xdd)); \
        const vec two_ = f(four_, _mm512_permute_ps(four_, 0x4e)); \
        f(two_, _mm512_permute_ps(two_, 0xb1)); \
    })

/* Bits of positions lo .. hi - 1. */
INLINE uint64_t positions(const struct attend_args *args, size_t query)
{
    const size_t lo = args->lo[query], hi = args->hi[query];
    return lo >= hi ? 0 : (hi == KV_CHUNK ? UINT64_MAX : (UINT64_C(1) << hi) - 1) & ~((UINT64_C(1) << lo) - 1);
}

/*
 * Scores to probabilities as bf16 for queries [at, at + n), n up to 4; p is 0 outside lo .. hi - 1. Maxima and sums of four queries are
 * reduced together: one by one their chains of shuffles took as long as the exponentials.
 */
static void softmax(const struct attend_args *args, size_t at, size_t n, float (*s)[KV_CHUNK], uint32_t (*p)[PAIRS])
{
    static const int first_of_parts[16] = { 0, 4, 8, 12 };
    const __m512i parts = _mm512_loadu_si512(first_of_parts);
    vec of_query[4];

    for (size_t i = 0; i < 4; i++)
        of_query[i] = vec_set(-INFINITY);
    for (size_t i = 0; i < n; i++) {
        const uint64_t inside = positions(args, at + i);
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++) {
            const vec a = capped(vec_load(s[i] + 16 * v), args);
            vec_store(s[i] + 16 * v, a);
            of_query[i] = _mm512_mask_max_ps(of_query[i], (vmask)(inside >> 16 * v), a, of_query[i]);   /* the second, where one is NaN */
        }
    }
    const vec largest = REDUCE_FOUR(_mm512_max_ps, of_query[0], of_query[1], of_query[2], of_query[3]);
    for (size_t i = 0; i < n; i++) {
        const uint64_t inside = positions(args, at + i);
        const vec max = _mm512_permutexvar_ps(_mm512_set1_epi32((int)(4 * i)), largest);
        vec sum = vec_set(0);
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++) {
            const vec e = _mm512_maskz_mov_ps((vmask)(inside >> 16 * v), vec_exp(vec_sub(vec_load(s[i] + 16 * v), max)));
            sum = vec_add(sum, e);
            store_bf16(p[i] + 8 * v, e);
        }
        of_query[i] = sum;
    }
    const vec sums = REDUCE_FOUR(_mm512_add_ps, of_query[0], of_query[1], of_query[2], of_query[3]);
    vec_store_first(args->max + at, vec_add(_mm512_permutexvar_ps(parts, largest), vec_set(0)), n);
    vec_store_first(args->sum + at, _mm512_permutexvar_ps(parts, sums), n);
}

#endif
