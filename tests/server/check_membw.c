/*
 * check_membw.c - the shapes of `fourway membw`, byte for byte, from figures given here; and its JSON and picture in every mixture of parts.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "common/machine.h"
#include "server/membw.h"

static void set(struct bandwidth_rate *r, double gb_per_s)
{
    *r = (struct bandwidth_rate){ gb_per_s * 1e9, gb_per_s * 0.9e9, gb_per_s * 0.8e9, 0.007845, 0.006932, 0.008717 };
}

/* Two nodes, with figures of a machine of 2 x 20 cores that MLC's users publish. */
static struct membw *two_nodes(void)
{
    static const double mixes[] = { 158.8445, 150.6586, 149.3412, 143.3552 };
    struct membw *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->o = (struct membw_options){ .reps = 9, .isa = ISA_AVX512, .nodes = "auto" };
    m->n_nodes = m->n_memories = 2;
    m->n_workers = 40;
    m->done = MEMBW_ALL;
    m->valid = true;
    snprintf(m->conditions.cpu, sizeof(m->conditions.cpu), "A <processor> & \"co\"");
    m->conditions.array_bytes = 80000000;
    m->conditions.numa_balancing = -1;
    m->topology.n_nodes = 2;
    m->theory = 200e9;
    snprintf(m->theory_source, sizeof(m->theory_source), "options");
    for (enum stream_kind kind = 0; kind < STREAM_KINDS; kind++)
        set(&m->all[kind], kind < 4 ? mixes[kind] : kind == STREAM_TRIAD_NT ? 128.1587 : 23.0813 + kind - STREAM_COPY);
    for (size_t v = 0; v < 2; v++) {
        m->node_workers[v] = 20;
        m->memories[v] = (struct bandwidth_memory){ .os_node = (int)v, .owner = v, .bytes = 1 << 30, .on_node = 1, .huge = 0.5, .bound = true };
        m->topology.nodes[v].total_bytes = UINT64_C(1) << 36;
        for (enum stream_kind kind = 0; kind < STREAM_KINDS; kind++)
            set(&m->node[v][kind], 50);
        m->n_sweep[v] = 2;
        for (size_t i = 0; i < 2; i++) {
            m->sweep[v][i].cores = i ? 20 : 1;
            set(&m->sweep[v][i].rate, i ? 79 : 12);
        }
        m->c2c.hit[v] = m->c2c.hitm[v] = 49.5 + (double)v;
    }
    set(&m->matrix[0][0], 79.6703);
    set(&m->matrix[0][1], 34.3934);
    set(&m->matrix[1][0], 34.3857);
    set(&m->matrix[1][1], 79.6783);
    set(&m->remote, 68);
    m->latency[0][0] = (struct bandwidth_latency){ 82.1, 83 };
    m->latency[0][1] = (struct bandwidth_latency){ 141.0, 142 };
    m->latency[1][0] = (struct bandwidth_latency){ 141.5, 142 };
    m->latency[1][1] = (struct bandwidth_latency){ 81.5, 82 };
    m->c2c.writer_home[0][1] = 115.2;
    m->c2c.writer_home[1][0] = 115.5;
    m->c2c.reader_home[0][1] = 185.2;
    m->c2c.reader_home[1][0] = 1185.5;
    for (size_t i = 0; i < MEMBW_DELAYS; i++) {
        m->loaded[i].delay = i ? (unsigned)(1u << i) / 2 : 0;
        m->loaded[i].latency.median = 329.26 / (double)(i + 1);
        m->loaded[i].bytes_per_s = 159154e6 / (double)(i + 1);
    }
    m->barrier = (struct bandwidth_latency){ 800, 900 };
    for (enum isa level = 0; level <= ISA_AVX512; level++)
        for (enum activation unit = 0; unit < ACT_COUNT; unit++)
            set(&m->peak[level][unit], 100);
    return m;
}

static void expect(const struct buf *b, const char *text)
{
    assert_false(b->failed);
    if (!strstr(b->data, text))
        fail_msg("no '%s' in:\n%s", text, b->data);
}

