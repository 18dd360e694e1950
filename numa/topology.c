/*
 * topology.c - nodes, cores and distances, from sysfs and the process's affinity.
 *
 * sysfs is read directly and not through libnuma or hwloc: both describe the machine they run on, and placement has to be
 * tested on trees recorded from machines we do not have.
 */
#include "numa/topology.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "numa/caches_internal.h"
#include "numa/cgroup_internal.h"
#include "numa/sysfs_internal.h"

enum { DISTANCE_LOCAL = 10, DISTANCE_REMOTE = 20 }; /* what the kernel assumes where the firmware says nothing */

struct cpus {
    struct id_set online, allowed;
    struct id_set cores;                /* the first allowed thread of each: a second one slows decode by up to 10 x in other engines */
    int next_thread[SYSFS_MAX_IDS];     /* the next allowed one of the same core, or -1 */
    size_t threads_per_core, n_online_cores;
};

/* The nodes that are online, before it is known which of them work. */
struct found_node {
    int os_node;
    bool has_cpus;                      /* whoever may use them */
    bool has_memory;                    /* for this process */
    uint64_t total_bytes, free_bytes;
    struct id_set cores, guests;        /* its own that this process may use; those that nodes without memory lend it */
    uint8_t *distance;                  /* to each found node */
};

struct found {
    size_t n;
    struct found_node *nodes;
};

/* The list behind `key` in proc/self/status; false where there is none. */
static bool read_status_list(struct id_set *s, const char *key, const char *root)
{
    char text[SYSFS_TEXT_BYTES];
    char *list = sysfs_read_text(text, "%s/proc/self/status", root) ? NULL : strstr(text, key);

    if (!list)
        return false;
    list += strlen(key);
    list[strcspn(list, "\n")] = '\0';
    return !sysfs_parse_list(s, list);
}

/* CPUs that are online and in our affinity mask (or in the recorded one). */
static int read_allowed_cpus(struct cpus *c, const char *root)
{
    int err = sysfs_read_list(&c->online, "%s/sys/devices/system/cpu/online", root);

    c->allowed = (struct id_set){ 0 };
    if (!*root) {
        if (sched_getaffinity(0, sizeof(c->allowed), (cpu_set_t *)&c->allowed))
            return -errno;
        if (err)    /* a container without /sys */
            c->online = c->allowed;
        err = 0;
    } else if (!err && !read_status_list(&c->allowed, "Cpus_allowed_list:", root)) {
        c->allowed = c->online;
    }
    id_set_and(&c->allowed, &c->online);
    return err;
}

static int group_by_core(struct cpus *c, const char *root)
{
    c->cores = (struct id_set){ 0 };
    c->threads_per_core = 1;
    c->n_online_cores = 0;
    for (int cpu = id_set_next(&c->online, 0); cpu >= 0; cpu = id_set_next(&c->online, cpu + 1)) {
        struct id_set threads;
        int err = sysfs_read_list(&threads, "%s/sys/devices/system/cpu/cpu%d/topology/core_cpus_list", root, cpu);

        if (err == -ENOENT) /* before Linux 5.3 */
            err = sysfs_read_list(&threads, "%s/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", root, cpu);
        if (err && err != -ENOENT)
            return err;
        id_set_add(&threads, cpu);
        c->n_online_cores += id_set_next(&threads, 0) == cpu;
        if (!id_set_has(&c->allowed, cpu))
            continue;
        id_set_and(&threads, &c->allowed);
        c->next_thread[cpu] = id_set_next(&threads, cpu + 1);
        if (id_set_next(&threads, 0) == cpu)
            id_set_add(&c->cores, cpu);
        if (id_set_count(&threads) > c->threads_per_core)
            c->threads_per_core = id_set_count(&threads);
    }
    return 0;
}

/* A row of nodeN/distance has one number for each online node, in their order. */
static void read_distances(struct found *f, struct found_node *node, const char *root)
{
    char text[SYSFS_TEXT_BYTES] = "";
    char *at = text;

    sysfs_read_text(text, "%s/sys/devices/system/node/node%d/distance", root, node->os_node);
    for (size_t i = 0; i < f->n; i++) {
        char *end;
        unsigned long distance = strtoul(at, &end, 10);

        if (end == at || distance == 0 || distance > UINT8_MAX)
            distance = &f->nodes[i] == node ? DISTANCE_LOCAL : DISTANCE_REMOTE;
        at = end;
        node->distance[i] = (uint8_t)distance;
    }
}

