/*
 * bandwidth.c - memory on every node, and traffic over it: all workers, one node's, some of them, or of another node's memory.
 */
#include "numa/bandwidth.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "numa/bandwidth_internal.h"
#include "numa/caches_internal.h"

/*
 * PART_BYTES: the reading loop goes over pieces of this size with several streams (kernels/avx512/measure.c). UNKNOWN_CACHE: where sysfs
 * tells no cache, as much as a large one has. SKEW: the arrays of a worker begin at other places of a page, or a store and the next
 * array's load of the same low 12 bits would wait for each other.
 */
enum { PART_BYTES = 4 << 20, UNKNOWN_CACHE_BYTES = 64 << 20, PAGE_BYTES = 4096, SKEW_BYTES = 640, ARRAYS = 3 };

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bandwidth_sort(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), compare_doubles);
}

double bandwidth_median(const double *sorted, size_t n)
{
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* The memories: one for each node of the topology, which all have workers; then those of nodes without CPUs, as far as there is room. */
static void list_memories(struct bandwidth *b)
{
    const struct topology *t = b->o.topology;

    for (size_t i = 0; i < t->n_nodes; i++)
        b->memories[b->n_memories++] = (struct bandwidth_memory){ .os_node = t->nodes[i].os_node, .owner = i };
    for (size_t i = 0; i < t->n_memory_nodes && b->n_memories < TOPOLOGY_MAX_NODES; i++) {
        const struct topology_memory_node *node = &t->memory_nodes[i];
        size_t nearest = 0;

        for (size_t v = 1; v < t->n_nodes; v++)
            nearest = node->distance[v] < node->distance[nearest] ? v : nearest;
        b->memories[b->n_memories++] = (struct bandwidth_memory){ .os_node = node->os_node, .owner = nearest };
    }
}

/* Last-level caches of a node's cores. */
static uint64_t cache_bytes_of(const struct topology_node *node)
{
    struct id_set cpus = { 0 };
    struct cache_sizes sizes;

    for (size_t i = 0; i < node->n_cpus; i++)
        id_set_add(&cpus, node->cpus[i]);
    caches_read(&sizes, &cpus, "");
    return sizes.llc_total_bytes ? sizes.llc_total_bytes : UNKNOWN_CACHE_BYTES;
}

/* Bytes of a worker's part of memory `i`: as many as the rule wants, or as half of what is free allows. */
static int size_memory(struct bandwidth *b, size_t i, uint64_t available)
{
    const struct topology *t = b->o.topology;
    const size_t n = pool_node_workers(b->pool, b->memories[i].owner);
    const uint64_t cache = cache_bytes_of(&t->nodes[b->memories[i].owner]);
    const uint64_t free_bytes = i < t->n_nodes ? t->nodes[i].free_bytes : t->memory_nodes[i - t->n_nodes].free_bytes;
    const uint64_t usable = free_bytes < available ? free_bytes : available, room = usable / 2 / n / PART_BYTES * PART_BYTES;

    b->cache_bytes += i < t->n_nodes ? cache : 0;
    const uint64_t want = ((uint64_t)(ARRAYS * b->o.cache_multiple * (double)cache) / n / PART_BYTES + 1) * PART_BYTES;
    if (!room) {
        log_error("node %d: %.3f GB are free for %zu worker%s, of which half may be taken; at least %.3f GB are needed: stop other "
                  "programs, or use fewer --threads or --nodes", b->memories[i].os_node, (double)usable / 1e9, n, n == 1 ? "" : "s",
                  2 * (double)(n * PART_BYTES) / 1e9);
        return -ENOMEM;
    }
    b->is_short |= room < want;
    b->worker_bytes[i] = room < want ? room : want;
    return 0;
}

static void touch(const struct worker *w, void *arg)
{
    const struct bandwidth *b = arg;

    for (size_t i = 0; i < b->n_memories; i++)
        if (b->memories[i].owner == w->node)
            memset(bandwidth_part(b, i, w->index_in_node), 0, b->worker_bytes[i]);
}

static void verify(struct bandwidth *b, size_t i)
{
    struct bandwidth_memory *m = &b->memories[i];
    struct place_report r;

    m->bytes = b->arenas[i].bytes;
    m->bound = b->arenas[i].bound;
    m->on_node = m->huge = -1;
    if (place_verify(&b->arenas[i], false, &r))
        return;
    m->on_node = r.pages ? (double)r.on_node / (double)r.pages : 0;
    m->huge = r.bytes ? (double)r.huge_bytes / (double)r.bytes : 0;
    if (!b->o.topology->is_virtual && m->on_node < 0.99)
        log_warn("only %.1f %% of the memory for node %d lies there: its figures are of other memory, too", 100 * m->on_node, m->os_node);
}

int bandwidth_create(struct bandwidth **out, const struct bandwidth_options *o)
{
    struct bandwidth *b = calloc(1, sizeof(*b));
    int err = b ? 0 : -ENOMEM;

    *out = NULL;
    if (err)
        goto out;
    b->o = *o;
    err = pool_create(&b->pool, o->topology, o->n_threads);
    if (err)
        goto out;
    b->lanes = aligned_alloc(alignof(struct lane), pool_n_workers(b->pool) * sizeof(*b->lanes));
    if (!b->lanes) {
        log_error("no memory for %zu workers", pool_n_workers(b->pool));
        err = -ENOMEM;
        goto out;
    }
    list_memories(b);
    const uint64_t available = topology_available_bytes("") / b->n_memories;
    for (size_t i = 0; i < b->n_memories && !err; i++)
        err = size_memory(b, i, available);
    for (size_t i = 0; i < b->n_memories && !err; i++)
        err = place_arena_create(&b->arenas[i], o->topology, i, pool_node_workers(b->pool, b->memories[i].owner) * b->worker_bytes[i],
                                 PAGES_AUTO);
    if (!err) {
        pool_run(b->pool, touch, b);
        for (size_t i = 0; i < b->n_memories; i++)
            verify(b, i);
    }
out:
    if (err)
        bandwidth_destroy(b);
    else
        *out = b;
    return err;
}

void bandwidth_destroy(struct bandwidth *b)
{
    if (!b)
        return;
    pool_destroy(b->pool);
    for (size_t i = 0; i < b->n_memories; i++)
        place_arena_free(&b->arenas[i]);
    free(b->lanes);
    free(b);
}

size_t bandwidth_n_nodes(const struct bandwidth *b)
{
    return pool_n_nodes(b->pool);
}

size_t bandwidth_n_memories(const struct bandwidth *b)
{
    return b->n_memories;
}

size_t bandwidth_n_workers(const struct bandwidth *b)
{
    return pool_n_workers(b->pool);
}

size_t bandwidth_node_workers(const struct bandwidth *b, size_t node)
{
    return pool_node_workers(b->pool, node);
}

const struct bandwidth_memory *bandwidth_memory(const struct bandwidth *b, size_t memory)
{
    return &b->memories[memory];
}

uint64_t bandwidth_cache_bytes(const struct bandwidth *b)
{
    return b->cache_bytes;
}

bool bandwidth_is_short(const struct bandwidth *b)
{
    return b->is_short;
}

/* Array `k` of `n` in a worker's part, and the bytes of each. */
static size_t array_bytes(size_t part, size_t n)
{
    return (part / n / PAGE_BYTES * PAGE_BYTES - (n > 1 ? 2 * SKEW_BYTES : 0)) / STREAM_BLOCK_BYTES * STREAM_BLOCK_BYTES;
}

static double *array(double *part, size_t part_bytes, size_t n, size_t k)
{
    return k < n ? (double *)(void *)((char *)part + k * (part_bytes / n / PAGE_BYTES * PAGE_BYTES + SKEW_BYTES)) : NULL;
}

uint64_t bandwidth_array_bytes(const struct bandwidth *b)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < pool_n_nodes(b->pool); i++)
        sum += pool_node_workers(b->pool, b->memories[i].owner) * array_bytes(b->worker_bytes[i], ARRAYS);
    return sum;
}

