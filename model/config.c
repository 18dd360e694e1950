#include "model/config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "kernels/panels.h"

/* One row an architecture. The keys of a file begin with its name. */
struct arch_row {
    const char *name;
    bool qk_norm, optional_qk_norm, wide_qk_norm, qkv_bias, fused, post_norms, rope_rows_interleaved, scales_embedding;
    bool experts, filters, attention_router, sigmoid, norm_by_key;
    bool sliding_rope;          /* layers that slide have a RoPE of their own */
    const char *ffn_norm;       /* NULL: ffn_norm */
    bool latent;                /* multi-head latent attention */
    bool gpt_oss;               /* sinks, biases everywhere, YaRN's ramp not rounded to pairs */
    size_t slides_but_every;    /* without a pattern in the file: every n-th layer sees all; 0: all slide, where the file has a window */
    size_t rotates_but_every;   /* every n-th layer has no RoPE; 0: all have it */
    enum ffn_activation ffn_activation;
};

static const struct arch_row archs[] = {
    { .name = "llama", .rope_rows_interleaved = true, .experts = true },
    { .name = "gemma3", .qk_norm = true, .post_norms = true, .scales_embedding = true, .slides_but_every = 6, .sliding_rope = true,
      .ffn_activation = FFN_GELU },
    { .name = "qwen2", .qkv_bias = true },
    { .name = "qwen3", .qk_norm = true },
    { .name = "qwen3moe", .qk_norm = true, .experts = true },
    { .name = "smollm3", .rope_rows_interleaved = true, .rotates_but_every = 4 },
    { .name = "phi3", .fused = true },
    { .name = "gpt-oss", .gpt_oss = true, .ffn_norm = "post_attention_norm", .qkv_bias = true, .slides_but_every = 2, .experts = true,
      .ffn_activation = FFN_CLAMPED },
    { .name = "glm4moe", .ffn_norm = "post_attention_norm", .qkv_bias = true, .optional_qk_norm = true, .experts = true, .sigmoid = true,
      .norm_by_key = true },
    { .name = "deepseek2", .latent = true, .experts = true, .norm_by_key = true },
    { .name = "minimax-m2", .wide_qk_norm = true, .experts = true, .sigmoid = true },
    /* Our own names and keys: no other program writes such files. With experts it is Yuan2-M32. */
    { .name = "yuan2", .filters = true, .experts = true, .attention_router = true },
};

struct reader {
    const struct gguf *g;
    const struct arch_row *arch;
    bool failed;        /* what was wrong is logged */
};

static const char *full_key(const struct reader *r, const char *key, char out[128])
{
    snprintf(out, 128, "%s.%s", r->arch->name, key);
    return out;
}

static void missing(struct reader *r, const char *key)
{
    log_error("%s: key \"%s\" is missing", gguf_path(r->g), key);
    r->failed = true;
}

/* The integer of `key` in [least, most]; `otherwise` when it is absent, or a missing() error when that is 0. */
static size_t get_size(struct reader *r, const char *key, uint64_t least, uint64_t most, uint64_t otherwise)
{
    char name[128];
    uint64_t value = otherwise;

    int err = gguf_get_u64(r->g, full_key(r, key, name), least, most, &value);
    if (err == -ENOENT && !otherwise)
        missing(r, name);
    else if (err && err != -ENOENT)
        r->failed = true;
    return value;
}

static double get_double(struct reader *r, const char *key, double least, double most, double otherwise)
{
    char name[128];
    double value = otherwise;

    int err = gguf_get_f64(r->g, full_key(r, key, name), least, most, &value);
    if (err == -ENOENT && isnan(otherwise))
        missing(r, name);
    else if (err && err != -ENOENT)
        r->failed = true;
    return value;
}

static void refuse(struct reader *r, const char *what)
{
    log_error("%s: %s", gguf_path(r->g), what);
    r->failed = true;
}

