/*
 * template_text.c - strings that remember, byte by byte, whether they came from the request.
 *
 * Whatever a template does with a client's text (trim, split, join, upper, tojson ...), its characters stay marked, so that the
 * tokenizer finds no special token in them. Indexes that templates see count characters, as in Python.
 */
#include "weights/template_internal.h"

#include <string.h>

#include <utf8proc.h>

#include "common/utf8.h"

const struct jinja_string jinja_empty = { .at = "" };

/* An appended piece or a search costs as much as touching this many bytes, however short it is. */
#define PIECE_BYTES 32

const struct jinja_string *jinja_string_new(struct jinja *j, const char *at, size_t n, bool request)
{
    struct jinja_string *s = jinja_alloc(j, sizeof(*s));

    if (!s)
        return &jinja_empty;
    *s = (struct jinja_string){ .at = at, .n = n, .request = request };
    return s;
}

const struct jinja_string *jinja_string_literal(struct jinja *j, const char *text)
{
    return jinja_string_new(j, text, strlen(text), false);
}

const struct jinja_string *jinja_substring(struct jinja *j, const struct jinja_string *s, size_t from, size_t to)
{
    struct jinja_string *part;

    if (from == 0 && to == s->n)
        return s;
    part = jinja_alloc(j, sizeof(*part));
    if (!part)
        return &jinja_empty;
    *part = *s;
    part->at += from;
    part->n = to - from;
    if (part->marks)
        part->marks += from;
    return part;
}

bool jinja_mark_at(const struct jinja_string *s, size_t at)
{
    return s->marks ? s->marks[at] : s->request;
}

/* ---- building ---- */

struct jinja_block *jinja_block_new(struct jinja *j, size_t cap)
{
    struct jinja_block *b = jinja_alloc(j, sizeof(*b));

    if (!b)
        return NULL;
    b->bytes = jinja_alloc(j, cap);
    b->marks = jinja_alloc(j, cap);
    b->cap = cap;
    return jinja_failed(j) ? NULL : b;
}

/* Room for n more bytes. Strings that lie in the old memory stay valid there. */
static bool reserve(struct jinja *j, struct jinja_block *b, size_t n)
{
    if (!b || !jinja_touch(j, n + PIECE_BYTES))
        return false;
    if (n <= b->cap - b->used)
        return true;
    size_t cap = b->used + n + b->used / 2 + 48;
    char *bytes = jinja_alloc(j, cap);
    uint8_t *marks = jinja_alloc(j, cap);
    if (!bytes || !marks)
        return false;
    if (b->used) {
        memcpy(bytes, b->bytes, b->used);
        memcpy(marks, b->marks, b->used);
    }
    b->bytes = bytes;
    b->marks = marks;
    b->cap = cap;
    return true;
}

void jinja_block_add(struct jinja *j, struct jinja_block *b, const char *at, size_t n, bool request)
{
    if (!n || !reserve(j, b, n))
        return;
    memcpy(b->bytes + b->used, at, n);
    memset(b->marks + b->used, request, n);
    b->used += n;
}

void jinja_block_puts(struct jinja *j, struct jinja_block *b, const char *text)
{
    jinja_block_add(j, b, text, strlen(text), false);
}

void jinja_block_add_part(struct jinja *j, struct jinja_block *b, const struct jinja_string *s, size_t from, size_t to)
{
    size_t n = to - from;

    if (!s->marks) {
        jinja_block_add(j, b, s->at + from, n, s->request);
        return;
    }
    if (!n || !reserve(j, b, n))
        return;
    memcpy(b->bytes + b->used, s->at + from, n);
    memcpy(b->marks + b->used, s->marks + from, n);
    b->used += n;
}

void jinja_block_add_string(struct jinja *j, struct jinja_block *b, const struct jinja_string *s)
{
    jinja_block_add_part(j, b, s, 0, s->n);
}

const struct jinja_string *jinja_block_string(struct jinja *j, struct jinja_block *b)
{
    struct jinja_string *s = jinja_alloc(j, sizeof(*s));

    if (!s || !b || !b->used)
        return &jinja_empty;
    *s = (struct jinja_string){ .at = b->bytes, .n = b->used, .marks = b->marks, .block = b };
    return s;
}

