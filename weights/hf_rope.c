/*
 * hf_rope.c - base and scaling of RoPE: from config.json of either style to GGUF's keys and tensors.
 *
 * transformers 4 has rope_theta and rope_scaling {type or rope_type, factor, ...}; 5 has one rope_parameters, or one for each type of
 * layer. Formulas: transformers modeling_rope_utils.py; what goes where: ggml-org/llama.cpp conversion/base.py, llama.py, phi.py.
 */
#include "weights/hf_config.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { MAX_CTX = 1 << 24 };

/* The object that describes the scaling of the layers that see everything; NULL: nothing is scaled. */
static const json_t *scaling_of(struct hf_config *c)
{
    const char *key = hf_config_get(c, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const json_t *rope = hf_config_get(c, key), *full = hf_get(rope, "full_attention");

    rope = full ? full : rope;
    if (rope && !json_is_object(rope))
        hf_config_fail(c, "\"%s\" is no object", key);
    return rope;
}

static double get(struct hf_config *c, const json_t *object, const char *key, double least, double most, double otherwise)
{
    return hf_config_f64_in(c, object, " of the RoPE scaling", key, least, most, otherwise);
}

static void put_base(struct hf_config *c, const json_t *scaling, double base)
{
    base = hf_config_f64(c, "rope_theta", 1, 1e9, base);
    hf_put_f32(c, "rope.freq_base", get(c, scaling, "rope_theta", 1, 1e9, base));
}

static double original_length(struct hf_config *c, const json_t *scaling)
{
    const uint64_t own = hf_config_u64(c, "original_max_position_embeddings", 1, MAX_CTX, c->n_ctx);

    return get(c, scaling, "original_max_position_embeddings", 1, MAX_CTX, (double)own);
}

/* A vector that no file holds, as a tensor. */
static void put_values(struct hf_config *c, const char *name, const float *values, size_t n)
{
    struct gguf_builder *b = c->b;
    float *copy = gguf_build_memory(b, n * sizeof(*copy));
    struct tensor_source *source = gguf_build_memory(b, sizeof(*source));

    if (!copy || !source || c->failed)
        return;
    memcpy(copy, values, n * sizeof(*copy));
    *source = (struct tensor_source){ .file_type = DTYPE_F32, .row_elements = n, .values = copy };
    gguf_put_tensor(b, &(struct gguf_tensor){ .name = { name, strlen(name) }, .type = DTYPE_F32, .n_dims = 1, .ne = { n, 1, 1, 1 },
                                              .source = source });
}

/* What each frequency is divided by, in the 32-bit steps of the converter, so that a folder gives the bits of its GGUF file. */
static void put_llama3(struct hf_config *c, const json_t *scaling)
{
    const float base = (float)get(c, scaling, "rope_theta", 1, 1e9, hf_config_f64(c, "rope_theta", 1, 1e9, 10000));
    const float factor = (float)get(c, scaling, "factor", 1, 4096, 8), low = (float)get(c, scaling, "low_freq_factor", 1e-3, 1e6, 1);
    const float high = (float)get(c, scaling, "high_freq_factor", 1e-3, 1e6, 4), old = (float)original_length(c, scaling);
    const size_t n = c->head_dim / 2;
    float factors[512];

    if (high <= low)
        hf_config_fail(c, "\"high_freq_factor\" %g is not above \"low_freq_factor\" %g", (double)high, (double)low);
    for (size_t j = 0; j < n && j < sizeof(factors) / sizeof(factors[0]); j++) {
        const float frequency = 1 / powf(base, (float)(2 * j) / (float)c->head_dim), length = (float)(2 * M_PI) / frequency;
        if (length < old / high) {
            factors[j] = 1;
        } else if (length > old / low) {
            factors[j] = factor;
        } else {
            const float smooth = (old / length - low) / (high - low);
            factors[j] = 1 / ((1 - smooth) / factor + smooth);
        }
    }
    put_values(c, "rope_freqs.weight", factors, n);
}

/*
 * What readers of GGUF know by the architecture has no key: that gpt-oss does not round the bounds of the ramp. mscale and mscale_all_dim
 * (DeepSeek) are one key, for scores; cos and sin, which take their quotient, stay as they are where both are equal.
 */
static void check_yarn(struct hf_config *c, const json_t *scaling)
{
    const bool rounds = !json_is_false(hf_get(scaling, "truncate"));
    const double all = get(c, scaling, "mscale_all_dim", 1e-3, 1e3, 0), own = get(c, scaling, "mscale", 1e-3, 1e3, 0);

    if (c->family->latent && (!(all > 0) || hf_get(scaling, "attention_factor")))
        hf_config_fail(c, "RoPE scaling \"yarn\" without \"mscale_all_dim\", or with \"attention_factor\", is not supported for "
                       "model_type \"%s\"", c->family->model_type);
    if (rounds != !c->family->unrounded_yarn)
        hf_config_fail(c, "RoPE scaling \"yarn\" with%s \"truncate\" false is not supported for model_type \"%s\"", rounds ? "out" : "",
                       c->family->model_type);
    if (own != all || (all > 0 && !c->family->latent))
        hf_config_fail(c, "RoPE scaling \"yarn\": \"mscale\" and \"mscale_all_dim\" are supported where both are the same, for models with "
                       "\"kv_lora_rank\"");
    if (all > 0)
        hf_put_f32(c, "rope.scaling.yarn_log_multiplier", 0.1 * all);
}

static void put_yarn(struct hf_config *c, const json_t *scaling)
{
    const double factor = get(c, scaling, "factor", 1, 4096, NAN), attention = get(c, scaling, "attention_factor", 1e-3, 1e3, 0);

    check_yarn(c, scaling);
    hf_put_text(c, "rope.scaling.type", "yarn");
    hf_put_f32(c, "rope.scaling.factor", factor);
    hf_put_u32(c, "rope.scaling.original_context_length", (uint64_t)original_length(c, scaling));
    /* Readers multiply it with 0.1 ln(factor) + 1, which is what the files without attention_factor mean. */
    if (attention > 0)
        hf_put_f32(c, "rope.scaling.attn_factor", attention / (0.1 * log(factor) + 1));
    if (hf_get(scaling, "beta_fast"))
        hf_put_f32(c, "rope.scaling.yarn_beta_fast", get(c, scaling, "beta_fast", 1e-3, 1e6, 32));
    if (hf_get(scaling, "beta_slow"))
        hf_put_f32(c, "rope.scaling.yarn_beta_slow", get(c, scaling, "beta_slow", 1e-3, 1e6, 1));
}

static struct gguf_string type_of(struct hf_config *c, const json_t *scaling)
{
    return hf_config_text_in(c, scaling, hf_get(scaling, "rope_type") ? "rope_type" : "type", "default");
}

static void refuse_type(struct hf_config *c, struct gguf_string type)
{
    char quoted[GGUF_QUOTED];

    hf_config_fail(c, "RoPE scaling %s is not supported for model_type \"%s\"", gguf_quote(type, quoted), c->family->model_type);
}

static double share_of(struct hf_config *c, const json_t *scaling, double otherwise)
{
    return get(c, scaling, "partial_rotary_factor", 0, 1, hf_config_f64(c, "partial_rotary_factor", 0, 1, otherwise));
}

static void put_scaled(struct hf_config *c, const json_t *scaling, double base)
{
    const struct gguf_string type = type_of(c, scaling);

    put_base(c, scaling, base);
    if (hf_text_is(type, "linear")) {
        hf_put_text(c, "rope.scaling.type", "linear");
        hf_put_f32(c, "rope.scaling.factor", get(c, scaling, "factor", 1, 4096, NAN));
    } else if (hf_text_is(type, "dynamic")) {           /* our own value: no converter writes it */
        hf_put_text(c, "rope.scaling.type", "dynamic");
        hf_put_f32(c, "rope.scaling.factor", get(c, scaling, "factor", 1, 4096, NAN));
        hf_put_u32(c, "rope.scaling.original_context_length", (uint64_t)original_length(c, scaling));
    } else if (hf_text_is(type, "yarn")) {
        put_yarn(c, scaling);
    } else if (hf_text_is(type, "llama3") && !strcmp(c->family->arch, "llama")) {
        put_llama3(c, scaling);
    } else if (!hf_text_is(type, "default")) {
        refuse_type(c, type);
    }
}

void hf_put_rope(struct hf_config *c, double base)
{
    const json_t *scaling = scaling_of(c);

    if (share_of(c, scaling, 1) != 1)
        hf_config_fail(c, "\"partial_rotary_factor\" is not supported for model_type \"%s\"", c->family->model_type);
    put_scaled(c, scaling, base);
}

void hf_put_partial_rope(struct hf_config *c, double base, double share)
{
    const json_t *scaling = scaling_of(c);
    const uint64_t by_share = (uint64_t)(share_of(c, scaling, share) * (double)c->head_dim);
    const uint64_t n_dims = hf_config_u64(c, "rotary_dim", 2, c->head_dim, by_share);

    if (n_dims < 2 || n_dims % 2)
        hf_config_fail(c, "%" PRIu64 " rotated dimensions of %" PRIu64 " (\"rotary_dim\" or \"partial_rotary_factor\"), expected an "
                       "even number", n_dims, c->head_dim);
    hf_put_u32(c, "rope.dimension_count", n_dims);
    put_scaled(c, scaling, base);
}

void hf_put_local_rope(struct hf_config *c, double base)
{
    const json_t *local = hf_get(hf_config_get(c, "rope_parameters"), "sliding_attention");
    if (local && !json_is_object(local)) {
        hf_config_fail(c, "\"rope_parameters\".\"sliding_attention\" is no object");
        return;
    }
    const struct gguf_string type = type_of(c, local);
    if (!hf_text_is(type, "default"))
        hf_config_fail(c, "RoPE of sliding layers is scaled; this is not supported");
    base = hf_config_f64(c, "rope_local_base_freq", 1, 1e9, base);
    hf_put_f32(c, "rope.freq_base_swa", get(c, local, "rope_theta", 1, 1e9, base));
}

static void put_factors(struct hf_config *c, const json_t *scaling, const char *key, const char *name, size_t n)
{
    const json_t *list = hf_get(scaling, key);
    float factors[512];

    if (!json_is_array(list) || json_array_size(list) != n || n > sizeof(factors) / sizeof(factors[0])) {
        hf_config_fail(c, "\"%s\" is no array of %zu numbers, one a rotated pair", key, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, i);
        factors[i] = (float)json_number_value(value);
        if (!json_is_number(value) || !(factors[i] > 0 && factors[i] < 1e6f)) {
            hf_config_fail(c, "\"%s\" entry %zu is no positive number", key, i);
            return;
        }
    }
    put_values(c, name, factors, n);
}

void hf_put_longrope(struct hf_config *c)
{
    const json_t *scaling = scaling_of(c);
    const struct gguf_string type = type_of(c, scaling);
    const double original = original_length(c, scaling), stretch = (double)c->n_ctx / original;
    const double share = get(c, scaling, "partial_rotary_factor", 1e-3, 1, hf_config_f64(c, "partial_rotary_factor", 1e-3, 1, 1));
    const uint64_t n_dims = (uint64_t)(share * (double)c->d_model) / c->n_heads;

    if (n_dims < 2 || n_dims > c->head_dim || n_dims % 2)
        hf_config_fail(c, "\"partial_rotary_factor\" gives %" PRIu64 " rotated dimensions of %" PRIu64 ", expected an even number", n_dims,
                       c->head_dim);
    hf_put_u32(c, "rope.dimension_count", n_dims);
    hf_put_u32(c, "rope.scaling.original_context_length", (uint64_t)original);
    put_base(c, scaling, 10000);
    if (hf_text_is(type, "default"))
        return;
    if (!hf_text_is(type, "longrope") && !hf_text_is(type, "su")) {
        refuse_type(c, type);
        return;
    }
    const double usual = stretch > 1 ? sqrt(1 + log(stretch) / log(original)) : 1;
    hf_put_f32(c, "rope.scaling.attn_factor", get(c, scaling, "attention_factor", 1e-3, 1e3, usual));
    put_factors(c, scaling, "long_factor", "rope_factors_long.weight", n_dims / 2);
    put_factors(c, scaling, "short_factor", "rope_factors_short.weight", n_dims / 2);
}
