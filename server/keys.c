#include "server/keys.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/keys_internal.h"

struct slot {
    struct key_line key;        /* under lock */
    bool in_use;                /* under lock: the key is in the file */
    uint32_t holder;            /* under lock */
    atomic_uint n_refs, n_in_flight, limit;
};

struct keys {
    char *path;
    unsigned default_limit;
    pthread_rwlock_t lock;      /* readers: requests; the writer: whoever reloads, and only it may read without the lock */
    size_t n;                   /* under lock */
    unsigned current[KEYS_MAX]; /* under lock: the numbers of the file's keys */
    unsigned last_given;        /* of the writer */
    struct slot slots[KEYS_SLOTS + 1];  /* by number, from 1 */
};

/* The number of a key that is in force already, or 0. */
static unsigned find_line(const struct keys *k, const struct key_line *line)
{
    for (size_t i = 0; i < k->n; i++)
        if (!memcmp(k->slots[k->current[i]].key.digest, line->digest, sizeof(line->digest)))
            return k->current[i];
    return 0;
}

/* A number that nobody has, and that no request of an earlier holder has; 0: there is none. Round robin: the longest unused comes first. */
static unsigned free_number(struct keys *k)
{
    for (unsigned i = 0; i < KEYS_SLOTS; i++) {
        k->last_given = k->last_given % KEYS_SLOTS + 1;
        const struct slot *s = &k->slots[k->last_given];
        if (!s->in_use && !atomic_load(&s->n_refs))
            return k->last_given;
    }
    return 0;
}

static void put_in_force(struct keys *k, const struct key_line *lines, const unsigned *numbers, size_t n)
{
    pthread_rwlock_wrlock(&k->lock);
    for (size_t i = 0; i < k->n; i++)
        k->slots[k->current[i]].in_use = false;
    for (size_t i = 0; i < n; i++) {
        struct slot *s = &k->slots[numbers[i]];
        s->holder += memcmp(s->key.digest, lines[i].digest, sizeof(s->key.digest)) != 0;
        s->key = lines[i];
        s->in_use = true;
        atomic_store(&s->limit, lines[i].limit ? lines[i].limit : k->default_limit);
        k->current[i] = numbers[i];
    }
    k->n = n;
    pthread_rwlock_unlock(&k->lock);
}

static int load(struct keys *k, bool again)
{
    struct key_line *lines;
    size_t n;
    unsigned *numbers = calloc(KEYS_MAX, sizeof(*numbers));
    int err = keys_file_read(k->path, again, &lines, &n);

    if (!err && !numbers)
        err = -ENOMEM;
    for (size_t i = 0; !err && i < n; i++) {
        numbers[i] = find_line(k, &lines[i]);
        if (!numbers[i])
            numbers[i] = free_number(k);
        if (!numbers[i]) {
            log_error("%s: too many removed keys still have requests in flight: try again later", k->path);
            err = -ENOSPC;
        }
    }
    if (!err)
        put_in_force(k, lines, numbers, n);
    free(numbers);
    free(lines);
    return err;
}

int keys_open(struct keys **out, const char *path, unsigned default_limit)
{
    struct keys *k = calloc(1, sizeof(*k));
    int err = -ENOMEM;

    *out = NULL;
    if (!k)
        return err;
    pthread_rwlock_init(&k->lock, NULL);
    k->default_limit = default_limit;
    k->path = strdup(path);
    if (k->path)
        err = load(k, false);
    if (err)
        keys_close(k);
    else
        *out = k;
    return err;
}

int keys_reload(struct keys *k)
{
    return load(k, true);
}

void keys_close(struct keys *k)
{
    if (!k)
        return;
    pthread_rwlock_destroy(&k->lock);
    free(k->path);
    free(k);
}

size_t keys_count(const struct keys *k)
{
    return k->n;
}

/* Every byte counts, and no branch is taken on what they are (CVE-2025-59425 was a comparison that stopped at the first difference). */
static unsigned differs(const uint8_t *a, const uint8_t *b)
{
    unsigned d = 0;

    for (size_t i = 0; i < KEYS_DIGEST_BYTES; i++)
        d |= a[i] ^ b[i];
    return d;
}

/*
 * With the lock held. All keys are looked at, also behind the right one. What is compared are digests, so even a difference in time would
 * tell of the digest's bytes, which nobody can steer, and not of the key's.
 */
static unsigned find_digest(const struct keys *k, const uint8_t *digest)
{
    unsigned found = 0;

    for (size_t i = 0; i < k->n; i++) {
        const unsigned same = ((differs(k->slots[k->current[i]].key.digest, digest) - 1) >> 8) & 1;     /* 1 for a difference of 0 */
        found |= (0 - same) & k->current[i];
    }
    return found;
}

bool keys_take(struct keys *k, const char *secret, struct key_grant *grant)
{
    uint8_t digest[KEYS_DIGEST_BYTES];

    *grant = (struct key_grant){ 0 };
    if (keys_digest(secret, strlen(secret), digest))
        return false;
    pthread_rwlock_rdlock(&k->lock);
    const unsigned number = find_digest(k, digest);
    if (number) {
        struct slot *s = &k->slots[number];
        atomic_fetch_add(&s->n_refs, 1);
        grant->number = number;
        grant->holder = s->holder;
        grant->priority = s->key.priority;
        memcpy(grant->name, s->key.name, sizeof(grant->name));
        memcpy(&grant->tag, digest, sizeof(grant->tag));
    }
    pthread_rwlock_unlock(&k->lock);
    return number != 0;
}

void keys_release(struct keys *k, unsigned number)
{
    atomic_fetch_sub(&k->slots[number].n_refs, 1);
}

bool keys_is_full(struct keys *k, unsigned number, unsigned *limit)
{
    *limit = atomic_load(&k->slots[number].limit);
    return atomic_load(&k->slots[number].n_in_flight) >= *limit;
}

bool keys_enter(struct keys *k, unsigned number, unsigned *limit)
{
    struct slot *s = &k->slots[number];
    unsigned n = atomic_load(&s->n_in_flight);

    *limit = atomic_load(&s->limit);
    do {
        if (n >= *limit)
            return false;
    } while (!atomic_compare_exchange_weak(&s->n_in_flight, &n, n + 1));
    return true;
}

void keys_leave(struct keys *k, unsigned number)
{
    atomic_fetch_sub(&k->slots[number].n_in_flight, 1);
}
