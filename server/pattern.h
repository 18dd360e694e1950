/*
 * pattern.h - expressions over characters: the tree that regex.c and ebnf.c parse, and its way into nodes of a grammar.
 *
 * What refers to no rule becomes a deterministic automaton over characters first (pattern_automaton.c): (a|a)*b or (a+)+ then cost
 * no more than a*b, and what would need too many states is refused when it is read, not while it runs. Characters are told apart only
 * as far as the expression does, and turn into bytes of UTF-8 in pattern_nodes.c.
 */
#ifndef FOURWAY_SERVER_PATTERN_H
#define FOURWAY_SERVER_PATTERN_H

#include "server/grammar.h"

enum {
    PATTERN_MAX_DEPTH = 100,            /* groups within groups */
    PATTERN_MAX_REPEAT = 10000,
    PATTERN_MAX_POSITIONS = 32768,      /* nodes when repeats are written out */
    PATTERN_MAX_STATES = 16384,
    PATTERN_MAX_KINDS = 1024,           /* classes of characters that it tells apart */
    PATTERN_MAX_WORK = 10000000         /* elementary steps, some 5 ns each: below 100 ms */
};

enum pattern_op {
    PATTERN_EMPTY,
    PATTERN_SET,                        /* one character of sets[value] */
    PATTERN_SEQUENCE,                   /* its children in turn */
    PATTERN_CHOICE,                     /* one of its children */
    PATTERN_REPEAT,                     /* its child least to most times */
    PATTERN_BEGIN, PATTERN_END,         /* nothing, but only at the beginning or end of the text */
    PATTERN_RULE                        /* rule number `value` (ebnf.c) */
};

#define PATTERN_NO_END UINT32_MAX

/* Children are listed from the last to the first, as nodes are built. Node 0 is none. */
struct pattern_node {
    uint8_t op;
    bool has_rule;                      /* a PATTERN_RULE within */
    uint32_t last, before;              /* the last child; the sibling before it */
    uint32_t value, least, most;
    uint32_t at;                        /* byte of the source, for messages */
};

struct pattern_set { uint32_t first, n, local; };       /* ranges: ascending, apart, without surrogates; local: of an automaton at work */

struct pattern_error { uint32_t at; char message[200]; };      /* at: byte of the source */

struct pattern {
    struct pattern_node *nodes;
    struct pattern_set *sets;
    struct code_range *ranges;
    uint32_t *index;                    /* hash table of sets */
    size_t n_nodes, n_sets, n_ranges, node_room, set_room, range_room;
    size_t set_begin;                   /* ranges from here on are of the set under way */
    size_t work;                        /* steps of all its automata */
    bool no_memory;
    struct pattern_error error;
};

int pattern_begin(struct pattern *p);           /* 0 or -ENOMEM; pattern_free in any case */
void pattern_free(struct pattern *p);
/* Records the first error; returns -EINVAL. */
int pattern_refuse(struct pattern *p, size_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Trees. Without memory (p->no_memory) they return 0, and a tree with such nodes must not be built. */
uint32_t pattern_leaf(struct pattern *p, enum pattern_op op, size_t at);
void pattern_append(struct pattern *p, uint32_t parent, uint32_t child);
/* A sequence or choice of one child is that child, of none it is empty. */
uint32_t pattern_simplify(struct pattern *p, uint32_t node);
uint32_t pattern_repeat(struct pattern *p, uint32_t child, uint32_t least, uint32_t most, size_t at);

/* Sets: any number of ranges, then the leaf. */
void pattern_range(struct pattern *p, uint32_t least, uint32_t most);
uint32_t pattern_set(struct pattern *p, bool negated, size_t at);
static inline uint32_t pattern_character(struct pattern *p, uint32_t code, size_t at)
{
    pattern_range(p, code, code);
    return pattern_set(p, false, at);
}

/*
 * Nodes for the tree at `root`, which has no rule, `next` being what follows. as_json: the text is the inside of a JSON string. search: the
 * expression must match somewhere in the text, else all of it. The text has `least` to `most` characters (SIZE_MAX: any). Returns the
 * node to begin with; after p->error, p->no_memory or b->error, 0.
 */
struct pattern_use { bool search, as_json; size_t least, most; };
uint16_t pattern_build(struct pattern *p, struct grammar_builder *b, uint32_t root, const struct pattern_use *use, uint16_t next);

#endif
