#include "server/ebnf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

struct rule {
    uint32_t name, length;      /* in the source */
    uint32_t body;              /* of the tree; 0: not defined */
    uint16_t start;
};

struct compiler {
    struct pattern p;
    struct grammar_builder b;
    const char *text;
    size_t n, at;
    unsigned depth;
    struct rule rules[EBNF_MAX_RULES];
    size_t n_rules;
    uint32_t called_at[GRAMMAR_MAX_NODES];      /* where in the source a node calls a rule, plus 1 */
};

static bool failed(const struct compiler *c)
{
    return c->p.no_memory || *c->p.error.message;
}

static uint8_t peek(const struct compiler *c, size_t ahead)
{
    return c->n - c->at > ahead ? (uint8_t)c->text[c->at + ahead] : 0;
}

static bool take(struct compiler *c, const char *word)
{
    const size_t n = strlen(word);

    if (c->n - c->at < n || memcmp(c->text + c->at, word, n) != 0)
        return false;
    c->at += n;
    return true;
}

static size_t skip_space(const struct compiler *c, size_t at)
{
    for (; at < c->n; at++) {
        if (c->text[at] == '#')
            while (at + 1 < c->n && c->text[at] != '\n' && c->text[at] != '\r')
                at++;
        else if (!memchr(" \t\r\n", c->text[at], 4))
            break;
    }
    return at;
}