/* A head count may be a scalar or an array with one entry a layer; different entries are not supported here. */
static size_t get_heads(struct reader *r, const char *key, size_t n_layers, uint64_t otherwise)
{
    char name[128];
    const struct gguf_kv *kv = gguf_find(r->g, full_key(r, key, name));

    if (!kv || kv->type != GGUF_ARRAY)
        return get_size(r, key, 1, 1024, otherwise);
    if (kv->element_type == GGUF_STRING || kv->element_type == GGUF_F32 || kv->element_type == GGUF_F64 ||
        kv->n != n_layers) {
        log_error("%s: key \"%s\" has %" PRIu64 " entries, expected %zu integers", gguf_path(r->g), name, kv->n, n_layers);
        r->failed = true;
        return 1;
    }
    int64_t first = gguf_int_at(kv, 0);
    for (uint64_t i = 0; i < kv->n; i++)
        if (gguf_int_at(kv, i) != first || first < 1 || first > 1024) {
            log_error("%s: key \"%s\": entry %" PRIu64 " is %" PRId64 "; layers with different head counts are not supported",
                      gguf_path(r->g), name, i, gguf_int_at(kv, i));
            r->failed = true;
            return 1;
        }
    return (size_t)first;
}

static void read_groups(struct reader *r, struct model_config *c)
{
    char name[128];
    uint64_t n = 0, used = 0;

    const int err = gguf_get_u64(r->g, full_key(r, "expert_group_count", name), 0, MODEL_MAX_EXPERT_GROUPS, &n);
    if (err && err != -ENOENT)
        r->failed = true;
    if (err || n < 2)
        return;
    used = get_size(r, "expert_group_used_count", 1, n, 0);
    if (r->failed)
        return;
    if (c->n_experts % n || c->n_experts / n < 2 || used * (c->n_experts / n) < c->n_experts_used) {
        log_error("%s: key \"%s\": %zu experts, %zu of them used, cannot be chosen from %" PRIu64 " of %" PRIu64 " groups",
                  gguf_path(r->g), name, c->n_experts, c->n_experts_used, used, n);
        r->failed = true;
        return;
    }
    c->n_expert_groups = n;
    c->n_expert_groups_used = used;
}

/* Which layers are mixtures their tensors say. */
static void read_experts(struct reader *r, struct model_config *c)
{
    char name[128];
    uint64_t n = 0;

    const int err = gguf_get_u64(r->g, full_key(r, "expert_count", name), 0, 4096, &n);
    if (err && err != -ENOENT)
        r->failed = true;
    if (err || !n)
        return;
    if (!r->arch->experts) {
        log_error("%s: key \"%s\" is %" PRIu64 ": mixtures of experts of architecture %s are not supported", gguf_path(r->g), name, n,
                  c->arch);
        r->failed = true;
        return;
    }
    c->n_experts = n;
    c->n_experts_used = get_size(r, "expert_used_count", 1, n < MODEL_MAX_EXPERTS_USED ? n : MODEL_MAX_EXPERTS_USED, 0);
    c->d_ff_expert = get_size(r, "expert_feed_forward_length", 1, 1u << 20, c->d_ff);
    c->gating = (enum expert_gating)get_size(r, "expert_gating_func", GATING_SOFTMAX, GATING_SIGMOID,
                                             r->arch->sigmoid ? GATING_SIGMOID : GATING_SOFTMAX);
    c->expert_weights_norm = !r->arch->norm_by_key;
    if (r->arch->norm_by_key && gguf_get_bool(r->g, full_key(r, "expert_weights_norm", name), &c->expert_weights_norm) == -EINVAL)
        r->failed = true;
    c->expert_weights_scale = (float)get_double(r, "expert_weights_scale", 0, 1e6, 1);
    if (c->expert_weights_scale == 0)           /* some writers mean: none */
        c->expert_weights_scale = 1;
    if (!r->failed)
        read_groups(r, c);
    /* Shared experts side by side are one of their width. */
    uint64_t n_shared = 0;
    const int err_shared = gguf_get_u64(r->g, full_key(r, "expert_shared_count", name), 0, 64, &n_shared);
    if (err_shared && err_shared != -ENOENT)
        r->failed = true;
    c->d_ff_shared = n_shared * c->d_ff_expert;
}

