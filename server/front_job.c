/*
 * front_job.c - one request as an actor: its inbox, its start, and the loop that works it off.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <xxhash.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/front_internal.h"

struct job *job_create(struct front *f, struct http_exchange *x, const struct route *route)
{
    struct job *job = calloc(1, sizeof(*job));

    if (!job)
        return NULL;
    job->front = f;
    job->x = x;
    job->route = route;
    job->arrived_ns = clock_now_ns();
    pthread_mutex_init(&job->lock, NULL);
    return job;
}

void job_free(struct job *job)
{
    if (!job)
        return;
    if (job->key.number)
        keys_release(job->front->options.keys, job->key.number);
    completion_free(job->completion);
    embedding_free(job->embedding);
    buf_free(&job->inbox);
    buf_free(&job->events);
    free(job->ids);
    free(job->finish_lost);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

/* With the lock held: true when the caller must hand the job to a pool, with a reference of the pool's own. */
static bool schedule(struct job *job)
{
    if (job->scheduled)
        return false;
    job->scheduled = true;
    http_ref(job->x);
    return true;
}

void job_post(struct job *job, unsigned message)
{
    struct front *f = job->front;

    pthread_mutex_lock(&job->lock);
    job->messages |= message;
    const bool push = schedule(job);
    pthread_mutex_unlock(&job->lock);
    if (push)
        work_pool_push(message & JOB_START ? &f->intake : &f->output, &job->item);
}

/*
 * On an engine's thread; choices of one request may be with several engines. The job lives until it has worked off the last event of each
 * of its sequences; a reference keeps it while its lock is being released.
 */
void front_on_event(void *arg, const struct engine_event *e)
{
    struct front *f = arg;
    uint32_t sequence;
    struct job *job = router_find(&f->router, e->id, &sequence);

    if (!job)
        return;
    const struct completion_event kept = {
        .sequence = sequence, .type = e->type, .reason = e->reason, .n_tokens = e->n_tokens, .n_prompt = e->n_prompt,
        .n_cached = e->n_cached, .token = e->token, .logprob = e->logprob, .n_top = e->n_top, .n_embedding = e->n_embedding,
        .at_ns = clock_now_ns(),
        .queue_ns = e->queue_ns, .prompt_ns = e->prompt_ns, .decode_ns = e->decode_ns,
    };
    struct http_exchange *x = job->x;
    http_ref(x);
    pthread_mutex_lock(&job->lock);
    if (buf_reserve(&job->inbox, sizeof(kept) + e->n_top * sizeof(e->top[0]) + e->n_embedding * sizeof(e->embedding[0]))) {
        buf_append(&job->inbox, &kept, sizeof(kept));
        buf_append(&job->inbox, e->top, e->n_top * sizeof(e->top[0]));
        if (e->n_embedding)
            buf_append(&job->inbox, e->embedding, e->n_embedding * sizeof(e->embedding[0]));
    } else {
        job->messages |= JOB_LOST;
        job->finish_lost[sequence] |= e->type == ENGINE_FINISHED;
    }
    const bool push = schedule(job);
    pthread_mutex_unlock(&job->lock);
    if (push)
        work_pool_push(&f->output, &job->item);
    http_unref(x);
}

static void start_simple(struct job *job)
{
    const struct api_model *m = &job->front->options.model;
    struct engine_status status;
    struct buf out = { 0 };
    struct api_error e;
    size_t n;
    const char *body = http_body(job->x, &n);
    int err;

    replicas_status(job->front->replicas, &status);
    switch (job->route->id) {
    case ROUTE_TOKENIZE:
        err = api_tokenize(m, status.n_ctx, body, n, &out, &e);
        break;
    case ROUTE_DETOKENIZE:
        err = api_detokenize(m, body, n, &out, &e);
        break;
    case ROUTE_COUNT_TOKENS:
        err = api_count_tokens(m, body, n, &out, &e);
        break;
    default:
        err = api_apply_template(m, body, n, &out, &e);
        break;
    }
    http_drop_body(job->x);
    if (err)
        job_fail(job, &e);
    else
        job_reply(job, &out);
    buf_free(&out);
}

static void refused_by_engine(struct job *job, int err, struct api_error *e)
{
    const struct api_request *r = job->completion ? completion_request(job->completion) : embedding_request(job->embedding);
    struct engine_status s;

    switch (err) {
    case -EAGAIN:
    case -EBUSY:
    case -ESHUTDOWN:
        if (route_admit(job->front, job->route, 0, e) == 0)     /* it was so a moment ago */
            api_error_set(e, API_SERVER_OVERLOADED, NULL, "the queue is full");
        break;
    case -E2BIG:
        metric_add(&job->front->metrics.rejected[REJECT_CONTEXT], 1);
        replicas_status(job->front->replicas, &s);
        api_error_set(e, API_CONTEXT_LENGTH_EXCEEDED, api_prompt_param(r->route),
                      "prompt and answer do not fit the context of %u tokens", s.n_ctx);
        e->has_context = true;
        e->n_prompt_tokens = r->prompts[0].n;
        e->n_ctx = s.n_ctx;
        break;
    default:
        api_error_internal(e, err);
        break;
    }
}

