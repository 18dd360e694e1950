/*
 * tests/weights/check_tokenizer_texts.c - what users may send: long and odd texts, ids in any order, and the texts of control tokens.
 *
 * Merging is compared with a naive one that looks through all pairs for each join; the search for special tokens with one that
 * tries every token at every place; normal form C with that of utf8proc.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utf8proc.h>

#include "common/clock.h"
#include "common/utf8.h"
#include "tests/weights/gguf_writer.h"
#include "tests/weights/tokenizer_help.h"
#include "weights/tokenizer_internal.h"

static const char *const families[] = { "gpt2", "smollm", "llama3", "qwen2", "o200k", "deepseek", "spm" };
enum { N_FAMILIES = sizeof(families) / sizeof(families[0]) };

static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;     /* xorshift64, Marsaglia 2003 */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % n;
}

static struct tokenizer *open_family(const char *name)
{
    char file[128];

    snprintf(file, sizeof(file), "tests/data/tokenizers/%s/vocab.gguf", name);
    struct tokenizer *t = open_tokenizer(file);
    assert_non_null(t);
    return t;
}

/* A text of characters of all lengths, and of pieces of English, so that merges happen. */
static void random_text(struct buf *text, size_t n_parts)
{
    static const char *const parts[] = {
        "the ", "token", " hello", "don't", "  ", "\n", "123", "aaaa", "int main(void)", "\xc3\xa9", "e\xcc\x81"
    };

    buf_clear(text);
    for (size_t i = 0; i < n_parts; i++) {
        static const uint32_t below[] = { 0x80, 0x800, 0x10000, 0x110000 };
        char bytes[4];
        if (random_below(2))
            buf_puts(text, parts[random_below(sizeof(parts) / sizeof(parts[0]))]);
        else
            buf_append(text, bytes, utf8_encode(random_below(below[random_below(4)]), bytes));
    }
    buf_puts(text, "");
}

static void decode_all(const struct tokenizer *t, const struct token_ids *ids, struct buf *out)
{
    struct detokenizer d;

    buf_clear(out);
    detokenizer_init(&d, t, false, true);
    for (size_t i = 0; i < ids->n; i++)
        detokenizer_push(&d, ids->ids[i], out);
    detokenizer_finish(&d, out);
    buf_puts(out, "");
}

static void check_round_trip(void **state)
{
    struct buf text = { 0 }, back = { 0 }, wanted = { 0 };
    struct token_ids ids = { 0 };

    (void)state;
    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = open_family(families[f]);
        for (int i = 0; i < 300; i++) {
            random_text(&text, random_below(60));
            ids.n = 0;
            assert_int_equal(tokenizer_encode(t, text.data, text.len, NULL, 0, &ids), 0);
            decode_all(t, &ids, &back);
            buf_clear(&wanted);
            if (t->rule && t->rule->nfc)
                assert_int_equal(nfc_append(&wanted, text.data, text.len), 0);
            else
                buf_append(&wanted, text.data, text.len);
            buf_puts(&wanted, "");
            if (!t->byte_level && strstr(wanted.data, "\xe2\x96\x81"))
                continue;       /* this kind reads U+2581 as a space */
            assert_int_equal(back.len, wanted.len);
            assert_string_equal(back.data, wanted.data);
        }
        tokenizer_close(t);
    }
    free(ids.ids);
    buf_free(&text);
    buf_free(&back);
    buf_free(&wanted);
}

/* Against utf8proc's own, which sorts marks one exchange at a time: marks of several classes, letters they join with, Hangul. */
static void check_nfc(void **state)
{
    static const uint32_t some[] = {
        'a', 'e', 'o', 0xe9, 0x1ea5, 0x300, 0x301, 0x302, 0x316, 0x323, 0x327, 0x345, 0x5b0, 0x651, 0x93c, 0x308, 0x344, 0x1100, 0x1161,
        0x11a8, 0xac00, 0x212b, 0x2126, 0xfb1d, 0x1d15e, 0x1f82, 0x915, 0x958, 0x4e2d, 0x2f800, 0x200d
    };
    struct buf text = { 0 }, got = { 0 };

    (void)state;
    for (int i = 0; i < 20000; i++) {
        buf_clear(&text);
        buf_clear(&got);
        for (uint32_t j = random_below(12); j > 0; j--) {
            char bytes[4];
            buf_append(&text, bytes, utf8_encode(some[random_below(sizeof(some) / sizeof(some[0]))], bytes));
        }
        buf_puts(&text, "");
        utf8proc_uint8_t *want = utf8proc_NFC((const utf8proc_uint8_t *)text.data);
        assert_non_null(want);
        assert_int_equal(nfc_append(&got, text.data, text.len), 0);
        buf_puts(&got, "");
        assert_string_equal(got.data, (const char *)want);
        if (!nfc_may_change(text.data, text.len))
            assert_string_equal(text.data, (const char *)want);
        free(want);
    }
    buf_free(&text);
    buf_free(&got);
}

