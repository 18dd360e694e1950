/*
 * quantize.h - float32 values to blocks of a weight type, as they stand in a GGUF file.
 *
 * The types of 32 values have closed formulas (llama.cpp ggml/src/ggml-quants.c, quantize_row_*_ref), and the bytes here are those. The
 * K-quants are a search (quantize_k.c): other choices than llama.cpp's, whose squared error is 0 to 7 % below its
 * (tests/weights/check_quantize.c has the figures). A block depends on its own values alone.
 */
#ifndef FOURWAY_WEIGHTS_QUANTIZE_H
#define FOURWAY_WEIGHTS_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/dtype.h"

/* Can values be written as this type? */
bool quantize_supports(enum dtype type);

/*
 * out = x[n] as blocks of `type`, which quantize_supports(); n is a multiple of its block.
 *
 * Returns false when a value is not finite, or so large that the type's floats (float16 in all blocks) cannot hold it or its scale; out
 * is then of no use.
 */
bool quantize_values(enum dtype type, void *out, const float *x, size_t n);

#endif
