/*
 * check_place.c - place.h on this machine's nodes, with a kernel that refuses, and the dealing of units.
 *
 * mbind and move_pages are wrapped by the linker (see CMakeLists.txt), so that a container's refusal can be had anywhere; so are
 * mmap and the reading of the pools, for pools of huge pages that this machine has not.
 */
#include <errno.h>
#include <numaif.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "numa/place.h"
#include "numa/sysfs_internal.h"

enum { MIB = 1 << 20 };

static int mbind_errno, move_pages_errno; /* 0: ask the kernel */

long __real_mbind(void *, unsigned long, int, const unsigned long *, unsigned long, unsigned);
long __wrap_mbind(void *, unsigned long, int, const unsigned long *, unsigned long, unsigned);
long __real_move_pages(int, unsigned long, void **, const int *, int *, int);
long __wrap_move_pages(int, unsigned long, void **, const int *, int *, int);

long __wrap_mbind(void *start, unsigned long len, int mode, const unsigned long *mask, unsigned long bits, unsigned flags)
{
    errno = mbind_errno;
    return mbind_errno ? -1 : __real_mbind(start, len, mode, mask, bits, flags);
}

long __wrap_move_pages(int pid, unsigned long n, void **pages, const int *nodes, int *status, int flags)
{
    errno = move_pages_errno;
    return move_pages_errno ? -1 : __real_move_pages(pid, n, pages, nodes, status, flags);
}

/* Free bytes of the pools of 2 MiB and 1 GiB pages; -1: ask the kernel. Pages of a pretended pool are ordinary ones. */
static int64_t pool_bytes[2] = { -1, -1 };
static int pool_mapped; /* log2 of the pages that were asked for last; 0: none */
static bool no_room;    /* as ulimit -v leaves it */

uint64_t __real_sysfs_free_huge_bytes(const char *root, int os_node, unsigned page_shift);
uint64_t __wrap_sysfs_free_huge_bytes(const char *root, int os_node, unsigned page_shift);
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset);

uint64_t __wrap_sysfs_free_huge_bytes(const char *root, int os_node, unsigned page_shift)
{
    const int64_t pretended = pool_bytes[page_shift == 30];
    return pretended < 0 ? __real_sysfs_free_huge_bytes(root, os_node, page_shift) : (uint64_t)pretended;
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset)
{
    const bool from_pool = flags & MAP_HUGETLB;

    if (no_room) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    pool_mapped = from_pool ? flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK : 0;
    if (from_pool && pool_bytes[pool_mapped == 30] >= 0)
        flags &= ~(MAP_HUGETLB | MAP_HUGE_MASK << MAP_HUGE_SHIFT);
    return __real_mmap(at, bytes, protection, flags, file, offset);
}

static struct topology topology;
static int n_logged;
static char logged[512]; /* the last message */

static void keep_message(void *arg, enum log_level level, const char *message)
{
    (void)arg;
    (void)level;
    n_logged++;
    snprintf(logged, sizeof(logged), "%s", message);
}

static int read_machine(void **state)
{
    (void)state;
    mbind_errno = move_pages_errno = 0;
    pool_bytes[0] = pool_bytes[1] = -1;
    n_logged = 0;
    log_set_sink(keep_message, NULL);
    return topology_read(&topology, "");
}

static int free_machine(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    topology_free(&topology);
    return 0;
}

/* Some sandboxes refuse mbind: then first touch places, and only the node of this thread can be promised. */
static bool may_bind(void)
{
    struct place_arena a;

    assert_int_equal(place_arena_create(&a, &topology, 0, 1, PAGES_AUTO), 0);
    const bool bound = a.bound;
    place_arena_free(&a);
    if (!bound)
        print_message("mbind is not allowed here: placement is not checked\n");
    return bound;
}