static struct lane rest(void)
{
    return (struct lane){ .bytes = 0 };
}

/* Worker k of node v reads its share of `memory`. The memory was cut for its owner's team, here by that of a node. */
static struct lane lane_from(const struct bandwidth *b, size_t memory, size_t index, size_t n)
{
    const size_t bytes = pool_node_workers(b->pool, b->memories[memory].owner) * b->worker_bytes[memory];
    const size_t each = bytes / n / STREAM_BLOCK_BYTES * STREAM_BLOCK_BYTES;
    return (struct lane){ .a = (double *)(void *)((char *)b->arenas[memory].base + index * each), .bytes = each };
}

/* Of the pass before, everything but what is in the arrays. */
static struct lane lane_own(const struct bandwidth *b, size_t node, size_t index)
{
    double *part = bandwidth_part(b, node, index);
    const size_t bytes = b->worker_bytes[node], n = stream_shapes[b->kind].n_arrays;

    return (struct lane){ .a = array(part, bytes, n, 0), .b = array(part, bytes, n, 1), .c = array(part, bytes, n, 2),
                          .bytes = array_bytes(bytes, n) };
}

/* The first worker of each node in the lanes. */
static size_t first_lane(const struct bandwidth *b, size_t node)
{
    size_t first = 0;

    for (size_t v = 0; v < node; v++)
        first += pool_node_workers(b->pool, v);
    return first;
}

