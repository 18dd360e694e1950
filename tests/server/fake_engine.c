#include "tests/server/fake_engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/batcher.h"

struct fake_sequence {
    struct engine_request r;        /* tokens and end_ids are copies */
    uint32_t n_generated;
    bool running, cancelled;
    uint64_t queued_ns, began_ns, first_ns;
    struct fake_sequence *next;
};

struct engine {
    struct fake_options o;
    engine_event_fn on_event;
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct fake_sequence *sequences;        /* under lock; in order of arrival */
    bool stop;                              /* under lock */
    int load_error;                         /* before state leaves LOADING */
    _Atomic int state;
    atomic_uint n_running, n_waiting;
    _Atomic uint64_t waiting_tokens;
    _Atomic uint64_t n_generated;
};

static void free_sequence(struct fake_sequence *s)
{
    free((int32_t *)s->r.tokens);
    free((int32_t *)s->r.end_ids);
    free(s);
}

static void fill_logprobs(const struct engine *e, const struct engine_request *r, int32_t token, struct engine_event *event)
{
    event->token = token;
    event->logprob = -(float)(token % 50) / 8;
    event->n_top = r->n_logprobs > 0 ? (uint32_t)r->n_logprobs : 0;
    for (uint32_t k = 0; k < event->n_top; k++)
        event->top[k] = (struct token_logprob){ (int32_t)(((uint32_t)token + k) % e->o.n_vocab), event->logprob - (float)k };
}

static void finish(struct engine *e, const struct fake_sequence *s, enum engine_reason reason)
{
    const uint64_t now = clock_now_ns();
    const struct engine_event event = {
        .id = s->r.id, .type = ENGINE_FINISHED, .reason = reason, .n_tokens = s->n_generated, .n_prompt = (uint32_t)s->r.n_prompt,
        .queue_ns = (s->began_ns ? s->began_ns : now) - s->queued_ns,
        .prompt_ns = s->first_ns ? s->first_ns - s->began_ns : 0, .decode_ns = s->first_ns ? now - s->first_ns : 0,
    };
    e->on_event(e->arg, &event);
}

static void read_prompt(struct engine *e, struct fake_sequence *s)
{
    struct engine_event event = { .id = s->r.id, .n_prompt = (uint32_t)s->r.n_prompt };

    s->began_ns = clock_now_ns();
    for (uint32_t part = 1; part <= 2 && s->r.progress; part++) {
        event.type = ENGINE_PROGRESS;
        event.n_tokens = (uint32_t)s->r.n_prompt * part / 2;
        e->on_event(e->arg, &event);
    }
    for (uint32_t i = 1; i < s->r.n_prompt && s->r.prompt_logprobs; i++) {
        event.type = ENGINE_PROMPT_LOGPROB;
        event.n_tokens = i;
        fill_logprobs(e, &s->r, s->r.tokens[i], &event);
        e->on_event(e->arg, &event);
    }
}

static int32_t next_token(const struct fake_sequence *s)
{
    const struct engine_request *r = &s->r;
    const uint64_t shift = r->sampling.temperature < 1e-5f ? 0 : r->sampling.seed + r->sampling.choice;

    if (s->n_generated >= r->n_prompt && r->n_end_ids && s->n_generated >= r->min_tokens)
        return r->end_ids[0];
    return r->tokens[(s->n_generated + shift) % r->n_prompt];
}

static bool is_end(const struct engine_request *r, int32_t token)
{
    for (size_t i = 0; i < r->n_end_ids; i++)
        if (r->end_ids[i] == token)
            return true;
    return false;
}

