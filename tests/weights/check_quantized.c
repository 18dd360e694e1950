/*
 * tests/weights/check_quantized.c - quantized folders: every value that an index gives, against the formula of its method, word by word
 * from the tensors as they are stored. Rows are read in ranges of any place and length, too.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "tests/weights/quantized_folder.h"

static const char gate[] = "model.layers.0.mlp.gate_proj";

static uint64_t random_state = 1;
static uint32_t random_word(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

/* The stored tensors of one matrix, and how its numbers are made of them. */
struct problem {
    size_t n_rows, n_columns, group;
    uint32_t *codes, *zeros;            /* words; or bytes */
    uint16_t *scales;                   /* float16, or bfloat16 */
    float *wide_scales;
    uint32_t bits;
    int zero_plus;
    bool bf16, symmetric;
};

/* Random words, all of one byte where `fill` is not negative; then a scale each for n_scales, of either sign. */
static void fill(struct problem *p, size_t n_words, size_t n_zeros, int zero_byte, size_t n_scales)
{
    p->codes = malloc(n_words * 4);
    p->zeros = malloc(n_zeros * 4 + 1);
    p->scales = malloc(n_scales * 2);
    p->wide_scales = malloc(n_scales * 4);
    for (size_t i = 0; i < n_words; i++)
        p->codes[i] = random_word();
    for (size_t i = 0; i < n_zeros; i++)
        p->zeros[i] = zero_byte < 0 ? random_word() : 0x01010101u * (uint32_t)zero_byte;
    for (size_t i = 0; i < n_scales; i++) {
        const float value = ((float)(random_word() % 4096) - 2000) / 65536;
        p->scales[i] = p->bf16 ? bf16_from_float(value) : half_from_float(value);
        p->wide_scales[i] = value * 1.2345678f;
    }
}

static void empty(struct problem *p)
{
    free(p->codes);
    free(p->zeros);
    free(p->scales);
    free(p->wide_scales);
}

static float scale_at(const struct problem *p, size_t i)
{
    return p->bf16 ? bf16_to_float(p->scales[i]) : half_to_float(p->scales[i]);
}

static int code_in(uint32_t word, size_t i, uint32_t bits)
{
    return (int)(word >> (i * bits) & ((1u << bits) - 1));
}

typedef float (*value_of)(const struct problem *p, size_t row, size_t column);

static float gptq_value(const struct problem *p, size_t o, size_t i)
{
    const size_t per = 32 / p->bits, g = i / p->group;
    const int q = code_in(p->codes[i / per * p->n_rows + o], i % per, p->bits);
    const int z = code_in(p->zeros[g * (p->n_rows / per) + o / per], o % per, p->bits) + p->zero_plus;

    return scale_at(p, g * p->n_rows + o) * (float)(q - z);
}

static float awq_value(const struct problem *p, size_t o, size_t i)
{
    static const size_t slot[] = { 0, 4, 1, 5, 2, 6, 3, 7 };
    const size_t g = i / p->group;
    const int q = code_in(p->codes[i * (p->n_rows / 8) + o / 8], slot[o % 8], 4);
    const int z = code_in(p->zeros[g * (p->n_rows / 8) + o / 8], slot[o % 8], 4);

    return scale_at(p, g * p->n_rows + o) * (float)(q - z);
}

static float packed_value(const struct problem *p, size_t o, size_t i)
{
    const size_t per = 32 / p->bits, n_groups = p->n_columns / p->group, g = i / p->group;
    const int q = code_in(p->codes[o * (p->n_columns / per) + i / per], i % per, p->bits);
    const int z = p->symmetric ? 1 << (p->bits - 1) : code_in(p->zeros[o / 8 * n_groups + g], o % 8, 4);

    return scale_at(p, o * n_groups + g) * (float)(q - z);
}

