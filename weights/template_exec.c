/*
 * template_exec.c - statements to output: scopes, loops, macros.
 *
 * A name means what jinja2 makes of it at compile time: the body of a loop, macro, set block or filter block has variables of
 * its own, an 'if' has not; a macro sees the variables around its definition, as they are when it runs.
 */
#include "weights/template_internal.h"

#include <string.h>

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

static enum flow exec_body(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *body);

/* ---- scopes and assignment ---- */

static void bind(struct jinja *j, struct jinja_scope *scope, int id, struct jinja_value v)
{
    if (!scope->parent) {
        j->globals[id] = v;
        return;
    }
    jinja_touch(j, (size_t)scope->n * 8);
    for (int i = 0; i < scope->n; i++) {
        if (scope->bindings[i].id == id) {
            scope->bindings[i].value = v;
            return;
        }
    }
    if (scope->n == scope->cap) {
        int cap = scope->cap ? scope->cap * 2 : 4;
        struct jinja_binding *bindings = jinja_alloc_array(j, (size_t)cap, sizeof(*bindings));
        if (!bindings)
            return;
        if (scope->n)
            memcpy(bindings, scope->bindings, (size_t)scope->n * sizeof(*bindings));
        scope->bindings = bindings;
        scope->cap = cap;
    }
    scope->bindings[scope->n++] = (struct jinja_binding){ id, v };
}

static void keep(struct jinja_scope *scope)
{
    for (; scope && !scope->kept; scope = scope->parent)
        scope->kept = true;
}

/* An empty scope in `*scope`: the one that is there if nobody refers to it. NULL: failed. */
static struct jinja_scope *fresh_scope(struct jinja *j, struct jinja_scope **scope, struct jinja_scope *parent)
{
    if (!*scope || (*scope)->kept)
        *scope = jinja_alloc(j, sizeof(**scope));
    if (*scope) {
        (*scope)->parent = parent;
        (*scope)->n = 0;
    }
    return jinja_failed(j) ? NULL : *scope;
}

/* The depth is that of the target's parentheses, which the parser has limited. */
static void assign(struct jinja *j, struct jinja_scope *scope, const struct jinja_target *t, struct jinja_value v)
{
    struct jinja_iter it;
    struct jinja_value item;
    size_t n = 0;

    if (jinja_failed(j))
        return;
    j->line = t->line;
    if (t->attribute) {
        struct jinja_value ns = jinja_lookup(j, scope, t->id, t->name);
        if (ns.kind == JINJA_NAMESPACE)
            jinja_dict_set(j, ns.u.dict, jinja_text(t->attribute), v);
        else
            jinja_fail(j, "cannot assign attribute on non-namespace object");
    } else if (!t->items) {
        bind(j, scope, t->id, v);
    } else if (jinja_iter_open(j, &it, v)) {
        while (n < t->n && jinja_iter_next(j, &it, &item))
            assign(j, scope, t->items[n++], item);
        if (n < t->n)
            jinja_fail(j, "not enough values to unpack (expected %zu, got %zu)", t->n, n);
        else if (jinja_iter_next(j, &it, &item))
            jinja_fail(j, "too many values to unpack (expected %zu)", t->n);
    }
}

/* ---- output ---- */

static void check_output(struct jinja *j)
{
    if (!j->captures && j->out->used > j->max_output)
        jinja_fail_limit(j, "output limit of %zu bytes reached", j->max_output);
}

struct capture { struct jinja_block *outer; };

static bool begin_capture(struct jinja *j, struct capture *c)
{
    struct jinja_block *b = jinja_block_new(j, 128);

    c->outer = j->out;
    if (!b)
        return false;
    j->out = b;
    j->captures++;
    return true;
}

static struct jinja_value end_capture(struct jinja *j, struct capture *c)
{
    struct jinja_value text = jinja_text(jinja_block_string(j, j->out));

    j->out = c->outer;
    j->captures--;
    return text;
}

/* ---- loops ---- */

/* The next item of the loop's source that its filter lets through. */
static bool next_item(struct jinja *j, struct jinja_loop *loop, struct jinja_value *item)
{
    struct jinja_scope *scope = NULL;

    if (loop->at_pending < loop->n_pending) {
        *item = loop->pending[loop->at_pending++];
        return true;
    }
    while (jinja_iter_next(j, &loop->source, item)) {
        if (!loop->stmt->condition)
            return true;
        if (!fresh_scope(j, &scope, loop->scope))
            return false;
        assign(j, scope, loop->stmt->target, *item);
        if (!jinja_failed(j) && jinja_is_true(jinja_eval(j, scope, loop->stmt->condition)))
            return !jinja_failed(j);
    }
    return false;
}

static bool peek_item(struct jinja *j, struct jinja_loop *loop)
{
    if (!loop->has_following)
        loop->has_following = next_item(j, loop, &loop->following);
    return loop->has_following;
}