static int find_nodes(struct found *f, const struct id_set *online, const struct cpus *c, const char *root)
{
    struct id_set mems;
    int err = 0;

    if (!read_status_list(&mems, "Mems_allowed_list:", root))
        memset(&mems, 0xff, sizeof(mems));
    f->nodes = calloc(id_set_count(online), sizeof(*f->nodes));
    if (!f->nodes)
        return -ENOMEM;
    for (int id = id_set_next(online, 0); id >= 0 && !err; id = id_set_next(online, id + 1)) {
        struct found_node *node = &f->nodes[f->n++];

        node->os_node = id;
        err = sysfs_read_list(&node->cores, "%s/sys/devices/system/node/node%d/cpulist", root, id);
        node->has_cpus = id_set_count(&node->cores) > 0;
        id_set_and(&node->cores, &c->cores);
        sysfs_read_node_memory(root, id, &node->total_bytes, &node->free_bytes);
        node->has_memory = node->total_bytes > 0 && id_set_has(&mems, id);
    }
    for (size_t i = 0; i < f->n && !err; i++) {
        f->nodes[i].distance = malloc(f->n);
        err = f->nodes[i].distance ? 0 : -ENOMEM;
        if (!err)
            read_distances(f, &f->nodes[i], root);
    }
    return err;
}

static void free_found(struct found *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->nodes[i].distance);
    free(f->nodes);
}

/*
 * Cores whose node has no memory work for the nearest node that has: their reads cross a link wherever they look. On a tie the node
 * with the fewest cores. A node of memory alone comes into question only where no node has both (a cpuset can do that).
 */
static void lend_cores(struct found *f)
{
    bool any_whole = false;

    for (size_t i = 0; i < f->n; i++)
        any_whole = any_whole || (f->nodes[i].has_memory && id_set_count(&f->nodes[i].cores) > 0);
    for (size_t i = 0; i < f->n; i++) {
        const struct found_node *from = &f->nodes[i];
        struct found_node *to = NULL;
        size_t n_to = 0;

        for (size_t j = 0; j < f->n && !from->has_memory && id_set_count(&from->cores) > 0; j++) {
            struct found_node *node = &f->nodes[j];
            const size_t n = id_set_count(&node->cores) + id_set_count(&node->guests);

            if (!node->has_memory || (any_whole && !id_set_count(&node->cores)))
                continue;
            const int nearer = to ? from->distance[to - f->nodes] - from->distance[j] : 1;
            if (nearer > 0 || (nearer == 0 && n < n_to)) {
                to = node;
                n_to = n;
            }
        }
        if (to) {
            log_warn("node %d has cores but no memory for this process: its cores work for node %d", from->os_node, to->os_node);
            id_set_or(&to->guests, &from->cores);
        }
    }
    if (!any_whole)
        log_warn("no node has both cores and memory for this process: all memory is remote");
}

static int package_of(int cpu, const char *root)
{
    char text[SYSFS_TEXT_BYTES];

    if (sysfs_read_text(text, "%s/sys/devices/system/cpu/cpu%d/topology/physical_package_id", root, cpu))
        return -1;
    const long package = strtol(text, NULL, 10);    /* -1 on hypervisors that do not say */
    return package >= 0 && package < SYSFS_MAX_IDS ? (int)package : -1;
}

static void note_package(struct id_set *packages, int cpu, const char *root)
{
    const int package = package_of(cpu, root);

    if (package >= 0)
        id_set_add(packages, package);
}

/* One more core, the first thread of which is `cpu`. */
static void add_core(struct topology_node *node, int cpu, const struct cpus *c)
{
    int *threads = node->threads + node->n_cpus * c->threads_per_core;

    node->cpus[node->n_cpus++] = cpu;
    for (size_t i = 0; i < c->threads_per_core; i++) {
        threads[i] = cpu;
        cpu = cpu < 0 ? -1 : c->next_thread[cpu];
    }
}

static int set_cores(struct topology_node *node, const struct id_set *own, const struct id_set *guests, const struct cpus *c,
                     const char *root)
{
    const size_t n = id_set_count(own) + id_set_count(guests);
    struct id_set packages = { 0 };

    node->n_cpus = 0;
    node->n_guest_cpus = id_set_count(guests);
    node->cpus = malloc(n * sizeof(*node->cpus));
    node->threads = malloc(n * c->threads_per_core * sizeof(*node->threads));
    if (!node->cpus || !node->threads)
        return -ENOMEM;
    for (int cpu = id_set_next(own, 0); cpu >= 0; cpu = id_set_next(own, cpu + 1)) {
        note_package(&packages, cpu, root);
        add_core(node, cpu, c);
    }
    for (int cpu = id_set_next(guests, 0); cpu >= 0; cpu = id_set_next(guests, cpu + 1))
        add_core(node, cpu, c);
    node->package = package_of(node->cpus[0], root);
    node->n_packages = id_set_count(&packages) ? id_set_count(&packages) : 1;
    return 0;
}

/* One node of everything: a kernel without NUMA, or one that says nothing of its memory. */
static int make_one_node(struct topology *t, const struct cpus *c, const char *root)
{
    static const struct id_set none;
    char text[SYSFS_TEXT_BYTES];
    uint64_t kib = 0;

    t->n_nodes = 1;
    t->distance[0][0] = DISTANCE_LOCAL;
    if (!sysfs_read_text(text, "%s/proc/meminfo", root) && sysfs_find_number(text, "MemTotal:", &kib))
        t->nodes[0].total_bytes = kib * 1024;
    t->nodes[0].free_bytes = topology_available_bytes(root);
    return set_cores(&t->nodes[0], &c->cores, &none, c, root);
}

