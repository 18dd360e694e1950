#include "server/replicas.h"

#include <stdatomic.h>

/* a < b: goes to a first. */
static bool less_loaded(const struct engine_status *a, const struct engine_status *b)
{
    const uint64_t of_a = (uint64_t)a->n_running + a->n_waiting, of_b = (uint64_t)b->n_running + b->n_waiting;

    return of_a != of_b ? of_a < of_b : a->waiting_tokens < b->waiting_tokens;
}

int replicas_submit(struct replicas *r, const struct engine_request *request)
{
    const size_t first = atomic_fetch_add_explicit(&r->turn, 1, memory_order_relaxed);
    struct engine_status least;
    size_t best = first % r->n;

    engine_status(r->engine[best], &least);
    for (size_t i = 1; i < r->n; i++) {
        const size_t at = (first + i) % r->n;
        struct engine_status s;

        engine_status(r->engine[at], &s);
        if (!less_loaded(&s, &least))
            continue;
        least = s;
        best = at;
    }
    return engine_submit(r->engine[best], request);
}

/* To all of them: one knows the id, the others ignore it. */
void replicas_cancel(struct replicas *r, uint64_t id)
{
    for (size_t i = 0; i < r->n; i++)
        engine_cancel(r->engine[i], id);
}

void replicas_drain(struct replicas *r)
{
    for (size_t i = 0; i < r->n; i++)
        engine_drain(r->engine[i]);
}

/* The order in which a state decides that of all. */
static int weight(enum engine_state s)
{
    switch (s) {
    case ENGINE_DEAD: return 3;
    case ENGINE_DRAINING: return 2;
    case ENGINE_LOADING: return 1;
    default: return 0;
    }
}

void replicas_status(const struct replicas *r, struct engine_status *out)
{
    *out = (struct engine_status){ .state = r->n ? ENGINE_READY : ENGINE_LOADING };
    for (size_t i = 0; i < r->n; i++) {
        struct engine_status s;

        engine_status(r->engine[i], &s);
        if (weight(s.state) > weight(out->state))
            out->state = s.state;
        if (i == 0 || s.load_started_ns < out->load_started_ns)
            out->load_started_ns = s.load_started_ns;
        if (i == 0 || s.n_ctx < out->n_ctx)
            out->n_ctx = s.n_ctx;
        out->load_bytes_done += s.load_bytes_done;
        out->load_bytes_total += s.load_bytes_total;
        out->n_running += s.n_running;
        out->n_waiting += s.n_waiting;
        out->waiting_tokens += s.waiting_tokens;
        out->tokens_generated += s.tokens_generated;
        out->tokens_prompt += s.tokens_prompt;
        out->prefix_lookup_tokens += s.prefix_lookup_tokens;
        out->prefix_hit_tokens += s.prefix_hit_tokens;
        out->drafts_accepted += s.drafts_accepted;
        out->drafts_refused += s.drafts_refused;
        for (size_t k = 0; k < ENGINE_PREEMPTIONS; k++)
            out->preemptions[k] += s.preemptions[k];
        out->tokens_per_s += s.tokens_per_s;
    }
}
