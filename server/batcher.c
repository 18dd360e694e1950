/*
 * batcher.c - the engine's thread: loads the model, then builds, runs and evaluates one step after the other.
 *
 * A step takes one token of every sequence that decodes, then chunks of prompts up to the prefill budget, in order of admission. Pages are
 * reserved as a sequence grows; when they run out the sequence admitted last gives all of its pages back and returns to
 * the queue with the tokens that it has: it is computed again later, to the same bits. What of its pages is known to the prefix cache may
 * still be there then.
 */
#include "server/batcher.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "numa/pool.h"
#include "server/engine_internal.h"

static size_t n_generated(const struct sequence *s)
{
    return s->n_tokens - s->request.n_prompt;
}

static void unlink_waiting(struct engine *e, struct sequence **at)
{
    struct sequence *s = *at;

    *at = s->next;
    s->next = NULL;
    atomic_fetch_sub(&e->n_waiting, 1);
    atomic_fetch_sub(&e->waiting_tokens, s->n_tokens);
}

static void remove_running(struct engine *e, size_t i)
{
    memmove(&e->running[i], &e->running[i + 1], (e->n_in_batch - i - 1) * sizeof(*e->running));
    e->n_in_batch--;
    atomic_store(&e->n_running, (uint32_t)e->n_in_batch);
}

static void mark(struct sequence *s, enum engine_reason reason)
{
    if (!s->leaves)
        s->reason = reason;
    s->leaves = true;
}

/* Sequences that were cancelled, or whose time is over, leave between steps. */
static void sweep(struct engine *e)
{
    const uint64_t now = clock_now_ns();
    struct sequence *gone = NULL;

    pthread_mutex_lock(&e->lock);
    for (struct sequence **at = &e->queue; *at;) {
        struct sequence *s = *at;
        for (size_t i = 0; i < e->n_cancelled; i++)
            if (s->request.id == e->cancelled[i])
                mark(s, ENGINE_CANCELLED);
        if (s->request.deadline_ns && now >= s->request.deadline_ns)
            mark(s, ENGINE_DEADLINE);
        if (!s->leaves) {
            at = &s->next;
            continue;
        }
        unlink_waiting(e, at);
        s->next = gone;
        gone = s;
    }
    for (size_t j = 0; j < e->n_in_batch; j++) {
        struct sequence *s = e->running[j];
        for (size_t i = 0; i < e->n_cancelled; i++)
            if (s->request.id == e->cancelled[i])
                mark(s, ENGINE_CANCELLED);
        if (s->request.deadline_ns && now >= s->request.deadline_ns)
            mark(s, ENGINE_DEADLINE);
    }
    e->n_cancelled = 0;
    pthread_mutex_unlock(&e->lock);

    while (gone) {
        struct sequence *s = gone;
        gone = s->next;
        engine_finish(e, s, s->reason);
    }
    for (size_t i = 0; i < e->n_in_batch;) {
        struct sequence *s = e->running[i];
        if (!s->leaves) {
            i++;
            continue;
        }
        remove_running(e, i);
        engine_finish(e, s, s->reason);
    }
}

static size_t admission_tokens(const struct engine *e, const struct sequence *s)
{
    size_t left = s->request.max_tokens - n_generated(s);
    return s->n_tokens + (left < e->options.reserve_tokens ? left : e->options.reserve_tokens);
}

/* Pages that running sequences may still ask for under their admission. */
static size_t pages_promised(const struct engine *e)
{
    size_t n = 0;

    for (size_t i = 0; i < e->n_in_batch; i++) {
        size_t want = kv_pages_for(admission_tokens(e, e->running[i]));
        n += want > e->running[i]->kv.n_pages ? want - e->running[i]->kv.n_pages : 0;
    }
    return n;
}

/* How many of its tokens may be found in the cache, or made known to it: where the roles differ in arithmetic, those of the prompt. */
static size_t shareable(const struct engine *e, const struct sequence *s, size_t n)
{
    return e->info.roles_agree || n < s->request.n_prompt ? n : s->request.n_prompt;
}

/* Pages of others with the same beginning. The last token is left: its logits are wanted; and so are those of a prompt that is scored. */
static void find_prefix(struct engine *e, struct sequence *s)
{
    if (e->options.no_prefix_cache || s->request.prompt_logprobs)
        return;
    s->n_done = kv_cache_find(model_kv_cache(e->model), &s->kv, s->tokens, shareable(e, s, s->n_tokens - 1), s->request.salt);
}

