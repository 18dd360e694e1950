#include <math.h>

#include "kernels/avx512/vec.h"
#include "kernels/kernels_internal.h"

static void zero_block(struct q8_block *out, float scale)
{
    *out = (struct q8_block){ .scale = scale, .scaled_sum = scale };
}

static void quantize_q8(struct q8_block *out, const float *x, size_t k)
{
    const ivec magnitude = ivec_set(0x7fffffff);

    for (size_t b = 0; b < k / 32; b++, out++, x += 32) {
        const vec low = vec_load(x), high = vec_load(x + 16);
        ivec bits = _mm512_max_epu32(_mm512_and_si512(vec_bits(low), magnitude), _mm512_and_si512(vec_bits(high), magnitude));
        const float absmax = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)_mm512_reduce_max_epu32(bits))));
        const float scale = absmax / 127.0f, inverse = 127.0f / absmax;

        if (!(isfinite(absmax) && isfinite(inverse))) {
            zero_block(out, isfinite(absmax) ? 0 : NAN);
            continue;
        }
        __m128i q_low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(vec_mul(low, vec_set(inverse))));
        __m128i q_high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(vec_mul(high, vec_set(inverse))));
        _mm_storeu_si128((__m128i *)out->q, q_low);
        _mm_storeu_si128((__m128i *)(out->q + 16), q_high);

        /* VPDPBUSD with ones adds groups of four. */
        const __m128i ones = _mm_set1_epi8(1);
        __m128i sums = _mm_hadd_epi32(_mm_dpbusd_epi32(_mm_setzero_si128(), ones, q_low),
                                      _mm_dpbusd_epi32(_mm_setzero_si128(), ones, q_high));
        sums = _mm_hadd_epi32(sums, sums);
        const int32_t sum_low = _mm_cvtsi128_si32(sums), sum = sum_low + _mm_extract_epi32(sums, 1);
        out->scale = scale;
        out->scaled_sum = scale * (float)sum;
        out->neg_sum = -sum;
        out->neg_sum_low = -sum_low;
    }
}

static void subtract_q8(float *x, const struct q8_block *q, size_t k)
{
    for (size_t i = 0; i < k; i += VEC_LANES) {
        const struct q8_block *block = &q[i / 32];
        const vec term = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(block->q + i % 32))));
        vec_store(x + i, vec_sub(vec_load(x + i), vec_mul(vec_set(block->scale), term)));
    }
}

static void round_bf16(bf16 *out, const float *x, size_t k)
{
    for (size_t i = 0; i < k; i += VEC_LANES) {
        const size_t lanes = vec_lanes(k - i);
        const __m256i rounded = _mm512_cvtepi32_epi16(vec_to_bf16_bits(vec_load_first(x + i, lanes)));
        _mm256_mask_storeu_epi16(out + i, vmask_first(lanes), rounded);
    }
}

void quantize_avx512(struct kernels *table)
{
    table->quantize_q8 = quantize_q8;
    table->subtract_q8 = subtract_q8;
    table->round_bf16 = round_bf16;
}
