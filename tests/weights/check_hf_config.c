/*
 * tests/weights/check_hf_config.c - config.json to GGUF's keys: the same from both styles of every family, what the keys are, and
 * what is refused with which words.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "weights/hf_config.h"

/* Keys and computed tensors of the config.json in a folder. The caller closes b->g. */
static int put_config(const char *folder, struct gguf_builder *b)
{
    struct hf_config c;
    int err = hf_config_read(&c, folder);

    gguf_build(b, folder);
    if (!err)
        err = hf_config_put(&c, b);
    hf_config_free(&c);
    return err;
}

static struct gguf *open_style(const char *folder, const char *family, const char *style)
{
    char target[128];
    struct gguf_builder b;

    snprintf(target, sizeof(target), "tests/data/config/%s/%s.json", family, style);
    folder_link(folder, "config.json", target);
    assert_int_equal(put_config(folder, &b), 0);
    folder_drop(folder, "config.json");
    return b.g;
}

/* One key or tensor a line. */
static void print_index(const struct gguf *g, struct buf *out)
{
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        buf_printf(out, "%s %s:", kv->key.data, gguf_type_name(kv->element_type));
        for (uint64_t j = 0; j < kv->n; j++) {
            if (kv->element_type == GGUF_STRING)
                buf_printf(out, " %s", kv->strings[j].data);
            else
                buf_printf(out, " %.9g", gguf_float_at(kv, j));
        }
        buf_putc(out, '\n');
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        float values[64];
        assert_true(t->type == DTYPE_F32 && t->bytes <= sizeof(values));
        assert_int_equal(gguf_read(g, t, 0, values, t->bytes), 0);
        buf_printf(out, "%s:", t->name.data);
        for (size_t j = 0; j < t->ne[0]; j++)
            buf_printf(out, " %.7g", (double)values[j]);
        buf_putc(out, '\n');
    }
}

