/*
 * matmul.c - y = W x for quantised weights with AVX2, which has no VNNI.
 *
 * VPMADDUBSW adds two products of an unsigned and a signed byte in 16 bits and saturates, so an exact dot needs sums that
 * cannot reach 32768. |x| is at most 127: 4-bit quants allow 8 groups (8 x 2 x 15 x 127 = 30480) before the sums are
 * widened to 32 bits, 5-bit quants 4 (31496), 6-bit quants 2 (32004). 8-bit quants are two 4-bit ones: 16 high + low.
 */
#include "kernels/avx2/blocks.h"
#include "kernels/kernels_internal.h"
#include "kernels/matmul_internal.h"

#define MAX_DIRECT 4
enum {
    TILE = 4,
    CHUNK_BLOCKS = 32,      /* 20 KiB unpacked, which stay in L1 beside the activations of a tile */
};

INLINE __m256i set_four(const uint8_t *x)
{
    int32_t four;
    __builtin_memcpy(&four, x, sizeof(four));
    return _mm256_set1_epi32(four);
}

/* sum[t] += the dots of n groups (4, or 8 for types of one scale a block); x: token 0's quants that belong to q[0]. */
INLINE void add_dots(__m256i *sum, const __m256i *q, const uint8_t *x, size_t x_stride, const int n, const int bits,
                     const int tokens)
{
    const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
    const int step = bits == 6 ? 2 : bits == 5 ? 4 : 8;

#pragma GCC unroll 8
    for (int from = 0; from < n; from += step) {
        __m256i low[TILE], high[TILE];
#pragma GCC unroll 8
        for (int g = from; g < from + step; g++) {
            const __m256i w = bits == 8 ? _mm256_and_si256(q[g], nibble) : q[g];
            const __m256i w_high = _mm256_and_si256(_mm256_srli_epi16(q[g], 4), nibble);
            const uint8_t *at = x + 4 * g;
#pragma GCC unroll 8
            for (int t = 0; t < tokens; t++, at += x_stride) {
                const __m256i four = set_four(at), products = _mm256_maddubs_epi16(w, four);
                low[t] = g == from ? products : _mm256_add_epi16(low[t], products);
                if (bits == 8) {
                    const __m256i products_high = _mm256_maddubs_epi16(w_high, four);
                    high[t] = g == from ? products_high : _mm256_add_epi16(high[t], products_high);
                }
            }
        }
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
            sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(low[t], ones));
            if (bits == 8)
                sum[t] = _mm256_add_epi32(sum[t], _mm256_slli_epi32(_mm256_madd_epi16(high[t], ones), 4));
        }
    }
}

INLINE __m256i offset_sum(int32_t neg_sum, int shift)
{
    return shift ? _mm256_slli_epi32(_mm256_set1_epi32(neg_sum), shift) : _mm256_setzero_si256();
}

INLINE void add_block(__m256 *acc, const struct format *f, const struct block *w, const uint8_t *x, size_t x_stride,
                      const int tokens)
{
    const size_t q = offsetof(struct q8_block, q);
    __m256i sum[TILE], high[TILE];

#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++) {
        const struct q8_block *xt = (const struct q8_block *)(x + (size_t)t * x_stride);
        sum[t] = offset_sum(f->halves ? xt->neg_sum_low : xt->neg_sum, f->shift);
        high[t] = offset_sum(xt->neg_sum - xt->neg_sum_low, f->shift);
    }
    add_dots(sum, w->q, x + q, x_stride, f->halves ? 4 : 8, f->bits, tokens);
    if (f->halves)
        add_dots(high, w->q + 4, x + q + 16, x_stride, 4, f->bits, tokens);
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++) {
        const struct q8_block *xt = (const struct q8_block *)(x + (size_t)t * x_stride);
        const __m256 scale = _mm256_set1_ps(xt->scale);
        acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(w->scale, scale), _mm256_cvtepi32_ps(sum[t]), acc[t]);
        if (f->halves)
            acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(w->extra, scale), _mm256_cvtepi32_ps(high[t]), acc[t]);
        if (f->minima)
            acc[t] = _mm256_fmadd_ps(w->extra, _mm256_set1_ps(xt->scaled_sum), acc[t]);
    }
}

INLINE void tile(const struct piece *p, const struct format *f, const int tokens)
{
    for (size_t half_panel = 0; half_panel < 2; half_panel++) {
        float *y = p->y + 8 * half_panel;
        __m256 acc[TILE];

#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++)
            acc[t] = p->first ? _mm256_setzero_ps() : _mm256_loadu_ps(y + (size_t)t * p->y_stride);
        for (size_t b = 0; b < p->n_blocks; b++) {
            const struct block w = f->load(p->w, b, half_panel);
            add_block(acc, f, &w, p->x + b * sizeof(struct q8_block), p->x_stride, tokens);
        }
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++)
            _mm256_storeu_ps(y + (size_t)t * p->y_stride, acc[t]);
    }
}

#include "kernels/matmul_template.h"

void matmul_avx2(struct kernels *table)
{
    fill(table);
}
