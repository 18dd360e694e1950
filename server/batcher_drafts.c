/*
 * batcher_drafts.c - speculation: which sequences get drafts for the next step, and what came of them.
 */
#include <errno.h>
#include <stdlib.h>

#include "server/engine_internal.h"

int drafts_open(struct engine *e)
{
    const size_t n = e->options.model.max_batch;

    if (!drafts_wanted(e))
        return 0;
    e->drafting = calloc(n, sizeof(*e->drafting));
    e->draft_lengths = calloc(n, sizeof(*e->draft_lengths));
    if (!e->drafting || !e->draft_lengths)
        return -ENOMEM;
    return e->options.draft ? draft_model_open(&e->draft_model, e->options.draft, &e->options.model, e->model) : 0;
}

void drafts_close(struct engine *e)
{
    draft_model_close(e->draft_model);
    e->draft_model = NULL;
    free(e->drafting);
    free(e->draft_lengths);
}

/* No more than could be used: the token after the last draft is drawn, too. */
static size_t length_for(const struct engine *e, const struct sequence *s, size_t n_decodes, double draft_ns)
{
    const size_t left = s->request.max_tokens - sequence_n_generated(s);      /* 0: a replay that is complete */
    const size_t most = !left ? 0 : left - 1 < SCHEDULER_MAX_DRAFT ? left - 1 : SCHEDULER_MAX_DRAFT;

    if (e->options.draft_tokens)
        return most < e->options.draft_tokens ? most : e->options.draft_tokens;
    return speculation_length(&s->speculation, &e->scheduler.pace, n_decodes, draft_ns, most);
}

void drafts_propose(struct engine *e)
{
    const struct scheduler *s = &e->scheduler;
    size_t n_decodes = 0, n = 0;
    double draft_ns = 0;

    if (!drafts_wanted(e))
        return;
    for (struct sequence *q = s->waiting; e->draft_model && q; q = q->next)
        if (q->n_draft_done)            /* preempted: its pages are for those that run */
            draft_model_forget(e->draft_model, q);
    for (size_t i = 0; i < s->n_running; i++)
        n_decodes += sequence_decodes(s->running[i]);
    if (e->draft_model && n_decodes)
        draft_ns = draft_model_step_ns(e->draft_model) / (double)n_decodes;
    for (size_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        q->n_draft = 0;
        if (!sequence_decodes(q))
            continue;
        const size_t length = length_for(e, q, n_decodes, draft_ns);
        if (e->draft_model) {
            e->drafting[n] = q;
            e->draft_lengths[n++] = length;
        } else {
            q->n_draft = ngram_draft(&q->ngram, q->tokens, q->n_tokens, q->tokens + q->n_tokens, length);
        }
    }
    if (n)
        draft_model_run(e->draft_model, e->drafting, e->draft_lengths, n);
}

void drafts_observe(struct engine *e, struct sequence *s, size_t n_accepted)
{
    if (!drafts_wanted(e))
        return;
    speculation_observe(&s->speculation, s->n_draft, n_accepted);
    atomic_fetch_add(&e->drafts_accepted, n_accepted);
    atomic_fetch_add(&e->drafts_refused, s->n_draft - n_accepted);
}