static const struct { const char *family, *keys; } expected[] = {
    { "mistral", "llama.block_count u32: 3\nllama.context_length u32: 512\nllama.embedding_length u32: 160\n"
      "llama.feed_forward_length u32: 192\nllama.attention.head_count u32: 4\nllama.attention.head_count_kv u32: 2\n"
      "llama.attention.layer_norm_rms_epsilon f32: 9.99999975e-06\nllama.attention.key_length u32: 32\n"
      "llama.attention.value_length u32: 32\nllama.rope.freq_base f32: 10000\nllama.vocab_size u32: 512\n"
      "llama.rope.dimension_count u32: 32\nllama.attention.sliding_window u32: 24\n" },
    { "qwen2", "qwen2.block_count u32: 3\nqwen2.context_length u32: 512\nqwen2.embedding_length u32: 96\n"
      "qwen2.feed_forward_length u32: 256\nqwen2.attention.head_count u32: 6\nqwen2.attention.head_count_kv u32: 2\n"
      "qwen2.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\nqwen2.rope.freq_base f32: 1000000\n" },
    { "qwen3", "qwen3.block_count u32: 3\nqwen3.context_length u32: 512\nqwen3.embedding_length u32: 96\n"
      "qwen3.feed_forward_length u32: 192\nqwen3.attention.head_count u32: 6\nqwen3.attention.head_count_kv u32: 3\n"
      "qwen3.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\nqwen3.attention.key_length u32: 32\n"
      "qwen3.attention.value_length u32: 32\nqwen3.rope.freq_base f32: 1000000\n" },
    { "qwen3_yarn", "qwen3.block_count u32: 3\nqwen3.context_length u32: 128\nqwen3.embedding_length u32: 96\n"
      "qwen3.feed_forward_length u32: 192\nqwen3.attention.head_count u32: 4\nqwen3.attention.head_count_kv u32: 2\n"
      "qwen3.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\nqwen3.attention.key_length u32: 32\n"
      "qwen3.attention.value_length u32: 32\nqwen3.rope.freq_base f32: 10000\nqwen3.rope.scaling.type string: yarn\n"
      "qwen3.rope.scaling.factor f32: 4\nqwen3.rope.scaling.original_context_length u32: 32\n" },
    { "smollm3", "smollm3.block_count u32: 4\nsmollm3.context_length u32: 512\nsmollm3.embedding_length u32: 96\n"
      "smollm3.feed_forward_length u32: 256\nsmollm3.attention.head_count u32: 6\nsmollm3.attention.head_count_kv u32: 2\n"
      "smollm3.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\nsmollm3.rope.freq_base f32: 2000000\n"
      "smollm3.vocab_size u32: 512\nsmollm3.rope.dimension_count u32: 16\n" },
    { "phi3", "phi3.block_count u32: 3\nphi3.context_length u32: 256\nphi3.embedding_length u32: 96\n"
      "phi3.feed_forward_length u32: 160\nphi3.attention.head_count u32: 6\nphi3.attention.head_count_kv u32: 2\n"
      "phi3.attention.layer_norm_rms_epsilon f32: 9.99999975e-06\nphi3.rope.dimension_count u32: 12\n"
      "phi3.rope.scaling.original_context_length u32: 64\nphi3.rope.freq_base f32: 10000\n"
      "phi3.rope.scaling.attn_factor f32: 1.15470052\n"
      "rope_factors_long.weight: 1 1.3 2 3.1 5 7.5\nrope_factors_short.weight: 1 1.05 1.1 1.2 1.4 1.6\n" },
    { "phi3_swa", "phi3.block_count u32: 3\nphi3.context_length u32: 512\nphi3.embedding_length u32: 96\n"
      "phi3.feed_forward_length u32: 192\nphi3.attention.head_count u32: 4\nphi3.attention.head_count_kv u32: 4\n"
      "phi3.attention.layer_norm_rms_epsilon f32: 9.99999975e-06\nphi3.rope.dimension_count u32: 24\n"
      "phi3.rope.scaling.original_context_length u32: 512\nphi3.rope.freq_base f32: 10000\nphi3.attention.sliding_window u32: 20\n" },
    { "gemma3_text", "gemma3.block_count u32: 4\ngemma3.context_length u32: 512\ngemma3.embedding_length u32: 160\n"
      "gemma3.feed_forward_length u32: 192\ngemma3.attention.head_count u32: 4\ngemma3.attention.head_count_kv u32: 1\n"
      "gemma3.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\ngemma3.attention.key_length u32: 32\n"
      "gemma3.attention.value_length u32: 32\ngemma3.rope.freq_base f32: 1000000\ngemma3.rope.scaling.type string: linear\n"
      "gemma3.rope.scaling.factor f32: 8\ngemma3.rope.freq_base_swa f32: 10000\ngemma3.attention.sliding_window u32: 16\n"
      "gemma3.attention.sliding_window_pattern bool: 1 1 0 1\ngemma3.attention.scale f32: 0.204124153\n" },
    { "llama", "llama.block_count u32: 3\nllama.context_length u32: 512\nllama.embedding_length u32: 96\n"
      "llama.feed_forward_length u32: 224\nllama.attention.head_count u32: 6\nllama.attention.head_count_kv u32: 3\n"
      "llama.attention.layer_norm_rms_epsilon f32: 9.99999975e-06\nllama.attention.key_length u32: 16\n"
      "llama.attention.value_length u32: 16\nllama.rope.freq_base f32: 10000\nllama.vocab_size u32: 512\n"
      "llama.rope.dimension_count u32: 16\nrope_freqs.weight: 1 1.293976 7.667385 8 8 8 8 8\n" },
    { "mixtral", "llama.block_count u32: 3\nllama.context_length u32: 512\nllama.embedding_length u32: 96\n"
      "llama.feed_forward_length u32: 128\nllama.attention.head_count u32: 6\nllama.attention.head_count_kv u32: 3\n"
      "llama.attention.layer_norm_rms_epsilon f32: 9.99999975e-06\nllama.attention.key_length u32: 16\n"
      "llama.attention.value_length u32: 16\nllama.rope.freq_base f32: 1000000\nllama.vocab_size u32: 512\n"
      "llama.rope.dimension_count u32: 16\nllama.expert_count u32: 4\nllama.expert_used_count u32: 2\n"
      "llama.expert_feed_forward_length u32: 128\n" },
    { "qwen3_moe", "qwen3moe.block_count u32: 3\nqwen3moe.context_length u32: 512\nqwen3moe.embedding_length u32: 96\n"
      "qwen3moe.feed_forward_length u32: 192\nqwen3moe.attention.head_count u32: 4\nqwen3moe.attention.head_count_kv u32: 2\n"
      "qwen3moe.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\nqwen3moe.attention.key_length u32: 32\n"
      "qwen3moe.attention.value_length u32: 32\nqwen3moe.rope.freq_base f32: 1000000\nqwen3moe.expert_count u32: 8\n"
      "qwen3moe.expert_used_count u32: 3\nqwen3moe.expert_feed_forward_length u32: 64\n" },
    { "gpt_oss", "gpt-oss.block_count u32: 4\ngpt-oss.context_length u32: 1024\ngpt-oss.embedding_length u32: 96\n"
      "gpt-oss.feed_forward_length u32: 96\ngpt-oss.attention.head_count u32: 8\ngpt-oss.attention.head_count_kv u32: 2\n"
      "gpt-oss.attention.layer_norm_rms_epsilon f32: 9.99999975e-06\ngpt-oss.attention.key_length u32: 16\n"
      "gpt-oss.attention.value_length u32: 16\ngpt-oss.rope.freq_base f32: 150000\ngpt-oss.rope.scaling.type string: yarn\n"
      "gpt-oss.rope.scaling.factor f32: 32\ngpt-oss.rope.scaling.original_context_length u32: 32\n"
      "gpt-oss.rope.scaling.yarn_beta_fast f32: 32\ngpt-oss.rope.scaling.yarn_beta_slow f32: 1\n"
      "gpt-oss.attention.sliding_window u32: 16\ngpt-oss.expert_count u32: 6\ngpt-oss.expert_used_count u32: 3\n"
      "gpt-oss.expert_feed_forward_length u32: 96\n" },
    { "glm4_moe", "glm4moe.block_count u32: 4\nglm4moe.context_length u32: 512\nglm4moe.embedding_length u32: 96\n"
      "glm4moe.feed_forward_length u32: 160\nglm4moe.attention.head_count u32: 6\nglm4moe.attention.head_count_kv u32: 2\n"
      "glm4moe.attention.layer_norm_rms_epsilon f32: 9.99999975e-06\nglm4moe.attention.key_length u32: 24\n"
      "glm4moe.attention.value_length u32: 24\nglm4moe.rope.dimension_count u32: 12\nglm4moe.rope.freq_base f32: 1000000\n"
      "glm4moe.expert_count u32: 8\nglm4moe.expert_used_count u32: 3\nglm4moe.expert_feed_forward_length u32: 64\n"
      "glm4moe.expert_gating_func u32: 2\nglm4moe.leading_dense_block_count u32: 1\nglm4moe.expert_shared_count u32: 1\n"
      "glm4moe.expert_weights_scale f32: 2.5\nglm4moe.expert_weights_norm bool: 1\nglm4moe.expert_group_count u32: 1\n"
      "glm4moe.expert_group_used_count u32: 1\nglm4moe.nextn_predict_layers u32: 1\n" },
    { "minimax_m2", "minimax-m2.block_count u32: 3\nminimax-m2.context_length u32: 512\nminimax-m2.embedding_length u32: 96\n"
      "minimax-m2.feed_forward_length u32: 64\nminimax-m2.attention.head_count u32: 6\nminimax-m2.attention.head_count_kv u32: 2\n"
      "minimax-m2.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\nminimax-m2.attention.key_length u32: 32\n"
      "minimax-m2.attention.value_length u32: 32\nminimax-m2.rope.dimension_count u32: 16\nminimax-m2.rope.freq_base f32: 5000000\n"
      "minimax-m2.expert_count u32: 8\nminimax-m2.expert_used_count u32: 3\nminimax-m2.expert_feed_forward_length u32: 64\n"
      "minimax-m2.expert_gating_func u32: 2\n" },
    { "deepseek_v3", "deepseek2.block_count u32: 3\ndeepseek2.context_length u32: 256\ndeepseek2.embedding_length u32: 96\n"
      "deepseek2.feed_forward_length u32: 160\ndeepseek2.attention.head_count u32: 4\ndeepseek2.attention.head_count_kv u32: 1\n"
      "deepseek2.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\ndeepseek2.rope.freq_base f32: 10000\n"
      "deepseek2.rope.scaling.yarn_log_multiplier f32: 0.100000001\ndeepseek2.rope.scaling.type string: yarn\n"
      "deepseek2.rope.scaling.factor f32: 8\ndeepseek2.rope.scaling.original_context_length u32: 32\n"
      "deepseek2.rope.scaling.yarn_beta_fast f32: 32\ndeepseek2.rope.scaling.yarn_beta_slow f32: 1\n"
      "deepseek2.rope.dimension_count u32: 16\ndeepseek2.vocab_size u32: 512\ndeepseek2.attention.q_lora_rank u32: 48\n"
      "deepseek2.attention.kv_lora_rank u32: 32\ndeepseek2.attention.key_length u32: 48\ndeepseek2.attention.value_length u32: 32\n"
      "deepseek2.attention.key_length_mla u32: 32\ndeepseek2.attention.value_length_mla u32: 24\ndeepseek2.expert_count u32: 8\n"
      "deepseek2.expert_used_count u32: 3\ndeepseek2.expert_feed_forward_length u32: 64\ndeepseek2.expert_gating_func u32: 2\n"
      "deepseek2.leading_dense_block_count u32: 1\ndeepseek2.expert_shared_count u32: 1\ndeepseek2.expert_weights_scale f32: 2.5\n"
      "deepseek2.expert_weights_norm bool: 1\ndeepseek2.expert_group_count u32: 4\ndeepseek2.expert_group_used_count u32: 2\n" },
    { "deepseek_v3_noqlora", "deepseek2.block_count u32: 3\ndeepseek2.context_length u32: 256\ndeepseek2.embedding_length u32: 96\n"
      "deepseek2.feed_forward_length u32: 128\ndeepseek2.attention.head_count u32: 4\ndeepseek2.attention.head_count_kv u32: 1\n"
      "deepseek2.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\ndeepseek2.rope.freq_base f32: 50000\n"
      "deepseek2.rope.dimension_count u32: 8\ndeepseek2.vocab_size u32: 512\ndeepseek2.attention.kv_lora_rank u32: 48\n"
      "deepseek2.attention.key_length u32: 56\ndeepseek2.attention.value_length u32: 48\ndeepseek2.attention.key_length_mla u32: 32\n"
      "deepseek2.attention.value_length_mla u32: 32\ndeepseek2.expert_count u32: 6\ndeepseek2.expert_used_count u32: 2\n"
      "deepseek2.expert_feed_forward_length u32: 64\ndeepseek2.expert_gating_func u32: 2\n"
      "deepseek2.leading_dense_block_count u32: 2\ndeepseek2.expert_shared_count u32: 2\ndeepseek2.expert_weights_scale f32: 1\n"
      "deepseek2.expert_weights_norm bool: 1\ndeepseek2.expert_group_count u32: 1\ndeepseek2.expert_group_used_count u32: 1\n" },
};

