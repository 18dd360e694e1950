#include "weights/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/log.h"
#include "common/utf8.h"
#include "weights/gguf_internal.h"

/* In the order of enum safetensors_type. */
static const struct { const char *name; uint8_t bits; } types[SAFETENSORS_TYPE_COUNT] = {
    { "BOOL", 8 }, { "U8", 8 }, { "I8", 8 }, { "F8_E4M3", 8 }, { "F8_E5M2", 8 }, { "F8_E8M0", 8 }, { "F8_E4M3FNUZ", 8 },
    { "F8_E5M2FNUZ", 8 }, { "I16", 16 }, { "U16", 16 }, { "F16", 16 }, { "BF16", 16 }, { "I32", 32 }, { "U32", 32 }, { "F32", 32 },
    { "I64", 64 }, { "U64", 64 }, { "F64", 64 }, { "C64", 64 }, { "F4", 4 }, { "F6_E2M3", 6 }, { "F6_E3M2", 6 },
};

const char *safetensors_type_name(enum safetensors_type type)
{
    return types[type].name;
}

uint32_t safetensors_type_bits(enum safetensors_type type)
{
    return types[type].bits;
}

/*
 * The header's JSON is read as what it must be, byte by byte: an object of objects with three known fields. The header may
 * have 100 MB, so no tree is made of it.
 */
struct header {
    struct gguf_reader r;
    uint64_t end;                       /* of the header, in the file */
    struct safetensors_list *list;
    uint32_t part;
    int err;
    bool peeked;
    char byte;                          /* the one peeked at */
    size_t n;                           /* bytes of text[], the string read last */
    char text[SAFETENSORS_MAX_NAME + 1];
};

#define FAIL(h, ...) ((h)->err ? (h)->err : ((h)->err = gguf_reader_fail(&(h)->r, __VA_ARGS__)))

static char peek(struct header *h)
{
    if (!h->peeked && !h->err) {
        if (h->r.at >= h->end) {
            FAIL(h, "the header's JSON ends early");
            return '\0';
        }
        h->err = gguf_reader_bytes(&h->r, &h->byte, 1);
        h->peeked = true;
    }
    return h->err ? '\0' : h->byte;
}

static char next(struct header *h)
{
    char c = peek(h);

    h->peeked = false;
    return c;
}

static uint64_t place(const struct header *h)
{
    return h->r.at - h->peeked;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static char skip_space(struct header *h)
{
    while (!h->err && is_space(peek(h)))
        next(h);
    return peek(h);
}

static bool expect(struct header *h, char c)
{
    if (skip_space(h) != c)
        FAIL(h, "expected '%c' at byte %" PRIu64, c, place(h));
    else
        next(h);
    return !h->err;
}

/* True when another element or member follows; false at the closing bracket, which is taken. */
static bool more(struct header *h, char close, bool first)
{
    char c = skip_space(h);

    if (c == close) {
        next(h);
        return false;
    }
    return first ? !h->err : expect(h, ',');
}

static uint32_t hex4(struct header *h)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        char c = next(h);
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            FAIL(h, "\\u without four hex digits at byte %" PRIu64, place(h));
        value = value * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return h->err ? 0 : value;
}

static void put_byte(struct header *h, char c)
{
    if (h->n == SAFETENSORS_MAX_NAME)
        FAIL(h, "a name of more than %d bytes at byte %" PRIu64, SAFETENSORS_MAX_NAME, place(h));
    else
        h->text[h->n++] = c;
}

static void take_escape(struct header *h)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = next(h), encoded[4];
    const char *known = c ? strchr(from, c) : NULL;

    if (known) {
        put_byte(h, to[known - from]);
        return;
    }
    if (c != 'u') {
        FAIL(h, "unknown escape at byte %" PRIu64, place(h));
        return;
    }
    uint32_t code_point = hex4(h);
    if (code_point >= 0xd800 && code_point < 0xdc00 && next(h) == '\\' && next(h) == 'u') {
        uint32_t low = hex4(h);
        code_point = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code_point - 0xd800) << 10) + (low - 0xdc00) : 0xd800;
    }
    if (!h->err && (code_point == 0 || (code_point >= 0xd800 && code_point < 0xe000)))
        FAIL(h, "\\u%04x is no character, at byte %" PRIu64, code_point, place(h));
    size_t n = h->err ? 0 : utf8_encode(code_point, encoded);
    for (size_t i = 0; i < n; i++)
        put_byte(h, encoded[i]);
}

