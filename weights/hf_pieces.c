#include "weights/hf_pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "weights/hf_assembly.h"

static int put_experts(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b, const char *block,
                       const char *const parts[3])
{
    static const char *const names[3] = { "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps" };
    struct assembly a = { .c = c, .list = list, .b = b };
    const uint64_t n = c->n_experts;
    char prefix[64];

    snprintf(prefix, sizeof(prefix), "%s.experts", block);
    for (uint64_t layer = 0; layer < c->n_layers + c->n_extra_layers && !a.err; layer++) {
        const struct safetensors_tensor *router = assembly_find(&a, "model.layers.%" PRIu64 ".%s.gate.weight", layer, block);
        if (!router)
            continue;               /* a dense layer; without either, the model says what is missing */
        if (router->rank < 1 || router->shape[0] != n)         /* with fewer experts than it has, the text would be another */
            assembly_fail(&a, router->name.data, "has another shape than its configuration says");
        assembly_begin(&a, 1);
        assembly_add_rows(&a, router, 0, n, 0);
        assembly_put(&a, 1, true, "blk.%" PRIu64 ".ffn_gate_inp.weight", layer);
        for (size_t i = 0; i < 3; i++)
            assembly_stack(&a, layer, n, prefix, parts[i], names[i]);
    }
    return a.err;
}

int hf_put_mixtral_experts(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b)
{
    return put_experts(c, list, b, "block_sparse_moe", (const char *const[]){ "w1", "w3", "w2" });
}

int hf_put_qwen_experts(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b)
{
    return put_experts(c, list, b, "mlp", (const char *const[]){ "gate_proj", "up_proj", "down_proj" });
}

/* Those of put_latent() where the matrix is quantized: values keep their type, keys, whose scales lie along what becomes a row, do not. */
static void put_quantized_latent(struct assembly *a, uint64_t layer, const char *name, const struct hf_quantized_matrix *m)
{
    const struct hf_latent *l = &a->c->latent;
    const uint64_t n_heads = a->c->n_heads, head_rows = l->nope_dim + l->value_dim;
    struct quantized_rows *keys = gguf_build_memory(a->b, n_heads * sizeof(*keys));

    if (!keys) {
        a->err = -ENOMEM;
        return;
    }
    if (m->rows.n_rows != n_heads * head_rows || m->n_columns != l->kv_rank || m->type == DTYPE_MXFP4) {
        assembly_fail(a, name, "has another shape than its configuration says, or is MXFP4, which is not supported there");
        return;
    }
    assembly_begin(a, n_heads);
    for (uint64_t head = 0; head < n_heads; head++) {
        keys[head] = *m->rows.quantized;
        keys[head].transposed = true;
        keys[head].first_output = head * head_rows;
        const struct tensor_piece piece = { .n_rows = l->kv_rank, .part = m->rows.part, .quantized = &keys[head] };
        assembly_add(a, name, DTYPE_F32, &piece, l->nope_dim);
    }
    assembly_put(a, n_heads, false, "blk.%" PRIu64 ".attn_k_b.weight", layer);
    assembly_begin(a, n_heads);
    for (uint64_t head = 0; head < n_heads; head++) {
        struct tensor_piece values = m->rows;
        values.n_rows = l->value_dim;
        values.offset = head * head_rows + l->nope_dim;
        assembly_add(a, name, (int)m->type, &values, m->n_columns);
    }
    assembly_put(a, n_heads, false, "blk.%" PRIu64 ".attn_v_b.weight", layer);
}

/*
 * Keys and values of a layer are the latent vector times one matrix, [heads (nope_dim + value_dim), kv_rank]. GGUF has that of the keys
 * transposed, {nope_dim, kv_rank, heads}, which takes a query into the space of the latent vector, and that of the values as it is.
 */
static void put_latent(struct assembly *a, uint64_t layer)
{
    const struct hf_latent *l = &a->c->latent;
    const uint64_t n_heads = a->c->n_heads, head_rows = l->nope_dim + l->value_dim;
    struct hf_quantized_matrix m;
    char name[64];

    snprintf(name, sizeof(name), "model.layers.%" PRIu64 ".self_attn.kv_b_proj.weight", layer);
    const int found = hf_quantized_find(a->c, a->list, a->b, name, &m);
    if (found < 0)
        a->err = found;
    if (found > 0)
        put_quantized_latent(a, layer, name, &m);
    if (found)
        return;
    const struct safetensors_tensor *t = assembly_find(a, "%s", name);
    if (!t || t->rank != 2 || t->shape[0] != n_heads * head_rows || t->shape[1] != l->kv_rank) {
        assembly_fail(a, "self_attn.kv_b_proj.weight", "is missing in a layer, or has another shape than its configuration says");
        return;
    }
    const uint64_t row = assembly_stride(t, 0), element = assembly_stride(t, 1);
    assembly_begin(a, n_heads);
    for (uint64_t head = 0; head < n_heads; head++) {
        const struct tensor_piece keys = { .n_rows = l->kv_rank, .part = t->part, .offset = t->offset + head * head_rows * row,
                                           .row_stride = element, .element_stride = row };
        assembly_add(a, t->name.data, assembly_dtype(t->type), &keys, l->nope_dim);
    }
    assembly_put(a, n_heads, false, "blk.%" PRIu64 ".attn_k_b.weight", layer);
    assembly_begin(a, n_heads);
    for (uint64_t head = 0; head < n_heads; head++)
        assembly_add_rows(a, t, head * head_rows + l->nope_dim, l->value_dim, 0);
    assembly_put(a, n_heads, false, "blk.%" PRIu64 ".attn_v_b.weight", layer);
}

int hf_put_deepseek_pieces(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b)
{
    struct assembly a = { .c = c, .list = list, .b = b };

    for (uint64_t layer = 0; layer < c->n_layers && !a.err; layer++)
        put_latent(&a, layer);
    return a.err ? a.err : hf_put_qwen_experts(c, list, b);
}
