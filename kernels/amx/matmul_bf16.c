/*
 * matmul_bf16.c - y = W x with tiles of bf16 (TDPBF16PS): BF16 weights, and for prompt tokens quantised ones rounded to bf16.
 *
 * The instruction sums even and odd k of its 32 apart, so its bits are neither those of VDPBF16PS nor of int8 dots, whatever m is: it
 * serves all tokens of BF16 weights and all prompt tokens of quantised ones, at every m (kernels.h, matmul_prompt).
 *
 * Why not the int8 tiles of matmul.c, and one arithmetic for all tokens of quantised weights, too? Each block's scales would have to be
 * applied to its dots, which leave their tile for it: 12 tokens by 32 rows by 32 k take 92 cycles, and TDPBF16PS as much in 24.
 * docs/performance.md has what comes of it: prompts 1.6 to 1.9 times as fast.
 *
 * A panel's block of 32 k is a B tile: in BF16 as it lies in memory, else in scratch, unpacked once for all tokens. Two groups of up to
 * 16 tokens by two panels: four tiles of sums, every load of a tile serves two of them. A chunk of k of two panels takes 32 KiB of L1 and
 * the activations of 512 tokens 512 KiB of L2; sums wait in y between chunks, exact.
 */
#include "kernels/avx512/blocks.h"
#include "kernels/matmul_internal.h"

#include "kernels/amx/tiles.h"

enum {
    GROUPS = 2,                             /* of tokens */
    TILE_TOKENS = GROUPS * TILE_ROWS,
    TILE_PANELS = 2,
    CHUNK_BLOCKS = 16,                      /* of 32 k */
};

/* The scratch of a worker: a chunk of two panels as bf16. */
struct unpacked_chunk { struct panel_bf16 panel[TILE_PANELS][CHUNK_BLOCKS]; };
_Static_assert(sizeof(struct unpacked_chunk) <= MATMUL_SCRATCH_BYTES, "matmul_scratch_bytes()");

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
    bool first;                             /* the sums start at zero, not at y */
    const uint8_t *next;                    /* weights to be fetched meanwhile; NULL: none */
    size_t next_block_bytes, next_panel_bytes;  /* of the weights at `next`: of a block, and from one panel to the next */
    bool as_it_lies;                        /* `next` are these weights: fetched some lines ahead */
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
#define CLEAR(n, at) _tile_zero(n)      /* harmless here (see matmul.c): sums are stored a whole chunk later */
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
        for (size_t i = 0; p->next && i < (size_t)panels; i++) {
            if (p->as_it_lies)
                prefetch_weights(p->next, i * p->next_panel_bytes + b * sizeof(*w), sizeof(*w));
            else
                prefetch_weights_l2(p->next, i * p->next_panel_bytes + b * p->next_block_bytes, p->next_block_bytes);
        }
    }
    EACH_SUM(STORE);
#undef STORE
#undef LOAD
#undef CLEAR
#undef EACH_SUM
    TILES_USE_MEMORY();
}

/* With one group two sums are in flight, half of what the tile unit could do; BF16 weights still pass as memory gives them. */
static void run_tile(const struct piece *p)
{
    if (p->rows[1])
        p->panels == 2 ? tile(p, 2, 2) : tile(p, 2, 1);
    else
        p->panels == 2 ? tile(p, 1, 2) : tile(p, 1, 1);
}

/*
 * fma(scale, base + q, c) of 16 rows, q being byte `byte` of each row's quants: the base is a power of two, so that q put into its
 * mantissa is base + q, without a conversion.
 */
INLINE __m512 element(__m512i quants, const int byte, const int bits, __m512 scale, __m512 c)
{
    const int place = bits == 8 ? 15 : 16, shift = place - 8 * byte;        /* 23 bits of mantissa less log2(base) */
    const __m512i base = _mm512_castps_si512(_mm512_set1_ps((float)prompt_base(bits))), mask = _mm512_set1_epi32(0xff << place);
    const __m512i placed = shift > 0 ? _mm512_slli_epi32(quants, (unsigned)shift) : _mm512_srli_epi32(quants, (unsigned)-shift);

    /* 0xea: (placed & mask) | base */
    return _mm512_fmadd_ps(scale, _mm512_castsi512_ps(_mm512_ternarylogic_epi32(placed, mask, base, 0xea)), c);
}

INLINE void unpack_block(struct panel_bf16 *out, const struct format *f, const struct block *w)
{
    const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
                                                19, 3, 18, 2, 17, 1, 16, 0);
    const __m512 base = _mm512_set1_ps(-(float)(prompt_base(f->bits) + format_offset(f)));