static void publish_pages(struct engine *e, struct sequence *s)
{
    if (!e->options.no_prefix_cache)
        kv_cache_publish(model_kv_cache(e->model), &s->kv, s->tokens, shareable(e, s, s->n_done), s->request.salt);
}

/* For the first time, not after a preemption. */
static void begin(struct engine *e, struct sequence *s)
{
    const size_t n_prompt = s->request.n_prompt;

    s->admitted_ns = clock_now_ns();
    s->n_cached = s->n_done < n_prompt ? s->n_done : n_prompt;
    s->n_reported = s->n_cached;
    atomic_fetch_add(&e->prefix_lookup, n_prompt);
    atomic_fetch_add(&e->prefix_hit, s->n_cached);
}

/*
 * Is a running sequence just computing what this one could share: at least the page after those it found? Then it is cheaper to wait:
 * of many requests with one system prompt, or many choices of one request, the first computes it.
 */
static bool is_being_computed(const struct engine *e, const struct sequence *s)
{
    const size_t n_page = s->n_done + KV_CHUNK;

    if (e->options.no_prefix_cache || s->request.prompt_logprobs || n_page > shareable(e, s, s->n_tokens - 1))
        return false;
    for (size_t i = 0; i < e->n_in_batch; i++) {
        const struct sequence *r = e->running[i];
        if (r->n_done < n_page && r->request.n_prompt >= n_page && !memcmp(&r->request.salt, &s->request.salt, sizeof(r->request.salt)) &&
            !memcmp(r->tokens, s->tokens, n_page * sizeof(*s->tokens)))
            return true;
    }
    return false;
}

static bool fits(const struct engine *e, const struct sequence *s)
{
    const size_t want = kv_pages_for(admission_tokens(e, s));
    return want - s->kv.n_pages + pages_promised(e) <= model_kv_cache(e->model)->n_free || e->n_in_batch == 0;
}

/* Who of those that wait comes next, of those that were not passed over; NULL: nobody. */
static struct sequence **next_turn(struct engine *e, uint64_t now)
{
    struct sequence **best = NULL;
    struct turn first;

    for (struct sequence **at = &e->queue; *at; at = &(*at)->next) {
        const struct sequence *s = *at;
        const struct turn turn = { .key = s->request.key, .priority = s->request.priority, .since_ns = s->submitted_ns,
                                   .number = s->number, .resumes = s->admitted_ns != 0 };
        if (s->is_passed || (best && !turns_before(&e->turns, &turn, &first, now)))
            continue;
        best = at;
        first = turn;
    }
    return best;
}

/* One after the other as their turns come, until one does not fit; but who waits for another's prompt lets others pass. */
static void admit(struct engine *e)
{
    enum { MOST_PASSED = 64 };
    const uint64_t now = clock_now_ns();
    struct sequence **at;
    size_t n_passed = 0;

    pthread_mutex_lock(&e->lock);
    for (struct sequence *s = e->queue; s; s = s->next)
        s->is_passed = false;
    while (e->n_in_batch < e->options.model.max_batch && n_passed < MOST_PASSED && (at = next_turn(e, now))) {
        struct sequence *s = *at;
        find_prefix(e, s);
        const bool waits = is_being_computed(e, s);
        if (waits || !fits(e, s)) {
            kv_cache_release(model_kv_cache(e->model), &s->kv);
            s->n_done = 0;
            if (!waits)
                break;
            s->is_passed = true;
            n_passed++;
            continue;
        }
        unlink_waiting(e, at);
        if (!s->admitted_ns)
            begin(e, s);
        e->running[e->n_in_batch++] = s;
    }
    atomic_store(&e->n_running, (uint32_t)e->n_in_batch);
    pthread_mutex_unlock(&e->lock);
}

