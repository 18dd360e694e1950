/*
 * template_methods.c - methods of strings, as Python has them.
 */
#include "weights/template_internal.h"

#include <string.h>

#include <utf8proc.h>

/* ---- case, stripping, replacing ---- */

JINJA_BUILTIN(str_upper) { return jinja_text(jinja_change_case(j, v.u.string, JINJA_UPPER)); }
JINJA_BUILTIN(str_lower) { return jinja_text(jinja_change_case(j, v.u.string, JINJA_LOWER)); }
JINJA_BUILTIN(str_title) { return jinja_text(jinja_change_case(j, v.u.string, JINJA_TITLE)); }
JINJA_BUILTIN(str_capitalize) { return jinja_text(jinja_change_case(j, v.u.string, JINJA_CAPITALIZE)); }
JINJA_BUILTIN(str_swapcase) { return jinja_text(jinja_change_case(j, v.u.string, JINJA_SWAPCASE)); }

static struct jinja_value strip(struct jinja *j, struct jinja_value v, struct jinja_value set, bool left, bool right)
{
    const struct jinja_string *chars = jinja_given(set) ? jinja_text_slot(j, set) : NULL;
    return jinja_text(jinja_strip(j, v.u.string, chars, left, right));
}

JINJA_BUILTIN(str_strip) { return strip(j, v, slot[0], true, true); }
JINJA_BUILTIN(str_lstrip) { return strip(j, v, slot[0], true, false); }
JINJA_BUILTIN(str_rstrip) { return strip(j, v, slot[0], false, true); }

JINJA_BUILTIN(str_replace)
{
    return jinja_text(jinja_replace(j, v.u.string, jinja_text_slot(j, slot[0]), jinja_text_slot(j, slot[1]),
                                    jinja_int_slot(j, slot[2], -1)));
}

/* ---- searching ---- */

static bool has_at(const struct jinja_string *s, size_t at, const struct jinja_string *what)
{
    return what->n <= s->n - at && !memcmp(s->at + at, what->at, what->n);
}

/* The part of v between the optional character positions slot[1] and slot[2]; *offset: characters before it. */
static const struct jinja_string *window(struct jinja *j, struct jinja_value v, const struct jinja_value slot[JINJA_SLOTS], int64_t *offset)
{
    const struct jinja_value part[3] = {
        jinja_given(slot[1]) ? slot[1] : jinja_none(), jinja_given(slot[2]) ? slot[2] : jinja_none(), jinja_none()
    };
    int64_t n;

    *offset = jinja_int_slot(j, slot[1], 0);
    if (!jinja_given(slot[1]) && !jinja_given(slot[2]))
        return v.u.string;
    n = (int64_t)jinja_count_chars(j, v.u.string);
    if (*offset < 0)
        *offset = *offset + n < 0 ? 0 : *offset + n;
    struct jinja_value cut = jinja_get_slice(j, v, part);
    return cut.kind == JINJA_STRING ? cut.u.string : &jinja_empty;
}

/* startswith and endswith take one string or a tuple of them. */
static struct jinja_value affix(struct jinja *j, struct jinja_value v, const struct jinja_value slot[JINJA_SLOTS], bool at_end)
{
    int64_t offset;
    const struct jinja_string *s = window(j, v, slot, &offset);
    struct jinja_value only = slot[0];
    struct jinja_list one = { .items = &only, .n = 1 };
    const struct jinja_list *list = slot[0].kind == JINJA_TUPLE ? slot[0].u.list : &one;

    for (size_t i = 0; i < list->n && jinja_charge(j, 0); i++) {
        const struct jinja_string *what = jinja_text_slot(j, list->items[i]);
        if (what->n <= s->n && has_at(s, at_end ? s->n - what->n : 0, what))
            return jinja_bool(true);
    }
    return jinja_bool(false);
}

JINJA_BUILTIN(str_startswith) { return affix(j, v, slot, false); }
JINJA_BUILTIN(str_endswith) { return affix(j, v, slot, true); }

JINJA_BUILTIN(str_removeprefix)
{
    const struct jinja_string *s = v.u.string, *what = jinja_text_slot(j, slot[0]);
    return jinja_text(what->n <= s->n && has_at(s, 0, what) ? jinja_substring(j, s, what->n, s->n) : s);
}

