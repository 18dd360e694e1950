/*
 * tokenizer_special.c - bos and its like, the stop set, and special tokens found in a text.
 *
 * Special tokens are cut out of a text before it is merged, leftmost first, then longest. The texts lie sorted, and a search
 * narrows the range of those that agree with the text byte by byte: a few steps where a text contains none, at most
 * TOKENIZER_MAX_SPECIAL anywhere.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/utf8.h"
#include "weights/tokenizer_internal.h"

/* An id of the file, or -1: a model without the token can still be used. */
static int load_id(const struct gguf *g, const char *key, size_t vocab_size, int32_t *id)
{
    uint64_t value;
    int err = gguf_get_u64(g, key, 0, UINT64_MAX, &value);

    if (err)
        return err;
    if (value >= vocab_size) {
        tokenizer_warn(g, key, "token %" PRIu64 ", the vocabulary has %zu; ignored", value, vocab_size);
        *id = -1;
        return 0;
    }
    *id = (int32_t)value;
    return 0;
}

int special_load_ids(struct tokenizer *t, const struct gguf *g)
{
    struct { const char *key; int32_t *id, default_id; } const ids[] = {
        { "tokenizer.ggml.bos_token_id", &t->bos, t->byte_level ? 11 : 1 },
        { "tokenizer.ggml.eos_token_id", &t->eos, t->byte_level ? 11 : 2 },
        { "tokenizer.ggml.unknown_token_id", &t->unknown, t->byte_level ? -1 : 0 },
    };
    int err = 0;

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]) && !err; i++) {
        int32_t id = ids[i].default_id;
        err = load_id(g, ids[i].key, t->vocab.n, ids[i].id);
        if (err != -ENOENT)
            continue;
        err = 0;
        /* The default is a custom of old files; where the token is an ordinary word, it would end texts at random. */
        *ids[i].id = id >= 0 && (size_t)id < t->vocab.n && t->vocab.types[id] != TOKEN_NORMAL ? id : -1;
    }
    if (t->unknown >= 0 && t->vocab.types[t->unknown] == TOKEN_CONTROL && t->byte_level)
        t->unknown = -1;        /* SmolLM2 names <|endoftext|>: what a user wrote must not become that */
    t->add_bos = t->byte_level ? t->rule->add_bos : true;
    if (!err)
        err = gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos);
    if (!err || err == -ENOENT)
        err = gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &t->add_eos);
    return err == -ENOENT ? 0 : err;
}

/* Texts that end a turn or a document, from the published models: a GGUF file names one eos only. */
static const char *const stop_texts[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>",
    "[EOT]", "[EOS]", "<|end_of_text|>", "<eos>", "<turn|>", "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
    "[e~["
};

static bool has_text(struct gguf_string s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.data, text, s.len);
}

static bool is_stop_text(struct gguf_string s)
{
    for (size_t i = 0; i < sizeof(stop_texts) / sizeof(stop_texts[0]); i++) {
        if (has_text(s, stop_texts[i]))
            return true;
    }
    return false;
}

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* All ids that end a text, which a Hugging Face folder has and a GGUF file has not. */
static int load_ends(struct token_ids *ids, const struct gguf *g, size_t vocab_size)
{
    const char *key = "tokenizer.ggml.eos_token_ids";
    const struct gguf_kv *kv = gguf_find(g, key);
    int err = 0;

    if (kv && (kv->type != GGUF_ARRAY || kv->element_type != GGUF_U32))
        return tokenizer_complain(g, key, "expected an array of u32");
    for (uint64_t i = 0; kv && !err && i < kv->n; i++) {
        const int64_t id = gguf_int_at(kv, i);
        if ((uint64_t)id < vocab_size)
            err = emit_id(ids, (int32_t)id);
        else
            tokenizer_warn(g, key, "token %" PRId64 ", the vocabulary has %zu; ignored", id, vocab_size);
    }
    return err;
}

int special_load_stops(struct tokenizer *t, const struct gguf *g, const struct gguf_string *texts)
{
    static const char *const keys[] = { "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };
    struct token_ids ids = { 0 };
    bool has_return = false, has_call = false;
    int err = t->eos >= 0 ? emit_id(&ids, t->eos) : 0;

    if (!err)
        err = load_ends(&ids, g, t->vocab.n);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && !err; i++) {
        int32_t id = -1;
        err = load_id(g, keys[i], t->vocab.n, &id);
        if (err == -ENOENT)
            err = 0;
        else if (!err && id >= 0)
            err = emit_id(&ids, id);
    }
    for (size_t i = 0; i < t->vocab.n; i++) {
        has_return |= has_text(texts[i], "<|return|>");
        has_call |= has_text(texts[i], "<|call|>");
    }
    for (size_t i = 0; i < t->vocab.n && !err; i++) {
        if (!is_stop_text(texts[i]))
            continue;
        if (t->vocab.types[i] == TOKEN_NORMAL)
            t->vocab.types[i] = TOKEN_CONTROL;      /* files of 2023: else a chat template could not write it */
        if (has_return && has_call && has_text(texts[i], "<|end|>"))
            continue;       /* gpt-oss: ends a message of several */
        err = emit_id(&ids, (int32_t)i);
    }
    if (ids.n) {
        size_t n = 1;
        qsort(ids.ids, ids.n, sizeof(*ids.ids), compare_ids);
        for (size_t i = 1; i < ids.n; i++) {
            if (ids.ids[i] != ids.ids[n - 1])
                ids.ids[n++] = ids.ids[i];
        }
        ids.n = n;
    }
    t->stop_ids = ids.ids;
    t->n_stop_ids = ids.n;
    return err;
}

