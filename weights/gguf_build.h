/*
 * gguf_build.h - puts together an index of keys and tensors that no GGUF file holds, for readers of other formats.
 *
 * An error stays in the builder, and what is put afterwards is ignored, so that a caller puts a hundred keys and looks once. Texts and
 * values are copied into memory of the index. The index may be read while it is being built.
 */
#ifndef FOURWAY_WEIGHTS_GGUF_BUILD_H
#define FOURWAY_WEIGHTS_GGUF_BUILD_H

#include "weights/gguf.h"
#include "weights/tensor_source.h"

struct gguf_builder {
    struct gguf *g;             /* the caller's: gguf_close(), also after an error */
    int err;                    /* 0; -ENOMEM; -EINVAL (logged): a key or tensor twice, a name that is too long */
};

/* An empty index of the folder `path`. */
void gguf_build(struct gguf_builder *b, const char *path);

/* Zeroed memory of the index; NULL with b->err set. */
void *gguf_build_memory(struct gguf_builder *b, size_t n);

void gguf_put_u32(struct gguf_builder *b, const char *key, uint32_t value);
void gguf_put_f32(struct gguf_builder *b, const char *key, float value);
void gguf_put_bool(struct gguf_builder *b, const char *key, bool value);
void gguf_put_string(struct gguf_builder *b, const char *key, struct gguf_string value);
/* Arrays; element_type is I32, U32, F32 or BOOL (bytes). */
void gguf_put_array(struct gguf_builder *b, const char *key, enum gguf_type element_type, const void *values, size_t n);
void gguf_put_strings(struct gguf_builder *b, const char *key, const struct gguf_string *values, size_t n);

/* Open a file for tensors. Returns its part, or 0 with b->err set (logged). */
uint32_t gguf_put_file(struct gguf_builder *b, const char *path);
uint64_t gguf_build_file_bytes(const struct gguf_builder *b, uint32_t part);

/* t->name, type, n_dims, ne, and offset and part or source, are the caller's; `bytes` is worked out here. */
void gguf_put_tensor(struct gguf_builder *b, const struct gguf_tensor *t);

#endif