static void test_every_page_on_its_node(void **state)
{
    (void)state;
    const bool bound = may_bind();
    for (size_t node = 0; node < topology.n_nodes; node++) {
        struct place_arena a;
        struct place_report r;

        assert_int_equal(place_arena_create(&a, &topology, node, 9 * MIB, PAGES_AUTO), 0);
        assert_int_equal(a.bytes, 10 * MIB);
        assert_int_equal((uintptr_t)a.base % (2 * MIB), 0);
        assert_int_equal(a.os_node, topology.nodes[node].os_node);
        assert_int_equal(place_verify(&a, true, &r), 0);
        assert_int_equal(r.pages, 10 * MIB / 4096);
        assert_int_equal(r.bytes, 10 * MIB);
        if (!a.is_explicit) {
            assert_int_equal(r.untouched, r.pages);
            assert_int_equal(r.huge_bytes, 0);
        }
        memset(a.base, 1, 4 * MIB);
        if (!a.is_explicit) {
            assert_int_equal(place_verify(&a, true, &r), 0);
            assert_int_equal(r.untouched, 6 * MIB / 4096);
        }
        memset(a.base, 1, a.bytes);
        assert_int_equal(place_verify(&a, true, &r), 0);
        assert_int_equal(r.untouched, 0);
        assert_true(r.huge_bytes <= r.bytes && r.huge_bytes % (2 * MIB) == 0);
        if (bound)
            assert_int_equal(r.on_node, r.pages);
        assert_int_equal(place_verify(&a, false, &r), 0);
        assert_int_equal(r.pages, 5);
        if (bound)
            assert_int_equal(r.on_node, 5);
        place_arena_free(&a);
        assert_null(a.base);
        place_arena_free(&a);
    }
}

/* Arenas of one node must not be counted for one another, however the kernel puts them. */
static void test_neighbours_are_told_apart(void **state)
{
    struct place_arena a[4];
    struct place_report r;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(place_arena_create(&a[i], &topology, 0, 4 * MIB, PAGES_AUTO), 0);
    for (size_t i = 0; i < 4; i++)
        memset(a[i].base, 1, i % 2 ? 2 * MIB : 4 * MIB);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(place_verify(&a[i], true, &r), 0);
        assert_true(r.huge_bytes <= (i % 2 && !a[i].is_explicit ? 2 * MIB : 4 * MIB));
        move_pages_errno = EPERM;
        assert_int_equal(place_verify(&a[i], true, &r), 0);
        move_pages_errno = 0;
        assert_int_equal(r.pages, 1024);
        assert_int_equal(r.untouched, i % 2 && !a[i].is_explicit ? 512 : 0);
    }
    for (size_t i = 0; i < 4; i++)
        place_arena_free(&a[i]);
}

static void test_take(void **state)
{
    struct place_arena a, none = { 0 };

    (void)state;
    assert_int_equal(place_arena_create(&a, &topology, 0, 4096, PAGES_AUTO), 0);
    char *first = place_take(&a, 1), *second = place_take(&a, 65), *third = place_take(&a, 2 * MIB - 192);
    assert_ptr_equal(first, a.base);
    assert_int_equal(second - first, 64);
    assert_int_equal(third - second, 128);
    assert_int_equal(a.used, a.bytes);
    memset(third, 0xff, 2 * MIB - 192);
    place_arena_free(&a);
    place_arena_free(&none);
    assert_int_equal(place_arena_create(&a, &topology, 0, 0, PAGES_AUTO), 0);
    assert_null(a.base);
    place_arena_free(&a);
}

static void test_too_much(void **state)
{
    static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 2 * MIB, SIZE_MAX / 2, (size_t)1 << 46 };
    struct place_arena a;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(place_arena_create(&a, &topology, 0, sizes[i], PAGES_AUTO), -ENOMEM);
        assert_null(a.base);
        assert_int_equal(n_logged, i + 1);
        assert_non_null(strstr(logged, "GB are free"));
    }
}

