/* check_kv_cache.c - pages handed out and taken back, of one part and of several, against an independent account of who has which. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/kv_cache.h"

enum { MAX_TEST_PAGES = 4096 };

static void create(struct kv_cache *kv, size_t n_parts, const size_t *sizes)
{
    size_t start[TOPOLOGY_MAX_NODES + 1] = { 0 };

    for (size_t i = 0; i < n_parts; i++)
        start[i + 1] = start[i] + sizes[i];
    assert_int_equal(kv_cache_create(kv, n_parts, start), 0);
    assert_int_equal(kv->pool.n_pages, start[n_parts]);
    assert_int_equal(kv->pool.n_free, start[n_parts]);
}

static void create_sequence(struct kv_sequence *s, size_t n_pages)
{
    assert_int_equal(kv_sequence_create(s, n_pages * KV_CHUNK), 0);
    assert_int_equal(s->max_pages, n_pages);
    assert_int_equal(s->n_pages, 0);
}

static void reserve_pages(struct kv_cache *kv, struct kv_sequence *s, size_t n_pages)
{
    assert_int_equal(kv_cache_reserve(kv, s, n_pages * KV_CHUNK), 0);
    assert_int_equal(s->n_pages, n_pages);
}

/* Where a page lies, counted here from the sizes. */
static size_t part_of(const size_t *sizes, int32_t page)
{
    size_t part = 0, end = sizes[0];

    while ((size_t)page >= end)
        end += sizes[++part];
    return part;
}

static void count_parts(const struct kv_sequence *s, const size_t *sizes, size_t *held)
{
    memset(held, 0, TOPOLOGY_MAX_NODES * sizeof(*held));
    for (size_t i = 0; i < s->n_pages; i++)
        held[part_of(sizes, s->pages[i])]++;
}

static void test_tokens_and_pages(void **state)
{
    (void)state;
    struct kv_cache kv;
    struct kv_sequence s;

    create(&kv, 1, (const size_t[]){ 4 });
    create_sequence(&s, 4);
    assert_int_equal(kv_cache_reserve(&kv, &s, 0), 0);
    assert_int_equal(s.n_pages, 0);
    assert_int_equal(kv_cache_reserve(&kv, &s, 1), 0);
    assert_int_equal(s.n_pages, 1);
    assert_int_equal(kv_cache_reserve(&kv, &s, KV_CHUNK), 0);
    assert_int_equal(s.n_pages, 1);
    assert_int_equal(kv_cache_reserve(&kv, &s, KV_CHUNK + 1), 0);
    assert_int_equal(s.n_pages, 2);
    assert_int_equal(kv_cache_reserve(&kv, &s, 1), 0);      /* fewer: nothing is given back */
    assert_int_equal(s.n_pages, 2);
    assert_int_equal(s.pages[0], 0);                        /* the first page is handed out first */
    assert_int_equal(s.pages[1], 1);
    assert_int_equal(kv.pool.n_free, 2);
    kv_cache_release(&kv, &s);
    assert_int_equal(s.n_pages, 0);
    assert_int_equal(kv.pool.n_free, 4);
    kv_cache_release(&kv, &s);                              /* nothing to give back */
    assert_int_equal(kv.pool.n_free, 4);
    kv_sequence_destroy(&s);
    kv_cache_destroy(&kv);
}

static void test_no_pages_at_all(void **state)
{
    (void)state;
    static const size_t none[3] = { 0 };
    struct kv_cache kv;
    struct kv_sequence s;

    create(&kv, 3, none);
    create_sequence(&s, 1);
    assert_int_equal(kv_cache_reserve(&kv, &s, 0), 0);
    assert_int_equal(kv_cache_reserve(&kv, &s, 1), -ENOSPC);
    kv_sequence_destroy(&s);
    assert_int_equal(kv_sequence_create(&s, 0), 0);
    kv_sequence_destroy(&s);
    kv_cache_destroy(&kv);
}

