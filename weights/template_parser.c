/*
 * template_parser.c - tokens to statements.
 */
#include "weights/template_internal.h"

#include <string.h>

#include <xxhash.h>

/* Variable names, each once; open addressing. The numbers index the globals of a render. */
struct jinja_names {
    const struct jinja_string **by_id;
    int n, cap;
    int *slots;                 /* id + 1; 0: free */
    size_t n_slots;             /* power of two, more than twice n */
};

static bool grow_names(struct jinja_parser *p, struct jinja_names *names)
{
    size_t n_slots = names->n_slots ? names->n_slots * 2 : 64;
    int *slots = jinja_alloc_array(p->j, n_slots, sizeof(*slots));
    const struct jinja_string **by_id = jinja_alloc_array(p->j, n_slots / 2, sizeof(*by_id));

    if (!slots || !by_id)
        return false;
    for (int i = 0; i < names->n; i++) {
        size_t at = XXH3_64bits(names->by_id[i]->at, names->by_id[i]->n) & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = i + 1;
        by_id[i] = names->by_id[i];
    }
    names->slots = slots;
    names->n_slots = n_slots;
    names->by_id = by_id;
    names->cap = (int)(n_slots / 2);
    return true;
}

int jinja_name_id(struct jinja_parser *p, const struct jinja_string *name)
{
    struct jinja_names *names = p->names;

    if (!names && !(names = p->names = jinja_alloc(p->j, sizeof(*names))))
        return 0;
    if (names->n == names->cap && !grow_names(p, names))
        return 0;
    size_t at = XXH3_64bits(name->at, name->n) & (names->n_slots - 1);
    while (names->slots[at]) {
        int id = names->slots[at] - 1;
        if (jinja_same_text(names->by_id[id], name))
            return id;
        at = (at + 1) & (names->n_slots - 1);
    }
    names->slots[at] = names->n + 1;
    names->by_id[names->n] = name;
    return names->n++;
}

void jinja_take_names(struct jinja_parser *p, struct chat_template *t)
{
    if (!p->names)
        return;
    t->names = p->names->by_id;
    t->n_names = p->names->n;
    t->functions = jinja_alloc_array(p->j, (size_t)t->n_names, sizeof(*t->functions));
    for (int i = 0; t->functions && i < t->n_names; i++)
        t->functions[i] = jinja_find_builtin(jinja_functions, t->names[i]);
}

static struct jinja_stmt *new_stmt(struct jinja_parser *p, enum jinja_stmt_kind kind)
{
    struct jinja_stmt *s = jinja_alloc(p->j, sizeof(*s));

    if (!s)
        s = &p->spare_stmt;
    s->kind = kind;
    s->line = p->now.line;
    return s;
}

static void expect_kind(struct jinja_parser *p, enum jinja_token_kind kind, const char *what)
{
    if (p->now.kind == kind)
        jinja_advance(p);
    else
        jinja_fail_token(p, what);
}

static bool is_constant(const struct jinja_string *name)
{
    static const char *const words[] = { "true", "false", "none", "True", "False", "None" };

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (jinja_text_is(name, words[i]))
            return true;
    return false;
}

/* A variable that gets a value. NULL: failed. */
static struct jinja_target *parse_variable(struct jinja_parser *p)
{
    struct jinja_target *t = jinja_alloc(p->j, sizeof(*t));
    int line = p->now.line;
    const struct jinja_string *name = jinja_expect_any_name(p);
    if (!t || !name)
        return NULL;
    if (is_constant(name)) {
        jinja_fail(p->j, "cannot assign to \"%.*s\"", (int)name->n, name->at);
        return NULL;
    }
    t->line = line;
    t->name = name;
    t->id = jinja_name_id(p, name);
    return t;
}

static struct jinja_target *parse_targets(struct jinja_parser *p, bool attributes);

/* name, namespace.name or (targets) */
static struct jinja_target *parse_target(struct jinja_parser *p, bool attributes)
{
    struct jinja_target *t = NULL;

    if (!jinja_skip_op(p, "(")) {
        t = parse_variable(p);
        if (t && attributes && jinja_skip_op(p, "."))
            t->attribute = jinja_expect_any_name(p);
    } else if (jinja_enter(p)) {
        t = parse_targets(p, attributes);
        p->j->depth--;
        jinja_expect_op(p, ")");
    }
    return t;
}

static struct jinja_target *parse_targets(struct jinja_parser *p, bool attributes)
{
    struct jinja_target *first = parse_target(p, attributes), *t;
    struct jinja_array items = { 0 };

