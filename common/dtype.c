#include "common/dtype.h"

#include <math.h>

/* Sizes: llama.cpp ggml/src/ggml-common.h. Types that cannot be multiplied yet are here so that a message can name them. */
static const struct dtype_info types[DTYPE_COUNT] = {
    [DTYPE_F32] = { "F32", 1, 4, true },
    [DTYPE_F16] = { "F16", 1, 2, true },
    [DTYPE_BF16] = { "BF16", 1, 2, true },
    [DTYPE_Q4_0] = { "Q4_0", 32, 18, true },
    [DTYPE_Q4_1] = { "Q4_1", 32, 20, true },
    [DTYPE_Q5_0] = { "Q5_0", 32, 22, true },
    [DTYPE_Q5_1] = { "Q5_1", 32, 24, true },
    [DTYPE_Q8_0] = { "Q8_0", 32, 34, true },
    [DTYPE_Q2_K] = { "Q2_K", 256, 84, true },
    [DTYPE_Q3_K] = { "Q3_K", 256, 110, true },
    [DTYPE_Q4_K] = { "Q4_K", 256, 144, true },
    [DTYPE_Q5_K] = { "Q5_K", 256, 176, true },
    [DTYPE_Q6_K] = { "Q6_K", 256, 210, true },
    [DTYPE_IQ4_NL] = { "IQ4_NL", 32, 18, true },
    [DTYPE_IQ4_XS] = { "IQ4_XS", 256, 136, true },
    [DTYPE_MXFP4] = { "MXFP4", 32, 17, true },
    [DTYPE_F8_E4M3] = { "F8_E4M3", 32, 36, true, .own = true },
    [9] = { "Q8_1", 32, 36, false },
    [15] = { "Q8_K", 256, 292, false },
    [16] = { "IQ2_XXS", 256, 66, false },
    [17] = { "IQ2_XS", 256, 74, false },
    [18] = { "IQ3_XXS", 256, 98, false },
    [19] = { "IQ1_S", 256, 50, false },
    [21] = { "IQ3_S", 256, 110, false },
    [22] = { "IQ2_S", 256, 82, false },
    [24] = { "I8", 1, 1, false },
    [25] = { "I16", 1, 2, false },
    [26] = { "I32", 1, 4, false },
    [27] = { "I64", 1, 8, false },
    [28] = { "F64", 1, 8, false },
    [29] = { "IQ1_M", 256, 56, false },
    [34] = { "TQ1_0", 256, 54, false },
    [35] = { "TQ2_0", 256, 66, false },
    [40] = { "NVFP4", 64, 36, false },
    [41] = { "Q1_0", 128, 18, false },
    [42] = { "Q2_0", 64, 18, false },
};

const struct dtype_info *dtype_info(uint32_t id)
{
    if (id >= DTYPE_COUNT || !types[id].name)
        return NULL;
    return &types[id];
}

float half_to_float(half h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1f, mantissa = h & 0x3ff, bits;
    float f;

    if (exponent == 0) {        /* zero or subnormal: mantissa 2^-24, exact in float32 */
        f = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &f, sizeof(bits));
        bits |= sign;
    } else if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    }
    memcpy(&f, &bits, sizeof(f));
    return f;
}

half half_from_float(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;

    if (magnitude > 0x7f800000)
        return (half)(sign | 0x7e00);
    if (magnitude >= 0x477ff000)        /* rounds to 65536 or more */
        return (half)(sign | 0x7c00);
    if (magnitude < 0x38800000) {       /* below 2^-14: a multiple of 2^-24, rounded by the default mode */
        float scaled = fabsf(f) * 0x1p24f;
        return (half)(sign | (uint32_t)lrintf(scaled));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (half)(sign | ((rounded >> 13) - (112u << 10)));
}

float e4m3_to_float(e4m3 code)
{
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const float magnitude = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : (float)mantissa * 0x1p-9f;

    return e4m3_is_nan(code) ? NAN : code & 0x80 ? -magnitude : magnitude;
}
