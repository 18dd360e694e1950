/*
 * template_eval.c - expressions to values.
 */
#include "weights/template_internal.h"

struct jinja_value jinja_lookup(struct jinja *j, const struct jinja_scope *scope, int id, const struct jinja_string *name)
{
    struct jinja_value v;

    for (; scope->parent; scope = scope->parent) {
        jinja_touch(j, 8 + (size_t)scope->n * 8);
        for (int i = 0; i < scope->n; i++)
            if (scope->bindings[i].id == id)
                return scope->bindings[i].value;
    }
    v = j->globals[id];
    if (v.kind != JINJA_ABSENT)
        return v;
    if (j->t->functions[id])
        return (struct jinja_value){ .kind = JINJA_FUNCTION, .u.function = j->t->functions[id] };
    return jinja_undefined_name(j, name);
}

static struct jinja_value eval_items(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    struct jinja_list *list = jinja_list_new(j, e->n);

    for (size_t i = 0; list && i < e->n && !jinja_failed(j); i++)
        list->items[list->n++] = jinja_eval(j, scope, e->items[i]);
    return jinja_list_value(e->kind == EXPR_TUPLE ? JINJA_TUPLE : JINJA_LIST, list);
}

static struct jinja_value eval_dict(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    struct jinja_dict *d = jinja_dict_new(j, e->n);

    for (size_t i = 0; d && i < e->n && !jinja_failed(j); i++) {
        struct jinja_value key = jinja_eval(j, scope, e->keys[i]), value = jinja_eval(j, scope, e->items[i]);
        if (!jinja_failed(j))
            jinja_dict_set(j, d, key, value);
    }
    return d ? (struct jinja_value){ .kind = JINJA_DICT, .u.dict = d } : jinja_none();
}

static struct jinja_value eval_arithmetic(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    struct jinja_value v = jinja_eval(j, scope, e->first);

    for (size_t i = 0; i < e->n && !jinja_failed(j); i++) {
        struct jinja_value right = jinja_eval(j, scope, e->items[i]);
        j->line = e->line;
        if (jinja_charge(j, 0))
            v = jinja_arithmetic(j, e->ops[i], v, right);
    }
    return v;
}

static struct jinja_value eval_concat(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    const struct jinja_string *text = &jinja_empty;

    for (size_t i = 0; i < e->n && !jinja_failed(j); i++) {
        struct jinja_value v = jinja_eval(j, scope, e->items[i]);
        if (!jinja_failed(j))
            text = jinja_concat(j, text, jinja_to_text(j, v));
    }
    return jinja_text(text);
}

static struct jinja_value eval_compare(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    struct jinja_value left = jinja_eval(j, scope, e->first), right;
    bool holds = true;

    for (size_t i = 0; i < e->n && holds && !jinja_failed(j); i++) {    /* a < b < c is a < b and b < c */
        right = jinja_eval(j, scope, e->items[i]);
        j->line = e->line;
        holds = !jinja_failed(j) && jinja_compare(j, e->ops[i], left, right);
        left = right;
    }
    return jinja_bool(holds);
}

/* 'and' and 'or' give one of their operands. */
static struct jinja_value eval_logic(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    struct jinja_value v = jinja_eval(j, scope, e->items[0]);

    for (size_t i = 1; i < e->n && !jinja_failed(j) && jinja_is_true(v) == (e->kind == EXPR_AND); i++)
        v = jinja_eval(j, scope, e->items[i]);
    return v;
}

static struct jinja_value eval_slice(struct jinja *j, struct jinja_scope *scope, const struct jinja_step *s, struct jinja_value v)
{
    struct jinja_value part[3];

    for (int i = 0; i < 3; i++)
        part[i] = s->part[i] ? jinja_eval(j, scope, s->part[i]) : jinja_none();
    j->line = s->line;
    return jinja_failed(j) ? jinja_none() : jinja_get_slice(j, v, part);
}

static void eval_args(struct jinja *j, struct jinja_scope *scope, const struct jinja_step *s, struct jinja_args *args)
{
    struct jinja_value *values = NULL;

    *args = (struct jinja_args){ .n_positional = s->n_positional, .names = s->names, .n_named = s->n_named };
    if (s->n_positional + s->n_named)
        values = jinja_alloc_array(j, s->n_positional + s->n_named, sizeof(*values));
    for (size_t i = 0; values && i < s->n_positional && !jinja_failed(j); i++)
        values[i] = jinja_eval(j, scope, s->positional[i]);
    for (size_t i = 0; values && i < s->n_named && !jinja_failed(j); i++)
        values[s->n_positional + i] = jinja_eval(j, scope, s->named[i]);
    args->positional = values;
    args->named = values ? values + s->n_positional : NULL;
}

