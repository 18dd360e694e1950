/*
 * template_format.c - 'text %s' % value, in the forms that templates use: flags, width and precision for s r d i x X o f F e g c.
 */
#include "weights/template_internal.h"

#include <stdio.h>
#include <string.h>

#define MAX_WIDTH 1000

struct conversion {
    bool left, plus, space, zero, alternate;
    int width, precision;       /* precision -1: not given */
    char type;
};

struct arguments {
    struct jinja_value value;   /* right of the % */
    size_t taken;
};

static struct jinja_value take_argument(struct jinja *j, struct arguments *args)
{
    bool is_tuple = args->value.kind == JINJA_TUPLE;

    if (args->taken >= (is_tuple ? args->value.u.list->n : 1)) {
        jinja_fail(j, "not enough arguments for format string");
        return jinja_none();
    }
    return is_tuple ? args->value.u.list->items[args->taken++] : (args->taken++, args->value);
}

/* A number, or '*' for the next argument; -1: none. */
static int take_number(struct jinja *j, const struct jinja_string *f, size_t *at, struct arguments *args)
{
    int64_t n = -1;

    if (*at < f->n && f->at[*at] == '*') {
        ++*at;
        if (!jinja_as_int(take_argument(j, args), &n))
            jinja_fail(j, "* wants int");
        return n > MAX_WIDTH || n < -MAX_WIDTH ? MAX_WIDTH : (int)n;
    }
    while (*at < f->n && f->at[*at] >= '0' && f->at[*at] <= '9' && n <= MAX_WIDTH)
        n = (n < 0 ? 0 : n) * 10 + (f->at[(*at)++] - '0');
    if (n > MAX_WIDTH)
        jinja_fail(j, "format width above %d", MAX_WIDTH);
    return (int)n;
}

/* %(key)s: the value of the key takes the place of the next argument. */
static bool take_key(struct jinja *j, const struct jinja_string *f, size_t *at, struct arguments *args, struct jinja_value *found)
{
    size_t from = ++*at;

    while (*at < f->n && f->at[*at] != ')')
        ++*at;
    if (*at >= f->n || args->value.kind != JINJA_DICT) {
        jinja_fail(j, *at >= f->n ? "incomplete format key" : "format requires a mapping");
        return false;
    }
    struct jinja_entry *e = jinja_dict_find(j, args->value.u.dict, jinja_text(jinja_substring(j, f, from, *at)));
    if (!e)
        jinja_fail(j, "format key is missing");
    ++*at;
    *found = e ? e->value : jinja_none();
    return e;
}

static void pad(struct jinja *j, struct jinja_block *b, const struct jinja_string *s, const struct conversion *c)
{
    size_t n = jinja_count_chars(j, s);
    size_t missing = (size_t)c->width > n && c->width > 0 ? (size_t)c->width - n : 0;

    if (c->left)
        jinja_block_add_string(j, b, s);
    for (size_t i = 0; i < missing; i++)
        jinja_block_puts(j, b, " ");
    if (!c->left)
        jinja_block_add_string(j, b, s);
}

static void add_number(struct jinja *j, struct jinja_block *b, struct jinja_value v, const struct conversion *c)
{
    char format[24], text[MAX_WIDTH * 2 + 400];
    bool integer = strchr("dixXo", c->type);
    double d;
    int64_t i = 0;
    int n;

    if (!jinja_as_double(v, &d) || (strchr("xXo", c->type) && v.kind == JINJA_FLOAT)) {
        jinja_fail(j, "%%%c format: a number is required, not %s", c->type, jinja_type_name(v));
        return;
    }
    if (integer && !jinja_as_int(v, &i)) {
        if (!(d > -9.2e18 && d < 9.2e18)) {
            jinja_fail(j, "integer of more than 64 bits");
            return;
        }
        i = (int64_t)d;
    }
    snprintf(format, sizeof(format), "%%%s%s%s%s%s*.*%s%c", c->left ? "-" : "", c->plus ? "+" : "", c->space ? " " : "",
             c->zero ? "0" : "", c->alternate ? "#" : "", integer ? "ll" : "", c->type);
    /* C has no negative hexadecimal: print the size, then the sign */
    bool negative = strchr("xXo", c->type) && i < 0;
    jinja_touch(j, 8192);               /* a long %f takes microseconds */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"        /* built above from a fixed set of parts */
    if (integer)
        n = snprintf(text, sizeof(text), format, c->width > 0 ? c->width : 0, c->precision, negative ? -(uint64_t)i : (uint64_t)i);
    else
        n = snprintf(text, sizeof(text), format, c->width > 0 ? c->width : 0, c->precision, d);
#pragma GCC diagnostic pop
    if (negative)
        jinja_block_puts(j, b, "-");
    jinja_block_add(j, b, text, n > 0 && (size_t)n < sizeof(text) ? (size_t)n : 0, false);
}

