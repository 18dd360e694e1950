/*
 * pattern_automaton.c - an expression to a deterministic automaton over kinds of characters, by the construction of subsets.
 *
 * Time and memory are bounded by counting: nodes of the written-out expression, states, and steps (PATTERN_MAX_WORK), so that what
 * explodes is refused within milliseconds. A count of characters, where lengths are bounded, is part of a state.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/pattern_internal.h"

enum {
    MAX_MEMBERS = 4 << 20,              /* positions of all states together */
    MAX_TRANSITIONS = 8 << 20,
    ACCEPT = 0                          /* the position behind the expression */
};

enum position_op { POSITION_ACCEPT, POSITION_SET, POSITION_SPLIT, POSITION_BEGIN, POSITION_END };

struct position { uint8_t op; uint16_t a, b; uint32_t set; };   /* set: among those of this tree */

/* A state: members are positions of sets, ascending. */
struct subset { uint32_t first, n, length; bool may_end; uint64_t hash; };

struct builder {
    struct automaton *a;
    struct pattern *p;
    const struct pattern_use *use;
    uint32_t root;

    struct position *positions;
    size_t n_positions, position_room;

    uint32_t *sets;             /* those of this tree: numbers in the pattern, whose sets have the place here as `local`, from 1 on */
    size_t n_sets, set_room, kind_words;
    uint64_t *has_kind;         /* [n_sets][kind_words] */
    uint32_t any;               /* the set of all characters, when searching */

    struct subset *subsets;
    uint16_t *members, *found, *stack;
    uint32_t *index, *seen, mark;
    uint8_t *beyond_end;        /* of a position seen: only behind PATTERN_END */
    size_t n_members, member_room, n_found, n_slots;
    bool found_end;
    int err;
};

static int refuse(struct builder *c, const char *what)
{
    if (!c->err)
        c->err = pattern_refuse(c->p, c->p->nodes[c->root].at, "it is too large or too ambiguous: %s", what);
    return c->err;
}

static bool spend(struct builder *c, size_t steps)
{
    c->p->work += steps;
    if (c->p->work > PATTERN_MAX_WORK)
        refuse(c, "its automaton takes too long to build");
    return !c->err;
}

static bool more_room(struct builder *c, void *array, size_t n, size_t *room, size_t size)
{
    if (pattern_grow(array, n, room, size))
        return true;
    c->err = -ENOMEM;
    return false;
}

static uint16_t add_position(struct builder *c, struct position x)
{
    if (c->n_positions == PATTERN_MAX_POSITIONS)
        refuse(c, "it has more than 32768 parts with its repeats written out");
    if (c->err || !more_room(c, &c->positions, c->n_positions, &c->position_room, sizeof(*c->positions)))
        return ACCEPT;
    c->positions[c->n_positions] = x;
    return (uint16_t)c->n_positions++;
}

static uint16_t split(struct builder *c, uint16_t x, uint16_t y)
{
    return add_position(c, (struct position){ .op = POSITION_SPLIT, .a = x, .b = y });
}

static uint16_t place(struct builder *c, uint32_t node, uint16_t next);

static uint16_t place_repeat(struct builder *c, const struct pattern_node *n, uint16_t next)
{
    uint32_t least = n->least;
    uint16_t at = next;

    if (n->most == PATTERN_NO_END) {
        const uint16_t loop = split(c, next, next), body = place(c, n->last, loop);
        if (!c->err)
            c->positions[loop].a = body;
        at = least ? body : loop;
        least -= least > 0;
    } else {
        for (uint32_t i = least; i < n->most && !c->err; i++)
            at = split(c, place(c, n->last, at), next);
    }
    for (uint32_t i = 0; i < least && !c->err; i++)
        at = place(c, n->last, at);
    return at;
}

/* The positions of a node's texts, `next` behind them. Recurs as deep as the tree, which the parsers bound. */
static uint16_t place(struct builder *c, uint32_t node, uint16_t next)
{
    const struct pattern_node *n = &c->p->nodes[node];
    uint16_t at = next;

    if (!spend(c, 8))           /* an empty group may be repeated, too */
        return ACCEPT;
    switch (n->op) {
    case PATTERN_SET:
        return add_position(c, (struct position){ .op = POSITION_SET, .a = next, .set = c->p->sets[n->value].local - 1 });
    case PATTERN_SEQUENCE:
        for (uint32_t child = n->last; child && !c->err; child = c->p->nodes[child].before)
            at = place(c, child, at);
        return at;
    case PATTERN_CHOICE:
        at = place(c, n->last, next);
        for (uint32_t child = c->p->nodes[n->last].before; child && !c->err; child = c->p->nodes[child].before)
            at = split(c, place(c, child, next), at);
        return at;
    case PATTERN_REPEAT:
        return place_repeat(c, n, next);
    case PATTERN_BEGIN:
        return add_position(c, (struct position){ .op = POSITION_BEGIN, .a = next });
    case PATTERN_END:
        return add_position(c, (struct position){ .op = POSITION_END, .a = next });
    default:
        return at;
    }
}

