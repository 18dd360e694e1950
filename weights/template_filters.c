/*
 * template_filters.c - the filters, as jinja2 3.1 defines them.
 *
 * 'safe' does nothing here: there is no HTML escaping, so there is nothing to be safe from. Filters that are generators in
 * Python (map, select ...) give an iterator, which has no length and can be gone through once; it is filled at once, though.
 */
#include "weights/template_internal.h"

#include <string.h>

static struct jinja_value lower_case(struct jinja *j, struct jinja_value v, bool case_sensitive)
{
    if (v.kind != JINJA_STRING || case_sensitive)
        return v;
    return jinja_text(jinja_change_case(j, v.u.string, JINJA_LOWER));
}

/* ---- text ---- */

JINJA_BUILTIN(filter_upper) { return jinja_text(jinja_change_case(j, jinja_to_text(j, v), JINJA_UPPER)); }
JINJA_BUILTIN(filter_lower) { return jinja_text(jinja_change_case(j, jinja_to_text(j, v), JINJA_LOWER)); }
JINJA_BUILTIN(filter_title) { return jinja_text(jinja_change_case(j, jinja_to_text(j, v), JINJA_TITLE_FILTER)); }
JINJA_BUILTIN(filter_capitalize) { return jinja_text(jinja_change_case(j, jinja_to_text(j, v), JINJA_CAPITALIZE)); }
JINJA_BUILTIN(filter_string) { return jinja_text(jinja_to_text(j, v)); }

JINJA_BUILTIN(filter_trim)
{
    const struct jinja_string *chars = jinja_given(slot[0]) ? jinja_to_text(j, slot[0]) : NULL;
    return jinja_text(jinja_strip(j, jinja_to_text(j, v), chars, true, true));
}

JINJA_BUILTIN(filter_replace)
{
    return jinja_text(jinja_replace(j, jinja_to_text(j, v), jinja_to_text(j, slot[0]), jinja_to_text(j, slot[1]),
                                    jinja_int_slot(j, slot[2], -1)));
}

/* `slot` spaces, or the string that it is. */
static const struct jinja_string *indentation(struct jinja *j, struct jinja_value slot, int64_t otherwise)
{
    struct jinja_value space = jinja_text(jinja_string_literal(j, " ")), spaces;

    if (slot.kind == JINJA_STRING)
        return slot.u.string;
    spaces = jinja_arithmetic(j, JINJA_MUL, space, jinja_int(jinja_int_slot(j, slot, otherwise)));
    return jinja_failed(j) ? &jinja_empty : spaces.u.string;
}

JINJA_BUILTIN(filter_indent)
{
    bool first = jinja_flag(slot[1]), blank = jinja_flag(slot[2]);
    const struct jinja_string *text = jinja_text_slot(j, v), *indent = indentation(j, slot[0], 4);
    const struct jinja_string *newline = jinja_string_literal(j, "\n");
    struct jinja_block *b = jinja_block_new(j, text->n + 32);

    /* the newline makes "" and a text without a last newline give all their lines; it is gone after splitting */
    struct jinja_list *lines = jinja_failed(j) ? NULL : jinja_split_lines(j, jinja_concat(j, text, newline), false);
    for (size_t i = 0; lines && i < lines->n && !jinja_failed(j); i++) {
        const struct jinja_string *line = lines->items[i].u.string;
        if (i)
            jinja_block_add_string(j, b, newline);
        if (i ? blank || line->n : first)
            jinja_block_add_string(j, b, indent);
        jinja_block_add_string(j, b, line);
    }
    return jinja_text(jinja_block_string(j, b));
}

JINJA_BUILTIN(filter_format)
{
    struct jinja_list *list = jinja_list_new(j, args->n_positional);

    if (args->n_named)
        jinja_fail(j, "unsupported named argument of filter \"format\"");
    for (size_t i = 0; list && i < args->n_positional; i++)
        list->items[list->n++] = args->positional[i];
    if (jinja_failed(j))
        return jinja_none();
    return jinja_text(jinja_format_percent(j, jinja_to_text(j, v), jinja_list_value(JINJA_TUPLE, list)));
}

