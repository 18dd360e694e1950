/* check_pace.c - the budget of prompt tokens, with steps of a machine that is made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/pace.h"

/* 10 ms for the weights, 0.2 ms a decode, 1 ms a prompt token. */
static double machine_ns(size_t n_decodes, size_t n_prompt)
{
    return 10e6 + 0.2e6 * (double)n_decodes + 1e6 * (double)n_prompt;
}

static void test_without_target(void **state)
{
    (void)state;
    struct pace p = { .most = 256 };

    for (int i = 0; i < 50; i++) {
        assert_int_equal(pace_budget(&p, 8), 256);
        pace_observe(&p, 8, 256, machine_ns(8, 256));
    }
}

/* Where decodes alone take longer than the target, a target that stretches leaves prompts four times as much time. */
static void test_target_that_stretches(void **state)
{
    (void)state;
    struct pace p = { .target_ns = 20e6, .stretches = true, .most = 256 };

    for (int i = 0; i < 100; i++) {
        pace_observe(&p, 200, 0, machine_ns(200, 0));
        pace_observe(&p, 200, 40, machine_ns(200, 40));
    }
    assert_in_range(pace_budget(&p, 200), 190, 210);    /* 50 ms of decodes, 1 ms a prompt token */
    p.stretches = false;
    assert_int_equal(pace_budget(&p, 200), PACE_LEAST);
}

static void test_nobody_waits(void **state)
{
    (void)state;
    struct pace p = { .target_ns = 1, .most = 256 };

    pace_observe(&p, 0, 256, machine_ns(0, 256));
    assert_int_equal(pace_budget(&p, 0), 256);
}

/* A long prompt comes among 8 who are answered: from the third step on none takes more than the target by a tenth. */
static void test_long_prompt_among_decodes(void **state)
{
    (void)state;
    struct pace p = { .target_ns = 200e6, .most = 1024 };

    for (int i = 0; i < 20; i++)
        pace_observe(&p, 8, 0, machine_ns(8, 0));
    assert_int_equal(pace_budget(&p, 8), PACE_LEAST);
    for (int i = 0; i < 50; i++) {
        const size_t n = pace_budget(&p, 8);
        const double ns = machine_ns(8, n);

        if (i > 2)
            assert_true(ns <= 1.1 * p.target_ns);
        if (i > 20)
            assert_true(ns >= 0.9 * p.target_ns);
        pace_observe(&p, 8, n, ns);
    }
}

/* A target that cannot be held: prompts still go on, a page at a time. */
static void test_hopeless_target(void **state)
{
    (void)state;
    struct pace p = { .target_ns = 1e6, .most = 512 };

    for (int i = 0; i < 30; i++) {
        pace_observe(&p, 32, 0, machine_ns(32, 0));
        assert_int_equal(pace_budget(&p, 32), PACE_LEAST);
        pace_observe(&p, 32, PACE_LEAST, machine_ns(32, PACE_LEAST));
    }
    p.most = 32;
    assert_int_equal(pace_budget(&p, 32), 32);
}

/* The context grows and prompt tokens become three times as dear: the budget follows. */
static void test_follows_changes(void **state)
{
    (void)state;
    struct pace p = { .target_ns = 300e6, .most = 1024 };

    for (int i = 0; i < 300; i++) {
        const double dearer = i < 100 ? 1 : 3;
        const size_t n_decodes = 1 + (size_t)i % 16, n = i % 5 ? pace_budget(&p, n_decodes) : 0;
        const double ns = 10e6 + 0.2e6 * (double)n_decodes + dearer * 1e6 * (double)n;

        if ((i > 60 && i < 100) || i > 160)
            assert_true(n == 0 || (ns > 0.75 * p.target_ns && ns < 1.25 * p.target_ns));
        pace_observe(&p, n_decodes, n, ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_target_that_stretches),
        cmocka_unit_test(test_without_target), cmocka_unit_test(test_nobody_waits), cmocka_unit_test(test_long_prompt_among_decodes),
        cmocka_unit_test(test_hopeless_target), cmocka_unit_test(test_follows_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
