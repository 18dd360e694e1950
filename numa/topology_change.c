/*
 * topology_change.c - what becomes of the nodes that were read: fewer of them, virtual ones, cores set aside.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "numa/sysfs_internal.h"
#include "numa/topology.h"

enum { DISTANCE_LOCAL = 10, DISTANCE_REMOTE = 20 }; /* of virtual nodes */

/* Below 8 cores one less costs more than a late worker. Chosen, not measured yet. */
enum { RESERVE_MIN_CORES = 8, RESERVE_TWO_MIN_CORES = 16 };

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

/* Does a list of nodes (no count) name one of memory alone? */
static bool names_memory(const struct topology *t, const struct id_set *wanted, bool is_count)
{
    for (size_t i = 0; i < t->n_memory_nodes && !is_count; i++) {
        if (id_set_has(wanted, t->memory_nodes[i].os_node))
            return true;
    }
    return false;
}

static void free_node(struct topology_node *node)
{
    free(node->cpus);
    free(node->threads);
}

static void keep_nodes(struct topology *t, const bool *keep)
{
    size_t from[TOPOLOGY_MAX_NODES], n = 0;

    for (size_t i = 0; i < t->n_nodes; i++) {
        if (keep[i])
            from[n++] = i;
        else
            free_node(&t->nodes[i]);
    }
    for (size_t i = 0; i < n; i++) {    /* from[] rises, so nothing is overwritten before it moved */
        t->nodes[i] = t->nodes[from[i]];
        for (size_t j = 0; j < n; j++)
            t->distance[i][j] = t->distance[from[i]][from[j]];
        for (size_t m = 0; m < t->n_memory_nodes; m++)
            t->memory_nodes[m].distance[i] = t->memory_nodes[m].distance[from[i]];
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
        log_error("no such nodes%s: %s. This process may use nodes %s: name them, as in 0-0 or 0,2, or say how many (1 to %zu), or all",
                  names_memory(t, &wanted, is_count) ? " with CPUs" : "", list, nodes, t->n_nodes);
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
    t->cpu_quota /= (double)n_parts;
    return 0;
}

/* All cores of `t`, node after node. */
struct core { int os_node, package; const int *threads; };
static size_t list_cores(const struct topology *t, struct core *cores)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n_nodes; i++) {
        const struct topology_node *node = &t->nodes[i];

        for (size_t c = 0; c < node->n_cpus; c++)
            cores[n++] = (struct core){ node->os_node, node->package, node->threads + c * t->threads_per_core };
    }
    return n;
}

size_t topology_count_cores(const struct topology *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n_nodes; i++)
        n += t->nodes[i].n_cpus;
    return n;
}

uint64_t topology_free_bytes(const struct topology *t)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < t->n_nodes; i++)
        bytes += t->nodes[i].free_bytes;
    return bytes;
}

static int take_cores(struct topology_node *node, const struct core *cores, size_t n, size_t threads_per_core)
{
    *node = (struct topology_node){ .os_node = cores[0].os_node, .package = cores[0].package, .n_packages = 1, .n_cpus = n };
    node->cpus = malloc(n * sizeof(*node->cpus));
    node->threads = malloc(n * threads_per_core * sizeof(*node->threads));
    if (!node->cpus || !node->threads)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        node->cpus[i] = cores[i].threads[0];
        memcpy(node->threads + i * threads_per_core, cores[i].threads, threads_per_core * sizeof(*node->threads));
    }
    return 0;
}

int topology_make_virtual(struct topology *t, size_t n)
{
    struct topology v = *t;
    const size_t n_cores = topology_count_cores(t);
    uint64_t total_bytes = 0;

    if (n < 1 || n > TOPOLOGY_MAX_NODES) {
        log_error("virtual nodes: 1 to %d are possible, not %zu", TOPOLOGY_MAX_NODES, n);
        return -EINVAL;
    }
    for (size_t i = 0; i < t->n_nodes; i++)
        total_bytes += t->nodes[i].total_bytes;
    struct core *cores = malloc(n_cores * sizeof(*cores));
    int err = cores ? 0 : -ENOMEM;

    if (!err)
        list_cores(t, cores);
    v.is_virtual = true;
    v.n_nodes = v.n_memory_nodes = 0;
    for (size_t i = 0; i < n && !err; i++) {
        const size_t begin = i * n_cores / n, end = (i + 1) * n_cores / n;
        struct topology_node *node = &v.nodes[v.n_nodes++];

        err = take_cores(node, cores + begin, end > begin ? end - begin : 1, t->threads_per_core);
        node->total_bytes = total_bytes / n;
        node->free_bytes = topology_free_bytes(t) / n;
        for (size_t j = 0; j < n; j++)
            v.distance[i][j] = i == j ? DISTANCE_LOCAL : DISTANCE_REMOTE;
    }
    free(cores);
    if (err) {
        log_error("no memory for %zu virtual nodes", n);
        topology_free(&v);
        return err;
    }
    topology_free(t);
    *t = v;
    return 0;
}

size_t topology_default_threads(const struct topology *t)
{
    const size_t n_cores = topology_count_cores(t);

    if (t->cpu_quota == 0 || t->cpu_quota >= (double)n_cores)
        return n_cores;
    const size_t n = t->cpu_quota < 1 ? 1 : (size_t)t->cpu_quota;
    log_info("the cgroup grants the time of %.2f CPUs: %zu worker%s, not one for each of %zu cores (--threads overrides)", t->cpu_quota, n,
             n == 1 ? "" : "s", n_cores);
    return n;
}

/* Its first `n` cores are no longer the node's. */
static void drop_cores(struct topology_node *node, size_t n, size_t threads_per_core)
{
    node->n_cpus -= n;
    memmove(node->cpus, node->cpus + n, node->n_cpus * sizeof(*node->cpus));
    memmove(node->threads, node->threads + n * threads_per_core, node->n_cpus * threads_per_core * sizeof(*node->threads));
}

void topology_reserve_cores(struct topology *t, struct topology_reserved *r)
{
    struct topology_node *node = &t->nodes[0];

    *r = (struct topology_reserved){ 0 };
    for (size_t i = 1; i < t->n_nodes; i++)
        node = t->nodes[i].n_cpus - t->nodes[i].n_guest_cpus > node->n_cpus - node->n_guest_cpus ? &t->nodes[i] : node;
    const size_t n_own = node->n_cpus - node->n_guest_cpus, n = n_own >= RESERVE_TWO_MIN_CORES ? 2 : 1;

    if (n_own < RESERVE_MIN_CORES)
        return;
    for (size_t i = 0; i < n * t->threads_per_core && r->n_cpus < TOPOLOGY_MAX_RESERVED; i++) {
        if (node->threads[i] >= 0)
            r->cpus[r->n_cpus++] = node->threads[i];
    }
    drop_cores(node, n, t->threads_per_core);
}
