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
#include "numa/sysfs_internal.h"

enum { DISTANCE_LOCAL = 10, DISTANCE_REMOTE = 20 }; /* what the kernel assumes where the firmware says nothing */

/* CPUs that are online and in our affinity mask (or in the recorded one). */
static int read_allowed_cpus(struct id_set *allowed, const char *root)
{
    struct id_set online;
    int err = sysfs_read_list(&online, "%s/sys/devices/system/cpu/online", root);

    if (!*root) {
        *allowed = (struct id_set){ 0 };
        if (sched_getaffinity(0, sizeof(*allowed), (cpu_set_t *)allowed))
            return -errno;
        if (!err)
            id_set_and(allowed, &online);
        return 0;
    }
    if (err)
        return err;
    err = sysfs_read_list(allowed, "%s/allowed_cpus", root);
    if (err == -ENOENT) {
        *allowed = online;
        err = 0;
    }
    id_set_and(allowed, &online);
    return err;
}

/* Nodes whose memory the cpuset grants; all of them where nothing says otherwise. */
static void read_allowed_mems(struct id_set *allowed, const char *root)
{
    static const char key[] = "Mems_allowed_list:";
    char text[SYSFS_TEXT_BYTES];

    if (!sysfs_read_text(text, "%s/proc/self/status", root)) {
        char *list = strstr(text, key);

        if (list) {
            list += strlen(key);
            list[strcspn(list, "\n")] = '\0';
            if (!sysfs_parse_list(allowed, list))
                return;
        }
    }
    memset(allowed, 0xff, sizeof(*allowed));
}

/* The first allowed sibling of each core: a second thread a core slows decode by up to 10 x in other engines. */
static int keep_one_per_core(struct id_set *cores, const struct id_set *allowed, const char *root)
{
    *cores = (struct id_set){ 0 };
    for (int cpu = id_set_next(allowed, 0); cpu >= 0; cpu = id_set_next(allowed, cpu + 1)) {
        struct id_set siblings;
        int err = sysfs_read_list(&siblings, "%s/sys/devices/system/cpu/cpu%d/topology/core_cpus_list", root, cpu);

        if (err == -ENOENT) /* before Linux 5.3 */
            err = sysfs_read_list(&siblings, "%s/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", root, cpu);
        if (err && err != -ENOENT)
            return err;
        id_set_and(&siblings, allowed);
        int first = id_set_next(&siblings, 0);
        if (first < 0 || first == cpu)
            id_set_add(cores, cpu);
    }
    return 0;
}

static int set_cpus(struct topology_node *node, const struct id_set *cpus)
{
    node->n_cpus = 0;
    node->cpus = malloc(id_set_count(cpus) * sizeof(*node->cpus));
    if (!node->cpus)
        return -ENOMEM;
    for (int cpu = id_set_next(cpus, 0); cpu >= 0; cpu = id_set_next(cpus, cpu + 1))
        node->cpus[node->n_cpus++] = cpu;
    return 0;
}

/* One node of everything: a kernel without NUMA, or CPUs and memory that no node has both of. */
static int make_one_node(struct topology *t, const struct id_set *cores, int os_node, const char *root)
{
    char text[SYSFS_TEXT_BYTES];
    uint64_t kib = 0;

    t->n_nodes = 1;
    t->nodes[0] = (struct topology_node){ .os_node = os_node };
    t->distance[0][0] = DISTANCE_LOCAL;
    if (!sysfs_read_text(text, "%s/proc/meminfo", root) && sysfs_find_number(text, "MemTotal:", &kib))
        t->nodes[0].total_bytes = kib * 1024;
    t->nodes[0].free_bytes = topology_available_bytes(root);
    return set_cpus(&t->nodes[0], cores);
}

