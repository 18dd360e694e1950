/*
 * check_scheduler.c - the scheduler with a model that is made up and a clock that is turned by hand.
 *
 * The model's "keys and values" of a position are a hash of the tokens up to it (and of their roles, where roles differ), kept where the
 * position's page says; the next token is drawn from that hash. So a page that was not computed, not brought back, given to two, or
 * shared by sequences that differ, gives another answer than the tokens alone do. In a world whose layers slide it is a hash of the last
 * positions' values, too, which are kept where their windows say. The invariants are checked between all steps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/scheduler.h"

enum { VOCAB = 1000, MAX_PAGES = 512, MOST_PROMPT = 700, MOST_NEW = 200, MAX_SLOTS = 64, MOST_WINDOW = 200 };

static uint64_t state_of_random = 1;

static uint32_t below(uint32_t n)       /* xorshift64*, Vigna 2016 */
{
    state_of_random ^= state_of_random >> 12;
    state_of_random ^= state_of_random << 25;
    state_of_random ^= state_of_random >> 27;
    return (uint32_t)((state_of_random * 0x2545F4914F6CDD1D) >> 33) % n;
}

/* --- the model --- */

struct world {
    struct scheduler scheduler;
    struct kv_cache kv;
    struct kv_spare spare;
    uint64_t contents[MAX_PAGES][KV_CHUNK], windows[MAX_PAGES][KV_CHUNK];
    uint64_t spilled[MAX_SLOTS][2][KV_CHUNK];   /* a page, and its window */
    bool roles_differ;
    uint64_t now_ns, n_arrived;
    size_t n_finished, n_left, n_wrong, n_drafted, n_accepted;
    double step_ns;                     /* of the last step */
};

static uint64_t mix(uint64_t x, uint64_t y)
{
    x = (x ^ y) * 0x9E3779B97F4A7C15;
    return x ^ x >> 29;
}

/* The value of a token from those of the n before it, at end[-1], end[-2] .. (of which one is enough, or the window). */
static uint64_t next_hash(const struct world *w, const uint64_t *end, size_t n, int32_t id, bool generated)
{
    uint64_t hash = n ? end[-1] : 7;

    for (size_t i = 1; i < w->kv.span && i <= n; i++)
        hash = mix(hash, end[-(ptrdiff_t)i]);
    return mix(hash, (uint64_t)id * 2 + (w->roles_differ && generated));
}

static int32_t drawn_from(uint64_t hash)
{
    return (int32_t)(hash % VOCAB);
}

static void copy_out(void *arg, const int32_t *pages, const int32_t *windows, const int32_t *slots, size_t n)
{
    struct world *w = arg;

    for (size_t i = 0; i < n; i++) {
        memcpy(w->spilled[slots[i]][0], w->contents[pages[i]], sizeof(w->contents[0]));
        if (windows[i] != KV_NO_PAGE)
            memcpy(w->spilled[slots[i]][1], w->windows[windows[i]], sizeof(w->windows[0]));
    }
}

static void copy_in(void *arg, const int32_t *pages, const int32_t *windows, const int32_t *slots, size_t n)
{
    struct world *w = arg;

    for (size_t i = 0; i < n; i++) {
        memcpy(w->contents[pages[i]], w->spilled[slots[i]][0], sizeof(w->contents[0]));
        if (windows[i] != KV_NO_PAGE)
            memcpy(w->windows[windows[i]], w->spilled[slots[i]][1], sizeof(w->windows[0]));
        memset(w->spilled[slots[i]], 0xdd, sizeof(w->spilled[0]));
    }
}

static uint64_t *at(struct world *w, const struct kv_sequence *s, size_t position)
{
    assert_true(position / KV_CHUNK < s->n_pages);
    return &w->contents[s->pages[position / KV_CHUNK]][position % KV_CHUNK];
}