/* Memory is free, but the process may not have it: that is not called a lack of memory. */
static void test_limit_on_address_space(void **state)
{
    struct place_arena a;

    (void)state;
    no_room = true;
    const int err = place_arena_create(&a, &topology, 0, 1, PAGES_AUTO);
    no_room = false;
    assert_int_equal(err, -ENOMEM);
    assert_null(a.base);
    assert_int_equal(n_logged, 1);
    assert_non_null(strstr(logged, "ulimit -v"));
    assert_null(strstr(logged, "no memory"));
}

static void test_virtual_nodes_are_not_bound(void **state)
{
    (void)state;
    assert_int_equal(topology_make_virtual(&topology, 5), 0);
    mbind_errno = EIO; /* nobody may ask */
    for (size_t node = 0; node < 5; node++) {
        struct place_arena a;
        struct place_report r;

        assert_int_equal(place_arena_create(&a, &topology, node, 2 * MIB, PAGES_AUTO), 0);
        assert_false(a.bound);
        memset(a.base, 1, a.bytes);
        assert_int_equal(place_verify(&a, true, &r), 0);
        assert_int_equal(r.pages, 512);
        assert_int_equal(r.untouched, 0);
        place_arena_free(&a);
    }
    assert_int_equal(n_logged, 0);
}

/* The container's refusal: one warning, then first touch, verified by numa_maps. */
static void test_refused(void **state)
{
    (void)state;
    mbind_errno = move_pages_errno = EPERM;
    for (int i = 0; i < 3; i++) {
        struct place_arena a;
        struct place_report r;

        assert_int_equal(place_arena_create(&a, &topology, 0, 6 * MIB, PAGES_AUTO), 0);
        assert_false(a.bound);
        memset(a.base, 1, 4 * MIB);
        assert_int_equal(place_verify(&a, true, &r), 0);
        assert_int_equal(r.pages, 1536);
        assert_int_equal(r.untouched, 512);
        if (topology.n_nodes == 1)
            assert_int_equal(r.on_node, 1024);
        place_arena_free(&a);
    }
    assert_int_equal(n_logged, 1);
    assert_non_null(strstr(logged, "SYS_NICE"));
}

enum { GIB = 1 << 30 };

/* The largest pages whose pool holds all of the arena, and gigantic ones not for less than one of them. */
static void test_pools(void **state)
{
    static const struct { size_t bytes, rounded; int64_t of_2m, of_1g; int shift; } cases[] = {
        { 3 * MIB, 4 * MIB, 4 * MIB, 0, 21 },
        { 3 * MIB, 4 * MIB, 4 * MIB, GIB, 21 },
        { 3 * MIB, 4 * MIB, 2 * MIB, GIB, 0 },
        { GIB, GIB, GIB, GIB, 30 },
        { GIB, GIB, GIB, GIB / 2, 21 },
        { GIB, GIB, GIB - 1, 0, 0 },
    };
    struct place_arena a;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (cases[i].bytes > topology.nodes[0].free_bytes / 2)      /* an emulated node: pretended pools take ordinary memory */
            continue;
        pool_bytes[0] = cases[i].of_2m;
        pool_bytes[1] = cases[i].of_1g;
        assert_int_equal(place_arena_create(&a, &topology, 0, cases[i].bytes, PAGES_AUTO), 0);
        assert_int_equal(a.is_explicit ? pool_mapped : 0, cases[i].shift);
        assert_int_equal(a.bytes, cases[i].rounded);
        memset(a.base, 1, 2 * MIB);
        place_arena_free(&a);
        assert_int_equal(place_arena_create(&a, &topology, 0, cases[i].bytes, PAGES_TRANSPARENT), 0);
        assert_false(a.is_explicit);
        place_arena_free(&a);
        assert_int_equal(place_arena_create(&a, &topology, 0, cases[i].bytes, PAGES_EXPLICIT), cases[i].shift ? 0 : -ENOMEM);
        place_arena_free(&a);
    }
    assert_non_null(strstr(logged, "nr_hugepages"));
}

