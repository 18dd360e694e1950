/*
 * template_expression.c - operands to expressions, with the precedence of jinja2's parser, from which this takes its shape.
 */
#include "weights/template_internal.h"

static struct jinja_expr *parse_or(struct jinja_parser *p);

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
    e = jinja_new_expr(p, EXPR_ARITHMETIC);
    enum jinja_op *list = jinja_alloc_array(p->j, items.n, sizeof(*list));
    if (!list)
        return first;
    for (size_t i = 0; i < items.n; i++)
        list[i] = *(const enum jinja_op *)found.items[i];
    e->line = first->line;
    e->first = first;
    e->ops = list;
    jinja_set_items(e, &items);
    return e;
}

static struct jinja_expr *parse_power(struct jinja_parser *p)
{
    static const char *const names[] = { "**", NULL };
    static const enum jinja_op ops[] = { JINJA_POW };
    return parse_chain(p, names, ops, jinja_parse_operand);
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
    e = jinja_new_expr(p, kind);
    e->line = first->line;
    jinja_set_items(e, &items);
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
    e = jinja_new_expr(p, EXPR_COMPARE);
    enum jinja_op *list = jinja_alloc_array(p->j, items.n, sizeof(*list));
    if (!list)
        return first;
    for (size_t i = 0; i < items.n; i++)
        list[i] = *(const enum jinja_op *)found.items[i];
    e->line = first->line;
    e->first = first;
    e->ops = list;
    jinja_set_items(e, &items);
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
        struct jinja_expr *outer = jinja_new_expr(p, EXPR_NOT);
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
        return jinja_new_expr(p, EXPR_CONST);
    value = parse_or(p);
    while (jinja_skip_name(p, "if") && jinja_enter(p)) {
        e = jinja_new_expr(p, EXPR_CONDITION);
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
        return jinja_new_expr(p, EXPR_CONST);
    first = condition_allowed ? jinja_parse_expression(p) : parse_or(p);
    jinja_array_add(p->j, &items, first);
    if (!jinja_at_op(p, ",")) {
        p->j->depth = depth;
        return first;
    }
    e = jinja_new_expr(p, EXPR_TUPLE);
    while (!jinja_failed(p->j) && jinja_skip_op(p, ",")) {
        if (jinja_at_op(p, ")") || p->now.kind == TOKEN_BLOCK_END || p->now.kind == TOKEN_OUTPUT_END)
            break;
        jinja_array_add(p->j, &items, condition_allowed ? jinja_parse_expression(p) : parse_or(p));
    }
    jinja_set_items(e, &items);
    p->j->depth = depth;
    return e;
}
