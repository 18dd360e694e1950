/*
 * kv_cache.h - keys and values of past tokens, in pages whose heads live on the node that computes them.
 *
 * At every step a head reads all of its past keys, so each node holds the pages of its own KV heads and nothing crosses a socket
 * during attention. A page holds KV_CHUNK positions of all layers; page number p lies at the same place on every node. After
 * Kwon et al., "PagedAttention", SOSP 2023, arXiv:2309.06180.
 *
 * One thread, the batcher, reserves and releases; workers touch only pages that are reserved. All memory is taken at start.
 */
#ifndef FOURWAY_MODEL_KV_CACHE_H
#define FOURWAY_MODEL_KV_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

struct kv_cache {
    size_t n_pages, n_free;
    int32_t *free_pages;        /* a stack */
};

struct kv_sequence {
    int32_t *pages;             /* entry i: the page of positions i KV_CHUNK .. (i + 1) KV_CHUNK - 1 */
    size_t n_pages, max_pages;
};

int kv_cache_create(struct kv_cache *kv, size_t n_pages);      /* 0 or -ENOMEM */
void kv_cache_destroy(struct kv_cache *kv);

/* Room for the table of a sequence of up to `max_tokens`. Returns 0 or -ENOMEM. */
int kv_sequence_create(struct kv_sequence *s, size_t max_tokens);
void kv_sequence_destroy(struct kv_sequence *s);               /* its pages must have been released */

/* Make sure that positions 0 .. n_tokens - 1 have pages. Returns 0, or -ENOSPC with the sequence as it was. */
int kv_cache_reserve(struct kv_cache *kv, struct kv_sequence *s, size_t n_tokens);

/* Give all pages of the sequence back. */
void kv_cache_release(struct kv_cache *kv, struct kv_sequence *s);

static inline size_t kv_pages_for(size_t n_tokens)
{
    return (n_tokens + KV_CHUNK - 1) / KV_CHUNK;
}

#endif