static void rest_all(struct bandwidth *b)
{
    for (size_t k = 0; k < pool_n_workers(b->pool); k++)
        b->lanes[k] = rest();
}

static void pass(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;
    struct lane *l = &b->lanes[w->index];
    const struct stream_loops *loops = b->o.loops;

    pool_barrier_all(w);
    l->start_ns = clock_now_ns();
    for (uint64_t i = 0; l->bytes && i < b->passes; i++)
        l->sink += b->kind == STREAM_READ ? loops->read(l->a, l->bytes) : loops->run[b->kind](l->a, l->b, l->c, l->bytes);
    l->end_ns = clock_now_ns();
    l->moved = b->passes * l->bytes * stream_shapes[b->kind].n_streams;
}

static void operate(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;
    struct lane *l = &b->lanes[w->index];

    pool_barrier_all(w);
    l->start_ns = clock_now_ns();
    l->moved = b->loop(b->passes);
    l->end_ns = clock_now_ns();
}

/* One sample of `passes` passes: seconds from the first start to the last end, of those that do something, and what they moved. */
static double sample(struct bandwidth *b, pool_fn fn, uint64_t passes, double *moved)
{
    uint64_t start = UINT64_MAX, end = 0;

    b->passes = passes;
    b->passes_done += passes;
    pool_run(b->pool, fn, b);
    *moved = 0;
    for (size_t k = 0; k < pool_n_workers(b->pool); k++) {
        const struct lane *l = &b->lanes[k];

        if (!l->moved)
            continue;
        *moved += (double)l->moved;
        start = l->start_ns < start ? l->start_ns : start;
        end = l->end_ns > end ? l->end_ns : end;
    }
    return end > start ? (double)(end - start) / 1e9 : 1e-9;
}

/* More passes, when `passes` took `seconds` and a sample must take `least_s`. */
static uint64_t more_passes(uint64_t passes, double seconds, double least_s)
{
    const double wanted = (double)passes * least_s / seconds * 1.1 + 1;
    return wanted > 100 * (double)passes ? 100 * passes : (uint64_t)wanted;
}

/*
 * As many passes as a sample needs, found by growing runs, of which none counts (STREAM leaves out its first, too). Where others run on
 * these CPUs, a run may take long for another reason: a sample that is too short begins the samples anew, a few times.
 */
static void measure(struct bandwidth *b, pool_fn fn, struct bandwidth_rate *r)
{
    enum { MOST_RESTARTS = 8 };
    const double least_s = (double)b->o.sample_ns / 1e9;
    double rates[BANDWIDTH_MAX_SAMPLES], moved, seconds;
    uint64_t passes = 1;
    int restarts = 0;

    b->passes_done = 0;
    while ((seconds = sample(b, fn, passes, &moved)) < least_s)
        passes = more_passes(passes, seconds, least_s);
    *r = (struct bandwidth_rate){ .best_pass_s = 1e30 };
    for (size_t i = 0; i < b->o.n_samples; i++) {
        seconds = sample(b, fn, passes, &moved);
        if (seconds < least_s && restarts++ < MOST_RESTARTS) {
            passes = more_passes(passes, seconds, least_s);
            *r = (struct bandwidth_rate){ .best_pass_s = 1e30 };
            i = SIZE_MAX; /* the next one is the first again */
            continue;
        }
        const double each = seconds / (double)passes;

        rates[i] = moved / seconds;
        r->pass_s += each / (double)b->o.n_samples;
        r->best_pass_s = each < r->best_pass_s ? each : r->best_pass_s;
        r->worst_pass_s = each > r->worst_pass_s ? each : r->worst_pass_s;
    }
    bandwidth_sort(rates, b->o.n_samples);
    r->least = rates[0];
    r->best = rates[b->o.n_samples - 1];
    r->median = bandwidth_median(rates, b->o.n_samples);
}

