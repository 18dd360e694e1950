/*
 * scalar/activation.c - the gate of the feed-forward network, and exp for the few places outside kernels/.
 */
#include "kernels/kernels_internal.h"
#include "kernels/scalar/vec.h"

#include "kernels/functions.h"

float kernels_expf(float x)
{
    return vec_exp(x);
}

static void silu_mul(float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++)
        g[i] = vec_silu(g[i]) * u[i];
}

static void gelu_mul(float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++)
        g[i] = vec_gelu(g[i]) * u[i];
}

void activation_scalar(struct kernels *table)
{
    table->silu_mul = silu_mul;
    table->gelu_mul = gelu_mul;
}
