/*
 * pool_internal.h - what pool.c and barrier.c share: the lines that workers write to tell each other how far they are.
 *
 * A flag is a growing epoch number; whoever waits for epoch e goes on at e or later. Epochs have 64 bits, so a number never comes
 * back. Every line has 128 bytes to itself, because the prefetcher of Intel's servers pulls lines in pairs.
 */
#ifndef FOURWAY_NUMA_POOL_INTERNAL_H
#define FOURWAY_NUMA_POOL_INTERNAL_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "numa/pool.h"
#include "numa/sysfs_internal.h"

enum { POOL_LINE_BYTES = 128 };

/* One thread at a time raises it; waiters that gave up spinning count themselves in `sleepers`. */
struct flag {
    alignas(POOL_LINE_BYTES) _Atomic uint64_t epoch;
    _Atomic uint32_t sleepers;
};

/* Counts for ever: the k-th round of n arrivals ends when it reaches k n, and nothing has to be reset. */
struct counter {
    alignas(POOL_LINE_BYTES) _Atomic uint64_t arrivals;
};

/* In memory of the node itself. */
struct pool_node {
    struct flag job;            /* raised by the caller: a function to run */
    struct counter returned;    /* workers that came back from it */
    struct flag done;           /* raised by the last of them, for the caller */
    struct counter arrived;     /* workers at a barrier, of either kind */
    struct flag crossed;        /* raised by the last of them at a barrier of all nodes, for the other nodes */
    struct flag released;       /* raised by the same one, for its node's workers: go on */
    size_t n_workers;
};

/* How long to wait in which way before sleeping. */
struct patience {
    uint64_t pause_ns;          /* pause between looks: fastest, but the CPU is ours alone */
    uint64_t yield_ns;          /* from the start: then sched_yield between looks */
};

struct pool_thread {
    struct worker worker;
    pthread_t thread;           /* unused for worker 0 */
    struct pool_waits waits;    /* written by this worker alone; the CPU set keeps the next one's place lines away */
    struct id_set cpus;
};

struct pool {
    const struct topology *topology;
    size_t n_nodes, n_workers;
    struct pool_node *nodes[TOPOLOGY_MAX_NODES];
    struct patience patience;
    bool counts_waits;
    bool confine;               /* keep each worker to the CPUs of its pool_thread */

    struct pool_thread *threads;
    size_t n_started;           /* threads[1 .. n_started] run */

    pid_t caller;               /* the thread that is confined as worker 0, or 0 */
    struct id_set creator_cpus; /* what it gets back: the mask of the creator, for its own may be inherited from a worker 0 */

    alignas(POOL_LINE_BYTES) pool_fn fn;    /* NULL: end the thread. Written before the job flags are raised */
    void *arg;
    uint64_t job_epoch;
};

/* Set the flag to `epoch` and wake who sleeps on it. All that was written before is seen by those who see the epoch. */
void flag_raise(struct flag *f, uint64_t epoch);
void flag_wait(struct flag *f, uint64_t epoch, const struct patience *patience);

/* One more arrival of a round of `n`; true for the last one, which sees all that the others wrote. */
static inline bool counter_arrive(struct counter *c, size_t n)
{
    return (atomic_fetch_add_explicit(&c->arrivals, 1, memory_order_acq_rel) + 1) % n == 0;
}

#endif
