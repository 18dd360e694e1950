#include "weights/hf_families.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "weights/gguf_internal.h"
#include "weights/hf_pieces.h"

/* layer_types of new files says for each layer whether it slides. Returns false where there is none, or it is wrong. */
static bool read_layer_types(struct hf_config *c, bool slides[HF_MAX_LAYERS])
{
    const json_t *types = hf_config_get(c, "layer_types");

    if (!types)
        return false;
    if (!json_is_array(types) || json_array_size(types) != c->n_layers) {
        hf_config_fail(c, "\"layer_types\" is no array of %" PRIu64 " texts, one a layer", c->n_layers);
        return false;
    }
    for (size_t i = 0; i < c->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type || (strcmp(type, "sliding_attention") && strcmp(type, "full_attention"))) {
            hf_config_fail(c, "\"layer_types\" entry %zu is neither \"full_attention\" nor \"sliding_attention\"", i);
            return false;
        }
        slides[i] = !strcmp(type, "sliding_attention");
    }
    return true;
}

/* Keys of the LLaMA converter and of those that are derived from it. */
void hf_put_llama(struct hf_config *c)
{
    hf_put_rope(c, 10000);
    hf_put_u32(c, "vocab_size", c->vocab_size);
    hf_put_u32(c, "rope.dimension_count", c->head_dim);
}

/* llama.cpp knows no window of Mistral 7B v0.1; without it, texts beyond the window differ from what the model was trained for. */
void hf_put_mistral(struct hf_config *c)
{
    const uint64_t window = hf_config_u64(c, "sliding_window", 1, HF_MAX_CTX, 0);
    bool slides[HF_MAX_LAYERS];
    uint64_t n_sliding = window ? c->n_layers : 0;

    if (window && read_layer_types(c, slides)) {
        n_sliding = 0;
        for (size_t i = 0; i < c->n_layers; i++)
            n_sliding += slides[i];
    }
    if (n_sliding && n_sliding < c->n_layers)
        hf_config_fail(c, "\"layer_types\": only all layers with a sliding window, or none, are supported for model_type \"%s\"",
                       c->family->model_type);
    hf_put_llama(c);
    if (n_sliding)
        hf_put_u32(c, "attention.sliding_window", window);
}

/* A window in these files is switched off, and no key of GGUF has one that only some layers have. */
static void refuse_window(struct hf_config *c)
{
    bool slides[HF_MAX_LAYERS], any = false;

    if (read_layer_types(c, slides))
        for (size_t i = 0; i < c->n_layers; i++)
            any |= slides[i];
    else
        any = hf_config_bool(c, "use_sliding_window", false) && hf_config_get(c, "sliding_window");
    if (any)
        hf_config_fail(c, "layers with a sliding window are not supported for model_type \"%s\"", c->family->model_type);
}

void hf_put_qwen(struct hf_config *c)
{
    refuse_window(c);
    hf_put_rope(c, 10000);
}

/* Every fourth layer has no RoPE; llama.cpp has that in its code, not in a key. */
static void put_smollm3(struct hf_config *c)
{
    const json_t *layers = hf_config_get(c, "no_rope_layers");
    const uint64_t interval = hf_config_u64(c, "no_rope_layer_interval", 1, HF_MAX_LAYERS, 4);
    bool other = layers ? !json_is_array(layers) || json_array_size(layers) != c->n_layers : interval != 4;

    for (size_t i = 0; layers && !other && i < c->n_layers; i++) {
        const json_t *rotates = json_array_get(layers, i);
        other = !json_is_integer(rotates) || json_integer_value(rotates) != (i % 4 != 3);
    }
    if (other)
        hf_config_fail(c, "\"no_rope_layers\": only every fourth layer without RoPE is supported");
    refuse_window(c);
    hf_put_llama(c);
}

static void put_phi3(struct hf_config *c)
{
    const uint64_t window = hf_config_u64(c, "sliding_window", 1, HF_MAX_CTX, 0);

    hf_put_longrope(c);
    if (window)
        hf_put_u32(c, "attention.sliding_window", window);
}