/* A string to h->text. */
static bool take_string(struct header *h)
{
    h->n = 0;
    if (!expect(h, '"'))
        return false;
    for (char c = next(h); !h->err && c != '"'; c = next(h)) {
        if (c == '\\')
            take_escape(h);
        else if ((unsigned char)c < 0x20)
            FAIL(h, "control byte 0x%02x in a string at byte %" PRIu64, (unsigned char)c, place(h));
        else
            put_byte(h, c);
    }
    h->text[h->n] = '\0';
    if (!h->err && utf8_check(h->text, h->n) != h->n)
        FAIL(h, "a string that is no UTF-8 before byte %" PRIu64, place(h));
    return !h->err;
}

static bool text_is(const struct header *h, const char *text)
{
    return h->n == strlen(text) && !memcmp(h->text, text, h->n);
}

static uint64_t take_integer(struct header *h)
{
    uint64_t value = 0;
    char c = skip_space(h);

    if (c < '0' || c > '9')
        FAIL(h, "expected an integer of 0 or more at byte %" PRIu64, place(h));
    const bool zero = c == '0';
    for (int n = 0; !h->err && c >= '0' && c <= '9'; n++) {
        if ((n && zero) || !checked_mul(value, 10, &value) || !checked_add(value, (uint64_t)(c - '0'), &value))
            FAIL(h, "an integer beyond 64 bits, or with a leading zero, at byte %" PRIu64, place(h));
        next(h);
        c = peek(h);
    }
    if (!h->err && (c == '.' || c == 'e' || c == 'E'))
        FAIL(h, "expected an integer at byte %" PRIu64, place(h));
    return value;
}

/* A string that means nothing here, of any length. */
static void skip_string(struct header *h)
{
    char c[4];
    uint32_t code_point;

    if (!expect(h, '"'))
        return;
    for (c[0] = next(h); !h->err && c[0] != '"'; c[0] = next(h)) {
        int length = utf8_decode(c, 1, &code_point);
        for (size_t n = 1; length == UTF8_INCOMPLETE && n < sizeof(c); n++) {
            c[n] = next(h);
            length = utf8_decode(c, n + 1, &code_point);
        }
        if (length <= 0 || (unsigned char)c[0] < 0x20)
            FAIL(h, "a string that is no UTF-8 text before byte %" PRIu64, place(h));
        else if (c[0] == '\\')
            next(h);
    }
}

/* A value that means nothing here: any JSON, without recursion. */
static void skip_value(struct header *h)
{
    unsigned depth = 0;

    do {
        char c = skip_space(h);
        if (c == '"') {
            skip_string(h);
        } else if (c == '{' || c == '[') {
            next(h);
            if (++depth > 64)
                FAIL(h, "nested deeper than 64 at byte %" PRIu64, place(h));
        } else if (c == '}' || c == ']' || c == ',' || c == ':') {
            next(h);
            if (!depth)
                FAIL(h, "expected a value at byte %" PRIu64, place(h));
            depth -= c == '}' || c == ']';
        } else {
            size_t n = 0;
            for (; !h->err && (c == '-' || c == '+' || c == '.' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'E'); n++) {
                next(h);
                c = peek(h);
            }
            if (!n)
                FAIL(h, "expected a value at byte %" PRIu64, place(h));
        }
    } while (!h->err && depth);
}

static void take_metadata(struct header *h)
{
    if (skip_space(h) == 'n') {         /* null: the official reader accepts it */
        skip_value(h);
        return;
    }
    if (!expect(h, '{'))
        return;
    for (bool first = true; more(h, '}', first); first = false) {
        skip_string(h);
        if (!expect(h, ':'))
            return;
        if (skip_space(h) != '"')
            FAIL(h, "a value of __metadata__ is no string, at byte %" PRIu64, place(h));
        skip_string(h);
    }
}

static void take_shape(struct header *h, struct safetensors_tensor *t)
{
    if (!expect(h, '['))
        return;
    for (bool first = true; more(h, ']', first) && !h->err; first = false) {
        if (t->rank == SAFETENSORS_MAX_RANK)
            FAIL(h, "more than %d dimensions", SAFETENSORS_MAX_RANK);
        else
            t->shape[t->rank++] = take_integer(h);
    }
}

