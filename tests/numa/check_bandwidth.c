/*
 * check_bandwidth.c - bandwidth.h with loops that look at what they are given: which memory, which lines, how often. No rate is judged.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "numa/bandwidth.h"

static size_t n_logged, n_chases, n_wrong_chases;
static char logged[512];
static _Atomic uint64_t bytes_read;
static bool skips_a_word;

static void keep_message(void *arg, enum log_level level, const char *message)
{
    (void)arg;
    (void)level;
    n_logged++;
    snprintf(logged, sizeof(logged), "%s", message);
}

static uint64_t read_all(const void *p, size_t bytes)
{
    const uint64_t *words = p;
    uint64_t sum = 0;

    for (size_t i = 0; i < bytes / 8; i += 8)
        sum += words[i];
    bytes_read += bytes;
    return sum;
}

/* The loops of common/streams.h, one for all kinds. */
static uint64_t stream(enum stream_kind kind, double *a, const double *b, const double *c, size_t bytes)
{
    const size_t n = bytes / sizeof(double);

    assert_true(a && n && bytes % STREAM_BLOCK_BYTES == 0 && (uintptr_t)a % 64 == 0);
    assert_true(!b == (stream_shapes[kind].n_arrays < 2) && !c == (stream_shapes[kind].n_arrays < 3));
    assert_true(!b || b >= a + n);
    assert_true(!c || c >= b + n);
    for (size_t i = skips_a_word; i < n; i++) {
        switch (kind) {
        case STREAM_READ_3_1: a[i] += b[i] + c[i]; break;
        case STREAM_READ_2_1: a[i] += b[i]; break;
        case STREAM_READ_1_1: a[i] += 1; break;
        case STREAM_COPY: case STREAM_COPY_NT: a[i] = b[i]; break;
        case STREAM_SCALE: case STREAM_SCALE_NT: a[i] = 3 * b[i]; break;
        case STREAM_ADD: case STREAM_ADD_NT: a[i] = b[i] + c[i]; break;
        case STREAM_TRIAD: case STREAM_TRIAD_NT: a[i] = b[i] + 3 * c[i]; break;
        default: a[i] = 1;
        }
    }
    return 0;
}

#define LOOP(kind) \
    static uint64_t loop_##kind(double *a, const double *b, const double *c, size_t bytes) { return stream(kind, a, b, c, bytes); }
LOOP(STREAM_READ_3_1) LOOP(STREAM_READ_2_1) LOOP(STREAM_READ_1_1) LOOP(STREAM_WRITE) LOOP(STREAM_WRITE_NT) LOOP(STREAM_COPY)
LOOP(STREAM_SCALE) LOOP(STREAM_ADD) LOOP(STREAM_TRIAD) LOOP(STREAM_COPY_NT) LOOP(STREAM_SCALE_NT) LOOP(STREAM_ADD_NT) LOOP(STREAM_TRIAD_NT)

/* Every load goes to another line, and the last one comes back to the first. */
static const void *chase(const void *start, size_t n)
{
    const void *at = start;
    size_t turns = 0;

    for (size_t i = 0; i < n; i++) {
        at = *(const void *const *)at;
        turns += at == start;
    }
    n_chases++;
    n_wrong_chases += at != start || turns != 1;
    return at;
}

static uint64_t read_paced(const void *p, size_t bytes, unsigned delay)
{
    (void)delay;
    return read_all(p, bytes);
}

static const struct stream_loops loops = {
    .read = read_all,
    .run = { NULL, loop_STREAM_READ_3_1, loop_STREAM_READ_2_1, loop_STREAM_READ_1_1, loop_STREAM_WRITE, loop_STREAM_WRITE_NT,
             loop_STREAM_COPY, loop_STREAM_SCALE, loop_STREAM_ADD, loop_STREAM_TRIAD, loop_STREAM_COPY_NT, loop_STREAM_SCALE_NT,
             loop_STREAM_ADD_NT, loop_STREAM_TRIAD_NT },
    .chase = chase,
    .read_paced = read_paced,
};

static struct topology topology;
static struct bandwidth *b;

/* Little memory, so that everything is short: 40 MB are free on each node. */
static void create(size_t n_virtual, size_t n_threads)
{
    n_logged = 0;
    log_set_sink(keep_message, NULL);
    assert_int_equal(topology_read(&topology, ""), 0);
    if (n_virtual)
        assert_int_equal(topology_make_virtual(&topology, n_virtual), 0);
    for (size_t i = 0; i < topology.n_nodes; i++)
        topology.nodes[i].free_bytes = 40000000;
    const struct bandwidth_options o = { &topology, &loops, n_threads, 2, 100000, 1 };
    assert_int_equal(bandwidth_create(&b, &o), 0);
}

static void destroy(void)
{
    bandwidth_destroy(b);
    topology_free(&topology);
    log_set_sink(NULL, NULL);
}

static void check_rate(const struct bandwidth_rate *r)
{
    assert_true(r->least > 0 && r->best >= r->median && r->median >= r->least);
    assert_true(r->best_pass_s > 0 && r->pass_s >= r->best_pass_s * 0.999 && r->worst_pass_s >= r->pass_s * 0.999);
}

static void check_latency(const struct bandwidth_latency *l)
{
    assert_true(l->best > 0 && l->median >= l->best);
}

