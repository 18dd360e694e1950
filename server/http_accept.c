/*
 * http_accept.c - listens, and hands connections to MHD's workers.
 *
 * Not MHD's own listen socket: that wakes every worker for each connection, a full worker stops listening while others have room, and
 * at EMFILE it busy-waits. Here a connection over the limit gets a 503 it can read.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "server/http_internal.h"

static int bind_address(struct http *h, const struct addrinfo *a)
{
    const int on = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 1024) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    h->listener = fd;
    return 0;
}

static void note_address(struct http *h)
{
    union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } a;
    socklen_t n = sizeof(a);
    unsigned port = h->options.port;

    if (getsockname(h->listener, &a.any, &n) == 0 && a.any.sa_family == AF_INET) {
        port = ntohs(a.v4.sin_port);
        h->loopback = ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    } else if (a.any.sa_family == AF_INET6) {
        port = ntohs(a.v6.sin6_port);
        h->loopback = IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
    }
    snprintf(h->url, sizeof(h->url), "%s://%s:%u", h->options.tls ? "https" : "http", h->host, port);
}

int http_accept_open(struct http *h)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
    struct addrinfo *list = NULL;
    char port[8], bare[256];
    const char *host = h->options.host;
    size_t n = strlen(host);

    /* An IPv6 address may come in brackets, and is shown in them. */
    snprintf(bare, sizeof(bare), "%.*s", host[0] == '[' && n > 2 && host[n - 1] == ']' ? (int)n - 2 : (int)n, host + (host[0] == '['));
    snprintf(h->host, sizeof(h->host), strchr(bare, ':') ? "[%.250s]" : "%.250s", bare);
    snprintf(port, sizeof(port), "%u", h->options.port);
    int err = getaddrinfo(bare, port, &hints, &list);
    if (err) {
        log_error("cannot listen on %s: %s", h->host, gai_strerror(err));
        return -EINVAL;
    }
    err = -EADDRNOTAVAIL;
    for (int family = 0; family < 2 && err && err != -EADDRINUSE; family++)     /* IPv4 first: what people type means that */
        for (const struct addrinfo *a = list; a && err; a = a->ai_next)
            if ((a->ai_family == AF_INET) == (family == 0))
                err = bind_address(h, a);
    freeaddrinfo(list);
    if (err == -EADDRINUSE)
        log_error("port %u of %s is in use: another server runs there; choose one with --port (0: any free one)", h->options.port, h->host);
    else if (err)
        log_error("cannot listen on %s port %u: %s", h->host, h->options.port, strerror(-err));
    else
        note_address(h);
    return err;
}

/* Each connection is a descriptor; the default limit of 1024 would end at a quarter of max_connections. */
static void raise_descriptor_limit(const struct http *h)
{
    struct rlimit limit;
    const rlim_t wanted = h->options.max_connections + 256;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted)
            log_warn("only %llu descriptors are allowed: connections end there (ulimit -n)", (unsigned long long)limit.rlim_cur);
    }
}

/* With TLS nothing can be said before a handshake: the connection is only closed. */
static void refuse(const struct http *h, int fd)
{
    struct api_error e;
    struct buf body = { 0 }, reply = { 0 };
    char drain[4096];

    if (h->options.tls) {
        close(fd);
        return;
    }
    api_error_set(&e, API_SERVER_OVERLOADED, NULL, "too many connections");
    api_error_write(&e, &body);
    buf_printf(&reply, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: %u\r\n"
               "X-Request-Id: none\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", e.retry_after_s, body.len);
    buf_append(&reply, body.data, body.len);
    if (!reply.failed && send(fd, reply.data, reply.len, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
        shutdown(fd, SHUT_WR);
        while (recv(fd, drain, sizeof(drain), MSG_DONTWAIT) > 0) {
            /* Unread bytes would make close() send a reset, which can overtake the reply. */
        }
    }
    buf_free(&body);
    buf_free(&reply);
    close(fd);
}

static void hand_over(struct http *h, int fd, const struct sockaddr *address, socklen_t n)
{
    const int on = 1, patience_ms = 20000;

    if (atomic_load(&h->n_connections) >= h->options.max_connections) {
        refuse(h, fd);
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof(patience_ms));
    if (MHD_add_connection(h->daemon, fd, address, n) != MHD_YES)
        log_debug("a connection could not be handed over");     /* MHD has closed it */
}

static void *accept_all(void *arg)
{
    struct http *h = arg;
    struct pollfd fds[2] = { { .fd = h->stop_accept, .events = POLLIN }, { .fd = h->listener, .events = POLLIN } };

    for (;;) {
        struct sockaddr_storage address;
        socklen_t n = sizeof(address);
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            log_error("poll: %s", strerror(errno));
        if (fds[0].revents)
            return NULL;
        int fd = accept4(h->listener, (struct sockaddr *)&address, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            hand_over(h, fd, (const struct sockaddr *)&address, n);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn("accept: %s; trying again in 100 ms", strerror(errno));
            poll(fds, 1, 100);
        }
    }
}

int http_accept_start(struct http *h)
{
    raise_descriptor_limit(h);
    int err = pthread_create(&h->accept_thread, NULL, accept_all, h);
    h->accepting = !err;
    return -err;
}

void http_stop_accepting(struct http *h)
{
    const uint64_t one = 1;

    if (h->accepting) {
        if (write(h->stop_accept, &one, sizeof(one)) < 0)
            log_error("eventfd: %s", strerror(errno));
        pthread_join(h->accept_thread, NULL);
        h->accepting = false;
    }
    if (h->listener >= 0)
        close(h->listener);
    h->listener = -1;
    atomic_store(&h->stopping, true);
}
