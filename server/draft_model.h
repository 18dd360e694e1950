/*
 * draft_model.h - drafts from a smaller model with the same vocabulary, on the same workers.
 *
 * It reads what the sequence has, and then draws token by token with the sequence's own settings and numbers of draws: where it thinks as
 * the large model does, it draws the same token at any temperature. Its KV cache holds as many tokens as the large model's; a sequence that
 * finds no pages there is not drafted for. The batcher's thread alone uses it.
 */
#ifndef FOURWAY_SERVER_DRAFT_MODEL_H
#define FOURWAY_SERVER_DRAFT_MODEL_H

#include "model/model.h"
#include "server/scheduler.h"

struct draft_model;

/*
 * Open the model in `g` (open until draft_model_close) beside `large`, which stays open for longer. Returns 0, an error of model_open
 * (logged), -ENOMEM, or -EINVAL where the vocabulary has another size (not logged: served_model_open_draft() has compared the tokens).
 */
int draft_model_open(struct draft_model **d, const struct gguf *g, const struct model_options *o, struct model *large);
void draft_model_close(struct draft_model *d);

/* Mean time of one of its steps, for all sequences together; 0: none was run. */
double draft_model_step_ns(const struct draft_model *d);

/*
 * Write up to wanted[i] drafts behind the known tokens of sequences[i], and set its n_draft. All of them decode. A long text is read in
 * parts, one a call: until it is read there are none.
 */
void draft_model_run(struct draft_model *d, struct sequence *const *sequences, const size_t *wanted, size_t n);

/* The sequence leaves: its pages here are free again. */
void draft_model_forget(struct draft_model *d, struct sequence *s);

#endif
