/*
 * http_handler.c - libmicrohttpd's callbacks: a request arrives in three kinds of calls, and is answered in the first or after the last.
 *
 * A reply can be queued when only the headers are there (the body is then dropped and the connection closed) and when the body is
 * complete, never between. A call after the body that neither queues nor suspends is repeated at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/http_internal.h"

static uint64_t in_seconds(double s)
{
    return clock_now_ns() + (uint64_t)(s * 1e9);
}

void http_connection_notice(void *arg, struct MHD_Connection *conn, void **context, enum MHD_ConnectionNotificationCode code)
{
    struct http *h = arg;
    struct http_connection *k = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        k = calloc(1, sizeof(*k));
        *context = k;
        if (!k || !info)
            return;             /* requests on it get no exchange and are closed */
        k->http = h;
        k->fd = info->connect_fd;
        k->deadline_ns = in_seconds(h->options.header_s);
        pthread_mutex_lock(&h->connections_lock);
        k->next = h->connections;
        if (k->next)
            k->next->previous = k;
        h->connections = k;
        pthread_mutex_unlock(&h->connections_lock);
        if (atomic_fetch_add(&h->n_connections, 1) == 0)
            http_watch_kick(h);         /* it slept without ticks */
    } else if (k) {
        pthread_mutex_lock(&h->connections_lock);       /* the reaper holds it while it uses the descriptor */
        if (k->previous)
            k->previous->next = k->next;
        else if (h->connections == k)
            h->connections = k->next;
        if (k->next)
            k->next->previous = k->previous;
        pthread_mutex_unlock(&h->connections_lock);
        if (k->http)
            atomic_fetch_sub(&h->n_connections, 1);
        free(k);
        *context = NULL;
    }
}

static void set_exchange(struct http_connection *k, struct http_exchange *x)
{
    pthread_mutex_lock(&k->http->connections_lock);
    k->exchange = x;
    pthread_mutex_unlock(&k->http->connections_lock);
}

void http_completed(void *arg, struct MHD_Connection *conn, void **con_cls, enum MHD_RequestTerminationCode code)
{
    struct http *h = arg;
    struct http_exchange *x = *con_cls;

    (void)conn;
    if (!x)
        return;
    *con_cls = NULL;
    pthread_mutex_lock(&x->lock);
    x->conn = NULL;
    x->suspended = false;
    if (x->watched) {           /* before MHD closes the descriptor and another connection gets its number */
        x->watched = false;
        epoll_ctl(h->epoll, EPOLL_CTL_DEL, x->connection->fd, NULL);
        x->retire = true;       /* an event may be on its way to the watch thread: it drops the reference of the registration */
    }
    const bool push = x->retire && !x->wake_queued;
    if (push) {
        x->wake_queued = true;
        http_ref(x);
    }
    pthread_mutex_unlock(&x->lock);
    if (push)
        http_wake_push(x);
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        http_exchange_gone(x);

    struct http_connection *k = x->connection;
    set_exchange(k, NULL);
    k->body_began_ns = 0;
    k->deadline_ns = in_seconds(h->options.idle_s);
    http_unref(x);
}

/* Headers alone are here. */
static enum MHD_Result begin(struct http *h, struct MHD_Connection *conn, const char *url, const char *method, const char *version,
                             void **con_cls)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_connection *k = info ? info->socket_context : NULL;
    struct api_error e;
    bool preflight = false, has_body = false;

    if (!k || !k->http)
        return MHD_NO;
    struct http_exchange *x = http_exchange_create(h, k, conn);
    if (!x)
        return MHD_NO;
    *con_cls = x;
    set_exchange(k, x);
    /* Cut names that are too long match no route and no method. */
    strncpy(x->method, method, sizeof(x->method) - 1);
    strncpy(x->path, url, sizeof(x->path) - 1);

    int err = http_check(x, conn, version, &preflight, &has_body, &e);
    if (!err && preflight) {
        struct buf none = { 0 };
        http_reply(x, MHD_HTTP_NO_CONTENT, NULL, &none);
        return http_exchange_queue(x, conn);
    }
    if (!err)
        err = h->options.on_headers(h->options.arg, x, &e);
    if (!err) {
        k->deadline_ns = in_seconds(h->options.body_s);
        k->body_bytes = 0;
        k->body_began_ns = has_body ? clock_now_ns() : 0;
        return MHD_YES;
    }
    k->deadline_ns = in_seconds(h->options.idle_s);
    http_reply_error(x, &e);
    return http_exchange_queue(x, conn);
}

/* A piece of the body. What is over a limit is dropped here and refused when the end is there: a reply cannot be queued now. */
static enum MHD_Result receive(struct http *h, struct http_exchange *x, const char *bytes, size_t n)
{
    x->body_seen += n;
    atomic_fetch_add(&x->connection->body_bytes, n);
    if (x->body_seen > 2 * h->options.max_body)
        return MHD_NO;
    if (x->refused)
        return MHD_YES;
    if (atomic_fetch_add(&h->body_bytes, n) + n > h->options.max_bodies) {
        atomic_fetch_sub(&h->body_bytes, n);
        x->refused = true;
    } else {
        x->body_counted += n;
        buf_append(&x->body, bytes, n);
        x->refused = x->body.failed;
    }
    if (x->refused)
        http_drop_body(x);
    return MHD_YES;
}

/* The body is complete: hand the request over, once. */
static void dispatch(struct http *h, struct http_exchange *x)
{
    struct api_error e;

    x->complete = true;
    x->connection->body_began_ns = 0;
    x->connection->deadline_ns = UINT64_MAX;
    if (x->body_seen > h->options.max_body) {
        x->close = true;
        api_error_set(&e, API_BODY_TOO_LARGE, NULL, "the body is larger than %zu bytes", h->options.max_body);
        http_reply_error(x, &e);
    } else if (x->refused) {
        api_error_set(&e, API_SERVER_OVERLOADED, NULL, "too many request bodies are being read");
        http_reply_error(x, &e);
    } else {
        pthread_mutex_lock(&x->lock);
        x->dispatched = true;
        pthread_mutex_unlock(&x->lock);
        h->options.on_request(h->options.arg, x);
    }
}

/* Queue the reply if it is there, else sleep until it is. */
static enum MHD_Result proceed(struct http *h, struct http_exchange *x, struct MHD_Connection *conn)
{
    pthread_mutex_lock(&x->lock);
    const bool close = x->gone || (x->reply == REPLY_NONE && (x->cut || atomic_load(&h->refuse_suspend)));
    const bool wait = !close && x->reply == REPLY_NONE;
    if (wait) {
        if (!x->watched)
            http_watch_add(x, x->connection->fd);
        MHD_suspend_connection(conn);
        x->suspended = true;
    }
    pthread_mutex_unlock(&x->lock);
    if (close)
        return MHD_NO;
    return wait ? MHD_YES : http_exchange_queue(x, conn);
}

enum MHD_Result http_handle(void *arg, struct MHD_Connection *conn, const char *url, const char *method, const char *version,
                            const char *upload, size_t *upload_size, void **con_cls)
{
    struct http *h = arg;
    struct http_exchange *x = *con_cls;

    if (!x)
        return begin(h, conn, url, method, version, con_cls);
    if (*upload_size) {
        const size_t n = *upload_size;
        *upload_size = 0;       /* uneaten bytes would hang: epoll is edge-triggered */
        return receive(h, x, upload, n);
    }
    if (!x->complete)
        dispatch(h, x);
    return proceed(h, x, conn);
}
