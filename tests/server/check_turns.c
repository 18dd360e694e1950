/* check_turns.c - shares of keys and order within a key, on a clock that is made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/turns.h"

enum { N_KEYS = 4, S = 1000000000 };

static struct turns turns;

static int set_up(void **state)
{
    (void)state;
    return turns_create(&turns, N_KEYS);
}

static int tear_down(void **state)
{
    (void)state;
    turns_destroy(&turns);
    return 0;
}

static void assert_order(const struct turn *first, const struct turn *second, uint64_t now_ns)
{
    assert_true(turns_before(&turns, first, second, now_ns));
    assert_false(turns_before(&turns, second, first, now_ns));
}

static void test_arrival_within_a_key(void **state)
{
    (void)state;
    const struct turn a = { .number = 1 }, b = { .number = 2 };

    turns_arrive(&turns, 0, 0);
    assert_order(&a, &b, 0);
}

static void test_priority_and_aging(void **state)
{
    (void)state;
    const struct turn old = { .priority = 2, .since_ns = 0, .number = 1 }, fresh = { .priority = 0, .since_ns = 9 * (uint64_t)S, .number = 2 };

    turns_arrive(&turns, 0, 0);
    assert_order(&fresh, &old, 9 * (uint64_t)S);        /* 2 - 1 against 0 */
    assert_order(&old, &fresh, 12 * (uint64_t)S);       /* 2 - 2 against 0: who came first */
    assert_order(&old, &fresh, 16 * (uint64_t)S);
}

/* One key has a hundred requests waiting, another one at a time: they are served alike, and within one request of each other. */
static void test_shares(void **state)
{
    (void)state;
    uint64_t tokens[2] = { 0 };

    turns_arrive(&turns, 0, 0);
    turns_arrive(&turns, 1, 0);
    for (uint64_t i = 0; i < 1000; i++) {
        const struct turn many = { .key = 0, .number = 0 }, few = { .key = 1, .number = 1000 };
        const size_t key = turns_before(&turns, &few, &many, 0);
        const uint64_t n_prompt = 10 + i * 37 % 90, n_generated = i * 53 % 200;

        turns_serve(&turns, key, 0, n_prompt, n_generated);
        tokens[key] += n_prompt + 2 * n_generated;
        const uint64_t apart = tokens[0] > tokens[1] ? tokens[0] - tokens[1] : tokens[1] - tokens[0];
        assert_true(apart <= 100 + 2 * 200);
    }
}

static void test_being_away_earns_nothing(void **state)
{
    (void)state;
    const struct turn worker = { .key = 0, .number = 1 }, idler = { .key = 1, .number = 2 };

    turns_arrive(&turns, 0, 0);
    turns_serve(&turns, 0, 0, 1000000, 0);
    turns_arrive(&turns, 1, 0);            /* lifted to a million */
    assert_order(&worker, &idler, 0);
    turns_serve(&turns, 0, 0, 1, 0);
    assert_order(&idler, &worker, 0);
    turns_leave(&turns, 1);
    turns_arrive(&turns, 1, 0);            /* leaving does not lower it either */
    turns_serve(&turns, 1, 0, 2, 0);
    assert_order(&worker, &idler, 0);
}

/* The first after all have left is not lifted, and nobody's counter falls. */
static void test_empty_house(void **state)
{
    (void)state;
    turns_arrive(&turns, 2, 0);
    turns_serve(&turns, 2, 0, 500, 0);
    turns_leave(&turns, 2);
    turns_arrive(&turns, 3, 0);
    assert_int_equal(turns.served[3], 0);
    turns_arrive(&turns, 2, 0);
    assert_int_equal(turns.served[2], 500 * 1024);      /* in 1/1024 of a token */
}

/* With each level a quarter more: five levels are a factor of 3. */
static void test_priorities_of_keys(void **state)
{
    (void)state;
    uint64_t n_steps[2] = { 0 };

    turns_arrive(&turns, 0, 0);
    turns_arrive(&turns, 1, 0);
    for (int i = 0; i < 4052; i++) {
        const struct turn a = { .key = 0, .number = 0 }, b = { .key = 1, .number = 1 };
        const size_t key = turns_before(&turns, &b, &a, 0);
        turns_serve(&turns, key, key ? -2 : 3, 0, 1);
        n_steps[key]++;
    }
    assert_in_range(n_steps[0], 998, 1002);         /* 1 : 1.25^5 = 3.05 */
}

/* Who gets the number of a removed key does not pay for what that was served. */
static void test_another_holder_begins_anew(void **state)
{
    (void)state;
    turns_arrive(&turns, 1, 7);
    turns_serve(&turns, 1, 0, 1000, 0);
    turns_leave(&turns, 1);
    turns_arrive(&turns, 1, 7);
    assert_int_equal(turns.served[1], 1000 * 1024);
    turns_leave(&turns, 1);
    turns_arrive(&turns, 0, 0);
    turns_serve(&turns, 0, 0, 10, 0);
    turns_arrive(&turns, 1, 8);
    assert_int_equal(turns.served[1], 10 * 1024);   /* lifted to who is there */
}

static void test_who_ran_before_comes_first(void **state)
{
    (void)state;
    const struct turn resumes = { .key = 0, .priority = 9, .number = 7, .resumes = true }, other = { .key = 1, .number = 1 };
    const struct turn earlier = { .key = 1, .priority = 10, .number = 6, .resumes = true };

    turns_arrive(&turns, 0, 0);
    turns_arrive(&turns, 1, 0);
    turns_serve(&turns, 0, 0, 100, 100);
    assert_order(&resumes, &other, 0);
    assert_order(&earlier, &resumes, 0);
}

#define IN_HOUSE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_HOUSE(test_arrival_within_a_key), IN_HOUSE(test_priority_and_aging), IN_HOUSE(test_shares), IN_HOUSE(test_being_away_earns_nothing),
        IN_HOUSE(test_empty_house), IN_HOUSE(test_priorities_of_keys), IN_HOUSE(test_another_holder_begins_anew),
        IN_HOUSE(test_who_ran_before_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
