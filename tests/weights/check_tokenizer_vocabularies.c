/*
 * tests/weights/check_tokenizer_vocabularies.c - what a model file may bring: vocabularies that are wrong are refused with one line,
 * and odd ones work with a warning.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/weights/gguf_writer.h"
#include "tests/weights/log_capture.h"
#include "tests/weights/tokenizer_help.h"
#include "weights/tokenizer_internal.h"

static struct log_capture lines;
static char path[] = "/tmp/fourway-check-vocabularies-XXXXXX";

/* The file is closed before the tokenizer is used. */
static struct tokenizer *open_written(struct gguf_writer *w)
{
    log_capture_start(&lines);
    gguf_writer_save(w, path);
    struct tokenizer *t = open_tokenizer(path);
    log_capture_start(NULL);
    gguf_writer_free(w);
    return t;
}

/* A small vocabulary. Each case of check_wrong_vocabularies spoils one thing, by leaving the key out and putting its own. */
static const char *const small_tokens[] = { "<s>", "</s>", "a", "b", "ab", "\xc4\xa0", "<x>", "<x><y>" };
static const int32_t small_types[] = { 3, 3, 1, 1, 1, 1, 4, 3 };
static const float small_scores[] = { 0, 0, -2, -3, -1, -4, 0, 0 };
enum { N_SMALL = 8 };

static void put_small(struct gguf_writer *w, const char *model, const char *without)
{
    static const char *const merges[] = { "a b" };

    gguf_writer_init(w);
    if (strcmp(without, "model"))
        gguf_writer_string(w, "tokenizer.ggml.model", model);
    if (strcmp(without, "pre"))
        gguf_writer_string(w, "tokenizer.ggml.pre", "gpt-2");
    if (strcmp(without, "tokens"))
        gguf_writer_strings(w, "tokenizer.ggml.tokens", small_tokens, N_SMALL);
    if (strcmp(without, "token_type"))
        gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, small_types, N_SMALL);
    if (strcmp(without, "scores"))
        gguf_writer_array(w, "tokenizer.ggml.scores", GGUF_F32, small_scores, N_SMALL);
    if (strcmp(without, "merges"))
        gguf_writer_strings(w, "tokenizer.ggml.merges", merges, 1);
}

/* The file is refused with one line, which names it and says `why`. */
static void refuse(struct gguf_writer *w, const char *why)
{
    assert_null(open_written(w));
    if (lines.n_lines != 1 || !strstr(lines.last, path) || !strstr(lines.last, why))
        fail_msg("%zu lines, the last is: %s\nexpected: %s", lines.n_lines, lines.last, why);
    assert_int_equal(lines.level, LOG_ERROR);
}

