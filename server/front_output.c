/*
 * front_output.c - what leaves a job: events and replies to HTTP, cancels to the engine, one line to the log.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/front_internal.h"

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void log_end(const struct job *job)
{
    const char *label = http_label(job->x), *path = http_path(job->x);
    struct completion_summary s;

    if (!job->completion) {
        log_info("%s %s status=%d total=%.1fms key=%d", label, path, job->status, ms(clock_now_ns() - job->arrived_ns), job->key);
        return;
    }
    completion_summarise(job->completion, &s);
    front_count_end(job, &s);
    log_info("%s %s status=%d%s finish=%s prompt=%llu cached=%llu output=%llu queue=%.1fms ttft=%.1fms itl_p50=%.1fms itl_max=%.1fms "
             "total=%.1fms key=%d", label, path, job->status, job->gone ? " client left" : "", s.finish_reason,
             (unsigned long long)s.n_prompt, (unsigned long long)s.n_cached, (unsigned long long)s.n_generated, ms(s.queue_ns),
             ms(s.first_token_ns), ms(s.gap_median_ns), ms(s.gap_most_ns), ms(clock_now_ns() - job->arrived_ns), job->key);
    if (s.n_generated) {
        atomic_fetch_add(&job->front->n_finished, 1);
        atomic_fetch_add(&job->front->n_generated, s.n_generated);
    }
}

/* Nothing more will happen: the job leaves the list, and lets go of the exchange that owns it. */
static void end(struct job *job)
{
    struct front *f = job->front;

    if (job->ended)
        return;
    job->ended = true;
    log_end(job);
    if (job->key > 0)
        atomic_fetch_sub(&f->in_flight[job->key], 1);
    completion_free(job->completion);
    job->completion = NULL;
    pthread_mutex_lock(&f->jobs_lock);
    if (job->previous)
        job->previous->next = job->next;
    else
        f->jobs = job->next;
    if (job->next)
        job->next->previous = job->previous;
    if (!f->jobs)
        pthread_cond_broadcast(&f->jobs_gone);
    pthread_mutex_unlock(&f->jobs_lock);
    http_unref(job->x);
}

void job_fail(struct job *job, const struct api_error *e)
{
    if (e) {
        job->status = api_error_status(e);
        http_reply_error(job->x, e);
    }
    end(job);
}

void job_reply(struct job *job, struct buf *body)
{
    job->status = body->failed ? 500 : 200;
    http_reply(job->x, 200, "application/json", body);
    end(job);
}

static void begin_stream(struct job *job)
{
    if (job->streaming)
        return;
    job->streaming = true;
    job->status = 200;
    completion_mark_started(job->completion);
    http_stream_begin(job->x, job->plain ? "text/plain; charset=utf-8" : "text/event-stream; charset=utf-8");
}

/* A client that does not read must not hold memory: at a full queue its sequences end, and the end is said in a few bytes more. */
static void deliver_stream(struct job *job)
{
    struct completion *c = job->completion;
    struct buf *out = completion_output(c);
    const struct api_error *error = completion_error(c);
    bool cut = false;

    if (job->replied || (!out->len && !completion_done(c)))
        return;
    if (error && !job->streaming && !out->len) {
        job->status = api_error_status(error);
        job->replied = true;
        http_reply_error(job->x, error);
        return;
    }
    begin_stream(job);
    cut = out->failed;
    if (!cut && out->len && http_stream_write(job->x, out->data, out->len, completion_take_echo_bytes(c)) < 0) {
        if (!job->gone)
            log_warn("%s: the client reads too slowly: its request is cancelled", http_label(job->x));
        buf_clear(out);
        completion_abort(c, NULL);
        http_stream_write(job->x, out->data ? out->data : "", out->len, out->len);
    }
    buf_clear(out);
    if (job->silent_since_ns)
        job->silent_since_ns = clock_now_ns();
    if (cut)
        completion_abort(c, NULL);
    if (!completion_done(c))
        return;
    job->replied = true;
    if (cut || (job->plain && error))
        http_stream_cut(job->x);
    else
        http_stream_end(job->x);
}

static void deliver_reply(struct job *job)
{
    struct completion *c = job->completion;
    const struct api_error *error = completion_error(c);

    if (job->replied || !completion_done(c))
        return;
    job->replied = true;
    if (error) {
        job->status = api_error_status(error);
        http_reply_error(job->x, error);
    } else if (!job->gone) {
        job->status = completion_output(c)->failed ? 500 : 200;
        http_reply(job->x, 200, "application/json", completion_output(c));
    }
}

void job_deliver(struct job *job)
{
    struct completion *c = job->completion;
    size_t sequence;

    if (completion_request(c)->stream)
        deliver_stream(job);
    else
        deliver_reply(job);
    while (completion_next_cancel(c, &sequence))
        if (job->ids && job->ids[sequence])
            replicas_cancel(job->front->replicas, job->ids[sequence]);
    if (completion_done(c)) {
        job->silent_since_ns = 0;
        job->queue_deadline_ns = 0;
    }
    if (completion_done(c) && completion_closed(c))
        end(job);
}

void job_tick(struct job *job, uint64_t now)
{
    const uint64_t deadline = job->queue_deadline_ns, silent = job->silent_since_ns;
    struct api_error e;

    if (completion_done(job->completion))
        return;
    if (deadline && now > deadline) {
        api_error_set(&e, API_DEADLINE_EXCEEDED, NULL, "the request waited %.0f s in the queue", job->front->options.queue_s);
        completion_abort(job->completion, &e);
    } else if (silent && now - silent >= job->ping_ns) {
        static const char ping[] = ": ping\n\n";
        begin_stream(job);
        http_stream_write(job->x, ping, sizeof(ping) - 1, 0);
        job->silent_since_ns = now;
    }
}
