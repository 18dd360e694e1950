/*
 * template_builtins.c - how built-in names are found and called: arguments by position and by name into slots.
 */
#include "weights/template_internal.h"

#include <string.h>

const struct jinja_builtin *jinja_find_builtin(const struct jinja_builtin *table, const struct jinja_string *name)
{
    for (; table->name; table++)
        if (jinja_text_is(name, table->name))
            return table;
    return NULL;
}

const struct jinja_builtin *jinja_find_filter(const struct jinja_string *name)
{
    const struct jinja_builtin *found = jinja_find_builtin(jinja_filters, name);
    return found ? found : jinja_find_builtin(jinja_number_filters, name);
}

/* The next name of a parameter list: its start and length, and whether it may be missing. False at the end. */
static bool next_param(const char **at, const char **name, size_t *n, bool *optional)
{
    *at += strspn(*at, " ");
    *name = *at;
    *n = strcspn(*at, " ?");
    *at += *n;
    *optional = **at == '?';
    *at += *optional;
    return *n > 0;
}

static void bind_args(struct jinja *j, const struct jinja_builtin *b, const struct jinja_args *args, struct jinja_value slot[JINJA_SLOTS])
{
    const char *at = b->params, *name;
    size_t n, count = 0, named = 0;
    bool optional;

    for (; next_param(&at, &name, &n, &optional); count++) {
        slot[count] = jinja_absent();
        if (count < args->n_positional)
            slot[count] = args->positional[count];
        for (size_t i = 0; i < args->n_named; i++) {
            if (args->names[i]->n != n || memcmp(args->names[i]->at, name, n))
                continue;
            if (slot[count].kind != JINJA_ABSENT)
                jinja_fail(j, "%s() got two values for argument '%.*s'", b->name, (int)n, name);
            slot[count] = args->named[i];
            named++;
        }
        if (slot[count].kind == JINJA_ABSENT && !optional)
            jinja_fail(j, "%s() misses argument '%.*s'", b->name, (int)n, name);
    }
    if (args->n_positional > count)
        jinja_fail(j, "%s() takes at most %zu arguments", b->name, count);
    if (named < args->n_named)
        jinja_fail(j, "%s() got an unexpected keyword argument", b->name);
}

struct jinja_value jinja_call_builtin(struct jinja *j, const struct jinja_builtin *b, struct jinja_value self,
                                      const struct jinja_args *args)
{
    struct jinja_value slot[JINJA_SLOTS], result;

    if (!jinja_charge(j, 0))
        return jinja_none();
    if (b->params)
        bind_args(j, b, args, slot);
    if (jinja_failed(j))
        return jinja_none();
    result = b->run(j, self, slot, args);
    return jinja_failed(j) ? jinja_none() : result;
}

bool jinja_given(struct jinja_value slot)
{
    return slot.kind != JINJA_ABSENT && slot.kind != JINJA_NONE;
}

bool jinja_flag(struct jinja_value slot)
{
    return jinja_given(slot) && jinja_is_true(slot);
}

int64_t jinja_int_slot(struct jinja *j, struct jinja_value slot, int64_t otherwise)
{
    int64_t i = otherwise;

    if (jinja_given(slot) && !jinja_as_int(slot, &i))
        jinja_fail(j, "an integer is required, not '%s'", jinja_type_name(slot));
    return i;
}

const struct jinja_string *jinja_text_slot(struct jinja *j, struct jinja_value slot)
{
    if (slot.kind == JINJA_STRING)
        return slot.u.string;
    if (slot.kind == JINJA_UNDEFINED)
        jinja_fail_undefined(j, slot);
    else
        jinja_fail(j, "a string is required, not '%s'", jinja_type_name(slot));
    return &jinja_empty;
}
