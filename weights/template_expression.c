/*
 * template_expression.c - tokens to expressions, with the precedence of jinja2's parser.
 *
 * Filters and tests are looked up here, so a template that needs one we lack is refused when the model loads, not in the
 * middle of a request.
 */
#include "weights/template_internal.h"

#include <stdio.h>
#include <string.h>

static struct jinja_expr *parse_or(struct jinja_parser *p);
static struct jinja_expr *parse_unary(struct jinja_parser *p, bool filters);

void jinja_array_add(struct jinja *j, struct jinja_array *a, void *item)
{
    if (a->n == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 4;
        void **items = jinja_alloc_array(j, cap, sizeof(*items));
        if (!items)
            return;
        if (a->n)
            memcpy(items, a->items, a->n * sizeof(*items));
        a->items = items;
        a->cap = cap;
    }
    a->items[a->n++] = item;
}

void jinja_advance(struct jinja_parser *p)
{
    p->now = p->ahead;
    jinja_lexer_next(&p->lexer, &p->ahead);
    if (jinja_failed(p->j))
        p->now.kind = p->ahead.kind = TOKEN_EOF;
    else
        p->j->line = p->now.line;
}

bool jinja_at_op(const struct jinja_parser *p, const char *op)
{
    return p->now.kind == TOKEN_OPERATOR && !strcmp(p->now.op, op);
}

bool jinja_at_name(const struct jinja_parser *p, const char *name)
{
    return p->now.kind == TOKEN_NAME && jinja_text_is(p->now.value.u.string, name);
}

bool jinja_skip_op(struct jinja_parser *p, const char *op)
{
    if (!jinja_at_op(p, op))
        return false;
    jinja_advance(p);
    return true;
}

bool jinja_skip_name(struct jinja_parser *p, const char *name)
{
    if (!jinja_at_name(p, name))
        return false;
    jinja_advance(p);
    return true;
}

void jinja_fail_token(struct jinja_parser *p, const char *expected)
{
    const struct jinja_token *t = &p->now;
    char got[64];

    switch (t->kind) {
    case TOKEN_EOF:
        snprintf(got, sizeof(got), "the end of the template");
        break;
    case TOKEN_DATA:
        snprintf(got, sizeof(got), "text");
        break;
    case TOKEN_NAME:
    case TOKEN_STRING:
        snprintf(got, sizeof(got), "\"%.*s\"", (int)(t->value.u.string->n < 32 ? t->value.u.string->n : 32),
                 t->value.u.string->at);
        break;
    case TOKEN_INT:
    case TOKEN_FLOAT:
        snprintf(got, sizeof(got), "a number");
        break;
    case TOKEN_OPERATOR:
        snprintf(got, sizeof(got), "'%s'", t->op);
        break;
    default:
        snprintf(got, sizeof(got), "%s", t->kind == TOKEN_BLOCK_END ? "'%}'" : t->kind == TOKEN_OUTPUT_END ? "'}}'" : "a tag");
    }
    jinja_fail(p->j, "expected %s, got %s", expected, got);
    p->now.kind = p->ahead.kind = TOKEN_EOF;
}

void jinja_expect_op(struct jinja_parser *p, const char *op)
{
    if (!jinja_skip_op(p, op)) {
        char expected[8];
        snprintf(expected, sizeof(expected), "'%s'", op);
        jinja_fail_token(p, expected);
    }
}

const struct jinja_string *jinja_expect_any_name(struct jinja_parser *p)
{
    const struct jinja_string *name = p->now.value.u.string;

    if (p->now.kind != TOKEN_NAME) {
        jinja_fail_token(p, "a name");
        return NULL;
    }
    jinja_advance(p);
    return name;
}

bool jinja_enter(struct jinja_parser *p)
{
    if (++p->j->depth > JINJA_MAX_DEPTH) {
        jinja_fail_limit(p->j, "nested deeper than %d", JINJA_MAX_DEPTH);
        p->now.kind = p->ahead.kind = TOKEN_EOF;
    }
    return !jinja_failed(p->j);
}

/* Never NULL, so that the parser need not look for failures at every node. */
static struct jinja_expr *new_expr(struct jinja_parser *p, enum jinja_expr_kind kind)
{
    struct jinja_expr *e = jinja_alloc(p->j, sizeof(*e));

    if (!e)
        e = &p->spare_expr;
    e->kind = kind;
    e->line = p->now.line;
    return e;
}

static void set_items(struct jinja_expr *e, const struct jinja_array *a)
{
    e->items = (struct jinja_expr **)a->items;
    e->n = a->n;
}

