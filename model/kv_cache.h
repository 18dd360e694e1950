/*
 * kv_cache.h - keys and values of past tokens, in pages that are read by the workers of the node they lie on.
 *
 * At every step a head reads all of its past keys. With at least as many KV heads as nodes each node holds its own heads' part of
 * every page, and nothing crosses a socket during attention: the cache has one part. With fewer, whole pages are dealt over the nodes:
 * a part for each, and a sequence takes its pages from all of them in turn, so that they share the reading. A page holds KV_CHUNK
 * positions of all layers. After Kwon et al., "PagedAttention", SOSP 2023, arXiv:2309.06180.
 *
 * Sequences with the same beginning share pages. A page that is full is made known by its tokens, the page before it and the salt of its
 * chain; the table finds it by a hash, and believes only the comparison of all three. Known pages that nobody uses stay, until
 * their memory is wanted: then the ones unused for longest go, the end of a chain before its beginning.
 *
 * One thread, the batcher, calls this; workers touch only pages that are reserved. All memory is taken at start.
 */
#ifndef FOURWAY_MODEL_KV_CACHE_H
#define FOURWAY_MODEL_KV_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "numa/topology.h"

/* Whose pages may be shared: sequences of one salt share theirs with one another and with nobody else. */
struct kv_salt { uint64_t word[2]; };

struct kv_page;

struct kv_cache {
    size_t n_pages;
    size_t n_free;                          /* without users: what sequences may still get */
    size_t n_parts;
    size_t start[TOPOLOGY_MAX_NODES + 1];   /* part i has pages start[i] .. start[i + 1] - 1 */
    size_t n_blank_of[TOPOLOGY_MAX_NODES];  /* of n_free, those that are not known */
    size_t n_idle_of[TOPOLOGY_MAX_NODES];   /* and those that are */
    int32_t *blank_pages;                   /* a stack for each part, from start[i] */
    int32_t oldest[TOPOLOGY_MAX_NODES], newest[TOPOLOGY_MAX_NODES];     /* of the idle pages of each part; -1: none */
    struct kv_page *pages;
    int32_t *buckets;                       /* first known page of each hash, or -1 */
    size_t n_buckets;                       /* a power of two */
};

struct kv_sequence {
    int32_t *pages;             /* entry i: the page of positions i KV_CHUNK .. (i + 1) KV_CHUNK - 1 */
    size_t n_pages, max_pages;
    size_t n_known;             /* the first of them, known to the cache: perhaps others', and not to be written */
};

/* start[n_parts + 1], from 0. Returns 0 or -ENOMEM. */
int kv_cache_create(struct kv_cache *kv, size_t n_parts, const size_t *start);
void kv_cache_destroy(struct kv_cache *kv);

/* Room for the table of a sequence of up to `max_tokens`. Returns 0 or -ENOMEM. */
int kv_sequence_create(struct kv_sequence *s, size_t max_tokens);
void kv_sequence_destroy(struct kv_sequence *s);               /* its pages must have been released */

/*
 * Make sure that positions 0 .. n_tokens - 1 have pages. Each comes from the part that has least of the sequence for its size. Returns 0,
 * or -ENOSPC with the sequence as it was.
 */
int kv_cache_reserve(struct kv_cache *kv, struct kv_sequence *s, size_t n_tokens);

/* Give all pages of the sequence back; those that are known can still be found. */
void kv_cache_release(struct kv_cache *kv, struct kv_sequence *s);

/*
 * Take the known pages that hold the beginning of tokens[n_tokens], for a sequence that has no pages. Returns how many tokens they hold, a
 * multiple of KV_CHUNK.
 */
size_t kv_cache_find(struct kv_cache *kv, struct kv_sequence *s, const int32_t *tokens, size_t n_tokens, struct kv_salt salt);

/*
 * Make the full pages among tokens[n_done] known, which are all computed. Where another sequence was first the sequence goes over to its
 * page: the same tokens have the same bits.
 */
void kv_cache_publish(struct kv_cache *kv, struct kv_sequence *s, const int32_t *tokens, size_t n_done, struct kv_salt salt);

/* The part that has a page. */
static inline size_t kv_cache_part(const struct kv_cache *kv, int32_t page)
{
    size_t i = 0;

    while ((size_t)page >= kv->start[i + 1])
        i++;
    return i;
}

static inline size_t kv_pages_for(size_t n_tokens)
{
    return (n_tokens + KV_CHUNK - 1) / KV_CHUNK;
}

#endif
