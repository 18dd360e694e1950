/* check_replicas.c - where requests go, and what several engines report as one; the engines are played. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/replicas.h"

struct engine {
    struct engine_status status;
    uint64_t cancelled;
    bool drained;
    int answer;                 /* of engine_submit */
    unsigned n_submitted;
};

int engine_submit(struct engine *e, const struct engine_request *r)
{
    (void)r;
    e->n_submitted++;
    if (!e->answer)
        e->status.n_waiting++;
    return e->answer;
}

void engine_cancel(struct engine *e, uint64_t id)
{
    e->cancelled = id;
}

void engine_status(const struct engine *e, struct engine_status *out)
{
    *out = e->status;
}

void engine_drain(struct engine *e)
{
    e->drained = true;
}

static struct engine engines[3];
static struct replicas replicas;

static int set_up(void **state)
{
    (void)state;
    replicas = (struct replicas){ .n = 3, .engine = { &engines[0], &engines[1], &engines[2] } };
    for (size_t i = 0; i < 3; i++)
        engines[i] = (struct engine){ .status = { .state = ENGINE_READY, .n_ctx = 4096 } };
    return 0;
}

static void test_least_loaded(void **state)
{
    (void)state;
    const struct engine_request r = { .id = 1 };

    engines[0].status.n_running = 3;
    engines[1].status.n_running = 1;
    engines[1].status.n_waiting = 1;
    engines[2].status.n_running = 2;
    engines[1].status.waiting_tokens = 100;
    assert_int_equal(replicas_submit(&replicas, &r), 0);    /* 3, 2, 2 requests: of the equals the one where no tokens wait */
    assert_int_equal(engines[2].n_submitted, 1);
    engines[0].status.n_running = 0;
    assert_int_equal(replicas_submit(&replicas, &r), 0);
    assert_int_equal(engines[0].n_submitted, 1);
}

/* Idle ones take turns: each of them is warm, and none grows old. */
static void test_idle_ones_take_turns(void **state)
{
    (void)state;
    const struct engine_request r = { .id = 1 };

    for (int i = 0; i < 9; i++) {
        replicas_submit(&replicas, &r);
        for (size_t j = 0; j < 3; j++)
            engines[j].status.n_waiting = 0;
    }
    for (size_t j = 0; j < 3; j++)
        assert_int_equal(engines[j].n_submitted, 3);
}

static void test_loads_stay_level(void **state)
{
    (void)state;
    const struct engine_request r = { .id = 1 };

    engines[1].status.n_waiting = 10;
    for (int i = 0; i < 20; i++)
        replicas_submit(&replicas, &r);
    for (size_t j = 0; j < 3; j++)
        assert_int_equal(engines[j].status.n_waiting, 10);
}

static void test_refusals_come_through(void **state)
{
    (void)state;
    const struct engine_request r = { .id = 1 };

    for (size_t j = 0; j < 3; j++)
        engines[j].answer = -EBUSY;
    assert_int_equal(replicas_submit(&replicas, &r), -EBUSY);
}

static void test_cancel_and_drain_reach_all(void **state)
{
    (void)state;
    replicas_cancel(&replicas, 7);
    replicas_drain(&replicas);
    for (size_t j = 0; j < 3; j++) {
        assert_int_equal(engines[j].cancelled, 7);
        assert_true(engines[j].drained);
    }
}

static void test_status_of_all(void **state)
{
    (void)state;
    struct engine_status s;

    for (size_t i = 0; i < 3; i++)
        engines[i].status = (struct engine_status){ .state = ENGINE_READY, .load_bytes_done = 5, .load_bytes_total = 10,
                                                    .load_started_ns = 100 - i, .n_running = 1, .n_waiting = 2, .waiting_tokens = 30,
                                                    .n_ctx = 4096 - (uint32_t)i, .tokens_generated = 7, .tokens_prompt = 8,
                                                    .preemptions = { 1, 2, 3 }, .tokens_per_s = 1.5 };
    replicas_status(&replicas, &s);
    assert_int_equal(s.state, ENGINE_READY);
    assert_int_equal(s.load_bytes_done, 15);
    assert_int_equal(s.load_bytes_total, 30);
    assert_int_equal(s.load_started_ns, 98);
    assert_int_equal(s.n_running, 3);
    assert_int_equal(s.n_waiting, 6);
    assert_int_equal(s.waiting_tokens, 90);
    assert_int_equal(s.n_ctx, 4094);
    assert_int_equal(s.tokens_generated, 21);
    assert_int_equal(s.tokens_prompt, 24);
    assert_int_equal(s.preemptions[ENGINE_PARK], 3);
    assert_int_equal(s.preemptions[ENGINE_RECOMPUTE], 9);
    assert_true(s.tokens_per_s == 4.5);
}

static void test_worst_state_counts(void **state)
{
    (void)state;
    static const struct { enum engine_state of[3], all; } cases[] = {
        { { ENGINE_READY, ENGINE_LOADING, ENGINE_READY }, ENGINE_LOADING },
        { { ENGINE_LOADING, ENGINE_DRAINING, ENGINE_READY }, ENGINE_DRAINING },
        { { ENGINE_READY, ENGINE_READY, ENGINE_DEAD }, ENGINE_DEAD },
        { { ENGINE_DEAD, ENGINE_LOADING, ENGINE_DRAINING }, ENGINE_DEAD },
    };
    struct engine_status s;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (size_t i = 0; i < 3; i++)
            engines[i].status.state = cases[c].of[i];
        replicas_status(&replicas, &s);
        assert_int_equal(s.state, cases[c].all);
    }
    replicas_status(&(struct replicas){ 0 }, &s);
    assert_int_equal(s.state, ENGINE_LOADING);
    assert_int_equal(s.n_ctx, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_least_loaded, set_up), cmocka_unit_test_setup(test_idle_ones_take_turns, set_up),
        cmocka_unit_test_setup(test_loads_stay_level, set_up), cmocka_unit_test_setup(test_refusals_come_through, set_up),
        cmocka_unit_test_setup(test_cancel_and_drain_reach_all, set_up), cmocka_unit_test_setup(test_status_of_all, set_up),
        cmocka_unit_test_setup(test_worst_state_counts, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