static bool has_node(const struct topology *t, int os_node, size_t *index)
{
    for (size_t i = 0; i < t->n_nodes; i++) {
        if (t->nodes[i].os_node == os_node) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* A row of nodeN/distance has one number for each online node, in their order. */
static void read_distances(struct topology *t, const struct id_set *online, const char *root)
{
    for (size_t i = 0; i < t->n_nodes; i++) {
        char text[SYSFS_TEXT_BYTES] = "";
        char *at = text;

        sysfs_read_text(text, "%s/sys/devices/system/node/node%d/distance", root, t->nodes[i].os_node);
        for (int id = id_set_next(online, 0); id >= 0; id = id_set_next(online, id + 1)) {
            char *end;
            unsigned long distance = strtoul(at, &end, 10);
            size_t j;

            if (end == at || distance == 0 || distance > UINT8_MAX)
                distance = id == t->nodes[i].os_node ? DISTANCE_LOCAL : DISTANCE_REMOTE;
            at = end;
            if (has_node(t, id, &j))
                t->distance[i][j] = (uint8_t)distance;
        }
    }
}

static int read_nodes(struct topology *t, const struct id_set *online, const struct id_set *cores, const char *root)
{
    struct id_set mems;
    read_allowed_mems(&mems, root);
    int err = 0, memory_node = -1;

    for (int id = id_set_next(online, 0); id >= 0 && !err; id = id_set_next(online, id + 1)) {
        struct topology_node node = { .os_node = id };
        struct id_set cpus;

        err = sysfs_read_list(&cpus, "%s/sys/devices/system/node/node%d/cpulist", root, id);
        if (err)
            break;
        id_set_and(&cpus, cores);
        sysfs_read_node_memory(root, id, &node.total_bytes, &node.free_bytes);
        const bool has_memory = node.total_bytes > 0 && id_set_has(&mems, id);
        if (has_memory && memory_node < 0)
            memory_node = id;
        if (!id_set_count(&cpus))
            continue;
        if (!has_memory) {
            log_warn("node %d has cores but no memory for this process: it is left out", id);
        } else if (t->n_nodes == TOPOLOGY_MAX_NODES) {
            log_warn("node %d is left out: at most %d nodes are used", id, TOPOLOGY_MAX_NODES);
        } else {
            err = set_cpus(&node, &cpus);
            t->nodes[t->n_nodes++] = node;
        }
    }
    if (!err && !t->n_nodes) {
        log_warn("no node has both cores and memory for this process: all memory is remote");
        err = make_one_node(t, cores, memory_node < 0 ? 0 : memory_node, root);
    } else if (!err) {
        read_distances(t, online, root);
    }
    return err;
}

int topology_read(struct topology *t, const char *root)
{
    struct id_set allowed, cores, online;

    *t = (struct topology){ 0 };
    int err = read_allowed_cpus(&allowed, root);
    if (!err) {
        t->n_allowed_cpus = id_set_count(&allowed);
        err = t->n_allowed_cpus ? keep_one_per_core(&cores, &allowed, root) : -ENODEV;
    }
    if (!err) {
        err = sysfs_read_list(&online, "%s/sys/devices/system/node/online", root);
        if (err == -ENOENT)
            err = make_one_node(t, &cores, 0, root);
        else if (!err)
            err = read_nodes(t, &online, &cores, root);
    }
    if (err) {
        log_error("cannot read the CPUs and nodes below %s/sys/devices/system: %s", root, strerror(-err));
        topology_free(t);
    }
    return err;
}

void topology_free(struct topology *t)
{
    for (size_t i = 0; i < t->n_nodes; i++)
        free(t->nodes[i].cpus);
    *t = (struct topology){ 0 };
}

/* "0-1,4": what the user can choose from. */
static void describe_nodes(const struct topology *t, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0, run; i < t->n_nodes && used < size; i += run) {
        const int first = t->nodes[i].os_node;

        for (run = 1; i + run < t->n_nodes && t->nodes[i + run].os_node == first + (int)run; run++)
            ;
        used += (size_t)(run > 1 ? snprintf(text + used, size - used, "%s%d-%d", i ? "," : "", first, first + (int)run - 1)
                                 : snprintf(text + used, size - used, "%s%d", i ? "," : "", first));
    }
}

static void keep_nodes(struct topology *t, const bool *keep)
{
    size_t from[TOPOLOGY_MAX_NODES], n = 0;

    for (size_t i = 0; i < t->n_nodes; i++) {
        if (keep[i])
            from[n++] = i;
        else
            free(t->nodes[i].cpus);
    }
    for (size_t i = 0; i < n; i++) {    /* from[] rises, so nothing is overwritten before it moved */
        t->nodes[i] = t->nodes[from[i]];
        for (size_t j = 0; j < n; j++)
            t->distance[i][j] = t->distance[from[i]][from[j]];
    }
    t->n_nodes = n;
}

int topology_select(struct topology *t, const char *list)
{
    struct id_set wanted = { 0 };
    const bool is_count = *list && !list[strspn(list, "0123456789")];
    bool keep[TOPOLOGY_MAX_NODES];
    size_t index;

    if (!strcmp(list, "all"))
        return 0;
    int err = sysfs_parse_list(&wanted, list);
    if (!err && is_count) {
        const size_t n = (size_t)id_set_next(&wanted, 0);

        err = n >= 1 && n <= t->n_nodes ? 0 : -EINVAL;
        wanted = (struct id_set){ 0 };
        for (size_t i = 0; i < n && !err; i++)
            id_set_add(&wanted, t->nodes[i].os_node);
    }
    if (!err && !id_set_count(&wanted))
        err = -EINVAL;
    for (int id = id_set_next(&wanted, 0); id >= 0 && !err; id = id_set_next(&wanted, id + 1))
        err = has_node(t, id, &index) ? 0 : -EINVAL;
    if (err) {
        char nodes[TOPOLOGY_MAX_NODES * 5];

        describe_nodes(t, nodes, sizeof(nodes));
        log_error("no such nodes: %s. This process may use nodes %s: name them, as in 0-0 or 0,2, or say how many (1 to %zu), or all",
                  list, nodes, t->n_nodes);
        return err;
    }

    for (size_t i = 0; i < t->n_nodes; i++)
        keep[i] = id_set_has(&wanted, t->nodes[i].os_node);
    keep_nodes(t, keep);
    return 0;
}

int topology_keep_part(struct topology *t, size_t part, size_t n_parts)
{
    bool keep[TOPOLOGY_MAX_NODES];

    if (n_parts < 1 || part >= n_parts || t->n_nodes % n_parts) {
        log_error("%zu copies on %zu nodes: each takes as many whole nodes as the others, so their number has to divide that of the nodes",
                  n_parts, t->n_nodes);
        return -EINVAL;
    }
    for (size_t i = 0; i < t->n_nodes; i++)
        keep[i] = i / (t->n_nodes / n_parts) == part;
    keep_nodes(t, keep);
    return 0;
}

/* All CPUs of `t`, node after node, with the node of each. */
static size_t list_cpus(const struct topology *t, int *cpus, int *os_nodes)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n_nodes; i++) {
        for (size_t c = 0; c < t->nodes[i].n_cpus; c++, n++) {
            cpus[n] = t->nodes[i].cpus[c];
            os_nodes[n] = t->nodes[i].os_node;
        }
    }
    return n;
}

