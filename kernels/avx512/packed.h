/*
 * packed.h - one panel by a tile of up to 16 tokens, straight from the packed weights, each unpacked in registers.
 *
 * A block's 8 registers of quants stay while each token's 32 activations come as broadcast memory operands, which load as fast as
 * the dots run. The eight dots of a token depend on one another; the processor overlaps them with those of other tokens.
 */
#ifndef FOURWAY_KERNELS_AVX512_PACKED_H
#define FOURWAY_KERNELS_AVX512_PACKED_H

#include "kernels/avx512/blocks.h"
#include "kernels/kernels_internal.h"
#include "kernels/matmul_internal.h"

enum {
    PACKED_TOKENS = 16,         /* of a tile: 16 sums, 8 registers of quants, scales and temporaries fit in 32 registers */
    PACKED_CHUNK_BLOCKS = 64,   /* of a panel that several tiles pass: 18 to 35 KiB */
};

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

/* The sum starts at what the quants' offset takes off: offset x -(sum of the activations). */
INLINE __m512i offset_sum(__m512i neg_sum, int shift)
{
    return shift ? _mm512_slli_epi32(neg_sum, (unsigned)shift) : _mm512_setzero_si512();
}

INLINE __m512 scaled(__m512 acc, __m512 w_scale, __m512 x_scale, __m512i sum)
{
    return _mm512_fmadd_ps(_mm512_mul_ps(w_scale, x_scale), _mm512_cvtepi32_ps(sum), acc);
}

INLINE __m512 add_block(__m512 acc, const struct format *f, const struct block *w, const struct q8_block *x)
{
    const __m512 scale = _mm512_set1_ps(x->scale);
    const __m512i neg_sum = _mm512_set1_epi32(x->neg_sum), neg_low = _mm512_set1_epi32(x->neg_sum_low);

    if (f->halves) {
        acc = scaled(acc, w->scale[0], scale, dots(offset_sum(neg_low, f->shift), w->q, x->q, 4));
        if (f->minima)
            acc = _mm512_fmadd_ps(w->min[0], _mm512_set1_ps(scaled_sum_half(x, 0)), acc);
        acc = scaled(acc, w->scale[1], scale, dots(offset_sum(_mm512_sub_epi32(neg_sum, neg_low), f->shift), w->q + 4, x->q + 16, 4));
        return f->minima ? _mm512_fmadd_ps(w->min[1], _mm512_set1_ps(scaled_sum_half(x, 1)), acc) : acc;
    }
    acc = scaled(acc, w->scale[0], scale, dots(offset_sum(neg_sum, f->shift), w->q, x->q, 8));
    return f->minima ? _mm512_fmadd_ps(w->min[0], _mm512_set1_ps(x->scaled_sum), acc) : acc;
}

/* n_blocks of one panel, from some block on, by a tile of tokens. */
struct packed_piece {
    const uint8_t *w;
    size_t n_blocks;
    const uint8_t *x;                   /* q8_block of the first block and token */
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool first;                         /* the sums start at zero, not at y */
    bool prefetch_once;
};

INLINE void packed_tile(const struct packed_piece *p, const struct format *f, const size_t tokens)
{
    const size_t block_bytes = f->panel_block / f->blocks;
    const uint8_t *x = p->x;
    __m512 acc[PACKED_TOKENS];

#pragma GCC unroll 16
    for (size_t t = 0; t < tokens; t++)
        acc[t] = p->first ? _mm512_setzero_ps() : _mm512_loadu_ps(p->y + t * p->y_stride);
    for (size_t b = 0; b < p->n_blocks; b++, x += sizeof(struct q8_block)) {
        const struct block w = f->load(p->w, b);
        prefetch_for_tile(p->w, b * block_bytes, block_bytes, tokens, p->prefetch_once);
#pragma GCC unroll 16
        for (size_t t = 0; t < tokens; t++)
            acc[t] = add_block(acc[t], f, &w, (const struct q8_block *)(x + t * p->x_stride));
    }
#pragma GCC unroll 16
    for (size_t t = 0; t < tokens; t++)
        _mm512_storeu_ps(p->y + t * p->y_stride, acc[t]);
}

/*
 * Each size of tile is code of its own for every type, so there are not all: 1 to 8, 12 and 16. 16 at a time while more than 20 are
 * left, 12 of 17 to 20, and what has no tile of its size in halves: of more than 8 tokens no tile has fewer than 4.
 */
INLINE size_t packed_tile_tokens(size_t left)
{
    if (left > 16)
        return left > 20 ? 16 : 12;
    return left <= 8 || left == 12 || left == 16 ? left : (left + 1) / 2;
}

INLINE void multiply_packed(const struct matmul_args *a, const struct format *f)
{
    const size_t n_blocks = a->k / 32, panel_bytes = n_blocks / f->blocks * f->panel_block;
    const size_t chunk = packed_tile_tokens(a->m) == a->m ? n_blocks : PACKED_CHUNK_BLOCKS;
    const bool once = cpu_prefetches_once();

    for (size_t i = 0; i < a->n_panels; i++) {
        for (size_t b = 0; b < n_blocks; b += chunk) {
            struct packed_piece p = {
                .w = (const uint8_t *)a->w + i * panel_bytes + b / f->blocks * f->panel_block,
                .n_blocks = n_blocks - b < chunk ? n_blocks - b : chunk, .x_stride = a->x_stride, .y_stride = a->y_stride, .first = b == 0,
                .prefetch_once = once,
            };
            for (size_t t = 0, tokens; t < a->m; t += tokens) {
                tokens = packed_tile_tokens(a->m - t);
                p.x = (const uint8_t *)a->x + t * a->x_stride + b * sizeof(struct q8_block);
                p.y = a->y + t * a->y_stride + PANEL_ROWS * i;
#define TILE(n) case n: packed_tile(&p, f, n); break
                switch (tokens) {
                TILE(1); TILE(2); TILE(3); TILE(4); TILE(5); TILE(6); TILE(7); TILE(8); TILE(12); TILE(16);
                default: __builtin_trap();
                }
#undef TILE
            }
        }
    }
}

#endif
