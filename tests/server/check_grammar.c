/*
 * tests/server/check_grammar.c - what compiled schemas accept and refuse, byte by byte, and that masks agree with the bytes of tokens
 * whatever the table of states held before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/server/grammar_help.h"

/* `texts` in one string each, ended by NULL: first those that are accepted, then NULL, then those that are not. */
struct row { const char *schema; const char *texts[12]; };

static void accepted_and_refused(void **state)
{
    static const struct row rows[] = {
        { NULL, { "{}", "{\"a\":1}", "{\"a\": [1, {\"b\": null}], \"\\u00e9\":\"\\\"\"}", "{\n  \"a\": -0.5e+10,\n  \"b\": true\n}",
                  NULL, "[]", "{\"a\":1,}", "{\"a\"  :1}", "{\"a\":01}", "{\"a\":\"\\ud800\"}" } },
        { "true", { "1", "\"x\"", "[1,2]", "[]", NULL, "", "[1,]", "nul", "-", "tru e" } },
        { "{\"type\":\"integer\"}", { "0", "-17", "999999999999999", NULL, "1.0", "01", "1234567890123456", "+1" } },
        { "{\"type\":\"integer\",\"minimum\":-3,\"maximum\":120}", { "-3", "0", "9", "10", "99", "120", NULL, "-4", "121", "-0" } },
        { "{\"type\":\"integer\",\"exclusiveMinimum\":95,\"exclusiveMaximum\":1005}", { "96", "99", "100", "1004", NULL, "95", "1005",
        "90" } },
        { "{\"type\":\"number\",\"minimum\":0}", { "0.25", "1e5", "0", NULL, "-1", "00", "1.", ".5" } },
        { "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", { "\"ab\"", "\"\xc3\xa4\xf0\x9f\x98\x80\\n\"", NULL, "\"a\"",
        "\"abcd\"", "\"a\xc3\"" } },
        { "{\"type\":\"string\",\"pattern\":\"^[a-z]+$\",\"minLength\":2,\"maxLength\":3}", { "\"ab\"", "\"abc\"", NULL, "\"a\"",
        "\"abcd\"", "\"aB\"", "ab" } },
        { "{\"pattern\":\"b|^x\"}", { "\"b\"", "\"abc\"", "\"x\\n\"", "\"\\\"b\"", "\"\xc3\xa4\\u0001b\"", NULL, "\"a\"", "\"ax\"",
        "\"\"" } },
        { "{\"type\":[\"boolean\",\"null\"]}", { "true", "false", "null", NULL, "0", "\"null\"" } },
        { "{\"enum\":[\"red\",\"reddish\",3,null,[1,\"x\"]]}", { "\"red\"", "\"reddish\"", "3", "null", "[1,\"x\"]", NULL, "\"re\"",
        "4" } },
        { "{\"const\":{\"a\":1}}", { "{\"a\":1}", NULL, "{}", "{\"a\":2}" } },
        { "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}",
          { "[1,2]", "[1, 2, 3]", "[\n  1,\n  2\n]", NULL, "[1]", "[]", "[1,2,3,4]", "[1,,2]" } },
        { "{\"type\":\"array\",\"maxItems\":0}", { "[]", NULL, "[1]" } },
        { "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"},\"c\":{}},\"required\":[\"b\"]}",
          { "{\"b\":\"\"}", "{\"a\":1,\"b\":\"x\"}", "{\"a\": 1, \"b\": \"x\", \"c\": []}", "{\"b\":\"x\",\"c\":0}",
            NULL, "{}", "{\"b\":\"x\",\"a\":1}", "{\"a\":1}", "{\"b\":\"x\",\"d\":1}", "{\"a\":1,}" } },
        { "{\"properties\":{\"ab\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":\"boolean\"}}",
          { "{}", "{\"ab\":null}", "{\"a\":true,\"abc\":false,\"\":true}", "{\"ab\":null,\"x\":true}",
            NULL, "{\"ab\":true}", "{\"x\":null}", "{\"\\u0061b\":true}", "{\"x\":true,\"ab\":null}" } },
        { "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}", { "{}", NULL, "{\"a\":1}" } },
        { "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}]}", { "1", "[1,[2,[]]]", NULL, "\"x\"",
        "[[}" } },
        { "{\"$ref\":\"#/$defs/a~1b\",\"$defs\":{\"a/b\":{\"type\":\"null\"}}}", { "null", NULL, "1" } },
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct matcher *m = matcher_of(rows[i].schema);
        bool accepted = true;
        for (size_t k = 0; k < 12; k++) {
            const char *text = rows[i].texts[k];
            if (!text && !accepted)
                break;
            if (!text) {
                accepted = false;
                continue;
            }
            const int result = matcher_read_text(m, text, strlen(text));
            if ((result == 0) != accepted)
                fail_msg("%s: %s gives %d", rows[i].schema ? rows[i].schema : "any object", text, result);
        }
        matcher_destroy(m);
    }
}

