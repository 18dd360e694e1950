/*
 * e4m3.h - what the levels share of decoding E4M3 codes to bf16, 2^-8 of their values: 16 bits s 0111 eeee mmm 0000 of a code s eeee mmm.
 *
 * That is two or three instructions for a register, unless e = 0. Such codes, m 2^-9 or zeros, are normal in bf16: rare in a model, as one
 * of 128 by 128 weights has a code near the largest, 448 (of normally distributed ones with that maximum one in 10000 is below 2^-6), so a
 * branch leads past their lookup in a table. NaN needs no care: the scale is NaN (panels.h).
 */
#ifndef FOURWAY_KERNELS_E4M3_H
#define FOURWAY_KERNELS_E4M3_H

#include <stdint.h>

enum {
    E4M3_KEPT = 0x87f0,             /* of a code moved to the upper 8 bits, then, its sign repeated, 4 down */
    E4M3_EXPONENT = 0x3800,         /* above the code's own */
    E4M3_CODE_EXPONENT = 0x78,      /* in the code */
};

/* By m, where e = 0. */
static const uint16_t e4m3_denormals[8] = { 0, 0x3700, 0x3780, 0x37c0, 0x3800, 0x3820, 0x3840, 0x3860 };

#endif
