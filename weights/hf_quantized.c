#include "weights/hf_quantized.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "weights/gguf_internal.h"
#include "weights/hf_config.h"

/* A matrix while it is looked at. */
struct module {
    const struct hf_config *c;
    const struct safetensors_list *list;
    const struct gguf_builder *b;
    const char *name;
    size_t n_stem;                  /* of the name, without ".weight" */
    uint64_t n_rows, n_columns;
    int type;                       /* enum dtype */
    struct quantized_rows q;
};

__attribute__((format(printf, 2, 3)))
static int fail(const struct module *m, const char *format, ...)
{
    char quoted[GGUF_QUOTED], text[192];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return hf_fail(&m->c->file, "quantized matrix %s of its model: %s", gguf_quote((struct gguf_string){ m->name, m->n_stem }, quoted),
                   text);
}

static const struct safetensors_tensor *find(const struct module *m, const char *suffix)
{
    char name[SAFETENSORS_MAX_NAME + 32];
    const int n = snprintf(name, sizeof(name), "%.*s%s", (int)m->n_stem, m->name, suffix);

    return safetensors_find(m->list, (struct gguf_string){ name, (size_t)n });
}

/* A tensor of one type and two dimensions. */
static int find_matrix(const struct module *m, const char *suffix, enum safetensors_type type, const struct safetensors_tensor **out)
{
    const struct safetensors_tensor *t = *out = find(m, suffix);

    if (!t)
        return fail(m, "\"%s\" is missing", suffix + 1);
    if (t->type != type)
        return fail(m, "\"%s\" has type %s, expected %s", suffix + 1, safetensors_type_name(t->type), safetensors_type_name(type));
    if (t->rank != 2 || t->strided || t->shape[0] < 1 || t->shape[1] < 1 || t->shape[0] > INT32_MAX || t->shape[1] > INT32_MAX / 8)
        return fail(m, "\"%s\" is no matrix that lies in one piece", suffix + 1);
    return 0;
}

static struct stored_matrix stored(const struct safetensors_tensor *t, uint64_t n_slow, uint64_t n_fast, bool by_input)
{
    return (struct stored_matrix){ .part = t->part, .offset = t->offset, .n_slow = n_slow, .n_fast = n_fast,
                                   .element_bytes = safetensors_type_bits(t->type) / 8, .by_input = by_input };
}

static int wrong_shape(const struct module *m, const char *what, const struct safetensors_tensor *t)
{
    return fail(m, "%s [%" PRIu64 ", %" PRIu64 "] do not fit the weights' [%" PRIu64 ", %" PRIu64 "]", what, t->rank ? t->shape[0] : 1,
                t->rank > 1 ? t->shape[1] : 1, m->n_rows, m->n_columns);
}

/* The scales' type, one that quantized_rows.h has. */
static int set_scale_type(struct module *m, const struct safetensors_tensor *t)
{
    static const struct { enum safetensors_type stored; enum scale_type type; } known[] = {
        { SAFETENSORS_F16, SCALES_F16 }, { SAFETENSORS_BF16, SCALES_BF16 }, { SAFETENSORS_F32, SCALES_F32 },
        { SAFETENSORS_F8_E8M0, SCALES_E8M0 },
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].stored == t->type) {
            m->q.scale_type = known[i].type;
            return 0;
        }
    return fail(m, "scales of type %s are not supported", safetensors_type_name(t->type));
}

/* n_groups groups share a row's columns. */
static int set_groups(struct module *m, uint64_t n_groups, uint64_t least)
{
    const uint64_t said = m->c->quantization.group, group = n_groups ? m->n_columns / n_groups : 0;

    if (!n_groups || m->n_columns % n_groups)
        return fail(m, "%" PRIu64 " columns in %" PRIu64 " groups", m->n_columns, n_groups);
    if (said && group != (said < m->n_columns ? said : m->n_columns))
        return fail(m, "groups of %" PRIu64 " columns, where \"group_size\" is %" PRIu64, group, said);
    if (n_groups > 1 && group % least)
        return fail(m, "groups of %" PRIu64 " columns are not supported: multiples of %" PRIu64 " are", group, least);
    m->q.group_columns = group;
    m->q.group_rows = 1;
    return 0;
}

static int read_some(const struct module *m, const struct safetensors_tensor *t, uint64_t from, void *dst, size_t n)
{
    return gguf_pread(m->b->g->parts[t->part].fd, dst, n, t->offset + from) ? fail(m, "its tensors cannot be read") : 0;
}