/* Ids as a client of a hostile model could get them: any bytes in any order. Deltas are whole characters, and joined the same as
 * decoding everything at once. */
static void check_random_ids(void **state)
{
    struct buf all = { 0 }, bytes = { 0 }, delta = { 0 }, wanted = { 0 };

    (void)state;
    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = open_family(families[f]);
        for (int i = 0; i < 200; i++) {
            struct detokenizer d;
            uint32_t range = random_below(2) ? 260 : (uint32_t)tokenizer_vocab_size(t);      /* single bytes, mostly, or all */
            buf_clear(&all);
            buf_clear(&bytes);
            buf_clear(&wanted);
            detokenizer_init(&d, t, true, false);
            for (int j = 0; j < 60; j++) {
                int32_t id = (int32_t)random_below(range);
                size_t n;
                const char *piece = tokenizer_piece(t, id, &n);
                if (!tokenizer_is_control(t, id))
                    buf_append(&bytes, piece, n);
                buf_clear(&delta);
                detokenizer_push(&d, id, &delta);
                assert_int_equal(utf8_check(delta.data, delta.len), delta.len);
                buf_append(&all, delta.data, delta.len);
            }
            detokenizer_finish(&d, &all);
            for (size_t at = 0; at < bytes.len;) {
                uint32_t c;
                int length = utf8_decode(bytes.data + at, bytes.len - at, &c);
                if (length > 0)
                    buf_append(&wanted, bytes.data + at, (size_t)length);
                else
                    buf_puts(&wanted, "\xef\xbf\xbd");
                at = length == UTF8_INCOMPLETE ? bytes.len : at + (size_t)abs(length);
            }
            assert_int_equal(all.len, wanted.len);
            assert_memory_equal(all.data, wanted.data, all.len);
        }
        struct detokenizer d;
        detokenizer_init(&d, t, false, false);
        buf_clear(&all);
        detokenizer_push(&d, -1, &all);
        detokenizer_push(&d, INT32_MAX, &all);
        detokenizer_finish(&d, &all);
        assert_int_equal(all.len, 0);
        tokenizer_close(t);
    }
    buf_free(&all);
    buf_free(&bytes);
    buf_free(&delta);
    buf_free(&wanted);
}

static void check_prefix(void **state)
{
    static const char text[] = "one two";
    struct tokenizer *t = open_family("spm");
    struct token_ids ids = { 0 };

    (void)state;
    assert_int_equal(tokenizer_encode(t, text, strlen(text), NULL, TOKENIZE_ADD_BOS, &ids), 0);
    for (int skip = 0; skip < 2; skip++) {
        for (int strip = 0; strip < 2; strip++) {
            struct detokenizer d;
            struct buf out = { 0 };
            detokenizer_init(&d, t, skip, strip);
            for (size_t i = 0; i < ids.n; i++)
                detokenizer_push(&d, ids.ids[i], &out);
            detokenizer_finish(&d, &out);
            assert_string_equal(out.data, skip ? strip ? "one two" : " one two" : "<s> one two");
            buf_free(&out);
        }
    }
    free(ids.ids);
    tokenizer_close(t);
}

/* Whether text[from..from + n) is free of the user's bytes. */
static bool is_free(const uint8_t *literal, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        if (literal[i])
            return false;
    }
    return true;
}

