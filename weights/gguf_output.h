/*
 * gguf_output.h - writes a GGUF file (version 3): metadata first, then tensor data in any order and from any thread.
 *
 * The bytes go to a temporary file beside the wanted one, which takes its place when all of it is on the disk: a reader finds the
 * whole file or none, and an error leaves nothing behind. Space is asked for before the first byte of data, so that a full
 * disk is known at once and not after an hour.
 *
 * Metadata and tensors are added by one thread. An error stays, and what is added after it is ignored: gguf_output_begin() tells.
 */
#ifndef FOURWAY_WEIGHTS_GGUF_OUTPUT_H
#define FOURWAY_WEIGHTS_GGUF_OUTPUT_H

#include "weights/gguf.h"

struct gguf_output;

/*
 * A file that will be `path`. Returns 0, or a negative errno (logged) with *out = NULL: -EEXIST when it exists and `overwrite` is not
 * set, -EISDIR or -EINVAL when it is no regular file, or that of making a file in its folder. Free with gguf_output_close().
 */
int gguf_output_create(struct gguf_output **out, const char *path, bool overwrite, uint64_t alignment);

/* One key; kv may be of any open file. */
void gguf_output_put(struct gguf_output *o, const struct gguf_kv *kv);
void gguf_output_put_u32(struct gguf_output *o, const char *key, uint32_t value);

/* The next tensor, in the order of the file; ne[0] is a multiple of the type's block. */
void gguf_output_add_tensor(struct gguf_output *o, struct gguf_string name, enum dtype type, uint32_t n_dims, const uint64_t *ne);

/* All keys and tensors are there: write them, and reserve the space of the data. Returns 0 or a negative errno (logged). */
int gguf_output_begin(struct gguf_output *o);

/* n bytes of tensor `index` at `from`, which lie within it. Any thread. Returns 0 or a negative errno (logged). */
int gguf_output_write(struct gguf_output *o, size_t index, uint64_t from, const void *bytes, size_t n);

/* Every byte has been written: put the file in its place. Returns 0 or a negative errno (logged). */
int gguf_output_finish(struct gguf_output *o);

uint64_t gguf_output_bytes(const struct gguf_output *o);    /* of the whole file; known after begin */

/* Without a successful finish no file is left. NULL is fine. */
void gguf_output_close(struct gguf_output *o);

#endif
