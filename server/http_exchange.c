/*
 * http_exchange.c - one request and its reply: references, answers from any thread, and the reader that MHD pulls a stream from.
 *
 * The suspend protocol: the side that has nothing to send suspends the connection and sets `suspended`, under the exchange's lock; the
 * side that produces clears it there and resumes. Suspending outside the lock would lose a resume that comes first, and resuming what is
 * not suspended makes MHD swallow the next suspend.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/log.h"
#include "server/http_internal.h"

static void make_label(struct http_exchange *x)
{
    uint64_t random = 0;

    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        random = (uint64_t)(uintptr_t)x;
    snprintf(x->label, sizeof(x->label), "req-%016llx", (unsigned long long)random);
    x->label_is_ours = true;
}

struct http_exchange *http_exchange_create(struct http *h, struct http_connection *connection, struct MHD_Connection *conn)
{
    struct http_exchange *x = calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    x->http = h;
    x->connection = connection;
    x->conn = conn;
    x->refs = 1;
    x->body.limit = h->options.max_body;
    pthread_mutex_init(&x->lock, NULL);
    make_label(x);
    return x;
}

void http_ref(struct http_exchange *x)
{
    atomic_fetch_add(&x->refs, 1);
}

void http_unref(struct http_exchange *x)
{
    if (atomic_fetch_sub(&x->refs, 1) != 1)
        return;
    x->http->options.on_free(x->http->options.arg, x);
    http_drop_body(x);
    buf_free(&x->out);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

void http_set_user(struct http_exchange *x, void *user)
{
    x->user = user;
}

void *http_user(const struct http_exchange *x)
{
    return x->user;
}

const struct http *http_of(const struct http_exchange *x)
{
    return x->http;
}

const char *http_method(const struct http_exchange *x)
{
    return x->method;
}

const char *http_path(const struct http_exchange *x)
{
    return x->path;
}

const char *http_label(const struct http_exchange *x)
{
    return x->label;
}

bool http_label_is_ours(const struct http_exchange *x)
{
    return x->label_is_ours;
}

void http_set_label(struct http_exchange *x, const char *label)
{
    size_t n = 0;

    for (; label[n] && n + 1 < sizeof(x->label); n++)
        x->label[n] = label[n] >= 0x20 && label[n] < 0x7f ? label[n] : '?';
    x->label[n] = '\0';
    x->label_is_ours = false;
}

const char *http_header(const struct http_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->conn, MHD_HEADER_KIND, name);
}

const char *http_query(const struct http_exchange *x, const char *name)
{
    const char *value = NULL;
    size_t n = 0;

    if (MHD_lookup_connection_value_n(x->conn, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value, &n) != MHD_YES)
        return NULL;
    return value ? value : "";
}

const char *http_body(const struct http_exchange *x, size_t *n)
{
    *n = x->body.len;
    return x->body.data ? x->body.data : "";
}

void http_drop_body(struct http_exchange *x)
{
    buf_free(&x->body);
    atomic_fetch_sub(&x->http->body_bytes, x->body_counted);
    x->body_counted = 0;
}

void http_add_header(struct http_exchange *x, const char *name, const char *format, ...)
{
    va_list args;

    if (x->n_added == HTTP_MAX_ADDED)
        return;
    va_start(args, format);
    snprintf(x->added[x->n_added].name, sizeof(x->added[0].name), "%s", name);
    vsnprintf(x->added[x->n_added].value, sizeof(x->added[0].value), format, args);
    va_end(args);
    x->n_added++;
}

bool http_wake_locked(struct http_exchange *x)
{
    if (!x->suspended || x->wake_queued)
        return false;
    x->wake_queued = true;
    http_ref(x);
    return true;
}

void http_wake_push(struct http_exchange *x)
{
    struct http *h = x->http;
    struct http_exchange *first = atomic_load(&h->wakes);

    do
        x->next_wake = first;
    while (!atomic_compare_exchange_weak(&h->wakes, &first, x));
    if (!first)
        http_watch_kick(h);
}

void http_reply(struct http_exchange *x, int status, const char *content_type, struct buf *body)
{
    pthread_mutex_lock(&x->lock);
    const bool answer = x->reply == REPLY_NONE;
    if (answer) {
        x->reply = REPLY_WHOLE;
        x->status = body->failed ? MHD_HTTP_INTERNAL_SERVER_ERROR : status;
        x->content_type = content_type;
        x->out = *body;
        *body = (struct buf){ 0 };
    }
    const bool wake = http_wake_locked(x);
    pthread_mutex_unlock(&x->lock);
    if (!answer)
        buf_free(body);
    if (wake)
        http_wake_push(x);
}

void http_reply_error(struct http_exchange *x, const struct api_error *e)
{
    struct buf body = { 0 };

    if (e->retry_after_s)
        http_add_header(x, MHD_HTTP_HEADER_RETRY_AFTER, "%u", e->retry_after_s);
    if (e->code == API_INVALID_API_KEY)
        http_add_header(x, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (x->http->options.write_error)
        x->http->options.write_error(x->http->options.arg, x, e, &body);
    else
        api_error_write(e, &body);
    http_reply(x, api_error_status(e), "application/json", &body);
}

void http_stream_begin(struct http_exchange *x, const char *content_type)
{
    pthread_mutex_lock(&x->lock);
    if (x->reply == REPLY_NONE) {
        x->reply = REPLY_STREAM;
        x->status = MHD_HTTP_OK;
        x->content_type = content_type;
    }
    const bool wake = http_wake_locked(x);
    pthread_mutex_unlock(&x->lock);
    if (wake)
        http_wake_push(x);
}

int http_stream_write(struct http_exchange *x, const char *bytes, size_t n, size_t allowance)
{
    int err = 0;

    pthread_mutex_lock(&x->lock);
    x->allowance += allowance;
    if (x->out.len - x->out_at + n > HTTP_MAX_QUEUED + x->allowance) {
        err = -ENOBUFS;
    } else {
        if (x->out_at > x->out.len / 2) {       /* the sent half makes room */
            memmove(x->out.data, x->out.data + x->out_at, x->out.len - x->out_at);
            x->out.len -= x->out_at;
            x->out_at = 0;
        }
        buf_append(&x->out, bytes, n);
        if (x->out.failed)
            err = -ENOBUFS;
    }
    const bool wake = http_wake_locked(x);
    pthread_mutex_unlock(&x->lock);
    if (wake)
        http_wake_push(x);
    return err;
}

