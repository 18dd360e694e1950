/*
 * tests/weights/check_hf_folder.c - a folder against the GGUF file that llama.cpp's converter made of it: keys, names, types, bytes,
 * token ids and template; shards with an index; names that Gemma and multimodal models have; folders that are wrong.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "weights/chat_template.h"
#include "weights/gguf.h"
#include "weights/tokenizer.h"

static const char llama[] = "tests/data/golden/llama";

static bool same_values(const struct gguf_kv *a, const struct gguf_kv *b)
{
    if (a->type != b->type || a->element_type != b->element_type || a->n != b->n)
        return false;
    for (uint64_t i = 0; i < a->n; i++) {
        if (a->element_type != GGUF_STRING ? gguf_float_at(a, i) != gguf_float_at(b, i)
            : a->strings[i].len != b->strings[i].len || memcmp(a->strings[i].data, b->strings[i].data, a->strings[i].len))
            return false;
    }
    return true;
}

/* Every key but names that the converter made up, and the one for a task that this program has not. */
static void check_same_keys(const struct gguf *file, const struct gguf *folder)
{
    for (size_t i = 0; i < gguf_n_kv(file); i++) {
        const struct gguf_kv *want = gguf_kv_at(file, i), *got = gguf_find(folder, want->key.data);
        if (!strcmp(want->key.data, "general.name") || !strcmp(want->key.data, "general.size_label") ||
            !strcmp(want->key.data, "tokenizer.ggml.add_sep_token"))
            continue;
        if (!got || !same_values(got, want))
            fail_msg("key %s is %s", want->key.data, got ? "different" : "missing");
    }
}

static void check_same_tensors(const struct gguf *file, const struct gguf *folder)
{
    assert_int_equal(gguf_n_tensors(folder), gguf_n_tensors(file));
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *want = gguf_tensor_at(file, i), *got = gguf_find_tensor(folder, want->name.data);
        if (!got || got->type != want->type || got->n_dims != want->n_dims || memcmp(got->ne, want->ne, sizeof(got->ne)) ||
            got->bytes != want->bytes)
            fail_msg("tensor %s is %s", want->name.data, got ? "of another shape or type" : "missing");
        char *a = malloc(want->bytes), *b = malloc(want->bytes);
        assert_int_equal(gguf_read(file, want, 0, a, want->bytes), 0);
        assert_int_equal(gguf_read(folder, got, 0, b, want->bytes), 0);
        if (memcmp(a, b, want->bytes))
            fail_msg("tensor %s has other bytes", want->name.data);
        free(a);
        free(b);
    }
}

static void check_llama(void **state)
{
    struct gguf *file, *folder;
    struct gguf_string name;

    (void)state;
    assert_int_equal(gguf_open(&file, "tests/data/golden/llama/model-bf16.gguf"), 0);
    assert_int_equal(gguf_open(&folder, "tests/data/golden/llama/"), 0);
    assert_false(gguf_is_folder(file));
    assert_true(gguf_is_folder(folder));
    assert_string_equal(gguf_path(folder), llama);
    assert_int_equal(gguf_n_parts(folder), 1);
    assert_int_equal(gguf_get_string(folder, "general.name", &name), 0);
    assert_string_equal(name.data, "llama");
    check_same_keys(file, folder);
    check_same_tensors(file, folder);
    gguf_close(file);
    gguf_close(folder);
}

/* Mixtures: stacked experts, sharded; transposed matrices of latent attention; MXFP4 whose file has gate and up in turns. */
static void check_mixtures(void **state)
{
    static const char *const names[] = { "mixtral", "minimax_m2", "deepseek_v3", "gpt_oss" };

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct gguf *file, *folder;
        char path[128];
        snprintf(path, sizeof(path), "tests/data/golden/%s/model.gguf", names[i]);
        assert_int_equal(gguf_open(&file, path), 0);
        *strrchr(path, '/') = '\0';
        assert_int_equal(gguf_open(&folder, path), 0);
        check_same_keys(file, folder);
        check_same_tensors(file, folder);
        gguf_close(file);
        gguf_close(folder);
    }
}

