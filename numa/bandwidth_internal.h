/*
 * bandwidth_internal.h - what bandwidth.c (memory, traffic) and bandwidth_latency.c (dependent loads, handing over) share.
 */
#ifndef FOURWAY_NUMA_BANDWIDTH_INTERNAL_H
#define FOURWAY_NUMA_BANDWIDTH_INTERNAL_H

#include <stdalign.h>
#include <stdatomic.h>

#include "numa/bandwidth.h"
#include "numa/place.h"
#include "numa/pool.h"

/* What one worker does in a sample, and how it went. On lines of its own: neighbours write while it runs. */
struct lane {
    alignas(128) double *a, *b, *c;
    size_t bytes;               /* of each array; 0: this worker only waits */
    uint64_t start_ns, end_ns;
    uint64_t sink;              /* what was read, so that it had to be read */
    uint64_t moved;             /* bytes, or operations */
    bool wrong;
};

struct bandwidth {
    struct bandwidth_options o;
    struct pool *pool;
    struct lane *lanes;         /* one a worker */
    size_t n_memories;
    struct bandwidth_memory memories[TOPOLOGY_MAX_NODES];
    struct place_arena arenas[TOPOLOGY_MAX_NODES];
    size_t worker_bytes[TOPOLOGY_MAX_NODES];        /* of each worker of the owner */
    uint64_t cache_bytes;
    bool is_short;

    /* the job of the moment */
    enum stream_kind kind;
    uint64_t passes, passes_done;
    uint64_t (*loop)(uint64_t n);
    size_t memory, node, reader;    /* `node` chases, or hands lines to `reader` */
    size_t chain_bytes;         /* of memory `memory` hold a cycle; 0: none does */
    unsigned delay;
    bool modified;
    uint64_t chase_ns, chase_loads;
    _Atomic bool stop;
};

/* The part of a memory that belongs to a worker of its owner. */
static inline double *bandwidth_part(const struct bandwidth *b, size_t memory, size_t index_in_node)
{
    return (double *)(void *)((char *)b->arenas[memory].base + index_in_node * b->worker_bytes[memory]);
}

/* Best and median of n values: the largest is best, or the smallest. Sorts them. */
void bandwidth_sort(double *values, size_t n);
double bandwidth_median(const double *sorted, size_t n);

#endif
