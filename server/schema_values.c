/*
 * schema_values.c - the texts of JSON values as rules: white space, strings, numbers, arrays, and sets of literal texts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/schema_internal.h"

enum { MOST_INDENT = 20 };

uint16_t schema_blank(struct schema_compiler *c, uint16_t next)
{
    return grammar_split(&c->b, next, grammar_range(&c->b, ' ', ' ', next));
}

/* A rule, so that its nodes exist once. A model that may emit blanks for ever does. */
uint16_t schema_space(struct schema_compiler *c, uint16_t next)
{
    if (!c->rules.space) {
        uint16_t indent = GRAMMAR_RETURN;
        for (int i = 0; i < MOST_INDENT; i++)
            indent = grammar_split(&c->b, GRAMMAR_RETURN, grammar_range(&c->b, ' ', ' ', indent));
        c->rules.space = grammar_split(&c->b, schema_blank(c, GRAMMAR_RETURN), grammar_range(&c->b, '\n', '\n', indent));
    }
    return grammar_call(&c->b, c->rules.space, next);
}

static uint16_t wide_letter(struct schema_compiler *c, uint16_t next)
{
    static const struct code_range wide[] = { { 0x80, 0xd7ff }, { 0xe000, 0x10ffff } };
    return grammar_characters(&c->b, wide, 2, next);
}

static struct byte_set plain_bytes(void)
{
    struct byte_set plain = { { 0 } };

    byte_set_add(&plain, 0x20, 0x21);
    byte_set_add(&plain, 0x23, 0x5b);
    byte_set_add(&plain, 0x5d, 0x7e);
    return plain;
}

/* \uXXXX but for surrogates, which only pairs may have, and for U+0000, which many programs refuse. */
static uint16_t escape(struct schema_compiler *c, uint16_t next)
{
    struct grammar_builder *b = &c->b;
    struct byte_set hex = { { 0 } }, simple = { { 0 } }, first = { { 0 } }, d = { { 0 } }, nonzero;
    uint16_t h[5] = { next };

    byte_set_add(&hex, '0', '9');
    byte_set_add(&hex, 'a', 'f');
    byte_set_add(&hex, 'A', 'F');
    byte_set_add(&first, '1', '9');
    byte_set_add(&first, 'a', 'c');
    byte_set_add(&first, 'e', 'f');
    byte_set_add(&first, 'A', 'C');
    byte_set_add(&first, 'E', 'F');
    byte_set_add(&d, 'd', 'd');
    byte_set_add(&d, 'D', 'D');
    nonzero = hex;
    nonzero.bits[0] &= ~((uint64_t)1 << '0');
    for (const char *s = "\"\\/bfnrt"; *s; s++)
        byte_set_add(&simple, (uint8_t)*s, (uint8_t)*s);
    for (int i = 1; i < 5; i++)
        h[i] = grammar_set(b, &hex, h[i - 1]);
    uint16_t zero = grammar_set(b, &nonzero, next);             /* 000X */
    zero = grammar_split(b, grammar_range(b, '0', '0', zero), grammar_set(b, &nonzero, h[1]));
    zero = grammar_split(b, grammar_range(b, '0', '0', zero), grammar_set(b, &nonzero, h[2]));
    uint16_t code = grammar_split(b, grammar_set(b, &first, h[3]), grammar_set(b, &d, grammar_range(b, '0', '7', h[2])));
    code = grammar_split(b, code, grammar_range(b, '0', '0', zero));
    return grammar_range(b, '\\', '\\', grammar_split(b, grammar_set(b, &simple, next), grammar_range(b, 'u', 'u', code)));
}

/* One character of a string, as a rule. */
static uint16_t letter(struct schema_compiler *c)
{
    const struct byte_set plain = plain_bytes();

    if (!c->rules.letter) {
        c->b.letter = grammar_set(&c->b, &plain, GRAMMAR_RETURN);      /* nothing else ends with it: the matcher relies on that */
        c->rules.letter = grammar_split(&c->b, c->b.letter,
                                        grammar_split(&c->b, wide_letter(c, GRAMMAR_RETURN), escape(c, GRAMMAR_RETURN)));
    }
    return c->rules.letter;
}

uint16_t schema_string(struct schema_compiler *c, size_t least, size_t most, uint16_t next)
{
    struct grammar_builder *b = &c->b;
    const uint16_t one = letter(c), quote = grammar_range(b, '"', '"', next);
    uint16_t at = quote;

    if (most == SIZE_MAX) {
        at = grammar_later(b);
        grammar_define(b, at, grammar_split(b, quote, grammar_call(b, one, at)));
    } else {
        for (size_t i = least; i < most && !b->error; i++)
            at = grammar_split(b, quote, grammar_call(b, one, at));
    }
    for (size_t i = 0; i < least && !b->error; i++)
        at = grammar_call(b, one, at);
    return grammar_range(b, '"', '"', at);
}

