/*
 * file_blocks.h - weight blocks as they stand in a file: random ones, and their values by the formulas of the format.
 *
 * Written from the format's description (llama.cpp ggml/src/ggml-common.h and ggml-quants.c, dequantize_row_*), element by
 * element, and sharing nothing with kernels/: the other opinion on what a panel must hold.
 */
#ifndef FOURWAY_TESTS_KERNELS_FILE_BLOCKS_H
#define FOURWAY_TESTS_KERNELS_FILE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "common/dtype.h"
#include "tests/kernels/guarded.h"

enum { N_WEIGHT_TYPES = 17 };
extern const enum dtype weight_types[N_WEIGHT_TYPES];

/* Element i of a row of file blocks is product + constant, the sum rounded to float32. */
struct file_value {
    float product, constant;
};
struct file_value file_value(enum dtype type, const uint8_t *row, size_t i);

float file_dequantise(enum dtype type, const uint8_t *row, size_t i);

size_t file_row_bytes(enum dtype type, size_t k);

enum weight_range {
    RANGE_NORMAL,           /* scales near 1, plain values -1..1 */
    RANGE_EXTREME,          /* largest, smallest, subnormal, negative and zero scales; quants often at their limits */
};

/* A row of k elements, all finite. */
void file_random_row(enum dtype type, uint8_t *row, size_t k, enum weight_range range, struct rng *rng);

/* Offsets in a block of the float16 scale (of MXFP4: of the exponent, a byte) and minimum, -1 where there is none. Plain types: 0 (the
 * first value) and -1. */
void file_scale_offsets(enum dtype type, int *scale, int *minimum);

#endif
