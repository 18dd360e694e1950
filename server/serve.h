/*
 * serve.h - the life of a server: signals, ready, drain, stop. Knows the engines only by their handles.
 */
#ifndef FOURWAY_SERVER_SERVE_H
#define FOURWAY_SERVER_SERVE_H

#include "server/front.h"
#include "server/http.h"

struct serve {
    struct front *front;
    struct http *http;              /* open, not started */
    struct replicas *replicas;
    double drain_s;
    bool json_log;                  /* the ready line is then a log line, too */
    void (*show_loading)(const struct replicas *r); /* until all are ready, on a thread of its own; NULL: nothing is shown */
    void (*on_ready)(void *arg);    /* they are ready: facts for the front, lines for people */
    void (*on_reload)(void *arg);   /* SIGHUP: read again what may change; on the thread of serve_run, never before on_ready */
    void *arg;
};

/* Before any thread is made: from here on SIGTERM, SIGINT, SIGHUP and SIGUSR1 wait for serve_run; SIGPIPE is ignored. */
void serve_prepare_signals(void);

/*
 * Serve until SIGTERM or SIGINT; SIGUSR1 logs what is going on. Returns the exit status, when every reply has left and HTTP is stopped;
 * the caller destroys the engines, then the front, then HTTP. A second one, or one while the model loads, ends the process at once.
 */
int serve_run(struct serve *s);

#endif
