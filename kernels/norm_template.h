/*
 * norm_template.h - RMS norm and elementwise sums for a level's vec.h, 16 lanes at a time. scalar/norm.c is the definition.
 */
#include <math.h>

#include "kernels/kernels_internal.h"

static void rms_norm(float *y, const float *x, const float *w, float eps, size_t n)
{
    vec sum = vec_set(0);

    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec a = vec_load_first(x + i, lanes);       /* lanes past the end add +0, which changes no sum of squares */
        sum = vec_fma(a, a, sum);
    }
    const vec r = vec_set(1.0f / sqrtf(vec_sum(sum) / (float)n + eps));
    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec a = vec_mul(vec_load_first(x + i, lanes), r);
        vec_store_first(y + i, vec_mul(a, vec_load_first(w + i, lanes)), lanes);
    }
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec_store_first(x + i, vec_add(vec_load_first(x + i, lanes), vec_load_first(y + i, lanes)), lanes);
    }
}

static void scale(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec_store_first(x + i, vec_mul(vec_load_first(x + i, lanes), vec_set(factor)), lanes);
    }
}
