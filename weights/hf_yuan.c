/*
 * hf_yuan.c - the matrices of Yuan 2.0 and Yuan2-M32 that GGUF has in another order.
 */
#include "weights/hf_pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "weights/hf_assembly.h"

/*
 * q and k: heads of q and k take turns, d rows each, in a matrix that the files hold whole (get_query_key) or cut in the middle (q_proj,
 * k_proj), so that either half has both.
 */
static void put_heads(struct assembly *a, uint64_t layer, bool is_k)
{
    const uint64_t d = a->c->head_dim, n_half = a->c->n_heads * d;
    const struct safetensors_tensor *whole = assembly_find(a, "model.layers.%" PRIu64 ".self_attn.get_query_key.weight", layer);
    const struct safetensors_tensor *first = whole ? whole : assembly_find(a, "model.layers.%" PRIu64 ".self_attn.q_proj.weight", layer);
    const struct safetensors_tensor *second = whole ? whole : assembly_find(a, "model.layers.%" PRIu64 ".self_attn.k_proj.weight", layer);

    if (!first || !second) {
        assembly_fail(a, "self_attn.q_proj.weight or self_attn.k_proj.weight", "is missing in a layer");
        return;
    }
    assembly_begin(a, 2 * a->c->n_heads);
    for (uint64_t head = 0; head < a->c->n_heads; head++) {
        const uint64_t row = 2 * head * d + (is_k ? d : 0);
        const bool in_second = !whole && row >= n_half;
        assembly_add_rows(a, in_second ? second : first, in_second ? row - n_half : row, d, 0);
    }
    assembly_put(a, 1, false, "blk.%" PRIu64 ".attn_%s.weight", layer, is_k ? "k" : "q");
}

/* A convolution over time, [out, in, 2, 1], is two matrices: of the token before, and of the token itself. */
static void put_filter(struct assembly *a, uint64_t layer, const char *from, const char *to)
{
    const struct safetensors_tensor *t = assembly_find(a, "model.layers.%" PRIu64 ".self_attn.lf_gate.%s.weight", layer, from);

    if (!t || t->rank != 4 || t->shape[2] != 2 || t->shape[3] != 1) {
        assembly_fail(a, "self_attn.lf_gate", "is missing in a layer, or its filters have not the shape [out, in, 2, 1]");
        return;
    }
    for (uint64_t tap = 0; tap < 2; tap++) {
        assembly_begin(a, 1);
        assembly_add_rows(a, t, 0, t->shape[0], tap);
        assembly_put(a, 1, false, "blk.%" PRIu64 ".attn_lfa_%s%s.weight", layer, to, tap ? "" : "_previous");
    }
}

static void put_yuan_experts(struct assembly *a, uint64_t layer, uint64_t n)
{
    static const char *const products[3] = { "query", "key", "value" };

    assembly_begin(a, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct safetensors_tensor *t = assembly_find(a, "model.layers.%" PRIu64 ".mlp.gate.%s.weight", layer, products[i]);
        if (t && t->rank == 2 && t->shape[0] == n)
            assembly_add_rows(a, t, 0, n, 0);
        else
            assembly_fail(a, "mlp.gate", "has not query, key and value of every expert in a layer");
    }
    assembly_put(a, 1, true, "blk.%" PRIu64 ".ffn_gate_inp.weight", layer);
    for (size_t part = 0; part < 2; part++) {           /* w1: the rows that go through SiLU, then the linear ones */
        assembly_begin(a, n);
        for (uint64_t e = 0; e < n && !a->err; e++) {
            const struct safetensors_tensor *t = assembly_find(a, "model.layers.%" PRIu64 ".mlp.experts.%" PRIu64 ".w1.weight", layer, e);
            if (t && t->rank == 2)
                assembly_add_rows(a, t, part * (t->shape[0] / 2), t->shape[0] / 2, 0);
            else
                assembly_fail(a, "mlp.experts.w1.weight", "is missing in a layer, or no matrix");
        }
        assembly_put(a, n, false, "blk.%" PRIu64 ".%s.weight", layer, part ? "ffn_up_exps" : "ffn_gate_exps");
    }
    assembly_stack(a, layer, n, "mlp.experts", "w2", "ffn_down_exps");
}

int hf_put_yuan(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b)
{
    struct assembly a = { .c = c, .list = list, .b = b };
    uint64_t n = 0;

    if (hf_config_get(c, "moe_config") && hf_get_u64(&c->file, hf_config_get(c, "moe_config"), "moe_num_experts", 2, 4096, &n))
        return -EINVAL;         /* its key was put, so that does not come to pass */
    for (uint64_t layer = 0; layer < c->n_layers && !a.err; layer++) {
        put_heads(&a, layer, false);
        put_heads(&a, layer, true);
        put_filter(&a, layer, "conv1", "first");
        put_filter(&a, layer, "conv2", "second");
        if (n)
            put_yuan_experts(&a, layer, n);
    }
    return a.err;
}
