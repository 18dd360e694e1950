/*
 * check_sampler.c - the sampler against a slow and obvious one, known random numbers, and its extremes.
 *
 * The reference sorts all ids and works in long double. The two may differ only where rounding decides: when the drawn
 * number falls on the border of two ids, or the mass of top-p on a border of its set, to within 1e-5.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "kernels/kernels.h"
#include "model/philox.h"
#include "model/sampler.h"
#include "tests/kernels/guarded.h"

static const struct sampling plain = { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 42 };

/* Everything a draw depends on but the parameters. */
struct row {
    const float *logits;
    size_t n_vocab;
    struct logits_norm norm;
    const int32_t *tokens;
    size_t n_tokens, n_prompt;
    const int32_t *banned;
    size_t n_banned;
    const uint64_t *allowed;
};

static struct logits_norm norm_of(const float *logits, size_t n_vocab)
{
    struct kernels table;
    struct segment_stats stats[64];
    size_t n = 0;

    kernels_fill(&table, ISA_SCALAR);
    for (size_t at = 0; at < n_vocab; at += VOCAB_SEGMENT, n++)
        table.segment_stats(&stats[n], logits + at, n_vocab - at < VOCAB_SEGMENT ? n_vocab - at : VOCAB_SEGMENT);
    return sampler_norm(stats, n);
}

static struct row row_of(const float *logits, size_t n_vocab)
{
    return (struct row){ .logits = logits, .n_vocab = n_vocab, .norm = norm_of(logits, n_vocab) };
}

static int32_t draw(const struct sampling *s, const struct row *r, uint64_t position)
{
    void *scratch = guarded(sampler_scratch_bytes(r->n_vocab));     /* full of other bytes than zero */
    const int32_t id = sampler_draw(s, r->logits, r->n_vocab, r->norm, position, r->tokens, r->n_tokens, r->n_prompt, r->banned,
                                    r->n_banned, r->allowed, scratch);
    guarded_free_all();
    return id;
}

