#include "tests/kernels/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

enum {
    ALL_BYTES = 512 << 20,              /* of all slices together, at least; and of one: */
    SLICE_BYTES = 64 << 20,
    QUICK_SLICE_BYTES = 4 << 20,
    READ_BYTES = 128 << 20,             /* of a slice, for the yardstick: each time the next, for last-level caches keep some */
    PEAK_ROUNDS = 200000,               /* half a millisecond on a processor with vectors */
    LEAST_PASSES = 3, MOST_PASSES = 31,
    QUICK_PASSES = 2,
};
static const double budget_s = 0.4, slow_pass_s = 2;    /* plain C takes seconds a pass: one is enough then */

int bench_open(struct bench *b, const struct bench_options *options, struct output *output)
{
    *b = (struct bench){ .options = options, .output = output };
    kernels_fill(&b->kernels, options->isa);
    int err = topology_read(&b->topology, "");
    if (!err)
        err = pool_create(&b->pool, &b->topology, options->threads);
    if (err)
        return err;
    b->n_workers = pool_n_workers(b->pool);
    b->n_nodes = pool_n_nodes(b->pool);
    b->worker_bytes = ALL_BYTES / b->n_workers > SLICE_BYTES ? ALL_BYTES / b->n_workers / 64 * 64 : SLICE_BYTES;
    if (options->quick)
        b->worker_bytes = QUICK_SLICE_BYTES;
    for (size_t v = 0; v < b->n_nodes && !err; v++)
        err = place_arena_create(&b->arenas[v], &b->topology, v,
                                 BENCH_SHARED_BYTES + pool_node_workers(b->pool, v) * (b->worker_bytes + BENCH_SCRATCH_BYTES), PAGES_AUTO);
    return err;
}

void bench_close(struct bench *b)
{
    for (size_t v = 0; v < b->n_nodes; v++)
        place_arena_free(&b->arenas[v]);
    pool_destroy(b->pool);
    topology_free(&b->topology);
}

void *bench_shared(const struct bench *b, const struct worker *w)
{
    return b->arenas[w->node].base;
}

void *bench_slice(const struct bench *b, const struct worker *w)
{
    return (char *)b->arenas[w->node].base + BENCH_SHARED_BYTES + w->index_in_node * (b->worker_bytes + BENCH_SCRATCH_BYTES);
}

void *bench_scratch(const struct bench *b, const struct worker *w)
{
    return (char *)bench_slice(b, w) + b->worker_bytes;
}

struct run {
    struct bench *b;
    bench_fn fn;
    void *arg;
    enum activation unit;
    size_t read_bytes, n_passes;
    bool last;                                  /* written by worker 0 between two barriers */
    double pass_s[MOST_PASSES], read_s[MOST_PASSES], peak_s[MOST_PASSES];
    uint64_t peak_ops;                          /* of one worker */
};

/* From the last worker's arrival to the last worker's end; worker 0's clock. */
#define TIMED(w, ...) \
    (pool_barrier_all(w), timed_from = clock_now_ns(), (void)(__VA_ARGS__), pool_barrier_all(w), \
     (double)(clock_now_ns() - timed_from) * 1e-9)

static void run_passes(const struct worker *w, void *arg)
{
    struct run *r = arg;
    struct bench *b = r->b;
    const size_t n_parts = b->worker_bytes / r->read_bytes;
    const unsigned char *slice = bench_slice(b, w);
    uint64_t timed_from, sum = 0, ops = 0;
    double spent = 0;

    for (size_t pass = 0; !r->last; pass++) {
        const double pass_s = TIMED(w, r->fn(b, w, pass, r->arg));
        const double read_s = TIMED(w, sum += b->kernels.read_stream(slice + pass % n_parts * r->read_bytes, r->read_bytes));
        const double peak_s = TIMED(w, ops = b->kernels.peak[r->unit](PEAK_ROUNDS));

        __asm__ volatile("" : : "r"(sum));
        if (w->index == 0) {
            r->pass_s[pass] = pass_s;
            r->read_s[pass] = read_s;
            r->peak_s[pass] = peak_s;
            r->peak_ops = ops;
            r->n_passes = pass + 1;
            spent += pass_s + read_s + peak_s;
            if (b->options->quick)
                r->last = r->n_passes == QUICK_PASSES;
            else
                r->last = r->n_passes == MOST_PASSES || pass_s > slow_pass_s || (r->n_passes >= LEAST_PASSES && spent > budget_s);
        }
        pool_barrier_all(w);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(double *x, size_t n)
{
    qsort(x, n, sizeof(*x), compare_doubles);
}

struct timing bench_time(struct bench *b, bench_fn fn, void *arg, enum activation unit, double bytes, double ops)
{
    struct run r = { .b = b, .fn = fn, .arg = arg, .unit = unit,
                     .read_bytes = b->worker_bytes < READ_BYTES ? b->worker_bytes : READ_BYTES };
    double of_read[MOST_PASSES], of_peak[MOST_PASSES];

    pool_run(b->pool, run_passes, &r);
    const double read_bytes = (double)(b->n_workers * r.read_bytes), peak_ops = (double)(b->n_workers * r.peak_ops);
    for (size_t i = 0; i < r.n_passes; i++) {
        of_read[i] = bytes / r.pass_s[i] / (read_bytes / r.read_s[i]);
        of_peak[i] = ops / r.pass_s[i] / (peak_ops / r.peak_s[i]);
    }
    sort(r.pass_s, r.n_passes);
    sort(r.read_s, r.n_passes);
    sort(r.peak_s, r.n_passes);
    sort(of_read, r.n_passes);
    sort(of_peak, r.n_passes);
    const size_t middle = r.n_passes / 2;
    const struct timing t = { .best_s = r.pass_s[0], .median_s = r.pass_s[middle], .read_per_s = read_bytes / r.read_s[middle],
                              .peak_per_s = peak_ops / r.peak_s[middle], .of_read = of_read[middle], .of_peak = of_peak[middle] };
    b->read_per_s = fmax(b->read_per_s, t.read_per_s);
    b->peak_per_s[unit] = fmax(b->peak_per_s[unit], t.peak_per_s);
    return t;
}

struct fill {
    struct bench *b;
    bench_fn fn;
    void *arg;
};

static void run_fill(const struct worker *w, void *arg)
{
    const struct fill *f = arg;
    f->fn(f->b, w, 0, f->arg);
}

void bench_fill(struct bench *b, bench_fn fn, void *arg)
{
    struct fill f = { b, fn, arg };
    pool_run(b->pool, run_fill, &f);
}
