/*
 * template_value.c - what values are: undefined ones, conversion from JSON, lists and dictionaries, truth, length, iteration.
 */
#include "weights/template_internal.h"

#include <string.h>

/* ---- undefined ---- */

static struct jinja_value undefined(struct jinja *j, const char *owner, const struct jinja_string *name, bool unsafe)
{
    struct jinja_undefined *u = jinja_alloc(j, sizeof(*u));

    if (u)
        *u = (struct jinja_undefined){ .owner = owner, .name = name, .unsafe = unsafe };
    return (struct jinja_value){ .kind = JINJA_UNDEFINED, .u.undefined = u };
}

struct jinja_value jinja_undefined_name(struct jinja *j, const struct jinja_string *name)
{
    return undefined(j, NULL, name, false);
}

struct jinja_value jinja_undefined_attribute(struct jinja *j, struct jinja_value owner, const struct jinja_string *name, bool unsafe)
{
    return undefined(j, jinja_type_name(owner), name, unsafe);
}

void jinja_fail_undefined(struct jinja *j, struct jinja_value v)
{
    const struct jinja_undefined *u = v.u.undefined;

    if (!u || !u->name) {
        jinja_fail(j, "an undefined value is used");
        return;
    }
    int n = (int)(u->name->n < 64 ? u->name->n : 64);
    if (u->unsafe)
        jinja_fail(j, "access to attribute '%.*s' of '%s' object is unsafe", n, u->name->at, u->owner);
    else if (u->owner)
        jinja_fail(j, "'%s object' has no attribute '%.*s'", u->owner, n, u->name->at);
    else
        jinja_fail(j, "'%.*s' is undefined", n, u->name->at);
}

/* ---- from JSON ---- */

static struct jinja_entry *find_text(const struct jinja_dict *d, const char *key, size_t n);
static struct jinja_value from_json(struct jinja *j, const json_t *json, bool request, int depth);

static struct jinja_value from_array(struct jinja *j, const json_t *json, bool request, int depth)
{
    size_t n = json_array_size(json);
    struct jinja_list *list = jinja_list_new(j, n);

    for (size_t i = 0; i < n && !jinja_failed(j); i++)
        list->items[list->n++] = from_json(j, json_array_get(json, i), request, depth + 1);
    return jinja_list_value(JINJA_LIST, list);
}

static struct jinja_value from_object(struct jinja *j, const json_t *json, bool request, int depth)
{
    struct jinja_dict *dict = jinja_dict_new(j, json_object_size(json));
    /* jansson iterates only over objects that are not const; it changes nothing */
    json_t *object = (json_t *)(uintptr_t)json;

    for (void *at = json_object_iter(object); at && !jinja_failed(j); at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        dict->entries[dict->n++] = (struct jinja_entry){      /* jansson's keys are unique already */
            .key = jinja_text(jinja_string_new(j, key, strlen(key), request)),
            .value = from_json(j, json_object_iter_value(at), request, depth + 1),
        };
    }
    return dict ? (struct jinja_value){ .kind = JINJA_DICT, .u.dict = dict } : jinja_none();
}

static struct jinja_value from_json(struct jinja *j, const json_t *json, bool request, int depth)
{
    if (depth > JINJA_MAX_DATA_DEPTH) {
        jinja_fail_limit(j, "data nested deeper than %d", JINJA_MAX_DATA_DEPTH);
        return jinja_none();
    }
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return from_object(j, json, request, depth);
    case JSON_ARRAY:
        return from_array(j, json, request, depth);
    case JSON_STRING:
        return jinja_text(jinja_string_new(j, json_string_value(json), json_string_length(json), request));
    case JSON_INTEGER:
        return jinja_int(json_integer_value(json));
    case JSON_REAL:
        return jinja_float(json_real_value(json));
    case JSON_TRUE:
        return jinja_bool(true);
    case JSON_FALSE:
        return jinja_bool(false);
    default:
        return jinja_none();
    }
}

struct jinja_value jinja_from_json(struct jinja *j, const json_t *json, bool request)
{
    return from_json(j, json, request, 0);
}

/*
 * vars.messages. A role of the API's own vocabulary is not the client's text: it selects a special token in templates that
 * write '<|' + role + '|>' (phi3, falcon), which the tokenizer could not match if part of it were marked.
 */
struct jinja_value jinja_messages_from_json(struct jinja *j, const json_t *json)
{
    static const char *const roles[] = { "system", "developer", "user", "assistant", "tool", "function", "ipython", "model" };
    struct jinja_value messages = from_json(j, json, true, 0);

