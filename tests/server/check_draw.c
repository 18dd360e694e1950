/*
 * check_draw.c - tokens under a grammar: the distribution is that of the mask, however a token was found.
 *
 * Some tokens have logits that count, part of them not allowed by the schema; the others are far below. Draws with many seeds are counted,
 * and must be what a softmax over the allowed ones says.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/draw.h"
#include "tests/server/grammar_help.h"

enum { N_LIKELY = 24, N_DRAWS = 20000, END_ID = 2 };

static float *logits;
static uint64_t *mask;
static void *scratch;
static int32_t likely[N_LIKELY], argmax;

static int open_buffers(void **state)
{
    if (open_vocabulary(state))
        return -1;
    logits = malloc(trie->n_vocab * sizeof(*logits));
    mask = calloc(matcher_mask_words(trie->n_vocab), sizeof(*mask));
    scratch = calloc(1, sampler_scratch_bytes(trie->n_vocab));
    return logits && mask && scratch ? 0 : -1;
}

static int close_buffers(void **state)
{
    free(logits);
    free(mask);
    free(scratch);
    return close_vocabulary(state);
}

/* Texts of which a string takes some: not quotes before its least length, control bytes and ends, nor more than its greatest. */
static void set_logits(void)
{
    static const char *const texts[N_LIKELY - 1] = {
        "a", "b", "the", " of", " and", "x", "0", "1", ":", ",", " the", " to", "e", "s", "t", "-", "\"", "\n", "\n\n", "\t", "\",",
        "abababab", "loremlorem" };

    for (size_t id = 0; id < trie->n_vocab; id++)
        logits[id] = -60;
    likely[N_LIKELY - 1] = END_ID;
    for (size_t i = 0; i < N_LIKELY; i++) {
        if (i < N_LIKELY - 1)
            likely[i] = token_of(texts[i]);
        logits[likely[i]] = (float)(i * 7 % 10) / 3;
    }
    argmax = 0;
    for (size_t id = 0; id < trie->n_vocab; id++)
        argmax = logits[id] > logits[argmax] ? (int32_t)id : argmax;
}

static struct logits_norm norm_of(void)
{
    double sum = 0;

    for (size_t id = 0; id < trie->n_vocab; id++)
        sum += exp((double)logits[id]);
    return (struct logits_norm){ log(sum), logits[argmax], argmax };
}

/* After generated[n], with this sampling: chi-square of N_DRAWS draws against the mask's softmax. *n_masks: how many masks were made. */
static double chi_square(struct matcher *m, struct sampling sampling, const int32_t *generated, size_t n, size_t *n_kinds, uint64_t *n_masks)
{
    struct matcher_place place = { 0 };
    const int32_t end = END_ID;
    const struct draw d = { .sampling = &sampling, .tokens = generated, .n_tokens = n, .end_ids = &end, .n_end_ids = 1, .matcher = m,
                            .place = &place, .mask = mask, .scratch = scratch };
    const struct logits_norm norm = norm_of();
    size_t *counts = calloc(trie->n_vocab, sizeof(*counts));
    double sum = 0, chi = 0;
    bool may_end;

    assert_non_null(counts);
    for (size_t i = 0; i < N_DRAWS; i++) {
        sampling.seed = i;
        const int32_t id = draw_token(&d, logits, trie->n_vocab, norm);
        assert_in_range(id, 0, trie->n_vocab - 1);
        counts[id]++;
    }
    *n_masks = matcher_counts(m).masks;
    assert_int_equal(matcher_allowed(m, &place, generated, n, mask, &may_end), 0);
    assert_false(may_end);
    for (size_t i = 0; i < N_LIKELY; i++)
        if (mask[likely[i] / 64] >> (likely[i] & 63) & 1)
            sum += exp((double)logits[likely[i]] / (double)sampling.temperature);
    *n_kinds = 0;
    for (size_t i = 0; i < N_LIKELY; i++) {
        if (!(mask[likely[i] / 64] >> (likely[i] & 63) & 1)) {
            assert_int_equal(counts[likely[i]], 0);
            continue;
        }
        const double want = N_DRAWS * exp((double)logits[likely[i]] / (double)sampling.temperature) / sum;
        chi += ((double)counts[likely[i]] - want) * ((double)counts[likely[i]] - want) / want;
        ++*n_kinds;
    }
    free(counts);
    return chi;
}

