/*
 * load_plan.c - what a model's file must have: every tensor that the configuration implies, with its shape and a type that can be
 * multiplied; and what its weights will take.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "model/model_internal.h"
#include "weights/quantize_plan.h"

struct plan {
    struct model *m;
    const struct gguf *g;
    const enum dtype *types;    /* what each tensor becomes */
    int err;                    /* 0, or a negative errno that was logged */
};

static const struct gguf_tensor *find_tensor(struct plan *p, const char *name)
{
    const struct gguf_tensor *t = p->err ? NULL : gguf_find_tensor(p->g, name);     /* of several that are wrong, the first is said */

    if (!t && !p->err) {
        log_error("%s: tensor \"%s\" is missing", gguf_path(p->g), name);
        p->err = -EINVAL;
    }
    return t;
}

/* Biases would change the result if they were left out silently. */
static void refuse_bias(struct plan *p, const char *name)
{
    char bias[96];

    snprintf(bias, sizeof(bias), "%.*s.bias", (int)(strlen(name) - strlen(".weight")), name);
    if (!p->err && gguf_find_tensor(p->g, bias)) {
        log_error("%s: tensor \"%s\": biases are not supported in this version", gguf_path(p->g), bias);
        p->err = -EINVAL;
    }
}

/* Rows [first, first + n_rows) of a tensor that has n_all rows of k. */
static void plan_part(struct plan *p, struct matrix *x, const char *name, size_t k, size_t n_all, size_t first, size_t n_rows,
                      size_t n_stacked, const struct split *split)
{
    const struct gguf_tensor *t = find_tensor(p, name);

    if (!t)
        return;
    if (t->ne[0] != k || t->ne[1] != n_all) {
        log_error("%s: tensor \"%s\" is {%" PRIu64 ", %" PRIu64 "}, expected {%zu, %zu}", gguf_path(p->g), name, t->ne[0],
                  t->ne[1], k, n_all);
        p->err = -EINVAL;
        return;
    }
    if (t->ne[2] != n_stacked || t->ne[3] != 1) {
        log_error("%s: tensor \"%s\" is a stack of %" PRIu64 " x %" PRIu64 " matrices, expected %zu", gguf_path(p->g), name, t->ne[2],
                  t->ne[3], n_stacked);
        p->err = -EINVAL;
        return;
    }
    if (!dtype_info(t->type)->supported) {
        log_error("%s: tensor \"%s\" has type %s, which is not supported in this version", gguf_path(p->g), name,
                  dtype_info(t->type)->name);
        p->err = -EINVAL;
        return;
    }
    const enum dtype type = p->types[t - gguf_tensor_at(p->g, 0)];
    *x = (struct matrix){ .tensor = t, .type = type, .n_rows = n_rows, .first_row = first, .k = k, .k_padded = round_up(k, 32),
                          .split = split };
    x->n_panels = split->start[pool_n_nodes(p->m->pool)];
    x->panel_bytes = panel_bytes(x->type, x->k_padded);
    int err = gemm_choose(p->m, x);
    if (err)
        p->err = err;
}

static void plan_stacked(struct plan *p, struct matrix *x, const char *name, size_t k, size_t n_rows, size_t n, const struct split *split)
{
    if (!p->m->config.all_biases)
        refuse_bias(p, name);
    plan_part(p, x, name, k, n_rows, 0, n_rows, n, split);
}

static void plan_matrix(struct plan *p, struct matrix *x, const char *name, size_t k, size_t n_rows, const struct split *split)
{
    plan_stacked(p, x, name, k, n_rows, 1, split);
}

/* n matrices of n_rows, stacked, one for each of `what`. False after a failure. */
static bool plan_stack(struct plan *p, struct matrix *x, const char *name, size_t k, size_t n_rows, size_t n, const char *what,
                       const struct split *split)
{
    const struct gguf_tensor *t = find_tensor(p, name);

    if (!t)
        return false;
    if (t->n_dims != 3 || t->ne[2] != n) {
        log_error("%s: tensor \"%s\" has %" PRIu32 " dimensions, the last %" PRIu64 ", expected 3 and %zu %s", gguf_path(p->g), name,
                  t->n_dims, t->ne[t->n_dims - 1], n, what);
        p->err = -EINVAL;
        return false;
    }
    plan_stacked(p, x, name, k, n_rows, n, split);
    return !p->err;
}

static void plan_experts(struct plan *p, struct matrix *x, const char *name, size_t k, size_t n_rows, const struct split *split)
{
    const size_t n_experts = p->m->config.n_experts;

    if (plan_stack(p, x, name, k, n_rows, n_experts, "experts", split))
        x->n_experts = n_experts;
}

