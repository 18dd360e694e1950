/*
 * pool.c - the workers: started, kept to their CPUs, handed a function, joined.
 *
 * A decode step follows the last one within a few milliseconds, so idle workers keep looking for the next job for a while before
 * they sleep: waking one costs some 50 us, a look costs nothing anybody waits for.
 */
#include "numa/pool.h"

#include <assert.h>
#include <errno.h>
#include <numaif.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log.h"
#include "numa/place.h"
#include "numa/pool_internal.h"

/*
 * `check_pool --bench` measures these. A yield with nobody else to run costs well under a microsecond, so yielding early is nearly
 * free and lets the HTTP threads of a two-core machine in. Crowded, on 2 CPUs (EPYC 9004): without yields a barrier of 12 workers
 * over 4 virtual nodes takes 37 us, with 20 us of them or more 15 us.
 */
static const struct patience alone = { .pause_ns = 50 * 1000, .yield_ns = 2 * 1000 * 1000 };
static const struct patience crowded = { .pause_ns = 0, .yield_ns = 50 * 1000 };

/* By thread id, because a thread that called once may have ended: that is ESRCH, and fine. */
static void confine(pid_t thread, const struct id_set *cpus)
{
    if (sched_setaffinity(thread, sizeof(*cpus), (const cpu_set_t *)cpus) && errno != ESRCH)
        log_warn("a worker cannot be kept to CPU %d: %s", id_set_next(cpus, 0), strerror(errno));
}

static void *work(void *arg)
{
    struct pool_thread *self = arg;
    const struct worker *w = &self->worker;
    struct pool *p = w->pool;
    struct pool_node *node = p->nodes[w->node];
    char name[16];

    snprintf(name, sizeof(name), "node%u.%u", (unsigned)w->node % 1000, (unsigned)w->index_in_node % 100000);
    pthread_setname_np(pthread_self(), name);
    if (p->confine)
        confine(0, &self->cpus);
    for (uint64_t epoch = 1;; epoch++) {
        flag_wait(&node->job, epoch, &p->patience);
        if (!p->fn)
            return NULL;
        p->fn(w, p->arg);
        if (counter_arrive(&node->returned, node->n_workers))
            flag_raise(&node->done, epoch);
    }
}

static void raise_job(struct pool *p)
{
    p->job_epoch++;
    for (size_t i = 0; i < p->n_nodes; i++)
        flag_raise(&p->nodes[i]->job, p->job_epoch);
}

void pool_release_caller(struct pool *p)
{
    if (p->caller)
        confine(p->caller, &p->creator_cpus);
    p->caller = 0;
}

/* The calling thread becomes worker 0, and who was that before is free. */
static void adopt_caller(struct pool *p)
{
    const pid_t self = gettid(); /* not cached in the thread: a fork would keep the parent's */

    if (!p->confine || p->caller == self)
        return;
    pool_release_caller(p);
    p->caller = self;
    confine(self, &p->threads[0].cpus);
}

void pool_run(struct pool *p, pool_fn fn, void *arg)
{
    const struct worker *w = &p->threads[0].worker;
    struct pool_node *node = p->nodes[w->node];

    adopt_caller(p);
    p->fn = fn;
    p->arg = arg;
    raise_job(p);
    fn(w, arg);
    if (counter_arrive(&node->returned, node->n_workers))
        flag_raise(&node->done, p->job_epoch);
    for (size_t i = 0; i < p->n_nodes; i++)
        flag_wait(&p->nodes[i]->done, p->job_epoch, &p->patience);
}

/* Flags in memory of the node whose workers write them; anywhere, if the kernel does not let us choose. */
static struct pool_node *create_node(const struct topology *t, size_t node, size_t n_workers)
{
    const size_t bytes = (sizeof(struct pool_node) + 4095) & ~(size_t)4095;
    unsigned long mask[1024 / 64] = { 0 };
    const int os_node = t->nodes[node].os_node;
    struct pool_node *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (made == MAP_FAILED)
        return NULL;
    if (!t->is_virtual && os_node < 1024) {
        mask[os_node / 64] = 1ul << (os_node % 64);
        mbind(made, bytes, MPOL_PREFERRED, mask, 1024 + 1, 0);
    }
    made->n_workers = n_workers;
    return made;
}

static void free_node(struct pool_node *node)
{
    if (node)
        munmap(node, (sizeof(*node) + 4095) & ~(size_t)4095);
}

/* At least one worker a node; the others in proportion to the cores that are then left, so that n = cores gives each its own. */
static void deal_workers(const struct topology *t, size_t n_workers, size_t *start)
{
    double weights[TOPOLOGY_MAX_NODES], total = 0;

    for (size_t i = 0; i < t->n_nodes; i++) {
        weights[i] = (double)(t->nodes[i].n_cpus - 1);
        total += weights[i];
    }
    for (size_t i = 0; i < t->n_nodes && total == 0; i++)
        weights[i] = 1;
    place_deal(n_workers - t->n_nodes, t->n_nodes, weights, start);
    for (size_t i = 0; i <= t->n_nodes; i++)
        start[i] += i;
}

