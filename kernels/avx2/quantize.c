#include <math.h>
#include <string.h>

#include "kernels/avx2/vec.h"
#include "kernels/kernels_internal.h"

static void zero_block(struct q8_block *out, float scale)
{
    *out = (struct q8_block){ .scale = scale, .scaled_sum = scale };
}

static uint32_t largest(__m256i a)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static __m256i rounded(__m256 x, float factor)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(factor)));
}

static void quantize_q8(struct q8_block *out, const float *x, size_t k)
{
    for (size_t b = 0; b < k / 32; b++, out++, x += 32) {
        const vec low = vec_load(x), high = vec_load(x + 16);
        const ivec m_low = vec_bits(vec_abs(low)), m_high = vec_bits(vec_abs(high));
        const uint32_t bits = largest(_mm256_max_epu32(_mm256_max_epu32(m_low.low, m_low.high),
                                                       _mm256_max_epu32(m_high.low, m_high.high)));
        float absmax;
        memcpy(&absmax, &bits, sizeof(absmax));
        const float scale = absmax / 127.0f, inverse = 127.0f / absmax;

        if (!(isfinite(absmax) && isfinite(inverse))) {
            zero_block(out, isfinite(absmax) ? 0 : NAN);
            continue;
        }
        /* Packing works within each half of a register, so groups of four come out as 0 2 4 6 1 3 5 7. */
        __m256i q_low = _mm256_packs_epi32(rounded(low.low, inverse), rounded(low.high, inverse));
        __m256i q_high = _mm256_packs_epi32(rounded(high.low, inverse), rounded(high.high, inverse));
        __m256i q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(q_low, q_high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)out->q, q);

        __m256i fours = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), q), _mm256_set1_epi16(1));
        __m128i sums = _mm_hadd_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
        sums = _mm_hadd_epi32(sums, sums);
        const int32_t sum_low = _mm_cvtsi128_si32(sums), sum = sum_low + _mm_extract_epi32(sums, 1);
        out->scale = scale;
        out->scaled_sum = scale * (float)sum;
        out->neg_sum = -sum;
        out->neg_sum_low = -sum_low;
    }
}

static __m256 widened(const int8_t q[8])
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)q)));
}

static void subtract_q8(float *x, const struct q8_block *q, size_t k)
{
    for (size_t i = 0; i < k; i += VEC_LANES) {
        const struct q8_block *block = &q[i / 32];
        const vec term = { widened(block->q + i % 32), widened(block->q + i % 32 + 8) };
        vec_store(x + i, vec_sub(vec_load(x + i), vec_mul(vec_set(block->scale), term)));
    }
}

static void round_bf16(bf16 *out, const float *x, size_t k)
{
    size_t i = 0;

    for (; i + VEC_LANES <= k; i += VEC_LANES)
        vec_store_bf16(out + i, vec_load(x + i));
    for (; i < k; i++)
        out[i] = bf16_from_float(x[i]);
}

void quantize_avx2(struct kernels *table)
{
    table->quantize_q8 = quantize_q8;
    table->subtract_q8 = subtract_q8;
    table->round_bf16 = round_bf16;
}
