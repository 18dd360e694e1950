/*
 * affinity.h - the CPUs that the calling thread, and the threads it starts from then on, may run on.
 *
 * cpu_set_t ends at 1024 CPUs, which large machines exceed; these sets do not. Nothing is logged.
 */
#ifndef FOURWAY_NUMA_AFFINITY_H
#define FOURWAY_NUMA_AFFINITY_H

#include <stddef.h>
#include <stdint.h>

enum { AFFINITY_MAX_CPUS = 8192 };

struct affinity { uint64_t word[AFFINITY_MAX_CPUS / 64]; };

struct affinity affinity_of(const int *cpus, size_t n);

/* Both return 0 or a negative errno. */
int affinity_get(struct affinity *a);
int affinity_set(const struct affinity *a);

#endif
