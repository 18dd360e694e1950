/*
 * engine.c - the boundary of the engine: requests in, cancels, status. The steps are in batcher.c.
 */
#include "server/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/engine_internal.h"

enum { DEFAULT_PREFILL_CHUNK = 256, DEFAULT_RESERVE = 256, DEFAULT_MAX_WAITING = 512 };

int engine_create(struct engine **out, const struct gguf *g, const struct engine_options *o, engine_event_fn on_event, void *arg)
{
    struct engine *e = calloc(1, sizeof(*e));

    *out = NULL;
    if (!e)
        return -ENOMEM;
    if (o->model.max_batch > ENGINE_MAX_BATCH) {
        free(e);
        return -EINVAL;
    }
    e->options = *o;
    if (!e->options.prefill_chunk)
        e->options.prefill_chunk = DEFAULT_PREFILL_CHUNK;
    if (!e->options.reserve_tokens)
        e->options.reserve_tokens = DEFAULT_RESERVE;
    if (!e->options.max_waiting)
        e->options.max_waiting = DEFAULT_MAX_WAITING;
    if (!e->options.model.max_batch)
        e->options.model.max_batch = ENGINE_DEFAULT_BATCH;
    const size_t n_drafts = drafts_wanted(e) ? ENGINE_MAX_DRAFTS : 0;
    const size_t most_chunk = MODEL_MAX_STEP_TOKENS - e->options.model.max_batch - n_drafts;
    if (e->options.prefill_chunk > most_chunk)
        e->options.prefill_chunk = most_chunk;
    e->options.model.max_drafts = n_drafts ? SCHEDULER_MAX_DRAFT : 0;
    e->options.model.max_step_tokens = e->options.prefill_chunk + e->options.model.max_batch + n_drafts;
    e->options.model.max_step_logits = e->options.model.max_batch + n_drafts + 16;     /* some rows for prompts that are scored */
    e->options.model.max_step_hidden = e->options.model.max_step_tokens;    /* a mean is of every token */
    e->gguf = g;
    e->on_event = on_event;
    e->event_arg = arg;
    e->load_started_ns = clock_now_ns();
    matchers_init(&e->matchers, o->trie);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, NULL);
    const int err = -pthread_create(&e->thread, NULL, batcher_thread, e);
    if (err) {
        pthread_mutex_destroy(&e->lock);
        pthread_cond_destroy(&e->changed);
        matchers_free(&e->matchers);
        free(e);
        return err;
    }
    *out = e;
    return 0;
}

int engine_wait_ready(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    while (atomic_load(&e->state) == ENGINE_LOADING)
        pthread_cond_wait(&e->changed, &e->lock);
    int err = e->load_error;
    pthread_mutex_unlock(&e->lock);
    return err;
}

const struct model *engine_model(const struct engine *e)
{
    return e->model;
}

void engine_stop(struct engine *e)
{
    if (!e || e->stopped)
        return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    e->stopped = true;
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    engine_stop(e);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->changed);
    matchers_free(&e->matchers);
    free(e->cancelled);
    free(e);
}

/* Copies the request into one allocation. NULL: no memory. */
static struct sequence *copy_request(const struct engine *e, const struct engine_request *r)
{
    const size_t n_bias = r->sampling.n_bias, n_known = r->n_prompt + r->n_replayed, n_room = r->n_prompt + r->max_tokens;
    struct sequence *s = calloc(1, sizeof(*s) + n_bias * sizeof(struct logit_bias) + (r->n_end_ids + n_room) * sizeof(int32_t));

    if (!s)
        return NULL;
    struct logit_bias *bias = (struct logit_bias *)(s + 1);
    int32_t *end_ids = (int32_t *)(bias + n_bias);
    s->request = *r;
    s->tokens = end_ids + r->n_end_ids;
    s->n_tokens = n_known;
    if (n_bias)
        memcpy(bias, r->sampling.bias, n_bias * sizeof(*bias));
    if (r->n_end_ids)
        memcpy(end_ids, r->end_ids, r->n_end_ids * sizeof(*end_ids));
    memcpy(s->tokens, r->tokens, n_known * sizeof(*s->tokens));
    s->request.sampling.bias = bias;
    s->request.end_ids = end_ids;
    s->request.tokens = s->tokens;
    s->request.grammar = NULL;          /* the matcher has it */
    s->submitted_ns = clock_now_ns();
    if (kv_sequence_create(&s->kv, n_room) || (e->options.draft && kv_sequence_create(&s->draft_kv, n_room)) ||
        (e->options.drafts_ngrams && ngram_create(&s->ngram, n_room))) {
        kv_sequence_destroy(&s->kv);
        kv_sequence_destroy(&s->draft_kv);
        free(s);
        return NULL;
    }
    return s;
}

static void free_sequence(struct engine *e, struct sequence *s)
{
    matchers_release(&e->matchers, s->matcher);
    kv_sequence_destroy(&s->kv);
    free(s->pooled);
    kv_sequence_destroy(&s->draft_kv);
    ngram_destroy(&s->ngram);
    free(s);
}

