/*
 * caches.h - how much the last-level caches of some CPUs hold: what a measurement of memory has to exceed.
 */
#ifndef FOURWAY_NUMA_CACHES_H
#define FOURWAY_NUMA_CACHES_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the last-level caches that these CPUs share, each cache once; 0 when sysfs below `root` does not say. */
uint64_t caches_last_level_bytes(const char *root, const int *cpus, size_t n_cpus);

#endif