JINJA_BUILTIN(str_removesuffix)
{
    const struct jinja_string *s = v.u.string, *what = jinja_text_slot(j, slot[0]);
    return jinja_text(what->n <= s->n && has_at(s, s->n - what->n, what) ? jinja_substring(j, s, 0, s->n - what->n) : s);
}

/* The last occurrence that ends at or before `end`; SIZE_MAX: none. */
static size_t find_last(struct jinja *j, const struct jinja_string *s, size_t end, const struct jinja_string *what)
{
    size_t n = what->n <= end ? end - what->n + 1 : 0;      /* it starts before this */

    if (!what->n)
        return n ? n - 1 : SIZE_MAX;
    while (n > 0) {
        const char *first = memrchr(s->at, *what->at, n);
        if (!jinja_touch(j, 16 + (first ? n - (size_t)(first - s->at) + what->n : n)) || !first)
            return SIZE_MAX;
        n = (size_t)(first - s->at);
        if (has_at(s, n, what))
            return n;
    }
    return SIZE_MAX;
}

/* In characters; -1: none. */
static int64_t find(struct jinja *j, struct jinja_value v, const struct jinja_value slot[JINJA_SLOTS], bool last)
{
    int64_t offset;
    const struct jinja_string *s = window(j, v, slot, &offset), *what = jinja_text_slot(j, slot[0]);
    size_t at = last ? find_last(j, s, s->n, what) : jinja_find_text(j, s, 0, what);

    if (at == SIZE_MAX || jinja_failed(j))
        return -1;
    return offset + (int64_t)jinja_count_chars(j, jinja_substring(j, s, 0, at));
}

JINJA_BUILTIN(str_find) { return jinja_int(find(j, v, slot, false)); }
JINJA_BUILTIN(str_rfind) { return jinja_int(find(j, v, slot, true)); }

static struct jinja_value index_of(struct jinja *j, struct jinja_value v, const struct jinja_value slot[JINJA_SLOTS], bool last)
{
    int64_t at = find(j, v, slot, last);

    if (at < 0)
        jinja_fail(j, "substring not found");
    return jinja_int(at);
}

JINJA_BUILTIN(str_index) { return index_of(j, v, slot, false); }
JINJA_BUILTIN(str_rindex) { return index_of(j, v, slot, true); }

JINJA_BUILTIN(str_count)
{
    int64_t offset, n = 0;
    const struct jinja_string *s = window(j, v, slot, &offset), *what = jinja_text_slot(j, slot[0]);

    if (!what->n)
        return jinja_int((int64_t)jinja_count_chars(j, s) + 1);
    for (size_t at = 0; (at = jinja_find_text(j, s, at, what)) != SIZE_MAX; at += what->n)
        n++;
    return jinja_int(n);
}

/* ---- splitting and joining ---- */

static void add_piece(struct jinja *j, struct jinja_array *pieces, const struct jinja_string *s, size_t from, size_t to)
{
    jinja_touch(j, 64);
    jinja_array_add(j, pieces, (void *)(uintptr_t)jinja_substring(j, s, from, to));
}

static struct jinja_value pieces_value(struct jinja *j, const struct jinja_array *pieces, bool reversed)
{
    struct jinja_list *list = jinja_list_new(j, pieces->n);

    for (size_t i = 0; list && i < pieces->n; i++)
        list->items[list->n++] = jinja_text(pieces->items[reversed ? pieces->n - 1 - i : i]);
    return jinja_list_value(JINJA_LIST, list);
}

/* Words between whitespace, at most `limit` cuts (-1: all). */
static void split_words(struct jinja *j, const struct jinja_string *s, int64_t limit, struct jinja_array *pieces)
{
    size_t length;

    for (size_t at = 0; at < s->n && jinja_touch(j, 1);) {
        if (jinja_is_space(jinja_char_at(s, at, &length))) {
            at += length;
            continue;
        }
        size_t from = at;
        if (limit-- == 0) {             /* the rest is one piece, with the space at its end, as in Python */
            add_piece(j, pieces, s, from, s->n);
            return;
        }
        for (; at < s->n && !jinja_is_space(jinja_char_at(s, at, &length)); at += length)
            ;
        jinja_touch(j, at - from);
        add_piece(j, pieces, s, from, at);
    }
}

