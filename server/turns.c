#include "server/turns.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* A generated token takes a step's share of all weights, a prompt token little more than its arithmetic. Chosen, as in the paper. */
enum { PROMPT_WEIGHT = 1, GENERATED_WEIGHT = 2 };

static const uint64_t aging_ns = 5000000000;

/* 1.25^priority in 1/1024: what a token counts for a key of that priority. Of the smallest the rounding is 4 %. */
static const uint32_t token_cost[] = {
    12, 15, 18, 23, 29, 36, 45, 56, 70, 88, 110, 137, 172, 215, 268, 336, 419, 524, 655, 819,
    1024, 1280, 1600, 2000, 2500, 3125, 3906, 4883, 6104, 7629, 9537, 11921, 14901, 18626, 23283, 29104, 36380, 45475, 56843, 71054,
};
_Static_assert(sizeof(token_cost) / sizeof(token_cost[0]) == TURNS_MOST_PRIORITY - TURNS_LEAST_PRIORITY + 1, "one for each priority");

int turns_create(struct turns *t, size_t n_keys)
{
    *t = (struct turns){ .n_keys = n_keys };
    t->served = calloc(n_keys, sizeof(*t->served));
    t->n_present = calloc(n_keys, sizeof(*t->n_present));
    t->holder = calloc(n_keys, sizeof(*t->holder));
    return t->served && t->n_present && t->holder ? 0 : -ENOMEM;
}

void turns_destroy(struct turns *t)
{
    free(t->served);
    free(t->n_present);
    free(t->holder);
    *t = (struct turns){ 0 };
}

void turns_arrive(struct turns *t, size_t key, uint32_t holder)
{
    uint64_t least = UINT64_MAX;

    assert(key < t->n_keys);
    if (t->holder[key] != holder)
        t->served[key] = 0;
    t->holder[key] = holder;
    for (size_t i = 0; i < t->n_keys && !t->n_present[key]; i++)
        least = t->n_present[i] && t->served[i] < least ? t->served[i] : least;
    if (least != UINT64_MAX && t->served[key] < least)
        t->served[key] = least;
    t->n_present[key]++;
}

void turns_leave(struct turns *t, size_t key)
{
    assert(t->n_present[key]);
    t->n_present[key]--;
}

void turns_serve(struct turns *t, size_t key, int priority, uint64_t n_prompt, uint64_t n_generated)
{
    assert(priority >= TURNS_LEAST_PRIORITY && priority <= TURNS_MOST_PRIORITY);
    t->served[key] += (PROMPT_WEIGHT * n_prompt + GENERATED_WEIGHT * n_generated) * token_cost[priority - TURNS_LEAST_PRIORITY];
}

static int64_t aged(const struct turn *x, uint64_t now_ns)
{
    return x->priority - (int64_t)((now_ns - x->since_ns) / aging_ns);
}

bool turns_before(const struct turns *t, const struct turn *a, const struct turn *b, uint64_t now_ns)
{
    if (a->resumes != b->resumes)
        return a->resumes;
    if (!a->resumes && t->served[a->key] != t->served[b->key])
        return t->served[a->key] < t->served[b->key];
    if (!a->resumes && aged(a, now_ns) != aged(b, now_ns))
        return aged(a, now_ns) < aged(b, now_ns);
    return a->number < b->number;
}