static float int8_value(const struct problem *p, size_t o, size_t i)
{
    return scale_at(p, o * (p->n_columns / p->group) + i / p->group) * (float)((const int8_t *)p->codes)[o * p->n_columns + i];
}

static float value_of_e4m3(uint8_t v)
{
    const int exponent = v >> 3 & 15, m = v & 7;
    const float magnitude = exponent ? ldexpf(1 + (float)m / 8, exponent - 7) : ldexpf((float)m, -9);

    return v & 0x80 ? -magnitude : magnitude;
}

/* Scales of blocks of 128 by p->group. */
static float fp8_value(const struct problem *p, size_t o, size_t i)
{
    const size_t n_wide = (p->n_columns + p->group - 1) / p->group;

    return value_of_e4m3(((const uint8_t *)p->codes)[o * p->n_columns + i]) * p->wide_scales[o / 128 * n_wide + i / p->group];
}

static const float e2m1[16] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6 };

static float mxfp4_value(const struct problem *p, size_t o, size_t i)
{
    const uint8_t *codes = (const uint8_t *)p->codes, *scales = (const uint8_t *)p->zeros;
    const uint8_t byte = codes[o * (p->n_columns / 2) + i / 2];

    return e2m1[i % 2 ? byte >> 4 : byte & 15] * ldexpf(1, scales[o * (p->n_columns / 32) + i / 32] - 127);
}

/* 32 values of a block, as GGUF defines it. */
static void decode(uint32_t type, const unsigned char *block, float out[32])
{
    uint16_t d;
    uint32_t high;
    float scale;

    memcpy(&d, block, 2);
    for (size_t j = 0; j < 32; j++) {
        switch (type) {
        case DTYPE_Q4_0:
            out[j] = half_to_float(d) * (float)((j < 16 ? block[2 + j] & 15 : block[2 + j - 16] >> 4) - 8);
            break;
        case DTYPE_Q5_0:
            memcpy(&high, block + 2, 4);
            out[j] = half_to_float(d) *
                     (float)((int)((j < 16 ? block[6 + j] & 15u : block[6 + j - 16] >> 4) | (high >> j & 1) << 4) - 16);
            break;
        case DTYPE_Q8_0:
            out[j] = half_to_float(d) * (float)(int8_t)block[2 + j];
            break;
        case DTYPE_MXFP4:
            out[j] = e2m1[j < 16 ? block[1 + j] & 15 : block[1 + j - 16] >> 4] * ldexpf(1, block[0] - 127);
            break;
        default:
            memcpy(&scale, block, 4);
            out[j] = value_of_e4m3(block[4 + j]) * scale;
        }
    }
}

/* The tensor has this type, and these values in rows from `first` of the index on; pieces of its bytes are those of the whole. */
static void compare(const struct gguf *g, const char *name, uint32_t type, const struct problem *p, value_of value, bool rotated,
                    size_t first)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    const struct dtype_info *info = dtype_info(type);
    float got[32];

    assert_non_null(t);
    if (t->type != type || t->ne[0] != p->n_columns)
        fail_msg("%s is %s, {%zu, %zu}", name, dtype_info(t->type)->name, (size_t)t->ne[0], (size_t)t->ne[1]);
    const size_t row_bytes = p->n_columns / 32 * info->block_bytes;
    unsigned char *all = malloc(t->bytes), *part = malloc(t->bytes);
    assert_int_equal(gguf_read(g, t, 0, all, t->bytes), 0);
    for (size_t r = 0; r < p->n_rows; r++) {
        const size_t head = r / 8 * 8, row = rotated ? head + r % 8 / 2 + r % 2 * 4 : r;        /* of a head of eight */
        for (size_t i = 0; i < p->n_columns; i++) {
            if (i % 32 == 0)
                decode(type, all + (first + r) * row_bytes + i / 32 * info->block_bytes, got);
            if (memcmp(&got[i % 32], &(float){ value(p, row, i) }, 4) && (got[i % 32] != 0 || value(p, row, i) != 0))
                fail_msg("%s row %zu column %zu is %a, expected %a", name, r, i, got[i % 32], value(p, row, i));
        }
    }
    for (int i = 0; i < 60; i++) {
        const size_t from = random_word() % t->bytes, n = random_word() % (t->bytes - from) + 1;
        assert_int_equal(gguf_read(g, t, from, part, n), 0);
        if (memcmp(part, all + from, n))
            fail_msg("%s: bytes %zu + %zu differ", name, from, n);
        gguf_drop_cache(g, t, from, n);
    }
    free(all);
    free(part);
}

