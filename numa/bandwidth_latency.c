/*
 * bandwidth_latency.c - time of one load: idle, while others read, and of a line that another core has.
 *
 * A load's address is what the load before it gave, over a random cycle, so nothing can be fetched ahead. The cycle uses one line of every
 * 256 bytes: prefetchers bring a line's neighbour, too, which would then be a hit later. It is random within pieces of 32 MiB, which
 * are gone through in order: 16 pages of 2 MiB, which the TLB has at once; where there are only small ones, 8192, more than any second
 * level holds (2048 on Golden Cove, 4096 on Zen 5), page walks are in the figure. Before every round all lines are flushed, so that no
 * cache, of whatever size, keeps some from the round before.
 */
#include <assert.h>
#include <emmintrin.h>
#include <errno.h>

#include "common/clock.h"
#include "numa/bandwidth_internal.h"

enum { APART_BYTES = 256, PIECE_BYTES = 32 << 20, LINE_BYTES = 64 };
enum { MOST_CHAIN_BYTES = 1 << 30, HANDED_BYTES = 128 << 10, HANDED_ROUNDS = 100, LOAD_BYTES = 4 << 20, PACED_BYTES = 16 << 10 };

struct line {
    union {
        struct line *next;
        size_t index;           /* of the next one, while the cycle is made */
    };
    uint64_t count;             /* of times it was modified */
    char unused[APART_BYTES - 2 * sizeof(uint64_t)];
};
_Static_assert(sizeof(struct line) == APART_BYTES, "one line of every 256 bytes");

static struct line *lines_of(const struct bandwidth *b)
{
    return b->arenas[b->memory].base;
}

/* Lines [begin, end) of piece `p`, of the chain's n. */
static size_t piece_of(const struct bandwidth *b, size_t p, size_t *begin)
{
    const size_t n = b->chain_bytes / APART_BYTES, each = PIECE_BYTES / APART_BYTES;

    *begin = p * each;
    return n - *begin < each ? n - *begin : each;
}

static size_t n_pieces(const struct bandwidth *b)
{
    return (b->chain_bytes + PIECE_BYTES - 1) / PIECE_BYTES;
}

/* One cycle through all lines of a piece (Sattolo 1986), opened where it comes back to the first line, and led to the next piece. */
static void chain_piece(struct bandwidth *b, size_t p)
{
    size_t begin, next_begin;
    const size_t n = piece_of(b, p, &begin);
    struct line *l = lines_of(b) + begin;
    uint64_t random = p + 1;

    piece_of(b, (p + 1) % n_pieces(b), &next_begin);
    for (size_t i = 0; i < n; i++)
        l[i] = (struct line){ .index = i };
    for (size_t i = n - 1; i; i--) {
        random = random * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
        const size_t j = (size_t)((random >> 33) % i), index = l[i].index;

        l[i].index = l[j].index;
        l[j].index = index;
    }
    for (size_t i = 0; i < n; i++)
        l[i].next = l[i].index ? l + l[i].index : lines_of(b) + next_begin;
}

static void chain(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;

    if (w->node != b->memories[b->memory].owner)
        return;
    for (size_t p = w->index_in_node; p < n_pieces(b); p += w->node_workers)
        chain_piece(b, p);
}

/* A cycle through the first `bytes` of a memory, unless it is there already. */
static void make_chain(struct bandwidth *b, size_t memory, size_t bytes)
{
    bytes = bytes / APART_BYTES * APART_BYTES;
    if (b->memory == memory && b->chain_bytes == bytes)
        return;
    b->memory = memory;
    b->chain_bytes = bytes;
    pool_run(b->pool, chain, b);
}

static void flush_lines(const struct bandwidth *b, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        _mm_clflush(lines_of(b) + i);
    _mm_mfence();
}

static void flush(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;
    size_t begin, end;

    if (w->node != b->memories[b->memory].owner)
        return;
    pool_share_node(w, b->chain_bytes / APART_BYTES, &begin, &end);
    flush_lines(b, begin, end);
}