const struct jinja_string *jinja_concat(struct jinja *j, const struct jinja_string *a, const struct jinja_string *b)
{
    struct jinja_string *s;
    struct jinja_block *block = a->block;

    if (!b->n)
        return a;
    if (!a->n)
        return b;
    /* in place only where nothing follows `a` in its block: then no other string sees the new bytes */
    if (!block || a->at + a->n != block->bytes + block->used || b->n > block->cap - block->used) {
        size_t n = a->n + b->n;
        block = jinja_block_new(j, block ? n + n / 2 : n + 16);
        jinja_block_add_string(j, block, a);
        jinja_block_add_string(j, block, b);
        return jinja_block_string(j, block);
    }
    s = jinja_alloc(j, sizeof(*s));
    jinja_block_add_string(j, block, b);
    if (!s || jinja_failed(j))
        return a;
    *s = *a;
    s->n = a->n + b->n;
    return s;
}

const struct jinja_string *jinja_to_text(struct jinja *j, struct jinja_value v)
{
    struct jinja_block *b;

    if (v.kind == JINJA_STRING)
        return v.u.string;
    if (v.kind == JINJA_UNDEFINED)
        return &jinja_empty;
    b = jinja_block_new(j, 24);
    jinja_print(j, b, v);
    return jinja_block_string(j, b);
}

/* ---- characters ---- */

uint32_t jinja_char_at(const struct jinja_string *s, size_t at, size_t *length)
{
    uint32_t c = 0;
    int n = utf8_decode(s->at + at, s->n - at, &c);

    /* strings are valid UTF-8 by construction; stay inside the bytes even if that were wrong */
    *length = n > 0 ? (size_t)n : 1;
    return n > 0 ? c : 0xfffd;
}

size_t jinja_count_chars(struct jinja *j, const struct jinja_string *s)
{
    size_t n = 0;

    if (!jinja_charge(j, s->n))
        return 0;
    for (size_t i = 0; i < s->n; i++)
        n += ((unsigned char)s->at[i] & 0xc0) != 0x80;
    return n;
}

size_t jinja_char_offset(const struct jinja_string *s, size_t index)
{
    for (size_t i = 0; i < s->n; i++)
        if (((unsigned char)s->at[i] & 0xc0) != 0x80 && index-- == 0)
            return i;
    return s->n;
}

bool jinja_is_space(uint32_t c)
{
    return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool jinja_same_text(const struct jinja_string *a, const struct jinja_string *b)
{
    return a->n == b->n && !memcmp(a->at, b->at, a->n);
}

bool jinja_text_is(const struct jinja_string *s, const char *text)
{
    return s->n == strlen(text) && !memcmp(s->at, text, s->n);
}

/* ---- searching, cutting ---- */

size_t jinja_find_text(struct jinja *j, const struct jinja_string *s, size_t from, const struct jinja_string *what)
{
    const char *found = what->n <= s->n - from ? memmem(s->at + from, s->n - from, what->at, what->n) : NULL;

    jinja_touch(j, PIECE_BYTES + (found ? (size_t)(found - s->at) - from : s->n - from));
    return found && !jinja_failed(j) ? (size_t)(found - s->at) : SIZE_MAX;
}

static bool in_set(struct jinja *j, const struct jinja_string *chars, const char *c, size_t n)
{
    const struct jinja_string one = { .at = c, .n = n };
    return jinja_find_text(j, chars, 0, &one) != SIZE_MAX;
}

const struct jinja_string *jinja_strip(struct jinja *j, const struct jinja_string *s, const struct jinja_string *chars,
                                       bool left, bool right)
{
    size_t from = 0, to = s->n, length;

    if (!jinja_charge(j, s->n))
        return s;
    while (left && from < to) {
        uint32_t c = jinja_char_at(s, from, &length);
        if (!(chars ? in_set(j, chars, s->at + from, length) : jinja_is_space(c)))
            break;
        from += length;
    }
    while (right && to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)s->at[at] & 0xc0) == 0x80)
            at--;
        uint32_t c = jinja_char_at(s, at, &length);
        if (!(chars ? in_set(j, chars, s->at + at, length) : jinja_is_space(c)))
            break;
        to = at;
    }
    return jinja_substring(j, s, from, to);
}

