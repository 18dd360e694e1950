/*
 * caches_internal.h - sizes of the caches that some CPUs share. From cpuN/cache, which kernels on some hypervisors do not have.
 */
#ifndef FOURWAY_NUMA_CACHES_INTERNAL_H
#define FOURWAY_NUMA_CACHES_INTERNAL_H

#include "numa/sysfs_internal.h"

struct cache_sizes {
    uint64_t l2_bytes, llc_bytes;   /* those of the first CPU; 0: unknown */
    uint64_t llc_total_bytes;       /* each last-level cache once */
};
void caches_read(struct cache_sizes *sizes, const struct id_set *cpus, const char *root);

#endif
