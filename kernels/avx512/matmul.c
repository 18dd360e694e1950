/*
 * matmul.c - y = W x for quantised weights with VPDPBUSD.
 *
 * Fewer than UNPACK_TOKENS tokens (of Q2_K all) go through packed panels (packed.h). More meet a pair of panels as bytes in scratch
 * (unpacked.h), in tiles of up to 5 tokens by 2 panels: 10 integer and 10 float sums in registers, so that each loaded register of
 * weights serves 5 dots and each broadcast activation 2; loads then stay below the two a cycle that go beside two dots. Zen 5, one core,
 * weights in L1: tiles of 5 x 2 reach 79 % of the peak, 4 x 2 78, 4 x 3 77, 6 x 2 75 (that the scale of each block costs a multiply and
 * an fma for eight dots allows 80); one panel by 32 tokens with sums in memory 66.
 */
#include "kernels/avx512/packed.h"
#include "kernels/avx512/unpacked.h"

enum {
    TILE_TOKENS = 5,
    UNPACK_TOKENS = 64,     /* fewer pay more for unpacking to scratch than its tiles gain */
};

/* Dots of `groups` groups from `first` on. */
INLINE void tile_dots(__m512i sum[TILE_TOKENS][TILE_PANELS], const struct unpacked *w, const uint8_t *x, size_t x_stride, const int tokens,
                      const int panels, const int first, const int groups)
{
#pragma GCC unroll 8
    for (int g = first; g < first + groups; g++) {
        __m512i q[TILE_PANELS];
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++)
            q[p] = _mm512_load_si512(w[p * CHUNK_BLOCKS].q[g]);
#pragma GCC unroll 5
        for (int t = 0; t < tokens; t++) {
            int32_t four;
            __builtin_memcpy(&four, x + (size_t)t * x_stride + offsetof(struct q8_block, q) + 4 * g, sizeof(four));
            const __m512i xt = _mm512_set1_epi32(four);
#pragma GCC unroll 2
            for (int p = 0; p < panels; p++)
                sum[t][p] = _mm512_dpbusd_epi32(sum[t][p], q[p], xt);
        }
    }
}

/* What one block adds to the sums; of types with a scale for each half, what its half `part` adds. */
INLINE void add_part(__m512 acc[TILE_TOKENS][TILE_PANELS], const struct format *f, const struct unpacked *w, const uint8_t *x,
                     size_t x_stride, const int tokens, const int panels, const int part)
{
    __m512i sum[TILE_TOKENS][TILE_PANELS];

#pragma GCC unroll 5
    for (int t = 0; t < tokens; t++) {
        const struct q8_block *xt = (const struct q8_block *)(x + (size_t)t * x_stride);
        __m512i neg_sum = _mm512_set1_epi32(f->halves && part == 0 ? xt->neg_sum_low : xt->neg_sum);
        if (part == 1)
            neg_sum = _mm512_sub_epi32(neg_sum, _mm512_set1_epi32(xt->neg_sum_low));
#pragma GCC unroll 2
        for (int i = 0; i < panels; i++)
            sum[t][i] = offset_sum(neg_sum, f->shift);
    }
    tile_dots(sum, w, x, x_stride, tokens, panels, 4 * part, f->halves ? 4 : 8);
#pragma GCC unroll 2
    for (int i = 0; i < panels; i++) {
        const struct unpacked *block = w + i * CHUNK_BLOCKS;
        const __m512 scale = _mm512_load_ps(part == 0 ? block->scale : block->extra);
#pragma GCC unroll 5
        for (int t = 0; t < tokens; t++) {
            const struct q8_block *xt = (const struct q8_block *)(x + (size_t)t * x_stride);
            acc[t][i] = scaled(acc[t][i], scale, _mm512_set1_ps(xt->scale), sum[t][i]);
            if (f->minima)
                acc[t][i] = _mm512_fmadd_ps(_mm512_load_ps(block->extra), _mm512_set1_ps(xt->scaled_sum), acc[t][i]);
        }
    }
}

INLINE void tile(const struct piece *p, const struct format *f, const int tokens, const int panels)
{
    const struct unpacked *w = p->w;
    const uint8_t *x = p->x;
    __m512 acc[TILE_TOKENS][TILE_PANELS];

#pragma GCC unroll 5
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 2
        for (int i = 0; i < panels; i++)
            acc[t][i] = p->first ? _mm512_setzero_ps() : _mm512_loadu_ps(p->y + (size_t)t * p->y_stride + PANEL_ROWS * i);
    }
    for (size_t b = 0; b < p->n_blocks; b++, w++, x += sizeof(struct q8_block)) {
        if (p->next) {
#pragma GCC unroll 2
            for (int i = 0; i < panels; i++)
                prefetch_weights_l2(p->next, (size_t)i * p->panel_bytes + b * p->next_bytes, p->next_bytes);
        }
        add_part(acc, f, w, x, p->x_stride, tokens, panels, 0);
        if (f->halves)
            add_part(acc, f, w, x, p->x_stride, tokens, panels, 1);
    }
#pragma GCC unroll 5
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 2
        for (int i = 0; i < panels; i++)
            _mm512_storeu_ps(p->y + (size_t)t * p->y_stride + PANEL_ROWS * i, acc[t][i]);
    }
}

/* A tile of unpacked weights differs between types only in the offset of the quants, minima and halves: one function for each. */
INLINE void any_tile(const struct piece *p, const struct format *f)
{
    switch (p->tokens) {
    UNPACKED_CASE(1); UNPACKED_CASE(2); UNPACKED_CASE(3); UNPACKED_CASE(4); UNPACKED_CASE(5);
    default: __builtin_trap();
    }
}

UNPACKED_TILE(tile_minima, .minima = true)
UNPACKED_TILE(tile_offset_8, .shift = 3)
UNPACKED_TILE(tile_offset_16, .shift = 4)
UNPACKED_TILE(tile_offset_128, .shift = 7)
UNPACKED_TILE(tile_halves_4, .shift = 2, .halves = true)
UNPACKED_TILE(tile_halves_32, .shift = 5, .halves = true)

INLINE void run_tile(const struct piece *p, const struct format *f)
{
    if (f->halves && f->shift == 2)
        tile_halves_4(p);
    else if (f->halves)
        tile_halves_32(p);
    else if (f->minima)
        tile_minima(p);
    else if (f->shift == 3)
        tile_offset_8(p);
    else if (f->shift == 4)
        tile_offset_16(p);
    else
        tile_offset_128(p);
}

INLINE void multiply(const struct matmul_args *a, const struct format *f)
{
    if (a->m == 0)
        return;
    if (a->m < UNPACK_TOKENS || !can_unpack(f))
        multiply_packed(a, f);
    else
        multiply_unpacked(a, f, 0, TILE_TOKENS);
}

#include "kernels/matmul_template.h"

void matmul_avx512(struct kernels *table)
{
    fill(table->matmul);
}
