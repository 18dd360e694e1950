/*
 * check_nodes.c - on a kernel with several real nodes: every page of an arena on its node, every worker on its CPU.
 *
 *   check_nodes NODE:CPUS ...       the nodes that must be found, such as 0:0-1 1:2-3
 *
 * Run by vm_test.sh in an emulated machine. Prints a line a node and exits 0, or says what is wrong and exits 1.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/place.h"
#include "numa/pool.h"
#include "numa/sysfs_internal.h"

enum { ARENA_BYTES = 24 << 20, HUGE_PAGES = 6, PAGE_BYTES = 4096 };

static int n_wrong;

#define EXPECT(condition, ...)             \
    do {                                   \
        if (!(condition)) {                \
            printf("wrong: " __VA_ARGS__); \
            printf(" (%s)\n", #condition); \
            n_wrong++;                     \
        }                                  \
    } while (0)

static void check_topology(const struct topology *t, int n_expected, char **expected)
{
    EXPECT(t->n_nodes == (size_t)n_expected, "%zu nodes, not %d", t->n_nodes, n_expected);
    for (size_t i = 0; i < t->n_nodes && i < (size_t)n_expected; i++) {
        const struct topology_node *node = &t->nodes[i];
        const char *colon = strchr(expected[i], ':');
        struct id_set cpus = { 0 };

        EXPECT(colon && !sysfs_parse_list(&cpus, colon + 1), "argument %s", expected[i]);
        EXPECT(node->os_node == atoi(expected[i]), "node %d", node->os_node);
        EXPECT(node->n_cpus == id_set_count(&cpus), "node %d has %zu CPUs", node->os_node, node->n_cpus);
        for (size_t c = 0; c < node->n_cpus; c++)
            EXPECT(id_set_has(&cpus, node->cpus[c]), "CPU %d on node %d", node->cpus[c], node->os_node);
        for (size_t j = 0; j < t->n_nodes; j++)
            EXPECT(t->distance[i][j] == (i == j ? 10 : 21), "distance %zu %zu is %u", i, j, t->distance[i][j]);
        EXPECT(node->free_bytes > 0 && node->free_bytes <= node->total_bytes, "memory of node %d", node->os_node);
    }
}

struct job {
    struct place_arena *arenas; /* one a node */
    const struct topology *topology;
};

/* A node's workers touch their node's arena, a share each, from their own CPU. */
static void touch(const struct worker *w, void *arg)
{
    const struct job *j = arg;
    const struct topology_node *node = &j->topology->nodes[w->node];
    size_t begin, end;

    EXPECT(sched_getcpu() == node->cpus[w->index_in_node], "worker %zu is on CPU %d", w->index, sched_getcpu());
    pool_share_node(w, j->arenas[w->node].bytes / PAGE_BYTES, &begin, &end);
    memset((char *)j->arenas[w->node].base + begin * PAGE_BYTES, 1, (end - begin) * PAGE_BYTES);
    pool_barrier_all(w);
}

static void check_report(const struct place_arena *a, const char *pages_of)
{
    struct place_report r;

    EXPECT(!place_verify(a, true, &r), "node %d cannot be verified", a->os_node);
    printf("node %d, %s: %zu of %zu pages on the node, %zu of %zu bytes in 2 MiB pages\n", a->os_node, pages_of, r.on_node, r.pages,
           r.huge_bytes, r.bytes);
    EXPECT(a->bound, "the arena of node %d is not bound", a->os_node);
    EXPECT(r.pages == a->bytes / PAGE_BYTES && r.on_node == r.pages, "pages of node %d", a->os_node);
}

static void check_arenas(const struct topology *t, struct pool *p)
{
    struct place_arena arenas[TOPOLOGY_MAX_NODES] = { 0 };
    struct job j = { .arenas = arenas, .topology = t };

    for (size_t i = 0; i < t->n_nodes; i++)
        EXPECT(!place_arena_create(&arenas[i], t, i, ARENA_BYTES, PAGES_AUTO), "no arena on node %d", t->nodes[i].os_node);
    if (!n_wrong)
        pool_run(p, touch, &j);
    for (size_t i = 0; i < t->n_nodes; i++) {
        check_report(&arenas[i], "advised");
        place_arena_free(&arenas[i]);
    }
}

/* A pool of explicit pages on one node must serve that node only, and only while it lasts. */
static void check_explicit_pages(const struct topology *t)
{
    const size_t last = t->n_nodes - 1, bytes = (size_t)HUGE_PAGES << 21;
    struct place_arena own, more, other;
    struct place_report r;
    char path[128];

    snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/hugepages/hugepages-2048kB/nr_hugepages", t->nodes[last].os_node);
    FILE *f = fopen(path, "w");
    EXPECT(f && fprintf(f, "%d\n", HUGE_PAGES) > 0 && !fclose(f), "cannot write %s", path);
    EXPECT(sysfs_free_huge_bytes("", t->nodes[last].os_node, 21) == bytes, "the node's pool has not %d pages", HUGE_PAGES);

    EXPECT(!place_arena_create(&other, t, 0, bytes, PAGES_AUTO), "no arena");
    EXPECT(last == 0 || !other.is_explicit, "node %d took the pages of another", other.os_node);
    place_arena_free(&other);
    EXPECT(!place_arena_create(&own, t, last, bytes, PAGES_AUTO), "no arena");
    EXPECT(own.is_explicit, "node %d did not take its pool", own.os_node);
    check_report(&own, "explicit");
    EXPECT(!place_verify(&own, true, &r) && r.huge_bytes == bytes, "bytes in huge pages");
    EXPECT(!place_arena_create(&more, t, last, bytes, PAGES_AUTO), "no arena");
    EXPECT(!more.is_explicit, "the pool was empty");
    place_arena_free(&more);
    place_arena_free(&own);
}

/* More than the node has must be refused while there is still room elsewhere. */
static void check_refusal(const struct topology *t)
{
    struct place_arena a;
    const uint64_t bytes = t->nodes[0].free_bytes + (8 << 20);

    EXPECT(bytes < topology_available_bytes(""), "the machine is too small for this test");
    EXPECT(place_arena_create(&a, t, 0, bytes, PAGES_AUTO), "node 0 gave more than it has");
    place_arena_free(&a);
}

int main(int argc, char **argv)
{
    struct topology t;
    struct pool *p = NULL;

    if (argc < 2 || topology_read(&t, "") || pool_create(&p, &t, 0)) {
        printf("wrong: no topology or no pool\n");
        return 1;
    }
    check_topology(&t, argc - 1, argv + 1);
    if (!n_wrong) {
        check_arenas(&t, p);
        check_explicit_pages(&t);
        check_refusal(&t);
    }
    pool_destroy(p);
    topology_free(&t);
    return n_wrong > 0;
}
