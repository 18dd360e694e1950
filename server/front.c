#include "server/front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/front_internal.h"
#include "server/openapi.h"

int front_create(struct front **out, const struct front_options *o)
{
    struct front *f = calloc(1, sizeof(*f));
    pthread_condattr_t attributes;

    *out = NULL;
    if (!f)
        return -ENOMEM;
    f->options = *o;
    if (!f->options.max_waiting)
        f->options.max_waiting = 512;
    if (f->options.queue_s <= 0)
        f->options.queue_s = 120;
    if (f->options.ping_s <= 0)
        f->options.ping_s = 30;
    pthread_mutex_init(&f->jobs_lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&f->jobs_gone, &attributes);
    pthread_condattr_destroy(&attributes);
    int err = router_init(&f->router);
    if (!err)
        err = openapi_write(&f->options.model, o->keys != NULL, &f->description);
    if (!err)
        err = work_pool_start(&f->intake, o->n_intake ? o->n_intake : 2, job_run);
    if (!err)
        err = work_pool_start(&f->output, o->n_output ? o->n_output : 1, job_run);
    if (err) {
        log_error("the front end did not start: %s", strerror(-err));
        front_destroy(f);
        return err;
    }
    *out = f;
    return 0;
}

void front_set_replicas(struct front *f, struct replicas *r)
{
    f->replicas = r;
}

void front_set_facts(struct front *f, const struct front_facts *facts)
{
    f->facts = *facts;
    atomic_store(&f->has_facts, true);
}

/* Is a key sent? As Authorization: Bearer KEY, or on Anthropic's routes as x-api-key: KEY. */
static bool take_key(struct keys *keys, const struct http_exchange *x, const struct route *route, struct key_grant *key)
{
    static const char scheme[] = "Bearer ";
    const char *sent = http_header(x, "Authorization");

    if (sent && strncasecmp(sent, scheme, sizeof(scheme) - 1) == 0 && keys_take(keys, sent + sizeof(scheme) - 1, key))
        return true;
    sent = route_is_anthropic(route) ? http_header(x, "X-Api-Key") : NULL;
    return sent && keys_take(keys, sent, key);
}

static int too_many(struct front *f, unsigned limit, struct api_error *e)
{
    metric_add(&f->metrics.rejected[REJECT_RATE], 1);
    return api_error_set(e, API_RATE_LIMITED, NULL, "%u requests of this key are in flight already", limit);
}

/* Deny by default: a path that is no route needs a key, too. */
static int check_key(struct front *f, struct http_exchange *x, const struct route *route, struct key_grant *key, struct api_error *e)
{
    struct keys *keys = f->options.keys;
    unsigned limit;

    *key = (struct key_grant){ 0 };
    if (!keys || (route && route->open))
        return 0;
    if (!take_key(keys, x, route, key))
        return api_error_set(e, API_INVALID_API_KEY, NULL, "a valid API key is needed: Authorization: Bearer KEY%s",
                             route_is_anthropic(route) ? ", or x-api-key: KEY" : "");
    if (route && route->engine && keys_is_full(keys, key->number, &limit)) {
        keys_release(keys, key->number);
        return too_many(f, limit, e);
    }
    return 0;
}