/* The older style says what the newer one does, and both say what llama.cpp's converter writes. */
static void check_styles(void **state)
{
    static const char *const styles[] = { "config", "config-v4" };
    const char *folder = folder_make();

    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        for (size_t j = 0; j < 2; j++) {
            struct gguf *g = open_style(folder, expected[i].family, styles[j]);
            struct buf got = { 0 };
            print_index(g, &got);
            if (strcmp(got.data, expected[i].keys))
                fail_msg("%s/%s: got\n%sexpected\n%s", expected[i].family, styles[j], got.data, expected[i].keys);
            buf_free(&got);
            gguf_close(g);
        }
    folder_remove(folder);
}

#define LLAMA_BUT(others) "{\"model_type\":\"llama\",\"hidden_size\":96,\"intermediate_size\":224,\"num_hidden_layers\":3," \
    "\"rms_norm_eps\":1e-5,\"vocab_size\":512,\"max_position_embeddings\":512" others "}"
#define YUAN(others) "{\"model_type\":\"yuan\",\"hidden_size\":96,\"intermediate_size\":224,\"num_hidden_layers\":3,\"num_attention_heads\":6," \
    "\"rms_norm_eps\":1e-6,\"vocab_size\":512,\"max_position_embeddings\":512" others "}"
#define LLAMA(others) LLAMA_BUT(",\"num_attention_heads\":6" others)

