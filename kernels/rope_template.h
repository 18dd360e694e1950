/*
 * rope_template.h - rotary position embedding for a level's vec.h, 16 pairs at a time. scalar/rope.c is the definition.
 */
#include "kernels/kernels_internal.h"

static void rope(float *x, const float *cos, const float *sin, size_t n)
{
    const size_t n_pairs = n / 2;

    for (size_t j = 0; j < n_pairs; j += VEC_LANES) {
        const size_t lanes = vec_lanes(n_pairs - j);
        vec a = vec_load_first(x + j, lanes), b = vec_load_first(x + n_pairs + j, lanes);
        vec c = vec_load_first(cos + j, lanes), s = vec_load_first(sin + j, lanes);
        vec_store_first(x + j, vec_fma(a, c, vec_neg(vec_mul(b, s))), lanes);
        vec_store_first(x + n_pairs + j, vec_fma(b, c, vec_mul(a, s)), lanes);
    }
}