static void draws_have_the_distribution_of_the_mask(void **state)
{
    static const char schema[] = "{\"type\":\"string\",\"minLength\":6,\"maxLength\":9}";
    static const struct { struct sampling sampling; bool filters; } rows[] = {
        { { .temperature = 1, .top_p = 1, .repetition_penalty = 1 }, false },
        { { .temperature = 0.6f, .top_p = 1, .repetition_penalty = 1 }, false },
        { { .temperature = 2, .top_p = 1, .repetition_penalty = 1, .choice = 3 }, false },
        { { .temperature = 1, .top_p = 1, .min_p = 1e-9f, .repetition_penalty = 1 }, true },    /* leaves all of the likely ones */
        { { .temperature = 1, .top_p = 1, .top_k = 40, .repetition_penalty = 1 }, true },
    };

    (void)state;
    set_logits();
    const int32_t generated[] = { token_of("\""), token_of("a") };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct matcher *m = matcher_of(schema);
        uint64_t n_masks;
        size_t n_kinds;
        const double chi = chi_square(m, rows[i].sampling, generated, 2, &n_kinds, &n_masks);

        print_message("%zu kinds, chi-square %.1f, %llu masks for %d draws\n", n_kinds, chi, (unsigned long long)n_masks, N_DRAWS);
        assert_true(n_kinds > 12 && n_kinds < N_LIKELY - 4);
        assert_true(chi < (double)n_kinds + 4 * sqrt(2 * (double)n_kinds));     /* four deviations; the seeds are fixed */
        assert_true(rows[i].filters ? n_masks == N_DRAWS : n_masks > N_DRAWS / 20 && n_masks < N_DRAWS / 2);
        matcher_destroy(m);
    }
}

/* Greedily the best of those that are allowed, with a mask or without; NaN, and texts that do not fit, have no token. */
static void greedy_and_none(void **state)
{
    static const struct sampling greedy = { .temperature = 0, .top_p = 1, .repetition_penalty = 1 };
    struct matcher *m = matcher_of("{\"type\":\"string\",\"minLength\":6,\"maxLength\":9}");
    struct matcher_place place = { 0 };

    (void)state;
    set_logits();
    const int32_t generated[] = { token_of("\""), token_of("a"), token_of("\n") };
    struct draw d = { .sampling = &greedy, .tokens = generated, .n_tokens = 2, .matcher = m, .place = &place, .mask = mask,
                      .scratch = scratch };
    struct logits_norm norm = norm_of();
    assert_int_equal(draw_token(&d, logits, trie->n_vocab, norm), argmax);
    assert_int_equal(matcher_counts(m).masks, 0);
    logits[token_of("\n")] = 50;            /* not allowed: the best of the others is left */
    norm = (struct logits_norm){ 50, 50, token_of("\n") };
    assert_int_equal(draw_token(&d, logits, trie->n_vocab, norm), argmax);
    assert_int_equal(matcher_counts(m).masks, 1);
    d.matcher = NULL;
    assert_int_equal(draw_token(&d, logits, trie->n_vocab, norm), token_of("\n"));
    d.matcher = m;
    d.n_tokens = 3;
    assert_int_equal(draw_token(&d, logits, trie->n_vocab, norm), -1);
    d.n_tokens = 2;
    norm.log_sum_exp = NAN;
    assert_int_equal(draw_token(&d, logits, trie->n_vocab, norm), -1);
    matcher_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_have_the_distribution_of_the_mask), cmocka_unit_test(greedy_and_none),
    };
    return cmocka_run_group_tests(tests, open_buffers, close_buffers);
}