/* After every page the parts hold shares of the sequence as large as their own, to within a page, while none is empty. */
static void assert_even(const struct kv_sequence *s, const size_t *sizes, size_t n_parts)
{
    size_t held[TOPOLOGY_MAX_NODES], total = 0;

    count_parts(s, sizes, held);
    for (size_t i = 0; i < n_parts; i++)
        total += sizes[i];
    for (size_t i = 0; i < n_parts; i++) {
        const double fair = (double)s->n_pages * (double)sizes[i] / (double)total;
        assert_true((double)held[i] > fair - 1 - (double)n_parts * (double)sizes[i] / (double)total);
        assert_true((double)held[i] < fair + 1 + (double)n_parts * (double)sizes[i] / (double)total);
    }
}

static void test_even_parts(void **state)
{
    (void)state;
    for (size_t n_parts = 1; n_parts <= 16; n_parts++) {
        size_t sizes[16], held[TOPOLOGY_MAX_NODES];
        struct kv_cache kv;
        struct kv_sequence s;

        for (size_t i = 0; i < n_parts; i++)
            sizes[i] = 20;
        create(&kv, n_parts, sizes);
        create_sequence(&s, 20 * n_parts);
        for (size_t n = 1; n <= 20 * n_parts; n++) {
            reserve_pages(&kv, &s, n);
            count_parts(&s, sizes, held);
            for (size_t i = 0; i < n_parts; i++)
                assert_in_range(held[i], n / n_parts, (n + n_parts - 1) / n_parts);
        }
        kv_cache_release(&kv, &s);
        reserve_pages(&kv, &s, 7 * n_parts);                /* all at once: as even */
        count_parts(&s, sizes, held);
        for (size_t i = 0; i < n_parts; i++)
            assert_int_equal(held[i], 7);
        kv_cache_release(&kv, &s);
        kv_sequence_destroy(&s);
        kv_cache_destroy(&kv);
    }
}

/* Short sequences, one after the other, do not all begin on the first part. */
static void test_short_sequences_spread(void **state)
{
    (void)state;
    static const size_t sizes[4] = { 8, 8, 8, 8 };
    size_t n_of_part[4] = { 0 };
    struct kv_cache kv;
    struct kv_sequence s[32];

    create(&kv, 4, sizes);
    for (size_t i = 0; i < 32; i++) {
        create_sequence(&s[i], 1);
        reserve_pages(&kv, &s[i], 1);
        n_of_part[part_of(sizes, s[i].pages[0])]++;
        for (size_t p = 0; p < 4; p++)
            assert_in_range(n_of_part[p], (i + 1) / 4, (i + 4) / 4);
    }
    for (size_t i = 0; i < 32; i++) {
        kv_cache_release(&kv, &s[i]);
        kv_sequence_destroy(&s[i]);
    }
    kv_cache_destroy(&kv);
}

static void test_uneven_parts(void **state)
{
    (void)state;
    static const size_t shapes[][4] = { { 30, 10, 20, 40 }, { 0, 10, 20, 30 }, { 10, 0, 0, 30 }, { 1, 1, 1, 97 }, { 7, 11, 13, 0 } };

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const size_t *sizes = shapes[i], n_pages = sizes[0] + sizes[1] + sizes[2] + sizes[3];
        struct kv_cache kv;
        struct kv_sequence s;

        create(&kv, 4, sizes);
        create_sequence(&s, n_pages);
        for (size_t n = 1; n <= n_pages; n++) {
            reserve_pages(&kv, &s, n);
            assert_even(&s, sizes, 4);
            assert_int_equal(kv_pool_part(&kv.pool, s.pages[n - 1]), part_of(sizes, s.pages[n - 1]));
        }
        assert_int_equal(kv.pool.n_free, 0);
        kv_cache_release(&kv, &s);
        kv_sequence_destroy(&s);
        kv_cache_destroy(&kv);
    }
}

