/*
 * pattern_internal.h - the deterministic automaton between pattern_automaton.c, which finds it, and pattern_nodes.c, which writes it down.
 */
#ifndef FOURWAY_SERVER_PATTERN_INTERNAL_H
#define FOURWAY_SERVER_PATTERN_INTERNAL_H

#include "server/pattern.h"

/* Kinds are what the sets of the pattern tell apart: interval i of the code points, from cuts[i] up to cuts[i + 1], is of kind[i]. */
struct automaton {
    size_t n_kinds, n_intervals, n_states;
    uint32_t *cuts;             /* [n_intervals + 1] */
    uint16_t *kind;             /* [n_intervals] */
    uint16_t *next;             /* [n_states][n_kinds]; state 0: no way. The text begins in state 1 */
    bool *may_end;              /* [n_states] */
};

/* 0, -EINVAL with p->error, or -ENOMEM; automaton_free in any case. */
int automaton_create(struct automaton *a, struct pattern *p, uint32_t root, const struct pattern_use *use);
void automaton_free(struct automaton *a);

/* Room for one more of `size` bytes in *array, which has n of *room. `array` points to a pointer of any type. False: no memory. */
bool pattern_grow(void *array, size_t n, size_t *room, size_t size);

#endif
