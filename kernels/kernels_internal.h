/*
 * kernels_internal.h - what the kernel files hand to kernels_fill(): one function a file, which writes its entries.
 *
 * A level lists only the files in which it is faster; the entries of the level below stay where it has none.
 */
#ifndef FOURWAY_KERNELS_KERNELS_INTERNAL_H
#define FOURWAY_KERNELS_KERNELS_INTERNAL_H

#include "kernels/kernels.h"

/* Denormal operands and results count as zeros, as in VDPBF16PS and the tiles, whatever MXCSR says there. */
enum { MXCSR_DAZ_FTZ = 0x8040 };

/* What a matmul may use of matmul_args.scratch. */
enum { MATMUL_SCRATCH_BYTES = 65536 };

void matmul_scalar(struct kernels *table);
void matmul_scalar_bf16_tiles(struct kernels *table);      /* the definition of prompt tokens at amx */
void quantize_scalar(struct kernels *table);
void norm_scalar(struct kernels *table);
void activation_scalar(struct kernels *table);
void rope_scalar(struct kernels *table);
void attention_scalar(struct kernels *table);
void attention_scalar_bf16_dots(struct kernels *table);    /* the definition from avx512bf16 on */
void logits_scalar(struct kernels *table);
void measure_scalar(struct kernels *table);

void matmul_avx2(struct kernels *table);
void matmul_float_avx2(struct kernels *table);
void quantize_avx2(struct kernels *table);
void norm_avx2(struct kernels *table);
void activation_avx2(struct kernels *table);
void rope_avx2(struct kernels *table);
void attention_avx2(struct kernels *table);
void logits_avx2(struct kernels *table);
void measure_avx2(struct kernels *table);

void matmul_avx512(struct kernels *table);
void matmul_float_avx512(struct kernels *table);
void quantize_avx512(struct kernels *table);
void norm_avx512(struct kernels *table);
void activation_avx512(struct kernels *table);
void rope_avx512(struct kernels *table);
void attention_avx512(struct kernels *table);
void logits_avx512(struct kernels *table);
void measure_avx512(struct kernels *table);

void matmul_float_avx512bf16(struct kernels *table);
void attention_avx512bf16(struct kernels *table);
void measure_avx512bf16(struct kernels *table);

void matmul_amx(struct kernels *table);
void matmul_float_amx(struct kernels *table);              /* prompt tokens only, after the table of both roles is filled */
void measure_amx(struct kernels *table);

#endif
