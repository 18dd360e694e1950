/*
 * template_lexer.c - template text to tokens.
 *
 * The whitespace rules are those of jinja2's lexer with trim_blocks and lstrip_blocks: a block tag or comment swallows the
 * newline after it and, when nothing else stands before it on its line, its indentation; '-' inside a delimiter swallows all
 * whitespace on that side, '+' keeps it.
 */
#include "weights/template_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

void jinja_lexer_open(struct jinja_lexer *lexer, struct jinja *j, const char *source, size_t n)
{
    *lexer = (struct jinja_lexer){ .j = j, .source = source, .n = n, .line = 1, .mode = TOKEN_DATA, .pending = TOKEN_DATA };
}

static char peek(const struct jinja_lexer *lexer, size_t ahead)
{
    return ahead < lexer->n - lexer->at ? lexer->source[lexer->at + ahead] : '\0';
}

static bool at_text(const struct jinja_lexer *lexer, const char *text)
{
    size_t n = strlen(text);
    return n <= lexer->n - lexer->at && !memcmp(lexer->source + lexer->at, text, n);
}

static void move_to(struct jinja_lexer *lexer, size_t at)
{
    for (size_t i = lexer->at; i < at; i++)
        lexer->line += lexer->source[i] == '\n';
    lexer->at = at;
}

static void fail_here(struct jinja_lexer *lexer, const char *what)
{
    lexer->j->line = lexer->line;
    jinja_fail(lexer->j, "%s", what);
}

static void skip_space(struct jinja_lexer *lexer)
{
    const struct jinja_string all = { .at = lexer->source, .n = lexer->n };
    size_t at = lexer->at, length;

    while (at < lexer->n && jinja_is_space(jinja_char_at(&all, at, &length)))
        at += length;
    move_to(lexer, at);
}

/* After the end of a block tag or comment: trim_blocks. */
static void skip_newline(struct jinja_lexer *lexer)
{
    if (peek(lexer, 0) == '\n')
        move_to(lexer, lexer->at + 1);
}

static size_t find_tag(const struct jinja_lexer *lexer)
{
    for (size_t i = lexer->at; i + 1 < lexer->n; i++) {
        char c = lexer->source[i + 1];
        if (lexer->source[i] == '{' && (c == '{' || c == '%' || c == '#'))
            return i;
    }
    return lexer->n;
}

/* Where the data [from, to) before a tag ends once the tag's sign has taken its whitespace. */
static size_t trim_before(const struct jinja_lexer *lexer, size_t from, size_t to, char sign, bool is_output)
{
    const struct jinja_string data = { .at = lexer->source + from, .n = to - from };
    size_t end = data.n;

    if (sign == '+' || (is_output && sign != '-'))
        return to;
    while (end > 0) {
        size_t at = end - 1, length;
        while (at > 0 && ((unsigned char)data.at[at] & 0xc0) == 0x80)
            at--;
        if (!jinja_is_space(jinja_char_at(&data, at, &length)))
            break;
        if (sign != '-' && data.at[at] == '\n')
            return from + end;
        end = at;
    }
    if (sign == '-')
        return from + end;
    /* lstrip_blocks: only whitespace since the start of the line, which may be the start of the template */
    bool line_start = end == 0 && (from == 0 || lexer->source[from - 1] == '\n');
    return line_start ? from : to;
}

static void skip_comment(struct jinja_lexer *lexer)
{
    size_t from = lexer->at;

    for (size_t i = from; i + 1 < lexer->n; i++) {
        if (lexer->source[i] != '#' || lexer->source[i + 1] != '}')
            continue;
        char sign = i > from ? lexer->source[i - 1] : '\0';
        move_to(lexer, i + 2);
        if (sign == '-')
            skip_space(lexer);
        else if (sign != '+')
            skip_newline(lexer);
        return;
    }
    fail_here(lexer, "missing end of comment tag");
}

/* Data up to the next tag, which becomes `pending`. Leaves the token EOF when there is neither. */
static void lex_data(struct jinja_lexer *lexer, struct jinja_token *token)
{
    while (lexer->at < lexer->n && !jinja_failed(lexer->j)) {
        size_t from = lexer->at, to = find_tag(lexer), end = to;
        char kind = '\0';

        token->line = lexer->line;
        if (to < lexer->n) {
            kind = lexer->source[to + 1];
            char sign = to + 2 < lexer->n ? lexer->source[to + 2] : '\0';
            end = trim_before(lexer, from, to, sign, kind == '{');
            move_to(lexer, to + 2 + (sign == '-' || sign == '+'));
        } else {
            move_to(lexer, to);
        }
        if (kind == '#')
            skip_comment(lexer);
        else if (kind)
            lexer->pending = kind == '{' ? TOKEN_OUTPUT_BEGIN : TOKEN_BLOCK_BEGIN;
        if (end > from) {
            token->kind = TOKEN_DATA;
            token->value = jinja_text(jinja_string_new(lexer->j, lexer->source + from, end - from, false));
            return;
        }
        if (lexer->pending != TOKEN_DATA)
            return;
    }
}