/* Columns must be in the groups' order; those that act-order has scattered would need the inputs in another order. */
static int check_order(const struct module *m, const char *suffix)
{
    const struct safetensors_tensor *t = find(m, suffix);
    int32_t group[1024];
    int err = 0;

    if (!t)
        return 0;
    if (t->type != SAFETENSORS_I32 || t->rank != 1 || t->strided || t->shape[0] != m->n_columns)
        return fail(m, "\"%s\" is no list of %" PRIu64 " groups in I32", suffix + 1, m->n_columns);
    for (uint64_t i = 0; i < m->n_columns && !err; i += 1024) {
        const size_t n = m->n_columns - i < 1024 ? (size_t)(m->n_columns - i) : 1024;
        err = read_some(m, t, i * sizeof(*group), group, n * sizeof(*group));
        for (size_t j = 0; j < n && !err; j++)
            if (group[j] < 0 || (uint64_t)group[j] != (i + j) / m->q.group_columns)
                err = fail(m, "column %zu is of group %" PRId32 ": act-order (\"desc_act\") is not supported; take the model before it was "
                           "quantized, and `fourway quantize`", (size_t)i + j, group[j]);
    }
    return err;
}

/* What codes of 4 or 8 bits with a zero point can be, exactly. */
static int set_type(struct module *m, uint32_t bits, bool symmetric)
{
    m->type = bits == 8 ? DTYPE_Q8_0 : symmetric ? DTYPE_Q4_0 : DTYPE_Q5_0;
    m->q.zero = bits == 8 ? 128 : 8;
    if (bits == 8 && !symmetric)
        return fail(m, "8 bits that are not symmetric are not supported; take the model before it was quantized, and `fourway quantize`");
    return 0;
}

/* GPTQ: qweight [in / per, out], qzeros [groups, out / per], scales [groups, out]. AWQ: qweight [in, out / 8], the rest as there. */
static int look_at_gptq(struct module *m)
{
    const struct hf_quantization *said = &m->c->quantization;
    const bool awq = said->method == HF_AWQ;
    const uint32_t per = 32 / said->bits;
    const struct safetensors_tensor *codes, *zeros, *scales = find(m, ".scales");
    int err = find_matrix(m, ".qweight", SAFETENSORS_I32, &codes);

    if (!err)
        err = find_matrix(m, ".qzeros", SAFETENSORS_I32, &zeros);
    if (!err)
        err = scales ? set_scale_type(m, scales) : fail(m, "\"scales\" is missing");
    if (err)
        return err;
    m->n_rows = awq ? codes->shape[1] * per : codes->shape[1];
    m->n_columns = awq ? codes->shape[0] : codes->shape[0] * per;
    if (zeros->shape[1] * per != m->n_rows)
        return wrong_shape(m, "zero points", zeros);
    if (scales->rank != 2 || scales->strided || scales->shape[0] != zeros->shape[0] || scales->shape[1] != m->n_rows)
        return wrong_shape(m, "scales", scales);
    err = set_groups(m, scales->shape[0], 32);
    if (!err && !awq)
        err = check_order(m, ".g_idx");
    if (!err)
        err = set_type(m, said->bits, said->symmetric);
    m->q.codes = (struct stored_codes){ stored(codes, codes->shape[0], codes->shape[1], true), said->bits, awq, awq };
    m->q.zeros = (struct stored_codes){ stored(zeros, zeros->shape[0], zeros->shape[1], true), said->bits, true, awq };
    m->q.scales = stored(scales, scales->shape[0], scales->shape[1], true);
    m->q.has_zeros = true;
    m->q.zero_plus = said->zero_plus;
    return err;
}

/* weight_scale of compressed-tensors: [out, groups]. */
static int set_row_scales(struct module *m, uint64_t least, const struct safetensors_tensor **out)
{
    const struct safetensors_tensor *t = *out = find(m, ".weight_scale");
    int err = t ? set_scale_type(m, t) : fail(m, "\"weight_scale\" is missing");

    if (err)
        return err;
    if (t->rank != 2 || t->strided || t->shape[0] != m->n_rows)
        return wrong_shape(m, "scales", t);
    m->q.scales = stored(t, t->shape[0], t->shape[1], false);
    return set_groups(m, t->shape[1], least);
}

