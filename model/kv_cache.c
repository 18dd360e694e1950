#include "model/kv_cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { NONE = KV_NO_PAGE };

struct kv_page {
    uint32_t n_users;
    bool known;
    int32_t window;                         /* or NONE */
    /* of a known page: */
    uint64_t hash;                          /* of its tokens and the hash before it */
    int32_t same_hash;                      /* the next one of its bucket */
    int32_t parent;                         /* the page before it; NONE: it begins a chain of `salt` */
    int32_t child, next_child, last_child;  /* a page that follows it; its own neighbours among those of its parent */
    struct kv_salt salt;
    int32_t tokens[KV_CHUNK];
};

struct kv_window {
    uint32_t n_users;                       /* sequences that may still see it */
    int32_t page;                           /* whose it is, unless it is blank */
};

int kv_cache_create(struct kv_cache *kv, size_t n_parts, const size_t *start)
{
    const size_t n_pages = start[n_parts];

    *kv = (struct kv_cache){ .n_buckets = 1 };
    while (kv->n_buckets < n_pages)
        kv->n_buckets *= 2;
    kv->pages = calloc(n_pages ? n_pages : 1, sizeof(*kv->pages));
    kv->buckets = malloc(kv->n_buckets * sizeof(*kv->buckets));
    if (!kv->pages || !kv->buckets)
        return -ENOMEM;
    memset(kv->buckets, 0xff, kv->n_buckets * sizeof(*kv->buckets));
    for (size_t i = 0; i < n_pages; i++)
        kv->pages[i].window = NONE;
    return kv_pool_create(&kv->pool, n_parts, start);
}

int kv_cache_add_windows(struct kv_cache *kv, size_t span, const size_t *start)
{
    const size_t n = start[kv->pool.n_parts];

    assert(span && !kv->span);
    kv->span = span;
    kv->windows = calloc(n ? n : 1, sizeof(*kv->windows));
    return kv->windows ? kv_pool_create(&kv->window_pool, kv->pool.n_parts, start) : -ENOMEM;
}

void kv_cache_destroy(struct kv_cache *kv)
{
    kv_pool_destroy(&kv->pool);
    kv_pool_destroy(&kv->window_pool);
    free(kv->pages);
    free(kv->buckets);
    free(kv->windows);
    *kv = (struct kv_cache){ 0 };
}

int kv_sequence_create(struct kv_sequence *s, size_t max_tokens)
{
    const size_t n = kv_pages_for(max_tokens);

    *s = (struct kv_sequence){ .max_pages = n, .pages = malloc((n ? n : 1) * 2 * sizeof(*s->pages)) };
    s->windows = s->pages ? s->pages + n : NULL;
    return s->pages ? 0 : -ENOMEM;
}

void kv_sequence_destroy(struct kv_sequence *s)
{
    assert(s->n_pages == 0);
    free(s->pages);
    *s = (struct kv_sequence){ 0 };
}

/* --- windows --- */

static void add_window_user(struct kv_cache *kv, int32_t window)
{
    if (!kv->windows[window].n_users++)
        kv_pool_take_idle(&kv->window_pool, window);
}

static void drop_window_user(struct kv_cache *kv, int32_t window)
{
    struct kv_window *w = &kv->windows[window];

    assert(w->n_users);
    if (--w->n_users)
        return;
    if (kv->pages[w->page].known) {
        kv_pool_add_idle(&kv->window_pool, window);
        return;
    }
    kv->pages[w->page].window = NONE;
    kv_pool_add_blank(&kv->window_pool, window);
}

static void give_window(struct kv_cache *kv, int32_t window, int32_t page)
{
    kv->windows[window].page = page;
    kv->pages[page].window = window;
}

/* An idle window becomes blank; its page stays known. */
static void forget_window(struct kv_cache *kv, int32_t window)
{
    kv->pages[kv->windows[window].page].window = NONE;
    kv_pool_take_idle(&kv->window_pool, window);
    kv_pool_add_blank(&kv->window_pool, window);
}

static int32_t take_window(struct kv_cache *kv, size_t part, int32_t page)
{
    struct kv_pool *pool = &kv->window_pool;

    if (!pool->n_blank_of[part])
        forget_window(kv, pool->oldest[part]);
    const int32_t window = kv_pool_take_blank(pool, part);

    kv->windows[window].n_users = 1;
    give_window(kv, window, page);
    return window;
}

