/*
 * unpacked.h - panels of quantised weights as bytes in scratch: what a product with more than a few tokens multiplies.
 *
 * A block's 16 rows by 32 k become 8 registers of 64 bytes, the operand of VPDPBUSD and the B tile of AMX alike, with scales (and
 * minima) as floats before them. A chunk of a pair of panels stays in L1 while all tokens pass, so that unpacking is paid once.
 */
#ifndef FOURWAY_KERNELS_AVX512_UNPACKED_H
#define FOURWAY_KERNELS_AVX512_UNPACKED_H

#include "kernels/avx512/blocks.h"
#include "kernels/kernels_internal.h"
#include "kernels/matmul_internal.h"

enum {
    CHUNK_BLOCKS = 16,      /* 512 k: a pair of panels takes 20 KiB, which leaves room in L1 (32 KiB and more) for a tile's tokens */
    TILE_PANELS = 2,
};

struct unpacked {
    float scale[16];
    float extra[16];        /* as in struct block */
    uint8_t q[8][64];
};

/* Quants as they are in memory, unsigned, or as signed bytes with their offset taken off, so that no sum has to do so. */
enum unpack_form { UNPACK_UNSIGNED, UNPACK_CENTRED };

struct unpacked_pair { struct unpacked panel[TILE_PANELS][CHUNK_BLOCKS]; };
_Static_assert(sizeof(struct unpacked_pair) <= MATMUL_SCRATCH_BYTES, "matmul_scratch_bytes()");

/* Blocks [0, n) of `panels` panels, from w on. */
INLINE void unpack_panels(struct unpacked_pair *out, const struct format *f, const enum unpack_form form, const uint8_t *w,
                          size_t panel_bytes, size_t panels, size_t n)
{
    const __m512i offset = _mm512_set1_epi8((char)(f->shift && form == UNPACK_CENTRED ? 1 << f->shift : 0));

    for (size_t p = 0; p < panels; p++) {
        for (size_t b = 0; b < n; b++) {
            const struct block block = f->load(w + p * panel_bytes, b);
            struct unpacked *u = &out->panel[p][b];
            _mm512_store_ps(u->scale, block.scale);
            if (f->minima || f->halves)
                _mm512_store_ps(u->extra, block.extra);
#pragma GCC unroll 8
            for (int g = 0; g < 8; g++)
                _mm512_store_si512(u->q[g], form == UNPACK_CENTRED ? _mm512_sub_epi8(block.q[g], offset) : block.q[g]);
        }
    }
}

/* n_blocks of one or two panels of scratch by all tokens of a step, or by those of one tile. */
struct piece {
    size_t tokens, panels;
    const struct unpacked *w;           /* of the first panel; the second is CHUNK_BLOCKS further */
    void *scratch;                      /* struct unpacked_pair, and behind it the level's own */
    size_t n_blocks;
    const uint8_t *x;                   /* q8_block of the first block and token */
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool first;                         /* the sums start at zero, not at y */
    const uint8_t *next;                /* packed weights that are multiplied next, to be prefetched meanwhile; NULL: none, or done */
    size_t next_bytes, panel_bytes;     /* of one of their blocks; from one panel to the next */
};

/* The level's: all tokens of the piece, in tiles. */
INLINE void run_tiles(const struct piece *p, const struct format *f);

enum {
    CACHED_BYTES = 1 << 19,             /* activations that stay in L2, of 1 MiB and more where there is AVX-512 */
    TOKENS_AT_ONCE = CACHED_BYTES / (CHUNK_BLOCKS * sizeof(struct q8_block)),
};

/*
 * While all activations fit into L2 a pair of panels goes through all of its chunks, as it lies in memory. Else all pairs go through
 * one chunk of k after the other, so that the activations of that chunk stay in L2; sums wait in y between chunks.
 */
INLINE void multiply_unpacked(const struct matmul_args *a, const struct format *f, const enum unpack_form form)
{
    const size_t n_blocks = a->k / 32, panel_bytes = n_blocks / f->blocks * f->panel_block, block_bytes = f->panel_block / f->blocks;
    const size_t n_chunks = (n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS, n_pairs = (a->n_panels + TILE_PANELS - 1) / TILE_PANELS;
    const size_t n_steps = n_chunks * n_pairs;

    for (size_t t = 0; t < a->m; t += TOKENS_AT_ONCE) {
        const size_t tokens = a->m - t < TOKENS_AT_ONCE ? a->m - t : TOKENS_AT_ONCE;
        const bool in_order = tokens * n_blocks * sizeof(struct q8_block) <= CACHED_BYTES;
        const uint8_t *w = a->w;
        for (size_t i = 0; i < n_steps; i++) {
            const size_t pair = in_order ? i / n_chunks : i % n_pairs, chunk = in_order ? i % n_chunks : i / n_pairs;
            const size_t after = i + 1, next_pair = in_order ? after / n_chunks : after % n_pairs;
            const size_t next_chunk = in_order ? after % n_chunks : after / n_pairs, b = chunk * CHUNK_BLOCKS;
            const uint8_t *next = (const uint8_t *)a->w + TILE_PANELS * next_pair * panel_bytes + next_chunk * CHUNK_BLOCKS * block_bytes;
            struct unpacked_pair *scratch = a->scratch;
            const struct piece p = {
                .tokens = tokens, .panels = a->n_panels - TILE_PANELS * pair < TILE_PANELS ? 1 : TILE_PANELS,
                .w = scratch->panel[0], .scratch = scratch, .n_blocks = n_blocks - b < CHUNK_BLOCKS ? n_blocks - b : CHUNK_BLOCKS,
                .x = (const uint8_t *)a->x + t * a->x_stride + b * sizeof(struct q8_block), .x_stride = a->x_stride,
                .y = a->y + t * a->y_stride + TILE_PANELS * PANEL_ROWS * pair, .y_stride = a->y_stride, .first = chunk == 0,
                .next = after < n_steps ? next : NULL, .next_bytes = block_bytes, .panel_bytes = panel_bytes,
            };
            unpack_panels(scratch, f, form, w, panel_bytes, p.panels, p.n_blocks);
            run_tiles(&p, f);
            w = next;
        }
    }
}

#endif
