/*
 * barrier.c - waiting for each other: flags, and the barriers of a node and of all nodes made of them.
 *
 * A barrier of all nodes costs one hop over the link: the last worker to arrive in a node raises the node's `crossed` flag and alone
 * reads those of the others, then releases its own node. If every worker watched the remote flags, each raise would
 * take the line away from every core of the machine and send it to each of them again.
 *
 * A worker that waits first spins with pause, then yields between looks, so that another thread that wants this CPU (HTTP,
 * a neighbour) gets it, and at last sleeps on a futex. A crowded pool (more workers than CPUs) starts with
 * yielding: whom it waits for may need its CPU.
 */
#include <immintrin.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "numa/pool_internal.h"

enum { LOOKS_PER_CLOCK = 32 }; /* reading the clock costs as much as one to two pauses */

/* A futex is 32 bits: the low half of the epoch. It cannot come round to the same value within one wait. */
static void futex_wait(struct flag *f, uint64_t seen)
{
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half comes first");
    syscall(SYS_futex, &f->epoch, FUTEX_WAIT_PRIVATE, (uint32_t)seen, NULL, NULL, 0);
}

/*
 * Raising stores the epoch, then looks for sleepers; a waiter counts itself, then looks at the epoch (futex_wait does, too). In
 * the one order of sequentially consistent operations at least one of them sees the other, so no wake is lost.
 */
void flag_raise(struct flag *f, uint64_t epoch)
{
    atomic_store_explicit(&f->epoch, epoch, memory_order_seq_cst);
    if (atomic_load_explicit(&f->sleepers, memory_order_seq_cst))
        syscall(SYS_futex, &f->epoch, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void flag_sleep(struct flag *f, uint64_t epoch)
{
    atomic_fetch_add_explicit(&f->sleepers, 1, memory_order_seq_cst);
    for (;;) {
        const uint64_t seen = atomic_load_explicit(&f->epoch, memory_order_seq_cst);

        if (seen >= epoch)
            break;
        futex_wait(f, seen);
    }
    atomic_fetch_sub_explicit(&f->sleepers, 1, memory_order_relaxed);
}

static inline bool is_raised(struct flag *f, uint64_t epoch)
{
    return atomic_load_explicit(&f->epoch, memory_order_acquire) >= epoch;
}

void flag_wait(struct flag *f, uint64_t epoch, const struct patience *patience)
{
    uint64_t start = 0, waited = 0;

    if (is_raised(f, epoch))
        return;
    start = clock_now_ns();
    while (waited < patience->pause_ns) {
        for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
            if (is_raised(f, epoch))
                return;
            _mm_pause();
        }
        waited = clock_now_ns() - start;
    }
    while (waited < patience->yield_ns) {
        sched_yield();
        if (is_raised(f, epoch))
            return;
        waited = clock_now_ns() - start;
    }
    flag_sleep(f, epoch);
}

static void cross_node(const struct worker *w)
{
    struct pool *p = w->pool;
    struct pool_node *node = p->nodes[w->node];
    /* `released` cannot move until this worker has arrived */
    const uint64_t next = atomic_load_explicit(&node->released.epoch, memory_order_relaxed) + 1;

    if (counter_arrive(&node->arrived, node->n_workers))
        flag_raise(&node->released, next);
    else
        flag_wait(&node->released, next, &p->patience);
}

static void cross_all(const struct worker *w)
{
    struct pool *p = w->pool;
    struct pool_node *node = p->nodes[w->node];
    const uint64_t next = atomic_load_explicit(&node->released.epoch, memory_order_relaxed) + 1;

    if (!counter_arrive(&node->arrived, node->n_workers)) {
        flag_wait(&node->released, next, &p->patience);
        return;
    }
    if (p->n_nodes > 1) {
        const uint64_t crossing = atomic_load_explicit(&node->crossed.epoch, memory_order_relaxed) + 1;

        flag_raise(&node->crossed, crossing);
        for (size_t i = 1; i < p->n_nodes; i++) /* begin with different nodes, so that not all read one line at once */
            flag_wait(&p->nodes[(w->node + i) % p->n_nodes]->crossed, crossing, &p->patience);
    }
    flag_raise(&node->released, next);
}

/* Reading the clock twice costs as much as the barrier itself: only while somebody counts. */
static inline void cross(const struct worker *w, void (*how)(const struct worker *w))
{
    struct pool_waits *waits = &w->pool->threads[w->index].waits;

    if (!w->pool->counts_waits) {
        how(w);
        return;
    }
    const uint64_t start = clock_now_ns();
    how(w);
    waits->barriers++;
    waits->ns += clock_now_ns() - start;
}

void pool_barrier_node(const struct worker *w)
{
    cross(w, cross_node);
}

void pool_barrier_all(const struct worker *w)
{
    cross(w, cross_all);
}
