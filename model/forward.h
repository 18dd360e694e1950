/*
 * forward.h - one step of a batch: tokens of several sequences in, logits or hidden states out.
 *
 * A row's bits depend on its own sequence and the role of its tokens alone: not on batch mates, chunking, nodes or threads
 * (docs/design.md 4).
 */
#ifndef FOURWAY_MODEL_FORWARD_H
#define FOURWAY_MODEL_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/kv_cache.h"
#include "model/model.h"

/* Whether a token came with the request or was drawn. It keeps its role when it is computed again, after a preemption or a replay. */
enum token_role { ROLE_PROMPT, ROLE_GENERATED, ROLE_COUNT };

struct step_token {
    int32_t id;
    uint32_t position;                      /* < n_ctx; a page is reserved for it */
    const struct kv_sequence *sequence;
    bool wants_logits;
    uint32_t rope_length;                   /* rope_length() of its sequence's prompt */
    bool wants_hidden;                      /* the hidden state after the final norm, as the output matrix gets it */
    enum token_role role;
};

/*
 * Compute tokens[n], n in 1..max_step_tokens, at most max_step_logits of which want logits and max_step_hidden their hidden state. Tokens
 * of one sequence stand together in ascending positions, and all earlier positions of the sequence were computed by former steps. Called
 * by one thread at a time.
 */
void model_step(struct model *m, const struct step_token *tokens, size_t n);

/* Row i: the i-th token of the last step that wanted logits. float[vocab_size], and its statistics by segment, valid until the next
 * step. */
const float *model_logits(const struct model *m, size_t i);
const struct segment_stats *model_logit_stats(const struct model *m, size_t i, size_t *n_segments);

/* Row i: the i-th token of the last step that wanted its hidden state. float[d_model] before any rounding to activations, valid until the
 * next step. */
const float *model_hidden(const struct model *m, size_t i);

/* Pages of this model's KV cache. */
struct kv_cache *model_kv_cache(struct model *m);

#endif
