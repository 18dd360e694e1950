/*
 * gguf.c - opens a model of one or several GGUF files, finds its keys and tensors, and reads tensor data.
 *
 * The parts of a split model are named after the path that the user gave: no text of a file chooses which files are opened.
 */
#include "weights/gguf_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "weights/hf_folder.h"
#include "weights/tensor_source.h"

/* A FIFO or device would block or never end: regular files only. */
static int open_file(struct gguf_part *part, char *path)
{
    struct stat st;

    *part = (struct gguf_part){ .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) };
    if (part->fd < 0 || fstat(part->fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (!S_ISREG(st.st_mode)) {
        log_error("%s: not a regular file", path);
        return -EINVAL;
    }
    part->size = (uint64_t)st.st_size;
    return 0;
}

int gguf_add_file(struct gguf *g, char *path)
{
    struct gguf_part *parts = path ? realloc(g->parts, (g->n_parts + 1) * sizeof(*parts)) : NULL;
    size_t i = g->n_parts;
    int err;

    if (!parts) {
        free(path);
        return -ENOMEM;
    }
    g->parts = parts;
    g->n_parts++;
    err = open_file(&parts[i], path);
    if (err && err != -EINVAL)
        log_error("%s: cannot open: %s", path, strerror(-err));
    return err;
}

/* Open and index `path` (owned by g from here on) as the next part. */
static int add_part(struct gguf *g, char *path)
{
    int err = gguf_add_file(g, path);

    return err ? err : gguf_part_parse(g, g->n_parts - 1);
}

/* Log what is wrong with `key` of a part, or around it. */
__attribute__((format(printf, 3, 4)))
static int split_fail(const struct gguf_part *part, const char *key, const char *format, ...)
{
    const struct gguf_kv *kv = gguf_part_find(part, key);
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_error("%s: metadata at byte %" PRIu64 ": %s", part->path, kv ? kv->offset : 0, text);
    return -EINVAL;
}

static int split_number(const struct gguf_part *part, const char *key, uint64_t most, uint64_t *value)
{
    int err = gguf_part_get_u64(part, key, 0, most, value);

    return err == -ENOENT ? split_fail(part, key, "key \"%s\" is missing", key) : err;
}

static int same_architecture(const struct gguf *g, const struct gguf_part *part)
{
    const struct gguf_kv *ours = gguf_part_find(part, "general.architecture");
    const struct gguf_kv *first = gguf_part_find(&g->parts[0], "general.architecture");
    char a[GGUF_QUOTED], b[GGUF_QUOTED];

    if (!ours)                  /* usual: only the first part has metadata */
        return 0;
    if (!first || ours->type != GGUF_STRING || first->type != GGUF_STRING)
        return split_fail(part, "general.architecture", "key \"general.architecture\" is of no use here");
    if (ours->strings->len != first->strings->len || memcmp(ours->strings->data, first->strings->data, first->strings->len))
        return split_fail(part, "general.architecture", "general.architecture is %s, the first part has %s",
                          gguf_quote(*ours->strings, a), gguf_quote(*first->strings, b));
    return 0;
}

static int check_part(const struct gguf *g, size_t i, uint64_t count, uint64_t n_tensors)
{
    const struct gguf_part *part = &g->parts[i];
    uint64_t no = 0, its_count = 0, its_tensors = 0;
    int err = split_number(part, "split.no", UINT16_MAX, &no);

    if (!err)
        err = split_number(part, "split.count", UINT16_MAX, &its_count);
    if (!err)
        err = split_number(part, "split.tensors.count", GGUF_MAX_ENTRIES, &its_tensors);
    if (err)
        return err;
    if (no != i)
        return split_fail(part, "split.no", "split.no is %" PRIu64 ", expected %zu", no, i);
    if (its_count != count)
        return split_fail(part, "split.count", "split.count is %" PRIu64 ", the first part has %" PRIu64, its_count, count);
    if (its_tensors != n_tensors)
        return split_fail(part, "split.tensors.count", "split.tensors.count is %" PRIu64 ", the first part has %" PRIu64,
                          its_tensors, n_tensors);
    return same_architecture(g, part);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Part i (from 0): the first part's path with its number replaced. NULL: no memory. */
static char *part_path(const char *first, size_t suffix_at, size_t i, uint64_t count)
{
    char *path;

    if (asprintf(&path, "%.*s-%05zu-of-%05" PRIu64 ".gguf", (int)suffix_at, first, i + 1, count) < 0)
        return NULL;
    return path;
}

static int open_other_parts(struct gguf *g)
{
    uint64_t count = 0, no = 0, n_tensors = 0;
    char suffix[32];
    int err = gguf_part_get_u64(&g->parts[0], "split.count", 0, GGUF_MAX_PARTS, &count);

    if (err == -ENOENT || (!err && count <= 1))     /* 0: gguf-split --merge leaves it so */
        return 0;
    if (!err)
        err = split_number(&g->parts[0], "split.no", UINT16_MAX, &no);
    if (!err)
        err = split_number(&g->parts[0], "split.tensors.count", GGUF_MAX_ENTRIES, &n_tensors);
    if (err)
        return err;
    if (no != 0)
        return split_fail(&g->parts[0], "split.no", "this is part %" PRIu64 " of %" PRIu64
                          ": open the first part (-00001-of-%05" PRIu64 ".gguf)", no + 1, count, count);

    const char *first = g->parts[0].path;
    size_t length = strlen(first);
    size_t n_suffix = (size_t)snprintf(suffix, sizeof(suffix), "-00001-of-%05" PRIu64 ".gguf", count);
    if (length < n_suffix || strcmp(first + length - n_suffix, suffix))
        return split_fail(&g->parts[0], "split.count", "split.count is %" PRIu64 ", but the name of the file does not end in %s",
                          count, suffix);
    for (size_t i = 1; !err && i < count; i++) {
        char *path = part_path(first, length - n_suffix, i, count);
        if (path && access(path, F_OK) < 0 && errno == ENOENT) {
            split_fail(&g->parts[0], "split.count", "part %zu of %" PRIu64 " is missing: %s", i + 1, count, base_name(path));
            free(path);
            return -ENOENT;
        }
        err = add_part(g, path);
        if (!err)
            err = check_part(g, i, count, n_tensors);
    }
    if (!err && g->n_tensors != n_tensors)
        err = split_fail(&g->parts[0], "split.tensors.count", "split.tensors.count is %" PRIu64 ", the parts hold %zu", n_tensors,
                         g->n_tensors);
    return err;
}

int gguf_open(struct gguf **out, const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return hf_folder_open(out, path);
    struct gguf *g = calloc(1, sizeof(*g));
    int err = g ? add_part(g, strdup(path)) : -ENOMEM;

    if (!err)
        err = open_other_parts(g);
    if (err == -ENOMEM)
        log_error("%s: no memory for its index", path);
    if (err) {
        gguf_close(g);
        g = NULL;
    }
    *out = g;
    return err;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_parts; i++) {
        struct gguf_part *part = &g->parts[i];
        if (part->fd >= 0)
            close(part->fd);
        name_table_free(&part->keys);
        free(part->memory);
        free(part->path);
    }
    name_table_free(&g->names);
    gguf_free_chunks(g->chunks);
    free(g->tensors);
    free(g->parts);
    free(g);
}

const char *gguf_path(const struct gguf *g)
{
    return g->parts[0].path;
}

bool gguf_is_folder(const struct gguf *g)
{
    return g->folder;
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->parts[0].version;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < g->n_parts; i++)
        sum += g->parts[i].size;
    return sum;
}

