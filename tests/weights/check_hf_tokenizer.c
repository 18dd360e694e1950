/*
 * tests/weights/check_hf_tokenizer.c - tokenizer.json and tokenizer.model as GGUF's keys: every family against its vocab.gguf and
 * against ids of the tokenizers library, merges in both forms, special tokens and templates, and files that are wrong.
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
#include "weights/hf_tokenizer.h"
#include "weights/tokenizer.h"

#define CONFIG(vocab, others) "{\"model_type\":\"qwen2\",\"hidden_size\":4,\"intermediate_size\":4,\"num_hidden_layers\":1," \
    "\"num_attention_heads\":1,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8,\"vocab_size\":" #vocab others "}"

/* The index of a vocabulary alone, of a folder without weights. The caller closes b->g. */
static int put_vocabulary(const char *folder, struct gguf_builder *b)
{
    struct hf_config c;
    int err = hf_config_read(&c, folder);

    gguf_build(b, folder);
    if (!err)
        err = hf_tokenizer_put(&c, folder, b);
    hf_config_free(&c);
    return err;
}

static void check_same_strings(const struct gguf *a, const struct gguf *b, const char *key)
{
    const struct gguf_kv *x = gguf_find(a, key), *y = gguf_find(b, key);

    assert_true(x && y && x->n == y->n);
    for (uint64_t i = 0; i < x->n; i++)
        if (x->strings[i].len != y->strings[i].len || memcmp(x->strings[i].data, y->strings[i].data, x->strings[i].len))
            fail_msg("%s %d: %s, expected %s", key, (int)i, x->strings[i].data, y->strings[i].data);
}

static void check_ids(const struct tokenizer *t, const json_t *text, const json_t *ids, unsigned flags)
{
    struct token_ids got = { 0 };

    assert_int_equal(tokenizer_encode(t, json_string_value(text), json_string_length(text), NULL, flags, &got), 0);
    if (got.n != json_array_size(ids))
        fail_msg("\"%s\": %zu ids, expected %zu", json_string_value(text), got.n, json_array_size(ids));
    for (size_t i = 0; i < got.n; i++)
        if (got.ids[i] != json_integer_value(json_array_get(ids, i)))
            fail_msg("\"%s\": id %zu is %d, expected %d", json_string_value(text), i, got.ids[i],
                     (int)json_integer_value(json_array_get(ids, i)));
    free(got.ids);
}

static void check_cases(const struct gguf *g, const char *path)
{
    json_t *golden = json_load_file(path, JSON_ALLOW_NUL, NULL), *c;
    struct tokenizer *t;
    size_t i;

    assert_true(json_array_size(json_object_get(golden, "cases")) > 170);
    assert_int_equal(tokenizer_open_gguf(&t, g), 0);
    json_array_foreach(json_object_get(golden, "cases"), i, c)
        check_ids(t, json_object_get(c, "text"), json_object_get(c, "ids"), TOKENIZE_SPECIAL);
    tokenizer_close(t);
    json_decref(golden);
}

static uint64_t number(const struct gguf *g, const char *key)
{
    uint64_t value = UINT64_MAX;

    gguf_get_u64(g, key, 0, UINT64_MAX, &value);
    return value;
}

static bool flag(const struct gguf *g, const char *key)
{
    bool value;

    assert_int_equal(gguf_get_bool(g, key, &value), 0);
    return value;
}