/* By text, a shorter text before those that begin with it, the later id before an earlier one. */
static int compare_specials(const void *a, const void *b)
{
    const struct special_token *x = a, *y = b;
    size_t n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int order = memcmp(x->text.data, y->text.data, n);

    if (order)
        return order;
    if (x->text.len != y->text.len)
        return x->text.len < y->text.len ? -1 : 1;
    return (x->id < y->id) - (x->id > y->id);
}

int special_table_build(struct special_table *s, const struct vocabulary *v, const char *path)
{
    size_t n = 0, n_odd = 0, kept = 0;

    for (size_t i = 0; i < v->n; i++)
        n += v->types[i] == TOKEN_CONTROL || v->types[i] == TOKEN_UNKNOWN || v->types[i] == TOKEN_USER_DEFINED;
    s->tokens = calloc(n ? n : 1, sizeof(*s->tokens));
    if (!s->tokens)
        return -ENOMEM;
    for (size_t i = 0; i < v->n; i++) {
        uint8_t type = v->types[i];
        if ((type != TOKEN_CONTROL && type != TOKEN_UNKNOWN && type != TOKEN_USER_DEFINED) || !v->pieces[i].len)
            continue;
        /* A part of a character would cut one in two, and what is left of it is no text that can be split or merged. */
        if (v->pieces[i].len > TOKENIZER_MAX_SPECIAL || utf8_check(v->pieces[i].data, v->pieces[i].len) != v->pieces[i].len) {
            n_odd++;
            continue;
        }
        s->tokens[s->n++] = (struct special_token){ v->pieces[i], (int32_t)i, type != TOKEN_USER_DEFINED };
    }
    if (n_odd)
        log_warn("%s: %zu special tokens are longer than %d bytes or no UTF-8, and will not be found in texts", path, n_odd,
                 TOKENIZER_MAX_SPECIAL);
    qsort(s->tokens, s->n, sizeof(*s->tokens), compare_specials);
    for (size_t i = 0; i < s->n; i++) {
        const struct gguf_string *text = &s->tokens[i].text;
        if (kept && s->tokens[kept - 1].text.len == text->len && !memcmp(s->tokens[kept - 1].text.data, text->data, text->len))
            continue;
        s->tokens[kept++] = s->tokens[i];
    }
    s->n = kept;
    for (size_t i = 0; i < s->n; i++)
        s->first[(unsigned char)s->tokens[i].text.data[0] + 1]++;
    for (size_t b = 0; b < 256; b++)
        s->first[b + 1] += s->first[b];
    return 0;
}

void special_table_free(struct special_table *s)
{
    free(s->tokens);
    *s = (struct special_table){ 0 };
}

/* The first of tokens[low..high), which are longer than `depth`, whose byte there is not below c. */
static size_t lower_bound(const struct special_table *s, size_t low, size_t high, size_t depth, unsigned c)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((unsigned char)s->tokens[middle].text.data[depth] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest allowed token that text[n] begins with, or NULL. */
static const struct special_token *match(const struct special_table *s, const char *text, size_t n, const uint8_t *literal,
                                         bool control)
{
    const struct special_token *best = NULL;
    size_t low = s->first[(unsigned char)text[0]], high = s->first[(unsigned char)text[0] + 1];

    for (size_t depth = 1; low < high; depth++) {
        control = control && !(literal && literal[depth - 1]);
        if (s->tokens[low].text.len == depth) {
            if (control || !s->tokens[low].control)
                best = &s->tokens[low];
            low++;
        }
        if (depth == n)
            break;
        unsigned c = (unsigned char)text[depth];
        low = lower_bound(s, low, high, depth, c);
        high = lower_bound(s, low, high, depth, c + 1);
    }
    return best;
}

size_t special_find(const struct special_table *s, const char *text, size_t n, const uint8_t *literal, bool control, size_t from,
                    const struct special_token **found)
{
    *found = NULL;
    for (size_t at = from; at < n; at++) {
        unsigned char b = (unsigned char)text[at];
        if (s->first[b] == s->first[b + 1])
            continue;
        *found = match(s, text + at, n - at, literal ? literal + at : NULL, control);
        if (*found)
            return at;
    }
    return n;
}
