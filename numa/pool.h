/*
 * pool.h - workers pinned to cores, a team per node: run one function on all of them, then join.
 *
 * The thread that calls pool_run is worker 0. Barriers are hierarchical: workers count inside their node, the last one raises
 * the node's epoch flag (alone on 128 bytes), watches those of the other nodes and releases its own. Waiters spin with pause; with
 * more workers than allowed CPUs they yield instead; whoever waits for more than a few milliseconds sleeps on a futex.
 */
#ifndef FOURWAY_NUMA_POOL_H
#define FOURWAY_NUMA_POOL_H

#include <stdbool.h>
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
 * n_threads = 0: one a physical core, or what the cgroup grants (topology_default_threads). Fewer than nodes is raised to one a node,
 * with a log line. Threads are dealt over nodes in proportion to their cores. Each worker is bound to one CPU; with more workers than
 * CPUs to its node's CPUs, on virtual nodes then to none. That holds for the caller's thread, too, from its first pool_run on (see
 * pool_release_caller).
 * `t` stays the caller's and must outlive the pool. Returns 0, -EINVAL, -ENOMEM or -EAGAIN (logged).
 */
int pool_create(struct pool **p, const struct topology *t, size_t n_threads);
void pool_destroy(struct pool *p);

size_t pool_n_workers(const struct pool *p);
size_t pool_n_nodes(const struct pool *p);
size_t pool_node_workers(const struct pool *p, size_t node);
const struct topology *pool_topology(const struct pool *p);

/*
 * Run fn(worker, arg) on every worker; returns when all have returned. Memory written before is seen by the workers, and by the
 * caller after. One call at a time.
 */
void pool_run(struct pool *p, pool_fn fn, void *arg);

/*
 * The thread that last called pool_run may use all of the creator's CPUs again; so does pool_destroy, and a call by another thread. For a
 * thread that loads with the pool and then starts threads of its own: they inherit its CPUs.
 */
void pool_release_caller(struct pool *p);

/* Inside fn: wait for all workers of this worker's node / of all nodes. All of them must call it. Full memory ordering. */
void pool_barrier_node(const struct worker *w);
void pool_barrier_all(const struct worker *w);

/*
 * What barriers cost a worker: how many it went through, of either kind, and how long it was in them. Counted from the call that turns
 * counting on; while it is off a barrier looks at one flag. Called between pool_runs; a worker may ask for its own numbers within one.
 */
struct pool_waits { uint64_t barriers, ns; };
void pool_count_waits(struct pool *p, bool on);
struct pool_waits pool_worker_waits(const struct pool *p, size_t worker);

/* Split n units over the workers of this worker's node: units [*begin, *end). The first n mod node_workers have one more. */
void pool_share_node(const struct worker *w, size_t n, size_t *begin, size_t *end);

#endif
