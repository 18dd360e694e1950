/*
 * load_convert.c - weights in another type than the file has, made while they are loaded (--type).
 *
 * A panel of the file's type is the decoder: kernels/ alone knows the layouts. Each row is decoded from it exactly and quantised as
 * `fourway quantize` does it, so that the panels are those of the file which that would have written.
 */
#include <string.h>

#include "model/model_internal.h"
#include "weights/quantize.h"

static size_t new_row_bytes(const struct matrix *x)
{
    return x->k / dtype_info(x->type)->block * dtype_info(x->type)->block_bytes;
}

/* A panel of the file's type, a row of values, 16 rows of the new type. */
size_t convert_bytes(const struct matrix *x)
{
    if (x->type == (enum dtype)x->tensor->type)
        return 0;
    return round_up(panel_bytes(x->tensor->type, x->k_padded), 64) + round_up(x->k_padded * sizeof(float), 64) +
           PANEL_ROWS * new_row_bytes(x);
}

void convert_panel(const struct matrix *x, unsigned char *panel, const void *const rows[PANEL_ROWS], unsigned char *scratch, unsigned *bad,
                   unsigned *too_large)
{
    const enum dtype from = x->tensor->type;
    float *values = (float *)(scratch + round_up(panel_bytes(from, x->k_padded), 64));
    unsigned char *blocks = (unsigned char *)values + round_up(x->k_padded * sizeof(float), 64);
    const void *converted[PANEL_ROWS];

    *bad = panel_pack(from, scratch, rows, x->k);
    *too_large = 0;
    for (unsigned r = 0; r < PANEL_ROWS; r++) {
        unsigned char *row = blocks + r * new_row_bytes(x);
        converted[r] = rows[r] ? row : NULL;
        if (!rows[r])
            continue;
        panel_unpack_row(from, scratch, r, x->k_padded, values);
        if (quantize_values(x->type, row, values, x->k))
            continue;
        *too_large |= ~*bad & 1u << r;
        memset(row, 0xff, new_row_bytes(x));        /* NaN, as its values or its scale */
    }
    panel_pack(x->type, panel, converted, x->k);
}
