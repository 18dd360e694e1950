/*
 * hf_gpt_oss.c - the experts of gpt-oss: all of a layer in one tensor, gate and up row by row in turns.
 *
 * In 16 bits, NAME [experts, in, out], the matrices are transposed. In MXFP4, NAME_blocks [experts, out, in / 32, 16] and NAME_scales
 * [experts, out, in / 32], they are not. Biases, NAME_bias [experts, out], have 16 bits in both. GGUF: {in, out, experts}.
 */
#include "weights/hf_pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "weights/hf_assembly.h"

/* Every step-th output of NAME from `first` on is GGUF's `gguf`. */
struct part { const char *name, *gguf; uint64_t first, step; };

static const struct part parts[] = {
    { "gate_up_proj", "ffn_gate_exps", 0, 2 },
    { "gate_up_proj", "ffn_up_exps", 1, 2 },
    { "down_proj", "ffn_down_exps", 0, 1 },
};

static const char unfit[] = "is missing, or has another shape than its configuration says";

static const struct safetensors_tensor *find(struct assembly *a, uint64_t layer, const char *name, const char *suffix)
{
    return assembly_find(a, "model.layers.%" PRIu64 ".mlp.experts.%s%s", layer, name, suffix);
}

/* The tensor with this suffix, with `rank` dimensions of which out_dim has the outputs; NULL after a failure. */
static const struct safetensors_tensor *find_part(struct assembly *a, uint64_t layer, const struct part *part, const char *suffix,
                                                  uint64_t n, uint32_t rank, uint32_t out_dim)
{
    const struct safetensors_tensor *t = find(a, layer, part->name, suffix);
    char name[96];

    if (t && t->rank == rank && t->shape[0] == n && t->shape[out_dim] >= part->step && t->shape[out_dim] % part->step == 0)
        return t;
    snprintf(name, sizeof(name), "model.layers.%" PRIu64 ".mlp.experts.%s%s", layer, part->name, suffix);
    assembly_fail(a, name, unfit);
    return NULL;
}

static void put_bias(struct assembly *a, uint64_t layer, const struct part *part, uint64_t n)
{
    const struct safetensors_tensor *t = find_part(a, layer, part, "_bias", n, 2, 1);

    if (!t)
        return;
    const uint64_t element = assembly_stride(t, 1);
    const struct tensor_piece piece = { .n_rows = n, .part = t->part, .offset = t->offset + part->first * element,
                                        .row_stride = assembly_stride(t, 0), .element_stride = part->step * element };
    assembly_begin(a, 1);
    assembly_add(a, t->name.data, assembly_dtype(t->type), &piece, t->shape[1] / part->step);
    assembly_put(a, 1, true, "blk.%" PRIu64 ".%s.bias", layer, part->gguf);
}

static void put_transposed(struct assembly *a, uint64_t layer, const struct part *part, uint64_t n)
{
    const struct safetensors_tensor *t = find_part(a, layer, part, "", n, 3, 2);

    if (!t)
        return;
    const uint64_t output = assembly_stride(t, 2);
    assembly_begin(a, n);
    for (uint64_t e = 0; e < n; e++) {
        const struct tensor_piece piece = { .n_rows = t->shape[2] / part->step, .part = t->part,
                                            .offset = t->offset + e * assembly_stride(t, 0) + part->first * output,
                                            .row_stride = part->step * output, .element_stride = assembly_stride(t, 1) };
        assembly_add(a, t->name.data, assembly_dtype(t->type), &piece, t->shape[1]);
    }
    assembly_put(a, n, false, "blk.%" PRIu64 ".%s.weight", layer, part->gguf);
}

/* Rows of one expert follow those of another, so that all of them are one piece. */
static void put_mxfp4(struct assembly *a, uint64_t layer, const struct part *part, uint64_t n)
{
    const struct safetensors_tensor *t = find_part(a, layer, part, "_blocks", n, 4, 1);
    const struct safetensors_tensor *scales;

    if (!t)
        return;
    if (t->shape[3] != 16 || t->type != SAFETENSORS_U8 || t->strided) {
        assembly_fail(a, t->name.data, unfit);
        return;
    }
    scales = find_part(a, layer, part, "_scales", n, 3, 1);
    if (!scales)
        return;
    if (scales->shape[1] != t->shape[1] || scales->shape[2] != t->shape[2] || scales->type != SAFETENSORS_U8 || scales->strided) {
        assembly_fail(a, scales->name.data, unfit);
        return;
    }
    const uint64_t n_blocks = t->shape[2];
    struct quantized_rows *q = gguf_build_memory(a->b, sizeof(*q));
    if (!q) {
        a->err = -ENOMEM;
        return;
    }
    const struct tensor_piece piece = { .n_rows = n * (t->shape[1] / part->step), .part = t->part, .quantized = q };
    *q = (struct quantized_rows){
        .codes = { .in = { .part = t->part, .offset = t->offset + part->first * n_blocks * 16, .n_slow = piece.n_rows,
                           .n_fast = part->step * n_blocks * 16, .element_bytes = 1 }, .bits = 4 },
        .scales = { .part = scales->part, .offset = scales->offset + part->first * n_blocks, .n_slow = piece.n_rows,
                    .n_fast = part->step * n_blocks, .element_bytes = 1 },
        .scale_type = SCALES_E8M0, .group_columns = 32, .group_rows = 1 };
    assembly_begin(a, 1);
    assembly_add(a, t->name.data, DTYPE_MXFP4, &piece, 32 * n_blocks);
    assembly_put(a, n, false, "blk.%" PRIu64 ".%s.weight", layer, part->gguf);
}

int hf_put_gpt_oss_pieces(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b)
{
    struct assembly a = { .c = c, .list = list, .b = b };
    const uint64_t n = c->n_experts;

    for (uint64_t layer = 0; layer < c->n_layers && !a.err; layer++)
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            put_bias(&a, layer, &parts[i], n);
            if (find(&a, layer, parts[i].name, "_blocks"))
                put_mxfp4(&a, layer, &parts[i], n);
            else
                put_transposed(&a, layer, &parts[i], n);
        }
    return a.err;
}
