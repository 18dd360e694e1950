/*
 * kv_pool.h - pages by their numbers: which of them are free, on which part of the memory they lie, and which goes next.
 *
 * A free page is blank, or idle: what it holds may be wanted again. Idle pages are taken when no blank one is left in their part, the one
 * that is idle for longest first; what they hold is forgotten by the caller before.
 */
#ifndef FOURWAY_MODEL_KV_POOL_H
#define FOURWAY_MODEL_KV_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "numa/topology.h"

enum { KV_NO_PAGE = -1 };

struct kv_pool {
    size_t n_pages;
    size_t n_free;                          /* blank or idle: what sequences may still get */
    size_t n_parts;
    size_t start[TOPOLOGY_MAX_NODES + 1];   /* part i has pages start[i] .. start[i + 1] - 1 */
    size_t n_blank_of[TOPOLOGY_MAX_NODES], n_idle_of[TOPOLOGY_MAX_NODES];
    int32_t *blank_pages;                   /* a stack for each part, from start[i] */
    int32_t oldest[TOPOLOGY_MAX_NODES], newest[TOPOLOGY_MAX_NODES];     /* of the idle pages of each part, or KV_NO_PAGE */
    struct kv_neighbours { int32_t older, newer; } *neighbours;         /* of each idle page */
};

/* All blank. start[n_parts + 1], from 0. Returns 0 or -ENOMEM; destroy in any case. */
int kv_pool_create(struct kv_pool *p, size_t n_parts, const size_t *start);
void kv_pool_destroy(struct kv_pool *p);

/* A page that was taken becomes free. */
void kv_pool_add_blank(struct kv_pool *p, int32_t page);
void kv_pool_add_idle(struct kv_pool *p, int32_t page);             /* the newest of its part */

void kv_pool_take_idle(struct kv_pool *p, int32_t page);            /* this one, which is idle */
int32_t kv_pool_take_blank(struct kv_pool *p, size_t part);         /* any; there is one */

/*
 * Whence a sequence that holds held[i] pages of each part gets the next one: from the part with least of it for its size, of equals from
 * the one with most free pages for its size (so that short sequences do not all begin on the first node). There is a free page.
 */
size_t kv_pool_choose_part(const struct kv_pool *p, const size_t *held);

/* Asserts that is_free[page] says which pages are free, and that lists and counters agree with that. */
void kv_pool_check(const struct kv_pool *p, const bool *is_free);

/* The part that has a page. */
static inline size_t kv_pool_part(const struct kv_pool *p, int32_t page)
{
    size_t i = 0;

    while ((size_t)page >= p->start[i + 1])
        i++;
    return i;
}

#endif
