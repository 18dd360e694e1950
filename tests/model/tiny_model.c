#include "tests/model/tiny_model.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/file_blocks.h"
#include "tests/weights/gguf_writer.h"

const char *const tiny_names[TINY_KINDS] = { "tiny llama", "tiny gemma3", "straddling heads", "wide group", "experts", "filter", "latent" };

enum { N_EXPERTS = 6, N_USED = 2, EXPERT_FF = 256 };
enum { Q_RANK = 64, KV_RANK = 48, NOPE_DIM = 24, ROTATED_DIM = 16, VALUE_DIM = 24 };

static const struct shape { const char *arch; uint64_t heads, kv_heads, head_dim; } shapes[TINY_KINDS] = {
    [TINY_LLAMA] = { "llama", 8, 4, 32 },
    [TINY_GEMMA] = { "gemma3", 4, 1, 32 },
    [TINY_STRADDLING] = { "llama", 5, 5, 24 },
    [TINY_WIDE_GROUP] = { "llama", 34, 2, 16 },
    [TINY_EXPERTS] = { "qwen3moe", 8, 4, 32 },
    [TINY_FILTER] = { "yuan2", 8, 4, 32 },
    [TINY_LATENT] = { "deepseek2", 8, 1, KV_RANK + ROTATED_DIM },
};

static void put_half(uint8_t *at, float value)
{
    half h = half_from_float(value);
    memcpy(at, &h, sizeof(h));
}

/* How weights of a type spread where d is 1 (the root of their mean square about their mean), and the minimum, in units of d, that centres
 * them: of K-quants it is subtracted. */
static void type_spread(enum dtype type, float *steps, float *minimum)
{
    static const struct { float steps, minimum; } spreads[DTYPE_COUNT] = {
        [DTYPE_Q4_0] = { 4.6f, 0 }, [DTYPE_Q4_1] = { 4.6f, -7.5f }, [DTYPE_Q5_0] = { 9.2f, 0 }, [DTYPE_Q5_1] = { 9.2f, -15.5f },
        [DTYPE_Q8_0] = { 74, 0 }, [DTYPE_Q4_K] = { 4.6f * 32, 8 }, [DTYPE_Q5_K] = { 9.2f * 32, 8 }, [DTYPE_Q6_K] = { 18 * 64, 0 },
        [DTYPE_IQ4_NL] = { 70, 0 }, [DTYPE_IQ4_XS] = { 70 * 18, 0 }, [DTYPE_Q3_K] = { 2.3f * 18, 0 }, [DTYPE_Q2_K] = { 1.1f * 8, 1.5f },
    };

    *steps = spreads[type].steps;
    *minimum = spreads[type].minimum;
}

/* Random quants with scales that give weights a spread of a few hundredths, so that logits stay of ordinary size. */
static void random_row(enum dtype type, uint8_t *row, size_t k, struct rng *rng)
{
    const struct dtype_info *info = dtype_info(type);
    float steps, centre;
    int scale, minimum;

    file_random_row(type, row, k, RANGE_NORMAL, rng);
    if (info->block == 1) {
        for (size_t i = 0; i < k; i++) {
            float f = rng_float(rng, -0.1f, 0.1f);
            bf16 b = bf16_from_float(f);
            if (type == DTYPE_F32)
                memcpy(row + 4 * i, &f, 4);
            else if (type == DTYPE_BF16)
                memcpy(row + 2 * i, &b, 2);
            else
                put_half(row + 2 * i, f);
        }
        return;
    }
    type_spread(type, &steps, &centre);
    file_scale_offsets(type, &scale, &minimum);
    for (size_t i = 0; i < k; i += info->block, row += info->block_bytes) {
        float d = rng_float(rng, 0.04f, 0.08f) / steps;
        if (type == DTYPE_MXFP4)        /* 2^-6 and 2^-5 times values up to 6, whose spread is about 3 */
            row[scale] = (uint8_t)(121 + rng_below(rng, 2));
        else
            put_half(row + scale, d);
        if (minimum >= 0)
            put_half(row + minimum, d * centre);
    }
}

static void add_matrix(struct gguf_writer *w, const char *name, enum dtype type, uint64_t k, uint64_t n, struct rng *rng)
{
    size_t row_bytes = file_row_bytes(type, k);
    uint8_t *data = malloc(row_bytes * n);

    if (!data)
        abort();
    for (uint64_t i = 0; i < n; i++)
        random_row(type, data + i * row_bytes, k, rng);
    gguf_writer_tensor(w, name, type, 2, (uint64_t[]){ k, n }, data);
    free(data);
}