/* A layer for further tokens that GGUF has a place for. */
static void check_extra_layers(void **state)
{
    static const char *const kept[] = { "nextn.eh_proj", "nextn.enorm", "nextn.hnorm", "nextn.embed_tokens", "nextn.shared_head_head",
                                        "nextn.shared_head_norm", "attn_q", "ffn_gate_inp", "ffn_down_exps", "ffn_up_shexp" };
    struct gguf *g;
    uint64_t value;

    (void)state;
    assert_int_equal(gguf_open(&g, "tests/data/golden/glm4_moe"), 0);
    assert_int_equal(gguf_get_u64(g, "glm4moe.block_count", 4, 4, &value), 0);
    assert_int_equal(gguf_get_u64(g, "glm4moe.nextn_predict_layers", 1, 1, &value), 0);
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        char name[64];
        snprintf(name, sizeof(name), "blk.3.%s.weight", kept[i]);
        if (!gguf_find_tensor(g, name))
            fail_msg("%s is missing", name);
    }
    gguf_close(g);
}

/* The template's text and its ids, as transformers gives them; the list of generation_config.json ends a text. */
static void check_chat(void **state)
{
    json_t *golden = json_load_file("tests/data/golden/llama/golden.json", 0, NULL), *chat = json_object_get(golden, "chat");
    const char *text = json_string_value(json_object_get(chat, "text"));
    const json_t *ids = json_object_get(chat, "ids");
    struct token_ids got = { 0 };
    struct tokenizer *t;
    struct gguf *g;
    size_t n;

    (void)state;
    assert_int_equal(gguf_open(&g, llama), 0);
    assert_int_equal(tokenizer_open_gguf(&t, g), 0);
    gguf_close(g);
    assert_non_null(text);
    assert_int_equal(tokenizer_encode(t, text, strlen(text), NULL, TOKENIZE_SPECIAL, &got), 0);
    assert_int_equal(got.n, json_array_size(ids));
    for (size_t i = 0; i < got.n; i++)
        assert_int_equal(got.ids[i], json_integer_value(json_array_get(ids, i)));
    assert_true(tokenizer_adds_bos(t));
    const int32_t *stops = tokenizer_stop_ids(t, &n);
    assert_int_equal(n, 2);
    assert_int_equal(stops[0], 506);
    assert_int_equal(stops[1], 508);
    free(got.ids);
    tokenizer_close(t);
    json_decref(golden);
}

/* The files that every folder here has; of the caller are config.json and the weights. */
static const char *make_folder(const char *config)
{
    const char *folder = folder_make();

    folder_put_text(folder, "config.json", config);
    folder_put_text(folder, "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]},"
                                              "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}");
    return folder;
}

#define CONFIG(type, others) "{\"model_type\":\"" type "\",\"hidden_size\":4,\"intermediate_size\":4,\"num_hidden_layers\":1," \
    "\"num_attention_heads\":1,\"head_dim\":4,\"rms_norm_eps\":1e-5,\"vocab_size\":4,\"max_position_embeddings\":8" others "}"
#define TENSOR(name, type, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

