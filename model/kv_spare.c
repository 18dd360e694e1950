#include "model/kv_spare.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "model/model_internal.h"

/* Of a model's pages: KV, and with it the filter's state. */
struct kv_spare_memory {
    struct model *model;
    unsigned char *base;
    size_t bytes;
    size_t page_bytes;                          /* of a slot: all nodes' parts of a page, one after the other */
    size_t offset[KV_KINDS][TOPOLOGY_MAX_NODES];        /* of a node's part of a page, and of its window, */
    size_t state_offset[TOPOLOGY_MAX_NODES];    /* and of its part of the filter's state (lfa.c), if the model has one */
};

/* One call of copy_out or copy_in, for the workers. */
struct copying {
    const struct kv_spare_memory *memory;
    const int32_t *pages[KV_KINDS], *slots;
    size_t n;
    bool out;
};

int kv_spare_create(struct kv_spare *s, size_t n_slots)
{
    *s = (struct kv_spare){ .n_slots = n_slots, .n_free = n_slots };
    s->free_slots = malloc((n_slots ? n_slots : 1) * sizeof(*s->free_slots));
    if (!s->free_slots)
        return -ENOMEM;
    for (size_t i = 0; i < n_slots; i++)        /* so that the first is handed out first */
        s->free_slots[i] = (int32_t)(n_slots - 1 - i);
    return 0;
}

void kv_spare_destroy(struct kv_spare *s)
{
    free(s->free_slots);
    *s = (struct kv_spare){ 0 };
}

int32_t kv_spare_take(struct kv_spare *s)
{
    assert(s->n_free);
    return s->free_slots[--s->n_free];
}

void kv_spare_give(struct kv_spare *s, int32_t slot)
{
    assert(s->n_free < s->n_slots);
    s->free_slots[s->n_free++] = slot;
}

static void copy(const struct copying *c, unsigned char *page, unsigned char *slot, size_t bytes)
{
    memcpy(c->out ? slot : page, c->out ? page : slot, bytes);
}

/* The part of each page that this worker's node keeps; the pages are shared out among the node's workers. */
static void copy_worker(const struct worker *w, void *arg)
{
    const struct copying *c = arg;
    const struct model *m = c->memory->model;
    const struct node_memory *n = &m->nodes[w->node];
    const size_t state_bytes = shares_state_bytes(m, w->node);

    for (size_t i = w->index_in_node; i < c->n; i += w->node_workers) {
        unsigned char *slot = c->memory->base + (size_t)c->slots[i] * c->memory->page_bytes;
        if (state_bytes)
            copy(c, (unsigned char *)n->state + (size_t)c->pages[KV_ALL_SEEN][i] * state_bytes, slot + c->memory->state_offset[w->node],
                 state_bytes);
        for (size_t kind = 0; kind < KV_KINDS; kind++) {
            const size_t bytes = memory_node_page_bytes(m, w->node, kind);
            const struct kv_region *r = &n->regions[kind];
            const int32_t page = c->pages[kind][i];
            if (bytes && page != KV_NO_PAGE && kv_keeps(n, kind, page))
                copy(c, r->base + ((size_t)page - r->first_page) * bytes, slot + c->memory->offset[kind][w->node], bytes);
        }
    }
}

static void copy_out(void *arg, const int32_t *pages, const int32_t *windows, const int32_t *slots, size_t n)
{
    const struct kv_spare_memory *memory = arg;
    struct copying c = { .memory = memory, .pages = { pages, windows }, .slots = slots, .n = n, .out = true };

    pool_run(memory->model->pool, copy_worker, &c);
}

static void copy_in(void *arg, const int32_t *pages, const int32_t *windows, const int32_t *slots, size_t n)
{
    const struct kv_spare_memory *memory = arg;
    struct copying c = { .memory = memory, .pages = { pages, windows }, .slots = slots, .n = n };

    pool_run(memory->model->pool, copy_worker, &c);
}

/* Where the parts of a page lie in a slot. */
static void plan_slot(struct kv_spare_memory *memory)
{
    const struct model *m = memory->model;

    for (size_t kind = 0; kind < KV_KINDS; kind++) {
        const size_t first = memory->page_bytes;
        for (size_t v = 0; v < pool_n_nodes(m->pool); v++) {
            memory->offset[kind][v] = m->pages_dealt ? first : memory->page_bytes;      /* dealt pages lie whole on one node */
            memory->page_bytes = memory->offset[kind][v] + memory_node_page_bytes(m, v, kind);
        }
    }
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++) {
        memory->state_offset[v] = memory->page_bytes;
        memory->page_bytes += shares_state_bytes(m, v);
    }
}

int kv_spare_open(struct kv_spare *s, struct kv_spare_memory **out, struct model *m, uint64_t bytes)
{
    struct kv_spare_memory *memory = calloc(1, sizeof(*memory));

    *out = NULL;
    *s = (struct kv_spare){ 0 };
    if (!memory)
        return -ENOMEM;
    memory->model = m;
    plan_slot(memory);
    const size_t n = bytes / memory->page_bytes > INT32_MAX ? INT32_MAX : bytes / memory->page_bytes;
    int err = kv_spare_create(s, n);
    if (!err && n) {
        void *base = mmap(NULL, n * memory->page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        err = base == MAP_FAILED ? -ENOMEM : 0;
        memory->base = err ? NULL : base;
        memory->bytes = n * memory->page_bytes;
    }
    s->copy_out = copy_out;
    s->copy_in = copy_in;
    s->arg = memory;
    *out = memory;
    if (err) {
        kv_spare_close(s, memory);
        *out = NULL;
    }
    return err;
}

void kv_spare_close(struct kv_spare *s, struct kv_spare_memory *memory)
{
    if (memory && memory->base)
        munmap(memory->base, memory->bytes);
    free(memory);
    kv_spare_destroy(s);
}
