/*
 * tests/server/check_info.c - `fourway info`: text and JSON of a model with every type of value, of one that no version can run,
 * and of text that would disturb a terminal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "server/commands.h"
#include "tests/weights/gguf_writer.h"
#include "tests/weights/log_capture.h"

static char folder[] = "/tmp/fourway-check-info-XXXXXX";
static char model[64];
static char output[64 << 10];
static struct log_capture lines;

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(model, sizeof(model), "%s/model.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    return system(command);
}

/* Run `fourway info`; what it prints is in `output`, what it logs in `lines`. */
static int info(const char *a, const char *b, const char *c)
{
    char *argv[] = { (char *)"info", (char *)a, (char *)b, (char *)c, NULL };
    int argc = 1 + (a != NULL) + (b != NULL) + (c != NULL);
    FILE *f = tmpfile();

    assert_non_null(f);
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    dup2(fileno(f), STDOUT_FILENO);
    log_capture_start(&lines);
    int status = cmd_info(argc, argv);
    log_capture_start(NULL);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    rewind(f);
    output[fread(output, 1, sizeof(output) - 1, f)] = '\0';
    fclose(f);
    return status;
}

static void expect_line(const char *text)
{
    char line[256];

    snprintf(line, sizeof(line), "\n%s\n", text);
    if (!strstr(output, line) && strncmp(output, line + 1, strlen(line) - 1))
        fail_msg("no line '%s' in:\n%s", text, output);
}

static void write_model(void)
{
    static const char *const tokens[] = { "a", "\xff", "c\n", "d", "e", "f", "g" };
    static const uint64_t embedding[] = { 64, 7 }, norm[] = { 64 }, up[] = { 64, 2, 3 };
    const uint64_t largest = UINT64_MAX;
    const int64_t least = INT64_MIN;
    struct gguf_writer w;

    gguf_writer_init(&w);
    gguf_writer_string(&w, "general.architecture", "nova");
    gguf_writer_string(&w, "general.name", "A \"name\" \x1b[31m \xe4\xbd\xa0 \xc2\x9b \xc3");
    gguf_writer_u32(&w, "nova.context_length", 4096);
    gguf_writer_u32(&w, "nova.block_count", 2);
    gguf_writer_array(&w, "nova.attention.head_count", GGUF_U16, "\4\0\2\0", 2);
    gguf_writer_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(&w, "tokenizer.ggml.pre", "qwen2");
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", tokens, 7);
    gguf_writer_string(&w, "tokenizer.chat_template", "{{ messages }}");
    gguf_writer_number(&w, "largest", GGUF_U64, &largest);
    gguf_writer_number(&w, "least", GGUF_I64, &least);
    gguf_writer_f32(&w, "nan", NAN);
    gguf_writer_f32(&w, "eps", 1e-6f);
    gguf_writer_bool(&w, "flag", 1);
    gguf_writer_tensor(&w, "token_embd.weight", DTYPE_Q8_0, 2, embedding, NULL);
    gguf_writer_tensor(&w, "output_norm.weight", DTYPE_F32, 1, norm, NULL);
    gguf_writer_tensor(&w, "blk.0.ffn_up_exps.weight", (enum dtype)40, 3, up, NULL);
    gguf_writer_save(&w, model);
    gguf_writer_free(&w);
}

