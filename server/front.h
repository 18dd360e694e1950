/*
 * front.h - the part between HTTP and the engine: routes, admission, and the jobs that turn engine events into replies.
 *
 * Each completion request is a job, an actor: everything that happens to it (the request, engine events, a client that left, a deadline,
 * the end of the server) is put into its inbox, and one pool thread at a time works it off. So a job's state needs no lock, and
 * nobody who posts, least of all the engine's thread, ever waits for one.
 */
#ifndef FOURWAY_SERVER_FRONT_H
#define FOURWAY_SERVER_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/api.h"
#include "server/replicas.h"
#include "server/http.h"
#include "server/keys.h"

struct front;

enum { FRONT_MAX_NODES = 64 };

/* What /v1/models, /version and the start-up lines tell of the loaded model. */
struct front_facts {
    const char *isa;
    const char *arch, *quant;       /* of the file: general.architecture, the type of most of its bytes */
    uint64_t n_vocab, n_ctx_train, n_embd, n_params, file_bytes;
    /* Measured reads of each node by its own cores (--machine FILE), for /metrics; none: not measured. The front keeps the array. */
    size_t n_nodes;
    struct front_node { int node; double read_bytes_per_s; } nodes[FRONT_MAX_NODES];
};

struct front_options {
    struct api_model model;         /* what it points to outlives the front */
    const char *template_source;    /* of the chat template; for /tokenizer_info */
    int64_t created;                /* unix time */
    size_t max_waiting;             /* as the engine's; 0: 512 */
    uint64_t max_waiting_tokens;    /* 0: no limit */
    struct keys *keys;              /* outlive the front; NULL: no key is needed, and none has a limit */
    bool isolate_keys;              /* requests of different API keys share no pages of the prefix cache */
    double queue_s;                 /* longest wait for the engine to begin; 0: 120 */
    double request_s;               /* longest time from arrival to the end, where the request has no `timeout`; 0: any */
    double ping_s;                  /* of silence in a stream, then a comment; 0: 30 */
    bool metrics_vllm;              /* /metrics has vLLM's names, too */
    unsigned n_intake, n_output;    /* threads that read requests, and that work off events; 0: 2, 1 */
};

/* 0, or a negative errno (logged). */
int front_create(struct front **f, const struct front_options *o);
/* Set the callbacks of `o`. */
void front_serve(struct front *f, struct http_options *o);
/* The engines, before HTTP starts; they stay the caller's, and their callback is front_on_event with the front as argument. */
void front_set_replicas(struct front *f, struct replicas *r);
void front_on_event(void *front, const struct engine_event *event);
/* The model is loaded. */
void front_set_facts(struct front *f, const struct front_facts *facts);

/* Log what is going on: a line for connections, requests and queue, and one for the KV pages of each node (front_report.c). */
void front_report(struct front *f, const struct http *http);

/*
 * Refuse new requests, wait up to `patience_s` for those in flight, then end them with an error. Returns when all are answered,
 * or after two more seconds. True when none had to be ended.
 */
bool front_drain(struct front *f, double patience_s);

/* After http_stop and engine_destroy. NULL is fine. */
void front_destroy(struct front *f);

#endif