static uint64_t *window_at(struct world *w, const struct kv_sequence *s, size_t position)
{
    const int32_t window = s->windows[position / KV_CHUNK];

    assert_true(position / KV_CHUNK < s->n_pages && window != KV_NO_PAGE);
    return &w->windows[window][position % KV_CHUNK];
}

/* What a token at `position` sees, up to out[n]: the value before it from its page, those before that from windows. Returns n. */
static size_t read_values(struct world *w, const struct kv_sequence *s, size_t position, uint64_t *out)
{
    const size_t seen = w->kv.span > 2 ? w->kv.span - 1 : 1, n = seen < position ? seen : position;

    for (size_t i = 0; i + 1 < n; i++)
        out[i] = *window_at(w, s, position - n + i);
    if (n)
        out[n - 1] = *at(w, s, position - 1);
    if (n && w->kv.span > 1)
        assert_int_equal(out[n - 1], *window_at(w, s, position - 1));
    return n;
}

/* The scheduler's step: every position before a token must hold what the sequence's own tokens give. */
static void compute(struct world *w, const struct step_size *size)
{
    for (size_t i = 0; i < size->n_tokens; i++) {
        const struct step_token *t = &w->scheduler.step[i];
        uint64_t seen[MOST_WINDOW];
        const size_t n = read_values(w, t->sequence, t->position, seen);
        const uint64_t value = next_hash(w, seen + n, n, t->id, t->role == ROLE_GENERATED);
        *at(w, t->sequence, t->position) = value;
        if (w->kv.span)
            *window_at(w, t->sequence, t->position) = value;
    }
}

/* What the answer is, from the tokens alone. */
static void expect(const struct world *w, const struct sequence *q, int32_t *answer, size_t n)
{
    const size_t n_prompt = q->request.n_prompt;
    uint64_t *values = malloc((n_prompt + n) * sizeof(*values));

    assert_non_null(values);
    for (size_t i = 0; i < n_prompt; i++)
        values[i] = next_hash(w, values + i, i, q->request.tokens[i], false);
    for (size_t i = 0; i < n; i++) {
        answer[i] = drawn_from(values[n_prompt + i - 1]);
        values[n_prompt + i] = next_hash(w, values + n_prompt + i, n_prompt + i, answer[i], true);
    }
    free(values);
}

static void free_sequence(struct sequence *q)
{
    kv_sequence_destroy(&q->kv);
    free(q);
}

static void finish(struct world *w, struct sequence *q)
{
    int32_t answer[MOST_NEW];
    const size_t n = sequence_n_generated(q);

    expect(w, q, answer, n);
    w->n_wrong += memcmp(answer, q->tokens + q->request.n_prompt, n * sizeof(*answer)) != 0;
    w->n_finished++;
    free_sequence(q);
}

/* As the batcher does it, with the hash for logits. Returns true when q is finished. */
static bool evaluate(struct world *w, struct sequence *q)
{
    struct scheduler *s = &w->scheduler;
    const size_t n_prompt = q->request.n_prompt, n_done = q->n_done + q->n_step;
    const size_t n_read = n_done < n_prompt ? n_done : n_prompt, n_known = q->n_step - q->n_draft, n_draft = q->n_draft;

    if (!q->n_step)
        return false;
    if (n_read > q->n_reported) {
        scheduler_read(s, q, n_read - q->n_reported);
        q->n_reported = n_read;
    }
    if (n_done < q->n_tokens) {
        scheduler_computed(s, q, q->n_step);
        return false;
    }
    w->n_drafted += n_draft;
    for (size_t i = 0; i <= n_draft; i++) {
        const size_t last = q->n_tokens - 1;
        const int32_t drafted = i < n_draft ? q->tokens[q->n_tokens] : -1;
        scheduler_computed(s, q, i ? 1 : n_known);
        scheduler_append(s, q, drawn_from(*at(w, &q->kv, last)));
        if (sequence_n_generated(q) == q->request.max_tokens)
            return true;
        if (q->tokens[q->n_tokens - 1] != drafted)
            break;
        w->n_accepted++;
    }
    return false;
}

