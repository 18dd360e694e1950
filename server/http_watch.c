/*
 * http_watch.c - the thread that looks after connections while MHD does not: resumes, disconnects, deadlines.
 *
 * A suspended connection is out of MHD's epoll set, so MHD sees no client leave; an epoll set of our own waits for EPOLLRDHUP. Resumes are
 * collected here, because each one makes an MHD worker walk its list of suspended connections, and to keep them out of the threads
 * that produce text. MHD's idle timer is refreshed by every byte, so absolute deadlines against slow senders are kept here too.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/http_internal.h"

void http_watch_kick(struct http *h)
{
    const uint64_t one = 1;

    if (write(h->wake, &one, sizeof(one)) < 0) {
        /* The counter is full: the thread is awake already. */
    }
}

void http_watch_add(struct http_exchange *x, int fd)
{
    struct epoll_event event = { .events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = x };

    if (epoll_ctl(x->http->epoll, EPOLL_CTL_ADD, fd, &event) == 0) {
        x->watched = true;
        http_ref(x);            /* until the watch thread has seen `retire` */
    }
}

static void wake_one(struct http_exchange *x)
{
    pthread_mutex_lock(&x->lock);
    const bool retire = x->retire;
    x->retire = false;
    x->wake_queued = false;
    if (x->suspended && x->conn) {
        x->suspended = false;
        MHD_resume_connection(x->conn);
    }
    pthread_mutex_unlock(&x->lock);
    if (retire)
        http_unref(x);
    http_unref(x);
}

static void wake_all(struct http *h)
{
    struct http_exchange *x = atomic_exchange(&h->wakes, NULL);

    while (x) {
        struct http_exchange *next = x->next_wake;
        wake_one(x);
        x = next;
    }
}

/* A body must come at 1 KB/s or more, after ten seconds to get going. */
static bool too_slow(const struct http_connection *k, uint64_t now)
{
    enum { LEAST_PER_S = 1024, GRACE_S = 10 };
    const uint64_t began = k->body_began_ns;

    if (!began || now - began < GRACE_S * 1000000000ull)
        return false;
    return k->body_bytes < (now - began) / 1000000000u * LEAST_PER_S;
}

static void reap(struct http *h)
{
    const uint64_t now = clock_now_ns();

    pthread_mutex_lock(&h->connections_lock);
    for (struct http_connection *k = h->connections; k; k = k->next)
        if (now > k->deadline_ns || too_slow(k, now))
            shutdown(k->fd, SHUT_RDWR);         /* MHD reads the end and closes */
    pthread_mutex_unlock(&h->connections_lock);
}

static void *watch(void *arg)
{
    struct http *h = arg;
    struct epoll_event events[64];
    uint64_t next_tick = 0;

    while (!atomic_load(&h->stop_watch)) {
        const bool ticking = atomic_load(&h->n_connections) > 0;
        const int n = epoll_wait(h->epoll, events, sizeof(events) / sizeof(events[0]), ticking ? HTTP_TICK_MS : -1);
        /* Sockets first: what wake_all() retires can then have no event left. */
        for (int i = 0; i < n; i++) {
            uint64_t count;
            if (events[i].data.ptr)
                http_exchange_gone(events[i].data.ptr);
            else if (read(h->wake, &count, sizeof(count)) < 0)
                log_debug("eventfd: %s", strerror(errno));
        }
        wake_all(h);
        const uint64_t now = clock_now_ns();
        if (ticking && now >= next_tick) {
            reap(h);
            h->options.on_tick(h->options.arg);
            next_tick = now + HTTP_TICK_MS * 1000000ull;
        }
    }
    return NULL;
}

int http_watch_start(struct http *h)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

    h->epoll = epoll_create1(EPOLL_CLOEXEC);
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->epoll < 0 || h->wake < 0 || epoll_ctl(h->epoll, EPOLL_CTL_ADD, h->wake, &event) < 0)
        return -errno;
    int err = pthread_create(&h->watch_thread, NULL, watch, h);
    h->watching = !err;
    return -err;
}

void http_watch_stop(struct http *h)
{
    if (!h->watching)
        return;
    atomic_store(&h->stop_watch, true);
    http_watch_kick(h);
    pthread_join(h->watch_thread, NULL);
    h->watching = false;
    wake_all(h);                /* MHD is stopped: only references are dropped */
}