/* weight_packed [out, in / per] of 32-bit words; weight_shape has the two numbers. */
static int look_at_packed(struct module *m)
{
    const struct safetensors_tensor *codes, *shape = find(m, ".weight_shape"), *zeros = find(m, ".weight_zero_point"), *scales;
    int64_t size[2];
    int err = find_matrix(m, ".weight_packed", SAFETENSORS_I32, &codes);

    if (!err && (!shape || shape->type != SAFETENSORS_I64 || shape->bytes != sizeof(size) || shape->strided))
        err = fail(m, "\"weight_shape\" is missing, or no two numbers in I64");
    if (!err)
        err = read_some(m, shape, 0, size, sizeof(size));
    if (err)
        return err;
    m->n_rows = codes->shape[0];
    m->n_columns = size[1] > 0 ? (uint64_t)size[1] : 0;
    const uint32_t bits = codes->shape[1] * 8 == m->n_columns ? 4 : codes->shape[1] * 4 == m->n_columns ? 8 : 0;
    if (!bits || (uint64_t)size[0] != m->n_rows)
        return fail(m, "\"weight_packed\" is [%" PRIu64 ", %" PRIu64 "], which are not 4 or 8 bits for each of [%" PRId64 ", %" PRId64 "]",
                    codes->shape[0], codes->shape[1], size[0], size[1]);
    m->q.codes = (struct stored_codes){ stored(codes, codes->shape[0], codes->shape[1], false), bits, false, false };
    err = set_row_scales(m, 32, &scales);
    if (!err)
        err = check_order(m, ".weight_g_idx");
    if (!err)
        err = set_type(m, bits, !zeros);
    if (err || !zeros)
        return err;
    if (zeros->type != SAFETENSORS_I32 || zeros->rank != 2 || zeros->strided || zeros->shape[0] != (m->n_rows + 7) / 8 ||
        zeros->shape[1] != scales->shape[1])
        return wrong_shape(m, "zero points", zeros);
    m->q.zeros = (struct stored_codes){ stored(zeros, zeros->shape[0], zeros->shape[1], false), bits, true, false };
    m->q.has_zeros = true;
    return 0;
}

/* weight_packed [out, in / 2] and weight_scale [out, in / 32], exponents, in bytes. */
static int look_at_mxfp4(struct module *m)
{
    const struct safetensors_tensor *codes, *scales = find(m, ".weight_scale");

    if (scales && scales->type == SAFETENSORS_F8_E4M3)
        return fail(m, "NVFP4 is not supported; take the model before it was quantized, and `fourway quantize`");
    int err = find_matrix(m, ".weight_packed", SAFETENSORS_U8, &codes);
    if (err)
        return err;
    m->n_rows = codes->shape[0];
    m->n_columns = codes->shape[1] * 2;
    if (!scales || (scales->type != SAFETENSORS_U8 && scales->type != SAFETENSORS_F8_E8M0))
        return fail(m, "\"weight_scale\" is missing, or no exponents in U8");
    if (scales->rank != 2 || scales->strided || scales->shape[0] != m->n_rows || scales->shape[1] * 32 != m->n_columns)
        return wrong_shape(m, "scales", scales);
    m->type = DTYPE_MXFP4;
    m->q.codes = (struct stored_codes){ stored(codes, codes->shape[0], codes->shape[1], false), 4, false, false };
    m->q.scales = stored(scales, scales->shape[0], scales->shape[1], false);
    m->q.scale_type = SCALES_E8M0;
    m->q.group_columns = 32;
    m->q.group_rows = 1;
    return 0;
}

static uint64_t parts(uint64_t n, uint64_t of)
{
    return (n + of - 1) / of;
}

/* One scale for the tensor, a row, groups of a row's columns, or blocks of rows and columns. */
static int set_byte_scales(struct module *m, const struct safetensors_tensor *t)
{
    const struct hf_quantization *said = &m->c->quantization;
    const uint64_t y = t->rank ? t->shape[0] : 1, x = t->rank > 1 ? t->shape[1] : 1, least = m->type == DTYPE_F8_E4M3 ? 128 : 32;

    if (t->rank > 2 || t->strided)
        return fail(m, "its scales are no matrix that lies in one piece");
    m->q.scales = stored(t, y, x, false);
    if (said->block_rows && y == parts(m->n_rows, said->block_rows) && x == parts(m->n_columns, said->block_columns)) {
        if (x > 1 && said->block_columns % least)
            return fail(m, "blocks of %" PRIu64 " columns are not supported: multiples of %" PRIu64 " are", said->block_columns, least);
        m->q.group_rows = said->block_rows;
        m->q.group_columns = said->block_columns;
        return 0;
    }
    if (y == 1 && x == 1) {
        m->q.group_rows = m->n_rows;
        m->q.group_columns = m->n_columns;
        return 0;
    }
    return y == m->n_rows ? set_groups(m, x, least) : wrong_shape(m, "scales", t);
}