/* The longest special token that text[n] allows at `at`, by trying all. */
static int32_t naive_special(const struct tokenizer *t, const struct buf *text, const uint8_t *literal, size_t at, bool control)
{
    size_t best_len = 0;
    int32_t best = -1;

    for (size_t i = 0; i < tokenizer_vocab_size(t); i++) {
        size_t n;
        const char *piece = tokenizer_piece(t, (int32_t)i, &n);
        bool is_control = tokenizer_is_control(t, (int32_t)i);
        if ((!is_control && t->vocab.types[i] != TOKEN_USER_DEFINED) || n <= best_len || n > text->len - at)
            continue;
        if (!memcmp(text->data + at, piece, n) && (!is_control || (control && is_free(literal, at, n)))) {
            best = (int32_t)i;
            best_len = n;
        }
    }
    return best;
}

/* Special tokens that begin and end with one another. */
static struct tokenizer *open_nested(void)
{
    char path[] = "/tmp/fourway-check-texts-XXXXXX";
    static const char *const tokens[] = { "<unk>", "<x>", "<x><y>", "<y>", "<x><y><", "a", "b" };
    static const int32_t types[] = { 2, 4, 3, 3, 3, 1, 1 };
    static const float scores[7];
    struct gguf_writer w;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    gguf_writer_init(&w);
    gguf_writer_string(&w, "tokenizer.ggml.model", "llama");
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", tokens, 7);
    gguf_writer_array(&w, "tokenizer.ggml.token_type", GGUF_I32, types, 7);
    gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_F32, scores, 7);
    gguf_writer_bool(&w, "tokenizer.ggml.add_space_prefix", 0);
    gguf_writer_save(&w, path);
    gguf_writer_free(&w);
    struct tokenizer *t = open_tokenizer(path);
    unlink(path);
    assert_non_null(t);
    return t;
}

/* Special tokens, cut-off ones and text, with a random mask: the control tokens found are those of the naive search, and none touches
 * a user's byte. */
static void check_literal(void **state)
{
    static const char *const parts[] = {
        "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "start|>", "<", "|>", "user\n", " hello", "<x>", "<x><y>", "<y>", "a", "b"
    };
    struct tokenizer *tokenizers[2];
    struct buf text = { 0 };
    struct token_ids ids = { 0 };
    size_t n_found = 0, n_forbidden = 0;

    (void)state;
    tokenizers[0] = open_nested();
    tokenizers[1] = open_family("smollm");
    for (int i = 0; i < 4000; i++) {
        const struct tokenizer *t = tokenizers[i & 1];
        unsigned flags = random_below(4) ? TOKENIZE_SPECIAL : 0;
        uint8_t literal[512];
        buf_clear(&text);
        for (uint32_t j = random_below(12) + 1; j > 0; j--) {
            const char *part = parts[random_below(sizeof(parts) / sizeof(parts[0]))];
            memset(literal + text.len, random_below(3) == 0, strlen(part));
            if (random_below(6) == 0)
                literal[text.len + random_below((uint32_t)strlen(part))] ^= 1;
            buf_puts(&text, part);
        }
        ids.n = 0;
        assert_int_equal(tokenizer_encode(t, text.data, text.len, literal, flags, &ids), 0);

        size_t next = 0;        /* in ids: past the ids of plain text, which are neither control nor user-defined */
        for (size_t at = 0; at < text.len;) {
            int32_t want = naive_special(t, &text, literal, at, flags & TOKENIZE_SPECIAL);
            size_t n = 1;
            if (want >= 0) {
                while (next < ids.n && t->vocab.types[ids.ids[next]] != TOKEN_USER_DEFINED
                       && (!tokenizer_is_control(t, ids.ids[next]) || ids.ids[next] == t->unknown))
                    next++;
                assert_true(next < ids.n);
                assert_int_equal(ids.ids[next], want);
                next++;
                tokenizer_piece(t, want, &n);
                n_found += tokenizer_is_control(t, want);
            } else if (naive_special(t, &text, memset((uint8_t[512]){ 0 }, 0, 512), at, true) >= 0) {
                n_forbidden++;
            }
            at += n;
        }
        for (; next < ids.n; next++)
            assert_true(!tokenizer_is_control(t, ids.ids[next]) || ids.ids[next] == t->unknown);
    }
    assert_true(n_found > 1000 && n_forbidden > 1000);
    tokenizer_close(tokenizers[0]);
    tokenizer_close(tokenizers[1]);
    free(ids.ids);
    buf_free(&text);
}