static const char *shape(size_t a, size_t b)
{
    static char text[4][48];
    static size_t turn;
    char *to = text[turn++ % 4];

    snprintf(to, sizeof(text[0]), "%zu,%zu", a, b);
    return to;
}

static void put_gptq(struct quantized_folder *f, const char *matrix, const struct problem *p, bool awq, bool g_idx)
{
    const size_t n_groups = p->n_columns / p->group, per = 32 / p->bits;
    int32_t *order = malloc(p->n_columns * 4);

    for (size_t i = 0; i < p->n_columns; i++)
        order[i] = (int32_t)(i / p->group);
    quantized_put(f, matrix, "qweight", "I32", awq ? shape(p->n_columns, p->n_rows / 8) : shape(p->n_columns / per, p->n_rows), p->codes,
                  p->n_rows * p->n_columns / per * 4);
    quantized_put(f, matrix, "scales", p->bf16 ? "BF16" : "F16", shape(n_groups, p->n_rows), p->scales, n_groups * p->n_rows * 2);
    quantized_put(f, matrix, "qzeros", "I32", shape(n_groups, p->n_rows / per), p->zeros, n_groups * p->n_rows / per * 4);
    if (g_idx)
        quantized_put(f, matrix, "g_idx", "I32", strchr(shape(0, p->n_columns), ',') + 1, order, p->n_columns * 4);
    free(order);
}

/* Opens a written folder, compares the one matrix, and removes it. */
static void check_one(struct quantized_folder *f, const char *quantization, uint32_t type, const struct problem *p, value_of value)
{
    const char *folder = quantized_write(f, "llama", quantization);
    struct gguf *g;

    assert_int_equal(gguf_open(&g, folder), 0);
    assert_int_equal(gguf_n_tensors(g), 1);
    compare(g, "blk.0.ffn_gate.weight", type, p, value, false, 0);
    gguf_close(g);
    folder_remove(folder);
}

static const struct { size_t n_rows, n_columns, group; } sizes[] = {
    { 48, 192, 64 }, { 8, 19200, 128 }, { 600, 64, 32 }, { 1024, 128, 128 }, { 16, 96, 96 }, { 2000, 32, 32 }
};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static void check_gptq(void **state)
{
    static const struct { const char *config; uint32_t bits; int plus; bool bf16; int zero; uint32_t type; } kinds[] = {
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"sym\":false,\"desc_act\":false}", 4, 1, false, -1, DTYPE_Q5_0 },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"gptq_v2\"}", 4, 0, false, -1, DTYPE_Q5_0 },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"sym\":true,\"checkpoint_format\":\"gptq\"}", 4, 1, true, 0x77, DTYPE_Q4_0 },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"sym\":true,\"checkpoint_format\":\"gptq_v2\"}", 4, 0, false, 0x88, DTYPE_Q4_0 },
        { "{\"quant_method\":\"gptq\",\"bits\":8,\"sym\":true}", 8, 1, false, 0x7f, DTYPE_Q8_0 },
    };

    (void)state;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (size_t i = 0; i < N_SIZES; i++) {
            struct quantized_folder f = { .n = 0 };
            struct problem p = { sizes[i].n_rows, sizes[i].n_columns, sizes[i].group, .bits = kinds[k].bits, .zero_plus = kinds[k].plus,
                                 .bf16 = kinds[k].bf16 };
            const size_t per = 32 / p.bits, n_groups = p.n_columns / p.group;
            fill(&p, p.n_rows * p.n_columns / per, n_groups * p.n_rows / per, kinds[k].zero, n_groups * p.n_rows);
            put_gptq(&f, gate, &p, false, k % 2 == 0);
            check_one(&f, kinds[k].config, kinds[k].type, &p, gptq_value);
            empty(&p);
        }
    }
}

