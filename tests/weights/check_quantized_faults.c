/*
 * tests/weights/check_quantized_faults.c - quantized folders that are wrong, or that no GGUF type holds exactly: one line each, when the
 * folder is opened or, for what only the data tells, when its rows are read.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "tests/weights/quantized_folder.h"

enum { MOST_BYTES = 64 << 10 };

/* A tensor of the one matrix: its bytes are zeros, but for the first. */
struct part { const char *name, *type, *shape; size_t n; uint64_t first; };

#define GPTQ(more) "{\"quant_method\":\"gptq\",\"bits\":4" more "}"
#define AWQ(more) "{\"quant_method\":\"awq\",\"bits\":4" more "}"
#define COMPRESSED(more) "{\"quant_method\":\"compressed-tensors\"" more "}"
#define FP8(more) "{\"quant_method\":\"fp8\"" more "}"

/* What stands at index 0 of a tensor: float16 1, bfloat16 1, shapes. */
enum { HALF_ONE = 0x3c00, BF16_ONE = 0x3f80 };

static const char *make(const char *config, const struct part *parts, size_t n)
{
    static unsigned char bytes[MOST_BYTES];
    struct quantized_folder f = { .n = 0 };

    for (size_t i = 0; i < n && parts[i].name; i++) {
        assert_true(parts[i].n <= MOST_BYTES);
        memset(bytes, 0, parts[i].n);
        memcpy(bytes, &parts[i].first, parts[i].n < 8 ? parts[i].n : 8);
        if (!strcmp(parts[i].name, "weight_shape"))
            bytes[8] = 64;
        quantized_put(&f, "model.layers.0.mlp.gate_proj", parts[i].name, parts[i].type, parts[i].shape, bytes, parts[i].n);
    }
    if (!n)                         /* a folder whose configuration is refused before any tensor is looked at */
        quantized_put(&f, "model", "norm.weight", "F32", "1", bytes, 4);
    return quantized_write(&f, "llama", config);
}

static void check_line(const char *what, int err, int want, const struct log_capture *log, const char *message)
{
    if (err != want || log->n_lines != 1 || !strstr(log->last, message))
        fail_msg("%s: %d, %zu lines, \"%s\"; expected \"%s\"", what, err, log->n_lines, log->last, message);
}

static void refused(const char *config, const struct part *parts, size_t n, const char *message)
{
    const char *folder = make(config, parts, n);
    struct log_capture log;
    struct gguf *g;

    log_capture_start(&log);
    int err = gguf_open(&g, folder);
    log_capture_start(NULL);
    check_line(config, err, -EINVAL, &log, message);
    assert_null(g);
    folder_remove(folder);
}