static bool advance(struct jinja *j, struct jinja_loop *loop)
{
    struct jinja_value item;

    if (loop->has_following) {
        item = loop->following;
        loop->has_following = false;
    } else if (!next_item(j, loop, &item)) {
        return false;
    }
    loop->previous = loop->current;
    loop->current = item;
    loop->index0++;
    return true;
}

/* Without a filter the length is the source's; else all items are taken now. */
int64_t jinja_loop_length(struct jinja *j, struct jinja_loop *loop)
{
    size_t n;
    struct jinja_value item;

    if (loop->length >= 0)
        return loop->length;
    if (!loop->stmt->condition && jinja_length(j, loop->source.source, &n)) {
        loop->length = (int64_t)n;
        return loop->length;
    }
    struct jinja_list *rest = jinja_list_new(j, 0);
    size_t cap = 0;
    while (rest && next_item(j, loop, &item)) {
        if (rest->n == cap) {
            cap = cap ? cap * 2 : 16;
            struct jinja_value *items = jinja_alloc_array(j, cap, sizeof(*items));
            if (!items)
                break;
            if (rest->n)
                memcpy(items, rest->items, rest->n * sizeof(*items));
            rest->items = items;
        }
        rest->items[rest->n++] = item;
    }
    if (jinja_failed(j))
        return 0;
    loop->pending = rest->items;
    loop->n_pending = rest->n;
    loop->at_pending = 0;
    loop->length = loop->index0 + 1 + loop->has_following + (int64_t)rest->n;
    return loop->length;
}

struct jinja_value jinja_loop_attribute(struct jinja *j, struct jinja_loop *loop, const struct jinja_string *name)
{
    static const char *const names[] = {
        "index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "depth", "depth0"
    };
    size_t i = 0, n = sizeof(names) / sizeof(*names);

    while (i < n && !jinja_text_is(name, names[i]))
        i++;
    switch (i) {
    case 0: return jinja_int(loop->index0 + 1);
    case 1: return jinja_int(loop->index0);
    case 2: return jinja_int(jinja_loop_length(j, loop) - loop->index0);
    case 3: return jinja_int(jinja_loop_length(j, loop) - loop->index0 - 1);
    case 4: return jinja_bool(loop->index0 == 0);
    case 5: return jinja_bool(!peek_item(j, loop));
    case 6: return jinja_int(jinja_loop_length(j, loop));
    case 7: return loop->index0 > 0 ? loop->previous : jinja_nothing();
    case 8: return peek_item(j, loop) ? loop->following : jinja_nothing();
    case 9: return jinja_int(1);
    case 10: return jinja_int(0);
    default: return jinja_absent();
    }
}

static void exec_for(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *s)
{
    struct jinja_loop *loop = jinja_alloc(j, sizeof(*loop));
    struct jinja_scope *inner = NULL;
    struct jinja_value items = jinja_eval(j, scope, s->expr);
    enum flow flow = FLOW_NEXT;
    bool completed = false;

    if (jinja_failed(j))
        return;
    *loop = (struct jinja_loop){ .index0 = -1, .length = -1, .stmt = s, .scope = scope };
    if (!jinja_iter_open(j, &loop->source, items))
        return;
    while (flow != FLOW_BREAK && advance(j, loop)) {
        if (!fresh_scope(j, &inner, scope))
            return;
        bind(j, inner, s->loop_id, (struct jinja_value){ .kind = JINJA_LOOP, .u.loop = loop });
        assign(j, inner, s->target, loop->current);
        flow = exec_body(j, inner, s->body);
        completed |= flow == FLOW_NEXT;
    }
    /* jinja2 sets its mark of an iteration after the body, so an 'else' also runs if every body was left early */
    if (!completed && s->otherwise && fresh_scope(j, &inner, scope))
        exec_body(j, inner, s->otherwise);
}

/* ---- macros ---- */

static void exec_macro(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *s)
{
    struct jinja_macro *m = jinja_alloc(j, sizeof(*m));

    if (!m)
        return;
    *m = (struct jinja_macro){ s, scope };
    keep(scope);
    bind(j, scope, s->target->id, (struct jinja_value){ .kind = JINJA_MACRO, .u.macro = m });
}

/* The argument for parameter i: by position, else by name; ABSENT: none. Counts the named ones that found their parameter. */
static struct jinja_value macro_argument(const struct jinja_macro *m, const struct jinja_args *args, size_t i, size_t *n_named)
{
    if (i < args->n_positional)
        return args->positional[i];
    for (size_t k = 0; k < args->n_named; k++) {
        if (jinja_same_text(args->names[k], m->stmt->params[i]->name)) {
            ++*n_named;
            return args->named[k];
        }
    }
    return jinja_absent();
}

