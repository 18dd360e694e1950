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
    float extra[16];        /* minima, or the scales of k 16..31; both, and minima of halves, no type here has */
    uint8_t q[8][64];
};

struct unpacked_pair { struct unpacked panel[TILE_PANELS][CHUNK_BLOCKS]; };
_Static_assert(sizeof(struct unpacked_pair) <= MATMUL_SCRATCH_BYTES, "matmul_scratch_bytes()");

/* Blocks [0, n) of `panels` panels, from w on, `offset` taken off the quants: 0 for unsigned ones as they are in memory. */
INLINE void unpack_panels(struct unpacked_pair *out, const struct format *f, const int offset, const uint8_t *w, size_t panel_bytes,
                          size_t panels, size_t n)
{
    for (size_t p = 0; p < panels; p++) {
        for (size_t b = 0; b < n; b++) {
            const struct block block = f->load(w + p * panel_bytes, b);
            struct unpacked *u = &out->panel[p][b];
            _mm512_store_ps(u->scale, block.scale[0]);
            if (f->minima || f->halves)
                _mm512_store_ps(u->extra, f->minima ? block.min[0] : block.scale[1]);
#pragma GCC unroll 8
            for (int g = 0; g < 8; g++)
                _mm512_store_si512(u->q[g], offset ? _mm512_sub_epi8(block.q[g], _mm512_set1_epi8((char)offset)) : block.q[g]);
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

/* The level's: the tokens of the piece as one tile. */
INLINE void run_tile(const struct piece *p, const struct format *f);

/*
 * What run_tile() calls, by number of tokens and panels: UNPACKED_CASE(n) in a switch that traps by default, since a size without code
 * would leave y as it was; and a function of its own for all types that differ in nothing once unpacked, named by UNPACKED_TILE.
 */
#define UNPACKED_CASE(n) case n: p->panels == 2 ? tile(p, f, n, 2) : tile(p, f, n, 1); break
#define UNPACKED_TILE(name, ...) \
    static __attribute__((noinline)) void name(const struct piece *p) \
    { \
        static const struct format f = { __VA_ARGS__ }; \
        any_tile(p, &f); \
    }

/* All tokens of the piece in tiles of up to `most`. The first tile prefetches for all. */
INLINE void run_tiles(const struct piece *all, const struct format *f, const size_t most)
{
    const size_t n_tiles = (all->tokens + most - 1) / most;
    struct piece p = *all;

    for (size_t i = 0, t = 0; i < n_tiles; i++, t += p.tokens) {
        p.tokens = even_part(all->tokens, n_tiles, i);
        p.x = all->x + t * p.x_stride;
        p.y = all->y + t * p.y_stride;
        run_tile(&p, f);
        p.next = NULL;
    }
}

enum {
    CACHED_BYTES = 1 << 19,             /* activations that stay in L2, of 1 MiB and more where there is AVX-512 */
    TOKENS_AT_ONCE = CACHED_BYTES / (CHUNK_BLOCKS * sizeof(struct q8_block)),
};

/* The weights in pairs of panels, each in chunks of k: a step multiplies one chunk of one pair. */
struct steps {
    const uint8_t *w;
    size_t n_pairs, n_chunks, pair_bytes, chunk_bytes;
    bool pairwise;                      /* all chunks of a pair in turn; else all pairs for one chunk of k */
};
struct step {
    size_t pair, chunk;
    const uint8_t *w;                   /* NULL: there is no such step */
};

INLINE struct step step_at(const struct steps *s, size_t i)
{
    if (i >= s->n_pairs * s->n_chunks)
        return (struct step){ .w = NULL };
    const size_t pair = s->pairwise ? i / s->n_chunks : i % s->n_pairs, chunk = s->pairwise ? i % s->n_chunks : i / s->n_pairs;
    return (struct step){ pair, chunk, s->w + pair * s->pair_bytes + chunk * s->chunk_bytes };
}

/* Q2_K has no room for its second minima in scratch, and goes through packed panels whatever m is. */
INLINE bool can_unpack(const struct format *f)
{
    return !(f->minima && f->halves);
}

/*
 * While all activations fit into L2 a pair of panels goes through all of its chunks, as it lies in memory. Else all pairs go through
 * one chunk of k after the other, so that the activations of that chunk stay in L2; sums wait in y between chunks. Tokens whose
 * activations of one chunk would not fit go in parts, as even as they can be: a small rest would pay for all of the unpacking, and its
 * tile might be smaller than a level has.
 */
INLINE void multiply_unpacked(const struct matmul_args *a, const struct format *f, const int offset, const size_t tile_tokens)
{
    const size_t n_blocks = a->k / 32, panel_bytes = n_blocks / f->blocks * f->panel_block, block_bytes = f->panel_block / f->blocks;
    const size_t n_parts = (a->m + TOKENS_AT_ONCE - 1) / TOKENS_AT_ONCE;
    struct steps steps = {
        .w = a->w, .n_pairs = (a->n_panels + TILE_PANELS - 1) / TILE_PANELS, .n_chunks = (n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS,
        .pair_bytes = TILE_PANELS * panel_bytes, .chunk_bytes = CHUNK_BLOCKS * block_bytes,
    };
    struct unpacked_pair *scratch = a->scratch;

    for (size_t part = 0, t = 0, tokens; part < n_parts; part++, t += tokens) {
        tokens = even_part(a->m, n_parts, part);
        steps.pairwise = tokens * n_blocks * sizeof(struct q8_block) <= CACHED_BYTES;
        struct step step = step_at(&steps, 0), next;
        for (size_t i = 1; step.w; i++, step = next) {
            const size_t panels_left = a->n_panels - TILE_PANELS * step.pair, b = CHUNK_BLOCKS * step.chunk, blocks_left = n_blocks - b;
            next = step_at(&steps, i);
            const struct piece p = {
                .tokens = tokens, .panels = panels_left < TILE_PANELS ? panels_left : TILE_PANELS, .w = scratch->panel[0],
                .scratch = scratch, .n_blocks = blocks_left < CHUNK_BLOCKS ? blocks_left : CHUNK_BLOCKS,
                .x = (const uint8_t *)a->x + t * a->x_stride + b * sizeof(struct q8_block), .x_stride = a->x_stride,
                .y = a->y + t * a->y_stride + TILE_PANELS * PANEL_ROWS * step.pair, .y_stride = a->y_stride, .first = step.chunk == 0,
                .next = next.w, .next_bytes = block_bytes, .panel_bytes = panel_bytes,
            };
            unpack_panels(scratch, f, offset, step.w, panel_bytes, p.panels, p.n_blocks);
            run_tiles(&p, f, tile_tokens);
        }
    }
}

#endif
