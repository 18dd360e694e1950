/*
 * check_pool.c - pool.h: who gets which place and CPU, barriers under stress, failures to start, idle cost.
 *
 * `check_pool --bench` prints what barriers and dispatch cost here instead, for pools of several shapes. `--quick` runs a hundredth
 * of the epochs, for emulated machines.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "numa/pool.h"

enum { MAX_WORKERS = 4096 }; /* twice the cores of any machine this is run on */

/* pthread_create is wrapped by the linker (CMakeLists.txt): from the n-th call on it fails, as under ulimit -u. */
static int creates_left = -1; /* -1: no limit */

int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
    if (creates_left == 0)
        return EAGAIN;
    creates_left -= creates_left > 0;
    return __real_pthread_create(thread, attr, start, arg);
}

static char logged[512];

static void keep_message(void *arg, enum log_level level, const char *message)
{
    (void)arg;
    (void)level;
    snprintf(logged, sizeof(logged), "%s", message);
}

static int catch_log(void **state)
{
    (void)state;
    logged[0] = '\0';
    log_set_sink(keep_message, NULL);
    return 0;
}

static int release_log(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    return 0;
}

/* This machine, or `n_virtual` nodes over it. */
static struct topology machine(size_t n_virtual)
{
    struct topology t;

    assert_int_equal(topology_read(&t, ""), 0);
    if (n_virtual)
        assert_int_equal(topology_make_virtual(&t, n_virtual), 0);
    return t;
}

static struct pool *pool_of(const struct topology *t, size_t n_threads)
{
    struct pool *p;

    assert_int_equal(pool_create(&p, t, n_threads), 0);
    return p;
}

/* --- places --- */

struct roll {
    struct worker seen[MAX_WORKERS];
    int calls[MAX_WORKERS], cpu[MAX_WORKERS], n_allowed[MAX_WORKERS]; /* n_allowed: CPUs in the affinity mask */
    pthread_t thread[MAX_WORKERS];
};

static void sign(const struct worker *w, void *arg)
{
    struct roll *r = arg;
    cpu_set_t mine;

    r->seen[w->index] = *w;
    r->calls[w->index]++;
    r->thread[w->index] = pthread_self();
    r->cpu[w->index] = sched_getcpu();
    r->n_allowed[w->index] = sched_getaffinity(0, sizeof(mine), &mine) ? -1 : CPU_COUNT(&mine);
}

/* Every worker is called once per run, on one and the same thread, and knows its place. */
static void check_places(struct pool *p, size_t n_workers, size_t n_nodes)
{
    static struct roll r;
    static pthread_t first[MAX_WORKERS];
    size_t index = 0;

    r = (struct roll){ 0 };
    assert_int_equal(pool_n_workers(p), n_workers);
    assert_int_equal(pool_n_nodes(p), n_nodes);
    for (int run = 0; run < 3; run++) {
        pool_run(p, sign, &r);
        for (size_t i = 0; i < n_workers; i++) {
            assert_int_equal(r.calls[i], run + 1);
            if (run)
                assert_true(pthread_equal(first[i], r.thread[i]));
            first[i] = r.thread[i];
        }
    }
    assert_true(pthread_equal(r.thread[0], pthread_self()));
    for (size_t node = 0; node < n_nodes; node++) {
        assert_true(pool_node_workers(p, node) >= 1);
        for (size_t i = 0; i < pool_node_workers(p, node); i++, index++) {
            const struct worker *w = &r.seen[index];

            assert_ptr_equal(w->pool, p);
            assert_int_equal(w->index, index);
            assert_int_equal(w->n_workers, n_workers);
            assert_int_equal(w->node, node);
            assert_int_equal(w->n_nodes, n_nodes);
            assert_int_equal(w->index_in_node, i);
            assert_int_equal(w->node_workers, pool_node_workers(p, node));
        }
    }
    assert_int_equal(index, n_workers);
}

