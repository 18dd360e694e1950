#include "weights/gguf_output.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/checked.h"
#include "common/log.h"
#include "weights/gguf_internal.h"

struct place { uint64_t offset, bytes; };       /* of a tensor, from the start of the data */

struct gguf_output {
    char *path, *temporary;         /* temporary: NULL while there is no file to remove */
    int fd;
    bool overwrite;
    uint64_t alignment;
    struct buf kv, infos;
    uint64_t n_kv;
    struct place *places;
    size_t n_tensors;
    uint64_t data_start, data_bytes;
    bool too_large;                 /* sizes beyond what a file can have */
};

static int fail(const struct gguf_output *o, int err)
{
    const char *advice = err == -ENOSPC || err == -EDQUOT ? ": free space there, or choose another folder" : "";

    log_error("cannot write %s: %s%s", o->path, strerror(-err), advice);
    return err;
}

static int check_target(const char *path, bool overwrite)
{
    struct stat st;
    int err = stat(path, &st) ? -errno : 0;

    if (err == -ENOENT)
        return 0;
    if (!err && !S_ISREG(st.st_mode))
        err = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    if (err) {
        log_error("cannot write %s: %s", path, err == -EINVAL ? "not a regular file" : strerror(-err));
        return err;
    }
    if (overwrite)
        return 0;
    log_error("%s exists: choose another name, or say --overwrite", path);
    return -EEXIST;
}

static int make_temporary(struct gguf_output *o)
{
    char *name;

    if (asprintf(&name, "%s.XXXXXX", o->path) < 0)
        return -ENOMEM;
    o->fd = mkostemp(name, O_CLOEXEC);
    if (o->fd < 0) {
        const int err = -errno;
        free(name);
        return err;
    }
    o->temporary = name;
    const mode_t mask = umask(0);       /* there is no other way to read it */
    umask(mask);
    return fchmod(o->fd, 0666 & ~mask) ? -errno : 0;
}

int gguf_output_create(struct gguf_output **out, const char *path, bool overwrite, uint64_t alignment)
{
    int err = check_target(path, overwrite);

    *out = NULL;
    if (err)
        return err;
    struct gguf_output *o = calloc(1, sizeof(*o));
    if (o) {
        *o = (struct gguf_output){ .path = strdup(path), .fd = -1, .overwrite = overwrite, .alignment = alignment };
        err = o->path ? make_temporary(o) : -ENOMEM;
    }
    if (!o || err) {
        log_error("cannot make a file beside %s: %s", path, strerror(o ? -err : ENOMEM));
        gguf_output_close(o);
        return o ? err : -ENOMEM;
    }
    *out = o;
    return 0;
}

static void put(struct buf *b, const void *bytes, size_t n)
{
    buf_append(b, bytes, n);
}

static void put_u32(struct buf *b, uint32_t value)
{
    put(b, &value, sizeof(value));
}

static void put_u64(struct buf *b, uint64_t value)
{
    put(b, &value, sizeof(value));
}

static void put_string(struct buf *b, struct gguf_string s)
{
    put_u64(b, s.len);
    put(b, s.data, s.len);
}

void gguf_output_put(struct gguf_output *o, const struct gguf_kv *kv)
{
    put_string(&o->kv, kv->key);
    put_u32(&o->kv, kv->type);
    if (kv->type == GGUF_ARRAY) {
        put_u32(&o->kv, kv->element_type);
        put_u64(&o->kv, kv->n);
    }
    for (uint64_t i = 0; kv->element_type == GGUF_STRING && i < kv->n; i++)
        put_string(&o->kv, kv->strings[i]);
    if (kv->element_type != GGUF_STRING)
        put(&o->kv, kv->values, kv->n * gguf_type_size(kv->element_type));
    o->n_kv++;
}

void gguf_output_put_u32(struct gguf_output *o, const char *key, uint32_t value)
{
    gguf_output_put(o, &(struct gguf_kv){ .key = { key, strlen(key) }, .type = GGUF_U32, .element_type = GGUF_U32, .n = 1,
                                          .values = &value });
}

