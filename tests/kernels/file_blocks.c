#include "tests/kernels/file_blocks.h"

#include <math.h>
#include <string.h>

const enum dtype weight_types[N_WEIGHT_TYPES] = {
    DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K,
    DTYPE_Q6_K, DTYPE_MXFP4, DTYPE_IQ4_NL, DTYPE_IQ4_XS, DTYPE_Q3_K, DTYPE_Q2_K,
    DTYPE_F8_E4M3,
};

static float h(const uint8_t *b, size_t offset)
{
    return half_to_float((half)(b[offset] | b[offset + 1] << 8));
}

/* Nibble i of 32: the first 16 are the low halves of bytes, the last 16 the high halves. */
static int lo4(const uint8_t *b, size_t offset, size_t i)
{
    return b[offset + i % 16] >> 4 * (i / 16) & 15;
}

static int fifth_bit(const uint8_t *b, size_t offset, size_t i)
{
    return b[offset + i / 8] >> i % 8 & 1;
}

/* 6-bit scale and minimum j of Q4_K and Q5_K. */
static int k_scale(const uint8_t *c, size_t j)
{
    return j < 4 ? c[j] & 63 : (c[j + 4] & 15) + 16 * (c[j - 4] >> 6);
}

static int k_minimum(const uint8_t *c, size_t j)
{
    return j < 4 ? c[j + 4] & 63 : (c[j + 4] >> 4) + 16 * (c[j] >> 6);
}

static float q6_k(const uint8_t *b, size_t i)
{
    size_t n = i / 128, r = i % 128;
    int low = b[64 * n + r % 64] >> 4 * (r / 64) & 15, high = b[128 + 32 * n + r % 32] >> 2 * (r / 32) & 3;
    return h(b, 208) * (float)(int8_t)b[192 + i / 16] * (float)(low + 16 * high - 32);
}

/* Integers know no -0: the ninth value of E2M1, which is one, counts as 0. */
static float mxfp4(const uint8_t *b, size_t i)
{
    static const float values[16] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6 };
    return values[lo4(b, 1, i)] * ldexpf(1, b[0] - 127);
}