static const struct arch_row *find_arch(const struct gguf *g)
{
    struct gguf_string arch = { 0 };
    char quoted[GGUF_QUOTED], all[256];
    size_t len = 0;
    int err = gguf_get_string(g, "general.architecture", &arch);

    if (err == -ENOENT)
        log_error("%s: key \"general.architecture\" is missing", gguf_path(g));
    if (err)
        return NULL;
    for (size_t i = 0; i < sizeof(archs) / sizeof(archs[0]); i++)
        if (arch.len == strlen(archs[i].name) && !memcmp(arch.data, archs[i].name, arch.len))
            return &archs[i];
    for (size_t i = 0; i < sizeof(archs) / sizeof(archs[0]) && len < sizeof(all); i++)
        len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", archs[i].name);
    log_error("%s: architecture %s is not supported (supported: %s)", gguf_path(g), gguf_quote(arch, quoted), all);
    return NULL;
}

static bool is_text(struct gguf_string s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.data, text, s.len);
}

/* The keys of YaRN (Peng et al., ICLR 2024, arXiv:2309.00071) as llama.cpp's converter writes them. */
static void read_yarn(struct reader *r, const struct model_config *c, struct rope_config *rope)
{
    rope->scaling = ROPE_YARN;
    rope->keeps_bounds = r->arch->gpt_oss;      /* no key says so */
    rope->factor = get_double(r, "rope.scaling.factor", 1, 4096, NAN);
    rope->n_ctx_original = (double)get_size(r, "rope.scaling.original_context_length", 1, 1u << 24, c->n_ctx_train);
    rope->beta_fast = get_double(r, "rope.scaling.yarn_beta_fast", 0.01, 1e6, 32);
    rope->beta_slow = get_double(r, "rope.scaling.yarn_beta_slow", 0.01, 1e6, 1);
    rope->magnitude = get_double(r, "rope.scaling.attn_factor", 0.01, 100, 1) * (1 + 0.1 * log(rope->factor));
    if (!r->arch->latent)
        return;
    if (get_double(r, "rope.scaling.attn_factor", 0.01, 100, 1) != 1)
        refuse(r, "rope.scaling.attn_factor is not supported for latent attention");
    rope->magnitude = 1;                        /* the scale of the scores has it: read_latent() */
}

/*
 * Multi-head latent attention (DeepSeek-AI 2024, arXiv:2405.04434). To the cache it is one KV head: the latent vector and the dims that
 * have a position. YaRN's magnitude is in the scale of the scores, once for q and once for k.
 */
static void read_latent(struct reader *r, struct model_config *c)
{
    char name[128];
    uint64_t q_rank = 0;

    if (gguf_find_tensor(r->g, "blk.0.attn_kv_b.weight")) {
        refuse(r, "has attn_kv_b, which converters wrote before 2025: convert the model again, so that attn_k_b and attn_v_b are there");
        return;
    }
    const int err = gguf_get_u64(r->g, full_key(r, "attention.q_lora_rank", name), 0, 1u << 16, &q_rank);
    if (err && err != -ENOENT)
        r->failed = true;
    c->q_rank = q_rank;
    c->kv_rank = get_size(r, "attention.kv_lora_rank", PANEL_ROWS, MODEL_MAX_HEAD_DIM, 0);
    const size_t key = get_size(r, "attention.key_length_mla", 1, MODEL_MAX_HEAD_DIM, 0);
    const size_t n_rotated = get_size(r, "rope.dimension_count", 2, MODEL_MAX_HEAD_DIM, 0);
    c->value_dim = get_size(r, "attention.value_length_mla", 1, MODEL_MAX_HEAD_DIM, 0);
    const double log_multiplier = get_double(r, "rope.scaling.yarn_log_multiplier", 0, 10, 0);
    const double factor = get_double(r, "rope.scaling.factor", 1, 4096, 1);
    if (r->failed)
        return;
    if (c->kv_rank % PANEL_ROWS || key <= n_rotated || n_rotated % 2 || c->kv_rank + n_rotated > MODEL_MAX_HEAD_DIM) {
        log_error("%s: latent attention with kv_lora_rank %zu, key_length_mla %zu and rope.dimension_count %zu: the first must be a "
                  "multiple of %d, the last even and less than the second, the first and the last together at most %d", gguf_path(r->g),
                  c->kv_rank, key, n_rotated, PANEL_ROWS, MODEL_MAX_HEAD_DIM);
        r->failed = true;
        return;
    }
    c->n_kv_heads = 1;
    c->head_dim = c->kv_rank + n_rotated;
    c->nope_dim = key - n_rotated;
    c->attention_scale = (float)(pow(1 + log_multiplier * log(factor), 2) / sqrt((double)key));
}

