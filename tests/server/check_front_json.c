/*
 * tests/server/check_front_json.c - what is JSON and what is not, where it stops being JSON, and text that is written as JSON.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/json_read.h"
#include "server/json_write.h"

/* Parse from a copy without room behind it, so that a sanitizer sees reads beyond the end. */
static int parse(const char *text, size_t n, json_t **out, struct json_read_error *error)
{
    char *exact = malloc(n ? n : 1);

    memcpy(exact, text, n);
    int err = json_read(exact, n, out, error);
    free(exact);
    return err;
}

static void accepted(void **state)
{
    static const char *const texts[] = {
        "null", "true", "false", "0", "-0", "-0.0e+0", "1e5", "123456789012345678901234567890", "1.5E-3", "\"\"",
        "\"\\u0001\\ud83d\\ude00\"",
        "[]", "{}", "[[],{},[{}]]", " \t\r\n{\"a\" : [ 1 , 2.5 , \"x\" ] , \"b\":null } \n", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\xf0\x9f\x98\x80\"",
        "{\"a\":1,\"b\":{\"a\":1}}", "1e-400", "\"\x7f\"",
    };
    struct json_read_error error;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *tree;
        if (parse(texts[i], strlen(texts[i]), &tree, &error))
            fail_msg("%s: %s at %zu", texts[i], error.message, error.offset);
        json_decref(tree);
    }
}

static void refused(void **state)
{
    static const struct { const char *text; size_t offset; } texts[] = {
        { "", 0 }, { "  ", 2 }, { "nul", 0 }, { "nulll", 4 }, { "{", 1 }, { "[", 1 }, { "[1", 2 }, { "[1,", 3 }, { "[1,]", 3 },
        { "{\"a\"", 4 }, { "{\"a\":", 5 }, { "{\"a\":1", 6 }, { "{\"a\":1,", 7 }, { "{\"a\":1,}", 7 }, { "{a:1}", 1 },
        { "\"", 1 }, { "\"a", 2 }, { "\"\\", 2 },
        { "\"\\x\"", 1 }, { "\"\\u12\"", 1 }, { "\"\\u12g4\"", 1 }, { "\"\\ud800\"", 1 }, { "\"\\ud800\\n\"", 1 }, { "\"\\udc00\"", 1 },
        { "\"\\u0000\"", 1 }, { "\"\x01\"", 1 }, { "\"\xff\"", 1 }, { "\"\xe2\x82\"", 1 }, { "\"\xc0\x80\"", 1 },
        { "\"\xf4\x90\x80\x80\"", 1 },
        { "01", 1 }, { "-", 1 }, { "1.", 2 }, { "1e", 2 }, { "1e+", 3 }, { "+1", 0 }, { ".5", 0 }, { "NaN", 0 },
        { "Infinity", 0 }, { "-Infinity", 1 },
        { "1 2", 2 }, { "{} x", 3 }, { "\xef\xbb\xbf{}", 0 }, { "[1 2]", 3 }, { "[}", 1 }, { "{]", 1 }, { "[\"a\"}", 4 },
        { "'a'", 0 }, { "// x\n1", 0 },
    };
    struct json_read_error error;
    json_t *tree;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(parse(texts[i].text, strlen(texts[i].text), &tree, &error), -EINVAL);
        assert_null(tree);
        if (error.offset != texts[i].offset)
            fail_msg("%s: offset %zu, not %zu: %s", texts[i].text, error.offset, texts[i].offset, error.message);
    }
    /* Found by jansson: the place is only near. */
    assert_int_equal(parse("{\"a\":1,\"a\":2}", 13, &tree, &error), -EINVAL);
    assert_non_null(strstr(error.message, "has already"));
    assert_int_equal(parse("[1e999]", 7, &tree, &error), -EINVAL);
    assert_non_null(strstr(error.message, "double"));
    assert_int_equal(parse("1\0", 2, &tree, &error), -EINVAL);
    assert_int_equal(error.offset, 1);
}

static int parse_list(struct buf *text, const char *element, int n, struct json_read_error *error)
{
    json_t *tree;

    buf_clear(text);
    for (int i = 0; i < n; i++) {
        buf_putc(text, i ? ',' : '[');
        buf_puts(text, element);
    }
    buf_putc(text, ']');
    int err = parse(text->data, text->len, &tree, error);
    json_decref(tree);
    return err;
}

