/*
 * dtype.h - element types of tensors: their names, block sizes and 16-bit float conversions.
 *
 * The numbers are the type ids of the GGUF file format (ggml-org/llama.cpp, ggml/include/ggml.h), so that
 * a reader needs no translation. Ids that are absent here are retired, or belong to forks.
 */
#ifndef FOURWAY_COMMON_DTYPE_H
#define FOURWAY_COMMON_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_Q4_0 = 2,
    DTYPE_Q4_1 = 3,
    DTYPE_Q5_0 = 6,
    DTYPE_Q5_1 = 7,
    DTYPE_Q8_0 = 8,
    DTYPE_Q2_K = 10,
    DTYPE_Q3_K = 11,
    DTYPE_Q4_K = 12,
    DTYPE_Q5_K = 13,
    DTYPE_Q6_K = 14,
    DTYPE_IQ4_NL = 20,
    DTYPE_IQ4_XS = 23,
    DTYPE_BF16 = 30,
    DTYPE_MXFP4 = 39,

    /*
     * Our own, after the ids of GGUF (it moves when those reach it): FP8 block weights as Hugging Face folders have them. 32 elements of a
     * row are a float32 scale and 32 E4M3 codes; an element is scale * code. The scale is the same through each 128 elements from the
     * row's start.
     */
    DTYPE_F8_E4M3 = 43,
    DTYPE_COUNT = 44        /* one more than the largest id that dtype_info() knows */
};

struct dtype_info {
    const char *name;       /* "Q4_K" */
    uint32_t block;         /* elements per block; 1 for plain types */
    uint32_t block_bytes;   /* bytes per block in a file */
    bool supported;         /* weights of this type can be multiplied; others are known by name only */
    bool own;               /* no type of GGUF: no such file may name it, and none is written with it */
};

/* What is known of type `id`, or NULL for an id that does not exist. The result is static. */
const struct dtype_info *dtype_info(uint32_t id);

typedef uint16_t bf16;      /* the upper half of a float32 */
typedef uint16_t half;      /* IEEE 754 binary16 */

static inline float bf16_to_float(bf16 h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* Round to nearest even; a NaN stays a (quiet) NaN. */
static inline bf16 bf16_from_float(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (bf16)((bits >> 16) | 0x40);
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* Exact for every value, subnormals included. */
float half_to_float(half h);

/* Round to nearest even; overflow gives infinity. */
half half_from_float(float f);

static inline bool half_is_finite(half h)
{
    return (h & 0x7c00) != 0x7c00;
}

typedef uint8_t e4m3;       /* OCP 8-bit float, FN: sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinity */

/* Exact; 0x7f and 0xff are NaN. */
float e4m3_to_float(e4m3 code);

static inline bool e4m3_is_nan(e4m3 code)
{
    return (code & 0x7f) == 0x7f;
}

#endif
