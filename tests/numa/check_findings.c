/*
 * check_findings.c - settings.h and findings.h on trees of other machines: healthy ones, and one fault at a time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "numa/findings.h"
#include "tests/numa/tree.h"

struct examined {
    struct topology t;
    struct settings s;
    struct findings f;
};

static void examine(struct examined *e)
{
    e->f.n = 0;
    assert_int_equal(topology_read(&e->t, tree_root), 0);
    settings_read(&e->s, &e->t, tree_root);
    findings_judge(&e->f, &e->t, &e->s);
}

static const struct finding *find(const struct examined *e, const char *name)
{
    for (size_t i = 0; i < e->f.n; i++) {
        if (!strcmp(e->f.items[i].name, name))
            return &e->f.items[i];
    }
    fail_msg("no finding %s", name);
    return NULL;
}

/* All that is not OK, as "name level cost;" in order. */
static const char *faults(const struct examined *e)
{
    static const char *const levels[] = { [FINDING_OK] = "OK", [FINDING_WARN] = "WARN", [FINDING_FAIL] = "FAIL" };
    static char text[1024];
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < e->f.n; i++) {
        const struct finding *x = &e->f.items[i];

        if (x->level == FINDING_OK)
            continue;
        assert_true(*x->what);
        assert_true(*x->fix);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %s %.0f;", x->name, levels[x->level], x->cost_percent);
    }
    return text;
}

static void test_healthy_machines(void **state)
{
    static const char *const names[] = { "desktop", "clusters", "four-sockets", "cxl", "gaps", "old-kernel", "no-numa", "granite-2s-snc3" };
    struct examined e;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        tree_drop(NULL);
        tree_new(NULL);
        tree_make(names[i]);
        examine(&e);
        assert_string_equal(faults(&e), "");
        topology_free(&e.t);
    }
    assert_string_equal(e.s.cpu_name, "Intel(R) Xeon(R) 6980P");
    assert_false(e.s.is_guest);
    assert_false(e.s.bind_tried);
    assert_string_equal(e.s.thp_enabled, "madvise");
    assert_string_equal(e.s.governor, "performance");
    assert_int_equal(e.s.memory_limit_bytes, UINT64_MAX);
}

static void test_one_fault_at_a_time(void **state)
{
    static const struct { const char *path, *text, *faults, *fix; } cases[] = {
        { "proc/sys/kernel/numa_balancing", "1\n", "numa_balancing WARN 3;", "kernel.numa_balancing=0" },
        { "proc/sys/vm/zone_reclaim_mode", "1\n", "zone_reclaim WARN 2;", "vm.zone_reclaim_mode=0" },
        { "sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n", "huge pages WARN 12;",
          "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled" },
        { "sys/kernel/mm/transparent_hugepage/enabled", "nonsense\n", "huge pages WARN 12;", "hugepages-2048kB/nr_hugepages" },
        { "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n", "", NULL },
        { "sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise madvise [never]\n", "huge pages WARN 4;", "defrag" },
        { "sys/kernel/mm/transparent_hugepage/defrag", "always defer [defer+madvise] madvise never\n", "", NULL },
        { "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave\n", "governor WARN 5;", "cpupower" },
        { "sys/devices/system/cpu/intel_pstate/no_turbo", "1\n", "turbo WARN 15;", "no_turbo" },
        { "sys/fs/cgroup/cpu.max", "200000 100000\n", "cpu quota FAIL 75;", "CPUQuota" },
        { "sys/fs/cgroup/cpu.max", "700000 100000\n", "cpu quota WARN 12;", "--cpus 8" },
        { "proc/loadavg", "8.00 1.00 1.00 9/200 300\n", "other load FAIL 33;", "ps -eo" },
        { "proc/loadavg", "0.20 1.00 1.00 9/200 300\n", "", NULL },
    };
    struct examined e;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tree_drop(NULL);
        tree_new(NULL);
        tree_make("two-sockets");
        tree_put(cases[i].path, cases[i].text);
        examine(&e);
        assert_string_equal(faults(&e), cases[i].faults);
        for (size_t j = 0; j < e.f.n && cases[i].fix; j++) {
            if (e.f.items[j].level != FINDING_OK)
                assert_non_null(strstr(e.f.items[j].fix, cases[i].fix));
        }
        topology_free(&e.t);
    }
}

static void test_lowest_frequency(void **state)
{
    struct examined e;

    (void)state;
    tree_make("desktop");
    tree_put("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n");
    tree_put("sys/devices/system/cpu/cpu2/cpufreq/scaling_driver", "acpi-cpufreq\n");
    tree_put("sys/devices/system/cpu/cpu2/cpufreq/cpuinfo_min_freq", "950000\n");
    examine(&e);
    assert_string_equal(faults(&e), "governor FAIL 75;");
    assert_string_equal(find(&e, "governor")->what, "powersave (acpi-cpufreq) on 1 of 8 cores: the lowest frequency");
    topology_free(&e.t);
}

static void test_one_node_needs_no_numa_settings(void **state)
{
    struct examined e;

    (void)state;
    tree_make("desktop");
    tree_put("proc/sys/kernel/numa_balancing", "1\n");
    tree_put("proc/sys/vm/zone_reclaim_mode", "1\n");
    examine(&e);
    assert_string_equal(faults(&e), "");
    topology_free(&e.t);
}

