#include "server/grammar.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x66773167, HASH_SLOTS = 1 << 17, MAX_PASSES = 300, NO_WAY = 255 };

_Static_assert(sizeof(struct grammar_node) == 6, "nodes lie packed in the table");
_Static_assert((int)GRAMMAR_MAX_DEPTH < (int)NO_WAY, "a need fits a byte");

const struct byte_set *grammar_sets(const struct grammar *g)
{
    return (const struct byte_set *)(g + 1);
}

const struct grammar_node *grammar_nodes(const struct grammar *g)
{
    return (const struct grammar_node *)(grammar_sets(g) + g->n_sets);
}

static size_t bytes_of(size_t n_sets, size_t n_nodes)
{
    return (sizeof(struct grammar) + n_sets * sizeof(struct byte_set) + n_nodes * sizeof(struct grammar_node) + 7) / 8 * 8;
}

void byte_set_add(struct byte_set *s, uint8_t least, uint8_t most)
{
    for (unsigned c = least; c <= most; c++)
        s->bits[c >> 6] |= (uint64_t)1 << (c & 63);
}

int grammar_begin(struct grammar_builder *b)
{
    *b = (struct grammar_builder){ .n_nodes = 1 };
    b->nodes = calloc(GRAMMAR_MAX_NODES, sizeof(*b->nodes));
    b->sets = calloc(GRAMMAR_MAX_SETS, sizeof(*b->sets));
    b->index = calloc(HASH_SLOTS, sizeof(*b->index));
    return b->nodes && b->sets && b->index ? 0 : -ENOMEM;
}

void grammar_abandon(struct grammar_builder *b)
{
    free(b->nodes);
    free(b->sets);
    free(b->index);
    *b = (struct grammar_builder){ .nodes = NULL };
}

static uint16_t append(struct grammar_builder *b, struct grammar_node node)
{
    if (b->error)
        return 0;
    if (b->n_nodes == GRAMMAR_MAX_NODES) {
        b->error = "it is too large: its automaton has more than 65535 nodes";
        return 0;
    }
    b->nodes[b->n_nodes] = node;
    return (uint16_t)b->n_nodes++;
}

/* The node, which may be there already. */
static uint16_t intern(struct grammar_builder *b, struct grammar_node node)
{
    uint64_t key = (uint64_t)node.op << 40 | (uint64_t)node.set << 32 | (uint64_t)node.a << 16 | node.b;
    size_t at = (size_t)(key * 0x9e3779b97f4a7c15u >> 40) % HASH_SLOTS;

    for (; b->index[at]; at = (at + 1) % HASH_SLOTS) {
        const struct grammar_node *other = &b->nodes[b->index[at]];
        if (memcmp(other, &node, sizeof(node)) == 0)
            return (uint16_t)b->index[at];
    }
    uint16_t id = append(b, node);
    b->index[at] = id;
    return id;
}

uint16_t grammar_set(struct grammar_builder *b, const struct byte_set *set, uint16_t next)
{
    size_t i;

    for (i = 0; i < b->n_sets && memcmp(&b->sets[i], set, sizeof(*set)) != 0; i++)
        ;
    if (i == b->n_sets) {
        if (b->n_sets == GRAMMAR_MAX_SETS) {
            b->error = b->error ? b->error : "it is too large: it tells more than 255 sets of bytes apart";
            return 0;
        }
        b->sets[b->n_sets++] = *set;
    }
    return intern(b, (struct grammar_node){ .op = GRAMMAR_OP_BYTE, .set = (uint8_t)i, .a = next });
}

uint16_t grammar_range(struct grammar_builder *b, uint8_t least, uint8_t most, uint16_t next)
{
    struct byte_set set = { { 0 } };

    byte_set_add(&set, least, most);
    return grammar_set(b, &set, next);
}

uint16_t grammar_text(struct grammar_builder *b, const char *text, size_t n, uint16_t next)
{
    while (n-- > 0)
        next = grammar_range(b, (uint8_t)text[n], (uint8_t)text[n], next);
    return next;
}

uint16_t grammar_split(struct grammar_builder *b, uint16_t x, uint16_t y)
{
    return x == y ? x : intern(b, (struct grammar_node){ .op = GRAMMAR_OP_SPLIT, .a = x, .b = y });
}

uint16_t grammar_call(struct grammar_builder *b, uint16_t rule, uint16_t next)
{
    return intern(b, (struct grammar_node){ .op = GRAMMAR_OP_CALL, .a = rule, .b = next });
}

uint16_t grammar_later(struct grammar_builder *b)
{
    return append(b, (struct grammar_node){ .op = GRAMMAR_OP_SPLIT });
}

void grammar_define(struct grammar_builder *b, uint16_t later, uint16_t start)
{
    if (!b->error)
        b->nodes[later] = (struct grammar_node){ .op = GRAMMAR_OP_SPLIT, .a = start, .b = start };
}