/* From the right; the pieces come last first. */
static void split_words_right(struct jinja *j, const struct jinja_string *s, int64_t limit, struct jinja_array *pieces)
{
    size_t end = s->n, length;

    while (end > 0 && jinja_touch(j, 1)) {
        size_t at = end - 1, from;
        while (at > 0 && ((unsigned char)s->at[at] & 0xc0) == 0x80)
            at--;
        if (jinja_is_space(jinja_char_at(s, at, &length))) {
            end = at;
            continue;
        }
        if (limit-- == 0) {
            add_piece(j, pieces, s, 0, end);
            return;
        }
        for (from = at; at > 0; from = at) {
            at--;
            while (at > 0 && ((unsigned char)s->at[at] & 0xc0) == 0x80)
                at--;
            if (jinja_is_space(jinja_char_at(s, at, &length)))
                break;
        }
        jinja_touch(j, end - from);
        add_piece(j, pieces, s, from, end);
        end = from;
    }
}

static struct jinja_value split(struct jinja *j, struct jinja_value v, const struct jinja_value slot[JINJA_SLOTS], bool right)
{
    const struct jinja_string *s = v.u.string;
    int64_t limit = jinja_int_slot(j, slot[1], -1);
    struct jinja_array pieces = { 0 };

    if (!jinja_given(slot[0])) {
        if (right)
            split_words_right(j, s, limit, &pieces);
        else
            split_words(j, s, limit, &pieces);
        return pieces_value(j, &pieces, right);
    }
    const struct jinja_string *separator = jinja_text_slot(j, slot[0]);
    if (!separator->n)
        jinja_fail(j, "empty separator");
    size_t from = 0, end = s->n;
    while (limit-- != 0 && !jinja_failed(j)) {
        size_t at = right ? find_last(j, s, end, separator) : jinja_find_text(j, s, from, separator);
        if (at == SIZE_MAX)
            break;
        if (right) {
            add_piece(j, &pieces, s, at + separator->n, end);
            end = at;
        } else {
            add_piece(j, &pieces, s, from, at);
            from = at + separator->n;
        }
    }
    add_piece(j, &pieces, s, from, end);
    return pieces_value(j, &pieces, right);
}

JINJA_BUILTIN(str_split) { return split(j, v, slot, false); }
JINJA_BUILTIN(str_rsplit) { return split(j, v, slot, true); }

JINJA_BUILTIN(str_splitlines)
{
    return jinja_list_value(JINJA_LIST, jinja_split_lines(j, v.u.string, jinja_flag(slot[0])));
}

static struct jinja_value partition(struct jinja *j, struct jinja_value v, struct jinja_value separator, bool right)
{
    const struct jinja_string *s = v.u.string, *what = jinja_text_slot(j, separator), *nothing = &jinja_empty;
    struct jinja_list *list = jinja_list_new(j, 3);

    if (!what->n)
        jinja_fail(j, "empty separator");
    if (jinja_failed(j))
        return jinja_none();
    size_t at = right ? find_last(j, s, s->n, what) : jinja_find_text(j, s, 0, what);
    bool found = at != SIZE_MAX;
    list->items[0] = jinja_text(found ? jinja_substring(j, s, 0, at) : right ? nothing : s);
    list->items[1] = jinja_text(found ? what : nothing);
    list->items[2] = jinja_text(found ? jinja_substring(j, s, at + what->n, s->n) : right ? s : nothing);
    list->n = 3;
    return jinja_list_value(JINJA_TUPLE, list);
}

JINJA_BUILTIN(str_partition) { return partition(j, v, slot[0], false); }
JINJA_BUILTIN(str_rpartition) { return partition(j, v, slot[0], true); }

JINJA_BUILTIN(str_join)
{
    struct jinja_block *b = jinja_block_new(j, 64);
    struct jinja_iter it;
    struct jinja_value item;
    bool more = false;

    if (!jinja_iter_open(j, &it, slot[0]))
        return jinja_none();
    for (; jinja_iter_next(j, &it, &item); more = true) {
        if (more)
            jinja_block_add_string(j, b, v.u.string);
        jinja_block_add_string(j, b, jinja_text_slot(j, item));
    }
    return jinja_text(jinja_block_string(j, b));
}

