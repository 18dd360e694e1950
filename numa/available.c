/*
 * available.c - how much memory this process can still get: what the kernel calls available, within the limits of its cgroups.
 *
 * A container's limit is a cgroup's, and the kernel kills at it without asking: a model that does not fit has to be refused
 * before it is loaded. Page cache counts as used in a cgroup but is dropped at the limit, so it counts as available here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/sysfs_internal.h"
#include "numa/topology.h"

/* The file names of a cgroup version: limit, usage, and in memory.stat the file pages of the group and all below it. */
struct cgroup_files {
    const char *mount, *limit, *usage, *active, *inactive;
};

static const struct cgroup_files cgroup_v1 = {
    "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file", "total_inactive_file",
};
static const struct cgroup_files cgroup_v2 = {
    "/sys/fs/cgroup", "memory.max", "memory.current", "active_file", "inactive_file",
};

/* What one group leaves; UINT64_MAX without a limit ("max", or no such file). */
static uint64_t group_left(const char *root, const struct cgroup_files *files, const char *group)
{
    char text[SYSFS_TEXT_BYTES];
    uint64_t limit, used = 0, active = 0, inactive = 0;

    if (sysfs_read_text(text, "%s%s%s/%s", root, files->mount, group, files->limit) || text[0] < '0' || text[0] > '9')
        return UINT64_MAX;
    limit = strtoull(text, NULL, 10);
    if (!sysfs_read_text(text, "%s%s%s/%s", root, files->mount, group, files->usage))
        used = strtoull(text, NULL, 10);
    if (!sysfs_read_text(text, "%s%s%s/memory.stat", root, files->mount, group)) {
        sysfs_find_number(text, files->active, &active);
        sysfs_find_number(text, files->inactive, &inactive);
    }
    used -= active + inactive < used ? active + inactive : used;
    return limit > used ? limit - used : 0;
}

/*
 * The least that a group and those above it leave. Inside a container the path may be the host's, of which nothing
 * is mounted but its end: groups that are not there do not count, and the mount's own files, which are the container's, do.
 */
static uint64_t groups_left(const char *root, const struct cgroup_files *files, char *group)
{
    uint64_t least = UINT64_MAX;

    for (;;) {
        char *slash = strrchr(group, '/');

        if (slash && !slash[1]) { /* "/" is the mount itself */
            *slash = '\0';
            continue;
        }
        const uint64_t left = strstr(group, "/..") ? UINT64_MAX : group_left(root, files, group);
        if (left < least)
            least = left;
        if (!slash)
            return least;
        *slash = '\0';
    }
}

uint64_t topology_available_bytes(const char *root)
{
    char text[SYSFS_TEXT_BYTES];
    uint64_t available = UINT64_MAX, kib;

    if (!sysfs_read_text(text, "%s/proc/meminfo", root) && sysfs_find_number(text, "MemAvailable:", &kib))
        available = kib * 1024;
    if (sysfs_read_text(text, "%s/proc/self/cgroup", root))
        return available;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        /* "4:memory:/path" in version 1 (several controllers may share a line), "0::/path" in version 2 */
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        const struct cgroup_files *files = !controllers[1] ? &cgroup_v2 : strstr(controllers, "memory") ? &cgroup_v1 : NULL;
        const uint64_t left = files ? groups_left(root, files, group) : UINT64_MAX;
        if (left < available)
            available = left;
    }
    return available;
}
