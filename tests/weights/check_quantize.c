/*
 * tests/weights/check_quantize.c - quantisers: those with a formula byte for byte against the formula, written once more and plainly;
 * K-quants against the choice of the range alone, by the error that is left. What is too large is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/file_blocks.h"
#include "weights/quantize.h"
#include "weights/quantize_plan.h"

enum { N_BLOCKS = 20000, K_VALUES = 256 * 400 };

/* Values as weights have them, and now and then what a formula may trip over. */
static void random_block(struct rng *rng, float x[32])
{
    const float size = ldexpf(1, (int)rng_below(rng, 30) - 20);
    const unsigned kind = (unsigned)rng_below(rng, 12);

    for (size_t i = 0; i < 32; i++) {
        x[i] = size * (rng_float(rng, -1, 1) + rng_float(rng, -1, 1) + rng_float(rng, -1, 1));
        if (kind == 0)
            x[i] = 0;
        else if (kind == 1)                         /* ties: halves of a step, both signs of the largest */
            x[i] = size * 0.5f * (float)((int)rng_below(rng, 33) - 16);
        else if (kind == 2)
            x[i] = size;
        else if (kind == 3)                         /* around float16's subnormals, and below */
            x[i] = ldexpf(x[i] / size, -24 - (int)rng_below(rng, 6));
        else if (kind == 4)
            x[i] = -fabsf(x[i]);
        else if (kind == 5 && i % 2)
            x[i] = -0.0f;
        else if (kind == 6)
            x[i] = x[i] / size * 1e-41f;            /* 1 / d is infinite */
    }
}

static void put16(uint8_t *at, float value)
{
    const half h = half_from_float(value);

    at[0] = (uint8_t)h;
    at[1] = (uint8_t)(h >> 8);
}

static int bounded(double v, int most)
{
    return v < 0 ? 0 : v > most ? most : (int)v;
}

static float inverse(float d)
{
    return d != 0 && isfinite(1 / d) ? 1 / d : 0;
}

/* One element after the other, by the table of the format's description. */
static void plain_block(enum dtype type, const float x[32], uint8_t *b)
{
    float most = x[0], least = x[0], largest = 0;
    size_t codes = 2;

    for (size_t i = 0; i < 32; i++) {
        most = fmaxf(most, x[i]);
        least = fminf(least, x[i]);
        if (fabsf(x[i]) > fabsf(largest))
            largest = x[i];
    }
    memset(b, 0, dtype_info(type)->block_bytes);
    const int bits = type == DTYPE_Q4_0 || type == DTYPE_Q4_1 ? 4 : type == DTYPE_Q8_0 ? 8 : 5, top = (1 << bits) - 1;
    const int has_min = type == DTYPE_Q4_1 || type == DTYPE_Q5_1;
    const float d = bits == 8 ? fabsf(largest) / 127 : has_min ? (most - least) / (float)top : largest / (float)-(1 << (bits - 1));
    const float inv = inverse(d);

    put16(b, d);
    if (has_min)
        put16(b + codes, least);
    codes += has_min ? 2 : 0;
    const size_t fifth = codes;
    codes += bits == 5 ? 4 : 0;
    for (size_t i = 0; i < 32; i++) {
        if (bits == 8) {
            b[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inv);
            continue;
        }
        const float scaled = has_min ? (x[i] - least) * inv : x[i] * inv;
        const int q = bounded((double)(scaled + (has_min ? 0.5f : (float)(1 << (bits - 1)) + 0.5f)), top);
        b[codes + i % 16] |= (uint8_t)((q & 15) << 4 * (i / 16));
        if (q & 16)
            b[fifth + i / 8] |= (uint8_t)(1 << i % 8);
    }
}

static void formulas(void **state)
{
    static const enum dtype types[] = { DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1 };
    struct rng rng;

    (void)state;
    rng_seed(&rng, 1);
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        const size_t bytes = dtype_info(types[t])->block_bytes;
        for (size_t i = 0; i < N_BLOCKS; i++) {
            float x[32];
            uint8_t want[34], got[34];
            random_block(&rng, x);
            plain_block(types[t], x, want);
            assert_true(quantize_values(types[t], got, x, 32));
            if (memcmp(want, got, bytes))
                fail_msg("%s block %zu: other bytes than the formula's", dtype_info(types[t])->name, i);
        }
    }
}

