/*
 * tiny_model.h - a small model file with random weights of every type that can be multiplied.
 *
 * Enough of each part that matters for placement and numerics: several KV heads of several query heads, a vocabulary of several segments
 * with a ragged last one, an FFN that does not divide evenly, K-quants and plain types. `gemma` gives the other architecture: QK-norm, sliding
 * windows, post-norms, tied output, one KV head.
 */
#ifndef FOURWAY_TESTS_MODEL_TINY_MODEL_H
#define FOURWAY_TESTS_MODEL_TINY_MODEL_H

#include <stdbool.h>

enum { TINY_VOCAB = 600 };

/* Writes the file; ends the program when it cannot. The same bytes every time. */
void tiny_model_write(const char *path, bool gemma);

#endif
