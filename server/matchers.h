/*
 * matchers.h - the matchers of an engine: requests with the same grammar share one, and one that is idle is kept for the next.
 *
 * So masks outlive a request, and a schema that comes with every request is walked once. Idle ones are given up, the least recently used
 * first, when all together have more than MATCHERS_MOST_BYTES of address space. A lock inside: submitters and the engine's thread.
 */
#ifndef FOURWAY_SERVER_MATCHERS_H
#define FOURWAY_SERVER_MATCHERS_H

#include <pthread.h>

#include "server/matcher.h"

enum { MATCHERS_MOST_BYTES = 512 << 20 };

struct shared_matcher;

struct matchers {
    pthread_mutex_t lock;
    const struct token_trie *trie;          /* NULL: no grammar is accepted */
    struct shared_matcher *first;           /* most recently released or taken first */
    size_t n_bytes;
};

void matchers_init(struct matchers *m, const struct token_trie *trie);
void matchers_free(struct matchers *m);     /* when none is in use */

/* For a table of a grammar, which is checked. Returns 0, -EINVAL (no grammar; no trie), or -ENOMEM. */
int matchers_take(struct matchers *m, const void *table, size_t n_bytes, struct matcher **out);
/* NULL is fine. */
void matchers_release(struct matchers *m, struct matcher *matcher);

#endif