/* The first page that a token at position n sees. */
static size_t first_page_seen(const struct kv_cache *kv, size_t n)
{
    return n >= kv->span ? (n - kv->span + 1) / KV_CHUNK : 0;
}

/* --- pages --- */

static void add_user(struct kv_cache *kv, int32_t page)
{
    if (!kv->pages[page].n_users++)
        kv_pool_take_idle(&kv->pool, page);
}

static void drop_user(struct kv_cache *kv, int32_t page)
{
    struct kv_page *p = &kv->pages[page];

    assert(p->n_users);
    if (--p->n_users)
        return;
    assert(p->known || p->window == NONE);
    (p->known ? kv_pool_add_idle : kv_pool_add_blank)(&kv->pool, page);
}

/* --- known pages --- */

static uint64_t hash_page(uint64_t before, const int32_t *tokens)
{
    return XXH3_64bits_withSeed(tokens, KV_CHUNK * sizeof(*tokens), before);
}

/* What stands for the page before the first. */
static uint64_t hash_salt(struct kv_salt salt)
{
    return XXH3_64bits(&salt, sizeof(salt));
}

static bool same_salt(struct kv_salt a, struct kv_salt b)
{
    return a.word[0] == b.word[0] && a.word[1] == b.word[1];
}

static int32_t find(const struct kv_cache *kv, uint64_t hash, int32_t parent, const int32_t *tokens, struct kv_salt salt)
{
    int32_t page = kv->buckets[hash & (kv->n_buckets - 1)];

    for (; page != NONE; page = kv->pages[page].same_hash) {
        const struct kv_page *p = &kv->pages[page];
        if (p->hash == hash && p->parent == parent && same_salt(p->salt, salt) && !memcmp(p->tokens, tokens, sizeof(p->tokens)))
            return page;
    }
    return NONE;
}

static void make_known(struct kv_cache *kv, int32_t page, uint64_t hash, int32_t parent, const int32_t *tokens, struct kv_salt salt)
{
    int32_t *bucket = &kv->buckets[hash & (kv->n_buckets - 1)];
    struct kv_page *p = &kv->pages[page];

    *p = (struct kv_page){ .n_users = p->n_users, .known = true, .window = p->window, .hash = hash, .same_hash = *bucket,
                           .parent = parent, .child = NONE, .next_child = NONE, .last_child = NONE, .salt = salt };
    memcpy(p->tokens, tokens, sizeof(p->tokens));
    *bucket = page;
    if (parent == NONE)
        return;
    p->next_child = kv->pages[parent].child;
    if (p->next_child != NONE)
        kv->pages[p->next_child].last_child = page;
    kv->pages[parent].child = page;
}

/* An idle page that nothing follows becomes blank. */
static void forget_leaf(struct kv_cache *kv, int32_t page)
{
    struct kv_page *p = &kv->pages[page];
    int32_t *at = &kv->buckets[p->hash & (kv->n_buckets - 1)];

    assert(p->known && p->n_users == 0 && p->child == NONE);
    while (*at != page)
        at = &kv->pages[*at].same_hash;
    *at = p->same_hash;
    if (p->parent != NONE && p->last_child == NONE)
        kv->pages[p->parent].child = p->next_child;
    if (p->last_child != NONE)
        kv->pages[p->last_child].next_child = p->next_child;
    if (p->next_child != NONE)
        kv->pages[p->next_child].last_child = p->last_child;
    if (p->window != NONE)
        forget_window(kv, p->window);
    p->known = false;
    kv_pool_take_idle(&kv->pool, page);
    kv_pool_add_blank(&kv->pool, page);
}

/*
 * With a page go all that follow it: nobody could find them any more. They have no users either, for who uses a page uses those before it.
 */
static void forget(struct kv_cache *kv, int32_t page)
{
    for (int32_t at = page;;) {
        if (kv->pages[at].child != NONE) {
            at = kv->pages[at].child;
            continue;
        }
        const int32_t parent = kv->pages[at].parent;
        forget_leaf(kv, at);
        if (at == page)
            return;
        at = parent;
    }
}

