/*
 * batcher_results.c - from a step's logits to tokens, from its hidden states to embeddings, and from these to events.
 */
#include <math.h>
#include <stdlib.h>

#include "common/clock.h"
#include "numa/pool.h"
#include "server/draw.h"
#include "server/engine_internal.h"
#include "server/pooling.h"

static bool is_end(const struct sequence *s, int32_t id)
{
    for (size_t i = 0; i < s->request.n_end_ids; i++)
        if (s->request.end_ids[i] == id)
            return true;
    return false;
}

/* Nothing may follow the first n tokens of the sequence. */
static bool is_complete(struct sequence *s, size_t n)
{
    bool only_end = false;

    return s->matcher && !matcher_only_end(s->matcher, &s->place, s->tokens + s->request.n_prompt, n - s->request.n_prompt, &only_end) &&
           only_end;
}

/* The token after the first n of the sequence, from a row of logits. -1: none may be drawn. */
static int32_t draw(const struct engine *e, struct sequence *s, size_t n, size_t row, struct logits_norm norm, uint64_t *mask,
                    void *scratch)
{
    const size_t n_generated = n - s->request.n_prompt;
    const struct draw d = {
        .sampling = &s->request.sampling, .tokens = s->tokens, .n_tokens = n, .n_prompt = s->request.n_prompt,
        .end_ids = s->request.end_ids, .n_end_ids = s->request.n_end_ids, .early = n_generated < s->request.min_tokens,
        .matcher = s->matcher, .place = &s->place, .mask = mask, .scratch = scratch };

    return n_generated == s->request.max_tokens ? -1 : draw_token(&d, model_logits(e->model, row), e->vocab_size, norm);
}

/*
 * The rows of the last known token and of those that were drafted, in order, up to the first where another token is drawn than was drafted:
 * so each is drawn after the tokens, and with the number, that it would have without drafts.
 */
static void draw_rows(const struct engine *e, struct sequence *s, uint64_t *mask, void *scratch)
{
    const size_t first = s->first_row + s->n_rows - 1 - s->n_draft;
    bool as_drafted;

    do {
        const size_t i = s->n_drawn++, n = s->n_tokens + i;
        size_t n_segments;
        const struct segment_stats *stats = model_logit_stats(e->model, first + i, &n_segments);
        s->norms[i] = sampler_norm(stats, n_segments);
        s->drawn[i] = draw(e, s, n, first + i, s->norms[i], mask, scratch);
        if (s->drawn[i] < 0)
            return;
        as_drafted = i < s->n_draft && s->tokens[n] == s->drawn[i];
        s->tokens[n] = s->drawn[i];
        s->ends = is_end(s, s->drawn[i]) || is_complete(s, n + 1);
    } while (as_drafted && !s->ends);
}

static bool has_last_row(const struct sequence *s)
{
    return s->n_rows && s->n_done + s->n_step >= s->n_tokens;
}

/* A pass over the vocabulary each: sequences are dealt over the workers. */
static void draw_worker(const struct worker *w, void *arg)
{
    struct engine *e = arg;
    void *scratch = e->sampler_scratch + w->index * sampler_scratch_bytes(e->vocab_size);
    uint64_t *mask = e->masks + w->index * e->mask_words;
    size_t k = 0;

    for (size_t i = 0; i < e->scheduler.n_running; i++) {
        struct sequence *s = e->scheduler.running[i];
        if (has_last_row(s) && k++ % w->n_workers == w->index)
            draw_rows(e, s, mask, scratch);
    }
}

void batcher_draw(struct engine *e)
{
    for (size_t i = 0; i < e->scheduler.n_running; i++) {
        e->scheduler.running[i]->n_drawn = 0;
        e->scheduler.running[i]->ends = false;
    }
    pool_run(model_pool(e->model), draw_worker, e);
}

static void fill_logprobs(const struct engine *e, const struct sequence *s, size_t row, struct logits_norm norm, int32_t id,
                          struct engine_event *event)
{
    const float *logits = model_logits(e->model, row);

    event->token = id;
    event->logprob = sampler_logprob(logits, norm, id);
    if (s->request.n_logprobs > 0) {
        event->n_top = (uint32_t)s->request.n_logprobs;
        if (event->n_top > e->vocab_size)
            event->n_top = (uint32_t)e->vocab_size;
        sampler_top(logits, e->vocab_size, norm, event->n_top, event->top);
    }
}

/* Events for prompt tokens whose rows this step computed. */
static bool report_scores(struct engine *e, struct sequence *s)
{
    size_t row = s->first_row, n_segments;

    for (size_t i = 0; i < s->n_step; i++) {
        size_t position = s->n_done + i;
        if (!sequence_scores(s, position))
            continue;
        struct engine_event event = { .id = s->request.id, .type = ENGINE_PROMPT_LOGPROB, .n_tokens = (uint32_t)position + 1,
                                      .n_prompt = (uint32_t)s->request.n_prompt };
        const struct segment_stats *stats = model_logit_stats(e->model, row, &n_segments);
        struct logits_norm norm = sampler_norm(stats, n_segments);
        if (isnan(norm.log_sum_exp))
            return false;
        fill_logprobs(e, s, row, norm, s->tokens[position + 1], &event);
        e->on_event(e->event_arg, &event);
        s->n_scored = position + 1;
        row++;
    }
    return true;
}