/* weight [out, in] in I8 or F8_E4M3. */
static int look_at_bytes(struct module *m, enum safetensors_type type)
{
    const struct safetensors_tensor *codes, *inverse = find(m, ".weight_scale_inv"), *scales = inverse ? inverse : find(m, ".weight_scale");
    const struct safetensors_tensor *zeros = find(m, ".weight_zero_point");
    int err = find_matrix(m, ".weight", type, &codes);

    if (!err)
        err = scales ? set_scale_type(m, scales)
                     : fail(m, "\"weight_scale%s\" is missing", m->c->quantization.method == HF_FP8 ? "_inv" : "");
    if (err)
        return err;
    m->n_rows = codes->shape[0];
    m->n_columns = codes->shape[1];
    m->type = type == SAFETENSORS_I8 ? DTYPE_Q8_0 : DTYPE_F8_E4M3;
    m->q.f8 = type == SAFETENSORS_F8_E4M3;
    m->q.codes = (struct stored_codes){ stored(codes, codes->shape[0], codes->shape[1], false), 8, false, false };
    err = set_byte_scales(m, scales);
    if (err || !zeros || type != SAFETENSORS_I8)
        return err;
    if (zeros->type != SAFETENSORS_I8 || zeros->strided || zeros->bytes != m->q.scales.n_slow * m->q.scales.n_fast)
        return wrong_shape(m, "zero points", zeros);
    m->q.zeros = (struct stored_codes){ stored(zeros, m->q.scales.n_slow, m->q.scales.n_fast, false), 8, false, false };
    m->q.has_zeros = true;
    return 0;
}

static int look_at(struct module *m)
{
    const struct safetensors_tensor *packed = find(m, ".weight_packed"), *weight = find(m, ".weight");

    if (find(m, ".qweight"))
        return m->c->quantization.bits ? look_at_gptq(m) : fail(m, "\"qweight\" is there, but \"quant_method\" is not gptq or awq");
    if (packed)
        return packed->type == SAFETENSORS_U8 ? look_at_mxfp4(m) : look_at_packed(m);
    if (weight && (weight->type == SAFETENSORS_I8 || weight->type == SAFETENSORS_F8_E4M3))
        return look_at_bytes(m, weight->type);
    return -ENOENT;
}

int hf_quantized_find(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b, const char *name,
                      struct hf_quantized_matrix *out)
{
    struct module m = { .c = c, .list = list, .b = b, .name = name, .n_stem = strlen(name) - strlen(".weight"), .type = -1 };
    int err = c->quantization.method == HF_NOT_QUANTIZED ? -ENOENT : look_at(&m);

    if (err)
        return err == -ENOENT ? 0 : err;
    if (m.n_columns % 32)
        return fail(&m, "rows of %" PRIu64 " columns are not supported: multiples of 32 are", m.n_columns);
    struct quantized_rows *q = gguf_build_memory(b, sizeof(*q));
    if (!q)
        return -ENOMEM;
    *q = m.q;
    *out = (struct hf_quantized_matrix){ .type = (uint32_t)m.type, .n_columns = m.n_columns,
                                         .rows = { .n_rows = m.n_rows, .part = q->codes.in.part, .quantized = q } };
    return 1;
}

bool hf_quantized_name(const struct hf_config *c, const struct safetensors_tensor *t, char out[SAFETENSORS_MAX_NAME + 1], bool *codes)
{
    static const char *const parts_of[] = { ".qzeros", ".scales", ".g_idx", ".weight_scale", ".weight_scale_inv", ".weight_shape",
                                            ".weight_zero_point", ".weight_g_idx", ".input_scale", ".input_zero_point", ".output_scale",
                                            ".k_scale", ".v_scale" };
    const char *suffix = strrchr(t->name.data, '.');

    *codes = false;
    memcpy(out, t->name.data, t->name.len + 1);
    if (!suffix || c->quantization.method == HF_NOT_QUANTIZED)
        return true;
    for (size_t i = 0; i < sizeof(parts_of) / sizeof(parts_of[0]); i++)
        if (!strcmp(suffix, parts_of[i]))
            return false;
    *codes = !strcmp(suffix, ".qweight") || !strcmp(suffix, ".weight_packed") ||
             (!strcmp(suffix, ".weight") && (t->type == SAFETENSORS_I8 || t->type == SAFETENSORS_F8_E4M3));
    if (*codes)
        strcpy(out + (suffix - t->name.data), ".weight");
    return true;
}
