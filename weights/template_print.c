/*
 * template_print.c - values as text: str() and repr() of Python, and tojson as transformers defines it (json.dumps: non-ASCII
 * kept, no HTML escaping, order of the dictionary kept).
 */
#include "weights/template_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

static void format_double(double d, char text[32])
{
    char digits[32];
    int precision = 0, exponent, n = 0;

    if (isnan(d) || isinf(d)) {
        strcpy(text, isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return;
    }
    /* the shortest decimal that reads back as the same number, as repr() prints it */
    do
        snprintf(digits, sizeof(digits), "%.*e", precision, d);
    while (strtod(digits, NULL) != d && ++precision < 17);
    exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16) {
        char *e = strchr(digits, 'e');
        sprintf(e, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        strcpy(text, digits);
    } else {
        n = snprintf(text, 32, "%.*f", precision > exponent ? precision - exponent : 0, d);
        if (!strchr(text, '.'))
            strcpy(text + n, ".0");
    }
}

static bool is_printable(uint32_t c)
{
    if (c < 0x7f)
        return c >= ' ';
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static void repr_text(struct jinja *j, struct jinja_block *b, const struct jinja_string *s)
{
    bool has_single = memchr(s->at, '\'', s->n), has_double = memchr(s->at, '"', s->n);
    const char *quote = has_single && !has_double ? "\"" : "'";
    size_t length, plain = 0;

    jinja_block_puts(j, b, quote);
    for (size_t at = 0; at < s->n && !jinja_failed(j); at += length) {
        uint32_t c = jinja_char_at(s, at, &length);
        char escape[16];
        if (c == '\\' || c == (unsigned char)*quote)
            snprintf(escape, sizeof(escape), "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof(escape), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (!is_printable(c))
            snprintf(escape, sizeof(escape), c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        else
            continue;
        jinja_block_add_part(j, b, s, plain, at);
        jinja_block_add(j, b, escape, strlen(escape), jinja_mark_at(s, at));
        plain = at + length;
    }
    jinja_block_add_part(j, b, s, plain, s->n);
    jinja_block_puts(j, b, quote);
}

static void repr(struct jinja *j, struct jinja_block *b, struct jinja_value v, int depth);

static void repr_items(struct jinja *j, struct jinja_block *b, const struct jinja_list *list, const char *open, const char *close,
                       int depth)
{
    jinja_block_puts(j, b, open);
    for (size_t i = 0; i < list->n && !jinja_failed(j); i++) {
        if (i)
            jinja_block_puts(j, b, ", ");
        repr(j, b, list->items[i], depth + 1);
    }
    jinja_block_puts(j, b, close);
}

static void repr_dict(struct jinja *j, struct jinja_block *b, const struct jinja_dict *d, int depth)
{
    jinja_block_puts(j, b, "{");
    for (size_t i = 0; i < d->n && !jinja_failed(j); i++) {
        if (i)
            jinja_block_puts(j, b, ", ");
        repr(j, b, d->entries[i].key, depth + 1);
        jinja_block_puts(j, b, ": ");
        repr(j, b, d->entries[i].value, depth + 1);
    }
    jinja_block_puts(j, b, "}");
}

static void repr_scalar(struct jinja *j, struct jinja_block *b, struct jinja_value v)
{
    char text[128];

    switch (v.kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        jinja_block_puts(j, b, jinja_type_name(v));
        return;
    case JINJA_BOOL:
        jinja_block_puts(j, b, v.u.boolean ? "True" : "False");
        return;
    case JINJA_INT:
        snprintf(text, sizeof(text), "%lld", (long long)v.u.integer);
        break;
    case JINJA_FLOAT:
        jinja_touch(j, 4096);       /* the search for the shortest decimal takes microseconds */
        format_double(v.u.real, text);
        break;
    case JINJA_RANGE: {
        const struct jinja_range *r = v.u.range;
        int n = snprintf(text, sizeof(text), "range(%lld, %lld", (long long)r->start, (long long)r->stop);
        snprintf(text + n, sizeof(text) - (size_t)n, r->step == 1 ? ")" : ", %lld)", (long long)r->step);
        break;
    }
    default:        /* Python prints an address here, which no template can want */
        snprintf(text, sizeof(text), "<%s object>", jinja_type_name(v));
    }
    jinja_block_puts(j, b, text);
}

static void repr(struct jinja *j, struct jinja_block *b, struct jinja_value v, int depth)
{
    if (!jinja_charge(j, 0))
        return;
    if (depth > JINJA_MAX_DATA_DEPTH) {
        jinja_fail_limit(j, "data nested deeper than %d", JINJA_MAX_DATA_DEPTH);
        return;
    }
    switch (v.kind) {
    case JINJA_STRING:
        repr_text(j, b, v.u.string);
        break;
    case JINJA_LIST:
        repr_items(j, b, v.u.list, "[", "]", depth);
        break;
    case JINJA_TUPLE:
        repr_items(j, b, v.u.list, "(", v.u.list->n == 1 ? ",)" : ")", depth);
        break;
    case JINJA_VIEW:
        jinja_block_puts(j, b, v.u.list->view);
        repr_items(j, b, v.u.list, "([", "])", depth);
        break;
    case JINJA_DICT:
        repr_dict(j, b, v.u.dict, depth);
        break;
    case JINJA_NAMESPACE:
        jinja_block_puts(j, b, "<Namespace ");
        repr_dict(j, b, v.u.dict, depth);
        jinja_block_puts(j, b, ">");
        break;
    default:
        repr_scalar(j, b, v);
    }
}

void jinja_print_repr(struct jinja *j, struct jinja_block *b, struct jinja_value v)
{
    repr(j, b, v, 0);
}

void jinja_print(struct jinja *j, struct jinja_block *b, struct jinja_value v)
{
    if (v.kind == JINJA_STRING)
        jinja_block_add_string(j, b, v.u.string);
    else if (v.kind != JINJA_UNDEFINED)
        repr(j, b, v, 0);
}

/* ---- JSON ---- */

static void json_text(struct jinja *j, struct jinja_block *b, const struct jinja_string *s, bool ascii)
{
    static const char shorts[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    size_t length, plain = 0;

    jinja_block_puts(j, b, "\"");
    for (size_t at = 0; at < s->n && !jinja_failed(j); at += length) {
        uint32_t c = jinja_char_at(s, at, &length);
        char escape[16];
        if (c >= ' ' && c != '"' && c != '\\' && !(ascii && c > '~'))
            continue;
        const char *known = c && c < 0x80 ? strchr(shorts, (int)c) : NULL;
        if (known && (known - shorts) % 2 == 0)
            snprintf(escape, sizeof(escape), "\\%c", known[1]);
        else if (c < 0x10000)
            snprintf(escape, sizeof(escape), "\\u%04x", c);
        else
            snprintf(escape, sizeof(escape), "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
        jinja_block_add_part(j, b, s, plain, at);
        jinja_block_add(j, b, escape, strlen(escape), jinja_mark_at(s, at));
        plain = at + length;
    }
    jinja_block_add_part(j, b, s, plain, s->n);
    jinja_block_puts(j, b, "\"");
}

static void json_scalar(struct jinja *j, struct jinja_block *b, struct jinja_value v)
{
    if (v.kind == JINJA_NONE)
        jinja_block_puts(j, b, "null");
    else if (v.kind == JINJA_BOOL)
        jinja_block_puts(j, b, v.u.boolean ? "true" : "false");
    else if (v.kind == JINJA_FLOAT && isnan(v.u.real))
        jinja_block_puts(j, b, "NaN");
    else if (v.kind == JINJA_FLOAT && isinf(v.u.real))
        jinja_block_puts(j, b, v.u.real < 0 ? "-Infinity" : "Infinity");
    else
        repr_scalar(j, b, v);
}

static void json_newline(struct jinja *j, struct jinja_block *b, const struct jinja_json_style *style, int depth)
{
    if (!style->indent)
        return;
    jinja_block_puts(j, b, "\n");
    for (int i = 0; i < depth; i++)
        jinja_block_add_string(j, b, style->indent);
}

static void json_value(struct jinja *j, struct jinja_block *b, struct jinja_value v, const struct jinja_json_style *style, int depth);

static void json_key(struct jinja *j, struct jinja_block *b, struct jinja_value key, bool ascii)
{
    if (key.kind == JINJA_STRING) {
        json_text(j, b, key.u.string, ascii);
    } else if (key.kind >= JINJA_NONE && key.kind <= JINJA_FLOAT) {
        jinja_block_puts(j, b, "\"");
        json_scalar(j, b, key);
        jinja_block_puts(j, b, "\"");
    } else {
        jinja_fail(j, "keys must be str, int, float, bool or none, not %s", jinja_type_name(key));
    }
}

/* The entries in the order of their keys. */
static struct jinja_entry *sorted_entries(struct jinja *j, const struct jinja_dict *d)
{
    struct jinja_value *keys = jinja_alloc_array(j, d->n, sizeof(*keys)), *values = jinja_alloc_array(j, d->n, sizeof(*values));
    struct jinja_entry *entries = jinja_alloc_array(j, d->n, sizeof(*entries));

    if (!keys || !values || !entries)
        return NULL;
    for (size_t i = 0; i < d->n; i++) {
        keys[i] = d->entries[i].key;
        values[i] = d->entries[i].value;
    }
    jinja_sort(j, values, keys, d->n, false);
    for (size_t i = 0; i < d->n; i++)
        entries[i] = (struct jinja_entry){ keys[i], values[i] };
    return entries;
}

static void json_dict(struct jinja *j, struct jinja_block *b, const struct jinja_dict *d, const struct jinja_json_style *style, int depth)
{
    const struct jinja_entry *entries = style->sort_keys ? sorted_entries(j, d) : d->entries;

    jinja_block_puts(j, b, "{");
    for (size_t i = 0; i < d->n && !jinja_failed(j); i++) {
        if (i)
            jinja_block_add_string(j, b, style->item_separator);
        json_newline(j, b, style, depth + 1);
        json_key(j, b, entries[i].key, style->ascii);
        jinja_block_add_string(j, b, style->key_separator);
        json_value(j, b, entries[i].value, style, depth + 1);
    }
    if (d->n)
        json_newline(j, b, style, depth);
    jinja_block_puts(j, b, "}");
}

static void json_list(struct jinja *j, struct jinja_block *b, const struct jinja_list *list, const struct jinja_json_style *style,
                      int depth)
{
    jinja_block_puts(j, b, "[");
    for (size_t i = 0; i < list->n && !jinja_failed(j); i++) {
        if (i)
            jinja_block_add_string(j, b, style->item_separator);
        json_newline(j, b, style, depth + 1);
        json_value(j, b, list->items[i], style, depth + 1);
    }
    if (list->n)
        json_newline(j, b, style, depth);
    jinja_block_puts(j, b, "]");
}

static void json_value(struct jinja *j, struct jinja_block *b, struct jinja_value v, const struct jinja_json_style *style, int depth)
{
    if (!jinja_charge(j, 0))
        return;
    if (depth > JINJA_MAX_DATA_DEPTH)
        jinja_fail_limit(j, "data nested deeper than %d", JINJA_MAX_DATA_DEPTH);
    else if (v.kind == JINJA_STRING)
        json_text(j, b, v.u.string, style->ascii);
    else if (v.kind == JINJA_LIST || v.kind == JINJA_TUPLE)
        json_list(j, b, v.u.list, style, depth);
    else if (v.kind == JINJA_DICT)
        json_dict(j, b, v.u.dict, style, depth);
    else if (v.kind >= JINJA_NONE && v.kind <= JINJA_FLOAT)
        json_scalar(j, b, v);
    else
        jinja_fail(j, "Object of type %s is not JSON serializable", jinja_type_name(v));
}

void jinja_print_json(struct jinja *j, struct jinja_block *b, struct jinja_value v, const struct jinja_json_style *style)
{
    json_value(j, b, v, style, 0);
}