static void test_places(void **state)
{
    static const size_t shapes[][2] = { { 0, 1 }, { 0, 2 }, { 1, 3 }, { 2, 2 }, { 3, 3 }, { 4, 12 }, { 5, 7 }, { 8, 8 }, { 64, 64 } };

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct topology t = machine(shapes[i][0]);

        if (shapes[i][1] >= t.n_nodes) {
            struct pool *p = pool_of(&t, shapes[i][1]);
            check_places(p, shapes[i][1], t.n_nodes);
            pool_destroy(p);
        }
        topology_free(&t);
    }
}

static void test_counts(void **state)
{
    struct topology t = machine(4);
    struct pool *p = pool_of(&t, 1);

    (void)state;
    assert_int_equal(pool_n_workers(p), 4); /* raised to one a node */
    assert_non_null(strstr(logged, "raised"));
    pool_destroy(p);
    assert_int_equal(pool_create(&p, &t, 1000000), -EINVAL);
    assert_null(p);
    pool_destroy(NULL);
    topology_free(&t);

    t = machine(0);
    size_t n_cores = 0;
    for (size_t i = 0; i < t.n_nodes; i++)
        n_cores += t.nodes[i].n_cpus;
    p = pool_of(&t, 0);
    assert_int_equal(pool_n_workers(p), n_cores); /* one a core */
    pool_destroy(p);
    topology_free(&t);
}

static int ids[] = { 0, 1, 2, 3, 4, 5, 6, 7 };

static void test_dealing_follows_cores(void **state)
{
    struct topology t = { .n_nodes = 3, .n_allowed_cpus = 1, .is_virtual = true };
    const size_t cores[] = { 4, 3, 1 };

    (void)state;
    for (size_t i = 0; i < 3; i++)
        t.nodes[i] = (struct topology_node){ .n_cpus = cores[i], .cpus = ids };
    for (size_t n = 3; n <= 16; n++) {
        struct pool *p = pool_of(&t, n);

        for (size_t i = 0; i < 3 && n == 8; i++)
            assert_int_equal(pool_node_workers(p, i), cores[i]);
        for (size_t i = 0; i < 3 && n < 8; i++)
            assert_true(pool_node_workers(p, i) <= cores[i]);
        assert_true(pool_node_workers(p, 0) >= pool_node_workers(p, 1));
        assert_true(pool_node_workers(p, 1) >= pool_node_workers(p, 2));
        pool_destroy(p);
    }
}

static void test_pinning(void **state)
{
    struct topology t = machine(0);
    struct pool *p = pool_of(&t, 0);
    static struct roll r;
    cpu_set_t before, after;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    pool_run(p, sign, &r);
    size_t index = 0;
    for (size_t node = 0; node < t.n_nodes; node++) {
        for (size_t i = 0; i < t.nodes[node].n_cpus; i++, index++) {
            assert_int_equal(r.n_allowed[index], 1);
            assert_int_equal(r.cpu[index], t.nodes[node].cpus[i]);
        }
    }
    pool_destroy(p);
    assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
    assert_true(CPU_EQUAL(&before, &after)); /* the caller has its CPUs back */

    p = pool_of(&t, 2 * index); /* more than cores: a node's workers share its CPUs */
    pool_run(p, sign, &r);
    for (size_t i = 0; i < 2 * index; i++)
        assert_int_equal(r.n_allowed[i], t.nodes[r.seen[i].node].n_cpus);
    pool_destroy(p);
    topology_free(&t);

    t = machine(2); /* more than cores on virtual nodes: nobody is pinned */
    p = pool_of(&t, index + 1);
    pool_run(p, sign, &r);
    for (size_t i = 0; i < index + 1; i++)
        assert_int_equal(r.n_allowed[i], CPU_COUNT(&before));
    pool_destroy(p);
    topology_free(&t);
}

struct handover {
    struct pool *pool;
    struct roll roll;
};

static void *call_from_elsewhere(void *arg)
{
    struct handover *h = arg;

    pool_run(h->pool, sign, &h->roll);
    return NULL;
}

