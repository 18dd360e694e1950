/*
 * template_operand.c - tokens to operands: constants, names, lists, and the attributes, calls, filters and tests that follow them.
 *
 * Filters and tests are looked up here, so a template that needs one we lack is refused when the model loads, not in the
 * middle of a request.
 */
#include "weights/template_internal.h"

#include <string.h>

static struct jinja_expr *parse_list(struct jinja_parser *p)
{
    struct jinja_expr *e = jinja_new_expr(p, EXPR_LIST);
    struct jinja_array items = { 0 };

    jinja_advance(p);
    while (!jinja_failed(p->j) && !jinja_at_op(p, "]")) {
        if (items.n) {
            jinja_expect_op(p, ",");
            if (jinja_at_op(p, "]"))
                break;
        }
        jinja_array_add(p->j, &items, jinja_parse_expression(p));
    }
    jinja_expect_op(p, "]");
    jinja_set_items(e, &items);
    return e;
}

static struct jinja_expr *parse_dict(struct jinja_parser *p)
{
    struct jinja_expr *e = jinja_new_expr(p, EXPR_DICT);
    struct jinja_array keys = { 0 }, values = { 0 };

    jinja_advance(p);
    while (!jinja_failed(p->j) && !jinja_at_op(p, "}")) {
        if (keys.n) {
            jinja_expect_op(p, ",");
            if (jinja_at_op(p, "}"))
                break;
        }
        jinja_array_add(p->j, &keys, jinja_parse_expression(p));
        jinja_expect_op(p, ":");
        jinja_array_add(p->j, &values, jinja_parse_expression(p));
    }
    jinja_expect_op(p, "}");
    jinja_set_items(e, &values);
    e->keys = (struct jinja_expr **)keys.items;
    return e;
}

/* "a" "b" is one string. */
static struct jinja_expr *parse_strings(struct jinja_parser *p)
{
    struct jinja_expr *e = jinja_new_expr(p, EXPR_CONST);
    const struct jinja_string *s = p->now.value.u.string;

    jinja_advance(p);
    while (p->now.kind == TOKEN_STRING) {
        s = jinja_concat(p->j, s, p->now.value.u.string);
        jinja_advance(p);
    }
    e->value = jinja_text(s);
    return e;
}

static struct jinja_expr *parse_name(struct jinja_parser *p)
{
    static const struct { const char *name; struct jinja_value value; } constants[] = {
        { "true", { .kind = JINJA_BOOL, .u.boolean = true } }, { "True", { .kind = JINJA_BOOL, .u.boolean = true } },
        { "false", { .kind = JINJA_BOOL } }, { "False", { .kind = JINJA_BOOL } },
        { "none", { .kind = JINJA_NONE } }, { "None", { .kind = JINJA_NONE } },
    };
    static const char *const macro_names[] = { "varargs", "kwargs", "caller" };
    struct jinja_expr *e = jinja_new_expr(p, EXPR_NAME);
    const struct jinja_string *name = p->now.value.u.string;

    for (size_t i = 0; i < sizeof(macro_names) / sizeof(*macro_names); i++)
        if (p->in_macro && jinja_text_is(name, macro_names[i]))
            jinja_fail(p->j, "unsupported macro variable \"%s\"", macro_names[i]);
    jinja_advance(p);
    if (jinja_failed(p->j))
        return e;
    e->value = jinja_text(name);
    for (size_t i = 0; i < sizeof(constants) / sizeof(*constants); i++) {
        if (jinja_text_is(name, constants[i].name)) {
            e->kind = EXPR_CONST;
            e->value = constants[i].value;
            return e;
        }
    }
    e->id = jinja_name_id(p, name);
    return e;
}

static struct jinja_expr *parse_primary(struct jinja_parser *p)
{
    struct jinja_expr *e;

    switch (p->now.kind) {
    case TOKEN_NAME:
        return parse_name(p);
    case TOKEN_STRING:
        return parse_strings(p);
    case TOKEN_INT:
    case TOKEN_FLOAT:
        e = jinja_new_expr(p, EXPR_CONST);
        e->value = p->now.value;
        jinja_advance(p);
        return e;
    default:
        break;
    }
    if (jinja_at_op(p, "["))
        return parse_list(p);
    if (jinja_at_op(p, "{"))
        return parse_dict(p);
    if (jinja_skip_op(p, "(")) {
        if (jinja_at_op(p, ")"))
            e = jinja_new_expr(p, EXPR_TUPLE);
        else
            e = jinja_parse_tuple(p, true);
        jinja_expect_op(p, ")");
        return e;
    }
    jinja_fail_token(p, "an expression");
    return jinja_new_expr(p, EXPR_CONST);
}