JINJA_BUILTIN(filter_tojson)
{
    struct jinja_json_style style = { .ascii = jinja_flag(slot[0]), .sort_keys = jinja_flag(slot[3]) };
    struct jinja_block *b = jinja_block_new(j, 64);

    if (jinja_given(slot[1]))
        style.indent = indentation(j, slot[1], 0);
    style.item_separator = jinja_string_literal(j, style.indent ? "," : ", ");
    style.key_separator = jinja_string_literal(j, ": ");
    if (jinja_given(slot[2])) {
        struct jinja_list *pair = jinja_to_list(j, slot[2]);
        if (!pair || pair->n != 2 || pair->items[0].kind != JINJA_STRING || pair->items[1].kind != JINJA_STRING) {
            jinja_fail(j, "separators must be two strings");
            return jinja_none();
        }
        style.item_separator = pair->items[0].u.string;
        style.key_separator = pair->items[1].u.string;
    }
    if (!jinja_failed(j))
        jinja_print_json(j, b, v, &style);
    return jinja_text(jinja_block_string(j, b));
}

/* ---- sequences ---- */

JINJA_BUILTIN(filter_length)
{
    size_t n = 0;

    if (!jinja_length(j, v, &n))
        jinja_fail(j, "object of type '%s' has no length", jinja_type_name(v));
    return jinja_int((int64_t)n);
}

JINJA_BUILTIN(filter_list) { return jinja_list_value(JINJA_LIST, jinja_to_list(j, v)); }

JINJA_BUILTIN(filter_first)
{
    struct jinja_iter it;
    struct jinja_value item;

    return jinja_iter_open(j, &it, v) && jinja_iter_next(j, &it, &item) ? item : jinja_nothing();
}

static bool refuse_iterator(struct jinja *j, struct jinja_value v)
{
    if (v.kind == JINJA_ITERATOR)
        jinja_fail(j, "'%s' object is not reversible", jinja_type_name(v));
    return v.kind == JINJA_ITERATOR;
}

JINJA_BUILTIN(filter_last)
{
    const struct jinja_list *list = refuse_iterator(j, v) ? NULL : jinja_to_list(j, v);
    return list && list->n ? list->items[list->n - 1] : jinja_nothing();
}

JINJA_BUILTIN(filter_reverse)
{
    const struct jinja_value backwards[3] = { jinja_none(), jinja_none(), jinja_int(-1) };

    if (v.kind == JINJA_STRING)
        return jinja_get_slice(j, v, backwards);
    const struct jinja_list *list = jinja_to_list(j, v);
    struct jinja_list *reversed = list ? jinja_list_new(j, list->n) : NULL;
    for (size_t i = list ? list->n : 0; reversed && i > 0 && jinja_touch(j, 16); i--)
        reversed->items[reversed->n++] = list->items[i - 1];
    if (v.kind == JINJA_ITERATOR)
        return jinja_list_value(JINJA_LIST, reversed);
    return jinja_iterator(reversed, "list_reverseiterator");
}

JINJA_BUILTIN(filter_join)
{
    const struct jinja_string *separator = jinja_given(slot[0]) ? jinja_to_text(j, slot[0]) : &jinja_empty;
    struct jinja_block *b = jinja_block_new(j, 64);
    struct jinja_iter it;
    struct jinja_value item;
    bool more = false;

    if (!jinja_iter_open(j, &it, v))
        return jinja_none();
    for (; jinja_iter_next(j, &it, &item); more = true) {
        if (jinja_given(slot[1]))
            item = jinja_get_path(j, item, slot[1]);
        if (more)
            jinja_block_add_string(j, b, separator);
        if (!jinja_failed(j))
            jinja_print(j, b, item);
    }
    return jinja_text(jinja_block_string(j, b));
}

/* The key that sort, min, max and unique compare: one attribute, without case. */
static struct jinja_value sort_key(struct jinja *j, struct jinja_value item, struct jinja_value attribute, bool case_sensitive)
{
    if (jinja_given(attribute))
        item = jinja_get_path(j, item, attribute);
    return jinja_failed(j) ? jinja_none() : lower_case(j, item, case_sensitive);
}