static void read_rope(struct reader *r, struct model_config *c)
{
    struct rope_config *rope = &c->rope;
    char name[128];
    struct gguf_string scaling = { 0 };

    rope->n_dims = get_size(r, "rope.dimension_count", 2, MODEL_MAX_HEAD_DIM, c->head_dim);
    if (rope->n_dims > c->head_dim || rope->n_dims % 2 || (c->rope_rows_interleaved && rope->n_dims != c->head_dim)) {
        log_error("%s: %s is %zu, expected %s%zu", gguf_path(r->g), full_key(r, "rope.dimension_count", name), rope->n_dims,
                  c->rope_rows_interleaved ? "the head size " : "an even number up to the head size ", c->head_dim);
        r->failed = true;
    }
    rope->base = get_double(r, "rope.freq_base", 1, 1e9, 10000);
    rope->magnitude = 1;
    rope->factor = 1;
    rope->has_factors = true;
    c->rope_sliding = *rope;
    if (r->arch->sliding_rope)
        c->rope_sliding.base = get_double(r, "rope.freq_base_swa", 1, 1e9, 10000);
    c->rope_sliding.has_factors = false;
    int err = gguf_get_string(r->g, full_key(r, "rope.scaling.type", name), &scaling);
    if (err && err != -ENOENT)
        r->failed = true;
    if (gguf_find_tensor(r->g, "rope_factors_long.weight")) {
        rope->scaling = ROPE_LONG;
        rope->n_ctx_original = (double)get_size(r, "rope.scaling.original_context_length", 1, 1u << 24, 0);
        rope->magnitude = get_double(r, "rope.scaling.attn_factor", 0.01, 100, 1);
    } else if (err == -ENOENT || is_text(scaling, "linear")) {
        double old = get_double(r, "rope.scale_linear", 1, 4096, 1);        /* the key of files before 2024 */
        rope->scaling = ROPE_LINEAR;
        rope->factor = get_double(r, "rope.scaling.factor", 1, 4096, old);
    } else if (is_text(scaling, "yarn")) {
        read_yarn(r, c, rope);
    } else if (is_text(scaling, "dynamic")) {           /* our own value: no converter writes such a file */
        rope->scaling = ROPE_DYNAMIC;
        rope->factor = get_double(r, "rope.scaling.factor", 1, 4096, NAN);
        rope->n_ctx_original = (double)get_size(r, "rope.scaling.original_context_length", 1, 1u << 24, c->n_ctx_train);
        if (rope->n_dims < 4)
            refuse(r, "dynamic RoPE scaling needs at least 4 rotated dims");
    } else if (is_text(scaling, "longrope")) {
        refuse(r, "tensor \"rope_factors_long.weight\" is missing, which RoPE scaling longrope needs");
    } else if (!is_text(scaling, "none")) {
        char quoted[GGUF_QUOTED];
        log_error("%s: key \"%s\": RoPE scaling %s is not supported (none, linear, yarn, longrope and dynamic are)", gguf_path(r->g), name,
                  gguf_quote(scaling, quoted));
        r->failed = true;
    }
    if (!r->arch->sliding_rope)
        c->rope_sliding = *rope;        /* of the families here only Gemma's sliding layers have a RoPE of their own */
}

