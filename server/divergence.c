#include "server/divergence.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

int divergence_create(struct divergence *d, size_t n, size_t n_vocab)
{
    *d = (struct divergence){ .cap = n, .n_vocab = n_vocab, .kl = calloc(n, sizeof(double)) };
    return d->kl ? 0 : -ENOMEM;
}

void divergence_destroy(struct divergence *d)
{
    free(d->kl);
    d->kl = NULL;
}

bool divergence_add(struct divergence *d, const struct logprob_row *base, const float *logits, double log_sum_exp, int32_t best,
                    int32_t next)
{
    const double nll = log_sum_exp - (double)logits[next];
    const double base_nll = -(double)(base->scale * base->levels[next] + base->least);
    const double p_diff = exp(-nll) - exp(-base_nll);
    size_t base_best = 0;
    double kl = 0;

    assert(d->n < d->cap);
    for (size_t i = 0; i < d->n_vocab; i++) {
        const float logprob = base->scale * base->levels[i] + base->least;
        if (base->levels[i] > base->levels[base_best])
            base_best = i;
        if (logprob > -16.0f)
            kl += (double)expf(logprob) * ((double)logprob - (double)logits[i] + log_sum_exp);
    }
    if (!isfinite(kl) || !isfinite(nll))
        return false;
    d->kl[d->n++] = kl;
    d->n_same_top += base_best == (size_t)best;
    d->nll += nll;
    d->nll2 += nll * nll;
    d->base_nll += base_nll;
    d->base_nll2 += base_nll * base_nll;
    d->nll_base_nll += nll * base_nll;
    d->p_diff += p_diff;
    d->p_diff2 += p_diff * p_diff;
    d->p_diff4 += p_diff * p_diff * p_diff * p_diff;
    return true;
}

struct estimate estimate_mean(double sum, double sum_squares, size_t n)
{
    const double mean = sum / (double)n, variance = sum_squares / (double)n - mean * mean;

    return (struct estimate){ mean, n > 1 && variance > 0 ? sqrt(variance / (double)(n - 1)) : 0 };
}

/* exp of a mean; its error by the derivative. */
static struct estimate exp_of(struct estimate e)
{
    return (struct estimate){ exp(e.value), exp(e.value) * e.error };
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Between two neighbours where the place falls between them. */
static double quantile(const double *sorted, size_t n, double share)
{
    const double place = share * (double)(n - 1);
    const size_t i = (size_t)place, next = i + 1 < n ? i + 1 : i;

    return sorted[i] + (place - (double)i) * (sorted[next] - sorted[i]);
}

void divergence_summarise(struct divergence *d, struct divergence_summary *s)
{
    const double n = (double)d->n, same = (double)d->n_same_top / n;
    const struct estimate nll = estimate_mean(d->nll, d->nll2, d->n), base = estimate_mean(d->base_nll, d->base_nll2, d->n);
    const struct estimate square = estimate_mean(d->p_diff2, d->p_diff4, d->n);
    double kl = 0, kl2 = 0;

    for (size_t i = 0; i < d->n; i++) {
        kl += d->kl[i];
        kl2 += d->kl[i] * d->kl[i];
    }
    qsort(d->kl, d->n, sizeof(*d->kl), compare_doubles);
    /* Both see the same text: the error of the ratio is that of the difference of two values that go together. */
    const double covariance = d->n > 1 ? (d->nll_base_nll / n - nll.value * base.value) / (n - 1) : 0;
    const double variance = nll.error * nll.error + base.error * base.error - 2 * covariance;
    const double rms = sqrt(square.value);
    *s = (struct divergence_summary){
        .perplexity = exp_of(nll),
        .base_perplexity = exp_of(base),
        .perplexity_ratio = exp_of((struct estimate){ nll.value - base.value, variance > 0 ? sqrt(variance) : 0 }),
        .kl = estimate_mean(kl, kl2, d->n),
        .kl_median = quantile(d->kl, d->n, 0.5),
        .kl_p99 = quantile(d->kl, d->n, 0.99),
        .kl_max = d->kl[d->n - 1],
        .same_top = { same, d->n > 1 ? sqrt(same * (1 - same) / (n - 1)) : 0 },
        .p_diff = estimate_mean(d->p_diff, d->p_diff2, d->n),
        .rms_p_diff = { rms, rms > 0 ? 0.5 / rms * square.error : 0 },
    };
}