/* Its products are compared with one another: in float32, whatever its type. On every node, so that each can route for itself. */
static void plan_router(struct plan *p, struct matrix *x, const char *name)
{
    const struct model_config *c = &p->m->config;
    const enum activations_option chosen = p->m->activations;

    p->m->activations = ACTIVATIONS_F32;
    plan_matrix(p, x, name, c->d_model, c->n_experts * (c->attention_router ? 3 : 1), &p->m->router_split);
    p->m->activations = chosen;
    x->replicated = true;
}

static void plan_norm(struct plan *p, struct norm *x, const char *name, size_t n)
{
    const struct gguf_tensor *t = find_tensor(p, name);

    if (!t)
        return;
    if (t->n_dims > 2 || t->ne[0] * t->ne[1] != n) {
        log_error("%s: tensor \"%s\" has %" PRIu64 " values in %" PRIu32 " dimensions, expected {%zu}", gguf_path(p->g), name,
                  t->ne[0], t->n_dims, n);
        p->err = -EINVAL;
    } else if (t->type != DTYPE_F32 && t->type != DTYPE_F16 && t->type != DTYPE_BF16) {
        log_error("%s: norm \"%s\" has type %s, expected F32, F16 or BF16", gguf_path(p->g), name, dtype_info(t->type)->name);
        p->err = -EINVAL;
    }
    *x = (struct norm){ .tensor = t, .n = n };
}

/* Values [first, first + n) of a tensor of n_all: the bias of heads of q, k or v. Only some architectures have them, and must then. */
static void plan_bias(struct plan *p, struct norm *x, const char *name, size_t n_all, size_t first, size_t n, bool rotated)
{
    const struct model_config *c = &p->m->config;

    if (!c->qkv_bias && !gguf_find_tensor(p->g, name))
        return;
    plan_norm(p, x, name, n_all);
    x->n = n;
    x->first = first;
    x->interleaved_dims = rotated && c->rope_rows_interleaved ? c->head_dim : 0;
}

/* q, k or v: matrices whose rows are the dims of heads, in tensors of their own or one below the other in attn_qkv. */
static void plan_heads(struct plan *p, size_t layer, const char *part, struct matrix *x, struct norm *bias, size_t first_head,
                       size_t n_heads, const struct split *split, bool rotated)
{
    const struct model_config *c = &p->m->config;
    const size_t first = c->fused_qkv ? first_head * c->head_dim : 0, n = n_heads * c->head_dim;
    const size_t n_all = c->fused_qkv ? (c->n_heads + 2 * c->n_kv_heads) * c->head_dim : n;
    char name[64];

    snprintf(name, sizeof(name), "blk.%zu.attn_%s.weight", layer, c->fused_qkv ? "qkv" : part);
    plan_part(p, x, name, c->d_model, n_all, first, n, 1, split);
    x->head_dim = c->head_dim;
    x->interleaved = rotated && c->rope_rows_interleaved;
    snprintf(name, sizeof(name), "blk.%zu.attn_%s.bias", layer, c->fused_qkv ? "qkv" : part);
    plan_bias(p, bias, name, n_all, first, n, rotated);
}

static uint64_t matrix_bytes(const struct matrix *x)
{
    return quantize_matrix_bytes(x->type, x->n_rows, x->k);
}

static void plan_of_heads(struct plan *p, struct matrix *x, const char *name, size_t k, size_t rows, const struct split *split)
{
    const size_t n_heads = p->m->config.n_heads;

    if (plan_stack(p, x, name, k, rows, n_heads, "heads", split)) {
        x->n_rows = rows * n_heads;
        x->head_dim = rows;
    }
}

/* Multi-head latent attention up to its output matrix. */
static void plan_latent(struct plan *p, size_t layer, struct layer *l)
{
    const struct model_config *c = &p->m->config;
    const size_t q_rows = c->n_heads * (c->nope_dim + c->rope.n_dims);
    struct model *m = p->m;
    char name[64];

#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%zu." suffix ".weight", layer), name)
    if (c->q_rank) {
        plan_matrix(p, &l->q_a, NAME("attn_q_a"), c->d_model, c->q_rank, &m->q_a_split);
        plan_norm(p, &l->q_a_norm, NAME("attn_q_a_norm"), c->q_rank);
        plan_matrix(p, &l->q, NAME("attn_q_b"), c->q_rank, q_rows, &m->q_split);
    } else {
        plan_matrix(p, &l->q, NAME("attn_q"), c->d_model, q_rows, &m->q_split);
    }
    l->q.head_dim = c->nope_dim + c->rope.n_dims;
    plan_matrix(p, &l->k, NAME("attn_kv_a_mqa"), c->d_model, c->head_dim, &m->kv_split);
    plan_norm(p, &l->kv_a_norm, NAME("attn_kv_a_norm"), c->kv_rank);
    plan_of_heads(p, &l->k_b, NAME("attn_k_b"), c->nope_dim, c->kv_rank, &m->k_b_split);
    plan_of_heads(p, &l->v_b, NAME("attn_v_b"), c->kv_rank, c->value_dim, &m->v_b_split);
#undef NAME
}

