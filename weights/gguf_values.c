/*
 * gguf_values.c - typed access to the metadata of an open GGUF file: what a key holds is checked before it is used, since a file
 * may declare bytes where a caller expects floats, and be read beyond its end.
 */
#include "weights/gguf_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"

const struct gguf_kv *gguf_part_find(const struct gguf_part *part, const char *key)
{
    int64_t i = name_table_find(&part->keys, gguf_keys_of(part), (struct gguf_string){ key, strlen(key) });

    return i < 0 ? NULL : &part->kv[i];
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    return gguf_part_find(&g->parts[0], key);
}

size_t gguf_n_kv(const struct gguf *g)
{
    return g->parts[0].n_kv;
}

const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i)
{
    assert(i < gguf_n_kv(g));
    return &g->parts[0].kv[i];
}

static bool is_integer(enum gguf_type type)
{
    switch (type) {
    case GGUF_U8: case GGUF_I8: case GGUF_U16: case GGUF_I16: case GGUF_U32: case GGUF_I32: case GGUF_U64: case GGUF_I64:
        return true;
    default:
        return false;
    }
}

static bool is_float(enum gguf_type type)
{
    return type == GGUF_F32 || type == GGUF_F64;
}

#define LOAD(type) ({ type v; memcpy(&v, (const char *)kv->values + i * sizeof(v), sizeof(v)); v; })

int64_t gguf_int_at(const struct gguf_kv *kv, uint64_t i)
{
    assert(i < kv->n);
    switch (kv->element_type) {
    case GGUF_U8:
    case GGUF_BOOL:
        return LOAD(uint8_t);
    case GGUF_I8:
        return LOAD(int8_t);
    case GGUF_U16:
        return LOAD(uint16_t);
    case GGUF_I16:
        return LOAD(int16_t);
    case GGUF_U32:
        return LOAD(uint32_t);
    case GGUF_I32:
        return LOAD(int32_t);
    case GGUF_I64:
        return LOAD(int64_t);
    case GGUF_U64: {
        uint64_t value = LOAD(uint64_t);
        return value > INT64_MAX ? INT64_MAX : (int64_t)value;
    }
    default:
        assert(!"the caller checks that it is an integer");
        return 0;
    }
}

double gguf_float_at(const struct gguf_kv *kv, uint64_t i)
{
    assert(i < kv->n);
    if (kv->element_type == GGUF_F32)
        return LOAD(float);
    if (kv->element_type == GGUF_F64)
        return LOAD(double);
    return (double)gguf_int_at(kv, i);
}

static int fail(const struct gguf_part *part, const struct gguf_kv *kv, const char *text)
{
    char quoted[GGUF_QUOTED];

    if (kv->offset)
        log_error("%s: metadata at byte %" PRIu64 ": key %s%s", part->path, kv->offset, gguf_quote(kv->key, quoted), text);
    else
        log_error("%s: key %s%s", part->path, gguf_quote(kv->key, quoted), text);
    return -EINVAL;
}

static int wrong_type(const struct gguf_part *part, const struct gguf_kv *kv, const char *expected)
{
    char text[64];

    snprintf(text, sizeof(text), ": %s%s, expected %s", kv->type == GGUF_ARRAY ? "array of " : "",
             gguf_type_name(kv->element_type), expected);
    return fail(part, kv, text);
}

int gguf_part_get_u64(const struct gguf_part *part, const char *key, uint64_t least, uint64_t most, uint64_t *out)
{
    const struct gguf_kv *kv = gguf_part_find(part, key);
    char text[96];
    uint64_t value;

    if (!kv)
        return -ENOENT;
    if (!is_integer(kv->type))
        return wrong_type(part, kv, "an integer");
    if (kv->type == GGUF_U64) {
        memcpy(&value, kv->values, sizeof(value));
    } else {
        int64_t number = gguf_int_at(kv, 0);
        value = (uint64_t)number;
        if (number < 0) {
            snprintf(text, sizeof(text), " is %" PRId64 ", expected %" PRIu64 "..%" PRIu64, number, least, most);
            return fail(part, kv, text);
        }
    }
    if (value < least || value > most) {
        snprintf(text, sizeof(text), " is %" PRIu64 ", expected %" PRIu64 "..%" PRIu64, value, least, most);
        return fail(part, kv, text);
    }
    *out = value;
    return 0;
}

int gguf_get_u64(const struct gguf *g, const char *key, uint64_t least, uint64_t most, uint64_t *out)
{
    return gguf_part_get_u64(&g->parts[0], key, least, most, out);
}

int gguf_get_f64(const struct gguf *g, const char *key, double least, double most, double *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    char text[96];
    double value;

    if (!kv)
        return -ENOENT;
    if (!is_float(kv->type))
        return wrong_type(&g->parts[0], kv, "f32");
    value = gguf_float_at(kv, 0);
    if (!(value >= least && value <= most)) {       /* so that NaN is refused */
        snprintf(text, sizeof(text), " is %g, expected %g..%g", value, least, most);
        return fail(&g->parts[0], kv, text);
    }
    *out = value;
    return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv)
        return -ENOENT;
    if (kv->type != GGUF_BOOL)
        return wrong_type(&g->parts[0], kv, "bool");
    *out = gguf_int_at(kv, 0) != 0;
    return 0;
}

int gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv)
        return -ENOENT;
    if (kv->type != GGUF_STRING)
        return wrong_type(&g->parts[0], kv, "string");
    *out = kv->strings[0];
    return 0;
}

int gguf_get_strings(const struct gguf *g, const char *key, const struct gguf_string **out, uint64_t *n)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv)
        return -ENOENT;
    if (kv->type != GGUF_ARRAY || kv->element_type != GGUF_STRING)
        return wrong_type(&g->parts[0], kv, "array of string");
    *out = kv->strings;
    *n = kv->n;
    return 0;
}
