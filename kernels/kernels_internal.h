/*
 * kernels_internal.h - what the kernel files hand to kernels_fill(): one function a file, which writes its entries.
 *
 * A level lists only the files in which it is faster; the entries of the level below stay where it has none.
 */
#ifndef FOURWAY_KERNELS_KERNELS_INTERNAL_H
#define FOURWAY_KERNELS_KERNELS_INTERNAL_H

#include "kernels/kernels.h"

/* The quantised types, for lists of their functions. */
#define QUANTISED_TYPES(x) \
    x(Q4_0) x(Q4_1) x(Q5_0) x(Q5_1) x(Q8_0) x(IQ4_NL) x(MXFP4) x(Q2_K) x(Q3_K) x(Q4_K) x(Q5_K) x(Q6_K) x(IQ4_XS)

/* Denormal operands and results count as zeros, as in VDPBF16PS and the tiles, whatever MXCSR says there. */
enum { MXCSR_DAZ_FTZ = 0x8040 };

/* What a matmul may use of matmul_args.scratch. */
enum { MATMUL_SCRATCH_BYTES = 65536 };

/* Part i of `all` in n parts as even as they can be, the larger ones first: 8 in two as 4 and 4, not as 5 and 3. */
static inline size_t even_part(size_t all, size_t n, size_t i)
{
    return all / n + (i < all % n);
}

/* What quants of weights that prompt tokens meet as bf16 are added to (kernels.h, matmul_prompt): a power of two above every quant. */
static inline int prompt_base(int bits)
{
    return bits == 8 ? 256 : 128;
}

/* The address `offset` bytes from p, for a prefetch alone: it may lie past the end of p's array, where no pointer may point. */
static inline const char *prefetch_address(const void *p, size_t offset)
{
    return (const char *)((uintptr_t)p + offset);
}

/* Blocks along a head of a KV_Q8 chunk; the scales of its k or v, which follow the quants. */
static inline size_t kv_q8_blocks(size_t head_dim)
{
    return (head_dim + KV_Q8_BLOCK - 1) / KV_Q8_BLOCK;
}

static inline half *kv_q8_scales(const void *k_or_v, size_t head_dim)
{
    return (half *)((int8_t *)k_or_v + KV_CHUNK * head_dim);
}

/* The scale of a block, and what its values are multiplied by to be quants: 0 if all of these are 0. absmax may be NaN or infinity. */
static inline half kv_q8_scale(float absmax, float *inverse)
{
    const half scale = half_from_float(absmax / 127.0f);

    *inverse = 0;
    if (!half_is_finite(scale))
        return 0x7e00;
    if (scale)
        *inverse = 1.0f / half_to_float(scale);
    return scale;
}

void matmul_scalar(struct kernels *table);
void matmul_f8_scalar(struct kernels *table);
void matmul_scalar_tiles(struct kernels *table);           /* the definition at amx: BF16 weights, and prompts of quantised ones */
void quantize_scalar(struct kernels *table);
void norm_scalar(struct kernels *table);
void activation_scalar(struct kernels *table);
void rope_scalar(struct kernels *table);
void attention_scalar(struct kernels *table);
void attention_scalar_bf16_dots(struct kernels *table);    /* the definition at avx512bf16 */
void attention_scalar_tiles(struct kernels *table);        /* and at amx */
void attend_scalar_tiles(const struct attend_args *args);
void logits_scalar(struct kernels *table);
void measure_scalar(struct kernels *table);
void streams_scalar(struct kernels *table);

void matmul_avx2(struct kernels *table);
void matmul_float_avx2(struct kernels *table);
void quantize_avx2(struct kernels *table);
void norm_avx2(struct kernels *table);
void activation_avx2(struct kernels *table);
void rope_avx2(struct kernels *table);
void attention_avx2(struct kernels *table);
void logits_avx2(struct kernels *table);
void measure_avx2(struct kernels *table);
void streams_avx2(struct kernels *table);

void matmul_avx512(struct kernels *table);
void matmul_float_avx512(struct kernels *table);
void quantize_avx512(struct kernels *table);
void norm_avx512(struct kernels *table);
void activation_avx512(struct kernels *table);
void rope_avx512(struct kernels *table);
void attention_avx512(struct kernels *table);
void logits_avx512(struct kernels *table);
void measure_avx512(struct kernels *table);
void streams_avx512(struct kernels *table);

void matmul_float_avx512bf16(struct kernels *table);
void matmul_f8_avx512bf16(struct kernels *table);
void attention_avx512bf16(struct kernels *table);
void attention_amx(struct kernels *table);
void measure_avx512bf16(struct kernels *table);

void matmul_amx(struct kernels *table);
void matmul_bf16_amx(struct kernels *table);               /* after the table of prompt tokens has got a copy of the other */
void measure_amx(struct kernels *table);

#endif
