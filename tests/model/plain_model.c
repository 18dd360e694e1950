#include "tests/model/plain_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plain_matrix {
    enum dtype type;
    size_t k_padded, n_panels;
    unsigned char *panels;
    size_t n_terms;         /* of int8 activations */
};

struct plain_layer {
    struct plain_matrix q, k, v, o, gate, up, down;
    float *attn_norm, *ffn_norm;
    unsigned char *chunks;  /* [chunks][KV heads][k, v] */
};

struct plain_model {
    const struct gguf *g;
    struct model_config config;
    struct kernels kernels;
    size_t head_padded, chunk_bytes, n_chunks;
    struct plain_matrix embedding, head;
    float *output_norm;
    struct plain_layer *layers;
    void *scratch, *activations;
};

/* Zeros, 64-byte aligned. */
static void *zeros(size_t bytes)
{
    size_t n = (bytes + 63) / 64 * 64 + 64;
    void *p = aligned_alloc(64, n);

    if (!p)
        abort();
    return memset(p, 0, n);
}

static void *read_tensor(const struct plain_model *p, const char *name, const struct gguf_tensor **tensor)
{
    const struct gguf_tensor *t = gguf_find_tensor(p->g, name);
    void *data = t ? zeros(t->bytes) : NULL;

    if (!data || gguf_read(p->g, t, 0, data, t->bytes)) {
        fprintf(stderr, "plain_model: no tensor %s\n", name);
        exit(1);
    }
    *tensor = t;
    return data;
}

/* head_dim not 0: rows are heads, each padded to whole panels; `rotated` ones stand in pairs (2j, 2j + 1) where the file has them so. */
static struct plain_matrix read_matrix(const struct plain_model *p, const char *name, size_t head_dim, bool rotated, size_t n_terms)
{
    const struct gguf_tensor *t;
    unsigned char *data = read_tensor(p, name, &t);
    const size_t k = t->ne[0], n = t->ne[1], row_bytes = t->bytes / n, unit = head_dim ? head_dim : n, padded = (unit + 15) / 16 * 16;
    struct plain_matrix x = { .type = (enum dtype)t->type, .k_padded = (k + 31) / 32 * 32, .n_panels = n / unit * padded / 16,
                              .n_terms = n_terms };

    x.panels = zeros(x.n_panels * panel_bytes(x.type, x.k_padded));
    for (size_t i = 0; i < x.n_panels; i++) {
        const void *rows[16];
        for (size_t r = 0; r < 16; r++) {
            size_t at = 16 * i + r, j = at % padded;
            if (rotated && p->config.rope_rows_interleaved)
                rows[r] = j < unit ? data + (at / padded * unit + (j < unit / 2 ? 2 * j : 2 * (j - unit / 2) + 1)) * row_bytes : NULL;
            else
                rows[r] = j < unit ? data + (at / padded * unit + j) * row_bytes : NULL;
        }
        panel_pack(x.type, x.panels + i * panel_bytes(x.type, x.k_padded), rows, k);
    }
    free(data);
    return x;
}

static float *read_norm(const struct plain_model *p, const char *name)
{
    const struct gguf_tensor *t;
    return read_tensor(p, name, &t);
}

struct plain_model *plain_model_open(const struct gguf *g, enum isa level)
{
    struct plain_model *p = zeros(sizeof(*p));
    char name[64];

    p->g = g;
    if (model_config_read(&p->config, g))
        exit(1);
    kernels_fill_plain(&p->kernels, level);
    const size_t dim = p->config.head_dim, widest = p->config.d_model + p->config.d_ff + p->config.n_heads * dim;
    p->head_padded = (dim + 15) / 16 * 16;
    p->chunk_bytes = kv_chunk_bytes(KV_BF16, p->head_padded);
    p->layers = zeros(p->config.n_layers * sizeof(*p->layers));
    p->scratch = zeros(matmul_scratch_bytes(widest));
    p->activations = zeros((widest + 32) * sizeof(float));
    p->embedding = read_matrix(p, "token_embd.weight", 0, false, 1);
    p->head = read_matrix(p, "output.weight", 0, false, 2);
    p->output_norm = read_norm(p, "output_norm.weight");
    for (size_t i = 0; i < p->config.n_layers; i++) {
        struct plain_layer *l = &p->layers[i];
#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%zu.%s.weight", i, suffix), name)
        l->attn_norm = read_norm(p, NAME("attn_norm"));
        l->q = read_matrix(p, NAME("attn_q"), dim, true, 2);
        l->k = read_matrix(p, NAME("attn_k"), dim, true, 2);
        l->v = read_matrix(p, NAME("attn_v"), dim, false, 2);
        l->o = read_matrix(p, NAME("attn_output"), 0, false, 1);
        l->ffn_norm = read_norm(p, NAME("ffn_norm"));
        l->gate = read_matrix(p, NAME("ffn_gate"), 0, false, 1);
        l->up = read_matrix(p, NAME("ffn_up"), 0, false, 1);
        l->down = read_matrix(p, NAME("ffn_down"), 0, false, 1);
#undef NAME
    }
    return p;
}

