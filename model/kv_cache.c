#include "model/kv_cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int kv_cache_create(struct kv_cache *kv, size_t n_pages)
{
    *kv = (struct kv_cache){ .n_pages = n_pages, .n_free = n_pages };
    kv->free_pages = malloc((n_pages ? n_pages : 1) * sizeof(*kv->free_pages));
    if (!kv->free_pages)
        return -ENOMEM;
    for (size_t i = 0; i < n_pages; i++)        /* so that page 0 is handed out first */
        kv->free_pages[i] = (int32_t)(n_pages - 1 - i);
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

int kv_cache_reserve(struct kv_cache *kv, struct kv_sequence *s, size_t n_tokens)
{
    size_t want = kv_pages_for(n_tokens);

    assert(want <= s->max_pages);
    if (want <= s->n_pages)
        return 0;
    if (want - s->n_pages > kv->n_free)
        return -ENOSPC;
    while (s->n_pages < want)
        s->pages[s->n_pages++] = kv->free_pages[--kv->n_free];
    return 0;
}

void kv_cache_release(struct kv_cache *kv, struct kv_sequence *s)
{
    while (s->n_pages)
        kv->free_pages[kv->n_free++] = s->pages[--s->n_pages];
    assert(kv->n_free <= kv->n_pages);
}
