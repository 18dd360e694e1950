#include "weights/gguf_build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/log.h"
#include "weights/gguf_internal.h"

enum { CHUNK_BYTES = 64 << 10, MAX_KEYS = 1024 };

struct gguf_chunk {
    struct gguf_chunk *next;
    size_t used, size;
    _Alignas(8) char bytes[];
};

void gguf_free_chunks(struct gguf_chunk *chunks)
{
    while (chunks) {
        struct gguf_chunk *next = chunks->next;
        free(chunks);
        chunks = next;
    }
}

void *gguf_build_memory(struct gguf_builder *b, size_t n)
{
    struct gguf_chunk *c = b->g ? b->g->chunks : NULL;

    if (b->err)
        return NULL;
    if (!c || n > c->size - c->used) {
        const size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
        c = n < SIZE_MAX / 2 ? calloc(1, sizeof(*c) + size) : NULL;
        if (!c) {
            b->err = -ENOMEM;
            return NULL;
        }
        c->size = size;
        c->next = b->g->chunks;
        b->g->chunks = c;
    }
    void *place = c->bytes + c->used;
    c->used += n < c->size - c->used ? (n + 7) & ~(size_t)7 : n;
    if (c->used > c->size)
        c->used = c->size;
    return place;
}

static struct gguf_string copy_text(struct gguf_builder *b, struct gguf_string s)
{
    char *place = gguf_build_memory(b, s.len + 1);

    if (!place)
        return (struct gguf_string){ "", 0 };
    memcpy(place, s.data, s.len);
    return (struct gguf_string){ place, s.len };
}

void gguf_build(struct gguf_builder *b, const char *path)
{
    *b = (struct gguf_builder){ .g = calloc(1, sizeof(*b->g)) };
    if (!b->g) {
        b->err = -ENOMEM;
        return;
    }
    struct gguf *g = b->g;
    g->folder = true;
    g->parts = calloc(1, sizeof(*g->parts));
    if (g->parts) {
        g->n_parts = 1;
        g->parts[0] = (struct gguf_part){ .path = strdup(path), .fd = -1, .alignment = 32,
                                          .memory = calloc(MAX_KEYS, sizeof(struct gguf_kv)) };
        g->parts[0].kv = (struct gguf_kv *)g->parts[0].memory;
    }
    if (!g->parts || !g->parts[0].path || !g->parts[0].memory)
        b->err = -ENOMEM;
}

/* `values` or `strings` is memory of the index. */
static void put(struct gguf_builder *b, const char *key, struct gguf_kv kv)
{
    struct gguf_part *part = b->err ? NULL : &b->g->parts[0];

    kv.key = copy_text(b, (struct gguf_string){ key, strlen(key) });
    if (b->err)
        return;
    if (part->n_kv == MAX_KEYS || name_table_find(&part->keys, gguf_keys_of(part), kv.key) >= 0) {
        log_error("%s: key \"%s\" %s", part->path, key, part->n_kv == MAX_KEYS ? "is one too many" : "comes twice");
        b->err = -EINVAL;
        return;
    }
    part->kv[part->n_kv] = kv;
    b->err = name_table_add(&part->keys, gguf_keys_of(part), (uint32_t)part->n_kv);
    part->n_kv += !b->err;
}

static void put_numbers(struct gguf_builder *b, const char *key, enum gguf_type type, enum gguf_type element_type, const void *values,
                        size_t n)
{
    const size_t bytes = n * gguf_type_size(element_type);
    void *copy = gguf_build_memory(b, bytes ? bytes : 1);

    if (!copy)
        return;
    if (bytes)
        memcpy(copy, values, bytes);
    put(b, key, (struct gguf_kv){ .type = type, .element_type = element_type, .n = n, .values = copy });
}

void gguf_put_u32(struct gguf_builder *b, const char *key, uint32_t value)
{
    put_numbers(b, key, GGUF_U32, GGUF_U32, &value, 1);
}

void gguf_put_f32(struct gguf_builder *b, const char *key, float value)
{
    put_numbers(b, key, GGUF_F32, GGUF_F32, &value, 1);
}

void gguf_put_bool(struct gguf_builder *b, const char *key, bool value)
{
    const unsigned char byte = value;

    put_numbers(b, key, GGUF_BOOL, GGUF_BOOL, &byte, 1);
}

void gguf_put_array(struct gguf_builder *b, const char *key, enum gguf_type element_type, const void *values, size_t n)
{
    put_numbers(b, key, GGUF_ARRAY, element_type, values, n);
}

static void put_texts(struct gguf_builder *b, const char *key, enum gguf_type type, const struct gguf_string *values, size_t n)
{
    struct gguf_string *copy = gguf_build_memory(b, (n ? n : 1) * sizeof(*copy));

    for (size_t i = 0; copy && i < n; i++)
        copy[i] = copy_text(b, values[i]);
    put(b, key, (struct gguf_kv){ .type = type, .element_type = GGUF_STRING, .n = n, .strings = copy });
}

void gguf_put_string(struct gguf_builder *b, const char *key, struct gguf_string value)
{
    put_texts(b, key, GGUF_STRING, &value, 1);
}

void gguf_put_strings(struct gguf_builder *b, const char *key, const struct gguf_string *values, size_t n)
{
    put_texts(b, key, GGUF_ARRAY, values, n);
}

uint32_t gguf_put_file(struct gguf_builder *b, const char *path)
{
    if (b->err)
        return 0;
    b->err = gguf_add_file(b->g, strdup(path));
    return b->err ? 0 : (uint32_t)(b->g->n_parts - 1);
}

uint64_t gguf_build_file_bytes(const struct gguf_builder *b, uint32_t part)
{
    return b->g->parts[part].size;
}

void gguf_put_tensor(struct gguf_builder *b, const struct gguf_tensor *from)
{
    const struct dtype_info *info = dtype_info(from->type);
    struct gguf *g = b->g;
    struct gguf_tensor t = *from;
    char quoted[GGUF_QUOTED];

    if (b->err)
        return;
    const char *wrong = t.name.len > GGUF_MAX_NAME ? "its name is too long"
                      : g->n_tensors == GGUF_MAX_ENTRIES ? "is one too many"
                      : name_table_find(&g->names, gguf_names_of(g), t.name) >= 0 ? "comes twice"
                      : t.ne[0] % info->block ? "its rows are no whole blocks" : NULL;
    t.bytes = t.ne[0] / info->block * info->block_bytes;
    for (int d = 1; !wrong && d < 4; d++)
        wrong = checked_mul(t.bytes, t.ne[d], &t.bytes) ? NULL : "its bytes exceed 64 bits";
    if (wrong) {
        log_error("%s: tensor %s: %s", gguf_path(g), gguf_quote(t.name, quoted), wrong);
        b->err = -EINVAL;
        return;
    }
    if ((g->n_tensors & (g->n_tensors - 1)) == 0) {         /* full, as room doubles: 1, 2, 4 ... */
        struct gguf_tensor *more = realloc(g->tensors, (g->n_tensors ? 2 * g->n_tensors : 1) * sizeof(*more));
        if (!more) {
            b->err = -ENOMEM;
            return;
        }
        g->tensors = more;
    }
    t.name = copy_text(b, t.name);
    if (b->err)
        return;
    g->tensors[g->n_tensors] = t;
    b->err = name_table_add(&g->names, gguf_names_of(g), (uint32_t)g->n_tensors);
    g->n_tensors += !b->err;
}
