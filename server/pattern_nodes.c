/*
 * pattern_nodes.c - a deterministic automaton over characters as nodes over bytes.
 *
 * ASCII, where it stands for itself, is one set of bytes for each two states; other characters are a rule for each set of them, called
 * wherever the set occurs, so that .{0,5000} takes three nodes a character.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/pattern_internal.h"

enum { MAX_WORDS = PATTERN_MAX_KINDS / 64 };

/* The characters that lead from one state to another, and their nodes. */
struct label {
    uint64_t kinds[MAX_WORDS];
    struct byte_set bytes;      /* those that are themselves */
    uint16_t rule;              /* of the others; 0: none */
    bool has_bytes;
};

struct visit { uint16_t state, kind; };

struct writer {
    struct automaton a;
    struct pattern *p;
    struct grammar_builder *b;
    bool as_json;
    uint16_t next;
    struct label *labels;
    size_t n_labels, label_room;
    struct code_range *ranges;  /* of a label at work */
    uint8_t *live, *done;       /* of states */
    uint16_t *start, *later;
    struct visit *stack;
    int err;
};

static bool is_plain(const struct writer *w, uint32_t code)
{
    return code < 0x80 && (!w->as_json || (code >= 0x20 && code < 0x7f && code != '"' && code != '\\'));
}