/* sort(attribute="a,b"): a tuple of the keys. */
static struct jinja_value sort_keys(struct jinja *j, struct jinja_value item, struct jinja_value attribute, bool case_sensitive)
{
    if (attribute.kind != JINJA_STRING || !memchr(attribute.u.string->at, ',', attribute.u.string->n))
        return sort_key(j, item, attribute, case_sensitive);
    const struct jinja_string *s = attribute.u.string;
    struct jinja_list *keys = jinja_list_new(j, s->n + 1);
    for (size_t from = 0, to; keys && from <= s->n && jinja_charge(j, 0); from = to + 1) {
        for (to = from; to < s->n && s->at[to] != ',';)
            to++;
        keys->items[keys->n++] = sort_key(j, item, jinja_text(jinja_substring(j, s, from, to)), case_sensitive);
    }
    return jinja_list_value(JINJA_TUPLE, keys);
}

JINJA_BUILTIN(filter_sort)
{
    const struct jinja_list *list = jinja_to_list(j, v);
    struct jinja_list *sorted = list ? jinja_list_new(j, list->n) : NULL;
    struct jinja_value *keys = sorted ? jinja_alloc_array(j, list->n, sizeof(*keys)) : NULL;

    if (!keys)
        return jinja_none();
    for (size_t i = 0; i < list->n && jinja_charge(j, 0); i++) {
        sorted->items[sorted->n++] = list->items[i];
        keys[i] = sort_keys(j, list->items[i], slot[2], jinja_flag(slot[1]));
    }
    jinja_sort(j, sorted->items, keys, sorted->n, jinja_flag(slot[0]));
    return jinja_list_value(JINJA_LIST, sorted);
}

JINJA_BUILTIN(filter_dictsort)
{
    const struct jinja_string *by = jinja_given(slot[1]) ? jinja_to_text(j, slot[1]) : jinja_string_literal(j, "key");
    bool by_value = jinja_text_is(by, "value");

    if (v.kind != JINJA_DICT || (!by_value && !jinja_text_is(by, "key"))) {
        jinja_fail(j, v.kind == JINJA_DICT ? "dictsort orders by \"key\" or \"value\"" : "dictsort wants a dictionary");
        return jinja_none();
    }
    const struct jinja_dict *d = v.u.dict;
    struct jinja_list *sorted = jinja_list_new(j, d->n);
    struct jinja_value *keys = sorted ? jinja_alloc_array(j, d->n, sizeof(*keys)) : NULL;
    for (size_t i = 0; keys && i < d->n && jinja_charge(j, 0); i++) {
        sorted->items[sorted->n++] = jinja_pair(j, d->entries[i].key, d->entries[i].value);
        keys[i] = lower_case(j, by_value ? d->entries[i].value : d->entries[i].key, jinja_flag(slot[0]));
    }
    if (keys)
        jinja_sort(j, sorted->items, keys, sorted->n, jinja_flag(slot[2]));
    return jinja_list_value(JINJA_LIST, sorted);
}

JINJA_BUILTIN(filter_unique)
{
    const struct jinja_list *list = jinja_to_list(j, v);
    struct jinja_list *out = list ? jinja_list_new(j, list->n) : NULL;
    struct jinja_value *keys = out ? jinja_alloc_array(j, list->n, sizeof(*keys)) : NULL;

    for (size_t i = 0; keys && i < list->n && !jinja_failed(j); i++) {
        struct jinja_value key = sort_key(j, list->items[i], slot[1], jinja_flag(slot[0]));
        bool seen = false;
        if (!jinja_is_hashable(j, key))
            jinja_fail(j, "unhashable type: '%s'", jinja_type_name(key));
        for (size_t k = 0; k < out->n && !seen && !jinja_failed(j); k++)
            seen = jinja_equal(j, keys[k], key);
        if (!seen) {
            keys[out->n] = key;
            out->items[out->n++] = list->items[i];
        }
    }
    return jinja_iterator(out, "generator");
}

