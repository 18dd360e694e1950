/*
 * place.c - memory on a chosen node, and the proof that it lies there.
 *
 * The order matters: reserve, choose the page size, bind, and only then touch. Pages touched before mbind would have to be
 * moved, and a thread's own policy (set_mempolicy) would not cover what a library allocates later.
 */
#include "numa/place.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <numaif.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/checked.h"
#include "common/log.h"
#include "numa/sysfs_internal.h"

enum {
    HUGE_BYTES = 2 << 20,
    GIGANTIC_BYTES = 1 << 30,
    PAGE_BYTES = 4096,
    MASK_BITS = 1024, /* the most nodes a kernel can be built for */
    TAKE_BYTES = 64, /* a cache line, and the widest vector */
    VERIFY_BATCH = 1024, /* pages asked about in one move_pages call */
};

int place_bind(void *base, size_t bytes, int os_node)
{
    unsigned long mask[MASK_BITS / (8 * sizeof(unsigned long))] = { 0 };

    if (os_node < 0 || os_node >= MASK_BITS)
        return -EINVAL;
    mask[(size_t)os_node / (8 * sizeof(*mask))] = 1ul << ((size_t)os_node % (8 * sizeof(*mask)));
    /* one more than there are: the kernel takes the last bit off */
    return mbind(base, bytes, MPOL_BIND, mask, MASK_BITS + 1, 0) ? -errno : 0;
}

/*
 * Address space for the arena at a 2 MiB boundary, between two pages that stay inaccessible. Without them the kernel would join
 * neighbouring arenas of one policy into one mapping, and smaps could not tell whose huge pages it counts.
 */