static void check_wrong_vocabularies(void **state)
{
    static const float not_a_number[N_SMALL] = { 0, 0, NAN };
    static const uint8_t bytes[N_SMALL] = { 3, 3, 1, 1, 1, 1, 1, 1 };
    static const char *const bad_text[] = { "x" };
    struct gguf_writer w;

    (void)state;
    put_small(&w, "gpt2", "model");
    refuse(&w, "key \"tokenizer.ggml.model\": missing");
    put_small(&w, "bert", "");
    refuse(&w, "tokenizer \"bert\" is not supported (gpt2 and llama are)");
    put_small(&w, "gpt2", "model");
    gguf_writer_u32(&w, "tokenizer.ggml.model", 3);
    refuse(&w, "tokenizer.ggml.model");
    put_small(&w, "gpt2", "pre");
    gguf_writer_string(&w, "tokenizer.ggml.pre", "kimi-k2\n");
    refuse(&w, "pre-tokenizer \"kimi-k2\\x0a\" is not supported");

    put_small(&w, "gpt2", "tokens");
    refuse(&w, "key \"tokenizer.ggml.tokens\": missing");
    put_small(&w, "gpt2", "tokens");
    gguf_writer_array(&w, "tokenizer.ggml.tokens", GGUF_I32, small_types, N_SMALL);
    refuse(&w, "tokenizer.ggml.tokens");
    put_small(&w, "gpt2", "tokens");
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", bad_text, 0);
    refuse(&w, "0 tokens, expected 1..2097152");
    put_small(&w, "gpt2", "tokens");
    char *long_text = malloc(TOKENIZER_MAX_TOKEN + 2);
    memset(long_text, 'x', TOKENIZER_MAX_TOKEN + 1);
    long_text[TOKENIZER_MAX_TOKEN + 1] = '\0';
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", (const char *const[]){ "a", long_text }, 2);
    refuse(&w, "token 1 has 65537 bytes, at most 65536");
    free(long_text);

    put_small(&w, "gpt2", "token_type");
    gguf_writer_array(&w, "tokenizer.ggml.token_type", GGUF_I32, small_types, N_SMALL - 1);
    refuse(&w, "7 types for 8 tokens");
    put_small(&w, "gpt2", "token_type");
    gguf_writer_array(&w, "tokenizer.ggml.token_type", GGUF_U8, bytes, N_SMALL);
    refuse(&w, "tokenizer.ggml.token_type");

    put_small(&w, "gpt2", "merges");
    refuse(&w, "key \"tokenizer.ggml.merges\": missing");
    put_small(&w, "gpt2", "merges");
    gguf_writer_array(&w, "tokenizer.ggml.merges", GGUF_U8, bytes, N_SMALL);
    refuse(&w, "tokenizer.ggml.merges");

    put_small(&w, "llama", "scores");
    refuse(&w, "key \"tokenizer.ggml.scores\": missing");
    put_small(&w, "llama", "scores");
    gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_U8, bytes, N_SMALL);
    refuse(&w, "tokenizer.ggml.scores");
    put_small(&w, "llama", "scores");
    gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_F32, small_scores, N_SMALL - 1);
    refuse(&w, "7 scores for 8 tokens");
    put_small(&w, "llama", "scores");
    gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_F32, not_a_number, N_SMALL);
    refuse(&w, "the score of token 2 is NaN");

    put_small(&w, "gpt2", "");
    gguf_writer_string(&w, "tokenizer.ggml.bos_token_id", "1");
    refuse(&w, "tokenizer.ggml.bos_token_id");
    put_small(&w, "gpt2", "");
    gguf_writer_u32(&w, "tokenizer.ggml.add_bos_token", 1);
    refuse(&w, "tokenizer.ggml.add_bos_token");
}

/* Open what deserves a warning only; n_lines warnings, the last says `why`. */
static struct tokenizer *accept(struct gguf_writer *w, size_t n_lines, const char *why)
{
    struct tokenizer *t = open_written(w);

    assert_non_null(t);
    if (lines.n_lines != n_lines || (n_lines && !strstr(lines.last, why)))
        fail_msg("%zu lines, the last is: %s", lines.n_lines, lines.last);
    if (n_lines)
        assert_int_equal(lines.level, LOG_WARN);
    return t;
}

