/*
 * unpack.h - panels as the row-major matrix w[k][16 n_panels] that libraries take.
 */
#ifndef FOURWAY_KERNELS_PROVIDERS_UNPACK_H
#define FOURWAY_KERNELS_PROVIDERS_UNPACK_H

#include <string.h>

#include "kernels/panels.h"

/* Values of any type as float32, exact. */
static inline void unpack_float(float *out, enum dtype type, const unsigned char *panels, size_t n_panels, size_t k)
{
    const size_t bytes = panel_bytes(type, k), columns = n_panels * PANEL_ROWS;
    float block[32][PANEL_ROWS];

    for (size_t p = 0; p < n_panels; p++)
        for (size_t i = 0; i < k; i += 32) {
            panel_unpack_block(type, panels + p * bytes, i / 32, block);
            for (size_t j = 0; j < 32; j++)
                memcpy(out + (i + j) * columns + p * PANEL_ROWS, block[j], sizeof(block[j]));
        }
}

#endif
