/*
 * matmul.c - y = W x for quantised weights with AVX2, which has no VNNI.
 *
 * VPMADDUBSW adds two products of an unsigned and a signed byte in 16 bits and saturates, so an exact dot needs sums that
 * cannot reach 32768. |x| is at most 127: quants of up to 4 bits allow 8 groups (8 x 2 x 15 x 127 = 30480) before the sums are
 * widened to 32 bits, 5-bit quants 4 (31496), 6-bit quants 2 (32004). 8-bit quants are two 4-bit ones: 16 high + low.
 */
#include "kernels/avx2/blocks.h"
#include "kernels/kernels_internal.h"
#include "kernels/matmul_internal.h"

enum {
    TILE = 32,                  /* tokens that share one unpacking of a block */
    CACHED_BYTES = 1 << 19,     /* activations that stay in the second-level cache */
};

/* n_blocks of one panel, from some block on, by tokens that follow one another. */
struct piece {
    size_t tokens;                      /* at most TILE */
    const uint8_t *w;
    size_t n_blocks;
    const uint8_t *x;                   /* q8_block of the first block and token */
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool first;                         /* the sums start at zero, not at y */
    bool prefetch_once;
};

/* sum + the dot of n groups: 4, or 8 for types of one scale a block. */
INLINE __m256i dots(__m256i sum, const __m256i *q, const int8_t *x, const int n, const int bits)
{
    const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
    const int step = bits == 6 ? 2 : bits == 5 ? 4 : n;

#pragma GCC unroll 4
    for (int from = 0; from < n; from += step) {
        __m256i low = _mm256_setzero_si256(), high = low;
#pragma GCC unroll 8
        for (int g = from; g < from + step; g++) {
            int32_t four;
            __builtin_memcpy(&four, x + 4 * g, sizeof(four));
            const __m256i xg = _mm256_set1_epi32(four);
            if (bits == 8) {
                low = _mm256_add_epi16(low, _mm256_maddubs_epi16(_mm256_and_si256(q[g], nibble), xg));
                high = _mm256_add_epi16(high, _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(q[g], 4), nibble), xg));
            } else {
                low = _mm256_add_epi16(low, _mm256_maddubs_epi16(q[g], xg));
            }
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, ones));
        if (bits == 8)
            sum = _mm256_add_epi32(sum, _mm256_slli_epi32(_mm256_madd_epi16(high, ones), 4));
    }
    return sum;
}

INLINE __m256i offset_sum(int32_t neg_sum, int shift)
{
    return shift ? _mm256_slli_epi32(_mm256_set1_epi32(neg_sum), shift) : _mm256_setzero_si256();
}

INLINE __m256 add_block(__m256 acc, const struct format *f, const struct block *w, const struct q8_block *x)
{
    const __m256 scale = _mm256_set1_ps(x->scale);
    if (f->halves) {
        const __m256i low = dots(offset_sum(x->neg_sum_low, f->shift), w->q, x->q, 4, f->bits);
        const __m256i high = dots(offset_sum(x->neg_sum - x->neg_sum_low, f->shift), w->q + 4, x->q + 16, 4, f->bits);
        acc = _mm256_fmadd_ps(_mm256_mul_ps(w->scale[0], scale), _mm256_cvtepi32_ps(low), acc);
        if (f->minima)
            acc = _mm256_fmadd_ps(w->min[0], _mm256_set1_ps(scaled_sum_half(x, 0)), acc);
        acc = _mm256_fmadd_ps(_mm256_mul_ps(w->scale[1], scale), _mm256_cvtepi32_ps(high), acc);
        return f->minima ? _mm256_fmadd_ps(w->min[1], _mm256_set1_ps(scaled_sum_half(x, 1)), acc) : acc;
    }
    const __m256i sum = dots(offset_sum(x->neg_sum, f->shift), w->q, x->q, 8, f->bits);
    acc = _mm256_fmadd_ps(_mm256_mul_ps(w->scale[0], scale), _mm256_cvtepi32_ps(sum), acc);
    return f->minima ? _mm256_fmadd_ps(w->min[0], _mm256_set1_ps(x->scaled_sum), acc) : acc;
}

INLINE void tile(const struct piece *p, const struct format *f)
{
    const size_t block_bytes = f->panel_block / f->blocks;
    __m256 acc[TILE][2];

    for (size_t t = 0; t < p->tokens; t++)
        for (size_t half_panel = 0; half_panel < 2; half_panel++)
            acc[t][half_panel] = p->first ? _mm256_setzero_ps() : _mm256_loadu_ps(p->y + t * p->y_stride + 8 * half_panel);
    for (size_t b = 0; b < p->n_blocks; b++) {
        prefetch_for_tile(p->w, b * block_bytes, block_bytes, p->tokens, p->prefetch_once);
        for (size_t half_panel = 0; half_panel < 2; half_panel++) {
            const struct block w = f->load(p->w, b, half_panel);
            const uint8_t *x = p->x + b * sizeof(struct q8_block);
            for (size_t t = 0; t < p->tokens; t++, x += p->x_stride)
                acc[t][half_panel] = add_block(acc[t][half_panel], f, &w, (const struct q8_block *)x);
        }
    }
    for (size_t t = 0; t < p->tokens; t++)
        for (size_t half_panel = 0; half_panel < 2; half_panel++)
            _mm256_storeu_ps(p->y + t * p->y_stride + 8 * half_panel, acc[t][half_panel]);
}

/*
 * All panels pass one chunk of k after the other, so that its activations of all tokens stay in cache; sums wait in y. At least
 * 1024 k, or too much time would go into that. Few tokens: all k at once. A multiple of 8 blocks.
 */
static size_t chunk_blocks(size_t m)
{
    const size_t fit = CACHED_BYTES / (m * sizeof(struct q8_block)) / 8 * 8;
    return fit > 32 ? fit : 32;
}

INLINE void multiply(const struct matmul_args *a, const struct format *f)
{
    const size_t n_blocks = a->k / 32, panel = n_blocks / f->blocks * f->panel_block;

    if (a->m == 0)
        return;
    const size_t chunk = chunk_blocks(a->m);
    const bool once = cpu_prefetches_once();
    for (size_t b = 0; b < n_blocks; b += chunk) {
        for (size_t i = 0; i < a->n_panels; i++) {
            for (size_t t = 0; t < a->m; t += TILE) {
                const struct piece p = {
                    .tokens = a->m - t < TILE ? a->m - t : TILE,
                    .w = (const uint8_t *)a->w + i * panel + b / f->blocks * f->panel_block,
                    .n_blocks = n_blocks - b < chunk ? n_blocks - b : chunk,
                    .x = (const uint8_t *)a->x + t * a->x_stride + b * sizeof(struct q8_block), .x_stride = a->x_stride,
                    .y = a->y + t * a->y_stride + PANEL_ROWS * i, .y_stride = a->y_stride, .first = b == 0,
                    .prefetch_once = once,
                };
                tile(&p, f);
            }
        }
    }
}

#include "kernels/matmul_template.h"

void matmul_avx2(struct kernels *table)
{
    fill(table->matmul);
}