static void test_pools_of_huge_pages(void **state)
{
    struct examined e;

    (void)state;
    tree_make("two-sockets");
    tree_put("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    tree_put("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "1000\n");
    tree_put("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "500\n");
    examine(&e);
    assert_int_equal(e.s.huge_pages[0].n, 1000);
    assert_string_equal(find(&e, "huge pages")->what, "none: transparent ones are never; 1.0 GB free in the pools of 1 of 2 nodes");
    assert_int_equal(find(&e, "huge pages")->level, FINDING_WARN);
    topology_free(&e.t);
    tree_put("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "500\n");
    examine(&e);
    assert_string_equal(faults(&e), "");
    topology_free(&e.t);
}

static void test_refused_binding(void **state)
{
    struct examined e;

    (void)state;
    tree_make("two-sockets");
    examine(&e);
    e.f.n = 0;
    e.s.bind_tried = true;
    e.s.bind_error = -EPERM;    /* Docker's seccomp profile */
    findings_judge(&e.f, &e.t, &e.s);
    assert_string_equal(faults(&e), "binding WARN 10;");
    assert_non_null(strstr(find(&e, "binding")->fix, "--cap-add SYS_NICE"));
    assert_non_null(strstr(find(&e, "binding")->what, "CAP_SYS_NICE is missing"));
    e.f.n = 0;
    e.s.numa_balancing = 1;     /* what is not bound is moved about */
    findings_judge(&e.f, &e.t, &e.s);
    assert_string_equal(faults(&e), "binding WARN 10;numa_balancing FAIL 25;");
    e.f.n = 0;
    e.s.bind_error = -ENOSYS;   /* a kernel without NUMA has nothing to refuse */
    e.s.numa_balancing = 0;
    findings_judge(&e.f, &e.t, &e.s);
    assert_string_equal(faults(&e), "");
    topology_free(&e.t);
}

static void test_shares_of_a_machine(void **state)
{
    struct examined e;

    (void)state;
    tree_make("container");
    examine(&e);
    assert_string_equal(faults(&e), "cpuset FAIL 99;numa_balancing WARN 3;");
    assert_int_equal(e.s.memory_limit_bytes, UINT64_C(16) << 30);
    topology_free(&e.t);

    tree_drop(NULL);
    tree_new(NULL);
    tree_make("two-sockets");
    tree_allow("0-7", "0-1");   /* one thread of each core: that is all of them */
    examine(&e);
    assert_string_equal(faults(&e), "");
    topology_free(&e.t);
    tree_allow("0-15", "0");    /* CPUs of both, memory of one */
    examine(&e);
    assert_string_equal(faults(&e), "memory of nodes FAIL 28;");
    topology_free(&e.t);
}

static void test_node_over_two_sockets(void **state)
{
    struct examined e;

    (void)state;
    tree_make("interleaved");
    examine(&e);
    assert_string_equal(faults(&e), "nodes FAIL 38;");
    topology_free(&e.t);
    tree_put("proc/cpuinfo", "model name\t: QEMU Virtual CPU version 2.5+\nflags\t\t: fpu hypervisor\n\n");
    examine(&e);
    assert_true(e.s.is_guest);
    assert_string_equal(faults(&e), "");    /* sockets that a hypervisor makes up */
    topology_free(&e.t);
}

static void test_uneven_memory(void **state)
{
    struct examined e;

    (void)state;
    tree_make("two-sockets");
    tree_put("sys/devices/system/node/node1/meminfo", "Node 1 MemTotal:       16777216 kB\nNode 1 MemFree:         8388608 kB\n");
    examine(&e);
    assert_string_equal(faults(&e), "free memory WARN 0;");
    assert_non_null(strstr(find(&e, "free memory")->what, "node 1 has 8.6 GB free, node 0 51.5"));
    topology_free(&e.t);

    tree_put("proc/sys/vm/overcommit_memory", "2\n");
    tree_put("proc/meminfo", "MemTotal: 1000 kB\nCommitLimit: 30000000 kB\nCommitted_AS: 10000000 kB\n");
    examine(&e);
    assert_string_equal(faults(&e), "free memory WARN 0;overcommit WARN 0;");
    assert_non_null(strstr(find(&e, "overcommit")->what, "20.5 GB can be mapped"));
    topology_free(&e.t);
}

/* A container without /sys and with little of /proc. */
static void test_nothing_is_known(void **state)
{
    struct examined e;

    (void)state;
    tree_put("sys/devices/system/cpu/online", "0-3\n");
    examine(&e);
    assert_string_equal(faults(&e), "");
    assert_string_equal(find(&e, "huge pages")->what, "the kernel does not say");
    assert_int_equal(e.s.numa_balancing, SETTINGS_UNKNOWN);
    assert_string_equal(e.s.cpu_name, "");
    topology_free(&e.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TREE(test_healthy_machines),
        WITH_TREE(test_one_fault_at_a_time),
        WITH_TREE(test_lowest_frequency),
        WITH_TREE(test_one_node_needs_no_numa_settings),
        WITH_TREE(test_pools_of_huge_pages),
        WITH_TREE(test_refused_binding),
        WITH_TREE(test_shares_of_a_machine),
        WITH_TREE(test_node_over_two_sockets),
        WITH_TREE(test_uneven_memory),
        WITH_TREE(test_nothing_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