/* A character that JSON does not have as it is. U+0000 has no way: many programs refuse it, and other strings do not have it either. */
static uint16_t escape(struct writer *w, uint32_t code)
{
    static const char codes[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt", digits[] = "0123456789abcdef";
    const char *simple = strchr(codes, (int)code);

    if (simple)
        return grammar_text(w->b, (char[]){ '\\', letters[simple - codes] }, 2, GRAMMAR_RETURN);
    return grammar_text(w->b, (char[]){ '\\', 'u', '0', '0', digits[code >> 4], digits[code & 15] }, 6, GRAMMAR_RETURN);
}

static void fill_label(struct writer *w, struct label *l)
{
    const struct automaton *a = &w->a;
    uint16_t escapes = 0;
    size_t n = 0;

    for (size_t i = 0; i < a->n_intervals; i++) {
        const uint32_t end = a->cuts[i + 1];
        if (!(l->kinds[a->kind[i] / 64] >> (a->kind[i] & 63) & 1))
            continue;
        uint32_t code = a->cuts[i];
        for (; code < end && code < 0x80; code++) {
            if (is_plain(w, code)) {
                byte_set_add(&l->bytes, (uint8_t)code, (uint8_t)code);
                l->has_bytes = true;
            } else if (code == 0x7f) {
                w->ranges[n++] = (struct code_range){ code, code };
            } else if (code) {
                escapes = escapes ? grammar_split(w->b, escapes, escape(w, code)) : escape(w, code);
            }
        }
        if (code < end && n && w->ranges[n - 1].most + 1 == code)
            w->ranges[n - 1].most = end - 1;
        else if (code < end)
            w->ranges[n++] = (struct code_range){ code, end - 1 };
    }
    l->rule = escapes;
    if (n) {
        l->rule = grammar_characters(w->b, w->ranges, n, GRAMMAR_RETURN);
        l->rule = escapes ? grammar_split(w->b, l->rule, escapes) : l->rule;
    }
}

/* The label of these kinds, found or made; there are few. */
static const struct label *find_label(struct writer *w, const uint64_t *kinds)
{
    static const struct label none;

    for (size_t i = 0; i < w->n_labels; i++)
        if (memcmp(w->labels[i].kinds, kinds, sizeof(w->labels[i].kinds)) == 0)
            return &w->labels[i];
    w->p->work += w->a.n_intervals + 64 + w->n_labels * 8;
    if (w->n_labels == w->label_room) {
        const size_t room = w->label_room ? 2 * w->label_room : 16;
        void *more = realloc(w->labels, room * sizeof(*w->labels));
        if (!more) {
            w->err = -ENOMEM;
            return &none;
        }
        w->labels = more;
        w->label_room = room;
    }
    struct label *l = &w->labels[w->n_labels++];
    *l = (struct label){ .rule = 0 };
    memcpy(l->kinds, kinds, sizeof(l->kinds));
    fill_label(w, l);
    return l;
}

/* Kinds of which no character can be written lead nowhere. */
static void drop_kinds(struct writer *w)
{
    struct automaton *a = &w->a;

    for (size_t kind = 0; kind < a->n_kinds && w->as_json; kind++) {
        size_t n = 0;
        for (size_t i = 0; i < a->n_intervals && n < 2; i++)
            n += a->kind[i] == kind ? a->cuts[i + 1] - a->cuts[i] : 0;
        if (n == 1 && a->kind[0] == kind)               /* U+0000 alone */
            for (size_t state = 1; state < a->n_states; state++)
                a->next[state * a->n_kinds + kind] = 0;
    }
}

/* From which states the end can be reached. Successors mostly have higher numbers, so few passes are needed. */
static void find_live(struct writer *w)
{
    const struct automaton *a = &w->a;
    bool changed = true;

    while (changed && w->p->work <= PATTERN_MAX_WORK) {
        changed = false;
        for (size_t state = a->n_states; state-- > 1; ) {
            bool live = a->may_end[state];
            if (w->live[state])
                continue;
            for (size_t kind = 0; kind < a->n_kinds && !live; kind++)
                live = w->live[a->next[state * a->n_kinds + kind]];
            w->live[state] = live;
            changed |= live;
            w->p->work += a->n_kinds;
        }
    }
}

/* The node to go on with in a state that is written or will be. */
static uint16_t node_of(struct writer *w, uint16_t state)
{
    if (w->done[state] == 2)
        return w->start[state];
    if (!w->later[state])
        w->later[state] = grammar_later(w->b);
    return w->later[state];
}

static void write_state(struct writer *w, uint16_t state)
{
    const struct automaton *a = &w->a;
    const uint16_t *next = a->next + state * a->n_kinds;
    bool any = a->may_end[state];
    uint16_t ways = w->next;
    uint64_t written[MAX_WORDS] = { 0 };

    for (size_t kind = 0; kind < a->n_kinds && !w->err; kind++) {
        uint64_t kinds[MAX_WORDS] = { 0 };
        if (!w->live[next[kind]] || written[kind / 64] >> (kind & 63) & 1)
            continue;
        for (size_t k = kind; k < a->n_kinds; k++)
            kinds[k / 64] |= (uint64_t)(next[k] == next[kind]) << (k & 63);
        for (size_t i = 0; i < MAX_WORDS; i++)
            written[i] |= kinds[i];
        w->p->work += a->n_kinds - kind;
        const struct label *l = find_label(w, kinds);
        const uint16_t to = node_of(w, next[kind]);
        for (int part = 0; part < 2; part++) {
            if (part == 0 ? !l->has_bytes : !l->rule)
                continue;
            const uint16_t way = part == 0 ? grammar_set(w->b, &l->bytes, to) : grammar_call(w->b, l->rule, to);
            ways = any ? grammar_split(w->b, ways, way) : way;
            any = true;
        }
    }
    w->start[state] = ways;
    w->done[state] = 2;
    if (w->later[state])
        grammar_define(w->b, w->later[state], ways);
}

/* Depth first, so that what follows a state is mostly written before it, and equal ends become one. */
static void write_states(struct writer *w)
{
    const struct automaton *a = &w->a;
    size_t depth = 0;

    w->stack[depth++] = (struct visit){ 1, 0 };
    w->done[1] = 1;
    while (depth && !w->err && !w->b->error && w->p->work <= PATTERN_MAX_WORK) {
        struct visit *v = &w->stack[depth - 1];
        if (v->kind == a->n_kinds) {
            write_state(w, v->state);
            depth--;
            continue;
        }
        const uint16_t to = a->next[v->state * a->n_kinds + v->kind++];
        if (!w->live[to] || w->done[to])
            continue;
        w->done[to] = 1;
        w->stack[depth++] = (struct visit){ to, 0 };
    }
    w->p->work += a->n_states * a->n_kinds;
}

static void write_automaton(struct writer *w, uint32_t root)
{
    const size_t n = w->a.n_states;
    uint8_t *flags = calloc(2 * n, 1);
    uint16_t *nodes = calloc(2 * n, sizeof(*nodes));

    w->ranges = malloc((w->a.n_intervals + 2) * sizeof(*w->ranges));
    w->stack = malloc(n * sizeof(*w->stack));
    if (flags && nodes && w->ranges && w->stack) {
        w->live = flags;
        w->done = flags + n;
        w->start = nodes;
        w->later = nodes + n;
        drop_kinds(w);
        find_live(w);
        if (w->p->work <= PATTERN_MAX_WORK && !w->live[1])
            w->err = pattern_refuse(w->p, w->p->nodes[root].at, "no text matches it");
        else
            write_states(w);
        if (!w->err && w->p->work > PATTERN_MAX_WORK)
            w->err = pattern_refuse(w->p, w->p->nodes[root].at, "it is too large or too ambiguous: its automaton takes too long to build");
        w->next = w->start[1];
    } else {
        w->err = -ENOMEM;
    }
    free(flags);
    free(nodes);
    free(w->ranges);
    free(w->stack);
    free(w->labels);
}

uint16_t pattern_build(struct pattern *p, struct grammar_builder *b, uint32_t root, const struct pattern_use *use, uint16_t next)
{
    struct writer w = { .p = p, .b = b, .as_json = use->as_json, .next = next };

    w.err = automaton_create(&w.a, p, root, use);
    if (!w.err)
        write_automaton(&w, root);
    automaton_free(&w.a);
    p->no_memory |= w.err == -ENOMEM;
    return w.err || b->error ? 0 : w.next;
}