void hf_put_pattern(struct hf_config *c, uint64_t usual)
{
    bool slides[HF_MAX_LAYERS] = { false }, as_usual = true;
    unsigned char flags[HF_MAX_LAYERS];
    const char *key = hf_config_get(c, "sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
    const uint64_t period = hf_config_u64(c, key, 1, HF_MAX_LAYERS, usual);
    const bool listed = read_layer_types(c, slides);

    for (size_t i = 0; i < c->n_layers && !c->failed; i++) {
        if (!listed)
            slides[i] = i % period != period - 1;
        as_usual &= slides[i] == (i % usual != usual - 1);
        flags[i] = slides[i];
    }
    if (!as_usual)
        hf_put_flags(c, "attention.sliding_window_pattern", flags, c->n_layers);
}

static void put_gemma3(struct hf_config *c)
{
    const double softcap = hf_config_f64(c, "final_logit_softcapping", 0, 1e6, 0);
    const double scale = hf_config_f64(c, "query_pre_attn_scalar", 1e-3, 1e6, 256), usual = (double)c->head_dim;
    /* The 27B divides by d_model / n_heads, which readers of GGUF know by its 62 layers. */
    const double known = c->n_layers == 62 ? (double)c->d_model / (double)c->n_heads : usual;

    if (hf_config_get(c, "attn_logit_softcapping"))
        hf_config_fail(c, "\"attn_logit_softcapping\" is not supported for Gemma 3");
    if (hf_config_bool(c, "use_bidirectional_attention", false))
        hf_config_fail(c, "\"use_bidirectional_attention\" is not supported: it is an embedding model");
    hf_put_rope(c, 1e6);
    hf_put_local_rope(c, 10000);
    hf_put_u32(c, "attention.sliding_window", hf_config_u64(c, "sliding_window", 1, HF_MAX_CTX, 4096));
    hf_put_pattern(c, 6);      /* five sliding layers, then a full one */
    if (softcap > 0)
        hf_put_f32(c, "final_logit_softcapping", softcap);
    if (scale != known)
        hf_put_f32(c, "attention.scale", 1 / sqrt(scale));
}

static const struct hf_name gemma3_names[] = {
    { "post_attention_layernorm", "post_attention_norm", HF_AS_IS },
    { "pre_feedforward_layernorm", "ffn_norm", HF_AS_IS },
    { "post_feedforward_layernorm", "post_ffw_norm", HF_AS_IS },
    { NULL, NULL, HF_AS_IS }
};

/* SiLU is on what they call up. */
static const struct hf_name yuan_names[] = {
    { "mlp.up_proj", "ffn_gate", HF_AS_IS },
    { "mlp.gate_proj", "ffn_up", HF_AS_IS },
    { "self_attn.lf_gate.conv1", "attn_lfa_first", HF_AS_IS },
    { "self_attn.lf_gate.conv2", "attn_lfa_second", HF_AS_IS },
    { "self_attn.lf_gate.output_layernorm", "attn_lfa_norm", HF_AS_IS },
    { NULL, NULL, HF_AS_IS }
};

static const struct hf_name gpt_oss_names[] = {
    { "post_attention_layernorm", "post_attention_norm", HF_AS_IS },
    { "self_attn.sinks", "attn_sinks.weight", HF_WHOLE_NAME },
    { "mlp.router", "ffn_gate_inp", HF_AS_IS },
    { NULL, NULL, HF_AS_IS }
};

/* The last of them are of layers for further tokens. */
static const struct hf_name glm4_moe_names[] = {
    { "post_attention_layernorm", "post_attention_norm", HF_AS_IS },
    { "eh_proj", "nextn.eh_proj", HF_AS_IS },
    { "enorm", "nextn.enorm", HF_AS_IS },
    { "hnorm", "nextn.hnorm", HF_AS_IS },
    { "embed_tokens", "nextn.embed_tokens", HF_AS_IS },
    { "shared_head.head", "nextn.shared_head_head", HF_AS_IS },
    { "shared_head.norm", "nextn.shared_head_norm", HF_AS_IS },
    { NULL, NULL, HF_AS_IS }
};

static const struct hf_name minimax_names[] = {
    { "block_sparse_moe.e_score_correction_bias", "exp_probs_b.bias", HF_WHOLE_NAME },
    { NULL, NULL, HF_AS_IS }
};

static const struct hf_name deepseek_names[] = {
    { "self_attn.q_a_proj", "attn_q_a", HF_AS_IS },
    { "self_attn.q_a_layernorm", "attn_q_a_norm", HF_AS_IS },
    { "self_attn.q_b_proj", "attn_q_b", HF_AS_IS },
    { "self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", HF_AS_IS },
    { "self_attn.kv_a_layernorm", "attn_kv_a_norm", HF_AS_IS },
    { NULL, NULL, HF_AS_IS }
};

static const char *const mixtral_pieces[] = { ".block_sparse_moe.", NULL };
static const char *const qwen_pieces[] = { ".mlp.experts.", ".mlp.gate.weight", NULL };
static const char *const gpt_oss_pieces[] = { ".mlp.experts.", NULL };
static const char *const minimax_pieces[] = { ".block_sparse_moe.experts.", ".block_sparse_moe.gate.", NULL };
static const char *const deepseek_pieces[] = { ".mlp.experts.", ".mlp.gate.weight", ".self_attn.kv_b_proj.", NULL };
static const char *const yuan_pieces[] = { ".self_attn.q_proj.weight", ".self_attn.k_proj.weight", ".self_attn.get_query_key.weight",
                                           ".conv1.weight", ".conv2.weight", ".mlp.experts.", ".mlp.gate.query.", ".mlp.gate.key.",
                                           ".mlp.gate.value.", NULL };

#define DEEPSEEK .arch = "deepseek2", .names = deepseek_names, .latent = true, .extra_layers = HF_DROPS_EXTRA_LAYERS, \
                 .activation = "silu", .put_pieces = hf_put_deepseek_pieces, .in_pieces = deepseek_pieces

static const struct hf_family families[] = {
    { .model_type = "llama", .arch = "llama", .rotated_pairs = true, .activation = "silu", .put = hf_put_llama },
    { .model_type = "mistral", .arch = "llama", .rotated_pairs = true, .activation = "silu", .put = hf_put_mistral },
    { .model_type = "mixtral", .arch = "llama", .rotated_pairs = true, .activation = "silu", .put = hf_put_mixtral,
      .put_pieces = hf_put_mixtral_experts, .in_pieces = mixtral_pieces },
    { .model_type = "qwen2", .arch = "qwen2", .activation = "silu", .put = hf_put_qwen },
    { .model_type = "qwen3", .arch = "qwen3", .activation = "silu", .put = hf_put_qwen },
    { .model_type = "qwen3_moe", .arch = "qwen3moe", .activation = "silu", .put = hf_put_qwen3_moe,
      .put_pieces = hf_put_qwen_experts, .in_pieces = qwen_pieces },
    { .model_type = "smollm3", .arch = "smollm3", .rotated_pairs = true, .tied = true, .activation = "silu", .put = put_smollm3 },
    { .model_type = "phi3", .arch = "phi3", .activation = "silu", .put = put_phi3 },
    { .model_type = "gemma3_text", .arch = "gemma3", .names = gemma3_names, .norm_plus_one = true, .tied = true,
      .activation = "gelu_pytorch_tanh", .put = put_gemma3 },
    { .model_type = "gpt_oss", .arch = "gpt-oss", .names = gpt_oss_names, .unrounded_yarn = true, .activation = "silu",
      .quant_method = "mxfp4", .put = hf_put_gpt_oss, .put_pieces = hf_put_gpt_oss_pieces, .in_pieces = gpt_oss_pieces },
    { .model_type = "glm4_moe", .arch = "glm4moe", .names = glm4_moe_names, .extra_layers = HF_KEEPS_EXTRA_LAYERS, .activation = "silu",
      .put = hf_put_glm4_moe, .put_pieces = hf_put_qwen_experts, .in_pieces = qwen_pieces },
    { .model_type = "minimax_m2", .arch = "minimax-m2", .names = minimax_names, .activation = "silu", .put = hf_put_minimax_m2,
      .put_pieces = hf_put_mixtral_experts, .in_pieces = minimax_pieces },
    { .model_type = "deepseek_v2", DEEPSEEK, .put = hf_put_deepseek_v2 },
    { .model_type = "deepseek_v3", DEEPSEEK, .put = hf_put_deepseek_v3 },
    { .model_type = "kimi_k2", DEEPSEEK, .put = hf_put_deepseek_v3 },
    { .model_type = "yuan", .arch = "yuan2", .names = yuan_names, .tied = true, .activation = "silu", .put = hf_put_yuan_keys,
      .put_pieces = hf_put_yuan, .in_pieces = yuan_pieces },
};

const struct hf_family *hf_find_family(struct hf_config *c, struct gguf_string model_type)
{
    char quoted[GGUF_QUOTED], all[256];
    size_t len = 0;

    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (hf_text_is(model_type, families[i].model_type))
            return &families[i];
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]) && len < sizeof(all); i++)
        len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", families[i].model_type);
    hf_config_fail(c, "model_type %s is not supported (supported: %s)", gguf_quote(model_type, quoted), all);
    return NULL;
}