/* Drafts: right ones, and ones that go wrong somewhere. */
static void draft(struct world *w, struct sequence *q)
{
    const size_t left = q->request.max_tokens - sequence_n_generated(q);
    uint64_t values[MOST_WINDOW + SCHEDULER_MAX_DRAFT + 1];

    q->n_draft = 0;
    if (!w->scheduler.limits.max_drafts || !sequence_decodes(q) || below(3) == 0)
        return;
    q->n_draft = 1 + below(SCHEDULER_MAX_DRAFT);
    q->n_draft = q->n_draft < left - 1 ? q->n_draft : left - 1;
    size_t n = read_values(w, &q->kv, q->n_done, values);
    values[n] = next_hash(w, values + n, n, q->tokens[q->n_tokens - 1], true);
    for (size_t i = 0; i < q->n_draft; i++) {
        const int32_t right = drawn_from(values[n++]);
        q->tokens[q->n_tokens + i] = below(4) ? right : (int32_t)below(VOCAB);
        values[n] = next_hash(w, values + n, n, right, true);
    }
}

/* Time: so much for a step, a sequence in it and a prompt token. */
static struct step_size step(struct world *w)
{
    struct scheduler *s = &w->scheduler;
    struct sequence *q;

    while ((q = scheduler_take_leaving(s, w->now_ns))) {
        w->n_left++;
        free_sequence(q);
    }
    scheduler_admit(s, w->now_ns);
    scheduler_check(s);
    for (size_t i = 0; i < s->n_running; i++)
        draft(w, s->running[i]);
    const struct step_size size = scheduler_build(s);
    assert_true(size.n_tokens <= s->limits.max_step_tokens && size.n_rows <= s->limits.max_step_logits);
    scheduler_check(s);
    if (!size.n_tokens)
        return size;
    compute(w, &size);
    w->step_ns = 2e6 + 1e5 * (double)size.n_decodes + 5e4 * (double)(size.n_tokens - size.n_decodes);
    pace_observe(&s->pace, size.n_decodes, size.n_tokens - size.n_decodes, w->step_ns);
    w->now_ns += (uint64_t)w->step_ns;
    for (size_t i = 0; i < s->n_running;) {
        q = s->running[i];
        if (!evaluate(w, q)) {
            i++;
            continue;
        }
        scheduler_remove(s, q);
        finish(w, q);
    }
    scheduler_check(s);
    return size;
}

static struct world *open_world(struct scheduler_limits limits, double itl_ms, size_t n_keys, size_t n_pages, size_t n_slots)
{
    struct world *w = calloc(1, sizeof(*w));
    const size_t start[] = { 0, n_pages / 3, n_pages };
    const struct pace pace = { .target_ns = 1e6 * itl_ms, .most = 256 };

    assert_non_null(w);
    assert_true(n_pages <= MAX_PAGES && n_slots <= MAX_SLOTS);
    limits.max_step_tokens = 256 + limits.max_batch + limits.max_drafts;
    limits.max_step_logits = limits.max_batch + limits.max_drafts + 1;
    assert_int_equal(kv_cache_create(&w->kv, 2, start), 0);
    assert_int_equal(kv_spare_create(&w->spare, n_slots), 0);
    w->spare.copy_out = copy_out;
    w->spare.copy_in = copy_in;
    w->spare.arg = w;
    w->roles_differ = !limits.roles_agree;
    w->now_ns = 1;
    assert_int_equal(scheduler_create(&w->scheduler, &limits, &pace, n_keys, &w->kv, &w->spare), 0);
    return w;
}