/* tokenizer.json of each family gives the vocabulary of its GGUF file, and the ids of the library that wrote it. */
static void check_families(void **state)
{
    static const struct { const char *family, *pre; } families[] = {
        { "gpt2", "gpt-2" }, { "smollm", "smollm" }, { "llama3", "llama-bpe" }, { "qwen2", "qwen2" }, { "o200k", "gpt-4o" },
        { "deepseek", "deepseek-v3" }, { "spm", "default" }
    };
    (void)state;
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        const bool spm = !strcmp(families[i].family, "spm");
        const char *folder = folder_make();
        struct gguf_string pre;
        struct gguf_builder b;
        struct gguf *file;
        char path[128];

        folder_put_text(folder, "config.json", CONFIG(1400, ""));
        snprintf(path, sizeof(path), "tests/data/tokenizers/%s/tokenizer.json", families[i].family);
        folder_link(folder, "tokenizer.json", path);
        snprintf(path, sizeof(path), "tests/data/tokenizers/%s/vocab.gguf", families[i].family);
        assert_int_equal(put_vocabulary(folder, &b), 0);
        assert_int_equal(gguf_open(&file, path), 0);
        assert_int_equal(gguf_get_string(b.g, "tokenizer.ggml.pre", &pre), 0);
        assert_string_equal(pre.data, families[i].pre);
        check_same_strings(b.g, file, "tokenizer.ggml.tokens");
        check_same_strings(b.g, file, "tokenizer.ggml.model");
        if (!spm)
            check_same_strings(b.g, file, "tokenizer.ggml.merges");
        else
            assert_true(flag(b.g, "tokenizer.ggml.by_merges"));
        const struct gguf_kv *got = gguf_find(b.g, "tokenizer.ggml.token_type"), *want = gguf_find(file, "tokenizer.ggml.token_type");
        for (uint64_t j = 0; j < want->n; j++)
            if (gguf_int_at(got, j) != gguf_int_at(want, j) && !(spm && j == 0))       /* <unk>, which tokenizer.json calls special */
                fail_msg("%s: type of token %d is %d", families[i].family, (int)j, (int)gguf_int_at(got, j));
        snprintf(path, sizeof(path), "tests/data/tokenizers/%s/cases.json", families[i].family);
        check_cases(b.g, path);
        gguf_close(file);
        gguf_close(b.g);
        folder_remove(folder);
    }
}

#define BYTES "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define JSON(vocab, merges, others) "{\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}," BYTES others "}"

/* Pairs and texts are the same merges; tokens that nobody has are padded; added ones are typed. */
static void check_tokens(void **state)
{
    static const char *const want[] = { "a", "b", "ab", "<|x|>", "\u2581y", "[PAD5]", "\u0120a", "[PAD7]" };
    static const int types[] = { 1, 1, 1, 3, 4, 5, 1, 5 };
    const char *folder = folder_make();
    struct gguf_builder b;

    (void)state;
    folder_put_text(folder, "config.json", CONFIG(8, ""));
    folder_put_text(folder, "tokenizer.json", JSON("\"a\":0,\"b\":1,\"ab\":2,\"\u0120a\":6", "\"a b\",[\"a\",\"b\"],[\" \",\"a\"]",
        ",\"added_tokens\":[{\"id\":3,\"content\":\"<|x|>\",\"special\":false},{\"id\":4,\"content\":\"\u2581y\",\"special\":false}]"));
    assert_int_equal(put_vocabulary(folder, &b), 0);
    const struct gguf_kv *tokens = gguf_find(b.g, "tokenizer.ggml.tokens"), *kinds = gguf_find(b.g, "tokenizer.ggml.token_type");
    assert_int_equal(tokens->n, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_string_equal(tokens->strings[i].data, i == 4 ? " y" : want[i]);
        assert_int_equal(gguf_int_at(kinds, i), types[i]);
    }
    const struct gguf_kv *merges = gguf_find(b.g, "tokenizer.ggml.merges");
    assert_int_equal(merges->n, 3);
    assert_string_equal(merges->strings[0].data, "a b");
    assert_string_equal(merges->strings[1].data, "a b");
    assert_string_equal(merges->strings[2].data, "\u0120 a");
    gguf_close(b.g);
    folder_remove(folder);
}

