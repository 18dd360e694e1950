/*
 * matmul_f8_internal.h - what a level gets to multiply of F8_E4M3 weights: a chunk of some panels, and tokens. Included before the
 * level's functions on it, which matmul_f8_template.h calls.
 */
#ifndef FOURWAY_KERNELS_MATMUL_F8_INTERNAL_H
#define FOURWAY_KERNELS_MATMUL_F8_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels_internal.h"

enum { F8_PREFETCH_BYTES = 2048 };          /* ahead, of each panel: the next chunk */

struct f8_piece {
    void *scratch;
    const uint8_t *w;           /* a struct panel_f8_e4m3 */
    size_t panel_bytes;         /* to that of the next panel */
    size_t k;                   /* at most F8_CHUNK */
    const uint8_t *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    size_t panels, tokens;      /* of the tile */
    size_t m;                   /* tokens in all */
    bool first;
    bool bf16_x;                /* a constant wherever it is used */
};

INLINE const struct panel_f8_e4m3 *f8_chunk(const struct f8_piece *p, size_t panel)
{
    return (const struct panel_f8_e4m3 *)(p->w + panel * p->panel_bytes);
}

#endif