/* OPTIONS is answered when the request is complete; here only what refuses it. */
static int check_method(struct http_exchange *x, const struct route *route, struct api_error *e)
{
    const char *method = http_method(x);

    if (strcmp(method, "OPTIONS") == 0)
        return 0;
    if (route->post ? strcmp(method, "POST") == 0 : strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        return 0;
    route_allow(route, x);
    return api_error_set(e, API_METHOD_NOT_ALLOWED, NULL, "%s does not take %s", route->path, method);
}

static bool wants_plain_text(const struct http_exchange *x)
{
    const char *accept = http_header(x, "Accept");

    return accept && strncasecmp(accept, "text/plain", strlen("text/plain")) == 0;
}

static int make_job(struct front *f, struct http_exchange *x, const struct route *route, const struct key_grant *key, struct api_error *e)
{
    struct job *job = job_create(f, x, route);

    if (!job)
        return api_error_internal(e, -ENOMEM);
    job->key = *key;
    job->plain = wants_plain_text(x);
    job->verbose = http_query(x, "verbose") && strcmp(http_query(x, "verbose"), "1") == 0;
    http_set_user(x, job);
    return 0;
}

static int on_headers(void *arg, struct http_exchange *x, struct api_error *e)
{
    struct front *f = arg;
    const struct route *route = route_find(http_path(x));
    struct key_grant key;

    if (route_is_anthropic(route))
        http_add_header(x, "request-id", "%s", http_label(x));      /* the name that its clients read */
    int err = check_key(f, x, route, &key, e);
    if (err)
        return err;
    if (!route)
        err = api_error_set(e, API_ROUTE_NOT_FOUND, NULL, "there is no route %.200s", http_path(x));
    if (!err)
        err = check_method(x, route, e);
    if (!err && strcmp(http_method(x), "OPTIONS") != 0)
        err = route_admit(f, route, 0, e);
    if (!err)
        err = make_job(f, x, route, &key, e);
    if (err && key.number)
        keys_release(f->options.keys, key.number);
    return err;
}

static void enlist(struct front *f, struct job *job)
{
    http_ref(job->x);           /* until the job has ended */
    pthread_mutex_lock(&f->jobs_lock);
    job->next = f->jobs;
    if (job->next)
        job->next->previous = job;
    f->jobs = job;
    pthread_mutex_unlock(&f->jobs_lock);
}

static void on_request(void *arg, struct http_exchange *x)
{
    struct front *f = arg;
    struct job *job = http_user(x);
    struct buf none = { 0 };
    struct api_error e;
    unsigned limit;

    job->requested = true;
    if (strcmp(http_method(x), "OPTIONS") == 0) {
        route_allow(job->route, x);
        http_reply(x, 204, NULL, &none);
    } else if (!job->route->post) {
        route_answer(f, job);
    } else if (job->key.number && job->route->engine && !keys_enter(f->options.keys, job->key.number, &limit)) {
        too_many(f, limit, &e);         /* others of the key came while this one's body was read */
        http_reply_error(x, &e);
    } else {
        job->entered = job->key.number && job->route->engine;
        job->arrived_ns = clock_now_ns();
        enlist(f, job);
        job_post(job, JOB_START);
    }
}

static void on_gone(void *arg, struct http_exchange *x)
{
    struct job *job = http_user(x);

    (void)arg;
    if (job && job->route->post)
        job_post(job, JOB_GONE);
}

static void on_reply(void *arg, const struct http_exchange *x, int status)
{
    struct job *job = http_user(x);

    if (job)
        job->answered = true;
    front_count_reply(arg, route_find(http_path(x)), status);
}

static void on_free(void *arg, struct http_exchange *x)
{
    struct front *f = arg;
    struct job *job = http_user(x);

    if (job && !job->requested && !job->answered)
        metric_add(&f->metrics.disconnects[PHASE_UPLOAD], 1);
    job_free(job);
}

static void write_error(void *arg, const struct http_exchange *x, const struct api_error *e, struct buf *out)
{
    const struct route *route = route_find(http_path(x));

    (void)arg;
    if (route_is_anthropic(route))
        api_error_write_anthropic(e, http_label(x), out);
    else
        api_error_write(e, out);
}

/* Jobs with a ping or a queue deadline that is due are told; they look at the time themselves. */
static void on_tick(void *arg)
{
    struct front *f = arg;
    const uint64_t now = clock_now_ns();

    pthread_mutex_lock(&f->jobs_lock);
    for (struct job *job = f->jobs; job; job = job->next) {
        const uint64_t deadline = job->queue_deadline_ns, silent = job->silent_since_ns;
        if ((deadline && now > deadline) || (silent && now > silent && now - silent >= job->ping_ns))
            job_post(job, JOB_TICK);
    }
    pthread_mutex_unlock(&f->jobs_lock);
}

void front_serve(struct front *f, struct http_options *o)
{
    o->on_headers = on_headers;
    o->on_request = on_request;
    o->on_gone = on_gone;
    o->on_free = on_free;
    o->on_reply = on_reply;
    o->on_tick = on_tick;
    o->write_error = write_error;
    o->arg = f;
}

/* With jobs_lock held. */
static bool wait_for_jobs(struct front *f, double seconds)
{
    const uint64_t until = clock_now_ns() + (uint64_t)(seconds * 1e9);
    const struct timespec t = { .tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u) };

    while (f->jobs)
        if (pthread_cond_timedwait(&f->jobs_gone, &f->jobs_lock, &t) == ETIMEDOUT)
            break;
    return !f->jobs;
}

bool front_drain(struct front *f, double patience_s)
{
    enum { LAST_WORDS_S = 2 };

    atomic_store(&f->draining, true);
    if (f->replicas)
        replicas_drain(f->replicas);
    pthread_mutex_lock(&f->jobs_lock);
    const bool all = wait_for_jobs(f, patience_s);
    if (!all) {
        log_warn("the drain time is over: requests in flight are ended");
        for (struct job *job = f->jobs; job; job = job->next)
            job_post(job, JOB_STOP);
        wait_for_jobs(f, LAST_WORDS_S);
    }
    pthread_mutex_unlock(&f->jobs_lock);
    return all;
}

void front_destroy(struct front *f)
{
    if (!f)
        return;
    work_pool_stop(&f->intake);
    work_pool_stop(&f->output);
    router_free(&f->router);
    buf_free(&f->description);
    pthread_mutex_destroy(&f->jobs_lock);
    pthread_cond_destroy(&f->jobs_gone);
    free(f);
}