static const int8_t nl[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

static float iq4_xs(const uint8_t *b, size_t i)
{
    const size_t g = i / 32;
    const int high = b[2] | b[3] << 8, s = (b[4 + g / 2] >> 4 * (g % 2) & 15) + 16 * (high >> 2 * g & 3);
    return h(b, 0) * (float)(s - 32) * (float)nl[b[8 + 16 * g + i % 16] >> 4 * (i % 32 / 16) & 15];
}

/* Two bits of Q2_K and Q3_K. */
static int pair(const uint8_t *b, size_t offset, size_t i)
{
    return b[offset + 32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
}

static float q3_k(const uint8_t *b, size_t i)
{
    const size_t j = i / 16;
    const int s = (b[96 + j % 8] >> 4 * (j / 8) & 15) + 16 * (b[104 + j % 4] >> 2 * (j / 4) & 3) - 32, third = b[i % 32] >> i / 32 & 1;
    return h(b, 108) * (float)s * (float)(pair(b, 32, i) + 4 * third - 4);
}

static float f8_e4m3(const uint8_t *b, size_t i)
{
    const int code = b[4 + i], e = code >> 3 & 15, m = code & 7;
    const float magnitude = e ? (1 + (float)m / 8) * ldexpf(1, e - 7) : (float)m / 512;
    float scale;

    memcpy(&scale, b, sizeof(scale));
    return scale * (code & 0x80 ? -magnitude : magnitude);
}

struct file_value file_value(enum dtype type, const uint8_t *row, size_t i)
{
    const struct dtype_info *info = dtype_info(type);
    const uint8_t *b = row + i / info->block * info->block_bytes;
    struct file_value v = { 0, 0 };
    uint32_t bits;

    i %= info->block;
    switch (type) {
    case DTYPE_F32:
        memcpy(&v.product, b, 4);
        break;
    case DTYPE_F16:
        v.product = h(b, 0);
        break;
    case DTYPE_BF16:
        bits = (uint32_t)(b[0] | b[1] << 8) << 16;
        memcpy(&v.product, &bits, 4);
        break;
    case DTYPE_Q4_0:
        v.product = h(b, 0) * (float)(lo4(b, 2, i) - 8);
        break;
    case DTYPE_Q4_1:
        v.product = h(b, 0) * (float)lo4(b, 4, i);
        v.constant = h(b, 2);
        break;
    case DTYPE_Q5_0:
        v.product = h(b, 0) * (float)(lo4(b, 6, i) + 16 * fifth_bit(b, 2, i) - 16);
        break;
    case DTYPE_Q5_1:
        v.product = h(b, 0) * (float)(lo4(b, 8, i) + 16 * fifth_bit(b, 4, i));
        v.constant = h(b, 2);
        break;
    case DTYPE_Q8_0:
        v.product = h(b, 0) * (float)(int8_t)b[2 + i];
        break;
    case DTYPE_Q4_K:
        v.product = h(b, 0) * (float)k_scale(b + 4, i / 32) * (float)(b[16 + 32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2) & 15);
        v.constant = -(h(b, 2) * (float)k_minimum(b + 4, i / 32));
        break;
    case DTYPE_Q5_K:
        v.product = h(b, 0) * (float)k_scale(b + 4, i / 32)
                    * (float)((b[48 + 32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2) & 15) + 16 * (b[16 + i % 32] >> i / 32 & 1));
        v.constant = -(h(b, 2) * (float)k_minimum(b + 4, i / 32));
        break;
    case DTYPE_Q6_K:
        v.product = q6_k(b, i);
        break;
    case DTYPE_MXFP4:
        v.product = mxfp4(b, i);
        break;
    case DTYPE_IQ4_NL:
        v.product = h(b, 0) * (float)nl[lo4(b, 2, i)];
        break;
    case DTYPE_IQ4_XS:
        v.product = iq4_xs(b, i);
        break;
    case DTYPE_Q3_K:
        v.product = q3_k(b, i);
        break;
    case DTYPE_Q2_K:
        v.product = h(b, 80) * (float)(b[i / 16] & 15) * (float)pair(b, 16, i);
        v.constant = -(h(b, 82) * (float)(b[i / 16] >> 4));
        break;
    case DTYPE_F8_E4M3:
        v.product = f8_e4m3(b, i);
        break;
    default:
        break;
    }
    return v;
}

float file_dequantise(enum dtype type, const uint8_t *row, size_t i)
{
    const struct file_value v = file_value(type, row, i);
    int scale, minimum;

    file_scale_offsets(type, &scale, &minimum);
    return minimum >= 0 ? v.product + v.constant : v.product;
}

size_t file_row_bytes(enum dtype type, size_t k)
{
    return k / dtype_info(type)->block * dtype_info(type)->block_bytes;
}

void file_scale_offsets(enum dtype type, int *scale, int *minimum)
{
    static const struct { uint8_t scale, minimum; } offsets[DTYPE_COUNT] = {
        [DTYPE_Q4_1] = { 0, 2 }, [DTYPE_Q5_1] = { 0, 2 }, [DTYPE_Q4_K] = { 0, 2 }, [DTYPE_Q5_K] = { 0, 2 }, [DTYPE_Q6_K] = { 208, 0 },
        [DTYPE_Q2_K] = { 80, 82 }, [DTYPE_Q3_K] = { 108, 0 },
    };

    *scale = offsets[type].scale;
    *minimum = offsets[type].minimum ? offsets[type].minimum : -1;
}

static half random_scale(enum weight_range range, struct rng *rng)
{
    /* zero, -zero, smallest and largest subnormal, smallest normal, largest, their negatives */
    static const half extremes[] = { 0, 0x8000, 1, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x8400, 0x7bff, 0xfbff };

    if (range == RANGE_EXTREME && rng_below(rng, 2))
        return extremes[rng_below(rng, sizeof(extremes) / sizeof(*extremes))];
    if (range == RANGE_EXTREME) {
        half any = (half)rng_u64(rng);
        return half_is_finite(any) ? any : 0x3c00;
    }
    return half_from_float(rng_float(rng, -1, 1));
}

/* 2^(e - 127). */
static uint8_t random_exponent(enum weight_range range, struct rng *rng)
{
    static const uint8_t extremes[] = { 0, 1, 2, 253, 254 };

    if (range == RANGE_NORMAL)
        return (uint8_t)(120 + rng_below(rng, 8));
    return rng_below(rng, 2) ? extremes[rng_below(rng, sizeof(extremes))] : (uint8_t)rng_below(rng, 255);
}

static void random_plain(enum dtype type, uint8_t *at, enum weight_range range, struct rng *rng)
{
    float value = rng_float(rng, -1, 1);
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    if (range == RANGE_EXTREME && rng_below(rng, 2)) {     /* any finite float; often a subnormal of the type */
        bits = (uint32_t)rng_u64(rng) & ~(rng_below(rng, 2) ? 0x7f800000u : 0x00800000u);
    }
    memcpy(&value, &bits, sizeof(value));
    half h16 = half_from_float(value);
    bf16 b16 = bf16_from_float(value);
    if (type == DTYPE_F32)
        memcpy(at, &value, 4);
    else if (type == DTYPE_F16)
        memcpy(at, (half[]){ half_is_finite(h16) ? h16 : 0x7bff }, 2);
    else
        memcpy(at, (bf16[]){ (b16 & 0x7f80) == 0x7f80 ? 0x7f7f : b16 }, 2);
}

static float random_f8_scale(enum weight_range range, struct rng *rng)
{
    static const float extremes[] = { 0, -0.0f, 1e-45f, -1e-40f, 1.2e-38f, 1e36f, -1e36f, 1e-20f };

    return range == RANGE_EXTREME && rng_below(rng, 2) ? extremes[rng_below(rng, 8)] : rng_float(rng, -1, 1);
}

/*
 * Its codes are random. A model's are spread like evenly distributed values, where each exponent is half as frequent as the one above;
 * extreme ones are any. NaN becomes the largest.
 */
static void finish_f8(uint8_t *block, float scale, enum weight_range range, struct rng *rng)
{
    memcpy(block, &scale, sizeof(scale));
    for (size_t i = 4; i < 36; i++) {
        if (range == RANGE_NORMAL)
            block[i] = (uint8_t)((block[i] & 0x87) | (15 - __builtin_ctz((uint32_t)rng_u64(rng) | 1u << 15)) << 3);
        block[i] = (block[i] & 0x7f) == 0x7f ? block[i] & 0xfe : block[i];
    }
}

void file_random_row(enum dtype type, uint8_t *row, size_t k, enum weight_range range, struct rng *rng)
{
    const struct dtype_info *info = dtype_info(type);
    float f8_scale = 0;
    int scale, minimum;

    file_scale_offsets(type, &scale, &minimum);
    for (size_t b = 0; b < k / info->block; b++) {
        uint8_t *at = row + b * info->block_bytes;
        if (info->block == 1) {
            random_plain(type, at, range, rng);
            continue;
        }
        rng_bytes(rng, at, info->block_bytes);
        if (range == RANGE_EXTREME && rng_below(rng, 2))
            memset(at, rng_below(rng, 2) ? 0xff : 0, info->block_bytes);        /* all quants at one end */
        if (type == DTYPE_MXFP4) {
            at[scale] = random_exponent(range, rng);
            continue;
        }
        if (type == DTYPE_F8_E4M3) {
            f8_scale = b % 4 ? f8_scale : random_f8_scale(range, rng);
            finish_f8(at, f8_scale, range, rng);
            continue;
        }
        half d = random_scale(range, rng), m = random_scale(range, rng);
        memcpy(at + scale, &d, sizeof(d));
        if (minimum >= 0)
            memcpy(at + minimum, &m, sizeof(m));
    }
}