static void parse_arguments(struct jinja_parser *p, struct jinja_step *s)
{
    struct jinja_array positional = { 0 }, names = { 0 }, named = { 0 };
    bool more = false;

    jinja_expect_op(p, "(");
    while (!jinja_failed(p->j) && !jinja_at_op(p, ")")) {
        if (more) {
            jinja_expect_op(p, ",");
            if (jinja_at_op(p, ")"))
                break;
        }
        if (jinja_at_op(p, "*") || jinja_at_op(p, "**")) {
            jinja_fail(p->j, "unsupported argument \"%s\"", p->now.op);
        } else if (p->now.kind == TOKEN_NAME && p->ahead.kind == TOKEN_OPERATOR && !strcmp(p->ahead.op, "=")) {
            jinja_array_add(p->j, &names, (void *)(uintptr_t)p->now.value.u.string);
            jinja_advance(p);
            jinja_advance(p);
            jinja_array_add(p->j, &named, jinja_parse_expression(p));
        } else if (named.n) {
            jinja_fail(p->j, "positional argument after a named one");
        } else {
            jinja_array_add(p->j, &positional, jinja_parse_expression(p));
        }
        more = true;
    }
    jinja_expect_op(p, ")");
    s->positional = (struct jinja_expr **)positional.items;
    s->n_positional = positional.n;
    s->names = (const struct jinja_string **)names.items;
    s->named = (struct jinja_expr **)named.items;
    s->n_named = named.n;
}

/* a, a:b, a:b:c or any of them left out, up to the bracket. */
static void parse_subscript(struct jinja_parser *p, struct jinja_step *s)
{
    s->kind = STEP_ITEM;
    for (int i = 0; i < 3 && !jinja_failed(p->j); i++) {
        if (!jinja_at_op(p, ":") && !jinja_at_op(p, "]"))
            s->part[i] = jinja_parse_expression(p);
        if (i == 2 || !jinja_skip_op(p, ":"))
            break;
        s->kind = STEP_SLICE;
    }
    if (s->kind == STEP_ITEM && !s->part[0])
        jinja_fail_token(p, "an index");
    jinja_expect_op(p, "]");
}

static struct jinja_step *new_step(struct jinja_parser *p, enum jinja_step_kind kind)
{
    struct jinja_step *s = jinja_alloc(p->j, sizeof(*s));

    if (!s)
        s = &p->spare_step;
    s->kind = kind;
    s->line = p->now.line;
    return s;
}

/* map('f') and select('t') name a filter or test in an argument: check that too, where it is a constant. */
static void check_named_builtin(struct jinja_parser *p, const struct jinja_step *s)
{
    static const struct { const char *filter; size_t argument; bool test; } users[] = {
        { "map", 0, false }, { "select", 0, true }, { "reject", 0, true }, { "selectattr", 1, true }, { "rejectattr", 1, true },
    };

    for (size_t i = 0; i < sizeof(users) / sizeof(*users); i++) {
        if (strcmp(s->builtin->name, users[i].filter) || s->n_positional <= users[i].argument)
            continue;
        const struct jinja_expr *e = s->positional[users[i].argument];
        if (e->kind != EXPR_CONST || e->value.kind != JINJA_STRING)
            continue;
        const struct jinja_string *name = e->value.u.string;
        if (users[i].test ? !jinja_find_builtin(jinja_tests, name) : !jinja_find_filter(name))
            jinja_fail(p->j, "unsupported %s \"%.*s\"", users[i].test ? "test" : "filter",
                       (int)(name->n < 64 ? name->n : 64), name->at);
    }
}

static struct jinja_step *parse_filter(struct jinja_parser *p)
{
    struct jinja_step *s = new_step(p, STEP_FILTER);
    const struct jinja_string *name = jinja_expect_any_name(p);

    if (!name)
        return s;
    s->builtin = jinja_find_filter(name);
    if (!s->builtin) {
        p->j->line = s->line;
        jinja_fail(p->j, "unsupported filter \"%.*s\"", (int)(name->n < 64 ? name->n : 64), name->at);
    } else if (jinja_at_op(p, "(")) {
        parse_arguments(p, s);
        if (!jinja_failed(p->j))
            check_named_builtin(p, s);
    }
    return s;
}

static void parse_attribute_steps(struct jinja_parser *p, struct jinja_array *steps);

/* The argument of "x is divisibleby 3": a primary with its attributes and calls. */
static struct jinja_expr *parse_test_argument(struct jinja_parser *p)
{
    struct jinja_expr *e = parse_primary(p), *postfix;
    struct jinja_array steps = { 0 };

    parse_attribute_steps(p, &steps);
    if (!steps.n || jinja_failed(p->j))
        return e;
    postfix = jinja_new_expr(p, EXPR_POSTFIX);
    postfix->first = e;
    postfix->steps = (struct jinja_step **)steps.items;
    postfix->n = steps.n;
    return postfix;
}

