#include "server/serve.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/log.h"
#include "server/batcher.h"
#include "server/notify.h"

struct starter {
    struct serve *serve;
    pthread_t thread;
    bool running;           /* the thread is to be joined */
    int done;               /* eventfd */
    int err;                /* of the load, before `done` */
};

static sigset_t end_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

static sigset_t all_signals(void)
{
    sigset_t set = end_signals();

    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    return set;
}

void serve_prepare_signals(void)
{
    const sigset_t set = all_signals();

    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void exit_now(int signal_number)
{
    (void)signal_number;
    _exit(1);
}

/* The next signal does not wait for the drain. */
static void exit_at_next_signal(void)
{
    const sigset_t set = end_signals();
    struct sigaction action = { .sa_handler = exit_now };

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void *starter_wait(void *arg)
{
    struct starter *s = arg;
    const uint64_t one = 1;

    if (s->serve->show_loading)
        s->serve->show_loading(s->serve->replicas);
    for (size_t i = 0; i < s->serve->replicas->n; i++) {
        const int err = engine_wait_ready(s->serve->replicas->engine[i]);
        s->err = s->err ? s->err : err;
    }
    if (write(s->done, &one, sizeof(one)) < 0)
        log_error("eventfd: %s", strerror(errno));
    return NULL;
}

static int starter_begin(struct starter *s)
{
    int err = s->done < 0 ? -errno : -pthread_create(&s->thread, NULL, starter_wait, s);

    s->running = !err;
    return err;
}

static int starter_end(struct starter *s)
{
    if (s->running)
        pthread_join(s->thread, NULL);
    s->running = false;
    return s->err;
}

/* What wait_for_end has been told. */
struct wishes { bool end, reload, report; };

/* A signal that comes several times before it is read is one. */
static void read_signals(int signals, struct wishes *w)
{
    struct signalfd_siginfo taken;      /* one that is not read would still be pending when signals are let through */

    while (read(signals, &taken, sizeof(taken)) == (ssize_t)sizeof(taken)) {
        w->end |= taken.ssi_signo == SIGTERM || taken.ssi_signo == SIGINT;
        w->reload |= taken.ssi_signo == SIGHUP;
        w->report |= taken.ssi_signo == SIGUSR1;
    }
}

static void say_listening(const struct serve *s)
{
    if (s->json_log)
        log_info("listening on %s", http_url(s->http));
    else
        dprintf(STDERR_FILENO, "listening on %s\n", http_url(s->http));     /* scripts wait for exactly this line */
}

/* Until a signal (0) or a model that does not load (its error). A reload waits until the model is loaded. */
static int wait_for_end(struct serve *s, struct starter *starter, int signals)
{
    struct pollfd fds[2] = { { .fd = signals, .events = POLLIN }, { .fd = starter->done, .events = POLLIN } };
    struct wishes w = { 0 };
    bool loading = true;

    for (;;) {
        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (fds[0].revents)
            read_signals(signals, &w);
        if (w.end && loading) {
            log_info("stopped while the model was loading");
            _exit(0);       /* the load cannot be interrupted, and nothing is worth waiting for it */
        }
        if (w.end)
            return 0;
        if (fds[1].revents) {
            int err = starter_end(starter);
            if (err)
                return err;
            loading = false;
            fds[1].fd = -1;
            fds[1].revents = 0;
            s->on_ready(s->arg);
            say_listening(s);
            notify_send("READY=1");
        }
        if (w.report)
            front_report(s->front, s->http);
        w.report = false;
        if (w.reload && !loading) {
            notify_reloading();
            s->on_reload(s->arg);
            notify_send("READY=1");
            w.reload = false;
        }
    }
}

int serve_run(struct serve *s)
{
    const sigset_t set = all_signals();
    struct starter starter = { .serve = s, .done = eventfd(0, EFD_CLOEXEC) };
    const int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int err = signals < 0 ? -errno : starter_begin(&starter);

    if (err) {
        log_error("cannot serve: %s", strerror(-err));
    } else {
        err = http_start(s->http);
        if (!err)
            err = wait_for_end(s, &starter, signals);
        notify_send("STOPPING=1");
        exit_at_next_signal();
        http_stop_accepting(s->http);
        if (!err) {
            log_info("stopping: waiting up to %.0f s for requests in flight", s->drain_s);
            front_drain(s->front, s->drain_s);
        }
        starter_end(&starter);
    }
    http_stop(s->http);
    if (starter.done >= 0)
        close(starter.done);
    if (signals >= 0)
        close(signals);
    return err ? 1 : 0;
}