static void limits(void **state)
{
    struct json_read_error error;
    json_t *tree;
    struct buf text = { 0 };

    (void)state;
    for (int depth = 63; depth <= 65; depth++) {
        buf_clear(&text);
        for (int i = 0; i < depth; i++)
            buf_puts(&text, i % 2 ? "{\"a\":" : "[");
        buf_puts(&text, "1");
        for (int i = depth; i-- > 0;)
            buf_puts(&text, i % 2 ? "}" : "]");
        int err = parse(text.data, text.len, &tree, &error);
        assert_int_equal(err, depth > JSON_READ_MAX_DEPTH ? -EINVAL : 0);
        if (!err)
            json_decref(tree);
    }
    /* Integers of arrays are free, everything else counts: the array itself, and each of its strings. */
    assert_int_equal(parse_list(&text, "7", 2 * JSON_READ_MAX_VALUES, &error), 0);
    assert_int_equal(parse_list(&text, "\"\"", JSON_READ_MAX_VALUES - 1, &error), 0);
    assert_int_equal(parse_list(&text, "\"\"", JSON_READ_MAX_VALUES, &error), -EINVAL);
    assert_non_null(strstr(error.message, "200000"));
    assert_int_equal(parse_list(&text, "0.5", JSON_READ_MAX_VALUES, &error), -EINVAL);
    buf_free(&text);
}

static void integers(void **state)
{
    struct json_read_error error;
    json_t *tree;

    (void)state;
    assert_int_equal(parse("{\"a\":9223372036854775807}", 25, &tree, &error), 0);
    assert_true(json_integer_value(json_object_get(tree, "a")) == INT64_MAX);
    json_decref(tree);
    assert_int_equal(parse("{\"a\":9223372036854775808}", 25, &tree, &error), 0);
    assert_true(json_is_real(json_object_get(tree, "a")));
    json_decref(tree);
}

static void written(const char *text, size_t n, const char *want)
{
    struct buf out = { 0 };

    json_write_bytes(&out, text, n);
    assert_string_equal(out.data, want);
    buf_free(&out);
}

static void writing(void **state)
{
    struct buf out = { 0 };
    const int32_t ids[] = { 1, -2, 3 };

    (void)state;
    written("", 0, "\"\"");
    written("a\"b\\c/\n\r\t\b\x1f\x7f", 12, "\"a\\\"b\\\\c/\\n\\r\\t\\u0008\\u001f\\u007f\"");
    written("\xf0\x9f\x98\x80\xe6\x9d\xb1", 7, "\"\xf0\x9f\x98\x80\xe6\x9d\xb1\"");
    written("a\xff" "b\xe2\x82", 5, "\"a\xef\xbf\xbd" "b\xef\xbf\xbd\"");
    written("\xe2\x82" "c\xf0\x9f\x98", 6, "\"\xef\xbf\xbd" "c\xef\xbf\xbd\"");
    json_write_logprob(&out, -0.1f);
    buf_putc(&out, ' ');
    json_write_logprob(&out, -INFINITY);
    buf_putc(&out, ' ');
    json_write_ids(&out, ids, 3);
    json_write_ids(&out, ids, 0);
    json_write_byte_list(&out, "a\xff", 2);
    json_write_string_or_null(&out, NULL);
    assert_string_equal(out.data, "-0.100000001 -9999.0 [1,-2,3][][97,255]null");
    buf_free(&out);
}

/* Whatever bytes are written come back as the text with U+FFFD where they were no UTF-8. */
static void random_bytes_are_json(void **state)
{
    struct json_read_error error;
    unsigned random = 1;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char bytes[24];
        struct buf out = { 0 };
        json_t *tree;
        size_t n = 0;
        for (; n < sizeof(bytes); n++) {
            random = random * 1664525 + 1013904223;
            bytes[n] = (char)(1 + (random >> 16) % 255);        /* \u0000 is written, but not read */
        }
        json_write_bytes(&out, bytes, n);
        assert_int_equal(parse(out.data, out.len, &tree, &error), 0);
        assert_true(json_is_string(tree));
        json_decref(tree);
        buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted), cmocka_unit_test(refused), cmocka_unit_test(limits), cmocka_unit_test(integers),
        cmocka_unit_test(writing), cmocka_unit_test(random_bytes_are_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
