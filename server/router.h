/*
 * router.h - from the id of an engine request to whom its events belong.
 *
 * An id is a slot and how often the slot was used, so that a late event of an earlier request finds nobody. Looking up takes no lock: the
 * engine's thread does it for every token.
 */
#ifndef FOURWAY_SERVER_ROUTER_H
#define FOURWAY_SERVER_ROUTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>

enum { ROUTER_SLOT_BITS = 14 };     /* 16384 sequences queued or running */

struct router_slot {
    _Atomic uint64_t id;            /* 0: free */
    void *owner;
    uint32_t sequence;
    uint32_t next_free;             /* under lock */
    uint64_t n_uses;                /* under lock */
};

struct router {
    struct router_slot *slots;
    pthread_mutex_t lock;
    uint32_t first_free;            /* under lock; UINT32_MAX: none */
};

int router_init(struct router *r);      /* 0 or -ENOMEM */
void router_free(struct router *r);

/* A new id, or 0 when all slots are taken. */
uint64_t router_add(struct router *r, void *owner, uint32_t sequence);
void router_remove(struct router *r, uint64_t id);

/* NULL for an id that is not there. The owner must see to it that it lives until the id's last event. */
void *router_find(const struct router *r, uint64_t id, uint32_t *sequence);

#endif
