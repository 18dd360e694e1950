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

enum { TILE = 32 };        /* tokens that share one unpacking of a block */

/* sum + the dot of n groups: 4, or 8 for types of one scale a block. */
INLINE __m256i dots(__m256i sum, const __m256i *q, const int8_t *x, const int n, const int bits)
{
    const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
    const int step = bits == 6 ? 2 : bits == 5 ? 4 : 8;

#pragma GCC unroll 4
    for (int from = 0; from < n; from += step) {
        __m256i low = _mm256_setzero_si256(), high = low;
#pragma GCC unroll 8
        for (int g = from; g < from + step; g++) {
            int32_t four;
            __builtin_memcpy(&four, x + 4 * g, sizeof(four));
            const __m256i xg = _mm256_set1_epi32(four);
            if (bits == 8) {
                low = _mm256_add_epi16(low, _mm256_maddubs_epi16(_mm256_and_si256(q[g], nibble), xg));
                high = _mm256_add_epi16(high, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(q[g], 4), nibble), xg));
            } else {
                low = _mm256_add_epi16(low, _mm256_maddubs_epi16(q[g], xg));
            }
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, ones));
        if (bits == 8)
            sum = _mm256_add_epi32(sum, _mm256_slli_epi32(_mm256_madd_epi16(high, ones), 4));
    }
    return sum;
}

INLINE __m256i offset_sum(int32_t neg_sum, int shift)
{
    return shift ? _mm256_slli_epi32(_mm256_set1_epi32(neg_sum), shift) : _mm256_setzero_si256();
}

INLINE __m256 add_block(__m256 acc, const struct format *f, const struct block *w, const struct q8_block *x)
{
    const __m256 scale = _mm256_set1_ps(x->scale);
    if (f->halves) {
        const __m256i low = dots(offset_sum(x->neg_sum_low, f->shift), w->q, x->q, 4, f->bits);
        const __m256i high = dots(offset_sum(x->neg_sum - x->neg_sum_low, f->shift), w->q + 4, x->q + 16, 4, f->bits);
        acc = _mm256_fmadd_ps(_mm256_mul_ps(w->scale, scale), _mm256_cvtepi32_ps(low), acc);
        return _mm256_fmadd_ps(_mm256_mul_ps(w->extra, scale), _mm256_cvtepi32_ps(high), acc);
    }
    const __m256i sum = dots(offset_sum(x->neg_sum, f->shift), w->q, x->q, 8, f->bits);
    acc = _mm256_fmadd_ps(_mm256_mul_ps(w->scale, scale), _mm256_cvtepi32_ps(sum), acc);
    return f->minima ? _mm256_fmadd_ps(w->extra, _mm256_set1_ps(x->scaled_sum), acc) : acc;
}

INLINE void tile(const struct piece *p, const struct format *f)
{
    __m256 acc[TILE][2];

    for (size_t t = 0; t < p->tokens; t++)
        for (size_t half_panel = 0; half_panel < 2; half_panel++)
            acc[t][half_panel] = p->first ? _mm256_setzero_ps() : _mm256_loadu_ps(p->y + t * p->y_stride + 8 * half_panel);
    for (size_t b = 0; b < p->n_blocks; b++) {
        prefetch_block(f, p, b);
        for (size_t half_panel = 0; half_panel < 2; half_panel++) {
            const struct block w = f->load(p->w, b, half_panel);
            const uint8_t *x = p->x + b * sizeof(struct q8_block);
            for (size_t t = 0; t < p->tokens; t++, x += p->x_stride)
                acc[t][half_panel] = add_block(acc[t][half_panel], f, &w, (const struct q8_block *)x);
        }
    }
    for (size_t t = 0; t < p->tokens; t++)
        for (size_t half_panel = 0; half_panel < 2; half_panel++)
            _mm256_storeu_ps(p->y + t * p->y_stride + 8 * half_panel, acc[t][half_panel]);
}

#include "kernels/matmul_template.h"

void matmul_avx2(struct kernels *table)
{
    fill(table);
}