#define MIXTURE(type, others) "{\"model_type\":\"" type "\",\"hidden_size\":96,\"intermediate_size\":224,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":6,\"rms_norm_eps\":1e-5,\"vocab_size\":512,\"max_position_embeddings\":512,\"moe_intermediate_size\":32," \
    "\"num_local_experts\":4,\"n_routed_experts\":4,\"num_experts_per_tok\":2" others "}"
#define GPT_OSS(others) MIXTURE("gpt_oss", others)
#define DEEPSEEK(type, others) MIXTURE(type, ",\"qk_nope_head_dim\":16,\"qk_rope_head_dim\":8,\"v_head_dim\":16" others)
#define LATENT ",\"kv_lora_rank\":32"

/* What a file leaves out, what stands under text_config, and numbers that are no 64-bit integers. */
static void check_defaults(void **state)
{
    static const struct { const char *config, *has, *lacks; } cases[] = {
        { LLAMA(",\"model_max_length\":1000000000000000019884624838656"), "head_count_kv u32: 6\n", "key_length" },
        { LLAMA(",\"head_dim\":null,\"rope_scaling\":null,\"num_key_value_heads\":2.0"), "head_count_kv u32: 2\n", "key_length" },
        { LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4},\"rope_theta\":5e5"),
          "freq_base f32: 500000\nllama.rope.scaling.type string: linear\nllama.rope.scaling.factor f32: 4\n", "key_length" },
        { LLAMA(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}"), "scaling.type string: dynamic\nllama.rope.scaling.factor f32: 2\n"
          "llama.rope.scaling.original_context_length u32: 512\n", "yarn" },
        { LLAMA(",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"attention_factor\":2,\"beta_fast\":16}"),
          "original_context_length u32: 512\nllama.rope.scaling.attn_factor f32: 1.75649774\nllama.rope.scaling.yarn_beta_fast f32: 16\n",
          "beta_slow" },
        { LLAMA(",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
                "\"original_max_position_embeddings\":64}"), "rope_freqs.weight: 1 1.293976 7.667385 8 8 8 8 8\n", "scaling.type" },
        { "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"hidden_size\":2560,\"intermediate_size\":10240,"
          "\"num_hidden_layers\":7,\"sliding_window\":1024,\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"}}}",
          "gemma3.context_length u32: 131072\n", "attention.scale" },
        { "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"hidden_size\":2560,\"intermediate_size\":10240,"
          "\"num_hidden_layers\":7,\"sliding_window\":1024}}", "head_count u32: 8\ngemma3.attention.head_count_kv u32: 4\n"
          "gemma3.attention.layer_norm_rms_epsilon f32: 9.99999997e-07\ngemma3.attention.key_length u32: 256\n", "pattern" },
        /* Lite's experts are chosen among all, those of V2 of the best groups. */
        { DEEPSEEK("deepseek_v2", LATENT ",\"q_lora_rank\":null,\"n_group\":2,\"topk_method\":\"greedy\",\"routed_scaling_factor\":16"),
          "expert_gating_func u32: 1\ndeepseek2.leading_dense_block_count u32: 0\ndeepseek2.expert_shared_count u32: 0\n"
          "deepseek2.expert_weights_scale f32: 16\n", "group" },
        { DEEPSEEK("deepseek_v2", LATENT ",\"n_group\":2,\"topk_group\":1,\"topk_method\":\"group_limited_greedy\""),
          "expert_group_count u32: 2\ndeepseek2.expert_group_used_count u32: 1\n", "expert_weights_norm" },
        { GPT_OSS(",\"layer_types\":[\"full_attention\",\"sliding_attention\"]"), "gpt-oss.rope.freq_base f32: 150000\n"
          "gpt-oss.attention.sliding_window u32: 128\ngpt-oss.attention.sliding_window_pattern bool: 0 1\n", "scaling" },
    };
    const char *folder = folder_make();

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gguf_builder b;
        struct buf got = { 0 };
        folder_put_text(folder, "config.json", cases[i].config);
        assert_int_equal(put_config(folder, &b), 0);
        print_index(b.g, &got);
        if (!strstr(got.data, cases[i].has) || strstr(got.data, cases[i].lacks))
            fail_msg("%s: got\n%sexpected \"%s\" and no \"%s\"", cases[i].config, got.data, cases[i].has, cases[i].lacks);
        buf_free(&got);
        gguf_close(b.g);
    }
    folder_remove(folder);
}