/* Nodes with workers, and apart from them memory that has no CPUs of its own. */
static int sort_nodes(struct topology *t, const struct found *f, const struct cpus *c, const char *root)
{
    size_t from[TOPOLOGY_MAX_NODES];
    int err = 0;

    for (size_t i = 0; i < f->n && !err; i++) {
        const struct found_node *node = &f->nodes[i];

        t->n_cpu_nodes += node->has_cpus;
        if (!node->has_memory || (!id_set_count(&node->cores) && !id_set_count(&node->guests)))
            continue;
        if (t->n_nodes == TOPOLOGY_MAX_NODES) {
            log_warn("node %d is left out: at most %d nodes are used", node->os_node, TOPOLOGY_MAX_NODES);
            continue;
        }
        from[t->n_nodes] = i;
        t->nodes[t->n_nodes] = (struct topology_node){ .os_node = node->os_node,
                                                       .total_bytes = node->total_bytes,
                                                       .free_bytes = node->free_bytes };
        err = set_cores(&t->nodes[t->n_nodes++], &node->cores, &node->guests, c, root);
    }
    for (size_t i = 0; i < t->n_nodes; i++) {
        for (size_t j = 0; j < t->n_nodes; j++)
            t->distance[i][j] = f->nodes[from[i]].distance[from[j]];
    }
    for (size_t i = 0; i < f->n && t->n_memory_nodes < TOPOLOGY_MAX_NODES; i++) {
        const struct found_node *node = &f->nodes[i];

        if (node->has_cpus || !node->has_memory || id_set_count(&node->guests) > 0)
            continue;
        struct topology_memory_node *m = &t->memory_nodes[t->n_memory_nodes++];
        *m = (struct topology_memory_node){ .os_node = node->os_node, .total_bytes = node->total_bytes, .free_bytes = node->free_bytes };
        for (size_t j = 0; j < t->n_nodes; j++)
            m->distance[j] = f->nodes[from[j]].distance[i];
    }
    return err;
}

static int read_nodes(struct topology *t, const struct cpus *c, const char *root)
{
    struct id_set online;
    struct found found = { 0 };
    bool any_memory = false;
    int err = sysfs_read_list(&online, "%s/sys/devices/system/node/online", root);

    if (err == -ENOENT)
        return make_one_node(t, c, root);
    if (!err)
        err = find_nodes(&found, &online, c, root);
    for (size_t i = 0; i < found.n; i++)
        any_memory = any_memory || found.nodes[i].has_memory;
    if (!err && any_memory) {
        lend_cores(&found);
        err = sort_nodes(t, &found, c, root);
    } else if (!err) {
        log_warn("no node says that it has memory for this process: all cores are taken as one node");
        err = make_one_node(t, c, root);
    }
    free_found(&found);
    return err;
}

static size_t count_packages(const struct cpus *c, const char *root)
{
    struct id_set packages = { 0 };

    for (int cpu = id_set_next(&c->cores, 0); cpu >= 0; cpu = id_set_next(&c->cores, cpu + 1))
        note_package(&packages, cpu, root);
    return id_set_count(&packages);
}

int topology_read(struct topology *t, const char *root)
{
    struct cpus cpus;
    struct cache_sizes caches;
    struct cgroup_limits limits;

    *t = (struct topology){ 0 };
    int err = read_allowed_cpus(&cpus, root);
    if (!err && !id_set_count(&cpus.allowed))
        err = -ENODEV;
    if (!err)
        err = group_by_core(&cpus, root);
    if (!err) {
        t->n_allowed_cpus = id_set_count(&cpus.allowed);
        t->n_online_cpus = id_set_count(&cpus.online);
        t->n_online_cores = cpus.n_online_cores;
        t->threads_per_core = cpus.threads_per_core;
        err = read_nodes(t, &cpus, root);
    }
    if (err) {
        log_error("cannot read the CPUs and nodes below %s/sys/devices/system: %s", root, strerror(-err));
        topology_free(t);
        return err;
    }
    t->n_packages = count_packages(&cpus, root);
    cgroup_read_limits(&limits, root);
    t->cpu_quota = limits.cpus;
    caches_read(&caches, &cpus.allowed, root);
    t->l2_bytes = caches.l2_bytes;
    t->llc_bytes = caches.llc_bytes;
    t->llc_total_bytes = caches.llc_total_bytes;
    return 0;
}

void topology_free(struct topology *t)
{
    for (size_t i = 0; i < t->n_nodes; i++) {
        free(t->nodes[i].cpus);
        free(t->nodes[i].threads);
    }
    *t = (struct topology){ 0 };
}
