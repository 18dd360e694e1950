/*
 * tests/server/check_front_stop.c - stop strings against a search over the whole text, however the text is cut into pieces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/stop.h"

static unsigned random_state = 7;

static unsigned random_below(unsigned n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 16) % n;
}

/* The slow definition: the first byte at which a stop string is complete; of those that end there, the longest. */
static int first_match(const struct stop_set *set, const char *text, size_t n, size_t *end)
{
    for (size_t at = 1; at <= n; at++) {
        int best = -1;
        for (size_t k = 0; k < set->n; k++) {
            const struct stop_string *s = &set->strings[k];
            if (s->length <= at && memcmp(text + at - s->length, s->text, s->length) == 0 &&
                (best < 0 || s->length > set->strings[best].length))
                best = (int)k;
        }
        if (best >= 0) {
            *end = at;
            return best;
        }
    }
    return -1;
}

/* The longest proper prefix of a stop string that text[n] ends with. */
static size_t longest_tail(const struct stop_set *set, const char *text, size_t n)
{
    size_t longest = 0;

    for (size_t k = 0; k < set->n; k++)
        for (size_t tail = 1; tail < set->strings[k].length && tail <= n; tail++)
            if (tail > longest && memcmp(text + n - tail, set->strings[k].text, tail) == 0)
                longest = tail;
    return longest;
}

static void random_texts(void **state)
{
    (void)state;
    for (int round = 0; round < 30000; round++) {
        struct stop_set set = { 0 };
        struct stop_state at = { { 0 } };
        char text[64];
        const size_t n = 1 + random_below(sizeof(text));
        size_t end = 0, done = 0;
        for (unsigned k = 1 + random_below(4); k > 0; k--) {
            char stop[8];
            size_t length = 1 + random_below(sizeof(stop));
            for (size_t i = 0; i < length; i++)
                stop[i] = (char)('a' + random_below(2));
            assert_int_equal(stop_set_add(&set, stop, length), 0);
        }
        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + random_below(round % 2 ? 2 : 3));
        const int want = first_match(&set, text, n, &end);
        for (;;) {
            size_t piece = random_below(5);
            if (piece > n - done)
                piece = n - done;
            const struct stop_result got = stop_push(&set, &at, text + done, piece);
            if (got.match >= 0) {
                assert_int_equal(got.match, want);
                assert_int_equal(done + got.used, end);
                break;
            }
            assert_int_equal(got.used, piece);
            done += piece;
            assert_int_equal(got.held, longest_tail(&set, text, done));
            if (done == n) {
                assert_int_equal(want, -1);
                break;
            }
        }
        stop_set_free(&set);
    }
}

static void limits(void **state)
{
    struct stop_set set = { 0 };
    struct stop_state at = { { 0 } };
    char longest[STOP_MAX_BYTES], zeros[3] = { 0 };

    (void)state;
    assert_int_equal(stop_push(&set, &at, "abc", 3).match, -1);
    memset(longest, 'x', sizeof(longest));
    for (int i = 0; i < STOP_MAX_STRINGS; i++)
        assert_int_equal(stop_set_add(&set, longest, sizeof(longest)), 0);
    assert_int_equal(stop_set_add(&set, "a", 1), -ENOSPC);
    for (int i = 1; i < STOP_MAX_BYTES; i++)
        assert_int_equal(stop_push(&set, &at, "x", 1).held, i);
    assert_int_equal(stop_push(&set, &at, "x", 1).match, 0);
    stop_set_free(&set);

    /* A zero byte is a byte. */
    at = (struct stop_state){ { 0 } };
    assert_int_equal(stop_set_add(&set, "ab", 2), 0);
    assert_int_equal(stop_push(&set, &at, zeros, 3).held, 0);
    assert_int_equal(stop_push(&set, &at, "ab", 2).match, 0);
    stop_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_texts), cmocka_unit_test(limits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