void gguf_output_add_tensor(struct gguf_output *o, struct gguf_string name, enum dtype type, uint32_t n_dims, const uint64_t *ne)
{
    const struct dtype_info *info = dtype_info(type);
    struct place *places = realloc(o->places, (o->n_tensors + 1) * sizeof(*places)), place = { 0 };
    uint64_t end;

    assert(!info->own);
    if (!places) {
        o->infos.failed = true;
        return;
    }
    o->places = places;
    place.bytes = ne[0] / info->block;
    bool fits = checked_mul(place.bytes, info->block_bytes, &place.bytes) && checked_align(o->data_bytes, o->alignment, &place.offset);
    for (uint32_t i = 1; i < n_dims; i++)
        fits = fits && checked_mul(place.bytes, ne[i], &place.bytes);
    fits = fits && checked_add(place.offset, place.bytes, &end) && end < INT64_MAX / 2;
    o->data_bytes = fits ? end : o->data_bytes;
    o->too_large |= !fits;
    places[o->n_tensors++] = place;
    put_string(&o->infos, name);
    put_u32(&o->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        put_u64(&o->infos, ne[i]);
    put_u32(&o->infos, type);
    put_u64(&o->infos, place.offset);
}

static int write_at(int fd, const void *bytes, size_t n, uint64_t at)
{
    const char *from = bytes;

    while (n) {
        const ssize_t written = pwrite(fd, from, n, (off_t)at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written ? -errno : -EIO;
        from += written;
        at += (uint64_t)written;
        n -= (size_t)written;
    }
    return 0;
}

/* A file system without reservations says so; the writes then find out. */
static int reserve(int fd, uint64_t bytes)
{
    while (fallocate(fd, 0, 0, (off_t)bytes)) {
        if (errno == EOPNOTSUPP || errno == ENOSYS)
            return ftruncate(fd, (off_t)bytes) ? -errno : 0;
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int gguf_output_begin(struct gguf_output *o)
{
    struct buf head = { 0 };
    int err = o->too_large ? -EFBIG : 0;

    put(&head, "GGUF", 4);
    put_u32(&head, 3);
    put_u64(&head, o->n_tensors);
    put_u64(&head, o->n_kv);
    put(&head, o->kv.data, o->kv.len);
    put(&head, o->infos.data, o->infos.len);
    while (!head.failed && head.len % o->alignment)
        buf_putc(&head, 0);
    o->data_start = head.len;
    if (head.failed || o->kv.failed || o->infos.failed)
        err = -ENOMEM;
    if (!err)
        err = reserve(o->fd, gguf_output_bytes(o));
    if (!err)
        err = write_at(o->fd, head.data, head.len, 0);
    buf_free(&head);
    return err ? fail(o, err) : 0;
}

uint64_t gguf_output_bytes(const struct gguf_output *o)
{
    const uint64_t data = (o->data_bytes + o->alignment - 1) & ~(o->alignment - 1);     /* the last tensor is padded as the others */

    return o->data_start + data;
}

int gguf_output_write(struct gguf_output *o, size_t index, uint64_t from, const void *bytes, size_t n)
{
    assert(index < o->n_tensors && from <= o->places[index].bytes && n <= o->places[index].bytes - from);
    const int err = write_at(o->fd, bytes, n, o->data_start + o->places[index].offset + from);

    return err ? fail(o, err) : 0;
}

/* Put the temporary file at the place of the wanted one, which must not have appeared meanwhile unless it may be replaced. */
static int put_in_place(const struct gguf_output *o)
{
    if (o->overwrite)
        return rename(o->temporary, o->path) ? -errno : 0;
    if (!renameat2(AT_FDCWD, o->temporary, AT_FDCWD, o->path, RENAME_NOREPLACE))
        return 0;
    if (errno != EINVAL)        /* a file system that cannot do it in one step */
        return -errno;
    if (!access(o->path, F_OK))
        return -EEXIST;
    return rename(o->temporary, o->path) ? -errno : 0;
}

/* The new name must survive a crash, too. Not every file system can: what it refuses is no error. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

int gguf_output_finish(struct gguf_output *o)
{
    int err = fsync(o->fd) && errno != EINVAL && errno != EROFS ? -errno : 0;

    if (close(o->fd) && !err)
        err = -errno;
    o->fd = -1;
    if (!err)
        err = put_in_place(o);
    if (err)
        return fail(o, err);
    free(o->temporary);
    o->temporary = NULL;
    sync_folder(o->path);
    return 0;
}

void gguf_output_close(struct gguf_output *o)
{
    if (!o)
        return;
    if (o->fd >= 0)
        close(o->fd);
    if (o->temporary)
        unlink(o->temporary);
    free(o->temporary);
    free(o->path);
    free(o->places);
    buf_free(&o->kv);
    buf_free(&o->infos);
    free(o);
}