/* Once through the cycle, timed. */
static void chase_once(struct bandwidth *b, struct lane *lane)
{
    const size_t n = b->chain_bytes / APART_BYTES;
    const uint64_t start = clock_now_ns();

    lane->sink += (uint64_t)(uintptr_t)b->o.loops->chase(lines_of(b), n);
    b->chase_ns += clock_now_ns() - start;
    b->chase_loads += n;
}

static void chase(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;

    if (w->node == b->node && w->index_in_node == 0)
        chase_once(b, &b->lanes[w->index]);
}

static void summarise(double *ns, size_t n, struct bandwidth_latency *l)
{
    bandwidth_sort(ns, n);
    l->best = ns[0];
    l->median = bandwidth_median(ns, n);
}

static double chased_ns(const struct bandwidth *b)
{
    return (double)b->chase_ns / (double)b->chase_loads;
}

static size_t memory_bytes(const struct bandwidth *b, size_t memory)
{
    return pool_node_workers(b->pool, b->memories[memory].owner) * b->worker_bytes[memory];
}

void bandwidth_chase(struct bandwidth *b, size_t node, size_t memory, struct bandwidth_latency *l)
{
    const size_t most = b->o.cache_multiple < 4 ? PIECE_BYTES : MOST_CHAIN_BYTES, bytes = memory_bytes(b, memory);
    double ns[BANDWIDTH_MAX_SAMPLES];

    make_chain(b, memory, bytes < most ? bytes : most);
    b->node = node;
    for (size_t i = 0; i <= b->o.n_samples; i++) { /* the first warms up translations, and does not count */
        b->chase_ns = b->chase_loads = 0;
        do {
            pool_run(b->pool, flush, b);
            pool_run(b->pool, chase, b);
        } while (i && b->chase_ns < b->o.sample_ns);
        ns[i ? i - 1 : 0] = chased_ns(b);
    }
    summarise(ns, b->o.n_samples, l);
}

/* Worker 0 chases within its own part, so that the readers, each in its own, never bring its lines. */
static void chase_loaded(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;
    struct lane *lane = &b->lanes[w->index];

    pool_barrier_all(w);
    lane->start_ns = clock_now_ns();
    if (w->index == 0) {
        do {
            flush_lines(b, 0, b->chain_bytes / APART_BYTES);
            chase_once(b, lane);
        } while (b->chase_ns < b->o.sample_ns);
        atomic_store(&b->stop, true);
        return;
    }
    const char *part = (const char *)bandwidth_part(b, w->node, w->index_in_node);
    const size_t piece = b->delay ? PACED_BYTES : LOAD_BYTES;

    for (size_t at = 0; !atomic_load_explicit(&b->stop, memory_order_relaxed); at += piece) {
        at = at + piece > b->worker_bytes[w->node] ? 0 : at;
        lane->sink += b->delay ? b->o.loops->read_paced(part + at, piece, b->delay) : b->o.loops->read(part + at, piece);
        lane->moved += piece;
    }
    lane->end_ns = clock_now_ns();
}

void bandwidth_loaded(struct bandwidth *b, unsigned delay, struct bandwidth_latency *l, double *bytes_per_s)
{
    double ns[BANDWIDTH_MAX_SAMPLES], rates[BANDWIDTH_MAX_SAMPLES];
    const size_t n = pool_n_workers(b->pool);

    make_chain(b, 0, b->worker_bytes[0] < MOST_CHAIN_BYTES ? b->worker_bytes[0] : MOST_CHAIN_BYTES);
    b->delay = delay;
    for (size_t i = 0; i < b->o.n_samples; i++) {
        for (size_t k = 0; k < n; k++)
            b->lanes[k] = (struct lane){ .bytes = 0 };
        b->chase_ns = b->chase_loads = 0;
        atomic_store(&b->stop, false);
        pool_run(b->pool, chase_loaded, b);
        ns[i] = chased_ns(b);
        rates[i] = LINE_BYTES * 1e9 / ns[i];
        for (size_t k = 1; k < n; k++)
            rates[i] += (double)b->lanes[k].moved * 1e9 / (double)(b->lanes[k].end_ns - b->lanes[k].start_ns + 1);
    }
    summarise(ns, b->o.n_samples, l);
    bandwidth_sort(rates, b->o.n_samples);
    *bytes_per_s = bandwidth_median(rates, b->o.n_samples);
}

