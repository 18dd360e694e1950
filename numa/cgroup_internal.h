/*
 * cgroup_internal.h - what the control groups of this process grant it: memory, and time of CPUs.
 *
 * A group's limit holds for all below it, so the least one on the way up counts. Version 1 and 2 of the kernel's interface, also side
 * by side; inside a container, too, where the path of the own group may be the host's.
 */
#ifndef FOURWAY_NUMA_CGROUP_INTERNAL_H
#define FOURWAY_NUMA_CGROUP_INTERNAL_H

#include <stdint.h>

struct cgroup_limits {
    uint64_t memory_bytes;      /* limit; UINT64_MAX: none */
    uint64_t memory_left;       /* of it; page cache counts as left, because it is dropped at the limit */
    double cpus;                /* CPU seconds a second (cpu.max, CFS quota); 0: no limit */
};

/* Nothing that cannot be read limits. */
void cgroup_read_limits(struct cgroup_limits *limits, const char *root);

#endif