static void refused_schemas(void **state)
{
    static const struct { const char *schema, *word; } rows[] = {
        { "{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}}}", "#/properties/a: the keyword \"not\"" },
        { "{\"type\":\"string\",\"pattern\":\"a(?=b)\"}", "#: pattern: position 1:" }, { "{\"pattern\":5}", "pattern" },
        { "{\"pattern\":\"^a$\",\"minLength\":2}", "no text matches" }, { "{\"uniqueItems\":true}", "uniqueItems" },
        { "{\"type\":\"number\",\"maximum\":3}", "maximum" }, { "{\"type\":\"integer\",\"multipleOf\":3}", "multipleOf" },
        { "{\"$ref\":\"#\"}", "itself" }, { "{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#\"}]}", "itself" },
        { "{\"$ref\":\"http://x/y\"}", "$ref" }, { "{\"$ref\":\"#/$defs/none\"}", "$ref" }, { "{\"$ref\":5}", "$ref" },
        { "{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "no text" },
        { "{\"type\":\"string\",\"maxLength\":2147483648}", "maxLength" }, { "{\"type\":\"string\",\"minLength\":-1}", "minLength" },
        { "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "above" }, { "{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}",
        "bounds" },
        { "{\"type\":\"strng\"}", "strng" }, { "{\"type\":[]}", "type" }, { "{\"type\":5}", "type" }, { "{\"enum\":[]}", "enum" },
        { "{\"enum\":[1,2],\"type\":\"string\"}", "no value" }, { "{\"enum\":[1],\"minimum\":0}", "minimum" },
        { "{\"anyOf\":[]}", "anyOf" }, { "{\"anyOf\":[{}],\"type\":\"object\"}", "type" }, { "{\"anyOf\":[{}],\"oneOf\":[{}]}", "beside" },
        { "{\"allOf\":[{},{}]}", "allOf" }, { "false", "false" }, { "[]", "object" }, { "{\"properties\":[]}", "properties" },
        { "{\"required\":[1]}", "required" }, { "{\"required\":[\"a\"],\"additionalProperties\":false}", "no property" },
        { "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":10000},\"minItems\":10000,\"prefixItems\":[]}", "prefixItems" },
        { "{\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":9999},\"b\":{\"type\":\"string\",\"maxLength\":9998},"
          "\"c\":{\"type\":\"string\",\"maxLength\":9997},\"d\":{\"type\":\"string\",\"maxLength\":9996}}}", "nodes" },
    };
    struct schema_error e;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct grammar *g = compile(rows[i].schema, &e);
        if (g || !strstr(e.message, rows[i].word))
            fail_msg("%s: %s", rows[i].schema, g ? "accepted" : e.message);
    }
    /* too deep */
    char deep[4096] = "";
    for (int i = 0; i < 40; i++)
        strcat(deep, "{\"items\":");
    strcat(deep, "{}");
    for (int i = 0; i < 40; i++)
        strcat(deep, "}");
    assert_null(compile(deep, &e));
    assert_non_null(strstr(e.message, "deep"));
}