/* One step of a sequence that runs. Returns false after its last event. */
static bool step(struct engine *e, struct fake_sequence *s)
{
    struct engine_event event = { .id = s->r.id, .type = ENGINE_TOKEN, .n_tokens = s->n_generated };

    if (!s->began_ns)
        read_prompt(e, s);
    if (s->r.sampling.seed == FAKE_FAILED || (s->r.sampling.seed == FAKE_CORRUPTED && s->n_generated == 2)) {
        finish(e, s, s->r.sampling.seed == FAKE_FAILED ? ENGINE_FAILED : ENGINE_CORRUPTED);
        return false;
    }
    if (s->r.pooling && !s->first_ns) {         /* one step to read, one for the vector, so that they occupy the batch */
        s->first_ns = clock_now_ns();
        return true;
    }
    if (s->r.pooling) {         /* of unit length; it tells the parity of the first token and of the number of tokens */
        const float vector[] = { 0, s->r.tokens[0] % 2 ? 0.6f : -0.6f, s->r.n_prompt % 2 ? 0.8f : -0.8f };
        event.type = ENGINE_EMBEDDING;
        event.embedding = vector;
        event.n_embedding = 3;
        e->on_event(e->arg, &event);
        finish(e, s, ENGINE_STOP);
        return false;
    }
    if (s->r.max_tokens) {
        const int32_t token = next_token(s);
        fill_logprobs(e, &s->r, token, &event);
        if (s->r.n_logprobs < 0)
            event.n_top = 0;
        if (!s->first_ns)
            s->first_ns = clock_now_ns();
        s->n_generated++;
        atomic_fetch_add(&e->n_generated, 1);
        e->on_event(e->arg, &event);
        if (s->n_generated > s->r.min_tokens && is_end(&s->r, token)) {
            finish(e, s, ENGINE_STOP);
            return false;
        }
    }
    if (s->n_generated == s->r.max_tokens) {
        finish(e, s, ENGINE_LENGTH);
        return false;
    }
    return true;
}

/* What ends a sequence from outside: -1 when nothing does. */
static int ended(const struct engine *e, const struct fake_sequence *s)
{
    if (e->stop)
        return ENGINE_ABORTED;
    if (s->cancelled)
        return ENGINE_CANCELLED;
    if (s->r.deadline_ns && clock_now_ns() > s->r.deadline_ns)
        return ENGINE_DEADLINE;
    return -1;
}

/* The lock is held: callbacks must not call the engine, so this also shows when one does. */
static void step_all(struct engine *e)
{
    uint32_t n_running = 0, n_waiting = 0;
    uint64_t waiting_tokens = 0;

    for (struct fake_sequence **at = &e->sequences; *at;) {
        struct fake_sequence *s = *at;
        const int reason = ended(e, s);
        bool alive = reason < 0;
        if (!alive)
            finish(e, s, (enum engine_reason)reason);
        if (alive && !s->running && n_running < e->o.max_running && s->r.sampling.seed != FAKE_STUCK)
            s->running = true;
        if (alive && s->running)
            alive = step(e, s);
        if (alive) {
            n_running += s->running;
            n_waiting += !s->running;
            waiting_tokens += s->running ? 0 : s->r.n_prompt;
            at = &s->next;
        } else {
            *at = s->next;
            free_sequence(s);
        }
    }
    e->n_running = n_running;
    e->n_waiting = n_waiting;
    e->waiting_tokens = waiting_tokens;
}

static void wait_ns(struct engine *e, uint64_t ns)
{
    const uint64_t until = clock_now_ns() + ns;
    const struct timespec t = { .tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u) };

    while (!e->stop && clock_now_ns() < until)
        pthread_cond_timedwait(&e->changed, &e->lock, &t);
}

static void *run(void *arg)
{
    struct engine *e = arg;

    pthread_mutex_lock(&e->lock);
    wait_ns(e, e->o.load_ns);
    e->load_error = e->o.load_fails ? -EINVAL : 0;
    if (e->state == ENGINE_LOADING)
        e->state = e->load_error ? ENGINE_DEAD : ENGINE_READY;
    pthread_cond_broadcast(&e->changed);
    while (!e->stop || e->sequences) {
        while (!e->stop && !e->sequences)
            pthread_cond_wait(&e->changed, &e->lock);
        if (e->sequences)
            step_all(e);
        if (e->sequences)
            wait_ns(e, e->o.step_ns);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

struct engine *fake_create(const struct fake_options *o, engine_event_fn on_event, void *arg)
{
    struct engine *e = calloc(1, sizeof(*e));
    pthread_condattr_t attributes;

    if (!e)
        return NULL;
    e->o = *o;
    e->on_event = on_event;
    e->arg = arg;
    e->state = ENGINE_LOADING;
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&e->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&e->thread, NULL, run, e)) {
        free(e);
        return NULL;
    }
    return e;
}

