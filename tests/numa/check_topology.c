/*
 * check_topology.c - topology.h on trees of machines of one to seventy nodes, on broken ones, and on this machine.
 *
 * make_topology.py writes a machine's tree into a temporary folder, which then is the root.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "numa/sysfs_internal.h"
#include "numa/topology.h"
#include "tests/numa/tree.h"

#define GIB (UINT64_C(1) << 30)

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
    tree_make("desktop");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3,4,5,6,7");
    assert_int_equal(t.n_allowed_cpus, 16);
    assert_int_equal(t.n_online_cpus, 16);
    assert_int_equal(t.n_packages, 1);
    assert_int_equal(t.n_cpu_nodes, 1);
    assert_int_equal(t.nodes[0].package, 0);
    assert_int_equal(t.nodes[0].total_bytes, 64 * GIB);
    assert_int_equal(t.nodes[0].free_bytes, 48 * GIB); /* MemAvailable: the only node with memory */
    assert_int_equal(t.l2_bytes, 512 << 10);
    assert_int_equal(t.llc_bytes, 32 << 20);
    assert_int_equal(t.llc_total_bytes, 32 << 20);
    assert_int_equal(t.distance[0][0], 10);
    assert_false(t.is_virtual);
    topology_free(&t);
    assert_string_equal(tree_logged, "");
}

static void test_two_sockets_list_one_thread_a_core(void **state)
{
    struct topology t;

    (void)state;
    tree_make("two-sockets");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3");
    assert_string_equal(cpus_of(&t, 1), "4,5,6,7");
    assert_int_equal(t.threads_per_core, 2);
    assert_int_equal(t.nodes[1].threads[0], 4);
    assert_int_equal(t.nodes[1].threads[1], 12);
    assert_int_equal(t.nodes[1].package, 1);
    assert_int_equal(t.n_packages, 2);
    assert_int_equal(t.n_allowed_cpus, 16);
    assert_int_equal(t.distance[0][1], 21);
    assert_int_equal(t.nodes[1].free_bytes, 48 * GIB); /* 32 free, 16 of page cache */
    topology_free(&t);
}

static void test_thread_siblings_of_old_kernels(void **state)
{
    struct topology t;

    (void)state;
    tree_make("old-kernel");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_string_equal(cpus_of(&t, 0), "0,1");
    assert_string_equal(cpus_of(&t, 1), "2,3");
    topology_free(&t);
}

static void test_affinity_decides(void **state)
{
    struct topology t;

    (void)state;
    tree_make("two-sockets"); /* cores {0,8} {1,9} .. {7,15}; 0-3 and 8-11 on node 0 */
    tree_allow("1,8-9,13,99", "0-1");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_allowed_cpus, 4);
    assert_string_equal(cpus_of(&t, 0), "1,8"); /* of core {0,8} only the second thread is ours */
    assert_string_equal(cpus_of(&t, 1), "13");
    assert_int_equal(t.threads_per_core, 2);
    assert_int_equal(t.nodes[0].threads[1], 9);
    assert_int_equal(t.nodes[0].threads[3], -1);
    assert_int_equal(t.n_online_cpus, 16);
    topology_free(&t);

    tree_allow("0-2", "0-1"); /* a node without allowed CPUs is no node */
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].os_node, 0);
    assert_int_equal(t.n_packages, 1);
    assert_int_equal(t.n_cpu_nodes, 2);
    assert_int_equal(t.n_memory_nodes, 0);      /* its memory is ours, but it has CPUs: no CXL */
    topology_free(&t);

    tree_allow("", "0-1");
    assert_int_equal(topology_read(&t, tree_root), -ENODEV);
    assert_int_equal(t.n_nodes, 0);
    topology_free(&t);
}

