/*
 * template_access.c - v.name, v[key], v[a:b:c].
 *
 * An attribute is a key of the data or one of our own methods, nothing else. As in jinja2, v.name prefers the method and v["name"]
 * the key, and what is missing is undefined rather than an error.
 */
#include "weights/template_internal.h"

static const struct jinja_builtin *find_method(struct jinja_value v, const struct jinja_string *name)
{
    switch (v.kind) {
    case JINJA_STRING:
        return jinja_find_builtin(jinja_string_methods, name);
    case JINJA_DICT:
        return jinja_find_builtin(jinja_dict_methods, name);
    case JINJA_LIST:
    case JINJA_TUPLE:
        return jinja_find_builtin(jinja_list_methods, name);
    case JINJA_LOOP:
        return jinja_find_builtin(jinja_loop_methods, name);
    default:
        return NULL;
    }
}

/* What Python's getattr() would find; ABSENT: nothing. */
static struct jinja_value own_attribute(struct jinja *j, struct jinja_value v, const struct jinja_string *name)
{
    const struct jinja_builtin *builtin = find_method(v, name);

    if (builtin) {
        struct jinja_method *m = jinja_alloc(j, sizeof(*m));
        if (!m)
            return jinja_none();
        *m = (struct jinja_method){ v, builtin };
        return (struct jinja_value){ .kind = JINJA_METHOD, .u.method = m };
    }
    if (jinja_is_unsafe_method(v, name))
        return jinja_undefined_attribute(j, v, name, true);
    if (v.kind == JINJA_LOOP)
        return jinja_loop_attribute(j, v.u.loop, name);
    if (v.kind == JINJA_NAMESPACE) {
        struct jinja_entry *e = jinja_dict_find(j, v.u.dict, jinja_text(name));
        return e ? e->value : jinja_absent();
    }
    return jinja_absent();
}

/* A negative index counts from the end. */
static bool index_of(struct jinja_value key, size_t n, size_t *at)
{
    int64_t i;

    if (!jinja_as_int(key, &i))
        return false;
    if (i < 0)
        i += (int64_t)n;
    *at = (size_t)i;
    return i >= 0 && (size_t)i < n;
}

/* What v[key] would find; ABSENT: nothing. */
static struct jinja_value own_item(struct jinja *j, struct jinja_value v, struct jinja_value key)
{
    size_t n, at, length;
    struct jinja_entry *e;

    switch (v.kind) {
    case JINJA_DICT:
        e = jinja_is_hashable(j, key) ? jinja_dict_find(j, v.u.dict, key) : NULL;
        return e ? e->value : jinja_absent();
    case JINJA_LIST:
    case JINJA_TUPLE:
        return index_of(key, v.u.list->n, &at) ? v.u.list->items[at] : jinja_absent();
    case JINJA_RANGE:
        return index_of(key, v.u.range->n, &at) ? jinja_range_item(v.u.range, at) : jinja_absent();
    case JINJA_STRING:
        n = jinja_count_chars(j, v.u.string);
        if (!index_of(key, n, &at))
            return jinja_absent();
        at = jinja_char_offset(v.u.string, at);
        jinja_char_at(v.u.string, at, &length);
        return jinja_text(jinja_substring(j, v.u.string, at, at + length));
    default:
        return jinja_absent();
    }
}

struct jinja_value jinja_get_attribute(struct jinja *j, struct jinja_value v, const struct jinja_string *name)
{
    if (v.kind == JINJA_UNDEFINED) {
        jinja_fail_undefined(j, v);
        return jinja_none();
    }
    struct jinja_value found = own_attribute(j, v, name);
    if (found.kind == JINJA_ABSENT)
        found = own_item(j, v, jinja_text(name));
    return found.kind == JINJA_ABSENT ? jinja_undefined_attribute(j, v, name, false) : found;
}

struct jinja_value jinja_get_item(struct jinja *j, struct jinja_value v, struct jinja_value key)
{
    if (v.kind == JINJA_UNDEFINED) {
        jinja_fail_undefined(j, v);
        return jinja_none();
    }
    struct jinja_value found = own_item(j, v, key);
    if (found.kind == JINJA_ABSENT && key.kind == JINJA_STRING)
        found = own_attribute(j, v, key.u.string);
    if (found.kind != JINJA_ABSENT)
        return found;
    return jinja_undefined_attribute(j, v, jinja_to_text(j, key), false);
}

