/*
 * topology.h - which nodes, cores and memory this process may use: real ones, or virtual ones for tests.
 *
 * Read from sysfs and the process's affinity below a root directory that a test can replace. A node here is what the
 * kernel calls a node. One CPU a physical core is listed (the first allowed SMT sibling). Nodes without
 * allowed CPUs get no workers and hold no weights in this version.
 */
#ifndef FOURWAY_NUMA_TOPOLOGY_H
#define FOURWAY_NUMA_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOPOLOGY_MAX_NODES = 64 };

struct topology_node {
    int os_node;            /* the kernel's number; virtual nodes of one real node share it */
    size_t n_cpus;
    int *cpus;              /* one logical CPU for each physical core that the process may use */
    uint64_t total_bytes, free_bytes;
};

struct topology {
    size_t n_nodes;
    struct topology_node nodes[TOPOLOGY_MAX_NODES];
    uint8_t distance[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES];  /* SLIT; 10 = local */
    size_t n_allowed_cpus;  /* logical CPUs in the affinity mask */
    bool is_virtual;        /* nodes are pretended: memory is not bound */
};

/* `root`: "" for this machine, or a folder that holds sys/devices/system/{node,cpu} and optionally allowed_cpus (a cpulist).
 * Nodes with cores but no memory that the cpuset grants are left out with a warning; with neither in one place, one node is made up.
 * Returns 0 or a negative errno (logged). topology_free afterwards, always. */
int topology_read(struct topology *t, const char *root);

/* Keep the nodes of `list` ("2" = the first 2 nodes; "0,1" or "0-1" = these kernel nodes; "all"). -EINVAL: logged. */
int topology_select(struct topology *t, const char *list);

/* Replace the nodes by `n` virtual ones over the same CPUs, dealt round in contiguous runs (several nodes may share a CPU). */
int topology_make_virtual(struct topology *t, size_t n);

/* Keep part `part` of `n_parts` equal ones, in the order of the nodes; n_parts must divide their number, else -EINVAL (logged). */
int topology_keep_part(struct topology *t, size_t part, size_t n_parts);

void topology_free(struct topology *t);

/* Bytes of memory this process can still get: MemAvailable, bounded by the cgroup's limits; UINT64_MAX if nothing says. */
uint64_t topology_available_bytes(const char *root);

#endif
