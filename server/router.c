#include "server/router.h"

#include <errno.h>
#include <stdlib.h>

enum { N_SLOTS = 1 << ROUTER_SLOT_BITS };

int router_init(struct router *r)
{
    r->slots = calloc(N_SLOTS, sizeof(*r->slots));
    if (!r->slots)
        return -ENOMEM;
    pthread_mutex_init(&r->lock, NULL);
    for (uint32_t i = 0; i < N_SLOTS; i++)
        r->slots[i].next_free = i + 1 < N_SLOTS ? i + 1 : UINT32_MAX;
    r->first_free = 0;
    return 0;
}

void router_free(struct router *r)
{
    if (!r->slots)
        return;
    free(r->slots);
    r->slots = NULL;
    pthread_mutex_destroy(&r->lock);
}

uint64_t router_add(struct router *r, void *owner, uint32_t sequence)
{
    uint64_t id = 0;

    pthread_mutex_lock(&r->lock);
    if (r->first_free != UINT32_MAX) {
        const uint32_t index = r->first_free;
        struct router_slot *slot = &r->slots[index];
        r->first_free = slot->next_free;
        slot->owner = owner;
        slot->sequence = sequence;
        id = ++slot->n_uses << ROUTER_SLOT_BITS | index;
        atomic_store_explicit(&slot->id, id, memory_order_release);
    }
    pthread_mutex_unlock(&r->lock);
    return id;
}

void router_remove(struct router *r, uint64_t id)
{
    const uint32_t index = id & (N_SLOTS - 1);

    pthread_mutex_lock(&r->lock);
    atomic_store_explicit(&r->slots[index].id, 0, memory_order_relaxed);
    r->slots[index].next_free = r->first_free;
    r->first_free = index;
    pthread_mutex_unlock(&r->lock);
}

void *router_find(const struct router *r, uint64_t id, uint32_t *sequence)
{
    const struct router_slot *slot = &r->slots[id & (N_SLOTS - 1)];

    if (!id || atomic_load_explicit(&slot->id, memory_order_acquire) != id)
        return NULL;
    *sequence = slot->sequence;
    return slot->owner;
}