static struct jinja_expr *parse_list(struct jinja_parser *p)
{
    struct jinja_expr *e = new_expr(p, EXPR_LIST);
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
    set_items(e, &items);
    return e;
}

static struct jinja_expr *parse_dict(struct jinja_parser *p)
{
    struct jinja_expr *e = new_expr(p, EXPR_DICT);
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
    set_items(e, &values);
    e->keys = (struct jinja_expr **)keys.items;
    return e;
}

/* "a" "b" is one string. */
static struct jinja_expr *parse_strings(struct jinja_parser *p)
{
    struct jinja_expr *e = new_expr(p, EXPR_CONST);
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
    struct jinja_expr *e = new_expr(p, EXPR_NAME);
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
        e = new_expr(p, EXPR_CONST);
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
            e = new_expr(p, EXPR_TUPLE);
        else
            e = jinja_parse_tuple(p, true);
        jinja_expect_op(p, ")");
        return e;
    }
    jinja_fail_token(p, "an expression");
    return new_expr(p, EXPR_CONST);
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
    postfix = new_expr(p, EXPR_POSTFIX);
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
        e = new_expr(p, jinja_at_op(p, "-") ? EXPR_NEGATE : EXPR_PLUS);
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
    postfix = new_expr(p, EXPR_POSTFIX);
    postfix->line = e->line;
    postfix->first = e;
    postfix->steps = (struct jinja_step **)steps.items;
    postfix->n = steps.n;
    return postfix;
}

/* A level of left-associative operators: those of `names`, over operands that `next` parses. */
static struct jinja_expr *parse_chain(struct jinja_parser *p, const char *const *names, const enum jinja_op *ops,
                                      struct jinja_expr *(*next)(struct jinja_parser *))
{
    struct jinja_expr *first = next(p), *e = NULL;
    struct jinja_array items = { 0 }, found = { 0 };

    while (!jinja_failed(p->j)) {
        size_t i = 0;
        while (names[i] && !jinja_at_op(p, names[i]))
            i++;
        if (!names[i])
            break;
        jinja_advance(p);
        jinja_array_add(p->j, &found, (void *)(uintptr_t)(ops + i));
        jinja_array_add(p->j, &items, next(p));
    }
    if (!items.n || jinja_failed(p->j))
        return first;
    e = new_expr(p, EXPR_ARITHMETIC);
    enum jinja_op *list = jinja_alloc_array(p->j, items.n, sizeof(*list));
    if (!list)
        return first;
    for (size_t i = 0; i < items.n; i++)
        list[i] = *(const enum jinja_op *)found.items[i];
    e->line = first->line;
    e->first = first;
    e->ops = list;
    set_items(e, &items);
    return e;
}

static struct jinja_expr *parse_operand(struct jinja_parser *p)
{
    return parse_unary(p, true);
}

static struct jinja_expr *parse_power(struct jinja_parser *p)
{
    static const char *const names[] = { "**", NULL };
    static const enum jinja_op ops[] = { JINJA_POW };
    return parse_chain(p, names, ops, parse_operand);
}

static struct jinja_expr *parse_product(struct jinja_parser *p)
{
    static const char *const names[] = { "*", "/", "//", "%", NULL };
    static const enum jinja_op ops[] = { JINJA_MUL, JINJA_DIV, JINJA_FLOORDIV, JINJA_MOD };
    return parse_chain(p, names, ops, parse_power);
}

/* Operands between `separator`s as one node of `kind`. */
static struct jinja_expr *parse_row(struct jinja_parser *p, enum jinja_expr_kind kind, const char *separator,
                                    struct jinja_expr *(*next)(struct jinja_parser *))
{
    struct jinja_expr *first = next(p), *e;
    struct jinja_array items = { 0 };

    jinja_array_add(p->j, &items, first);
    while (*separator == '~' ? jinja_skip_op(p, separator) : jinja_skip_name(p, separator))
        jinja_array_add(p->j, &items, next(p));
    if (items.n < 2 || jinja_failed(p->j))
        return first;
    e = new_expr(p, kind);
    e->line = first->line;
    set_items(e, &items);
    return e;
}

static struct jinja_expr *parse_concat(struct jinja_parser *p)
{
    return parse_row(p, EXPR_CONCAT, "~", parse_product);
}

static struct jinja_expr *parse_sum(struct jinja_parser *p)
{
    static const char *const names[] = { "+", "-", NULL };
    static const enum jinja_op ops[] = { JINJA_ADD, JINJA_SUB };
    return parse_chain(p, names, ops, parse_concat);
}

