/*
 * check_machine_file.c - a machine as a file: there and back, what is wrong in one, and that it is written whole or not at all.
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

#include "server/machine_file.h"
#include "tests/weights/log_capture.h"

static struct log_capture lines;

static struct machine two_sockets_and_cxl(void)
{
    struct machine m = { .cpu = "A \"processor\"", .n_nodes = 3, .n_core_nodes = 2, .theory_bytes_per_s = 614.4e9, .read_bytes_per_s = 500e9,
                         .barrier_ns = 900, .n_levels = 2 };

    for (size_t i = 0; i < 3; i++) {
        m.nodes[i] = (struct machine_node){ .os_node = (int)(2 * i), .memory_bytes = UINT64_C(512) << 30 };
        if (i < 2) {
            m.nodes[i].n_cores = 64;
            m.nodes[i].read_bytes_per_s = 250e9;
            m.nodes[i].write_bytes_per_s = 120e9;
            m.nodes[i].write_nt_bytes_per_s = 180e9;
        }
    }
    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < 3; i++) {
            m.link_bytes_per_s[v][i] = (double)(100 + 10 * v + i) * 1e9;
            m.latency_ns[v][i] = (double)(80 + 10 * v + i);
        }
    }
    m.levels[0] = (struct machine_level){ "scalar", 1e9, 2e9, 3e9 };
    m.levels[1] = (struct machine_level){ "amx", 4e12, 5e12, 6e12 };
    return m;
}

static void test_there_and_back(void **state)
{
    const struct machine m = two_sockets_and_cxl();
    struct machine *back = malloc(sizeof(*back));
    struct buf first = { 0 }, second = { 0 };

    (void)state;
    assert_non_null(back);
    machine_write(&first, &m);
    assert_false(first.failed);
    assert_int_equal(machine_parse(back, "machine.json", first.data, first.len), 0);
    machine_write(&second, back);
    assert_string_equal(first.data, second.data);
    assert_string_equal(back->cpu, m.cpu);
    assert_int_equal(back->n_nodes, 3);
    assert_int_equal(back->n_core_nodes, 2);
    assert_true(back->link_bytes_per_s[1][2] == 112e9);
    assert_true(back->latency_ns[1][2] == 92);
    assert_string_equal(back->levels[1].isa, "amx");
    assert_true(back->levels[1].bf16_ops_per_s == 5e12);
    buf_free(&first);
    buf_free(&second);
    free(back);
}

/* What is read can be written, and is read again: at the bounds of numbers, and with a name that has to be escaped. */
static void test_bounds_there_and_back(void **state)
{
    static const double bounds[] = { 1e-9, 1.0000000001e-9, 999999999.9, 1e9 };
    struct machine *m = malloc(sizeof(*m));

    (void)state;
    assert_non_null(m);
    for (size_t i = 0; i < sizeof(bounds) / sizeof(*bounds); i++) {
        struct buf text = { 0 };

        *m = two_sockets_and_cxl();
        snprintf(m->levels[0].isa, sizeof(m->levels[0].isa), "a\"\\\n");
        machine_write(&text, m);
        assert_int_equal(machine_parse(m, "m", text.data, text.len), 0);
        assert_string_equal(m->levels[0].isa, "a\"\\\n");
        const char *old = "\"all_reads_gb_per_s\": 500,", *at = strstr(text.data, old);
        struct buf changed = { 0 };
        assert_non_null(at);
        buf_append(&changed, text.data, (size_t)(at - text.data));
        buf_printf(&changed, "\"all_reads_gb_per_s\": %.17g,%s", bounds[i], at + strlen(old));
        assert_int_equal(machine_parse(m, "m", changed.data, changed.len), 0);
        text.len = 0;
        machine_write(&text, m);
        assert_int_equal(machine_parse(m, "m", text.data, text.len), 0);
        buf_free(&text);
        buf_free(&changed);
    }
    free(m);
}

/* The good file with `from` replaced by `to` must be refused with one line that holds the clue. */
static void check_refused(const char *from, const char *to, const char *clue)
{
    const struct machine m = two_sockets_and_cxl();
    struct machine *back = malloc(sizeof(*back));
    struct buf good = { 0 }, bad = { 0 };

    assert_non_null(back);
    machine_write(&good, &m);
    const char *at = strstr(good.data, from);
    if (!at)
        fail_msg("the file has no %s", from);
    buf_append(&bad, good.data, (size_t)(at - good.data));
    buf_puts(&bad, to);
    buf_puts(&bad, at + strlen(from));
    log_capture_start(&lines);
    const int err = machine_parse(back, "machine.json", bad.data, bad.len);
    log_capture_start(NULL);
    if (err != -EINVAL || lines.n_lines != 1 || !strstr(lines.last, clue) || !strstr(lines.last, "machine.json") ||
        !strstr(lines.last, "--write-machine"))
        fail_msg("%s -> %s: %d, %zu lines, %s", from, to, err, lines.n_lines, lines.last);
    assert_int_equal(back->n_nodes, 0);
    buf_free(&good);
    buf_free(&bad);
    free(back);
}