    if (messages.kind != JINJA_LIST || jinja_failed(j))
        return messages;
    for (size_t i = 0; i < messages.u.list->n; i++) {
        struct jinja_value message = messages.u.list->items[i];
        struct jinja_entry *role = message.kind == JINJA_DICT ? find_text(message.u.dict, "role", 4) : NULL;
        if (!role || role->value.kind != JINJA_STRING)
            continue;
        for (size_t r = 0; r < sizeof(roles) / sizeof(*roles); r++)
            if (jinja_text_is(role->value.u.string, roles[r]))
                role->value = jinja_text(jinja_string_literal(j, roles[r]));
    }
    return messages;
}

/* ---- lists and dictionaries ---- */

struct jinja_list *jinja_list_new(struct jinja *j, size_t cap)
{
    struct jinja_list *list = jinja_alloc(j, sizeof(*list));

    if (list)
        list->items = jinja_alloc_array(j, cap, sizeof(*list->items));
    return jinja_failed(j) ? NULL : list;
}

struct jinja_value jinja_list_value(enum jinja_kind kind, struct jinja_list *list)
{
    return list ? (struct jinja_value){ .kind = kind, .u.list = list } : jinja_none();
}

struct jinja_value jinja_iterator(struct jinja_list *list, const char *type)
{
    if (list)
        list->view = type;
    return jinja_list_value(JINJA_ITERATOR, list);
}

struct jinja_value jinja_pair(struct jinja *j, struct jinja_value a, struct jinja_value b)
{
    struct jinja_list *pair = jinja_list_new(j, 2);

    if (pair) {
        pair->items[pair->n++] = a;
        pair->items[pair->n++] = b;
    }
    return jinja_list_value(JINJA_TUPLE, pair);
}

struct jinja_dict *jinja_dict_new(struct jinja *j, size_t cap)
{
    struct jinja_dict *d = jinja_alloc(j, sizeof(*d));

    if (d) {
        d->entries = jinja_alloc_array(j, cap, sizeof(*d->entries));
        d->cap = cap;
    }
    return jinja_failed(j) ? NULL : d;
}

static struct jinja_entry *find_text(const struct jinja_dict *d, const char *key, size_t n)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct jinja_value *k = &d->entries[i].key;
        if (k->kind == JINJA_STRING && k->u.string->n == n && !memcmp(k->u.string->at, key, n))
            return &d->entries[i];
    }
    return NULL;
}

struct jinja_entry *jinja_dict_find(struct jinja *j, const struct jinja_dict *d, struct jinja_value key)
{
    /* linear: messages and schemas have a handful of keys; more of them are paid for in steps */
    if (!jinja_charge(j, d->n * 8))
        return NULL;
    if (key.kind == JINJA_STRING)
        return find_text(d, key.u.string->at, key.u.string->n);
    for (size_t i = 0; i < d->n && !jinja_failed(j); i++)
        if (d->entries[i].key.kind != JINJA_STRING && jinja_equal(j, d->entries[i].key, key))
            return &d->entries[i];
    return NULL;
}

void jinja_dict_set(struct jinja *j, struct jinja_dict *d, struct jinja_value key, struct jinja_value value)
{
    if (!jinja_is_hashable(j, key)) {
        jinja_fail(j, "unhashable type: '%s'", jinja_type_name(key));
        return;
    }
    struct jinja_entry *e = jinja_dict_find(j, d, key);
    if (jinja_failed(j))
        return;
    if (e) {
        e->value = value;
        return;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        struct jinja_entry *entries = jinja_alloc_array(j, cap, sizeof(*entries));
        if (!entries)
            return;
        memcpy(entries, d->entries, d->n * sizeof(*entries));
        d->entries = entries;
        d->cap = cap;
    }
    d->entries[d->n++] = (struct jinja_entry){ key, value };
}

/* ---- questions ---- */

const char *jinja_type_name(struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED: return "Undefined";
    case JINJA_NONE: return "None";
    case JINJA_BOOL: return "bool";
    case JINJA_INT: return "int";
    case JINJA_FLOAT: return "float";
    case JINJA_STRING: return "str";
    case JINJA_LIST: return "list";
    case JINJA_TUPLE: return "tuple";
    case JINJA_VIEW:
    case JINJA_ITERATOR: return v.u.list->view;
    case JINJA_RANGE: return "range";
    case JINJA_DICT: return "dict";
    case JINJA_NAMESPACE: return "Namespace";
    case JINJA_LOOP: return "LoopContext";
    case JINJA_MACRO: return "Macro";
    case JINJA_FUNCTION:
    case JINJA_METHOD: break;
    }
    return "function";
}

bool jinja_is_true(struct jinja_value v)
{
    switch (v.kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v.u.boolean;
    case JINJA_INT:
        return v.u.integer != 0;
    case JINJA_FLOAT:
        return v.u.real != 0;
    case JINJA_STRING:
        return v.u.string->n > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        return v.u.list->n > 0;
    case JINJA_RANGE:
        return v.u.range->n > 0;
    case JINJA_DICT:
        return v.u.dict->n > 0;
    default:                        /* objects without a length; a loop that runs has items */
        return true;
    }
}

