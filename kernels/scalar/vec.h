/*
 * scalar/vec.h - the words of functions.h for one lane: plain C.
 *
 * Each word is one IEEE operation with one meaning at every level. vec_min and vec_max return their second operand when one
 * is a NaN or both are zeros, as MINPS and MAXPS do.
 */
#ifndef FOURWAY_KERNELS_SCALAR_VEC_H
#define FOURWAY_KERNELS_SCALAR_VEC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef float vec;
typedef uint32_t ivec;
typedef bool vmask;

static inline vec vec_set(float x) { return x; }
static inline vec vec_add(vec a, vec b) { return a + b; }
static inline vec vec_sub(vec a, vec b) { return a - b; }
static inline vec vec_mul(vec a, vec b) { return a * b; }
static inline vec vec_div(vec a, vec b) { return a / b; }
static inline vec vec_fma(vec a, vec b, vec c) { return fmaf(a, b, c); }
static inline vec vec_min(vec a, vec b) { return a < b ? a : b; }
static inline vec vec_max(vec a, vec b) { return a > b ? a : b; }
static inline vec vec_abs(vec a) { return fabsf(a); }
static inline vec vec_neg(vec a) { return -a; }
static inline vec vec_copysign(vec magnitude, vec sign) { return copysignf(magnitude, sign); }
static inline vmask vec_less(vec a, vec b) { return a < b; }
static inline vec vec_select(vmask m, vec yes, vec no) { return m ? yes : no; }

static inline ivec ivec_set(uint32_t x) { return x; }
static inline ivec ivec_add(ivec a, ivec b) { return a + b; }
static inline ivec ivec_sub(ivec a, ivec b) { return a - b; }
static inline ivec ivec_halve(ivec a) { return (uint32_t)((int32_t)a >> 1); }      /* floor(a / 2), signed */
static inline ivec ivec_to_exponent(ivec a) { return a << 23; }

static inline ivec vec_bits(vec a)
{
    ivec bits;
    memcpy(&bits, &a, sizeof(bits));
    return bits;
}

static inline vec vec_from_bits(ivec bits)
{
    vec a;
    memcpy(&a, &bits, sizeof(a));
    return a;
}

#endif
