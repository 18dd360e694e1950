/*
 * check_topology.c - topology.h on recorded trees of one to seventy nodes, on broken ones, and on this machine.
 *
 * A tree in tests/data/topology is unpacked into a temporary folder, which then is the root (make_trees.py there says more).
 */
#include <errno.h>
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "numa/sysfs_internal.h"
#include "numa/topology.h"

#define GIB (UINT64_C(1) << 30)

static char root[256];
static char logged[4096]; /* all messages since the last clear, a line each */

static void keep_message(void *arg, enum log_level level, const char *message)
{
    const size_t used = strlen(logged);

    (void)arg;
    (void)level;
    snprintf(logged + used, sizeof(logged) - used, "%s\n", message);
}

static int remove_entry(const char *path, const struct stat *s, int kind, struct FTW *ftw)
{
    (void)s;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static int new_root(void **state)
{
    const char *folder = getenv("TMPDIR");

    (void)state;
    snprintf(root, sizeof(root), "%s/check_topology.XXXXXX", folder ? folder : P_tmpdir);
    logged[0] = '\0';
    log_set_sink(keep_message, NULL);
    return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static FILE *open_below_root(const char *path, const char *mode)
{
    char full[sizeof(root) + 256];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *f = fopen(full, mode);
    assert_non_null(f);
    return f;
}

static void put(const char *path, const char *text)
{
    FILE *f = open_below_root(path, "w");

    fputs(text, f);
    fclose(f);
}

static void unpack(const char *name)
{
    char path[128], line[512];

    snprintf(path, sizeof(path), "tests/data/topology/%s.tree", name);
    FILE *tree = fopen(path, "r");
    assert_non_null(tree);
    while (fgets(line, sizeof(line), tree)) {
        char *text = strchr(line, ':');

        assert_non_null(text);
        *text++ = '\0';
        FILE *f = open_below_root(line, "a");
        fputs(text, f);
        fclose(f);
    }
    fclose(tree);
}

/* The node's CPUs as a list with commas. */
static const char *cpus_of(const struct topology *t, size_t node)
{
    static char text[1024];
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < t->nodes[node].n_cpus; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%d", i ? "," : "", t->nodes[node].cpus[i]);
    return text;
}

static void test_one_socket(void **state)
{
    struct topology t;

    (void)state;
    unpack("one-socket");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3");
    assert_int_equal(t.n_allowed_cpus, 4);
    assert_int_equal(t.nodes[0].total_bytes, 64 * GIB);
    assert_int_equal(t.nodes[0].free_bytes, 48 * GIB); /* MemAvailable: the only node with memory */
    assert_int_equal(t.distance[0][0], 10);
    assert_false(t.is_virtual);
    topology_free(&t);
    assert_string_equal(logged, "");
}

static void test_two_sockets_list_one_thread_a_core(void **state)
{
    struct topology t;

    (void)state;
    unpack("two-socket-smt");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3");
    assert_string_equal(cpus_of(&t, 1), "4,5,6,7");
    assert_int_equal(t.n_allowed_cpus, 16);
    assert_int_equal(t.distance[0][1], 21);
    assert_int_equal(t.nodes[1].free_bytes, 48 * GIB); /* 32 free, 16 of page cache */
    topology_free(&t);
}

static void test_thread_siblings_of_old_kernels(void **state)
{
    struct topology t;

    (void)state;
    unpack("two-socket-old-kernel");
    assert_int_equal(topology_read(&t, root), 0);
    assert_string_equal(cpus_of(&t, 0), "0,1");
    assert_string_equal(cpus_of(&t, 1), "2,3");
    topology_free(&t);
}

static void test_affinity_decides(void **state)
{
    struct topology t;

    (void)state;
    unpack("two-socket-smt"); /* cores {0,8} {1,9} .. {7,15}; 0-3 and 8-11 on node 0 */
    put("allowed_cpus", "1,8-9,13,99\n");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_allowed_cpus, 4);
    assert_string_equal(cpus_of(&t, 0), "1,8"); /* of core {0,8} only the second thread is ours */
    assert_string_equal(cpus_of(&t, 1), "13");
    topology_free(&t);

    put("allowed_cpus", "0-2\n"); /* a node without allowed CPUs is no node */
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].os_node, 0);
    topology_free(&t);

    put("allowed_cpus", "\n");
    assert_int_equal(topology_read(&t, root), -ENODEV);
    assert_int_equal(t.n_nodes, 0);
    topology_free(&t);
}

