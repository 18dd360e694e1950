/*
 * tests/weights/check_tokenizer.c - ids and texts against recorded ones, for every kind of vocabulary.
 *
 * tests/data/tokenizers has a folder a family: a vocabulary of 1400 tokens, and cases made by the tokenizers library (spm: see its
 * make_vocab.py). smollm2.json and gemma3-270m.json there belong to the real models, and hold what tokenizers and
 * llama.cpp agree on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/utf8.h"
#include "tests/weights/tokenizer_help.h"
#include "weights/tokenizer.h"

static void print_ids(const char *what, const int32_t *ids, size_t n)
{
    print_error("  %s:", what);
    for (size_t i = 0; i < n; i++)
        print_error(" %d", ids[i]);
    print_error("\n");
}

/* Compare with the JSON list `want`, without its first `skip` elements. */
static void check_ids(const char *text, const char *mode, const struct token_ids *got, const json_t *want, size_t skip)
{
    size_t n = json_array_size(want) - skip;
    bool same = got->n == n;

    for (size_t i = 0; i < n && same; i++)
        same = got->ids[i] == json_integer_value(json_array_get(want, i + skip));
    if (same)
        return;
    print_error("%s, \"%s\"\n", mode, text);
    print_ids("got ", got->ids, got->n);
    print_error("  want:");
    for (size_t i = 0; i < n; i++)
        print_error(" %d", (int)json_integer_value(json_array_get(want, i + skip)));
    fail_msg("ids differ");
}

/* What the stream gives, delta by delta: each is whole characters. */
static void check_decoded(const struct tokenizer *t, const struct token_ids *ids, const char *want, size_t n)
{
    struct detokenizer d;
    struct buf all = { 0 }, delta = { 0 };

    detokenizer_init(&d, t, false, true);
    for (size_t i = 0; i <= ids->n; i++) {
        buf_clear(&delta);
        if (i < ids->n)
            detokenizer_push(&d, ids->ids[i], &delta);
        else
            detokenizer_finish(&d, &delta);
        assert_int_equal(utf8_check(delta.data, delta.len), delta.len);
        buf_append(&all, delta.data, delta.len);
    }
    buf_puts(&all, "");
    if (all.len != n || (n && memcmp(all.data, want, n)))
        fail_msg("decoded \"%s\", expected \"%s\"", all.data, want);
    buf_free(&all);
    buf_free(&delta);
}

static void check_case(const struct tokenizer *t, const json_t *c)
{
    const json_t *string = json_object_get(c, "text"), *ids = json_object_get(c, "ids"), *plain = json_object_get(c, "ids_plain");
    const json_t *with_special = json_object_get(c, "ids_with_special"), *decoded = json_object_get(c, "decoded");
    const char *text = json_string_value(string);
    size_t n = json_string_length(string);
    uint8_t *literal = malloc(n + 1);
    struct token_ids got = { 0 };

    assert_int_equal(tokenizer_encode(t, text, n, NULL, TOKENIZE_SPECIAL, &got), 0);
    check_ids(text, "special tokens recognised", &got, ids, 0);
    check_decoded(t, &got, json_string_value(decoded ? decoded : string), json_string_length(decoded ? decoded : string));

    /* The mask of a user's text forbids special tokens just as well as the missing flag does. */
    if (!json_is_true(json_object_get(c, "plain_not_agreed"))) {
        got.n = 0;
        assert_int_equal(tokenizer_encode(t, text, n, NULL, 0, &got), 0);
        check_ids(text, "plain", &got, plain ? plain : ids, 0);
        got.n = 0;
        memset(literal, 1, n + 1);
        assert_int_equal(tokenizer_encode(t, text, n, literal, TOKENIZE_SPECIAL, &got), 0);
        check_ids(text, "literal", &got, plain ? plain : ids, 0);
    }
    if (with_special) {
        bool adds = tokenizer_adds_bos(t);      /* the GGUF files of the families say no where tokenizer.json says yes */
        got.n = 0;
        assert_int_equal(tokenizer_encode(t, text, n, NULL, TOKENIZE_SPECIAL | TOKENIZE_ADD_BOS, &got), 0);
        assert_int_equal(json_integer_value(json_array_get(with_special, 0)), tokenizer_bos(t));
        check_ids(text, "with bos", &got, with_special, adds ? 0 : 1);
    }
    free(got.ids);
    free(literal);
}

static void check_cases(const char *model, const char *cases_path, size_t n_least)
{
    json_error_t error;
    json_t *golden = json_load_file(cases_path, JSON_ALLOW_NUL, &error), *c;
    struct tokenizer *t = open_tokenizer(model);
    size_t i, n = json_array_size(json_object_get(golden, "cases"));

    assert_non_null(golden);
    assert_non_null(t);
    assert_true(n >= n_least);
    json_array_foreach(json_object_get(golden, "cases"), i, c)
        check_case(t, c);
    print_message("%s: %zu cases\n", cases_path, n);
    tokenizer_close(t);
    json_decref(golden);
}

static void check_families(void **state)
{
    static const char *const families[] = { "gpt2", "smollm", "llama3", "qwen2", "o200k", "deepseek", "spm" };

    (void)state;
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        char model[128], cases[128];
        snprintf(model, sizeof(model), "tests/data/tokenizers/%s/vocab.gguf", families[i]);
        snprintf(cases, sizeof(cases), "tests/data/tokenizers/%s/cases.json", families[i]);
        check_cases(model, cases, 178);
    }
}

static void check_smollm2(void **state)
{
    (void)state;
    check_cases(real_model("smollm2.gguf"), "tests/data/tokenizers/smollm2.json", 178);
}

static void check_gemma3(void **state)
{
    (void)state;
    check_cases(real_model("gemma3-270m.gguf"), "tests/data/tokenizers/gemma3-270m.json", 175);
}

static void check_stops(const struct tokenizer *t, const int32_t *want, size_t n_want)
{
    size_t n;
    const int32_t *stops = tokenizer_stop_ids(t, &n);

    assert_int_equal(n, n_want);
    assert_memory_equal(stops, want, n * sizeof(*want));
}

static void check_real_properties(void **state)
{
    struct tokenizer *t = open_tokenizer(real_model("smollm2.gguf"));
    size_t n;

    (void)state;
    assert_string_equal(tokenizer_kind(t), "gpt2");
    assert_string_equal(tokenizer_pre(t), "smollm");
    assert_int_equal(tokenizer_vocab_size(t), 49152);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_false(tokenizer_adds_bos(t));
    assert_true(tokenizer_is_control(t, 2));
    assert_false(tokenizer_is_control(t, 49151));
    assert_null(tokenizer_piece(t, 49152, &n));
    assert_null(tokenizer_piece(t, -1, &n));
    assert_string_equal(tokenizer_piece(t, 33662, &n), " hello");
    assert_int_equal(n, 6);
    check_stops(t, (const int32_t[]){ 0, 2 }, 2);       /* <|endoftext|>, <|im_end|> */
    tokenizer_close(t);

    t = open_tokenizer(real_model("gemma3-270m.gguf"));
    assert_string_equal(tokenizer_kind(t), "llama");
    assert_string_equal(tokenizer_pre(t), "");
    assert_int_equal(tokenizer_bos(t), 2);
    assert_true(tokenizer_adds_bos(t));
    assert_string_equal(tokenizer_piece(t, 29104, &n), " hello");
    check_stops(t, (const int32_t[]){ 1, 106 }, 2);     /* <eos>, <end_of_turn> */
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_families),
        cmocka_unit_test(check_smollm2),
        cmocka_unit_test(check_gemma3),
        cmocka_unit_test(check_real_properties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
