/*
 * hf_mixtures.c - keys of mixtures of experts.
 */
#include "weights/hf_families.h"


enum { GATING_SOFTMAX = 1, GATING_SIGMOID = 2 };        /* expert_gating_func of GGUF */

static void put_expert_counts(struct hf_config *c, const char *key, uint64_t width)
{
    c->n_experts = hf_config_u64(c, key, 2, 4096, UINT64_MAX);
    hf_put_u32(c, "expert_count", c->n_experts);
    hf_put_u32(c, "expert_used_count", hf_config_u64(c, "num_experts_per_tok", 1, 64, UINT64_MAX));
    hf_put_u32(c, "expert_feed_forward_length", width);
}

void hf_put_mixtral(struct hf_config *c)
{
    hf_put_mistral(c);
    put_expert_counts(c, "num_local_experts", hf_config_u64(c, "intermediate_size", 1, 1 << 20, UINT64_MAX));
}

void hf_put_qwen3_moe(struct hf_config *c)
{
    hf_put_qwen(c);
    put_expert_counts(c, hf_config_get(c, "num_local_experts") ? "num_local_experts" : "num_experts",
                      hf_config_u64(c, "moe_intermediate_size", 1, 1 << 20, UINT64_MAX));
    if (!hf_config_bool(c, "norm_topk_prob", false))
        hf_config_fail(c, "\"norm_topk_prob\" is not true: weights of experts that do not sum to 1 are not supported for model_type \"%s\"",
                       c->family->model_type);
}

/* What the router's numbers become before experts are chosen by them; `usual` where no key says it. */
static void put_gating(struct hf_config *c, const char *usual)
{
    const struct gguf_string scoring = hf_config_text(c, "scoring_func", usual);
    char quoted[GGUF_QUOTED];

    if (hf_text_is(scoring, "sigmoid"))
        hf_put_u32(c, "expert_gating_func", GATING_SIGMOID);
    else if (hf_text_is(scoring, "softmax"))
        hf_put_u32(c, "expert_gating_func", GATING_SOFTMAX);
    else
        hf_config_fail(c, "\"scoring_func\" is %s: only \"sigmoid\" and \"softmax\" are supported", gguf_quote(scoring, quoted));
}

/* Mixtures with groups of experts, shared experts and dense layers in front: DeepSeek's, and those that follow it. */
static void put_shared_mixture(struct hf_config *c, const char *scoring, bool norm, bool has_groups)
{
    const uint64_t n_groups = hf_config_u64(c, "n_group", 1, 4096, 1);

    put_expert_counts(c, "n_routed_experts", hf_config_u64(c, "moe_intermediate_size", 1, 1 << 20, UINT64_MAX));
    put_gating(c, scoring);
    hf_put_u32(c, "leading_dense_block_count", hf_config_u64(c, "first_k_dense_replace", 0, c->n_layers, 0));
    hf_put_u32(c, "expert_shared_count", hf_config_u64(c, "n_shared_experts", 0, 64, 0));
    hf_put_f32(c, "expert_weights_scale", hf_config_f64(c, "routed_scaling_factor", 1e-6, 1e6, 1));
    if (hf_config_bool(c, "norm_topk_prob", norm))
        hf_put_bool(c, "expert_weights_norm", true);
    if (hf_config_u64(c, "moe_layer_freq", 0, HF_MAX_LAYERS, 1) != 1)
        hf_config_fail(c, "\"moe_layer_freq\" is not 1: dense layers between mixtures are not supported for model_type \"%s\"",
                       c->family->model_type);
    if (!has_groups)
        return;
    hf_put_u32(c, "expert_group_count", n_groups);
    hf_put_u32(c, "expert_group_used_count", hf_config_u64(c, "topk_group", 1, n_groups, n_groups));
}

/* GGUF has no key for how the experts' gate is clamped. */
void hf_put_gpt_oss(struct hf_config *c)
{
    if (hf_config_f64(c, "swiglu_limit", 0, 1e6, 7) != 7 || hf_config_f64(c, "swiglu_alpha", 0, 1e6, 1.702) != 1.702)
        hf_config_fail(c, "\"swiglu_limit\" and \"swiglu_alpha\": only 7 and 1.702 are supported");
    if (!hf_config_bool(c, "attention_bias", true))
        hf_config_fail(c, "\"attention_bias\" false is not supported for model_type \"gpt_oss\"");
    hf_put_rope(c, 150000);
    hf_put_u32(c, "attention.sliding_window", hf_config_u64(c, "sliding_window", 1, HF_MAX_CTX, 128));
    hf_put_pattern(c, 2);
    put_expert_counts(c, "num_local_experts", hf_config_u64(c, "intermediate_size", 1, 1 << 20, UINT64_MAX));
}

void hf_put_glm4_moe(struct hf_config *c)
{
    if (!hf_config_bool(c, "attention_bias", false))
        hf_config_fail(c, "\"attention_bias\" false is not supported for model_type \"glm4_moe\"");
    hf_put_partial_rope(c, 10000, 0.5);
    put_shared_mixture(c, "sigmoid", true, true);
    if (c->n_extra_layers)
        hf_put_u32(c, "nextn_predict_layers", c->n_extra_layers);
}