static void check_configs(void **state)
{
    static const struct { const char *config, *message; } cases[] = {
        { "{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}", "config.json: quantized with \"bitsandbytes\", which is not "
          "supported (awq, compressed-tensors, fp8 and gptq are); take the model before it was quantized, and `fourway quantize`" },
        { "{}", "quantized with \"\", which is not supported" },
        { "7", "quantized with \"\", which is not supported" },
        { "{\"quant_method\":7}", "config.json: \"quant_method\" is 7" },
        { "{\"quant_method\":\"gptq\",\"bits\":3}", "GPTQ of 3 bits is not supported (4 and 8 are); take the model before" },
        { "{\"quant_method\":\"gptq\",\"bits\":-4}", "\"bits\" is -4, expected 1..32" },
        { "{\"quant_method\":\"gptq\",\"bits\":\"4\"}", "\"bits\" is \"4\"" },
        { GPTQ(",\"group_size\":0"), "\"group_size\" is neither -1 nor a number of columns" },
        { GPTQ(",\"group_size\":\"all\""), "\"group_size\" is neither -1 nor a number of columns" },
        { GPTQ(",\"checkpoint_format\":\"marlin\""), "GPTQ with \"checkpoint_format\" \"marlin\" is not supported; take" },
        { GPTQ(",\"is_marlin_format\":true"), "GPTQ in the order of Marlin kernels is not supported" },
        { GPTQ(",\"sym\":\"yes\""), "\"sym\" is \"yes\"" },
        { "{\"quant_method\":\"awq\",\"bits\":8}", "AWQ of 8 bits is not supported (4 are)" },
        { AWQ(",\"version\":\"gemv\""), "AWQ with \"version\" \"gemv\" is not supported; take" },
        { FP8(",\"fmt\":\"e5m2\""), "FP8 with \"fmt\" \"e5m2\" is not supported" },
        { FP8(",\"weight_block_size\":[128]"), "the size of its blocks is no array of two numbers" },
        { FP8(",\"weight_block_size\":[128,0]"), "the size of its blocks is no array of two numbers" },
        { FP8(",\"weight_block_size\":[128,1e30]"), "the size of its blocks is no array of two numbers" },
        { COMPRESSED(",\"format\":\"nvfp4-pack-quantized\""), "compressed-tensors with \"format\" \"nvfp4-pack-quantized\" is not" },
        { COMPRESSED(",\"format\":\"pack-quantized\",\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}"),
          "\"format\" \"sparse-24-bitmask\" is not supported" },
        { COMPRESSED(",\"transform_config\":{\"config_groups\":{}}"), "with a \"transform_config\" is not supported" },
        { COMPRESSED(",\"config_groups\":{\"group_0\":{\"format\":\"marlin-24\"}}"), "\"format\" \"marlin-24\" is not supported" },
        { COMPRESSED(",\"config_groups\":{\"a\":{\"weights\":{\"block_structure\":\"128x128\"}}}"), "the size of its blocks is no array" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refused(cases[i].config, NULL, 0, cases[i].message);
}

#define QWEIGHT { "qweight", "I32", "8,16", 512, 0 }         /* 16 rows of 64 columns */
#define QZEROS { "qzeros", "I32", "2,2", 16, 0 }
#define SCALES { "scales", "F16", "2,16", 64, HALF_ONE }
#define PACKED { "weight_packed", "I32", "16,8", 512, 0 }
#define PACKED_SCALE { "weight_scale", "BF16", "16,2", 64, BF16_ONE }
#define SHAPE { "weight_shape", "I64", "2", 16, 16 }
#define FP8_WEIGHT { "weight", "F8_E4M3", "16,64", 1024, 0 }
#define NAME "config.json: quantized matrix \"model.layers.0.mlp.gate_proj\" of its model: "

static void check_tensors(void **state)
{
    static const struct { const char *config; struct part parts[5]; const char *message; } cases[] = {
        { GPTQ(""), { QWEIGHT, SCALES }, NAME "\"qzeros\" is missing" },
        { GPTQ(""), { QWEIGHT, QZEROS }, NAME "\"scales\" is missing" },
        { GPTQ(""), { QWEIGHT, QZEROS, { "scales", "I32", "2,16", 128, 0 } }, NAME "scales of type I32 are not supported" },
        { GPTQ(""), { { "qweight", "F16", "8,16", 256, 0 }, QZEROS, SCALES }, NAME "\"qweight\" has type F16, expected I32" },
        { GPTQ(""), { { "qweight", "I32", "128", 512, 0 }, QZEROS, SCALES }, NAME "\"qweight\" is no matrix that lies in one piece" },
        { GPTQ(""), { { "qweight", "I32", "0,16", 0, 0 }, QZEROS, SCALES }, NAME "\"qweight\" is no matrix" },
        { GPTQ(""), { QWEIGHT, { "qzeros", "I32", "2,1", 8, 0 }, SCALES }, NAME "zero points [2, 1] do not fit the weights' [16, 64]" },
        { GPTQ(""), { QWEIGHT, QZEROS, { "scales", "F16", "1,16", 32, 0 } }, NAME "scales [1, 16] do not fit the weights' [16, 64]" },
        { GPTQ(""), { QWEIGHT, QZEROS, { "scales", "F16", "32", 64, 0 } }, NAME "scales [32, 1] do not fit" },
        { GPTQ(""), { QWEIGHT, { "qzeros", "I32", "4,2", 32, 0 }, { "scales", "F16", "4,16", 128, 0 } },
          NAME "groups of 16 columns are not supported: multiples of 32 are" },
        { GPTQ(""), { QWEIGHT, { "qzeros", "I32", "3,2", 24, 0 }, { "scales", "F16", "3,16", 96, 0 } }, NAME "64 columns in 3 groups" },
        { GPTQ(",\"group_size\":64"), { QWEIGHT, QZEROS, SCALES }, NAME "groups of 32 columns, where \"group_size\" is 64" },
        { GPTQ(",\"group_size\":-1"), { QWEIGHT, QZEROS, SCALES }, NAME "groups of 32 columns, where \"group_size\" is" },
        { GPTQ(""), { { "qweight", "I32", "5,16", 320, 0 }, { "qzeros", "I32", "1,2", 8, 0 }, { "scales", "F16", "1,16", 32, 0 } },
          NAME "rows of 40 columns are not supported: multiples of 32 are" },
        { GPTQ(""), { QWEIGHT, QZEROS, SCALES, { "g_idx", "I32", "64", 256, 1 } },
          NAME "column 0 is of group 1: act-order (\"desc_act\") is not supported; take the model before it was quantized" },
        { GPTQ(""), { QWEIGHT, QZEROS, SCALES, { "g_idx", "I32", "64", 256, 0xffffffff } }, NAME "column 0 is of group -1: act-order" },
        { GPTQ(""), { QWEIGHT, QZEROS, SCALES, { "g_idx", "I32", "65", 260, 0 } }, NAME "\"g_idx\" is no list of 64 groups in I32" },
        { "{\"quant_method\":\"gptq\",\"bits\":8}", { { "qweight", "I32", "16,16", 1024, 0 }, { "qzeros", "I32", "2,4", 32, 0 }, SCALES },
          NAME "8 bits that are not symmetric are not supported" },
        { FP8(""), { QWEIGHT, QZEROS, SCALES }, NAME "\"qweight\" is there, but \"quant_method\" is not gptq or awq" },
        { AWQ(""), { QWEIGHT, QZEROS, SCALES }, NAME "zero points [2, 2] do not fit the weights' [128, 8]" },
        { COMPRESSED(""), { PACKED, PACKED_SCALE }, NAME "\"weight_shape\" is missing, or no two numbers in I64" },
        { COMPRESSED(""), { PACKED, SHAPE }, NAME "\"weight_scale\" is missing" },
        { COMPRESSED(""), { PACKED, PACKED_SCALE, { "weight_shape", "I64", "2", 16, 15 } },
          NAME "\"weight_packed\" is [16, 8], which are not 4 or 8 bits for each of [15, 64]" },
        { COMPRESSED(""), { { "weight_packed", "I32", "16,6", 384, 0 }, PACKED_SCALE, SHAPE }, NAME "\"weight_packed\" is [16, 6], which" },
        { COMPRESSED(""), { PACKED, { "weight_scale", "BF16", "15,2", 60, 0 }, SHAPE }, NAME "scales [15, 2] do not fit" },
        { COMPRESSED(""), { PACKED, { "weight_scale", "BF16", "16,0", 0, 0 }, SHAPE }, NAME "64 columns in 0 groups" },
        { COMPRESSED(""), { PACKED, PACKED_SCALE, SHAPE, { "weight_zero_point", "I32", "16,2", 128, 0 } }, NAME "zero points [16, 2] do" },
        { COMPRESSED(""), { PACKED, PACKED_SCALE, SHAPE, { "weight_g_idx", "I32", "64", 256, 1 } }, NAME "column 0 is of group 1: act" },
        { COMPRESSED(""), { { "weight_packed", "U8", "16,32", 512, 0 }, { "weight_scale", "F8_E4M3", "16,4", 64, 0 } },
          NAME "NVFP4 is not supported" },
        { COMPRESSED(""), { { "weight_packed", "U8", "16,32", 512, 0 } }, NAME "\"weight_scale\" is missing, or no exponents in U8" },
        { COMPRESSED(""), { { "weight_packed", "U8", "16,32", 512, 0 }, { "weight_scale", "U8", "16,4", 64, 0 } }, NAME "scales [16, 4]" },
        { COMPRESSED(""), { { "weight", "I8", "16,64", 1024, 0 } }, NAME "\"weight_scale\" is missing" },
        { COMPRESSED(""), { { "weight", "I8", "16,64", 1024, 0 }, PACKED_SCALE, { "weight_zero_point", "I8", "16,1", 16, 0 } },
          NAME "zero points [16, 1] do not fit" },
        { FP8(""), { FP8_WEIGHT }, NAME "\"weight_scale_inv\" is missing" },
        { FP8(""), { FP8_WEIGHT, { "weight_scale_inv", "F32", "1,2", 8, 0 } }, NAME "scales [1, 2] do not fit the weights' [16, 64]" },
        { FP8(""), { FP8_WEIGHT, { "weight_scale_inv", "F32", "1,1,1", 4, 0 } }, NAME "its scales are no matrix" },
        { FP8(",\"weight_block_size\":[16,32]"), { FP8_WEIGHT, { "weight_scale_inv", "F32", "1,2", 8, 0 } },
          NAME "blocks of 32 columns are not supported: multiples of 128 are" },
        { COMPRESSED(""), { FP8_WEIGHT, PACKED_SCALE }, NAME "groups of 32 columns are not supported: multiples of 128 are" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refused(cases[i].config, cases[i].parts, 5, cases[i].message);
}

#define PLACE "/model.safetensors: tensor \"blk.0.ffn_gate.weight\" row 0 columns 0..31: "

/* What only the data tells: the folder opens, its rows cannot be read. */
static void check_values(void **state)
{
    static const struct { const char *config; struct part parts[5]; const char *message; bool everywhere; } cases[] = {
        { GPTQ(""), { QWEIGHT, QZEROS, { "scales", "F16", "2,16", 64, 0x7e00 } }, PLACE "its scale is nan, not a finite number", false },
        { GPTQ(",\"sym\":true"), { QWEIGHT, QZEROS, SCALES },
          PLACE "its zero point is 1: in a matrix that config.json calls symmetric it must be 8", true },
        { COMPRESSED(""), { PACKED, { "weight_scale", "BF16", "16,2", 64, 0xff80 }, SHAPE }, PLACE "its scale is -inf, not a", false },
        { COMPRESSED(""), { PACKED, { "weight_scale", "BF16", "16,2", 64, 0x3001 }, SHAPE },
          PLACE "its scale 4.69299266e-10 is no float16, so Q4_0 cannot hold it exactly; take the model before it was", false },
        { COMPRESSED(""), { PACKED, { "weight_scale", "F32", "16,2", 128, 0x3dcccccd }, SHAPE }, PLACE "its scale 0.100000001 is", false },
        { COMPRESSED(""), { PACKED, { "weight_scale", "BF16", "16,2", 64, 0x4780 }, SHAPE }, PLACE "its scale 65536 is no float16", false },
        { COMPRESSED(""), { { "weight", "I8", "16,64", 1024, 0 }, PACKED_SCALE, { "weight_zero_point", "I8", "16,2", 32, 3 } },
          PLACE "its zero point is 3: in a matrix", false },
        { COMPRESSED(""), { { "weight_packed", "U8", "16,32", 512, 0 }, { "weight_scale", "U8", "16,2", 32, 255 } },
          PLACE "its scale is 255, not a number", false },
        { FP8(""), { FP8_WEIGHT, { "weight_scale_inv", "F32", "", 4, 0x7f800000 } }, PLACE "its scale is inf, not a finite number", true },
        { FP8(""), { FP8_WEIGHT, { "weight_scale_inv", "F8_E8M0", "1", 1, 255 } }, PLACE "its scale is nan, not a finite number", true },
        { FP8(""), { { "weight", "F8_E4M3", "16,64", 1024, 0xff00 }, { "weight_scale_inv", "F32", "", 4, 0 } },
          PLACE "code 1 is 0xff, not a number", false },
    };
    unsigned char bytes[4096];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *folder = make(cases[i].config, cases[i].parts, 5);
        struct log_capture log;
        struct gguf *g;
        assert_int_equal(gguf_open(&g, folder), 0);
        const struct gguf_tensor *t = gguf_tensor_at(g, 0);
        assert_true(t->bytes <= sizeof(bytes));
        log_capture_start(&log);
        int err = gguf_read(g, t, 0, bytes, t->bytes);
        check_line(cases[i].message, err, -EINVAL, &log, cases[i].message);
        /* The last row is wrong only where it shares what is. */
        assert_int_equal(gguf_read(g, t, t->bytes / 16 * 15, bytes, t->bytes / 16), cases[i].everywhere ? -EINVAL : 0);
        log_capture_start(NULL);
        gguf_close(g);
        folder_remove(folder);
    }
}

/* The file is cut after it was opened. */
static void check_cut(void **state)
{
    static const struct part parts[] = { QWEIGHT, QZEROS, SCALES };
    const char *folder = make(GPTQ(""), parts, 3);
    unsigned char bytes[4096];
    struct log_capture log;
    struct gguf *g;
    char path[128];

    (void)state;
    assert_int_equal(gguf_open(&g, folder), 0);
    const struct gguf_tensor *t = gguf_tensor_at(g, 0);
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    assert_int_equal(truncate(path, (off_t)gguf_file_bytes(g) - 1), 0);
    log_capture_start(&log);
    int err = gguf_read(g, t, 0, bytes, t->bytes);
    log_capture_start(NULL);
    check_line("cut", err, -EIO, &log, "the file was cut after it was opened");
    gguf_close(g);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_configs), cmocka_unit_test(check_tensors), cmocka_unit_test(check_values), cmocka_unit_test(check_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