/* Gemma's names and its norms, inside of a multimodal model whose other tensors are left out; tied although lm_head is there. */
static void check_gemma(void **state)
{
    static const uint16_t data[32] = { 0x3f80, 0xbf80, 0x3f00, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080 };
    const char *folder = make_folder("{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"hidden_size\":4,"
        "\"intermediate_size\":4,\"num_hidden_layers\":1,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":4,"
        "\"vocab_size\":4,\"sliding_window\":2}}");
    float norm[4];
    struct gguf *g;

    (void)state;
    folder_put_safetensors(folder, "model.safetensors",
        "{" TENSOR("language_model.model.norm.weight", "BF16", "4", 0, 8) ","
        TENSOR("model.language_model.layers.0.post_attention_layernorm.weight", "BF16", "4", 8, 16) ","
        TENSOR("language_model.lm_head.weight", "BF16", "4", 16, 24) ","
        TENSOR("language_model.model.layers.0.pre_feedforward_layernorm.weight", "BF16", "4", 24, 32) ","
        TENSOR("vision_tower.x.weight", "BF16", "4", 32, 40) ","
        TENSOR("model.layers.0.self_attn.q_norm.weight", "BF16", "4", 40, 48) ","
        TENSOR("model.embed_tokens.weight", "BF16", "1,4", 48, 56) ","
        TENSOR("model.layers.0.self_attn.q_proj.weight", "BF16", "1,4", 56, 64) "}", data, sizeof(data));
    assert_int_equal(gguf_open(&g, folder), 0);
    assert_int_equal(gguf_n_tensors(g), 6);
    assert_int_equal(gguf_read(g, gguf_find_tensor(g, "output_norm.weight"), 0, norm, sizeof(norm)), 0);
    assert_true(norm[0] == 2 && norm[1] == 0 && norm[2] == 1.5f && norm[3] == 1);
    assert_int_equal(gguf_read(g, gguf_find_tensor(g, "blk.0.post_attention_norm.weight"), 0, norm, sizeof(norm)), 0);
    assert_true(norm[0] == 2 && norm[1] == 3 && norm[2] == 4 && norm[3] == 5);
    assert_non_null(gguf_find_tensor(g, "blk.0.ffn_norm.weight"));
    assert_int_equal(gguf_find_tensor(g, "blk.0.attn_q_norm.weight")->type, DTYPE_F32);
    assert_null(gguf_find_tensor(g, "token_embd.weight")->source);
    assert_int_equal(gguf_find_tensor(g, "token_embd.weight")->type, DTYPE_BF16);
    assert_null(gguf_find_tensor(g, "blk.0.attn_q.weight")->source);        /* Gemma's rows stay as they are */
    gguf_close(g);
    folder_remove(folder);
}

#define DEEPSEEK(others) CONFIG("deepseek_v3", ",\"qk_nope_head_dim\":2,\"qk_rope_head_dim\":2,\"v_head_dim\":1,\"kv_lora_rank\":3," \
    "\"n_routed_experts\":2,\"num_experts_per_tok\":1,\"moe_intermediate_size\":4,\"tie_word_embeddings\":true" others)
#define KV_B "model.layers.0.self_attn.kv_b_proj.weight"

/*
 * Rows of keys are transposed, those of values are not; the layer for further tokens, of which GGUF has nothing, is left out, and no
 * layer that config.json does not call so.
 */
static void check_latent(void **state)
{
    const float data[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 0 }, keys[] = { 1, 4, 2, 5, 3, 6 };
    const char *folder = make_folder(DEEPSEEK(",\"num_nextn_predict_layers\":1"));
    float got[6];
    struct gguf *g;

    (void)state;
    folder_put_safetensors(folder, "model.safetensors", "{" TENSOR(KV_B, "F32", "3,3", 0, 36) ","
        TENSOR("model.layers.1.input_layernorm.weight", "F32", "1", 36, 40) "}", data, sizeof(data));
    assert_int_equal(gguf_open(&g, folder), 0);
    assert_int_equal(gguf_n_tensors(g), 2);
    assert_int_equal(gguf_find_tensor(g, "blk.0.attn_k_b.weight")->ne[0], 2);
    assert_int_equal(gguf_read(g, gguf_find_tensor(g, "blk.0.attn_k_b.weight"), 0, got, sizeof(keys)), 0);
    assert_memory_equal(got, keys, sizeof(keys));
    assert_int_equal(gguf_read(g, gguf_find_tensor(g, "blk.0.attn_v_b.weight"), 0, got, 12), 0);
    assert_memory_equal(got, data + 6, 12);
    gguf_close(g);
    folder_put_text(folder, "config.json", DEEPSEEK(""));
    assert_int_equal(gguf_open(&g, folder), 0);
    assert_non_null(gguf_find_tensor(g, "blk.1.attn_norm.weight"));
    gguf_close(g);
    folder_remove(folder);
}

