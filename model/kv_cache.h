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
 * Layers that slide need only the last positions. Where a model has such layers, a page is memory of the others alone, and theirs are
 * pages of a second pool, "windows": one for each page while a later token may see it, given back when none can. A known page keeps its
 * window, as long as nobody else wants that memory; a prefix is found up to where the windows that its next token sees are all there.
 *
 * One thread, the batcher, calls this; workers touch only pages that are reserved. All memory is taken at start.
 */
#ifndef FOURWAY_MODEL_KV_CACHE_H
#define FOURWAY_MODEL_KV_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/kv_pool.h"

/* Whose pages may be shared: sequences of one salt share theirs with one another and with nobody else. */
struct kv_salt { uint64_t word[2]; };

struct kv_page;
struct kv_window;

struct kv_cache {
    struct kv_pool pool;                    /* idle: known pages without users */
    struct kv_page *pages;
    int32_t *buckets;                       /* first known page of each hash, or KV_NO_PAGE */
    size_t n_buckets;                       /* a power of two */
    size_t span;                            /* positions that a token of a layer that slides sees, itself included; 0: none slides */
    struct kv_pool window_pool;             /* idle: without users, of known pages */
    struct kv_window *windows;
};

struct kv_sequence {
    int32_t *pages;             /* entry i: the page of positions i KV_CHUNK .. (i + 1) KV_CHUNK - 1 */
    int32_t *windows;           /* likewise, for layers that slide; KV_NO_PAGE where no later token sees it */
    size_t n_pages, max_pages;
    size_t n_known;             /* the first of them, known to the cache: perhaps others', and not to be written */
    size_t first_window;        /* of the entries those from it on have windows; perhaps beyond n_pages; 0 where no layer slides */
};

/* start[n_parts + 1], from 0. Returns 0 or -ENOMEM; destroy in any case. */
int kv_cache_create(struct kv_cache *kv, size_t n_parts, const size_t *start);
void kv_cache_destroy(struct kv_cache *kv);

/* At once after it, for layers that slide over `span` positions: start[n_parts + 1] of the windows. Returns 0 or -ENOMEM. */
int kv_cache_add_windows(struct kv_cache *kv, size_t span, const size_t *start);

/*
 * So many windows are always enough for n_sequences that reserve pages for up to n_tokens together between two calls of kv_cache_slide for
 * each of them, and have up to KV_CHUNK positions each reserved that were not computed (refused drafts): those that a next token sees,
 * those of the tokens, and both are begun and ended in one that is not full.
 */
static inline size_t kv_windows_in_use(size_t span, size_t n_sequences, size_t n_tokens)
{
    return n_sequences * (span / KV_CHUNK + 3) + n_tokens / KV_CHUNK;
}

/* Room for the table of a sequence of up to `max_tokens`. Returns 0 or -ENOMEM. */
int kv_sequence_create(struct kv_sequence *s, size_t max_tokens);
void kv_sequence_destroy(struct kv_sequence *s);               /* its pages must have been released */

/*
 * Make sure that positions 0 .. n_tokens - 1 have pages, and windows where they have not slid away. Each comes from the part that has
 * least of the sequence for its size. Returns 0, or -ENOSPC with the sequence as it was.
 */
int kv_cache_reserve(struct kv_cache *kv, struct kv_sequence *s, size_t n_tokens);

/* All tokens to come have positions >= n_done: windows that none of them sees are given back. Nothing where no layer slides. */
void kv_cache_slide(struct kv_cache *kv, struct kv_sequence *s, size_t n_done);

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

/* Asserts that these are all sequences that hold pages, and that users, lists and counters agree with that. A pass over all pages. */
void kv_cache_check(const struct kv_cache *kv, const struct kv_sequence *const *sequences, size_t n);

static inline size_t kv_pages_for(size_t n_tokens)
{
    return (n_tokens + KV_CHUNK - 1) / KV_CHUNK;
}

#endif