/* Texts or objects, ids of config.json for what has none, who decides about bos, the list of ends, and templates by name. */
static void check_special(void **state)
{
    const char *folder = folder_make();
    struct gguf_string template;
    struct gguf_builder b;

    (void)state;
    folder_put_text(folder, "config.json", CONFIG(4, ",\"bos_token_id\":1,\"eos_token_id\":[2,3],\"pad_token_id\":-1"));
    folder_put_text(folder, "tokenizer.json", JSON("\"a\":0,\"b\":1,\"ab\":2,\"c\":3", "\"a b\"",
        ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\",\"single\":["
        "{\"SpecialToken\":{\"id\":\"b\"}},{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"c\"}}]}]}"));
    folder_put_text(folder, "tokenizer_config.json", "{\"bos_token\":{\"content\":\"b\"},\"eos_token\":\"c\",\"add_eos_token\":false,"
        "\"model_max_length\":1000000000000000019884624838656,"
        "\"chat_template\":[{\"name\":\"default\",\"template\":\"D\"},{\"name\":\"tool_use\",\"template\":\"T\"}]}");
    assert_int_equal(put_vocabulary(folder, &b), 0);
    assert_int_equal(number(b.g, "tokenizer.ggml.bos_token_id"), 1);
    assert_int_equal(number(b.g, "tokenizer.ggml.eos_token_id"), 3);
    assert_null(gguf_find(b.g, "tokenizer.ggml.padding_token_id"));
    assert_true(flag(b.g, "tokenizer.ggml.add_bos_token"));
    assert_false(flag(b.g, "tokenizer.ggml.add_eos_token"));
    assert_int_equal(gguf_find(b.g, "tokenizer.ggml.eos_token_ids")->n, 2);
    assert_int_equal(gguf_get_string(b.g, "tokenizer.chat_template", &template), 0);
    assert_string_equal(template.data, "D");
    assert_int_equal(gguf_get_string(b.g, "tokenizer.chat_template.tool_use", &template), 0);
    assert_string_equal(template.data, "T");
    gguf_close(b.g);

    /* generation_config.json goes before config.json, the file of the template before the key. */
    folder_put_text(folder, "generation_config.json", "{\"eos_token_id\":0}");
    folder_put_text(folder, "chat_template.jinja", "J\n");
    assert_int_equal(put_vocabulary(folder, &b), 0);
    const struct gguf_kv *ends = gguf_find(b.g, "tokenizer.ggml.eos_token_ids");
    assert_int_equal(ends->n, 1);
    assert_int_equal(gguf_int_at(ends, 0), 0);
    assert_int_equal(gguf_get_string(b.g, "tokenizer.chat_template", &template), 0);
    assert_string_equal(template.data, "J\n");
    gguf_close(b.g);
    folder_remove(folder);
}