/* The bounds of v[a:b:c] as Python's slice.indices() gives them. */
static bool slice_bounds(struct jinja *j, const struct jinja_value part[3], int64_t n, int64_t *start, int64_t *stop, int64_t *step)
{
    int64_t given[3] = { 0, 0, 1 };

    for (int i = 0; i < 3; i++) {
        if (part[i].kind == JINJA_UNDEFINED) {
            jinja_fail_undefined(j, part[i]);
            return false;
        }
        if (part[i].kind != JINJA_NONE && !jinja_as_int(part[i], &given[i])) {
            jinja_fail(j, "slice indices must be integers or none");
            return false;
        }
    }
    *step = given[2];
    if (!*step) {
        jinja_fail(j, "slice step cannot be zero");
        return false;
    }
    if (*step > n + 1)          /* the same one item, without overflow in at + step */
        *step = n + 1;
    if (*step < -n - 1)
        *step = -n - 1;
    int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        int64_t at = given[i];
        if (part[i].kind == JINJA_NONE)
            at = (*step < 0) == (i == 0) ? high : low;
        else if (at < 0)
            at = at + n < low ? low : at + n;
        else if (at > high)
            at = high;
        *(i ? stop : start) = at;
    }
    return true;
}

static const struct jinja_string *slice_text(struct jinja *j, const struct jinja_string *s, int64_t start, int64_t step, int64_t count)
{
    if (count <= 0)
        return jinja_string_literal(j, "");
    if (step == 1)
        return jinja_substring(j, s, jinja_char_offset(s, (size_t)start), jinja_char_offset(s, (size_t)(start + count)));
    struct jinja_block *b = jinja_block_new(j, (size_t)count);
    size_t at = jinja_char_offset(s, (size_t)start), length;
    for (int64_t i = 0; i < count && !jinja_failed(j); i++) {
        jinja_char_at(s, at, &length);
        jinja_block_add_part(j, b, s, at, at + length);
        for (int64_t k = 0; k < step && at < s->n; k++) {
            jinja_char_at(s, at, &length);
            at += length;
        }
        for (int64_t k = 0; k > step && at > 0; k--)
            do
                at--;
            while (at > 0 && ((unsigned char)s->at[at] & 0xc0) == 0x80);
    }
    return jinja_block_string(j, b);
}

struct jinja_value jinja_get_slice(struct jinja *j, struct jinja_value v, const struct jinja_value part[3])
{
    int64_t start, stop, step;
    size_t n;

    if (v.kind == JINJA_UNDEFINED) {
        jinja_fail_undefined(j, v);
        return jinja_none();
    }
    if (v.kind != JINJA_STRING && v.kind != JINJA_LIST && v.kind != JINJA_TUPLE && v.kind != JINJA_RANGE) {
        jinja_fail(j, "'%s' object cannot be sliced", jinja_type_name(v));
        return jinja_none();
    }
    jinja_length(j, v, &n);
    if (!slice_bounds(j, part, (int64_t)n, &start, &stop, &step))
        return jinja_none();
    int64_t count = step > 0 ? (stop - start + step - 1) / step : (stop - start + step + 1) / step;
    if (count < 0)
        count = 0;
    if (!jinja_charge(j, (size_t)count * 16))
        return jinja_none();
    if (v.kind == JINJA_STRING)
        return jinja_text(slice_text(j, v.u.string, start, step, count));
    if (v.kind == JINJA_RANGE) {
        struct jinja_range *range = jinja_alloc(j, sizeof(*range));
        if (!range)
            return jinja_none();
        *range = (struct jinja_range){
            .start = v.u.range->start + v.u.range->step * start,
            .stop = v.u.range->start + v.u.range->step * stop,
            .step = v.u.range->step * step,
            .n = (size_t)count,
        };
        return (struct jinja_value){ .kind = JINJA_RANGE, .u.range = range };
    }
    struct jinja_list *list = jinja_list_new(j, step == 1 ? 0 : (size_t)count);
    if (list && step == 1 && count > 0)
        list->items = v.u.list->items + start;
    for (int64_t i = 0; list && step != 1 && i < count; i++)
        list->items[i] = v.u.list->items[start + i * step];
    if (list)
        list->n = (size_t)count;
    return jinja_list_value(v.kind, list);
}

struct jinja_value jinja_get_path(struct jinja *j, struct jinja_value v, struct jinja_value path)
{
    if (path.kind != JINJA_STRING)
        return path.kind == JINJA_NONE ? v : jinja_get_item(j, v, path);
    const struct jinja_string *s = path.u.string;
    for (size_t from = 0; from <= s->n && !jinja_failed(j);) {
        size_t to = from;
        bool number = true;
        int64_t index = 0;
        for (; to < s->n && s->at[to] != '.'; to++) {
            number = number && s->at[to] >= '0' && s->at[to] <= '9' && to - from < 9;
            index = number ? index * 10 + (s->at[to] - '0') : 0;
        }
        v = jinja_get_item(j, v, number && to > from ? jinja_int(index) : jinja_text(jinja_substring(j, s, from, to)));
        from = to + 1;
    }
    return v;
}
