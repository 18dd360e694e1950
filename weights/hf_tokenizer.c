#include "weights/hf_tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "weights/sentencepiece.h"
#include "weights/tokenizer_internal.h"

enum { MAX_MODEL = 64 << 20, ADDED_SCORE = -1000, PAD_SCORE = -10000 };      /* scores as the converter gives them */

int hf_vocabulary_set(struct hf_vocabulary *v, const struct hf_json *f, uint64_t id, struct gguf_string text, int32_t type, float score,
                      bool replace)
{
    char a[GGUF_QUOTED], b[GGUF_QUOTED];

    if (id >= v->n)
        return hf_fail(f, "token %s has id %" PRIu64 ", \"vocab_size\" of config.json is %zu", gguf_quote(text, a), id, v->n);
    if (text.len > TOKENIZER_MAX_TOKEN)
        return hf_fail(f, "token %" PRIu64 " has %zu bytes, at most %d", id, text.len, TOKENIZER_MAX_TOKEN);
    const struct gguf_string old = v->texts[id];
    if (old.data && !replace && (old.len != text.len || memcmp(old.data, text.data, text.len)))
        return hf_fail(f, "tokens %s and %s both have id %" PRIu64, gguf_quote(old, a), gguf_quote(text, b), id);
    v->texts[id] = text;
    v->types[id] = type;
    v->scores[id] = score;
    return 0;
}

int64_t hf_vocabulary_find(const struct hf_vocabulary *v, struct gguf_string text)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->texts[i].data && v->texts[i].len == text.len && !memcmp(v->texts[i].data, text.data, text.len))
            return (int64_t)i;
    return -1;
}

static bool begins_and_ends(struct gguf_string s, const char *begin, const char *end)
{
    const size_t n = strlen(begin), m = strlen(end);

    return s.len >= n + m && !memcmp(s.data, begin, n) && !memcmp(s.data + s.len - m, end, m);
}

static bool is_text(struct gguf_string s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.data, text, s.len);
}

/* Some models do not call special what is; the converter's list (does_token_look_special). */
static bool looks_special(struct gguf_string s)
{
    return is_text(s, "<pad>") || is_text(s, "<mask>") || is_text(s, "<2mass>") || is_text(s, "[@BOS@]") ||
           begins_and_ends(s, "<|", "|>") || begins_and_ends(s, "<\uff5c", "\uff5c>") || begins_and_ends(s, "<unused", ">");
}

/* A user-defined token with U+2581 written as the space that it stands for. */
static struct gguf_string with_spaces(struct hf_vocabulary *v, struct gguf_string s)
{
    static const char mark[] = "\u2581";
    char *to = memmem(s.data, s.len, mark, strlen(mark)) ? gguf_build_memory(v->b, s.len + 1) : NULL;
    size_t n = 0;

    if (!to)
        return s;
    for (size_t i = 0; i < s.len;) {
        const bool is_mark = s.len - i >= strlen(mark) && !memcmp(s.data + i, mark, strlen(mark));
        to[n++] = is_mark ? ' ' : s.data[i];
        i += is_mark ? strlen(mark) : 1;
    }
    return (struct gguf_string){ to, n };
}

/* One entry of added_tokens, or of added_tokens_decoder. */
static int add_token(struct hf_vocabulary *v, const struct hf_json *f, uint64_t id, const json_t *entry, bool replace, size_t *n_stripping)
{
    struct gguf_string text = { "", 0 };
    bool special = false;
    int err = hf_get_string(f, entry, "content", &text);

    if (!err || err == -ENOENT)
        err = hf_get_bool(f, entry, "special", &special);
    if (err == -EINVAL)
        return err;
    if (!text.len)
        return hf_fail(f, "added token %" PRIu64 " has no \"content\"", id);
    *n_stripping += json_is_true(json_object_get(entry, "lstrip")) || json_is_true(json_object_get(entry, "rstrip")) ||
                    json_is_true(json_object_get(entry, "single_word"));
    special |= looks_special(text);
    return hf_vocabulary_set(v, f, id, special ? text : with_spaces(v, text), special ? TOKEN_CONTROL : TOKEN_USER_DEFINED, ADDED_SCORE,
                             replace);
}