/* q and k have one norm over all heads. */
void hf_put_minimax_m2(struct hf_config *c)
{
    if (!hf_config_bool(c, "use_qk_norm", true) || !hf_text_is(hf_config_text(c, "qk_norm_type", "per_layer"), "per_layer"))
        hf_config_fail(c, "\"use_qk_norm\" false, or \"qk_norm_type\" that is not \"per_layer\": such models are not supported");
    hf_put_partial_rope(c, 10000, 1);
    put_expert_counts(c, "num_local_experts", hf_config_u64(c, "intermediate_size", 1, 1 << 20, UINT64_MAX));
    put_gating(c, "sigmoid");
}

/* Attention in GGUF is that over the latent vector: one key of kv_rank + rope_dim, one value of kv_rank. The heads' own sizes: _mla. */
static void put_latent(struct hf_config *c)
{
    const struct hf_latent *l = &c->latent;

    if (hf_config_bool(c, "attention_bias", false) || !hf_config_bool(c, "rope_interleave", true))
        hf_config_fail(c, "\"attention_bias\" true or \"rope_interleave\" false: such models are not supported");
    hf_put_rope(c, 10000);
    hf_put_u32(c, "rope.dimension_count", l->rope_dim);
    hf_put_u32(c, "vocab_size", c->vocab_size);
    if (l->q_rank)
        hf_put_u32(c, "attention.q_lora_rank", l->q_rank);
    hf_put_u32(c, "attention.kv_lora_rank", l->kv_rank);
    hf_put_u32(c, "attention.key_length", l->kv_rank + l->rope_dim);
    hf_put_u32(c, "attention.value_length", l->kv_rank);
    hf_put_u32(c, "attention.key_length_mla", l->nope_dim + l->rope_dim);
    hf_put_u32(c, "attention.value_length_mla", l->value_dim);
}

/* Its experts are chosen by softmax; among all, or of the best groups. */
void hf_put_deepseek_v2(struct hf_config *c)
{
    const struct gguf_string method = hf_config_text(c, "topk_method", "greedy");
    const bool has_groups = hf_text_is(method, "group_limited_greedy");
    char quoted[GGUF_QUOTED];

    if (!has_groups && !hf_text_is(method, "greedy"))
        hf_config_fail(c, "\"topk_method\" is %s: only \"greedy\" and \"group_limited_greedy\" are supported for model_type "
                       "\"deepseek_v2\"", gguf_quote(method, quoted));
    put_latent(c);
    put_shared_mixture(c, "softmax", false, has_groups);
}

void hf_put_deepseek_v3(struct hf_config *c)
{
    const struct gguf_string method = hf_config_text(c, "topk_method", "noaux_tc");
    char quoted[GGUF_QUOTED];

    if (!hf_text_is(method, "noaux_tc"))
        hf_config_fail(c, "\"topk_method\" is %s: only \"noaux_tc\" is supported for model_type \"%s\"", gguf_quote(method, quoted),
                       c->family->model_type);
    put_latent(c);
    put_shared_mixture(c, "sigmoid", true, true);
}

static uint64_t of_mixture(struct hf_config *c, const json_t *moe, const char *key, uint64_t least, uint64_t most)
{
    return hf_config_u64_in(c, moe, " of \"moe_config\"", key, least, most, UINT64_MAX);
}

/*
 * Yuan 2.0 and Yuan2-M32. The rotated dims are half of a head's in the mixture, all in the dense models. Base: rotary_base, else
 * rope_theta; else 40890 for an M32 of 16,384 positions, as all scripts of that model have it, and 10000.
 */
void hf_put_yuan_keys(struct hf_config *c)
{
    const json_t *moe = hf_config_get(c, "moe_config");
    const bool is_m32 = hf_config_bool(c, "use_moe", false);
    const double usual = is_m32 && c->d_model == 2048 && c->n_ctx == 16384 ? 40890 : 10000;

    if (hf_config_bool(c, "use_shareqk", false) || hf_config_bool(c, "use_bias", false) || !hf_config_bool(c, "use_lf_gate", true))
        hf_config_fail(c, "\"use_shareqk\" or \"use_bias\", or \"use_lf_gate\" false: such models are not supported");
    if (is_m32 != (moe != NULL))
        hf_config_fail(c, "\"use_moe\" and \"moe_config\" do not go together");
    hf_put_f32(c, "rope.freq_base", hf_config_f64(c, "rotary_base", 1, 1e9, hf_config_f64(c, "rope_theta", 1, 1e9, usual)));
    hf_put_u32(c, "rope.dimension_count", is_m32 ? c->head_dim / 2 : c->head_dim);
    if (!moe)
        return;
    hf_put_u32(c, "expert_count", of_mixture(c, moe, "moe_num_experts", 2, 4096));
    hf_put_u32(c, "expert_used_count", of_mixture(c, moe, "moe_top_k", 1, 64));
    hf_put_u32(c, "expert_feed_forward_length", of_mixture(c, moe, "ffn_hidden_size", 1, 1 << 20));
}
