#include "server/regex.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

struct parser {
    struct pattern p;
    const char *text;
    size_t n, at;
    unsigned depth;
};

static bool failed(const struct parser *s)
{
    return s->p.no_memory || *s->p.error.message;
}

/* The character there, ASCII or the first byte of another; 0 at the end, and for U+0000, which is_at_end tells apart. */
static uint8_t peek(const struct parser *s, size_t ahead)
{
    return s->n - s->at > ahead ? (uint8_t)s->text[s->at + ahead] : 0;
}

static bool take(struct parser *s, const char *word)
{
    const size_t n = strlen(word);

    if (s->n - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return false;
    s->at += n;
    return true;
}

static uint32_t take_character(struct parser *s)
{
    uint32_t code = 0;
    const int length = utf8_decode(s->text + s->at, s->n - s->at, &code);

    s->at += length > 0 ? (size_t)length : 1;
    return code;
}

/* n hexadecimal digits. */
static uint32_t take_hex(struct parser *s, size_t n)
{
    uint32_t code = 0;

    for (size_t i = 0; i < n; i++, s->at++) {
        const uint8_t c = peek(s, 0), lower = c | 0x20;
        if (!((c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'f'))) {
            pattern_refuse(&s->p, s->at, "an escape needs %zu hexadecimal digits", n);
            return 0;
        }
        code = code * 16 + (c <= '9' ? c - (uint32_t)'0' : lower - 'a' + 10u);
    }
    return code;
}

/* \uHHHH, and \uD83D\uDE00 for what is beyond them. */
static uint32_t take_unicode(struct parser *s, size_t start)
{
    const uint32_t code = take_hex(s, 4);

    if (code < 0xd800 || code > 0xdfff)
        return code;
    const uint32_t low = code < 0xdc00 && take(s, "\\u") ? take_hex(s, 4) : 0;
    if (low < 0xdc00 || low > 0xdfff)
        pattern_refuse(&s->p, start, "half of a surrogate pair is no character");
    return 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
}

/* Ranges of \d and the like, and of those that have all others. */
static bool add_shorthand(struct parser *s, char letter)
{
    static const struct { char letter; struct code_range in[4], out[5]; } rows[] = {
        { 'd', { { '0', '9' } }, { { 0, '0' - 1 }, { '9' + 1, 0x10ffff } } },
        { 'w', { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } },
               { { 0, '0' - 1 }, { '9' + 1, 'A' - 1 }, { 'Z' + 1, '_' - 1 }, { '`', '`' }, { 'z' + 1, 0x10ffff } } },
        { 's', { { '\t', '\r' }, { ' ', ' ' } }, { { 0, '\t' - 1 }, { '\r' + 1, ' ' - 1 }, { ' ' + 1, 0x10ffff } } },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if ((letter | 0x20) != rows[i].letter)
            continue;
        const bool in = letter == rows[i].letter;
        const struct code_range *r = in ? rows[i].in : rows[i].out;
        for (size_t k = 0; k < (in ? 4 : 5) && r[k].most; k++)
            pattern_range(&s->p, r[k].least, r[k].most);
        return true;
    }
    return false;
}

