/*
 * gguf_parse.c - one GGUF file (versions 2 and 3) to an index of its keys and tensors.
 *
 * A file is walked twice by the same code: the first walk only measures, the second stores into one block of the measured
 * size. So a file that is truncated or claims what it does not hold is refused before memory is taken for it, and the
 * second walk checks everything again, because the file may have changed in between.
 *
 * Each length is compared with what is left, never added first.
 */
#include "weights/gguf_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/utf8.h"

enum {
    HEADER_BYTES = 24,
    LEAST_KV_BYTES = 8 + 1 + 4 + 1,             /* a key of one byte, its type, a value of one byte */
    LEAST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* a name of one byte, one dimension */
    DEFAULT_ALIGNMENT = 32
};
#define MAX_DIMENSION ((uint64_t)INT32_MAX)
#define MAX_ELEMENTS ((uint64_t)1 << 48)

struct parser {
    struct gguf_reader r;
    struct gguf *g;
    struct gguf_part *part;
    uint32_t part_index;
    uint64_t n_kv, n_tensors;
    size_t first_tensor;        /* of this part in g->tensors */
    bool storing;               /* the second walk */
    uint64_t used, limit;       /* bytes of the block, counted in both walks */
    uint64_t next_offset;       /* where the next tensor must lie in the data section; second walk */
    char scratch[GGUF_MAX_KEY + 1];
};

/* In the order of enum gguf_type. */
static const struct { const char *name; uint8_t size; } types[GGUF_TYPE_COUNT] = {
    { "u8", 1 }, { "i8", 1 }, { "u16", 2 }, { "i16", 2 }, { "u32", 4 }, { "i32", 4 }, { "f32", 4 }, { "bool", 1 },
    { "string", 0 }, { "array", 0 }, { "u64", 8 }, { "i64", 8 }, { "f64", 8 },
};

const char *gguf_type_name(enum gguf_type type)
{
    return types[type].name;
}

size_t gguf_type_size(enum gguf_type type)
{
    return types[type].size;
}

/* Count n more bytes of the block; *place is NULL in the first walk. */
static int reserve(struct parser *p, uint64_t n, uint64_t align, void **place)
{
    uint64_t from, to;

    *place = NULL;
    if (!checked_align(p->used, align, &from) || !checked_add(from, n, &to) || to > p->limit) {
        if (p->storing)
            return gguf_reader_fail(&p->r, "the file changed while it was read");
        return gguf_reader_fail(&p->r, "keys, values and names of more than %d bytes in memory", GGUF_MAX_METADATA);
    }
    p->used = to;
    if (p->storing)
        *place = p->part->memory + from;
    return 0;
}

/* A length and at most `most` bytes; `what` is the word for them. In the first walk the bytes are skipped. */
static int take_string(struct parser *p, const char *what, uint64_t most, struct gguf_string *s)
{
    char shortage[GGUF_SHORTAGE];
    void *place;
    uint64_t n;
    int err = gguf_reader_u64(&p->r, &n);

    if (err)
        return err;
    if (n > most && n <= gguf_reader_left(&p->r))
        return gguf_reader_fail(&p->r, "%s of %" PRIu64 " bytes, at most %" PRIu64, what, n, most);
    if (n > gguf_reader_left(&p->r))
        return gguf_reader_fail(&p->r, "%s of %" PRIu64 " bytes, %" PRIu64 " left%s", what, n, gguf_reader_left(&p->r),
                                gguf_reader_shortage(&p->r, n, shortage));
    err = reserve(p, n + 1, 1, &place);
    if (err)
        return err;
    if (!place)
        return gguf_reader_skip(&p->r, n);
    err = gguf_reader_bytes(&p->r, place, n);
    ((char *)place)[n] = '\0';
    *s = (struct gguf_string){ place, (size_t)n };
    return err;
}

/*
 * A key or the name of a tensor, in both walks into p->scratch. They name what a message is about and are compared with
 * C strings, so they must be text: UTF-8 without control characters (nor NUL), not empty.
 */
