#include "tests/weights/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t sizes[GGUF_TYPE_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

void gguf_writer_init(struct gguf_writer *w)
{
    *w = (struct gguf_writer){ .version = 3, .alignment = 32 };
}

void gguf_writer_free(struct gguf_writer *w)
{
    buf_free(&w->kv);
    buf_free(&w->infos);
    buf_free(&w->data);
}

void put_u32(struct buf *b, uint32_t value)
{
    buf_append(b, &value, sizeof(value));
}

void put_u64(struct buf *b, uint64_t value)
{
    buf_append(b, &value, sizeof(value));
}

void put_string(struct buf *b, const void *bytes, size_t n)
{
    put_u64(b, n);
    buf_append(b, bytes, n);
}

void put_key(struct gguf_writer *w, const char *key, uint32_t type)
{
    put_string(&w->kv, key, strlen(key));
    put_u32(&w->kv, type);
    w->n_kv++;
}

void gguf_writer_number(struct gguf_writer *w, const char *key, enum gguf_type type, const void *value)
{
    put_key(w, key, type);
    buf_append(&w->kv, value, sizes[type]);
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    gguf_writer_number(w, key, GGUF_U32, &value);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float value)
{
    gguf_writer_number(w, key, GGUF_F32, &value);
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, int value)
{
    uint8_t byte = value != 0;
    gguf_writer_number(w, key, GGUF_BOOL, &byte);
}

void gguf_writer_string(struct gguf_writer *w, const char *key, const char *text)
{
    put_key(w, key, GGUF_STRING);
    put_string(&w->kv, text, strlen(text));
}

void gguf_writer_array(struct gguf_writer *w, const char *key, enum gguf_type type, const void *values, uint64_t n)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(&w->kv, type);
    put_u64(&w->kv, n);
    buf_append(&w->kv, values, n * sizes[type]);
}

void gguf_writer_strings(struct gguf_writer *w, const char *key, const char *const *texts, uint64_t n)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(&w->kv, GGUF_STRING);
    put_u64(&w->kv, n);
    for (uint64_t i = 0; i < n; i++)
        put_string(&w->kv, texts[i], strlen(texts[i]));
}

static void pad(struct buf *b, uint64_t alignment)
{
    while (b->len % alignment)
        buf_putc(b, 0);
}

void gguf_writer_info(struct gguf_writer *w, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    put_string(&w->infos, name, strlen(name));
    put_u32(&w->infos, n_dims);
    for (uint32_t d = 0; d < n_dims; d++)
        put_u64(&w->infos, ne[d]);
    put_u32(&w->infos, type);
    put_u64(&w->infos, offset);
    w->n_tensors++;
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name, enum dtype type, uint32_t n_dims, const uint64_t *ne,
                        const void *data)
{
    const struct dtype_info *info = dtype_info(type);
    uint64_t bytes = info->block_bytes;

    for (uint32_t d = 0; d < n_dims; d++)
        bytes *= d ? ne[d] : ne[d] / info->block;
    pad(&w->data, w->alignment);
    gguf_writer_info(w, name, n_dims, ne, type, w->data.len);
    if (data) {
        buf_append(&w->data, data, bytes);
        return;
    }
    char *zeros = buf_reserve(&w->data, bytes);
    if (zeros) {
        memset(zeros, 0, bytes);
        w->data.len += bytes;
    }
}

void gguf_writer_finish(const struct gguf_writer *w, struct buf *file)
{
    buf_append(file, "GGUF", 4);
    put_u32(file, w->version);
    put_u64(file, w->n_tensors);
    put_u64(file, w->n_kv);
    buf_append(file, w->kv.data, w->kv.len);
    buf_append(file, w->infos.data, w->infos.len);
    if (w->n_tensors)
        pad(file, w->alignment);
    buf_append(file, w->data.data, w->data.len);
    if (file->failed || w->kv.failed || w->infos.failed || w->data.failed) {
        fputs("gguf_writer: no memory\n", stderr);
        abort();
    }
}

void gguf_writer_save(const struct gguf_writer *w, const char *path)
{
    struct buf file = { 0 };
    FILE *f = fopen(path, "wb");

    gguf_writer_finish(w, &file);
    if (!f || fwrite(file.data, 1, file.len, f) != file.len || fclose(f)) {
        perror(path);
        abort();
    }
    buf_free(&file);
}
