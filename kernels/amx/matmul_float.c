/*
 * matmul_float.c - y = W x for BF16 weights and bf16 activations of prompt tokens with tiles (TDPBF16PS).
 *
 * The instruction sums even and odd k of its 32 apart, so its bits are not those of VDPBF16PS, whatever m is: it serves prompt tokens
 * only (kernels.h, matmul_prompt), and all of them, at every m. Generated tokens keep VDPBF16PS, for which one token is enough.
 *
 * A panel's block of 32 k is a B tile as it lies in memory. Two groups of up to 16 tokens by two panels: four tiles of sums, which a
 * result's 52 cycles need at 16 for each instruction; every load of a tile serves two of them. In a chunk of k two panels take 32 KiB
 * of L1 and the activations of 512 tokens 512 KiB of L2; sums wait in y between chunks, exact. All of this by the processor's
 * manuals: nothing was measured, for want of one.
 */
#include <stdbool.h>

#include "kernels/amx/tiles.h"
#include "kernels/kernels_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    GROUPS = 2,                             /* of tokens */
    TILE_TOKENS = GROUPS * TILE_ROWS,
    TILE_PANELS = 2,
    CHUNK_BLOCKS = 16,                      /* of 32 k */
    PREFETCH_BYTES = 2048,                  /* ahead in a panel, while the first tokens pass; as measured in avx512bf16/ */
};

struct piece {
    size_t panels;
    const struct panel_bf16 *w;
    size_t panel_blocks;                    /* from one panel to the next */
    size_t n_blocks;
    size_t rows[GROUPS];                    /* tokens of each group; the second may have none */
    const uint8_t *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool first, prefetch;                   /* the sums start at zero, not at y; these are the first tokens that meet the weights */
};

/* Tiles 0 and 1 are the first group's sums of both panels, 2 and 3 the second's; 4 and 5 activations, 6 and 7 weights. */
static void configure(const size_t rows[GROUPS])
{
    struct tile_config c = { .palette = 1 };

    for (unsigned tile = 0; tile < 4; tile++)
        tiles_shape(&c, tile, rows[tile / 2], TILE_ROW_BYTES);
    for (unsigned tile = 4; tile < 6; tile++)
        tiles_shape(&c, tile, rows[tile - 4], TILE_ROW_BYTES);
    for (unsigned tile = 6; tile < 8; tile++)
        tiles_shape(&c, tile, TILE_ROWS, TILE_ROW_BYTES);
    tiles_configure(&c);
}

INLINE void prefetch(const struct panel_bf16 *w)
{
    for (size_t i = 0; i < sizeof(*w); i += 64)
        _mm_prefetch(prefetch_address(w, PREFETCH_BYTES + i), _MM_HINT_T0);
}

INLINE void tile(const struct piece *p, const int groups, const int panels)
{
    const struct panel_bf16 *w = p->w;
    const uint8_t *x = p->x;
    const size_t y_bytes = p->y_stride * sizeof(float), second_x = p->rows[0] * p->x_stride;
    float *second_y = groups == 2 ? p->y + p->rows[0] * p->y_stride : NULL;

    TILES_USE_MEMORY();
#define EACH_SUM(instruction) \
    do { \
        instruction(0, p->y); \
        if (panels == 2) \
            instruction(1, p->y + PANEL_ROWS); \
        if (groups == 2) \
            instruction(2, second_y); \
        if (groups == 2 && panels == 2) \
            instruction(3, second_y + PANEL_ROWS); \
    } while (0)
#define CLEAR(n, at) _tile_zero(n)
#define LOAD(n, at) _tile_loadd(n, at, y_bytes)
#define STORE(n, at) _tile_stored(n, at, y_bytes)
    if (p->first)
        EACH_SUM(CLEAR);
    else
        EACH_SUM(LOAD);
    for (size_t b = 0; b < p->n_blocks; b++, w++, x += 32 * sizeof(bf16)) {
        _tile_loadd(4, x, p->x_stride);
        _tile_loadd(6, w, TILE_ROW_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        if (panels == 2) {
            _tile_loadd(7, w + p->panel_blocks, TILE_ROW_BYTES);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (groups == 2) {
            _tile_loadd(5, x + second_x, p->x_stride);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (groups == 2 && panels == 2)
            _tile_dpbf16ps(3, 5, 7);
        if (p->prefetch) {
            prefetch(w);
            if (panels == 2)
                prefetch(w + p->panel_blocks);
        }
    }
    EACH_SUM(STORE);
#undef STORE
#undef LOAD
#undef CLEAR
#undef EACH_SUM
    TILES_USE_MEMORY();
}

/* With one group two results in flight leave the tile unit idle half of the time: weights still pass faster than memory gives them. */
static void run_tile(const struct piece *p)
{
    if (p->rows[1])
        p->panels == 2 ? tile(p, 2, 2) : tile(p, 2, 1);
    else
        p->panels == 2 ? tile(p, 1, 2) : tile(p, 1, 1);
}

static void matmul_bf16(const struct matmul_args *a)
{
    const size_t n_blocks = a->k / 32, n_tiles = (a->m + TILE_TOKENS - 1) / TILE_TOKENS;
    const size_t chunk = n_tiles == 1 ? n_blocks : CHUNK_BLOCKS;
    size_t configured = 0;

    for (size_t b = 0; a->m && b < n_blocks; b += chunk) {
        for (size_t i = 0; i < a->n_panels; i += TILE_PANELS) {
            for (size_t n = 0, t = 0, tokens; n < n_tiles; n++, t += tokens) {
                tokens = even_part(a->m, n_tiles, n);               /* two shapes at most */
                const size_t rows = tokens > TILE_ROWS ? (tokens + 1) / 2 : tokens;
                const struct piece p = {
                    .panels = a->n_panels - i >= TILE_PANELS ? TILE_PANELS : 1,
                    .w = (const struct panel_bf16 *)a->w + i * n_blocks + b, .panel_blocks = n_blocks,
                    .n_blocks = n_blocks - b < chunk ? n_blocks - b : chunk, .rows = { rows, tokens - rows },
                    .x = (const uint8_t *)a->x + t * a->x_stride + b * 32 * sizeof(bf16), .x_stride = a->x_stride,
                    .y = a->y + t * a->y_stride + PANEL_ROWS * i, .y_stride = a->y_stride, .first = b == 0, .prefetch = n == 0,
                };
                if (configured != tokens)
                    configure(p.rows);
                configured = tokens;
                run_tile(&p);
            }
        }
    }
    _tile_release();
}

void matmul_float_amx(struct kernels *table)
{
    table->matmul_prompt[DTYPE_BF16] = matmul_bf16;
}