static int take_name(struct parser *p, const char *what, uint64_t most, struct gguf_string *s)
{
    char shortage[GGUF_SHORTAGE], quoted[GGUF_QUOTED];
    uint64_t n;
    int err = gguf_reader_u64(&p->r, &n);

    if (err)
        return err;
    if (n == 0)
        return gguf_reader_fail(&p->r, "%s of 0 bytes, at least 1", what);
    if (n > gguf_reader_left(&p->r))
        return gguf_reader_fail(&p->r, "%s: string of %" PRIu64 " bytes, %" PRIu64 " left%s", what, n,
                                gguf_reader_left(&p->r), gguf_reader_shortage(&p->r, n, shortage));
    if (n > most)
        return gguf_reader_fail(&p->r, "%s of %" PRIu64 " bytes, at most %" PRIu64, what, n, most);
    err = gguf_reader_bytes(&p->r, p->scratch, n);
    if (err)
        return err;
    p->scratch[n] = '\0';
    *s = (struct gguf_string){ p->scratch, (size_t)n };
    bool is_text = true;
    for (size_t at = 0; is_text && at < s->len;) {
        uint32_t c = 0;
        int length = utf8_decode(s->data + at, s->len - at, &c);
        is_text = length > 0 && c >= 0x20 && (c < 0x7f || c >= 0xa0);
        at += is_text ? (size_t)length : 0;
    }
    if (!is_text)
        return gguf_reader_fail(&p->r, "%s %s is not text (UTF-8 without control characters)", what, gguf_quote(*s, quoted));
    return 0;
}

/* Move a name out of the scratch into the block. */
static int keep_name(struct parser *p, struct gguf_string *s)
{
    void *place;
    int err = reserve(p, s->len + 1, 1, &place);

    if (!err && place) {
        memcpy(place, s->data, s->len + 1);
        s->data = place;
    }
    return err;
}

static int take_numbers(struct parser *p, enum gguf_type type, uint64_t n, const void **values)
{
    uint64_t bytes = n * gguf_type_size(type);          /* n is 1, or was compared with what is left */
    void *place;
    int err = reserve(p, bytes, 8, &place);

    if (err)
        return err;
    if (!place)
        return gguf_reader_skip(&p->r, bytes);
    err = gguf_reader_bytes(&p->r, place, bytes);
    *values = place;
    for (uint64_t i = 0; !err && type == GGUF_BOOL && i < n; i++) {
        unsigned char byte = ((const unsigned char *)place)[i];
        if (byte > 1)
            err = gguf_reader_fail(&p->r, "bool of value %u, expected 0 or 1", byte);
    }
    return err;
}

static int take_strings(struct parser *p, uint64_t n, const struct gguf_string **strings)
{
    struct gguf_string ignored;
    void *place;
    int err = reserve(p, n * sizeof(struct gguf_string), 8, &place);   /* n <= GGUF_MAX_ARRAY: no overflow */
    struct gguf_string *to = place;

    for (uint64_t i = 0; !err && i < n; i++)
        err = take_string(p, "string", GGUF_MAX_STRING, to ? &to[i] : &ignored);
    *strings = to;
    return err;
}

static int take_array(struct parser *p, struct gguf_kv *kv)
{
    char shortage[GGUF_SHORTAGE];
    uint32_t type;
    uint64_t n;
    int err = gguf_reader_u32(&p->r, &type);

    if (err)
        return err;
    if (type == GGUF_ARRAY)
        return gguf_reader_fail(&p->r, "array of arrays is not supported");
    if (type >= GGUF_TYPE_COUNT)
        return gguf_reader_fail(&p->r, "array of unknown type %" PRIu32 ", at most %d", type, GGUF_TYPE_COUNT - 1);
    err = gguf_reader_u64(&p->r, &n);
    if (err)
        return err;
    uint64_t least_size = type == GGUF_STRING ? 8 : gguf_type_size((enum gguf_type)type);
    if (n > gguf_reader_left(&p->r) / least_size) {
        uint64_t bytes;
        bool fits = checked_mul(n, least_size, &bytes);
        return gguf_reader_fail(&p->r, "array of %" PRIu64 " %s, the file has room for %" PRIu64 "%s", n,
                                gguf_type_name((enum gguf_type)type), gguf_reader_left(&p->r) / least_size,
                                gguf_reader_shortage(&p->r, fits ? bytes : UINT64_MAX, shortage));
    }
    if (n > GGUF_MAX_ARRAY)
        return gguf_reader_fail(&p->r, "array of %" PRIu64 " %s, at most %d", n, gguf_type_name((enum gguf_type)type),
                                GGUF_MAX_ARRAY);
    kv->element_type = (enum gguf_type)type;
    kv->n = n;
    if (type == GGUF_STRING)
        return take_strings(p, n, &kv->strings);
    return take_numbers(p, kv->element_type, n, &kv->values);
}