/* The lines as the reader shall find them: each modified in the writer's cache, or read there after nobody had it. */
static void take_lines(struct bandwidth *b, struct lane *lane)
{
    const size_t n = b->chain_bytes / APART_BYTES;
    struct line *at = lines_of(b);

    if (!b->modified) {
        flush_lines(b, 0, n);
        lane->sink += (uint64_t)(uintptr_t)b->o.loops->chase(at, n);
        return;
    }
    for (size_t i = 0; i < n; i++, at = at->next)
        at->count++;
}

/* A worker of `node` takes the lines of `memory`, one of `reader` loads them. */
static void hand_over(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;
    const bool is_writer = w->node == b->node && w->index_in_node == 0;
    const bool is_reader = w->node == b->reader && w->index_in_node == (b->reader == b->node);

    for (size_t i = 0; i < HANDED_ROUNDS; i++) {
        if (is_writer)
            take_lines(b, &b->lanes[w->index]);
        pool_barrier_all(w);
        if (is_reader)
            chase_once(b, &b->lanes[w->index]);
        pool_barrier_all(w);
    }
}

/* Does each of the two have a CPU of its own? */
static bool is_apart(const struct bandwidth *b, size_t writer, size_t reader)
{
    const struct topology *t = b->o.topology;

    if (pool_n_workers(b->pool) > t->n_allowed_cpus || pool_node_workers(b->pool, writer) > t->nodes[writer].n_cpus ||
        pool_node_workers(b->pool, reader) > t->nodes[reader].n_cpus)
        return false;
    if (writer == reader)
        return pool_node_workers(b->pool, writer) > 1;
    return t->nodes[writer].cpus[0] != t->nodes[reader].cpus[0];
}

int bandwidth_core_to_core(struct bandwidth *b, size_t writer, size_t reader, size_t home, bool modified, struct bandwidth_latency *l)
{
    double ns[BANDWIDTH_MAX_SAMPLES];

    if (!is_apart(b, writer, reader))
        return -ENODEV;
    make_chain(b, home, HANDED_BYTES);
    b->node = writer;
    b->reader = reader;
    b->modified = modified;
    for (size_t i = 0; i < b->o.n_samples; i++) {
        b->chase_ns = b->chase_loads = 0;
        pool_run(b->pool, hand_over, b);
        ns[i] = chased_ns(b);
    }
    summarise(ns, b->o.n_samples, l);
    return 0;
}

static void meet(const struct worker *w, void *arg)
{
    struct bandwidth *b = arg;

    pool_barrier_all(w);
    const uint64_t start = clock_now_ns();
    for (uint64_t i = 0; i < b->passes; i++)
        pool_barrier_all(w);
    if (w->index == 0)
        b->chase_ns = clock_now_ns() - start;
}

void bandwidth_barrier(struct bandwidth *b, struct bandwidth_latency *l)
{
    double ns[BANDWIDTH_MAX_SAMPLES];

    b->passes = 1;
    do { /* enough of them for a tenth of a sample */
        b->passes *= 4;
        pool_run(b->pool, meet, b);
    } while (b->chase_ns < b->o.sample_ns / 10);
    for (size_t i = 0; i < b->o.n_samples; i++) {
        pool_run(b->pool, meet, b);
        ns[i] = (double)b->chase_ns / (double)b->passes;
    }
    summarise(ns, b->o.n_samples, l);
}
