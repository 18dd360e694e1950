/*
 * doctor_measure.c - a quick look at what the workers read: every node its own memory, all at once, then every node its neighbour's.
 *
 * The kernels' widest reads over arenas that caches cannot hold, the best of a few passes, as in `bench`. `membw` measures with care.
 */
#include <stdatomic.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "kernels/kernels.h"
#include "numa/place.h"
#include "numa/pool.h"
#include "server/doctor.h"

enum {
    LEAST_BYTES = 4 << 20, MOST_BYTES = 256 << 20,      /* a worker's */
    PASSES = 4, PASS_NS = 300 * 1000 * 1000             /* no further pass once this much time is gone */
};

struct reading {
    const struct topology *t;
    struct kernels kernels;
    struct place_arena arenas[TOPOLOGY_MAX_NODES];
    size_t node_workers[TOPOLOGY_MAX_NODES];
    size_t worker_bytes, shift;                         /* node i reads the memory of node i + shift */
    _Atomic uint64_t node_ns[TOPOLOGY_MAX_NODES];       /* of the slowest worker */
    _Atomic uint64_t sum;                               /* keeps the reads alive */
};

static void touch(const struct worker *w, void *arg)
{
    struct reading *r = arg;
    memset((char *)r->arenas[w->node].base + w->index_in_node * r->worker_bytes, 1, r->worker_bytes);
}

static void read_share(const struct worker *w, void *arg)
{
    struct reading *r = arg;
    const size_t from = (w->node + r->shift) % w->n_nodes;
    const char *share = (const char *)r->arenas[from].base + w->index_in_node % r->node_workers[from] * r->worker_bytes;

    pool_barrier_all(w);
    const uint64_t start = clock_now_ns();
    r->sum += r->kernels.read_stream(share, r->worker_bytes);
    const uint64_t ns = clock_now_ns() - start;
    uint64_t seen = r->node_ns[w->node];
    while (ns > seen && !atomic_compare_exchange_weak(&r->node_ns[w->node], &seen, ns))
        ;
}

/* The best pass; `node` gets each node's own best, if given. */
static double measure(struct reading *r, struct pool *p, size_t shift, double *node)
{
    const uint64_t start = clock_now_ns();
    double best = 0;

    r->shift = shift;
    for (int pass = 0; pass < PASSES && (pass < 2 || clock_now_ns() - start < PASS_NS); pass++) {
        uint64_t slowest = 1;

        for (size_t v = 0; v < r->t->n_nodes; v++)
            r->node_ns[v] = 1;
        pool_run(p, read_share, r);
        for (size_t v = 0; v < r->t->n_nodes; v++) {
            const double rate = (double)(r->node_workers[v] * r->worker_bytes) / ((double)r->node_ns[v] / 1e9);

            slowest = r->node_ns[v] > slowest ? r->node_ns[v] : slowest;
            if (node && rate > node[v])
                node[v] = rate;
        }
        const double rate = (double)(pool_n_workers(p) * r->worker_bytes) / ((double)slowest / 1e9);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Four times the last-level caches, as STREAM asks for, if a quarter of the memory allows it. */
static size_t choose_bytes(const struct topology *t, size_t n_workers)
{
    uint64_t bytes = 4 * t->llc_total_bytes / n_workers, room = topology_available_bytes("");

    for (size_t v = 0; v < t->n_nodes; v++)
        room = t->nodes[v].free_bytes * t->n_nodes < room ? t->nodes[v].free_bytes * t->n_nodes : room;
    room = room / 4 / n_workers;
    bytes = bytes < LEAST_BYTES ? 16 * LEAST_BYTES : bytes > MOST_BYTES ? MOST_BYTES : bytes;
    bytes = bytes > room ? room : bytes;
    return (bytes < LEAST_BYTES ? LEAST_BYTES : bytes) / 64 * 64;
}

static double average(const double *values, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return sum / (double)n;
}

/*
 * Rows are dealt by cores, so all wait for the node that reads least for its cores. Below 80 % of the others is a fault (a DIMM, a link).
 */
static void judge(struct doctor *d)
{
    const struct topology *t = &d->topology;
    double per_core[TOPOLOGY_MAX_NODES];
    size_t slowest = 0;

    for (size_t v = 0; v < t->n_nodes; v++) {
        per_core[v] = d->reads.node[v] / (double)t->nodes[v].n_cpus;
        slowest = per_core[v] < per_core[slowest] ? v : slowest;
    }
    const double share = per_core[slowest] / average(per_core, t->n_nodes);
    if (t->n_nodes < 2)
        findings_add(&d->findings, "reads", 0, "%.1f GB/s", d->reads.local / 1e9);
    else if (share >= 0.8)
        findings_add(&d->findings, "reads", 0, "%.1f GB/s, from the next node %.1f (%.0f %%)", d->reads.local / 1e9, d->reads.remote / 1e9,
                     100 * d->reads.remote / d->reads.local);
    else
        finding_fix(findings_add(&d->findings, "reads", 100 * (1 - share), "node %d reads %.1f GB/s, %.0f %% of the average for its cores",
                                 t->nodes[slowest].os_node, d->reads.node[slowest] / 1e9, 100 * share),
                    "again on a quiet machine; then dmidecode -t memory (missing or slow DIMMs), edac-util (errors)");
}

void doctor_measure_reads(struct doctor *d)
{
    struct reading r = { .t = &d->topology };
    struct pool *p = NULL;
    int err = pool_create(&p, r.t, topology_default_threads(r.t));

    if (!err) {
        kernels_fill(&r.kernels, cpu_best_isa());
        r.worker_bytes = choose_bytes(r.t, pool_n_workers(p));
    }
    for (size_t v = 0; !err && v < r.t->n_nodes; v++) {
        r.node_workers[v] = pool_node_workers(p, v);
        err = place_arena_create(&r.arenas[v], r.t, v, r.node_workers[v] * r.worker_bytes, PAGES_AUTO);
    }
    if (!err) {
        pool_run(p, touch, &r);
        d->reads.local = measure(&r, p, 0, d->reads.node);
        if (r.t->n_nodes > 1)
            d->reads.remote = measure(&r, p, 1, NULL);
        judge(d);
    } else {
        log_warn("reads are not measured");
    }
    pool_destroy(p);
    for (size_t v = 0; v < r.t->n_nodes; v++)
        place_arena_free(&r.arenas[v]);
}
