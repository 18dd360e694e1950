/*
 * plain_model.h - a llama model's logits by the definitions alone: the other opinion on what model/ computes.
 *
 * One token at a time and one matrix at a time, in the plain C that defines a level (kernels_fill_plain()): each product gets
 * activations made for it alone, so there is no record that matrices share, no step, worker or node. Written from docs/design.md,
 * section 4; shares kernels/ and the configuration with model/, nothing else.
 */
#ifndef FOURWAY_TESTS_MODEL_PLAIN_MODEL_H
#define FOURWAY_TESTS_MODEL_PLAIN_MODEL_H

#include "kernels/kernels.h"
#include "model/config.h"
#include "model/forward.h"
#include "weights/gguf.h"

struct plain_model;

/* With default activations and a bf16 KV cache. `g` must stay open. Ends the program when it cannot. */
struct plain_model *plain_model_open(const struct gguf *g, enum isa level);
void plain_model_close(struct plain_model *p);

/* logits[n][vocab_size] of a sequence's tokens, and hidden[n][d_model], what the final norm gives. */
void plain_model_run(struct plain_model *p, const int32_t *ids, const enum token_role *roles, size_t n, float *logits, float *hidden);

#endif