static struct jinja_value extreme(struct jinja *j, struct jinja_value v, const struct jinja_value slot[JINJA_SLOTS], enum jinja_op op)
{
    struct jinja_value best = jinja_nothing(), best_key = jinja_none(), item;
    struct jinja_iter it;
    bool any = false;

    if (!jinja_iter_open(j, &it, v))
        return jinja_none();
    for (; jinja_iter_next(j, &it, &item); any = true) {
        struct jinja_value key = sort_key(j, item, slot[1], jinja_flag(slot[0]));
        if (!any || jinja_compare(j, op, key, best_key)) {
            best = item;
            best_key = key;
        }
    }
    return best;
}

JINJA_BUILTIN(filter_min) { return extreme(j, v, slot, JINJA_LT); }
JINJA_BUILTIN(filter_max) { return extreme(j, v, slot, JINJA_GT); }

JINJA_BUILTIN(filter_sum)
{
    struct jinja_value sum = jinja_given(slot[1]) ? slot[1] : jinja_int(0), item;
    struct jinja_iter it;

    if (!jinja_iter_open(j, &it, v))
        return jinja_none();
    while (jinja_iter_next(j, &it, &item)) {
        if (jinja_given(slot[0]))
            item = jinja_get_path(j, item, slot[0]);
        if (!jinja_failed(j))
            sum = jinja_arithmetic(j, JINJA_ADD, sum, item);
    }
    return sum;
}

/* ---- dictionaries, defaults ---- */

JINJA_BUILTIN(filter_items)
{
    size_t n = v.kind == JINJA_DICT ? v.u.dict->n : 0;
    struct jinja_list *pairs = jinja_list_new(j, n);

    if (v.kind != JINJA_DICT && v.kind != JINJA_UNDEFINED)
        jinja_fail(j, "can only get item pairs from a mapping");
    for (size_t i = 0; pairs && i < n && jinja_charge(j, 0); i++)
        pairs->items[pairs->n++] = jinja_pair(j, v.u.dict->entries[i].key, v.u.dict->entries[i].value);
    return jinja_iterator(pairs, "generator");
}

JINJA_BUILTIN(filter_default)
{
    struct jinja_value otherwise = slot[0].kind != JINJA_ABSENT ? slot[0] : jinja_text(&jinja_empty);
    return v.kind == JINJA_UNDEFINED || (jinja_flag(slot[1]) && !jinja_is_true(v)) ? otherwise : v;
}

/* ---- filters that apply filters and tests ---- */

/* The arguments after the first n. */
static struct jinja_args later_args(const struct jinja_args *args, size_t n)
{
    struct jinja_args rest = *args;

    rest.positional += n;
    rest.n_positional -= n;
    return rest;
}

static struct jinja_value named_argument(const struct jinja_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (jinja_text_is(args->names[i], name))
            return args->named[i];
    return jinja_absent();
}

static const struct jinja_builtin *find_by_value(struct jinja *j, struct jinja_value name, bool test)
{
    const struct jinja_string *text = jinja_text_slot(j, name);
    const struct jinja_builtin *found = test ? jinja_find_builtin(jinja_tests, text) : jinja_find_filter(text);

    if (!found)
        jinja_fail(j, "unsupported %s \"%.*s\"", test ? "test" : "filter", (int)(text->n < 64 ? text->n : 64), text->at);
    return found;
}

JINJA_BUILTIN(filter_map)
{
    struct jinja_value attribute = named_argument(args, "attribute"), otherwise = named_argument(args, "default");
    const struct jinja_builtin *filter = NULL;
    struct jinja_args rest = { 0 };

    if (!jinja_is_true(v))      /* Python's generators do not even look at their arguments then */
        return jinja_iterator(jinja_list_new(j, 0), "generator");
    if (args->n_positional) {
        filter = find_by_value(j, args->positional[0], false);
        rest = later_args(args, 1);
    } else if (attribute.kind == JINJA_ABSENT) {
        jinja_fail(j, "map requires a filter argument");
    }
    const struct jinja_list *list = jinja_failed(j) ? NULL : jinja_to_list(j, v);
    struct jinja_list *out = list ? jinja_list_new(j, list->n) : NULL;
    for (size_t i = 0; out && i < list->n && jinja_charge(j, 0); i++) {
        struct jinja_value item = list->items[i];
        item = filter ? jinja_call_builtin(j, filter, item, &rest) : jinja_get_path(j, item, attribute);
        if (!filter && item.kind == JINJA_UNDEFINED && jinja_given(otherwise))
            item = otherwise;
        out->items[out->n++] = item;
    }
    return jinja_iterator(out, "generator");
}

