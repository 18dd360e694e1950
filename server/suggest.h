/*
 * suggest.h - the nearest of several names to one that was mistyped, for "did you mean".
 *
 * Offer every candidate, then ask for the best: NULL when none is near enough to be what was meant.
 */
#ifndef FOURWAY_SERVER_SUGGEST_H
#define FOURWAY_SERVER_SUGGEST_H

#include <stddef.h>

struct suggestion {
    const char *wanted;     /* what was typed */
    const char *nearest;    /* the best offer so far, or NULL */
    size_t distance;        /* of `nearest` */
};

static inline struct suggestion suggest_start(const char *wanted)
{
    return (struct suggestion){ .wanted = wanted, .distance = (size_t)-1 };
}

/* `name` must live as long as the suggestion; on a tie the earlier offer stays. */
void suggest_offer(struct suggestion *s, const char *name);

const char *suggest_best(const struct suggestion *s);

#endif