    if (!jinja_at_op(p, ",") || jinja_failed(p->j))
        return first;
    jinja_array_add(p->j, &items, first);
    while (!jinja_failed(p->j) && jinja_skip_op(p, ",")) {
        if (jinja_at_op(p, ")") || jinja_at_op(p, "=") || jinja_at_name(p, "in"))
            break;
        jinja_array_add(p->j, &items, parse_target(p, attributes));
    }
    t = jinja_alloc(p->j, sizeof(*t));
    if (t) {
        t->line = p->now.line;
        t->items = (struct jinja_target **)items.items;
        t->n = items.n;
    }
    return t;
}

static struct jinja_stmt *parse_statement(struct jinja_parser *p);

static bool at_any(const struct jinja_parser *p, const char *const *names)
{
    for (size_t i = 0; names && names[i]; i++)
        if (jinja_at_name(p, names[i]))
            return true;
    return false;
}

/* Statements up to a tag named in `ends` (NULL: the end of the template), whose name is then the current token. */
static struct jinja_stmt *parse_body(struct jinja_parser *p, const char *const *ends)
{
    struct jinja_stmt *first = NULL, **tail = &first;

    if (!jinja_enter(p))
        return NULL;
    while (!jinja_failed(p->j)) {
        struct jinja_stmt *s = NULL;
        if (p->now.kind == TOKEN_DATA) {
            s = new_stmt(p, STMT_DATA);
            s->text = p->now.value.u.string;
            jinja_advance(p);
        } else if (p->now.kind == TOKEN_OUTPUT_BEGIN) {
            s = new_stmt(p, STMT_OUTPUT);
            jinja_advance(p);
            s->expr = jinja_parse_tuple(p, true);
            expect_kind(p, TOKEN_OUTPUT_END, "'}}'");
        } else if (p->now.kind == TOKEN_BLOCK_BEGIN) {
            jinja_advance(p);
            if (at_any(p, ends))
                break;
            s = parse_statement(p);
            expect_kind(p, TOKEN_BLOCK_END, "'%}'");
        } else {
            if (ends) {
                char expected[40] = "tag \"";
                strncat(expected, ends[0], sizeof(expected) - strlen(expected) - 2);
                strcat(expected, "\"");
                jinja_fail_token(p, expected);
            }
            break;
        }
        if (s && !jinja_failed(p->j)) {
            *tail = s;
            tail = &s->next;
        }
    }
    p->j->depth--;
    return first;
}

/* The rest of an opening tag, then its body. */
static struct jinja_stmt *parse_tag_body(struct jinja_parser *p, const char *const *ends)
{
    jinja_skip_op(p, ":");
    expect_kind(p, TOKEN_BLOCK_END, "'%}'");
    return parse_body(p, ends);
}

static struct jinja_stmt *parse_simple_body(struct jinja_parser *p, const char *end)
{
    const char *const ends[] = { end, NULL };
    struct jinja_stmt *body = parse_tag_body(p, ends);

    jinja_advance(p);
    return body;
}

static void parse_if(struct jinja_parser *p, struct jinja_stmt *s)
{
    static const char *const ends[] = { "endif", "elif", "else", NULL };
    struct jinja_array branches = { 0 };

    while (!jinja_failed(p->j)) {
        struct jinja_branch *branch = jinja_alloc(p->j, sizeof(*branch));
        if (!branch)
            return;
        branch->condition = jinja_parse_tuple(p, false);
        branch->body = parse_tag_body(p, ends);
        jinja_array_add(p->j, &branches, branch);
        if (jinja_skip_name(p, "elif"))
            continue;
        if (jinja_skip_name(p, "else"))
            s->otherwise = parse_simple_body(p, "endif");
        else
            jinja_advance(p);
        break;
    }
    s->branches = (struct jinja_branch **)branches.items;
    s->n = branches.n;
}

static void parse_for(struct jinja_parser *p, struct jinja_stmt *s)
{
    static const char *const ends[] = { "endfor", "else", NULL };

    s->loop_id = jinja_name_id(p, jinja_string_literal(p->j, "loop"));
    s->target = parse_targets(p, false);
    if (!jinja_skip_name(p, "in"))
        jinja_fail_token(p, "\"in\"");
    s->expr = jinja_parse_tuple(p, false);
    if (jinja_skip_name(p, "if"))
        s->condition = jinja_parse_expression(p);
    if (jinja_at_name(p, "recursive"))
        jinja_fail(p->j, "unsupported loop modifier \"recursive\"");
    p->loops++;
    s->body = parse_tag_body(p, ends);
    p->loops--;
    if (jinja_skip_name(p, "else"))
        s->otherwise = parse_simple_body(p, "endfor");
    else
        jinja_advance(p);
}

static void parse_set(struct jinja_parser *p, struct jinja_stmt *s)
{
    s->target = parse_targets(p, true);
    if (jinja_skip_op(p, "=")) {
        s->expr = jinja_parse_tuple(p, true);
    } else {
        s->kind = STMT_CAPTURE;
        s->expr = jinja_parse_filters(p, false);
        s->body = parse_simple_body(p, "endset");
    }
}