static void test_four_sockets(void **state)
{
    struct topology t;

    (void)state;
    tree_make("four-sockets");
    assert_int_equal(topology_read(&t, tree_root), 0);
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
    tree_make("clusters");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 4);
    assert_int_equal(t.distance[0][1], 12);
    assert_int_equal(t.distance[0][2], 21);
    assert_int_equal(t.distance[3][2], 12);
    assert_int_equal(t.n_packages, 2);
    assert_int_equal(t.nodes[1].package, 0);
    assert_int_equal(t.nodes[2].package, 1);
    assert_int_equal(t.llc_total_bytes, 2 * (UINT64_C(105) << 20));     /* one a socket, whatever its nodes */

    assert_int_equal(topology_select(&t, "1,3"), 0); /* distances move along */
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[1].os_node, 3);
    assert_int_equal(t.distance[0][1], 21);
    assert_int_equal(t.distance[1][1], 10);
    topology_free(&t);
}

static void test_nodes_of_memory_alone_are_listed_apart(void **state)
{
    struct topology t;

    (void)state;
    tree_make("cxl");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[1].os_node, 1);
    assert_int_equal(t.distance[1][0], 21);
    assert_int_equal(t.n_memory_nodes, 2);
    assert_int_equal(t.memory_nodes[1].os_node, 3);
    assert_int_equal(t.memory_nodes[1].total_bytes, 512 * GIB);
    assert_int_equal(t.memory_nodes[1].distance[0], 24);
    assert_int_equal(t.memory_nodes[1].distance[1], 14);
    assert_string_equal(tree_logged, "");

    assert_int_equal(topology_select(&t, "2-2"), -EINVAL);
    assert_non_null(strstr(tree_logged, "no such nodes with CPUs: 2-2"));
    assert_int_equal(topology_select(&t, "1-1"), 0);    /* distances move along */
    assert_int_equal(t.memory_nodes[1].distance[0], 14);
    topology_free(&t);

    tree_allow("0-31", "0-1");  /* the cpuset keeps us from it */
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_memory_nodes, 0);
    topology_free(&t);
}

static void test_cores_without_memory_work_for_the_nearest_node(void **state)
{
    struct topology t;

    (void)state;
    tree_make("no-memory"); /* nodes 0 and 1 are one socket, at a distance of 12 */
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[0].os_node, 0);
    assert_int_equal(t.nodes[1].os_node, 2);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3");
    assert_int_equal(t.nodes[0].n_guest_cpus, 2);
    assert_string_equal(cpus_of(&t, 1), "4,5");
    assert_int_equal(t.nodes[1].n_guest_cpus, 0);
    assert_int_equal(t.nodes[1].total_bytes, 32 * GIB);
    assert_string_equal(tree_logged, "node 1 has cores but no memory for this process: its cores work for node 0\n");
    topology_free(&t);

    tree_put("sys/devices/system/node/node1/distance", "12 10 11\n");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_string_equal(cpus_of(&t, 1), "4,5,2,3");
    topology_free(&t);

    tree_put("sys/devices/system/node/node1/distance", "21 10 21\n");      /* a tie: to the smaller one */
    tree_put("sys/devices/system/node/node2/cpulist", "4\n");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_string_equal(cpus_of(&t, 1), "4,2,3");
    topology_free(&t);
}

static void test_cpuset_memory(void **state)
{
    struct topology t;

    (void)state;
    tree_make("four-sockets");
    tree_allow("0-63", "2-3");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.nodes[0].os_node, 2);
    topology_free(&t);

    tree_allow("0-3", "2-3"); /* CPUs here, memory there: it still has to run */
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].os_node, 2);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3");
    assert_non_null(strstr(tree_logged, "all memory is remote"));
    topology_free(&t);
}

