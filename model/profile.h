/*
 * profile.h - where the time of steps goes on every worker: its own work part by part, and what it waits for the others.
 *
 * forward.c marks the end of each part; the time since the worker's mark before, less what the pool's barriers took of it, is that
 * part's. So a worker's parts sum to the step, whatever is left out: it is then the next part's. Without a profile a mark is one branch.
 */
#ifndef FOURWAY_MODEL_PROFILE_H
#define FOURWAY_MODEL_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "numa/topology.h"

enum profile_part {
    PROFILE_WEIGHTS,            /* products with weights */
    PROFILE_ATTENTION,          /* over the KV cache, and its outputs as activations */
    PROFILE_NORMS,              /* additions to the residual stream, norms, activation functions, quantisation */
    PROFILE_ROPE,               /* angles, rotation, writes to the KV cache */
    PROFILE_EXCHANGE,           /* copies from other nodes */
    PROFILE_WAIT,               /* at barriers, and for the last worker of the step */
    PROFILE_LOGITS,             /* soft cap and statistics of logits */
    PROFILE_OTHER,              /* the plan of a step, waking workers, embedding rows */
    PROFILE_PARTS
};

extern const char *const profile_part_names[PROFILE_PARTS];

struct model;
struct pool;

/* The caller's; steps add to it. */
struct profile {
    uint64_t ns[PROFILE_PARTS];                             /* worker 0 */
    uint64_t node_ns[TOPOLOGY_MAX_NODES][PROFILE_PARTS];    /* mean of the node's workers */
    uint64_t n_steps, n_tokens, n_barriers;                 /* barriers that each worker went through */
};

/* One worker in the step under way. */
struct profile_worker {
    const struct pool *pool;
    size_t index;
    uint64_t marked_ns, waited_ns, barriers;    /* at the last mark; barriers at the step's begin */
    uint64_t ns[PROFILE_PARTS];
};

/* From now on steps of `m` are added to *p, which starts empty; NULL: no more. Between steps. */
void model_profile(struct model *m, struct profile *p);

/* For model_step, before and after the workers run: without a profile they do nothing. */
void profile_begin(struct model *m);
void profile_end(struct model *m);

/* For the workers: the end of a part. */
void profile_add(struct profile_worker *p, enum profile_part part);

static inline void profile_mark(struct profile_worker *p, enum profile_part part)
{
    if (__builtin_expect(p != NULL, 0))
        profile_add(p, part);
}

#endif