static void check_text(const struct tokenizer *t, const char *text, unsigned flags, const int32_t *want, size_t n_want)
{
    struct token_ids got = { 0 };

    assert_int_equal(tokenizer_encode(t, text, strlen(text), NULL, flags, &got), 0);
    assert_int_equal(got.n, n_want);
    if (n_want)
        assert_memory_equal(got.ids, want, n_want * sizeof(*want));
    free(got.ids);
}
#define CHECK_TEXT(t, text, flags, ...) \
    check_text(t, text, flags, (const int32_t[]){ __VA_ARGS__ }, sizeof((const int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t))

/* The small vocabulary has no tokens for most bytes: one line more, always the last. */
static const char no_byte[] = "bytes have no token";

static void check_odd_vocabularies(void **state)
{
    static const char *const odd_merges[] = { "a b", "a b", "b zz", "ab", "", " ", "a  b", "< s>" };
    static const char *const twice[] = { "a", "b", "ab", "ab", "", "<x>", "<x>", "c" };
    static const int32_t twice_types[] = { 1, 1, 1, 1, 1, 3, 3, 99 };
    struct gguf_writer w;
    struct tokenizer *t;

    (void)state;
    put_small(&w, "gpt2", "");
    t = accept(&w, 1, no_byte);
    CHECK_TEXT(t, "ab ba", TOKENIZE_ADD_BOS, 4, 5, 3, 2);
    CHECK_TEXT(t, "a?b", 0, 2, 3);                      /* a byte without a token is left out */
    CHECK_TEXT(t, "<s>a<x><y>", 0, 2, 6);
    CHECK_TEXT(t, "<s>a<x><y><x>", TOKENIZE_SPECIAL, 0, 2, 7, 6);
    tokenizer_close(t);

    put_small(&w, "gpt2", "pre");
    t = accept(&w, 2, no_byte);                     /* and one that "default" is used */
    assert_string_equal(tokenizer_pre(t), "default");
    tokenizer_close(t);

    put_small(&w, "gpt2", "");
    gguf_writer_u32(&w, "tokenizer.ggml.bos_token_id", 200000);
    gguf_writer_u32(&w, "tokenizer.ggml.eos_token_id", 1);
    gguf_writer_bool(&w, "tokenizer.ggml.add_bos_token", 1);
    gguf_writer_bool(&w, "tokenizer.ggml.add_eos_token", 1);
    t = accept(&w, 2, no_byte);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_false(tokenizer_adds_bos(t));
    CHECK_TEXT(t, "a", TOKENIZE_ADD_BOS, 2, 1);
    CHECK_TEXT(t, "", TOKENIZE_ADD_BOS, 1);
    tokenizer_close(t);

    put_small(&w, "gpt2", "merges");
    gguf_writer_strings(&w, "tokenizer.ggml.merges", odd_merges, 8);
    t = accept(&w, 2, no_byte);
    CHECK_TEXT(t, "ab", 0, 4);
    tokenizer_close(t);

    /* Of equal merges the first counts: here "ab" must join before "ba". */
    gguf_writer_init(&w);
    gguf_writer_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(&w, "tokenizer.ggml.pre", "gpt-2");
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", (const char *const[]){ "a", "b", "ab", "ba" }, 4);
    gguf_writer_strings(&w, "tokenizer.ggml.merges", (const char *const[]){ "a b", "b a", "a b" }, 3);
    t = accept(&w, 1, no_byte);
    CHECK_TEXT(t, "aba", 0, 2, 0);
    CHECK_TEXT(t, "bab", 0, 1, 2);
    tokenizer_close(t);

    gguf_writer_init(&w);
    gguf_writer_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(&w, "tokenizer.ggml.pre", "gpt-2");
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", twice, 8);
    gguf_writer_array(&w, "tokenizer.ggml.token_type", GGUF_I32, twice_types, 8);
    gguf_writer_strings(&w, "tokenizer.ggml.merges", odd_merges, 2);
    t = accept(&w, 3, no_byte);                     /* one for the type 99, one for the second "ab" */
    CHECK_TEXT(t, "abc<x>", TOKENIZE_SPECIAL, 3, 7, 6);
    tokenizer_close(t);

    /* A special token that is a part of a character must not cut one in two. */
    for (int llama = 0; llama < 2; llama++) {
        gguf_writer_init(&w);
        gguf_writer_string(&w, "tokenizer.ggml.model", llama ? "llama" : "gpt2");
        gguf_writer_string(&w, "tokenizer.ggml.pre", "gpt-2");
        gguf_writer_strings(&w, "tokenizer.ggml.tokens", (const char *const[]){ "a", "\xb8", "\xe4\xb8", "\xe4\xb8\xad" }, 4);
        gguf_writer_array(&w, "tokenizer.ggml.token_type", GGUF_I32, (const int32_t[]){ 1, 4, 3, 4 }, 4);
        gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_F32, small_scores, 4);
        gguf_writer_strings(&w, "tokenizer.ggml.merges", NULL, 0);
        gguf_writer_bool(&w, "tokenizer.ggml.add_space_prefix", 0);
        t = accept(&w, 2, llama ? "0 of 256 byte tokens" : no_byte);
        CHECK_TEXT(t, "a\xe4\xb8\xad" "a\xe4\xb9\xaf", TOKENIZE_SPECIAL, 0, 3, 0);
        tokenizer_close(t);
    }

    /* A user-defined token is matched everywhere; one that is too long to be matched in linear time, nowhere. */
    char long_text[302], text[400];
    memset(long_text, 'b', sizeof(long_text));
    long_text[300] = '\0';
    snprintf(text, sizeof(text), "a%s", long_text);
    gguf_writer_init(&w);
    gguf_writer_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(&w, "tokenizer.ggml.pre", "gpt-2");
    gguf_writer_strings(&w, "tokenizer.ggml.tokens", (const char *const[]){ "a", "b", long_text }, 3);
    gguf_writer_array(&w, "tokenizer.ggml.token_type", GGUF_I32, (const int32_t[]){ 1, 1, 4 }, 3);
    gguf_writer_strings(&w, "tokenizer.ggml.merges", NULL, 0);
    t = accept(&w, 2, no_byte);
    struct token_ids ids = { 0 };
    assert_int_equal(tokenizer_encode(t, text, strlen(text), NULL, TOKENIZE_SPECIAL, &ids), 0);
    assert_int_equal(ids.n, 301);
    free(ids.ids);
    tokenizer_close(t);
}

