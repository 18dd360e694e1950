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

#endif