static void end_stream(struct http_exchange *x, bool cut)
{
    pthread_mutex_lock(&x->lock);
    x->end = true;
    x->cut |= cut;
    const bool wake = http_wake_locked(x);
    pthread_mutex_unlock(&x->lock);
    if (wake)
        http_wake_push(x);
}

void http_stream_end(struct http_exchange *x)
{
    end_stream(x, false);
}

void http_stream_cut(struct http_exchange *x)
{
    end_stream(x, true);
}

void http_exchange_gone(struct http_exchange *x)
{
    pthread_mutex_lock(&x->lock);
    x->gone = true;
    const bool tell = x->dispatched && !x->gone_told;
    x->gone_told |= tell;
    const bool wake = http_wake_locked(x);
    pthread_mutex_unlock(&x->lock);
    if (wake)
        http_wake_push(x);
    if (tell)
        x->http->options.on_gone(x->http->options.arg, x);
}

/* How much of the waiting bytes to hand over: whole events, which end in an empty line; a part of one only when it is all there is. */
static size_t whole_events(const char *bytes, size_t n, size_t most)
{
    if (n <= most)
        return n;
    for (size_t end = most; end >= 2; end--)
        if (bytes[end - 1] == '\n' && bytes[end - 2] == '\n')
            return end;
    return most;
}

/* MHD pulls the stream. Each return is one HTTP chunk. Returning 0 without a suspend would spin: MHD asks again at once. */
static ssize_t read_stream(void *arg, uint64_t position, char *to, size_t most)
{
    struct http_exchange *x = arg;
    ssize_t result;

    (void)position;
    pthread_mutex_lock(&x->lock);
    const size_t waiting = x->out.len - x->out_at;
    if (x->gone || (x->cut && !waiting)) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (waiting) {
        const size_t n = whole_events(x->out.data + x->out_at, waiting, most);
        memcpy(to, x->out.data + x->out_at, n);
        x->out_at += n;
        if (x->out_at == x->out.len) {
            x->out_at = x->allowance = 0;
            if (x->out.cap > HTTP_MAX_QUEUED)
                buf_free(&x->out);
            else
                buf_clear(&x->out);
        }
        result = (ssize_t)n;
    } else if (x->end) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (atomic_load(&x->http->refuse_suspend)) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        MHD_suspend_connection(x->conn);
        x->suspended = true;
        result = 0;
    }
    pthread_mutex_unlock(&x->lock);
    return result;
}

static void free_stream(void *arg)
{
    http_unref(arg);
}

static void add_headers(const struct http_exchange *x, struct MHD_Response *response)
{
    MHD_add_response_header(response, "X-Request-Id", x->label);
    if (x->content_type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, x->content_type);
    if (x->reply == REPLY_STREAM) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
        MHD_add_response_header(response, "X-Accel-Buffering", "no");
    }
    if (x->close || atomic_load(&x->http->stopping))
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (*x->origin) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, x->origin);
        MHD_add_response_header(response, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
        MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ORIGIN);
    }
    for (size_t i = 0; i < x->n_added; i++)
        MHD_add_response_header(response, x->added[i].name, x->added[i].value);
}

enum MHD_Result http_exchange_queue(struct http_exchange *x, struct MHD_Connection *conn)
{
    struct MHD_Response *response;

    if (x->reply == REPLY_STREAM) {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_CHUNK, read_stream, x, free_stream);
        if (response)
            http_ref(x);
    } else {
        response = MHD_create_response_from_buffer(x->out.len, x->out.data, MHD_RESPMEM_MUST_FREE);
        if (response)
            x->out = (struct buf){ 0 };
    }
    if (!response)
        return MHD_NO;
    add_headers(x, response);
    if (x->http->options.on_reply)
        x->http->options.on_reply(x->http->options.arg, x, x->status);
    const enum MHD_Result result = MHD_queue_response(conn, (unsigned)x->status, response);
    MHD_destroy_response(response);
    return result;
}