static void take_offsets(struct header *h, uint64_t *begin, uint64_t *end)
{
    if (!expect(h, '['))
        return;
    *begin = take_integer(h);
    if (expect(h, ','))
        *end = take_integer(h);
    if (!h->err)
        expect(h, ']');
}

static void take_type(struct header *h, struct safetensors_tensor *t)
{
    char quoted[GGUF_QUOTED];
    size_t i = 0;

    if (!take_string(h))
        return;
    while (i < SAFETENSORS_TYPE_COUNT && !text_is(h, types[i].name))
        i++;
    if (i == SAFETENSORS_TYPE_COUNT)
        FAIL(h, "type %s is unknown", gguf_quote((struct gguf_string){ h->text, h->n }, quoted));
    t->type = (enum safetensors_type)i;
}

/* What shape and type say must be what the offsets say. */
static void check_tensor(struct header *h, struct safetensors_tensor *t, uint64_t begin, uint64_t end)
{
    const uint64_t data = h->end, data_bytes = h->r.size - h->end;
    uint64_t bits = types[t->type].bits;

    for (uint32_t d = 0; d < t->rank && !h->err; d++)
        if (!checked_mul(bits, t->shape[d], &bits))
            FAIL(h, "the product of its shape exceeds 64 bits");
    if (h->err)
        return;
    if (begin > end)
        FAIL(h, "begins at %" PRIu64 " and ends at %" PRIu64, begin, end);
    else if (end > data_bytes)
        FAIL(h, "ends at %" PRIu64 ", the file has %" PRIu64 " bytes of data", end, data_bytes);
    else if (bits % 8 || bits / 8 != end - begin)
        FAIL(h, "has %" PRIu64 " bytes, its shape and type need %" PRIu64 "%s", end - begin, bits / 8, bits % 8 ? " and some bits" : "");
    t->offset = data + begin;
    t->bytes = end - begin;
}

static struct name_array names_of(const struct safetensors_list *list)
{
    return (struct name_array){ list->tensors, sizeof(*list->tensors) };
}

int safetensors_add(struct safetensors_list *list, const struct safetensors_tensor *t)
{
    if (list->n == SAFETENSORS_MAX_TENSORS)
        return -E2BIG;
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 64;
        struct safetensors_tensor *tensors = realloc(list->tensors, cap * sizeof(*tensors));
        if (!tensors)
            return -ENOMEM;
        list->tensors = tensors;
        list->cap = cap;
    }
    char *name = malloc(t->name.len + 1);
    if (!name)
        return -ENOMEM;
    memcpy(name, t->name.data, t->name.len);
    name[t->name.len] = '\0';
    list->tensors[list->n] = *t;
    list->tensors[list->n].name.data = name;
    list->n++;
    return name_table_add(&list->names, names_of(list), (uint32_t)list->n - 1);
}

static void keep_tensor(struct header *h, const struct safetensors_tensor *t)
{
    h->err = safetensors_add(h->list, t);
    if (h->err == -E2BIG) {
        h->err = 0;
        FAIL(h, "the model has more than %d tensors", SAFETENSORS_MAX_TENSORS);
    }
}

/* The member whose name is in h->text. */
static void take_tensor(struct header *h)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    struct safetensors_tensor t = { .part = h->part };
    char name[SAFETENSORS_MAX_NAME + 1], quoted[GGUF_QUOTED];
    uint64_t begin = 0, end = 0;
    unsigned seen = 0;

    memcpy(name, h->text, h->n + 1);
    t.name = (struct gguf_string){ name, h->n };
    gguf_reader_object(&h->r, "tensor %s", gguf_quote(t.name, quoted));
    if (memchr(name, '\0', t.name.len))
        FAIL(h, "a NUL in its name");
    if (safetensors_find(h->list, t.name))
        FAIL(h, "comes twice");
    if (!expect(h, '{'))
        return;
    for (bool first = true; more(h, '}', first); first = false) {
        if (!take_string(h))
            return;
        const unsigned field = text_is(h, "dtype") ? DTYPE : text_is(h, "shape") ? SHAPE : text_is(h, "data_offsets") ? OFFSETS : 0;
        if (seen & field)
            FAIL(h, "the field \"%s\" comes twice", h->text);
        seen |= field;
        if (!expect(h, ':'))
            return;
        if (field == DTYPE)
            take_type(h, &t);
        else if (field == SHAPE)
            take_shape(h, &t);
        else if (field == OFFSETS)
            take_offsets(h, &begin, &end);
        else
            skip_value(h);
    }
    if (!h->err && seen != (DTYPE | SHAPE | OFFSETS))
        FAIL(h, "lacks one of dtype, shape and data_offsets");
    if (!h->err)
        check_tensor(h, &t, begin, end);
    if (!h->err)
        keep_tensor(h, &t);
}