int grammar_finish(struct grammar_builder *b, uint16_t start, struct grammar **out, const char **why)
{
    *out = NULL;
    *why = b->error;
    if (b->error)
        return -EINVAL;
    const size_t n_bytes = bytes_of(b->n_sets, b->n_nodes);
    struct grammar *g = calloc(1, n_bytes);
    if (!g)
        return -ENOMEM;
    *g = (struct grammar){ .magic = MAGIC, .n_bytes = (uint32_t)n_bytes, .n_nodes = (uint32_t)b->n_nodes,
                           .n_sets = (uint32_t)b->n_sets, .start = start, .letter = b->letter };
    memcpy(g + 1, b->sets, b->n_sets * sizeof(*b->sets));
    memcpy((struct byte_set *)(g + 1) + b->n_sets, b->nodes, b->n_nodes * sizeof(*b->nodes));
    *why = grammar_check(g, n_bytes);
    if (*why) {
        free(g);
        return -EINVAL;
    }
    *out = g;
    return 0;
}

static uint8_t least(uint8_t x, uint8_t y)
{
    return x < y ? x : y;
}

/* The least over all ways; values only fall, and a pass in order of ids meets most successors first, as they were built first. */
bool grammar_needs(const struct grammar *g, uint8_t *need)
{
    const struct grammar_node *nodes = grammar_nodes(g);
    bool changed = true;

    memset(need, NO_WAY, g->n_nodes);
    for (int pass = 0; changed; pass++) {
        if (pass == MAX_PASSES)
            return false;
        changed = false;
        for (size_t i = 0; i < g->n_nodes; i++) {
            const struct grammar_node *n = &nodes[i];
            uint8_t value = 0;
            if (n->op == GRAMMAR_OP_BYTE) {
                value = need[n->a];
            } else if (n->op == GRAMMAR_OP_SPLIT) {
                value = least(need[n->a], need[n->b]);
            } else if (n->op == GRAMMAR_OP_CALL) {
                /* What follows a call at the end of a rule needs no place on the stack. */
                const uint8_t inner = need[n->a] == NO_WAY ? NO_WAY : (uint8_t)(need[n->a] + (n->b != GRAMMAR_RETURN));
                value = inner > need[n->b] ? inner : need[n->b];
            }
            if (value > GRAMMAR_MAX_DEPTH)
                value = NO_WAY;
            changed |= value < need[i];
            need[i] = least(need[i], value);
        }
    }
    return true;
}

/* empty[i]: the end of the rule can be reached without a byte. */
static bool find_empty(const struct grammar *g, uint8_t *empty)
{
    const struct grammar_node *nodes = grammar_nodes(g);
    bool changed = true;

    memset(empty, 0, g->n_nodes);
    for (int pass = 0; changed; pass++) {
        if (pass == MAX_PASSES)
            return false;
        changed = false;
        for (size_t i = 0; i < g->n_nodes; i++) {
            const struct grammar_node *n = &nodes[i];
            const bool now = n->op == GRAMMAR_OP_RETURN || (n->op == GRAMMAR_OP_SPLIT && (empty[n->a] || empty[n->b])) ||
                             (n->op == GRAMMAR_OP_CALL && empty[n->a] && empty[n->b]);
            changed |= now && !empty[i];
            empty[i] |= now;
        }
    }
    return true;
}

/* Does a node lead to itself without a byte? Depth first, with the path in `stack`: 2 bits of progress in `state`. */
static bool has_loop(const struct grammar *g, const uint8_t *empty, uint8_t *state, uint16_t *stack)
{
    enum { NEW, FIRST, SECOND, DONE };
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
            if (state[next] != NEW)
                return true;
            stack[depth++] = (uint16_t)next;
        }
    }
    return false;
}

static const char *check_meaning(const struct grammar *g)
{
    uint8_t *work = malloc(2 * (size_t)g->n_nodes + (size_t)g->n_nodes * sizeof(uint16_t) + 2);
    const char *why = NULL;

    if (!work)
        return "there is no memory to check it";
    uint8_t *empty = work, *state = work + g->n_nodes;
    uint16_t *stack = (uint16_t *)(void *)(work + (2 * (size_t)g->n_nodes + 1) / 2 * 2);
    if (!find_empty(g, empty))
        why = "its references are too entangled";
    else if (has_loop(g, empty, state, stack))
        why = "a reference leads back to itself without a value between";
    else if (!grammar_needs(g, state))
        why = "its references are too entangled";
    else if (state[g->start] > GRAMMAR_MAX_DEPTH)
        why = "no text satisfies it within 64 levels of rules";
    free(work);
    return why;
}

const char *grammar_check(const void *table, size_t n_bytes)
{
    const struct grammar *g = table;

    if (n_bytes < sizeof(*g) || g->magic != MAGIC || g->n_bytes != n_bytes || g->n_nodes < 1 || g->n_nodes > GRAMMAR_MAX_NODES ||
        g->n_sets > GRAMMAR_MAX_SETS || bytes_of(g->n_sets, g->n_nodes) != n_bytes || g->start >= g->n_nodes ||
        g->letter >= g->n_nodes)
        return "it is not a table of this version";
    const struct grammar_node *nodes = grammar_nodes(g);
    for (size_t i = 0; i < g->n_nodes; i++)
        if (nodes[i].op > GRAMMAR_OP_CALL || (nodes[i].op == GRAMMAR_OP_RETURN) != (i == GRAMMAR_RETURN) ||
            nodes[i].a >= g->n_nodes || nodes[i].b >= g->n_nodes || (nodes[i].op == GRAMMAR_OP_BYTE && nodes[i].set >= g->n_sets))
            return "it is not a table of this version";
    return check_meaning(g);
}