/* From the beginning on some layers slide; n_windows, or 0: as many as kv_windows_in_use says. */
static void let_slide(struct world *w, size_t window, size_t n_windows)
{
    const struct scheduler_limits *limits = &w->scheduler.limits;
    const size_t n = n_windows ? n_windows : kv_windows_in_use(window, limits->max_batch, limits->max_step_tokens);

    assert_true(n <= MAX_PAGES && window <= MOST_WINDOW);
    assert_int_equal(kv_cache_add_windows(&w->kv, window, (size_t[]){ 0, n / 4, n }), 0);
}

static void close_world(struct world *w)
{
    struct sequence *q;

    while ((q = scheduler_take_any(&w->scheduler)))
        free_sequence(q);
    assert_int_equal(w->n_wrong, 0);
    assert_int_equal(w->kv.pool.n_free, w->kv.pool.n_pages);
    assert_int_equal(w->kv.window_pool.n_free, w->kv.window_pool.n_pages);
    assert_int_equal(w->spare.n_free, w->spare.n_slots);
    scheduler_check(&w->scheduler);
    scheduler_destroy(&w->scheduler);
    kv_spare_destroy(&w->spare);
    kv_cache_destroy(&w->kv);
    free(w);
}

/* A prompt of `family`'s beginning and own tokens. */
static struct sequence *arrive(struct world *w, uint32_t key, int32_t priority, size_t n_shared, uint32_t family, size_t n_own, size_t n_new)
{
    const size_t n_prompt = n_shared + n_own;
    struct sequence *q = calloc(1, sizeof(*q) + (n_prompt + n_new) * sizeof(int32_t));

    assert_non_null(q);
    q->tokens = (int32_t *)(q + 1);
    for (size_t i = 0; i < n_shared; i++)
        q->tokens[i] = (int32_t)((i * 31 + family * 17) % VOCAB);
    for (size_t i = n_shared; i < n_prompt; i++)
        q->tokens[i] = (int32_t)below(VOCAB);
    q->request = (struct engine_request){ .id = w->n_arrived, .tokens = q->tokens, .n_prompt = n_prompt, .max_tokens = (uint32_t)n_new,
                                          .key = key, .priority = priority };
    q->n_tokens = n_prompt;
    q->number = w->n_arrived++;
    q->submitted_ns = w->now_ns;
    assert_int_equal(kv_sequence_create(&q->kv, n_prompt + n_new), 0);
    scheduler_arrive(&w->scheduler, q);
    return q;
}

static void run_to_end(struct world *w)
{
    while (w->scheduler.n_waiting || w->scheduler.n_running)
        step(w);
}

/* --- tests --- */

static void random_schedule(struct world *w, size_t n_requests)
{
    for (size_t i = 0; i < n_requests;) {
        for (size_t n = below(3); n && i < n_requests; n--, i++) {
            struct sequence *q = arrive(w, below(3), (int32_t)below(3) - 1, below(2) ? below(400) : 0, below(3), 1 + below(200),
                                        1 + below(MOST_NEW));
            if (below(20) == 0)
                q->request.deadline_ns = w->now_ns + 1 + below(400000000);
            if (below(5) == 0)
                q->request.salt.word[0] = below(2);
        }
        if (below(10) == 0 && w->n_arrived) {
            const uint64_t ids[2] = { below((uint32_t)w->n_arrived), w->n_arrived - 1 - below(w->n_arrived < 30 ? 1 : 30) };
            scheduler_cancel(&w->scheduler, ids, 2);
        }
        do
            step(w);
        while (w->scheduler.n_waiting > 20);
    }
    run_to_end(w);
    assert_int_equal(w->n_finished + w->n_left, n_requests);
    assert_true(w->n_finished > n_requests / 2 && w->n_left);
}

