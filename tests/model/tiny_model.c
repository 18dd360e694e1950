#include "tests/model/tiny_model.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/file_blocks.h"
#include "tests/weights/gguf_writer.h"

const char *const tiny_names[TINY_KINDS] = { "tiny llama", "tiny gemma3", "straddling heads", "wide group" };

static const struct shape { const char *arch; uint64_t heads, kv_heads, head_dim; } shapes[TINY_KINDS] = {
    [TINY_LLAMA] = { "llama", 8, 4, 32 },
    [TINY_GEMMA] = { "gemma3", 4, 1, 32 },
    [TINY_STRADDLING] = { "llama", 5, 5, 24 },
    [TINY_WIDE_GROUP] = { "llama", 34, 2, 16 },
};

static void put_half(uint8_t *at, float value)
{
    half h = half_from_float(value);
    memcpy(at, &h, sizeof(h));
}

/* Random quants with scales that give weights a spread of a few hundredths, so that logits stay of ordinary size. */
static void random_row(enum dtype type, uint8_t *row, size_t k, struct rng *rng)
{
    const struct dtype_info *info = dtype_info(type);
    float steps = type == DTYPE_Q8_0 ? 74 : type == DTYPE_Q6_K ? 18 * 64 : type == DTYPE_Q5_0 || type == DTYPE_Q5_1 ? 9.2f : 4.6f;
    int scale, minimum;

    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K)
        steps = (type == DTYPE_Q5_K ? 9.2f : 4.6f) * 32;
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
    file_scale_offsets(type, &scale, &minimum);
    for (size_t i = 0; i < k; i += info->block, row += info->block_bytes) {
        float d = rng_float(rng, 0.04f, 0.08f) / steps;
        put_half(row + scale, d);
        if (minimum >= 0)       /* dmin of K-quants is subtracted, m of the others is added: half of the range either way */
            put_half(row + minimum, type == DTYPE_Q4_K || type == DTYPE_Q5_K ? d * 8 : -d * (type == DTYPE_Q5_1 ? 15.5f : 7.5f));
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
                   outputs = heads * head_dim;
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
#undef KEY
    add_matrix(&w, "token_embd.weight", width % 32 ? DTYPE_F16 : DTYPE_Q8_0, width, TINY_VOCAB, &rng);
    if (!gemma)
        add_matrix(&w, "output.weight", types->head, width, TINY_VOCAB, &rng);
    add_norm(&w, "output_norm.weight", width, &rng);
    for (int i = 0; i < TINY_LAYERS; i++) {
        const enum dtype *t = types->layer[i];
#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%d.%s.weight", i, suffix), name)
        add_norm(&w, NAME("attn_norm"), width, &rng);
        add_matrix(&w, NAME("attn_q"), t[0], width, outputs, &rng);
        add_matrix(&w, NAME("attn_k"), t[1], width, kv_heads * head_dim, &rng);
        add_matrix(&w, NAME("attn_v"), t[2], width, kv_heads * head_dim, &rng);
        add_matrix(&w, NAME("attn_output"), outputs % dtype_info(t[3])->block ? DTYPE_BF16 : t[3], outputs, width, &rng);
        if (gemma) {
            add_norm(&w, NAME("attn_q_norm"), head_dim, &rng);
            add_norm(&w, NAME("attn_k_norm"), head_dim, &rng);
            add_norm(&w, NAME("post_attention_norm"), width, &rng);
            add_norm(&w, NAME("post_ffw_norm"), width, &rng);
        }
        add_norm(&w, NAME("ffn_norm"), width, &rng);
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