static void check_text(void **state)
{
    (void)state;
    write_model();
    assert_int_equal(info(model, NULL, NULL), 0);
    expect_line("architecture     \"nova\"");
    expect_line("name             \"A \\\"name\\\" \\x1b[31m \xe4\xbd\xa0 \\xc2\\x9b \\xc3\"");
    expect_line("parameters       896 (896)");
    expect_line("format           GGUF 3, alignment 32, 1 file");
    expect_line("context length   4096");
    expect_line("layers           2");
    expect_line("heads            [4, 2]");
    expect_line("tokenizer        \"gpt2\"");
    expect_line("pre-tokenizer    \"qwen2\"");
    expect_line("vocabulary       7 tokens");
    expect_line("chat template    yes (14 bytes)");
    expect_line("                 NVFP4         1 tensor,  384 parameters, 216 B (this version cannot run it)");
    expect_line("metadata (14 keys)");
    expect_line("  tokenizer.ggml.tokens                        string[7]       [\"a\", \"\\xff\", \"c\\n\", \"d\", \"e\", \"f\", ...]");
    expect_line("  largest                                      u64             18446744073709551615");
    expect_line("  least                                        i64             -9223372036854775808");
    expect_line("  eps                                          f32             9.99999997e-07");
    expect_line("  flag                                         bool            true");
    assert_null(strstr(output, "output_norm"));
    assert_null(strchr(output, '\x1b'));
    assert_int_equal(info(model, "--tensors", NULL), 0);
    expect_line("tensors (3)");
    assert_non_null(strstr(output, "  output_norm.weight               F32      {64}                          256 bytes at "));
    assert_non_null(strstr(output, "  blk.0.ffn_up_exps.weight         NVFP4    {64, 2, 3}                    216 bytes at "));
    assert_int_equal(lines.n_lines, 0);
}

static void check_json(void **state)
{
    json_error_t error;

    (void)state;
    write_model();
    assert_int_equal(info("--json", model, "--tensors"), 0);
    json_t *root = json_loads(output, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        fail_msg("line %d: %s\n%s", error.line, error.text, output);
    assert_string_equal(json_string_value(json_object_get(root, "architecture")), "nova");
    assert_string_equal(json_string_value(json_object_get(root, "name")),
                        "A \"name\" \x1b[31m \xe4\xbd\xa0 \xc2\x9b \xef\xbf\xbd");
    assert_int_equal(json_integer_value(json_object_get(root, "parameters")), 896);
    assert_int_equal(json_integer_value(json_object_get(root, "context_length")), 4096);
    assert_true(json_is_true(json_object_get(root, "chat_template")));
    assert_true(json_is_null(json_object_get(root, "kv_heads")));
    json_t *types = json_object_get(root, "types"), *metadata = json_object_get(root, "metadata");
    assert_true(json_is_false(json_object_get(json_object_get(types, "NVFP4"), "supported")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(types, "Q8_0"), "bytes")), 476);
    assert_int_equal(json_object_size(metadata), 14);
    assert_true(json_is_null(json_object_get(metadata, "nan")));
    assert_string_equal(json_string_value(json_object_get(metadata, "largest")), "18446744073709551615");
    assert_true(json_integer_value(json_object_get(metadata, "least")) == INT64_MIN);
    json_t *tokens = json_object_get(metadata, "tokenizer.ggml.tokens");
    assert_int_equal(json_integer_value(json_object_get(tokens, "n")), 7);
    assert_int_equal(json_array_size(json_object_get(tokens, "first")), 6);
    assert_string_equal(json_string_value(json_array_get(json_object_get(tokens, "first"), 1)), "\xef\xbf\xbd");
    json_t *tensor = json_array_get(json_object_get(root, "tensors"), 2);
    assert_string_equal(json_string_value(json_object_get(tensor, "name")), "blk.0.ffn_up_exps.weight");
    assert_int_equal(json_array_size(json_object_get(tensor, "shape")), 3);
    json_decref(root);

    assert_int_equal(info("--json", model, NULL), 0);
    root = json_loads(output, 0, &error);
    assert_int_equal(json_integer_value(json_object_get(root, "n_tensors")), 3);
    assert_null(json_object_get(root, "tensors"));
    json_decref(root);
}

static void check_failures(void **state)
{
    (void)state;
    assert_int_equal(info(NULL, NULL, NULL), 2);
    assert_int_equal(info(model, "--tensor", NULL), 2);
    assert_int_equal(info("/nonexistent.gguf", NULL, NULL), 1);
    assert_int_equal(lines.n_lines, 1);
    assert_int_equal(info("/dev/null", NULL, NULL), 1);
    assert_int_equal(lines.n_lines, 1);
    assert_string_equal(output, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_text),
        cmocka_unit_test(check_json),
        cmocka_unit_test(check_failures),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