static void test_four_sockets(void **state)
{
    struct topology t;

    (void)state;
    unpack("four-socket");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 4);
    assert_string_equal(cpus_of(&t, 3), "24,25,26,27,28,29,30,31");
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < 4; j++)
            assert_int_equal(t.distance[i][j], i == j ? 10 : 21);
    }
    topology_free(&t);
}

static void test_sub_numa_clusters(void **state)
{
    struct topology t;

    (void)state;
    unpack("two-socket-snc2");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 4);
    assert_int_equal(t.distance[0][1], 12);
    assert_int_equal(t.distance[0][2], 21);
    assert_int_equal(t.distance[3][2], 12);

    assert_int_equal(topology_select(&t, "1,3"), 0); /* distances move along */
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[1].os_node, 3);
    assert_int_equal(t.distance[0][1], 21);
    assert_int_equal(t.distance[1][1], 10);
    topology_free(&t);
}

static void test_memory_only_node_gets_no_workers(void **state)
{
    struct topology t;

    (void)state;
    unpack("cxl-memory");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[1].os_node, 1);
    assert_int_equal(t.distance[1][0], 21);
    assert_string_equal(logged, "");
    topology_free(&t);
}

static void test_node_without_memory_is_left_out(void **state)
{
    struct topology t;

    (void)state;
    unpack("node-without-memory");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[0].os_node, 0);
    assert_int_equal(t.nodes[1].os_node, 2);
    assert_string_equal(cpus_of(&t, 1), "4,5");
    assert_int_equal(t.nodes[1].total_bytes, 32 * GIB);
    assert_non_null(strstr(logged, "node 1 has cores but no memory"));
    topology_free(&t);
}

static void test_cpuset_memory(void **state)
{
    struct topology t;

    (void)state;
    unpack("four-socket");
    put("proc/self/status", "Name:\tcat\nMems_allowed:\t0000000c\nMems_allowed_list:\t2-3\nthreads:\t1\n");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[0].os_node, 2);
    topology_free(&t);

    put("allowed_cpus", "0-3\n"); /* CPUs here, memory there: it still has to run */
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].os_node, 2);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3");
    assert_non_null(strstr(logged, "all memory is remote"));
    topology_free(&t);
}

static void test_unequal_cores(void **state)
{
    struct topology t;

    (void)state;
    unpack("unequal-cores");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.nodes[0].n_cpus, 43);
    assert_int_equal(t.nodes[1].n_cpus, 43);
    assert_int_equal(t.nodes[2].n_cpus, 42);
    assert_int_equal(t.nodes[2].cpus[41], 127);
    topology_free(&t);
}

static void test_gaps_and_offline_cpus(void **state)
{
    struct topology t;

    (void)state;
    unpack("gaps-and-offline"); /* nodes 0, 4, 8; CPUs 1, 5 and 14 are offline; 11 is the second thread of 1, 15 of 5 */
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 3);
    assert_int_equal(t.nodes[1].os_node, 4);
    assert_string_equal(cpus_of(&t, 0), "0,2,3,11");
    assert_string_equal(cpus_of(&t, 1), "4,6,7,15");
    assert_string_equal(cpus_of(&t, 2), "8,9");
    assert_int_equal(t.distance[2][1], 21);
    assert_int_equal(t.distance[2][2], 10);
    assert_int_equal(topology_select(&t, "1"), 0); /* a count, not node 1 */
    assert_int_equal(t.nodes[0].os_node, 0);
    topology_free(&t);
}

static void test_many_nodes(void **state)
{
    struct topology t;

    (void)state;
    unpack("twenty-nodes");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 20);
    assert_int_equal(t.nodes[19].os_node, 57);
    assert_int_equal(t.distance[19][19], 10);
    assert_int_equal(t.distance[19][18], 21);
    topology_free(&t);
}

static void test_more_nodes_than_we_hold(void **state)
{
    struct topology t;

    (void)state;
    unpack("seventy-nodes");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, TOPOLOGY_MAX_NODES);
    assert_int_equal(t.distance[63][62], 21);
    assert_non_null(strstr(logged, "node 64 is left out"));
    topology_free(&t);
}

static void test_kernel_without_numa(void **state)
{
    struct topology t;

    (void)state;
    unpack("no-numa");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].os_node, 0);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3");
    assert_int_equal(t.nodes[0].total_bytes, 64 * GIB);
    assert_int_equal(t.nodes[0].free_bytes, 48 * GIB);
    topology_free(&t);
}

