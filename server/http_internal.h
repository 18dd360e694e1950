/*
 * http_internal.h - the state of connections and exchanges, shared by the files http_*.c.
 *
 * Lock order: MHD's response mutex, an exchange's lock, MHD's own list mutex; connections_lock before an exchange's lock. No callback
 * of the front is called with a lock held.
 */
#ifndef FOURWAY_SERVER_HTTP_INTERNAL_H
#define FOURWAY_SERVER_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <microhttpd.h>

#include "server/http.h"

enum {
    HTTP_MAX_HEADER = 32 * 1024,
    HTTP_POOL = 65536,              /* MHD's memory of a connection: headers and chunk buffer */
    HTTP_CHUNK = 32768,
    HTTP_MAX_QUEUED = 1 << 20,      /* of a stream */
    HTTP_MAX_ADDED = 4,
    HTTP_TICK_MS = 250
};

struct http_connection {
    struct http *http;
    struct http_connection *previous, *next;    /* under connections_lock */
    struct http_exchange *exchange;             /* under connections_lock; NULL: idle */
    int fd;
    _Atomic uint64_t deadline_ns;               /* shut down then; UINT64_MAX: never */
    _Atomic uint64_t body_began_ns;             /* 0: no body is awaited */
    _Atomic uint64_t body_bytes;
};

enum reply_kind { REPLY_NONE, REPLY_WHOLE, REPLY_STREAM };

struct http_exchange {
    struct http *http;
    atomic_uint refs;
    struct http_connection *connection;         /* only on its MHD thread */
    void *user;
    char method[16], path[256];
    char label[129];
    bool label_is_ours, close;
    bool refused, complete;                     /* only on its MHD thread: the body is not kept; is all here */
    char origin[256];                           /* of a browser that may read the reply; "" */
    struct buf body;
    uint64_t body_seen, body_counted;           /* counted: in http->body_bytes */
    struct { char name[40], value[160]; } added[HTTP_MAX_ADDED];
    size_t n_added;

    pthread_mutex_t lock;
    struct MHD_Connection *conn;                /* under lock, like the rest; NULL when MHD is through with it */
    bool dispatched, suspended, watched, wake_queued, retire, gone, gone_told, end, cut;
    enum reply_kind reply;
    int status;
    const char *content_type;
    struct buf out;                             /* the reply, or what waits of a stream from out_at on */
    size_t out_at, allowance;
    struct http_exchange *next_wake;            /* in http->wakes */
};

struct http {
    struct http_options options;
    char host[256], url[300];
    bool loopback;
    int listener, stop_accept, epoll, wake;     /* stop_accept, wake: eventfds */
    bool accepting, watching;                   /* their threads exist */
    pthread_t accept_thread, watch_thread;
    struct MHD_Daemon *daemon;
    atomic_bool stopping;                       /* replies close their connections */
    atomic_bool refuse_suspend;                 /* MHD_stop_daemon aborts the process when a connection is suspended */
    atomic_bool stop_watch;
    _Atomic uint64_t body_bytes;
    atomic_size_t n_connections;
    pthread_mutex_t connections_lock;
    struct http_connection *connections;        /* under connections_lock */
    _Atomic(struct http_exchange *) wakes;      /* a stack that any thread pushes to, and the watch thread takes whole */
};

/* http_handler.c: MHD's callbacks. */
enum MHD_Result http_handle(void *arg, struct MHD_Connection *conn, const char *url, const char *method, const char *version,
                            const char *upload, size_t *upload_size, void **con_cls);
void http_completed(void *arg, struct MHD_Connection *conn, void **con_cls, enum MHD_RequestTerminationCode code);
void http_connection_notice(void *arg, struct MHD_Connection *conn, void **context, enum MHD_ConnectionNotificationCode code);

/* http_exchange.c */
struct http_exchange *http_exchange_create(struct http *h, struct http_connection *connection, struct MHD_Connection *conn);
enum MHD_Result http_exchange_queue(struct http_exchange *x, struct MHD_Connection *conn);      /* x->reply is not REPLY_NONE */
/* The client has left: tell the front once, and let MHD close. */
void http_exchange_gone(struct http_exchange *x);
/* Call with x->lock held: remember to push. Then, without it, http_wake_push() when it returned true. */
bool http_wake_locked(struct http_exchange *x);
void http_wake_push(struct http_exchange *x);

/* http_checks.c: framing, Host and Origin of a request; sets x->close and x->origin. *preflight: answer 204 now. */
int http_check(struct http_exchange *x, struct MHD_Connection *conn, const char *version, bool *preflight, bool *has_body,
               struct api_error *e);

/* http_watch.c */
int http_watch_start(struct http *h);
void http_watch_stop(struct http *h);
void http_watch_add(struct http_exchange *x, int fd);           /* x->lock held */
void http_watch_kick(struct http *h);

/* http_accept.c */
int http_accept_open(struct http *h);
int http_accept_start(struct http *h);

#endif
