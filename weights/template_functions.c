/*
 * template_functions.c - methods of dictionaries, lists and loops, and the global functions.
 *
 * There is no other attribute access: what is not in these tables and not a key of the data is undefined, so a template cannot
 * reach anything of ours.
 */
#include "weights/template_internal.h"

#include <string.h>
#include <time.h>

static bool is_one_of(const struct jinja_string *name, const char *const *names)
{
    for (; *names; names++)
        if (jinja_text_is(name, *names))
            return true;
    return false;
}

bool jinja_is_unsupported_method(const struct jinja_string *name)
{
    static const char *const names[] = {
        "encode", "expandtabs", "format_map", "fromkeys", "isidentifier", "isnumeric", "isprintable", "istitle", "maketrans",
        "translate", NULL
    };
    return is_one_of(name, names);
}

bool jinja_is_unsafe_method(struct jinja_value v, const struct jinja_string *name)
{
    static const char *const of_list[] = { "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort", NULL };
    static const char *const of_dict[] = { "clear", "pop", "popitem", "setdefault", "update", NULL };

    if (name->n >= 2 && name->at[0] == '_' && name->at[1] == '_')
        return v.kind != JINJA_DICT;        /* of a dictionary it may be a key */
    return (v.kind == JINJA_LIST && is_one_of(name, of_list)) || (v.kind == JINJA_DICT && is_one_of(name, of_dict));
}

/* ---- dictionaries and lists ---- */

JINJA_BUILTIN(dict_get)
{
    const struct jinja_entry *e = NULL;

    if (jinja_is_hashable(j, slot[0]))
        e = jinja_dict_find(j, v.u.dict, slot[0]);
    else
        jinja_fail(j, "unhashable type: '%s'", jinja_type_name(slot[0]));
    return e ? e->value : slot[1].kind == JINJA_ABSENT ? jinja_none() : slot[1];
}

enum part { KEYS, VALUES, ITEMS };

static struct jinja_value make_view(struct jinja *j, const struct jinja_dict *d, enum part part)
{
    static const char *const names[] = { "dict_keys", "dict_values", "dict_items" };
    struct jinja_list *list = jinja_list_new(j, d->n);

    for (size_t i = 0; list && i < d->n && jinja_charge(j, 0); i++)
        list->items[list->n++] = part == KEYS ? d->entries[i].key : part == VALUES ? d->entries[i].value
                                 : jinja_pair(j, d->entries[i].key, d->entries[i].value);
    if (list)
        list->view = names[part];
    return jinja_list_value(JINJA_VIEW, list);
}

JINJA_BUILTIN(dict_keys) { return make_view(j, v.u.dict, KEYS); }
JINJA_BUILTIN(dict_values) { return make_view(j, v.u.dict, VALUES); }
JINJA_BUILTIN(dict_items) { return make_view(j, v.u.dict, ITEMS); }
JINJA_BUILTIN(same_value) { return v; }        /* copy(): nothing here can be changed, so nothing need be copied */

const struct jinja_builtin jinja_dict_methods[] = {
    { "copy", "", same_value },
    { "get", "key default?", dict_get },
    { "items", "", dict_items },
    { "keys", "", dict_keys },
    { "values", "", dict_values },
    { NULL, NULL, NULL },
};

JINJA_BUILTIN(list_count)
{
    int64_t n = 0;

    for (size_t i = 0; i < v.u.list->n && !jinja_failed(j); i++)
        n += jinja_equal(j, v.u.list->items[i], slot[0]);
    return jinja_int(n);
}

JINJA_BUILTIN(list_index)
{
    for (size_t i = 0; i < v.u.list->n && !jinja_failed(j); i++)
        if (jinja_equal(j, v.u.list->items[i], slot[0]))
            return jinja_int((int64_t)i);
    jinja_fail(j, "value is not in the list");
    return jinja_none();
}

const struct jinja_builtin jinja_list_methods[] = {
    { "copy", "", same_value },
    { "count", "value", list_count },
    { "index", "value", list_index },
    { NULL, NULL, NULL },
};

/* ---- loop.cycle(), loop.changed() ---- */

JINJA_BUILTIN(loop_cycle)
{
    if (args->n_positional)
        return args->positional[(size_t)v.u.loop->index0 % args->n_positional];
    jinja_fail(j, "no items for cycling given");
    return jinja_none();
}

JINJA_BUILTIN(loop_changed)
{
    struct jinja_list *now = jinja_list_new(j, args->n_positional);

    for (size_t i = 0; now && i < args->n_positional; i++)
        now->items[now->n++] = args->positional[i];
    struct jinja_value value = jinja_list_value(JINJA_TUPLE, now);
    bool changed = !jinja_equal(j, value, v.u.loop->changed);
    v.u.loop->changed = value;
    return jinja_bool(changed);
}