static void test_another_thread_calls(void **state)
{
    struct topology t = machine(0);
    static struct handover h;
    pthread_t other;
    cpu_set_t before, now;

    (void)state;
    h = (struct handover){ .pool = pool_of(&t, 0) };
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    pool_run(h.pool, sign, &h.roll);
    assert_true(pthread_equal(h.roll.thread[0], pthread_self()));
    assert_int_equal(pthread_create(&other, NULL, call_from_elsewhere, &h), 0); /* inherits one CPU */
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_true(pthread_equal(h.roll.thread[0], other));
    assert_int_equal(h.roll.n_allowed[0], 1);
    assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
    assert_true(CPU_EQUAL(&before, &now)); /* no longer worker 0 */

    pool_run(h.pool, sign, &h.roll); /* the thread that was has ended */
    assert_true(pthread_equal(h.roll.thread[0], pthread_self()));
    assert_int_equal(h.roll.n_allowed[0], 1);
    pool_release_caller(h.pool);
    assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
    assert_true(CPU_EQUAL(&before, &now));
    pool_run(h.pool, sign, &h.roll);
    pool_destroy(h.pool);
    assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
    assert_true(CPU_EQUAL(&before, &now));
    topology_free(&t);
}

/* --- shares --- */

static void test_shares(void **state)
{
    (void)state;
    for (size_t n_workers = 1; n_workers <= 7; n_workers++) {
        for (size_t n = 0; n < 40; n++) {
            size_t next = 0;

            for (size_t i = 0; i < n_workers; i++) {
                const struct worker w = { .index_in_node = i, .node_workers = n_workers };
                size_t begin, end;

                pool_share_node(&w, n, &begin, &end);
                assert_int_equal(begin, next);
                assert_true(end - begin == n / n_workers || end - begin == n / n_workers + 1);
                next = end;
            }
            assert_int_equal(next, n);
        }
    }
}

/* --- barriers --- */

static uint64_t epochs_divisor = 1;

struct stress {
    uint64_t n_epochs;
    bool delays;
    uint64_t slot[MAX_WORKERS][16]; /* plain memory: only the barriers order it */
    _Atomic uint64_t n_wrong;
};

static void wait_a_little(unsigned *seed)
{
    const unsigned dice = (unsigned)rand_r(seed) % 4096;

    if (dice == 0)
        usleep(100);
    else if (dice < 64)
        sched_yield();
    else if (dice < 1024)
        for (volatile unsigned i = 0; i < dice; i++)
            ;
}

/* Each worker writes the epoch, then after a barrier everyone must read it from all: of the node, or of the pool. */
static void stress(const struct worker *w, void *arg)
{
    struct stress *s = arg;
    unsigned seed = (unsigned)w->index + 1;

    for (uint64_t e = 1; e <= s->n_epochs; e++) {
        const bool all = e % 3 == 0;
        const size_t begin = all ? 0 : w->index - w->index_in_node, n = all ? w->n_workers : w->node_workers;

        s->slot[w->index][0] = e;
        if (s->delays)
            wait_a_little(&seed);
        all ? pool_barrier_all(w) : pool_barrier_node(w);
        for (size_t i = begin; i < begin + n; i++) {
            if (s->slot[i][0] != e)
                s->n_wrong++;
        }
        if (s->delays)
            wait_a_little(&seed);
        all ? pool_barrier_all(w) : pool_barrier_node(w);
    }
}

static void check_stress(size_t n_virtual, size_t n_threads, uint64_t n_epochs, bool delays)
{
    struct topology t = machine(n_virtual);
    struct pool *p = pool_of(&t, n_threads);
    struct stress *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    n_epochs /= epochs_divisor;
    s->n_epochs = n_epochs;
    s->delays = delays;
    const uint64_t start = clock_now_ns();
    pool_run(p, stress, s);
    print_message("%zu workers on %zu nodes: %.2f us a barrier%s\n", pool_n_workers(p), t.n_nodes,
                  (double)(clock_now_ns() - start) / 2e3 / (double)n_epochs, delays ? " (with delays)" : "");
    assert_int_equal(s->n_wrong, 0);
    for (size_t i = 0; i < pool_n_workers(p); i++)
        assert_int_equal(s->slot[i][0], n_epochs);
    free(s);
    pool_destroy(p);
    topology_free(&t);
}