/* From the key itself, not its number, which another key may get after it. */
static struct kv_salt salt_of_key(struct kv_salt salt, uint64_t tag)
{
    const XXH128_hash_t hash = XXH3_128bits_withSeed(&salt, sizeof(salt), (XXH64_hash_t)tag);
    return (struct kv_salt){ { hash.low64, hash.high64 } };
}

/* A request's own orders those of its key; with the key's it is the rank by which running requests keep their pages. */
static int32_t add_priorities(int32_t a, int b)
{
    const int64_t sum = (int64_t)a + b;
    return sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : (int32_t)sum;
}

static int submit_sequence(struct job *job, size_t i, const struct api_request *r, struct engine_request *q)
{
    struct front *f = job->front;
    const double timeout_s = r->timeout_s > 0 ? r->timeout_s : f->options.request_s;

    q->id = job->ids[i] = router_add(&f->router, job, (uint32_t)i);
    q->key = job->key.number;
    q->key_holder = job->key.holder;
    q->key_priority = job->key.priority;
    q->priority = add_priorities(q->priority, job->key.priority);
    if (f->options.isolate_keys)
        q->salt = salt_of_key(q->salt, job->key.tag);
    if (timeout_s > 0)
        q->deadline_ns = job->arrived_ns + (uint64_t)(timeout_s * 1e9);
    const int err = q->id ? replicas_submit(f->replicas, q) : -EBUSY;
    if (err && q->id) {
        router_remove(&f->router, q->id);
        job->ids[i] = 0;
    }
    return err;
}

/* Inputs as far as they may be in the engine at once. A full queue is no error while some are: the others follow these. */
static void submit_inputs(struct job *job)
{
    struct embedding *m = job->embedding;
    struct engine_request q;
    struct api_error e;
    size_t i;

    while (embedding_next(m, &i, &q)) {
        const int err = submit_sequence(job, i, embedding_request(m), &q);
        if (!err)
            continue;
        if (embedding_refused(m, i) && err == -EBUSY)
            return;
        refused_by_engine(job, err, &e);
        embedding_abort(m, &e);
    }
}

static int make_ids(struct job *job, size_t n)
{
    job->ids = calloc(n, sizeof(*job->ids));
    job->finish_lost = calloc(n, sizeof(*job->finish_lost));
    return job->ids && job->finish_lost ? 0 : -ENOMEM;
}

/* Submit the sequences that need the engine; when one is refused, all are given up. */
static void submit(struct job *job)
{
    struct completion *c = job->completion;
    const size_t n = completion_n_sequences(c);
    int err = make_ids(job, n);

    for (size_t i = 0; i < n; i++) {
        struct engine_request q;
        if (!completion_engine_request(c, i, &q))
            continue;
        if (!err) {
            err = submit_sequence(job, i, completion_request(c), &q);
            if (!err)
                continue;
            struct api_error e;
            refused_by_engine(job, err, &e);
            completion_abort(c, &e);
        }
        completion_close_sequence(c, i);
    }
}

static int make_completion(struct job *job, struct api_request *request, struct api_error *e)
{
    struct completion_options o = {
        .tokenizer = job->front->options.model.tokenizer, .fingerprint = "fourway-" FOURWAY_VERSION, .created = time(NULL),
        .arrived_ns = job->arrived_ns, .label = http_label(job->x), .plain = job->plain, .first_token = &job->front->metrics.first_token,
        .gap = &job->front->metrics.gap,
    };
    uint64_t random[2];

    if (job->plain && request->n_prompts * request->n > 1) {
        api_request_free(request);
        return api_error_set(e, API_INVALID_VALUE, "n", "Accept: text/plain needs one prompt and n = 1");
    }
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        random[0] = random[1] = (uint64_t)(uintptr_t)job;
    snprintf(o.id, sizeof(o.id), "%016llx%08llx", (unsigned long long)random[0], (unsigned long long)(random[1] & 0xffffffff));
    int err = completion_create(&job->completion, request, &o);
    return err ? api_error_internal(e, err) : 0;
}

static int make_embedding(struct job *job, struct api_request *request, struct api_error *e)
{
    int err = embedding_create(&job->embedding, request, job->front->options.model.pooling);

    if (!err)
        err = make_ids(job, embedding_n_inputs(job->embedding));
    if (!err)
        return 0;
    embedding_free(job->embedding);
    job->embedding = NULL;
    return api_error_internal(e, err);
}

static enum api_route api_route_of(const struct route *route)
{
    switch (route->id) {
    case ROUTE_CHAT:
        return API_CHAT;
    case ROUTE_RESPONSES:
        return API_RESPONSES;
    case ROUTE_MESSAGES:
        return API_MESSAGES;
    case ROUTE_EMBEDDINGS:
        return API_EMBEDDINGS;
    default:
        return API_COMPLETIONS;
    }
}