static struct jinja_value call(struct jinja *j, struct jinja_value v, const struct jinja_args *args)
{
    switch (v.kind) {
    case JINJA_MACRO:
        return jinja_call_macro(j, v.u.macro, args);
    case JINJA_FUNCTION:
        return jinja_call_builtin(j, v.u.function, jinja_none(), args);
    case JINJA_METHOD:
        return jinja_call_builtin(j, v.u.method->builtin, v.u.method->self, args);
    case JINJA_UNDEFINED:
        jinja_fail_undefined(j, v);
        break;
    default:
        jinja_fail(j, "'%s' object is not callable", jinja_type_name(v));
    }
    return jinja_none();
}

static struct jinja_value apply_step(struct jinja *j, struct jinja_scope *scope, const struct jinja_step *s, struct jinja_value v)
{
    struct jinja_args args;
    struct jinja_value key;

    switch (s->kind) {
    case STEP_ATTRIBUTE:
        j->line = s->line;
        return jinja_get_attribute(j, v, s->name);
    case STEP_ITEM:
        key = jinja_eval(j, scope, s->part[0]);
        j->line = s->line;
        return jinja_failed(j) ? v : jinja_get_item(j, v, key);
    case STEP_SLICE:
        return eval_slice(j, scope, s, v);
    default:
        break;
    }
    eval_args(j, scope, s, &args);
    j->line = s->line;
    if (jinja_failed(j))
        return v;
    if (s->kind == STEP_CALL)
        return call(j, v, &args);
    v = jinja_call_builtin(j, s->builtin, v, &args);
    return s->kind == STEP_TEST && s->negated ? jinja_bool(!jinja_is_true(v)) : v;
}

struct jinja_value jinja_apply_steps(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *postfix, struct jinja_value v)
{
    for (size_t i = 0; i < postfix->n && jinja_charge(j, 0); i++)
        v = apply_step(j, scope, postfix->steps[i], v);
    return v;
}

static struct jinja_value eval_condition(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    struct jinja_value condition = jinja_eval(j, scope, e->condition);

    if (jinja_failed(j))
        return condition;
    if (jinja_is_true(condition))
        return jinja_eval(j, scope, e->first);
    return e->otherwise ? jinja_eval(j, scope, e->otherwise) : jinja_nothing();
}

static struct jinja_value eval_kind(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    switch (e->kind) {
    case EXPR_CONST:
        return e->value;
    case EXPR_NAME:
        return jinja_lookup(j, scope, e->id, e->value.u.string);
    case EXPR_LIST:
    case EXPR_TUPLE:
        return eval_items(j, scope, e);
    case EXPR_DICT:
        return eval_dict(j, scope, e);
    case EXPR_ARITHMETIC:
        return eval_arithmetic(j, scope, e);
    case EXPR_CONCAT:
        return eval_concat(j, scope, e);
    case EXPR_COMPARE:
        return eval_compare(j, scope, e);
    case EXPR_AND:
    case EXPR_OR:
        return eval_logic(j, scope, e);
    case EXPR_NOT:
        return jinja_bool(!jinja_is_true(jinja_eval(j, scope, e->first)));
    case EXPR_NEGATE:
    case EXPR_PLUS:
        return jinja_negate(j, jinja_eval(j, scope, e->first), e->kind == EXPR_NEGATE);
    case EXPR_CONDITION:
        return eval_condition(j, scope, e);
    case EXPR_POSTFIX:
        return jinja_apply_steps(j, scope, e, jinja_eval(j, scope, e->first));
    }
    return jinja_none();
}

struct jinja_value jinja_eval(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e)
{
    struct jinja_value v;

    j->line = e->line;
    if (!jinja_charge(j, 0))
        return jinja_none();
    if (++j->eval_depth > JINJA_MAX_EVAL_DEPTH)
        jinja_fail_limit(j, "expressions nested deeper than %d", JINJA_MAX_EVAL_DEPTH);
    v = jinja_failed(j) ? jinja_none() : eval_kind(j, scope, e);
    j->eval_depth--;
    return jinja_failed(j) ? jinja_none() : v;
}