static int add_listed(struct hf_vocabulary *v, bool replace)
{
    const json_t *list = hf_get(v->json.root, "added_tokens"), *entry;
    size_t i, n_stripping = 0;
    uint64_t id;
    int err = 0;

    if (list && !json_is_array(list))
        return hf_fail(&v->json, "\"added_tokens\" is no array");
    json_array_foreach(list, i, entry) {
        if (!hf_integer(json_object_get(entry, "id"), INT32_MAX, &id))
            return hf_fail(&v->json, "\"added_tokens\" entry %zu has no \"id\" of 0 or more", i);
        err = add_token(v, &v->json, id, entry, replace, &n_stripping);
        if (err)
            return err;
    }
    if (n_stripping)
        log_warn("%s: %zu added tokens have lstrip, rstrip or single_word, which this version does not apply", v->json.path, n_stripping);
    return 0;
}

/* Tokens beside a tokenizer.model: of added_tokens.json {text: id} and tokenizer_config.json {"id": {content, special}}. */
static int add_beside(struct hf_vocabulary *v)
{
    const char *key;
    json_t *value;
    size_t n_stripping = 0;
    uint64_t id;
    char *end;
    int err = 0;

    json_object_foreach(v->added.root, key, value) {
        if (!hf_integer(value, INT32_MAX, &id))
            return hf_fail(&v->added, "a token has no id of 0 or more");
        err = hf_vocabulary_set(v, &v->added, id, (struct gguf_string){ key, strlen(key) }, TOKEN_USER_DEFINED, ADDED_SCORE, true);
        if (err)
            return err;
    }
    json_object_foreach((json_t *)hf_get(v->config.root, "added_tokens_decoder"), key, value) {
        id = strtoul(key, &end, 10);
        if (*end || *key < '0' || *key > '9')
            return hf_fail(&v->config, "a key of \"added_tokens_decoder\" is no id");
        err = add_token(v, &v->config, id, value, true, &n_stripping);
        if (err)
            return err;
    }
    return add_listed(v, true);
}

static bool is_byte_text(struct gguf_string s)
{
    return s.len == 6 && !memcmp(s.data, "<0x", 3) && s.data[5] == '>';
}

/* The vocabulary of tokenizer.json; `characters`: not byte-level, so that <0x0A> is a byte and unk_token unknown. */
static int set_vocab(struct hf_vocabulary *v, const json_t *model, bool characters)
{
    const json_t *vocab = hf_get(model, "vocab");
    struct gguf_string unknown = { "", 0 };
    const char *text;
    json_t *value;
    uint64_t id;
    int err = hf_get_string(&v->json, model, "unk_token", &unknown);

    if (err == -EINVAL)
        return err;
    if (!json_is_object(vocab))
        return hf_fail(&v->json, "\"vocab\" of its model is missing, or no object {text: id}");
    err = 0;
    json_object_foreach((json_t *)vocab, text, value) {
        const struct gguf_string s = { text, strlen(text) };
        char quoted[GGUF_QUOTED];
        if (!hf_integer(value, INT32_MAX, &id))
            return hf_fail(&v->json, "token %s has no id of 0 or more", gguf_quote(s, quoted));
        const int32_t type = !characters ? TOKEN_NORMAL : is_byte_text(s) ? TOKEN_BYTE
                           : s.len == unknown.len && !memcmp(s.data, unknown.data, s.len) ? TOKEN_UNKNOWN : TOKEN_NORMAL;
        err = hf_vocabulary_set(v, &v->json, id, s, type, 0, false);
        if (err)
            return err;
    }
    return err;
}

static const char *model_type(const json_t *model)
{
    const char *type = json_string_value(hf_get(model, "type"));

    return type ? type : hf_get(model, "merges") ? "BPE" : "";
}

static int check_model(struct hf_vocabulary *v, const json_t *model)
{
    char quoted[GGUF_QUOTED];
    const char *type = model_type(model);
    double dropout = 0;

    if (strcmp(type, "BPE"))
        return hf_fail(&v->json, "a model of type %s is not supported (BPE is)",
                       gguf_quote((struct gguf_string){ type, strlen(type) }, quoted));
    if (hf_get_f64(&v->json, model, "dropout", 0, 0, &dropout) == -EINVAL)
        return -EINVAL;
    if (json_string_length(hf_get(model, "continuing_subword_prefix")) || json_string_length(hf_get(model, "end_of_word_suffix")))
        return hf_fail(&v->json, "continuing_subword_prefix and end_of_word_suffix are not supported");
    return 0;
}

/* A part of a merge given as a pair, where a space would end it: it becomes the letter that byte-level BPE writes for it. */
static size_t append_part(char *to, struct gguf_string part)
{
    size_t n = 0;

    for (size_t i = 0; i < part.len; i++) {
        if (part.data[i] == ' ') {
            memcpy(to + n, "\u0120", 2);
            n += 2;
        } else {
            to[n++] = part.data[i];
        }
    }
    return n;
}