void plain_model_close(struct plain_model *p)
{
    for (size_t i = 0; i < p->config.n_layers; i++) {
        struct plain_layer *l = &p->layers[i];
        struct plain_matrix *all[] = { &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down };
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++)
            free(all[j]->panels);
        free(l->attn_norm);
        free(l->ffn_norm);
        free(l->chunks);
    }
    free(p->embedding.panels);
    free(p->head.panels);
    free(p->output_norm);
    free(p->layers);
    free(p->scratch);
    free(p->activations);
    free(p);
}

/* y = W x of one token, x[k] followed by zeros up to k_padded. */
static void multiply(struct plain_model *p, const struct plain_matrix *w, enum token_role role, const float *x, float *y)
{
    const struct kernels *t = &p->kernels;
    const size_t k = w->k_padded, n = 16 * w->n_panels;
    const enum activation kind = role == ROLE_PROMPT ? t->prompt_activation[w->type] : kernels_activation(w->type);
    const matmul_fn fn = role == ROLE_PROMPT ? t->matmul_prompt[w->type] : t->matmul[w->type];
    struct matmul_args args = { .w = w->panels, .x = p->activations, .x_stride = activation_bytes(kind, k), .y = y, .y_stride = n, .m = 1,
                                .n_panels = w->n_panels, .k = k, .scratch = p->scratch };

    if (kind == ACT_BF16)
        t->round_bf16(p->activations, x, k);
    else if (kind == ACT_F32)
        memcpy(p->activations, x, k * sizeof(float));
    else
        t->quantize_q8(p->activations, x, k);
    fn(&args);
    if (kind != ACT_Q8 || w->n_terms == 1)
        return;
    float *rest = zeros(k * sizeof(float)), *more = zeros(n * sizeof(float));
    memcpy(rest, x, k * sizeof(float));
    t->subtract_q8(rest, p->activations, k);
    t->quantize_q8(p->activations, rest, k);
    args.y = more;
    fn(&args);
    t->add(y, more, n);
    free(rest);
    free(more);
}

static void rotate(const struct plain_model *p, float *head, size_t position)
{
    float cosine[MODEL_MAX_HEAD_DIM / 2], sine[MODEL_MAX_HEAD_DIM / 2];
    const size_t n = p->config.head_dim;

    for (size_t j = 0; j < n / 2; j++) {
        double angle = (double)position * (pow(p->config.rope.base, -2 * (double)j / (double)n) / p->config.rope.factor);
        cosine[j] = (float)cos(angle);
        sine[j] = (float)sin(angle);
    }
    p->kernels.rope(head, cosine, sine, n);
}

static unsigned char *chunk_at(const struct plain_model *p, const struct plain_layer *l, size_t chunk, size_t head)
{
    return l->chunks + (chunk * p->config.n_kv_heads + head) * 2 * p->chunk_bytes;
}

/* One query vector over all positions up to its own. */
static void attend(const struct plain_model *p, const struct plain_layer *l, const float *q, size_t kv_head, size_t position, float *out)
{
    const size_t pad = p->head_padded;
    float *state = zeros(pad * sizeof(float)), *part = zeros(pad * sizeof(float)), max = -INFINITY, sum = 0, part_max, part_sum;

    for (size_t chunk = 0; chunk <= position / KV_CHUNK; chunk++) {
        const unsigned char *k = chunk_at(p, l, chunk, kv_head);
        const uint8_t lo = 0, hi = (uint8_t)(position / KV_CHUNK > chunk ? KV_CHUNK : position % KV_CHUNK + 1);
        const struct attend_args args = { .k = k, .v = k + p->chunk_bytes, .q = &q, .lo = &lo, .hi = &hi, .out = part, .max = &part_max,
                                          .sum = &part_sum, .n_q = 1, .head_dim = pad, .scale = p->config.attention_scale,
                                          .softcap = p->config.attention_softcap };
        p->kernels.attend[KV_BF16](&args);
        p->kernels.attend_merge(&max, &sum, state, &part_max, &part_sum, part, 1, pad);
    }
    p->kernels.attend_finish(part, state, sum, pad);
    memcpy(out, part, p->config.head_dim * sizeof(float));
    free(state);
    free(part);
}

