/*
 * http.h - HTTP by libmicrohttpd: bytes in, whole replies and event streams out. Knows no route and no request format.
 *
 * An exchange is one request and its reply. It is reference counted: MHD holds it while the request lives, and whoever answers it later
 * holds it until then. A connection without anything to send is suspended; it is resumed by one thread (http_watch.c), which also notices
 * clients that leave and closes those that are too slow. What libmicrohttpd 0.9.75 does and does not do is behind many lines here:
 * a suspended connection sees no disconnect, a shared listen socket wakes every worker, Content-Length beside
 * Transfer-Encoding is accepted. Each such place says so.
 */
#ifndef FOURWAY_SERVER_HTTP_H
#define FOURWAY_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "server/api_error.h"

struct http;
struct http_exchange;
struct http_tls;

struct http_options {
    const char *host;               /* a name or an address */
    uint16_t port;                  /* 0: any free one */
    const char *const *origins;     /* scheme://host[:port] that browsers may call from */
    size_t n_origins;
    const char *const *hosts;       /* names, beside localhost, by which a loopback address may be called: of a proxy before it */
    size_t n_hosts;
    struct http_tls *tls;           /* NULL: plain text */
    size_t max_connections;         /* 0: 4096. Likewise the defaults below */
    size_t max_body;                /* 16 MiB */
    size_t max_bodies;              /* bytes of all bodies that are held at once; 1 GiB */
    unsigned n_workers;             /* 2; one serves about 1000 streams */
    double header_s, body_s, idle_s;        /* 10, 60, 60 */

    /* On an MHD thread; must not block. Headers are here, the body is not: 0 to go on, or a negative errno with the reply in *e. */
    int (*on_headers)(void *arg, struct http_exchange *x, struct api_error *e);
    /* On an MHD thread; must not block. The body is here. Answer at once, or take a reference and answer later from any thread. */
    void (*on_request)(void *arg, struct http_exchange *x);
    /* The client has left, once, after on_request and perhaps after the answer. Must not block. */
    void (*on_gone)(void *arg, struct http_exchange *x);
    /* The last reference went: free what http_set_user() put there. */
    void (*on_free)(void *arg, struct http_exchange *x);
    /* On an MHD thread, as the reply, or the head of a stream, is handed to MHD: of every request whose headers could be read. May be
     * NULL. */
    void (*on_reply)(void *arg, const struct http_exchange *x, int status);
    void (*on_tick)(void *arg);     /* every quarter of a second while there are connections */
    /* The body of an error's reply; NULL: api_error_write(). */
    void (*write_error)(void *arg, const struct http_exchange *x, const struct api_error *e, struct buf *out);
    void *arg;
};

/* Bind and listen; nothing is served yet. 0, or a negative errno (logged in one line). */
int http_open(struct http **h, const struct http_options *o);
/* Start the threads. 0, or a negative errno (logged). */
int http_start(struct http *h);
const char *http_url(const struct http *h);     /* http://HOST:PORT, or https:// */
bool http_is_loopback(const struct http *h);
size_t http_n_connections(const struct http *h);

/* Close the listening socket; connections stay. */
void http_stop_accepting(struct http *h);
/* Close idle connections, wait for replies to leave (at most 2 s), cut what is left, join all threads. Exchanges may outlive this. */
void http_stop(struct http *h);
void http_close(struct http *h);                /* frees all; NULL is fine. No exchange may be held any more */

/* ---- one exchange; strings live as long as it does ---- */

void http_ref(struct http_exchange *x);
void http_unref(struct http_exchange *x);
void http_set_user(struct http_exchange *x, void *user);
void *http_user(const struct http_exchange *x);

const struct http *http_of(const struct http_exchange *x);
const char *http_method(const struct http_exchange *x);
const char *http_path(const struct http_exchange *x);           /* as sent, without the query */
const char *http_label(const struct http_exchange *x);          /* X-Request-Id: the client's, else ours */
bool http_label_is_ours(const struct http_exchange *x);
void http_set_label(struct http_exchange *x, const char *label);        /* before the reply */
const char *http_header(const struct http_exchange *x, const char *name);       /* only in on_headers; NULL: none */
const char *http_query(const struct http_exchange *x, const char *name);        /* only in on_headers; NULL: none, "" without value */
const char *http_body(const struct http_exchange *x, size_t *n);        /* followed by a NUL */
void http_drop_body(struct http_exchange *x);                   /* its memory is not needed any more */

/* One more header of the reply; at most four, in on_headers, or before the reply. */
void http_add_header(struct http_exchange *x, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The whole reply. Takes the bytes of `body` (which is then empty). Only the first answer counts. */
void http_reply(struct http_exchange *x, int status, const char *content_type, struct buf *body);
void http_reply_error(struct http_exchange *x, const struct api_error *e);

/*
 * A stream: begin, write whole events, end. Written bytes wait at most 1 MiB for a client that does not read; `allowance` bytes of this
 * write do not count against that. Returns 0, or -ENOBUFS: the bytes were dropped, the caller should end it.
 */
void http_stream_begin(struct http_exchange *x, const char *content_type);
int http_stream_write(struct http_exchange *x, const char *bytes, size_t n, size_t allowance);
void http_stream_end(struct http_exchange *x);
void http_stream_cut(struct http_exchange *x);      /* close without the end of the stream: the client sees that it is cut */

#endif