/* One merge, a text "a b" or a pair, as "a b" in memory of the index. */
static int take_merge(struct hf_vocabulary *v, const json_t *merge, size_t i, struct gguf_string *out)
{
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);

    if (json_is_string(merge)) {
        *out = hf_text(merge);
        return 0;
    }
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right))
        return hf_fail(&v->json, "merge %zu is neither a text nor a pair of texts", i);
    char *to = gguf_build_memory(v->b, 2 * json_string_length(left) + 2 * json_string_length(right) + 2);
    if (!to)
        return -ENOMEM;
    size_t n = append_part(to, hf_text(left));
    to[n++] = ' ';
    n += append_part(to + n, hf_text(right));
    *out = (struct gguf_string){ to, n };
    return 0;
}

static int take_merges(struct hf_vocabulary *v, const json_t *model, struct gguf_string **merges, size_t *n)
{
    const json_t *list = hf_get(model, "merges"), *merge;
    int err = 0;
    size_t i;

    if (!json_is_array(list))
        return hf_fail(&v->json, "\"merges\" of its model is missing, or no array");
    *n = json_array_size(list);
    *merges = calloc(*n ? *n : 1, sizeof(**merges));
    if (!*merges)
        return -ENOMEM;
    json_array_foreach(list, i, merge) {
        err = take_merge(v, merge, i, &(*merges)[i]);
        if (err)
            break;
    }
    return err;
}

/* SentencePiece's scores for those who have no use for merges: the earlier a token can be made, the higher. */
static int score_by_merges(struct hf_vocabulary *v, const json_t *model, const struct gguf_string *merges, size_t n)
{
    const json_t *vocab = hf_get(model, "vocab");
    char *whole = malloc(2 * TOKENIZER_MAX_TOKEN + 1);
    uint64_t id;

    if (!whole)
        return -ENOMEM;

    for (size_t i = 0; i < v->n; i++)
        if (v->types[i] == TOKEN_NORMAL)
            v->scores[i] = -(float)n;
    for (size_t i = n; i-- > 0;) {
        const char *space = merges[i].len > 1 ? memchr(merges[i].data + 1, ' ', merges[i].len - 1) : NULL;
        if (!space || merges[i].len > 2 * TOKENIZER_MAX_TOKEN)
            continue;
        const size_t n_left = (size_t)(space - merges[i].data);
        memcpy(whole, merges[i].data, n_left);
        memcpy(whole + n_left, space + 1, merges[i].len - n_left - 1);
        whole[merges[i].len - 1] = '\0';
        if (hf_integer(json_object_get(vocab, whole), v->n - 1, &id) && v->types[id] == TOKEN_NORMAL)
            v->scores[id] = -(float)i;
    }
    free(whole);
    return 0;
}

static void put_tokens(struct hf_vocabulary *v, const char *model, const char *pre, bool scores)
{
    for (size_t i = 0; i < v->n; i++) {
        char *text = v->texts[i].data ? NULL : gguf_build_memory(v->b, 20);
        if (!text)
            continue;
        v->texts[i] = (struct gguf_string){ text, (size_t)snprintf(text, 20, "[PAD%zu]", i) };
        v->types[i] = TOKEN_UNUSED;
        v->scores[i] = PAD_SCORE;
    }
    if (v->b->err)
        return;
    gguf_put_string(v->b, "tokenizer.ggml.model", (struct gguf_string){ model, strlen(model) });
    gguf_put_string(v->b, "tokenizer.ggml.pre", (struct gguf_string){ pre, strlen(pre) });
    gguf_put_strings(v->b, "tokenizer.ggml.tokens", v->texts, v->n);
    if (scores)
        gguf_put_array(v->b, "tokenizer.ggml.scores", GGUF_F32, v->scores, v->n);
    gguf_put_array(v->b, "tokenizer.ggml.token_type", GGUF_I32, v->types, v->n);
}

/* tokenizer.json: of bytes, or of characters in the manner of SentencePiece. */
static int put_json(struct hf_vocabulary *v, bool byte_level)
{
    const json_t *model = hf_get(v->json.root, "model");
    struct gguf_string *merges = NULL;
    const char *pre = "default";
    size_t n_merges = 0;
    int spaces = 0, err = check_model(v, model);

    if (!err && byte_level) {
        err = hf_pretokenizer_name(&v->json, &pre);
    } else if (!err) {
        spaces = hf_pretokenizer_spaces(&v->json);
        err = spaces < 0 ? -EINVAL : 0;
        if (!err && !json_is_true(hf_get(model, "byte_fallback")))
            err = hf_fail(&v->json, "BPE over characters without byte_fallback is not supported");
    }
    if (!err)
        err = set_vocab(v, model, !byte_level);
    if (!err)
        err = add_listed(v, false);
    if (!err)
        err = take_merges(v, model, &merges, &n_merges);
    if (!err && !byte_level)
        err = score_by_merges(v, model, merges, n_merges);
    if (!err) {
        put_tokens(v, byte_level ? "gpt2" : "llama", pre, !byte_level);
        gguf_put_strings(v->b, "tokenizer.ggml.merges", merges, n_merges);
        if (!byte_level) {
            gguf_put_bool(v->b, "tokenizer.ggml.by_merges", true);
            gguf_put_bool(v->b, "tokenizer.ggml.add_space_prefix", spaces);
        }
    }
    free(merges);
    return err;
}