static void test_broken_trees(void **state)
{
    static const char *const lists[] = { "0-", "-1", "a", "0-3;4", "0,,1", "3-1", "8192", "0-99999999999999999999", "0,", "0 1" };
    struct topology t;

    (void)state;
    assert_int_equal(topology_read(&t, root), -ENOENT); /* an empty folder */
    topology_free(&t);
    unpack("two-socket-smt");
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        logged[0] = '\0';
        put("sys/devices/system/node/node1/cpulist", lists[i]);
        assert_int_equal(topology_read(&t, root), -EINVAL);
        assert_non_null(strstr(logged, "node1/cpulist"));
        assert_int_equal(t.n_nodes, 0);
        topology_free(&t);
    }
    put("sys/devices/system/node/node1/cpulist", "4-7"); /* no line feed, no second threads */
    put("sys/devices/system/node/node1/distance", "x y z");
    put("sys/devices/system/node/node0/distance", "10 999");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.distance[1][1], 10);
    assert_int_equal(t.distance[1][0], 20);
    assert_int_equal(t.distance[0][1], 20);
    topology_free(&t);

    FILE *f = open_below_root("sys/devices/system/node/node1/cpulist", "w");
    for (int i = 0; i < SYSFS_TEXT_BYTES; i++)
        fputs("1,", f);
    fclose(f);
    assert_int_equal(topology_read(&t, root), -EFBIG);
    topology_free(&t);
}

static void test_select(void **state)
{
    static const char *const bad[] = { "0", "5", "4-4", "0,9", "", "x", "auto,1", "-1", "99999", "1,2,", "0-8191" };
    struct topology t;

    (void)state;
    unpack("four-socket");
    assert_int_equal(topology_read(&t, root), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        logged[0] = '\0';
        assert_int_equal(topology_select(&t, bad[i]), -EINVAL);
        assert_non_null(strstr(logged, "nodes 0-3"));
        assert_int_equal(t.n_nodes, 4);
    }
    assert_int_equal(topology_select(&t, "all"), 0);
    assert_int_equal(t.n_nodes, 4);
    assert_int_equal(topology_select(&t, "1-3"), 0);
    assert_int_equal(t.n_nodes, 3);
    assert_int_equal(topology_select(&t, "2"), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[0].os_node, 1);
    assert_string_equal(cpus_of(&t, 1), "16,17,18,19,20,21,22,23");
    assert_int_equal(topology_select(&t, "2-2"), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].os_node, 2);
    topology_free(&t);
}

static void test_virtual_nodes(void **state)
{
    struct topology t;

    (void)state;
    unpack("two-socket-smt");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(topology_make_virtual(&t, 0), -EINVAL);
    assert_int_equal(topology_make_virtual(&t, TOPOLOGY_MAX_NODES + 1), -EINVAL);
    assert_int_equal(t.n_nodes, 2);
    assert_false(t.is_virtual);

    assert_int_equal(topology_make_virtual(&t, 3), 0); /* 8 cores: 2, 3, 3 in their order */
    assert_true(t.is_virtual);
    assert_int_equal(t.n_nodes, 3);
    assert_string_equal(cpus_of(&t, 0), "0,1");
    assert_string_equal(cpus_of(&t, 1), "2,3,4");
    assert_string_equal(cpus_of(&t, 2), "5,6,7");
    assert_int_equal(t.nodes[0].os_node, 0);
    assert_int_equal(t.nodes[2].os_node, 1);
    assert_int_equal(t.nodes[2].total_bytes, 128 * GIB / 3);
    assert_int_equal(t.distance[1][1], 10);
    assert_int_equal(t.distance[1][2], 20);
    assert_int_equal(t.n_allowed_cpus, 16);

    assert_int_equal(topology_make_virtual(&t, 20), 0); /* several nodes share a CPU */
    assert_int_equal(t.n_nodes, 20);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(t.nodes[i].n_cpus, 1);
        assert_int_equal(t.nodes[i].cpus[0], i * 8 / 20);
    }
    topology_free(&t);
}