/* Recursion ends at the depth that there is: what is open can always be closed. */
static void depth_is_bounded(void **state)
{
    struct matcher *m = matcher_of("{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}");
    char text[400];
    size_t n = 0;

    (void)state;
    while (n < 200 && matcher_read_text(m, memset(text, '[', sizeof(text)), n + 1) == 1)
        n++;
    assert_true(n >= 32 && n <= GRAMMAR_MAX_DEPTH + 1);
    memset(text + n, ']', n);
    assert_int_equal(matcher_read_text(m, text, 2 * n), 0);
    matcher_destroy(m);
}

static const char *const people = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":40},"
    "\"age\":{\"type\":\"integer\"},\"tags\":{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"bc\"]}}},\"required\":[\"name\"]}";

/* A token is allowed exactly if its bytes after the text so far are a beginning; a matcher without masks says the same of each. */
static void masks_agree_with_bytes(void **state)
{
    static const char either[] = "{\"anyOf\":[{\"type\":\"string\",\"maxLength\":3},{\"enum\":[\"abcdefgh\",\"the year\"]}]}";
    static const struct { const char *schema, *prefix; bool in_string; } rows[] = {
        { people, "", false }, { people, "{", false }, { people, "{\"", false }, { people, "{\"name", false },
        { people, "{\"name\":", false }, { people, "{\"name\":\"x", true }, { people, "{\"name\":\"x\\", false },
        { people, "{\"name\":\"0123456789012345678901234567890123456", true },
        { people, "{\"name\":\"0123456789012345678901234567890123456789", false }, { people, "{\"name\":\"x\",\"tags\":[\"b", false },
        { either, "\"", true }, { either, "\"a", true }, { either, "\"the", false }, { either, "\"the ", false }, { NULL, "{\"a", true },
        { NULL, "{\"a\": [1, \"x", true }, { "{\"type\":\"string\",\"minLength\":2}", "\"", true },
        { "{\"type\":\"string\",\"minLength\":2,\"maxLength\":4}", "\"", true },
        { "{\"additionalProperties\":true,\"properties\":{\"the\":{}}}", "{\"the", false },
    };
    const size_t words = matcher_mask_words(trie->n_vocab);
    uint64_t *mask = calloc(words, sizeof(*mask));

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct matcher *m = matcher_of(rows[i].schema), *unmasked = matcher_of(rows[i].schema);
        struct matcher_place place = { 0 }, other = { 0 };
        int32_t tokens[64];
        size_t n = strlen(rows[i].prefix);
        bool may_end, takes, in_string;
        for (size_t k = 0; k < n; k++)
            tokens[k] = token_of((char[]){ rows[i].prefix[k], '\0' });
        assert_int_equal(matcher_allowed(m, &place, tokens, n, mask, &may_end), 0);
        assert_false(may_end);
        assert_int_equal(matcher_in_string(unmasked, &other, tokens, n, &in_string), 0);
        if (in_string != rows[i].in_string)
            fail_msg("after %s: %d", rows[i].prefix, in_string);
        for (int32_t id = -1; id <= (int32_t)trie->n_vocab; id++) {
            const bool masked = id < 0 || (size_t)id == trie->n_vocab || !(mask[id >> 6] >> (id & 63) & 1);
            assert_int_equal(matcher_takes(unmasked, &other, tokens, n, id, &takes), 0);
            if (takes == masked)
                fail_msg("after %s token %d: %d", rows[i].prefix, id, takes);
        }
        assert_int_equal(matcher_counts(unmasked).masks, 0);
        for (size_t t = 0; t < trie->n_nodes; t++) {
            for (size_t k = 0; k < trie->nodes[t].n_tokens; k++) {
                char text[512];
                const uint32_t id = (uint32_t)trie->tokens[trie->nodes[t].first_token + k];
                const uint32_t *at = trie->offsets + id;
                memcpy(text, rows[i].prefix, n);
                memcpy(text + n, trie->bytes + at[0], at[1] - at[0]);
                const bool fits = matcher_read_text(m, text, n + at[1] - at[0]) >= 0;
                if (fits != (bool)(mask[id >> 6] >> (id & 63) & 1))
                    fail_msg("after %s token %u: %d", rows[i].prefix, id, fits);
            }
        }
        matcher_destroy(m);
        matcher_destroy(unmasked);
    }
    free(mask);
}

