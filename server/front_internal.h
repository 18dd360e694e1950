/*
 * front_internal.h - the state of the front and its jobs, shared by the files front*.c.
 */
#ifndef FOURWAY_SERVER_FRONT_INTERNAL_H
#define FOURWAY_SERVER_FRONT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/buf.h"
#include "server/completion.h"
#include "server/embedding.h"
#include "server/front.h"
#include "server/metrics.h"
#include "server/replicas.h"
#include "server/router.h"
#include "server/work_pool.h"

enum { FRONT_MAX_ROUTES = 24, FRONT_STATUSES = 18 };
enum front_finish { FINISH_STOP, FINISH_LENGTH, FINISH_TOOL_CALLS, FINISH_ABORT, FINISH_ERROR, FINISHES };
enum front_rejection { REJECT_QUEUE_REQUESTS, REJECT_QUEUE_TOKENS, REJECT_KV, REJECT_RATE, REJECT_CONTEXT, REJECTIONS };
enum front_phase { PHASE_UPLOAD, PHASE_QUEUE, PHASE_PREFILL, PHASE_DECODE, PHASES };

/* What the front counts, from any of its threads. */
struct front_metrics {
    _Atomic uint64_t requests[FRONT_MAX_ROUTES + 1][FRONT_STATUSES];    /* the last row: no route */
    _Atomic uint64_t finished[FINISHES], rejected[REJECTIONS], disconnects[PHASES], corrupted;
    struct metric_histogram first_token, gap, token;                    /* ns; gap: each, token: the mean of a request */
    struct metric_histogram total, queue, prefill, decode;              /* ns */
    struct metric_histogram prompt_tokens, generation_tokens;
};

struct front {
    struct front_metrics metrics;
    struct front_options options;
    struct replicas *replicas;              /* from front_set_replicas */
    struct router router;
    struct work_pool intake, output;
    atomic_bool draining, has_facts;
    struct front_facts facts;               /* once has_facts */
    struct buf description;                 /* /openapi.json */
    _Atomic uint64_t n_finished, n_generated;       /* for the mean length of an answer */
    pthread_mutex_t jobs_lock;
    pthread_cond_t jobs_gone;               /* with jobs_lock: the list became empty */
    struct job *jobs;                       /* under jobs_lock: those that are not answered or still have sequences */
};

enum route_id {
    ROUTE_COMPLETIONS, ROUTE_CHAT, ROUTE_RESPONSES, ROUTE_RESPONSE, ROUTE_MESSAGES, ROUTE_COUNT_TOKENS, ROUTE_EMBEDDINGS, ROUTE_TOKENIZE,
    ROUTE_DETOKENIZE, ROUTE_APPLY_TEMPLATE, ROUTE_MODELS, ROUTE_MODEL, ROUTE_TOKENIZER_INFO, ROUTE_HEALTH, ROUTE_LIVEZ, ROUTE_READYZ,
    ROUTE_VERSION, ROUTE_METRICS, ROUTE_OPENAPI,
    ROUTE_NOT_BUILT
};

struct route {
    const char *path;
    enum route_id id;
    bool post;          /* POST alone; else GET and HEAD */
    bool open;          /* needs no key */
    bool prefix;        /* `path` and anything after it */
    bool engine;        /* needs a model that is loaded */
};

/* Messages to a job. */
enum { JOB_START = 1, JOB_GONE = 2, JOB_TICK = 4, JOB_STOP = 8, JOB_LOST = 16 };

struct job {
    struct work_item item;                  /* first: the pool gives it back */
    struct front *front;
    struct http_exchange *x;
    const struct route *route;
    struct key_grant key;                   /* held until the job is freed */
    bool plain;                             /* Accept: text/plain */
    bool verbose;                           /* /health?verbose=1 */
    bool requested;                         /* its body is here. Like the next, written on its MHD thread, read when it is freed */
    bool answered;
    bool entered;                           /* counts among the requests in flight of its key */
    uint64_t arrived_ns;

    pthread_mutex_t lock;
    unsigned messages;                      /* under lock, like the two below */
    struct buf inbox;                       /* struct completion_event, its alternatives or embedding, the next one ... */
    bool scheduled;                         /* a pool thread has it, or will */
    bool *finish_lost;                      /* per sequence: there was no memory for its last event */

    /* Only the pool thread that has the job. */
    struct buf events;                      /* the inbox it took */
    struct completion *completion;          /* this, */
    struct embedding *embedding;            /* or this, once the request is read */
    uint64_t *ids;                          /* of the router, per sequence; 0: not with the engine */
    bool gone, streaming, replied, settled, ended;
    bool begun, decodes;                    /* the engine has read of its prompt; has given a token */
    int status;                             /* for the log */

    _Atomic uint64_t silent_since_ns;       /* of a stream; 0: no pings */
    _Atomic uint64_t ping_ns;
    _Atomic uint64_t queue_deadline_ns;     /* 0: the engine has begun */

    struct job *previous, *next;            /* under front->jobs_lock */
};

/* front_job.c */
struct job *job_create(struct front *f, struct http_exchange *x, const struct route *route);
void job_free(struct job *job);
void job_post(struct job *job, unsigned message);
void job_run(struct work_item *item);

/* front_output.c: pool thread only. */
bool job_done(const struct job *job);       /* what it replies is known */
void job_abort(struct job *job, const struct api_error *e);     /* as completion_abort */
void job_deliver(struct job *job);          /* send what is ready, cancel what is not wanted any more, end when all is done */
void job_fail(struct job *job, const struct api_error *e);      /* before there is a completion */
void job_tick(struct job *job, uint64_t now);
void job_reply(struct job *job, struct buf *body);

/* front_routes.c */
const struct route *route_find(const char *path);
size_t route_index(const struct route *route);              /* below FRONT_MAX_ROUTES; of NULL: FRONT_MAX_ROUTES */
const struct route *route_at(size_t i);                     /* NULL: there are no more */
bool route_is_anthropic(const struct route *route);         /* errors in that shape, and x-api-key; of NULL: false */
void route_allow(const struct route *route, struct http_exchange *x);       /* the header Allow */
int route_admit(struct front *f, const struct route *route, size_t body_bytes, struct api_error *e);
void route_answer(struct front *f, struct job *job);        /* the routes that need neither body nor engine */

/* front_metrics.c */
void front_count_reply(struct front *f, const struct route *route, int status);
void front_count_gone(struct job *job);         /* the client left before its answer was complete */
void front_count_end(const struct job *job, const struct completion_summary *s);
void front_write_metrics(struct front *f, const struct http *http, struct buf *out);

#endif
