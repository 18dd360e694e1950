/*
 * block_internal.h - one row's share of a panel block, as plain integers: what the quants of every type mean.
 *
 * Used where a block is read in plain C: by the definition in scalar/ and when panels are unpacked to floats.
 */
#ifndef FOURWAY_KERNELS_BLOCK_INTERNAL_H
#define FOURWAY_KERNELS_BLOCK_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/dtype.h"

/* The weight of k = i is scale[i / 16] * (q[i] - offset) + min[i / 16]. */
struct row_block {
    float scale[2];
    float min[2];
    uint8_t q[32];
};

struct quant_traits {
    uint8_t bits, offset;
    bool minima;            /* a constant is added; otherwise min is not used at all (-0.0 + 0.0 would be +0.0) */
    bool halves;            /* scale[0] and scale[1] differ, and so do the minima */
};

/* Of a quantised type; NULL for a plain one. */
const struct quant_traits *quant_traits(enum dtype type);

/* Row `row`, k = 32 block .. 32 block + 31 of a panel of a quantised type. */
void block_unpack_row(enum dtype type, const void *panel, size_t block, unsigned row, struct row_block *out);

#endif
