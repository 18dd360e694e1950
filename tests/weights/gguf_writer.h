/*
 * gguf_writer.h - writes GGUF files for tests, right ones and wrong ones.
 *
 * The parts of the file are plain buffers, and the counts of the header are plain fields, so that a test can append any bytes or
 * claim any number. Nothing is checked. A failed allocation ends the test program.
 */
#ifndef FOURWAY_TESTS_WEIGHTS_GGUF_WRITER_H
#define FOURWAY_TESTS_WEIGHTS_GGUF_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "weights/gguf.h"

struct gguf_writer {
    uint32_t version;           /* 3 */
    uint64_t n_kv, n_tensors;   /* as the header will claim */
    uint64_t alignment;         /* 32; of the data section. The key general.alignment is the caller's */
    struct buf kv, infos, data;
};

void gguf_writer_init(struct gguf_writer *w);
void gguf_writer_free(struct gguf_writer *w);

/* Raw pieces, for any of the buffers. */
void put_u32(struct buf *b, uint32_t value);
void put_u64(struct buf *b, uint64_t value);
void put_string(struct buf *b, const void *bytes, size_t n);
void put_key(struct gguf_writer *w, const char *key, uint32_t type);       /* counts one more key; the value comes next */

/* One key each. `values` are little-endian as in the file. */
void gguf_writer_number(struct gguf_writer *w, const char *key, enum gguf_type type, const void *value);
void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float value);
void gguf_writer_bool(struct gguf_writer *w, const char *key, int value);
void gguf_writer_string(struct gguf_writer *w, const char *key, const char *text);
void gguf_writer_array(struct gguf_writer *w, const char *key, enum gguf_type type, const void *values, uint64_t n);
void gguf_writer_strings(struct gguf_writer *w, const char *key, const char *const *texts, uint64_t n);

/* A tensor whose bytes follow those of the one before; data NULL: zeros. The type must be one that dtype_info() knows. */
void gguf_writer_tensor(struct gguf_writer *w, const char *name, enum dtype type, uint32_t n_dims, const uint64_t *ne,
                        const void *data);

/* Only the info of a tensor, with any claim. */
void gguf_writer_info(struct gguf_writer *w, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset);

/* The whole file, appended to `file`; or written to `path`. */
void gguf_writer_finish(const struct gguf_writer *w, struct buf *file);
void gguf_writer_save(const struct gguf_writer *w, const char *path);

#endif