static void plan_layer(struct plan *p, size_t i)
{
    const struct model_config *c = &p->m->config;
    struct model *m = p->m;
    struct layer *l = &m->layers[i];
    char name[64];

#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%zu." suffix ".weight", i), name)
#define BIAS(suffix) (snprintf(name, sizeof(name), "blk.%zu." suffix ".bias", i), name)
    plan_norm(p, &l->attn_norm, NAME("attn_norm"), c->d_model);
    if (c->kv_rank) {
        plan_latent(p, i, l);
    } else {
        plan_heads(p, i, "q", &l->q, &l->q_bias, 0, c->n_heads, &m->q_split, true);
        plan_heads(p, i, "k", &l->k, &l->k_bias, c->n_heads, c->n_kv_heads, &m->kv_split, true);
        plan_heads(p, i, "v", &l->v, &l->v_bias, c->n_heads + c->n_kv_heads, c->n_kv_heads, &m->kv_split, false);
    }
    l->filters = c->filters;
    if (l->filters) {
        plan_matrix(p, &l->lfa_first[0], NAME("attn_lfa_first_previous"), c->d_model, c->d_model / 2, &m->lfa_split);
        plan_part(p, &l->lfa_first[1], NAME("attn_lfa_first"), c->d_model, c->d_model / 2, 0, c->d_model / 2, 1, &m->lfa_split);
        plan_matrix(p, &l->lfa_second[0], NAME("attn_lfa_second_previous"), c->d_model / 2, c->d_model, &m->d_split);
        plan_part(p, &l->lfa_second[1], NAME("attn_lfa_second"), c->d_model / 2, c->d_model, 0, c->d_model, 1, &m->d_split);
        plan_norm(p, &l->lfa_norm, NAME("attn_lfa_norm"), c->d_model);
        if (gguf_find_tensor(p->g, BIAS("attn_lfa_first"))) {       /* Yuan 3 Ultra has none */
            plan_norm(p, &l->lfa_first_bias, BIAS("attn_lfa_first"), c->d_model / 2);
            plan_norm(p, &l->lfa_second_bias, BIAS("attn_lfa_second"), c->d_model);
        }
    }
    if (c->sinks)
        plan_norm(p, &l->sinks, NAME("attn_sinks"), c->n_heads);
    if (c->all_biases)
        plan_norm(p, &l->o_bias, BIAS("attn_output"), c->d_model);
    plan_matrix(p, &l->o, NAME("attn_output"), c->n_heads * c->value_dim, c->d_model, &m->d_split);
    if (c->qk_norm) {
        plan_norm(p, &l->q_norm, NAME("attn_q_norm"), c->head_dim);
        plan_norm(p, &l->k_norm, NAME("attn_k_norm"), c->head_dim);
    }
    if (c->wide_qk_norm) {
        plan_norm(p, &l->q_norm, NAME("attn_q_norm"), c->n_heads * c->head_dim);
        plan_norm(p, &l->k_norm, NAME("attn_k_norm"), c->n_kv_heads * c->head_dim);
    }
    if (c->post_norms) {
        plan_norm(p, &l->post_attn_norm, NAME("post_attention_norm"), c->d_model);
        plan_norm(p, &l->post_ffn_norm, NAME("post_ffw_norm"), c->d_model);
    }
    snprintf(name, sizeof(name), "blk.%zu.%s.weight", i, c->ffn_norm);
    plan_norm(p, &l->ffn_norm, name, c->d_model);
    l->is_moe = c->n_experts && gguf_find_tensor(p->g, NAME("ffn_gate_inp"));
    if (l->is_moe) {
        plan_router(p, &l->router, NAME("ffn_gate_inp"));
        plan_experts(p, &l->gate, NAME("ffn_gate_exps"), c->d_model, c->d_ff_expert, &m->expert_split);
        plan_experts(p, &l->up, NAME("ffn_up_exps"), c->d_model, c->d_ff_expert, &m->expert_split);
        plan_experts(p, &l->down, NAME("ffn_down_exps"), c->d_ff_expert, c->d_model, &m->d_split);
        if (!p->err)
            l->expert_bytes = matrix_bytes(&l->gate) + matrix_bytes(&l->up) + matrix_bytes(&l->down);
        if (c->all_biases) {
            plan_norm(p, &l->router_logit_bias, BIAS("ffn_gate_inp"), c->n_experts);
            plan_norm(p, &l->gate_bias, BIAS("ffn_gate_exps"), c->n_experts * c->d_ff_expert);
            plan_norm(p, &l->up_bias, BIAS("ffn_up_exps"), c->n_experts * c->d_ff_expert);
            plan_norm(p, &l->down_bias, BIAS("ffn_down_exps"), c->n_experts * c->d_model);
        }
        if (gguf_find_tensor(p->g, BIAS("exp_probs_b")))
            plan_norm(p, &l->router_bias, BIAS("exp_probs_b"), c->n_experts);
        if (c->d_ff_shared) {
            plan_matrix(p, &l->shared_gate, NAME("ffn_gate_shexp"), c->d_model, c->d_ff_shared, &m->shared_split);
            plan_matrix(p, &l->shared_up, NAME("ffn_up_shexp"), c->d_model, c->d_ff_shared, &m->shared_split);
            plan_matrix(p, &l->shared_down, NAME("ffn_down_shexp"), c->d_ff_shared, c->d_model, &m->d_split);
        } else if (!p->err && gguf_find_tensor(p->g, NAME("ffn_gate_shexp"))) {
            log_error("%s: tensor \"%s\" is of a shared expert, %s.expert_shared_count is 0", gguf_path(p->g), name, c->arch);
            p->err = -EINVAL;
        }
        return;
    }
    if (c->fused_ffn) {
        plan_part(p, &l->gate, NAME("ffn_up"), c->d_model, 2 * c->d_ff, 0, c->d_ff, 1, &m->ff_split);
        plan_part(p, &l->up, NAME("ffn_up"), c->d_model, 2 * c->d_ff, c->d_ff, c->d_ff, 1, &m->ff_split);
    } else {
        plan_matrix(p, &l->gate, NAME("ffn_gate"), c->d_model, c->d_ff, &m->ff_split);
        plan_matrix(p, &l->up, NAME("ffn_up"), c->d_model, c->d_ff, &m->ff_split);
    }
    plan_matrix(p, &l->down, NAME("ffn_down"), c->d_ff, c->d_model, &m->d_split);
#undef NAME
#undef BIAS
}

