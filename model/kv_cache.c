#include "model/kv_cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int kv_cache_create(struct kv_cache *kv, size_t n_parts, const size_t *start)
{
    const size_t n_pages = start[n_parts];

    *kv = (struct kv_cache){ .n_pages = n_pages, .n_free = n_pages, .n_parts = n_parts };
    kv->free_pages = malloc((n_pages ? n_pages : 1) * sizeof(*kv->free_pages));
    if (!kv->free_pages)
        return -ENOMEM;
    for (size_t i = 0; i < n_parts; i++) {
        kv->start[i + 1] = start[i + 1];
        kv->n_free_of[i] = start[i + 1] - start[i];
        for (size_t j = start[i]; j < start[i + 1]; j++)    /* so that the first page is handed out first */
            kv->free_pages[j] = (int32_t)(start[i] + start[i + 1] - 1 - j);
    }
    return 0;
}

void kv_cache_destroy(struct kv_cache *kv)
{
    free(kv->free_pages);
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

/*
 * Whence a sequence that holds held[i] pages of each part gets the next one: from the part with least of it for its size, of equals from
 * the one with most free pages for its size (so that short sequences do not all begin on the first node). There is a free page.
 */
static size_t choose_part(const struct kv_cache *kv, const size_t *held)
{
    size_t best = kv->n_parts;

    for (size_t i = 0; i < kv->n_parts; i++) {
        if (!kv->n_free_of[i])
            continue;
        if (best == kv->n_parts) {
            best = i;
            continue;
        }
        const size_t here = held[i] * part_pages(kv, best), there = held[best] * part_pages(kv, i);
        const size_t free_here = kv->n_free_of[i] * part_pages(kv, best), free_there = kv->n_free_of[best] * part_pages(kv, i);
        if (here < there || (here == there && free_here > free_there))
            best = i;
    }
    return best;
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
    for (; s->n_pages < want; kv->n_free--) {
        size_t part = choose_part(kv, held);

        s->pages[s->n_pages++] = kv->free_pages[kv->start[part] + --kv->n_free_of[part]];
        held[part]++;
    }
    return 0;
}

void kv_cache_release(struct kv_cache *kv, struct kv_sequence *s)
{
    for (; s->n_pages; kv->n_free++) {
        int32_t page = s->pages[--s->n_pages];
        size_t part = kv_cache_part(kv, page);

        kv->free_pages[kv->start[part] + kv->n_free_of[part]++] = page;
        assert(kv->n_free_of[part] <= part_pages(kv, part));
    }
}