static void test_unequal_cores(void **state)
{
    struct topology t;

    (void)state;
    tree_make("granite-2s-snc3");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.nodes[0].n_cpus, 43);
    assert_int_equal(t.nodes[1].n_cpus, 43);
    assert_int_equal(t.nodes[2].n_cpus, 42);
    assert_int_equal(t.nodes[2].cpus[41], 127);
    assert_int_equal(t.n_nodes, 6);
    assert_int_equal(t.n_packages, 2);
    assert_int_equal(t.nodes[5].cpus[41], 255);
    assert_int_equal(t.nodes[5].threads[2 * 41 + 1], 511);
    assert_int_equal(t.llc_total_bytes, 2 * (UINT64_C(504) << 20));
    topology_free(&t);
}

static void test_gaps_and_offline_cpus(void **state)
{
    struct topology t;

    (void)state;
    tree_make("gaps"); /* nodes 0, 4, 8; CPUs 1, 5 and 14 are offline; 11 is the second thread of 1, 15 of 5 */
    assert_int_equal(topology_read(&t, tree_root), 0);
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
    tree_make("twenty-nodes");
    assert_int_equal(topology_read(&t, tree_root), 0);
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
    tree_make("seventy-nodes");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, TOPOLOGY_MAX_NODES);
    assert_int_equal(t.distance[63][62], 21);
    assert_non_null(strstr(tree_logged, "node 64 is left out"));
    topology_free(&t);
}

static void test_kernel_without_numa(void **state)
{
    struct topology t;

    (void)state;
    tree_make("no-numa");
    assert_int_equal(topology_read(&t, tree_root), 0);
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
    assert_int_equal(topology_read(&t, tree_root), -ENOENT); /* an empty folder */
    topology_free(&t);
    tree_make("two-sockets");
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        tree_logged[0] = '\0';
        tree_put("sys/devices/system/node/node1/cpulist", lists[i]);
        assert_int_equal(topology_read(&t, tree_root), -EINVAL);
        assert_non_null(strstr(tree_logged, "node1/cpulist"));
        assert_int_equal(t.n_nodes, 0);
        topology_free(&t);
    }
    tree_put("sys/devices/system/node/node1/cpulist", "4-7"); /* no line feed, no second threads */
    tree_put("sys/devices/system/node/node1/distance", "x y z");
    tree_put("sys/devices/system/node/node0/distance", "10 999");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.distance[1][1], 10);
    assert_int_equal(t.distance[1][0], 20);
    assert_int_equal(t.distance[0][1], 20);
    topology_free(&t);

    char large[2 * SYSFS_TEXT_BYTES + 1] = "";
    for (int i = 0; i < SYSFS_TEXT_BYTES; i++)
        memcpy(large + (ptrdiff_t)2 * i, "1,", 3);
    tree_put("sys/devices/system/node/node1/cpulist", large);
    assert_int_equal(topology_read(&t, tree_root), -EFBIG);
    topology_free(&t);
}