/* A long text fills the table of states several times: the masks stay those of a fresh matcher. */
static void full_tables(void **state)
{
    static const char schema[] = "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":10000}}";
    const size_t words = matcher_mask_words(trie->n_vocab);
    uint64_t *mask = calloc(words, sizeof(*mask)), *fresh_mask = calloc(words, sizeof(*mask));
    struct matcher *m = matcher_of(schema);
    struct matcher_place place = { 0 }, other = { 0 };
    static int32_t tokens[20000];
    size_t n = 0;
    bool may_end, fresh_end;

    (void)state;
    tokens[n++] = token_of("[");
    tokens[n++] = token_of("\"");
    for (; n < 9900; n++) {
        tokens[n] = token_of("e");
        if (n % 16 == 0)
            assert_int_equal(matcher_allowed(m, &place, tokens, n, mask, &may_end), 0);
    }
    assert_true(matcher_counts(m).empties > 0);
    assert_int_equal(matcher_allowed(m, &place, tokens, n, mask, &may_end), 0);
    assert_int_equal(matcher_allowed(m, &other, tokens, n, fresh_mask, &fresh_end), 0);        /* from the beginning */
    assert_memory_equal(mask, fresh_mask, words * sizeof(*mask));
    struct matcher *fresh = matcher_of(schema);
    other = (struct matcher_place){ 0 };
    assert_int_equal(matcher_allowed(fresh, &other, tokens, n, fresh_mask, &fresh_end), 0);
    assert_memory_equal(mask, fresh_mask, words * sizeof(*mask));
    matcher_destroy(fresh);
    matcher_destroy(m);
    free(mask);
    free(fresh_mask);
}

static void ends(void **state)
{
    struct matcher *m = matcher_of("{\"type\":\"array\",\"maxItems\":0}");
    struct matcher_place place = { 0 };
    const int32_t tokens[] = { token_of("["), token_of("]"), token_of("]") };
    bool only_end;

    (void)state;
    assert_int_equal(matcher_only_end(m, &place, tokens, 1, &only_end), 0);
    assert_false(only_end);
    assert_int_equal(matcher_only_end(m, &place, tokens, 2, &only_end), 0);
    assert_true(only_end);
    assert_int_equal(matcher_only_end(m, &place, tokens, 3, &only_end), -EINVAL);
    matcher_destroy(m);
}

/* What comes over the boundary is a stranger's. */
static void tables_are_checked(void **state)
{
    struct schema_error e;
    struct grammar *g = compile(people, &e);
    struct matchers all;
    struct matcher *a, *b;
    uint8_t *bytes = malloc(g->n_bytes);
    uint64_t random = 1;

    (void)state;
    matchers_init(&all, trie);
    assert_int_equal(matchers_take(&all, g, g->n_bytes, &a), 0);
    assert_int_equal(matchers_take(&all, g, g->n_bytes, &b), 0);
    assert_ptr_equal(a, b);
    matchers_release(&all, a);
    matchers_release(&all, b);
    assert_int_equal(matchers_take(&all, g, g->n_bytes - 8, &a), -EINVAL);
    assert_int_equal(matchers_take(&all, g, 4, &a), -EINVAL);
    for (int i = 0; i < 3000; i++) {
        memcpy(bytes, g, g->n_bytes);
        for (int k = 0; k < 3; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            bytes[(random >> 33) % g->n_bytes] = (uint8_t)(random >> 25);
        }
        if (grammar_check(bytes, g->n_bytes))
            continue;
        struct matcher *m;      /* nonsense perhaps, but one that runs */
        assert_int_equal(matcher_create(&m, (const struct grammar *)(const void *)bytes, trie), 0);
        (void)matcher_read_text(m, "{\"name\":\"x\",\"age\":3}", 20);
        matcher_destroy(m);
    }
    matchers_free(&all);
    free(bytes);
    free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_and_refused), cmocka_unit_test(refused_schemas), cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(masks_agree_with_bytes), cmocka_unit_test(full_tables), cmocka_unit_test(ends),
        cmocka_unit_test(tables_are_checked),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