/* Gemma 3: five sliding layers, then a global one, or as the file says. Others: all slide where the file has a window. */
static void read_window(struct reader *r, struct model_config *c)
{
    const size_t otherwise = r->arch->slides_but_every;
    char name[128];

    if (!otherwise && !gguf_find(r->g, full_key(r, "attention.sliding_window", name)))
        return;
    c->sliding_window = get_size(r, "attention.sliding_window", 1, 1u << 24, 0);
    const struct gguf_kv *kv = gguf_find(r->g, full_key(r, "attention.sliding_window_pattern", name));
    if (kv && kv->type == GGUF_ARRAY) {
        if (kv->n != c->n_layers || (kv->element_type != GGUF_BOOL && kv->element_type > GGUF_I32)) {
            log_error("%s: key \"%s\" has %" PRIu64 " entries, expected %zu flags", gguf_path(r->g), name, kv->n, c->n_layers);
            r->failed = true;
            return;
        }
        for (size_t i = 0; i < c->n_layers; i++)
            c->layer_slides[i] = gguf_int_at(kv, i) != 0;
        return;
    }
    const size_t period = otherwise ? get_size(r, "attention.sliding_window_pattern", 1, MODEL_MAX_LAYERS, otherwise) : 0;
    for (size_t i = 0; i < c->n_layers; i++)
        c->layer_slides[i] = !period || i % period != period - 1;
}

static void read_vocab(struct reader *r, struct model_config *c)
{
    const struct gguf_tensor *embedding = gguf_find_tensor(r->g, "token_embd.weight");

    if (!embedding || embedding->n_dims > 2 || embedding->ne[1] < 1 || embedding->ne[1] > 1u << 21) {
        refuse(r, embedding ? "tensor \"token_embd.weight\" has no shape {embedding_length, vocabulary}"
                            : "tensor \"token_embd.weight\" is missing");
        return;
    }
    c->vocab_size = embedding->ne[1];
    const struct gguf_kv *tokens = gguf_find(r->g, "tokenizer.ggml.tokens");
    if (tokens && tokens->n != c->vocab_size) {
        log_error("%s: \"token_embd.weight\" has %zu rows, \"tokenizer.ggml.tokens\" has %" PRIu64 " entries", gguf_path(r->g),
                  c->vocab_size, tokens->n);
        r->failed = true;
    }
    c->tied_embedding = !gguf_find_tensor(r->g, "output.weight");
}

/* A file without the key is of a text model: its last token has seen all others. Types above LAST are scores (4: rank), no embeddings. */
static void read_pooling(struct reader *r, struct model_config *c)
{
    char name[128];
    uint64_t type = POOLING_LAST;
    bool causal = true;

    int err = gguf_get_u64(r->g, full_key(r, "pooling_type", name), 0, UINT32_MAX, &type);
    if (err && err != -ENOENT)
        r->failed = true;
    c->pooling = type <= POOLING_LAST ? (enum pooling)type : POOLING_NONE;
    err = gguf_get_bool(r->g, full_key(r, "attention.causal", name), &causal);
    if (err && err != -ENOENT)
        r->failed = true;
    else if (!causal)
        refuse(r, "attention that sees later tokens is not supported (attention.causal is false)");
}

/* block_count has them, too. */
static void read_extra_layers(struct reader *r, struct model_config *c)
{
    char name[128];
    uint64_t n = 0;
    const int err = c->n_layers ? gguf_get_u64(r->g, full_key(r, "nextn_predict_layers", name), 0, c->n_layers - 1, &n) : 0;

    if (err && err != -ENOENT)
        r->failed = true;
    c->n_extra_layers = n;
    c->n_layers -= n;
}

