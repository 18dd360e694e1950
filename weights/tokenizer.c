/*
 * tokenizer.c - opens the vocabulary of a model file and encodes texts with it.
 *
 * Encoding: special tokens are cut out, and what lies between them is split and merged by the rules of the vocabulary's kind.
 */
#include "weights/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/utf8.h"
#include "weights/tokenizer_internal.h"

enum { MAX_TEXT = 1 << 30 };        /* places in a text are 32 bits wide; requests are limited far below */

static int load_kind(struct tokenizer *t, const struct gguf *g)
{
    const char *key = "tokenizer.ggml.model";
    struct gguf_string kind;
    char quoted[GGUF_QUOTED];
    int err = gguf_get_string(g, key, &kind);

    if (err == -ENOENT)
        return tokenizer_complain(g, key, "missing, the file has no vocabulary");
    if (err)
        return err;
    t->byte_level = kind.len == 4 && !memcmp(kind.data, "gpt2", 4);
    if (!t->byte_level && !(kind.len == 5 && !memcmp(kind.data, "llama", 5)))
        return tokenizer_complain(g, key, "tokenizer %s is not supported (gpt2 and llama are)", gguf_quote(kind, quoted));
    return 0;
}

static int load_rule(struct tokenizer *t, const struct gguf *g)
{
    const char *key = "tokenizer.ggml.pre";
    struct gguf_string name = { "default", 7 };
    char quoted[GGUF_QUOTED];
    int err = gguf_get_string(g, key, &name);

    if (err == -ENOENT)
        tokenizer_warn(g, key, "missing, \"default\" is used; the model may give worse text");
    else if (err)
        return err;
    t->rule = pretokenizer_rule_find(name.data, name.len);
    if (!t->rule)
        return tokenizer_complain(g, key, "pre-tokenizer %s is not supported", gguf_quote(name, quoted));
    return pretokenizer_open(&t->pretokenizer, t->rule);
}

static int load(struct tokenizer *t, const struct gguf *g)
{
    const struct gguf_string *texts;
    int err = load_kind(t, g);

    if (!err && t->byte_level)
        err = load_rule(t, g);
    if (!err)
        err = vocabulary_load_types(&t->vocab, g, &texts);
    if (!err)
        err = special_load_ids(t, g);
    if (!err)
        err = special_load_stops(t, g, texts);      /* may change types, which decide what follows */
    if (!err)
        err = vocabulary_load_pieces(&t->vocab, g, texts, t->byte_level);
    if (!err)
        err = special_table_build(&t->specials, &t->vocab, gguf_path(g));
    if (!err)
        err = t->byte_level ? bpe_load(t, g) : spm_load(t, g);
    return err;
}

int tokenizer_open_gguf(struct tokenizer **out, const struct gguf *g)
{
    struct tokenizer *t = calloc(1, sizeof(*t));
    int err = t ? load(t, g) : -ENOMEM;

    if (err) {
        tokenizer_close(t);
        t = NULL;
    }
    *out = t;
    return err;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    bpe_free(&t->bpe);
    spm_free(&t->spm);
    pretokenizer_close(t->pretokenizer);
    special_table_free(&t->specials);
    vocabulary_free(&t->vocab);
    free(t->stop_ids);
    free(t);
}

static int encode_plain(struct encoder *e, const char *text, size_t n)
{
    if (!n)
        return 0;
    return e->t->byte_level ? bpe_encode(e, text, n) : spm_encode(e, text, n);
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, const uint8_t *literal, unsigned flags,
                     struct token_ids *out)
{
    struct encoder e = { .t = t, .out = out };
    size_t n_before = out->n;
    int err = 0;

    if (n > MAX_TEXT || utf8_check(text, n) != n)
        return -EINVAL;
    if ((flags & TOKENIZE_ADD_BOS) && t->add_bos && t->bos >= 0)
        err = emit_id(out, t->bos);
    for (size_t at = 0; at < n && !err;) {
        const struct special_token *special;
        size_t place = special_find(&t->specials, text, n, literal, flags & TOKENIZE_SPECIAL, at, &special);
        err = encode_plain(&e, text + at, place - at);
        if (!err && special)
            err = emit_id(out, special->id);
        at = place + (special ? special->text.len : 0);
    }
    if (!err && (flags & TOKENIZE_ADD_BOS) && t->add_eos && t->eos >= 0)
        err = emit_id(out, t->eos);
    if (err)
        out->n = n_before;
    free(e.symbols);
    free(e.heap);
    buf_free(&e.text);
    pretokenizer_match_free(e.match);
    return err;
}

const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *n)
{
    if (id < 0 || (size_t)id >= t->vocab.n) {
        *n = 0;
        return NULL;
    }
    *n = t->vocab.pieces[id].len;
    return t->vocab.pieces[id].data;
}

size_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->vocab.n;
}

bool tokenizer_is_control(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.n
        && (t->vocab.types[id] == TOKEN_CONTROL || t->vocab.types[id] == TOKEN_UNKNOWN);
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
    return t->add_bos && t->bos >= 0;
}

const char *tokenizer_kind(const struct tokenizer *t)
{
    return t->byte_level ? "gpt2" : "llama";
}

const char *tokenizer_pre(const struct tokenizer *t)
{
    return t->byte_level ? t->rule->name : "";
}

const int32_t *tokenizer_stop_ids(const struct tokenizer *t, size_t *n)
{
    *n = t->n_stop_ids;
    return t->stop_ids;
}
