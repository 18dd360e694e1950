/*
 * check_kv_sharing.c - pages found by what they hold: against an account of what was written where; also with hashes that collide.
 *
 * Built twice: with the library's hash, and with one of four values (weak_hash, see CMakeLists.txt), so that the comparison decides alone.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/kv_cache.h"

enum { N_PAGES = 40, MAX_PAGES = 12, MAX_TOKENS = MAX_PAGES * KV_CHUNK, N_SEQUENCES = 6, N_ROUNDS = 20000 };

uint64_t weak_hash(const void *data, size_t n, uint64_t seed);
uint64_t weak_hash(const void *data, size_t n, uint64_t seed)
{
    (void)data;
    (void)n;
    return (seed + 1) & 3;
}

static const struct kv_salt no_salt;

/* What the sequence that filled a page had up to its end: what attention would have read. */
struct content { struct kv_salt salt; size_t n; int32_t tokens[MAX_TOKENS]; };
static struct content contents[N_PAGES];

static void fill(const struct kv_sequence *s, size_t page, const int32_t *tokens, struct kv_salt salt)
{
    struct content *c = &contents[s->pages[page]];

    c->salt = salt;
    c->n = (page + 1) * KV_CHUNK;
    memcpy(c->tokens, tokens, c->n * sizeof(*tokens));
}

static void assert_holds(int32_t page, const int32_t *tokens, size_t n, struct kv_salt salt)
{
    assert_int_equal(contents[page].n, n);
    assert_memory_equal(contents[page].tokens, tokens, n * sizeof(*tokens));
    assert_memory_equal(&contents[page].salt, &salt, sizeof(salt));
}

static void count_up(int32_t *tokens, size_t n, int32_t from)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = from + (int32_t)i;
}

static void test_found_by_what_it_holds(void **state)
{
    (void)state;
    const size_t start[] = { 0, N_PAGES };
    const struct kv_salt salt = { { 1, 2 } };
    int32_t tokens[MAX_TOKENS], other[MAX_TOKENS];
    struct kv_sequence a, b;
    struct kv_cache kv;

    count_up(tokens, MAX_TOKENS, 5);
    memcpy(other, tokens, sizeof(other));
    other[KV_CHUNK + 3]++;
    assert_int_equal(kv_cache_create(&kv, 1, start), 0);
    assert_int_equal(kv_sequence_create(&a, MAX_TOKENS), 0);
    assert_int_equal(kv_sequence_create(&b, MAX_TOKENS), 0);

    assert_int_equal(kv_cache_find(&kv, &a, tokens, MAX_TOKENS, no_salt), 0);
    assert_int_equal(kv_cache_reserve(&kv, &a, 3 * KV_CHUNK + 10), 0);
    kv_cache_publish(&kv, &a, tokens, 3 * KV_CHUNK + 10, no_salt);
    assert_int_equal(a.n_known, 3);

    assert_int_equal(kv_cache_find(&kv, &b, tokens, MAX_TOKENS, no_salt), 3 * KV_CHUNK);
    assert_memory_equal(b.pages, a.pages, 3 * sizeof(*a.pages));
    assert_int_equal(kv.pool.n_free, N_PAGES - 4);
    kv_cache_release(&kv, &b);
    assert_int_equal(kv_cache_find(&kv, &b, tokens, 2 * KV_CHUNK + 63, no_salt), 2 * KV_CHUNK);
    kv_cache_release(&kv, &b);
    assert_int_equal(kv_cache_find(&kv, &b, other, MAX_TOKENS, no_salt), KV_CHUNK);
    kv_cache_release(&kv, &b);
    assert_int_equal(kv_cache_find(&kv, &b, tokens + KV_CHUNK, 2 * KV_CHUNK, no_salt), 0);   /* the same tokens, elsewhere */
    assert_int_equal(kv_cache_find(&kv, &b, tokens, MAX_TOKENS, salt), 0);

    kv_cache_release(&kv, &a);          /* stays findable */
    assert_int_equal(kv.pool.n_free, N_PAGES);
    assert_int_equal(kv_cache_find(&kv, &b, tokens, MAX_TOKENS, no_salt), 3 * KV_CHUNK);
    kv_cache_release(&kv, &b);
    kv_sequence_destroy(&a);
    kv_sequence_destroy(&b);
    kv_cache_destroy(&kv);
}