static void check_refused(void **state)
{
    static const struct { const char *json, *config, *message; } cases[] = {
        { JSON("\"a\":0,\"b\":0", "", ""), "{}", "tokenizer.json: tokens \"a\" and \"b\" both have id 0" },
        { JSON("\"a\":4", "", ""), "{}", "token \"a\" has id 4, \"vocab_size\" of config.json is 4" },
        { JSON("\"a\":-1", "", ""), "{}", "token \"a\" has no id of 0 or more" },
        { JSON("\"a\":\"0\"", "", ""), "{}", "token \"a\" has no id of 0 or more" },
        { JSON("\"a\":0,\"a\":1", "", ""), "{}", "a key that the object has already" },
        { JSON("\"a\":0", "7", ""), "{}", "merge 0 is neither a text nor a pair of texts" },
        { JSON("\"a\":0", "\"a a\",[\"a\"]", ""), "{}", "merge 1 is neither a text nor a pair of texts" },
        { JSON("\"a\":0", "", ",\"added_tokens\":[{\"id\":0,\"content\":\"b\"}]"), "{}", "tokens \"a\" and \"b\" both have id 0" },
        { JSON("\"a\":0", "", ",\"added_tokens\":[{\"id\":99999999999,\"content\":\"b\"}]"), "{}", "entry 0 has no \"id\" of 0 or more" },
        { JSON("\"a\":0", "", ",\"added_tokens\":[{\"id\":1}]"), "{}", "added token 1 has no \"content\"" },
        { JSON("\"a\":0", "", ",\"added_tokens\":7"), "{}", "\"added_tokens\" is no array" },
        { JSON("\"a\":0", "", ",\"normalizer\":{\"type\":\"Lowercase\"}"), "{}", "normalizer of type \"Lowercase\" is not supported" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}," BYTES "}", "{}", "a model of type \"Unigram\" is not supported (BPE is)" },
        { "{\"model\":{\"type\":\"WordPiece\"}}", "{}", "a model of type \"WordPiece\" is not supported (BPE is)" },
        { "{\"model\":{\"type\":\"BPE\",\"dropout\":0.5}," BYTES "}", "{}", "\"dropout\" is 0.5, expected 0..0" },
        { "{\"model\":{\"type\":\"BPE\"}," BYTES "}", "{}", "\"vocab\" of its model is missing" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{}}," BYTES "}", "{}", "\"merges\" of its model is missing" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
          "\"add_prefix_space\":true}}", "{}", "pre_tokenizer \"ByteLevel as it is set here" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
          "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\"},"
          "{\"type\":\"ByteLevel\",\"use_regex\":false}]}}", "{}",
          "pre_tokenizer \"split x+\\x0abytes\\x0a\" (normalizer null, ignore_merges false) is none of those supported" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[],\"byte_fallback\":true},\"pre_tokenizer\":{\"type\":\"Metaspace\","
          "\"prepend_scheme\":\"first\",\"replacement\":\"\u2581\",\"split\":false}}", "{}",
          "normalizer null with pre_tokenizer \"Metaspace\", as they are set here, is not supported" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Metaspace\","
          "\"prepend_scheme\":\"always\",\"replacement\":\"\u2581\",\"split\":false}}", "{}", "without byte_fallback is not supported" },
        { JSON("\"a\":0", "", ""), "{\"chat_template\":7}", "tokenizer_config.json: \"chat_template\" is neither a text nor a list" },
        { JSON("\"a\":0", "", ""), "{\"chat_template\":[{\"name\":\"a\"}]}", "\"chat_template\" entry 0 has no \"name\" and \"template\"" },
        { JSON("\"a\":0", "", ""), "{\"add_bos_token\":1}", "\"add_bos_token\" is 1, expected true or false" },
        { "", "{}", "/tokenizer.json: at byte 0: the text is empty" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *folder = folder_make();
        struct log_capture log;
        struct gguf_builder b;
        folder_put_text(folder, "config.json", CONFIG(4, ""));
        folder_put_text(folder, "tokenizer.json", cases[i].json);
        folder_put_text(folder, "tokenizer_config.json", cases[i].config);
        log_capture_start(&log);
        int err = put_vocabulary(folder, &b);
        log_capture_start(NULL);
        if (err != -EINVAL || log.n_lines != 1 || !strstr(log.last, cases[i].message))
            fail_msg("%s %s: %d, %zu lines, \"%s\"; expected \"%s\"", cases[i].json, cases[i].config, err, log.n_lines, log.last,
                     cases[i].message);
        gguf_close(b.g);
        folder_remove(folder);
    }
}

/* One piece of a tokenizer.model: field 1 of the message. */
static void put_piece(struct buf *out, const char *text, float score, int type)
{
    const size_t n = strlen(text);

    buf_putc(out, 0x0a);
    buf_putc(out, (char)(2 + n + 5 + 2));
    buf_putc(out, 0x0a);
    buf_putc(out, (char)n);
    buf_puts(out, text);
    buf_putc(out, 0x15);
    buf_append(out, &score, 4);
    buf_putc(out, 0x18);
    buf_putc(out, (char)type);
}

static void put_model(struct buf *out, int model_type)
{
    put_piece(out, "<unk>", 0, 2);
    put_piece(out, "<s>", 0, 3);
    put_piece(out, "</s>", 0, 3);
    put_piece(out, "<0x0A>", 0, 6);
    put_piece(out, "\u2581a", -1, 1);
    put_piece(out, "a", -3, 1);
    put_piece(out, "\u2581", -2, 1);
    const char rest[] = { 0x12, 2, 0x18, (char)model_type, 0x1a, 4, 0x18, 1, 0x20, 0 };
    buf_append(out, rest, sizeof(rest));
}

