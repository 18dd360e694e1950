/*
 * tokenizer_spm.c - SentencePiece BPE (Kudo and Richardson 2018, arXiv:1808.06226): which pairs join, by scores.
 *
 * A pair joins when its text is a token; the highest score first. Or, in the vocabulary of a folder that had no scores (hf_tokenizer.h),
 * when the list of merges has it; the first of the list first. GGUF files of 2023 have such a list beside their scores, which count.
 *
 * What is no token in the end becomes the tokens of its bytes. A text has no pieces by nature, and a heap over a whole prompt would
 * leave the caches; so it is cut before a space wherever no token has a space after that byte: no join can cross such a place, and
 * the result is the same.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "weights/tokenizer_internal.h"

static const char scores_key[] = "tokenizer.ggml.scores", by_merges_key[] = "tokenizer.ggml.by_merges";

static int compare_scores(const void *a, const void *b, void *arg)
{
    const double *scores = arg;
    double x = scores[*(const uint32_t *)a], y = scores[*(const uint32_t *)b];
    return (x < y) - (x > y);
}

static double score_at(const struct gguf_kv *kv, uint64_t i)
{
    return kv->element_type == GGUF_F32 ? gguf_float_at(kv, i) : (double)gguf_int_at(kv, i);
}

/* Scores become ranks, so that the heap compares integers for both kinds. */
static int load_ranks(struct tokenizer *t, const struct gguf *g)
{
    const struct gguf_kv *kv = gguf_find(g, scores_key);
    size_t n = t->vocab.n;
    int err = 0;

    if (!kv)
        return tokenizer_complain(g, scores_key, "missing, a vocabulary of kind llama needs it");
    if (kv->type != GGUF_ARRAY || (kv->element_type != GGUF_F32 && kv->element_type != GGUF_I32))
        return tokenizer_complain(g, scores_key, "expected an array of f32");
    if (kv->n != n)
        return tokenizer_complain(g, scores_key, "%" PRIu64 " scores for %zu tokens", kv->n, n);

    double *scores = malloc(n * sizeof(*scores));
    uint32_t *order = malloc(n * sizeof(*order));
    t->spm.ranks = malloc(n * sizeof(*t->spm.ranks));
    if (!scores || !order || !t->spm.ranks) {
        err = -ENOMEM;
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        scores[i] = score_at(kv, i);
        order[i] = (uint32_t)i;
        if (isnan(scores[i])) {
            err = tokenizer_complain(g, scores_key, "the score of token %zu is NaN", i);
            goto done;
        }
    }
    qsort_r(order, n, sizeof(*order), compare_scores, scores);
    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        rank += i && scores[order[i]] < scores[order[i - 1]];
        t->spm.ranks[order[i]] = rank;
    }
done:
    free(scores);
    free(order);
    return err;
}

int spm_load(struct tokenizer *t, const struct gguf *g)
{
    const struct vocabulary *v = &t->vocab;
    int err = load_ranks(t, g), n_bytes = 0;

    if (!err) {
        err = gguf_get_bool(g, by_merges_key, &t->spm.by_merges);
        err = err == -ENOENT ? 0 : err;
    }
    if (!err && t->spm.by_merges) {
        err = bpe_load_merges(t, g);
        if (err == -ENOENT)
            return tokenizer_complain(g, by_merges_key, "set, but there is no list of merges");
    }
    if (err)
        return err;
    t->spm.add_space_prefix = true;
    err = gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &t->spm.add_space_prefix);
    if (err && err != -ENOENT)
        return err;
    memset(t->spm.byte_ids, -1, sizeof(t->spm.byte_ids));
    for (size_t i = 0; i < v->n; i++) {
        if (v->types[i] == TOKEN_BYTE) {
            int32_t *id = &t->spm.byte_ids[(unsigned char)v->pieces[i].data[0]];
            n_bytes += *id < 0;
            *id = (int32_t)i;
        } else if (v->types[i] != TOKEN_CONTROL && v->types[i] != TOKEN_UNKNOWN) {
            for (size_t j = 1; j < v->pieces[i].len; j++)
                t->spm.inner_space[(unsigned char)v->pieces[i].data[j - 1]] |= v->pieces[i].data[j] == ' ';
        }
    }
    if (n_bytes < 256)
        tokenizer_warn(g, "tokenizer.ggml.tokens", "%d of 256 byte tokens; %s", n_bytes,
                       t->unknown >= 0 ? "other bytes become the unknown token" : "other bytes will be missing from texts");
    return 0;
}

void spm_free(struct spm *s)
{
    free(s->ranks);
    *s = (struct spm){ 0 };
}

static bool spm_lookup(const struct tokenizer *t, const char *text, const struct symbol *left, const struct symbol *right,
                       uint32_t *rank, int32_t *id)
{
    *id = vocabulary_find(&t->vocab, text, (size_t)left->len + right->len);
    if (*id < 0)
        return false;
    *rank = t->spm.ranks[*id];
    return true;
}

static int emit_symbol(struct encoder *e, const char *text, const struct symbol *s)
{
    const struct tokenizer *t = e->t;
    int32_t id = s->id >= 0 ? s->id : vocabulary_find(&t->vocab, text, s->len);
    int err = 0;

    if (id >= 0)
        return emit_id(e->out, id);
    for (size_t i = 0; i < s->len && !err; i++) {
        id = t->spm.byte_ids[(unsigned char)text[i]];
        if (id < 0)
            id = t->unknown;
        if (id >= 0)
            err = emit_id(e->out, id);
    }
    return err;
}

static int encode_part(struct encoder *e, const char *text, size_t n)
{
    struct symbol *symbols = merge_reserve(e, n);
    uint32_t prev = NO_SYMBOL;
    int err;

    if (!symbols)
        return -ENOMEM;
    for (size_t at = 0; at < n; at += symbols[at].len) {
        uint32_t code_point;
        int length = utf8_decode(text + at, n - at, &code_point);
        symbols[at] = (struct symbol){ .len = (uint32_t)length, .prev = prev, .id = -1 };
        if (e->t->spm.by_merges)
            symbols[at].id = vocabulary_find(&e->t->vocab, text + at, (size_t)length);
        prev = (uint32_t)at;
    }
    err = merge_symbols(e, text, n, e->t->spm.by_merges ? bpe_lookup : spm_lookup);
    for (size_t at = 0; at < n && !err; at += symbols[at].len)
        err = emit_symbol(e, text + at, &symbols[at]);
    return err;
}

int spm_encode(struct encoder *e, const char *text, size_t n)
{
    const struct spm *s = &e->t->spm;
    int err = 0;

    buf_clear(&e->text);
    if (s->add_space_prefix)
        buf_putc(&e->text, ' ');
    for (const char *end = text + n; text < end;) {
        const char *mark = memmem(text, (size_t)(end - text), "\xe2\x96\x81", 3);    /* means a space, as in the pieces */
        buf_append(&e->text, text, (size_t)((mark ? mark : end) - text));
        if (mark)
            buf_putc(&e->text, ' ');
        text = mark ? mark + 3 : end;
    }
    if (e->text.failed)
        return -ENOMEM;

    const char *part = e->text.data, *end = part + e->text.len;
    while (part < end && !err) {
        const char *cut = part + 1;
        while (cut < end && !(*cut == ' ' && !s->inner_space[(unsigned char)cut[-1]]))
            cut++;
        err = encode_part(e, part, (size_t)(cut - part));
        part = cut;
    }
    return err;
}