/* Of the n pages found, as many as tokens can go on from: those after which all windows that the next token sees are there. */
static size_t pages_to_go_on_from(const struct kv_cache *kv, const struct kv_sequence *s, size_t n)
{
    size_t most = 0, n_windows = 0;

    if (!kv->span)
        return n;
    for (size_t i = 0; i < n; i++) {
        n_windows = kv->pages[s->pages[i]].window == NONE ? 0 : n_windows + 1;
        if (n_windows >= i + 1 - first_page_seen(kv, (i + 1) * KV_CHUNK))
            most = i + 1;
    }
    return most;
}

size_t kv_cache_find(struct kv_cache *kv, struct kv_sequence *s, const int32_t *tokens, size_t n_tokens, struct kv_salt salt)
{
    uint64_t hash = hash_salt(salt);
    int32_t parent = NONE;
    size_t n = 0;

    assert(s->n_pages == 0 && s->n_known == 0);
    for (; (n + 1) * KV_CHUNK <= n_tokens && n < s->max_pages; n++) {
        hash = hash_page(hash, tokens + n * KV_CHUNK);
        parent = find(kv, hash, parent, tokens + n * KV_CHUNK, salt);
        if (parent == NONE)
            break;
        s->pages[n] = parent;
    }
    s->n_known = s->n_pages = pages_to_go_on_from(kv, s, n);
    s->first_window = kv->span ? first_page_seen(kv, s->n_pages * KV_CHUNK) : 0;
    for (size_t i = 0; i < s->n_pages; i++) {
        const bool seen = kv->span && i >= s->first_window;
        add_user(kv, s->pages[i]);
        s->windows[i] = seen ? kv->pages[s->pages[i]].window : NONE;
        if (seen)
            add_window_user(kv, s->windows[i]);
    }
    return s->n_known * KV_CHUNK;
}

/* A page that is not known has the same tokens as `other`, which is: the sequence goes over to that, with its window. */
static void change_to(struct kv_cache *kv, struct kv_sequence *s, size_t i, int32_t other)
{
    const int32_t own = s->pages[i], window = s->windows[i];

    add_user(kv, other);
    if (window != NONE) {
        if (kv->pages[other].window == NONE) {
            kv->pages[own].window = NONE;
            give_window(kv, window, other);
        } else {
            s->windows[i] = kv->pages[other].window;
            add_window_user(kv, s->windows[i]);
            drop_window_user(kv, window);
        }
    }
    s->pages[i] = other;
    drop_user(kv, own);
}

void kv_cache_publish(struct kv_cache *kv, struct kv_sequence *s, const int32_t *tokens, size_t n_done, struct kv_salt salt)
{
    for (; (s->n_known + 1) * KV_CHUNK <= n_done; s->n_known++) {
        const int32_t parent = s->n_known ? s->pages[s->n_known - 1] : NONE;
        const int32_t *of_page = tokens + s->n_known * KV_CHUNK;
        const uint64_t hash = hash_page(parent == NONE ? hash_salt(salt) : kv->pages[parent].hash, of_page);
        const int32_t other = find(kv, hash, parent, of_page, salt);

        if (other == NONE)
            make_known(kv, s->pages[s->n_known], hash, parent, of_page, salt);
        else
            change_to(kv, s, s->n_known, other);
    }
}

/* --- pages for sequences --- */

static int32_t take_page(struct kv_cache *kv, size_t part)
{
    if (!kv->pool.n_blank_of[part])
        forget(kv, kv->pool.oldest[part]);
    const int32_t page = kv_pool_take_blank(&kv->pool, part);

    kv->pages[page].n_users = 1;
    return page;
}

static void count_held(const struct kv_pool *pool, const int32_t *pages, size_t n, size_t *held)
{
    for (size_t i = 0; i < n; i++)
        if (pages[i] != NONE)
            held[kv_pool_part(pool, pages[i])]++;
}