#pragma GCC unroll 2
    for (int part = 0; part < 2; part++) {
        const int own = f->halves ? part : 0;
        const __m512 scale = w->scale[own];
        const __m512 c = f->minima ? _mm512_fmadd_ps(scale, base, w->min[own]) : _mm512_mul_ps(scale, base);
#pragma GCC unroll 4
        for (int g = 4 * part; g < 4 * part + 4; g++) {
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++) {
                const __m512 even = element(w->q[g], 2 * i, f->bits, scale, c), odd = element(w->q[g], 2 * i + 1, f->bits, scale, c);
                _mm512_store_si512(out->w[2 * g + i], _mm512_permutexvar_epi16(interleave, (__m512i)_mm512_cvtne2ps_pbh(odd, even)));
            }
        }
    }
}

INLINE void unpack_chunk(struct unpacked_chunk *out, const struct format *f, const uint8_t *w, size_t panel_bytes, size_t panels, size_t n)
{
    for (size_t p = 0; p < panels; p++) {
        for (size_t b = 0; b < n; b++) {
            const struct block block = f->load(w + p * panel_bytes, b);
            unpack_block(&out->panel[p][b], f, &block);
        }
    }
}

/* All tokens by the chunk of two panels (or one) from panel i and block b on. */
static void run_tiles(const struct matmul_args *a, struct piece *p, size_t i, size_t b, size_t *configured)
{
    const size_t n_tiles = (a->m + TILE_TOKENS - 1) / TILE_TOKENS;

    for (size_t n = 0, t = 0, tokens; n < n_tiles; n++, t += tokens) {
        tokens = even_part(a->m, n_tiles, n);               /* two shapes at most */
        p->rows[0] = tokens > TILE_ROWS ? (tokens + 1) / 2 : tokens;
        p->rows[1] = tokens - p->rows[0];
        p->x = (const uint8_t *)a->x + t * a->x_stride + b * 32 * sizeof(bf16);
        p->y = a->y + t * a->y_stride + PANEL_ROWS * i;
        if (*configured != tokens)
            configure(p->rows);
        *configured = tokens;
        run_tile(p);
        p->next = NULL;                                     /* the first tokens fetch for all */
    }
}

/* NULL for `f`: the weights are bf16 as they lie. All pairs of panels for one chunk of k after the other. */
INLINE void multiply(const struct matmul_args *a, const struct format *f)
{
    const size_t n_blocks = a->k / 32, block_bytes = f ? f->panel_block / f->blocks : sizeof(struct panel_bf16);
    const size_t panel_bytes = n_blocks * block_bytes;
    struct unpacked_chunk *scratch = a->scratch;
    const bool as_it_lies = !f && a->m <= TILE_TOKENS;      /* one tile of tokens: the weights are read once, in the order of memory */
    const size_t chunk = as_it_lies ? n_blocks : CHUNK_BLOCKS;
    size_t configured = 0;

    for (size_t b = 0; a->m && b < n_blocks; b += chunk) {
        for (size_t i = 0; i < a->n_panels; i += TILE_PANELS) {
            const uint8_t *w = (const uint8_t *)a->w + i * panel_bytes + b * block_bytes;
            struct piece p = {
                .panels = a->n_panels - i >= TILE_PANELS ? TILE_PANELS : 1,
                .n_blocks = n_blocks - b < chunk ? n_blocks - b : chunk,
                .w = f ? scratch->panel[0] : (const struct panel_bf16 *)w, .panel_blocks = f ? CHUNK_BLOCKS : n_blocks,
                .x_stride = a->x_stride, .y_stride = a->y_stride, .first = b == 0,
                .next = as_it_lies ? w : i + TILE_PANELS < a->n_panels ? w + TILE_PANELS * panel_bytes : NULL,
                .next_block_bytes = block_bytes, .next_panel_bytes = panel_bytes, .as_it_lies = as_it_lies,
            };
            if (f)
                unpack_chunk(scratch, f, w, panel_bytes, p.panels, p.n_blocks);
            run_tiles(a, &p, i, b, &configured);
        }
    }
    _tile_release();
}

#include "kernels/matmul_template.h"

static void matmul_bf16(const struct matmul_args *a)
{
    multiply(a, NULL);
}

void matmul_bf16_amx(struct kernels *table)
{
    fill(table->matmul_prompt);
    table->matmul[DTYPE_BF16] = table->matmul_prompt[DTYPE_BF16] = matmul_bf16;
    for (enum dtype type = 0; type < DTYPE_COUNT; type++)
        if (kernels_activation(type) == ACT_Q8)
            table->prompt_activation[type] = ACT_BF16;
}