int engine_wait_ready(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    while (e->state == ENGINE_LOADING)
        pthread_cond_wait(&e->changed, &e->lock);
    const int err = e->load_error;
    pthread_mutex_unlock(&e->lock);
    return err;
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->changed);
    free(e);
}

static int32_t *copy_ids(const int32_t *ids, size_t n)
{
    int32_t *copy = malloc((n + 1) * sizeof(*copy));

    if (copy && n)
        memcpy(copy, ids, n * sizeof(*copy));
    return copy;
}

int engine_submit(struct engine *e, const struct engine_request *r)
{
    const int state = e->state;
    struct fake_sequence **at;
    int err = 0;

    if (state != ENGINE_READY)
        return state == ENGINE_LOADING ? -EAGAIN : -ESHUTDOWN;
    if (!r->n_prompt || (!r->max_tokens && !r->prompt_logprobs && !r->pooling))
        return -EINVAL;
    for (size_t i = 0; i < r->n_prompt; i++)
        if (r->tokens[i] < 0 || (uint32_t)r->tokens[i] >= e->o.n_vocab)
            return -EINVAL;
    if (r->n_prompt + r->max_tokens > e->o.n_ctx)
        return -E2BIG;
    struct fake_sequence *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->r = *r;
    s->r.tokens = copy_ids(r->tokens, r->n_prompt);
    s->r.end_ids = copy_ids(r->end_ids, r->n_end_ids);
    s->queued_ns = clock_now_ns();
    pthread_mutex_lock(&e->lock);
    if (e->n_waiting >= e->o.max_waiting) {
        err = -EBUSY;
    } else {
        for (at = &e->sequences; *at; at = &(*at)->next) {
            /* to the end */
        }
        *at = s;
        e->n_waiting++;
        e->waiting_tokens += s->r.n_prompt;
        pthread_cond_broadcast(&e->changed);
    }
    pthread_mutex_unlock(&e->lock);
    if (err)
        free_sequence(s);
    return err;
}

void engine_cancel(struct engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    for (struct fake_sequence *s = e->sequences; s; s = s->next)
        if (s->r.id == id)
            s->cancelled = true;
    pthread_mutex_unlock(&e->lock);
}

void engine_status(const struct engine *e, struct engine_status *out)
{
    *out = (struct engine_status){
        .state = (enum engine_state)e->state, .load_bytes_total = 1000, .load_bytes_done = e->state == ENGINE_LOADING ? 370 : 1000,
        .load_started_ns = 1, .n_running = e->n_running, .n_waiting = e->n_waiting, .n_ctx = e->o.n_ctx,
        .waiting_tokens = e->waiting_tokens,
        .tokens_generated = e->n_generated,
    };
}

/* One node of 100 pages; a step for each token. */
void engine_figures(const struct engine *e, struct engine_figures *out)
{
    const uint64_t n = e->n_generated;

    *out = (struct engine_figures){ .n_nodes = e->state != ENGINE_LOADING, .kv_by_node = true, .steps_profiled = n };
    out->step_ns[ENGINE_STEP_DECODE].buckets[3] = out->step_tokens.buckets[0] = n;
    out->step_ns[ENGINE_STEP_DECODE].sum = n * 8000000;
    out->step_tokens.sum = n;
    out->nodes[0] = (struct engine_node_figures){
        .weight_bytes = 1000, .kv_pages = 100, .kv_free = 75, .compute_ns = n * 6000000, .barrier_ns = n * 2000000,
        .read_bytes[ENGINE_STEP_DECODE] = n * 1000, .decode_bytes_per_s = 5e9, .barrier_share = 0.25 };
}

void engine_drain(struct engine *e)
{
    e->state = ENGINE_DRAINING;
}
