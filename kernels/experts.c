/* experts.c - the products of a mixture of experts, each expert's weights read once for all tokens that chose it. */
#include <assert.h>
#include <string.h>

#include "kernels/kernels.h"

/* Pairs [from, from + n) are one expert's: rows of x where the tokens follow one another, else copies of them. */
static const void *rows_of(const struct experts_args *a, size_t from, size_t n)
{
    const uint8_t *x = a->x;
    const uint32_t first = a->pairs[from].token;
    bool consecutive = true;

    for (size_t i = 1; i < n; i++)
        consecutive &= a->pairs[from + i].token == first + i;
    if (consecutive)
        return x + first * a->x_stride;
    for (size_t i = 0; i < n; i++)
        memcpy((uint8_t *)a->rows + i * a->x_stride, x + a->pairs[from + i].token * a->x_stride, a->x_bytes);
    return a->rows;
}

void kernels_multiply_experts(matmul_fn multiply, const struct experts_args *a)
{
    assert(a->n_rows > 0);
    for (size_t i = 0, n; i < a->n_pairs; i += n) {
        const uint32_t expert = a->pairs[i].expert;
        for (n = 1; n < a->n_rows && i + n < a->n_pairs && a->pairs[i + n].expert == expert; n++)
            ;
        const struct matmul_args args = {
            .w = a->w[expert], .x = rows_of(a, i, n), .x_stride = a->x_stride, .y = a->y + i * a->y_stride, .y_stride = a->y_stride,
            .m = n, .n_panels = a->n_panels, .k = a->k, .scratch = a->scratch, .prepared = a->prepared,
        };
        multiply(&args);
    }
}