/* A part that others took up gives nothing; the rest goes on evenly, and catches up when the part has pages again. */
static void test_exhausted_part(void **state)
{
    (void)state;
    static const size_t sizes[3] = { 4, 4, 4 };
    size_t held[TOPOLOGY_MAX_NODES];
    struct kv_cache kv;
    struct kv_sequence small[12], s;

    create(&kv, 3, sizes);
    create_sequence(&s, 12);
    for (size_t i = 0; i < 12; i++) {
        create_sequence(&small[i], 1);
        reserve_pages(&kv, &small[i], 1);
    }
    assert_int_equal(kv_cache_reserve(&kv, &s, 1), -ENOSPC);
    for (size_t i = 0; i < 12; i++)     /* all of part 0 stays taken */
        if (part_of(sizes, small[i].pages[0]) != 0)
            kv_cache_release(&kv, &small[i]);
    reserve_pages(&kv, &s, 6);
    count_parts(&s, sizes, held);
    assert_int_equal(held[0], 0);
    assert_int_equal(held[1], 3);
    assert_int_equal(held[2], 3);
    for (size_t i = 0; i < 12; i++)
        kv_cache_release(&kv, &small[i]);
    reserve_pages(&kv, &s, 9);
    count_parts(&s, sizes, held);
    assert_int_equal(held[0], 3);
    kv_cache_release(&kv, &s);
    for (size_t i = 0; i < 12; i++)
        kv_sequence_destroy(&small[i]);
    kv_sequence_destroy(&s);
    kv_cache_destroy(&kv);
}

static void test_no_space_changes_nothing(void **state)
{
    (void)state;
    static const size_t sizes[2] = { 3, 2 };
    int32_t pages[3];
    struct kv_cache kv, before;
    struct kv_sequence s;

    create(&kv, 2, sizes);
    create_sequence(&s, 6);
    reserve_pages(&kv, &s, 3);
    memcpy(pages, s.pages, sizeof(pages));
    before = kv;
    assert_int_equal(kv_cache_reserve(&kv, &s, 5 * KV_CHUNK + 1), -ENOSPC);
    assert_int_equal(s.n_pages, 3);
    assert_memory_equal(s.pages, pages, sizeof(pages));
    assert_memory_equal(&kv, &before, sizeof(kv));
    reserve_pages(&kv, &s, 5);          /* the last page, too, can be had */
    assert_int_equal(kv.pool.n_free, 0);
    kv_cache_release(&kv, &s);
    kv_sequence_destroy(&s);
    kv_cache_destroy(&kv);
}

enum { N_SEQUENCES = 24, MAX_SEQUENCE_PAGES = 40, N_ROUNDS = 10000 };

/* Who has each page, by what reserve and release said: -1 nobody. And what the sequences should hold. */
struct account {
    int owner[MAX_TEST_PAGES];
    int32_t pages[N_SEQUENCES][MAX_SEQUENCE_PAGES];
    size_t n[N_SEQUENCES], n_pages, n_free, n_free_of[TOPOLOGY_MAX_NODES];
};

/* The part a page had to come from: no other with free pages may have had less of the sequence for its size. */
static void assert_least_held(const struct account *a, const size_t *sizes, size_t n_parts, const size_t *held, size_t chosen)
{
    assert_true(a->n_free_of[chosen] > 0);
    for (size_t i = 0; i < n_parts; i++)
        if (a->n_free_of[i])
            assert_true(held[chosen] * sizes[i] <= held[i] * sizes[chosen]);
}

static void account_new_pages(struct account *a, const size_t *sizes, size_t n_parts, int who, const struct kv_sequence *s)
{
    size_t held[TOPOLOGY_MAX_NODES] = { 0 };

    assert_memory_equal(a->pages[who], s->pages, a->n[who] * sizeof(int32_t));      /* what it had is where it was */
    for (size_t i = 0; i < a->n[who]; i++)
        held[part_of(sizes, s->pages[i])]++;
    for (; a->n[who] < s->n_pages; a->n[who]++, a->n_free--) {
        const int32_t page = s->pages[a->n[who]];

        assert_in_range(page, 0, a->n_pages - 1);
        assert_int_equal(a->owner[page], -1);
        const size_t part = part_of(sizes, page);
        assert_least_held(a, sizes, n_parts, held, part);
        a->owner[page] = who;
        a->pages[who][a->n[who]] = page;
        a->n_free_of[part]--;
        held[part]++;
    }
}