static void check_awq(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        struct quantized_folder f = { .n = 0 };
        struct problem p = { sizes[i].n_rows, sizes[i].n_columns, sizes[i].group, .bits = 4 };
        const size_t n_groups = p.n_columns / p.group;
        fill(&p, p.n_rows * p.n_columns / 8, n_groups * p.n_rows / 8, -1, n_groups * p.n_rows);
        put_gptq(&f, gate, &p, true, false);
        check_one(&f, "{\"quant_method\":\"awq\",\"bits\":4,\"zero_point\":true,\"version\":\"GEMM\"}", DTYPE_Q5_0, &p, awq_value);
        empty(&p);
    }
}

static void put_packed(struct quantized_folder *f, const char *matrix, const struct problem *p)
{
    const size_t n_groups = p->n_columns / p->group, per = 32 / p->bits;
    const int64_t size[2] = { (int64_t)p->n_rows, (int64_t)p->n_columns };

    quantized_put(f, matrix, "weight_packed", "I32", shape(p->n_rows, p->n_columns / per), p->codes, p->n_rows * p->n_columns / per * 4);
    quantized_put(f, matrix, "weight_scale", p->bf16 ? "BF16" : "F16", shape(p->n_rows, n_groups), p->scales, n_groups * p->n_rows * 2);
    quantized_put(f, matrix, "weight_shape", "I64", "2", size, sizeof(size));
    if (!p->symmetric)
        quantized_put(f, matrix, "weight_zero_point", "I32", shape((p->n_rows + 7) / 8, n_groups), p->zeros,
                      (p->n_rows + 7) / 8 * n_groups * 4);
}

static const char packed[] = "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\"}";

static void check_packed(void **state)
{
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < N_SIZES; i++) {
            struct quantized_folder f = { .n = 0 };
            /* Three rows less: zero points of rows that are no multiple of eight. */
            struct problem p = { sizes[i].n_rows - 3, sizes[i].n_columns, sizes[i].group, .bits = k == 2 ? 8 : 4, .bf16 = k == 0,
                                 .symmetric = k != 1 };
            const size_t n_groups = p.n_columns / p.group;
            fill(&p, p.n_rows * p.n_columns * p.bits / 32, (p.n_rows + 7) / 8 * n_groups, -1, n_groups * p.n_rows);
            put_packed(&f, gate, &p);
            check_one(&f, packed, k == 0 ? DTYPE_Q4_0 : k == 1 ? DTYPE_Q5_0 : DTYPE_Q8_0, &p, packed_value);
            empty(&p);
        }
    }
}

static void check_int8(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        struct quantized_folder f = { .n = 0 };
        struct problem p = { sizes[i].n_rows, sizes[i].n_columns, i % 2 ? sizes[i].n_columns : sizes[i].group, .bits = 8,
                             .bf16 = i % 3 == 0 };
        const size_t n = p.n_rows * p.n_columns, n_groups = p.n_columns / p.group;
        fill(&p, n / 4, p.n_rows * n_groups, 0, n_groups * p.n_rows);
        quantized_put(&f, gate, "weight", "I8", shape(p.n_rows, p.n_columns), p.codes, n);
        quantized_put(&f, gate, "weight_scale", p.bf16 ? "BF16" : "F16", shape(p.n_rows, n_groups), p.scales, n_groups * p.n_rows * 2);
        quantized_put(&f, gate, "weight_zero_point", "I8", shape(p.n_rows, n_groups), p.zeros, n_groups * p.n_rows);
        quantized_put(&f, gate, "input_scale", "F32", "1", p.wide_scales, 4);
        check_one(&f, "{\"quant_method\":\"compressed-tensors\",\"format\":\"int-quantized\",\"config_groups\":{\"group_0\":{}}}",
                  DTYPE_Q8_0, &p, int8_value);
        empty(&p);
    }
}

