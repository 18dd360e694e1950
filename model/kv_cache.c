#include "model/kv_cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { NONE = -1 };

struct kv_page {
    uint32_t n_users;
    bool known;
    /* of a known page: */
    uint64_t hash;                          /* of its tokens and the hash before it */
    int32_t same_hash;                      /* the next one of its bucket */
    int32_t parent;                         /* the page before it; NONE: it begins a chain of `salt` */
    int32_t child, next_child, last_child;  /* a page that follows it; its own neighbours among those of its parent */
    int32_t newer, older;                   /* neighbours in its part's list, while nobody uses it */
    struct kv_salt salt;
    int32_t tokens[KV_CHUNK];
};

int kv_cache_create(struct kv_cache *kv, size_t n_parts, const size_t *start)
{
    const size_t n_pages = start[n_parts];

    *kv = (struct kv_cache){ .n_pages = n_pages, .n_free = n_pages, .n_parts = n_parts, .n_buckets = 1 };
    while (kv->n_buckets < n_pages)
        kv->n_buckets *= 2;
    kv->blank_pages = malloc((n_pages ? n_pages : 1) * sizeof(*kv->blank_pages));
    kv->pages = calloc(n_pages ? n_pages : 1, sizeof(*kv->pages));
    kv->buckets = malloc(kv->n_buckets * sizeof(*kv->buckets));
    if (!kv->blank_pages || !kv->pages || !kv->buckets)
        return -ENOMEM;
    memset(kv->buckets, 0xff, kv->n_buckets * sizeof(*kv->buckets));
    for (size_t i = 0; i < n_parts; i++) {
        kv->start[i + 1] = start[i + 1];
        kv->n_blank_of[i] = start[i + 1] - start[i];
        kv->oldest[i] = kv->newest[i] = NONE;
        for (size_t j = start[i]; j < start[i + 1]; j++)    /* so that the first page is handed out first */
            kv->blank_pages[j] = (int32_t)(start[i] + start[i + 1] - 1 - j);
    }
    return 0;
}

void kv_cache_destroy(struct kv_cache *kv)
{
    free(kv->blank_pages);
    free(kv->pages);
    free(kv->buckets);
    *kv = (struct kv_cache){ 0 };
}

int kv_sequence_create(struct kv_sequence *s, size_t max_tokens)
{
    *s = (struct kv_sequence){ .max_pages = kv_pages_for(max_tokens) };
    s->pages = malloc((s->max_pages ? s->max_pages : 1) * sizeof(*s->pages));
    return s->pages ? 0 : -ENOMEM;
}

void kv_sequence_destroy(struct kv_sequence *s)
{
    assert(s->n_pages == 0);
    free(s->pages);
    *s = (struct kv_sequence){ 0 };
}

static size_t part_pages(const struct kv_cache *kv, size_t part)
{
    return kv->start[part + 1] - kv->start[part];
}

static size_t part_free(const struct kv_cache *kv, size_t part)
{
    return kv->n_blank_of[part] + kv->n_idle_of[part];
}

/* --- pages without users --- */

static void push_blank(struct kv_cache *kv, int32_t page)
{
    const size_t part = kv_cache_part(kv, page);

    assert(kv->n_blank_of[part] < part_pages(kv, part) && !kv->pages[page].known);
    kv->blank_pages[kv->start[part] + kv->n_blank_of[part]++] = page;
}

static void push_idle(struct kv_cache *kv, int32_t page)
{
    const size_t part = kv_cache_part(kv, page);
    struct kv_page *p = &kv->pages[page];

    p->newer = NONE;
    p->older = kv->newest[part];
    *(p->older == NONE ? &kv->oldest[part] : &kv->pages[p->older].newer) = page;
    kv->newest[part] = page;
    kv->n_idle_of[part]++;
}

static void unlink_idle(struct kv_cache *kv, int32_t page)
{
    const size_t part = kv_cache_part(kv, page);
    struct kv_page *p = &kv->pages[page];

    *(p->older == NONE ? &kv->oldest[part] : &kv->pages[p->older].newer) = p->newer;
    *(p->newer == NONE ? &kv->newest[part] : &kv->pages[p->newer].older) = p->older;
    kv->n_idle_of[part]--;
}

static void add_user(struct kv_cache *kv, int32_t page)
{
    if (kv->pages[page].n_users++)
        return;
    unlink_idle(kv, page);
    kv->n_free--;
}

