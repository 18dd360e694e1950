#include "weights/torch_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/log.h"
#include "common/utf8.h"
#include "weights/gguf_internal.h"
#include "weights/pickle.h"
#include "weights/torch_zip.h"

enum { MAX_PROGRAM = 256 << 20, MAX_ENTRY_NAME = 512 };

struct reading {
    struct safetensors_list *list;
    const char *path;
    int fd;
    uint32_t part;
    struct torch_zip zip;
    struct gguf_string root;            /* what stands before "/data.pkl" */
};

__attribute__((format(printf, 3, 4)))
static int fail(const struct reading *r, struct gguf_string tensor, const char *format, ...)
{
    char text[256], quoted[GGUF_QUOTED];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_error("%s: tensor %s: %s", r->path, gguf_quote(tensor, quoted), text);
    return -EINVAL;
}

/* The entry ROOT/name, or NULL. */
static const struct torch_entry *find_entry(const struct reading *r, const char *folder, struct gguf_string name)
{
    char full[MAX_ENTRY_NAME + 1];
    int n = snprintf(full, sizeof(full), "%.*s/%s%.*s", (int)r->root.len, r->root.data, folder,
                     name.len > MAX_ENTRY_NAME ? MAX_ENTRY_NAME + 1 : (int)name.len, name.data);

    return n < 0 || n > MAX_ENTRY_NAME ? NULL : torch_zip_find(&r->zip, (struct gguf_string){ full, (size_t)n });
}

/* The elements of a view, and the last one that it reaches in its storage. */
static bool measure(const struct pickle_tensor *t, uint64_t *n, uint64_t *last)
{
    uint64_t reach;

    *n = 1;
    *last = t->first;
    for (uint32_t d = 0; d < t->rank; d++) {
        if (!checked_mul(*n, t->size[d], n))
            return false;
        if (t->size[d] && (!checked_mul(t->size[d] - 1, t->stride[d], &reach) || !checked_add(*last, reach, last)))
            return false;
    }
    return true;
}

static int found_tensor(void *arg, const struct pickle_tensor *t)
{
    struct reading *r = arg;
    const uint64_t size = safetensors_type_bits(t->type) / 8;
    struct safetensors_tensor to = { .name = t->name, .type = t->type, .rank = t->rank, .part = r->part };
    const struct torch_entry *entry = find_entry(r, "data/", t->key);
    uint64_t n, last, bytes, step = 1;
    char quoted[GGUF_QUOTED];

    if (!entry)
        return fail(r, t->name, "there is no entry for its storage %s", gguf_quote(t->key, quoted));
    if (!checked_mul(t->n_storage, size, &bytes) || bytes > entry->size)
        return fail(r, t->name, "its storage of %" PRIu64 " elements has %" PRIu64 " bytes", t->n_storage, entry->size);
    if (!measure(t, &n, &last) || (n && last >= t->n_storage) || !checked_mul(n, size, &to.bytes))
        return fail(r, t->name, "it reaches beyond its storage of %" PRIu64 " elements", t->n_storage);
    if (t->name.len > SAFETENSORS_MAX_NAME || memchr(t->name.data, '\0', t->name.len) ||
        utf8_check(t->name.data, t->name.len) != t->name.len)
        return fail(r, t->name, "its name is no text of up to %d bytes", SAFETENSORS_MAX_NAME);
    if (safetensors_find(r->list, t->name))
        return fail(r, t->name, "comes twice");
    to.offset = entry->offset + (n ? t->first * size : 0);
    for (uint32_t d = t->rank; d-- > 0;) {
        to.shape[d] = t->size[d];
        to.stride[d] = t->size[d] > 1 ? t->stride[d] * size : step * size;      /* of one there is no next: any stride is right */
        to.strided |= n && to.stride[d] != step * size;
        step *= t->size[d];
    }
    int err = safetensors_add(r->list, &to);
    return err == -E2BIG ? fail(r, t->name, "is one too many") : err;
}

/* ROOT/data.pkl, of which there is one. */
static const struct torch_entry *find_program(struct reading *r)
{
    static const char suffix[] = "/data.pkl";
    const size_t n = strlen(suffix);

    for (size_t i = 0; i < r->zip.n_entries; i++) {
        const struct gguf_string name = r->zip.entries[i].name;
        if (name.len > n && !memcmp(name.data + name.len - n, suffix, n)) {
            r->root = (struct gguf_string){ name.data, name.len - n };
            return &r->zip.entries[i];
        }
    }
    return NULL;
}

static int check_byte_order(const struct reading *r)
{
    const struct torch_entry *e = find_entry(r, "byteorder", (struct gguf_string){ "", 0 });
    char order[7] = "little";

    if (e && e->size == 6 && gguf_pread(r->fd, order, 6, e->offset) == 0 && !strcmp(order, "little"))
        return 0;
    if (!e)
        return 0;           /* files before torch 2.1 */
    log_error("%s: its byte order is that of another machine", r->path);
    return -EINVAL;
}

static int read_program(struct reading *r, const struct torch_entry *e)
{
    const char *why = NULL;
    size_t at = 0;
    char *program = e->size <= MAX_PROGRAM ? malloc(e->size + 1) : NULL;
    int err = program ? gguf_pread(r->fd, program, e->size, e->offset) : -ENOMEM;

    if (e->size > MAX_PROGRAM) {
        log_error("%s: data.pkl has %" PRIu64 " bytes, at most %d", r->path, e->size, MAX_PROGRAM);
        err = -EINVAL;
    } else if (err && err != -ENOMEM) {
        log_error("%s: data.pkl at byte %" PRIu64 " cannot be read", r->path, e->offset);
    }
    if (!err) {
        err = pickle_read(program, e->size, found_tensor, r, &why, &at);
        if (why)
            log_error("%s: data.pkl at byte %zu: %s", r->path, at, why);
    }
    free(program);
    return err;
}

int torch_file_read(struct safetensors_list *list, const char *path, int fd, uint64_t size, uint32_t part)
{
    struct reading r = { .list = list, .path = path, .fd = fd, .part = part };
    int err = torch_zip_read(&r.zip, path, fd, size);
    const struct torch_entry *program = err ? NULL : find_program(&r);

    if (!err && !program) {
        log_error("%s: it has no data.pkl: not a file of torch.save", path);
        err = -EINVAL;
    }
    if (!err)
        err = check_byte_order(&r);
    if (!err)
        err = read_program(&r, program);
    torch_zip_free(&r.zip);
    return err;
}