int model_config_read(struct model_config *c, const struct gguf *g)
{
    struct gguf_string name = { "", 0 };
    struct reader r = { .g = g, .arch = find_arch(g) };

    *c = (struct model_config){ 0 };
    if (!r.arch)
        return -EINVAL;
    snprintf(c->arch, sizeof(c->arch), "%s", r.arch->name);
    gguf_get_string(g, "general.name", &name);
    snprintf(c->name, sizeof(c->name), "%.*s", (int)(name.len < 100 ? name.len : 100), name.data);

    c->n_layers = get_size(&r, "block_count", 1, MODEL_MAX_LAYERS, 0);
    read_extra_layers(&r, c);
    c->d_model = get_size(&r, "embedding_length", 1, 65536, 0);
    c->d_ff = get_size(&r, "feed_forward_length", 1, 1u << 20, 0);
    c->n_ctx_train = get_size(&r, "context_length", 1, 1u << 24, 0);
    if (r.failed)
        return -EINVAL;
    c->n_heads = get_heads(&r, "attention.head_count", c->n_layers, 0);
    if (r.failed)
        return -EINVAL;
    c->n_kv_heads = get_heads(&r, "attention.head_count_kv", c->n_layers, c->n_heads);
    c->norm_eps = (float)get_double(&r, "attention.layer_norm_rms_epsilon", 1e-12, 0.1, NAN);
    c->head_dim = get_size(&r, "attention.key_length", 1, MODEL_MAX_HEAD_DIM, c->d_model / c->n_heads ? c->d_model / c->n_heads : 1);
    c->value_dim = c->head_dim;
    c->attention_scale = (float)(1 / sqrt((double)c->head_dim));
    if (r.arch->latent && !r.failed)
        read_latent(&r, c);
    if (r.failed)
        return -EINVAL;
    if (!c->kv_rank && get_size(&r, "attention.value_length", 1, MODEL_MAX_HEAD_DIM, c->head_dim) != c->head_dim)
        refuse(&r, "keys attention.key_length and attention.value_length differ; this is not supported");
    if (c->head_dim > MODEL_MAX_HEAD_DIM) {     /* the default, which no key bounds */
        log_error("%s: head size %zu (embedding_length / head_count), at most %d", gguf_path(g), c->head_dim, MODEL_MAX_HEAD_DIM);
        r.failed = true;
    }
    if (c->n_heads % c->n_kv_heads) {
        log_error("%s: %s.attention.head_count_kv is %zu, does not divide head_count %zu", gguf_path(g), c->arch, c->n_kv_heads,
                  c->n_heads);
        r.failed = true;
    }
    if (c->head_dim % 2) {
        log_error("%s: head size %zu (%s.attention.key_length, or embedding_length / head_count) is odd, RoPE needs pairs", gguf_path(g),
                  c->head_dim, c->arch);
        r.failed = true;
    }
    if (r.arch->wide_qk_norm && c->head_dim % 16) {
        log_error("%s: head size %zu: a norm over all heads needs a multiple of 16", gguf_path(g), c->head_dim);
        r.failed = true;
    }
    read_experts(&r, c);

    c->qk_norm = r.arch->qk_norm || (r.arch->optional_qk_norm && gguf_find_tensor(g, "blk.0.attn_q_norm.weight"));
    c->wide_qk_norm = r.arch->wide_qk_norm;
    c->sinks = c->all_biases = r.arch->gpt_oss;
    c->ffn_norm = r.arch->ffn_norm ? r.arch->ffn_norm : "ffn_norm";
    c->qkv_bias = r.arch->qkv_bias;
    c->filters = r.arch->filters;
    c->attention_router = r.arch->attention_router;
    c->fused_qkv = c->fused_ffn = r.arch->fused;
    c->post_norms = r.arch->post_norms;
    c->rope_rows_interleaved = r.arch->rope_rows_interleaved;
    c->ffn_activation = r.arch->ffn_activation;
    c->embedding_scale = r.arch->scales_embedding ? sqrtf((float)c->d_model) : 1;
    /* The 62-layer 27B of Gemma 3 scales by d_model / n_heads instead (query_pre_attn_scalar 168); GGUF has no key for it. */
    if (r.arch->scales_embedding && c->n_layers == 62)
        c->attention_scale = (float)(1 / sqrt((double)c->d_model / (double)c->n_heads));
    c->attention_scale = (float)get_double(&r, "attention.scale", 1e-6, 1e6, (double)c->attention_scale);      /* folders say it */
    c->final_softcap = (float)get_double(&r, "final_logit_softcapping", 0, 1e6, 0);
    c->attention_softcap = (float)get_double(&r, "attn_logit_softcapping", 0, 1e6, 0);
    for (size_t i = 0; i < c->n_layers; i++)
        c->layer_rotates[i] = !r.arch->rotates_but_every || (i + 1) % r.arch->rotates_but_every;
    read_rope(&r, c);
    read_window(&r, c);
    read_vocab(&r, c);
    read_pooling(&r, c);
    return r.failed ? -EINVAL : 0;
}