const struct jinja_builtin jinja_loop_methods[] = {
    { "changed", NULL, loop_changed },
    { "cycle", NULL, loop_cycle },
    { NULL, NULL, NULL },
};

/* ---- global functions ---- */

JINJA_BUILTIN(function_range)
{
    int64_t given[3] = { 0, 0, 1 };
    struct jinja_range *range = jinja_alloc(j, sizeof(*range));
    __int128 n;

    for (int i = 0; i < 3; i++)
        if (slot[i].kind != JINJA_ABSENT && !jinja_as_int(slot[i], &given[i]))
            jinja_fail(j, "range() wants integers, not '%s'", jinja_type_name(slot[i]));
    int64_t start = slot[1].kind == JINJA_ABSENT ? 0 : given[0], stop = slot[1].kind == JINJA_ABSENT ? given[0] : given[1];
    int64_t step = given[2];
    if (!step)
        jinja_fail(j, "range() step must not be zero");
    if (jinja_failed(j))
        return jinja_none();
    n = step > 0 ? ((__int128)stop - start + step - 1) / step : ((__int128)stop - start + step + 1) / step;
    if (n > JINJA_MAX_RANGE) {
        jinja_fail_limit(j, "range of more than %d items", JINJA_MAX_RANGE);
        return jinja_none();
    }
    *range = (struct jinja_range){ .start = start, .stop = stop, .step = step, .n = n > 0 ? (size_t)n : 0 };
    return (struct jinja_value){ .kind = JINJA_RANGE, .u.range = range };
}

/* dict(d, a=1) and namespace(d, a=1) */
static struct jinja_value named_values(struct jinja *j, const struct jinja_args *args, enum jinja_kind kind)
{
    struct jinja_dict *d = jinja_dict_new(j, args->n_named);
    const struct jinja_value *first = args->n_positional ? &args->positional[0] : NULL;

    if (args->n_positional > 1 || (first && first->kind != JINJA_DICT)) {
        jinja_fail(j, "a dictionary and named values are required");
        return jinja_none();
    }
    for (size_t i = 0; first && i < first->u.dict->n && !jinja_failed(j); i++)
        jinja_dict_set(j, d, first->u.dict->entries[i].key, first->u.dict->entries[i].value);
    for (size_t i = 0; i < args->n_named && !jinja_failed(j); i++)
        jinja_dict_set(j, d, jinja_text(args->names[i]), args->named[i]);
    return d ? (struct jinja_value){ .kind = kind, .u.dict = d } : jinja_none();
}

JINJA_BUILTIN(function_dict) { return named_values(j, args, JINJA_DICT); }
JINJA_BUILTIN(function_namespace) { return named_values(j, args, JINJA_NAMESPACE); }

JINJA_BUILTIN(function_raise_exception)
{
    const struct jinja_string *message = jinja_to_text(j, slot[0]);

    jinja_fail_raised(j, message->at, message->n);
    return jinja_none();
}

/* The format without %z and %Z, which are empty for a time without zone; false: too long or with a NUL. */
static bool zoneless_format(const struct jinja_string *f, char *out, size_t cap)
{
    size_t used = 0;

    if (memchr(f->at, '\0', f->n))
        return false;
    for (size_t i = 0; i < f->n; i++) {
        bool pair = f->at[i] == '%' && i + 1 < f->n;
        if (pair && (f->at[i + 1] == 'z' || f->at[i + 1] == 'Z')) {
            i++;
            continue;
        }
        if (used + 3 >= cap)
            return false;
        out[used++] = f->at[i];
        if (pair)
            out[used++] = f->at[++i];
    }
    out[used++] = ' ';              /* so that an empty result is not taken for a full buffer */
    out[used] = '\0';
    return true;
}

/* As datetime.now().strftime(format), in UTC. */
JINJA_BUILTIN(function_strftime_now)
{
    const struct jinja_string *f = jinja_text_slot(j, slot[0]);
    char format[256], out[1024];
    bool request = false;
    size_t n = 0;
    struct tm tm;

    for (size_t i = 0; i < f->n; i++)
        request |= jinja_mark_at(f, i);
    gmtime_r(&j->now, &tm);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"        /* the format is the template's, as its author wants it */
    if (zoneless_format(f, format, sizeof(format)))
        n = strftime(out, sizeof(out), format, &tm);
#pragma GCC diagnostic pop
    if (!n) {
        jinja_fail(j, "unsupported strftime_now format");
        return jinja_none();
    }
    struct jinja_block *b = jinja_block_new(j, n);
    jinja_block_add(j, b, out, n - 1, request);
    return jinja_text(jinja_block_string(j, b));
}

const struct jinja_builtin jinja_functions[] = {
    { "dict", NULL, function_dict },
    { "namespace", NULL, function_namespace },
    { "raise_exception", "message", function_raise_exception },
    { "range", "start stop? step?", function_range },
    { "strftime_now", "format", function_strftime_now },
    { NULL, NULL, NULL },
};
