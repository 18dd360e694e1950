/*
 * scalar/quantize.c - activations from float32 to int8 blocks and to bf16.
 */
#include <math.h>
#include <string.h>

#include "kernels/kernels_internal.h"

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static void quantize_block(struct q8_block *out, const float *x)
{
    uint32_t absmax_bits = 0;
    float absmax;

    /* The integer order of the bits puts NaN above infinity; a float comparison would drop it. */
    for (unsigned i = 0; i < 32; i++) {
        uint32_t bits = bits_of(x[i]) & 0x7fffffff;
        if (bits > absmax_bits)
            absmax_bits = bits;
    }
    memcpy(&absmax, &absmax_bits, sizeof(absmax));

    float scale = absmax / 127.0f, inverse = 127.0f / absmax;
    if (!isfinite(absmax)) {
        scale = NAN;
        inverse = 0;
    } else if (!isfinite(inverse)) {    /* absmax is 0 or too small */
        scale = 0;
        inverse = 0;
    }

    int32_t sum_low = 0, sum = 0;
    for (unsigned i = 0; i < 32; i++) {
        /* |x inverse| < 127.5: adding 1.5 2^23 rounds it to the nearest even integer. With inverse 0, x may be anything. */
        int32_t q = inverse > 0 ? (int32_t)(bits_of(x[i] * inverse + 0x1.8p23f) - 0x4b400000) : 0;
        out->q[i] = (int8_t)q;
        sum += q;
        if (i < 16)
            sum_low += q;
    }
    out->scale = scale;
    out->scaled_sum = scale * (float)sum;
    out->neg_sum = -sum;
    out->neg_sum_low = -sum_low;
}

static void quantize_q8(struct q8_block *out, const float *x, size_t k)
{
    for (size_t b = 0; b < k / 32; b++)
        quantize_block(out + b, x + 32 * b);
}

static void subtract_q8(float *x, const struct q8_block *q, size_t k)
{
    for (size_t b = 0; b < k / 32; b++)
        for (unsigned i = 0; i < 32; i++)
            x[32 * b + i] -= q[b].scale * (float)q[b].q[i];
}

static void round_bf16(bf16 *out, const float *x, size_t k)
{
    for (size_t i = 0; i < k; i++)
        out[i] = bf16_from_float(x[i]);
}

void quantize_scalar(struct kernels *table)
{
    table->quantize_q8 = quantize_q8;
    table->subtract_q8 = subtract_q8;
    table->round_bf16 = round_bf16;
}
