/*
 * grammar_check.c - what a table means: whether every node leads to an end, how deep the stack must be for it, and that no rule calls
 * itself before a byte. All of it in time linear in the nodes, however they refer to one another: tables come from strangers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/grammar.h"

enum { NO_WAY = 255 };

_Static_assert((int)GRAMMAR_MAX_DEPTH < (int)NO_WAY, "a need fits a byte");

/* Who refers to each node: users[first[i]] to users[first[i + 1]]. */
struct references { uint32_t *first; uint16_t *users; };

static void references_free(struct references *r)
{
    free(r->first);
    free(r->users);
}

static int references_create(struct references *r, const struct grammar *g)
{
    const struct grammar_node *nodes = grammar_nodes(g);

    r->first = calloc((size_t)g->n_nodes + 2, sizeof(*r->first));
    r->users = malloc(2 * (size_t)g->n_nodes * sizeof(*r->users));
    if (!r->first || !r->users)
        return -ENOMEM;
    for (size_t i = 1; i < g->n_nodes; i++) {
        r->first[nodes[i].a + 2]++;
        r->first[nodes[i].b + 2] += nodes[i].op != GRAMMAR_OP_BYTE;
    }
    for (size_t i = 2; i < (size_t)g->n_nodes + 2; i++)
        r->first[i] += r->first[i - 1];
    for (size_t i = 1; i < g->n_nodes; i++) {           /* first[i + 1] ends up where the users of i end */
        r->users[r->first[nodes[i].a + 1]++] = (uint16_t)i;
        if (nodes[i].op != GRAMMAR_OP_BYTE)
            r->users[r->first[nodes[i].b + 1]++] = (uint16_t)i;
    }
    return 0;
}

/* What node i needs, now that of those it refers to the known ones are; NO_WAY: not known. */
static uint8_t need_of(const struct grammar_node *n, const uint8_t *need)
{
    const uint8_t a = need[n->a], b = need[n->b];

    if (n->op == GRAMMAR_OP_BYTE)
        return a;
    if (n->op == GRAMMAR_OP_SPLIT)
        return a < b ? a : b;
    if (a == NO_WAY || b == NO_WAY)
        return NO_WAY;
    /* What follows a call at the end of a rule needs no place on the stack. */
    const uint8_t inner = (uint8_t)(a + (n->b != GRAMMAR_RETURN));
    return inner > b ? inner : b;
}

/*
 * From the end backwards, those of need 0 first, then those of 1: a node is settled once, at its least (D. Knuth, "A generalization of
 * Dijkstra's algorithm", 1977). A settled node makes users of its own need, or calls of one more: two lists are enough.
 */
static void settle(const struct grammar *g, const struct references *r, uint8_t *need, uint16_t *work)
{
    const struct grammar_node *nodes = grammar_nodes(g);
    uint16_t *now = work, *later = work + 2 * (size_t)g->n_nodes;
    size_t n_now = 0, n_later = 0;

    memset(need, NO_WAY, g->n_nodes);
    need[GRAMMAR_RETURN] = 0;
    now[n_now++] = GRAMMAR_RETURN;
    for (unsigned level = 0; level <= GRAMMAR_MAX_DEPTH && n_now; level++) {
        while (n_now) {
            const uint16_t node = now[--n_now];
            for (uint32_t i = r->first[node]; i < r->first[node + 1]; i++) {
                const uint16_t user = r->users[i];
                if (need[user] != NO_WAY)
                    continue;
                const uint8_t value = need_of(&nodes[user], need);
                if (value == level) {
                    need[user] = value;
                    now[n_now++] = user;
                } else if (value != NO_WAY) {
                    later[n_later++] = user;
                }
            }
        }
        for (size_t i = 0; i < n_later && level < GRAMMAR_MAX_DEPTH; i++) {
            if (need[later[i]] != NO_WAY)
                continue;
            need[later[i]] = (uint8_t)(level + 1);
            now[n_now++] = later[i];
        }
        n_later = 0;
    }
}

int grammar_needs(const struct grammar *g, uint8_t *need)
{
    struct references r = { NULL, NULL };
    uint16_t *work = malloc(4 * (size_t)g->n_nodes * sizeof(*work));
    int err = references_create(&r, g);

    if (!err && !work)
        err = -ENOMEM;
    if (!err)
        settle(g, &r, need, work);
    references_free(&r);
    free(work);
    return err;
}

