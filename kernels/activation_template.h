/*
 * activation_template.h - the gate of the feed-forward network for a level's vec.h, 16 lanes at a time.
 * scalar/activation.c is the definition.
 */
#include "kernels/functions.h"
#include "kernels/kernels_internal.h"

static void silu_mul(float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec_store_first(g + i, vec_mul(vec_silu(vec_load_first(g + i, lanes)), vec_load_first(u + i, lanes)), lanes);
    }
}

static void gelu_mul(float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec_store_first(g + i, vec_mul(vec_gelu(vec_load_first(g + i, lanes)), vec_load_first(u + i, lanes)), lanes);
    }
}
