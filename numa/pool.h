/*
 * pool.h - workers pinned to cores, a team per node: run one function on all of them, then join.
 *
 * The thread that calls pool_run is worker 0. Barriers are hierarchical: workers count down inside their node, the last one
 * raises the node's epoch flag (alone on 128 bytes), and waiters watch the flags of the other nodes. They spin with pause; with more
 * workers than allowed CPUs they yield instead, and idle workers sleep on a futex.
 */
#ifndef FOURWAY_NUMA_POOL_H
#define FOURWAY_NUMA_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "numa/topology.h"

struct pool;

struct worker {
    struct pool *pool;
    size_t index, n_workers;            /* in the whole pool */
    size_t node, n_nodes;               /* of the topology */
    size_t index_in_node, node_workers;
};

typedef void (*pool_fn)(const struct worker *w, void *arg);

/*
 * n_threads = 0: one a physical core. Fewer than nodes is raised to one a node, with a log line. Threads are dealt over nodes in proportion
 * to their cores. pin: bind each worker to one CPU (the caller's thread too, at its first pool_run); off when there are more workers than CPUs.
 * Returns 0, -EINVAL, -ENOMEM or -EAGAIN (logged).
 */
int pool_create(struct pool **p, const struct topology *t, size_t n_threads);
void pool_destroy(struct pool *p);

size_t pool_n_workers(const struct pool *p);
size_t pool_n_nodes(const struct pool *p);
size_t pool_node_workers(const struct pool *p, size_t node);
const struct topology *pool_topology(const struct pool *p);

/* Run fn(worker, arg) on every worker; returns when all have returned. Memory written before is seen by the workers, and by the caller after. */
void pool_run(struct pool *p, pool_fn fn, void *arg);

/* Inside fn: wait for all workers of this worker's node / of all nodes. All of them must call it. Full memory ordering. */
void pool_barrier_node(const struct worker *w);
void pool_barrier_all(const struct worker *w);

/* Split n units over the workers of this worker's node (or of the pool): units [*begin, *end). */
void pool_share_node(const struct worker *w, size_t n, size_t *begin, size_t *end);
void pool_share_all(const struct worker *w, size_t n, size_t *begin, size_t *end);

#endif
