/*
 * safetensors.h - the header of a safetensors file: names, types, shapes and places of its tensors.
 *
 * After huggingface/safetensors README: a length n (u64), n bytes of JSON, the data. The header is read through a window and
 * nothing of it but the list is kept; it is refused unless the tensors fill the data without a gap or an overlap. Stricter than the
 * official reader in one point: a name that comes twice is refused.
 */
#ifndef FOURWAY_WEIGHTS_SAFETENSORS_H
#define FOURWAY_WEIGHTS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/name_table.h"

enum {
    SAFETENSORS_MAX_HEADER = 100000000,     /* the official limit */
    SAFETENSORS_MAX_TENSORS = 1000000,      /* of all files of a model */
    SAFETENSORS_MAX_NAME = 512,
    SAFETENSORS_MAX_RANK = 8
};

enum safetensors_type {
    SAFETENSORS_BOOL, SAFETENSORS_U8, SAFETENSORS_I8, SAFETENSORS_F8_E4M3, SAFETENSORS_F8_E5M2, SAFETENSORS_F8_E8M0,
    SAFETENSORS_F8_E4M3FNUZ, SAFETENSORS_F8_E5M2FNUZ, SAFETENSORS_I16, SAFETENSORS_U16, SAFETENSORS_F16, SAFETENSORS_BF16,
    SAFETENSORS_I32, SAFETENSORS_U32, SAFETENSORS_F32, SAFETENSORS_I64, SAFETENSORS_U64, SAFETENSORS_F64, SAFETENSORS_C64,
    SAFETENSORS_F4, SAFETENSORS_F6_E2M3, SAFETENSORS_F6_E3M2, SAFETENSORS_TYPE_COUNT
};

const char *safetensors_type_name(enum safetensors_type type);      /* "BF16"; static */

struct safetensors_tensor {
    struct gguf_string name;        /* NUL-terminated text, in memory of the list */
    enum safetensors_type type;
    uint32_t rank;                  /* 0: a scalar */
    uint64_t shape[SAFETENSORS_MAX_RANK];       /* slowest first: [out, in] */
    uint64_t offset, bytes;         /* from the start of the file; bytes of the elements, wherever they lie */
    uint32_t part;                  /* the caller's number of the file */
    bool strided;                   /* never in a safetensors file: elements are stride[d] bytes apart along dimension d */
    uint64_t stride[SAFETENSORS_MAX_RANK];
};

/* The tensors of one file or several; zeroed memory is an empty list. */
struct safetensors_list {
    struct safetensors_tensor *tensors;
    size_t n, cap;
    struct name_table names;
};

/*
 * Append the tensors of the open file (size bytes, called `path` in messages) as those of `part`. A name that is in the list already
 * is refused. Returns 0, -EINVAL or another negative errno; logged. What was appended stays.
 */
int safetensors_read(struct safetensors_list *list, const char *path, int fd, uint64_t size, uint32_t part);

/* Append a tensor whose name is not in the list; the name is copied. Returns 0, -ENOMEM, or -E2BIG: too many. */
int safetensors_add(struct safetensors_list *list, const struct safetensors_tensor *t);

uint32_t safetensors_type_bits(enum safetensors_type type);

/* NULL when there is none. */
const struct safetensors_tensor *safetensors_find(const struct safetensors_list *list, struct gguf_string name);

void safetensors_free(struct safetensors_list *list);

#endif