static void check_small_llama(void **state)
{
    static const char *const tokens[] = { "<unk>", "<s>", "</s>", "a", "b", "ab", "\xe2\x96\x81", "\xe2\x96\x81" "a", "<0x3F>",
                                          "<0xC3>" };
    static const int32_t types[] = { 2, 3, 3, 1, 1, 1, 1, 1, 6, 6 };
    static const int32_t scores[] = { 0, 0, 0, -5, -6, -2, -7, -1, 0, 0 };
    struct gguf_writer w;
    struct tokenizer *t;

    (void)state;
    for (int prefix = 0; prefix < 2; prefix++) {
        gguf_writer_init(&w);
        gguf_writer_string(&w, "tokenizer.ggml.model", "llama");
        gguf_writer_strings(&w, "tokenizer.ggml.tokens", tokens, 10);
        gguf_writer_array(&w, "tokenizer.ggml.token_type", GGUF_I32, types, 10);
        gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_I32, scores, 10);
        if (!prefix)
            gguf_writer_bool(&w, "tokenizer.ggml.add_space_prefix", 0);
        t = accept(&w, 1, "2 of 256 byte tokens");
        assert_int_equal(tokenizer_bos(t), 1);          /* the defaults of this kind */
        assert_int_equal(tokenizer_eos(t), 2);
        assert_true(tokenizer_adds_bos(t));
        if (prefix) {
            CHECK_TEXT(t, "ab", TOKENIZE_ADD_BOS, 1, 7, 4);
            CHECK_TEXT(t, "<s>ab</s>b", TOKENIZE_SPECIAL, 1, 7, 4, 2, 6, 4);
            CHECK_TEXT(t, "", TOKENIZE_ADD_BOS, 1);
        } else {
            CHECK_TEXT(t, "ab", TOKENIZE_ADD_BOS, 1, 5);
            CHECK_TEXT(t, "b?a \xc3\xa4", 0, 4, 8, 3, 6, 9, 0);     /* bytes; a byte without a token is unknown */
            CHECK_TEXT(t, "<0x3F>", 0, 0, 0, 0, 0, 0, 0);           /* the text of a byte token is text */
        }
        tokenizer_close(t);
    }
}

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_wrong_vocabularies),
        cmocka_unit_test(check_odd_vocabularies),
        cmocka_unit_test(check_small_llama),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
