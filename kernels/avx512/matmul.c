/*
 * matmul.c - y = W x for quantised weights with VPDPBUSD.
 *
 * A block's 8 registers of quants stay while each token's 32 activations come as broadcast memory operands, which load as
 * fast as the dots run (Zen 4: one 512-bit VPDPBUSD a cycle either way). The eight dots of a token depend on one
 * another; the processor overlaps them with those of other tokens and blocks. Sums are kept in memory: a loop over
 * tokens that is unrolled to hold them in registers was no faster, at 30 times the code (Zen 4, check_kernels --bench).
 */
#include "kernels/avx512/blocks.h"
#include "kernels/kernels_internal.h"
#include "kernels/matmul_internal.h"

enum { TILE = 32 };        /* tokens that share one unpacking of a block */

INLINE __m512i dots(__m512i sum, const __m512i *q, const int8_t *x, int n)
{
#pragma GCC unroll 8
    for (int g = 0; g < n; g++) {
        int32_t four;
        __builtin_memcpy(&four, x + 4 * g, sizeof(four));
        sum = _mm512_dpbusd_epi32(sum, q[g], _mm512_set1_epi32(four));
    }
    return sum;
}

INLINE __m512i offset_sum(int32_t neg_sum, int shift)
{
    return shift ? _mm512_slli_epi32(_mm512_set1_epi32(neg_sum), (unsigned)shift) : _mm512_setzero_si512();
}

INLINE __m512 add_block(__m512 acc, const struct format *f, const struct block *w, const struct q8_block *x)
{
    const __m512 scale = _mm512_set1_ps(x->scale);
    if (f->halves) {
        const __m512i low = dots(offset_sum(x->neg_sum_low, f->shift), w->q, x->q, 4);
        const __m512i high = dots(offset_sum(x->neg_sum - x->neg_sum_low, f->shift), w->q + 4, x->q + 16, 4);
        acc = _mm512_fmadd_ps(_mm512_mul_ps(w->scale, scale), _mm512_cvtepi32_ps(low), acc);
        return _mm512_fmadd_ps(_mm512_mul_ps(w->extra, scale), _mm512_cvtepi32_ps(high), acc);
    }
    const __m512i sum = dots(offset_sum(x->neg_sum, f->shift), w->q, x->q, 8);
    acc = _mm512_fmadd_ps(_mm512_mul_ps(w->scale, scale), _mm512_cvtepi32_ps(sum), acc);
    return f->minima ? _mm512_fmadd_ps(w->extra, _mm512_set1_ps(x->scaled_sum), acc) : acc;
}

INLINE void tile(const struct piece *p, const struct format *f)
{
    __m512 acc[TILE];

    for (size_t t = 0; t < p->tokens; t++)
        acc[t] = p->first ? _mm512_setzero_ps() : _mm512_loadu_ps(p->y + t * p->y_stride);
    for (size_t b = 0; b < p->n_blocks; b++) {
        const struct block w = f->load(p->w, b);
        prefetch_block(f, p, b);
        const uint8_t *x = p->x + b * sizeof(struct q8_block);
        for (size_t t = 0; t < p->tokens; t++, x += p->x_stride)
            acc[t] = add_block(acc[t], f, &w, (const struct q8_block *)x);
    }
    for (size_t t = 0; t < p->tokens; t++)
        _mm512_storeu_ps(p->y + t * p->y_stride, acc[t]);
}

#include "kernels/matmul_template.h"

void matmul_avx512(struct kernels *table)
{
    fill(table);
}
