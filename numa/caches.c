#include "numa/caches_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_INDEX = 16 };    /* x86 has four: two of level 1, then 2 and 3 */

/* "32K", "105M". */
static uint64_t parse_size(const char *text)
{
    char *unit;
    const uint64_t n = strtoull(text, &unit, 10);

    return n << (*unit == 'K' ? 10 : *unit == 'M' ? 20 : *unit == 'G' ? 30 : 0);
}

/* Sizes by level, and who shares the last level; false where the kernel says nothing. */
static bool read_cpu(int cpu, uint64_t bytes[MAX_INDEX], struct id_set *sharers, size_t *last, const char *root)
{
    char text[SYSFS_TEXT_BYTES];

    *last = 0;
    for (int index = 0; index < MAX_INDEX; index++) {
        const char *const format = "%s/sys/devices/system/cpu/cpu%d/cache/index%d/%s";

        if (sysfs_read_text(text, format, root, cpu, index, "level"))
            break;
        const size_t level = strtoul(text, NULL, 10);
        if (level >= MAX_INDEX || sysfs_read_text(text, format, root, cpu, index, "type") || !strncmp(text, "Instruction", 11) ||
            sysfs_read_text(text, format, root, cpu, index, "size"))
            continue;
        bytes[level] = parse_size(text);
        if (level > *last && !sysfs_read_list(sharers, format, root, cpu, index, "shared_cpu_list"))
            *last = level;
    }
    return *last > 0;
}

void caches_read(struct cache_sizes *sizes, const struct id_set *cpus, const char *root)
{
    struct id_set counted = { 0 };

    *sizes = (struct cache_sizes){ 0 };
    for (int cpu = id_set_next(cpus, 0); cpu >= 0; cpu = id_set_next(cpus, cpu + 1)) {
        uint64_t bytes[MAX_INDEX] = { 0 };
        struct id_set sharers = { 0 };
        size_t last;

        /* Of those that share a cache one is enough: a machine of 960 CPUs has 15,000 such files. */
        if (id_set_has(&counted, cpu) || !read_cpu(cpu, bytes, &sharers, &last, root))
            continue;
        if (!sizes->llc_bytes) {
            sizes->l2_bytes = bytes[2];
            sizes->llc_bytes = bytes[last];
        }
        sizes->llc_total_bytes += bytes[last];
        id_set_add(&counted, cpu);
        id_set_or(&counted, &sharers);
    }
}
