/*
 * gguf.h - indexes the metadata and tensors of a GGUF file (versions 2 and 3); data is read with pread, never mapped.
 *
 * After the specification ggml-org/ggml docs/gguf.md. A file is a stranger's claim: every count and length is
 * compared with the bytes that are left before anything is allocated. What is wrong is logged once, as
 * "PATH: OBJECT at byte OFFSET: what: value (limit)", and the call returns -EINVAL.
 *
 * A split model (name-00001-of-000NN.gguf) is opened by its first part; tensors of all parts are indexed. A Hugging Face folder
 * (hf_folder.h) is opened by its path and answers as the GGUF file that llama.cpp's converter would make of it: the same keys, the
 * same names, types and order of tensors. What it costs to put bytes into that order is paid when they are read.
 * Read-only once open: any thread may call the getters and gguf_read().
 */
#ifndef FOURWAY_WEIGHTS_GGUF_H
#define FOURWAY_WEIGHTS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/dtype.h"

enum gguf_type {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY,
    GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_COUNT
};

const char *gguf_type_name(enum gguf_type type);          /* "u8"; static */

struct gguf_string { const char *data; size_t len; };     /* data is NUL-terminated, but may hold NULs */

struct gguf_kv {
    struct gguf_string key;
    enum gguf_type type;            /* GGUF_ARRAY: element_type and n say what the array holds */
    enum gguf_type element_type;
    uint64_t n;                     /* elements of an array; 1 else */
    const void *values;             /* scalars and numeric arrays: packed little-endian values, perhaps unaligned */
    const struct gguf_string *strings;     /* for strings and arrays of strings */
    uint64_t offset;                /* where the entry begins in the file; 0: it is of a folder */
};

struct tensor_source;                       /* weights/tensor_source.h */

struct gguf_tensor {
    struct gguf_string name;
    uint32_t type;                  /* enum dtype; dtype_info() is never NULL for it */
    uint32_t n_dims;
    uint64_t ne[4];                 /* ne[0] is contiguous (inputs); unused dims are 1 */
    uint64_t offset;                /* from the start of its file */
    uint64_t bytes;                 /* of the tensor in GGUF's order, and so of all that gguf_read() can give */
    uint32_t part;                  /* which file of a split model, from 0; of a folder, from 1 */
    const struct tensor_source *source;     /* NULL: `bytes` bytes at `offset`; else where they come from */
};

struct gguf;

/* Returns 0, or a negative errno with *g = NULL; the reason was logged. Free with gguf_close (NULL is fine). */
int gguf_open(struct gguf **g, const char *path);
void gguf_close(struct gguf *g);

const char *gguf_path(const struct gguf *g);
bool gguf_is_folder(const struct gguf *g);             /* of Hugging Face: no version, keys have no place in a file */
uint32_t gguf_version(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g);        /* of all parts */
uint64_t gguf_alignment(const struct gguf *g);
const char *gguf_part_path(const struct gguf *g, size_t i);    /* of a folder, 0 is the folder; NULL behind the last */
uint32_t gguf_n_parts(const struct gguf *g);           /* files that hold tensors */

size_t gguf_n_kv(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i);
size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);

/* NULL when there is none. Constant time. */
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);

/*
 * Typed access. Return 0; -ENOENT when the key is absent (nothing is logged, *out is untouched); -EINVAL when
 * it has the wrong type or its value is not in [least, most] (logged with the key). Any integer type is accepted as an integer,
 * f32 and f64 as a float. The strings live as long as g.
 */
int gguf_get_u64(const struct gguf *g, const char *key, uint64_t least, uint64_t most, uint64_t *out);
int gguf_get_f64(const struct gguf *g, const char *key, double least, double most, double *out);
int gguf_get_bool(const struct gguf *g, const char *key, bool *out);
int gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out);
int gguf_get_strings(const struct gguf *g, const char *key, const struct gguf_string **out, uint64_t *n);

/* Element i of a numeric array or a scalar (i = 0), for keys already checked by the caller; integers of any type, or floats. */
int64_t gguf_int_at(const struct gguf_kv *kv, uint64_t i);
double gguf_float_at(const struct gguf_kv *kv, uint64_t i);

/* Read n bytes at `from` (bytes into the tensor) to dst. Returns 0, -EINVAL beyond the tensor, or the error of pread (logged). */
int gguf_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, void *dst, size_t n);

/* The kernel may drop the pages of this range from its cache (posix_fadvise DONTNEED). */
void gguf_drop_cache(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, size_t n);

/* Text of a file for a message: quoted, at most 64 bytes, others than 0x20..0x7e as \xNN. Returns out. */
enum { GGUF_QUOTED = 64 * 4 + 6 };
const char *gguf_quote(struct gguf_string s, char out[GGUF_QUOTED]);

#endif