static void attention(struct plain_model *p, struct plain_layer *l, enum token_role role, size_t position, const float *x, float *out)
{
    const struct model_config *c = &p->config;
    const size_t pad = p->head_padded, group = c->n_heads / c->n_kv_heads;
    float *q = zeros(c->n_heads * pad * sizeof(float)), *k = zeros(c->n_kv_heads * pad * sizeof(float)),
          *v = zeros(c->n_kv_heads * pad * sizeof(float));

    multiply(p, &l->q, role, x, q);
    multiply(p, &l->k, role, x, k);
    multiply(p, &l->v, role, x, v);
    for (size_t h = 0; h < c->n_kv_heads; h++) {
        unsigned char *chunk = chunk_at(p, l, position / KV_CHUNK, h);
        rotate(p, k + h * pad, position);
        p->kernels.kv_store[KV_BF16](chunk, chunk + p->chunk_bytes, position % KV_CHUNK, k + h * pad, v + h * pad, pad);
        for (size_t i = h * group; i < (h + 1) * group; i++) {
            rotate(p, q + i * pad, position);
            attend(p, l, q + i * pad, h, position, out + i * c->head_dim);
        }
    }
    free(q);
    free(k);
    free(v);
}

static void run_token(struct plain_model *p, int32_t id, enum token_role role, size_t position, float *logits, float *hidden)
{
    const struct model_config *c = &p->config;
    const size_t d = p->head.k_padded, ff = p->layers->down.k_padded, id_panel = (size_t)id / 16;
    float *x = zeros(d * sizeof(float)), *in = zeros(d * sizeof(float)), *y = zeros(d * sizeof(float)),
          *heads = zeros(p->layers->o.k_padded * sizeof(float)), *gate = zeros(ff * sizeof(float)), *up = zeros(ff * sizeof(float)),
          *out = zeros(16 * p->head.n_panels * sizeof(float));

    panel_unpack_row(p->embedding.type, p->embedding.panels + id_panel * panel_bytes(p->embedding.type, d), (unsigned)id % 16, d, x);
    for (size_t i = 0; i < c->n_layers; i++) {
        struct plain_layer *l = &p->layers[i];
        p->kernels.rms_norm(in, x, l->attn_norm, c->norm_eps, c->d_model);
        attention(p, l, role, position, in, heads);
        multiply(p, &l->o, role, heads, y);
        p->kernels.add(x, y, c->d_model);
        p->kernels.rms_norm(in, x, l->ffn_norm, c->norm_eps, c->d_model);
        multiply(p, &l->gate, role, in, gate);
        multiply(p, &l->up, role, in, up);
        p->kernels.silu_mul(gate, up, c->d_ff);
        multiply(p, &l->down, role, gate, y);
        p->kernels.add(x, y, c->d_model);
    }
    p->kernels.rms_norm(in, x, p->output_norm, c->norm_eps, c->d_model);
    memcpy(hidden, in, c->d_model * sizeof(float));
    multiply(p, &p->head, role, in, out);
    memcpy(logits, out, c->vocab_size * sizeof(float));
    free(x);
    free(in);
    free(y);
    free(heads);
    free(gate);
    free(up);
    free(out);
}

void plain_model_run(struct plain_model *p, const int32_t *ids, const enum token_role *roles, size_t n, float *logits, float *hidden)
{
    for (size_t i = 0; i < p->config.n_layers; i++) {
        free(p->layers[i].chunks);
        p->layers[i].chunks = zeros(kv_pages_for(n) * p->config.n_kv_heads * 2 * p->chunk_bytes);
    }
    for (size_t t = 0; t < n; t++)
        run_token(p, ids[t], roles[t], t, logits + t * p->config.vocab_size, hidden + t * p->config.d_model);
}