static bool is_digit(char c, int base)
{
    if (base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
        return true;
    return c >= '0' && c < '0' + (base > 10 ? 10 : base);
}

/* Length of digits with single underscores between them, from `ahead` on. */
static size_t digits(const struct jinja_lexer *lexer, size_t ahead, int base)
{
    size_t n = 0;

    while (is_digit(peek(lexer, ahead + n), base) ||
           (n && peek(lexer, ahead + n) == '_' && is_digit(peek(lexer, ahead + n + 1), base)))
        n++;
    return n;
}

static void lex_number(struct jinja_lexer *lexer, struct jinja_token *token)
{
    char text[400];
    size_t n, used = 0, skip = 0;
    int base = 10;
    bool real = false;

    if (peek(lexer, 0) == '0' && strchr("xXoObB", peek(lexer, 1)) && peek(lexer, 1)) {
        int wide = strchr("xX", peek(lexer, 1)) ? 16 : strchr("oO", peek(lexer, 1)) ? 8 : 2;
        size_t first = peek(lexer, 2) == '_' ? 3 : 2;
        if (digits(lexer, first, wide)) {
            base = wide;
            skip = first;
        }
    }
    n = skip + digits(lexer, skip, base);
    /* x.0.1 indexes twice: a number after a dot has no fraction */
    if (base == 10 && !(lexer->at > 0 && lexer->source[lexer->at - 1] == '.')) {
        size_t fraction = peek(lexer, n) == '.' ? digits(lexer, n + 1, 10) : 0;
        size_t m = fraction ? n + 1 + fraction : n;
        real = fraction > 0;
        if (peek(lexer, m) == 'e' || peek(lexer, m) == 'E') {
            size_t sign = peek(lexer, m + 1) == '+' || peek(lexer, m + 1) == '-';
            size_t exponent = digits(lexer, m + 1 + sign, 10);
            if (exponent) {
                real = true;
                m += 1 + sign + exponent;
            }
        }
        n = m;
    }
    if (!real && base == 10 && peek(lexer, 0) == '0')
        while (n > 1 && strspn(lexer->source + lexer->at, "0_") < n)     /* 007 is 00 and 7, a syntax error later */
            n--;
    for (size_t i = skip; i < n; i++) {
        if (used + 1 >= sizeof(text)) {
            fail_here(lexer, "number of too many digits");
            return;
        }
        if (peek(lexer, i) != '_')
            text[used++] = peek(lexer, i);
    }
    text[used] = '\0';
    if (real) {
        token->kind = TOKEN_FLOAT;
        token->value = jinja_float(strtod(text, NULL));
    } else {
        errno = 0;
        token->kind = TOKEN_INT;
        token->value = jinja_int(strtoll(text, NULL, base));
        if (errno)
            fail_here(lexer, "integer of more than 64 bits");
    }
    move_to(lexer, lexer->at + n);
}

/* The hexadecimal escape with `n` digits at `at`; false where there are fewer. */
static bool hex_escape(const char *at, const char *end, int n, uint32_t *c)
{
    *c = 0;
    for (int i = 0; i < n; i++) {
        if (at + i >= end || !is_digit(at[i], 16))
            return false;
        *c = *c << 4 | (uint32_t)(at[i] <= '9' ? at[i] - '0' : (at[i] | 0x20) - 'a' + 10);
    }
    return true;
}

/* One escape after a backslash, at *at: the rules of Python's string literals. */
static void lex_escape(struct jinja_lexer *lexer, struct jinja_block *b, const char **at, const char *end)
{
    static const char plain[] = "n\nt\tr\ra\ab\bf\fv\v\\\\'\'\"\"";
    char c = *(*at)++, out[4];
    uint32_t code = 0;

    if (c == '\n')
        return;
    for (const char *p = plain; *p; p += 2) {
        if (*p == c) {
            jinja_block_add(lexer->j, b, p + 1, 1, false);
            return;
        }
    }
    if (c >= '0' && c <= '7') {
        code = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && *at < end && is_digit(**at, 8); i++)
            code = code * 8 + (uint32_t)(*(*at)++ - '0');
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        if (!hex_escape(*at, end, n, &code) || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
            fail_here(lexer, "invalid escape in a string");
            return;
        }
        *at += n;
    } else if (c == 'N') {
        fail_here(lexer, "unsupported escape \"\\N\" in a string");
        return;
    } else {
        jinja_block_puts(lexer->j, b, "\\");    /* Python keeps a backslash that means nothing */
        jinja_block_add(lexer->j, b, &c, 1, false);
        return;
    }
    jinja_block_add(lexer->j, b, out, utf8_encode(code, out), false);
}