enum { A = 1, B = 2 };
#define C 0.5

static void fill(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;
    const struct lane *l = &b->lanes[w->index];

    for (size_t i = 0; i < l->bytes / sizeof(double); i++) {
        l->a[i] = A;
        if (l->b)
            l->b[i] = B;
        if (l->c)
            l->c[i] = C;
    }
}

/* What every element of `a` must be after passes_done passes: small sums of halves, exact. */
static double expected(const struct bandwidth *b)
{
    const double n = (double)b->passes_done;

    switch (b->kind) {
    case STREAM_READ_3_1:
        return A + n * (B + C);
    case STREAM_READ_2_1:
        return A + n * B;
    case STREAM_READ_1_1:
        return A + n;
    case STREAM_COPY:
    case STREAM_COPY_NT:
        return B;
    case STREAM_SCALE:
    case STREAM_SCALE_NT:
        return 3 * B;
    case STREAM_ADD:
    case STREAM_ADD_NT:
        return B + C;
    case STREAM_TRIAD:
    case STREAM_TRIAD_NT:
        return B + 3 * C;
    default:
        return A; /* reads leave it, writes write it */
    }
}

static void check(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;
    struct lane *l = &b->lanes[w->index];
    const double want = expected(b);

    for (size_t i = 0; i < l->bytes / sizeof(double); i++)
        l->wrong |= l->a[i] != want;
}

void bandwidth_stream(struct bandwidth *b, enum stream_kind kind, size_t node, struct bandwidth_rate *r, bool *valid)
{
    const size_t begin = node == BANDWIDTH_ALL_NODES ? 0 : node;
    const size_t end = node == BANDWIDTH_ALL_NODES ? pool_n_nodes(b->pool) : node + 1;

    b->kind = kind;
    b->chain_bytes = 0;
    rest_all(b);
    for (size_t v = begin; v < end; v++)
        for (size_t i = 0; i < pool_node_workers(b->pool, v); i++)
            b->lanes[first_lane(b, v) + i] = lane_own(b, v, i);
    pool_run(b->pool, fill, b);
    measure(b, pass, r);
    pool_run(b->pool, check, b);
    for (size_t k = 0; valid && k < pool_n_workers(b->pool); k++)
        *valid &= !b->lanes[k].wrong;
}

void bandwidth_cores(struct bandwidth *b, size_t node, size_t n_workers, struct bandwidth_rate *r)
{
    assert(n_workers >= 1 && n_workers <= pool_node_workers(b->pool, node));
    b->kind = STREAM_READ;
    rest_all(b);
    for (size_t i = 0; i < n_workers; i++)
        b->lanes[first_lane(b, node) + i] = lane_own(b, node, i);
    measure(b, pass, r);
}

static void read_from(struct bandwidth *b, size_t node, size_t memory)
{
    const size_t n = pool_node_workers(b->pool, node);

    for (size_t i = 0; i < n; i++)
        b->lanes[first_lane(b, node) + i] = lane_from(b, memory, i, n);
}

void bandwidth_read_from(struct bandwidth *b, size_t node, size_t memory, struct bandwidth_rate *r)
{
    b->kind = STREAM_READ;
    rest_all(b);
    read_from(b, node, memory);
    measure(b, pass, r);
}

void bandwidth_read_remote(struct bandwidth *b, struct bandwidth_rate *r)
{
    const size_t n = pool_n_nodes(b->pool);

    b->kind = STREAM_READ;
    rest_all(b);
    for (size_t v = 0; v < n; v++)
        read_from(b, v, (v + 1) % n);
    measure(b, pass, r);
}

void bandwidth_peak(struct bandwidth *b, uint64_t (*loop)(uint64_t n), struct bandwidth_rate *r)
{
    rest_all(b);
    b->loop = loop;
    measure(b, operate, r);
}