static int take_value(struct parser *p, struct gguf_kv *kv)
{
    if (kv->type == GGUF_ARRAY)
        return take_array(p, kv);
    kv->element_type = kv->type;
    kv->n = 1;
    if (kv->type == GGUF_STRING)
        return take_strings(p, 1, &kv->strings);
    return take_numbers(p, kv->type, 1, &kv->values);
}

static int take_kv(struct parser *p, uint64_t i)
{
    struct gguf_kv kv = { .offset = p->r.at };
    struct gguf_part *part = p->part;
    char quoted[GGUF_QUOTED];
    uint32_t type;
    int err;

    gguf_reader_object(&p->r, "metadata entry %" PRIu64 " at byte %" PRIu64, i, kv.offset);
    err = take_name(p, "key", GGUF_MAX_KEY, &kv.key);
    if (err)
        return err;
    if (p->storing && name_table_find(&part->keys, gguf_keys_of(part), kv.key) >= 0)
        return gguf_reader_fail(&p->r, "key %s appears twice", gguf_quote(kv.key, quoted));
    gguf_reader_object(&p->r, "metadata entry %" PRIu64 " at byte %" PRIu64 ": key %s", i, kv.offset,
                       gguf_quote(kv.key, quoted));
    err = keep_name(p, &kv.key);
    if (!err)
        err = gguf_reader_u32(&p->r, &type);
    if (err)
        return err;
    if (type >= GGUF_TYPE_COUNT)
        return gguf_reader_fail(&p->r, "value of unknown type %" PRIu32 ", at most %d", type, GGUF_TYPE_COUNT - 1);
    kv.type = (enum gguf_type)type;
    err = take_value(p, &kv);
    if (err || !p->storing)
        return err;
    part->kv[part->n_kv] = kv;
    err = name_table_add(&part->keys, gguf_keys_of(part), (uint32_t)part->n_kv);
    part->n_kv++;
    return err;
}

/* The dimensions and the bytes they take. */
static int take_shape(struct parser *p, struct gguf_tensor *t)
{
    uint64_t n_elements = 1;
    int err = gguf_reader_u32(&p->r, &t->n_dims);

    if (err)
        return err;
    if (t->n_dims > 4)
        return gguf_reader_fail(&p->r, "%" PRIu32 " dimensions, at most 4", t->n_dims);
    if (t->n_dims < 1)
        return gguf_reader_fail(&p->r, "0 dimensions, at least 1");
    for (uint32_t d = 0; d < 4; d++)
        t->ne[d] = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        err = gguf_reader_u64(&p->r, &t->ne[d]);
        if (err)
            return err;
        if (t->ne[d] < 1)
            return gguf_reader_fail(&p->r, "dimension %" PRIu32 " is 0", d);
        if (t->ne[d] > MAX_DIMENSION)
            return gguf_reader_fail(&p->r, "dimension %" PRIu32 " is %" PRIu64 ", at most %" PRIu64, d, t->ne[d], MAX_DIMENSION);
        if (!checked_mul(n_elements, t->ne[d], &n_elements) || n_elements > MAX_ELEMENTS)
            return gguf_reader_fail(&p->r, "the product of the dimensions exceeds %" PRIu64 " elements", MAX_ELEMENTS);
    }
    err = gguf_reader_u32(&p->r, &t->type);
    if (err)
        return err;
    const struct dtype_info *info = dtype_info(t->type);
    if (!info || info->own)
        return gguf_reader_fail(&p->r, "type %" PRIu32 " (unknown) is not supported", t->type);
    if (t->ne[0] % info->block)
        return gguf_reader_fail(&p->r, "row of %" PRIu64 " elements is no multiple of %" PRIu32 " (%s)", t->ne[0], info->block,
                                info->name);
    if (!checked_mul(n_elements / info->block, info->block_bytes, &t->bytes))
        return gguf_reader_fail(&p->r, "its bytes exceed 64 bits");
    return 0;
}