/* The comparison operator here, taken from the tokens; false: none. */
static bool take_comparison(struct jinja_parser *p, const enum jinja_op **op)
{
    static const struct { const char *text; enum jinja_op op; } table[] = {
        { "==", JINJA_EQ }, { "!=", JINJA_NE }, { "<", JINJA_LT }, { "<=", JINJA_LE }, { ">", JINJA_GT }, { ">=", JINJA_GE },
    };
    static const enum jinja_op in = JINJA_IN, not_in = JINJA_NOT_IN;

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (jinja_skip_op(p, table[i].text)) {
            *op = &table[i].op;
            return true;
        }
    }
    if (jinja_skip_name(p, "in")) {
        *op = &in;
        return true;
    }
    if (jinja_at_name(p, "not") && p->ahead.kind == TOKEN_NAME && jinja_text_is(p->ahead.value.u.string, "in")) {
        jinja_advance(p);
        jinja_advance(p);
        *op = &not_in;
        return true;
    }
    return false;
}

static struct jinja_expr *parse_comparison(struct jinja_parser *p)
{
    struct jinja_expr *first = parse_sum(p), *e;
    struct jinja_array items = { 0 }, found = { 0 };
    const enum jinja_op *op;

    while (!jinja_failed(p->j) && take_comparison(p, &op)) {
        jinja_array_add(p->j, &found, (void *)(uintptr_t)op);
        jinja_array_add(p->j, &items, parse_sum(p));
    }
    if (!items.n || jinja_failed(p->j))
        return first;
    e = new_expr(p, EXPR_COMPARE);
    enum jinja_op *list = jinja_alloc_array(p->j, items.n, sizeof(*list));
    if (!list)
        return first;
    for (size_t i = 0; i < items.n; i++)
        list[i] = *(const enum jinja_op *)found.items[i];
    e->line = first->line;
    e->first = first;
    e->ops = list;
    set_items(e, &items);
    return e;
}

static struct jinja_expr *parse_not(struct jinja_parser *p)
{
    struct jinja_expr *e;
    int n = 0;

    while (jinja_at_name(p, "not")) {
        jinja_advance(p);
        n++;
    }
    e = parse_comparison(p);
    for (int i = 0; i < (n > 1 ? 2 - n % 2 : n); i++) {      /* not not x is a bool; more of them change nothing */
        struct jinja_expr *outer = new_expr(p, EXPR_NOT);
        outer->first = e;
        e = outer;
    }
    return e;
}

static struct jinja_expr *parse_and(struct jinja_parser *p)
{
    return parse_row(p, EXPR_AND, "and", parse_not);
}

static struct jinja_expr *parse_or(struct jinja_parser *p)
{
    return parse_row(p, EXPR_OR, "or", parse_and);
}

struct jinja_expr *jinja_parse_expression(struct jinja_parser *p)
{
    int depth = p->j->depth;
    struct jinja_expr *value, *e;

    if (!jinja_enter(p))
        return new_expr(p, EXPR_CONST);
    value = parse_or(p);
    while (jinja_skip_name(p, "if") && jinja_enter(p)) {
        e = new_expr(p, EXPR_CONDITION);
        e->first = value;
        e->condition = parse_or(p);
        if (jinja_skip_name(p, "else"))
            e->otherwise = jinja_parse_expression(p);
        value = e;
    }
    p->j->depth = depth;
    return value;
}

struct jinja_expr *jinja_parse_tuple(struct jinja_parser *p, bool condition_allowed)
{
    struct jinja_expr *first, *e;
    struct jinja_array items = { 0 };
    int depth = p->j->depth;

    if (!jinja_enter(p))
        return new_expr(p, EXPR_CONST);
    first = condition_allowed ? jinja_parse_expression(p) : parse_or(p);
    jinja_array_add(p->j, &items, first);
    if (!jinja_at_op(p, ",")) {
        p->j->depth = depth;
        return first;
    }
    e = new_expr(p, EXPR_TUPLE);
    while (!jinja_failed(p->j) && jinja_skip_op(p, ",")) {
        if (jinja_at_op(p, ")") || p->now.kind == TOKEN_BLOCK_END || p->now.kind == TOKEN_OUTPUT_END)
            break;
        jinja_array_add(p->j, &items, condition_allowed ? jinja_parse_expression(p) : parse_or(p));
    }
    set_items(e, &items);
    p->j->depth = depth;
    return e;
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
    e = new_expr(p, EXPR_POSTFIX);
    e->steps = (struct jinja_step **)steps.items;
    e->n = steps.n;
    return e;
}