/* A matrix for each expert, or head, stacked. */
static void add_matrices(struct gguf_writer *w, const char *name, enum dtype type, uint64_t k, uint64_t n, uint64_t n_matrices,
                         struct rng *rng)
{
    const size_t row_bytes = file_row_bytes(type, k);
    uint8_t *data = malloc(row_bytes * n * n_matrices);

    if (!data)
        abort();
    for (uint64_t i = 0; i < n * n_matrices; i++)
        random_row(type, data + i * row_bytes, k, rng);
    gguf_writer_tensor(w, name, type, 3, (uint64_t[]){ k, n, n_matrices }, data);
    free(data);
}

static void add_norm(struct gguf_writer *w, const char *name, uint64_t n, struct rng *rng)
{
    float values[1024];

    for (uint64_t i = 0; i < n; i++)
        values[i] = rng_float(rng, 0.5f, 1.5f);
    gguf_writer_tensor(w, name, DTYPE_F32, 1, &n, values);
}

static void write_model(const char *path, enum tiny_kind kind, uint64_t alignment, const struct tiny_types *types)
{
    const struct shape *shape = &shapes[kind];
    const char *arch = shape->arch;
    const uint64_t heads = types->heads ? types->heads : shape->heads, kv_heads = types->heads ? types->heads : shape->kv_heads, head_dim = shape->head_dim,
                   outputs = heads * (kind == TINY_LATENT ? VALUE_DIM : head_dim);
    const uint64_t width = types->width ? types->width : 256, ff = types->ff ? types->ff : 512;
    const bool gemma = kind == TINY_GEMMA;
    struct gguf_writer w;
    struct rng rng;
    char name[64], key[64];

    rng_seed(&rng, 1 + (uint64_t)kind);
    gguf_writer_init(&w);
    w.alignment = alignment;
    if (alignment != 32)
        gguf_writer_u32(&w, "general.alignment", (uint32_t)alignment);
#define KEY(suffix) (snprintf(key, sizeof(key), "%s.%s", arch, suffix), key)
    gguf_writer_string(&w, "general.architecture", arch);
    gguf_writer_u32(&w, KEY("block_count"), TINY_LAYERS);
    gguf_writer_u32(&w, KEY("embedding_length"), (uint32_t)width);
    gguf_writer_u32(&w, KEY("feed_forward_length"), (uint32_t)ff);
    gguf_writer_u32(&w, KEY("context_length"), 1024);
    gguf_writer_u32(&w, KEY("attention.head_count"), (uint32_t)heads);
    gguf_writer_u32(&w, KEY("attention.head_count_kv"), (uint32_t)kv_heads);
    gguf_writer_u32(&w, KEY("attention.key_length"), (uint32_t)head_dim);
    gguf_writer_u32(&w, KEY("attention.value_length"), (uint32_t)head_dim);
    gguf_writer_f32(&w, KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    if (gemma)
        gguf_writer_u32(&w, KEY("attention.sliding_window"), 40);
    if (gemma)
        gguf_writer_u32(&w, KEY("attention.sliding_window_pattern"), 2);
    if (kind == TINY_EXPERTS) {
        gguf_writer_u32(&w, KEY("expert_count"), N_EXPERTS);
        gguf_writer_u32(&w, KEY("expert_used_count"), N_USED);
        gguf_writer_u32(&w, KEY("expert_feed_forward_length"), EXPERT_FF);
    }
    if (kind == TINY_FILTER)
        gguf_writer_u32(&w, KEY("rope.dimension_count"), (uint32_t)head_dim / 2);
    if (kind == TINY_LATENT) {
        gguf_writer_u32(&w, KEY("attention.q_lora_rank"), Q_RANK);
        gguf_writer_u32(&w, KEY("attention.kv_lora_rank"), KV_RANK);
        gguf_writer_u32(&w, KEY("attention.key_length_mla"), NOPE_DIM + ROTATED_DIM);
        gguf_writer_u32(&w, KEY("attention.value_length_mla"), VALUE_DIM);
        gguf_writer_u32(&w, KEY("rope.dimension_count"), ROTATED_DIM);
    }
#undef KEY
    add_matrix(&w, "token_embd.weight", width % 32 ? DTYPE_F16 : DTYPE_Q8_0, width, TINY_VOCAB, &rng);
    if (!gemma)
        add_matrix(&w, "output.weight", types->head, width, TINY_VOCAB, &rng);
    add_norm(&w, "output_norm.weight", width, &rng);
    for (int i = 0; i < TINY_LAYERS; i++) {
        const enum dtype *t = types->layer[i];
#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%d.%s.weight", i, suffix), name)
        add_norm(&w, NAME("attn_norm"), width, &rng);
        if (kind == TINY_LATENT) {
            add_matrix(&w, NAME("attn_q_a"), t[0], width, Q_RANK, &rng);
            add_norm(&w, NAME("attn_q_a_norm"), Q_RANK, &rng);
            add_matrix(&w, NAME("attn_q_b"), DTYPE_Q8_0, Q_RANK, heads * (NOPE_DIM + ROTATED_DIM), &rng);
            add_matrix(&w, NAME("attn_kv_a_mqa"), t[1], width, head_dim, &rng);
            add_norm(&w, NAME("attn_kv_a_norm"), KV_RANK, &rng);
            add_matrices(&w, NAME("attn_k_b"), DTYPE_BF16, NOPE_DIM, KV_RANK, heads, &rng);
            add_matrices(&w, NAME("attn_v_b"), DTYPE_F16, KV_RANK, VALUE_DIM, heads, &rng);
        } else {
            add_matrix(&w, NAME("attn_q"), t[0], width, outputs, &rng);
            add_matrix(&w, NAME("attn_k"), t[1], width, kv_heads * head_dim, &rng);
            add_matrix(&w, NAME("attn_v"), t[2], width, kv_heads * head_dim, &rng);
        }
        add_matrix(&w, NAME("attn_output"), outputs % dtype_info(t[3])->block ? DTYPE_BF16 : t[3], outputs, width, &rng);
        if (kind == TINY_FILTER) {
            add_matrix(&w, NAME("attn_lfa_first_previous"), t[0], width, width / 2, &rng);
            add_matrix(&w, NAME("attn_lfa_first"), t[1], width, width / 2, &rng);
            add_matrix(&w, NAME("attn_lfa_second_previous"), t[3], width / 2, width, &rng);
            add_matrix(&w, NAME("attn_lfa_second"), t[2] == DTYPE_Q6_K ? DTYPE_Q8_0 : t[2], width / 2, width, &rng);
            add_norm(&w, NAME("attn_lfa_norm"), width, &rng);
            add_norm(&w, (snprintf(name, sizeof(name), "blk.%d.attn_lfa_first.bias", i), name), width / 2, &rng);
            add_norm(&w, (snprintf(name, sizeof(name), "blk.%d.attn_lfa_second.bias", i), name), width, &rng);
        }
        if (gemma || kind == TINY_EXPERTS) {
            add_norm(&w, NAME("attn_q_norm"), head_dim, &rng);
            add_norm(&w, NAME("attn_k_norm"), head_dim, &rng);
        }
        if (gemma) {
            add_norm(&w, NAME("post_attention_norm"), width, &rng);
            add_norm(&w, NAME("post_ffw_norm"), width, &rng);
        }
        add_norm(&w, NAME("ffn_norm"), width, &rng);
        if (kind == TINY_EXPERTS && i == 0) {
            add_matrix(&w, NAME("ffn_gate_inp"), DTYPE_F32, width, N_EXPERTS, &rng);
            add_matrices(&w, NAME("ffn_gate_exps"), t[4], width, EXPERT_FF, N_EXPERTS, &rng);
            add_matrices(&w, NAME("ffn_up_exps"), t[5], width, EXPERT_FF, N_EXPERTS, &rng);
            add_matrices(&w, NAME("ffn_down_exps"), t[6], EXPERT_FF, width, N_EXPERTS, &rng);
            continue;
        }
        add_matrix(&w, NAME("ffn_gate"), t[4], width, ff, &rng);
        add_matrix(&w, NAME("ffn_up"), t[5], width, ff, &rng);
        add_matrix(&w, NAME("ffn_down"), t[6], ff, width, &rng);
#undef NAME
    }
    gguf_writer_save(&w, path);
    gguf_writer_free(&w);
}

void tiny_model_write_aligned(const char *path, enum tiny_kind kind, uint64_t alignment)
{
    static const struct tiny_types types = {
        .layer = { { DTYPE_Q4_K, DTYPE_F16, DTYPE_Q6_K, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_1, DTYPE_Q5_0 },
                   { DTYPE_Q5_K, DTYPE_F32, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q5_0, DTYPE_Q4_0, DTYPE_Q4_K } },
        .head = DTYPE_Q6_K,
    };

    write_model(path, kind, alignment, &types);
}

void tiny_model_write(const char *path, enum tiny_kind kind)
{
    tiny_model_write_aligned(path, kind, 32);
}

void tiny_model_write_types(const char *path, enum tiny_kind kind, const struct tiny_types *types)
{
    write_model(path, kind, 32, types);
}
