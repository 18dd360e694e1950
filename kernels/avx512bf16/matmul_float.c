/*
 * matmul_float.c - y = W x for BF16 weights and bf16 activations with VDPBF16PS: the definition of panels.h is this instruction.
 *
 * A panel's pair of k is one register as it lies in memory, so nothing is unpacked, whatever m is. Tiles of up to 6 tokens by
 * 4 panels: 24 sums, 4 registers of weights, a broadcast pair; 10 loads for 24 dots. Prompts go through a chunk of k that keeps
 * 4 panels in L2, and beside them, where L2 has 1 MiB, the activations of up to 448 tokens: those of more come from the next cache for
 * every 4 panels. Sums wait in y between chunks.
 */
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/kernels_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    TILE_TOKENS = 6,
    TILE_PANELS = 4,
    CHUNK_BLOCKS = 32,          /* of 32 k: 4 panels take 128 KiB, a token's activations 2 KiB */
    PREFETCH_BYTES = 2048,      /* ahead, of each panel: of 1 to 16 KiB the best (Zen 5: one token 38.6 GB/s, 4096 35.8; six 39.1, 34.5) */
};

struct piece {
    const struct panel_bf16 *w;
    size_t panel_blocks;                /* from one panel to the next */
    size_t n_blocks;
    const uint8_t *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool first;                         /* the sums start at zero, not at y */
};

INLINE __m512bh pairs(const void *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

INLINE __m512bh broadcast_pair(const uint8_t *x)
{
    int32_t pair;
    __builtin_memcpy(&pair, x, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
}

INLINE void tile(const struct piece *p, const int tokens, const int panels)
{
    const struct panel_bf16 *w = p->w;
    const uint8_t *x = p->x;
    __m512 acc[TILE_TOKENS][TILE_PANELS];

#pragma GCC unroll 6
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 4
        for (int i = 0; i < panels; i++)
            acc[t][i] = p->first ? _mm512_setzero_ps() : _mm512_loadu_ps(p->y + (size_t)t * p->y_stride + PANEL_ROWS * i);
    }
    for (size_t b = 0; b < p->n_blocks; b++, w++) {
        for (size_t pair = 0; pair < 16; pair++, x += 2 * sizeof(bf16)) {
            __m512bh q[TILE_PANELS];
#pragma GCC unroll 4
            for (int i = 0; i < panels; i++) {
                const bf16 *at = w[(size_t)i * p->panel_blocks].w[pair][0];
                _mm_prefetch(prefetch_address(at, PREFETCH_BYTES), _MM_HINT_T0);
                q[i] = pairs(at);
            }
#pragma GCC unroll 6
            for (int t = 0; t < tokens; t++) {
                const __m512bh xt = broadcast_pair(x + (size_t)t * p->x_stride);
#pragma GCC unroll 4
                for (int i = 0; i < panels; i++)
                    acc[t][i] = _mm512_dpbf16_ps(acc[t][i], q[i], xt);
            }
        }
    }
#pragma GCC unroll 6
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 4
        for (int i = 0; i < panels; i++)
            _mm512_storeu_ps(p->y + (size_t)t * p->y_stride + PANEL_ROWS * i, acc[t][i]);
    }
}

static __attribute__((noinline)) void run_tile(const struct piece *p, size_t tokens, size_t panels)
{
#define TILE(n) case n: panels == TILE_PANELS ? tile(p, n, TILE_PANELS) : tile(p, n, 1); break
    switch (tokens) {
    TILE(1); TILE(2); TILE(3); TILE(4); TILE(5); TILE(6);
    default: __builtin_trap();
    }
#undef TILE
}

static void matmul_bf16(const struct matmul_args *a)
{
    const size_t n_blocks = a->k / 32, n_tiles = (a->m + TILE_TOKENS - 1) / TILE_TOKENS;
    const size_t chunk = n_tiles == 1 ? n_blocks : CHUNK_BLOCKS;

    for (size_t b = 0; a->m && b < n_blocks; b += chunk) {
        for (size_t i = 0, panels; i < a->n_panels; i += panels) {
            panels = a->n_panels - i >= TILE_PANELS ? TILE_PANELS : 1;
            for (size_t n = 0, t = 0, tokens; n < n_tiles; n++, t += tokens) {
                tokens = even_part(a->m, n_tiles, n);
                const struct piece p = {
                    .w = (const struct panel_bf16 *)a->w + i * n_blocks + b, .panel_blocks = n_blocks,
                    .n_blocks = n_blocks - b < chunk ? n_blocks - b : chunk,
                    .x = (const uint8_t *)a->x + t * a->x_stride + b * 32 * sizeof(bf16), .x_stride = a->x_stride,
                    .y = a->y + t * a->y_stride + PANEL_ROWS * i, .y_stride = a->y_stride, .first = b == 0,
                };
                run_tile(&p, tokens, panels);
            }
        }
    }
}

void matmul_float_avx512bf16(struct kernels *table)
{
    table->matmul[DTYPE_BF16] = matmul_bf16;
}