void model_each_matrix(struct model *m, void (*fn)(struct model *m, struct matrix *x, void *arg), void *arg)
{
    if (m->embedding.tensor)
        fn(m, &m->embedding, arg);
    for (size_t i = 0; i < m->config.n_layers; i++) {
        struct layer *l = &m->layers[i];
        struct matrix *const all[] = { &l->q_a, &l->q, &l->k, &l->v, &l->k_b, &l->v_b, &l->o, &l->gate, &l->up, &l->down };
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++)
            if (all[j]->tensor)
                fn(m, all[j], arg);
        if (l->is_moe)
            fn(m, &l->router, arg);
        if (l->is_moe && m->config.d_ff_shared) {
            fn(m, &l->shared_gate, arg);
            fn(m, &l->shared_up, arg);
            fn(m, &l->shared_down, arg);
        }
        for (size_t j = 0; l->filters && j < 2; j++) {
            fn(m, &l->lfa_first[j], arg);
            fn(m, &l->lfa_second[j], arg);
        }
    }
    fn(m, &m->head, arg);
}

void model_each_norm(struct model *m, void (*fn)(struct model *m, struct norm *x, void *arg), void *arg)
{
    for (size_t i = 0; i < m->config.n_layers; i++) {
        struct layer *l = &m->layers[i];
        struct norm *const all[] = { &l->attn_norm, &l->ffn_norm, &l->q_norm, &l->k_norm, &l->post_attn_norm, &l->post_ffn_norm,
                                     &l->q_bias, &l->k_bias, &l->v_bias, &l->lfa_first_bias, &l->lfa_second_bias,
                                     &l->lfa_norm, &l->router_bias, &l->sinks, &l->o_bias, &l->router_logit_bias, &l->gate_bias,
                                     &l->up_bias, &l->down_bias, &l->q_a_norm, &l->kv_a_norm };
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++)
            if (all[j]->tensor)
                fn(m, all[j], arg);
    }
    fn(m, &m->output_norm, arg);
}

