/* check_metrics.c - the text of /metrics: escapes, bounds, sums; and scrapes that meet writers. */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/metrics.h"

static void test_samples(void **state)
{
    (void)state;
    struct buf b = { 0 };
    const char *const labels[] = { "path", "a\"b\\c\nd", "status", "200", NULL };

    metrics_family(&b, "x_total", METRIC_COUNTER, "One\\two\nlines \"quoted\".");
    metrics_count(&b, "x_total", labels, UINT64_MAX);
    metrics_family(&b, "y", METRIC_GAUGE, "");
    metrics_value(&b, "y", NULL, 0.25);
    metrics_value(&b, "y", labels + 2, INFINITY);
    metrics_value(&b, "y", labels + 2, -INFINITY);
    metrics_value(&b, "y", labels + 2, NAN);
    metrics_value(&b, "y", NULL, 1234567890123.0);
    assert_string_equal(b.data, "# HELP x_total One\\\\two\\nlines \"quoted\".\n# TYPE x_total counter\n"
                                "x_total{path=\"a\\\"b\\\\c\\nd\",status=\"200\"} 18446744073709551615\n"
                                "# HELP y \n# TYPE y gauge\ny 0.25\ny{status=\"200\"} +Inf\ny{status=\"200\"} -Inf\ny{status=\"200\"} NaN\n"
                                "y 1234567890123\n");
    buf_free(&b);
}

/* A value on a bound belongs to it: le is "less or equal". */
static void test_histogram(void **state)
{
    (void)state;
    struct metric_histogram h = { 0 };
    struct metric_histogram_copy copy = { 0 };
    struct buf b = { 0 };
    const char *const labels[] = { "phase", "decode", NULL };

    metric_observe(&h, BOUNDS_STEP_TOKENS, 0);
    metric_observe(&h, BOUNDS_STEP_TOKENS, 1);
    metric_observe(&h, BOUNDS_STEP_TOKENS, 8);
    metric_observe(&h, BOUNDS_STEP_TOKENS, 9);
    metric_observe(&h, BOUNDS_STEP_TOKENS, 16385);
    metric_histogram_read(&h, &copy);
    metrics_histogram(&b, "t", labels, BOUNDS_STEP_TOKENS, &copy, 8, 16);
    assert_string_equal(b.data, "t_bucket{phase=\"decode\",le=\"8\"} 3\nt_bucket{phase=\"decode\",le=\"16\"} 4\n"
                                "t_bucket{phase=\"decode\",le=\"+Inf\"} 5\nt_sum{phase=\"decode\"} 16403\nt_count{phase=\"decode\"} 5\n");
    metric_histogram_read(&h, &copy);       /* adds */
    buf_clear(&b);
    metrics_histogram(&b, "t", NULL, BOUNDS_STEP_TOKENS, &copy, 16384, 0);
    assert_string_equal(b.data, "t_bucket{le=\"16384\"} 8\nt_bucket{le=\"+Inf\"} 10\nt_sum 32806\nt_count 10\n");
    buf_free(&b);
}

/* The bounds of the interface, as it lists them, in order. */
static void check_bounds(enum metric_bounds bounds, const char *want)
{
    const struct metric_histogram_copy none = { 0 };
    struct buf b = { 0 }, got = { 0 };

    metrics_histogram(&b, "t", NULL, bounds, &none, 0, 0);
    for (char *at = b.data; (at = strstr(at, "le=\"")); at++) {
        char value[32];
        assert_int_equal(sscanf(at, "le=\"%31[^\"]\"", value), 1);
        buf_printf(&got, "%s ", value);
    }
    assert_string_equal(got.data, want);
    buf_free(&b);
    buf_free(&got);
}

static void test_bounds(void **state)
{
    (void)state;
    check_bounds(BOUNDS_FIRST_TOKEN, "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560 +Inf ");
    check_bounds(BOUNDS_GAP, "0.001 0.0025 0.005 0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80 +Inf ");
    check_bounds(BOUNDS_REQUEST, "0.05 0.1 0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680 +Inf ");
    check_bounds(BOUNDS_STEP_TOKENS, "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 +Inf ");
}

/* "1-2-5 steps up to n_ctx": the last finite bound holds n_ctx. */
static void test_bounds_end_at_the_context(void **state)
{
    (void)state;
    static const struct { uint64_t n_ctx; const char *last; } cases[] = {
        { 1, "1" }, { 2, "2" }, { 3, "5" }, { 8192, "10000" }, { 10000, "10000" },
    };
    const struct metric_histogram_copy none = { 0 };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = { 0 };
        char want[64];
        metrics_histogram(&b, "t", NULL, BOUNDS_TOKENS, &none, 0, cases[i].n_ctx);
        snprintf(want, sizeof(want), "t_bucket{le=\"%s\"} 0\nt_bucket{le=\"+Inf\"}", cases[i].last);
        assert_non_null(strstr(b.data, want));
        buf_free(&b);
    }
}

enum { WRITERS = 3, ROUNDS = 20000 };

struct shared {
    struct metric_histogram h;
    _Atomic uint64_t counter;
    atomic_uint n_done;
};

static void *writer(void *arg)
{
    struct shared *s = arg;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        metric_observe(&s->h, BOUNDS_GAP, i * 10000);
        metric_add(&s->counter, 2);
    }
    atomic_fetch_add(&s->n_done, 1);
    return NULL;
}

static uint64_t value_after(const char *text, const char *what)
{
    const char *at = strstr(text, what);

    assert_non_null(at);
    return strtoull(at + strlen(what), NULL, 10);
}

/* At any moment a scrape is whole: buckets do not fall, the last is _count, and from scrape to scrape nothing falls. */
static void test_scrapes_meet_writers(void **state)
{
    (void)state;
    static struct shared s;
    pthread_t threads[WRITERS];
    uint64_t seen = 0, counted = 0;

    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer, &s), 0);
    for (bool done = false; !done;) {
        struct metric_histogram_copy copy = { 0 };
        struct buf b = { 0 };
        uint64_t before = 0;

        done = s.n_done == WRITERS;
        metric_histogram_read(&s.h, &copy);
        metrics_histogram(&b, "t", NULL, BOUNDS_GAP, &copy, 0, 0);
        for (char *at = b.data; (at = strstr(at, "\"} ")); at++) {
            const uint64_t n = strtoull(at + 3, NULL, 10);
            assert_true(n >= before);
            before = n;
        }
        const uint64_t n = value_after(b.data, "t_count ");
        assert_true(n == before && n >= seen);
        seen = n;
        assert_true(s.counter >= counted);
        counted = s.counter;
        buf_free(&b);
    }
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(seen, WRITERS * ROUNDS);
    assert_int_equal(s.counter, 2 * WRITERS * ROUNDS);
    assert_int_equal(s.h.sum, (uint64_t)WRITERS * ROUNDS * (ROUNDS - 1) / 2 * 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples), cmocka_unit_test(test_histogram), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_bounds_end_at_the_context), cmocka_unit_test(test_scrapes_meet_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
