/*
 * tests/weights/check_pretokenizer.c - every pattern against the tokenizers library (splits.json, made by make_splits.py), and the
 * property that pieces joined are the text. An argument names another file of splits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include <jansson.h>

#include "weights/tokenizer_internal.h"

static const char *splits_path = "tests/data/tokenizers/splits.json";

struct collected { struct buf text; json_t *pieces; };

static int collect(void *arg, const char *text, size_t n)
{
    struct collected *c = arg;

    assert_true(n > 0);
    buf_append(&c->text, text, n);
    return json_array_append_new(c->pieces, json_stringn(text, n)) ? -1 : 0;
}

static void check_case(const struct pretokenizer *p, struct pretokenizer_match *match, const char *name, const json_t *want)
{
    struct collected got = { .pieces = json_array() };
    struct buf text = { 0 };
    const json_t *piece;
    size_t i;

    json_array_foreach(want, i, piece)
        buf_append(&text, json_string_value(piece), json_string_length(piece));
    assert_int_equal(pretokenizer_split(p, match, text.data, text.len, collect, &got), 0);
    assert_int_equal(got.text.len, text.len);
    assert_memory_equal(got.text.data, text.data, text.len);
    if (!json_equal(got.pieces, want)) {
        print_error("%s: got  ", name);
        json_dumpf(got.pieces, stderr, JSON_ENSURE_ASCII);
        print_error("\n%s: want ", name);
        json_dumpf(want, stderr, JSON_ENSURE_ASCII);
        fail_msg("\nsplits differ");
    }
    json_decref(got.pieces);
    buf_free(&got.text);
    buf_free(&text);
}

static void check_splits(void **state)
{
    json_error_t error;
    json_t *all = json_load_file(splits_path, JSON_ALLOW_NUL, &error), *cases, *c;
    const char *name;
    size_t i, n_names = 0;

    (void)state;
    assert_non_null(all);
    json_object_foreach(all, name, cases) {
        const struct pretokenizer_rule *rule = pretokenizer_rule_find(name, strlen(name));
        struct pretokenizer *p;
        assert_non_null(rule);
        assert_int_equal(pretokenizer_open(&p, rule), 0);
        struct pretokenizer_match *match = pretokenizer_match_create();
        assert_true(json_array_size(cases) >= 40);
        json_array_foreach(cases, i, c)
            check_case(p, match, name, c);
        pretokenizer_match_free(match);
        pretokenizer_close(p);
        n_names++;
    }
    assert_int_equal(n_names, 11);
    json_decref(all);
}

static void check_names(void **state)
{
    static const struct { const char *name, *same_as; bool ignore_merges, add_bos; } rules[] = {
        { "phi-2", "gpt-2", false, false }, { "starcoder", "smollm", false, false }, { "llama-bpe", "llama3", true, true },
        { "glm4", "llama3", true, false }, { "dbrx", "llama3", false, false }, { "deepseek-r1-qwen", "qwen2", false, false },
        { "llama4", "gpt-4o", false, false }, { "tekken", "tekken", true, true }, { "joyai-llm", "deepseek-v3", false, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        const struct pretokenizer_rule *rule = pretokenizer_rule_find(rules[i].name, strlen(rules[i].name));
        const struct pretokenizer_rule *other = pretokenizer_rule_find(rules[i].same_as, strlen(rules[i].same_as));
        assert_non_null(rule);
        assert_ptr_equal(rule->patterns, other->patterns);
        assert_int_equal(rule->ignore_merges, rules[i].ignore_merges);
        assert_int_equal(rule->add_bos, rules[i].add_bos);
    }
    assert_null(pretokenizer_rule_find("gpt-22", 6));
    assert_null(pretokenizer_rule_find("gpt-", 4));
    assert_null(pretokenizer_rule_find("", 0));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_splits),
        cmocka_unit_test(check_names),
    };
    if (argc > 1)
        splits_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
