/*
 * scalar/logits.c - the last step before the sampler: soft cap, and statistics of a vocabulary segment.
 */
#include <math.h>

#include "kernels/kernels_internal.h"
#include "kernels/scalar/reduce.h"
#include "kernels/scalar/vec.h"

#include "kernels/functions.h"

static void softcap(float *x, float cap, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = cap * vec_tanh(x[i] / cap);
}

static void segment_stats(struct segment_stats *out, const float *logits, size_t n)
{
    float partial[16] = { 0 };
    size_t best = 0;

    for (size_t i = 0; i < n; i++) {
        if (isnan(logits[i])) {
            *out = (struct segment_stats){ .max = NAN, .argmax = 0, .sum = NAN };
            return;
        }
        if (logits[i] > logits[best])
            best = i;
    }
    out->max = logits[best];
    out->argmax = (int32_t)best;
    if (isinf(out->max)) {
        out->sum = out->max > 0 ? NAN : 0;      /* infinity - infinity is no distance; without a finite logit there is no mass */
        return;
    }
    for (size_t i = 0; i < n; i++)
        partial[i % 16] += vec_exp(logits[i] - out->max);
    out->sum = reduce_sum(partial);
}

void logits_scalar(struct kernels *table)
{
    table->softcap = softcap;
    table->segment_stats = segment_stats;
}