#define HALF "{" TENSOR("lm_head.weight", "F32", "1,1", 0, 4) "}"
#define OTHER "{" TENSOR("model.norm.weight", "F32", "1", 0, 4) "}"

/* Shards and their index. */
static void check_shards(void **state)
{
    const char *folder = make_folder(CONFIG("qwen2", ""));
    struct gguf *g;
    const float two[] = { 2 }, three[] = { 3 };
    float got;

    (void)state;
    folder_put_safetensors(folder, "model-00001-of-00002.safetensors", HALF, two, 4);
    folder_put_safetensors(folder, "model-00002-of-00002.safetensors", OTHER, three, 4);
    folder_put_text(folder, "model.safetensors.index.json", "{\"metadata\":{\"total_size\":1},\"weight_map\":{"
        "\"lm_head.weight\":\"model-00001-of-00002.safetensors\",\"model.norm.weight\":\"model-00002-of-00002.safetensors\"}}");
    assert_int_equal(gguf_open(&g, folder), 0);
    assert_int_equal(gguf_n_parts(g), 2);
    assert_int_equal(gguf_read(g, gguf_find_tensor(g, "output.weight"), 0, &got, 4), 0);
    assert_true(got == 2);
    assert_int_equal(gguf_find_tensor(g, "output_norm.weight")->part, 2);
    assert_int_equal(gguf_read(g, gguf_find_tensor(g, "output_norm.weight"), 0, &got, 4), 0);
    assert_true(got == 3);
    gguf_close(g);
    folder_remove(folder);
}

static void check_bad_index(void **state)
{
    static const struct { const char *map; int err; const char *message; } cases[] = {
        { "{}", -EINVAL, "index.json: \"weight_map\" is missing, or no object of tensors" },
        { "{\"a\":7}", -EINVAL, "\"weight_map\": a file is no text" },
        { "{\"a\":\"../../etc/passwd\"}", -EINVAL, "names the file \"../../etc/passwd\"" },
        { "{\"a\":\"/tmp/x.safetensors\"}", -EINVAL, "names the file \"/tmp/x.safetensors\"" },
        { "{\"a\":\".x.safetensors\"}", -EINVAL, "names the file \".x.safetensors\"" },
        { "{\"a\":\"x\\\\y.safetensors\"}", -EINVAL, "names the file \"x\\x5cy.safetensors\"" },
        { "{\"a\":\"x.bin\"}", -EINVAL, "names the file \"x.bin\"" },
        { "{\"a\":\"gone.safetensors\"}", -ENOENT, "/gone.safetensors: cannot open: No such file or directory" },
        { "{\"a\":\"one.safetensors\"}", -EINVAL, "tensor \"a\" is not in the file \"one.safetensors\"" },
        { "{\"lm_head.weight\":\"two.safetensors\"}", -EINVAL, "tensor \"lm_head.weight\" is not in the file \"two.safetensors\"" },
        { "{\"lm_head.weight\":\"one.safetensors\",\"model.norm.weight\":\"same.safetensors\"}", -EINVAL,
          "/same.safetensors: tensor \"lm_head.weight\": comes twice" },
    };
    const char *folder = make_folder(CONFIG("qwen2", ""));
    const float zero[] = { 0 };

    (void)state;
    folder_put_safetensors(folder, "one.safetensors", HALF, zero, 4);
    folder_put_safetensors(folder, "two.safetensors", OTHER, zero, 4);
    folder_put_safetensors(folder, "same.safetensors", HALF, zero, 4);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct log_capture log;
        char index[512];
        struct gguf *g;
        snprintf(index, sizeof(index), "{\"weight_map\":%s}", cases[i].map);
        folder_put_text(folder, "model.safetensors.index.json", index);
        log_capture_start(&log);
        int err = gguf_open(&g, folder);
        log_capture_start(NULL);
        if (err != cases[i].err || g || log.n_lines != 1 || !strstr(log.last, cases[i].message))
            fail_msg("%s: %d, %zu lines, \"%s\"; expected \"%s\"", cases[i].map, err, log.n_lines, log.last, cases[i].message);
    }
    folder_remove(folder);
}