static void parse_macro(struct jinja_parser *p, struct jinja_stmt *s)
{
    struct jinja_array params = { 0 }, defaults = { 0 };
    int loops = p->loops;
    bool in_macro = p->in_macro;

    s->text = jinja_expect_any_name(p);
    if (!s->text)
        return;
    s->target = jinja_alloc(p->j, sizeof(*s->target));
    if (s->target) {
        s->target->name = s->text;
        s->target->id = jinja_name_id(p, s->text);
    }
    jinja_expect_op(p, "(");
    while (!jinja_failed(p->j) && !jinja_at_op(p, ")")) {
        if (params.n)
            jinja_expect_op(p, ",");
        jinja_array_add(p->j, &params, parse_variable(p));
        struct jinja_expr *value = NULL;
        if (jinja_skip_op(p, "="))
            value = jinja_parse_expression(p);
        else if (defaults.n && defaults.items[defaults.n - 1])
            jinja_fail(p->j, "non-default argument follows default argument");
        jinja_array_add(p->j, &defaults, value);
    }
    jinja_expect_op(p, ")");
    p->loops = 0;
    p->in_macro = true;
    s->body = parse_simple_body(p, "endmacro");
    p->loops = loops;
    p->in_macro = in_macro;
    s->params = (struct jinja_target **)params.items;
    s->defaults = (struct jinja_expr **)defaults.items;
    s->n = params.n;
}

static void parse_with(struct jinja_parser *p, struct jinja_stmt *s)
{
    struct jinja_array targets = { 0 }, values = { 0 };

    while (!jinja_failed(p->j) && p->now.kind != TOKEN_BLOCK_END) {
        if (targets.n)
            jinja_expect_op(p, ",");
        jinja_array_add(p->j, &targets, parse_variable(p));
        jinja_expect_op(p, "=");
        jinja_array_add(p->j, &values, jinja_parse_expression(p));
    }
    s->body = parse_simple_body(p, "endwith");
    s->params = (struct jinja_target **)targets.items;
    s->defaults = (struct jinja_expr **)values.items;
    s->n = targets.n;
}

static void parse_filter_block(struct jinja_parser *p, struct jinja_stmt *s)
{
    s->expr = jinja_parse_filters(p, true);
    s->body = parse_simple_body(p, "endfilter");
}

/* The mark of assistant text for training: only its scope matters here. */
static void parse_generation(struct jinja_parser *p, struct jinja_stmt *s)
{
    s->body = parse_simple_body(p, "endgeneration");
}

static void parse_loop_control(struct jinja_parser *p, struct jinja_stmt *s)
{
    if (!p->loops)
        jinja_fail(p->j, "\"%s\" outside of a loop", s->kind == STMT_BREAK ? "break" : "continue");
}

static struct jinja_stmt *parse_statement(struct jinja_parser *p)
{
    static const struct {
        const char *name;
        enum jinja_stmt_kind kind;
        void (*parse)(struct jinja_parser *p, struct jinja_stmt *s);
    } tags[] = {
        { "if", STMT_IF, parse_if }, { "for", STMT_FOR, parse_for }, { "set", STMT_SET, parse_set },
        { "macro", STMT_MACRO, parse_macro }, { "filter", STMT_FILTER, parse_filter_block }, { "with", STMT_WITH, parse_with },
        { "generation", STMT_SCOPE, parse_generation },
        { "break", STMT_BREAK, parse_loop_control }, { "continue", STMT_CONTINUE, parse_loop_control },
    };
    static const char *const ends[] = {
        "endif", "elif", "else", "endfor", "endset", "endmacro", "endfilter", "endwith", "endgeneration", NULL
    };
    struct jinja_stmt *s = NULL;

    if (p->now.kind != TOKEN_NAME) {
        jinja_fail_token(p, "a tag name");
        return NULL;
    }
    for (size_t i = 0; i < sizeof(tags) / sizeof(*tags); i++) {
        if (!jinja_at_name(p, tags[i].name))
            continue;
        s = new_stmt(p, tags[i].kind);
        jinja_advance(p);
        if (!jinja_failed(p->j))
            tags[i].parse(p, s);
        return s;
    }
    const struct jinja_string *name = p->now.value.u.string;
    jinja_fail(p->j, "%s tag \"%.*s\"", at_any(p, ends) ? "unexpected" : "unsupported", (int)(name->n < 64 ? name->n : 64), name->at);
    return NULL;
}

struct jinja_stmt *jinja_parse_template(struct jinja_parser *p)
{
    jinja_advance(p);
    jinja_advance(p);
    return parse_body(p, NULL);
}