/* Up to n digits more. */
static uint16_t digits(struct schema_compiler *c, int n, uint16_t next)
{
    uint16_t at = next;

    for (int i = 0; i < n; i++)
        at = grammar_split(&c->b, next, grammar_range(&c->b, '0', '9', at));
    return at;
}

/* [-] up to 15 digits [. up to 15] [e up to 2]: what a double holds. */
uint16_t schema_number(struct schema_compiler *c, bool negative, uint16_t next)
{
    struct grammar_builder *b = &c->b;
    struct byte_set e = { { 0 } }, sign = { { 0 } };

    byte_set_add(&e, 'e', 'e');
    byte_set_add(&e, 'E', 'E');
    byte_set_add(&sign, '+', '+');
    byte_set_add(&sign, '-', '-');
    const uint16_t power = grammar_range(b, '0', '9', digits(c, 1, next));
    uint16_t at = grammar_split(b, next, grammar_set(b, &e, grammar_split(b, power, grammar_set(b, &sign, power))));
    at = grammar_split(b, at, grammar_range(b, '.', '.', grammar_range(b, '0', '9', digits(c, 14, at))));
    at = grammar_split(b, grammar_range(b, '0', '0', at), grammar_range(b, '1', '9', digits(c, 14, at)));
    return negative ? grammar_split(b, at, grammar_range(b, '-', '-', at)) : at;
}

struct range { const char *least, *most; uint16_t next; };

/* Digits from position i on; low, high: those before were the bound's own. Beyond the first that is not, one side is free. */
static uint16_t range_digits(struct schema_compiler *c, const struct range *r, size_t i, bool low, bool high)
{
    struct grammar_builder *b = &c->b;
    const char from = low ? r->least[i] : '0', to = high ? r->most[i] : '9';
    uint16_t at = 0;
    char first = from, last = to;

    if (!r->least[i])
        return r->next;
    if (from == to)
        return grammar_range(b, (uint8_t)from, (uint8_t)from, range_digits(c, r, i + 1, low, high));
    if (low) {
        at = grammar_range(b, (uint8_t)from, (uint8_t)from, range_digits(c, r, i + 1, true, false));
        first++;
    }
    if (high) {
        const uint16_t way = grammar_range(b, (uint8_t)to, (uint8_t)to, range_digits(c, r, i + 1, false, true));
        at = at ? grammar_split(b, at, way) : way;
        last--;
    }
    if (first <= last) {
        const uint16_t way = grammar_range(b, (uint8_t)first, (uint8_t)last, range_digits(c, r, i + 1, false, false));
        at = at ? grammar_split(b, at, way) : way;
    }
    return at;
}

/* 0 <= least <= most: the numbers of each length in turn. */
static uint16_t natural(struct schema_compiler *c, int64_t least, int64_t most, uint16_t next)
{
    uint16_t at = 0;

    for (int64_t from = 0, power = 10; from <= most; from = power, power *= 10) {
        const int64_t first = least > from ? least : from, last = most < power - 1 ? most : power - 1;
        char low[24], high[24];
        if (first > last)
            continue;
        snprintf(low, sizeof(low), "%lld", (long long)first);
        snprintf(high, sizeof(high), "%lld", (long long)last);
        const struct range r = { low, high, next };
        const uint16_t way = range_digits(c, &r, 0, true, true);
        at = at ? grammar_split(&c->b, at, way) : way;
    }
    return at;
}

uint16_t schema_integer(struct schema_compiler *c, int64_t least, int64_t most, uint16_t next)
{
    uint16_t at = 0;

    if (most >= 0)
        at = natural(c, least > 0 ? least : 0, most, next);
    if (least < 0) {
        const uint16_t way = grammar_range(&c->b, '-', '-', natural(c, most < 0 ? -most : 1, -least, next));
        at = at ? grammar_split(&c->b, at, way) : way;
    }
    return at;
}

uint16_t schema_repeat(struct schema_compiler *c, uint16_t item, size_t least, size_t most, uint16_t next)
{
    struct grammar_builder *b = &c->b;
    const uint16_t bracket = grammar_range(b, ']', ']', next), close = schema_space(c, bracket);
    uint16_t rest = close;

    if (most == 0)
        return grammar_range(b, '[', '[', close);
    if (most == SIZE_MAX) {
        rest = grammar_later(b);
        const uint16_t more = grammar_range(b, ',', ',', schema_space(c, grammar_call(b, item, rest)));
        grammar_define(b, rest, grammar_split(b, close, more));
    }
    /* rest: what follows the i-th item, from the last to the first */
    const size_t last = most == SIZE_MAX ? least : most;
    for (size_t i = last; i > 1 && !b->error; i--) {
        const uint16_t more = grammar_range(b, ',', ',', schema_space(c, grammar_call(b, item, rest)));
        rest = i - 1 >= least ? grammar_split(b, close, more) : more;
    }
    uint16_t first = schema_space(c, grammar_call(b, item, rest));
    if (least == 0)
        first = grammar_split(b, bracket, first);
    return grammar_range(b, '[', '[', first);
}