static void everything(void)
{
    const size_t n = bandwidth_n_nodes(b);
    struct bandwidth_rate r;
    struct bandwidth_latency l;
    double rate = 0;
    bool valid = true;

    assert_int_equal(n, topology.n_nodes);
    assert_int_equal(bandwidth_n_memories(b), n);
    assert_true(bandwidth_cache_bytes(b) > 0 && bandwidth_array_bytes(b) > 0);
    for (enum stream_kind kind = 0; kind < STREAM_KINDS; kind++) {
        bandwidth_stream(b, kind, BANDWIDTH_ALL_NODES, &r, &valid);
        check_rate(&r);
        bandwidth_stream(b, kind, n - 1, &r, &valid);
        check_rate(&r);
        assert_true(valid);
    }
    n_chases = n_wrong_chases = 0;
    for (size_t v = 0; v < n; v++) {
        assert_true(bandwidth_memory(b, v)->bytes > 0 && bandwidth_memory(b, v)->bytes <= 40000000 / 2);
        for (size_t memory = 0; memory < n; memory++) {
            bytes_read = 0;
            bandwidth_read_from(b, v, memory, &r);
            check_rate(&r);
            assert_true(bytes_read > 0);
            bandwidth_chase(b, v, memory, &l);
            check_latency(&l);
        }
        bandwidth_cores(b, v, bandwidth_node_workers(b, v), &r);
        check_rate(&r);
    }
    bandwidth_read_remote(b, &r);
    check_rate(&r);
    bandwidth_loaded(b, 0, &l, &rate);
    check_latency(&l);
    assert_true(rate > 0);
    bandwidth_loaded(b, 300, &l, &rate);
    assert_true(rate > 0);
    for (size_t v = 0; v < n; v++) {
        for (int modified = 0; modified < 2; modified++) {
            const int err = bandwidth_core_to_core(b, 0, v, v, modified, &l);
            assert_true(err == 0 || err == -ENODEV);
            if (!err)
                check_latency(&l);
        }
    }
    assert_true(n_chases > 0);
    assert_int_equal(n_wrong_chases, 0);
    bandwidth_barrier(b, &l);
    check_latency(&l);
}

static void test_this_machine(void **state)
{
    (void)state;
    create(0, 0);
    everything();
    destroy();
}

static void test_one_core(void **state)
{
    struct bandwidth_latency l;

    (void)state;
    create(1, 1);
    assert_int_equal(bandwidth_n_workers(b), 1);
    everything();
    assert_int_equal(bandwidth_core_to_core(b, 0, 0, 0, true, &l), -ENODEV);
    destroy();
}

static void test_virtual_nodes(void **state)
{
    (void)state;
    create(3, 7);           /* more workers than this machine may have cores */
    assert_int_equal(bandwidth_n_workers(b), 7);
    everything();
    destroy();
}

static uint64_t operations(uint64_t n)
{
    for (uint64_t i = n; i; i--)
        __asm__ volatile("" : "+r"(i));
    return n;
}

static void test_peak(void **state)
{
    struct bandwidth_rate r;

    (void)state;
    create(0, 0);
    bandwidth_peak(b, operations, &r);
    check_rate(&r);
    destroy();
}

/* A loop that leaves one element as it was is found out, whatever it should have done. */
static void test_wrong_loops(void **state)
{
    struct bandwidth_rate r;

    (void)state;
    create(2, 2);
    skips_a_word = true;
    for (enum stream_kind kind = STREAM_READ_3_1; kind < STREAM_KINDS; kind++) {
        bool valid = true;

        if (kind == STREAM_WRITE || kind == STREAM_WRITE_NT)    /* 1 was there before */
            continue;
        bandwidth_stream(b, kind, 1, &r, &valid);
        if (valid)
            fail_msg("%s was not found out", stream_shapes[kind].name);
    }
    skips_a_word = false;
    destroy();
}

static void test_little_memory(void **state)
{
    (void)state;
    log_set_sink(keep_message, NULL);
    n_logged = 0;
    assert_int_equal(topology_read(&topology, ""), 0);
    for (size_t i = 0; i < topology.n_nodes; i++)
        topology.nodes[i].free_bytes = 40000000;
    struct bandwidth_options o = { &topology, &loops, 1, 1, 1000, 1e6 };
    assert_int_equal(bandwidth_create(&b, &o), 0);
    assert_true(bandwidth_is_short(b));
    bandwidth_destroy(b);
    assert_int_equal(n_logged, topology.n_nodes > 1);       /* threads raised to one a node */
    n_logged = 0;
    o.n_threads = topology.n_nodes;
    topology.nodes[0].free_bytes = 1000000;
    assert_int_equal(bandwidth_create(&b, &o), -ENOMEM);
    assert_null(b);
    assert_int_equal(n_logged, 1);
    assert_non_null(strstr(logged, "at least 0.008 GB are needed"));
    bandwidth_destroy(NULL);
    topology_free(&topology);
    log_set_sink(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_this_machine), cmocka_unit_test(test_one_core),    cmocka_unit_test(test_virtual_nodes),
        cmocka_unit_test(test_peak),         cmocka_unit_test(test_wrong_loops), cmocka_unit_test(test_little_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
