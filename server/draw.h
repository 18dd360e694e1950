/*
 * draw.h - the next token of a text, from a row of logits: by the sampler, and by a grammar where the request has one.
 */
#ifndef FOURWAY_SERVER_DRAW_H
#define FOURWAY_SERVER_DRAW_H

#include "model/sampler.h"
#include "server/matcher.h"

/* A text, and how its next token is drawn. All pointers are the caller's. */
struct draw {
    const struct sampling *sampling;
    const int32_t *tokens;          /* [n_tokens], the first n_prompt of them the prompt */
    size_t n_tokens, n_prompt;
    const int32_t *end_ids;         /* [n_end_ids] tokens that end it; not to be drawn yet if it is `early` */
    size_t n_end_ids;
    bool early;
    struct matcher *matcher;        /* NULL: everything is allowed */
    struct matcher_place *place;    /* of the generated text */
    uint64_t *mask;                 /* [matcher_mask_words(n_vocab)] scratch, with a matcher */
    void *scratch;                  /* sampler_scratch_bytes(n_vocab) */
};

/* The id; -1: norm.log_sum_exp is NaN, none may be drawn, or the text does not fit its grammar. */
int32_t draw_token(const struct draw *d, const float *logits, size_t n_vocab, struct logits_norm norm);

#endif
