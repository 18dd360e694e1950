/*
 * template_numbers.c - the filters int, float, abs and round: numbers as Python reads and rounds them.
 */
#include "weights/template_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_BYTES 400    /* longer texts are no number that a template could mean */

/* The trimmed text without underscores between digits; false: holds what no number has. */
static bool plain_digits(struct jinja *j, const struct jinja_string *s, char out[NUMBER_BYTES])
{
    size_t n = 0;

    s = jinja_strip(j, s, NULL, true, true);
    for (size_t i = 0; i < s->n; i++) {
        char c = s->at[i];
        if (c == '_' && i > 0 && i + 1 < s->n && isalnum((unsigned char)s->at[i - 1]) && isalnum((unsigned char)s->at[i + 1]))
            continue;
        if (n + 1 >= NUMBER_BYTES || (!isalnum((unsigned char)c) && c != '+' && c != '-' && c != '.'))
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0;
}

/* int(text, base); false: no number, or one of more than 64 bits. */
static bool parse_int(struct jinja *j, const struct jinja_string *s, int64_t base, int64_t *out)
{
    char text[NUMBER_BYTES], *end;

    if (base < 0 || base == 1 || base > 36 || !plain_digits(j, s, text))
        return false;
    char *digits = text + (*text == '-' || *text == '+');
    int letter = digits[0] == '0' ? tolower((unsigned char)digits[1]) : 0;
    int prefix = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (prefix && (base == 0 || base == prefix)) {
        digits += 2;
        base = prefix;
    } else if (prefix && base <= 10) {
        return false;
    }
    if (!isalnum((unsigned char)*digits) || (base == 16 && tolower((unsigned char)digits[1]) == 'x'))
        return false;           /* what strtoull would take and Python does not: a second sign or prefix */
    unsigned long long u = strtoull(digits, &end, base ? (int)base : 10);
    if (*end || u > INT64_MAX)
        return false;
    *out = *text == '-' ? -(int64_t)u : (int64_t)u;
    return true;
}

/* float(text) */
static bool parse_double(struct jinja *j, const struct jinja_string *s, double *out)
{
    char text[NUMBER_BYTES], *end;

    if (!plain_digits(j, s, text) || strpbrk(text, "xXpP"))
        return false;
    *out = strtod(text, &end);
    return !*end && end != text;
}

JINJA_BUILTIN(filter_int)
{
    struct jinja_value otherwise = slot[0].kind != JINJA_ABSENT ? slot[0] : jinja_int(0);
    int64_t i;
    double d;

    if (v.kind == JINJA_UNDEFINED) {
        jinja_fail_undefined(j, v);
        return jinja_none();
    }
    if (jinja_as_int(v, &i) || (v.kind == JINJA_STRING && parse_int(j, v.u.string, jinja_int_slot(j, slot[1], 10), &i)))
        return jinja_int(i);
    if (v.kind == JINJA_FLOAT)
        d = v.u.real;
    else if (v.kind != JINJA_STRING || !parse_double(j, v.u.string, &d) || isinf(d))    /* "42.23"|int is 42 */
        return otherwise;
    if (isnan(d))
        return otherwise;
    if (!(d > -9.2e18 && d < 9.2e18)) {
        jinja_fail(j, "integer of more than 64 bits");
        return jinja_none();
    }
    return jinja_int((int64_t)d);
}

JINJA_BUILTIN(filter_float)
{
    double d;

    if (v.kind == JINJA_UNDEFINED) {
        jinja_fail_undefined(j, v);
        return jinja_none();
    }
    if (jinja_as_double(v, &d) || (v.kind == JINJA_STRING && parse_double(j, v.u.string, &d)))
        return jinja_float(d);
    return slot[0].kind != JINJA_ABSENT ? slot[0] : jinja_float(0);
}

JINJA_BUILTIN(filter_abs)
{
    double d = -1;

    if (v.kind == JINJA_FLOAT)
        return jinja_float(fabs(v.u.real));
    jinja_as_double(v, &d);
    return jinja_negate(j, v, d < 0);       /* and fails with the reason if v is no number */
}

static struct jinja_value round_half_even(struct jinja *j, struct jinja_value v, double d, int precision)
{
    char text[800];

    if (precision >= 0) {               /* printf rounds the exact binary value, ties to even, as Python does */
        if (v.kind != JINJA_FLOAT)
            return jinja_negate(j, v, false);
        jinja_touch(j, 1024);
        snprintf(text, sizeof(text), "%.*f", precision, d);
        return jinja_float(strtod(text, NULL));
    }
    double scale = pow(10, -precision), rounded = nearbyint(d / scale) * scale;
    if (v.kind == JINJA_FLOAT)
        return jinja_float(rounded);
    if (!(fabs(rounded) < 9.2e18))
        jinja_fail(j, "integer of more than 64 bits");
    return jinja_failed(j) ? jinja_none() : jinja_int((int64_t)rounded);
}

JINJA_BUILTIN(filter_round)
{
    int64_t precision = jinja_int_slot(j, slot[0], 0);
    const struct jinja_string *method = jinja_given(slot[1]) ? jinja_to_text(j, slot[1]) : jinja_string_literal(j, "common");
    double d, scale;

    if (!jinja_as_double(v, &d) || precision < -300 || precision > 300) {
        jinja_fail(j, "round wants a number and a precision of -300 to 300");
        return jinja_none();
    }
    if (jinja_text_is(method, "common"))
        return round_half_even(j, v, d, (int)precision);
    if (!jinja_text_is(method, "ceil") && !jinja_text_is(method, "floor")) {
        jinja_fail(j, "method must be common, ceil or floor");
        return jinja_none();
    }
    scale = pow(10, (double)precision);
    return jinja_float((jinja_text_is(method, "ceil") ? ceil(d * scale) : floor(d * scale)) / scale);
}

const struct jinja_builtin jinja_number_filters[] = {
    { "abs", "", filter_abs },
    { "float", "default?", filter_float },
    { "int", "default? base?", filter_int },
    { "round", "precision? method?", filter_round },
    { NULL, NULL, NULL },
};