static void check_sentencepiece(void **state)
{
    const char *folder = folder_make();
    struct token_ids ids = { 0 };
    struct gguf_builder b;
    struct tokenizer *t;
    struct buf model = { 0 };
    struct log_capture log;

    (void)state;
    put_model(&model, 2);
    folder_put_text(folder, "config.json", CONFIG(10, ""));
    folder_put(folder, "tokenizer.model", model.data, model.len);
    folder_put_text(folder, "tokenizer_config.json", "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":true,"
        "\"added_tokens_decoder\":{\"8\":{\"content\":\"<|end|>\",\"special\":true},\"1\":{\"content\":\"<s>\",\"special\":true}}}");
    folder_put_text(folder, "added_tokens.json", "{\"<extra>\":7}");
    assert_int_equal(put_vocabulary(folder, &b), 0);
    const struct gguf_kv *tokens = gguf_find(b.g, "tokenizer.ggml.tokens"), *scores = gguf_find(b.g, "tokenizer.ggml.scores");
    const struct gguf_kv *types = gguf_find(b.g, "tokenizer.ggml.token_type");
    static const char *const want[] = { "<unk>", "<s>", "</s>", "<0x0A>", "\u2581a", "a", "\u2581", "<extra>", "<|end|>", "[PAD9]" };
    static const int want_types[] = { 2, 3, 3, 6, 1, 1, 1, 4, 3, 5 }, want_scores[] = { 0, -1000, 0, 0, -1, -3, -2, -1000, -1000, -10000 };
    for (size_t i = 0; i < 10; i++) {
        assert_string_equal(tokens->strings[i].data, want[i]);
        assert_int_equal(gguf_int_at(types, i), want_types[i]);
        assert_true(gguf_float_at(scores, i) == want_scores[i]);
    }
    assert_true(flag(b.g, "tokenizer.ggml.add_space_prefix"));
    assert_int_equal(number(b.g, "tokenizer.ggml.eos_token_id"), 2);
    log_capture_start(&log);
    assert_int_equal(tokenizer_open_gguf(&t, b.g), 0);      /* warns: 255 bytes have no token */
    assert_int_equal(tokenizer_encode(t, "a a\n<|end|>", 11, NULL, TOKENIZE_SPECIAL | TOKENIZE_ADD_BOS, &ids), 0);
    static const int32_t want_ids[] = { 1, 4, 4, 3, 8 };
    assert_int_equal(ids.n, 5);
    assert_memory_equal(ids.ids, want_ids, sizeof(want_ids));
    free(ids.ids);
    tokenizer_close(t);
    gguf_close(b.g);

    /* Cut anywhere or with any byte changed: right or refused with one line, and never read beyond its end. */
    for (size_t n = 0; n < model.len; n++) {
        folder_put(folder, "tokenizer.model", model.data, n);
        put_vocabulary(folder, &b);
        gguf_close(b.g);
    }
    for (size_t i = 0; i < model.len; i++) {
        const char old = model.data[i];
        model.data[i] = (char)0xff;
        folder_put(folder, "tokenizer.model", model.data, model.len);
        put_vocabulary(folder, &b);
        gguf_close(b.g);
        model.data[i] = old;
    }
    buf_clear(&model);
    put_model(&model, 1);
    folder_put(folder, "tokenizer.model", model.data, model.len);
    assert_int_equal(put_vocabulary(folder, &b), -EINVAL);
    assert_non_null(strstr(log.last, "/tokenizer.model: SentencePiece of model type unigram is not supported (BPE is)"));
    gguf_close(b.g);
    folder_put_text(folder, "tokenizer.model", "IQ== 0\nIg== 1\n");       /* tiktoken's, as Llama 3 has it */
    assert_int_equal(put_vocabulary(folder, &b), -EINVAL);
    assert_non_null(strstr(log.last, ": no SentencePiece model"));
    gguf_close(b.g);
    log_capture_start(NULL);
    buf_free(&model);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_families), cmocka_unit_test(check_tokens), cmocka_unit_test(check_special), cmocka_unit_test(check_refused),
        cmocka_unit_test(check_sentencepiece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