/* ---- '{} {0} {name}'.format(...): no format specifications, no attributes ---- */

/* The argument that a replacement field names; `next` counts those without a name. */
static struct jinja_value field_argument(struct jinja *j, const struct jinja_string *field, const struct jinja_args *args, size_t *next)
{
    size_t index = 0;
    bool number = field->n > 0 && field->n < 6;

    for (size_t i = 0; i < field->n; i++) {
        if (memchr(":!.[{", field->at[i], 5)) {
            jinja_fail(j, "unsupported format field \"%.*s\"", (int)(field->n < 32 ? field->n : 32), field->at);
            return jinja_none();
        }
        number = number && field->at[i] >= '0' && field->at[i] <= '9';
        index = number ? index * 10 + (size_t)(field->at[i] - '0') : 0;
    }
    if (!field->n)
        index = (*next)++;
    if ((number || !field->n) && index < args->n_positional)
        return args->positional[index];
    for (size_t i = 0; i < args->n_named && field->n; i++)
        if (jinja_same_text(args->names[i], field))
            return args->named[i];
    jinja_fail(j, "format field \"%.*s\" has no argument", (int)(field->n < 32 ? field->n : 32), field->at);
    return jinja_none();
}

JINJA_BUILTIN(str_format)
{
    const struct jinja_string *f = v.u.string;
    struct jinja_block *b = jinja_block_new(j, f->n + 16);
    size_t next = 0, plain = 0;

    for (size_t at = 0; at < f->n && !jinja_failed(j); at++) {
        if (f->at[at] != '{' && f->at[at] != '}')
            continue;
        jinja_block_add_part(j, b, f, plain, at);
        if (at + 1 < f->n && f->at[at + 1] == f->at[at]) {      /* {{ is a brace */
            plain = ++at;
            continue;
        }
        const char *end = f->at[at] == '{' ? memchr(f->at + at, '}', f->n - at) : NULL;
        if (!end) {
            jinja_fail(j, "single '%c' in format string", f->at[at]);
            break;
        }
        struct jinja_value item = field_argument(j, jinja_substring(j, f, at + 1, (size_t)(end - f->at)), args, &next);
        if (!jinja_failed(j))
            jinja_print(j, b, item);
        at = (size_t)(end - f->at);
        plain = at + 1;
    }
    if (!jinja_failed(j))
        jinja_block_add_part(j, b, f, plain, f->n);
    return jinja_text(jinja_block_string(j, b));
}

/* ---- padding ---- */

enum side { LEFT, RIGHT, CENTER };

static const struct jinja_string *justify(struct jinja *j, const struct jinja_string *s, int64_t width, struct jinja_value fill_slot,
                                          enum side side)
{
    const struct jinja_string *fill = jinja_given(fill_slot) ? jinja_text_slot(j, fill_slot) : jinja_string_literal(j, " ");
    size_t n = jinja_count_chars(j, s), missing = width > 0 && (size_t)width > n ? (size_t)width - n : 0, left = 0;

    if (side == RIGHT)
        left = missing;
    else if (side == CENTER)        /* the odd one goes left where the width is odd too */
        left = missing / 2 + (missing & (size_t)width & 1);
    if (jinja_count_chars(j, fill) != 1)
        jinja_fail(j, "the fill character must be exactly one character long");
    struct jinja_block *b = jinja_block_new(j, s->n + 8);
    for (size_t i = 0; i < left && !jinja_failed(j); i++)
        jinja_block_add_string(j, b, fill);
    jinja_block_add_string(j, b, s);
    for (size_t i = left; i < missing && !jinja_failed(j); i++)
        jinja_block_add_string(j, b, fill);
    return jinja_block_string(j, b);
}

JINJA_BUILTIN(str_ljust) { return jinja_text(justify(j, v.u.string, jinja_int_slot(j, slot[0], 0), slot[1], LEFT)); }
JINJA_BUILTIN(str_rjust) { return jinja_text(justify(j, v.u.string, jinja_int_slot(j, slot[0], 0), slot[1], RIGHT)); }
JINJA_BUILTIN(str_center) { return jinja_text(justify(j, v.u.string, jinja_int_slot(j, slot[0], 0), slot[1], CENTER)); }