static void lex_string(struct jinja_lexer *lexer, struct jinja_token *token)
{
    const char *start = lexer->source + lexer->at + 1, *end = lexer->source + lexer->n, *at = start;
    char quote = start[-1];
    bool escaped = false;

    while (at < end && *at != quote) {
        escaped |= *at == '\\';
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    }
    if (at >= end) {
        fail_here(lexer, "string without an end");
        return;
    }
    token->kind = TOKEN_STRING;
    if (escaped) {
        struct jinja_block *b = jinja_block_new(lexer->j, (size_t)(at - start));
        for (const char *p = start; p < at && !jinja_failed(lexer->j);) {
            if (*p++ == '\\')
                lex_escape(lexer, b, &p, at);
            else
                jinja_block_add(lexer->j, b, p - 1, 1, false);
        }
        token->value = jinja_text(jinja_block_string(lexer->j, b));
    } else {
        token->value = jinja_text(jinja_string_new(lexer->j, start, (size_t)(at - start), false));
    }
    move_to(lexer, (size_t)(at + 1 - lexer->source));
}

static bool is_name_char(char c, bool first)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (!first && c >= '0' && c <= '9');
}

static void track_bracket(struct jinja_lexer *lexer, char c)
{
    if (strchr("([{", c)) {
        if (lexer->n_brackets == JINJA_MAX_DEPTH) {
            lexer->j->line = lexer->line;
            jinja_fail_limit(lexer->j, "brackets nested deeper than %d", JINJA_MAX_DEPTH);
            return;
        }
        lexer->brackets[lexer->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr(")]}", c)) {
        lexer->j->line = lexer->line;
        if (!lexer->n_brackets)
            jinja_fail(lexer->j, "unexpected '%c'", c);
        else if (lexer->brackets[--lexer->n_brackets] != c)
            jinja_fail(lexer->j, "unexpected '%c', expected '%c'", c, lexer->brackets[lexer->n_brackets]);
    }
}

static void lex_operator(struct jinja_lexer *lexer, struct jinja_token *token)
{
    static const char *const two[] = { "//", "**", "==", "!=", ">=", "<=" };
    char c = peek(lexer, 0);

    token->kind = TOKEN_OPERATOR;
    for (size_t i = 0; i < sizeof(two) / sizeof(*two); i++) {
        if (at_text(lexer, two[i])) {
            memcpy(token->op, two[i], 3);
            lexer->at += 2;
            return;
        }
    }
    if (!c || !strchr("+-/*%~[](){}><=.:|,;", c)) {
        lexer->j->line = lexer->line;
        if (c > ' ' && c < 0x7f)
            jinja_fail(lexer->j, "unexpected character '%c'", c);
        else
            jinja_fail(lexer->j, "unexpected character \\x%02x", (unsigned char)c);
        return;
    }
    token->op[0] = c;
    track_bracket(lexer, c);
    lexer->at++;
}

/* The end of the tag we are in, with the whitespace it takes. */
static bool lex_end(struct jinja_lexer *lexer, struct jinja_token *token)
{
    bool block = lexer->mode == TOKEN_BLOCK_BEGIN;
    const char *end = block ? "%}" : "}}";
    char sign = peek(lexer, 0);
    bool has_sign = sign == '-' || (block && sign == '+');

    if (lexer->n_brackets)
        return false;
    lexer->at += has_sign;
    if (!at_text(lexer, end)) {
        lexer->at -= has_sign;
        return false;
    }
    lexer->at += 2;
    if (has_sign && sign == '-')
        skip_space(lexer);
    else if (block && !has_sign)
        skip_newline(lexer);
    token->kind = block ? TOKEN_BLOCK_END : TOKEN_OUTPUT_END;
    lexer->mode = TOKEN_DATA;
    return true;
}

static void lex_code(struct jinja_lexer *lexer, struct jinja_token *token)
{
    skip_space(lexer);
    token->line = lexer->line;
    if (lexer->at >= lexer->n || lex_end(lexer, token))
        return;
    char c = peek(lexer, 0);
    if (is_digit(c, 10)) {
        lex_number(lexer, token);
    } else if (is_name_char(c, true)) {
        size_t n = 1;
        while (is_name_char(peek(lexer, n), false))
            n++;
        token->kind = TOKEN_NAME;
        token->value = jinja_text(jinja_string_new(lexer->j, lexer->source + lexer->at, n, false));
        lexer->at += n;
    } else if (c == '\'' || c == '"') {
        lex_string(lexer, token);
    } else {
        lex_operator(lexer, token);
    }
}

void jinja_lexer_next(struct jinja_lexer *lexer, struct jinja_token *token)
{
    *token = (struct jinja_token){ .kind = TOKEN_EOF, .line = lexer->line };
    if (jinja_failed(lexer->j))
        return;
    if (lexer->mode == TOKEN_DATA && lexer->pending == TOKEN_DATA)
        lex_data(lexer, token);
    else if (lexer->mode != TOKEN_DATA)
        lex_code(lexer, token);
    if (token->kind == TOKEN_EOF && lexer->pending != TOKEN_DATA) {
        token->kind = lexer->mode = lexer->pending;
        lexer->pending = TOKEN_DATA;
        token->line = lexer->line;
    }
    if (jinja_failed(lexer->j))
        token->kind = TOKEN_EOF;
}
