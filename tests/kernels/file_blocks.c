#include "tests/kernels/file_blocks.h"

#include <string.h>

const enum dtype weight_types[N_WEIGHT_TYPES] = {
    DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K,
    DTYPE_Q6_K,
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
    default:
        break;
    }
    return v;
}

float file_dequantise(enum dtype type, const uint8_t *row, size_t i)
{
    struct file_value v = file_value(type, row, i);
    switch (type) {
    case DTYPE_Q4_1:
    case DTYPE_Q5_1:
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        return v.product + v.constant;
    default:
        return v.product;
    }
}

size_t file_row_bytes(enum dtype type, size_t k)
{
    return k / dtype_info(type)->block * dtype_info(type)->block_bytes;
}

void file_scale_offsets(enum dtype type, int *scale, int *minimum)
{
    *scale = type == DTYPE_Q6_K ? 208 : 0;
    *minimum = type == DTYPE_Q4_1 || type == DTYPE_Q5_1 || type == DTYPE_Q4_K || type == DTYPE_Q5_K ? 2 : -1;
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

void file_random_row(enum dtype type, uint8_t *row, size_t k, enum weight_range range, struct rng *rng)
{
    const struct dtype_info *info = dtype_info(type);
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
        half d = random_scale(range, rng), m = random_scale(range, rng);
        memcpy(at + scale, &d, sizeof(d));
        if (minimum >= 0)
            memcpy(at + minimum, &m, sizeof(m));
    }
}