int kv_cache_reserve(struct kv_cache *kv, struct kv_sequence *s, size_t n_tokens)
{
    const size_t want = kv_pages_for(n_tokens), first_window = s->first_window > s->n_pages ? s->first_window : s->n_pages;
    size_t held[TOPOLOGY_MAX_NODES] = { 0 }, held_windows[TOPOLOGY_MAX_NODES] = { 0 };

    assert(want <= s->max_pages);
    if (want <= s->n_pages)
        return 0;
    if (want - s->n_pages > kv->pool.n_free || (kv->span && want > first_window && want - first_window > kv->window_pool.n_free))
        return -ENOSPC;
    count_held(&kv->pool, s->pages, s->n_pages, held);
    count_held(&kv->window_pool, s->windows, s->n_pages, held_windows);
    for (; s->n_pages < want; s->n_pages++) {
        const size_t part = kv_pool_choose_part(&kv->pool, held);

        s->pages[s->n_pages] = take_page(kv, part);
        s->windows[s->n_pages] = NONE;
        held[part]++;
        if (!kv->span || s->n_pages < s->first_window)
            continue;
        const size_t window_part = kv_pool_choose_part(&kv->window_pool, held_windows);
        s->windows[s->n_pages] = take_window(kv, window_part, s->pages[s->n_pages]);
        held_windows[window_part]++;
    }
    return 0;
}

void kv_cache_slide(struct kv_cache *kv, struct kv_sequence *s, size_t n_done)
{
    if (!kv->span)
        return;
    for (const size_t first = first_page_seen(kv, n_done); s->first_window < first; s->first_window++) {
        const size_t i = s->first_window;

        if (i >= s->n_pages)
            continue;
        drop_window_user(kv, s->windows[i]);
        s->windows[i] = NONE;
    }
}

/* From the end, so that of a chain that is unused the end is the oldest. */
void kv_cache_release(struct kv_cache *kv, struct kv_sequence *s)
{
    while (s->n_pages) {
        const size_t i = --s->n_pages;

        if (s->windows[i] != NONE)
            drop_window_user(kv, s->windows[i]);
        drop_user(kv, s->pages[i]);
    }
    s->n_known = s->first_window = 0;
}

/* --- invariants --- */

static void check_windows(const struct kv_cache *kv, const struct kv_sequence *const *sequences, size_t n, uint32_t *users, bool *is_free)
{
    memset(users, 0, kv->window_pool.n_pages * sizeof(*users));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < sequences[i]->n_pages; j++) {
            const int32_t window = sequences[i]->windows[j];
            assert((window != NONE) == (j >= sequences[i]->first_window));
            if (window == NONE)
                continue;
            assert(kv->windows[window].page == sequences[i]->pages[j]);
            users[window]++;
        }
    }
    for (size_t i = 0; i < kv->window_pool.n_pages; i++) {
        assert(users[i] == kv->windows[i].n_users);
        is_free[i] = !users[i];
    }
    for (size_t i = 0; i < kv->pool.n_pages; i++) {
        const int32_t window = kv->pages[i].window;
        assert(window == NONE || kv->windows[window].page == (int32_t)i);
        assert(window == NONE || users[window] || kv->pages[i].known);
    }
    kv_pool_check(&kv->window_pool, is_free);
}

void kv_cache_check(const struct kv_cache *kv, const struct kv_sequence *const *sequences, size_t n)
{
    const size_t most = kv->pool.n_pages > kv->window_pool.n_pages ? kv->pool.n_pages : kv->window_pool.n_pages;
    uint32_t *users = calloc(most + 1, sizeof(*users));
    bool *is_free = calloc(most + 1, sizeof(*is_free));

    for (size_t i = 0; users && is_free && i < n; i++) {
        assert(sequences[i]->n_pages <= sequences[i]->max_pages && sequences[i]->n_known <= sequences[i]->n_pages);
        for (size_t j = 0; j < sequences[i]->n_pages; j++) {
            const struct kv_page *p = &kv->pages[sequences[i]->pages[j]];
            users[sequences[i]->pages[j]]++;
            assert(p->known == (j < sequences[i]->n_known));        /* only the known beginning is shared */
            assert(!p->known || p->parent == (j ? sequences[i]->pages[j - 1] : NONE));
        }
    }
    for (size_t i = 0; users && is_free && i < kv->pool.n_pages; i++) {
        assert(users[i] == kv->pages[i].n_users && (kv->pages[i].known || users[i] <= 1));
        is_free[i] = !users[i];
    }
    if (users && is_free) {
        kv_pool_check(&kv->pool, is_free);
        if (kv->span)
            check_windows(kv, sequences, n, users, is_free);
    }
    free(users);
    free(is_free);
}
