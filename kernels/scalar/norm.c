/*
 * scalar/norm.c - RMS norm and the elementwise sums of the residual stream.
 */
#include <math.h>

#include "kernels/kernels_internal.h"
#include "kernels/scalar/reduce.h"

static void rms_norm(float *y, const float *x, const float *w, float eps, size_t n)
{
    float partial[16] = { 0 };

    for (size_t i = 0; i < n; i++)
        partial[i % 16] = fmaf(x[i], x[i], partial[i % 16]);

    float r = 1.0f / sqrtf(reduce_sum(partial) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void scale(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

void norm_scalar(struct kernels *table)
{
    table->rms_norm = rms_norm;
    table->add = add;
    table->scale = scale;
}
