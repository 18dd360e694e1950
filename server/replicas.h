/*
 * replicas.h - engines that each hold a whole copy of one model, used as one: a request goes to the least loaded.
 *
 * A copy for each group of nodes instead of one over all of them: small models lose more time to synchronisation over a link than
 * another node's memory gives them. Which replica answers does not show: the bits of a request do not depend on its nodes
 * (docs/design.md 4). The calls are those of engine.h, and as safe to make from any thread.
 */
#ifndef FOURWAY_SERVER_REPLICAS_H
#define FOURWAY_SERVER_REPLICAS_H

#include <stddef.h>
#include <stdint.h>

#include "server/engine.h"

enum { REPLICAS_MAX = 64 };

struct replicas {               /* filled by who creates the engines, before the first call; the engines stay its own */
    size_t n;
    struct engine *engine[REPLICAS_MAX];
    _Atomic size_t turn;        /* where the search begins, so that idle replicas take turns */
};

/* To the replica with the fewest requests, of equals the one with the fewest tokens waiting. As engine_submit. */
int replicas_submit(struct replicas *r, const struct engine_request *request);

void replicas_cancel(struct replicas *r, uint64_t id);
void replicas_drain(struct replicas *r);

/*
 * Of all together: sums; the smallest n_ctx; the state that is furthest from READY (a dead replica is a dead server, for its copy of
 * the model could not be loaded). Without an engine: LOADING, all zeros.
 */
void replicas_status(const struct replicas *r, struct engine_status *out);

#endif
