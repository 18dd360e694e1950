/*
 * quantize.c - plain types, and the blocks of 32 whose scale is a formula: byte for byte those of llama.cpp
 * (ggml/src/ggml-quants.c, quantize_row_*_ref).
 *
 * Codes are taken with the scale before it is rounded to float16, as there. Loops are written so that the compiler makes vectors of
 * them: largest magnitudes are compared as integers.
 */
#include "weights/quantize.h"

#include <assert.h>
#include <math.h>

#include "weights/quantize_internal.h"

enum { INFINITE_BITS = 0x7f800000 };

/* The largest |x|, as its bits, which order like the numbers; above INFINITE_BITS: a NaN is among them. */
static int32_t largest_magnitude(const float *x, size_t n)
{
    int32_t most = 0;

    for (size_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return most;
}

static float float_of(int32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* 1 / d; 0 where that is no number: the stored scale is then 0 as well, and the codes do not matter. */
static float inverse(float d)
{
    const float inv = d != 0 ? 1 / d : 0;

    return fabsf(inv) <= 3.4028234e38f ? inv : 0;
}

/* The first value of the largest magnitude, with its sign. */
static float signed_largest(const float x[32])
{
    const float most = float_of(largest_magnitude(x, 32));
    size_t i = 0;

    while (i < 31 && fabsf(x[i]) != most)
        i++;
    return x[i];
}

static void range_of(const float x[32], float *least, float *most)
{
    *least = *most = x[0];
    for (size_t i = 1; i < 32; i++) {
        *least = x[i] < *least ? x[i] : *least;
        *most = x[i] > *most ? x[i] : *most;
    }
}

/* q[i] = trunc((x - least) / d + half), within 0..most. */
static void take_codes(uint8_t q[32], const float x[32], float least, float inv, float half_step, int most)
{
    for (size_t i = 0; i < 32; i++) {
        int code = (int)((x[i] - least) * inv + half_step);
        code = code < 0 ? 0 : code;
        q[i] = (uint8_t)(code > most ? most : code);
    }
}

/* Byte n holds the low four bits of q[n] and, above them, of q[16 + n]. */
static void put_nibbles(uint8_t *to, const uint8_t q[32])
{
    for (size_t n = 0; n < 16; n++)
        to[n] = (uint8_t)((q[n] & 15) | (q[16 + n] & 15) << 4);
}

static void put_fifth_bits(uint8_t *to, const uint8_t q[32])
{
    uint32_t bits = 0;

    for (size_t i = 0; i < 32; i++)
        bits |= (uint32_t)(q[i] >> 4) << i;
    memcpy(to, &bits, sizeof(bits));
}

static bool quantize_q8_0(uint8_t *b, const float *x)
{
    const float d = float_of(largest_magnitude(x, 32)) / 127, inv = inverse(d);

    for (size_t i = 0; i < 32; i++) {       /* half away from zero; adding 0.5 before truncating would round 0.49999997 up */
        const float v = x[i] * inv;
        const int whole = (int)v;
        const float rest = v - (float)whole;
        b[2 + i] = (uint8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
    }
    return put_half(b, d);
}

static bool quantize_q4_0(uint8_t *b, const float *x)
{
    const float d = signed_largest(x) / -8;
    uint8_t q[32];

    take_codes(q, x, 0, inverse(d), 8.5f, 15);
    put_nibbles(b + 2, q);
    return put_half(b, d);
}

static bool quantize_q4_1(uint8_t *b, const float *x)
{
    float least, most;
    uint8_t q[32];

    range_of(x, &least, &most);
    const float d = (most - least) / 15;
    take_codes(q, x, least, inverse(d), 0.5f, 15);
    put_nibbles(b + 4, q);
    return put_half(b, d) & put_half(b + 2, least);
}

static bool quantize_q5_0(uint8_t *b, const float *x)
{
    const float d = signed_largest(x) / -16;
    uint8_t q[32];

    take_codes(q, x, 0, inverse(d), 16.5f, 31);
    put_fifth_bits(b + 2, q);
    put_nibbles(b + 6, q);
    return put_half(b, d);
}

static bool quantize_q5_1(uint8_t *b, const float *x)
{
    float least, most;
    uint8_t q[32];

    range_of(x, &least, &most);
    const float d = (most - least) / 31;
    take_codes(q, x, least, inverse(d), 0.5f, 31);
    put_fifth_bits(b + 4, q);
    put_nibbles(b + 8, q);
    return put_half(b, d) & put_half(b + 2, least);
}

typedef bool (*block_fn)(uint8_t *block, const float *x);

static const block_fn block_fns[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = quantize_q4_0, [DTYPE_Q4_1] = quantize_q4_1, [DTYPE_Q5_0] = quantize_q5_0, [DTYPE_Q5_1] = quantize_q5_1,
    [DTYPE_Q8_0] = quantize_q8_0, [DTYPE_Q4_K] = quantize_q4_k, [DTYPE_Q5_K] = quantize_q5_k, [DTYPE_Q6_K] = quantize_q6_k,
};

bool quantize_supports(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || block_fns[type];
}

static bool round_to_half(uint8_t *out, const float *x, size_t n)
{
    bool finite = true;

    for (size_t i = 0; i < n; i++)
        finite &= put_half(out + 2 * i, x[i]);
    return finite;
}

static bool round_to_bf16(uint8_t *out, const float *x, size_t n)
{
    bool finite = true;

    for (size_t i = 0; i < n; i++) {
        const bf16 v = bf16_from_float(x[i]);
        memcpy(out + 2 * i, &v, sizeof(v));
        finite &= (v & 0x7f80) != 0x7f80;
    }
    return finite;
}

bool quantize_values(enum dtype type, void *out, const float *x, size_t n)
{
    const struct dtype_info *info = dtype_info(type);
    bool fits = largest_magnitude(x, n) < INFINITE_BITS;

    assert(quantize_supports(type) && n % info->block == 0);
    if (!fits)
        return false;
    if (type == DTYPE_F32)
        memcpy(out, x, n * sizeof(*x));
    else if (type == DTYPE_F16)
        fits = round_to_half(out, x, n);
    else if (type == DTYPE_BF16)
        fits = round_to_bf16(out, x, n);
    for (size_t i = 0; block_fns[type] && i < n / info->block; i++)
        fits &= block_fns[type]((uint8_t *)out + i * info->block_bytes, x + i * info->block);
    return fits;
}