static struct jinja_step *parse_test(struct jinja_parser *p)
{
    struct jinja_step *s = new_step(p, STEP_TEST);
    struct jinja_array argument = { 0 };
    bool negated = jinja_skip_name(p, "not");
    const struct jinja_string *name = jinja_expect_any_name(p);

    if (!name)
        return s;
    s->negated = negated;
    s->builtin = jinja_find_builtin(jinja_tests, name);
    if (!s->builtin) {
        jinja_fail(p->j, "unsupported test \"%.*s\"", (int)(name->n < 64 ? name->n : 64), name->at);
    } else if (jinja_at_op(p, "(")) {
        parse_arguments(p, s);
    } else if (jinja_at_op(p, "[") || jinja_at_op(p, "{") || p->now.kind == TOKEN_STRING || p->now.kind == TOKEN_INT ||
               p->now.kind == TOKEN_FLOAT ||
               (p->now.kind == TOKEN_NAME && !jinja_at_name(p, "else") && !jinja_at_name(p, "or") && !jinja_at_name(p, "and"))) {
        if (jinja_at_name(p, "is")) {
            jinja_fail(p->j, "tests cannot be chained with \"is\"");
        } else if (jinja_enter(p)) {
            jinja_array_add(p->j, &argument, parse_test_argument(p));
            p->j->depth--;
        }
        s->positional = (struct jinja_expr **)argument.items;
        s->n_positional = argument.n;
    }
    return s;
}

/* .name, [index] and (arguments), as many as there are. */
static void parse_attribute_steps(struct jinja_parser *p, struct jinja_array *steps)
{
    while (!jinja_failed(p->j)) {
        struct jinja_step *s;
        if (jinja_at_op(p, ".")) {
            s = new_step(p, STEP_ATTRIBUTE);
            jinja_advance(p);
            if (p->now.kind == TOKEN_INT) {
                s->kind = STEP_ITEM;
                s->part[0] = parse_primary(p);
            } else {
                s->name = jinja_expect_any_name(p);
                if (s->name && jinja_at_op(p, "(") && jinja_is_unsupported_method(s->name))
                    jinja_fail(p->j, "unsupported method \"%.*s\"", (int)s->name->n, s->name->at);
            }
        } else if (jinja_at_op(p, "[")) {
            s = new_step(p, STEP_ITEM);
            jinja_advance(p);
            parse_subscript(p, s);
        } else if (jinja_at_op(p, "(")) {
            s = new_step(p, STEP_CALL);
            parse_arguments(p, s);
        } else {
            return;
        }
        jinja_array_add(p->j, steps, s);
    }
}

static void parse_filter_steps(struct jinja_parser *p, struct jinja_array *steps)
{
    while (!jinja_failed(p->j)) {
        if (jinja_skip_op(p, "|")) {
            jinja_array_add(p->j, steps, parse_filter(p));
        } else if (jinja_skip_name(p, "is")) {
            jinja_array_add(p->j, steps, parse_test(p));
        } else if (jinja_at_op(p, "(")) {
            struct jinja_step *s = new_step(p, STEP_CALL);
            parse_arguments(p, s);
            jinja_array_add(p->j, steps, s);
        } else {
            return;
        }
    }
}

static struct jinja_expr *parse_unary(struct jinja_parser *p, bool filters)
{
    struct jinja_expr *e, *postfix;
    struct jinja_array steps = { 0 };

    if (jinja_at_op(p, "-") || jinja_at_op(p, "+")) {
        e = jinja_new_expr(p, jinja_at_op(p, "-") ? EXPR_NEGATE : EXPR_PLUS);
        jinja_advance(p);
        if (!jinja_enter(p))
            return e;
        e->first = parse_unary(p, false);
        p->j->depth--;
    } else {
        e = parse_primary(p);
    }
    parse_attribute_steps(p, &steps);
    if (filters)
        parse_filter_steps(p, &steps);
    if (!steps.n || jinja_failed(p->j))
        return e;
    postfix = jinja_new_expr(p, EXPR_POSTFIX);
    postfix->line = e->line;
    postfix->first = e;
    postfix->steps = (struct jinja_step **)steps.items;
    postfix->n = steps.n;
    return postfix;
}

struct jinja_expr *jinja_parse_operand(struct jinja_parser *p)
{
    return parse_unary(p, true);
}

struct jinja_expr *jinja_parse_filters(struct jinja_parser *p, bool first_without_pipe)
{
    struct jinja_array steps = { 0 };
    struct jinja_expr *e;

    while (!jinja_failed(p->j) && (first_without_pipe || jinja_skip_op(p, "|"))) {
        first_without_pipe = false;
        jinja_array_add(p->j, &steps, parse_filter(p));
    }
    if (!steps.n || jinja_failed(p->j))
        return NULL;
    e = jinja_new_expr(p, EXPR_POSTFIX);
    e->steps = (struct jinja_step **)steps.items;
    e->n = steps.n;
    return e;
}
