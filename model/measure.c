/*
 * measure.c - what the model's workers can do on this machine: the yardsticks of `bench`.
 *
 * Reads: every worker streams over its own share of an arena on its node, several passes, all workers at once; the best of a few
 * rounds counts, as in STREAM. The arenas are far larger than the last-level caches. Operations: those
 * of the unit that multiplies most of the weights for tokens of a role, on registers alone.
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
    enum activation unit;
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
    atomic_fetch_add(&x->ops, x->m->kernels.peak[x->unit](PEAK_ROUNDS));
}

struct count { enum token_role role; uint64_t params[ACT_COUNT]; };

static void count_params(struct model *m, struct matrix *x, void *arg)
{
    struct count *count = arg;

    if (x != &m->embedding)
        count->params[x->activation[count->role]] += (uint64_t)x->n_rows * x->k;
}

/* That of most of a token's multiplications. A level without bf16 dots does those with float32. */
static enum activation busiest_unit(struct model *m, enum token_role role)
{
    struct count count = { .role = role };
    uint64_t *params = count.params;
    enum activation unit = ACT_Q8;

    model_each_matrix(m, count_params, &count);
    if (m->kernels.peak[ACT_BF16] == m->kernels.peak[ACT_F32]) {
        params[ACT_F32] += params[ACT_BF16];
        params[ACT_BF16] = 0;
    }
    for (enum activation a = 0; a < ACT_COUNT; a++)
        unit = params[a] > params[unit] ? a : unit;
    return unit;
}

/* One round of x->unit; keeps the best. */
static void measure_unit(struct measurement *x, struct unit_rate *rate)
{
    x->ops = 0;
    const uint64_t start = clock_now_ns();
    pool_run(x->m->pool, dot_all, x);
    const double ops_per_s = (double)x->ops / ((double)(clock_now_ns() - start) / 1e9);
    rate->ops_per_s = ops_per_s > rate->ops_per_s ? ops_per_s : rate->ops_per_s;
}

int model_measure(struct model *m, struct model_rates *rates)
{
    static const char *const units[ACT_COUNT] = { [ACT_Q8] = "int8 dots", [ACT_BF16] = "bf16 dots", [ACT_F32] = "float32" };
    const enum activation prompt = busiest_unit(m, ROLE_PROMPT), generated = busiest_unit(m, ROLE_GENERATED);
    struct measurement x = { .m = m };
    const size_t n_workers = pool_n_workers(m->pool), room = topology_available_bytes("") / 4 / n_workers;
    int err = 0;

    x.worker_bytes = room > MOST_BYTES ? MOST_BYTES : room < LEAST_BYTES ? LEAST_BYTES : room / 64 * 64;
    const double bytes = (double)n_workers * (double)x.worker_bytes;

    *rates = (struct model_rates){ .prompt.unit = units[prompt], .generated.unit = units[generated] };
    for (size_t v = 0; !err && v < pool_n_nodes(m->pool); v++)
        err = place_arena_create(&x.arenas[v], &m->topology, v, pool_node_workers(m->pool, v) * x.worker_bytes, m->pages);
    if (!err)
        pool_run(m->pool, touch, &x);
    for (int i = 0; !err && i < ROUNDS; i++) {
        uint64_t start = clock_now_ns();
        pool_run(m->pool, read_all, &x);
        double rate = bytes / ((double)(clock_now_ns() - start) / 1e9);
        rates->read_bytes_per_s = rate > rates->read_bytes_per_s ? rate : rates->read_bytes_per_s;
        x.unit = prompt;
        measure_unit(&x, &rates->prompt);
        x.unit = generated;
        if (generated != prompt)
            measure_unit(&x, &rates->generated);
    }
    if (generated == prompt)
        rates->generated = rates->prompt;
    for (size_t v = 0; v < TOPOLOGY_MAX_NODES; v++)
        place_arena_free(&x.arenas[v]);
    return err;
}