static void *reserve(size_t bytes)
{
    const size_t whole = bytes + HUGE_BYTES + 2 * PAGE_BYTES;
    char *start = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED)
        return NULL;
    char *base = (char *)(((uintptr_t)start + PAGE_BYTES + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
    char *end = base + bytes + PAGE_BYTES;
    if (base - PAGE_BYTES > start)
        munmap(start, (size_t)(base - PAGE_BYTES - start));
    if (start + whole > end)
        munmap(end, (size_t)(start + whole - end));
    return base;
}

/*
 * Explicit huge pages, aligned by the kernel and never joined with a neighbour. They are taken here and not by the workers' first
 * touch: if the pool runs short in between (another arena or process), that is an error now instead of SIGBUS then.
 */
static bool map_explicit(struct place_arena *a, size_t bytes, unsigned page_shift, bool bind)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (int)(page_shift << MAP_HUGE_SHIFT);
    uint64_t rounded;

    if (!checked_align(bytes, (uint64_t)1 << page_shift, &rounded) || sysfs_free_huge_bytes("", a->os_node, page_shift) < rounded)
        return false;
    void *base = mmap(NULL, rounded, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (base == MAP_FAILED)
        return false;
    if ((bind && place_bind(base, rounded, a->os_node)) || madvise(base, rounded, MADV_POPULATE_WRITE)) {
        munmap(base, rounded);
        return false;
    }
    a->base = base;
    a->bytes = rounded;
    a->bound = bind;
    a->is_explicit = true;
    return true;
}

/* Ordinary pages that the kernel may make huge, or must not. */
static int map_advised(struct place_arena *a, bool huge, bool bind)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;

    a->base = reserve(a->bytes);
    if (!a->base || mprotect(a->base, a->bytes, PROT_READ | PROT_WRITE))
        return -ENOMEM;
    madvise(a->base, a->bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* fails on a kernel without: then the pages stay small */
    if (!bind)
        return 0;
    int err = place_bind(a->base, a->bytes, a->os_node);
    a->bound = !err;
    if (err && err != -ENOSYS && !atomic_flag_test_and_set(&warned)) {
        log_warn("memory cannot be bound to node %d: %s; its workers' first touch has to place it%s", a->os_node, strerror(-err),
                 err == -EPERM ? " (containers: add --cap-add SYS_NICE)" : "");
    }
    return 0;
}

int place_arena_create(struct place_arena *a, const struct topology *t, size_t node, size_t bytes, enum place_pages pages)
{
    const bool bind = !t->is_virtual, from_pool = pages == PAGES_AUTO || pages == PAGES_EXPLICIT;
    uint64_t rounded, total, node_free, available = topology_available_bytes("");

    assert(node < t->n_nodes + t->n_memory_nodes);
    *a = (struct place_arena){ .os_node = node < t->n_nodes ? t->nodes[node].os_node : t->memory_nodes[node - t->n_nodes].os_node };
    if (!bytes)
        return 0;
    if (from_pool && ((bytes >= GIGANTIC_BYTES && map_explicit(a, bytes, 30, bind)) || map_explicit(a, bytes, 21, bind)))
        return 0;
    if (pages == PAGES_EXPLICIT) {
        log_error("node %d: no pool with %.2f GB of free huge pages. Reserve them: echo %zu > /sys/devices/system/node/node%d/hugepages/"
                  "hugepages-2048kB/nr_hugepages", a->os_node, (double)bytes / 1e9, bytes / HUGE_BYTES + 1, a->os_node);
        return -ENOMEM;
    }
    /* A bound arena that does not fit is killed, not refused: look first. */
    int err = -ENOMEM;
    if (bind && !sysfs_read_node_memory("", a->os_node, &total, &node_free) && node_free < available)
        available = node_free;
    if (!checked_align(bytes, HUGE_BYTES, &rounded) || rounded > available) {
        log_error("node %d: no memory for %.2f GB, %.2f GB are free", a->os_node, (double)bytes / 1e9, (double)available / 1e9);
    } else {
        a->bytes = rounded;
        err = map_advised(a, pages != PAGES_SMALL, bind);
        if (err)
            log_error("node %d: the kernel gives this process no room for %.2f GB (see ulimit -v and vm.overcommit_memory), though %.2f GB "
                      "are free", a->os_node, (double)bytes / 1e9, (double)available / 1e9);
    }
    if (err)
        place_arena_free(a);
    return err;
}

void place_arena_free(struct place_arena *a)
{
    const size_t guard = a->is_explicit ? 0 : PAGE_BYTES;

    if (a->base)
        munmap((char *)a->base - guard, a->bytes + 2 * guard);
    *a = (struct place_arena){ .os_node = a->os_node };
}

void *place_take(struct place_arena *a, size_t bytes)
{
    uint64_t end, rounded;
    const bool fits = checked_align(bytes, TAKE_BYTES, &rounded) && checked_add(a->used, rounded, &end) && end <= a->bytes;

    assert(a->base && fits);
    if (!fits)
        abort(); /* also with NDEBUG: a wrong sum of sizes must not become an overrun */
    void *at = (char *)a->base + a->used;
    a->used = end;
    return at;
}

/* Pages in 4 KiB by node, from numa_maps, which needs no privilege: for containers that refuse move_pages. */
static int count_by_numa_maps(const struct place_arena *a, struct place_report *r)
{
    FILE *f = fopen("/proc/self/numa_maps", "re");
    char *line = NULL;
    size_t size = 0, touched = 0;
    int err = f ? -ENOENT : -errno;

    while (f && err && getline(&line, &size, f) > 0) {
        const char *field = strstr(line, " kernelpagesize_kB=");
        const size_t unit = field ? strtoul(strchr(field, '=') + 1, NULL, 10) / 4 : 1;

        if (strtoull(line, NULL, 16) != (uintptr_t)a->base)
            continue;
        err = 0;
        for (field = strstr(line, " N"); field; field = strstr(field + 1, " N")) {
            char *end;
            const long node = strtol(field + 2, &end, 10);
            const size_t n = *end == '=' ? strtoul(end + 1, NULL, 10) * unit : 0;

            touched += n;
            r->on_node += node == a->os_node ? n : 0;
        }
        r->pages = a->bytes / PAGE_BYTES;
        r->untouched = r->pages - touched;
    }
    free(line);
    if (f)
        fclose(f);
    return err;
}

static int count_by_move_pages(const struct place_arena *a, size_t step, struct place_report *r)
{
    for (size_t at = 0; at < a->bytes;) {
        void *pages[VERIFY_BATCH];
        int status[VERIFY_BATCH];
        size_t n = 0;

        for (; n < VERIFY_BATCH && at < a->bytes; at += step)
            pages[n++] = (char *)a->base + at;
        if (move_pages(0, n, pages, NULL, status, 0))
            return -errno;
        for (size_t i = 0; i < n; i++) {
            r->on_node += status[i] == a->os_node;
            /* the shared zero page (read, never written) is -EFAULT */
            r->untouched += status[i] == -ENOENT || status[i] == -EFAULT;
        }
        r->pages += n;
    }
    return 0;
}

/* Bytes of the arena's mapping in huge pages, whichever kind. */
static int count_huge(const struct place_arena *a, size_t *huge_bytes)
{
    static const char *const keys[] = { "AnonHugePages:", "Private_Hugetlb:" };
    FILE *f = fopen("/proc/self/smaps", "re");
    char *line = NULL;
    size_t size = 0;
    bool ours = false;

    if (!f)
        return -errno;
    while (getline(&line, &size, f) > 0) {
        uintptr_t start, end;
        uint64_t kib;

        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
            ours = start >= (uintptr_t)a->base && end <= (uintptr_t)a->base + a->bytes;
        for (size_t i = 0; ours && i < sizeof(keys) / sizeof(keys[0]); i++) {
            if (sysfs_find_number(line, keys[i], &kib))
                *huge_bytes += kib * 1024;
        }
    }
    free(line);
    fclose(f);
    return 0;
}

int place_verify(const struct place_arena *a, bool every_page, struct place_report *r)
{
    *r = (struct place_report){ .bytes = a->bytes };
    if (!a->base)
        return 0;
    int err = count_by_move_pages(a, every_page ? PAGE_BYTES : HUGE_BYTES, r);
    if (err == -EPERM || err == -ENOSYS) {
        *r = (struct place_report){ .bytes = a->bytes };
        err = count_by_numa_maps(a, r);
    }
    if (!err)
        err = count_huge(a, &r->huge_bytes);
    if (err)
        log_warn("cannot verify where the memory of node %d lies: %s", a->os_node, strerror(-err));
    return err;
}

/*
 * Largest remainder: every part gets its exact share rounded down, and the units left over go to the largest fractions (ties: the
 * first part). So no part is more than one unit off, and a part never gets fewer than one of smaller weight; rounding the
 * running sum would keep only the first promise.
 */
void place_deal(size_t n, size_t n_parts, const double *weights, size_t *start)
{
    double total = 0;
    size_t left = n;

    for (size_t i = 0; i < n_parts; i++) {
        assert(weights[i] >= 0);
        total += weights[i];
    }
    assert(total > 0);
    for (size_t i = 0; i < n_parts; i++) { /* start[i + 1] holds the count of part i until the sums are made */
        start[i + 1] = (size_t)((double)n * weights[i] / total);
        left -= start[i + 1];
    }
    for (; left; left--) {
        size_t best = n_parts;
        double most = -1;

        for (size_t i = 0; i < n_parts; i++) {
            const double lacks = (double)n * weights[i] / total - (double)start[i + 1];

            if (weights[i] > 0 && lacks > most) {
                most = lacks;
                best = i;
            }
        }
        start[best + 1]++;
    }
    start[0] = 0;
    for (size_t i = 0; i < n_parts; i++)
        start[i + 1] += start[i];
}
