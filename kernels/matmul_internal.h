/*
 * matmul_internal.h - what a level's tile of quantised weights gets. Include after the level's blocks.h, which defines load_fn.
 *
 * A tile is one panel by a few tokens: a block's quants stay in registers while the activations of one token after the
 * other pass. matmul_template.h cuts a product into tiles.
 */
#ifndef FOURWAY_KERNELS_MATMUL_INTERNAL_H
#define FOURWAY_KERNELS_MATMUL_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How weights of a type are read, and what a block adds to a sum besides its dot. A constant wherever it is used. */
struct format {
    load_fn load;
    size_t panel_block, blocks;         /* bytes of a panel block, and 32-wide blocks in it */
    int bits;                           /* of a quant */
    int shift;                          /* log2 of the quants' offset; 0: none */
    bool minima, halves;                /* block.extra: minima; the scale of k 16..31 */
};

/* n_blocks of one panel, from some block on, by tokens that follow one another. */
struct piece {
    size_t tokens;                      /* at most TILE */
    const void *w;
    size_t n_blocks;
    const uint8_t *x;                   /* q8_block of the first block and token */
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool first;                         /* the sums start at zero, not at y */
};

/*
 * Weights are read so slowly, with several tokens, that the processor's own prefetcher falls asleep; nor does it pass the end of
 * a page. 6 KiB ahead: of 1 to 8 KiB the best over all types (Zen 4, one thread: Q6_K, one token 11 to 30 GB/s; Q4_0,
 * eight tokens 217 to 337 GOP/s). From eight tokens on their activations fill L1 and weights come to L2 only (Q8_0, eight
 * tokens: 200 to 300 GOP/s). Past the end of the weights it does nothing.
 */
enum { PREFETCH_BYTES = 6144, PREFETCH_L1_TOKENS = 7 };

INLINE void prefetch_block(const struct format *f, const struct piece *p, size_t b)
{
    const size_t bytes = f->panel_block / f->blocks;
    const char *ahead = (const char *)p->w + b * bytes + PREFETCH_BYTES;
    if (p->tokens <= PREFETCH_L1_TOKENS) {
        for (size_t i = 0; i < bytes; i += 64)
            _mm_prefetch(ahead + i, _MM_HINT_T0);
    } else {
        for (size_t i = 0; i < bytes; i += 64)
            _mm_prefetch(ahead + i, _MM_HINT_T1);
    }
}

#endif