JINJA_BUILTIN(str_zfill)
{
    const struct jinja_string *s = v.u.string;
    size_t sign = s->n && (*s->at == '-' || *s->at == '+');
    int64_t width = jinja_int_slot(j, slot[0], 0);
    struct jinja_value zero = jinja_text(jinja_string_literal(j, "0"));
    const struct jinja_string *digits = justify(j, jinja_substring(j, s, sign, s->n), width > 0 ? width - (int64_t)sign : 0, zero, RIGHT);

    return jinja_text(jinja_concat(j, jinja_substring(j, s, 0, sign), digits));
}

/* ---- questions ---- */

static bool is_category(uint32_t c, utf8proc_category_t first, utf8proc_category_t last)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= first && category <= last;
}

static bool is_letter(uint32_t c) { return is_category(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO); }
static bool is_decimal(uint32_t c) { return is_category(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_ND); }
static bool is_letter_or_number(uint32_t c) { return is_letter(c) || is_category(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO); }
static bool is_ascii(uint32_t c) { return c < 0x80; }

static struct jinja_value all_chars(struct jinja *j, const struct jinja_string *s, bool (*is)(uint32_t c), bool empty)
{
    size_t length;

    jinja_charge(j, s->n * 8);
    for (size_t at = 0; at < s->n; at += length)
        if (!is(jinja_char_at(s, at, &length)))
            return jinja_bool(false);
    return jinja_bool(empty || s->n > 0);
}

JINJA_BUILTIN(str_isspace) { return all_chars(j, v.u.string, jinja_is_space, false); }
JINJA_BUILTIN(str_isalpha) { return all_chars(j, v.u.string, is_letter, false); }
JINJA_BUILTIN(str_isdigit) { return all_chars(j, v.u.string, is_decimal, false); }
JINJA_BUILTIN(str_isalnum) { return all_chars(j, v.u.string, is_letter_or_number, false); }
JINJA_BUILTIN(str_isascii) { return all_chars(j, v.u.string, is_ascii, true); }

static struct jinja_value ask_test(struct jinja *j, struct jinja_value v, const char *test)
{
    const struct jinja_args none = { 0 };
    return jinja_call_builtin(j, jinja_find_builtin(jinja_tests, &(struct jinja_string){ .at = test, .n = strlen(test) }), v, &none);
}

JINJA_BUILTIN(str_islower) { return ask_test(j, v, "lower"); }
JINJA_BUILTIN(str_isupper) { return ask_test(j, v, "upper"); }

const struct jinja_builtin jinja_string_methods[] = {
    { "capitalize", "", str_capitalize },
    { "casefold", "", str_lower },
    { "center", "width fillchar?", str_center },
    { "count", "sub start? end?", str_count },
    { "endswith", "suffix start? end?", str_endswith },
    { "find", "sub start? end?", str_find },
    { "format", NULL, str_format },
    { "index", "sub start? end?", str_index },
    { "isalnum", "", str_isalnum },
    { "isalpha", "", str_isalpha },
    { "isascii", "", str_isascii },
    { "isdecimal", "", str_isdigit },
    { "isdigit", "", str_isdigit },
    { "islower", "", str_islower },
    { "isspace", "", str_isspace },
    { "isupper", "", str_isupper },
    { "join", "iterable", str_join },
    { "ljust", "width fillchar?", str_ljust },
    { "lower", "", str_lower },
    { "lstrip", "chars?", str_lstrip },
    { "partition", "sep", str_partition },
    { "removeprefix", "prefix", str_removeprefix },
    { "removesuffix", "suffix", str_removesuffix },
    { "replace", "old new count?", str_replace },
    { "rfind", "sub start? end?", str_rfind },
    { "rindex", "sub start? end?", str_rindex },
    { "rjust", "width fillchar?", str_rjust },
    { "rpartition", "sep", str_rpartition },
    { "rsplit", "sep? maxsplit?", str_rsplit },
    { "rstrip", "chars?", str_rstrip },
    { "split", "sep? maxsplit?", str_split },
    { "splitlines", "keepends?", str_splitlines },
    { "startswith", "prefix start? end?", str_startswith },
    { "strip", "chars?", str_strip },
    { "swapcase", "", str_swapcase },
    { "title", "", str_title },
    { "upper", "", str_upper },
    { "zfill", "width", str_zfill },
    { NULL, NULL, NULL },
};