const struct jinja_string *jinja_replace(struct jinja *j, const struct jinja_string *s, const struct jinja_string *old,
                                         const struct jinja_string *new, int64_t count)
{
    struct jinja_block *b;
    size_t from = 0, at = 0, length;

    if (!count || jinja_find_text(j, s, 0, old) == SIZE_MAX)
        return s;
    b = jinja_block_new(j, s->n + 16);
    while (count-- != 0 && !jinja_failed(j)) {
        if (!old->n) {                      /* between all characters, and at both ends */
            jinja_block_add_part(j, b, s, from, at);
            jinja_block_add_string(j, b, new);
            from = at;
            if (at >= s->n)
                break;
            jinja_char_at(s, at, &length);
            at += length;
            continue;
        }
        at = jinja_find_text(j, s, from, old);
        if (at == SIZE_MAX)
            break;
        jinja_block_add_part(j, b, s, from, at);
        jinja_block_add_string(j, b, new);
        from = at + old->n;
    }
    jinja_block_add_part(j, b, s, from, s->n);
    return jinja_block_string(j, b);
}

static bool is_line_end(uint32_t c)
{
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

struct jinja_list *jinja_split_lines(struct jinja *j, const struct jinja_string *s, bool keep_ends)
{
    size_t n_lines = 1, length;

    if (!jinja_charge(j, s->n))
        return NULL;
    for (size_t at = 0; at < s->n; at += length)
        n_lines += is_line_end(jinja_char_at(s, at, &length));
    struct jinja_list *lines = jinja_list_new(j, n_lines);
    for (size_t from = 0, at = 0; lines && from < s->n && !jinja_failed(j); from = at) {
        size_t end = s->n;
        for (at = from; at < s->n; at += length) {
            uint32_t c = jinja_char_at(s, at, &length);
            if (is_line_end(c)) {
                end = at;
                at += length;
                if (c == '\r' && at < s->n && s->at[at] == '\n')
                    at++;
                break;
            }
        }
        jinja_charge(j, 0);
        lines->items[lines->n++] = jinja_text(jinja_substring(j, s, from, keep_ends ? at : end));
    }
    return jinja_failed(j) ? NULL : lines;
}

/* ---- case ---- */

static bool is_cased(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

static void add_char(struct jinja *j, struct jinja_block *b, utf8proc_int32_t c, bool request)
{
    char out[4];
    jinja_block_add(j, b, out, utf8_encode((uint32_t)c, out), request);
}

/* The separators of the title filter, which is not str.title(). */
static bool starts_word(uint32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || jinja_is_space(c);
}

const struct jinja_string *jinja_change_case(struct jinja *j, const struct jinja_string *s, enum jinja_case how)
{
    struct jinja_block *b = jinja_block_new(j, s->n);
    bool first = true;      /* of a word, or of the string */
    size_t length;

    for (size_t at = 0; at < s->n && !jinja_failed(j); at += length) {
        uint32_t c = jinja_char_at(s, at, &length);
        utf8proc_int32_t ch = (utf8proc_int32_t)c;
        bool request = jinja_mark_at(s, at);
        bool up = how == JINJA_UPPER || (first && (how == JINJA_TITLE_FILTER)) ||
                  (how == JINJA_SWAPCASE && utf8proc_category(ch) == UTF8PROC_CATEGORY_LL);
        bool title = first && (how == JINJA_CAPITALIZE || how == JINJA_TITLE);
        if (up && c == 0xdf) {              /* sharp s: the one common letter whose upper case is longer */
            jinja_block_add(j, b, "SS", 2, request);
        } else if (title && c == 0xdf) {
            jinja_block_add(j, b, "Ss", 2, request);
        } else {
            add_char(j, b, up ? utf8proc_toupper(ch) : title ? utf8proc_totitle(ch) : utf8proc_tolower(ch), request);
        }
        first = how == JINJA_TITLE ? !is_cased(c) : how == JINJA_TITLE_FILTER ? starts_word(c) : false;
    }
    return jinja_block_string(j, b);
}
