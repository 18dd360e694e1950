/*
 * turns.h - who of those that wait comes next: the API key that was served least, within a key by priority and arrival.
 *
 * Each key has a counter of the tokens that it was served (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024,
 * arXiv:2401.00588): the waiting key with the smallest comes next, so two keys that always wait get equal shares however many requests
 * either has. A key that comes back is lifted to the smallest counter of those that are there, so being away earns nothing. Waiting lowers
 * the number of a priority by 1 in 5 s, so nothing waits for ever.
 *
 * A key has a priority, too, which weighs what it is served, as nice levels weigh the time of processes under Linux
 * (sched_prio_to_weight): with each lower level a key that waits beside others gets a quarter more.
 */
#ifndef FOURWAY_SERVER_TURNS_H
#define FOURWAY_SERVER_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TURNS_LEAST_PRIORITY = -20, TURNS_MOST_PRIORITY = 19 };      /* of keys */

/* Whoever owns one calls it under a lock, or from one thread. */
struct turns {
    size_t n_keys;
    uint64_t *served;           /* [n_keys] */
    uint32_t *holder;           /* [n_keys] of the number: another one begins anew */
    size_t *n_present;          /* [n_keys] requests that wait or run */
};

/* What counts of a request that waits. */
struct turn {
    size_t key;                 /* < n_keys */
    int32_t priority;           /* lower comes earlier */
    uint64_t since_ns, number;  /* arrival, and its order */
    bool resumes;               /* it ran before and lost its pages: before all others */
};

int turns_create(struct turns *t, size_t n_keys);      /* 0 or -ENOMEM */
void turns_destroy(struct turns *t);

/* A request of this key came; or is finished, of whichever reason. */
void turns_arrive(struct turns *t, size_t key, uint32_t holder);
void turns_leave(struct turns *t, size_t key);

/* Tokens of its prompts that were computed, and generated ones. */
void turns_serve(struct turns *t, size_t key, int priority, uint64_t n_prompt, uint64_t n_generated);

/* Does a come before b? */
bool turns_before(const struct turns *t, const struct turn *a, const struct turn *b, uint64_t now_ns);

#endif
