/*
 * sysfs_internal.h - the kernel's small text files below sys and proc: id lists, numbers behind a key, a node's memory.
 *
 * Paths are made from a format, so that the root a test chose can stand in front. A missing file is -ENOENT without a log
 * line (the caller knows whether it is optional); one that cannot be understood is logged here, with its path.
 */
#ifndef FOURWAY_NUMA_SYSFS_INTERNAL_H
#define FOURWAY_NUMA_SYSFS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest x86 kernels (MAXSMP) count 8192 CPUs and 1024 nodes. */
enum { SYSFS_MAX_IDS = 8192, SYSFS_TEXT_BYTES = 32 << 10, SYSFS_PATH_BYTES = 1024 };

/* A set of CPU or node numbers; the same bits as a cpu_set_t or a node mask of that size. */
struct id_set {
    uint64_t word[SYSFS_MAX_IDS / 64];
};

static inline bool id_set_has(const struct id_set *s, int id)
{
    return s->word[id / 64] >> (id % 64) & 1;
}

static inline void id_set_add(struct id_set *s, int id)
{
    s->word[id / 64] |= UINT64_C(1) << (id % 64);
}

static inline void id_set_and(struct id_set *s, const struct id_set *other)
{
    for (size_t i = 0; i < SYSFS_MAX_IDS / 64; i++)
        s->word[i] &= other->word[i];
}

static inline void id_set_or(struct id_set *s, const struct id_set *other)
{
    for (size_t i = 0; i < SYSFS_MAX_IDS / 64; i++)
        s->word[i] |= other->word[i];
}

size_t id_set_count(const struct id_set *s);
int id_set_next(const struct id_set *s, int from);      /* the first member >= from, or -1 */

/* "0-3,8,10-11", spaces around it, or nothing. -EINVAL when it is something else; not logged. */
int sysfs_parse_list(struct id_set *s, const char *text);

/* The whole file as one string of at most SYSFS_TEXT_BYTES - 1 bytes, else -EFBIG. */
int sysfs_read_text(char text[SYSFS_TEXT_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));
int sysfs_read_list(struct id_set *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The number after the word `key` ("MemTotal:", "inactive_file"), which begins a line or follows a space. */
bool sysfs_find_number(const char *text, const char *key, uint64_t *value);

/*
 * A node's memory, and how much of it an arena can still get: what is free or holds page cache (a file just copied here fills
 * memory with it, and the kernel drops it for us), or the free pages of a pool of huge ones, whichever is more: an arena takes one kind.
 * Where only one node has memory, /proc/meminfo says it better: it knows watermarks and what a balloon gave back.
 */
int sysfs_read_node_memory(const char *root, int os_node, uint64_t *total_bytes, uint64_t *free_bytes);
uint64_t sysfs_free_huge_bytes(const char *root, int os_node, unsigned page_shift);     /* of pages of 2^21 or 2^30 bytes */

#endif