#define GPT_OSS CONFIG("gpt_oss", ",\"num_local_experts\":2,\"num_experts_per_tok\":1,\"quantization_config\":{\"quant_method\":\"mxfp4\"}")
#define MIXTRAL CONFIG("mixtral", ",\"num_local_experts\":2,\"num_experts_per_tok\":1")
#define ROUTER "model.layers.0.block_sparse_moe.gate.weight"
#define EXPERTS "model.layers.0.mlp.experts."
#define BIAS TENSOR(EXPERTS "gate_up_proj_bias", "F32", "2,2", 0, 16)

/* Tensors that this program cannot use, or that the configuration contradicts. */
static void check_bad_tensors(void **state)
{
    static const struct { const char *config, *header; size_t n; const char *message; } cases[] = {
        { CONFIG("qwen2", ""), OTHER, 4, "\"tie_word_embeddings\" is false, but there is no tensor \"lm_head.weight\"" },
        { CONFIG("qwen2", ""), "{" TENSOR("lm_head.weight", "F8_E4M3", "1", 0, 1) "}", 1,
          "tensor \"lm_head.weight\" of its model: type F8_E4M3 is not supported (F32, F16 and BF16 are)" },
        { CONFIG("qwen2", ""), "{" TENSOR("lm_head.weight", "F32", "", 0, 4) "}", 4, "it has no 1 to 4 dimensions" },
        { CONFIG("qwen2", ""), "{" TENSOR("lm_head.weight", "F32", "0,4", 0, 0) "}", 0, "a dimension is 0 or beyond 31 bits" },
        { CONFIG("llama", ""), "{" TENSOR("model.layers.0.self_attn.q_proj.weight", "F32", "3,1", 0, 12) "}", 12,
          "its rows are not those of the heads that config.json has" },
        { CONFIG("qwen2", ""), "{" TENSOR("model.layers.99999.self_attn.q_proj.weight", "F32", "1", 0, 4) ","
          TENSOR("language_model.model.layers.99999.self_attn.q_proj.weight", "F32", "1", 4, 8) "}", 8,
          "tensor \"blk.99999.attn_q.weight\": comes twice" },
        { DEEPSEEK(""), OTHER, 4, "tensor \"self_attn.kv_b_proj.weight\" of its model is missing in a layer" },
        { MIXTRAL, "{" TENSOR(ROUTER, "F32", "3,4", 0, 48) "}", 48,
          "tensor \"" ROUTER "\" of its model has another shape than its configuration says" },
        { DEEPSEEK(""), "{" TENSOR(KV_B, "F32", "2,2", 0, 16) "}", 16, "or has another shape than its configuration says" },
        { DEEPSEEK(""), "{" TENSOR(KV_B, "U8", "3,3", 0, 9) "}", 9, "has a type that is not supported (F32, F16 and BF16 are)" },
        { GPT_OSS, OTHER, 4, "tensor \"model.layers.0.mlp.experts.gate_up_proj_bias\" of its model is missing, or has another shape" },
        { GPT_OSS, "{" BIAS "}", 16, "tensor \"model.layers.0.mlp.experts.gate_up_proj\" of its model is missing" },
        { GPT_OSS, "{" BIAS "," TENSOR(EXPERTS "gate_up_proj", "BF16", "2,1,3", 16, 28) "}", 28,
          "gate_up_proj\" of its model is missing, or" },
        { GPT_OSS, "{" BIAS "," TENSOR(EXPERTS "gate_up_proj_blocks", "U8", "2,2,1,16", 16, 80) "}", 80,
          "gate_up_proj_scales\" of its model is missing" },
        { GPT_OSS, "{" BIAS "," TENSOR(EXPERTS "gate_up_proj_blocks", "U8", "2,2,1,16", 16, 80) ","
          TENSOR(EXPERTS "gate_up_proj_scales", "U8", "2,2,2", 80, 88) "}", 88, "gate_up_proj_scales\" of its model is missing, or" },
        { GPT_OSS, "{" BIAS "," TENSOR(EXPERTS "gate_up_proj_blocks", "U8", "2,2,2,8", 16, 80) "}", 80, "gate_up_proj_blocks\" of its" },
        { GPT_OSS, "{" BIAS "," TENSOR(EXPERTS "gate_up_proj_blocks", "U8", "2,2,0,16", 16, 16) ","
          TENSOR(EXPERTS "gate_up_proj_scales", "U8", "2,2,0", 16, 16) "}", 16, "gate_up_proj_blocks\" of its model has another shape" },
    };
    const char zeros[96] = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *folder = make_folder(cases[i].config);
        struct log_capture log;
        struct gguf *g;
        folder_put_safetensors(folder, "model.safetensors", cases[i].header, zeros, cases[i].n);
        log_capture_start(&log);
        int err = gguf_open(&g, folder);
        log_capture_start(NULL);
        if (err != -EINVAL || g || log.n_lines != 1 || !strstr(log.last, cases[i].message))
            fail_msg("%s: %d, %zu lines, \"%s\"; expected \"%s\"", cases[i].header, err, log.n_lines, log.last, cases[i].message);
        folder_remove(folder);
    }
}