static size_t name_end(const struct compiler *c, size_t at)
{
    for (; at < c->n; at++) {
        const uint8_t byte = (uint8_t)c->text[at], lower = byte | 0x20;
        if (!((lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_'))
            break;
    }
    return at;
}

/* Does a definition begin here? */
static bool is_definition(const struct compiler *c)
{
    const size_t end = name_end(c, c->at), at = skip_space(c, end);

    return end > c->at && c->n - at >= 3 && memcmp(c->text + at, "::=", 3) == 0;
}

/* The number of the rule of this name, defined or not yet. */
static size_t find_rule(struct compiler *c, size_t name, size_t length)
{
    for (size_t i = 0; i < c->n_rules; i++)
        if (c->rules[i].length == length && memcmp(c->text + c->rules[i].name, c->text + name, length) == 0)
            return i;
    if (c->n_rules == EBNF_MAX_RULES) {
        pattern_refuse(&c->p, name, "a grammar may have at most %d rules", EBNF_MAX_RULES);
        return 0;
    }
    c->rules[c->n_rules] = (struct rule){ .name = (uint32_t)name, .length = (uint32_t)length };
    return c->n_rules++;
}

static uint32_t take_hex(struct compiler *c, size_t n)
{
    uint32_t code = 0;

    for (size_t i = 0; i < n; i++, c->at++) {
        const uint8_t byte = peek(c, 0), lower = byte | 0x20;
        if (!((byte >= '0' && byte <= '9') || (lower >= 'a' && lower <= 'f'))) {
            pattern_refuse(&c->p, c->at, "an escape needs %zu hexadecimal digits", n);
            return 0;
        }
        code = code * 16 + (byte <= '9' ? byte - (uint32_t)'0' : lower - 'a' + 10u);
    }
    return code;
}

/* A character of a literal or class. */
static uint32_t take_character(struct compiler *c)
{
    static const char names[] = "nrt\\\"[]", values[] = "\n\r\t\\\"[]";
    const size_t start = c->at;
    uint32_t code = 0;

    if (!take(c, "\\")) {
        const int length = utf8_decode(c->text + c->at, c->n - c->at, &code);
        c->at += length > 0 ? (size_t)length : 1;
        return code;
    }
    const char *simple = peek(c, 0) ? strchr(names, peek(c, 0)) : NULL;
    if (simple) {
        c->at++;
        return (uint8_t)values[simple - names];
    }
    const size_t n = take(c, "x") ? 2 : take(c, "u") ? 4 : take(c, "U") ? 8 : 0;
    code = n ? take_hex(c, n) : 0;
    if (!n)
        pattern_refuse(&c->p, start, "of escapes, \\n \\r \\t \\\\ \\\" \\[ \\] \\xHH \\uHHHH and \\UHHHHHHHH are supported");
    else if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        pattern_refuse(&c->p, start, "the escape stands for no character");
    return code;
}

static uint32_t parse_literal(struct compiler *c)
{
    const size_t start = c->at - 1;
    const uint32_t sequence = pattern_leaf(&c->p, PATTERN_SEQUENCE, start);

    while (!failed(c) && !take(c, "\"")) {
        const size_t at = c->at;
        if (c->at == c->n || peek(c, 0) == '\n')
            pattern_refuse(&c->p, start, "a literal without its closing quote");
        else
            pattern_append(&c->p, sequence, pattern_character(&c->p, take_character(c), at));
    }
    return pattern_simplify(&c->p, sequence);
}

static uint32_t parse_class(struct compiler *c)
{
    const size_t start = c->at - 1;
    const bool negated = take(c, "^");

    while (!failed(c) && !take(c, "]")) {
        const size_t at = c->at;
        if (c->at == c->n) {
            pattern_refuse(&c->p, start, "a class without its ]");
            return 0;
        }
        const uint32_t least = take_character(c);
        uint32_t most = least;
        if (peek(c, 0) == '-' && c->n - c->at > 1 && peek(c, 1) != ']') {
            c->at++;
            most = take_character(c);
        }
        if (most < least)
            pattern_refuse(&c->p, at, "a range in a class must go from one character up to another");
        pattern_range(&c->p, least, most);
    }
    return pattern_set(&c->p, negated, start);
}

static uint32_t parse_choice(struct compiler *c);

static uint32_t parse_group(struct compiler *c)
{
    const size_t start = c->at - 1;

    if (c->depth == PATTERN_MAX_DEPTH) {
        pattern_refuse(&c->p, start, "groups may be nested at most %d deep", PATTERN_MAX_DEPTH);
        return 0;
    }
    c->depth++;
    const uint32_t node = parse_choice(c);
    c->depth--;
    if (!take(c, ")"))
        pattern_refuse(&c->p, start, "a group without its )");
    return node;
}

static uint32_t parse_name(struct compiler *c)
{
    const size_t start = c->at;
    const uint32_t node = pattern_leaf(&c->p, PATTERN_RULE, start);

    c->at = name_end(c, start);
    if (c->at == start) {
        pattern_refuse(&c->p, start, "expected a literal, a class, a group, a dot or the name of a rule");
        return 0;
    }
    if (!c->p.no_memory)
        c->p.nodes[node].value = (uint32_t)find_rule(c, start, c->at - start);
    return node;
}

static uint32_t parse_one(struct compiler *c)
{
    if (take(c, "\""))
        return parse_literal(c);
    if (take(c, "["))
        return parse_class(c);
    if (take(c, "("))
        return parse_group(c);
    if (take(c, "."))
        return pattern_set(&c->p, true, c->at - 1);
    return parse_name(c);
}

static uint32_t take_count(struct compiler *c)
{
    const size_t start = c->at = skip_space(c, c->at);
    uint32_t count = 0;

    for (; peek(c, 0) >= '0' && peek(c, 0) <= '9' && count <= PATTERN_MAX_REPEAT; c->at++)
        count = 10 * count + (peek(c, 0) - '0');
    if (c->at == start)
        pattern_refuse(&c->p, start, "expected a number");
    else if (count > PATTERN_MAX_REPEAT)
        pattern_refuse(&c->p, start, "a repeat may be at most %d", PATTERN_MAX_REPEAT);
    c->at = skip_space(c, c->at);
    return count;
}

/* False: none here. */
static bool take_quantifier(struct compiler *c, uint32_t *least, uint32_t *most)
{
    const size_t start = c->at;

    *least = peek(c, 0) == '+';
    *most = peek(c, 0) == '?' ? 1 : PATTERN_NO_END;
    if (take(c, "*") || take(c, "+") || take(c, "?"))
        return true;
    if (!take(c, "{"))
        return false;
    *least = *most = take_count(c);
    if (take(c, ",")) {
        c->at = skip_space(c, c->at);
        *most = peek(c, 0) == '}' ? PATTERN_NO_END : take_count(c);
    }
    if (!take(c, "}"))
        pattern_refuse(&c->p, c->at, "expected a }");
    else if (*most < *least)
        pattern_refuse(&c->p, start, "a repeat whose least is above its most");
    return true;
}

static uint32_t parse_sequence(struct compiler *c)
{
    const uint32_t sequence = pattern_leaf(&c->p, PATTERN_SEQUENCE, c->at);
    uint32_t least, most;

    for (;;) {
        c->at = skip_space(c, c->at);
        if (failed(c) || c->at == c->n || peek(c, 0) == '|' || peek(c, 0) == ')' || is_definition(c))
            return pattern_simplify(&c->p, sequence);
        uint32_t one = parse_one(c);
        for (int i = 0; !failed(c); i++) {
            c->at = skip_space(c, c->at);
            const size_t at = c->at;
            if (!take_quantifier(c, &least, &most))
                break;
            if (i == PATTERN_MAX_DEPTH)         /* each is a level of the tree */
                pattern_refuse(&c->p, at, "more than %d repeats of one thing", PATTERN_MAX_DEPTH);
            one = pattern_repeat(&c->p, one, least, most, at);
        }
        if (!failed(c))
            pattern_append(&c->p, sequence, one);
    }
}

static uint32_t parse_choice(struct compiler *c)
{
    const uint32_t choice = pattern_leaf(&c->p, PATTERN_CHOICE, c->at);

    do {
        const uint32_t sequence = parse_sequence(c);
        if (!failed(c))
            pattern_append(&c->p, choice, sequence);
    } while (!failed(c) && take(c, "|"));
    return pattern_simplify(&c->p, choice);
}

static void parse(struct compiler *c)
{
    const size_t valid = utf8_check(c->text, c->n);

    if (c->n > EBNF_MAX_BYTES)
        pattern_refuse(&c->p, 0, "a grammar may have at most %d bytes", EBNF_MAX_BYTES);
    else if (valid < c->n)
        pattern_refuse(&c->p, valid, "it is not UTF-8");
    for (c->at = skip_space(c, 0); c->at < c->n && !failed(c); c->at = skip_space(c, c->at)) {
        const size_t name = c->at, end = name_end(c, name);
        if (!is_definition(c)) {
            pattern_refuse(&c->p, c->at, "expected a rule: name ::= ...");
            return;
        }
        const size_t i = find_rule(c, name, end - name);
        c->at = skip_space(c, end) + 3;
        if (!failed(c) && c->rules[i].body)
            pattern_refuse(&c->p, name, "the rule \"%.*s\" is defined twice", (int)(end - name < 60 ? end - name : 60), c->text + name);
        const uint32_t body = parse_choice(c);
        if (!failed(c))
            c->rules[i].body = body;
        if (!failed(c) && peek(c, 0) == ')')
            pattern_refuse(&c->p, c->at, "a ) without its (");
    }
}

static uint16_t build(struct compiler *c, uint32_t node, uint16_t next);

static uint16_t build_repeat(struct compiler *c, const struct pattern_node *n, uint16_t next)
{
    struct grammar_builder *b = &c->b;
    uint32_t least = n->least;
    uint16_t at = next;

    if (n->most == PATTERN_NO_END) {
        const uint16_t loop = grammar_later(b), body = build(c, n->last, loop);
        grammar_define(b, loop, grammar_split(b, body, next));
        at = least ? body : loop;
        least -= least > 0;
    } else {
        for (uint32_t i = least; i < n->most && !failed(c) && !b->error; i++)
            at = grammar_split(b, build(c, n->last, at), next);
    }
    for (uint32_t i = 0; i < least && !failed(c) && !b->error; i++)
        at = build(c, n->last, at);
    return at;
}

/* One text, or one of many that differ by single characters? */
static bool is_text(const struct compiler *c, uint32_t node)
{
    const struct pattern_node *n = &c->p.nodes[node];
    bool text = n->op == PATTERN_SET || n->op == PATTERN_SEQUENCE || n->op == PATTERN_EMPTY;

    for (uint32_t child = n->last; child && text; child = c->p.nodes[child].before)
        text = is_text(c, child);
    return text;
}

/* What calls no rule, with repeats or choices within, is an automaton of its own; text is written as it stands. */
static uint16_t build_regular(struct compiler *c, uint32_t node, uint16_t next)
{
    static const struct pattern_use all = { .most = SIZE_MAX };
    const struct pattern_node *n = &c->p.nodes[node];

    if (n->op == PATTERN_SET) {
        const struct pattern_set *s = &c->p.sets[n->value];
        c->p.work += 64 + s->n;
        return s->n ? grammar_characters(&c->b, c->p.ranges + s->first, s->n, next) : pattern_build(&c->p, &c->b, node, &all, next);
    }
    if (!is_text(c, node))
        return pattern_build(&c->p, &c->b, node, &all, next);
    for (uint32_t child = n->last; child && !failed(c) && !c->b.error; child = c->p.nodes[child].before)
        next = build_regular(c, child, next);
    return next;
}

static uint16_t build(struct compiler *c, uint32_t node, uint16_t next)
{
    const struct pattern_node *n = &c->p.nodes[node];
    uint16_t at = next;

    if (failed(c) || c->b.error)
        return 0;
    if (++c->p.work > PATTERN_MAX_WORK) {
        pattern_refuse(&c->p, n->at, "its automaton takes too long to build");
        return 0;
    }
    if (!n->has_rule)
        return build_regular(c, node, next);
    switch (n->op) {
    case PATTERN_SEQUENCE:
        for (uint32_t child = n->last; child; child = c->p.nodes[child].before)
            at = build(c, child, at);
        return at;
    case PATTERN_CHOICE:
        at = build(c, n->last, next);
        for (uint32_t child = c->p.nodes[n->last].before; child; child = c->p.nodes[child].before)
            at = grammar_split(&c->b, build(c, child, next), at);
        return at;
    case PATTERN_REPEAT:
        return build_repeat(c, n, next);
    default:
        at = grammar_call(&c->b, c->rules[n->value].start, next);
        if (!c->called_at[at])
            c->called_at[at] = n->at + 1;
        return at;
    }
}

static int build_all(struct compiler *c, struct grammar **g)
{
    const char *why = NULL;
    size_t root = EBNF_MAX_RULES;

    for (size_t i = 0; i < c->n_rules && !failed(c); i++) {
        const struct rule *r = &c->rules[i];
        if (!r->body)
            pattern_refuse(&c->p, r->name, "the rule \"%.*s\" is not defined", (int)(r->length < 60 ? r->length : 60), c->text + r->name);
        if (r->length == 4 && memcmp(c->text + r->name, "root", 4) == 0)
            root = i;
        c->rules[i].start = grammar_later(&c->b);
    }
    if (!failed(c) && root == EBNF_MAX_RULES)
        pattern_refuse(&c->p, c->n, "there is no rule \"root\"");
    for (size_t i = 0; i < c->n_rules && !failed(c) && !c->b.error; i++)
        grammar_define(&c->b, c->rules[i].start, build(c, c->rules[i].body, GRAMMAR_RETURN));
    if (failed(c))
        return c->p.no_memory ? -ENOMEM : -EINVAL;
    int err = grammar_finish(&c->b, c->rules[root].start, g, &why);
    if (err == -EINVAL)
        pattern_refuse(&c->p, c->called_at[c->b.culprit] ? c->called_at[c->b.culprit] - 1 : c->rules[root].name, "%s", why);
    return err;
}

int ebnf_compile(const char *text, size_t n, struct grammar **g, struct pattern_error *e)
{
    struct compiler *c = calloc(1, sizeof(*c));
    int err = -ENOMEM;

    *g = NULL;
    *e = (struct pattern_error){ .at = 0 };
    if (!c)
        return err;
    c->text = text;
    c->n = n;
    err = pattern_begin(&c->p);
    if (!err)
        err = grammar_begin(&c->b);
    if (!err) {
        parse(c);
        err = build_all(c, g);
    }
    if (err == -EINVAL) {
        size_t line = 1, column = 1;
        for (size_t i = 0; i < c->p.error.at && i < n; i++) {
            line += text[i] == '\n';
            column = text[i] == '\n' ? 1 : column + (((uint8_t)text[i] & 0xc0) != 0x80);
        }
        e->at = c->p.error.at;
        snprintf(e->message, sizeof(e->message), "line %zu, column %zu: %.150s", line, column, c->p.error.message);
    }
    grammar_abandon(&c->b);
    pattern_free(&c->p);
    free(c);
    return err;
}