static void without_nan(struct problem *p, size_t n)
{
    uint8_t *codes = (uint8_t *)p->codes;

    for (size_t i = 0; i < n; i++)
        if ((codes[i] & 0x7f) == 0x7f)
            codes[i] ^= 1;
}

/* Blocks of 128 by 128 that the matrix's edges cut, in float32 and as exponents. */
static void check_fp8(void **state)
{
    static const char config[] = "{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\",\"activation_scheme\":\"dynamic\","
                                 "\"weight_block_size\":[128,128]}";

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < N_SIZES; i++) {
            struct quantized_folder f = { .n = 0 };
            struct problem p = { sizes[i].n_rows, sizes[i].n_columns, 128, .bits = 8 };
            const size_t n = p.n_rows * p.n_columns, tall = (p.n_rows + 127) / 128, wide = (p.n_columns + 127) / 128;
            uint8_t *exponents = malloc(tall * wide);
            fill(&p, n / 4, 0, 0, tall * wide);
            without_nan(&p, n);
            for (size_t j = 0; j < tall * wide && k; j++) {
                exponents[j] = (uint8_t)(random_word() % 200 + j % 2);
                p.wide_scales[j] = ldexpf(1, exponents[j] - 127);
            }
            quantized_put(&f, gate, "weight", "F8_E4M3", shape(p.n_rows, p.n_columns), p.codes, n);
            quantized_put(&f, gate, "weight_scale_inv", k ? "F8_E8M0" : "F32", shape(tall, wide), k ? (void *)exponents : p.wide_scales,
                          tall * wide * (k ? 1 : 4));
            check_one(&f, config, DTYPE_F8_E4M3, &p, fp8_value);
            free(exponents);
            empty(&p);
        }
    }
}

/* float-quantized: one scale for the tensor, whose shape is [1], [] or [1,1]; a row's scales are those of int8. */
static void check_fp8_tensor(void **state)
{
    static const char *const shapes[] = { "1", "", "1,1" };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct quantized_folder f = { .n = 0 };
        struct problem p = { 128, 160, 1024, .bits = 8 };
        fill(&p, 128 * 160 / 4, 0, 0, 1);
        without_nan(&p, 128 * 160);
        quantized_put(&f, gate, "weight", "F8_E4M3", "128,160", p.codes, 128 * 160);
        quantized_put(&f, gate, "weight_scale", "F32", shapes[i], p.wide_scales, 4);
        check_one(&f, "{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\"}", DTYPE_F8_E4M3, &p, fp8_value);
        empty(&p);
    }
}

static void check_mxfp4(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SIZES; i++) {
        struct quantized_folder f = { .n = 0 };
        struct problem p = { sizes[i].n_rows, sizes[i].n_columns, 32, .bits = 4 };
        const size_t n = p.n_rows * p.n_columns;
        fill(&p, n / 8, n / 32, -1, 1);
        for (size_t j = 0; j < n / 32; j++)
            ((uint8_t *)p.zeros)[j] = (uint8_t)(((uint8_t *)p.zeros)[j] % 250);         /* its scales: far from infinity */
        quantized_put(&f, gate, "weight_packed", "U8", shape(p.n_rows, p.n_columns / 2), p.codes, n / 2);
        quantized_put(&f, gate, "weight_scale", "U8", shape(p.n_rows, p.n_columns / 32), p.zeros, n / 32);
        check_one(&f, "{\"quant_method\":\"compressed-tensors\",\"format\":\"mxfp4-pack-quantized\"}", DTYPE_MXFP4, &p, mxfp4_value);
        empty(&p);
    }
}