/* The sequence admitted last goes back to the queue without its pages; its turn is before all that never ran. */
static void preempt_last(struct engine *e)
{
    struct sequence *s = e->running[e->n_in_batch - 1];

    remove_running(e, e->n_in_batch - 1);
    kv_cache_release(model_kv_cache(e->model), &s->kv);
    s->n_done = 0;
    atomic_fetch_add(&e->preemptions, 1);
    pthread_mutex_lock(&e->lock);
    s->next = e->queue;
    e->queue = s;
    atomic_fetch_add(&e->n_waiting, 1);
    atomic_fetch_add(&e->waiting_tokens, s->n_tokens);
    pthread_mutex_unlock(&e->lock);
    log_debug("request %llu gives its KV pages back and will be computed again", (unsigned long long)s->request.id);
}

static bool scores(const struct sequence *s, size_t position)
{
    /* Row `position` predicts token position + 1. */
    return s->request.prompt_logprobs && position + 1 < s->request.n_prompt && position >= s->n_scored;
}

static bool decodes(const struct sequence *s)
{
    return s->n_done + 1 == s->n_tokens && s->n_done >= s->request.n_prompt;
}

struct step_size { size_t n_tokens, n_decodes, n_prompt_tokens, n_rows; };

/* Give up to `most` tokens of the sequence to the step. Returns false when its pages could not be had. */
static bool schedule(struct engine *e, struct sequence *s, size_t most, struct step_size *size)
{
    size_t n = s->n_tokens - s->n_done, n_rows = 0;

    if (n > most)
        n = most;
    for (size_t i = 0; i < n; i++) {        /* as many tokens as there is room for rows of logits */
        bool row = scores(s, s->n_done + i) || s->n_done + i + 1 == s->n_tokens;
        if (row && size->n_rows + n_rows == e->info.max_step_logits) {
            n = i;
            break;
        }
        n_rows += row;
    }
    if (n == 0)
        return true;
    if (kv_cache_reserve(model_kv_cache(e->model), &s->kv, s->n_done + n))
        return false;
    assert(size->n_tokens + n <= e->info.max_step_tokens);
    s->n_step = n;
    s->first_row = size->n_rows;
    s->n_rows = n_rows;
    for (size_t i = 0; i < n; i++)
        e->step[size->n_tokens + i] = (struct step_token){
            .id = s->tokens[s->n_done + i], .position = (uint32_t)(s->n_done + i), .sequence = &s->kv,
            .wants_logits = scores(s, s->n_done + i) || s->n_done + i + 1 == s->n_tokens,
            .role = s->n_done + i < s->request.n_prompt ? ROLE_PROMPT : ROLE_GENERATED };
    size->n_tokens += n;
    if (s->n_done < s->request.n_prompt)
        size->n_prompt_tokens += n < s->request.n_prompt - s->n_done ? n : s->request.n_prompt - s->n_done;
    size->n_rows += n_rows;
    return true;
}

/* Decodes first, then prompts. When pages run out the last sequence is preempted and the step is built anew. */
static struct step_size build_step(struct engine *e)
{
    struct step_size size;
    bool fits;

    do {
        size = (struct step_size){ 0 };
        fits = true;
        for (size_t i = 0; i < e->n_in_batch; i++)
            e->running[i]->n_step = e->running[i]->n_rows = 0;
        for (size_t i = 0; fits && i < e->n_in_batch; i++)
            if (decodes(e->running[i]))
                fits = schedule(e, e->running[i], 1, &size);
        size.n_decodes = size.n_tokens;
        const size_t budget = pace_budget(&e->pace, size.n_decodes);
        for (size_t i = 0; fits && i < e->n_in_batch; i++)
            if (!decodes(e->running[i]) && size.n_tokens - size.n_decodes < budget)
                fits = schedule(e, e->running[i], budget - (size.n_tokens - size.n_decodes), &size);
        if (!fits)
            preempt_last(e);
    } while (!fits);
    return size;
}

static bool is_end(const struct sequence *s, int32_t id)
{
    for (size_t i = 0; i < s->request.n_end_ids; i++)
        if (s->request.end_ids[i] == id)
            return true;
    return false;
}

/* The ids that the grammar allows after what was generated; end ids where it may end. False: the request cannot go on. */
static bool constrain(struct sequence *s, uint64_t *mask)
{
    bool may_end;

    if (matcher_allowed(s->matcher, &s->place, s->tokens + s->request.n_prompt, n_generated(s), mask, &may_end))
        return false;
    for (size_t i = 0; may_end && i < s->request.n_end_ids; i++)
        mask[s->request.end_ids[i] / 64] |= (uint64_t)1 << (s->request.end_ids[i] & 63);
    return true;
}

