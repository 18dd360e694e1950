/*
 * grammar.h - what an answer may consist of, as one flat table: a pushdown automaton over bytes.
 *
 * The front compiles a schema into it (schema.c), the engine copies it as bytes and runs it (matcher.c): no pointer inside, so
 * that it may cross into another process. Rules are built backwards: every function gets the node that follows and returns the one to begin
 * with, and equal nodes are one node, so that alternatives share what they end with. A rule ends with node 0, GRAMMAR_RETURN.
 *
 * Everything is bounded: nodes, sets of bytes and depth. A stack deeper than GRAMMAR_MAX_DEPTH cannot arise: a way that could not be
 * finished within it is no way (grammar_needs).
 */
#ifndef FOURWAY_SERVER_GRAMMAR_H
#define FOURWAY_SERVER_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GRAMMAR_MAGIC = 0x66773167,
    GRAMMAR_MAX_NODES = 65535,
    GRAMMAR_MAX_SETS = 255,
    GRAMMAR_MAX_DEPTH = 64,     /* rules entered and not left */
    GRAMMAR_RETURN = 0          /* the node that ends a rule, and at the outermost level the text */
};

enum grammar_op {
    GRAMMAR_OP_RETURN,
    GRAMMAR_OP_BYTE,            /* one byte of sets[set], then a */
    GRAMMAR_OP_SPLIT,           /* a or b */
    GRAMMAR_OP_CALL             /* the rule that begins at a, then b */
};

struct grammar_node { uint8_t op, set; uint16_t a, b; };
struct byte_set { uint64_t bits[4]; };
struct code_range { uint32_t least, most; };    /* code points */

/* The head of a table: sets[n_sets] follow, then nodes[n_nodes]. Aligned to 8. */
struct grammar {
    uint32_t magic, n_bytes;
    uint32_t n_nodes, n_sets;
    uint32_t start;
    uint32_t letter;            /* node that reads a plain byte of a JSON string and ends the rule of one character; 0: none */
};

const struct byte_set *grammar_sets(const struct grammar *g);
const struct grammar_node *grammar_nodes(const struct grammar *g);

/* Is table[n_bytes] a grammar that matcher.c may run: every index within bounds, a text exists, no rule that calls itself without a byte
 * before? Returns NULL, or what is wrong with it. */
const char *grammar_check(const void *table, size_t n_bytes);

/* The part of that check which is about meaning; *culprit: a call that is part of the reason, or 0. */
const char *grammar_check_meaning(const struct grammar *g, uint16_t *culprit);

size_t grammar_bytes(size_t n_sets, size_t n_nodes);    /* of such a table */

/* need[n_nodes]: how many rules must be entered beyond those that are, to reach the end of the rule from there; above GRAMMAR_MAX_DEPTH:
 * no way. Time is linear in the nodes. Returns 0 or -ENOMEM. */
int grammar_needs(const struct grammar *g, uint8_t *need);

/* Building. After an error (`error` is set: what was too much) everything returns 0 and grammar_finish fails. */
struct grammar_builder {
    struct grammar_node *nodes;
    struct byte_set *sets;
    uint32_t *index;            /* hash table of nodes */
    size_t n_nodes, n_sets;
    uint16_t letter;            /* as in the table */
    const char *error;
    bool no_memory;
    uint16_t culprit;           /* after grammar_finish failed: the call or repeat to blame; 0: unknown */
};
int grammar_begin(struct grammar_builder *b);       /* 0 or -ENOMEM; grammar_abandon in any case */
void grammar_abandon(struct grammar_builder *b);
uint16_t grammar_set(struct grammar_builder *b, const struct byte_set *set, uint16_t next);
uint16_t grammar_range(struct grammar_builder *b, uint8_t least, uint8_t most, uint16_t next);
uint16_t grammar_text(struct grammar_builder *b, const char *text, size_t n, uint16_t next);
uint16_t grammar_split(struct grammar_builder *b, uint16_t x, uint16_t y);
uint16_t grammar_call(struct grammar_builder *b, uint16_t rule, uint16_t next);
/* A character of ranges[n] in UTF-8: ranges in ascending order, apart, without surrogates (D800 to DFFF); n may be 0: no way. */
uint16_t grammar_characters(struct grammar_builder *b, const struct code_range *ranges, size_t n, uint16_t next);
/* One of texts[n], which are sorted here; what they share at the front is one way. Recurs as deep as texts are prefixes of others. */
uint16_t grammar_one_of(struct grammar_builder *b, char **texts, size_t n, uint16_t next);
/* A node to begin with whose way is told later: for loops and rules that call themselves. */
uint16_t grammar_later(struct grammar_builder *b);
void grammar_define(struct grammar_builder *b, uint16_t later, uint16_t start);
/* The table, owned by the caller (free), checked. Returns 0, -EINVAL with *why, or -ENOMEM. */
int grammar_finish(struct grammar_builder *b, uint16_t start, struct grammar **out, const char **why);

void byte_set_add(struct byte_set *s, uint8_t least, uint8_t most);
static inline bool byte_set_has(const struct byte_set *s, uint8_t byte)
{
    return s->bits[byte >> 6] >> (byte & 63) & 1;
}

#endif
