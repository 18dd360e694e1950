/*
 * hf_special.c - which tokens begin and end a text, and the chat template: from tokenizer_config.json, the post_processor of
 * tokenizer.json, config.json and generation_config.json to GGUF's keys. After ggml-org/llama.cpp gguf-py/gguf/vocab.py.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/utf8.h"
#include "weights/hf_tokenizer.h"

enum { MAX_TEMPLATE = 1 << 20, MAX_ENDS = 64 };

/* The text of "bos_token" and the like: a string, or an object that has it. An empty one counts as none. */
static struct gguf_string token_text(const struct hf_vocabulary *v, const char *kind)
{
    const json_t *value;
    char key[32];

    snprintf(key, sizeof(key), "%s_token", kind);
    value = hf_get(v->config.root, key);
    value = json_is_object(value) ? hf_get(value, "content") : value;
    return json_is_string(value) ? hf_text(value) : (struct gguf_string){ "", 0 };
}

/* The id of a kind: by its text, else by config.json; -1: none, -EINVAL - 1: wrong (logged). */
static int put_id(struct hf_vocabulary *v, const char *kind, const char *gguf_key)
{
    const struct gguf_string text = token_text(v, kind);
    int64_t id = text.len ? hf_vocabulary_find(v, text) : -1;
    uint64_t number;
    char key[32];

    snprintf(key, sizeof(key), "%s_token_id", kind);
    const json_t *value = hf_config_get(v->c, key);
    value = json_is_array(value) ? json_array_get(value, 0) : value;
    if (id < 0 && value && json_is_integer(value) && json_integer_value(value) == -1)
        return 0;       /* written by some for "none" */
    if (id < 0 && value) {
        if (!hf_integer(value, INT32_MAX, &number))
            return hf_fail(&v->c->file, "\"%s\" is no token id", key);
        if (number >= v->n)
            return hf_fail(&v->c->file, "\"%s\" is %" PRIu64 ", the vocabulary has %zu tokens", key, number, v->n);
        id = (int64_t)number;
    }
    if (id >= 0) {
        snprintf(key, sizeof(key), "tokenizer.ggml.%s", gguf_key);
        gguf_put_u32(v->b, key, (uint32_t)id);
    }
    return 0;
}

/* All ids that end a text, where there are several: GGUF has a key for one. */
static int put_ends(struct hf_vocabulary *v)
{
    const json_t *list = hf_get(v->generation.root, "eos_token_id");
    const struct hf_json *f = list ? &v->generation : &v->c->file;
    uint32_t ids[MAX_ENDS];
    uint64_t id;

    list = list ? list : hf_config_get(v->c, "eos_token_id");
    const size_t n = json_is_array(list) ? json_array_size(list) : list ? 1 : 0;
    if (n > MAX_ENDS)
        return hf_fail(f, "\"eos_token_id\" has %zu ids, at most %d", n, MAX_ENDS);
    for (size_t i = 0; i < n; i++) {
        if (!hf_integer(json_is_array(list) ? json_array_get(list, i) : list, INT32_MAX, &id) || id >= v->n)
            return hf_fail(f, "\"eos_token_id\" has what is no token id below %zu", v->n);
        ids[i] = (uint32_t)id;
    }
    if (n)
        gguf_put_array(v->b, "tokenizer.ggml.eos_token_ids", GGUF_U32, ids, n);
    return 0;
}

/* The text of a special token at one end of TemplateProcessing's form for a single text; NULL: none. */
static const char *token_at(const json_t *processor, bool last)
{
    const json_t *form = json_object_get(processor, "single");
    const size_t n = json_array_size(form);

    if (strcmp(json_string_value(json_object_get(processor, "type")) ? json_string_value(json_object_get(processor, "type")) : "",
               "TemplateProcessing") || n < 2)
        return NULL;
    return json_string_value(json_object_get(json_object_get(json_array_get(form, last ? n - 1 : 0), "SpecialToken"), "id"));
}

/* Whether encoding puts the token of a kind at that end of a text: tokenizer_config.json says so, or else the post_processor. */
static int put_adds(struct hf_vocabulary *v, const char *kind, bool last)
{
    const json_t *processor = hf_get(v->json.root, "post_processor"), *list = hf_get(processor, "processors");
    const struct gguf_string own = token_text(v, kind);
    bool adds = false, known = v->json.root != NULL;
    char key[40];

    for (size_t i = 0; i < (list ? json_array_size(list) : 1); i++) {
        const char *text = token_at(list ? json_array_get(list, i) : processor, last);
        adds |= text && strlen(text) == own.len && !memcmp(text, own.data, own.len);
    }
    snprintf(key, sizeof(key), "add_%s_token", kind);
    const int err = hf_get_bool(&v->config, v->config.root, key, &adds);
    known |= !err;
    if (err == -EINVAL)
        return err;
    snprintf(key, sizeof(key), "tokenizer.ggml.add_%s_token", kind);
    if (known)                  /* else the reader knows what the kind of vocabulary does */
        gguf_put_bool(v->b, key, adds);
    return 0;
}

static int put_template_file(struct hf_vocabulary *v)
{
    struct buf text = { 0 };
    int err = hf_read_file(v->folder, "chat_template.jinja", MAX_TEMPLATE, &text);

    if (!err && utf8_check(text.data, text.len) != text.len) {
        struct hf_json f = { .path = NULL };
        if (asprintf(&f.path, "%s/chat_template.jinja", v->folder) < 0)
            f.path = NULL;
        err = hf_fail(&f, "not UTF-8");
        hf_json_free(&f);
    }
    if (!err)
        gguf_put_string(v->b, "tokenizer.chat_template", (struct gguf_string){ text.data, text.len });
    buf_free(&text);
    return err;
}

/* A text, or a list of them with names, of which "default" is the one that GGUF's plain key holds. */
static int put_template(struct hf_vocabulary *v)
{
    const json_t *found = hf_get(v->config.root, "chat_template"), *entry;
    int err = put_template_file(v);
    size_t i;

    if (err != -ENOENT || !found)
        return err == -ENOENT ? 0 : err;
    if (json_is_string(found)) {
        gguf_put_string(v->b, "tokenizer.chat_template", hf_text(found));
        return 0;
    }
    if (!json_is_array(found))
        return hf_fail(&v->config, "\"chat_template\" is neither a text nor a list");
    json_array_foreach(found, i, entry) {
        const json_t *name = json_object_get(entry, "name"), *text = json_object_get(entry, "template");
        char key[128] = "tokenizer.chat_template";
        if (!json_is_string(name) || !json_is_string(text))
            return hf_fail(&v->config, "\"chat_template\" entry %zu has no \"name\" and \"template\"", i);
        if (strcmp(json_string_value(name), "default"))
            snprintf(key, sizeof(key), "tokenizer.chat_template.%.64s", json_string_value(name));
        gguf_put_string(v->b, key, hf_text(text));
    }
    return 0;
}

int hf_special_put(struct hf_vocabulary *v)
{
    static const struct { const char *kind, *key; } ids[] = {
        { "bos", "bos_token_id" }, { "eos", "eos_token_id" }, { "unk", "unknown_token_id" }, { "sep", "seperator_token_id" },
        { "pad", "padding_token_id" }, { "mask", "mask_token_id" }
    };
    int err = 0;

    for (size_t i = 0; !err && i < sizeof(ids) / sizeof(ids[0]); i++)
        err = put_id(v, ids[i].kind, ids[i].key);
    if (!err)
        err = put_ends(v);
    if (!err)
        err = put_adds(v, "bos", false);
    if (!err)
        err = put_adds(v, "eos", true);
    return err ? err : put_template(v);
}