/* Give every worker its place; true when each has a CPU of its own. */
static bool assign(struct pool *p, const size_t *start)
{
    struct id_set taken = { 0 };
    bool alone_on_cpu = true;

    for (size_t i = 0; i < p->n_nodes; i++) {
        const struct topology_node *node = &p->topology->nodes[i];

        for (size_t k = start[i]; k < start[i + 1]; k++) {
            const size_t in_node = k - start[i];
            const int cpu = node->cpus[in_node % node->n_cpus];

            p->threads[k].worker = (struct worker){ .pool = p,
                                                    .index = k,
                                                    .n_workers = p->n_workers,
                                                    .node = i,
                                                    .n_nodes = p->n_nodes,
                                                    .index_in_node = in_node,
                                                    .node_workers = start[i + 1] - start[i] };
            id_set_add(&p->threads[k].cpus, cpu);
            alone_on_cpu = alone_on_cpu && !id_set_has(&taken, cpu);
            id_set_add(&taken, cpu);
        }
    }
    return alone_on_cpu;
}

/* Not enough CPUs for one each: a real node's workers may use all of its CPUs, a virtual one's run anywhere. */
static void share_cpus(struct pool *p)
{
    const struct topology *t = p->topology;

    p->patience = t->is_virtual && p->n_workers <= t->n_allowed_cpus ? alone : crowded;
    p->confine = !t->is_virtual;
    for (size_t k = 0; k < p->n_workers; k++) {
        const struct topology_node *node = &t->nodes[p->threads[k].worker.node];

        for (size_t c = 0; c < node->n_cpus; c++)
            id_set_add(&p->threads[k].cpus, node->cpus[c]);
    }
}

/* Workers take no signals (they are for the main thread), but those that mean a fault of their own. */
static int start_threads(struct pool *p)
{
    sigset_t blocked, before;
    int err = 0;

    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    for (size_t k = 1; k < p->n_workers && !err; k++) {
        err = pthread_create(&p->threads[k].thread, NULL, work, &p->threads[k]);
        if (!err)
            p->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) {
        log_error("only %zu of %zu worker threads could be started: %s (see ulimit -u and the cgroup's pids.max)", p->n_started + 1,
                  p->n_workers, strerror(err));
        return -EAGAIN;
    }
    return 0;
}

int pool_create(struct pool **pool, const struct topology *t, size_t n_threads)
{
    size_t start[TOPOLOGY_MAX_NODES + 1], n_cpus = 0;
    int err = 0;

    *pool = NULL;
    for (size_t i = 0; i < t->n_nodes; i++)
        n_cpus += t->nodes[i].n_cpus;
    if (!n_cpus || n_threads > SYSFS_MAX_IDS) {
        log_error("%zu threads: 1 to %d are possible, on nodes with CPUs", n_threads, SYSFS_MAX_IDS);
        return -EINVAL;
    }
    if (!n_threads)
        n_threads = topology_default_threads(t);
    if (n_threads < t->n_nodes) {
        log_info("%zu threads for %zu nodes: raised to one a node", n_threads, t->n_nodes);
        n_threads = t->n_nodes;
    }

    struct pool *p = aligned_alloc(POOL_LINE_BYTES, sizeof(*p));
    if (p) {
        *p = (struct pool){ .topology = t, .n_nodes = t->n_nodes, .n_workers = n_threads, .patience = alone, .confine = true };
        p->threads = calloc(n_threads, sizeof(*p->threads));
        deal_workers(t, n_threads, start);
        for (size_t i = 0; i < p->n_nodes; i++) {
            p->nodes[i] = create_node(t, i, start[i + 1] - start[i]);
            err = p->nodes[i] ? err : -ENOMEM;
        }
    }
    if (!p || !p->threads || err) {
        log_error("no memory for %zu workers", n_threads);
        err = -ENOMEM;
    } else {
        if (!assign(p, start))
            share_cpus(p);
        if (sched_getaffinity(0, sizeof(p->creator_cpus), (cpu_set_t *)&p->creator_cpus))
            p->confine = false;
        err = start_threads(p);
    }
    if (err)
        pool_destroy(p);
    else
        *pool = p;
    return err;
}

void pool_destroy(struct pool *p)
{
    if (!p)
        return;
    if (p->n_started) {
        p->fn = NULL;
        raise_job(p);
    }
    for (size_t k = 1; k <= p->n_started; k++)
        pthread_join(p->threads[k].thread, NULL);
    pool_release_caller(p);
    for (size_t i = 0; i < p->n_nodes; i++)
        free_node(p->nodes[i]);
    free(p->threads);
    free(p);
}

size_t pool_n_workers(const struct pool *p)
{
    return p->n_workers;
}

size_t pool_n_nodes(const struct pool *p)
{
    return p->n_nodes;
}

size_t pool_node_workers(const struct pool *p, size_t node)
{
    return p->nodes[node]->n_workers;
}

const struct topology *pool_topology(const struct pool *p)
{
    return p->topology;
}

void pool_count_waits(struct pool *p, bool on)
{
    for (size_t k = 0; k < p->n_workers && on; k++)
        p->threads[k].waits = (struct pool_waits){ 0 };
    p->counts_waits = on;
}

struct pool_waits pool_worker_waits(const struct pool *p, size_t worker)
{
    return p->threads[worker].waits;
}

void pool_share_node(const struct worker *w, size_t n, size_t *begin, size_t *end)
{
    const size_t i = w->index_in_node, each = n / w->node_workers, more = n % w->node_workers;

    *begin = each * i + (i < more ? i : more);
    *end = *begin + each + (i < more);
}
