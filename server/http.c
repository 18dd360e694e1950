#include "server/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/http_internal.h"
#include "server/http_tls.h"

static void set_defaults(struct http_options *o)
{
    if (!o->max_connections)
        o->max_connections = 4096;
    if (!o->max_body)
        o->max_body = 16u << 20;
    if (!o->max_bodies)
        o->max_bodies = 1u << 30;
    if (!o->n_workers)
        o->n_workers = 2;
    if (o->header_s <= 0)
        o->header_s = 10;
    if (o->body_s <= 0)
        o->body_s = 60;
    if (o->idle_s <= 0)
        o->idle_s = 60;
}

int http_open(struct http **out, const struct http_options *o)
{
    struct http *h = calloc(1, sizeof(*h));

    *out = NULL;
    if (!h)
        return -ENOMEM;
    h->options = *o;
    set_defaults(&h->options);
    h->listener = h->epoll = h->wake = -1;
    pthread_mutex_init(&h->connections_lock, NULL);
    h->stop_accept = eventfd(0, EFD_CLOEXEC);
    int err = h->stop_accept < 0 ? -errno : http_accept_open(h);
    if (err)
        http_close(h);
    else
        *out = h;
    return err;
}

const char *http_url(const struct http *h)
{
    return h->url;
}

bool http_is_loopback(const struct http *h)
{
    return h->loopback;
}

size_t http_n_connections(const struct http *h)
{
    return atomic_load(&h->n_connections);
}

/* The path stays as it was sent: MHD would turn /health%00x into /health. */
static size_t keep_escapes(void *arg, struct MHD_Connection *conn, char *text)
{
    (void)arg;
    (void)conn;
    return strlen(text);
}

/* MHD's messages are about clients that leave or send nonsense. */
static void log_message(void *arg, const char *format, va_list args)
{
    char text[512];

    (void)arg;
    vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("http: %s", text);
}

static void panic(void *arg, const char *file, unsigned line, const char *reason)
{
    (void)arg;
    log_error("libmicrohttpd cannot go on: %s (%s:%u)", reason ? reason : "", file, line);
    abort();
}

static int start_daemon(struct http *h)
{
    /*
     * TLS by poll, which costs a pass over a worker's connections at each wake-up: with epoll 0.9.75 takes no notice that a handshake waits
     * for its client, and asks again and again (seen: half a core for as long as one such connection is open).
     */
    const unsigned flags = MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET |
                           (h->options.tls ? MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_TLS : MHD_USE_EPOLL_INTERNAL_THREAD);
    static char priorities[] = "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1";      /* RFC 8996 */
    const struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_CERT_CALLBACK, 0, http_tls_callback() },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, priorities },
        { MHD_OPTION_END, 0, NULL }
    };
    const struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };
    /* The limit is divided over the workers, and our accept loop counts first. */
    const unsigned limit = (unsigned)h->options.max_connections + 64 * h->options.n_workers;

    MHD_set_panic_func(panic, NULL);
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, http_handle, h,
        MHD_OPTION_EXTERNAL_LOGGER, log_message, NULL,          /* first: before it MHD prints by itself */
        MHD_OPTION_THREAD_POOL_SIZE, h->options.n_workers,
        MHD_OPTION_CONNECTION_LIMIT, limit,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(h->options.idle_s < 1 ? 1 : h->options.idle_s),
        MHD_OPTION_STRICT_FOR_CLIENT, 0,        /* at 1 its own 400 has its headers twice; Host is checked by us */
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, http_connection_notice, h,
        MHD_OPTION_NOTIFY_COMPLETED, http_completed, h,
        MHD_OPTION_ARRAY, h->options.tls ? tls : none,
        MHD_OPTION_END);
    if (!h->daemon) {
        log_error("libmicrohttpd did not start");
        return -ENOMEM;
    }
    return 0;
}

int http_start(struct http *h)
{
    int err = http_watch_start(h);

    if (!err)
        err = start_daemon(h);
    if (!err)
        err = http_accept_start(h);
    if (err)
        log_error("the HTTP server did not start: %s", strerror(-err));
    return err;
}

/* Cut every exchange that is still open, if `cut`; close connections that have none. Returns how many connections there are. */
static size_t close_connections(struct http *h, bool cut)
{
    size_t n = 0;

    pthread_mutex_lock(&h->connections_lock);
    for (struct http_connection *k = h->connections; k; k = k->next, n++) {
        if (!k->exchange) {
            shutdown(k->fd, SHUT_RDWR);
        } else if (cut) {
            struct http_exchange *x = k->exchange;
            pthread_mutex_lock(&x->lock);
            x->gone = true;
            const bool wake = http_wake_locked(x);
            pthread_mutex_unlock(&x->lock);
            if (wake)
                http_wake_push(x);
            shutdown(k->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&h->connections_lock);
    return n;
}

static void wait_for_connections(struct http *h, bool cut)
{
    enum { PATIENCE_MS = 2000, PAUSE_MS = 5 };

    for (int i = 0; i < PATIENCE_MS / PAUSE_MS && close_connections(h, cut); i++)
        usleep(PAUSE_MS * 1000);
}

void http_stop(struct http *h)
{
    http_stop_accepting(h);
    if (h->daemon) {
        wait_for_connections(h, false);
        /* From here on nothing suspends, and what is suspended is resumed: MHD_stop_daemon aborts the process otherwise. */
        atomic_store(&h->refuse_suspend, true);
        wait_for_connections(h, true);
        MHD_stop_daemon(h->daemon);
        h->daemon = NULL;
    }
    http_watch_stop(h);
}

void http_close(struct http *h)
{
    if (!h)
        return;
    http_stop(h);
    if (h->stop_accept >= 0)
        close(h->stop_accept);
    if (h->epoll >= 0)
        close(h->epoll);
    if (h->wake >= 0)
        close(h->wake);
    pthread_mutex_destroy(&h->connections_lock);
    free(h);
}
