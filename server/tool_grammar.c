#include "server/tool_grammar.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * A finished grammar as a rule of the one that is built. Nodes refer to earlier ones, but for those of grammar_later: splits with two equal
 * ways. Equal nodes become one, so schemas share what they have in common: the characters of strings, numbers, any value.
 */
static int add_rule(struct grammar_builder *b, const struct grammar *g, uint16_t *rule)
{
    const struct grammar_node *nodes = grammar_nodes(g);
    uint16_t *map = calloc(g->n_nodes, sizeof(*map));

    if (!map)
        return -ENOMEM;
    for (size_t i = 1; i < g->n_nodes; i++) {
        const struct grammar_node *n = &nodes[i];
        const bool later = n->op == GRAMMAR_OP_SPLIT && n->a == n->b;
        assert(later || (n->a < i && n->b < i));
        if (n->op == GRAMMAR_OP_BYTE)
            map[i] = grammar_set(b, &grammar_sets(g)[n->set], map[n->a]);
        else if (n->op == GRAMMAR_OP_CALL)
            map[i] = grammar_call(b, map[n->a], map[n->b]);
        else
            map[i] = later ? grammar_later(b) : grammar_split(b, map[n->a], map[n->b]);
    }
    for (size_t i = 1; i < g->n_nodes; i++)
        if (nodes[i].op == GRAMMAR_OP_SPLIT && nodes[i].a == nodes[i].b)
            grammar_define(b, map[i], map[nodes[i].a]);
    if (!b->letter)
        b->letter = map[g->letter];
    *rule = map[g->start];
    free(map);
    return 0;
}

static uint16_t add_text(struct grammar_builder *b, const char *text, uint16_t next)
{
    return grammar_text(b, text, strlen(text), next);
}

/*
 * Any bytes up to the first `end`, then `next`: a node for each number of its bytes that were just read (Knuth, Morris, Pratt 1977). `end`
 * has no border but before its last byte: no proper start of it is also an end of it, as is true of markers that begin with < or [ and have
 * it nowhere else. So after a byte that does not fit, only its first byte may have been met anew.
 */
static uint16_t add_until(struct grammar_builder *b, const char *end, uint16_t next)
{
    const size_t n = strlen(end);
    const uint8_t first = (uint8_t)end[0];
    uint16_t states[32] = { 0 };

    assert(n <= sizeof(states) / sizeof(states[0]));
    for (size_t k = 0; k < n; k++)
        states[k] = grammar_later(b);
    for (size_t k = 0; k < n; k++) {
        const uint8_t wanted = (uint8_t)end[k];
        struct byte_set others = { { ~(uint64_t)0, ~(uint64_t)0, ~(uint64_t)0, ~(uint64_t)0 } };
        others.bits[first >> 6] &= ~((uint64_t)1 << (first & 63));
        others.bits[wanted >> 6] &= ~((uint64_t)1 << (wanted & 63));
        uint16_t way = grammar_range(b, wanted, wanted, k + 1 < n ? states[k + 1] : next);
        way = grammar_split(b, way, grammar_set(b, &others, states[0]));
        if (k)
            way = grammar_split(b, way, grammar_range(b, first, first, states[1]));
        grammar_define(b, states[k], way);
    }
    return states[0];
}

/* Up to two line breaks, as between reasoning and answer. */
static uint16_t add_breaks(struct grammar_builder *b, uint16_t next)
{
    const uint16_t one = grammar_split(b, grammar_range(b, '\n', '\n', next), next);

    return grammar_split(b, grammar_range(b, '\n', '\n', one), next);
}

/* One call, a rule; without its first `skip` bytes. */
static int add_call_rule(struct grammar_builder *b, const struct tool_grammar_wish *w, size_t skip, uint16_t *rule)
{
    struct buf tail = { 0 };
    int err = 0;

    tool_syntax_write_tail(w->syntax, &tail);
    for (size_t i = 0; i < w->n && !err; i++) {
        struct buf head = { 0 };
        uint16_t arguments = 0;
        tool_syntax_write_head(w->syntax, w->names[i], &head);
        err = head.failed || tail.failed ? -ENOMEM : add_rule(b, w->arguments[i], &arguments);
        if (!err) {
            const uint16_t after = grammar_text(b, tail.data ? tail.data : "", tail.len, GRAMMAR_RETURN);
            const uint16_t call = grammar_text(b, head.data + skip, head.len - skip, grammar_call(b, arguments, after));
            *rule = i ? grammar_split(b, *rule, call) : call;
        }
        buf_free(&head);
    }
    buf_free(&tail);
    return err;
}

static int add_answer(struct grammar_builder *b, const struct tool_grammar_wish *w, uint16_t *start)
{
    const struct tool_syntax *s = w->syntax;
    const size_t given = w->marker_given ? strlen(s->marker) : 0;
    const size_t skip_begin = given < strlen(s->begin) ? given : strlen(s->begin);
    uint16_t first = 0, call = 0, instead = 0;
    int err = add_call_rule(b, w, 0, &call);

    first = call;
    if (!err && given > skip_begin)
        err = add_call_rule(b, w, given - skip_begin, &first);
    if (!err && w->instead)
        err = add_rule(b, w->instead, &instead);
    if (err)
        return err;
    const uint16_t end = add_text(b, s->end, GRAMMAR_RETURN);
    uint16_t more = end;
    for (size_t i = 1; i < w->most_calls && s->between; i++)
        more = grammar_split(b, add_text(b, s->between, grammar_call(b, call, more)), end);
    *start = add_text(b, s->begin + skip_begin, grammar_call(b, first, more));
    if (w->instead)
        *start = grammar_split(b, *start, grammar_call(b, instead, GRAMMAR_RETURN));
    if (w->think) {
        const uint16_t thought = add_until(b, w->think->close, add_breaks(b, *start));
        *start = w->think_open ? thought : grammar_split(b, add_text(b, w->think->open, thought), *start);
    }
    return 0;
}

int tool_grammar_make(const struct tool_grammar_wish *w, struct grammar **g, const char **why)
{
    struct grammar_builder b;
    uint16_t start = 0;
    int err = grammar_begin(&b);

    *g = NULL;
    *why = NULL;
    if (!err)
        err = add_answer(&b, w, &start);
    if (!err)
        err = grammar_finish(&b, start, g, why);
    grammar_abandon(&b);
    return err;
}
