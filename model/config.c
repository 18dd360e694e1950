#include "model/config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"

/* One row an architecture. The keys of a file begin with its name. */
struct arch_row {
    const char *name;
    bool qk_norm, post_norms, rope_rows_interleaved, scales_embedding, slides;
    enum ffn_activation ffn_activation;
};

static const struct arch_row archs[] = {
    { .name = "llama", .rope_rows_interleaved = true, .ffn_activation = FFN_SILU },
    { .name = "gemma3", .qk_norm = true, .post_norms = true, .scales_embedding = true, .slides = true,
      .ffn_activation = FFN_GELU },
};

const char *model_config_supported(void)
{
    return "llama, gemma3";
}

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

static void refuse_experts(struct reader *r)
{
    char name[128];
    uint64_t n_experts = 0;

    int err = gguf_get_u64(r->g, full_key(r, "expert_count", name), 0, 4096, &n_experts);
    if (err && err != -ENOENT)
        r->failed = true;
    else if (n_experts)
        refuse(r, "mixture-of-experts models are not supported in this version (expert_count is not 0)");
}

static const struct arch_row *find_arch(const struct gguf *g)
{
    struct gguf_string arch = { 0 };
    char quoted[GGUF_QUOTED];
    int err = gguf_get_string(g, "general.architecture", &arch);

    if (err == -ENOENT)
        log_error("%s: key \"general.architecture\" is missing", gguf_path(g));
    if (err)
        return NULL;
    for (size_t i = 0; i < sizeof(archs) / sizeof(archs[0]); i++)
        if (arch.len == strlen(archs[i].name) && !memcmp(arch.data, archs[i].name, arch.len))
            return &archs[i];
    log_error("%s: architecture %s is not supported (supported: %s)", gguf_path(g), gguf_quote(arch, quoted),
              model_config_supported());
    return NULL;
}

static void read_rope(struct reader *r, struct model_config *c)
{
    char name[128];
    struct gguf_string scaling = { 0 };
    size_t rotated = get_size(r, "rope.dimension_count", 2, MODEL_MAX_HEAD_DIM, c->head_dim);

    if (rotated != c->head_dim) {
        log_error("%s: %s is %zu, expected head size %zu", gguf_path(r->g), full_key(r, "rope.dimension_count", name), rotated,
                  c->head_dim);
        r->failed = true;
    }
    c->rope_base = get_double(r, "rope.freq_base", 1, 1e9, 10000);
    c->rope_base_sliding = r->arch->slides ? get_double(r, "rope.freq_base_swa", 1, 1e9, 10000) : c->rope_base;
    c->rope_linear_factor = 1;
    int err = gguf_get_string(r->g, full_key(r, "rope.scaling.type", name), &scaling);
    if (err && err != -ENOENT)
        r->failed = true;
    if (err == -ENOENT || (scaling.len == 6 && !memcmp(scaling.data, "linear", 6))) {
        double old = get_double(r, "rope.scale_linear", 1, 4096, 1);        /* the key of files before 2024 */
        c->rope_linear_factor = get_double(r, "rope.scaling.factor", 1, 4096, old);
    } else if (!(scaling.len == 4 && !memcmp(scaling.data, "none", 4))) {
        char quoted[GGUF_QUOTED];
        log_error("%s: key \"%s\": RoPE scaling %s is not supported (none and linear are)", gguf_path(r->g), name,
                  gguf_quote(scaling, quoted));
        r->failed = true;
    }
}

/* Gemma 3: five sliding layers, then a global one, or as the file says. */
static void read_window(struct reader *r, struct model_config *c)
{
    char name[128];

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
    size_t period = get_size(r, "attention.sliding_window_pattern", 1, MODEL_MAX_LAYERS, 6);
    for (size_t i = 0; i < c->n_layers; i++)
        c->layer_slides[i] = i % period != period - 1;
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
    if (r.failed)
        return -EINVAL;
    if (get_size(&r, "attention.value_length", 1, MODEL_MAX_HEAD_DIM, c->head_dim) != c->head_dim)
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
    refuse_experts(&r);

    c->qk_norm = r.arch->qk_norm;
    c->post_norms = r.arch->post_norms;
    c->rope_rows_interleaved = r.arch->rope_rows_interleaved;
    c->ffn_activation = r.arch->ffn_activation;
    c->embedding_scale = r.arch->scales_embedding ? sqrtf((float)c->d_model) : 1;
    c->attention_scale = (float)(1 / sqrt((double)c->head_dim));
    /* The 62-layer 27B of Gemma 3 scales by d_model / n_heads instead (query_pre_attn_scalar 168); GGUF has no key for it. */
    if (r.arch->scales_embedding && c->n_layers == 62)
        c->attention_scale = (float)(1 / sqrt((double)c->d_model / (double)c->n_heads));
    c->final_softcap = (float)get_double(&r, "final_logit_softcapping", 0, 1e6, 0);
    c->attention_softcap = (float)get_double(&r, "attn_logit_softcapping", 0, 1e6, 0);
    read_rope(&r, c);
    if (r.arch->slides)
        read_window(&r, c);
    read_vocab(&r, c);
    return r.failed ? -EINVAL : 0;
}
