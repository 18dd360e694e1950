/*
 * front_output.c - what leaves a job: events and replies to HTTP, cancels to the engine, one line to the log.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
    const char *key = job->key.number ? job->key.name : "-";
    struct completion_summary s;

    if (!job->completion && !job->embedding) {
        log_info("%s %s status=%d total=%.1fms key=%s", label, path, job->status, ms(clock_now_ns() - job->arrived_ns), key);
        return;
    }
    if (job->completion)
        completion_summarise(job->completion, &s);
    else
        embedding_summarise(job->embedding, &s);
    front_count_end(job, &s);
    log_info("%s %s status=%d%s finish=%s prompt=%llu cached=%llu output=%llu queue=%.1fms ttft=%.1fms itl_p50=%.1fms itl_max=%.1fms "
             "total=%.1fms key=%s", label, path, job->status, job->gone ? " client left" : "", s.finish_reason,
             (unsigned long long)s.n_prompt, (unsigned long long)s.n_cached, (unsigned long long)s.n_generated, ms(s.queue_ns),
             ms(s.first_token_ns), ms(s.gap_median_ns), ms(s.gap_most_ns), ms(clock_now_ns() - job->arrived_ns), key);
    if (s.n_generated) {
        atomic_fetch_add(&job->front->n_finished, 1);
        atomic_fetch_add(&job->front->n_generated, s.n_generated);
    }
}

/* What the outcome is is known: counted, logged and off its key's account before the last byte leaves, for the client may ask for the next
 * thing, or for the counts, as soon as it has that. */
static void settle(struct job *job)
{
    if (job->settled)
        return;
    job->settled = true;
    log_end(job);
    if (job->entered)
        keys_leave(job->front->options.keys, job->key.number);
}

/* Nothing more will happen: the job leaves the list, and lets go of the exchange that owns it. */
static void end(struct job *job)
{
    struct front *f = job->front;

    if (job->ended)
        return;
    job->ended = true;
    settle(job);
    completion_free(job->completion);
    job->completion = NULL;
    embedding_free(job->embedding);
    job->embedding = NULL;
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
        settle(job);
        http_reply_error(job->x, e);
    }
    end(job);
}

void job_reply(struct job *job, struct buf *body)
{
    job->status = body->failed ? 500 : 200;
    settle(job);
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
        settle(job);
        http_reply_error(job->x, error);
        return;
    }
    begin_stream(job);
    if (completion_done(c))
        settle(job);
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
    const struct api_error *error = job->completion ? completion_error(job->completion) : embedding_error(job->embedding);
    struct buf *out = job->completion ? completion_output(job->completion) : embedding_output(job->embedding);

    if (job->replied || !job_done(job))
        return;
    job->replied = true;
    if (error) {
        job->status = api_error_status(error);
        settle(job);
        http_reply_error(job->x, error);
    } else if (!job->gone) {
        job->status = out->failed ? 500 : 200;
        settle(job);
        http_reply(job->x, 200, "application/json", out);
    }
}

static bool next_cancel(struct job *job, size_t *sequence)
{
    return job->completion ? completion_next_cancel(job->completion, sequence) : embedding_next_cancel(job->embedding, sequence);
}

bool job_done(const struct job *job)
{
    return job->completion ? completion_done(job->completion) : job->embedding && embedding_done(job->embedding);
}

void job_abort(struct job *job, const struct api_error *e)
{
    if (job->completion)
        completion_abort(job->completion, e);
    else
        embedding_abort(job->embedding, e);
}

void job_deliver(struct job *job)
{
    size_t sequence;

    if (job->completion && completion_request(job->completion)->stream)
        deliver_stream(job);
    else
        deliver_reply(job);
    while (next_cancel(job, &sequence))
        if (job->ids && job->ids[sequence])
            replicas_cancel(job->front->replicas, job->ids[sequence]);
    if (!job_done(job))
        return;
    job->silent_since_ns = 0;
    job->queue_deadline_ns = 0;
    if (job->completion ? completion_closed(job->completion) : embedding_closed(job->embedding))
        end(job);
}

void job_tick(struct job *job, uint64_t now)
{
    const uint64_t deadline = job->queue_deadline_ns, silent = job->silent_since_ns;
    struct api_error e;

    if (job_done(job))
        return;
    if (deadline && now > deadline) {
        api_error_set(&e, API_DEADLINE_EXCEEDED, NULL, "the request waited %.0f s in the queue", job->front->options.queue_s);
        job_abort(job, &e);
    } else if (silent && now - silent >= job->ping_ns) {
        const char *ping = completion_ping(job->completion);
        begin_stream(job);
        http_stream_write(job->x, ping, strlen(ping), 0);
        job->silent_since_ns = now;
    }
}
