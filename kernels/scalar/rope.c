/*
 * scalar/rope.c - rotary position embedding of one head (Su et al. 2021, arXiv:2104.09864), on pairs half a head apart.
 */
#include <math.h>

#include "kernels/kernels_internal.h"

static void rope(float *x, const float *cos, const float *sin, size_t n)
{
    const size_t n_pairs = n / 2;

    for (size_t j = 0; j < n_pairs; j++) {
        float a = x[j], b = x[j + n_pairs];
        x[j] = fmaf(a, cos[j], -(b * sin[j]));
        x[j + n_pairs] = fmaf(b, cos[j], a * sin[j]);
    }
}

void rope_scalar(struct kernels *table)
{
    table->rope = rope;
}