static void drop_user(struct kv_cache *kv, int32_t page)
{
    assert(kv->pages[page].n_users);
    if (--kv->pages[page].n_users)
        return;
    (kv->pages[page].known ? push_idle : push_blank)(kv, page);
    kv->n_free++;
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

    *p = (struct kv_page){ .n_users = p->n_users, .known = true, .hash = hash, .same_hash = *bucket, .parent = parent, .child = NONE,
                           .next_child = NONE, .last_child = NONE, .newer = NONE, .older = NONE, .salt = salt };
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
    unlink_idle(kv, page);
    p->known = false;
    push_blank(kv, page);
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

size_t kv_cache_find(struct kv_cache *kv, struct kv_sequence *s, const int32_t *tokens, size_t n_tokens, struct kv_salt salt)
{
    uint64_t hash = hash_salt(salt);
    int32_t parent = NONE;

    assert(s->n_pages == 0 && s->n_known == 0);
    for (size_t i = 0; (i + 1) * KV_CHUNK <= n_tokens && i < s->max_pages; i++) {
        hash = hash_page(hash, tokens + i * KV_CHUNK);
        const int32_t page = find(kv, hash, parent, tokens + i * KV_CHUNK, salt);
        if (page == NONE)
            break;
        add_user(kv, page);
        s->pages[s->n_pages++] = parent = page;
        s->n_known++;
    }
    return s->n_known * KV_CHUNK;
}

void kv_cache_publish(struct kv_cache *kv, struct kv_sequence *s, const int32_t *tokens, size_t n_done, struct kv_salt salt)
{
    for (; (s->n_known + 1) * KV_CHUNK <= n_done; s->n_known++) {
        const int32_t parent = s->n_known ? s->pages[s->n_known - 1] : NONE, own = s->pages[s->n_known];
        const int32_t *of_page = tokens + s->n_known * KV_CHUNK;
        const uint64_t hash = hash_page(parent == NONE ? hash_salt(salt) : kv->pages[parent].hash, of_page);
        const int32_t other = find(kv, hash, parent, of_page, salt);

        if (other == NONE) {
            make_known(kv, own, hash, parent, of_page, salt);
            continue;
        }
        add_user(kv, other);
        s->pages[s->n_known] = other;
        drop_user(kv, own);
    }
}

/* --- pages for sequences --- */

/*
 * Whence a sequence that holds held[i] pages of each part gets the next one: from the part with least of it for its size, of equals from
 * the one with most free pages for its size (so that short sequences do not all begin on the first node). There is a free page.
 */
static size_t choose_part(const struct kv_cache *kv, const size_t *held)
{
    size_t best = kv->n_parts;

    for (size_t i = 0; i < kv->n_parts; i++) {
        if (!part_free(kv, i))
            continue;
        if (best == kv->n_parts) {
            best = i;
            continue;
        }
        const size_t here = held[i] * part_pages(kv, best), there = held[best] * part_pages(kv, i);
        const size_t free_here = part_free(kv, i) * part_pages(kv, best), free_there = part_free(kv, best) * part_pages(kv, i);
        if (here < there || (here == there && free_here > free_there))
            best = i;
    }
    return best;
}

static int32_t take_page(struct kv_cache *kv, size_t part)
{
    if (!kv->n_blank_of[part])
        forget(kv, kv->oldest[part]);
    const int32_t page = kv->blank_pages[kv->start[part] + --kv->n_blank_of[part]];

    kv->pages[page].n_users = 1;
    kv->n_free--;
    return page;
}

int kv_cache_reserve(struct kv_cache *kv, struct kv_sequence *s, size_t n_tokens)
{
    size_t want = kv_pages_for(n_tokens), held[TOPOLOGY_MAX_NODES] = { 0 };

    assert(want <= s->max_pages);
    if (want <= s->n_pages)
        return 0;
    if (want - s->n_pages > kv->n_free)
        return -ENOSPC;
    for (size_t i = 0; i < s->n_pages; i++)
        held[kv_cache_part(kv, s->pages[i])]++;
    while (s->n_pages < want) {
        size_t part = choose_part(kv, held);

        s->pages[s->n_pages++] = take_page(kv, part);
        held[part]++;
    }
    return 0;
}

/* From the end, so that of a chain that is unused the end is the oldest. */
void kv_cache_release(struct kv_cache *kv, struct kv_sequence *s)
{
    while (s->n_pages)
        drop_user(kv, s->pages[--s->n_pages]);
    s->n_known = 0;
}