static void list_set(struct builder *c, uint32_t set)
{
    if (c->p->sets[set].local || !more_room(c, &c->sets, c->n_sets, &c->set_room, sizeof(*c->sets)))
        return;
    c->sets[c->n_sets++] = set;
    c->p->sets[set].local = (uint32_t)c->n_sets;
}

/* The sets of the tree. */
static void list_sets(struct builder *c, uint32_t node)
{
    const struct pattern_node *n = &c->p->nodes[node];

    if (n->op == PATTERN_SET)
        list_set(c, n->value);
    for (uint32_t child = n->last; child && !c->err; child = c->p->nodes[child].before)
        list_sets(c, child);
}

static int compare_codes(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Where some set begins or ends. */
static int find_cuts(struct builder *c)
{
    struct automaton *a = c->a;
    size_t n_ranges = 0, n = 0;

    for (size_t i = 0; i < c->n_sets; i++)
        n_ranges += c->p->sets[c->sets[i]].n;
    a->cuts = malloc((2 * n_ranges + 2) * sizeof(*a->cuts));
    a->kind = calloc(2 * n_ranges + 2, sizeof(*a->kind));
    if (!a->cuts || !a->kind)
        return -ENOMEM;
    a->cuts[n++] = 0;
    for (size_t i = 0; i < c->n_sets; i++) {
        const struct pattern_set *s = &c->p->sets[c->sets[i]];
        for (size_t k = 0; k < s->n; k++) {
            a->cuts[n++] = c->p->ranges[s->first + k].least;
            a->cuts[n++] = c->p->ranges[s->first + k].most + 1;
        }
    }
    a->cuts[n++] = 0x110000;
    qsort(a->cuts, n, sizeof(*a->cuts), compare_codes);
    size_t kept = 0;
    for (size_t i = 1; i < n; i++)
        if (a->cuts[i] != a->cuts[kept])
            a->cuts[++kept] = a->cuts[i];
    a->n_intervals = kept;
    return 0;
}

static size_t interval_at(const struct automaton *a, uint32_t code)
{
    size_t low = 0, high = a->n_intervals;

    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (a->cuts[middle] < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Intervals that are in the same sets are of one kind: each set splits the kinds that it has a part of. */
static int find_kinds(struct builder *c)
{
    struct automaton *a = c->a;
    uint16_t *inside = calloc(PATTERN_MAX_KINDS, sizeof(*inside));
    size_t *n_of = calloc(PATTERN_MAX_KINDS, sizeof(*n_of)), *n_in = calloc(PATTERN_MAX_KINDS, sizeof(*n_in));
    int err = find_cuts(c);

    if (!err && (!inside || !n_of || !n_in))
        err = -ENOMEM;
    a->n_kinds = 1;
    if (!err)
        n_of[0] = a->n_intervals;
    for (size_t i = 0; i < c->n_sets && !err; i++) {
        const struct pattern_set *s = &c->p->sets[c->sets[i]];
        const struct code_range *r = c->p->ranges + s->first;
        for (int pass = 0; pass < 2 && !err; pass++) {          /* first count, then move those of a kind that is split */
            for (size_t k = 0; k < s->n && !err; k++) {
                for (size_t at = interval_at(a, r[k].least); a->cuts[at] <= r[k].most && spend(c, 1); at++) {
                    const uint16_t kind = a->kind[at];
                    if (pass == 0) {
                        n_in[kind]++;
                        continue;
                    }
                    if (n_in[kind] == n_of[kind])
                        continue;
                    if (!inside[kind] && a->n_kinds == PATTERN_MAX_KINDS) {
                        err = refuse(c, "it tells more than 1024 kinds of characters apart");
                        break;
                    }
                    if (!inside[kind])
                        inside[kind] = (uint16_t)a->n_kinds++;
                    a->kind[at] = inside[kind];
                }
                err = err ? err : c->err;
            }
        }
        for (size_t kind = 0; kind < a->n_kinds; kind++) {
            if (inside[kind]) {
                n_of[inside[kind]] = n_in[kind];
                n_of[kind] -= n_in[kind];
            }
            inside[kind] = 0;
            n_in[kind] = 0;
        }
        spend(c, a->n_kinds);
        err = err ? err : c->err;
    }
    free(inside);
    free(n_of);
    free(n_in);
    return err;
}

static int mark_kinds(struct builder *c)
{
    const struct automaton *a = c->a;

    c->kind_words = (a->n_kinds + 63) / 64;
    c->has_kind = calloc(c->n_sets * c->kind_words + 1, sizeof(*c->has_kind));
    if (!c->has_kind)
        return -ENOMEM;
    for (size_t i = 0; i < c->n_sets; i++) {
        const struct pattern_set *s = &c->p->sets[c->sets[i]];
        for (size_t k = 0; k < s->n; k++) {
            const struct code_range *r = &c->p->ranges[s->first + k];
            for (size_t at = interval_at(a, r->least); a->cuts[at] <= r->most; at++)
                c->has_kind[i * c->kind_words + a->kind[at] / 64] |= (uint64_t)1 << (a->kind[at] & 63);
        }
    }
    return 0;
}

/* A position for the subset under way, and all that is reached from there without a character. */
static void reach(struct builder *c, uint16_t position, bool at_begin)
{
    size_t n = 0;

    if (c->seen[position] == c->mark && !c->beyond_end[position])
        return;
    c->seen[position] = c->mark;
    c->beyond_end[position] = 0;
    c->stack[n++] = position;
    while (n && spend(c, 1)) {
        const uint16_t at = c->stack[--n];
        const struct position *x = &c->positions[at];
        const bool beyond = c->beyond_end[at] || x->op == POSITION_END;
        uint16_t next[2] = { x->a, x->b };
        size_t n_next = x->op == POSITION_SPLIT ? 2 : 1;
        if (x->op == POSITION_ACCEPT)
            c->found_end = true;
        else if (x->op == POSITION_SET && !beyond)
            c->found[c->n_found++] = at;
        if (x->op == POSITION_ACCEPT || x->op == POSITION_SET || (x->op == POSITION_BEGIN && !at_begin))
            n_next = 0;
        for (size_t i = 0; i < n_next; i++) {
            const bool known = c->seen[next[i]] == c->mark;
            if (known && (beyond || !c->beyond_end[next[i]]))
                continue;
            c->seen[next[i]] = c->mark;
            c->beyond_end[next[i]] = beyond;
            c->stack[n++] = next[i];
        }
    }
}

static int compare_positions(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* Four slots a state, for as many as there is room for. */
static int spread_states(struct builder *c, size_t room)
{
    uint32_t *index = calloc(4 * room, sizeof(*index));

    if (!index)
        return c->err = -ENOMEM;
    free(c->index);
    c->index = index;
    c->n_slots = 4 * room;
    for (size_t state = 1; state < c->a->n_states; state++) {
        size_t at = (size_t)(c->subsets[state].hash % c->n_slots);
        while (index[at])
            at = (at + 1) % c->n_slots;
        index[at] = (uint32_t)state;
    }
    return 0;
}

/* Twice as many states, from 16 on. */
static int more_states(struct builder *c, size_t room)
{
    void *next = realloc(c->a->next, room * c->a->n_kinds * sizeof(*c->a->next));

    c->a->next = next ? next : c->a->next;
    void *subsets = realloc(c->subsets, room * sizeof(*c->subsets));
    c->subsets = subsets ? subsets : c->subsets;
    if (!next || !subsets)
        return c->err = -ENOMEM;
    return spread_states(c, room);
}

/* Room for one more state and its members. */
static int make_room(struct builder *c)
{
    struct automaton *a = c->a;

    if (a->n_states == PATTERN_MAX_STATES)
        return refuse(c, "its automaton has more than 16384 states");
    if (c->n_members + c->n_found > MAX_MEMBERS || (a->n_states + 1) * a->n_kinds > MAX_TRANSITIONS)
        return refuse(c, "its automaton takes too much memory to build");
    while (c->n_members + c->n_found > c->member_room)
        if (!more_room(c, &c->members, c->member_room, &c->member_room, sizeof(*c->members)))
            return c->err;
    if (a->n_states >= 16 && (a->n_states & (a->n_states - 1)) == 0 && more_states(c, 2 * a->n_states))
        return c->err;
    memset(a->next + a->n_states * a->n_kinds, 0, a->n_kinds * sizeof(*a->next));
    return 0;
}

/* The state of the positions found after `length` characters. */
static uint16_t intern(struct builder *c, uint32_t length)
{
    const bool may_end = c->found_end && length >= c->use->least;
    uint64_t hash = (uint64_t)length << 1 | may_end;

    if (c->err || (!c->n_found && !may_end))
        return 0;
    if (c->n_found > 1)
        qsort(c->found, c->n_found, sizeof(*c->found), compare_positions);
    spend(c, 2 * c->n_found + 4);
    for (size_t i = 0; i < c->n_found; i++) {
        hash = (hash ^ c->found[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    for (size_t at = (size_t)(hash % c->n_slots); c->index[at]; at = (at + 1) % c->n_slots) {
        const struct subset *s = &c->subsets[c->index[at]];
        if (s->hash == hash && s->n == c->n_found && s->length == length && s->may_end == may_end &&
            (s->n == 0 || memcmp(c->members + s->first, c->found, s->n * sizeof(*c->found)) == 0))
            return (uint16_t)c->index[at];
    }
    if (make_room(c))
        return 0;
    const uint16_t state = (uint16_t)c->a->n_states++;
    c->subsets[state] = (struct subset){ (uint32_t)c->n_members, (uint32_t)c->n_found, length, may_end, hash };
    if (c->n_found)
        memcpy(c->members + c->n_members, c->found, c->n_found * sizeof(*c->found));
    c->n_members += c->n_found;
    size_t at = (size_t)(hash % c->n_slots);
    while (c->index[at])
        at = (at + 1) % c->n_slots;
    c->index[at] = state;
    return state;
}

static void begin_subset(struct builder *c)
{
    c->mark++;
    c->n_found = 0;
    c->found_end = false;
}

/* Where each kind of character leads from a state. */
static void step(struct builder *c, uint16_t state)
{
    const struct subset s = c->subsets[state];
    const size_t least = c->use->least, most = c->use->most;
    uint32_t length = s.length;

    if (length == most)
        return;
    if (length < (most == SIZE_MAX ? least : most))             /* beyond that it makes no difference */
        length++;
    for (size_t kind = 0; kind < c->a->n_kinds && spend(c, s.n + 1); kind++) {
        begin_subset(c);
        for (size_t i = 0; i < s.n; i++) {
            const struct position *x = &c->positions[c->members[s.first + i]];
            if (c->has_kind[x->set * c->kind_words + kind / 64] >> (kind & 63) & 1)
                reach(c, x->a, false);
        }
        const uint16_t to = intern(c, length);
        c->a->next[state * c->a->n_kinds + kind] = to;
    }
}

/* Any characters, then `next`. */
static uint16_t place_any(struct builder *c, uint16_t next)
{
    const uint16_t loop = split(c, next, next);
    const uint16_t one = add_position(c, (struct position){ .op = POSITION_SET, .a = loop, .set = c->p->sets[c->any].local - 1 });

    if (!c->err)
        c->positions[loop].b = one;
    return loop;
}

static uint16_t place_all(struct builder *c)
{
    add_position(c, (struct position){ .op = POSITION_ACCEPT });
    if (!c->use->search)
        return place(c, c->root, ACCEPT);
    return place_any(c, place(c, c->root, place_any(c, ACCEPT)));
}

static int find_states(struct builder *c)
{
    const uint16_t start = place_all(c);

    c->found = calloc(c->n_positions, sizeof(*c->found));
    c->stack = calloc(2 * c->n_positions, sizeof(*c->stack));
    c->seen = calloc(c->n_positions, sizeof(*c->seen));
    c->beyond_end = calloc(c->n_positions, 1);
    if (!c->err && (!c->found || !c->stack || !c->seen || !c->beyond_end))
        return -ENOMEM;
    c->a->n_states = 1;
    if (c->err || more_states(c, 16))
        return c->err;
    begin_subset(c);
    reach(c, start, true);
    if (intern(c, 0) != 1 && !c->err)
        return pattern_refuse(c->p, c->p->nodes[c->root].at, "no text matches it");
    for (uint16_t state = 1; state < c->a->n_states && !c->err; state++)
        step(c, state);
    c->a->may_end = calloc(c->a->n_states, sizeof(*c->a->may_end));
    if (!c->err && !c->a->may_end)
        return -ENOMEM;
    for (size_t state = 1; state < c->a->n_states && !c->err; state++)
        c->a->may_end[state] = c->subsets[state].may_end;
    return c->err;
}

int automaton_create(struct automaton *a, struct pattern *p, uint32_t root, const struct pattern_use *use)
{
    struct builder c = { .a = a, .p = p, .use = use, .root = root };

    *a = (struct automaton){ .n_kinds = 0 };
    if (use->search) {
        const uint32_t any = pattern_set(p, true, 0);
        if (p->no_memory)
            return -ENOMEM;
        c.any = p->nodes[any].value;
    }
    list_sets(&c, root);
    if (use->search)
        list_set(&c, c.any);
    int err = c.err ? c.err : find_kinds(&c);
    if (!err)
        err = mark_kinds(&c);
    if (!err)
        err = find_states(&c);
    for (size_t i = 0; i < c.n_sets; i++)
        p->sets[c.sets[i]].local = 0;
    free(c.positions);
    free(c.found);
    free(c.stack);
    free(c.seen);
    free(c.beyond_end);
    free(c.subsets);
    free(c.index);
    free(c.sets);
    free(c.has_kind);
    free(c.members);
    if (err)
        automaton_free(a);
    return err;
}

void automaton_free(struct automaton *a)
{
    free(a->cuts);
    free(a->kind);
    free(a->next);
    free(a->may_end);
    *a = (struct automaton){ .n_kinds = 0 };
}
