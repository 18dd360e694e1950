/*
 * cgroup.c - the limits of a container: how much memory this process can still get, and how much time of CPUs.
 *
 * A container's limit is a cgroup's, and the kernel kills at it without asking: a model that does not fit has to be refused
 * before it is loaded. A quota of CPU time is met by stopping all threads for the rest of a period, workers at a barrier among them.
 */
#include "numa/cgroup_internal.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/sysfs_internal.h"
#include "numa/topology.h"

static void lower(uint64_t *least, uint64_t value)
{
    *least = value < *least ? value : *least;
}

/* A file that holds one number; UINT64_MAX for "max", -1, or no such file. */
static uint64_t read_limit(const char *group, const char *file)
{
    char text[SYSFS_TEXT_BYTES];

    if (sysfs_read_text(text, "%s/%s", group, file) || text[0] < '0' || text[0] > '9')
        return UINT64_MAX;
    return strtoull(text, NULL, 10);
}

/* `usage` and the file pages of the group and all below it, which memory.stat has behind `active` and `inactive`. */
static void take_memory(struct cgroup_limits *l, const char *group, uint64_t limit, const char *usage, const char *active,
                        const char *inactive)
{
    char text[SYSFS_TEXT_BYTES];
    uint64_t used, n_active = 0, n_inactive = 0;

    if (limit == UINT64_MAX)
        return;
    used = read_limit(group, usage);
    used = used == UINT64_MAX ? 0 : used;
    if (!sysfs_read_text(text, "%s/memory.stat", group)) {
        sysfs_find_number(text, active, &n_active);
        sysfs_find_number(text, inactive, &n_inactive);
    }
    used -= n_active + n_inactive < used ? n_active + n_inactive : used;
    lower(&l->memory_bytes, limit);
    lower(&l->memory_left, limit > used ? limit - used : 0);
}

static void take_quota(struct cgroup_limits *l, double quota_us, double period_us)
{
    if (quota_us > 0 && period_us > 0 && (l->cpus == 0 || quota_us / period_us < l->cpus))
        l->cpus = quota_us / period_us;
}

static void take_memory_v1(struct cgroup_limits *l, const char *group)
{
    uint64_t limit = read_limit(group, "memory.limit_in_bytes");

    if (limit >= (uint64_t)INT64_MAX - 4095)    /* how version 1 says "none": LONG_MAX in whole pages */
        limit = UINT64_MAX;
    take_memory(l, group, limit, "memory.usage_in_bytes", "total_active_file", "total_inactive_file");
}

static void take_quota_v1(struct cgroup_limits *l, const char *group)
{
    const uint64_t quota = read_limit(group, "cpu.cfs_quota_us"), period = read_limit(group, "cpu.cfs_period_us");

    if (quota != UINT64_MAX && period != UINT64_MAX)
        take_quota(l, (double)quota, (double)period);
}

static void take_v2(struct cgroup_limits *l, const char *group)
{
    char text[SYSFS_TEXT_BYTES], *end;
    uint64_t limit = read_limit(group, "memory.max");

    lower(&limit, read_limit(group, "memory.high"));    /* beyond it the kernel slows the group to a crawl */
    take_memory(l, group, limit, "memory.current", "active_file", "inactive_file");
    if (!sysfs_read_text(text, "%s/cpu.max", group)) {
        const double quota_us = strtod(text, &end);     /* "max 100000" is no number */
        take_quota(l, end == text ? 0 : quota_us, strtod(end, NULL));
    }
}

/*
 * The group and those above it. Inside a container the path may be the host's, of which nothing is mounted but its end: groups
 * that are not there do not count, and the mount's own files, which are the container's, do.
 */
static void walk_up(struct cgroup_limits *l, const char *root, const char *mount, char *path,
                    void (*take)(struct cgroup_limits *l, const char *group))
{
    for (;;) {
        char *slash = strrchr(path, '/'), group[SYSFS_PATH_BYTES];

        if (slash && !slash[1]) { /* "/" is the mount itself */
            *slash = '\0';
            continue;
        }
        const int n = snprintf(group, sizeof(group), "%s/sys/fs/cgroup%s%s", root, mount, path);
        if (!strstr(path, "/..") && n > 0 && (size_t)n < sizeof(group))
            take(l, group);
        if (!slash)
            return;
        *slash = '\0';
    }
}

static bool has_controller(const char *controllers, const char *name)
{
    const size_t n = strlen(name);

    for (const char *at = controllers; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (!strncmp(at, name, n) && (at[n] == ',' || !at[n]))
            return true;
    }
    return false;
}

void cgroup_read_limits(struct cgroup_limits *l, const char *root)
{
    char text[SYSFS_TEXT_BYTES];

    *l = (struct cgroup_limits){ .memory_bytes = UINT64_MAX, .memory_left = UINT64_MAX };
    if (sysfs_read_text(text, "%s/proc/self/cgroup", root))
        return;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        /* "4:memory:/path" in version 1 (several controllers may share a line), "0::/path" in version 2 */
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        controllers++;
        if (!*controllers)
            walk_up(l, root, "", path, take_v2);
        else if (has_controller(controllers, "memory"))
            walk_up(l, root, "/memory", path, take_memory_v1);
        else if (has_controller(controllers, "cpu"))
            walk_up(l, root, "/cpu", path, take_quota_v1);
    }
}

uint64_t topology_available_bytes(const char *root)
{
    char text[SYSFS_TEXT_BYTES];
    struct cgroup_limits limits;
    uint64_t available = UINT64_MAX, kib;

    if (!sysfs_read_text(text, "%s/proc/meminfo", root) && sysfs_find_number(text, "MemAvailable:", &kib))
        available = kib * 1024;
    cgroup_read_limits(&limits, root);
    lower(&available, limits.memory_left);
    return available;
}