/* Join the best pair of all until none is left; for texts that are one piece. */
static void naive_merge(const struct tokenizer *t, const char *text, size_t n, struct token_ids *out)
{
    struct { size_t from, len; int32_t id; } parts[256];
    size_t n_parts = 0;

    for (size_t at = 0; at < n; n_parts++) {
        uint32_t c;
        size_t len = t->byte_level ? 1 : (size_t)utf8_decode(text + at, n - at, &c);
        parts[n_parts].from = at;
        parts[n_parts].len = len;
        parts[n_parts].id = t->byte_level ? t->bpe.byte_ids[(unsigned char)text[at]] : vocabulary_find(&t->vocab, text + at, len);
        at += len;
    }
    for (;;) {
        uint32_t best_rank = NO_RANK;
        int32_t best_id = -1;
        size_t best = 0;
        for (size_t i = 0; i + 1 < n_parts; i++) {
            uint32_t rank = NO_RANK;
            int32_t id = -1;
            if (t->byte_level) {
                for (size_t s = 0; s < t->bpe.n_slots; s++) {
                    const struct merge_slot *slot = &t->bpe.slots[s];
                    if (slot->id >= 0 && slot->pair == ((uint64_t)(uint32_t)parts[i].id << 32 | (uint32_t)parts[i + 1].id)) {
                        rank = slot->rank;
                        id = slot->id;
                    }
                }
            } else {
                id = vocabulary_find(&t->vocab, text + parts[i].from, parts[i].len + parts[i + 1].len);
                rank = id >= 0 ? t->spm.ranks[id] : NO_RANK;
            }
            if (id >= 0 && rank < best_rank) {
                best_rank = rank;
                best_id = id;
                best = i;
            }
        }
        if (best_id < 0)
            break;
        parts[best].len += parts[best + 1].len;
        parts[best].id = best_id;
        memmove(&parts[best + 1], &parts[best + 2], (n_parts - best - 2) * sizeof(parts[0]));
        n_parts--;
    }
    for (size_t i = 0; i < n_parts; i++)
        emit_id(out, parts[i].id);
}

static void check_merging(void **state)
{
    /* Many repeats, so that pairs overlap and ranks tie; for spm also spaces, where the text is cut. */
    static const char *const alphabets[] = { "a", "ab", "etaoinshr", "es te ", "s  a ", "re r" };
    struct token_ids got = { 0 }, want = { 0 };

    (void)state;
    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = open_family(families[f]);
        for (int i = 0; i < 120; i++) {
            const char *alphabet = alphabets[random_below(t->byte_level ? 3 : 6)];
            char text[80];
            size_t n = 1 + random_below(t->byte_level ? 20 : 78);
            for (size_t j = 0; j < n; j++)
                text[j] = alphabet[random_below((uint32_t)strlen(alphabet))];
            got.n = want.n = 0;
            assert_int_equal(tokenizer_encode(t, text, n, NULL, 0, &got), 0);
            if (!t->byte_level) {       /* the space in front is part of what is merged */
                memmove(text + 1, text, n++);
                text[0] = ' ';
            }
            naive_merge(t, text, n, &want);
            if (t->rule && t->rule->ignore_merges && got.n == 1)
                continue;
            assert_int_equal(got.n, want.n);
            assert_memory_equal(got.ids, want.ids, got.n * sizeof(*got.ids));
        }
        tokenizer_close(t);
    }
    free(got.ids);
    free(want.ids);
}

/* Encode `first`, size bytes of `again`, and an x: so that white space is not at the end, where the patterns treat it otherwise. */
static void check_long(const struct tokenizer *t, const char *family, const char *first, const char *again, size_t size)
{
    uint64_t start = clock_now_ns();
    struct buf text = { 0 }, back = { 0 };
    struct token_ids ids = { 0 };

    buf_puts(&text, first);
    while (text.len < size)
        buf_puts(&text, again);
    buf_putc(&text, 'x');
    assert_int_equal(tokenizer_encode(t, text.data, text.len, NULL, TOKENIZE_SPECIAL, &ids), 0);
    double seconds = (double)(clock_now_ns() - start) / 1e9;
    /* 0.04 s for 128 KiB when it was written: the rest is for sanitizers and busy machines. Quadratic work takes more. */
    if (seconds > 5.0 * (double)size / (1 << 17))
        fail_msg("%s: %zu bytes of \"%s\" took %.1f s", family, size, again, seconds);
    decode_all(t, &ids, &back);
    if (!(t->rule && t->rule->nfc) && again[0] != '\xe2') {
        assert_int_equal(back.len, text.len);
        assert_memory_equal(back.data, text.data, text.len);
    }
    free(ids.ids);
    buf_free(&text);
    buf_free(&back);
}