int topology_make_virtual(struct topology *t, size_t n)
{
    struct topology v = { .n_allowed_cpus = t->n_allowed_cpus, .is_virtual = true };
    uint64_t total_bytes = 0, free_bytes = 0;
    size_t n_cpus = 0;

    if (n < 1 || n > TOPOLOGY_MAX_NODES) {
        log_error("virtual nodes: 1 to %d are possible, not %zu", TOPOLOGY_MAX_NODES, n);
        return -EINVAL;
    }
    for (size_t i = 0; i < t->n_nodes; i++) {
        n_cpus += t->nodes[i].n_cpus;
        total_bytes += t->nodes[i].total_bytes;
        free_bytes += t->nodes[i].free_bytes;
    }
    int *cpus = malloc(2 * n_cpus * sizeof(*cpus)), *os_nodes = cpus + n_cpus;
    int err = cpus ? 0 : -ENOMEM;

    if (!err)
        list_cpus(t, cpus, os_nodes);
    for (size_t i = 0; i < n && !err; i++) {
        const size_t begin = i * n_cpus / n, end = (i + 1) * n_cpus / n;
        struct topology_node *node = &v.nodes[v.n_nodes++];

        *node = (struct topology_node){ .os_node = os_nodes[begin],
                                        .n_cpus = end > begin ? end - begin : 1,
                                        .total_bytes = total_bytes / n,
                                        .free_bytes = free_bytes / n };
        node->cpus = malloc(node->n_cpus * sizeof(*node->cpus));
        if (node->cpus)
            memcpy(node->cpus, cpus + begin, node->n_cpus * sizeof(*node->cpus));
        else
            err = -ENOMEM;
        for (size_t j = 0; j < n; j++)
            v.distance[i][j] = i == j ? DISTANCE_LOCAL : DISTANCE_REMOTE;
    }
    free(cpus);
    if (err) {
        log_error("no memory for %zu virtual nodes", n);
        topology_free(&v);
        return err;
    }
    topology_free(t);
    *t = v;
    return 0;
}
