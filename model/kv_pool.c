#include "model/kv_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int kv_pool_create(struct kv_pool *p, size_t n_parts, const size_t *start)
{
    const size_t n_pages = start[n_parts], n = n_pages ? n_pages : 1;

    *p = (struct kv_pool){ .n_pages = n_pages, .n_free = n_pages, .n_parts = n_parts };
    p->blank_pages = malloc(n * sizeof(*p->blank_pages));
    p->neighbours = calloc(n, sizeof(*p->neighbours));
    if (!p->blank_pages || !p->neighbours)
        return -ENOMEM;
    for (size_t i = 0; i < n_parts; i++) {
        p->start[i + 1] = start[i + 1];
        p->n_blank_of[i] = start[i + 1] - start[i];
        p->oldest[i] = p->newest[i] = KV_NO_PAGE;
        for (size_t j = start[i]; j < start[i + 1]; j++)    /* so that the first page is handed out first */
            p->blank_pages[j] = (int32_t)(start[i] + start[i + 1] - 1 - j);
    }
    return 0;
}

void kv_pool_destroy(struct kv_pool *p)
{
    free(p->blank_pages);
    free(p->neighbours);
    *p = (struct kv_pool){ 0 };
}

static size_t part_pages(const struct kv_pool *p, size_t part)
{
    return p->start[part + 1] - p->start[part];
}

static size_t part_free(const struct kv_pool *p, size_t part)
{
    return p->n_blank_of[part] + p->n_idle_of[part];
}

void kv_pool_add_blank(struct kv_pool *p, int32_t page)
{
    const size_t part = kv_pool_part(p, page);

    assert(part_free(p, part) < part_pages(p, part));
    p->blank_pages[p->start[part] + p->n_blank_of[part]++] = page;
    p->n_free++;
}

void kv_pool_add_idle(struct kv_pool *p, int32_t page)
{
    const size_t part = kv_pool_part(p, page);
    struct kv_neighbours *n = &p->neighbours[page];

    assert(part_free(p, part) < part_pages(p, part));
    n->newer = KV_NO_PAGE;
    n->older = p->newest[part];
    *(n->older == KV_NO_PAGE ? &p->oldest[part] : &p->neighbours[n->older].newer) = page;
    p->newest[part] = page;
    p->n_idle_of[part]++;
    p->n_free++;
}

void kv_pool_take_idle(struct kv_pool *p, int32_t page)
{
    const size_t part = kv_pool_part(p, page);
    const struct kv_neighbours *n = &p->neighbours[page];

    *(n->older == KV_NO_PAGE ? &p->oldest[part] : &p->neighbours[n->older].newer) = n->newer;
    *(n->newer == KV_NO_PAGE ? &p->newest[part] : &p->neighbours[n->newer].older) = n->older;
    p->n_idle_of[part]--;
    p->n_free--;
}

int32_t kv_pool_take_blank(struct kv_pool *p, size_t part)
{
    assert(p->n_blank_of[part]);
    p->n_free--;
    return p->blank_pages[p->start[part] + --p->n_blank_of[part]];
}

size_t kv_pool_choose_part(const struct kv_pool *p, const size_t *held)
{
    size_t best = p->n_parts;

    assert(p->n_free);
    for (size_t i = 0; i < p->n_parts; i++) {
        if (!part_free(p, i))
            continue;
        if (best == p->n_parts) {
            best = i;
            continue;
        }
        const size_t here = held[i] * part_pages(p, best), there = held[best] * part_pages(p, i);
        const size_t free_here = part_free(p, i) * part_pages(p, best), free_there = part_free(p, best) * part_pages(p, i);
        if (here < there || (here == there && free_here > free_there))
            best = i;
    }
    return best;
}

void kv_pool_check(const struct kv_pool *p, const bool *is_free)
{
    bool *is_listed = calloc(p->n_pages + 1, sizeof(*is_listed));
    size_t n_free = 0, n_listed = 0;

    if (!is_listed)
        return;
    for (size_t page = 0; page < p->n_pages; page++)
        n_free += is_free[page];
    for (size_t i = 0; i < p->n_parts; i++) {
        size_t n_idle = 0;

        for (int32_t page = p->oldest[i], before = KV_NO_PAGE; page != KV_NO_PAGE; before = page, page = p->neighbours[page].newer) {
            assert(is_free[page] && p->neighbours[page].older == before && kv_pool_part(p, page) == i && !is_listed[page]);
            is_listed[page] = true;
            n_idle++;
        }
        for (size_t j = 0; j < p->n_blank_of[i]; j++) {
            const int32_t page = p->blank_pages[p->start[i] + j];
            assert(is_free[page] && kv_pool_part(p, page) == i && !is_listed[page]);
            is_listed[page] = true;
        }
        assert(n_idle == p->n_idle_of[i]);
        n_listed += p->n_blank_of[i] + n_idle;
    }
    assert(n_free == p->n_free && n_listed == n_free);
    free(is_listed);
}