/* Two that compute the same at the same time end with one copy. */
static void test_second_copy_is_given_back(void **state)
{
    (void)state;
    const size_t start[] = { 0, N_PAGES };
    int32_t tokens[MAX_TOKENS];
    struct kv_sequence a, b;
    struct kv_cache kv;

    count_up(tokens, MAX_TOKENS, 5);
    assert_int_equal(kv_cache_create(&kv, 1, start), 0);
    assert_int_equal(kv_sequence_create(&a, MAX_TOKENS), 0);
    assert_int_equal(kv_sequence_create(&b, MAX_TOKENS), 0);
    assert_int_equal(kv_cache_reserve(&kv, &a, 2 * KV_CHUNK), 0);
    assert_int_equal(kv_cache_reserve(&kv, &b, 3 * KV_CHUNK), 0);
    kv_cache_publish(&kv, &a, tokens, KV_CHUNK, no_salt);
    kv_cache_publish(&kv, &b, tokens, 3 * KV_CHUNK, no_salt);
    kv_cache_publish(&kv, &a, tokens, 2 * KV_CHUNK, no_salt);
    assert_memory_equal(a.pages, b.pages, 2 * sizeof(*a.pages));
    assert_int_equal(kv.pool.n_free, N_PAGES - 3);
    kv_cache_release(&kv, &a);
    kv_cache_release(&kv, &b);
    assert_int_equal(kv.pool.n_free, N_PAGES);
    kv_sequence_destroy(&a);
    kv_sequence_destroy(&b);
    kv_cache_destroy(&kv);
}

/* Unused pages go when memory is wanted: the longest unused first, and of a chain its end. */
static void test_end_of_the_oldest_goes_first(void **state)
{
    (void)state;
    const size_t start[] = { 0, 8 };
    int32_t old[MAX_TOKENS], fresh[MAX_TOKENS];
    struct kv_sequence s;
    struct kv_cache kv;

    count_up(old, MAX_TOKENS, 0);
    count_up(fresh, MAX_TOKENS, 100000);
    assert_int_equal(kv_cache_create(&kv, 1, start), 0);
    assert_int_equal(kv_sequence_create(&s, MAX_TOKENS), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kv_cache_reserve(&kv, &s, 4 * KV_CHUNK), 0);
        kv_cache_publish(&kv, &s, i ? fresh : old, 4 * KV_CHUNK, no_salt);
        kv_cache_release(&kv, &s);
    }
    assert_int_equal(kv_cache_reserve(&kv, &s, 2 * KV_CHUNK), 0);
    kv_cache_release(&kv, &s);
    assert_int_equal(kv_cache_find(&kv, &s, old, MAX_TOKENS, no_salt), 2 * KV_CHUNK);
    kv_cache_release(&kv, &s);
    assert_int_equal(kv_cache_find(&kv, &s, fresh, MAX_TOKENS, no_salt), 4 * KV_CHUNK);
    kv_cache_release(&kv, &s);
    kv_sequence_destroy(&s);
    kv_cache_destroy(&kv);
}

static size_t next_random(uint64_t *state, size_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(*state >> 33) % n;
}

struct writer {
    struct kv_sequence s;
    struct kv_salt salt;
    int32_t tokens[MAX_TOKENS];
    size_t n_done;
    bool has_begun;
};