static void check_refused(void **state)
{
    static const struct { const char *config, *message; } cases[] = {
        { "", "/config.json: at byte 0: the text is empty" },
        { "[1]", "/config.json: not a JSON object" },
        { "{\"a\":", "/config.json: at byte 5: " },
        { "{\"model_type\":\"llama\",\"model_type\":\"llama\"}", "a key that the object has already" },
        { "{\"hidden_size\":1}", "model_type \"\" is not supported (supported: llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, smollm3, phi3, "
          "gemma3_text, gpt_oss, glm4_moe, minimax_m2, deepseek_v2, deepseek_v3, kimi_k2, yuan)" },
        { YUAN(",\"use_shareqk\":true"), "such models are not supported" },
        { YUAN(",\"use_moe\":true"), "\"use_moe\" and \"moe_config\" do not go together" },
        { YUAN(",\"use_moe\":true,\"moe_config\":{\"moe_num_experts\":1e99}"), "\"moe_num_experts\"" },
        { "{\"model_type\":\"mamba\\u001b[1m\"}", "model_type \"mamba\\x1b[1m\" is not supported" },
        { "{\"model_type\":7}", "\"model_type\" is 7, expected a string" },
        { LLAMA(",\"quantization_config\":{\"quant_method\":\"hqq\"}"), "quantized with \"hqq\", which is not supported (awq, " },
        { LLAMA(",\"hidden_act\":\"gelu\""), "\"hidden_act\" is \"gelu\", model_type \"llama\" is supported with \"silu\"" },
        { LLAMA_BUT(""), "\"num_attention_heads\" is missing" },
        { LLAMA_BUT(",\"num_attention_heads\":0"), "\"num_attention_heads\" is 0, expected 1..1024" },
        { LLAMA_BUT(",\"num_attention_heads\":-6"), "\"num_attention_heads\" is -6, expected 1..1024" },
        { LLAMA_BUT(",\"num_attention_heads\":1e300"), "\"num_attention_heads\" is 1.0000000000000001e+300, expected 1..1024" },
        { LLAMA_BUT(",\"num_attention_heads\":6.5"), "\"num_attention_heads\" is 6.5, expected 1..1024" },
        { LLAMA_BUT(",\"num_attention_heads\":[6]"), "\"num_attention_heads\" is an array, expected 1..1024" },
        { LLAMA_BUT(",\"num_attention_heads\":1000"), "head size 0 (\"head_dim\", or" },
        { LLAMA(",\"num_key_value_heads\":4"), "\"num_key_value_heads\" is 4, does not divide \"num_attention_heads\" 6" },
        { LLAMA(",\"head_dim\":17"), "head size 17" },
        { LLAMA(",\"tie_word_embeddings\":1"), "\"tie_word_embeddings\" is 1, expected true or false" },
        { LLAMA(",\"rope_theta\":0"), "\"rope_theta\" is 0, expected 1..1e+09" },
        { LLAMA(",\"rope_scaling\":{\"type\":\"mrope\",\"factor\":2}"),
          "RoPE scaling \"mrope\" is not supported for model_type \"llama\"" },
        { LLAMA(",\"rope_scaling\":{\"type\":\"linear\"}"), "\"factor\" of the RoPE scaling is missing" },
        { LLAMA(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"truncate\":false}"),
          "RoPE scaling \"yarn\" with \"truncate\" false is not supported for model_type \"llama\"" },
        { "{\"model_type\":\"mistral\",\"hidden_size\":96,\"intermediate_size\":224,\"num_hidden_layers\":2,\"num_attention_heads\":6,"
          "\"rms_norm_eps\":1e-5,\"vocab_size\":512,\"max_position_embeddings\":512,\"sliding_window\":16,"
          "\"layer_types\":[\"sliding_attention\",\"full_attention\"]}", "\"layer_types\": only all layers with a sliding window" },
        { LLAMA(",\"partial_rotary_factor\":0.5"), "\"partial_rotary_factor\" is not supported" },
        { "{\"model_type\":\"qwen2\",\"hidden_size\":96,\"intermediate_size\":224,\"num_hidden_layers\":3,\"num_attention_heads\":6,"
          "\"rms_norm_eps\":1e-5,\"vocab_size\":512,\"max_position_embeddings\":512,\"use_sliding_window\":true,\"sliding_window\":16}",
          "layers with a sliding window are not supported for model_type \"qwen2\"" },
        { "{\"model_type\":\"smollm3\",\"hidden_size\":96,\"intermediate_size\":224,\"num_hidden_layers\":3,\"num_attention_heads\":6,"
          "\"rms_norm_eps\":1e-5,\"vocab_size\":512,\"max_position_embeddings\":512,\"no_rope_layers\":[1,0,1]}",
          "\"no_rope_layers\": only every fourth layer without RoPE is supported" },
        { "{\"model_type\":\"phi3\",\"hidden_size\":96,\"intermediate_size\":224,\"num_hidden_layers\":3,\"num_attention_heads\":6,"
          "\"rms_norm_eps\":1e-5,\"vocab_size\":512,\"max_position_embeddings\":512,\"original_max_position_embeddings\":64,"
          "\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1,1],\"short_factor\":[1]}}",
          "\"long_factor\" is no array of 8 numbers, one a rotated pair" },
        { LLAMA(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"mscale\":1,\"mscale_all_dim\":1}"),
          "\"mscale\" and \"mscale_all_dim\"" },
        { GPT_OSS(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}"), "RoPE scaling \"yarn\" without \"truncate\" false" },
        { GPT_OSS(",\"swiglu_limit\":6"), "\"swiglu_limit\" and \"swiglu_alpha\": only 7 and 1.702" },
        { GPT_OSS(",\"attention_bias\":false"), "\"attention_bias\" false is not supported" },
        { GPT_OSS(",\"quantization_config\":{\"quant_method\":\"mxfp4_x\"}"), "quantized with \"mxfp4_x\"" },
        { MIXTURE("glm4_moe", ""), "\"attention_bias\" false is not supported for model_type \"glm4_moe\"" },
        { MIXTURE("glm4_moe", ",\"attention_bias\":true,\"partial_rotary_factor\":0.1"), "1 rotated dimensions of 16" },
        { MIXTURE("glm4_moe", ",\"attention_bias\":true,\"num_nextn_predict_layers\":17"),
          "\"num_nextn_predict_layers\" is 17, expected 0..16" },
        { MIXTURE("minimax_m2", ",\"rotary_dim\":18"), "\"rotary_dim\" is 18, expected 2..16" },
        { MIXTURE("minimax_m2", ",\"qk_norm_type\":\"per_head\""), "\"qk_norm_type\" that is not \"per_layer\"" },
        { MIXTURE("minimax_m2", ",\"scoring_func\":\"tanh\""), "\"scoring_func\" is \"tanh\": only \"sigmoid\" and \"softmax\"" },
        { MIXTURE("deepseek_v3", ""), "\"qk_nope_head_dim\" is missing" },
        { DEEPSEEK("deepseek_v3", ",\"kv_lora_rank\":0"), "\"kv_lora_rank\" is 0, expected 1..65536" },
        { DEEPSEEK("deepseek_v3", LATENT ",\"topk_method\":\"greedy\""), "\"topk_method\" is \"greedy\": only \"noaux_tc\"" },
        { DEEPSEEK("deepseek_v3", LATENT ",\"rope_interleave\":false"), "\"rope_interleave\" false" },
        { DEEPSEEK("deepseek_v3", LATENT ",\"n_group\":2,\"topk_group\":3"), "\"topk_group\" is 3, expected 1..2" },
        { DEEPSEEK("kimi_k2", LATENT ",\"moe_layer_freq\":2"), "\"moe_layer_freq\" is not 1" },
        { DEEPSEEK("kimi_k2", LATENT ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"mscale\":1,\"mscale_all_dim\":0.7}"),
          "\"mscale\" and \"mscale_all_dim\" are supported where both are the same" },
        { DEEPSEEK("kimi_k2", LATENT ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}"),
          "RoPE scaling \"yarn\" without \"mscale_all_dim\"" },
        { DEEPSEEK("deepseek_v3", LATENT ",\"num_nextn_predict_layers\":-1"), "\"num_nextn_predict_layers\" is -1, expected 0..16" },
        { LLAMA(",\"partial_rotary_factor\":7,\"rope_scaling\":{\"type\":[1]}"), "\"partial_rotary_factor\" is 7, expected 0..1" },
        { LLAMA(",\"rope_scaling\":\"yarn\""), "\"rope_scaling\" is no object" },
        { LLAMA(",\"rope_parameters\":{\"full_attention\":[2]}"), "\"rope_parameters\" is no object" },
        { DEEPSEEK("deepseek_v2", LATENT ",\"topk_method\":\"noaux_tc\""), "only \"greedy\" and \"group_limited_greedy\"" },
        { MIXTURE("gemma3_text", ",\"num_key_value_heads\":2,\"rope_parameters\":{\"full_attention\":{},\"sliding_attention\":3}"),
          "\"rope_parameters\".\"sliding_attention\" is no object" },
        { LLAMA(",\"rms_norm_eps\":0"), "a key that the object has already" },
    };
    const char *folder = folder_make();

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gguf_builder b;
        struct log_capture log;
        folder_put_text(folder, "config.json", cases[i].config);
        log_capture_start(&log);
        int err = put_config(folder, &b);
        log_capture_start(NULL);
        if (err != -EINVAL || log.n_lines != 1 || !strstr(log.last, cases[i].message))
            fail_msg("%s: %d, %zu lines, \"%s\"; expected \"%s\"", cases[i].config, err, log.n_lines, log.last, cases[i].message);
        gguf_close(b.g);
    }
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_styles), cmocka_unit_test(check_defaults), cmocka_unit_test(check_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
