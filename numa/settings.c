#include "numa/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "numa/cgroup_internal.h"
#include "numa/place.h"
#include "numa/sysfs_internal.h"

enum { CAP_SYS_NICE_BIT = 23, BIND_BYTES = 4096 };     /* linux/capability.h; a page */

static int read_number(const char *root, const char *path)
{
    char text[SYSFS_TEXT_BYTES], *end;

    if (sysfs_read_text(text, "%s/%s", root, path))
        return SETTINGS_UNKNOWN;
    const long n = strtol(text, &end, 10);
    return end == text || n < 0 || n > INT32_MAX ? SETTINGS_UNKNOWN : (int)n;
}

/* A word of at most SETTINGS_WORD - 1 bytes that begins at `from`. */
static void copy_word(char word[SETTINGS_WORD], const char *from)
{
    snprintf(word, SETTINGS_WORD, "%.*s", (int)strcspn(from, "] \n"), from);
}

/* "always [madvise] never": the one in brackets. */
static void read_choice(char word[SETTINGS_WORD], const char *root, const char *path)
{
    char text[SYSFS_TEXT_BYTES];
    const char *chosen = sysfs_read_text(text, "%s/%s", root, path) ? NULL : strchr(text, '[');

    word[0] = '\0';
    if (chosen)
        copy_word(word, chosen + 1);
}

static void read_cpuinfo(struct settings *s, const char *root)
{
    char path[SYSFS_PATH_BYTES], *line = NULL;
    size_t size = 0;

    snprintf(path, sizeof(path), "%s/proc/cpuinfo", root);
    FILE *f = fopen(path, "re");
    while (f && getline(&line, &size, f) > 1) {     /* the first processor: an empty line ends it */
        char *value = strchr(line, ':');

        if (!value)
            continue;
        value += 1 + strspn(value + 1, " \t");
        if (!strncmp(line, "model name", 10))
            snprintf(s->cpu_name, sizeof(s->cpu_name), "%.*s", (int)strcspn(value, "\n"), value);
        else if (!strncmp(line, "flags", 5))
            snprintf(s->cpu_flags, sizeof(s->cpu_flags), " %.*s ", (int)strcspn(value, "\n"), value);
    }
    s->is_guest = strstr(s->cpu_flags, " hypervisor ") != NULL;
    free(line);
    if (f)
        fclose(f);
}

static void read_huge_pages(struct settings *s, const struct topology *t, const char *root)
{
    s->huge_pages_known = *s->thp_enabled || read_number(root, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages") >= 0;
    for (size_t i = 0; i < t->n_nodes; i++) {
        char path[128];

        snprintf(path, sizeof(path), "sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages", t->nodes[i].os_node);
        const int n = read_number(root, path);
        s->huge_pages[i].n = n < 0 ? 0 : (uint64_t)n;
        s->huge_pages[i].n_free = sysfs_free_huge_bytes(root, t->nodes[i].os_node, 21) >> 21;
    }
}

static void read_governor(struct settings *s, const char *root, int cpu)
{
    char text[SYSFS_TEXT_BYTES], path[128];

    if (sysfs_read_text(text, "%s/sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", root, cpu))
        return;
    const bool slow = strncmp(text, "performance", 11) != 0, first = slow ? !s->n_not_performance : !s->n_governed;
    s->n_governed++;
    s->n_not_performance += slow;
    if (!first)
        return;
    copy_word(s->governor, text);
    s->driver[0] = '\0';
    if (!sysfs_read_text(text, "%s/sys/devices/system/cpu/cpu%d/cpufreq/scaling_driver", root, cpu))
        copy_word(s->driver, text);
    snprintf(path, sizeof(path), "sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_min_freq", cpu);
    const int least = read_number(root, path);
    snprintf(path, sizeof(path), "sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq", cpu);
    const int most = read_number(root, path);
    s->least_clock = least > 0 && most > 0 ? (double)least / most : 0;
}

static void read_frequencies(struct settings *s, const struct topology *t, const char *root)
{
    for (size_t i = 0; i < t->n_nodes; i++) {
        for (size_t c = 0; c < t->nodes[i].n_cpus; c++)
            read_governor(s, root, t->nodes[i].cpus[c]);
    }
    s->no_turbo = read_number(root, "sys/devices/system/cpu/intel_pstate/no_turbo") == 1 ||
                  read_number(root, "sys/devices/system/cpu/cpufreq/boost") == 0;
}

static void read_memory(struct settings *s, const char *root)
{
    char text[SYSFS_TEXT_BYTES];
    uint64_t limit_kib, used_kib;

    s->overcommit_memory = read_number(root, "proc/sys/vm/overcommit_memory");
    s->commit_left_bytes = UINT64_MAX;
    if (!sysfs_read_text(text, "%s/proc/meminfo", root) && sysfs_find_number(text, "CommitLimit:", &limit_kib) &&
        sysfs_find_number(text, "Committed_AS:", &used_kib))
        s->commit_left_bytes = limit_kib > used_kib ? (limit_kib - used_kib) * 1024 : 0;
}

/* Docker's seccomp profile refuses mbind without CAP_SYS_NICE, though the kernel would not: asking is the only way to know. */
static int try_to_bind(int os_node)
{
    void *page = mmap(NULL, BIND_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return -ENOMEM;
    const int err = place_bind(page, BIND_BYTES, os_node);
    munmap(page, BIND_BYTES);
    return err;
}

void settings_read(struct settings *s, const struct topology *t, const char *root)
{
    static const char key[] = "CapEff:";
    char text[SYSFS_TEXT_BYTES];
    struct cgroup_limits limits;
    const char *capabilities;

    *s = (struct settings){ 0 };
    read_cpuinfo(s, root);
    s->numa_balancing = read_number(root, "proc/sys/kernel/numa_balancing");
    s->zone_reclaim_mode = read_number(root, "proc/sys/vm/zone_reclaim_mode");
    read_memory(s, root);
    read_choice(s->thp_enabled, root, "sys/kernel/mm/transparent_hugepage/enabled");
    read_choice(s->thp_defrag, root, "sys/kernel/mm/transparent_hugepage/defrag");
    read_huge_pages(s, t, root);
    read_frequencies(s, t, root);
    cgroup_read_limits(&limits, root);
    s->memory_limit_bytes = limits.memory_bytes;
    capabilities = sysfs_read_text(text, "%s/proc/self/status", root) ? NULL : strstr(text, key);
    if (capabilities)
        s->has_sys_nice = strtoull(capabilities + strlen(key), NULL, 16) >> CAP_SYS_NICE_BIT & 1;
    s->bind_tried = !*root;
    if (s->bind_tried)
        s->bind_error = try_to_bind(t->nodes[0].os_node);
    if (!sysfs_read_text(text, "%s/proc/loadavg", root))
        s->load = strtod(text, NULL);
}