/* Each text is one that some step could go wrong on. */
static void check_long_texts(void **state)
{
    static const struct { const char *first, *again; } texts[] = {
        { "", "a" }, { "", " " }, { "x", " " }, { "", "\xf0\x9f\x98\x80" }, { "", "A" }, { "", "aB" }, { "", "\n" }, { "", " \n" },
        { "", "!" }, { "", "'" }, { "", "1" }, { "e", "\xcc\x81\xcc\x96" }, { "", "\xe4\xb8\xad" }, { "", "<|im_" }, { "", "<|im_end|>" },
        { "", "\xe2\x96\x81" },
    };

    (void)state;
    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = open_family(families[f]);
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
            check_long(t, families[f], texts[i].first, texts[i].again, 1 << 17);
        if (!strcmp(families[f], "llama3") || !strcmp(families[f], "spm")) {
            check_long(t, families[f], "", "a", 1 << 20);
            check_long(t, families[f], "", " ", 1 << 20);       /* more than PCRE2's usual limit of steps */
            check_long(t, families[f], "", "\xf0\x9f\x98\x80", 1 << 20);
        }
        tokenizer_close(t);
    }
}

static void check_refused_texts(void **state)
{
    static const char *const bad[] = { "\xff", "a\x80", "\xc3", "\xed\xa0\x80", "\xc0\x80", "ok \xf4\x90\x80\x80" };
    struct tokenizer *t = open_family("gpt2");
    struct token_ids ids = { 0 };

    (void)state;
    assert_int_equal(tokenizer_encode(t, "a", 1, NULL, 0, &ids), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(tokenizer_encode(t, bad[i], strlen(bad[i]), NULL, TOKENIZE_ADD_BOS, &ids), -EINVAL);
        assert_int_equal(ids.n, 1);     /* as before the call */
    }
    assert_int_equal(tokenizer_encode(t, "a\0b", 3, NULL, 0, &ids), 0);
    assert_int_equal(ids.n, 4);
    assert_int_equal(tokenizer_encode(t, "", 0, NULL, 0, &ids), 0);
    assert_int_equal(tokenizer_encode(t, NULL, 0, NULL, 0, &ids), 0);
    assert_int_equal(ids.n, 4);
    free(ids.ids);
    tokenizer_close(t);
}

struct job { const struct tokenizer *t; const struct buf *text; const struct token_ids *want; bool same; };

static void *encode_often(void *arg)
{
    struct job *job = arg;

    job->same = true;
    for (int i = 0; i < 20; i++) {
        struct token_ids got = { 0 };
        int err = tokenizer_encode(job->t, job->text->data, job->text->len, NULL, TOKENIZE_SPECIAL, &got);
        job->same &= !err && got.n == job->want->n && !memcmp(got.ids, job->want->ids, got.n * sizeof(*got.ids));
        free(got.ids);
    }
    return NULL;
}

static void check_threads(void **state)
{
    struct buf text = { 0 };

    (void)state;
    for (size_t f = 0; f < N_FAMILIES; f++) {
        struct tokenizer *t = open_family(families[f]);
        struct token_ids want = { 0 };
        struct job jobs[4];
        pthread_t threads[4];
        random_text(&text, 500);
        assert_int_equal(tokenizer_encode(t, text.data, text.len, NULL, TOKENIZE_SPECIAL, &want), 0);
        for (size_t i = 0; i < 4; i++) {
            jobs[i] = (struct job){ t, &text, &want, false };
            assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &jobs[i]), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            assert_true(jobs[i].same);
        }
        free(want.ids);
        tokenizer_close(t);
    }
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_round_trip),
        cmocka_unit_test(check_nfc),
        cmocka_unit_test(check_random_ids),
        cmocka_unit_test(check_prefix),
        cmocka_unit_test(check_literal),
        cmocka_unit_test(check_merging),
        cmocka_unit_test(check_long_texts),
        cmocka_unit_test(check_refused_texts),
        cmocka_unit_test(check_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
