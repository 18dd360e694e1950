#include "server/pattern_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SET_SLOTS = 1 << 17 };           /* a source has at most 64 Ki bytes, and so many sets */

int pattern_begin(struct pattern *p)
{
    *p = (struct pattern){ .nodes = NULL };
    p->index = calloc(SET_SLOTS, sizeof(*p->index));
    pattern_leaf(p, PATTERN_EMPTY, 0);          /* node 0 */
    return p->index && !p->no_memory ? 0 : -ENOMEM;
}

void pattern_free(struct pattern *p)
{
    free(p->nodes);
    free(p->sets);
    free(p->ranges);
    free(p->index);
    *p = (struct pattern){ .nodes = NULL };
}

int pattern_refuse(struct pattern *p, size_t at, const char *format, ...)
{
    va_list args;

    if (*p->error.message)
        return -EINVAL;
    p->error.at = (uint32_t)at;
    va_start(args, format);
    vsnprintf(p->error.message, sizeof(p->error.message), format, args);
    va_end(args);
    return -EINVAL;
}

bool pattern_grow(void *array, size_t n, size_t *room, size_t size)
{
    void *old, *more;

    if (n < *room)
        return true;
    memcpy(&old, array, sizeof(old));
    more = realloc(old, (*room ? 2 * *room : 64) * size);
    if (!more)
        return false;
    memcpy(array, &more, sizeof(more));
    *room = *room ? 2 * *room : 64;
    return true;
}

static bool grow(struct pattern *p, void *array, size_t n, size_t *room, size_t size)
{
    const bool has_room = pattern_grow(array, n, room, size);

    p->no_memory |= !has_room;
    return has_room;
}

uint32_t pattern_leaf(struct pattern *p, enum pattern_op op, size_t at)
{
    if (!grow(p, &p->nodes, p->n_nodes, &p->node_room, sizeof(*p->nodes)))
        return 0;
    p->nodes[p->n_nodes] = (struct pattern_node){ .op = (uint8_t)op, .has_rule = op == PATTERN_RULE, .at = (uint32_t)at };
    return (uint32_t)p->n_nodes++;
}

void pattern_append(struct pattern *p, uint32_t parent, uint32_t child)
{
    if (p->no_memory)
        return;
    p->nodes[child].before = p->nodes[parent].last;
    p->nodes[parent].last = child;
    p->nodes[parent].has_rule |= p->nodes[child].has_rule;
}

uint32_t pattern_simplify(struct pattern *p, uint32_t node)
{
    if (p->no_memory)
        return 0;
    struct pattern_node *n = &p->nodes[node];
    if (!n->last)
        n->op = PATTERN_EMPTY;
    return n->last && !p->nodes[n->last].before ? n->last : node;
}

uint32_t pattern_repeat(struct pattern *p, uint32_t child, uint32_t least, uint32_t most, size_t at)
{
    const uint32_t node = pattern_leaf(p, PATTERN_REPEAT, at);

    if (p->no_memory)
        return 0;
    p->nodes[node].least = least;
    p->nodes[node].most = most;
    pattern_append(p, node, child);
    return node;
}

void pattern_range(struct pattern *p, uint32_t least, uint32_t most)
{
    if (grow(p, &p->ranges, p->n_ranges, &p->range_room, sizeof(*p->ranges)))
        p->ranges[p->n_ranges++] = (struct code_range){ least, most };
}

static int compare_ranges(const void *a, const void *b)
{
    const struct code_range *x = a, *y = b;
    return (x->least > y->least) - (x->least < y->least);
}

/* Put those of the set under way in order, and together where they touch. */
static void order_ranges(struct pattern *p)
{
    struct code_range *r = p->ranges + p->set_begin;
    const size_t n = p->n_ranges - p->set_begin;
    size_t k = 0;

    if (n == 0)
        return;
    qsort(r, n, sizeof(*r), compare_ranges);
    for (size_t i = 1; i < n; i++) {
        if (r[i].least > r[k].most && r[i].least - r[k].most > 1)
            r[++k] = r[i];
        else if (r[i].most > r[k].most)
            r[k].most = r[i].most;
    }
    p->n_ranges = p->set_begin + k + 1;
}

/* All but those of the set under way. */
static void negate_ranges(struct pattern *p)
{
    const size_t n = p->n_ranges - p->set_begin;
    uint32_t from = 0;

    for (size_t i = 0; i < n; i++) {
        const struct code_range r = p->ranges[p->set_begin + i];
        if (r.least > from)
            pattern_range(p, from, r.least - 1);
        from = r.most + 1;
    }
    if (from <= 0x10ffff)
        pattern_range(p, from, 0x10ffff);
    if (p->no_memory)
        return;
    p->n_ranges -= n;
    memmove(p->ranges + p->set_begin, p->ranges + p->set_begin + n, (p->n_ranges - p->set_begin) * sizeof(*p->ranges));
}

/* UTF-8 has no surrogates. */
static void cut_surrogates(struct pattern *p)
{
    const size_t n = p->n_ranges;
    size_t k = p->set_begin;

    for (size_t i = p->set_begin; i < n; i++) {
        struct code_range r = p->ranges[i];
        if (r.least < 0xd800 && r.most > 0xdfff)
            pattern_range(p, 0xe000, r.most);
        if (r.least < 0xd800 && r.most >= 0xd800)
            r.most = 0xd7ff;
        if (r.least >= 0xd800 && r.least <= 0xdfff)
            r.least = 0xe000;
        if (r.least <= r.most)
            p->ranges[k++] = r;
    }
    for (size_t i = n; i < p->n_ranges; i++)
        p->ranges[k++] = p->ranges[i];
    p->n_ranges = k;
}

/* The number of the set under way, which may be there already. */
static uint32_t intern_set(struct pattern *p)
{
    const struct code_range *r = p->ranges + p->set_begin;
    const size_t n = p->n_ranges - p->set_begin;
    uint64_t hash = n;

    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ r[i].least) * 0x9e3779b97f4a7c15u;
        hash = (hash ^ hash >> 29 ^ r[i].most) * 0x9e3779b97f4a7c15u;
    }
    size_t at = (size_t)(hash >> 40) % SET_SLOTS;
    for (; p->index[at]; at = (at + 1) % SET_SLOTS) {
        const struct pattern_set *s = &p->sets[p->index[at] - 1];
        if (s->n == n && (n == 0 || memcmp(p->ranges + s->first, r, n * sizeof(*r)) == 0)) {
            p->n_ranges = p->set_begin;
            return p->index[at] - 1;
        }
    }
    if (!grow(p, &p->sets, p->n_sets, &p->set_room, sizeof(*p->sets)))
        return 0;
    p->sets[p->n_sets++] = (struct pattern_set){ (uint32_t)p->set_begin, (uint32_t)n, 0 };
    p->index[at] = (uint32_t)p->n_sets;
    p->set_begin = p->n_ranges;
    return (uint32_t)p->n_sets - 1;
}

uint32_t pattern_set(struct pattern *p, bool negated, size_t at)
{
    const uint32_t node = pattern_leaf(p, PATTERN_SET, at);

    if (p->no_memory)
        return 0;
    order_ranges(p);
    if (negated)
        negate_ranges(p);
    cut_surrogates(p);
    order_ranges(p);
    const uint32_t set = p->no_memory ? 0 : intern_set(p);
    if (p->no_memory)
        return 0;
    p->nodes[node].value = set;
    return node;
}
