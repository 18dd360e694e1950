/*
 * gguf_internal.h - what the files of the GGUF reader share: the open model, its parts, and the buffered reader.
 *
 * gguf_reader.c reads bytes and words the complaints, gguf_parse.c turns one file into an index, gguf_build.c puts an index together
 * that no GGUF file holds, gguf.c opens models (split ones too) and answers questions about them.
 */
#ifndef FOURWAY_WEIGHTS_GGUF_INTERNAL_H
#define FOURWAY_WEIGHTS_GGUF_INTERNAL_H

#include "weights/gguf.h"
#include "weights/name_table.h"

/* Limits of this project (docs/design.md 8); real files stay far below them. */
enum {
    GGUF_MAX_ENTRIES = 65536,               /* keys of a file; tensors of a model */
    GGUF_MAX_KEY = 65535,
    GGUF_MAX_NAME = 63,
    GGUF_MAX_STRING = 16 << 20,
    GGUF_MAX_ARRAY = 1 << 28,               /* elements */
    GGUF_MAX_METADATA = 256 << 20,          /* bytes of memory for keys, values and names; gemma3, 262144 tokens: 9 MB */
    GGUF_MIN_ALIGNMENT = 8,
    GGUF_MAX_ALIGNMENT = 4096,
    GGUF_MAX_PARTS = 999
};

/* One file; or, as the first part of a folder, its keys: no file is open then. */
struct gguf_part {
    char *path;
    int fd;                         /* -1: not open */
    uint64_t size;
    uint32_t version;
    uint64_t alignment;
    char *memory;                   /* one block: kv, their values, and the names of tensors */
    uint64_t memory_bytes;
    struct gguf_kv *kv;
    size_t n_kv;
    struct name_table keys;
};

struct gguf {
    bool folder;                    /* parts[0] is the folder's path and keys, the others are its files */
    struct gguf_chunk *chunks;      /* memory of what gguf_build.c put in */
    struct gguf_part *parts;
    size_t n_parts;
    struct gguf_tensor *tensors;    /* of all parts, in their order */
    size_t n_tensors;
    struct name_table names;
};

static inline struct name_array gguf_keys_of(const struct gguf_part *part)
{
    return (struct name_array){ part->kv, sizeof(*part->kv) };
}

static inline struct name_array gguf_names_of(const struct gguf *g)
{
    return (struct name_array){ g->tensors, sizeof(*g->tensors) };
}

/* Reads a file front to back through a window, so that parsing a vocabulary of any size takes 64 KiB more than the result. */
struct gguf_reader {
    const char *path;
    int fd;
    uint64_t size, at;              /* at <= size */
    char object[GGUF_QUOTED + 64];  /* what is being read, for messages: 'tensor "a" at byte 100' */
    uint64_t window_at;             /* the window holds the window_n bytes from here */
    size_t window_n;
    unsigned char window[64 << 10];
};

static inline uint64_t gguf_reader_left(const struct gguf_reader *r)
{
    return r->size - r->at;
}

void gguf_reader_seek(struct gguf_reader *r, uint64_t at);
void gguf_reader_object(struct gguf_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Take the next n bytes. Return 0, -EINVAL when fewer are left, or an error of pread; logged. */
int gguf_reader_bytes(struct gguf_reader *r, void *dst, uint64_t n);
int gguf_reader_u32(struct gguf_reader *r, uint32_t *value);
int gguf_reader_u64(struct gguf_reader *r, uint64_t *value);
int gguf_reader_skip(struct gguf_reader *r, uint64_t n);

/* Log "PATH: OBJECT: text" and return -EINVAL. */
int gguf_reader_fail(const struct gguf_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The end of such a message where `n` more bytes were needed: " (truncated at offset 100, need 108 bytes)". */
enum { GGUF_SHORTAGE = 96 };
const char *gguf_reader_shortage(const struct gguf_reader *r, uint64_t n, char out[GGUF_SHORTAGE]);

/* Open the regular file `path` (owned by g from here on, also when it fails) as the next part, without a look into it; logged. */
int gguf_add_file(struct gguf *g, char *path);

/* pread all of it. Returns 0, a negative errno, or -EINVAL when the file ends early; logs nothing. */
int gguf_pread(int fd, void *dst, size_t n, uint64_t at);

/* Log why bytes of a tensor could not be read. Returns err, or -EIO where the file was cut. */
int gguf_read_failed(const struct gguf *g, const struct gguf_tensor *t, uint32_t part, uint64_t at, int err);

struct gguf_chunk;
void gguf_free_chunks(struct gguf_chunk *chunks);

/*
 * Index the file that g->parts[i] has open: fills the part and appends its tensors to g. What was filled stays in g when it fails;
 * gguf_close frees it. Returns 0, -EINVAL or another negative errno; logged.
 */
int gguf_part_parse(struct gguf *g, size_t i);

/* The key of a part, or NULL; its value as an integer: as gguf_get_u64. */
const struct gguf_kv *gguf_part_find(const struct gguf_part *part, const char *key);
int gguf_part_get_u64(const struct gguf_part *part, const char *key, uint64_t least, uint64_t most, uint64_t *out);

size_t gguf_type_size(enum gguf_type type);        /* bytes in the file; 0 for strings and arrays */

#endif