/* Tokens of the prompt that were read for the first time: what is read again after a preemption is no progress. */
static void report_progress(struct engine *e, struct sequence *s)
{
    const size_t n_prompt = s->request.n_prompt, n_done = s->n_done + s->n_step, n_read = n_done < n_prompt ? n_done : n_prompt;
    const struct engine_event event = { .id = s->request.id, .type = ENGINE_PROGRESS, .n_tokens = (uint32_t)n_read,
                                        .n_prompt = (uint32_t)n_prompt, .n_cached = (uint32_t)s->n_cached };

    if (n_read <= s->n_reported)
        return;
    atomic_fetch_add(&e->tokens_prompt, n_read - s->n_reported);
    scheduler_read(&e->scheduler, s, n_read - s->n_reported);
    s->n_reported = n_read;
    if (s->request.progress)
        e->on_event(e->event_arg, &event);
}

/* The i-th token that the step drew for the sequence. Returns true when it was the last, with the reason. */
static bool take_token(struct engine *e, struct sequence *s, size_t i, size_t row, enum engine_reason *reason)
{
    struct engine_event event = { .id = s->request.id, .type = ENGINE_TOKEN, .n_prompt = (uint32_t)s->request.n_prompt,
                                  .n_tokens = (uint32_t)sequence_n_generated(s) };

    if (isnan(s->norms[i].log_sum_exp)) {
        *reason = ENGINE_CORRUPTED;
        return true;
    }
    *reason = ENGINE_LENGTH;
    if (sequence_n_generated(s) == s->request.max_tokens)       /* the prompt alone, or a replay that is complete */
        return true;
    if (s->drawn[i] < 0) {                                      /* every id is banned: the constraint is at fault, not the logits */
        *reason = ENGINE_FAILED;
        return true;
    }
    if (!s->first_token_ns)
        s->first_token_ns = clock_now_ns();
    fill_logprobs(e, s, row, s->norms[i], s->drawn[i], &event);
    scheduler_append(&e->scheduler, s, s->drawn[i]);
    atomic_fetch_add(&e->tokens_generated, 1);
    e->rate_tokens++;
    e->on_event(e->event_arg, &event);
    if (s->ends && i + 1 == s->n_drawn) {
        *reason = ENGINE_STOP;
        return true;
    }
    return sequence_n_generated(s) == s->request.max_tokens;
}

/* The step's hidden states into the sum; after the last one, the embedding. Returns true when it is finished, with the reason. */
static bool pool(struct engine *e, struct sequence *s, enum engine_reason *reason)
{
    const size_t d = model_config(e->model)->d_model;
    size_t row = s->first_hidden;

    if (!s->pooled)
        s->pooled = calloc(d, sizeof(*s->pooled));
    if (!s->pooled) {
        *reason = ENGINE_FAILED;
        return true;
    }
    for (size_t i = s->n_done; i < s->n_done + s->n_step; i++) {
        if (!sequence_wants_hidden(s, i))
            continue;
        pooling_add(s->pooled, model_hidden(e->model, row++), d);
        s->n_pooled = i + 1;
    }
    scheduler_computed(&e->scheduler, s, s->n_step);
    if (s->n_done < s->n_tokens)
        return false;
    *reason = pooling_finish(e->embedding, s->pooled, d) ? ENGINE_STOP : ENGINE_CORRUPTED;
    if (*reason == ENGINE_STOP)
        e->on_event(e->event_arg, &(struct engine_event){ .id = s->request.id, .type = ENGINE_EMBEDDING, .n_embedding = (uint32_t)d,
                                                          .n_prompt = (uint32_t)s->request.n_prompt, .embedding = e->embedding });
    return true;
}

bool batcher_evaluate(struct engine *e, struct sequence *s, enum engine_reason *reason)
{
    const bool draws = has_last_row(s);
    const size_t first_row = s->first_row + s->n_rows - 1 - s->n_draft, n_drawn = s->n_drawn;

    if (s->n_step == 0)
        return false;
    if (!report_scores(e, s)) {
        *reason = ENGINE_CORRUPTED;
        return true;
    }
    report_progress(e, s);
    if (s->request.pooling)
        return pool(e, s, reason);
    if (!draws) {
        scheduler_computed(&e->scheduler, s, s->n_step);
        return false;
    }
    const size_t n_known = s->n_step - s->n_draft;
    drafts_observe(e, s, n_drawn - 1);
    for (size_t i = 0; i < n_drawn; i++) {
        /* The i-th row belongs to the last known token at first, then to one that was drafted and drawn. */
        scheduler_computed(&e->scheduler, s, i ? 1 : n_known);
        if (take_token(e, s, i, first_row + i, reason))
            return true;
    }
    return false;
}
