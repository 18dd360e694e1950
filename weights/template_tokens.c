/*
 * template_tokens.c - what both parts of the parser do with tokens: look, skip, expect, and say what was found instead.
 */
#include "weights/template_internal.h"

#include <stdio.h>
#include <string.h>

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
struct jinja_expr *jinja_new_expr(struct jinja_parser *p, enum jinja_expr_kind kind)
{
    struct jinja_expr *e = jinja_alloc(p->j, sizeof(*e));

    if (!e)
        e = &p->spare_expr;
    e->kind = kind;
    e->line = p->now.line;
    return e;
}

void jinja_set_items(struct jinja_expr *e, const struct jinja_array *a)
{
    e->items = (struct jinja_expr **)a->items;
    e->n = a->n;
}
