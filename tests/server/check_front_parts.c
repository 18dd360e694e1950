/*
 * tests/server/check_front_parts.c - the router, the work pool, the latency buckets and the keys, where many threads meet in them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "server/http.h"
#include "server/latency.h"
#include "server/router.h"
#include "server/work_pool.h"

static void router_ids(void **state)
{
    enum { MANY = 1 << ROUTER_SLOT_BITS };
    static uint64_t ids[MANY];
    struct router r;
    uint32_t sequence;
    int owner;

    (void)state;
    assert_int_equal(router_init(&r), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        ids[i] = router_add(&r, &owner, i);
        assert_true(ids[i] != 0);
    }
    assert_true(router_add(&r, &owner, 0) == 0);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_ptr_equal(router_find(&r, ids[i], &sequence), &owner);
        assert_int_equal(sequence, i);
    }
    router_remove(&r, ids[5]);
    assert_null(router_find(&r, ids[5], &sequence));
    uint64_t again = router_add(&r, &r, 77);
    assert_true(again != ids[5]);
    assert_null(router_find(&r, ids[5], &sequence));         /* a late event of the request before */
    assert_ptr_equal(router_find(&r, again, &sequence), &r);
    assert_int_equal(sequence, 77);
    assert_null(router_find(&r, 0, &sequence));
    assert_null(router_find(&r, UINT64_MAX, &sequence));
    router_free(&r);
}

struct counted { struct work_item item; int producer, number; };

enum { PRODUCERS = 4, ITEMS = 5000 };
static struct counted counted_items[PRODUCERS][ITEMS];
static struct work_pool pool;
static atomic_int n_run, n_out_of_order;
static atomic_int last[PRODUCERS];

static void run_item(struct work_item *item)
{
    struct counted *c = (struct counted *)item;

    if (atomic_exchange(&last[c->producer], c->number) > c->number)
        atomic_fetch_add(&n_out_of_order, 1);
    atomic_fetch_add(&n_run, 1);
}

static void *produce(void *arg)
{
    struct counted *items = arg;

    for (int i = 0; i < ITEMS; i++)
        work_pool_push(&pool, &items[i].item);
    return NULL;
}

static void run_pool(unsigned n_threads)
{
    pthread_t threads[PRODUCERS];

    atomic_store(&n_run, 0);
    for (int p = 0; p < PRODUCERS; p++) {
        atomic_store(&last[p], -1);
        for (int i = 0; i < ITEMS; i++)
            counted_items[p][i] = (struct counted){ .producer = p, .number = i };
    }
    pool = (struct work_pool){ .run = NULL };
    assert_int_equal(work_pool_start(&pool, n_threads, run_item), 0);
    for (int p = 0; p < PRODUCERS; p++)
        assert_int_equal(pthread_create(&threads[p], NULL, produce, counted_items[p]), 0);
    for (int p = 0; p < PRODUCERS; p++)
        pthread_join(threads[p], NULL);
    work_pool_stop(&pool);
    assert_int_equal(atomic_load(&n_run), PRODUCERS * ITEMS);
}

static void pool_runs_everything(void **state)
{
    (void)state;
    run_pool(1);
    assert_int_equal(atomic_load(&n_out_of_order), 0);       /* one thread: in the order of arrival */
    run_pool(4);
}

static void latencies(void **state)
{
    struct latency l = { .n = 0 };

    (void)state;
    assert_true(latency_median_ns(&l) == 0);
    for (uint64_t ms = 1; ms <= 99; ms++)
        latency_add(&l, ms * 1000000);
    assert_in_range(latency_median_ns(&l), 50000000, 60000000);
    assert_true(l.most_ns == 99000000);
    latency_add(&l, 0);
    latency_add(&l, UINT64_MAX / 2);
    assert_true(l.most_ns == UINT64_MAX / 2);
    struct latency one = { .n = 0 };
    latency_add(&one, 42);
    assert_true(latency_median_ns(&one) == 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(router_ids), cmocka_unit_test(pool_runs_everything), cmocka_unit_test(latencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
