#include "server/ngram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3 };

int ngram_create(struct ngram *g, size_t n_room)
{
    size_t n = 64;

    while (n < n_room)
        n *= 2;
    *g = (struct ngram){ .places = calloc(n, sizeof(*g->places)), .mask = n - 1, .n_indexed = N };
    return g->places ? 0 : -ENOMEM;
}

void ngram_destroy(struct ngram *g)
{
    free(g->places);
    *g = (struct ngram){ 0 };
}

/* Of the N tokens before `end`. */
static size_t slot_of(const struct ngram *g, const int32_t *end)
{
    uint64_t h = 0;

    for (size_t i = 1; i <= N; i++)
        h = (h ^ (uint32_t)end[-(ptrdiff_t)i]) * 0x9E3779B97F4A7C15;
    return (size_t)(h >> 32) & g->mask;
}

size_t ngram_draft(struct ngram *g, const int32_t *tokens, size_t n, int32_t *draft, size_t most)
{
    size_t k = 0;

    for (; g->n_indexed < n; g->n_indexed++)
        g->places[slot_of(g, tokens + g->n_indexed)] = (int32_t)g->n_indexed;
    if (n < N)
        return 0;
    const size_t place = (size_t)g->places[slot_of(g, tokens + n)];
    if (!place || memcmp(tokens + place - N, tokens + n - N, N * sizeof(*tokens)) != 0)
        return 0;
    for (; k < most; k++)       /* where the text is short of them, it goes on with what was drafted: a loop repeats itself */
        draft[k] = place + k < n ? tokens[place + k] : draft[place + k - n];
    return k;
}
