#include "numa/caches.h"

#include <stdlib.h>

#include "numa/sysfs_internal.h"

enum { MAX_INDICES = 16 };

/* The highest-numbered level of one CPU: its size, and who shares it. */
static uint64_t last_level(const char *root, int cpu, struct id_set *shared)
{
    char text[SYSFS_TEXT_BYTES];
    unsigned long highest = 0;
    uint64_t bytes = 0;

    for (int i = 0; i < MAX_INDICES; i++) {
        if (sysfs_read_text(text, "%s/sys/devices/system/cpu/cpu%d/cache/index%d/level", root, cpu, i))
            break;
        const unsigned long level = strtoul(text, NULL, 10);
        if (level <= highest || sysfs_read_text(text, "%s/sys/devices/system/cpu/cpu%d/cache/index%d/size", root, cpu, i))
            continue;
        highest = level;
        bytes = strtoull(text, NULL, 10) << 10;     /* "32768K" */
        if (sysfs_read_list(shared, "%s/sys/devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list", root, cpu, i)) {
            *shared = (struct id_set){ 0 };
            id_set_add(shared, cpu);
        }
    }
    return bytes;
}

uint64_t caches_last_level_bytes(const char *root, const int *cpus, size_t n_cpus)
{
    struct id_set counted = { 0 };
    uint64_t sum = 0;

    for (size_t i = 0; i < n_cpus; i++) {
        struct id_set shared = { 0 };

        if (id_set_has(&counted, cpus[i]))
            continue;
        sum += last_level(root, cpus[i], &shared);
        for (size_t w = 0; w < SYSFS_MAX_IDS / 64; w++)
            counted.word[w] |= shared.word[w];
    }
    return sum;
}