static void test_mlc(void **state)
{
    struct membw *m = two_nodes();
    struct buf b = { 0 };

    (void)state;
    membw_write_mlc(&b, m);
    assert_memory_equal(b.data, "fourway membw ", 14);
    expect(&b, "\n\nMeasuring idle latencies (in ns)...\n\t\tNuma node\nNuma node\t     0\t     1\n"
               "       0\t  82.1\t 141.0\n       1\t 141.5\t  81.5\n\n"
               "Measuring Peak Injection Memory Bandwidths for the system\n"
               "Bandwidths are in MB/sec (1 MB/sec = 1,000,000 Bytes/sec)\n");
    expect(&b, "Using traffic with the following read-write ratios\n"
               "ALL Reads        :\t158844.5\n3:1 Reads-Writes :\t150658.6\n2:1 Reads-Writes :\t149341.2\n"
               "1:1 Reads-Writes :\t143355.2\nStream-triad like:\t128158.7\n\n"
               "Measuring Memory Bandwidths between nodes within system\n");
    expect(&b, "Using Read-only traffic type\n\t\tNuma node\nNuma node\t     0\t     1\n"
               "       0\t79670.3\t34393.4\n       1\t34385.7\t79678.3\n\n"
               "Measuring Loaded Latencies for the system\n");
    expect(&b, "Inject\tLatency\tBandwidth\nDelay\t(ns)\tMB/sec\n==========================\n"
               " 00000\t329.26\t 159154.0\n 00001\t164.63\t  79577.0\n");
    expect(&b, " 131072\t 17.33\t   8376.5\n\nMeasuring cache-to-cache transfer latency (in ns)...\n"
               "Local Socket L2->L2 HIT  latency\t49.5\nLocal Socket L2->L2 HITM latency\t49.5\n"
               "Remote Socket L2->L2 HITM latency (data address homed in writer socket)\n"
               "\t\t\tReader Numa Node\nWriter Numa Node     0\t     1\n"
               "            0\t     -\t 115.2\n            1\t 115.5\t     -\n"
               "Remote Socket L2->L2 HITM latency (data address homed in reader socket)\n"
               "\t\t\tReader Numa Node\nWriter Numa Node     0\t     1\n"
               "            0\t     -\t 185.2\n            1\t1185.5\t     -\n");
    buf_free(&b);
    free(m);
}

static void test_stream(void **state)
{
    struct membw *m = two_nodes();
    struct buf b = { 0 };

    (void)state;
    membw_write_stream(&b, m);
    expect(&b, "-------------------------------------------------------------\nSTREAM version $Revision: 5.10 $\n"
               "-------------------------------------------------------------\nThis system uses 8 bytes per array element.\n");
    expect(&b, "\nArray size = 10000000 (elements), Offset = 0 (elements)\nMemory per array = 76.3 MiB (= 0.1 GiB).\n"
               "Total memory required = 228.9 MiB (= 0.2 GiB).\nEach kernel will be executed 10 times.\n");
    expect(&b, "\nNumber of Threads requested = 40\nNumber of Threads counted = 40\n");
    expect(&b, "\nFunction    Best Rate MB/s  Avg time     Min time     Max time\n"
               "Copy:           23081.3     0.007845     0.006932     0.008717\n"
               "Scale:          24081.3     0.007845     0.006932     0.008717\n");
    expect(&b, "\nSolution Validates: avg error less than 1.000000e-13 on all three arrays\n");
    buf_clear(&b);
    m->valid = false;
    membw_write_stream(&b, m);
    expect(&b, "Failed Validation");
    buf_free(&b);
    free(m);
}

static void test_likwid(void **state)
{
    struct membw *m = two_nodes();
    struct buf b = { 0 };

    (void)state;
    membw_write_likwid(&b, m);
    expect(&b, "--------------------------------------------------------------------------------\nLIKWID MICRO BENCHMARK\n"
               "Test: load_avx512\n");
    expect(&b, "\nMByte/s:\t\t158844.50\n");
    expect(&b, "Test: stream_mem_avx512\n");
    buf_clear(&b);
    m->done = MEMBW_STREAM;
    membw_write_likwid(&b, m);
    assert_null(strstr(b.data, "load"));
    buf_free(&b);
    free(m);
}