static void test_barriers_of_a_pair(void **state)
{
    (void)state;
    check_stress(0, 2, 300000, false);
    check_stress(2, 2, 300000, false);
    check_stress(2, 2, 30000, true);
}

static void test_barriers_of_three(void **state)
{
    (void)state;
    check_stress(0, 3, 30000, false);
    check_stress(2, 3, 30000, false);
    check_stress(3, 3, 10000, true);
}

/* A barrier must not cost the scheduler's time slices (some ms a worker): this takes 0.2 s on two idle CPUs, with them minutes. */
static void test_crowded_barriers(void **state)
{
    const uint64_t start = clock_now_ns();

    (void)state;
    check_stress(4, 12, 2000, false);
    check_stress(4, 12, 500, true);
    check_stress(8, 32, 500, false);
    assert_true(clock_now_ns() - start < UINT64_C(20) * 1000000000);
}

/* --- runs --- */

static void add_one(const struct worker *w, void *arg)
{
    uint64_t(*sum)[16] = arg;

    sum[w->index][0]++;
}

/* What the caller wrote is seen by the workers, and the other way round, with every way of waiting in between. */
static void check_runs(size_t n_virtual, size_t n_threads, int n_runs, useconds_t pause_us)
{
    struct topology t = machine(n_virtual);
    struct pool *p = pool_of(&t, n_threads);
    uint64_t(*sum)[16] = calloc(MAX_WORKERS, sizeof(*sum));

    assert_non_null(sum);
    if (n_runs > 1000)
        n_runs /= (int)epochs_divisor;
    for (int run = 0; run < n_runs; run++) {
        for (size_t i = 0; i < pool_n_workers(p); i++)
            sum[i][0] += 1;
        pool_run(p, add_one, sum);
        for (size_t i = 0; i < pool_n_workers(p); i++)
            assert_int_equal(sum[i][0], 2 * (uint64_t)(run + 1));
        if (pause_us)
            usleep(pause_us);
    }
    free(sum);
    pool_destroy(p);
    topology_free(&t);
}

static void test_runs(void **state)
{
    (void)state;
    check_runs(0, 1, 1000, 0);
    check_runs(0, 2, 50000, 0);
    check_runs(0, 2, 100, 500); /* workers still look for work */
    check_runs(0, 2, 30, 5000); /* workers sleep */
    check_runs(4, 12, 1000, 0);
    check_runs(4, 12, 100, 500);
}

static void test_create_and_destroy(void **state)
{
    struct topology t = machine(3);

    (void)state;
    for (int i = 0; i < 100; i++)
        pool_destroy(pool_of(&t, 5));
    topology_free(&t);
}

static void test_thread_cannot_start(void **state)
{
    struct topology t = machine(2);
    struct pool *p = (struct pool *)&t;

    (void)state;
    for (int left = 0; left < 6; left++) {
        creates_left = left;
        const int err = pool_create(&p, &t, 7);
        creates_left = -1;
        assert_int_equal(err, -EAGAIN);
        assert_null(p);
        assert_non_null(strstr(logged, "worker threads could be started"));
    }
    p = pool_of(&t, 7);
    check_places(p, 7, 2);
    pool_destroy(p);
    topology_free(&t);
}

static void do_nothing(const struct worker *w, void *arg)
{
    (void)w;
    (void)arg;
}

