/*
 * batcher.c - the engine's thread: loads the model, then builds, runs and evaluates one step after the other.
 */
#include "server/batcher.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "numa/pool.h"
#include "server/engine_internal.h"

/* What came since the last step, to the scheduler: new requests in the order of their arrival, and who is cancelled. */
static void take_messages(struct engine *e)
{
    struct sequence *list = NULL;
    uint64_t *cancelled;
    size_t n_cancelled;

    pthread_mutex_lock(&e->lock);
    struct sequence *s = e->inbox;
    e->inbox = NULL;
    e->n_inbox = 0;
    e->inbox_tokens = 0;
    cancelled = e->cancelled;
    n_cancelled = e->n_cancelled;
    e->cancelled = NULL;
    e->n_cancelled = e->cap_cancelled = 0;
    pthread_mutex_unlock(&e->lock);
    while (s) {
        struct sequence *before = s->next;
        s->next = list;
        list = s;
        s = before;
    }
    while (list) {
        s = list;
        list = s->next;
        s->next = NULL;
        scheduler_arrive(&e->scheduler, s);
    }
    scheduler_cancel(&e->scheduler, cancelled, n_cancelled);
    free(cancelled);
}

static void tell_status(struct engine *e)
{
    const struct scheduler *s = &e->scheduler;

    pthread_mutex_lock(&e->lock);
    atomic_store(&e->n_waiting, (uint32_t)(e->n_inbox + s->n_waiting));
    atomic_store(&e->waiting_tokens, e->inbox_tokens + s->waiting_tokens);
    pthread_mutex_unlock(&e->lock);
    atomic_store(&e->n_running, (uint32_t)s->n_running);
    atomic_store(&e->prefix_lookup, s->counts.prefix_lookup_tokens);
    atomic_store(&e->prefix_hit, s->counts.prefix_hit_tokens);
    atomic_store(&e->preemptions[ENGINE_PARK], s->counts.parks);
    atomic_store(&e->preemptions[ENGINE_SPILL], s->counts.spills);
    atomic_store(&e->preemptions[ENGINE_RECOMPUTE], s->counts.recomputes);
    figures_count_pages(e);
}

/* Between steps: who came, who leaves, who runs. */
static void schedule(struct engine *e)
{
    const uint64_t now = clock_now_ns();
    struct sequence *s;

    take_messages(e);
    while ((s = scheduler_take_leaving(&e->scheduler, now)))
        engine_finish(e, s, s->reason);
    scheduler_admit(&e->scheduler, now);
#ifdef FOURWAY_CHECK_STEPS
    scheduler_check(&e->scheduler);
#endif
    tell_status(e);
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
    struct scheduler *s = &e->scheduler;

    drafts_propose(e);
    const struct step_size size = scheduler_build(s);
    if (size.n_tokens == 0)
        return;
    const uint64_t start = clock_now_ns();
    figures_begin_step(e, size.n_tokens, size.n_prompt_tokens);
    model_step(e->model, s->step, size.n_tokens);
    figures_end_model(e);
    if (size.n_rows)
        batcher_draw(e);
    pace_observe(&s->pace, size.n_decodes, size.n_tokens - size.n_decodes, (double)(clock_now_ns() - start));
    figures_end_step(e, size.n_tokens, size.n_prompt_tokens);
    for (size_t i = 0; i < s->n_running;) {
        struct sequence *q = s->running[i];
        enum engine_reason reason;
        if (!batcher_evaluate(e, q, &reason)) {
            i++;
            continue;
        }
        scheduler_remove(s, q);
        engine_finish(e, q, reason);
    }
    update_rate(e);
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct engine *e = arg;
    atomic_store(&e->load_total, total);
    atomic_store(&e->load_done, done);
}

/* As asked for, but no more than the cache could ever spill, and than an eighth of what is available now. */
static uint64_t spare_bytes(const struct engine *e)
{
    const uint64_t wanted = e->options.spare_bytes, most = topology_available_bytes("") / 8;
    const uint64_t all = e->info.kv_pages * e->info.kv_page_bytes, useful = wanted < all ? wanted : all;

    return useful < most ? useful : most;
}

static int open_scheduler(struct engine *e)
{
    const struct engine_options *o = &e->options;
    const struct scheduler_limits limits = {
        .max_batch = o->model.max_batch, .max_step_tokens = e->info.max_step_tokens, .max_step_logits = e->info.max_step_logits,
        .max_drafts = drafts_wanted(e) ? ENGINE_MAX_DRAFTS : 0, .reserve_tokens = o->reserve_tokens,
        .prefix_cache = !o->no_prefix_cache, .roles_agree = e->info.roles_agree, .rope_lengths = e->info.rope_lengths,
    };
    const struct pace pace = { .target_ns = 1e6 * (o->itl_ms < 0 ? ENGINE_ITL_MS : o->itl_ms), .stretches = o->itl_ms < 0,
                               .most = o->prefill_chunk };
    const int err = kv_spare_open(&e->spare, &e->spare_memory, e->model, spare_bytes(e));

    return err ? err : scheduler_create(&e->scheduler, &limits, &pace, o->n_keys + 1, model_kv_cache(e->model), &e->spare);
}

static int load(struct engine *e)
{
    int err = model_open(&e->model, e->gguf, &e->options.model, on_progress, e);

    if (err)
        return err;
    model_info(e->model, &e->info);
    e->vocab_size = model_config(e->model)->vocab_size;
    e->sampler_scratch = malloc(e->info.n_threads * sampler_scratch_bytes(e->vocab_size));
    e->mask_words = (matcher_mask_words(e->vocab_size) + 7) / 8 * 8;
    e->masks = calloc(e->info.n_threads * e->mask_words, sizeof(*e->masks));
    e->embedding = malloc(model_config(e->model)->d_model * sizeof(*e->embedding));
    if (!e->sampler_scratch || !e->masks || !e->embedding)
        return -ENOMEM;
    err = drafts_open(e);
    if (!err)
        err = open_scheduler(e);
    if (err)
        return err;
    atomic_store(&e->n_ctx, (uint32_t)e->info.n_ctx);
    e->rate_since_ns = clock_now_ns();
    figures_init(e);
    return 0;
}

/* Sleep until there is work. Returns false when the engine stops. */
static bool wait_for_work(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    while (!e->stop && !e->inbox && !e->scheduler.n_waiting && !e->scheduler.n_running) {
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
    struct sequence *s;

    take_messages(e);           /* none comes after: engine_submit sees e->stop */
    while ((s = scheduler_take_any(&e->scheduler)))
        engine_finish(e, s, ENGINE_ABORTED);
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
        schedule(e);
        run_step(e);
        tell_status(e);
    }
    if (!err)
        abort_all(e);
    free(e->sampler_scratch);
    free(e->masks);
    free(e->embedding);
    scheduler_destroy(&e->scheduler);
    kv_spare_close(&e->spare, e->spare_memory);
    drafts_close(e);
    model_close(e->model);
    e->model = NULL;
    return NULL;
}