uint64_t gguf_alignment(const struct gguf *g)
{
    return g->parts[0].alignment;
}

const char *gguf_part_path(const struct gguf *g, size_t i)
{
    return i < g->n_parts ? g->parts[i].path : NULL;
}

uint32_t gguf_n_parts(const struct gguf *g)
{
    return (uint32_t)(g->n_parts - g->folder);
}

size_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    assert(i < g->n_tensors);
    return &g->tensors[i];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    int64_t i = name_table_find(&g->names, gguf_names_of(g), (struct gguf_string){ name, strlen(name) });

    return i < 0 ? NULL : &g->tensors[i];
}

int gguf_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, void *dst, size_t n)
{
    const struct gguf_part *part = &g->parts[t->part];
    char quoted[GGUF_QUOTED];
    int err;

    if (from > t->bytes || n > t->bytes - from) {
        log_error("%s: tensor %s at byte %" PRIu64 ": read of %zu bytes at %" PRIu64 ", it has %" PRIu64, part->path,
                  gguf_quote(t->name, quoted), t->offset, n, from, t->bytes);
        return -EINVAL;
    }
    if (t->source)
        return tensor_source_read(g, t, from, dst, n);
    err = gguf_pread(part->fd, dst, n, t->offset + from);
    return err ? gguf_read_failed(g, t, t->part, t->offset + from, err) : 0;
}

int gguf_read_failed(const struct gguf *g, const struct gguf_tensor *t, uint32_t part, uint64_t at, int err)
{
    char quoted[GGUF_QUOTED];

    log_error("%s: tensor %s at byte %" PRIu64 ": %s", g->parts[part].path, gguf_quote(t->name, quoted), at,
              err == -EINVAL ? "the file was cut after it was opened" : strerror(-err));
    return err == -EINVAL ? -EIO : err;
}

void gguf_drop_cache(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, size_t n)
{
    if (t->source)
        tensor_source_drop_cache(g, t, from, n);
    else
        posix_fadvise(g->parts[t->part].fd, (off_t)(t->offset + from), (off_t)n, POSIX_FADV_DONTNEED);
}
