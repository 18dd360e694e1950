/*
 * tiny_model.h - a small model file with random weights of every type that can be multiplied.
 *
 * Enough of each part that matters for placement and numerics: several KV heads of several query heads, a vocabulary of several segments
 * with a ragged last one, K-quants and plain types.
 */
#ifndef FOURWAY_TESTS_MODEL_TINY_MODEL_H
#define FOURWAY_TESTS_MODEL_TINY_MODEL_H

#include <stdint.h>

#include "common/dtype.h"

enum { TINY_VOCAB = 600, TINY_LAYERS = 2 };

enum tiny_kind {
    TINY_LLAMA,
    TINY_GEMMA,         /* QK-norm, sliding windows, post-norms, tied output, one KV head */
    TINY_STRADDLING,    /* heads that end inside quantisation blocks and panels: 5 of 24 dims */
    TINY_WIDE_GROUP,    /* more query heads a KV head than one call of the attention kernel takes: 34 on 2 */
    TINY_EXPERTS,       /* the first layer is a mixture of experts, two of six */
    TINY_FILTER,        /* Yuan's filter before q and k, rotating half of each head */
    TINY_LATENT,        /* multi-head latent attention; outputs of 24 dims a head, dealt by four heads, so that the third node has none */
    TINY_KINDS
};
extern const char *const tiny_names[TINY_KINDS];

/* As tiny_model_write, with tensors at multiples of `alignment` (8 .. 4096) instead of 32. */
void tiny_model_write_aligned(const char *path, enum tiny_kind kind, uint64_t alignment);

/* Writes the file; ends the program when it cannot. The same bytes every time. */
void tiny_model_write(const char *path, enum tiny_kind kind);

/* The same with these types of weights. An output matrix of attention whose rows are no whole blocks of its type is BF16. */
struct tiny_types {
    enum dtype layer[TINY_LAYERS][7];       /* q, k, v, o, gate, up, down */
    enum dtype head;
    uint64_t width, ff;                     /* 0: 256, 512. At most 1024; rows of the other matrices must be whole blocks */
    uint64_t heads;                         /* 0: those of the kind; else so many with a KV head each */
};
void tiny_model_write_types(const char *path, enum tiny_kind kind, const struct tiny_types *types);

#endif