/* Bytes of x[i] = (i - 13) / 7 by gguf-py 0.19.0, quants.quantize, so that no error is common to the two above. */
static void recorded_bytes(void **state)
{
    static const struct { enum dtype type; const char *hex; } cases[] = {
        { DTYPE_Q8_0, "2f25a4abb2b9c0c8cfd6dde4ebf2f900070e151c232a313840474e555c636a71787f" },
        { DTYPE_Q4_0, "25b57e6d6d5c5c4c4b4b3a3a292918180807" },
        { DTYPE_Q4_1, "b9346ebf80809191a2a2b3b3c4c4d5d5e6e6f7f7" },
        { DTYPE_Q5_0, "25b1ff3f0000dccbcab9a89786756454434231201f0e" },
        { DTYPE_Q5_1, "92306ebf0000ffff00112233445566778899aabbccddeeff" },
    };
    float x[32];

    (void)state;
    for (int i = 0; i < 32; i++)
        x[i] = (float)(i - 13) / 7;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        const size_t bytes = dtype_info(cases[c].type)->block_bytes;
        char hex[2 * 34 + 1];
        uint8_t b[34];
        assert_true(quantize_values(cases[c].type, b, x, 32));
        for (size_t i = 0; i < bytes; i++)
            snprintf(hex + 2 * i, 3, "%02x", b[i]);
        assert_string_equal(hex, cases[c].hex);
    }
}

/* sum (value - x)^2 of a row of blocks. */
static double error_of(enum dtype type, const uint8_t *blocks, const float *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        const double diff = (double)file_dequantise(type, blocks, i) - (double)x[i];
        sum += diff * diff;
    }
    return sum;
}

/* What is left if every sub-block's scale and minimum are taken from its range, and are exact: no search, and no 6-bit scales either. */
static double range_error(enum dtype type, const float *x, size_t n)
{
    const size_t sub = type == DTYPE_Q6_K ? 16 : 32;
    double sum = 0;

    for (size_t i = 0; i < n; i += sub) {
        double least = 0, most = 0;
        for (size_t j = i; j < i + sub; j++) {
            least = fmin(least, (double)x[j]);
            most = fmax(most, (double)x[j]);
        }
        const int top = type == DTYPE_Q4_K ? 15 : type == DTYPE_Q5_K ? 31 : 63;
        double d = (most - least) / top;
        if (type == DTYPE_Q6_K) {
            d = fmax(most, -least) / 32;
            least = -32 * d;
        }
        for (size_t j = i; j < i + sub && d > 0; j++) {
            const double q = fmin(fmax(rint(((double)x[j] - least) / d), 0), top), diff = q * d + least - (double)x[j];
            sum += diff * diff;
        }
    }
    return sum;
}

enum values { NORMAL, HEAVY_TAILS, POSITIVE, N_KINDS };

static float gaussian(struct rng *rng)
{
    const double u = (double)rng_float(rng, 0, 1), v = (double)rng_float(rng, 0, 1);

    return (float)(sqrt(-2 * log(1 - u * 0.9999999)) * cos(6.283185307179586 * v));
}

static void weights(struct rng *rng, enum values kind, float *x)
{
    for (size_t i = 0; i < K_VALUES; i++) {
        const float g = gaussian(rng) * 0.02f;
        x[i] = kind == HEAVY_TAILS ? g * (rng_below(rng, 20) ? 1 : 4) : kind == POSITIVE ? fabsf(g) + 0.01f : g;
    }
}

/*
 * Measured, squares of errors against those of the range alone (with exact scales, so that the search starts behind), and against those
 * of llama.cpp's quantize_row_*_ref on the same values:
 *     Q4_K    0.81 0.85 0.84    0.98 0.97 1.00
 *     Q5_K    0.86 0.88 0.87    0.94 0.93 1.00
 *     Q6_K    0.64 0.69 0.47    1.00 1.00 1.00
 */
