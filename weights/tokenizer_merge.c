/*
 * tokenizer_merge.c - joins the best adjacent pair of symbols until nothing joins: the loop of both kinds of BPE.
 *
 * A binary heap holds (rank, place) of every pair that joins; lower ranks first, the leftmost of equals. A pair that
 * has changed since it was put there is recognised when it is taken out, because its symbol then has another rank. Every join
 * removes a symbol and adds two pairs at most, so n bytes take O(n log n) however they are arranged.
 */
#include "weights/tokenizer_internal.h"

#include <errno.h>
#include <stdlib.h>

struct symbol *merge_reserve(struct encoder *e, size_t n)
{
    if (n > e->n_symbols) {
        struct symbol *more = realloc(e->symbols, n * sizeof(*more));
        if (!more)
            return NULL;
        e->symbols = more;
        e->n_symbols = n;
    }
    return e->symbols;
}

int emit_id(struct token_ids *out, int32_t id)
{
    if (out->n == out->cap) {
        size_t cap = out->cap ? 2 * out->cap : 64;
        int32_t *more = realloc(out->ids, cap * sizeof(*more));
        if (!more)
            return -ENOMEM;
        out->ids = more;
        out->cap = cap;
    }
    out->ids[out->n++] = id;
    return 0;
}

static int heap_push(struct encoder *e, size_t *n, uint64_t key)
{
    if (*n == e->n_heap) {
        size_t room = e->n_heap ? 2 * e->n_heap : 64;
        uint64_t *more = realloc(e->heap, room * sizeof(*more));
        if (!more)
            return -ENOMEM;
        e->heap = more;
        e->n_heap = room;
    }
    size_t i = (*n)++;
    for (; i && e->heap[(i - 1) / 2] > key; i = (i - 1) / 2)
        e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = key;
    return 0;
}

static uint64_t heap_pop(struct encoder *e, size_t *n)
{
    uint64_t least = e->heap[0], last = e->heap[--*n];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= *n)
            break;
        if (child + 1 < *n && e->heap[child + 1] < e->heap[child])
            child++;
        if (e->heap[child] >= last)
            break;
        e->heap[i] = e->heap[child];
        i = child;
    }
    e->heap[i] = last;
    return least;
}

/* Look up the pair that begins at `place`, and put it into the heap if it joins. */
static int offer(struct encoder *e, const char *text, size_t n, size_t place, merge_lookup lookup, size_t *n_heap)
{
    struct symbol *left = &e->symbols[place];
    size_t next = place + left->len;

    left->pair_rank = NO_RANK;
    if (next >= n || !lookup(e->t, text + place, left, &e->symbols[next], &left->pair_rank, &left->pair_id))
        return 0;
    return heap_push(e, n_heap, (uint64_t)left->pair_rank << 32 | place);
}

int merge_symbols(struct encoder *e, const char *text, size_t n, merge_lookup lookup)
{
    struct symbol *symbols = e->symbols;
    size_t n_heap = 0;
    int err = 0;

    for (size_t at = 0; at < n && !err; at += symbols[at].len)
        err = offer(e, text, n, at, lookup, &n_heap);
    while (n_heap && !err) {
        uint64_t key = heap_pop(e, &n_heap);
        size_t place = (uint32_t)key;
        struct symbol *left = &symbols[place];
        if (!left->len || left->pair_rank != key >> 32)
            continue;       /* one of the two has been joined elsewhere */

        struct symbol *right = left + left->len;
        left->len += right->len;
        left->id = left->pair_id;
        right->len = 0;
        if (place + left->len < n)
            symbols[place + left->len].prev = (uint32_t)place;
        err = offer(e, text, n, place, lookup, &n_heap);
        if (!err && left->prev != NO_SYMBOL)
            err = offer(e, text, n, left->prev, lookup, &n_heap);
    }
    return err;
}