static void test_refused(void **state)
{
    (void)state;
    check_refused("\"fourway_machine\": 1", "\"fourway_machine\": 2", "version 2");
    check_refused("\"fourway_machine\": 1", "\"machine\": 1", "fourway_machine");
    check_refused("{\n", "[\n", "JSON");
    check_refused("\"all_reads_gb_per_s\": 500", "\"all_reads_gb_per_s\": 0", "all_reads_gb_per_s is 0");
    check_refused("\"all_reads_gb_per_s\": 500", "\"all_reads_gb_per_s\": -1", "above 0");
    check_refused("\"all_reads_gb_per_s\": 500", "\"all_reads_gb_per_s\": \"500\"", "all_reads_gb_per_s is no number");
    check_refused("\"all_reads_gb_per_s\": 500", "\"all_reads_gb_per_s\": 1e300", "above 0");
    check_refused("\"theory_gb_per_s\": 614.4", "\"theory_gb_per_s\": false", "theory_gb_per_s");
    check_refused("\"cores\": 64", "\"cores\": -1", "nodes[0].cores");
    check_refused("\"cores\": 64", "\"cores\": 1.5", "nodes[0].cores");
    check_refused("\"cores\": 64", "\"cores\": 0", "nodes[1] has cores");
    check_refused("\"node\": 2", "\"node\": 0", "both node 0");
    check_refused("\"node\": 2", "\"node\": 99999", "nodes[1].node");
    check_refused("\"read_gb_per_s\": 250, ", "", "nodes[0].read_gb_per_s is missing");
    check_refused("[100, 101, 102],", "", "link_gb_per_s must have 2 rows");
    check_refused("[100, 101, 102]", "[100, 101]", "link_gb_per_s[0] must have 3 numbers");
    check_refused("[100, 101, 102]", "[100, null, 102]", "link_gb_per_s[0][1] is no number");
    check_refused("[90, 91, 92]", "[90, 91, 0]", "latency_ns[1][2] is 0");
    check_refused("\"barrier_ns\": 900", "\"barrier_ns\": []", "barrier_ns");
    check_refused("\"int8\": 4000, ", "", "peak_gop_per_s.amx.int8 is missing");
    check_refused("\"amx\"", "\"an instruction set of a long name\"", "no instruction set is called");
    check_refused("\"amx\"", "\"scalar\"", "JSON");             /* twice the same key */
    check_refused("\"virtual_nodes\": false", "\"virtual_nodes\": 1", "virtual_nodes");
}

static void test_truncated(void **state)
{
    const struct machine m = two_sockets_and_cxl();
    struct machine *back = malloc(sizeof(*back));
    struct buf good = { 0 };

    (void)state;
    machine_write(&good, &m);
    for (size_t n = 0; n + 2 < good.len; n++) {
        log_capture_start(&lines);
        assert_int_equal(machine_parse(back, "m", good.data, n), -EINVAL);
        log_capture_start(NULL);
        assert_int_equal(lines.n_lines, 1);
    }
    buf_free(&good);
    free(back);
}

static void test_files(void **state)
{
    static char folder[] = "/tmp/fourway-check-machine-XXXXXX";
    const struct machine m = two_sockets_and_cxl();
    struct machine *back = malloc(sizeof(*back));
    char path[96], command[200];
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/machine.json", folder);
    for (int i = 0; i < 2; i++) {       /* new, and over an old one */
        assert_int_equal(machine_save(&m, path), 0);
        assert_int_equal(machine_load(back, path), 0);
    }
    snprintf(command, sizeof(command), "test \"$(ls '%s')\" = machine.json", folder);
    assert_int_equal(system(command), 0);
    log_capture_start(&lines);
    assert_int_equal(machine_save(&m, folder), -EISDIR);
    assert_int_equal(machine_save(&m, "/nonexistent/machine.json"), -ENOENT);
    assert_int_equal(machine_load(back, "/nonexistent/machine.json"), -ENOENT);
    assert_int_equal(machine_load(back, folder), -EISDIR);
    assert_int_equal(machine_load(back, "/dev/zero"), -EFBIG);
    assert_int_equal(machine_load(back, "/dev/null"), -EINVAL);
    log_capture_start(NULL);
    assert_int_equal(lines.n_lines, 6);
    assert_int_equal(machine_save(&m, "/dev/null"), 0);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
    free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_bounds_there_and_back),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