struct jinja_value jinja_call_macro(struct jinja *j, const struct jinja_macro *m, const struct jinja_args *args)
{
    const struct jinja_stmt *s = m->stmt;
    struct jinja_scope *scope = NULL;
    struct capture capture;
    size_t n_named = 0;

    if (args->n_positional > s->n)
        jinja_fail(j, "macro \"%.*s\" takes not more than %zu arguments", (int)s->text->n, s->text->at, s->n);
    if (!jinja_charge(j, s->n * args->n_named * 16) || !fresh_scope(j, &scope, m->scope))
        return jinja_none();
    for (size_t i = 0; i < s->n && !jinja_failed(j); i++) {
        struct jinja_value v = macro_argument(m, args, i, &n_named);
        if (v.kind == JINJA_ABSENT)         /* a default may use the parameters before it */
            v = s->defaults[i] ? jinja_eval(j, scope, s->defaults[i]) : jinja_undefined_name(j, s->params[i]->name);
        bind(j, scope, s->params[i]->id, v);
    }
    if (n_named < args->n_named)
        jinja_fail(j, "macro \"%.*s\" takes no keyword argument of that name", (int)s->text->n, s->text->at);
    if (jinja_failed(j) || !begin_capture(j, &capture))
        return jinja_none();
    exec_body(j, scope, s->body);
    return end_capture(j, &capture);
}

/* ---- statements ---- */

static enum flow exec_if(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *s)
{
    for (size_t i = 0; i < s->n; i++) {
        bool taken = jinja_is_true(jinja_eval(j, scope, s->branches[i]->condition));
        if (jinja_failed(j))
            return FLOW_NEXT;
        if (taken)
            return exec_body(j, scope, s->branches[i]->body);
    }
    return exec_body(j, scope, s->otherwise);
}

/* {% set x %}...{% endset %} and {% filter f %}...{% endfilter %}: a body's output, through filters. */
static enum flow exec_capture(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *s)
{
    struct jinja_scope *inner = NULL;
    struct capture capture;
    enum flow flow;

    if (!fresh_scope(j, &inner, scope) || !begin_capture(j, &capture))
        return FLOW_NEXT;
    flow = exec_body(j, inner, s->body);
    struct jinja_value text = end_capture(j, &capture);
    if (jinja_failed(j) || flow != FLOW_NEXT)
        return flow;
    if (s->expr)
        text = jinja_apply_steps(j, scope, s->expr, text);
    if (s->kind == STMT_CAPTURE) {
        assign(j, scope, s->target, text);
    } else if (!jinja_failed(j)) {
        jinja_print(j, j->out, text);
        check_output(j);
    }
    return FLOW_NEXT;
}

static enum flow exec_with(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *s)
{
    struct jinja_scope *inner = NULL;

    if (!fresh_scope(j, &inner, scope))
        return FLOW_NEXT;
    for (size_t i = 0; i < s->n && !jinja_failed(j); i++)
        bind(j, inner, s->params[i]->id, jinja_eval(j, scope, s->defaults[i]));
    return exec_body(j, inner, s->body);
}

static enum flow exec_stmt(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *s)
{
    struct jinja_value v;

    switch (s->kind) {
    case STMT_DATA:
        jinja_block_add_string(j, j->out, s->text);
        check_output(j);
        break;
    case STMT_OUTPUT:
        v = jinja_eval(j, scope, s->expr);
        if (!jinja_failed(j))
            jinja_print(j, j->out, v);
        check_output(j);
        break;
    case STMT_IF:
        return exec_if(j, scope, s);
    case STMT_FOR:
        exec_for(j, scope, s);
        break;
    case STMT_SET:
        v = jinja_eval(j, scope, s->expr);
        assign(j, scope, s->target, v);
        break;
    case STMT_CAPTURE:
    case STMT_FILTER:
        return exec_capture(j, scope, s);
    case STMT_MACRO:
        exec_macro(j, scope, s);
        break;
    case STMT_WITH:
    case STMT_SCOPE:
        return exec_with(j, scope, s);
    case STMT_BREAK:
        return FLOW_BREAK;
    case STMT_CONTINUE:
        return FLOW_CONTINUE;
    }
    return FLOW_NEXT;
}

static enum flow exec_body(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *body)
{
    enum flow flow = FLOW_NEXT;

    if (++j->depth > JINJA_MAX_DEPTH)
        jinja_fail_limit(j, "blocks and macro calls nested deeper than %d", JINJA_MAX_DEPTH);
    for (; body && flow == FLOW_NEXT && !jinja_failed(j); body = body->next) {
        j->line = body->line;
        if (jinja_charge(j, 0))
            flow = exec_stmt(j, scope, body);
    }
    j->depth--;
    return flow;
}

void jinja_exec(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *body)
{
    exec_body(j, scope, body);
}