/* Llama's q and k: rows of rotated pairs, from codes that lie along outputs, and along inputs. */
static void check_rotated(void **state)
{
    struct quantized_folder f = { .n = 0 };
    struct problem q = { 16, 64, 32, .bits = 4, .zero_plus = 1 }, v = q;
    struct gguf *g;

    (void)state;
    fill(&q, 16 * 64 / 8, 4, -1, 32);
    fill(&v, 16 * 64 / 8, 4, -1, 32);
    put_gptq(&f, "model.layers.0.self_attn.q_proj", &q, false, true);
    put_gptq(&f, "model.layers.0.self_attn.v_proj", &v, false, true);
    const char *folder = quantized_write(&f, "llama", "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"sym\":false}");
    assert_int_equal(gguf_open(&g, folder), 0);
    compare(g, "blk.0.attn_q.weight", DTYPE_Q5_0, &q, gptq_value, true, 0);
    compare(g, "blk.0.attn_v.weight", DTYPE_Q5_0, &v, gptq_value, false, 0);
    gguf_close(g);
    folder_remove(folder);
    empty(&q);
    empty(&v);
}

/* Three experts, stacked, beside a router and norms that are not quantized. */
static void check_experts(void **state)
{
    static const char *const parts[] = { "gate_proj", "up_proj", "down_proj" };
    static const char *const names[] = { "blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight" };
    static const uint16_t router[3 * 64] = { 0x3f80 };
    struct quantized_folder f = { .n = 0 };
    struct problem p[9];
    struct gguf *g;

    (void)state;
    quantized_put(&f, "model.layers.0.mlp.gate", "weight", "BF16", "3,64", router, sizeof(router));
    for (size_t i = 0; i < 9; i++) {
        char matrix[64];
        p[i] = (struct problem){ i % 3 == 2 ? 64 : 32, i % 3 == 2 ? 32 : 64, 32, .bits = 4, .bf16 = true, .symmetric = true };
        fill(&p[i], 32 * 64 / 8, 0, 0, 32 * 64 / 32);
        snprintf(matrix, sizeof(matrix), "model.layers.0.mlp.experts.%zu.%s", i / 3, parts[i % 3]);
        put_packed(&f, matrix, &p[i]);
    }
    const char *folder = quantized_write(&f, "qwen3_moe", packed);
    assert_int_equal(gguf_open(&g, folder), 0);
    assert_int_equal(gguf_n_tensors(g), 4);
    assert_int_equal(gguf_find_tensor(g, names[0])->ne[2], 3);
    for (size_t i = 0; i < 9; i++) {
        compare(g, names[i % 3], DTYPE_Q4_0, &p[i], packed_value, false, i / 3 * p[i].n_rows);
        empty(&p[i]);
    }
    gguf_close(g);
    folder_remove(folder);
}