/* Prompts of few beginnings, so that much is shared and much is nearly shared. */
static void begin(struct kv_cache *kv, struct writer *w, uint64_t *seed)
{
    const size_t n = 1 + next_random(seed, MAX_TOKENS);

    w->salt = (struct kv_salt){ { next_random(seed, 6), 0 } };      /* more than the weak hash has values */
    for (size_t page = 0; page < MAX_PAGES; page++) {
        const size_t odd = next_random(seed, 4 * KV_CHUNK);     /* one token of a page in four is another one */

        for (size_t i = 0; i < KV_CHUNK; i++)
            w->tokens[page * KV_CHUNK + i] = i == odd ? 8 : 7;
    }
    w->n_done = kv_cache_find(kv, &w->s, w->tokens, n - 1, w->salt);
    assert_true(w->n_done < n && w->n_done % KV_CHUNK == 0);
    for (size_t i = 0; i < w->s.n_pages; i++)
        assert_holds(w->s.pages[i], w->tokens, (i + 1) * KV_CHUNK, w->salt);
}

static void go_on(struct kv_cache *kv, struct writer *w, uint64_t *seed)
{
    size_t n = w->n_done + 1 + next_random(seed, 3 * KV_CHUNK);

    n = n < MAX_TOKENS ? n : MAX_TOKENS;
    if (kv_cache_reserve(kv, &w->s, n))
        return;
    for (size_t page = w->n_done / KV_CHUNK; page < n / KV_CHUNK; page++)
        fill(&w->s, page, w->tokens, w->salt);
    w->n_done = n;
    kv_cache_publish(kv, &w->s, w->tokens, n, w->salt);
    for (size_t i = 0; i < n / KV_CHUNK; i++)
        assert_holds(w->s.pages[i], w->tokens, (i + 1) * KV_CHUNK, w->salt);
}

/* Every page that anybody uses holds what he thinks, through thousands of requests; and in the end all pages are there. */
static void test_random_rounds(void **state)
{
    (void)state;
    static const size_t starts[][5] = { { 0, N_PAGES, N_PAGES, N_PAGES, N_PAGES }, { 0, 10, 20, 30, 40 }, { 0, 0, 3, 35, 40 } };
    static struct writer writers[N_SEQUENCES];
    size_t n_found = 0;

    for (size_t p = 0; p < 3; p++) {
        uint64_t seed = p + 1;
        struct kv_cache kv;

        assert_int_equal(kv_cache_create(&kv, p ? 4 : 1, starts[p]), 0);
        for (size_t i = 0; i < N_SEQUENCES; i++)
            assert_int_equal(kv_sequence_create(&writers[i].s, MAX_TOKENS), 0);
        for (size_t round = 0; round < N_ROUNDS; round++) {
            struct writer *w = &writers[next_random(&seed, N_SEQUENCES)];
            size_t used = 0;
            bool seen[N_PAGES] = { false };

            if (!w->has_begun) {
                begin(&kv, w, &seed);
                n_found += w->n_done;
                w->has_begun = true;
            } else if (next_random(&seed, 4) == 0) {
                kv_cache_release(&kv, &w->s);
                w->has_begun = false;
            } else {
                go_on(&kv, w, &seed);
            }
            for (size_t i = 0; i < N_SEQUENCES; i++)
                for (size_t j = 0; j < writers[i].s.n_pages; j++) {
                    used += !seen[writers[i].s.pages[j]];
                    seen[writers[i].s.pages[j]] = true;
                }
            assert_int_equal(kv.pool.n_free, N_PAGES - used);
        }
        for (size_t i = 0; i < N_SEQUENCES; i++) {
            kv_cache_release(&kv, &writers[i].s);
            kv_sequence_destroy(&writers[i].s);
            writers[i].has_begun = false;
        }
        assert_int_equal(kv.pool.n_free, N_PAGES);
        kv_cache_destroy(&kv);
    }
    assert_true(n_found > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_by_what_it_holds), cmocka_unit_test(test_second_copy_is_given_back),
        cmocka_unit_test(test_end_of_the_oldest_goes_first), cmocka_unit_test(test_random_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