static uint16_t member(struct schema_compiler *c, uint16_t value, uint16_t next)
{
    const uint16_t colon = grammar_range(&c->b, ':', ':', schema_blank(c, grammar_call(&c->b, value, next)));
    return schema_string(c, 0, SIZE_MAX, colon);
}

static uint16_t object_rule(struct schema_compiler *c, uint16_t value)
{
    struct grammar_builder *b = &c->b;
    const uint16_t brace = grammar_range(b, '}', '}', GRAMMAR_RETURN), rest = grammar_later(b);
    const uint16_t one = member(c, value, rest);

    grammar_define(b, rest, grammar_split(b, schema_space(c, brace), grammar_range(b, ',', ',', schema_space(c, one))));
    return grammar_range(b, '{', '{', grammar_split(b, brace, schema_space(c, one)));
}

static void build_any(struct schema_compiler *c)
{
    struct grammar_builder *b = &c->b;

    if (c->rules.value)
        return;
    c->rules.value = grammar_later(b);
    c->rules.object = object_rule(c, c->rules.value);
    c->rules.array = schema_repeat(c, c->rules.value, 0, SIZE_MAX, GRAMMAR_RETURN);
    uint16_t at = grammar_split(b, c->rules.object, c->rules.array);
    at = grammar_split(b, at, schema_string(c, 0, SIZE_MAX, GRAMMAR_RETURN));
    at = grammar_split(b, at, schema_number(c, true, GRAMMAR_RETURN));
    at = grammar_split(b, at, grammar_text(b, "true", 4, GRAMMAR_RETURN));
    at = grammar_split(b, at, grammar_text(b, "false", 5, GRAMMAR_RETURN));
    grammar_define(b, c->rules.value, grammar_split(b, at, grammar_text(b, "null", 4, GRAMMAR_RETURN)));
}

uint16_t schema_any(struct schema_compiler *c, uint16_t next)
{
    build_any(c);
    return grammar_call(&c->b, c->rules.value, next);
}

uint16_t schema_any_object(struct schema_compiler *c, uint16_t next)
{
    build_any(c);
    return grammar_call(&c->b, c->rules.object, next);
}

uint16_t schema_any_array(struct schema_compiler *c, uint16_t next)
{
    build_any(c);
    return grammar_call(&c->b, c->rules.array, next);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* After `at` bytes that names[n] share, sorted: something that none of them goes on with, then anything; or on with one of them. */
static uint16_t other_after(struct schema_compiler *c, char *const *names, size_t n, size_t at, uint16_t rest, uint16_t next)
{
    struct grammar_builder *b = &c->b;
    struct byte_set free_bytes = plain_bytes();
    bool is_name = false, wide = false;
    uint16_t ways = 0;

    if (b->error)
        return 0;
    for (size_t i = 0; i < n; ) {
        const uint8_t byte = (uint8_t)names[i][at];
        size_t m = i + 1;
        while (m < n && (uint8_t)names[m][at] == byte)
            m++;
        if (!byte) {
            is_name = true;
        } else {
            free_bytes.bits[byte >> 6] &= ~((uint64_t)1 << (byte & 63));
            wide |= byte >= 0x80;
            if (byte < 0x80) {                  /* within a character beyond ASCII nothing else is offered */
                const uint16_t way = grammar_range(b, byte, byte, other_after(c, names + i, m - i, at + 1, rest, next));
                ways = ways ? grammar_split(b, ways, way) : way;
            }
        }
        i = m;
    }
    const uint16_t way = grammar_set(b, &free_bytes, rest);
    ways = ways ? grammar_split(b, ways, way) : way;
    if (!wide)
        ways = grammar_split(b, ways, wide_letter(c, rest));
    return is_name ? ways : grammar_split(b, ways, next);
}

static bool is_plain(const char *text)
{
    const struct byte_set plain = plain_bytes();

    for (; *text; text++)
        if ((uint8_t)*text < 0x80 && !byte_set_has(&plain, (uint8_t)*text))
            return false;
    return true;
}

uint16_t schema_other_key(struct schema_compiler *c, const char *const *names, size_t n, uint16_t next)
{
    struct grammar_builder *b = &c->b;
    const struct byte_set plain = plain_bytes();
    const uint16_t quote = grammar_range(b, '"', '"', next), rest = grammar_later(b);
    char **sorted = malloc((n + 1) * sizeof(*sorted));

    if (!sorted) {
        b->no_memory = true;
        return 0;
    }
    size_t n_spelt = 0;         /* the others can only be written with escapes */
    for (size_t i = 0; i < n; i++)
        if (is_plain(names[i]))
            sorted[n_spelt++] = (char *)(uintptr_t)names[i];
    qsort(sorted, n_spelt, sizeof(*sorted), compare_texts);
    grammar_define(b, rest, grammar_split(b, quote, grammar_split(b, grammar_set(b, &plain, rest), wide_letter(c, rest))));
    const uint16_t start = grammar_range(b, '"', '"', other_after(c, sorted, n_spelt, 0, rest, quote));
    free(sorted);
    return start;
}