/* Keys and values of latent attention: of each head 100 rows that GGUF has transposed, then 60 that it has as they are. */
static void compare_latent(const char *folder, const struct problem *p, value_of value, uint32_t type)
{
    enum { NOPE = 100, VALUE = 60, RANK = 96, HEADS = 2 };
    const size_t row_bytes = RANK / 32 * dtype_info(type)->block_bytes;
    float got[NOPE * RANK * HEADS], decoded[32];
    unsigned char rows[VALUE * HEADS * RANK * 2];
    struct gguf *g;

    assert_int_equal(gguf_open(&g, folder), 0);
    const struct gguf_tensor *keys = gguf_find_tensor(g, "blk.0.attn_k_b.weight"), *values = gguf_find_tensor(g, "blk.0.attn_v_b.weight");
    assert_true(keys->type == DTYPE_F32 && keys->ne[0] == NOPE && keys->ne[1] == RANK && keys->ne[2] == HEADS);
    assert_true(values->type == type && values->ne[0] == RANK && values->ne[1] == VALUE && values->ne[2] == HEADS);
    assert_int_equal(gguf_read(g, keys, 0, got, sizeof(got)), 0);
    assert_int_equal(gguf_read(g, values, 0, rows, values->bytes), 0);
    for (size_t head = 0; head < HEADS; head++) {
        for (size_t c = 0; c < RANK; c++)
            for (size_t d = 0; d < NOPE; d++)
                assert_true(got[(head * RANK + c) * NOPE + d] == value(p, head * (NOPE + VALUE) + d, c));
        for (size_t r = 0; r < VALUE; r++)
            for (size_t c = 0; c < RANK; c++) {
                decode(type, rows + (head * VALUE + r) * row_bytes + c / 32 * dtype_info(type)->block_bytes, decoded);
                assert_true(decoded[c % 32] == value(p, head * (NOPE + VALUE) + NOPE + r, c));
            }
    }
    for (int i = 0; i < 60; i++) {
        float part[NOPE * RANK * HEADS];
        const size_t from = random_word() % sizeof(got), n = random_word() % (sizeof(got) - from) + 1;
        assert_int_equal(gguf_read(g, keys, from, part, n), 0);
        assert_memory_equal(part, (char *)got + from, n);
    }
    gguf_close(g);
    folder_remove(folder);
}

static void check_latent(void **state)
{
    static const char matrix[] = "model.layers.0.self_attn.kv_b_proj";
    struct quantized_folder f = { .n = 0 };
    struct problem gptq = { 320, 96, 32, .bits = 4, .zero_plus = 1 }, fp8 = { 320, 96, 128, .bits = 8 };
    struct problem int8 = { 320, 96, 96, .bits = 8, .bf16 = true }, packed8 = { 320, 96, 32, .bits = 8, .symmetric = true };

    (void)state;
    fill(&gptq, 320 * 96 / 8, 3 * 320 / 8, -1, 3 * 320);
    put_gptq(&f, matrix, &gptq, false, true);
    compare_latent(quantized_write(&f, "deepseek_v3", "{\"quant_method\":\"gptq\",\"bits\":4}"), &gptq, gptq_value, DTYPE_Q5_0);
    fill(&fp8, 320 * 96 / 4, 0, 0, 3);
    without_nan(&fp8, 320 * 96);
    quantized_put(&f, matrix, "weight", "F8_E4M3", "320,96", fp8.codes, 320 * 96);
    quantized_put(&f, matrix, "weight_scale_inv", "F32", "3,1", fp8.wide_scales, 12);
    compare_latent(quantized_write(&f, "deepseek_v3", "{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}"), &fp8, fp8_value,
                   DTYPE_F8_E4M3);
    fill(&int8, 320 * 96 / 4, 0, 0, 320);
    quantized_put(&f, matrix, "weight", "I8", "320,96", int8.codes, 320 * 96);
    quantized_put(&f, matrix, "weight_scale", "BF16", "320,1", int8.scales, 640);
    compare_latent(quantized_write(&f, "deepseek_v3", packed), &int8, int8_value, DTYPE_Q8_0);
    fill(&packed8, 320 * 96 / 4, 0, 0, 3 * 320);
    put_packed(&f, matrix, &packed8);
    compare_latent(quantized_write(&f, "deepseek_v3", packed), &packed8, packed_value, DTYPE_Q8_0);
    empty(&gptq);
    empty(&fp8);
    empty(&int8);
    empty(&packed8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_gptq), cmocka_unit_test(check_awq), cmocka_unit_test(check_packed), cmocka_unit_test(check_int8),
        cmocka_unit_test(check_fp8), cmocka_unit_test(check_fp8_tensor), cmocka_unit_test(check_mxfp4), cmocka_unit_test(check_rotated),
        cmocka_unit_test(check_experts), cmocka_unit_test(check_latent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