static void account_released(struct account *a, const size_t *sizes, int who)
{
    for (size_t i = 0; i < a->n[who]; i++) {
        a->owner[a->pages[who][i]] = -1;
        a->n_free_of[part_of(sizes, a->pages[who][i])]++;
    }
    a->n_free += a->n[who];
    a->n[who] = 0;
}

static size_t next_random(uint64_t *state, size_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(*state >> 33) % n;
}

static void random_rounds(size_t n_parts, const size_t *sizes, uint64_t seed)
{
    static struct account a;
    struct kv_cache kv;
    struct kv_sequence s[N_SEQUENCES];
    size_t n_refused = 0;

    create(&kv, n_parts, sizes);
    a = (struct account){ .n_pages = kv.pool.n_pages, .n_free = kv.pool.n_pages };
    memset(a.owner, -1, sizeof(a.owner));
    memcpy(a.n_free_of, sizes, n_parts * sizeof(*sizes));
    for (size_t i = 0; i < N_SEQUENCES; i++)
        create_sequence(&s[i], MAX_SEQUENCE_PAGES);
    for (size_t round = 0; round < N_ROUNDS; round++) {
        const int who = (int)next_random(&seed, N_SEQUENCES);

        if (next_random(&seed, 4) == 0) {
            kv_cache_release(&kv, &s[who]);
            account_released(&a, sizes, who);
        } else {
            const size_t more = next_random(&seed, 8) ? next_random(&seed, 4) : next_random(&seed, MAX_SEQUENCE_PAGES);
            const size_t n = a.n[who] + more < MAX_SEQUENCE_PAGES ? a.n[who] + more : MAX_SEQUENCE_PAGES;
            const size_t tokens = n ? n * KV_CHUNK - next_random(&seed, KV_CHUNK) : 0;
            const int err = kv_cache_reserve(&kv, &s[who], tokens);

            assert_int_equal(err, n - a.n[who] <= a.n_free ? 0 : -ENOSPC);
            n_refused += err != 0;
            assert_int_equal(s[who].n_pages, err ? a.n[who] : n);
            account_new_pages(&a, sizes, n_parts, who, &s[who]);
        }
        assert_int_equal(kv.pool.n_free, a.n_free);
        assert_memory_equal(kv.pool.n_blank_of, a.n_free_of, n_parts * sizeof(a.n_free_of[0]));
    }
    assert_true(n_refused > 0);
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        kv_cache_release(&kv, &s[i]);
        kv_sequence_destroy(&s[i]);
    }
    assert_int_equal(kv.pool.n_free, kv.pool.n_pages);
    kv_cache_destroy(&kv);
}

static void test_random_rounds(void **state)
{
    (void)state;
    static const size_t fixed[][5] = { { 100 }, { 30, 30, 30, 30, 30 }, { 5, 0, 80, 1, 14 }, { 0, 0, 60, 0, 60 }, { 64, 1, 1, 1, 1 } };
    uint64_t seed = 1;

    random_rounds(1, fixed[0], 7);
    for (size_t i = 1; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        random_rounds(5, fixed[i], i);
    for (size_t i = 0; i < 20; i++) {
        size_t sizes[TOPOLOGY_MAX_NODES], n_parts = 1 + next_random(&seed, TOPOLOGY_MAX_NODES);

        for (size_t j = 0; j < n_parts; j++)
            sizes[j] = next_random(&seed, 5) ? next_random(&seed, 200 / n_parts + 2) : 0;
        random_rounds(n_parts, sizes, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_and_pages),   cmocka_unit_test(test_no_pages_at_all),
        cmocka_unit_test(test_even_parts),         cmocka_unit_test(test_short_sequences_spread),
        cmocka_unit_test(test_uneven_parts),       cmocka_unit_test(test_exhausted_part),
        cmocka_unit_test(test_no_space_changes_nothing), cmocka_unit_test(test_random_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