static void convert(struct jinja *j, struct jinja_block *b, struct jinja_value v, const struct conversion *c)
{
    const struct jinja_string *s;

    if (c->type == 's' || c->type == 'c') {
        s = jinja_to_text(j, v);
        if (c->type == 'c' && (v.kind != JINJA_STRING || jinja_count_chars(j, s) != 1)) {
            jinja_fail(j, "%%c requires a single character");
            return;
        }
    } else if (c->type == 'r') {
        struct jinja_block *repr = jinja_block_new(j, 32);
        jinja_print_repr(j, repr, v);
        s = jinja_block_string(j, repr);
    } else {
        add_number(j, b, v, c);
        return;
    }
    if (c->precision >= 0)
        s = jinja_substring(j, s, 0, jinja_char_offset(s, (size_t)c->precision));
    pad(j, b, s, c);
}

static void parse_flags(const struct jinja_string *f, size_t *at, struct conversion *c)
{
    for (; *at < f->n; ++*at) {
        switch (f->at[*at]) {
        case '-': c->left = true; break;
        case '+': c->plus = true; break;
        case ' ': c->space = true; break;
        case '0': c->zero = true; break;
        case '#': c->alternate = true; break;
        default: return;
        }
    }
}

const struct jinja_string *jinja_format_percent(struct jinja *j, const struct jinja_string *f, struct jinja_value value)
{
    struct jinja_block *b = jinja_block_new(j, f->n + 16);
    struct arguments args = { .value = value };
    bool keyed = false;

    for (size_t at = 0; at < f->n && !jinja_failed(j);) {
        const char *percent = memchr(f->at + at, '%', f->n - at);
        size_t to = percent ? (size_t)(percent - f->at) : f->n;
        jinja_block_add_part(j, b, f, at, to);
        at = to + 1;
        if (!percent)
            break;
        if (at < f->n && f->at[at] == '%') {
            jinja_block_add_part(j, b, f, at, at + 1);
            at++;
            continue;
        }
        struct conversion c = { .precision = -1 };
        struct jinja_value v = jinja_absent();
        if (at < f->n && f->at[at] == '(') {
            if (!take_key(j, f, &at, &args, &v))
                break;
            keyed = true;
        }
        parse_flags(f, &at, &c);
        c.width = take_number(j, f, &at, &args);
        if (c.width < -1) {
            c.left = true;
            c.width = -c.width;
        }
        if (at < f->n && f->at[at] == '.') {
            at++;
            c.precision = take_number(j, f, &at, &args);
            if (c.precision < 0)
                c.precision = 0;
        }
        c.type = at < f->n ? f->at[at++] : '\0';
        if (!c.type || !strchr("srcdixXofFeEgG", c.type)) {
            jinja_fail(j, "unsupported format character");
            break;
        }
        convert(j, b, v.kind == JINJA_ABSENT ? take_argument(j, &args) : v, &c);
    }
    /* what can be indexed may be there for its keys; other values must be used up */
    size_t given = value.kind == JINJA_TUPLE ? value.u.list->n : 1;
    if (!keyed && args.taken < given && value.kind != JINJA_DICT && value.kind != JINJA_LIST &&
        value.kind != JINJA_RANGE && value.kind != JINJA_UNDEFINED)
        jinja_fail(j, "not all arguments converted during string formatting");
    return jinja_block_string(j, b);
}