static void search_beats_range(void **state)
{
    static const struct { enum dtype type; double most[N_KINDS]; } cases[] = {
        { DTYPE_Q4_K, { 0.83, 0.87, 0.86 } }, { DTYPE_Q5_K, { 0.87, 0.9, 0.89 } }, { DTYPE_Q6_K, { 0.66, 0.71, 0.49 } },
    };
    float *x = malloc(K_VALUES * sizeof(*x));
    uint8_t *blocks = malloc(K_VALUES);
    struct rng rng;

    (void)state;
    assert_non_null(x);
    assert_non_null(blocks);
    rng_seed(&rng, 2);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
        for (int kind = 0; kind < N_KINDS; kind++) {
            weights(&rng, (enum values)kind, x);
            assert_true(quantize_values(cases[c].type, blocks, x, K_VALUES));
            const double ratio = error_of(cases[c].type, blocks, x, K_VALUES) / range_error(cases[c].type, x, K_VALUES);
            if (ratio > cases[c].most[kind])
                fail_msg("%s, values %d: %.3f of the error of the range", dtype_info(cases[c].type)->name, kind, ratio);
        }
    free(x);
    free(blocks);
}

/* What blocks can hold exactly comes back: zeros, and all codes of every sub-block. */
static void exact_values(void **state)
{
    static const struct { enum dtype type; int most; } cases[] = { { DTYPE_Q4_K, 15 }, { DTYPE_Q5_K, 31 }, { DTYPE_Q6_K, 0 } };

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        float x[256] = { 0 };
        uint8_t b[210];
        assert_true(quantize_values(cases[c].type, b, x, 256));
        assert_true(error_of(cases[c].type, b, x, 256) == 0);
        for (int i = 0; i < 256; i++)
            x[i] = 0.25f * 63 * (float)(i * 7 % (cases[c].most + 1));
        assert_true(quantize_values(cases[c].type, b, x, 256));
        assert_true(error_of(cases[c].type, b, x, 256) == 0);
    }
}

static void refused_values(void **state)
{
    float x[256] = { 0 };
    uint8_t out[1024];

    (void)state;
    for (size_t t = 0; t < QUANTIZE_TARGETS; t++) {
        const enum dtype type = quantize_targets[t].type;
        const size_t n = dtype_info(type)->block == 32 ? 32 : 256;
        for (size_t at = 0; at < n; at += n - 1) {
            static const float bad[] = { NAN, INFINITY, -INFINITY };
            for (size_t i = 0; i < 3; i++) {
                x[at] = bad[i];
                assert_false(quantize_values(type, out, x, n));
            }
            x[at] = -3e38f;
            assert_int_equal(quantize_values(type, out, x, n), type == DTYPE_F32 || type == DTYPE_BF16);
            x[at] = 3e38f;
            assert_int_equal(quantize_values(type, out, x, n), type == DTYPE_F32 || type == DTYPE_BF16);
            x[at] = 60000;
            assert_true(quantize_values(type, out, x, n));
            x[at] = 0;
        }
    }
}

static void plain_types(void **state)
{
    static const float x[] = { 1, -0.0f, 0.1f, 65504, 1e-8f };
    half h[5];
    bf16 b[5];
    float f[5];

    (void)state;
    assert_true(quantize_values(DTYPE_F32, f, x, 5) && quantize_values(DTYPE_F16, h, x, 5) && quantize_values(DTYPE_BF16, b, x, 5));
    assert_memory_equal(f, x, sizeof(x));
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(h[i], half_from_float(x[i]));
        assert_int_equal(b[i], bf16_from_float(x[i]));
    }
    assert_false(quantize_values(DTYPE_F16, h, (const float[]){ 65520 }, 1));
    assert_false(quantize_values(DTYPE_BF16, b, (const float[]){ 3.4e38f }, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formulas), cmocka_unit_test(recorded_bytes), cmocka_unit_test(search_beats_range),
        cmocka_unit_test(exact_values), cmocka_unit_test(refused_values), cmocka_unit_test(plain_types),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
