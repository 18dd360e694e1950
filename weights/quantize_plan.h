/*
 * quantize_plan.h - which type each tensor of a quantised model gets.
 *
 * Matrices get the type asked for; norms, biases, routers, positions and whatever else is no large matrix stay as they are. The
 * embedding and the output matrix get Q6_K where the type asked for is smaller: they are few bytes of a large model, and every
 * logit is made of them. A row that is no multiple of a K-quant's 256 values gets the type of 32 next above it, and one that is no multiple
 * of 32 F16: llama.cpp's rules, so that other programs find what they know.
 */
#ifndef FOURWAY_WEIGHTS_QUANTIZE_PLAN_H
#define FOURWAY_WEIGHTS_QUANTIZE_PLAN_H

#include "weights/gguf.h"

struct quantize_target {
    const char *name;           /* "q4_k" */
    enum dtype type;
    uint32_t file_type;         /* value of general.file_type (llama.cpp include/llama.h, llama_ftype) */
};

enum { QUANTIZE_TARGETS = 11 };
extern const struct quantize_target quantize_targets[QUANTIZE_TARGETS];

/*
 * types[i] = the type for tensor i of g. Quantised tensors are quantised again only with `allow_requantize`: their first rounding stays.
 *
 * Returns 0, or -EINVAL (logged): a tensor is quantised already, or `can_decode` does not hold for its type.
 */
int quantize_plan(const struct gguf *g, enum dtype target, bool allow_requantize, bool (*can_decode)(enum dtype type), enum dtype *types);

/*
 * Bytes of a matrix of `type` in a file: rows of F8_E4M3 repeat a scale here that a folder has once for 128 by 128 values. k is a multiple
 * of the type's block.
 */
uint64_t quantize_matrix_bytes(enum dtype type, uint64_t n_rows, uint64_t k);

/*
 * types[i] = what tensor i becomes while a model is loaded: as above, but for tensors that are quantised already, which stay as they are
 * (FP8 is how such a model was published, and counts as plain).
 * target DTYPE_F32: all of them do.
 */
void quantize_plan_load(const struct gguf *g, enum dtype target, enum dtype *types);

#endif