static int compare_places(const void *a, const void *b)
{
    const struct safetensors_tensor *x = *(const struct safetensors_tensor *const *)a, *y = *(const struct safetensors_tensor *const *)b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);       /* an empty one before the one that begins there */
}

/* The tensors of this file fill its data: no gap, no overlap, nothing after the last. */
static void check_cover(struct header *h, size_t first)
{
    const size_t n = h->list->n - first;
    const struct safetensors_tensor **order = malloc((n ? n : 1) * sizeof(*order));
    uint64_t at = h->end;
    char a[GGUF_QUOTED], b[GGUF_QUOTED];

    if (!order) {
        h->err = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++)
        order[i] = &h->list->tensors[first + i];
    qsort(order, n, sizeof(*order), compare_places);
    gguf_reader_object(&h->r, "data at byte %" PRIu64, h->end);
    for (size_t i = 0; i < n && !h->err; i++) {
        if (order[i]->offset < at)
            FAIL(h, "tensors %s and %s overlap", gguf_quote(order[i - 1]->name, a), gguf_quote(order[i]->name, b));
        else if (order[i]->offset > at)
            FAIL(h, "%" PRIu64 " bytes before tensor %s belong to none", order[i]->offset - at, gguf_quote(order[i]->name, a));
        at = order[i]->offset + order[i]->bytes;
    }
    if (!h->err && at != h->r.size)
        FAIL(h, "%" PRIu64 " bytes after the last tensor", h->r.size - at);
    free(order);
}

static void take_header(struct header *h)
{
    uint64_t n = 0;

    gguf_reader_object(&h->r, "header at byte 0");
    h->err = gguf_reader_u64(&h->r, &n);
    if (h->err)
        return;
    if (n > SAFETENSORS_MAX_HEADER || n > gguf_reader_left(&h->r))
        FAIL(h, "a header of %" PRIu64 " bytes in a file of %" PRIu64 "%s", n, h->r.size,
             n <= gguf_reader_left(&h->r) ? ", at most 100000000" : ": cut short, or not a safetensors file");
    else if (n < 2)
        FAIL(h, "a header of %" PRIu64 " bytes, at least 2", n);
    h->end = h->err ? 0 : 8 + n;
    if (h->err || !expect(h, '{'))
        return;
    bool metadata = false;
    for (bool first = true; more(h, '}', first); first = false) {
        if (!take_string(h))
            return;
        if (text_is(h, "__metadata__")) {
            if (metadata)
                FAIL(h, "__metadata__ comes twice");
            metadata = true;
            if (expect(h, ':'))
                take_metadata(h);
        } else {
            /* The name is kept while the colon is looked for. */
            if (expect(h, ':'))
                take_tensor(h);
        }
        gguf_reader_object(&h->r, "header at byte 0");
    }
    while (!h->err && (h->peeked || h->r.at < h->end))
        if (!is_space(next(h)))
            FAIL(h, "text after the JSON at byte %" PRIu64, place(h) - 1);
}

int safetensors_read(struct safetensors_list *list, const char *path, int fd, uint64_t size, uint32_t part)
{
    struct header *h = calloc(1, sizeof(*h));
    const size_t first = list->n;

    if (!h)
        return -ENOMEM;
    h->r = (struct gguf_reader){ .path = path, .fd = fd, .size = size };
    h->list = list;
    h->part = part;
    take_header(h);
    if (!h->err)
        check_cover(h, first);
    int err = h->err;
    if (err == -ENOMEM)
        log_error("%s: no memory for its list of tensors", path);
    free(h);
    return err;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors_list *list, struct gguf_string name)
{
    int64_t i = name_table_find(&list->names, names_of(list), name);

    return i < 0 ? NULL : &list->tensors[i];
}

void safetensors_free(struct safetensors_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free((char *)list->tensors[i].name.data);
    free(list->tensors);
    name_table_free(&list->names);
    *list = (struct safetensors_list){ 0 };
}