/* Offsets are the running sum of the padded sizes, so that no two tensors overlap; place_tensors() looks for the file's end. */
static int check_offset(struct parser *p, const struct gguf_tensor *t)
{
    uint64_t end;

    if (t->offset % p->part->alignment)
        return gguf_reader_fail(&p->r, "offset %" PRIu64 " is no multiple of %" PRIu64, t->offset, p->part->alignment);
    if (t->offset != p->next_offset)
        return gguf_reader_fail(&p->r, "offset is %" PRIu64 ", expected %" PRIu64 " (the end of the tensor before it)", t->offset,
                                p->next_offset);
    if (!checked_add(t->offset, t->bytes, &end) || !checked_align(end, p->part->alignment, &p->next_offset))
        return gguf_reader_fail(&p->r, "offset %" PRIu64 " plus %" PRIu64 " bytes exceeds 64 bits", t->offset, t->bytes);
    return 0;
}

static int take_tensor(struct parser *p, uint64_t i)
{
    struct gguf_tensor t = { .part = p->part_index };
    struct gguf *g = p->g;
    uint64_t at = p->r.at;
    char quoted[GGUF_QUOTED];
    int err;

    gguf_reader_object(&p->r, "tensor info %" PRIu64 " at byte %" PRIu64, i, at);
    err = take_name(p, "name", GGUF_MAX_NAME, &t.name);
    if (err)
        return err;
    if (p->storing && name_table_find(&g->names, gguf_names_of(g), t.name) >= 0)
        return gguf_reader_fail(&p->r, "tensor %s appears twice", gguf_quote(t.name, quoted));
    gguf_reader_object(&p->r, "tensor %s at byte %" PRIu64, gguf_quote(t.name, quoted), at);
    err = keep_name(p, &t.name);
    if (!err)
        err = take_shape(p, &t);
    if (!err)
        err = gguf_reader_u64(&p->r, &t.offset);
    if (err || !p->storing)
        return err;
    err = check_offset(p, &t);
    if (err)
        return err;
    g->tensors[g->n_tensors] = t;
    err = name_table_add(&g->names, gguf_names_of(g), (uint32_t)g->n_tensors);
    g->n_tensors++;
    return err;
}