static void test_available_bytes(void **state)
{
    (void)state;
    assert_true(topology_available_bytes(root) == UINT64_MAX); /* nothing is known */
    put("proc/meminfo", "MemTotal: 100 kB\nMemAvailable:      50 kB\n");
    assert_int_equal(topology_available_bytes(root), 50 * 1024);

    put("proc/meminfo", "MemAvailable: 1000000 kB\n");
    put("proc/self/cgroup", "0::/user/job\n");
    assert_int_equal(topology_available_bytes(root), 1024000000); /* no limits */
    put("sys/fs/cgroup/user/job/memory.max", "max\n");
    put("sys/fs/cgroup/user/memory.max", "500000\n");
    put("sys/fs/cgroup/user/memory.current", "300000\n");
    assert_int_equal(topology_available_bytes(root), 200000); /* the parent's limit holds */
    put("sys/fs/cgroup/user/memory.stat", "anon 1\ninactive_file 60000\nactive_file 40000\n");
    assert_int_equal(topology_available_bytes(root), 300000); /* page cache can go */
    put("sys/fs/cgroup/user/memory.current", "700000\n");
    assert_int_equal(topology_available_bytes(root), 0);

    put("proc/self/cgroup", "0::/host/path/of/a/container\n"); /* in the container only its own files are mounted */
    put("sys/fs/cgroup/memory.max", "4096\n");
    assert_int_equal(topology_available_bytes(root), 4096);
    put("proc/self/cgroup", "0::/../../outside\n");
    assert_int_equal(topology_available_bytes(root), 4096);
    put("proc/self/cgroup", "0::/\n");
    assert_int_equal(topology_available_bytes(root), 4096);

    put("proc/self/cgroup", "3:cpuset:/x\n4:hugetlb,memory:/v1\n1:name=systemd:/\nnonsense\n");
    put("sys/fs/cgroup/memory/v1/memory.limit_in_bytes", "10000\n");
    put("sys/fs/cgroup/memory/v1/memory.usage_in_bytes", "5000\n");
    put("sys/fs/cgroup/memory/v1/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\ntotal_active_file 500\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(topology_available_bytes(root), 6500);
}

static void test_huge_pages_count_as_free(void **state)
{
    struct topology t;

    (void)state;
    unpack("two-socket-smt");
    put("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "28000\n");
    put("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "10\n");
    assert_int_equal(topology_read(&t, root), 0);
    assert_int_equal(t.nodes[0].free_bytes, 48 * GIB);
    assert_int_equal(t.nodes[1].free_bytes, UINT64_C(28000) << 21);
    topology_free(&t);
}

static void test_this_machine(void **state)
{
    struct topology t;
    cpu_set_t before, one;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(topology_read(&t, ""), 0);
    assert_true(t.n_nodes >= 1);
    assert_int_equal(t.n_allowed_cpus, CPU_COUNT(&before));
    for (size_t i = 0; i < t.n_nodes; i++) {
        assert_true(t.nodes[i].n_cpus >= 1);
        assert_true(t.nodes[i].total_bytes > 0);
        for (size_t c = 0; c < t.nodes[i].n_cpus; c++)
            assert_true(CPU_ISSET(t.nodes[i].cpus[c], &before));
    }
    assert_true(topology_available_bytes("") > 0 && topology_available_bytes("") < UINT64_MAX);

    const int last = t.nodes[t.n_nodes - 1].cpus[t.nodes[t.n_nodes - 1].n_cpus - 1];
    topology_free(&t);
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0); /* as taskset does */
    assert_int_equal(topology_read(&t, ""), 0);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(t.n_allowed_cpus, 1);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].n_cpus, 1);
    assert_int_equal(t.nodes[0].cpus[0], last);
    topology_free(&t);
}

#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, new_root, drop_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROOT(test_one_socket),
        WITH_ROOT(test_two_sockets_list_one_thread_a_core),
        WITH_ROOT(test_thread_siblings_of_old_kernels),
        WITH_ROOT(test_affinity_decides),
        WITH_ROOT(test_four_sockets),
        WITH_ROOT(test_sub_numa_clusters),
        WITH_ROOT(test_memory_only_node_gets_no_workers),
        WITH_ROOT(test_node_without_memory_is_left_out),
        WITH_ROOT(test_cpuset_memory),
        WITH_ROOT(test_unequal_cores),
        WITH_ROOT(test_gaps_and_offline_cpus),
        WITH_ROOT(test_many_nodes),
        WITH_ROOT(test_more_nodes_than_we_hold),
        WITH_ROOT(test_kernel_without_numa),
        WITH_ROOT(test_broken_trees),
        WITH_ROOT(test_select),
        WITH_ROOT(test_virtual_nodes),
        WITH_ROOT(test_available_bytes),
        WITH_ROOT(test_huge_pages_count_as_free),
        WITH_ROOT(test_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