/* A request that needs the engine. */
static void start(struct job *job)
{
    struct front *f = job->front;
    struct api_request *request;
    struct engine_status status;
    struct api_error e;
    size_t n;
    const char *body = http_body(job->x, &n);

    int err = route_admit(f, job->route, n, &e);
    if (!err) {
        replicas_status(f->replicas, &status);
        err = api_read(&request, api_route_of(job->route), &f->options.model, status.n_ctx, body, n, &e);
        if (err && e.code == API_CONTEXT_LENGTH_EXCEEDED)
            metric_add(&f->metrics.rejected[REJECT_CONTEXT], 1);
    }
    http_drop_body(job->x);
    if (!err && *request->label && http_label_is_ours(job->x))
        http_set_label(job->x, request->label);
    if (!err)
        err = request->route == API_EMBEDDINGS ? make_embedding(job, request, &e) : make_completion(job, request, &e);
    if (err) {
        job_fail(job, &e);
        return;
    }
    const uint64_t now = clock_now_ns();
    const double ping_s = request->ping_s < 0 ? f->options.ping_s : request->ping_s;
    job->ping_ns = (uint64_t)(ping_s * 1e9);
    job->silent_since_ns = request->stream && completion_ping(job->completion) && ping_s > 0 ? now : 0;
    job->queue_deadline_ns = now + (uint64_t)(f->options.queue_s * 1e9);
    if (job->embedding)         /* its inputs are submitted as there is room for them */
        return;
    completion_start(job->completion);
    submit(job);
}

/* The events of the inbox, in order. The last of a sequence frees its id. */
static void work_off(struct job *job)
{
    const struct buf *b = &job->events;

    if (b->len)
        job->queue_deadline_ns = 0;
    for (size_t at = 0; at < b->len;) {
        struct completion_event e;
        struct token_logprob top[SAMPLER_MAX_TOP];
        memcpy(&e, b->data + at, sizeof(e));
        at += sizeof(e);
        memcpy(top, b->data + at, e.n_top * sizeof(top[0]));
        at += e.n_top * sizeof(top[0]);
        const char *embedding = b->data + at;
        at += e.n_embedding * sizeof(float);
        job->begun = true;
        job->decodes |= e.type == ENGINE_TOKEN;
        if (e.type == ENGINE_FINISHED && e.reason == ENGINE_CORRUPTED)
            metric_add(&job->front->metrics.corrupted, 1);
        if (job->completion)
            completion_push(job->completion, &e, top);
        else
            embedding_push(job->embedding, &e, embedding);
        if (e.type == ENGINE_FINISHED && job->ids[e.sequence]) {
            router_remove(&job->front->router, job->ids[e.sequence]);
            job->ids[e.sequence] = 0;
        }
    }
}

/* Without memory for an event the text is not whole any more: the request fails, but each of its sequences still ends. */
static void work_off_lost(struct job *job)
{
    struct api_error e;

    api_error_internal(&e, -ENOMEM);
    job_abort(job, &e);
    for (size_t i = 0; i < (job->completion ? completion_n_sequences(job->completion) : embedding_n_inputs(job->embedding)); i++) {
        pthread_mutex_lock(&job->lock);
        const bool lost = job->finish_lost[i];
        job->finish_lost[i] = false;
        pthread_mutex_unlock(&job->lock);
        if (lost) {
            router_remove(&job->front->router, job->ids[i]);
            job->ids[i] = 0;
            if (job->completion)
                completion_close_sequence(job->completion, i);
            else
                embedding_close(job->embedding);
        }
    }
}

static void work_off_messages(struct job *job, unsigned messages)
{
    struct api_error e;

    if (messages & JOB_GONE) {
        front_count_gone(job);
        job->gone = true;
    }
    if (messages & JOB_START) {
        if (job->gone)
            job_fail(job, NULL);
        else if (job->route->engine)
            start(job);
        else
            start_simple(job);
    }
    if (!job->completion && !job->embedding)
        return;
    work_off(job);
    if (messages & JOB_LOST)
        work_off_lost(job);
    if (job->gone)
        job_abort(job, NULL);
    if (messages & JOB_STOP) {
        api_error_set(&e, API_DRAINING, NULL, "the server is shutting down");
        job_abort(job, &e);
    }
    if (messages & JOB_TICK)
        job_tick(job, clock_now_ns());
    if (job->embedding)
        submit_inputs(job);
    job_deliver(job);
}

void job_run(struct work_item *item)
{
    struct job *job = (struct job *)item;
    struct http_exchange *x = job->x;

    for (;;) {
        pthread_mutex_lock(&job->lock);
        const unsigned messages = job->messages;
        const struct buf events = job->inbox;
        if (!messages && !events.len) {
            job->scheduled = false;
            pthread_mutex_unlock(&job->lock);
            break;
        }
        buf_clear(&job->events);
        job->inbox = job->events;
        job->events = events;
        job->messages = 0;
        pthread_mutex_unlock(&job->lock);
        if (!job->ended)
            work_off_messages(job, messages);
    }
    http_unref(x);
}