static int read_alignment(struct parser *p)
{
    const struct gguf_kv *kv = gguf_part_find(p->part, "general.alignment");
    uint32_t value;

    p->part->alignment = DEFAULT_ALIGNMENT;
    if (!kv)
        return 0;
    gguf_reader_object(&p->r, "metadata at byte %" PRIu64, kv->offset);
    if (kv->type != GGUF_U32)
        return gguf_reader_fail(&p->r, "general.alignment is of type %s, expected u32", gguf_type_name(kv->type));
    memcpy(&value, kv->values, sizeof(value));
    if (value < GGUF_MIN_ALIGNMENT || value > GGUF_MAX_ALIGNMENT || (value & (value - 1)))
        return gguf_reader_fail(&p->r, "general.alignment is %" PRIu32 ", expected a power of two from %d to %d", value,
                                GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    p->part->alignment = value;
    return 0;
}

static int walk(struct parser *p)
{
    void *place;
    int err = 0;

    gguf_reader_seek(&p->r, HEADER_BYTES);
    p->used = 0;
    gguf_reader_object(&p->r, "metadata at byte %d", HEADER_BYTES);
    err = reserve(p, p->n_kv * sizeof(struct gguf_kv), 8, &place);
    p->part->kv = place;
    for (uint64_t i = 0; !err && i < p->n_kv; i++)
        err = take_kv(p, i);
    if (!err && p->storing)
        err = read_alignment(p);
    for (uint64_t i = 0; !err && i < p->n_tensors; i++)
        err = take_tensor(p, i);
    return err;
}

static int check_count(struct parser *p, uint64_t n, const char *what, uint64_t least_bytes)
{
    char shortage[GGUF_SHORTAGE];
    uint64_t room = gguf_reader_left(&p->r) / least_bytes, bytes;

    if (n > room)
        return gguf_reader_fail(&p->r, "claims %" PRIu64 " %s, the file has room for %" PRIu64 "%s", n, what, room,
                                gguf_reader_shortage(&p->r, checked_mul(n, least_bytes, &bytes) ? bytes : UINT64_MAX, shortage));
    if (n > GGUF_MAX_ENTRIES)
        return gguf_reader_fail(&p->r, "claims %" PRIu64 " %s, at most %d", n, what, GGUF_MAX_ENTRIES);
    return 0;
}

static int take_header(struct parser *p)
{
    static const char magic[4] = { 'G', 'G', 'U', 'F' };
    char found[4];
    uint32_t version;
    uint64_t have = p->r.size < sizeof(found) ? p->r.size : sizeof(found);
    int err;

    gguf_reader_object(&p->r, "header at byte 0");
    err = gguf_reader_bytes(&p->r, found, have);
    if (err)
        return err;
    if (memcmp(found, magic, have))
        return gguf_reader_fail(&p->r, "not a GGUF file");
    if (p->r.size < HEADER_BYTES)
        return gguf_reader_fail(&p->r, "truncated at offset %" PRIu64 ", need %d bytes", p->r.size, HEADER_BYTES);
    err = gguf_reader_u32(&p->r, &version);
    if (err)
        return err;
    if (version && !(version & 0xffff))
        return gguf_reader_fail(&p->r, "byte order of another machine (version 0x%08" PRIx32 ")", version);
    if (version != 2 && version != 3)
        return gguf_reader_fail(&p->r, "GGUF version %" PRIu32 " is not supported (2 and 3 are)", version);
    p->part->version = version;
    err = gguf_reader_u64(&p->r, &p->n_tensors);
    if (!err)
        err = gguf_reader_u64(&p->r, &p->n_kv);
    if (!err)
        err = check_count(p, p->n_tensors, "tensors", LEAST_TENSOR_BYTES);
    if (!err)
        err = check_count(p, p->n_kv, "keys", LEAST_KV_BYTES);
    if (!err && p->n_tensors > GGUF_MAX_ENTRIES - p->g->n_tensors)
        err = gguf_reader_fail(&p->r, "more than %d tensors in all parts", GGUF_MAX_ENTRIES);
    return err;
}

/* From offsets in the data section, which begins after the infos, to offsets in the file; all must lie in it. */
static int place_tensors(struct parser *p)
{
    uint64_t data_start, end;
    char quoted[GGUF_QUOTED];

    if (!checked_align(p->r.at, p->part->alignment, &data_start))
        return gguf_reader_fail(&p->r, "the data section begins beyond 64 bits");
    for (size_t i = p->first_tensor; i < p->g->n_tensors; i++) {
        struct gguf_tensor *t = &p->g->tensors[i];
        gguf_reader_object(&p->r, "tensor %s at byte %" PRIu64, gguf_quote(t->name, quoted), data_start);
        if (!checked_add(data_start, t->offset, &t->offset) || !checked_add(t->offset, t->bytes, &end))
            return gguf_reader_fail(&p->r, "its bytes lie beyond 64 bits");
        if (end > p->r.size)
            return gguf_reader_fail(&p->r, "needs bytes %" PRIu64 "..%" PRIu64 ", the file ends at %" PRIu64
                                    " (truncated at offset %" PRIu64 ", need %" PRIu64 " bytes)",
                                    t->offset, end - 1, p->r.size, p->r.size, end);
    }
    return 0;
}

static int take_memory(struct parser *p)
{
    struct gguf *g = p->g;
    struct gguf_tensor *tensors = realloc(g->tensors, (g->n_tensors + p->n_tensors + 1) * sizeof(*tensors));

    if (!tensors)
        return -ENOMEM;
    g->tensors = tensors;
    p->part->memory = calloc(1, p->used + 1);       /* + 1: an empty file is no failed allocation */
    if (!p->part->memory)
        return -ENOMEM;
    p->part->memory_bytes = p->used;
    p->limit = p->used;
    p->storing = true;
    return 0;
}

int gguf_part_parse(struct gguf *g, size_t i)
{
    struct gguf_part *part = &g->parts[i];
    struct parser *p = calloc(1, sizeof(*p));
    int err;

    if (!p)
        return -ENOMEM;
    p->r = (struct gguf_reader){ .path = part->path, .fd = part->fd, .size = part->size };
    p->g = g;
    p->part = part;
    p->part_index = (uint32_t)i;
    p->first_tensor = g->n_tensors;
    p->limit = GGUF_MAX_METADATA;
    for (size_t j = 0; j < i; j++)
        p->limit -= g->parts[j].memory_bytes;       /* the limit is one for all parts */

    err = take_header(p);
    if (!err)
        err = walk(p);
    if (!err)
        err = take_memory(p);
    if (!err)
        err = walk(p);
    if (!err)
        err = place_tensors(p);
    free(p);
    return err;
}