/* The items for which a test, named by the first argument, gives `wanted`; without a test their truth counts. */
static struct jinja_value choose(struct jinja *j, struct jinja_value v, const struct jinja_args *args, bool by_attribute, bool wanted)
{
    const struct jinja_builtin *test = NULL;
    struct jinja_args rest = { 0 };

    if (!jinja_is_true(v))      /* Python's generators do not even look at their arguments then */
        return jinja_iterator(jinja_list_new(j, 0), "generator");
    if (by_attribute && !args->n_positional)
        jinja_fail(j, "missing parameter for attribute name");
    if (args->n_positional > by_attribute) {
        test = find_by_value(j, args->positional[by_attribute], true);
        rest = later_args(args, (size_t)by_attribute + 1);
    }
    const struct jinja_list *list = jinja_failed(j) ? NULL : jinja_to_list(j, v);
    struct jinja_list *out = list ? jinja_list_new(j, list->n) : NULL;
    for (size_t i = 0; out && i < list->n && jinja_charge(j, 0); i++) {
        struct jinja_value item = list->items[i];
        if (by_attribute)
            item = jinja_get_path(j, item, args->positional[0]);
        if (test && !jinja_failed(j))
            item = jinja_call_builtin(j, test, item, &rest);
        if (!jinja_failed(j) && jinja_is_true(item) == wanted)
            out->items[out->n++] = list->items[i];
    }
    return jinja_iterator(out, "generator");
}

JINJA_BUILTIN(filter_select) { return choose(j, v, args, false, true); }
JINJA_BUILTIN(filter_reject) { return choose(j, v, args, false, false); }
JINJA_BUILTIN(filter_selectattr) { return choose(j, v, args, true, true); }
JINJA_BUILTIN(filter_rejectattr) { return choose(j, v, args, true, false); }

const struct jinja_builtin jinja_filters[] = {
    { "capitalize", "", filter_capitalize },
    { "count", "", filter_length },
    { "d", "default_value? boolean?", filter_default },
    { "default", "default_value? boolean?", filter_default },
    { "dictsort", "case_sensitive? by? reverse?", filter_dictsort },
    { "first", "", filter_first },
    { "format", NULL, filter_format },
    { "indent", "width? first? blank?", filter_indent },
    { "items", "", filter_items },
    { "join", "d? attribute?", filter_join },
    { "last", "", filter_last },
    { "length", "", filter_length },
    { "list", "", filter_list },
    { "lower", "", filter_lower },
    { "map", NULL, filter_map },
    { "max", "case_sensitive? attribute?", filter_max },
    { "min", "case_sensitive? attribute?", filter_min },
    { "reject", NULL, filter_reject },
    { "rejectattr", NULL, filter_rejectattr },
    { "replace", "old new count?", filter_replace },
    { "reverse", "", filter_reverse },
    { "safe", "", filter_string },
    { "select", NULL, filter_select },
    { "selectattr", NULL, filter_selectattr },
    { "sort", "reverse? case_sensitive? attribute?", filter_sort },
    { "string", "", filter_string },
    { "sum", "attribute? start?", filter_sum },
    { "title", "", filter_title },
    { "tojson", "ensure_ascii? indent? separators? sort_keys?", filter_tojson },
    { "trim", "chars?", filter_trim },
    { "unique", "case_sensitive? attribute?", filter_unique },
    { "upper", "", filter_upper },
    { NULL, NULL, NULL },
};
