#include "weights/hf_assembly.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "weights/gguf_internal.h"

void assembly_begin(struct assembly *a, size_t most_pieces)
{
    a->pieces = a->err ? NULL : gguf_build_memory(a->b, most_pieces * sizeof(*a->pieces));
    a->cap = most_pieces;
    a->n_pieces = 0;
    a->type = -1;
    a->n_rows = 0;
    if (!a->pieces && !a->err)
        a->err = -ENOMEM;
}

void assembly_fail(struct assembly *a, const char *name, const char *what)
{
    char quoted[GGUF_QUOTED];

    if (!a->err)
        a->err = hf_fail(&a->c->file, "tensor %s of its model %s", gguf_quote((struct gguf_string){ name, strlen(name) }, quoted), what);
}

const struct safetensors_tensor *assembly_find(const struct assembly *a, const char *format, ...)
{
    char name[SAFETENSORS_MAX_NAME + 1];
    va_list args;

    va_start(args, format);
    const int n = vsnprintf(name, sizeof(name), format, args);
    va_end(args);
    return safetensors_find(a->list, (struct gguf_string){ name, (size_t)n });
}

int assembly_dtype(enum safetensors_type type)
{
    return type == SAFETENSORS_BF16 ? DTYPE_BF16 : type == SAFETENSORS_F16 ? DTYPE_F16 : type == SAFETENSORS_F32 ? DTYPE_F32 : -1;
}

uint64_t assembly_stride(const struct safetensors_tensor *t, uint32_t dim)
{
    uint64_t bytes = safetensors_type_bits(t->type) / 8;

    if (t->strided)
        return t->stride[dim];
    for (uint32_t d = dim + 1; d < t->rank; d++)
        bytes *= t->shape[d];
    return bytes;
}

void assembly_add(struct assembly *a, const char *name, int type, const struct tensor_piece *piece, uint64_t n_columns)
{
    if (a->err)
        return;
    if (type < 0 || (a->type >= 0 && type != a->type)) {
        assembly_fail(a, name, type < 0 ? "has a type that is not supported (F32, F16 and BF16 are)" : "has another type than its likes");
        return;
    }
    if ((a->type >= 0 && n_columns != a->n_columns) || n_columns < 1 || n_columns > INT32_MAX || a->n_pieces == a->cap) {
        assembly_fail(a, name, "has another shape than its configuration says");
        return;
    }
    a->type = type;
    a->n_columns = n_columns;
    a->n_rows += piece->n_rows;
    a->pieces[a->n_pieces++] = *piece;
}

void assembly_add_rows(struct assembly *a, const struct safetensors_tensor *t, uint64_t first, uint64_t n, uint64_t tap)
{
    if (a->err)
        return;
    if (t->rank < 2 || t->shape[0] < first + n || (t->rank > 2 && t->shape[2] <= tap)) {
        assembly_fail(a, t->name.data, "has another shape than its configuration says");
        return;
    }
    const struct tensor_piece piece = {
        .n_rows = n, .part = t->part, .offset = t->offset + first * assembly_stride(t, 0) + (t->rank > 2 ? tap * assembly_stride(t, 2) : 0),
        .row_stride = assembly_stride(t, 0), .element_stride = assembly_stride(t, 1) };
    assembly_add(a, t->name.data, assembly_dtype(t->type), &piece, t->shape[1]);
}

bool assembly_add_quantized(struct assembly *a, const char *name)
{
    struct hf_quantized_matrix m;
    const int found = a->err ? 0 : hf_quantized_find(a->c, a->list, a->b, name, &m);

    if (found < 0)
        a->err = found;
    if (found > 0)
        assembly_add(a, name, (int)m.type, &m.rows, m.n_columns);
    return found != 0;
}

void assembly_put(struct assembly *a, uint64_t n_stacked, bool wide, const char *format, ...)
{
    char name[GGUF_MAX_NAME + 1];
    va_list args;

    if (a->err)
        return;
    va_start(args, format);
    vsnprintf(name, sizeof(name), format, args);
    va_end(args);
    for (size_t i = 1; n_stacked > 1 && i < a->n_pieces; i++) {
        if (a->pieces[i].n_rows != a->pieces[0].n_rows) {
            assembly_fail(a, name, "cannot be stacked: its experts have different shapes");
            return;
        }
    }
    struct tensor_source *source = gguf_build_memory(a->b, sizeof(*source));
    if (!source) {
        a->err = -ENOMEM;
        return;
    }
    *source = (struct tensor_source){ .pieces = a->pieces, .n_pieces = a->n_pieces, .row_elements = a->n_columns,
                                      .file_type = (uint32_t)a->type };
    const struct gguf_tensor t = { .name = { name, strlen(name) }, .type = wide ? DTYPE_F32 : (uint32_t)a->type,
                                   .n_dims = n_stacked > 1 ? 3 : 2, .ne = { a->n_columns, a->n_rows / n_stacked, n_stacked, 1 },
                                   .source = source };
    gguf_put_tensor(a->b, &t);
    a->err = a->b->err;
}

void assembly_stack(struct assembly *a, uint64_t layer, uint64_t n, const char *prefix, const char *suffix, const char *gguf)
{
    assembly_begin(a, n);
    for (uint64_t e = 0; e < n && !a->err; e++) {
        char name[128];
        snprintf(name, sizeof(name), "model.layers.%" PRIu64 ".%s.%" PRIu64 ".%s.weight", layer, prefix, e, suffix);
        if (assembly_add_quantized(a, name))
            continue;
        const struct safetensors_tensor *t = assembly_find(a, "%s", name);
        if (!t) {
            assembly_fail(a, name, "is missing");
            return;
        }
        assembly_add_rows(a, t, 0, t->rank ? t->shape[0] : 0, 0);
    }
    assembly_put(a, n, false, "blk.%" PRIu64 ".%s.weight", layer, gguf);
}