struct ranked {
    float value;
    long double p;
    size_t id;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static int by_id(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->id < y->id ? -1 : 1;
}

/* The logits after bias, penalties and bans, id by id. */
static void adjust(float *value, const struct sampling *s, const struct row *r)
{
    for (size_t id = 0; id < r->n_vocab; id++) {
        size_t n_seen = 0, n_generated = 0;
        value[id] = r->logits[id];
        for (size_t i = 0; i < s->n_bias; i++) {
            if (s->bias[i].id == (int32_t)id)
                value[id] += s->bias[i].bias;
        }
        for (size_t i = 0; i < r->n_tokens; i++) {
            n_seen += r->tokens[i] == (int32_t)id;
            n_generated += i >= r->n_prompt && r->tokens[i] == (int32_t)id;
        }
        if (n_seen > 0)
            value[id] = value[id] > 0 ? value[id] / s->repetition_penalty : value[id] * s->repetition_penalty;
        if (n_generated > 0)
            value[id] -= s->frequency_penalty * (float)n_generated + s->presence_penalty;
        for (size_t i = 0; i < r->n_banned; i++) {
            if (r->banned[i] == (int32_t)id)
                value[id] = -INFINITY;
        }
        if (r->allowed && !(r->allowed[id / 64] >> id % 64 & 1))
            value[id] = -INFINITY;
    }
}

/* The ids that may be drawn, in id order, with their probabilities. *undecided when rounding decides what top-p or min-p keep. */
static size_t reference_set(struct ranked *set, const struct sampling *s, const struct row *r, bool *undecided)
{
    size_t n = 0;
    float *value = malloc(r->n_vocab * sizeof(*value));
    long double total = 0, sum = 0;

    adjust(value, s, r);
    for (size_t id = 0; id < r->n_vocab; id++) {
        if (value[id] > -INFINITY)
            set[n++] = (struct ranked){ .value = value[id], .id = id };
    }
    free(value);
    *undecided = false;
    if (n == 0)
        return 0;
    qsort(set, n, sizeof(*set), by_value);
    if (s->temperature < 1e-5f) {
        set[0].p = 1;
        return 1;
    }
    if (s->top_k > 0 && (size_t)s->top_k < n)
        n = (size_t)s->top_k;
    for (size_t i = 0; i < n; i++)
        total += expl(((long double)set[i].value - (long double)set[0].value) / (long double)s->temperature);
    for (size_t i = 0; i < n; i++)
        set[i].p = expl(((long double)set[i].value - (long double)set[0].value) / (long double)s->temperature) / total;
    if (s->top_p < 1) {
        size_t n_kept = 0;
        while (n_kept < n && sum < (long double)s->top_p) {
            sum += set[n_kept++].p;
            *undecided |= fabsl(sum - (long double)s->top_p) < 1e-5L;
        }
        n = n_kept;
    }
    if (s->min_p > 0) {
        size_t n_kept = 0;
        for (size_t i = 0; i < n; i++) {
            const long double ratio = set[i].p / set[0].p;
            *undecided |= i > 0 && fabsl(ratio / (long double)s->min_p - 1) < 1e-5L;
            if (i == 0 || ratio >= (long double)s->min_p)
                set[n_kept++] = set[i];
        }
        n = n_kept;
    }
    qsort(set, n, sizeof(*set), by_id);
    total = 0;
    for (size_t i = 0; i < n; i++)
        total += set[i].p;
    for (size_t i = 0; i < n; i++)
        set[i].p /= total;
    return n;
}

/* Fails unless `id` is what the reference draws with the same uniform number. Returns false when rounding decides. */
static bool check_draw(const struct sampling *s, const struct row *r, uint64_t position, const char *what)
{
    struct ranked *set = malloc(r->n_vocab * sizeof(*set));
    bool undecided, found = false;
    const size_t n = reference_set(set, s, r, &undecided);
    const int32_t id = draw(s, r, position);
    const long double u = (long double)sampler_uniform(s->seed, s->choice, position);
    long double sum = 0;

    if (n == 0)
        found = id == -1;
    for (size_t i = 0; i < n; i++) {
        if (set[i].id == (size_t)id && u > sum - 1e-5L && u < sum + set[i].p + 1e-5L)
            found = true;
        sum += set[i].p;
    }
    if (!found && !undecided)
        fail_msg("%s: drew %d of a set of %zu, n_vocab %zu, temperature %g top_k %d top_p %g min_p %g position %llu", what, id, n,
                 r->n_vocab, (double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p, (unsigned long long)position);
    free(set);
    return !undecided;
}

/* Random123 1.14, tests/kat_vectors */
static void philox_gives_the_known_answers(void **state)
{
    (void)state;
    static const struct { uint32_t counter[4], key[2], want[4]; } vectors[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint32_t got[4];
        philox_4x32_10(got, vectors[i].counter, vectors[i].key);
        assert_memory_equal(got, vectors[i].want, sizeof(got));
    }
}

static void uniform_numbers_are_their_counters(void **state)
{
    (void)state;
    /* 53 bits of the first two words of the vector above */
    assert_true(sampler_uniform(0, 0, 0) == (double)(0xe169c58d6627e8d5u >> 11) * 0x1p-53);
    assert_true(sampler_uniform(1, 0, 0) != sampler_uniform(0, 0, 0));
    assert_true(sampler_uniform(1ull << 32, 0, 0) != sampler_uniform(0, 0, 0));
    assert_true(sampler_uniform(0, 1, 0) != sampler_uniform(0, 0, 0));
    assert_true(sampler_uniform(0, 0, 1ull << 32) != sampler_uniform(0, 0, 0));
    double sum = 0, squares = 0;
    for (uint64_t position = 0; position < 100000; position++) {
        double u = sampler_uniform(7, 3, position);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.003);              /* 3.3 standard deviations */
    assert_true(fabs(squares / 100000 - 1.0 / 3) < 0.003);
}

static void random_logits(float *logits, size_t n, struct rng *rng)
{
    const uint32_t kind = rng_below(rng, 6);

    for (size_t i = 0; i < n; i++) {
        logits[i] = rng_float(rng, -8, 8) + rng_float(rng, -8, 8);
        if (kind == 0)
            logits[i] = (float)rng_below(rng, 4);               /* many ties */
        else if (kind == 1 && rng_below(rng, 3) == 0)
            logits[i] = -INFINITY;
        else if (kind == 2)
            logits[i] = -3;
        else if (kind == 3)
            logits[i] = i % 97 == 5 ? 20 + rng_float(rng, 0, 1) : rng_float(rng, -10, 0);
        else if (kind == 4 && rng_below(rng, 2) == 0)
            logits[i] = rng_below(rng, 2) ? -0.0f : 0.0f;
    }
}

static float one_of(struct rng *rng, const float *values, uint32_t n)
{
    return values[rng_below(rng, n)];
}

static struct sampling random_sampling(struct rng *rng, size_t n_vocab)
{
    static const float temperatures[] = { 0, 1e-4f, 0.2f, 0.7f, 1, 1, 1.5f, 10, 1e6f };
    static const float top_ps[] = { 1, 1, 0.95f, 0.5f, 0.1f, 1e-6f, 0.9999f };
    static const float min_ps[] = { 0, 0, 0, 0.05f, 0.5f, 1, 1e-4f };
    struct sampling s = plain;

    s.temperature = one_of(rng, temperatures, 9);
    s.top_p = one_of(rng, top_ps, 7);
    s.min_p = one_of(rng, min_ps, 7);
    s.top_k = rng_below(rng, 2) ? 0 : (int32_t)rng_below(rng, rng_below(rng, 2) ? 50 : (uint32_t)n_vocab + 2);
    s.seed = rng_u64(rng);
    s.choice = rng_below(rng, 5);
    return s;
}

static const size_t sizes[] = { 1, 2, 7, 255, 256, 257, 700, 2500 };

static void draws_are_those_of_the_reference(void **state)
{
    (void)state;
    struct rng rng;
    size_t n_decided = 0, n_draws = 0;

    rng_seed(&rng, 1);
    for (size_t round = 0; round < 1200; round++) {
        float logits[2500];
        const size_t n = sizes[rng_below(&rng, 8)];
        random_logits(logits, n, &rng);
        const struct row row = row_of(logits, n);
        const struct sampling s = random_sampling(&rng, n);
        for (uint64_t position = 0; position < 3; position++, n_draws++)
            n_decided += isnan(row.norm.log_sum_exp) || check_draw(&s, &row, rng_u64(&rng), "filters");
    }
    assert_true(n_decided > n_draws * 9 / 10);      /* rounding is no excuse for many */
}

static void bias_penalties_and_bans_are_those_of_the_reference(void **state)
{
    (void)state;
    struct rng rng;
    size_t n_decided = 0, n_draws = 0;

    rng_seed(&rng, 2);
    for (size_t round = 0; round < 1200; round++, n_draws++) {
        static const float repetitions[] = { 1, 1.1f, 0.8f, 2 }, penalties[] = { 0, 0.5f, -0.5f, 2 };
        float logits[2500];
        struct logit_bias bias[20];
        int32_t tokens[60], banned[8];
        const size_t n = sizes[rng_below(&rng, 8)];
        random_logits(logits, n, &rng);
        struct row row = row_of(logits, n);
        struct sampling s = random_sampling(&rng, n);

        s.repetition_penalty = one_of(&rng, repetitions, 4);
        s.presence_penalty = one_of(&rng, penalties, 4);
        s.frequency_penalty = one_of(&rng, penalties, 4);
        s.bias = bias;
        s.n_bias = rng_below(&rng, 20);
        for (size_t i = 0; i < s.n_bias; i++) {
            bias[i].id = (int32_t)rng_below(&rng, (uint32_t)n);
            bias[i].bias = rng_below(&rng, 4) ? rng_float(&rng, -20, 20) : -INFINITY;
        }
        row.tokens = tokens;
        row.n_tokens = rng_below(&rng, 60);
        row.n_prompt = rng_below(&rng, (uint32_t)row.n_tokens + 1);
        for (size_t i = 0; i < row.n_tokens; i++)
            tokens[i] = (int32_t)rng_below(&rng, n < 10 || rng_below(&rng, 2) ? (uint32_t)n : 10);
        row.banned = banned;
        row.n_banned = rng_below(&rng, 8);
        for (size_t i = 0; i < row.n_banned; i++)
            banned[i] = (int32_t)rng_below(&rng, (uint32_t)n);
        n_decided += isnan(row.norm.log_sum_exp) || check_draw(&s, &row, rng_u64(&rng), "penalties");
    }
    assert_true(n_decided > n_draws * 9 / 10);
}

/* Counts of 40,000 draws against the exact probabilities of the set: chi-square, and nothing outside the set. */
static void check_distribution(const struct sampling *s, const struct row *r, const char *what)
{
    enum { N = 40000 };
    struct ranked set[300];
    size_t counts[300] = { 0 };
    bool undecided;
    const size_t n = reference_set(set, s, r, &undecided);
    void *scratch = guarded(sampler_scratch_bytes(r->n_vocab));
    double chi_square = 0;

    assert_false(undecided);
    for (uint64_t position = 0; position < N; position++) {
        int32_t id = sampler_draw(s, r->logits, r->n_vocab, r->norm, position, r->tokens, r->n_tokens, r->n_prompt, r->banned,
                                  r->n_banned, r->allowed, scratch);
        assert_in_range(id, 0, r->n_vocab - 1);
        counts[id]++;
    }
    for (size_t i = 0; i < n; i++) {
        const double expected = (double)set[i].p * N, difference = (double)counts[set[i].id] - expected;
        chi_square += difference * difference / expected;
        counts[set[i].id] = 0;
    }
    for (size_t id = 0; id < r->n_vocab; id++)
        assert_int_equal(counts[id], 0);
    guarded_free_all();
    /* n - 1 degrees of freedom: mean n - 1, variance 2 (n - 1); seeds are fixed, so this passes always or never */
    if (chi_square > (double)(n - 1) + 4 * sqrt(2 * (double)n))
        fail_msg("%s: chi-square %g for %zu ids", what, chi_square, n);
}

static void draws_have_the_distribution(void **state)
{
    (void)state;
    float logits[300];
    struct rng rng;

    rng_seed(&rng, 3);
    for (size_t i = 0; i < 300; i++)
        logits[i] = rng_float(&rng, -1, 2);
    const struct row row = row_of(logits, 300), small = row_of(logits, 10);

    check_distribution(&plain, &small, "plain");
    check_distribution(&plain, &row, "plain, two blocks");
    struct sampling s = plain;
    s.temperature = 0.5f;
    check_distribution(&s, &row, "temperature");
    s.top_k = 20;
    check_distribution(&s, &row, "top-k");
    s.top_p = 0.6f;
    check_distribution(&s, &row, "top-k and top-p");
    s = plain;
    s.top_p = 0.77f;
    check_distribution(&s, &row, "top-p");
    s = plain;
    s.min_p = 0.3f;
    check_distribution(&s, &row, "min-p");
    s = plain;
    s.choice = 1;
    check_distribution(&s, &small, "second choice");
}

static void ties_fall_to_the_lower_id(void **state)
{
    (void)state;
    float logits[1000];
    for (size_t i = 0; i < 1000; i++)
        logits[i] = i == 3 || i == 700 || i == 701 ? 5 : 1;
    logits[2] = 0;
    struct row row = row_of(logits, 1000);
    struct sampling s = plain;

    s.temperature = 0;
    assert_int_equal(draw(&s, &row, 0), 3);
    const int32_t banned[] = { 3 };
    row.banned = banned;
    row.n_banned = 1;
    assert_int_equal(draw(&s, &row, 0), 700);
    row.n_banned = 0;

    s.temperature = 100;
    s.top_k = 5;                /* 3, 700, 701 and the first two of the ones: 0 and 1 */
    bool seen[1000] = { false };
    for (uint64_t position = 0; position < 200; position++)
        seen[draw(&s, &row, position)] = true;
    for (size_t id = 0; id < 1000; id++)
        assert_int_equal(seen[id], id == 0 || id == 1 || id == 3 || id == 700 || id == 701);

    float zeros[4] = { -0.0f, 0.0f, -0.0f, 0.0f };      /* one value */
    row = row_of(zeros, 4);
    s.top_k = 2;
    for (uint64_t position = 0; position < 50; position++)
        assert_in_range(draw(&s, &row, position), 0, 1);
}

static void a_replay_draws_the_same(void **state)
{
    (void)state;
    float logits[600];
    struct rng rng;

    rng_seed(&rng, 4);
    random_logits(logits, 600, &rng);
    const struct row row = row_of(logits, 600);
    struct sampling s = plain, other = plain;
    int32_t first[100];
    size_t n_different = 0;

    other.choice = 1;
    for (uint64_t position = 0; position < 100; position++)
        first[position] = draw(&s, &row, position);
    for (uint64_t position = 100; position-- > 0; )
        assert_int_equal(draw(&s, &row, position), first[position]);
    for (uint64_t position = 0; position < 100; position++)
        n_different += draw(&other, &row, position) != first[position];
    assert_true(n_different > 10);
}

static void extremes(void **state)
{
    (void)state;
    float logits[5] = { 3e38f, -3e38f, 0, -INFINITY, 2e38f };
    struct row row = row_of(logits, 5);
    struct sampling s = plain;
    const int32_t banned[] = { 0, 1, 2, 4, 9999, -1 };
    const struct logit_bias bias[] = {
        { 0, -INFINITY }, { 1, -INFINITY }, { 2, -INFINITY }, { 4, -INFINITY }, { 5, 1 }, { -7, 1 },
    };

    assert_int_equal(draw(&s, &row, 0), 0);
    s.temperature = 1e30f;
    for (uint64_t position = 0; position < 50; position++)
        assert_true(draw(&s, &row, position) != 3);     /* minus infinity is never drawn */
    row.banned = banned;
    row.n_banned = 6;           /* ids that do not exist ban nothing */
    assert_int_equal(draw(&s, &row, 0), -1);
    row.n_banned = 4;
    s.temperature = 0;
    assert_int_equal(draw(&s, &row, 0), -1);
    row.n_banned = 0;
    s.bias = bias;
    s.n_bias = 6;
    assert_int_equal(draw(&s, &row, 0), -1);
    s.n_bias = 1;
    assert_int_equal(draw(&s, &row, 0), 4);
    s = plain;
    s.top_p = 0.5f;
    s.min_p = 1;
    s.top_k = 1;
    assert_int_equal(draw(&s, &row, 7), 0);
    row.norm.log_sum_exp = NAN;
    assert_int_equal(draw(&s, &row, 0), -1);
}

static void norm_is_the_log_sum_exp(void **state)
{
    (void)state;
    struct rng rng;

    rng_seed(&rng, 5);
    for (size_t round = 0; round < 200; round++) {
        float logits[2500];
        const size_t n = sizes[rng_below(&rng, 8)];
        random_logits(logits, n, &rng);
        const struct logits_norm norm = norm_of(logits, n);
        long double sum = 0;
        size_t best = 0;
        for (size_t i = 0; i < n; i++) {
            sum += expl((long double)logits[i]);
            best = logits[i] > logits[best] ? i : best;
        }
        if (sum == 0) {
            assert_true(isnan(norm.log_sum_exp));
            continue;
        }
        /* x - max is rounded to float32: by up to 2^-22 where it is 4 to 8, and little mass lies lower */
        assert_true(fabsl((long double)norm.log_sum_exp - logl(sum)) < 6e-7L);
        assert_int_equal(norm.argmax, best);
        assert_true(norm.max == logits[best]);
        const long double logprob = (long double)logits[best] - logl(sum);
        assert_true(fabsl((long double)sampler_logprob(logits, norm, (int32_t)best) - logprob) < 2e-6L);
    }
    for (size_t at = 0; at < 600; at += 37) {
        float logits[600] = { 0 };
        logits[at] = NAN;
        assert_true(isnan(norm_of(logits, 600).log_sum_exp));
        logits[at] = INFINITY;
        assert_true(isnan(norm_of(logits, 600).log_sum_exp));
        logits[at] = -INFINITY;
        assert_true(fabs(norm_of(logits, 600).log_sum_exp - log(599)) < 1e-6);
    }
}

static void top_is_a_sort(void **state)
{
    (void)state;
    struct rng rng;

    rng_seed(&rng, 6);
    for (size_t round = 0; round < 300; round++) {
        float logits[2500];
        static struct ranked all[2500];
        struct token_logprob top[SAMPLER_MAX_TOP];
        const size_t n = sizes[rng_below(&rng, 8)], wanted = rng_below(&rng, SAMPLER_MAX_TOP + 1);
        random_logits(logits, n, &rng);
        const struct logits_norm norm = norm_of(logits, n);
        for (size_t i = 0; i < n; i++)
            all[i] = (struct ranked){ .value = logits[i], .id = i };
        qsort(all, n, sizeof(*all), by_value);
        sampler_top(logits, n, norm, wanted, top);
        for (size_t i = 0; i < wanted && i < n; i++) {
            const float logprob = sampler_logprob(logits, norm, top[i].id);
            assert_int_equal(top[i].id, all[i].id);
            assert_memory_equal(&top[i].logprob, &logprob, sizeof(logprob));
        }
        for (size_t i = n; i < wanted; i++)
            assert_int_equal(top[i].id, -1);
    }
}

/* Ids that are not allowed are never drawn, the order of the others stays; a mask of all changes nothing. */
static void masks(void **state)
{
    enum { N = 300 };
    float logits[N];
    uint64_t all[(N + 63) / 64], some[(N + 63) / 64] = { 0 }, none[(N + 63) / 64] = { 0 };
    struct sampling s = { .temperature = 0, .top_p = 1, .repetition_penalty = 1, .seed = 3 };

    (void)state;
    memset(all, 0xff, sizeof(all));
    for (size_t i = 0; i < N; i++)
        logits[i] = (float)((i * 37) % 101) / 20;
    for (size_t i = 3; i < N; i += 7)
        some[i / 64] |= (uint64_t)1 << i % 64;
    struct row r = row_of(logits, N);
    for (uint64_t position = 0; position < 400; position++) {
        s.temperature = position % 2 ? 1 : 0;
        s.top_p = position % 3 ? 1 : 0.8f;
        r.allowed = NULL;
        const int32_t want = draw(&s, &r, position);
        r.allowed = all;
        assert_int_equal(draw(&s, &r, position), want);
        r.allowed = none;
        assert_int_equal(draw(&s, &r, position), -1);
        r.allowed = some;
        const int32_t id = draw(&s, &r, position);
        assert_true(id >= 0 && id % 7 == 3);
        for (size_t i = 3; position % 2 == 0 && i < N; i += 7)
            assert_true(logits[i] < logits[id] || (logits[i] == logits[id] && (int32_t)i >= id));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks),
        cmocka_unit_test(philox_gives_the_known_answers),
        cmocka_unit_test(uniform_numbers_are_their_counters),
        cmocka_unit_test(draws_are_those_of_the_reference),
        cmocka_unit_test(bias_penalties_and_bans_are_those_of_the_reference),
        cmocka_unit_test(draws_have_the_distribution),
        cmocka_unit_test(ties_fall_to_the_lower_id),
        cmocka_unit_test(a_replay_draws_the_same),
        cmocka_unit_test(extremes),
        cmocka_unit_test(norm_is_the_log_sum_exp),
        cmocka_unit_test(top_is_a_sort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