/* Folders that lack what a model needs; each says what. */
static void check_incomplete(void **state)
{
    const char *folder = folder_make();
    struct log_capture log;
    const float zero[] = { 0 };
    struct gguf *g;

    (void)state;
    log_capture_start(&log);
    assert_int_equal(gguf_open(&g, folder), -EINVAL);
    assert_non_null(strstr(log.last, ": not a model: a folder needs config.json"));
    folder_put_text(folder, "config.json", CONFIG("qwen2", ""));
    assert_int_equal(gguf_open(&g, folder), -EINVAL);
    assert_non_null(strstr(log.last, ": none of model.safetensors, model.safetensors.index.json, pytorch_model.bin and "));
    folder_put_text(folder, "pytorch_model.bin", "");
    assert_int_equal(gguf_open(&g, folder), -EINVAL);
    assert_non_null(strstr(log.last, "/pytorch_model.bin: ZIP archive: not a file of torch.save"));
    folder_put_safetensors(folder, "model.safetensors", HALF, zero, 4);
    assert_int_equal(gguf_open(&g, folder), -EINVAL);
    assert_non_null(strstr(log.last, ": neither tokenizer.json nor tokenizer.model is there"));
    assert_int_equal(log.n_lines, 4);
    folder_put_text(folder, "tokenizer_config.json", "{\"x\":1000000000000000019884624838656,\"eos_token\":7} ");
    folder_put_text(folder, "tokenizer.json", "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},"
                                              "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}");
    assert_int_equal(gguf_open(&g, folder), 0);
    assert_int_equal(log.n_lines, 4);
    log_capture_start(NULL);
    gguf_close(g);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_llama), cmocka_unit_test(check_mixtures), cmocka_unit_test(check_extra_layers), cmocka_unit_test(check_chat),
        cmocka_unit_test(check_gemma), cmocka_unit_test(check_latent), cmocka_unit_test(check_shards),
        cmocka_unit_test(check_bad_index), cmocka_unit_test(check_bad_tensors), cmocka_unit_test(check_incomplete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