static void test_same_answers_whatever_happens(void **unused)
{
    (void)unused;
    static const struct { bool roles_agree, prefix_cache; size_t n_pages, n_slots, max_drafts, reserve; double itl_ms; size_t window; }
    worlds[] = {
        { true, true, 60, 64, 0, 1, 0, 0 }, { true, true, 30, 0, 0, 1, 0, 0 }, { false, true, 40, 5, 0, 1, 10, 0 },
        { true, false, 30, 20, 40, 1, 0, 0 }, { false, true, 30, 40, 12, 64, 5, 0 }, { true, true, 400, 0, 60, 256, 0, 0 },
        { true, true, 60, 64, 0, 1, 0, 100 }, { false, true, 40, 40, 40, 1, 0, 64 }, { true, false, 40, 20, 12, 1, 0, 1 },
        { true, true, 40, 0, 12, 64, 5, 2 }, { true, true, 400, 0, 60, 256, 0, 200 },
    };
    struct scheduler_counts all = { 0 };
    size_t n_drafted = 0, n_accepted = 0;

    for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++) {
        const struct scheduler_limits limits = { .max_batch = 8, .max_drafts = worlds[i].max_drafts, .reserve_tokens = worlds[i].reserve,
                                                 .prefix_cache = worlds[i].prefix_cache, .roles_agree = worlds[i].roles_agree };
        struct world *w = open_world(limits, worlds[i].itl_ms, 3, worlds[i].n_pages, worlds[i].n_slots);
        if (worlds[i].window)
            let_slide(w, worlds[i].window, 0);
        random_schedule(w, 400);
        const struct scheduler_counts *c = &w->scheduler.counts;
        print_message("%zu pages, %zu slots: %llu parked, %llu spilled, %llu computed again, %llu of %llu from the cache, %zu of %zu drafts\n",
                      worlds[i].n_pages, worlds[i].n_slots, (unsigned long long)c->parks, (unsigned long long)c->spills,
                      (unsigned long long)c->recomputes, (unsigned long long)c->prefix_hit_tokens,
                      (unsigned long long)c->prefix_lookup_tokens, w->n_accepted, w->n_drafted);
        all.parks += c->parks;
        all.spills += c->spills;
        all.recomputes += c->recomputes;
        all.prefix_hit_tokens += c->prefix_hit_tokens;
        n_drafted += w->n_drafted;
        n_accepted += w->n_accepted;
        close_world(w);
    }
    assert_true(all.parks && all.spills && all.recomputes && all.prefix_hit_tokens && n_accepted && n_accepted < n_drafted);
}

static const struct scheduler_limits plain = { .max_batch = 8, .reserve_tokens = 256, .prefix_cache = true, .roles_agree = true };

/* With pages for all, kv_windows_in_use() windows are enough: nobody has to wait for one, whatever prefixes are found. */
static void test_windows_for_all(void **unused)
{
    (void)unused;
    static const size_t windows[] = { 1, 2, 63, 64, 65, 66, 128, 200 };

    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        struct scheduler_limits limits = plain;

        limits.max_drafts = i % 2 ? 60 : 0;
        struct world *w = open_world(limits, 0, 3, 400, 0);
        let_slide(w, windows[i], 0);
        random_schedule(w, 300);
        assert_int_equal(w->scheduler.counts.parks + w->scheduler.counts.recomputes, 0);
        assert_true(w->scheduler.counts.prefix_hit_tokens > 0);
        close_world(w);
    }
}

/* A long text leaves windows to others as it goes on; what it began with is found as far as its windows are still there. */
static void test_windows_are_given_back(void **unused)
{
    (void)unused;
    struct world *w = open_world(plain, 0, 1, 400, 0);

    let_slide(w, 100, 40);
    arrive(w, 0, 0, 3000, 1, 10, 20);
    size_t most = 0;
    while (w->scheduler.n_waiting || w->scheduler.n_running) {
        step(w);
        const size_t held = w->kv.window_pool.n_pages - w->kv.window_pool.n_free;
        most = held > most ? held : most;
    }
    assert_int_equal(most, 3);              /* 99 positions before the next one */
    assert_int_equal(w->n_finished, 1);

    arrive(w, 0, 0, 3000, 1, 10, 20);       /* the same 3000 tokens: all of their full pages */
    run_to_end(w);
    assert_int_equal(w->scheduler.counts.prefix_hit_tokens, 3000 / KV_CHUNK * KV_CHUNK);
    arrive(w, 0, 0, 300, 1, 10, 20);        /* the windows of their beginning are others' by now */
    run_to_end(w);
    assert_int_equal(w->scheduler.counts.prefix_hit_tokens, 3000 / KV_CHUNK * KV_CHUNK);
    arrive(w, 0, 0, 300, 1, 10, 20);        /* and were computed again: known pages have windows again */
    run_to_end(w);
    assert_int_equal(w->scheduler.counts.prefix_hit_tokens, 3000 / KV_CHUNK * KV_CHUNK + 300 / KV_CHUNK * KV_CHUNK);
    close_world(w);
}