static void test_small_pages_stay_small(void **state)
{
    struct place_arena a;
    struct place_report r;

    (void)state;
    pool_bytes[0] = GIB;
    assert_int_equal(place_arena_create(&a, &topology, 0, 8 * MIB, PAGES_SMALL), 0);
    memset(a.base, 1, a.bytes);
    assert_int_equal(place_verify(&a, true, &r), 0);
    assert_int_equal(r.untouched, 0);
    assert_int_equal(r.huge_bytes, 0);
    place_arena_free(&a);
}

static void check_deal(size_t n, size_t n_parts, const double *weights)
{
    size_t start[65], again[65];
    double total = 0;

    place_deal(n, n_parts, weights, start);
    place_deal(n, n_parts, weights, again);
    assert_memory_equal(start, again, (n_parts + 1) * sizeof(start[0]));
    assert_int_equal(start[0], 0);
    assert_int_equal(start[n_parts], n);
    for (size_t i = 0; i < n_parts; i++)
        total += weights[i];
    for (size_t i = 0; i < n_parts; i++) {
        assert_true(start[i] <= start[i + 1]);
        const double count = (double)(start[i + 1] - start[i]), fair = (double)n * weights[i] / total;

        assert_true(weights[i] > 0 || count == 0);
        assert_true(count > fair - 1.000001 && count < fair + 1.000001);
        for (size_t j = 0; j < n_parts; j++)
            assert_true(weights[j] <= weights[i] || start[j + 1] - start[j] >= start[i + 1] - start[i]);
    }
}

static void test_deal(void **state)
{
    size_t start[5];
    unsigned seed = 1;

    (void)state;
    place_deal(90, 4, (const double[]){ 1, 1, 1, 1 }, start);
    assert_memory_equal(start, ((size_t[]){ 0, 23, 46, 68, 90 }), sizeof(start));
    place_deal(9, 4, (const double[]){ 1, 1, 1, 1 }, start);
    assert_memory_equal(start, ((size_t[]){ 0, 3, 5, 7, 9 }), sizeof(start));
    place_deal(2, 4, (const double[]){ 0, 1, 5, 1 }, start);
    assert_memory_equal(start, ((size_t[]){ 0, 0, 0, 2, 2 }), sizeof(start));
    place_deal(0, 4, (const double[]){ 3, 1, 1, 1 }, start);
    assert_memory_equal(start, ((size_t[]){ 0, 0, 0, 0, 0 }), sizeof(start));
    place_deal(128, 3, (const double[]){ 43, 43, 42 }, start);
    assert_memory_equal(start, ((size_t[]){ 0, 43, 86, 128 }), 4 * sizeof(start[0]));
    for (int round = 0; round < 20000; round++) {
        double weights[64];
        const size_t n_parts = 1 + (size_t)rand_r(&seed) % (round % 10 ? 8 : 64);
        const int range = round % 3 ? 4 : 100000;

        for (size_t i = 0; i < n_parts; i++)
            weights[i] = (rand_r(&seed) % range) / (round % 2 ? 1.0 : 7.3);
        weights[(size_t)rand_r(&seed) % n_parts] += 0.3;
        check_deal((size_t)rand_r(&seed) % (round % 5 ? 200 : 2000000), n_parts, weights);
    }
}

#define ON_MACHINE(test) cmocka_unit_test_setup_teardown(test, read_machine, free_machine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_MACHINE(test_refused), /* first: the warning comes once a process, also where the kernel really refuses */
        ON_MACHINE(test_every_page_on_its_node),
        ON_MACHINE(test_neighbours_are_told_apart),
        ON_MACHINE(test_take),
        ON_MACHINE(test_too_much),
        ON_MACHINE(test_limit_on_address_space),
        ON_MACHINE(test_virtual_nodes_are_not_bound),
        ON_MACHINE(test_pools),
        ON_MACHINE(test_small_pages_stay_small),
        cmocka_unit_test(test_deal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
