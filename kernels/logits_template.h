/*
 * logits_template.h - soft cap and statistics of a vocabulary segment for a level's vec.h, 16 lanes at a time.
 * scalar/logits.c is the definition.
 */
#include <math.h>

#include "kernels/functions.h"
#include "kernels/kernels_internal.h"

static void softcap(float *x, float cap, size_t n)
{
    const vec c = vec_set(cap);

    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec_store_first(x + i, vec_mul(c, vec_tanh(vec_div(vec_load_first(x + i, lanes), c))), lanes);
    }
}

static size_t find_first(const float *x, size_t n, float value)
{
    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        const unsigned equal = vmask_bits(vec_equal(vec_load_first(x + i, lanes), vec_set(value))) & ((1u << lanes) - 1);
        if (equal)
            return i + (size_t)__builtin_ctz(equal);
    }
    return 0;
}

static void segment_stats(struct segment_stats *out, const float *logits, size_t n)
{
    vec max = vec_set(-INFINITY), sum = vec_set(0);
    unsigned nans = 0;

    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec x = vec_load_first(logits + i, lanes);
        nans |= vmask_bits(vec_is_nan(x));
        max = vec_max(vec_select(vmask_first(lanes), x, max), max);
    }
    if (nans) {
        *out = (struct segment_stats){ .max = NAN, .argmax = 0, .sum = NAN };
        return;
    }
    const size_t best = find_first(logits, n, vec_largest(max));
    out->max = logits[best];        /* not the lanes' maximum, whose zero may have the other sign */
    out->argmax = (int32_t)best;
    if (isinf(out->max)) {
        out->sum = out->max > 0 ? NAN : 0;
        return;
    }
    for (size_t i = 0; i < n; i += VEC_LANES) {
        const size_t lanes = vec_lanes(n - i);
        vec e = vec_exp(vec_sub(vec_load_first(logits + i, lanes), vec_set(out->max)));
        sum = vec_add(sum, vec_select(vmask_first(lanes), e, vec_set(0)));
    }
    out->sum = vec_sum(sum);
}