static void test_text(void **state)
{
    struct membw *m = two_nodes();
    struct buf b = { 0 };

    (void)state;
    m->all[STREAM_READ].best = 230e9;
    membw_write_text(&b, m);
    expect(&b, "ALL reads        230.0     143.0  115.0 %      50.0      50.0\n");      /* not clipped */
    expect(&b, "every node reads the next one's memory, all at once: 68.0 GB/s\n");
    expect(&b, "numa_balancing not known, governor not known");
    buf_free(&b);
    free(m);
}

/* JSON that any reader takes, whichever parts were measured; and one node, and no theory. */
static void test_json(void **state)
{
    struct membw *m = two_nodes();
    struct buf b = { 0 };
    json_error_t error;

    (void)state;
    for (unsigned done = 0; done <= MEMBW_ALL; done++) {
        m->done = done;
        m->theory = done % 3 ? 200e9 : 0;
        m->n_nodes = m->n_memories = done % 5 ? 2 : 1;
        m->memories[0].on_node = done % 7 ? 1 : -1;
        buf_clear(&b);
        membw_write_json(&b, m);
        json_t *root = json_loads(b.data, JSON_REJECT_DUPLICATES, &error);
        if (!root)
            fail_msg("parts %u, line %d: %s\n%s", done, error.line, error.text, b.data);
        assert_int_equal(json_array_size(json_object_get(root, "nodes")), m->n_memories);
        assert_true(!json_object_get(root, "matrix_gb_per_s") == !(done & MEMBW_MATRIX));
        assert_true(!json_object_get(root, "loaded") == !(done & MEMBW_LOADED));
        assert_true(!json_object_get(root, "c2c_ns") == !(done & MEMBW_C2C));
        assert_true(!json_object_get(root, "all_reads_gb_per_s") == !(done & MEMBW_BANDWIDTH));
        json_decref(root);
        buf_clear(&b);
        membw_write_svg(&b, m);
        assert_false(b.failed);
        assert_null(strstr(b.data, "nan"));
        assert_null(strstr(b.data, "<processor>"));
        assert_string_equal(b.data + b.len - 7, "</svg>\n");
    }
    m->n_nodes = m->n_memories = 2;
    buf_clear(&b);
    membw_write_json(&b, m);
    json_t *root = json_loads(b.data, 0, &error);
    assert_true(fabs(json_number_value(json_array_get(json_array_get(json_object_get(root, "matrix_gb_per_s"), 0), 1)) - 34.3934) < 1e-9);
    json_t *hops = json_object_get(json_object_get(root, "c2c_ns"), "remote_writer_home");
    assert_true(json_is_null(json_array_get(json_array_get(hops, 0), 0)));
    assert_int_equal(json_array_size(json_object_get(root, "loaded")), MEMBW_DELAYS);
    assert_true(fabs(json_number_value(json_object_get(json_object_get(root, "stream_mb_per_s"), "copy")) - 23081.3) < 1e-6);
    json_decref(root);
    buf_free(&b);
    free(m);
}

static void test_machine(void **state)
{
    struct membw *m = two_nodes();
    struct machine *machine = malloc(sizeof(*machine));

    (void)state;
    membw_to_machine(m, machine);
    assert_int_equal(machine->n_nodes, 2);
    assert_int_equal(machine->n_core_nodes, 2);
    assert_int_equal(machine->n_levels, 3);
    assert_true(machine->link_bytes_per_s[1][0] == m->matrix[1][0].best);
    assert_true(machine->nodes[1].memory_bytes == UINT64_C(1) << 36);
    assert_string_equal(machine->levels[2].isa, "avx512");
    free(machine);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlc),  cmocka_unit_test(test_stream), cmocka_unit_test(test_likwid),
        cmocka_unit_test(test_text), cmocka_unit_test(test_json),   cmocka_unit_test(test_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
