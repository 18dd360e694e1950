#include "server/matchers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct shared_matcher {
    struct shared_matcher *next;
    struct matcher *matcher;
    size_t n_users, n_bytes, table_bytes;
    uint64_t table[];
};

void matchers_init(struct matchers *m, const struct token_trie *trie)
{
    *m = (struct matchers){ .trie = trie };
    pthread_mutex_init(&m->lock, NULL);
}

static void unlink_first_of(struct matchers *m, struct shared_matcher **at)
{
    struct shared_matcher *s = *at;

    *at = s->next;
    m->n_bytes -= s->n_bytes;
    matcher_destroy(s->matcher);
    free(s);
}

void matchers_free(struct matchers *m)
{
    while (m->first)
        unlink_first_of(m, &m->first);
    pthread_mutex_destroy(&m->lock);
}

/* Give up idle ones from the end of the list until the rest fits. */
static void shrink(struct matchers *m)
{
    while (m->n_bytes > MATCHERS_MOST_BYTES) {
        struct shared_matcher **last = NULL;
        for (struct shared_matcher **at = &m->first; *at; at = &(*at)->next)
            if (!(*at)->n_users)
                last = at;
        if (!last)
            return;
        unlink_first_of(m, last);
    }
}

static int create(struct matchers *m, const void *table, size_t n_bytes, struct shared_matcher **out)
{
    struct shared_matcher *s;

    *out = NULL;
    if (grammar_check(table, n_bytes))
        return -EINVAL;
    s = calloc(1, sizeof(*s) + n_bytes);
    if (!s)
        return -ENOMEM;
    int err = matcher_create(&s->matcher, table, m->trie);
    if (err) {
        free(s);
        return err;
    }
    memcpy(s->table, table, n_bytes);
    s->table_bytes = n_bytes;
    s->n_bytes = matcher_bytes(s->matcher) + n_bytes;
    *out = s;
    return 0;
}

/* To the front of the list. */
static struct shared_matcher *find(struct matchers *m, const void *table, size_t n_bytes)
{
    for (struct shared_matcher **at = &m->first; *at; at = &(*at)->next) {
        struct shared_matcher *s = *at;
        if (s->table_bytes != n_bytes || memcmp(s->table, table, n_bytes) != 0)
            continue;
        *at = s->next;
        s->next = m->first;
        m->first = s;
        return s;
    }
    return NULL;
}

int matchers_take(struct matchers *m, const void *table, size_t n_bytes, struct matcher **out)
{
    int err = 0;

    *out = NULL;
    if (!m->trie)
        return -EINVAL;
    pthread_mutex_lock(&m->lock);
    struct shared_matcher *s = find(m, table, n_bytes);
    if (!s) {
        err = create(m, table, n_bytes, &s);
        if (s) {
            s->next = m->first;
            m->first = s;
            m->n_bytes += s->n_bytes;
        }
    }
    if (s) {
        s->n_users++;
        *out = s->matcher;
        shrink(m);
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

void matchers_release(struct matchers *m, struct matcher *matcher)
{
    if (!matcher)
        return;
    pthread_mutex_lock(&m->lock);
    for (struct shared_matcher *s = m->first; s; s = s->next)
        s->n_users -= s->matcher == matcher;
    shrink(m);
    pthread_mutex_unlock(&m->lock);
}
