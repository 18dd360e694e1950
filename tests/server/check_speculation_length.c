/* check_speculation_length.c - drafts from n-grams, and how many are worth their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/ngram.h"
#include "server/speculation.h"

static void test_latest_occurrence(void **state)
{
    (void)state;
    const int32_t text[] = { 1, 2, 3, 7, 8, 9, 1, 2, 3, 4, 5, 6, 1, 2, 3 };
    int32_t draft[8];
    struct ngram g;

    assert_int_equal(ngram_create(&g, 100), 0);
    assert_int_equal(ngram_draft(&g, text, 2, draft, 8), 0);
    assert_int_equal(ngram_draft(&g, text, 6, draft, 8), 0);
    assert_int_equal(ngram_draft(&g, text, 9, draft, 4), 4);
    assert_memory_equal(draft, ((const int32_t[]){ 7, 8, 9, 1 }), sizeof(int32_t) * 4);
    assert_int_equal(ngram_draft(&g, text, 15, draft, 3), 3);
    assert_memory_equal(draft, ((const int32_t[]){ 4, 5, 6 }), sizeof(int32_t) * 3);
    assert_int_equal(ngram_draft(&g, text, 15, draft, 0), 0);
    ngram_destroy(&g);
}

/* Where the text ends before the drafts do, what was drafted is what follows. */
static void test_loop_goes_on(void **state)
{
    (void)state;
    const int32_t text[] = { 5, 6, 5, 6, 5, 6 };
    int32_t draft[7];
    struct ngram g;

    assert_int_equal(ngram_create(&g, 6), 0);
    assert_int_equal(ngram_draft(&g, text, 6, draft, 7), 7);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(draft[i], i % 2 ? 6 : 5);
    ngram_destroy(&g);
}

/* A small table, so that many places share an entry: what is found must still be what followed. */
static void test_collisions_are_noticed(void **state)
{
    (void)state;
    enum { N = 4000 };
    static int32_t text[N];
    int32_t draft[4];
    struct ngram g;
    size_t n_found = 0;

    for (size_t i = 0; i < N; i++)
        text[i] = (int32_t)(i * i / 7 % 23);
    assert_int_equal(ngram_create(&g, 64), 0);
    for (size_t n = 1; n < N; n++) {
        if (!ngram_draft(&g, text, n, draft, 1))
            continue;
        bool followed = false;
        for (size_t i = 3; i < n && !followed; i++)
            followed = !memcmp(text + i - 3, text + n - 3, 3 * sizeof(*text)) && text[i] == draft[0];
        assert_true(followed);
        n_found++;
    }
    assert_true(n_found > 100);
    ngram_destroy(&g);
}

static void test_length_by_cost(void **state)
{
    (void)state;
    const struct pace nothing = { 0 }, memory = { .shared_ns = 50e6, .decode_ns = 1e6 }, arithmetic = { .shared_ns = 1e6, .decode_ns = 10e6 };
    const struct speculation sure = { .chance = 0.95f }, likely = { .chance = 0.8f }, doubtful = { .chance = 0.1f };

    assert_int_equal(speculation_length(&sure, &nothing, 1, 0, 15), 1);
    assert_int_equal(speculation_length(&sure, &memory, 1, 0, 15), 15);
    assert_int_equal(speculation_length(&sure, &memory, 1, 0, 4), 4);
    assert_int_equal(speculation_length(&sure, &arithmetic, 1, 0, 15), 1);     /* 0.95 of a token for 10 of 11 ms */
    assert_int_equal(speculation_length(&doubtful, &arithmetic, 1, 0, 15), 0);
    assert_int_equal(speculation_length(&doubtful, &memory, 1, 0, 15), 1);
    /* With a full batch the weights' time is shared by all: a draft must be nearly sure. */
    assert_true(speculation_length(&doubtful, &memory, 32, 0, 15) == 0);
    assert_int_equal(speculation_length(&likely, &memory, 1, 0, 15), 15);
    assert_int_equal(speculation_length(&likely, &memory, 32, 0, 15), 4);      /* 0.8^4 > 32 / 82 > 0.8^5 */
    /* A draft that takes as long as a step never pays. */
    assert_int_equal(speculation_length(&sure, &memory, 1, 51e6, 15), 0);
}

static void test_chance_is_learned(void **state)
{
    (void)state;
    struct speculation s = { 0 };

    for (size_t i = 0; i < 20; i++)
        speculation_observe(&s, 4, 4);
    assert_true(s.chance > 0.99f);
    for (size_t i = 0; i < 40; i++)
        speculation_observe(&s, 4, 0);
    assert_true(s.chance > 0 && s.chance < 0.02f);
    for (size_t i = 0; i < 100; i++)
        speculation_observe(&s, 0, 0);
    assert_true(s.chance > 0.4f);           /* it tries again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_latest_occurrence),
        cmocka_unit_test(test_loop_goes_on),
        cmocka_unit_test(test_collisions_are_noticed),
        cmocka_unit_test(test_length_by_cost),
        cmocka_unit_test(test_chance_is_learned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