/* All pages can be had by one sequence after 10,000 others: whatever order they were given back in. */
static void test_nothing_is_lost_after_ten_thousand(void **unused)
{
    (void)unused;
    struct world *w = open_world(plain, 0, 1, 40, 10);

    for (size_t i = 0; i < 10000; i++) {
        arrive(w, 0, 0, below(2) ? 64 + below(100) : 0, below(50), 1 + below(30), 1 + below(3));
        if (below(50) == 0)
            scheduler_cancel(&w->scheduler, &i, 1);
        while (w->scheduler.n_waiting > 10)
            step(w);
    }
    run_to_end(w);
    assert_int_equal(w->kv.pool.n_free, 40);
    arrive(w, 0, 0, 0, 0, 40 * KV_CHUNK - MOST_NEW, MOST_NEW);
    run_to_end(w);
    assert_int_equal(w->scheduler.counts.recomputes + w->scheduler.counts.spills, 0);
    close_world(w);
}

/* While a prompt of 4,000 tokens is read, the others get a token in every step, and a step stays near the target. */
static void test_decodes_first_and_in_time(void **unused)
{
    (void)unused;
    struct world *w = open_world(plain, 8, 1, 200, 0);
    size_t n_mixed = 0;

    for (size_t i = 0; i < 7; i++)
        arrive(w, 0, 0, 0, 0, 10, MOST_NEW);
    for (size_t i = 0; i < 20; i++)
        step(w);
    arrive(w, 0, 0, 0, 0, 4000, 10);
    for (size_t i = 0; i < 40; i++) {
        const struct step_size size = step(w);
        assert_int_equal(size.n_decodes, 7);
        n_mixed += size.n_tokens > size.n_decodes;
        assert_true(i < 5 || w->step_ns <= 1.1 * 8e6);
    }
    assert_true(n_mixed > 30);
    close_world(w);
}

/* Two keys that always wait get the same, however many requests each has and however long its prompts are. */
static void test_keys_get_equal_shares(void **unused)
{
    (void)unused;
    struct world *w = open_world(plain, 0, 2, 300, 0);
    uint64_t most = 0;

    for (size_t round = 0; round < 3000; round++) {
        size_t waits[2] = { 0, 0 };
        for (const struct sequence *q = w->scheduler.waiting; q; q = q->next)
            waits[q->request.key]++;
        for (; waits[0] < 40; waits[0]++)
            arrive(w, 0, 0, 0, 0, 100 + below(200), 50);
        for (; waits[1] < 2; waits[1]++)
            arrive(w, 1, 0, 0, 0, 10, 20);
        step(w);
        const uint64_t a = w->scheduler.turns.served[0], b = w->scheduler.turns.served[1];
        if (round > 100)
            most = (a > b ? a - b : b - a) > most ? (a > b ? a - b : b - a) : most;
    }
    /* A full batch of the larger kind is what one may be ahead: 8 x (300 + 2 x 50), in 1/1024 of a token. */
    assert_in_range(most, 0, 8 * 400 * 1024);
    close_world(w);
}

