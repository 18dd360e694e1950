#include "server/turns.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* A generated token takes a step's share of all weights, a prompt token little more than its arithmetic. Chosen, as in the paper. */
enum { PROMPT_WEIGHT = 1, GENERATED_WEIGHT = 2 };

static const uint64_t aging_ns = 5000000000;

int turns_create(struct turns *t, size_t n_keys)
{
    *t = (struct turns){ .n_keys = n_keys };
    t->served = calloc(n_keys, sizeof(*t->served));
    t->n_present = calloc(n_keys, sizeof(*t->n_present));
    return t->served && t->n_present ? 0 : -ENOMEM;
}

void turns_destroy(struct turns *t)
{
    free(t->served);
    free(t->n_present);
    *t = (struct turns){ 0 };
}

void turns_arrive(struct turns *t, size_t key)
{
    uint64_t least = UINT64_MAX;

    assert(key < t->n_keys);
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

void turns_serve(struct turns *t, size_t key, uint64_t n_prompt, uint64_t n_generated)
{
    t->served[key] += PROMPT_WEIGHT * n_prompt + GENERATED_WEIGHT * n_generated;
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
