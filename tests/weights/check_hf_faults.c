/*
 * tests/weights/check_hf_faults.c - memory fails at the N-th call, N = 1, 2, 3 ... until a whole opening of a folder passes without
 * a hit. After each failure: an error, no model, no file left open; the address sanitizer looks for leaks.
 *
 * The functions are replaced by the linker (--wrap), so the code under test is the one that ships.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "tests/weights/quantized_folder.h"
#include "weights/gguf.h"
#include "weights/tokenizer.h"

static bool armed;
static unsigned calls_left;         /* the failure happens when it reaches 0 */

static bool fails_now(void)
{
    return armed && --calls_left == 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size)
{
    return fails_now() ? NULL : __real_realloc(p, size);
}

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s)
{
    return fails_now() ? NULL : __real_strdup(s);
}

int __wrap_asprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **out, const char *format, ...)
{
    va_list args;

    if (fails_now())
        return -1;
    va_start(args, format);
    int n = vasprintf(out, format, args);
    va_end(args);
    return n;
}

static size_t n_open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void check_folder(const char *folder)
{
    const size_t n_files = n_open_files();
    struct log_capture log;
    unsigned n = 1;

    for (;; n++) {
        struct gguf *g;
        log_capture_start(&log);
        calls_left = n;
        armed = true;
        int err = gguf_open(&g, folder);
        armed = false;
        log_capture_start(NULL);
        if (!err) {
            gguf_close(g);
            break;
        }
        if (err != -ENOMEM || g || !log.n_lines || n_open_files() != n_files)
            fail_msg("call %u: error %d, %zu lines (%s), %zu files", n, err, log.n_lines, log.last, n_open_files());
    }
    assert_true(n > 20);
    assert_int_equal(n_open_files(), n_files);
    print_message("%s: %u calls failed in turn\n", folder, n - 1);
}

static void check_llama(void **state)
{
    (void)state;
    check_folder("tests/data/golden/llama");
}

/* Tensors in pieces. */
static void check_mixtures(void **state)
{
    (void)state;
    check_folder("tests/data/golden/deepseek_v3");
    check_folder("tests/data/golden/gpt_oss");
}

/* Shards, and a vocabulary of characters. */
static void check_shards(void **state)
{
    const char *folder = folder_make();
    const float zero[] = { 0 };

    (void)state;
    folder_put_text(folder, "config.json", "{\"model_type\":\"phi3\",\"hidden_size\":8,\"intermediate_size\":8,\"num_hidden_layers\":1,"
        "\"num_attention_heads\":2,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8,\"vocab_size\":6,\"tie_word_embeddings\":true,"
        "\"original_max_position_embeddings\":4,\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1,2],\"short_factor\":[1,1]}}");
    folder_put_text(folder, "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"merges\":[[\"\u2581\",\"a\"]],"
        "\"vocab\":{\"<unk>\":0,\"\u2581\":1,\"a\":2,\"\u2581a\":3}},\"added_tokens\":[{\"id\":4,\"content\":\"\u2581x\"}],"
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"always\",\"split\":false}}");
    folder_put_text(folder, "chat_template.jinja", "x");
    folder_put_safetensors(folder, "a.safetensors", "{\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[1],"
                                                    "\"data_offsets\":[0,4]}}", zero, 4);
    folder_put_safetensors(folder, "b.safetensors", "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[1],"
                                                    "\"data_offsets\":[0,4]}}", zero, 4);
    folder_put_text(folder, "model.safetensors.index.json", "{\"weight_map\":{\"model.norm.weight\":\"a.safetensors\","
                                                            "\"model.embed_tokens.weight\":\"b.safetensors\"}}");
    check_folder(folder);
    folder_remove(folder);
}

/* Matrices of codes and scales, of which each takes memory of the index. */
static void check_quantized(void **state)
{
    static const unsigned char zeros[128];
    struct quantized_folder f = { .n = 0 };

    (void)state;
    for (size_t i = 0; i < 20; i++) {
        char matrix[64];
        snprintf(matrix, sizeof(matrix), "model.layers.%zu.mlp.down_proj", i);
        quantized_put(&f, matrix, "weight_packed", "I32", "8,4", zeros, 128);
        quantized_put(&f, matrix, "weight_scale", "BF16", "8,1", zeros, 16);
        quantized_put(&f, matrix, "weight_shape", "I64", "2", (const int64_t[]){ 8, 32 }, 16);
    }
    const char *folder = quantized_write(&f, "llama", "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\"}");
    check_folder(folder);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(check_llama), cmocka_unit_test(check_mixtures), cmocka_unit_test(check_shards),
                                        cmocka_unit_test(check_quantized) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
