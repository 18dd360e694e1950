/*
 * matmul.c - y = W x for quantised weights with VPDPBUSD.
 *
 * A tile is one panel by up to MAX_TOKENS tokens: a block's 8 registers of quants stay while each token's 32 activations come
 * as broadcast memory operands, which load as fast as the dots run (Zen 4: one 512-bit VPDPBUSD a cycle either way). The
 * eight dots of a token depend on one another; the processor overlaps them with those of other tokens and blocks.
 */
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/avx512/blocks.h"
#include "kernels/kernels_internal.h"

enum {
    MAX_DIRECT = 8,         /* tokens of a tile that reads the panel as it is */
    TILE = 16,              /* tokens of a tile that reads an unpacked panel */
    CHUNK_BLOCKS = 32,      /* blocks unpacked at once: 20 KiB, which stay in L1 beside the activations of a tile */
};

/* What the sum of a block needs besides its dot. */
struct format {
    struct block (*load)(const void *panel, size_t b);
    size_t panel_block, blocks;         /* bytes of a panel block, and 32-wide blocks in it */
    int shift;                          /* log2 of the quants' offset; 0: none */
    bool minima, halves;
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

/* One piece of the product: n_blocks of one panel, from a given block on, by tokens that follow one another. */
struct piece {
    const void *w;
    size_t n_blocks;
    const uint8_t *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool first;             /* the accumulators start at zero, not at y */
};

INLINE void tile(const struct piece *p, const struct format *f, const int tokens)
{
    __m512 acc[TILE];

#pragma GCC unroll 16
    for (int t = 0; t < tokens; t++)
        acc[t] = p->first ? _mm512_setzero_ps() : _mm512_loadu_ps(p->y + (size_t)t * p->y_stride);
    for (size_t b = 0; b < p->n_blocks; b++) {
        const struct block w = f->load(p->w, b);
        const uint8_t *x = p->x + b * sizeof(struct q8_block);
#pragma GCC unroll 16
        for (int t = 0; t < tokens; t++, x += p->x_stride)
            acc[t] = add_block(acc[t], f, &w, (const struct q8_block *)x);
    }
#pragma GCC unroll 16
    for (int t = 0; t < tokens; t++)
        _mm512_storeu_ps(p->y + (size_t)t * p->y_stride, acc[t]);
}

INLINE void tile_of(const struct piece *p, const struct format *f, size_t tokens)
{
    switch (tokens) {
    case 1: tile(p, f, 1); break;
    case 2: tile(p, f, 2); break;
    case 3: tile(p, f, 3); break;
    case 4: tile(p, f, 4); break;
    case 5: tile(p, f, 5); break;
    case 6: tile(p, f, 6); break;
    case 7: tile(p, f, 7); break;
    case 8: tile(p, f, 8); break;
    }
}

INLINE void unpack(struct unpacked_block *out, const void *w, size_t n_blocks, const struct format *f)
{
    for (size_t b = 0; b < n_blocks; b++) {
        const struct block block = f->load(w, b);
        store_block(&out[b], &block);
    }
}

INLINE void skip_tokens(struct piece *p, size_t n)
{
    p->x += n * p->x_stride;
    p->y += n * p->y_stride;
}

/*
 * Up to MAX_DIRECT tokens read each panel once, as it is (`direct`: tile_of() of the format). More tokens go through an
 * unpacked panel, one chunk of k after the other, so that a chunk of all activations stays in cache while all panels pass.
 */
INLINE void multiply(const struct matmul_args *a, const struct format *f, void (*direct)(const struct piece *p, size_t tokens))
{
    const size_t n_blocks = a->k / 32, panel = n_blocks / f->blocks * f->panel_block;
    const size_t chunk = a->m <= MAX_DIRECT ? n_blocks : CHUNK_BLOCKS;
    struct format unpacked = *f;
    unpacked.load = load_unpacked;

    for (size_t b0 = 0; b0 < n_blocks; b0 += chunk) {
        for (size_t i = 0; i < a->n_panels; i++) {
            const uint8_t *w = (const uint8_t *)a->w + i * panel + b0 / f->blocks * f->panel_block;
            struct piece p = { .w = a->scratch, .n_blocks = n_blocks - b0 < chunk ? n_blocks - b0 : chunk,
                               .x = (const uint8_t *)a->x + b0 * sizeof(struct q8_block), .x_stride = a->x_stride,
                               .y = a->y + PANEL_ROWS * i, .y_stride = a->y_stride, .first = b0 == 0 };
            size_t left = a->m;
            if (left > MAX_DIRECT)
                unpack(a->scratch, w, p.n_blocks, f);
            for (; left >= TILE; left -= TILE, skip_tokens(&p, TILE))
                tile(&p, &unpacked, TILE);
            p.w = w;
            for (; left > MAX_DIRECT; left -= MAX_DIRECT, skip_tokens(&p, MAX_DIRECT))
                direct(&p, MAX_DIRECT);
            direct(&p, left);
        }
    }
}

#define MATMUL(type, n_blocks, ...) \
    static const struct format format_##type = { \
        .load = load_##type, .panel_block = sizeof(struct panel_##type), .blocks = n_blocks, __VA_ARGS__ \
    }; \
    static __attribute__((noinline)) void direct_##type(const struct piece *p, size_t tokens) \
    { \
        tile_of(p, &format_##type, tokens); \
    } \
    static void matmul_##type(const struct matmul_args *a) \
    { \
        multiply(a, &format_##type, direct_##type); \
    }

MATMUL(q4_0, 1, .shift = 3)
MATMUL(q4_1, 1, .minima = true)
MATMUL(q5_0, 1, .shift = 4)
MATMUL(q5_1, 1, .minima = true)
MATMUL(q8_0, 1, .shift = 7)
MATMUL(q4_K, 8, .minima = true)
MATMUL(q5_K, 8, .minima = true)
MATMUL(q6_K, 8, .shift = 5, .halves = true)

void matmul_avx512(struct kernels *table)
{
    table->matmul[DTYPE_Q4_0] = matmul_q4_0;
    table->matmul[DTYPE_Q4_1] = matmul_q4_1;
    table->matmul[DTYPE_Q5_0] = matmul_q5_0;
    table->matmul[DTYPE_Q5_1] = matmul_q5_1;
    table->matmul[DTYPE_Q8_0] = matmul_q8_0;
    table->matmul[DTYPE_Q4_K] = matmul_q4_K;
    table->matmul[DTYPE_Q5_K] = matmul_q5_K;
    table->matmul[DTYPE_Q6_K] = matmul_q6_K;
}