static void test_select(void **state)
{
    static const char *const bad[] = { "0", "5", "4-4", "0,9", "", "x", "auto,1", "-1", "99999", "1,2,", "0-8191" };
    struct topology t;

    (void)state;
    tree_make("four-sockets");
    assert_int_equal(topology_read(&t, tree_root), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tree_logged[0] = '\0';
        assert_int_equal(topology_select(&t, bad[i]), -EINVAL);
        assert_non_null(strstr(tree_logged, "nodes 0-3"));
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
    tree_make("two-sockets");
    assert_int_equal(topology_read(&t, tree_root), 0);
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
    assert_true(topology_available_bytes(tree_root) == UINT64_MAX); /* nothing is known */
    tree_put("proc/meminfo", "MemTotal: 100 kB\nMemAvailable:      50 kB\n");
    assert_int_equal(topology_available_bytes(tree_root), 50 * 1024);

    tree_put("proc/meminfo", "MemAvailable: 1000000 kB\n");
    tree_put("proc/self/cgroup", "0::/user/job\n");
    assert_int_equal(topology_available_bytes(tree_root), 1024000000); /* no limits */
    tree_put("sys/fs/cgroup/user/job/memory.max", "max\n");
    tree_put("sys/fs/cgroup/user/memory.max", "500000\n");
    tree_put("sys/fs/cgroup/user/memory.current", "300000\n");
    assert_int_equal(topology_available_bytes(tree_root), 200000); /* the parent's limit holds */
    tree_put("sys/fs/cgroup/user/memory.stat", "anon 1\ninactive_file 60000\nactive_file 40000\n");
    assert_int_equal(topology_available_bytes(tree_root), 300000); /* page cache can go */
    tree_put("sys/fs/cgroup/user/memory.current", "700000\n");
    assert_int_equal(topology_available_bytes(tree_root), 0);

    tree_put("proc/self/cgroup", "0::/host/path/of/a/container\n"); /* in the container only its own files are mounted */
    tree_put("sys/fs/cgroup/memory.max", "4096\n");
    assert_int_equal(topology_available_bytes(tree_root), 4096);
    tree_put("proc/self/cgroup", "0::/../../outside\n");
    assert_int_equal(topology_available_bytes(tree_root), 4096);
    tree_put("proc/self/cgroup", "0::/\n");
    assert_int_equal(topology_available_bytes(tree_root), 4096);

    tree_put("proc/self/cgroup", "3:cpuset:/x\n4:hugetlb,memory:/v1\n1:name=systemd:/\nnonsense\n");
    tree_put("sys/fs/cgroup/memory/v1/memory.limit_in_bytes", "10000\n");
    tree_put("sys/fs/cgroup/memory/v1/memory.usage_in_bytes", "5000\n");
    tree_put("sys/fs/cgroup/memory/v1/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\ntotal_active_file 500\n");
    tree_put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(topology_available_bytes(tree_root), 6500);
}

static void test_huge_pages_count_as_free(void **state)
{
    struct topology t;

    (void)state;
    tree_make("two-sockets");
    tree_put("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "28000\n");
    tree_put("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "10\n");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.nodes[0].free_bytes, 48 * GIB);
    assert_int_equal(t.nodes[1].free_bytes, UINT64_C(28000) << 21);
    topology_free(&t);
}

static void test_whole_servers(void **state)
{
    static const struct {
        const char *name;
        size_t n_nodes, n_packages, n_cores, n_cpus, last;
        unsigned far;
        uint64_t llc_mib;
    } servers[] = {
        { "xeon-2s-snc2", 4, 2, 28, 224, 111, 21, 210 },
        { "epyc-2s-nps4", 8, 2, 16, 256, 127, 32, 16 * 32 },    /* a cache for 8 cores */
        { "xeon-4s", 4, 4, 56, 448, 223, 21, 420 },
        { "xeon-8s", 8, 8, 60, 960, 479, 21, 8 * 112 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
        struct topology t;

        tree_drop(NULL);
        tree_new(NULL);
        tree_make(servers[i].name);
        assert_int_equal(topology_read(&t, tree_root), 0);
        assert_int_equal(t.n_nodes, servers[i].n_nodes);
        assert_int_equal(t.n_packages, servers[i].n_packages);
        assert_int_equal(t.n_allowed_cpus, servers[i].n_cpus);
        assert_int_equal(t.threads_per_core, 2);
        for (size_t v = 0; v < t.n_nodes; v++)
            assert_int_equal(t.nodes[v].n_cpus, servers[i].n_cores);
        assert_int_equal(t.nodes[t.n_nodes - 1].cpus[servers[i].n_cores - 1], servers[i].last);
        assert_int_equal(t.nodes[t.n_nodes - 1].package, servers[i].n_packages - 1);
        assert_int_equal(t.distance[0][t.n_nodes - 1], servers[i].far);
        assert_int_equal(t.llc_total_bytes, servers[i].llc_mib << 20);
        assert_string_equal(tree_logged, "");
        topology_free(&t);
    }
}

static void test_container_of_one_core(void **state)
{
    struct topology t;

    (void)state;
    tree_make("container");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].os_node, 2);
    assert_string_equal(cpus_of(&t, 0), "37");
    assert_int_equal(t.n_allowed_cpus, 2);
    assert_int_equal(t.n_online_cpus, 256);
    assert_int_equal(t.n_cpu_nodes, 8);
    assert_int_equal(t.llc_total_bytes, 32 << 20);
    assert_int_equal(topology_default_threads(&t), 1);
    assert_int_equal(topology_available_bytes(tree_root), 15 * GIB);
    topology_free(&t);
}

static void test_node_over_two_sockets(void **state)
{
    struct topology t;

    (void)state;
    tree_make("interleaved");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.nodes[0].n_packages, 2);
    assert_int_equal(t.n_packages, 2);
    topology_free(&t);
}

static void test_without_caches_and_sockets(void **state)
{
    struct topology t;

    (void)state;
    tree_put("sys/devices/system/cpu/online", "0-1\n");
    tree_put("sys/devices/system/cpu/cpu0/cache/index0/level", "x\n");
    tree_put("sys/devices/system/cpu/cpu1/topology/physical_package_id", "-1\n");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_string_equal(cpus_of(&t, 0), "0,1");
    assert_int_equal(t.nodes[0].package, -1);
    assert_int_equal(t.n_packages, 0);
    assert_int_equal(t.threads_per_core, 1);
    assert_int_equal(t.llc_total_bytes, 0);
    topology_free(&t);
}

static void test_quota_of_cpu_time(void **state)
{
    static const struct { const char *max; double cpus; size_t n_threads; } v2[] = {
        { "max 100000\n", 0, 8 }, { "250000 100000\n", 2.5, 2 }, { "50000 100000\n", 0.5, 1 }, { "1600000 100000\n", 16, 8 },
        { "100000\n", 0, 8 }, { "-5 0\n", 0, 8 }, { "\n", 0, 8 },
    };
    struct topology t;

    (void)state;
    tree_make("two-sockets");
    for (size_t i = 0; i < sizeof(v2) / sizeof(v2[0]); i++) {
        tree_logged[0] = '\0';
        tree_put("sys/fs/cgroup/cpu.max", v2[i].max);
        assert_int_equal(topology_read(&t, tree_root), 0);
        assert_float_equal(t.cpu_quota, v2[i].cpus, 1e-9);
        assert_int_equal(topology_default_threads(&t), v2[i].n_threads);
        assert_int_equal(strstr(tree_logged, "the time of") != NULL, v2[i].n_threads < 8);
        topology_free(&t);
    }
    tree_put("proc/self/cgroup", "5:cpuset:/a\n4:cpu,cpuacct:/pod/c\n3:memory:/\n");
    tree_put("sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us", "300000\n");
    tree_put("sys/fs/cgroup/cpu/pod/cpu.cfs_period_us", "100000\n");
    tree_put("sys/fs/cgroup/cpu/pod/c/cpu.cfs_quota_us", "-1\n");
    tree_put("sys/fs/cgroup/cpu/pod/c/cpu.cfs_period_us", "100000\n");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_float_equal(t.cpu_quota, 3, 1e-9);
    assert_int_equal(topology_make_virtual(&t, 2), 0);
    assert_int_equal(topology_default_threads(&t), 3);
    topology_free(&t);
}

static void test_reserved_cores(void **state)
{
    struct topology_reserved r;
    struct topology t;

    (void)state;
    tree_make("two-sockets");   /* 4 cores a node */
    assert_int_equal(topology_read(&t, tree_root), 0);
    topology_reserve_cores(&t, &r);
    assert_int_equal(r.n_cpus, 0);
    assert_string_equal(cpus_of(&t, 0), "0,1,2,3");
    topology_free(&t);

    tree_make("four-sockets");  /* 8 cores a node, the second threads from 32 on */
    assert_int_equal(topology_read(&t, tree_root), 0);
    topology_reserve_cores(&t, &r);
    assert_int_equal(r.n_cpus, 2);
    assert_int_equal(r.cpus[0], 0);
    assert_int_equal(r.cpus[1], 32);
    assert_string_equal(cpus_of(&t, 0), "1,2,3,4,5,6,7");
    assert_int_equal(t.nodes[0].threads[1], 33);
    assert_int_equal(t.nodes[1].n_cpus, 8);
    assert_int_equal(topology_default_threads(&t), 31);
    topology_free(&t);

    tree_make("granite-2s-snc3");   /* 43, 43, 42: the first of the largest */
    tree_allow("43-255", "0-5");
    assert_int_equal(topology_read(&t, tree_root), 0);
    assert_int_equal(t.n_nodes, 5);
    topology_reserve_cores(&t, &r);
    assert_int_equal(r.n_cpus, 2);          /* second threads are not ours */
    assert_int_equal(r.cpus[0], 43);
    assert_int_equal(r.cpus[1], 44);
    assert_int_equal(t.nodes[0].n_cpus, 41);
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

/* Copies take equal parts of the nodes, in order; the CPU quota and what is free are then those of the part. */
static void test_parts(void **state)
{
    (void)state;
    for (size_t part = 0; part < 2; part++) {
        struct topology t = { .n_nodes = 4, .cpu_quota = 6 };

        for (size_t i = 0; i < t.n_nodes; i++) {
            t.nodes[i] = (struct topology_node){ .os_node = 10 + (int)i, .free_bytes = 100 << i };
            for (size_t j = 0; j < t.n_nodes; j++)
                t.distance[i][j] = (int)(10 * i + j);
        }
        assert_int_equal(topology_free_bytes(&t), 1500);
        assert_int_equal(topology_keep_part(&t, part, 2), 0);
        assert_int_equal(t.n_nodes, 2);
        assert_int_equal(t.nodes[0].os_node, part ? 12 : 10);
        assert_int_equal(t.nodes[1].os_node, part ? 13 : 11);
        assert_int_equal(t.distance[1][0], part ? 32 : 10);
        assert_true(t.cpu_quota == 3);
        assert_int_equal(topology_free_bytes(&t), part ? 1200 : 300);
        topology_free(&t);
    }
}

static void test_unequal_parts(void **state)
{
    (void)state;
    static const size_t wrong[][2] = { { 0, 3 }, { 0, 0 }, { 2, 2 }, { 0, 8 } };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct topology t = { .n_nodes = 4 };

        assert_int_equal(topology_keep_part(&t, wrong[i][0], wrong[i][1]), -EINVAL);
        assert_int_equal(t.n_nodes, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_unequal_parts),
        WITH_TREE(test_one_socket),
        WITH_TREE(test_two_sockets_list_one_thread_a_core),
        WITH_TREE(test_thread_siblings_of_old_kernels),
        WITH_TREE(test_affinity_decides),
        WITH_TREE(test_four_sockets),
        WITH_TREE(test_sub_numa_clusters),
        WITH_TREE(test_nodes_of_memory_alone_are_listed_apart),
        WITH_TREE(test_cores_without_memory_work_for_the_nearest_node),
        WITH_TREE(test_cpuset_memory),
        WITH_TREE(test_unequal_cores),
        WITH_TREE(test_gaps_and_offline_cpus),
        WITH_TREE(test_many_nodes),
        WITH_TREE(test_more_nodes_than_we_hold),
        WITH_TREE(test_kernel_without_numa),
        WITH_TREE(test_broken_trees),
        WITH_TREE(test_select),
        WITH_TREE(test_virtual_nodes),
        WITH_TREE(test_available_bytes),
        WITH_TREE(test_huge_pages_count_as_free),
        WITH_TREE(test_whole_servers),
        WITH_TREE(test_container_of_one_core),
        WITH_TREE(test_node_over_two_sockets),
        WITH_TREE(test_without_caches_and_sockets),
        WITH_TREE(test_quota_of_cpu_time),
        WITH_TREE(test_reserved_cores),
        WITH_TREE(test_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
