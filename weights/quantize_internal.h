/*
 * quantize_internal.h - one block each: from x[32] by formula (quantize.c), from x[256] by search (quantize_k.c).
 *
 * x is finite. They return false when a scale or minimum is too large for float16.
 */
#ifndef FOURWAY_WEIGHTS_QUANTIZE_INTERNAL_H
#define FOURWAY_WEIGHTS_QUANTIZE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/dtype.h"

/* Blocks of a file are not aligned. */
static inline bool put_half(uint8_t *to, float value)
{
    const half h = half_from_float(value);

    memcpy(to, &h, sizeof(h));
    return half_is_finite(h);
}

bool quantize_q4_k(uint8_t *block, const float *x);
bool quantize_q5_k(uint8_t *block, const float *x);
bool quantize_q6_k(uint8_t *block, const float *x);

#endif