static int check_request(const struct engine *e, const struct engine_request *r)
{
    if (r->key > e->options.n_keys || r->key_priority < TURNS_LEAST_PRIORITY || r->key_priority > TURNS_MOST_PRIORITY ||
        r->n_prompt == 0 || r->n_replayed > r->max_tokens || r->n_logprobs > SAMPLER_MAX_TOP ||
        (r->max_tokens == 0 && !r->prompt_logprobs && !r->pooling) || (r->pooling && (r->max_tokens || r->prompt_logprobs || r->grammar)))
        return -EINVAL;
    if (r->n_prompt > atomic_load(&e->n_ctx) || r->max_tokens > atomic_load(&e->n_ctx) - r->n_prompt)
        return -E2BIG;
    for (size_t i = 0; i < r->n_prompt + r->n_replayed; i++)
        if (r->tokens[i] < 0 || (size_t)r->tokens[i] >= e->vocab_size)
            return -EINVAL;
    for (size_t i = 0; i < r->sampling.n_bias; i++)
        if (r->sampling.bias[i].id < 0 || (size_t)r->sampling.bias[i].id >= e->vocab_size)
            return -EINVAL;
    return 0;
}

int engine_submit(struct engine *e, const struct engine_request *r)
{
    struct sequence *s;
    int err = 0;

    switch (atomic_load(&e->state)) {
    case ENGINE_LOADING: return -EAGAIN;
    case ENGINE_READY: break;
    default: return -ESHUTDOWN;
    }
    err = check_request(e, r);
    if (err)
        return err;
    s = copy_request(e, r);
    if (!s)
        return -ENOMEM;
    if (r->grammar)
        err = matchers_take(&e->matchers, r->grammar, r->grammar_bytes, &s->matcher);
    if (err) {
        free_sequence(e, s);
        return err;
    }

    pthread_mutex_lock(&e->lock);
    uint64_t most_tokens = e->options.max_waiting_tokens;
    if (e->stop || atomic_load(&e->state) != ENGINE_READY)
        err = -ESHUTDOWN;
    else if (atomic_load(&e->n_waiting) >= e->options.max_waiting ||
             (most_tokens && atomic_load(&e->waiting_tokens) + s->n_tokens > most_tokens))
        err = -EBUSY;
    if (!err) {
        s->number = e->n_submitted++;
        s->next = e->inbox;
        e->inbox = s;
        e->n_inbox++;
        e->inbox_tokens += s->n_tokens;
        atomic_fetch_add(&e->n_waiting, 1);
        atomic_fetch_add(&e->waiting_tokens, s->n_tokens);
        pthread_cond_broadcast(&e->changed);
    }
    pthread_mutex_unlock(&e->lock);
    if (err)
        free_sequence(e, s);
    return err;
}

void engine_cancel(struct engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    if (e->n_cancelled == e->cap_cancelled) {
        size_t cap = e->cap_cancelled ? 2 * e->cap_cancelled : 64;
        uint64_t *ids = realloc(e->cancelled, cap * sizeof(*ids));
        if (ids) {
            e->cancelled = ids;
            e->cap_cancelled = cap;
        }
    }
    if (e->n_cancelled < e->cap_cancelled)      /* else out of memory: the request runs to its end, nothing is lost */
        e->cancelled[e->n_cancelled++] = id;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

void engine_drain(struct engine *e)
{
    int ready = ENGINE_READY;
    atomic_compare_exchange_strong(&e->state, &ready, ENGINE_DRAINING);
}

void engine_status(const struct engine *e, struct engine_status *out)
{
    *out = (struct engine_status){
        .state = (enum engine_state)atomic_load(&e->state),
        .load_bytes_done = atomic_load(&e->load_done),
        .load_bytes_total = atomic_load(&e->load_total),
        .load_started_ns = atomic_load(&e->load_started_ns),
        .n_running = atomic_load(&e->n_running),
        .n_waiting = atomic_load(&e->n_waiting),
        .waiting_tokens = atomic_load(&e->waiting_tokens),
        .n_ctx = atomic_load(&e->n_ctx),
        .tokens_generated = atomic_load(&e->tokens_generated),
        .tokens_prompt = atomic_load(&e->tokens_prompt),
        .prefix_lookup_tokens = atomic_load(&e->prefix_lookup),
        .prefix_hit_tokens = atomic_load(&e->prefix_hit),
        .drafts_accepted = atomic_load(&e->drafts_accepted),
        .drafts_refused = atomic_load(&e->drafts_refused),
        .tokens_per_s = (double)atomic_load(&e->milli_tokens_per_s) / 1000,
    };
    for (size_t i = 0; i < ENGINE_PREEMPTIONS; i++)
        out->preemptions[i] = atomic_load(&e->preemptions[i]);
}

void engine_finish(struct engine *e, struct sequence *s, enum engine_reason reason)
{
    const uint64_t now = clock_now_ns();
    struct engine_event event = {
        .id = s->request.id, .type = ENGINE_FINISHED, .reason = reason, .n_prompt = (uint32_t)s->request.n_prompt,
        .n_cached = (uint32_t)s->n_cached,
        .n_tokens = (uint32_t)(s->n_tokens - s->request.n_prompt),
        .queue_ns = (s->admitted_ns ? s->admitted_ns : now) - s->submitted_ns,
    };

    if (s->admitted_ns)
        event.prompt_ns = (s->first_token_ns ? s->first_token_ns : now) - s->admitted_ns;
    if (s->first_token_ns)
        event.decode_ns = now - s->first_token_ns;
    if (e->draft_model)
        draft_model_forget(e->draft_model, s);
    e->on_event(e->event_arg, &event);
    free_sequence(e, s);
}