static void count_matrix(struct model *m, struct matrix *x, void *arg)
{
    (void)arg;
    m->weight_bytes += x->n_panels * x->panel_bytes * (x->n_experts ? x->n_experts : 1);
    if (x == &m->embedding)
        return;
    m->step_params += (uint64_t)x->n_rows * x->k * (x->n_experts ? m->config.n_experts_used : 1);
    if (!x->n_experts)          /* which experts a step reads is known when it has run */
        m->step_weight_bytes += matrix_bytes(x);
}

/* Layers that the metadata leaves out are no detail: the text would be garbage. Other tensors that nothing uses are a warning. */
static int check_unused(const struct plan *p, size_t n_used)
{
    if (gguf_n_tensors(p->g) == n_used)
        return 0;
    for (size_t i = 0; i < gguf_n_tensors(p->g); i++) {
        const char *name = gguf_tensor_at(p->g, i)->name.data;
        unsigned long layer = strncmp(name, "blk.", 4) ? 0 : strtoul(name + 4, NULL, 10);
        const size_t n_layers = p->m->config.n_layers + p->m->config.n_extra_layers;
        n_used += layer >= p->m->config.n_layers;       /* known, and left out */
        if (layer >= n_layers) {
            log_error("%s: tensor \"%s\" belongs to layer %lu, %s.block_count is %zu", gguf_path(p->g), name, layer, p->m->config.arch,
                      n_layers);
            return -EINVAL;
        }
    }
    const size_t n = gguf_n_tensors(p->g) - n_used;
    if (n)
        log_warn("%s: %zu tensor%s not used by this version", gguf_path(p->g), n, n == 1 ? " is" : "s are");
    return 0;
}

static void count_norm(struct model *m, struct norm *x, void *arg)
{
    (void)m;
    *(size_t *)arg += x->first == 0;        /* a tensor may hold several */
}

static void count_used(struct model *m, struct matrix *x, void *arg)
{
    (void)m;
    *(size_t *)arg += x->first_row == 0;
}

/* All that the model needs, each with the type that it becomes. */
static int plan_tensors(struct model *m, const struct gguf *g, const enum dtype *types)
{
    const struct model_config *c = &m->config;
    struct plan p = { m, g, types, 0 };
    size_t n_used = 0;

    plan_matrix(&p, &m->head, c->tied_embedding ? "token_embd.weight" : "output.weight", c->d_model, c->vocab_size, &m->vocab_split);
    if (!c->tied_embedding)
        plan_matrix(&p, &m->embedding, "token_embd.weight", c->d_model, c->vocab_size, &m->vocab_split);
    plan_norm(&p, &m->output_norm, "output_norm.weight", c->d_model);
    for (size_t i = 0; i < c->n_layers && !p.err; i++)
        plan_layer(&p, i);
    if (p.err)
        return p.err;
    model_each_matrix(m, count_used, &n_used);
    model_each_norm(m, count_norm, &n_used);
    static const char *const of_rope[] = { "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight" };
    for (size_t i = 0; i < sizeof(of_rope) / sizeof(of_rope[0]); i++)
        n_used += gguf_find_tensor(g, of_rope[i]) != NULL;
    return check_unused(&p, n_used);
}

int load_plan(struct model *m, const struct gguf *g, enum dtype wanted)
{
    enum dtype *types = malloc(gguf_n_tensors(g) * sizeof(*types));

    if (!types)
        return -ENOMEM;
    quantize_plan_load(g, wanted, types);
    const int err = plan_tensors(m, g, types);
    free(types);
    if (err)
        return err;
    model_each_matrix(m, count_matrix, NULL);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        m->n_params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    return 0;
}

struct node_count { size_t node; uint64_t bytes; };

static void add_matrix_bytes(struct model *m, struct matrix *x, void *arg)
{
    struct node_count *n = arg;
    (void)m;
    n->bytes += round_up(node_panels(x, n->node) * x->panel_bytes, 64);
}

static void add_norm_bytes(struct model *m, struct norm *x, void *arg)
{
    struct node_count *n = arg;
    (void)m;
    n->bytes += round_up(x->n * sizeof(float), 64);
}

uint64_t load_node_bytes(struct model *m, size_t node)
{
    struct node_count n = { .node = node };

    model_each_matrix(m, add_matrix_bytes, &n);
    model_each_norm(m, add_norm_bytes, &n);
    return n.bytes;
}