bool jinja_as_int(struct jinja_value v, int64_t *i)
{
    if (v.kind == JINJA_BOOL)
        *i = v.u.boolean;
    else if (v.kind == JINJA_INT)
        *i = v.u.integer;
    else
        return false;
    return true;
}

bool jinja_as_double(struct jinja_value v, double *d)
{
    int64_t i;

    if (v.kind == JINJA_FLOAT)
        *d = v.u.real;
    else if (jinja_as_int(v, &i))
        *d = (double)i;
    else
        return false;
    return true;
}

bool jinja_length(struct jinja *j, struct jinja_value v, size_t *n)
{
    switch (v.kind) {
    case JINJA_UNDEFINED:
        *n = 0;
        return true;
    case JINJA_STRING:
        *n = jinja_count_chars(j, v.u.string);
        return true;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        *n = v.u.list->n;
        return true;
    case JINJA_RANGE:
        *n = v.u.range->n;
        return true;
    case JINJA_DICT:
        *n = v.u.dict->n;
        return true;
    case JINJA_LOOP:
        *n = (size_t)jinja_loop_length(j, v.u.loop);
        return true;
    default:
        return false;
    }
}

static bool is_hashable(struct jinja *j, struct jinja_value v, int depth)
{
    if (v.kind == JINJA_LIST || v.kind == JINJA_DICT || v.kind == JINJA_VIEW || depth > JINJA_MAX_DATA_DEPTH)
        return false;
    for (size_t i = 0; v.kind == JINJA_TUPLE && i < v.u.list->n; i++)
        if (!jinja_charge(j, 0) || !is_hashable(j, v.u.list->items[i], depth + 1))
            return false;
    return true;
}

bool jinja_is_hashable(struct jinja *j, struct jinja_value v)
{
    return is_hashable(j, v, 0);
}

/* ---- iteration ---- */

bool jinja_is_iterable(struct jinja_value v)
{
    return v.kind == JINJA_UNDEFINED || (v.kind >= JINJA_STRING && v.kind <= JINJA_DICT) || v.kind == JINJA_LOOP;
}

bool jinja_iter_open(struct jinja *j, struct jinja_iter *it, struct jinja_value v)
{
    *it = (struct jinja_iter){ .source = v };
    if (!jinja_is_iterable(v) || v.kind == JINJA_LOOP) {
        jinja_fail(j, "'%s' object is not iterable", jinja_type_name(v));
        it->source = jinja_nothing();
        return false;
    }
    return true;
}

struct jinja_value jinja_range_item(const struct jinja_range *range, size_t i)
{
    return jinja_int(range->start + range->step * (int64_t)i);
}

bool jinja_iter_next(struct jinja *j, struct jinja_iter *it, struct jinja_value *item)
{
    struct jinja_value v = it->source;
    size_t *at = v.kind == JINJA_ITERATOR ? &v.u.list->at : &it->at;    /* an iterator is used up by whoever takes from it */
    size_t length;

    if (!jinja_charge(j, 0))
        return false;
    switch (v.kind) {
    case JINJA_STRING:
        if (*at >= v.u.string->n)
            return false;
        jinja_char_at(v.u.string, *at, &length);
        *item = jinja_text(jinja_substring(j, v.u.string, *at, *at + length));
        *at += length;
        return !jinja_failed(j);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
    case JINJA_ITERATOR:
        if (*at >= v.u.list->n)
            return false;
        *item = v.u.list->items[(*at)++];
        return true;
    case JINJA_RANGE:
        if (*at >= v.u.range->n)
            return false;
        *item = jinja_range_item(v.u.range, (*at)++);
        return true;
    case JINJA_DICT:
        if (*at >= v.u.dict->n)
            return false;
        *item = v.u.dict->entries[(*at)++].key;
        return true;
    default:
        return false;
    }
}

struct jinja_list *jinja_to_list(struct jinja *j, struct jinja_value v)
{
    struct jinja_iter it;
    struct jinja_value item;
    size_t n;

    if (!jinja_iter_open(j, &it, v))
        return NULL;
    if (v.kind == JINJA_LIST || v.kind == JINJA_TUPLE || v.kind == JINJA_VIEW)
        return v.u.list;
    if (v.kind == JINJA_ITERATOR)
        n = v.u.list->n - v.u.list->at;
    else
        jinja_length(j, v, &n);
    struct jinja_list *list = jinja_list_new(j, n);
    while (list && jinja_iter_next(j, &it, &item))
        list->items[list->n++] = item;
    return jinja_failed(j) ? NULL : list;
}