/* tokenizer.model. */
static int put_sentencepiece(struct hf_vocabulary *v, const struct buf *bytes)
{
    struct hf_json f = { .path = NULL };        /* for messages */
    struct sentencepiece s;
    const char *why = NULL;
    bool spaces;
    size_t at = 0;
    int err = asprintf(&f.path, "%s/tokenizer.model", v->folder) < 0 ? -ENOMEM : 0;

    if (err)
        return err;
    err = sentencepiece_read(&s, bytes->data ? bytes->data : "", bytes->len, &why, &at);
    if (err == -EINVAL)
        hf_fail(&f, "at byte %zu: %s: no SentencePiece model", at, why ? why : "wrong");
    if (!err && s.model_type != 2)
        err = hf_fail(&f, "SentencePiece of model type %s is not supported (BPE is)", s.model_type == 1 ? "unigram" : "word or char");
    if (!err && (s.has_charsmap || s.remove_extra_whitespaces))
        log_warn("%s: it normalises texts (%s), which this version does not do", f.path,
                 s.has_charsmap ? "by a table of characters" : "runs of spaces to one");
    for (size_t i = 0; !err && i < s.n_pieces && i < v->n; i++)
        err = hf_vocabulary_set(v, &f, i, s.pieces[i].text, (int32_t)s.pieces[i].type, s.pieces[i].score, true);
    if (!err)
        err = add_beside(v);
    if (!err) {
        spaces = s.add_dummy_prefix;
        put_tokens(v, "llama", "default", true);
        err = hf_get_bool(&v->config, v->config.root, "add_prefix_space", &spaces);
        err = err == -ENOENT ? 0 : err;
        gguf_put_bool(v->b, "tokenizer.ggml.add_space_prefix", spaces);
    }
    sentencepiece_free(&s);
    hf_json_free(&f);
    return err;
}

static int read_optional(struct hf_json *f, const char *folder, const char *name)
{
    int err = hf_json_read(f, folder, name);

    return err == -ENOENT ? 0 : err;
}

static int put_vocabulary(struct hf_vocabulary *v)
{
    const bool byte_level = hf_pretokenizer_is_byte_level(v->json.root);
    struct buf model = { 0 };
    int err = byte_level ? 0 : hf_read_file(v->folder, "tokenizer.model", MAX_MODEL, &model);

    if (byte_level) {
        err = put_json(v, true);
    } else if (!err) {
        err = put_sentencepiece(v, &model);
    } else if (err == -ENOENT && v->json.root) {
        err = put_json(v, false);
    } else if (err == -ENOENT) {
        log_error("%s: neither tokenizer.json nor tokenizer.model is there", v->folder);
        err = -EINVAL;
    }
    if (!err)
        err = hf_special_put(v);
    buf_free(&model);
    return err;
}

int hf_tokenizer_put(struct hf_config *c, const char *folder, struct gguf_builder *b)
{
    struct hf_vocabulary v = { .c = c, .folder = folder, .b = b, .n = c->vocab_size };
    int err = read_optional(&v.json, folder, "tokenizer.json");

    if (!err)
        err = read_optional(&v.config, folder, "tokenizer_config.json");
    if (!err)
        err = read_optional(&v.generation, folder, "generation_config.json");
    if (!err)
        err = read_optional(&v.added, folder, "added_tokens.json");
    v.texts = calloc(v.n, sizeof(*v.texts));
    v.types = calloc(v.n, sizeof(*v.types));
    v.scores = calloc(v.n, sizeof(*v.scores));
    if (!err && (!v.texts || !v.types || !v.scores))
        err = -ENOMEM;
    if (!err)
        err = put_vocabulary(&v);
    free(v.texts);
    free(v.types);
    free(v.scores);
    hf_json_free(&v.json);
    hf_json_free(&v.config);
    hf_json_free(&v.generation);
    hf_json_free(&v.added);
    return err ? err : b->err;
}