/* empty[i]: the end of the rule can be reached without a byte. */
static void find_empty(const struct grammar *g, const struct references *r, uint8_t *empty, uint16_t *stack)
{
    const struct grammar_node *nodes = grammar_nodes(g);
    size_t depth = 0;

    memset(empty, 0, g->n_nodes);
    empty[GRAMMAR_RETURN] = 1;
    stack[depth++] = GRAMMAR_RETURN;
    while (depth) {
        const uint16_t node = stack[--depth];
        for (uint32_t i = r->first[node]; i < r->first[node + 1]; i++) {
            const struct grammar_node *n = &nodes[r->users[i]];
            if (empty[r->users[i]] || n->op == GRAMMAR_OP_BYTE || (n->op == GRAMMAR_OP_CALL && !(empty[n->a] && empty[n->b])))
                continue;
            empty[r->users[i]] = 1;
            stack[depth++] = r->users[i];
        }
    }
}

enum { NEW, FIRST, SECOND, DONE };      /* which edge of a node is being followed */

/*
 * Does a node lead to itself without a byte? Depth first, with the path in `stack`. NULL: none does. *culprit: a call on the way; where the
 * way enters no rule it only skips them, as a repeat of what may be empty does.
 */
static const char *find_loop(const struct grammar *g, const uint8_t *empty, uint8_t *state, uint16_t *stack, uint16_t *culprit)
{
    const struct grammar_node *nodes = grammar_nodes(g);

    memset(state, NEW, g->n_nodes);
    for (size_t root = 0; root < g->n_nodes; root++) {
        size_t depth = 0;
        if (state[root] != NEW)
            continue;
        stack[depth++] = (uint16_t)root;
        while (depth) {
            const uint16_t at = stack[depth - 1];
            const struct grammar_node *n = &nodes[at];
            int next = -1;
            state[at]++;
            if (state[at] == FIRST && n->op >= GRAMMAR_OP_SPLIT)
                next = n->a;
            else if (state[at] == SECOND && (n->op == GRAMMAR_OP_SPLIT || (n->op == GRAMMAR_OP_CALL && empty[n->a])))
                next = n->b;
            if (state[at] == DONE)
                depth--;
            if (next < 0 || state[next] == DONE)
                continue;
            if (state[next] == NEW) {
                stack[depth++] = (uint16_t)next;
                continue;
            }
            bool enters = false;
            do {
                depth--;
                const bool calls = nodes[stack[depth]].op == GRAMMAR_OP_CALL, now = calls && state[stack[depth]] == FIRST;
                if (calls && (now || !enters))
                    *culprit = stack[depth];
                enters |= now;
            } while (stack[depth] != next);
            return enters ? "a reference leads back to itself without a character between" : "what is repeated may be empty";
        }
    }
    return NULL;
}

const char *grammar_check_meaning(const struct grammar *g, uint16_t *culprit)
{
    static const char *const no_memory = "there is no memory to check it";
    uint8_t *bytes = malloc(2 * (size_t)g->n_nodes);
    uint16_t *work = malloc(4 * (size_t)g->n_nodes * sizeof(*work));
    struct references r = { NULL, NULL };
    const char *why = NULL;

    *culprit = 0;
    if (references_create(&r, g) || !bytes || !work) {
        why = no_memory;
    } else {
        uint8_t *empty = bytes, *state = bytes + g->n_nodes;
        find_empty(g, &r, empty, work);
        why = find_loop(g, empty, state, work, culprit);
        settle(g, &r, state, work);
        if (!why && state[g->start] > GRAMMAR_MAX_DEPTH)
            why = "no text satisfies it within 64 levels of rules";
    }
    references_free(&r);
    free(bytes);
    free(work);
    return why;
}

const char *grammar_check(const void *table, size_t n_bytes)
{
    const struct grammar *g = table;
    uint16_t culprit;

    if (n_bytes < sizeof(*g) || g->magic != GRAMMAR_MAGIC || g->n_bytes != n_bytes || g->n_nodes < 1 || g->n_nodes > GRAMMAR_MAX_NODES ||
        g->n_sets > GRAMMAR_MAX_SETS || grammar_bytes(g->n_sets, g->n_nodes) != n_bytes || g->start >= g->n_nodes ||
        g->letter >= g->n_nodes)
        return "it is not a table of this version";
    const struct grammar_node *nodes = grammar_nodes(g);
    for (size_t i = 0; i < g->n_nodes; i++)
        if (nodes[i].op > GRAMMAR_OP_CALL || (nodes[i].op == GRAMMAR_OP_RETURN) != (i == GRAMMAR_RETURN) ||
            nodes[i].a >= g->n_nodes || nodes[i].b >= g->n_nodes || (nodes[i].op == GRAMMAR_OP_BYTE && nodes[i].set >= g->n_sets))
            return "it is not a table of this version";
    return grammar_check_meaning(g, &culprit);
}
