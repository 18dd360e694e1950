/*
 * matmul.c - y = W x for quantised weights with tiles of int8 (TDPBSSD): the bits of avx512/matmul.c, the dots being exact integers.
 *
 * UNPACK_TOKENS or more meet a pair of panels as bytes in scratch (avx512/unpacked.h), where a block of 16 rows by 32 k is a B tile as
 * it lies; the tokens' 32 activations are the A tile. Each block has its own scales, so a tile holds the dots of one block only (half
 * of the k that an instruction could take; a quarter in types with a scale for each half), goes to L1, and AVX-512 adds it to sums in
 * registers. Quants are stored with their offset taken off: that costs one subtraction a block and panel for all tokens, and leaves
 * a conversion, a product of scales and an fma for a token and panel.
 *
 * Two units so work at once: the tiles of the next block are issued before the vectors of this one. They hide less of one another than
 * ports and latencies promise. Xeon of the fifth generation, one core: TDPBSSD takes 9 cycles with 8 rows of A and 16 with 16, storing a
 * tile 16 with any, loading one 8, an fma of 16 sums half of one; and yet a block of 12 tokens by 2 panels, two products and 72 vector
 * operations, takes 92. 12 tokens because 24 sums leave 8 registers for scales and operands, so that one broadcast serves both panels.
 *
 * Tiles begin as zeros loaded from memory: where tiles are stored in between, TILEZERO makes each TDPBSSD wait for the one before, 52
 * cycles instead of 18.
 *
 * Fewer tokens (of Q2_K all) go through packed panels (packed.h). Shares of reads at 8, 16 and 32 tokens, packed and by tiles: Q4_0 58,
 * 34, 17 and 60, 41, 23 %; Q4_1 66, 38, 18 and 55, 40, 22 %; Q8_0, whose quants need no unpacking, 80, 59, 32 and 63, 50, 35 %.
 *
 * Other ways that gave the same bits, GB/s of Q4_0 weights at 8, 16 and 32 tokens, in another run, where this gave 10.7, 8.0 and 4.2: one
 * panel by 16 tokens in turns of four blocks, unpacked, multiplied and added in three stages, 10.1, 7.1, 3.6; the same by pairs of panels
 * 8.3, 5.8, 4.6. Unpacking nibbles with GF2P8AFFINEQB, one instruction for three, changed nothing.
 */
#include "kernels/avx512/packed.h"
#include "kernels/avx512/unpacked.h"

#include "kernels/amx/tiles.h"

enum {
    TILE_TOKENS = 12,
    UNPACK_TOKENS = 12, UNPACK_TOKENS_8_BITS = 25,
};

/* The scratch of a worker. */
struct tile_scratch {
    struct unpacked_pair weights;
    int32_t dots[2][TILE_PANELS][TILE_TOKENS][PANEL_ROWS];      /* of two steps in turn */
    size_t tokens;                                              /* what the tiles are configured for; 0: not yet */
};
_Static_assert(sizeof(struct tile_scratch) <= MATMUL_SCRATCH_BYTES, "matmul_scratch_bytes()");

/* Tiles 0 and 1 are the dots of two panels in even steps, 2 and 3 in odd ones; 4 and 5 activations, 6 and 7 weights. */
static void configure(struct tile_scratch *s, const struct format *f, size_t tokens)
{
    struct tile_config c = { .palette = 1 };
    const size_t groups = f->halves ? 4 : 8;

    if (s->tokens == tokens)
        return;
    s->tokens = tokens;
    for (unsigned tile = 0; tile < 4; tile++)
        tiles_shape(&c, tile, tokens, PANEL_ROWS * sizeof(int32_t));
    for (unsigned tile = 4; tile < 6; tile++)
        tiles_shape(&c, tile, tokens, 4 * groups);
    for (unsigned tile = 6; tile < 8; tile++)
        tiles_shape(&c, tile, groups, sizeof(((struct unpacked *)0)->q[0]));
    tiles_configure(&c);
}

/* A step is a block, or half of one where each half has its scale: then even steps are low halves and odd ones high halves. */
INLINE size_t step_block(const struct format *f, size_t step)
{
    return f->halves ? step / 2 : step;
}

static const _Alignas(64) int32_t zeros[TILE_TOKENS][PANEL_ROWS];

/* Start the dots of a step: x by one or two panels, into dots[]. Tile numbers are part of an instruction. */
#define STEP(name, parity, first_dots, second_dots, activations) \
    INLINE void name(const struct piece *p, const struct format *f, const size_t step, const int panels) \
    { \
        const size_t b = step_block(f, step), group = f->halves ? 4 * (parity) : 0; \
        const uint8_t *x = p->x + b * sizeof(struct q8_block) + offsetof(struct q8_block, q) + 4 * group; \
        const struct unpacked *w = p->w + b; \
        struct tile_scratch *s = p->scratch; \
\
        TILES_USE_MEMORY(); \
        _tile_loadd(first_dots, zeros, TILE_ROW_BYTES); \
        _tile_loadd(activations, x, p->x_stride); \
        _tile_loadd(6, w->q[group], sizeof(w->q[0])); \
        _tile_dpbssd(first_dots, activations, 6); \
        if (panels == 2) { \
            _tile_loadd(second_dots, zeros, TILE_ROW_BYTES); \
            _tile_loadd(7, w[CHUNK_BLOCKS].q[group], sizeof(w->q[0])); \
            _tile_dpbssd(second_dots, activations, 7); \
        } \
        _tile_stored(first_dots, s->dots[parity][0], sizeof(s->dots[0][0][0])); \
        if (panels == 2) \
            _tile_stored(second_dots, s->dots[parity][1], sizeof(s->dots[0][0][0])); \
        TILES_USE_MEMORY(); \
    }
