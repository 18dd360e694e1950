/*
 * matmul_internal.h - what the kernels for quantised weights of all levels share. Include after the level's blocks.h, which defines
 * load_fn.
 */
#ifndef FOURWAY_KERNELS_MATMUL_INTERNAL_H
#define FOURWAY_KERNELS_MATMUL_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels_internal.h"

/* How weights of a type are read, and what a block adds to a sum besides its dot. A constant wherever it is used. */
struct format {
    load_fn load;
    size_t panel_block, blocks;         /* bytes of a panel block, and 32-wide blocks in it */
    int bits;                           /* of a quant */
    int shift;                          /* log2 of the quants' offset; 0: none */
    bool minima, halves;                /* block.extra: minima; the scale of k 16..31 */
};

/*
 * Weights are read so slowly, with several tokens, that the processor's own prefetcher falls asleep; nor does it pass the end of
 * a page. 8 KiB ahead: of 1 to 24 KiB the best over all types (Zen 5, one thread, GB/s of weights at 1, 2, 4 and 8 tokens, Q4_0:
 * 4 KiB 42, 40, 33, 22; 6 KiB 43, 42, 38, 25; 8 KiB 41, 41, 40, 25; 12 KiB 40, 39, 40, 21). Past the end of the weights it does nothing.
 * The lines of `bytes` bytes from w + offset.
 */
enum { PREFETCH_BYTES = 8192 };

INLINE void prefetch_weights(const uint8_t *w, size_t offset, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch(prefetch_address(w, offset + i), _MM_HINT_T0);
}

/* The same into L2 only, where activations of many tokens fill L1 (Zen 4, Q8_0, eight tokens: 200 to 300 GOP/s). */
INLINE void prefetch_weights_l2(const uint8_t *w, size_t offset, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch(prefetch_address(w, offset + i), _MM_HINT_T1);
}

#endif
