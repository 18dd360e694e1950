/*
 * bandwidth.h - what the memory of this machine can do: rates and latencies of nodes, pairs of nodes and cores.
 *
 * The rules of honest measurement live here. Each worker is pinned, and first touches what it will read; where the memory lies is
 * verified before anything is timed. A sample goes from the first worker's start to the last one's end, and moves at least
 * `sample_ns`. The memory of a node's team is far larger than its last-level caches. Loops come as a table from the caller
 * (common/streams.h), since this folder does not know kernels/. 1 GB is 1e9 bytes; nothing is clipped.
 */
#ifndef FOURWAY_NUMA_BANDWIDTH_H
#define FOURWAY_NUMA_BANDWIDTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/streams.h"
#include "numa/topology.h"

enum { BANDWIDTH_MAX_SAMPLES = 100 };
#define BANDWIDTH_ALL_NODES SIZE_MAX

struct bandwidth_options {
    const struct topology *topology;        /* outlives the measurement */
    const struct stream_loops *loops;
    size_t n_threads;                       /* 0: one a core */
    size_t n_samples;                       /* 1 .. BANDWIDTH_MAX_SAMPLES */
    uint64_t sample_ns;                     /* least length of one */
    double cache_multiple;                  /* an array of three is this many times the last-level caches */
};

/* Of the samples of one figure, in units a second (bytes, or operations). */
struct bandwidth_rate {
    double best, median, least;
    double pass_s, best_pass_s, worst_pass_s;   /* time of one pass over the arrays: mean, least and most */
};

/* Nanoseconds a load. */
struct bandwidth_latency {
    double best, median;
};

/* A memory that is measured: of a node of the topology; or of one without CPUs, which has the team of the nearest node as its owner. */
struct bandwidth_memory {
    int os_node;
    size_t owner;               /* node of the topology whose workers touch it first */
    uint64_t bytes;             /* of the arena */
    double on_node, huge;       /* shares of it that lie on the node, and in huge pages */
    bool bound;
};

struct bandwidth;

/*
 * Take and touch memory on every node, bounded by half of what is free there. Returns 0, -ENOMEM (logged: node, needed, free, what to do),
 * -EINVAL or -EAGAIN (logged).
 */
int bandwidth_create(struct bandwidth **b, const struct bandwidth_options *o);
void bandwidth_destroy(struct bandwidth *b);

size_t bandwidth_n_nodes(const struct bandwidth *b);        /* those with workers */
size_t bandwidth_n_memories(const struct bandwidth *b);     /* the first bandwidth_n_nodes are the workers' own */
size_t bandwidth_n_workers(const struct bandwidth *b);
size_t bandwidth_node_workers(const struct bandwidth *b, size_t node);
const struct bandwidth_memory *bandwidth_memory(const struct bandwidth *b, size_t memory);
uint64_t bandwidth_cache_bytes(const struct bandwidth *b);  /* last-level caches of all nodes */
uint64_t bandwidth_array_bytes(const struct bandwidth *b);  /* one array of three, over all nodes */
bool bandwidth_is_short(const struct bandwidth *b);         /* too little memory was free for cache_multiple */

/* Traffic of one kind: the workers of `node` (or of all), each over its own memory. *valid (may be NULL) becomes false if the arrays then
 * do not hold what they should. */
void bandwidth_stream(struct bandwidth *b, enum stream_kind kind, size_t node, struct bandwidth_rate *r, bool *valid);

/* Reads by the first `n_workers` workers of a node, of their own memory. */
void bandwidth_cores(struct bandwidth *b, size_t node, size_t n_workers, struct bandwidth_rate *r);

/* Reads by all workers of `node` of a memory; and by all workers of the machine, each node of the next one's. */
void bandwidth_read_from(struct bandwidth *b, size_t node, size_t memory, struct bandwidth_rate *r);
void bandwidth_read_remote(struct bandwidth *b, struct bandwidth_rate *r);

/* Dependent loads by one core of `node` over a random cycle through a memory; nothing else runs. */
void bandwidth_chase(struct bandwidth *b, size_t node, size_t memory, struct bandwidth_latency *l);

/* The same on node 0, while all other workers read their own memory with pauses of `delay` cycles every two lines. The rate is theirs
 * and that of the dependent loads. With one worker nobody else reads. */
void bandwidth_loaded(struct bandwidth *b, unsigned delay, struct bandwidth_latency *l, double *bytes_per_s);

/*
 * Lines handed from core to core: the first worker of `writer` touches them (writes, or only reads if not `modified`), then one of `reader`
 * loads them, dependently; the lines live in `home`. With writer = reader, the second worker of that node reads. Returns 0, or -ENODEV when
 * there are no two workers on CPUs of their own for it.
 */
int bandwidth_core_to_core(struct bandwidth *b, size_t writer, size_t reader, size_t home, bool modified, struct bandwidth_latency *l);

/* A barrier of all workers (pool.h). */
void bandwidth_barrier(struct bandwidth *b, struct bandwidth_latency *l);

/* Operations a second of all workers together: loop(n) returns the operations that it did. */
void bandwidth_peak(struct bandwidth *b, uint64_t (*loop)(uint64_t n), struct bandwidth_rate *r);

#endif
