/*
 * golden.h - reference logits (made by transformers in float32 from the same file's weights) and a model to compare with them.
 *
 * A golden file holds prompts; each has ids, the 8 most likely next tokens with their logprobs after each position, and the greedy
 * continuation with the gap between its first and second choice.
 */
#ifndef FOURWAY_TESTS_MODEL_GOLDEN_H
#define FOURWAY_TESTS_MODEL_GOLDEN_H

#include <jansson.h>

#include "model/forward.h"
#include "model/sampler.h"

/* Open the model with contexts of 512 tokens and logits for up to 128 rows of a step. Returns NULL on failure (logged). */
struct model *golden_open(const char *path, const struct model_options *o);

/* Read ids[n], tokens of `role`, as positions first .. first + n - 1, at most `chunk` a step; visit() gets each row of logits. */
typedef void (*golden_visit)(void *arg, size_t position, const float *logits, struct logits_norm norm);
void golden_read(struct model *m, struct kv_sequence *s, enum token_role role, const int32_t *ids, size_t n, size_t first, size_t chunk,
                 golden_visit visit, void *arg);

/* ids of a JSON array; free() them. */
int32_t *golden_ids(const json_t *array, size_t *n);

#endif