static bool is_complete(struct sequence *s)
{
    bool only_end = false;

    return s->matcher && !matcher_only_end(s->matcher, &s->place, s->tokens + s->request.n_prompt, n_generated(s), &only_end) && only_end;
}

/* Rows of a sequence's last token are sampled by all workers: a pass over the vocabulary each. */
static void sample_worker(const struct worker *w, void *arg)
{
    struct engine *e = arg;
    void *scratch = e->sampler_scratch + w->index * sampler_scratch_bytes(e->vocab_size);
    uint64_t *mask = e->masks + w->index * e->mask_words;
    size_t n_segments, k = 0;

    for (size_t i = 0; i < e->n_in_batch; i++) {
        struct sequence *s = e->running[i];
        if (s->n_step == 0 || s->n_done + s->n_step < s->n_tokens || k++ % w->n_workers != w->index)
            continue;
        const float *logits = model_logits(e->model, s->first_row + s->n_rows - 1);
        const struct segment_stats *stats = model_logit_stats(e->model, s->first_row + s->n_rows - 1, &n_segments);
        bool early = n_generated(s) < s->request.min_tokens;
        s->norm = sampler_norm(stats, n_segments);
        s->drawn = -1;
        if (s->request.max_tokens && !isnan(s->norm.log_sum_exp) && (!s->matcher || constrain(s, mask)))
            s->drawn = sampler_draw(&s->request.sampling, logits, e->vocab_size, s->norm, s->n_tokens, s->tokens, s->n_tokens,
                                    s->request.n_prompt, s->request.end_ids, early ? s->request.n_end_ids : 0,
                                    s->matcher ? mask : NULL, scratch);
    }
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
        if (!scores(s, position))
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

static void count_served(struct engine *e, const struct sequence *s, uint64_t n_prompt, uint64_t n_generated)
{
    pthread_mutex_lock(&e->lock);
    turns_serve(&e->turns, s->request.key, n_prompt, n_generated);
    pthread_mutex_unlock(&e->lock);
}

/* Account for a step's tokens of one sequence. Returns true when it is finished, with the reason. */
static bool evaluate(struct engine *e, struct sequence *s, enum engine_reason *reason)
{
    const size_t n_prompt = s->request.n_prompt;
    struct engine_event event = { .id = s->request.id, .n_prompt = (uint32_t)n_prompt };

    if (s->n_step == 0)
        return false;
    if (!report_scores(e, s)) {
        *reason = ENGINE_CORRUPTED;
        return true;
    }
    size_t n_read = s->n_done + s->n_step < n_prompt ? s->n_done + s->n_step : n_prompt;
    if (n_read > s->n_reported) {       /* what is read again after a preemption is no progress */
        atomic_fetch_add(&e->tokens_prompt, n_read - s->n_reported);
        count_served(e, s, n_read - s->n_reported, 0);
        s->n_reported = n_read;
        if (s->request.progress) {
            event.type = ENGINE_PROGRESS;
            event.n_cached = (uint32_t)s->n_cached;
            event.n_tokens = (uint32_t)n_read;
            e->on_event(e->event_arg, &event);
        }
    }
    s->n_done += s->n_step;
    publish_pages(e, s);
    if (s->n_done < s->n_tokens)
        return false;
    if (isnan(s->norm.log_sum_exp)) {
        *reason = ENGINE_CORRUPTED;
        return true;
    }
    *reason = ENGINE_LENGTH;
    if (n_generated(s) == s->request.max_tokens)        /* the prompt alone, or a replay that is complete */
        return true;
    if (s->drawn < 0) {                                 /* every id is banned: the constraint is at fault, not the logits */
        *reason = ENGINE_FAILED;
        return true;
    }
    if (!s->first_token_ns)
        s->first_token_ns = clock_now_ns();
    event.type = ENGINE_TOKEN;
    event.n_tokens = (uint32_t)n_generated(s);
    fill_logprobs(e, s, s->first_row + s->n_rows - 1, s->norm, s->drawn, &event);
    s->tokens[s->n_tokens++] = s->drawn;
    atomic_fetch_add(&e->tokens_generated, 1);
    count_served(e, s, 0, 1);
    e->rate_tokens++;
    e->on_event(e->event_arg, &event);
    if (is_end(s, s->drawn) || is_complete(s)) {
        *reason = ENGINE_STOP;
        return true;
    }
    return n_generated(s) == s->request.max_tokens;
}

static void update_rate(struct engine *e)
{
    const uint64_t now = clock_now_ns(), window = 2000000000;

    if (now - e->rate_since_ns < window)
        return;
    atomic_store(&e->milli_tokens_per_s, e->rate_tokens * 1000000000000 / (now - e->rate_since_ns));
    e->rate_since_ns = now;
    e->rate_tokens = 0;
}

static void run_step(struct engine *e)
{
    struct step_size size = build_step(e);

    if (size.n_tokens == 0)
        return;
    const uint64_t start = clock_now_ns();
    figures_begin_step(e, size.n_tokens, size.n_prompt_tokens);
    model_step(e->model, e->step, size.n_tokens);
    figures_end_model(e);
    if (size.n_rows)
        pool_run(model_pool(e->model), sample_worker, e);
    pace_observe(&e->pace, size.n_decodes, size.n_tokens - size.n_decodes, (double)(clock_now_ns() - start));
    figures_end_step(e, size.n_tokens, size.n_prompt_tokens);
    for (size_t i = 0; i < e->n_in_batch;) {
        struct sequence *s = e->running[i];
        enum engine_reason reason;
        if (!evaluate(e, s, &reason)) {
            i++;
            continue;
        }
        remove_running(e, i);
        engine_finish(e, s, reason);
    }
    update_rate(e);
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct engine *e = arg;
    atomic_store(&e->load_total, total);
    atomic_store(&e->load_done, done);
}

static int load(struct engine *e)
{
    int err = model_open(&e->model, e->gguf, &e->options.model, on_progress, e);

    if (err)
        return err;
    model_info(e->model, &e->info);
    e->vocab_size = model_config(e->model)->vocab_size;
    e->running = calloc(e->options.model.max_batch, sizeof(*e->running));
    e->step = calloc(e->info.max_step_tokens, sizeof(*e->step));
    e->sampler_scratch = malloc(e->info.n_threads * sampler_scratch_bytes(e->vocab_size));
    e->mask_words = (matcher_mask_words(e->vocab_size) + 7) / 8 * 8;
    e->masks = calloc(e->info.n_threads * e->mask_words, sizeof(*e->masks));
    if (!e->running || !e->step || !e->sampler_scratch || !e->masks)
        return -ENOMEM;
    atomic_store(&e->n_ctx, (uint32_t)e->info.n_ctx);
    e->rate_since_ns = clock_now_ns();
    figures_init(e);
    return 0;
}

/* Sleep until there is work. Returns false when the engine stops. */
static bool wait_for_work(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    while (!e->stop && !e->queue && e->n_in_batch == 0) {
        atomic_store(&e->milli_tokens_per_s, 0);
        e->n_cancelled = 0;     /* of requests that are gone already */
        pthread_cond_wait(&e->changed, &e->lock);
        e->rate_since_ns = clock_now_ns();
        e->rate_tokens = 0;
    }
    bool go_on = !e->stop;
    pthread_mutex_unlock(&e->lock);
    return go_on;
}

static void abort_all(struct engine *e)
{
    while (e->n_in_batch) {
        struct sequence *s = e->running[e->n_in_batch - 1];
        remove_running(e, e->n_in_batch - 1);
        engine_finish(e, s, ENGINE_ABORTED);
    }
    for (;;) {
        pthread_mutex_lock(&e->lock);
        struct sequence *s = e->queue;
        if (s)
            unlink_waiting(e, &e->queue);
        pthread_mutex_unlock(&e->lock);
        if (!s)
            return;
        engine_finish(e, s, ENGINE_ABORTED);
    }
}

void *batcher_thread(void *arg)
{
    struct engine *e = arg;
    int err = load(e);

    pthread_mutex_lock(&e->lock);
    e->load_error = err;
    atomic_store(&e->state, err ? ENGINE_DEAD : ENGINE_READY);
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    while (!err && wait_for_work(e)) {
        sweep(e);
        admit(e);
        run_step(e);
        figures_count_pages(e);
    }
    if (!err)
        abort_all(e);
    free(e->running);
    free(e->step);
    free(e->sampler_scratch);
    free(e->masks);
    model_close(e->model);
    e->model = NULL;
    return NULL;
}