/* What follows a backslash: true with *code for one character, false when ranges were added to the set under way. */
static bool take_escape(struct parser *s, uint32_t *code)
{
    static const char names[] = "nrtfv", values[] = "\n\r\t\f\v";
    const size_t start = s->at - 1;
    const uint8_t c = peek(s, 0);
    const char *simple = c ? strchr(names, c) : NULL;

    *code = 0;
    if (s->at == s->n) {
        pattern_refuse(&s->p, start, "a backslash at the end");
        return true;
    }
    if (c >= 0x80) {
        *code = take_character(s);
        return true;
    }
    s->at++;
    if (add_shorthand(s, (char)c))
        return false;
    if (simple)
        *code = (uint8_t)values[simple - names];
    else if (c == 'x')
        *code = take_hex(s, 2);
    else if (c == 'u')
        *code = take_unicode(s, start);
    else if (c >= '1' && c <= '9')
        pattern_refuse(&s->p, start, "references to groups are not supported");
    else if (c == '0' && peek(s, 0) >= '0' && peek(s, 0) <= '9')
        pattern_refuse(&s->p, start, "octal escapes are not supported: write \\xHH");
    else if (c == '0')
        *code = 0;
    else if (((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
        pattern_refuse(&s->p, start, "the escape \\%c is not supported", c);
    else
        *code = c;
    return true;
}

/* One end of a range in a class. False: it was a shorthand. */
static bool take_member(struct parser *s, uint32_t *code)
{
    if (take(s, "\\"))
        return take_escape(s, code);
    *code = take_character(s);
    return true;
}

/* Behind [. As in Python, ] is a member where it comes first. */
static uint32_t parse_class(struct parser *s)
{
    const size_t start = s->at - 1;
    const bool negated = take(s, "^");

    for (bool first = true; first || peek(s, 0) != ']'; first = false) {
        uint32_t least, most;
        const size_t member = s->at;
        if (s->at == s->n)
            pattern_refuse(&s->p, start, "a class without its ]");
        if (failed(s))
            return 0;
        const bool one = take_member(s, &least);
        most = least;
        if (peek(s, 0) == '-' && s->n - s->at > 1 && peek(s, 1) != ']') {
            s->at++;
            if (!one || !take_member(s, &most) || most < least) {
                pattern_refuse(&s->p, member, "a range in a class must go from one character up to another");
                return 0;
            }
        }
        if (one)
            pattern_range(&s->p, least, most);
    }
    s->at++;
    return pattern_set(&s->p, negated, start);
}

/* Digits up to PATTERN_MAX_REPEAT; false without any. */
static bool take_count(struct parser *s, uint32_t *count)
{
    const size_t start = s->at;

    for (*count = 0; peek(s, 0) >= '0' && peek(s, 0) <= '9'; s->at++) {
        *count = 10 * *count + (peek(s, 0) - '0');
        if (*count > PATTERN_MAX_REPEAT) {
            pattern_refuse(&s->p, start, "a repeat may be at most %d", PATTERN_MAX_REPEAT);
            return false;
        }
    }
    return s->at > start;
}

/* {m}, {m,} or {m,n}. What only looks like it is text, as in Python; {,n} means {0,n} there, but is text in ECMA 262. */
static bool take_braces(struct parser *s, uint32_t *least, uint32_t *most)
{
    const size_t start = s->at;

    if (!take(s, "{"))
        return false;
    if (peek(s, 0) == ',' && peek(s, 1) >= '0' && peek(s, 1) <= '9')
        pattern_refuse(&s->p, start, "write {0,n} for {,n}, or \\{");
    if (!failed(s) && take_count(s, least)) {
        *most = *least;
        if (take(s, ",") && !take_count(s, most))
            *most = PATTERN_NO_END;
        if (!failed(s) && take(s, "}")) {
            if (*most < *least)
                pattern_refuse(&s->p, start, "a repeat whose least is above its most");
            return true;
        }
    }
    s->at = start;
    return false;
}

static bool take_quantifier(struct parser *s, uint32_t *least, uint32_t *most)
{
    *least = peek(s, 0) == '+';
    *most = peek(s, 0) == '?' ? 1 : PATTERN_NO_END;
    if (take(s, "*") || take(s, "+") || take(s, "?"))
        return true;
    return take_braces(s, least, most);
}

static uint32_t parse_choice(struct parser *s);

/* Behind (. */
static uint32_t parse_group(struct parser *s)
{
    const size_t start = s->at - 1;

    if (s->depth == PATTERN_MAX_DEPTH)
        pattern_refuse(&s->p, start, "groups may be nested at most %d deep", PATTERN_MAX_DEPTH);
    if (take(s, "?") && !take(s, ":")) {
        const bool named = (take(s, "P<") || take(s, "<")) && peek(s, 0) != '=' && peek(s, 0) != '!';
        while (named && s->at < s->n && peek(s, 0) != '>')
            s->at++;
        if (!named || !take(s, ">"))
            pattern_refuse(&s->p, start, "of groups that begin with (? only (?:...), (?<name>...) and (?P<name>...) are supported");
    }
    if (failed(s))
        return 0;
    s->depth++;
    const uint32_t node = parse_choice(s);
    s->depth--;
    if (!take(s, ")"))
        pattern_refuse(&s->p, start, "a group without its )");
    return node;
}

static uint32_t parse_dot(struct parser *s)
{
    /* what neither Python nor ECMA 262 takes for the end of a line */
    pattern_range(&s->p, '\n', '\n');
    pattern_range(&s->p, '\r', '\r');
    pattern_range(&s->p, 0x2028, 0x2029);
    return pattern_set(&s->p, true, s->at - 1);
}

static uint32_t parse_one(struct parser *s, bool *is_anchor)
{
    const size_t start = s->at;
    uint32_t code, least, most;

    *is_anchor = take(s, "^") || take(s, "$");
    if (*is_anchor)
        return pattern_leaf(&s->p, s->text[start] == '^' ? PATTERN_BEGIN : PATTERN_END, start);
    if (take_quantifier(s, &least, &most)) {
        pattern_refuse(&s->p, start, "there is nothing to repeat");
        return 0;
    }
    if (failed(s))
        return 0;
    if (take(s, "("))
        return parse_group(s);
    if (take(s, "["))
        return parse_class(s);
    if (take(s, "."))
        return parse_dot(s);
    if (take(s, "\\"))
        return take_escape(s, &code) ? pattern_character(&s->p, code, start) : pattern_set(&s->p, false, start);
    return pattern_character(&s->p, take_character(s), start);
}

static uint32_t parse_sequence(struct parser *s)
{
    const uint32_t sequence = pattern_leaf(&s->p, PATTERN_SEQUENCE, s->at);
    uint32_t least, most;
    bool is_anchor;

    while (s->at < s->n && peek(s, 0) != '|' && peek(s, 0) != ')' && !failed(s)) {
        uint32_t one = parse_one(s, &is_anchor);
        const size_t at = s->at;
        if (!failed(s) && take_quantifier(s, &least, &most)) {
            if (is_anchor)
                pattern_refuse(&s->p, at, "there is nothing to repeat");
            take(s, "?");               /* which match is preferred makes no difference */
            if (peek(s, 0) == '+')
                pattern_refuse(&s->p, s->at, "possessive repeats are not supported");
            one = pattern_repeat(&s->p, one, least, most, at);
        }
        pattern_append(&s->p, sequence, one);
    }
    return pattern_simplify(&s->p, sequence);
}

static uint32_t parse_choice(struct parser *s)
{
    const uint32_t choice = pattern_leaf(&s->p, PATTERN_CHOICE, s->at);

    do {
        pattern_append(&s->p, choice, parse_sequence(s));
    } while (!failed(s) && take(s, "|"));
    return pattern_simplify(&s->p, choice);
}

static int parse(struct parser *s, uint32_t *root)
{
    const size_t valid = utf8_check(s->text, s->n);

    if (s->n > REGEX_MAX_BYTES)
        return pattern_refuse(&s->p, REGEX_MAX_BYTES, "a regular expression may have at most %d bytes", REGEX_MAX_BYTES);
    if (valid < s->n)
        return pattern_refuse(&s->p, valid, "it is not UTF-8");
    *root = parse_choice(s);
    if (s->at < s->n && !failed(s))
        pattern_refuse(&s->p, s->at, "a ) without its (");
    return *s->p.error.message ? -EINVAL : s->p.no_memory ? -ENOMEM : 0;
}

int regex_build(struct grammar_builder *b, const char *text, size_t n, const struct pattern_use *use, uint16_t next, uint16_t *start,
                struct pattern_error *e)
{
    struct parser s = { .text = text, .n = n };
    uint32_t root = 0;

    *start = 0;
    *e = (struct pattern_error){ .at = 0 };
    int err = pattern_begin(&s.p);
    if (!err)
        err = parse(&s, &root);
    if (!err) {
        *start = pattern_build(&s.p, b, root, use, next);
        err = s.p.no_memory ? -ENOMEM : *s.p.error.message || b->error ? -EINVAL : 0;
    }
    if (err == -EINVAL && *s.p.error.message) {
        size_t position = 0;
        for (size_t i = 0; i < s.p.error.at && i < n; i++)
            position += ((uint8_t)text[i] & 0xc0) != 0x80;
        e->at = s.p.error.at;
        snprintf(e->message, sizeof(e->message), "position %zu: %.160s", position, s.p.error.message);
    }
    pattern_free(&s.p);
    return err;
}

int regex_compile(const char *text, size_t n, struct grammar **g, struct pattern_error *e)
{
    static const struct pattern_use all = { .most = SIZE_MAX };
    struct grammar_builder b;
    const char *why = NULL;
    uint16_t start;

    *g = NULL;
    *e = (struct pattern_error){ .at = 0 };
    int err = grammar_begin(&b);
    if (!err)
        err = regex_build(&b, text, n, &all, GRAMMAR_RETURN, &start, e);
    if (!err || (err == -EINVAL && b.error))
        err = grammar_finish(&b, start, g, &why);
    if (why)
        snprintf(e->message, sizeof(e->message), "%s", why);
    grammar_abandon(&b);
    return err;
}
