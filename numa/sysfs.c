/*
 * sysfs.c - the kernel's small text files, read whole and parsed strictly.
 *
 * libnuma parses such lists too, but only within the limits of the machine it runs on: recorded trees of larger machines need
 * a parser of their own.
 */
#include "numa/sysfs_internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

size_t id_set_count(const struct id_set *s)
{
    size_t n = 0;
    for (size_t i = 0; i < SYSFS_MAX_IDS / 64; i++)
        n += (size_t)__builtin_popcountll(s->word[i]);
    return n;
}

int id_set_next(const struct id_set *s, int from)
{
    for (int id = from; id < SYSFS_MAX_IDS; id++) {
        if (id_set_has(s, id))
            return id;
    }
    return -1;
}

/* A decimal number below SYSFS_MAX_IDS at *text, which moves behind it; -1 when there is none. */
static int take_id(const char **text)
{
    int id = 0;

    if (!isdigit((unsigned char)**text))
        return -1;
    for (; isdigit((unsigned char)**text); (*text)++) {
        id = id * 10 + (**text - '0');
        if (id >= SYSFS_MAX_IDS)
            return -1;
    }
    return id;
}

int sysfs_parse_list(struct id_set *s, const char *text)
{
    *s = (struct id_set){ 0 };
    text += strspn(text, " \t\n");
    while (*text) {
        int first = take_id(&text), last = first;

        if (first >= 0 && *text == '-') {
            text++;
            last = take_id(&text);
        }
        if (first < 0 || last < first)
            return -EINVAL;
        for (int id = first; id <= last; id++)
            id_set_add(s, id);
        if (*text == ',' && isdigit((unsigned char)text[1]))
            text++;
        else if (text[strspn(text, " \t\n")])
            return -EINVAL;
        else
            break;
    }
    return 0;
}

static int read_path(char text[SYSFS_TEXT_BYTES], const char *path)
{
    size_t n = 0;
    ssize_t got = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOTDIR ? -ENOENT : -errno;
    while (got > 0 && n < SYSFS_TEXT_BYTES) {
        got = read(fd, text + n, SYSFS_TEXT_BYTES - n);
        if (got > 0)
            n += (size_t)got;
    }
    int err = got < 0 ? -errno : n == SYSFS_TEXT_BYTES ? -EFBIG : 0;
    close(fd);
    if (!err)
        text[n] = '\0';
    return err;
}

static int format_path(char path[SYSFS_PATH_BYTES], const char *format, va_list args)
{
    int n = vsnprintf(path, SYSFS_PATH_BYTES, format, args);
    return n < 0 || n >= SYSFS_PATH_BYTES ? -ENAMETOOLONG : 0;
}

int sysfs_read_text(char text[SYSFS_TEXT_BYTES], const char *format, ...)
{
    char path[SYSFS_PATH_BYTES];
    va_list args;

    va_start(args, format);
    int err = format_path(path, format, args);
    va_end(args);
    return err ? err : read_path(text, path);
}

int sysfs_read_list(struct id_set *s, const char *format, ...)
{
    char path[SYSFS_PATH_BYTES], text[SYSFS_TEXT_BYTES];
    va_list args;

    *s = (struct id_set){ 0 };
    va_start(args, format);
    int err = format_path(path, format, args);
    va_end(args);
    if (!err)
        err = read_path(text, path);
    if (err)
        return err;
    err = sysfs_parse_list(s, text);
    if (err)
        log_error("%s: not a list of numbers below %d: %.40s", path, SYSFS_MAX_IDS, text);
    return err;
}

bool sysfs_find_number(const char *text, const char *key, uint64_t *value)
{
    size_t n = strlen(key);

    for (const char *at = strstr(text, key); at; at = strstr(at + 1, key)) {
        const char *digits = at + n + strspn(at + n, " \t");

        if ((at == text || at[-1] == ' ' || at[-1] == '\n') && digits > at + n && isdigit((unsigned char)*digits)) {
            errno = 0;
            *value = strtoull(digits, NULL, 10);
            return errno == 0;
        }
    }
    return false;
}

uint64_t sysfs_free_huge_bytes(const char *root, int os_node, unsigned page_shift)
{
    char text[SYSFS_TEXT_BYTES];

    if (sysfs_read_text(text, "%s/sys/devices/system/node/node%d/hugepages/hugepages-%lukB/free_hugepages", root, os_node,
                        1ul << (page_shift - 10)))
        return 0;
    return (uint64_t)strtoul(text, NULL, 10) << page_shift;
}

int sysfs_read_node_memory(const char *root, int os_node, uint64_t *total_bytes, uint64_t *free_bytes)
{
    static const char *const reclaimable[] = { "MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:" };
    char text[SYSFS_TEXT_BYTES];
    struct id_set with_memory;
    uint64_t kib = 0;

    *total_bytes = *free_bytes = 0;
    int err = sysfs_read_text(text, "%s/sys/devices/system/node/node%d/meminfo", root, os_node);
    if (err)
        return err;
    if (sysfs_find_number(text, "MemTotal:", &kib))
        *total_bytes = kib * 1024;
    for (size_t i = 0; i < sizeof(reclaimable) / sizeof(reclaimable[0]); i++) {
        if (sysfs_find_number(text, reclaimable[i], &kib))
            *free_bytes += kib * 1024;
    }
    if (!sysfs_read_list(&with_memory, "%s/sys/devices/system/node/has_memory", root) && id_set_count(&with_memory) == 1 &&
        id_set_has(&with_memory, os_node) && !sysfs_read_text(text, "%s/proc/meminfo", root)) {
        if (sysfs_find_number(text, "MemAvailable:", &kib))
            *free_bytes = kib * 1024;
        if (sysfs_find_number(text, "MemTotal:", &kib))
            *total_bytes = kib * 1024;
    }
    for (unsigned shift = 21; shift <= 30; shift += 9) {
        const uint64_t huge = sysfs_free_huge_bytes(root, os_node, shift);
        *free_bytes = huge > *free_bytes ? huge : *free_bytes;
    }
    return 0;
}
