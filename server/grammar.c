#include "server/grammar.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HASH_SLOTS = 1 << 17 };

_Static_assert(sizeof(struct grammar_node) == 6, "nodes lie packed in the table");

const struct byte_set *grammar_sets(const struct grammar *g)
{
    return (const struct byte_set *)(g + 1);
}

const struct grammar_node *grammar_nodes(const struct grammar *g)
{
    return (const struct grammar_node *)(grammar_sets(g) + g->n_sets);
}

size_t grammar_bytes(size_t n_sets, size_t n_nodes)
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
    const size_t n_bytes = grammar_bytes(b->n_sets, b->n_nodes);
    struct grammar *g = calloc(1, n_bytes);
    if (!g)
        return -ENOMEM;
    *g = (struct grammar){ .magic = GRAMMAR_MAGIC, .n_bytes = (uint32_t)n_bytes, .n_nodes = (uint32_t)b->n_nodes,
                           .n_sets = (uint32_t)b->n_sets, .start = start, .letter = b->letter };
    memcpy(g + 1, b->sets, b->n_sets * sizeof(*b->sets));
    memcpy((struct byte_set *)(g + 1) + b->n_sets, b->nodes, b->n_nodes * sizeof(*b->nodes));
    *why = grammar_check_meaning(g, &b->culprit);
    if (*why) {
        free(g);
        return -EINVAL;
    }
    *out = g;
    return 0;
}
