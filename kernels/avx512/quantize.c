#include <math.h>
#include <string.h>

#include "kernels/avx512/vec.h"
#include "kernels/kernels_internal.h"

#define INLINE static inline __attribute__((always_inline))

INLINE ivec magnitudes(const float *x)
{
    return _mm512_and_si512(vec_bits(vec_load(x)), ivec_set(0x7fffffff));
}

INLINE __m256i quantised(const float *x, vec inverse)
{
    const __m128i low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(vec_mul(vec_load(x), inverse)));
    const __m128i high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(vec_mul(vec_load(x + 16), inverse)));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/*
 * Four blocks at once: their maxima, scales and sums are the four lanes of a register each, which turned over are the heads of
 * the blocks. 3.5 ns a block, one by one 5.3 (Zen 5).
 */
INLINE void quantize_four(struct q8_block out[4], const float *x)
{
    /* Per 128 bits: lanes of a and b in turn, then of a, b, c and d; then the four parts of 128 bits together. */
    ivec most[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        most[i] = _mm512_max_epu32(magnitudes(x + 32 * i), magnitudes(x + 32 * i + 16));
    const ivec ab = _mm512_max_epu32(_mm512_unpacklo_epi32(most[0], most[1]), _mm512_unpackhi_epi32(most[0], most[1]));
    const ivec cd = _mm512_max_epu32(_mm512_unpacklo_epi32(most[2], most[3]), _mm512_unpackhi_epi32(most[2], most[3]));
    const ivec abcd = _mm512_max_epu32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i two = _mm256_max_epu32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
    const __m128 absmax = _mm_castsi128_ps(_mm_max_epu32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1)));

    const __m128 infinity = _mm_set1_ps(INFINITY), all_inverse = _mm_div_ps(_mm_set1_ps(127.0f), absmax);
    const __mmask8 finite = _mm_cmp_ps_mask(absmax, infinity, _CMP_LT_OQ);
    const __mmask8 normal = finite & _mm_cmp_ps_mask(all_inverse, infinity, _CMP_LT_OQ);
    const __m128 inverse = _mm_maskz_mov_ps(normal, all_inverse);
    const __m128 scale = _mm_mask_mov_ps(_mm_maskz_div_ps(normal, absmax, _mm_set1_ps(127.0f)), (__mmask8)~finite & 15, _mm_set1_ps(NAN));

    __m256i q[4], sums[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const vec factor = _mm512_broadcastss_ps(_mm_permutevar_ps(inverse, _mm_set1_epi32(i)));
        q[i] = quantised(x + 32 * i, factor);
        if (normal != 15)       /* infinity or NaN times zero: as every level, zeros */
            q[i] = _mm256_maskz_mov_epi8((normal >> i & 1) ? UINT32_MAX : 0, q[i]);
        sums[i] = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q[i]);       /* VPDPBUSD with ones adds groups of four */
    }
    /* Low 128 bits: sums of k 0..15 of a, b, c, d; high: of k 16..31. */
    const __m256i halves = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    const __m128i sum_low = _mm256_castsi256_si128(halves), sum = _mm_add_epi32(sum_low, _mm256_extracti128_si256(halves, 1));
    _Static_assert(offsetof(struct q8_block, scaled_sum) == 4 && offsetof(struct q8_block, neg_sum) == 8 &&
                   offsetof(struct q8_block, neg_sum_low) == 12 && offsetof(struct q8_block, q) == 16, "heads are stored as 16 bytes");
    __m128 heads[4] = { scale, _mm_mul_ps(scale, _mm_cvtepi32_ps(sum)), _mm_castsi128_ps(_mm_sub_epi32(_mm_setzero_si128(), sum)),
                        _mm_castsi128_ps(_mm_sub_epi32(_mm_setzero_si128(), sum_low)) };
    _MM_TRANSPOSE4_PS(heads[0], heads[1], heads[2], heads[3]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        _mm_storeu_ps((float *)&out[i], heads[i]);
        _mm256_storeu_si256((__m256i *)out[i].q, q[i]);
    }
}

static void quantize_q8(struct q8_block *out, const float *x, size_t k)
{
    const size_t n = k / 32;

    if (n < 4) {
        float padded[128] = { 0 };
        struct q8_block blocks[4];
        memcpy(padded, x, n * 32 * sizeof(*x));
        quantize_four(blocks, padded);
        memcpy(out, blocks, n * sizeof(*out));
        return;
    }
    /* The last four overlap those before them, with the same results. */
    for (size_t b = 0; b < n; b += 4) {
        const size_t from = b + 4 <= n ? b : n - 4;
        quantize_four(out + from, x + 32 * from);
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
