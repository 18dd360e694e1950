#include "numa/affinity.h"

#include <errno.h>
#include <sched.h>

struct affinity affinity_of(const int *cpus, size_t n)
{
    struct affinity a = { 0 };

    for (size_t i = 0; i < n; i++)
        a.word[cpus[i] / 64] |= UINT64_C(1) << (cpus[i] % 64);
    return a;
}

int affinity_get(struct affinity *a)
{
    *a = (struct affinity){ 0 };
    return sched_getaffinity(0, sizeof(*a), (cpu_set_t *)a) ? -errno : 0;
}

int affinity_set(const struct affinity *a)
{
    return sched_setaffinity(0, sizeof(*a), (const cpu_set_t *)a) ? -errno : 0;
}