STEP(start_even, 0, 0, 1, 4)
STEP(start_odd, 1, 2, 3, 5)
#undef STEP

/* What a step adds to the sums. */
INLINE void add_step(__m512 acc[TILE_TOKENS][TILE_PANELS], const struct piece *p, const struct format *f, const size_t step,
                     const int parity, const int tokens, const int panels)
{
    const size_t b = step_block(f, step);
    const struct tile_scratch *s = p->scratch;
    const struct unpacked *w = p->w + b;
    const uint8_t *x = p->x + b * sizeof(struct q8_block);
    __m512 scale[TILE_PANELS];

#pragma GCC unroll 2
    for (int i = 0; i < panels; i++)
        scale[i] = _mm512_load_ps(f->halves && parity ? w[i * CHUNK_BLOCKS].extra : w[i * CHUNK_BLOCKS].scale);
#pragma GCC unroll 12
    for (int t = 0; t < tokens; t++) {
        const struct q8_block *xt = (const struct q8_block *)(x + (size_t)t * p->x_stride);
        const __m512 x_scale = _mm512_set1_ps(xt->scale), sum = _mm512_set1_ps(xt->scaled_sum);
#pragma GCC unroll 2
        for (int i = 0; i < panels; i++) {
            acc[t][i] = scaled(acc[t][i], scale[i], x_scale, _mm512_load_si512(s->dots[parity][i][t]));
            if (f->minima)
                acc[t][i] = _mm512_fmadd_ps(_mm512_load_ps(w[i * CHUNK_BLOCKS].extra), sum, acc[t][i]);
        }
    }
}

INLINE void prefetch_next(const struct piece *p, const struct format *f, size_t step, const int panels)
{
    if (!p->next || (f->halves && step % 2))
        return;
#pragma GCC unroll 2
    for (int i = 0; i < panels; i++)
        prefetch_weights_l2(p->next, (size_t)i * p->panel_bytes + step_block(f, step) * p->next_bytes, p->next_bytes);
}

INLINE void tile(const struct piece *p, const struct format *f, const int tokens, const int panels)
{
    const size_t n_steps = f->halves ? 2 * p->n_blocks : p->n_blocks;
    __m512 acc[TILE_TOKENS][TILE_PANELS];

    start_even(p, f, 0, panels);
#pragma GCC unroll 12
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 2
        for (int i = 0; i < panels; i++)
            acc[t][i] = p->first ? _mm512_setzero_ps() : _mm512_loadu_ps(p->y + (size_t)t * p->y_stride + PANEL_ROWS * i);
    }
    for (size_t step = 0; step < n_steps; step += 2) {
        if (step + 1 < n_steps)
            start_odd(p, f, step + 1, panels);
        prefetch_next(p, f, step, panels);
        add_step(acc, p, f, step, 0, tokens, panels);
        if (step + 1 == n_steps)
            break;
        if (step + 2 < n_steps)
            start_even(p, f, step + 2, panels);
        prefetch_next(p, f, step + 1, panels);
        add_step(acc, p, f, step + 1, 1, tokens, panels);
    }
#pragma GCC unroll 12
    for (int t = 0; t < tokens; t++) {
#pragma GCC unroll 2
        for (int i = 0; i < panels; i++)
            _mm512_storeu_ps(p->y + (size_t)t * p->y_stride + PANEL_ROWS * i, acc[t][i]);
    }
}

/* Tiles as even as they can be have 6 tokens at least, where there are 12. */
INLINE void any_tile(const struct piece *p, const struct format *f)
{
    switch (p->tokens) {
    UNPACKED_CASE(6); UNPACKED_CASE(7); UNPACKED_CASE(8); UNPACKED_CASE(9); UNPACKED_CASE(10); UNPACKED_CASE(11); UNPACKED_CASE(12);
    default: __builtin_trap();
    }
}

/* Without their offsets quants differ between types only in minima and halves: one function for each. */
UNPACKED_TILE(tile_plain, .minima = false)
UNPACKED_TILE(tile_minima, .minima = true)
UNPACKED_TILE(tile_halves, .halves = true)

/* The larger tiles of a piece come first: two configurations at most, and one in all where the tiles of a call are alike. */
INLINE void run_tile(const struct piece *p, const struct format *f)
{
    configure(p->scratch, f, p->tokens);
    if (f->halves)
        tile_halves(p);
    else if (f->minima)
        tile_minima(p);
    else
        tile_plain(p);
}

INLINE void multiply(const struct matmul_args *a, const struct format *f)
{
    if (a->m == 0)
        return;
    if (a->m < (f->bits == 8 ? UNPACK_TOKENS_8_BITS : UNPACK_TOKENS) || !can_unpack(f)) {
        multiply_packed(a, f);
        return;
    }
    ((struct tile_scratch *)a->scratch)->tokens = 0;
    multiply_unpacked(a, f, format_offset(f), TILE_TOKENS);
    _tile_release();
}

#include "kernels/matmul_template.h"

void matmul_amx(struct kernels *table)
{
    fill(table->matmul);
}
