/*
 * measure.c - what the model's workers can do on this machine: the yardsticks of `bench`.
 *
 * Reads: every worker streams over its own share of an arena on its node, several passes, all workers at once; the best of a few
 * rounds counts, as in STREAM. The arenas are far larger than the last-level caches. Operations: integer dot
 * products on registers alone.
 */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "model/model_internal.h"

enum { MOST_BYTES = 256 << 20, LEAST_BYTES = 4 << 20, ROUNDS = 5, PEAK_ROUNDS = 20000000 };     /* bytes a worker */

struct measurement {
    struct model *m;
    struct place_arena arenas[TOPOLOGY_MAX_NODES];
    size_t worker_bytes;
    uint64_t sum;               /* keeps the reads alive */
    _Atomic uint64_t ops;
};

static void *own_part(const struct measurement *x, const struct worker *w)
{
    return (char *)x->arenas[w->node].base + w->index_in_node * x->worker_bytes;
}

static void touch(const struct worker *w, void *arg)
{
    const struct measurement *x = arg;
    memset(own_part(x, w), 1, x->worker_bytes);
}

static void read_all(const struct worker *w, void *arg)
{
    struct measurement *x = arg;
    uint64_t sum = x->m->kernels.read_stream(own_part(x, w), x->worker_bytes);
    if (w->index == 0)
        x->sum += sum;
}

static void dot_all(const struct worker *w, void *arg)
{
    struct measurement *x = arg;
    (void)w;
    atomic_fetch_add(&x->ops, x->m->kernels.peak[ACT_Q8](PEAK_ROUNDS));
}

int model_measure(struct model *m, struct model_rates *rates)
{
    struct measurement x = { .m = m };
    const size_t n_workers = pool_n_workers(m->pool), room = topology_available_bytes("") / 4 / n_workers;
    int err = 0;

    x.worker_bytes = room > MOST_BYTES ? MOST_BYTES : room < LEAST_BYTES ? LEAST_BYTES : room / 64 * 64;
    const double bytes = (double)n_workers * (double)x.worker_bytes;

    *rates = (struct model_rates){ 0 };
    for (size_t v = 0; !err && v < pool_n_nodes(m->pool); v++)
        err = place_arena_create(&x.arenas[v], &m->topology, v, pool_node_workers(m->pool, v) * x.worker_bytes);
    if (!err)
        pool_run(m->pool, touch, &x);
    for (int i = 0; !err && i < ROUNDS; i++) {
        uint64_t start = clock_now_ns();
        pool_run(m->pool, read_all, &x);
        double rate = bytes / ((double)(clock_now_ns() - start) / 1e9);
        rates->read_bytes_per_s = rate > rates->read_bytes_per_s ? rate : rates->read_bytes_per_s;
        x.ops = 0;
        start = clock_now_ns();
        pool_run(m->pool, dot_all, &x);
        rate = (double)x.ops / ((double)(clock_now_ns() - start) / 1e9);
        rates->peak_ops_per_s = rate > rates->peak_ops_per_s ? rate : rates->peak_ops_per_s;
    }
    for (size_t v = 0; v < TOPOLOGY_MAX_NODES; v++)
        place_arena_free(&x.arenas[v]);
    return err;
}
