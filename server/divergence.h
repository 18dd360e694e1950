/*
 * divergence.h - how far a model's probabilities are from a reference's: KL divergence and its companions, over many positions.
 *
 * By the method of llama.cpp's llama-perplexity --kl-divergence, so that figures can be compared: at each position the sum of
 * p ln(p / q) over the tokens whose reference probability p is above e^-16.
 */
#ifndef FOURWAY_SERVER_DIVERGENCE_H
#define FOURWAY_SERVER_DIVERGENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/logprob_file.h"

struct divergence {
    size_t n, cap, n_vocab, n_same_top;
    double *kl;                 /* [cap], in the order of the text until the summary sorts it */
    double nll, nll2, base_nll, base_nll2, nll_base_nll;
    double p_diff, p_diff2, p_diff4;
};

/* A mean, and the standard error of it. */
struct estimate { double value, error; };

struct divergence_summary {
    struct estimate perplexity, base_perplexity, perplexity_ratio;
    struct estimate kl, same_top, p_diff, rms_p_diff;
    double kl_median, kl_p99, kl_max;
};

/* Room for `n` positions. Returns 0 or -ENOMEM. */
int divergence_create(struct divergence *d, size_t n, size_t n_vocab);
void divergence_destroy(struct divergence *d);

/*
 * One position: the reference's row; the model's logits[n_vocab] with their log_sum_exp and best id; the token that follows in the
 * text. False when the divergence is not finite: the model gives no probability to a token that the reference does.
 */
bool divergence_add(struct divergence *d, const struct logprob_row *base, const float *logits, double log_sum_exp, int32_t best,
                    int32_t next);

/* At least one position was added. */
void divergence_summarise(struct divergence *d, struct divergence_summary *s);

/* sum / n, and the standard error of that mean; 0 for a single value. */
struct estimate estimate_mean(double sum, double sum_squares, size_t n);

#endif
