/*
 * matmul_internal.h - what the kernels for quantised weights of all levels share. Include after the level's blocks.h, which defines
 * load_fn.
 */
#ifndef FOURWAY_KERNELS_MATMUL_INTERNAL_H
#define FOURWAY_KERNELS_MATMUL_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu.h"
#include "kernels/kernels_internal.h"

/* How weights of a type are read, and what a block adds to a sum besides its dot. A constant wherever it is used. */
struct format {
    load_fn load;
    size_t panel_block, blocks;         /* bytes of a panel block, and 32-wide blocks in it */
    int bits;                           /* of a quant, as it is multiplied */
    int shift;                          /* log2 of the quants' offset; 0: none */
    bool minima, halves;                /* block.min; scales (and minima) of their own for k 16..31 */
};

INLINE int format_offset(const struct format *f)
{
    return f->shift ? 1 << f->shift : 0;
}

/* scaled_sum of k 0..15 or 16..31 alone, for minima of halves. */
INLINE float scaled_sum_half(const struct q8_block *x, int part)
{
    return x->scale * (float)(part ? x->neg_sum_low - x->neg_sum : -x->neg_sum_low);
}

/*
 * Weights are read so slowly, with several tokens, that the processor's own prefetcher falls asleep; nor does it pass the end of
 * a page. They come into L2 8 KiB before they are needed, and into L1 2 KiB before. Past the end of the weights this does nothing.
 * GB/s of weights with one thread, Q4_0 at 1, 2, 4 and 8 tokens:
 *     Zen 5 (reads 43), into L1 alone           4 KiB 42, 40, 33, 22; 6 KiB 43, 42, 38, 25; 8 KiB 41, 41, 40, 25; 12 KiB 40, 39, 40, 21
 *     Xeon of the 5th generation (reads 17.5)   none 10.2, 8.8, 7.3, 6.2; L1 at 8 KiB 14.8, 14.4, 13.5, 10.8; L1 at 2 KiB 13.9, 12.5, 10.9,
 *                                               9.5; L2 at 8 KiB 16.1, 15.2, 14.0, 11.9; L2 at 8 and L1 at 2 KiB 17.4, 16.9, 14.4, 10.5
 * Where memory is fast for a core, the second prefetch of every line costs an AMD processor more than it brings one token. Zen 4, avx512, two
 * threads (reads 57 to 61), one token of Q4_0, Q8_0, Q4_K, Q5_K, Q6_K:
 *     both 45, 49, 46, 51, 47; L1 alone at 4 KiB 61, 58, 56, 56, 50; at 6 KiB 61, 55, 56, 58, 54; at 8 KiB 58, 55, 55, 58, 54
 *     two tokens: both 49, 44, 55, 56, 55; L1 alone at 4 KiB 54, 54, 50, 51, 49
 */
enum {
    PREFETCH_L2_BYTES = 8192, PREFETCH_L1_BYTES = 2048,
    PREFETCH_L1_TOKENS = 7,             /* the activations of more fill L1: weights come into L2 only */
    PREFETCH_ONCE_BYTES = 6144,         /* AMD, one token: into L1 alone */
};

INLINE void prefetch_weights_l1(const uint8_t *w, size_t offset, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch(prefetch_address(w, offset + i), _MM_HINT_T0);
}

/* The lines of w[offset .. offset + bytes - 1] into L2 only: where activations of many tokens fill L1 (Zen 4, Q8_0, eight tokens: 200 to
 * 300 GOP/s). */
INLINE void prefetch_weights_l2(const uint8_t *w, size_t offset, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch(prefetch_address(w, offset + i), _MM_HINT_T1);
}

/* Those at the two distances behind w + offset. */
INLINE void prefetch_weights(const uint8_t *w, size_t offset, size_t bytes)
{
    prefetch_weights_l2(w, offset + PREFETCH_L2_BYTES, bytes);
    prefetch_weights_l1(w, offset + PREFETCH_L1_BYTES, bytes);
}

/* What is due when w[offset .. offset + bytes - 1] is about to meet a tile of tokens. once: cpu_prefetches_once(). */
INLINE void prefetch_for_tile(const uint8_t *w, size_t offset, size_t bytes, const size_t tokens, bool once)
{
    if (tokens == 1 && once)
        prefetch_weights_l1(w, offset + PREFETCH_ONCE_BYTES, bytes);
    else if (tokens <= PREFETCH_L1_TOKENS)
        prefetch_weights(w, offset, bytes);
    else
        prefetch_weights_l2(w, offset + PREFETCH_L2_BYTES, bytes);
}

#endif