static uint64_t cpu_us(void)
{
    struct rusage r;

    assert_int_equal(getrusage(RUSAGE_SELF, &r), 0);
    return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 + (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void test_idle_costs_nothing(void **state)
{
    static const size_t shapes[][2] = { { 0, 0 }, { 4, 12 } };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct topology t = machine(shapes[i][0]);
        struct pool *p = pool_of(&t, shapes[i][1]);

        pool_run(p, do_nothing, NULL);
        usleep(50000);
        const uint64_t before = cpu_us();
        usleep(500000);
        const uint64_t spent = cpu_us() - before;
        assert_true(spent < 5000); /* 1 % of one CPU; two spinning workers would take 1000000 */
        pool_destroy(p);
        topology_free(&t);
    }
}

/* --- waits --- */

static void cross_three(const struct worker *w, void *arg)
{
    (void)arg;
    if (w->index == 0)
        usleep(2000); /* the others wait for this one */
    pool_barrier_all(w);
    pool_barrier_node(w);
    pool_barrier_all(w);
}

static void test_barriers_are_counted(void **state)
{
    struct topology t = machine(2);
    struct pool *p = pool_of(&t, 4);

    (void)state;
    pool_run(p, cross_three, NULL);
    assert_int_equal(pool_worker_waits(p, 0).barriers, 0);
    pool_count_waits(p, true);
    pool_run(p, cross_three, NULL);
    pool_run(p, cross_three, NULL);
    for (size_t k = 0; k < 4; k++)
        assert_int_equal(pool_worker_waits(p, k).barriers, 6);
    assert_true(pool_worker_waits(p, 1).ns > 0);
    pool_count_waits(p, false);
    pool_run(p, cross_three, NULL);
    assert_int_equal(pool_worker_waits(p, 3).barriers, 6);
    pool_count_waits(p, true);
    assert_int_equal(pool_worker_waits(p, 3).barriers, 0);
    pool_destroy(p);
    topology_free(&t);
}

/* --- bench --- */

static uint64_t bench_epochs;

static void cross_node(const struct worker *w, void *arg)
{
    (void)arg;
    for (uint64_t i = 0; i < bench_epochs; i++)
        pool_barrier_node(w);
}

static void cross_all(const struct worker *w, void *arg)
{
    (void)arg;
    for (uint64_t i = 0; i < bench_epochs; i++)
        pool_barrier_all(w);
}

static double seconds_of_run(struct pool *p, pool_fn fn)
{
    const uint64_t start = clock_now_ns();

    pool_run(p, fn, NULL);
    return (double)(clock_now_ns() - start) / 1e9;
}

static void bench(size_t n_virtual, size_t n_threads)
{
    struct topology t = machine(n_virtual);
    struct pool *p = pool_of(&t, n_threads);
    double run = 0, woken = 0;

    bench_epochs = pool_n_workers(p) > t.n_allowed_cpus ? 3000 : 300000;
    seconds_of_run(p, do_nothing);
    const double node = seconds_of_run(p, cross_node), all = seconds_of_run(p, cross_all);
    for (uint64_t i = 0; i < bench_epochs; i++)
        run += seconds_of_run(p, do_nothing);
    for (int i = 0; i < 20; i++) {
        usleep(20000);
        woken += seconds_of_run(p, do_nothing);
    }
    printf("%2zu nodes %3zu workers: barrier of a node %7.0f ns, of all %7.0f ns; run %7.0f ns, after sleep %7.0f ns\n", t.n_nodes,
           pool_n_workers(p), node / (double)bench_epochs * 1e9, all / (double)bench_epochs * 1e9, run / (double)bench_epochs * 1e9,
           woken / 20 * 1e9);
    pool_destroy(p);
    topology_free(&t);
}

#define LOGGED(test) cmocka_unit_test_setup_teardown(test, catch_log, release_log)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        LOGGED(test_places),
        LOGGED(test_counts),
        LOGGED(test_dealing_follows_cores),
        LOGGED(test_pinning),
        LOGGED(test_another_thread_calls),
        LOGGED(test_shares),
        LOGGED(test_barriers_of_a_pair),
        LOGGED(test_barriers_of_three),
        LOGGED(test_crowded_barriers),
        LOGGED(test_barriers_are_counted),
        LOGGED(test_runs),
        LOGGED(test_create_and_destroy),
        LOGGED(test_thread_cannot_start),
        LOGGED(test_idle_costs_nothing),
    };

    if (argc > 1 && !strcmp(argv[1], "--bench")) {
        bench(0, 0);
        bench(2, 0);
        bench(4, 4);
        bench(4, 12);
        bench(8, 32);
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "--quick"))
        epochs_divisor = 100;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
