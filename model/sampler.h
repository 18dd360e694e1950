/*
 * sampler.h - logits to a token. Order: ids that are not allowed, logit bias, penalties, temperature, top-k, top-p, min-p, draw.
 *
 * Every draw is numbered by (seed, choice, position), a second one at the same position by SAMPLER_SECOND_DRAW too: a counter-based
 * generator without state, so that a replay draws the same numbers whatever else ran. Ties break to the lower id; probabilities accumulate
 * in id order, in double (without filters: blocks of 256 ids first).
 * Logprobs are the log-softmax of the raw logits, from the statistics of the vocabulary segments merged in id order.
 */
#ifndef FOURWAY_MODEL_SAMPLER_H
#define FOURWAY_MODEL_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum { SAMPLER_MAX_TOP = 20 };
#define SAMPLER_SECOND_DRAW ((uint64_t)1 << 63)
#define SAMPLER_GREEDY 1e-5f        /* temperatures below it */

struct logit_bias { int32_t id; float bias; };      /* -INFINITY: never */

struct sampling {
    float temperature;          /* < SAMPLER_GREEDY: greedy */
    int32_t top_k;              /* <= 0: off */
    float top_p;                /* (0, 1]; 1: off */
    float min_p;                /* [0, 1]; 0: off */
    float repetition_penalty;   /* 1: off; prompt and generated tokens. Keskar et al. 2019, arXiv:1909.05858 */
    float presence_penalty, frequency_penalty;  /* 0: off; generated tokens only */
    uint64_t seed;
    uint32_t choice;            /* index of this choice within its prompt */
    const struct logit_bias *bias;
    size_t n_bias;
};

/* Only some of the ids that are allowed may be drawn: the best, or those that together have enough. */
bool sampling_filters(const struct sampling *s, size_t n_vocab);

struct token_logprob { int32_t id; float logprob; };

/* The normalisation of one row of logits: log-softmax(x) = x - log_sum_exp. */
struct logits_norm {
    double log_sum_exp;         /* NaN when a logit is NaN or +infinity, or none is finite: the request fails (corrupted_output) */
    float max;
    int32_t argmax;
};
struct logits_norm sampler_norm(const struct segment_stats *segments, size_t n_segments);

/* The `n` best ids of logits[n_vocab] by value, ties to the lower id, with their logprobs, best first. n <= SAMPLER_MAX_TOP;
 * entries beyond n_vocab have id -1. */
void sampler_top(const float *logits, size_t n_vocab, struct logits_norm norm, size_t n, struct token_logprob *out);
float sampler_logprob(const float *logits, struct logits_norm norm, int32_t id);

/*
 * Choose the token at `position` (index in the sequence, prompt included; with SAMPLER_SECOND_DRAW: once more). tokens[n_tokens]: prompt
 * and generated so far, the first n_prompt of them the prompt (for penalties). banned[n_banned]: ids that may not be drawn here (end tokens before min_tokens).
 * allowed: a bit for each id that may be, in words of 64 ids; NULL: all.
 * scratch: sampler_scratch_bytes(n_vocab), a multiple of 64; aligned to 8. Ids in bias and banned that do not exist are ignored.
 * Returns the id, or -1 when every id is banned or norm.log_sum_exp is NaN.
 */
int32_t sampler_draw(const struct sampling *s, const float *logits, size_t n_vocab, struct logits_norm norm, uint64_t position,
                     const int32_t *tokens, size_t n_tokens, size_t n_prompt, const int32_t *banned, size_t n_banned,
                     const uint64_t *allowed, void *scratch);
size_t sampler_scratch_bytes(size_t n_vocab);

/* Uniform in [0, 1) with 53 bits; a counter-based generator (Philox 4x32-10: Salmon et al., SC 2011). */
double sampler_uniform(uint64_t seed, uint32_t choice, uint64_t position);

#endif
