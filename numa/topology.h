/*
 * topology.h - which nodes, cores and memory this process may use: real ones, or virtual ones for tests.
 *
 * Read from sysfs, proc and the process's affinity below a root directory that a test can replace: what cpusets, cgroups and taskset
 * leave of the machine. A node here is what the kernel calls a node: a socket, a part of one (SNC, NPS), or, with interleaving in the
 * firmware, several. One CPU a physical core is listed (the first allowed SMT sibling).
 *
 * Nodes of memory alone (CXL, HBM) are listed apart and get no workers and no weights. A node with cores but without memory that this
 * process may use lends its cores to the nearest node that has some.
 */
#ifndef FOURWAY_NUMA_TOPOLOGY_H
#define FOURWAY_NUMA_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOPOLOGY_MAX_NODES = 64 };

struct topology_node {
    int os_node;                /* the kernel's number; virtual nodes of one real node share it */
    int package;                /* socket of its first core, as the kernel counts; -1: unknown */
    size_t n_packages;          /* sockets its cores are on: more than 1 where the firmware interleaves */
    size_t n_cpus;
    size_t n_guest_cpus;        /* the last of them belong to nodes without memory, and read this node's from afar */
    int *cpus;                  /* one logical CPU for each physical core that the process may use */
    int *threads;               /* [n_cpus][threads_per_core]: the allowed CPUs of each core, cpus[i] first, then -1. NULL: not read */
    uint64_t total_bytes, free_bytes;
};

/* A node of memory alone. */
struct topology_memory_node {
    int os_node;
    uint64_t total_bytes, free_bytes;
    uint8_t distance[TOPOLOGY_MAX_NODES];   /* from each of the nodes, as SLIT */
};

struct topology {
    size_t n_nodes;
    struct topology_node nodes[TOPOLOGY_MAX_NODES];
    uint8_t distance[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES];  /* SLIT; 10 = local */
    size_t n_memory_nodes;
    struct topology_memory_node memory_nodes[TOPOLOGY_MAX_NODES];
    size_t n_packages;          /* sockets with CPUs that the process may use; 0: unknown */
    size_t threads_per_core;    /* the most allowed CPUs of one core */
    size_t n_allowed_cpus;      /* logical CPUs in the affinity mask */
    size_t n_online_cpus, n_online_cores;   /* of the machine, whoever may use them */
    size_t n_cpu_nodes;         /* nodes with CPUs that are online, likewise; 0: a kernel without NUMA */
    double cpu_quota;           /* CPU seconds a second that the cgroup grants; 0: no limit */
    uint64_t l2_bytes;          /* of one core; 0: unknown */
    uint64_t llc_bytes;         /* of one last-level cache, the first CPU's */
    uint64_t llc_total_bytes;   /* of all last-level caches that allowed CPUs share; stays when nodes are selected */
    bool is_virtual;            /* nodes are pretended: memory is not bound */
};

/* `root`: "" for this machine, or a folder that holds sys/ and proc/ of one (its proc/self/status says which CPUs are allowed).
 * No cores and memory in one node: the nearest are put together; no nodes: one is made up.
 * Returns 0 or a negative errno (logged). topology_free afterwards, always. */
int topology_read(struct topology *t, const char *root);

/* Keep the nodes of `list` ("2" = the first 2 nodes; "0,1" or "0-1" = these kernel nodes; "all"). -EINVAL: logged. */
int topology_select(struct topology *t, const char *list);

/* Replace the nodes by `n` virtual ones over the same CPUs, dealt round in contiguous runs (several nodes may share a CPU). */
int topology_make_virtual(struct topology *t, size_t n);

/* Keep part `part` of `n_parts` equal ones, in the order of the nodes; n_parts must divide their number, else -EINVAL (logged). */
int topology_keep_part(struct topology *t, size_t part, size_t n_parts);

/* Of all nodes. */
size_t topology_count_cores(const struct topology *t);
uint64_t topology_free_bytes(const struct topology *t);

/* Workers when the user names no number: one a core, but no more than the cgroup grants CPUs (then a log line says so): a worker that
 * is stopped for the rest of a period keeps all others waiting at the next barrier. At least 1. */
size_t topology_default_threads(const struct topology *t);

/*
 * CPUs for the threads of HTTP and tokenizing, taken out of the lists of the node with the most cores if it has 8 or more: all threads of
 * its first core, of two from 16 cores on, for there the kernel handles interrupts, too. A worker that shares its core makes every
 * barrier late. The batcher needs none: it is worker 0, and works while the other workers wait for it.
 */
enum { TOPOLOGY_MAX_RESERVED = 16 };
struct topology_reserved {
    size_t n_cpus;                          /* logical ones; 0: no node has 8 cores */
    int cpus[TOPOLOGY_MAX_RESERVED];
};
void topology_reserve_cores(struct topology *t, struct topology_reserved *reserved);

void topology_free(struct topology *t);

/* Bytes of memory this process can still get: MemAvailable, bounded by the cgroup's limits; UINT64_MAX if nothing says. */
uint64_t topology_available_bytes(const char *root);

#endif
