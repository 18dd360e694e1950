/*
 * place.h - memory on a chosen node, and how the rows of a matrix are split over nodes and workers.
 *
 * An arena is anonymous memory, 2 MiB aligned, bound to its node (mbind) before it is touched, in explicit huge pages (of 1 GiB, else
 * of 2 MiB) when the node has enough of them free, with transparent ones advised otherwise. The node's own workers touch it first.
 */
#ifndef FOURWAY_NUMA_PLACE_H
#define FOURWAY_NUMA_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "numa/topology.h"

struct place_arena {
    void *base;             /* NULL when empty */
    size_t bytes;           /* as mapped */
    size_t used;            /* handed out by place_take */
    int os_node;
    bool bound;             /* false: virtual nodes, or mbind was refused (warned once) */
    bool is_explicit;       /* from a pool of huge pages of the node, already touched; else the node's workers touch it first */
};

/* Which pages: as above; from a pool or none; never from a pool; 4 KiB. */
enum place_pages { PAGES_AUTO, PAGES_EXPLICIT, PAGES_TRANSPARENT, PAGES_SMALL };

/*
 * Map and bind `bytes` on t->nodes[node], or on t->memory_nodes[node - n_nodes], rounded up to 2 MiB or the pool's pages. Returns 0, or
 * -ENOMEM (logged with node and bytes).
 */
int place_arena_create(struct place_arena *a, const struct topology *t, size_t node, size_t bytes, enum place_pages pages);
void place_arena_free(struct place_arena *a);      /* fine on a zeroed one */

/* Bind a mapping that nobody has touched to a node, as the kernel numbers it. Returns 0 or a negative errno; not logged. */
int place_bind(void *base, size_t bytes, int os_node);

/* The next `bytes` of the arena, 64-byte aligned; never NULL (the caller sized the arena: asserts). */
void *place_take(struct place_arena *a, size_t bytes);

/* What the kernel says of an arena's pages. */
struct place_report {
    size_t pages, on_node, untouched;   /* sampled: at least one address per 2 MiB, every page when `every_page` */
    size_t huge_bytes, bytes;           /* in huge pages (AnonHugePages, or explicit ones of either size), of all */
};
/* Returns 0, or the negative errno that the kernel gave (a warning says so). */
int place_verify(const struct place_arena *a, bool every_page, struct place_report *r);

/*
 * Deal `n` units (panels, heads, segments) over parts in proportion to weights: part i gets [start[i], start[i + 1]).
 * Contiguous, deterministic, every unit dealt once; parts with weight 0 get none. start has n_parts + 1 entries.
 */
void place_deal(size_t n, size_t n_parts, const double *weights, size_t *start);

#endif
