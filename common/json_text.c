#include "common/json_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/utf8.h"

struct scan {
    const char *text;
    size_t n, at;
    size_t n_values, max_values;
    unsigned depth;
    uint64_t objects;           /* bit d: the container at depth d is an object, else an array */
    struct json_read_error *error;
};

_Static_assert(JSON_TEXT_MAX_DEPTH <= 64, "one bit a level");

static int fail(struct scan *s, size_t offset, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int fail(struct scan *s, size_t offset, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(s->error->message, sizeof(s->error->message), format, args);
    va_end(args);
    s->error->offset = offset;
    return -EINVAL;
}

static int fail_here(struct scan *s, const char *expected)
{
    if (s->at >= s->n)
        return fail(s, s->n, "the text ends where %s should be", expected);
    return fail(s, s->at, "expected %s", expected);
}

static bool at_byte(const struct scan *s, char c)
{
    return s->at < s->n && s->text[s->at] == c;
}

static bool at_digit(const struct scan *s)
{
    return s->at < s->n && s->text[s->at] >= '0' && s->text[s->at] <= '9';
}

static void skip_space(struct scan *s)
{
    while (s->at < s->n && (s->text[s->at] == ' ' || s->text[s->at] == '\t' || s->text[s->at] == '\n' || s->text[s->at] == '\r'))
        s->at++;
}

/* The four hex digits at `at`, or -1. */
static int hex4(const struct scan *s, size_t at)
{
    int value = 0;

    if (s->n - at < 4)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = s->text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* s->at is on the backslash. */
static int scan_escape(struct scan *s)
{
    size_t start = s->at;

    if (s->n - s->at < 2)
        return fail(s, s->n, "the text ends in a string");
    if (s->text[s->at + 1] != 'u') {
        if (!s->text[s->at + 1] || !strchr("\"\\/bfnrt", s->text[s->at + 1]))
            return fail(s, start, "unknown escape");
        s->at += 2;
        return 0;
    }
    int unit = hex4(s, s->at + 2);
    if (unit < 0)
        return fail(s, start, "\\u without four hex digits");
    if (unit == 0)
        return fail(s, start, "\\u0000 is not accepted");
    s->at += 6;
    if (unit < 0xd800 || unit > 0xdfff)
        return 0;
    int low = unit < 0xdc00 && s->n - s->at >= 6 && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u' ? hex4(s, s->at + 2) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return fail(s, start, "lone surrogate");
    s->at += 6;
    return 0;
}

/* s->at is on the opening quote. */
static int scan_string(struct scan *s)
{
    int err = 0;

    s->at++;
    while (!err) {
        if (s->at >= s->n)
            return fail(s, s->n, "the text ends in a string");
        unsigned char c = (unsigned char)s->text[s->at];
        if (c == '"') {
            s->at++;
            return 0;
        }
        if (c == '\\') {
            err = scan_escape(s);
        } else if (c < 0x20) {
            err = fail(s, s->at, "control byte 0x%02x in a string", c);
        } else if (c < 0x80) {
            s->at++;
        } else {
            uint32_t code_point;
            int length = utf8_decode(s->text + s->at, s->n - s->at, &code_point);
            if (length <= 0)
                err = fail(s, s->at, "invalid UTF-8");
            else
                s->at += (size_t)length;
        }
    }
    return err;
}

static int scan_number(struct scan *s, bool *integer)
{
    *integer = true;
    if (at_byte(s, '-'))
        s->at++;
    if (!at_digit(s))
        return fail_here(s, "a digit");
    if (at_byte(s, '0'))
        s->at++;
    else
        while (at_digit(s))
            s->at++;
    if (at_digit(s))
        return fail(s, s->at, "a number with a leading zero");
    if (at_byte(s, '.')) {
        *integer = false;
        s->at++;
        if (!at_digit(s))
            return fail_here(s, "a digit");
        while (at_digit(s))
            s->at++;
    }
    if (at_byte(s, 'e') || at_byte(s, 'E')) {
        *integer = false;
        s->at++;
        if (at_byte(s, '+') || at_byte(s, '-'))
            s->at++;
        if (!at_digit(s))
            return fail_here(s, "a digit");
        while (at_digit(s))
            s->at++;
    }
    return 0;
}

static int scan_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);

    if (s->n - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return fail_here(s, "a value");
    s->at += n;
    return 0;
}

static bool in_object(const struct scan *s)
{
    return s->depth && (s->objects >> (s->depth - 1) & 1);
}

static int open_container(struct scan *s, bool object)
{
    if (s->depth == JSON_TEXT_MAX_DEPTH)
        return fail(s, s->at, "nested deeper than %d", JSON_TEXT_MAX_DEPTH);
    uint64_t bit = (uint64_t)1 << s->depth;
    s->objects = object ? s->objects | bit : s->objects & ~bit;
    s->depth++;
    s->at++;
    return 0;
}

/* One value at s->at: a whole scalar, or the opening bracket of a container (*opened). */
static int scan_value(struct scan *s, bool *opened)
{
    int err;
    bool free_of_charge = false;

    *opened = false;
    if (s->at >= s->n)
        return fail_here(s, "a value");
    char c = s->text[s->at];
    if (c == '{' || c == '[') {
        *opened = true;
        err = open_container(s, c == '{');
    } else if (c == '"') {
        err = scan_string(s);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        bool integer;
        err = scan_number(s, &integer);
        free_of_charge = integer && s->depth && !in_object(s);
    } else {
        err = scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
    }
    if (!err && !free_of_charge && ++s->n_values > s->max_values)
        err = fail(s, s->at, "more than %zu values", s->max_values);
    return err;
}

static int scan_key(struct scan *s)
{
    if (!at_byte(s, '"'))
        return fail_here(s, "a key");
    int err = scan_string(s);
    if (err)
        return err;
    skip_space(s);
    if (!at_byte(s, ':'))
        return fail_here(s, "':'");
    s->at++;
    skip_space(s);
    return 0;
}

/* After a value: close what ends here, and stop before the next value (*more), or at the end of the outermost one. */
static int scan_after_value(struct scan *s, bool *more)
{
    for (;;) {
        *more = false;
        if (!s->depth)
            return 0;
        skip_space(s);
        if (at_byte(s, ',')) {
            s->at++;
            skip_space(s);
            *more = true;
            return in_object(s) ? scan_key(s) : 0;
        }
        if (!at_byte(s, in_object(s) ? '}' : ']'))
            return fail_here(s, in_object(s) ? "',' or '}'" : "',' or ']'");
        s->at++;
        s->depth--;
    }
}

static int scan_text(struct scan *s)
{
    bool more = true;
    int err = 0;

    if (s->n >= 3 && memcmp(s->text, "\xef\xbb\xbf", 3) == 0)
        return fail(s, 0, "a byte-order mark is not JSON");
    skip_space(s);
    if (s->at >= s->n)
        return fail(s, s->n, "the text is empty");
    while (!err && more) {
        bool opened;
        err = scan_value(s, &opened);
        if (err)
            break;
        if (opened) {
            skip_space(s);
            if (!at_byte(s, in_object(s) ? '}' : ']')) {
                if (in_object(s))
                    err = scan_key(s);
                continue;
            }
            s->at++;
            s->depth--;
        }
        err = scan_after_value(s, &more);
    }
    if (err)
        return err;
    skip_space(s);
    return s->at < s->n ? fail(s, s->at, "bytes after the end of the value") : 0;
}

int json_text_read(const char *text, size_t n, size_t max_values, json_t **out, struct json_read_error *error)
{
    struct scan s = { .text = text, .n = n, .max_values = max_values, .error = error };
    json_error_t why;
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;

    *out = NULL;
    int err = scan_text(&s);
    if (err)
        return err;
    *out = json_loadb(text, n, flags, &why);
    if (!*out && json_error_code(&why) == json_error_numeric_overflow)
        *out = json_loadb(text, n, flags | JSON_DECODE_INT_AS_REAL, &why);
    if (*out)
        return 0;
    switch (json_error_code(&why)) {
    case json_error_out_of_memory:
        return -ENOMEM;
    case json_error_numeric_overflow:
        return fail(&s, (size_t)why.position, "a number beyond the range of a double");
    case json_error_duplicate_key:
        return fail(&s, (size_t)why.position, "a key that the object has already");
    default:
        return fail(&s, (size_t)why.position, "%s", why.text);
    }
}