/* Priorities count, and waiting counts, too. */
static void test_priorities_and_aging(void **unused)
{
    (void)unused;
    struct world *w = open_world(plain, 0, 1, 60, 0);
    struct sequence *late;

    for (size_t i = 0; i < 12; i++)     /* eight run, and end one after the other */
        arrive(w, 0, 5, 0, 0, 50, 20 + 10 * i);
    step(w);
    late = arrive(w, 0, -5, 0, 0, 20, 6);
    while (!late->admitted_ns)
        step(w);
    size_t n_unserved = 0;
    for (const struct sequence *q = w->scheduler.waiting; q; q = q->next)
        n_unserved += !q->admitted_ns;
    assert_int_equal(n_unserved, 4);    /* that were there before it */

    struct sequence *patient = arrive(w, 0, 3, 0, 0, 20, 6);
    const uint64_t since = w->now_ns;
    while (!patient->admitted_ns) {     /* others with a better number keep coming */
        while (w->scheduler.n_waiting < 12)
            arrive(w, 0, 0, 0, 0, 50, 40);
        step(w);
        assert_true(w->now_ns - since < 25000000000);
    }
    assert_true(w->now_ns - since >= 15000000000);
    close_world(w);
}

/* With pages for less than all, the one of best rank gets a token in every step. */
static void test_best_rank_always_gets_on(void **unused)
{
    (void)unused;
    struct scheduler_limits greedy = plain;
    struct world *w;
    struct sequence *first;

    greedy.reserve_tokens = 1;
    w = open_world(greedy, 0, 1, 12, 4);
    first = arrive(w, 0, -1, 0, 0, 100, MOST_NEW);
    for (size_t i = 0; i < 6; i++)
        arrive(w, 0, 0, 0, 0, 60 + 10 * i, MOST_NEW);
    while (!sequence_decodes(first))
        step(w);
    for (size_t i = 1; i < MOST_NEW - 1; i++) {
        const size_t before = first->n_tokens;
        step(w);
        assert_int_equal(first->n_tokens, before + 1);
    }
    run_to_end(w);
    assert_true(w->scheduler.counts.parks && w->scheduler.counts.spills && w->scheduler.counts.recomputes);
    assert_int_equal(w->n_finished, 7);
    close_world(w);
}

static void test_deadlines_and_cancels(void **unused)
{
    (void)unused;
    struct world *w = open_world(plain, 0, 1, 8, 0);
    struct sequence *running = arrive(w, 0, 0, 0, 0, 300, MOST_NEW), *waiting = arrive(w, 0, 0, 0, 0, 300, MOST_NEW);

    waiting->request.deadline_ns = w->now_ns + 50000000;
    step(w);
    assert_true(running->runs && !waiting->runs);
    while (w->now_ns < waiting->request.deadline_ns) {
        assert_int_equal(w->n_left, 0);
        step(w);
    }
    assert_ptr_equal(scheduler_take_leaving(&w->scheduler, w->now_ns), waiting);
    assert_int_equal(waiting->reason, ENGINE_DEADLINE);
    free_sequence(waiting);
    scheduler_cancel(&w->scheduler, (const uint64_t[]){ 77, running->request.id }, 2);
    assert_ptr_equal(scheduler_take_leaving(&w->scheduler, w->now_ns), running);
    assert_int_equal(running->reason, ENGINE_CANCELLED);
    assert_int_equal(w->kv.pool.n_free, 8);
    free_sequence(running);
    assert_null(scheduler_take_leaving(&w->scheduler, w->now_ns));
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answers_whatever_happens),
        cmocka_unit_test(test_windows_for_all),
        cmocka_unit_test(test_windows_are_given_back),
        cmocka_unit_test(test_nothing_is_lost_after_ten_thousand),
        cmocka_unit_test(test_decodes_first_and_in_time),
        cmocka_unit_test(test_keys_get_equal_shares),
        cmocka_unit_test(test_priorities_and_aging),
        cmocka_unit_test(test_best_rank_always_gets_on),
        cmocka_unit_test(test_deadlines_and_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
