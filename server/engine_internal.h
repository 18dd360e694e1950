/*
 * engine_internal.h - what engine.c (the boundary: queue, cancel, status) and batcher.c (the steps) share.
 */
#ifndef FOURWAY_SERVER_ENGINE_INTERNAL_H
#define FOURWAY_SERVER_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "model/forward.h"
#include "server/batcher.h"
#include "server/engine.h"
#include "server/matchers.h"

/* One request, from submission to its last event. One allocation beside its page table. */
struct sequence {
    struct sequence *next;          /* in the queue */
    struct engine_request request;  /* its pointers point into this allocation */
    int32_t *tokens;                /* prompt, then generated; room for n_prompt + max_tokens */
    size_t n_tokens, n_done;        /* known; and computed: their K and V are in the cache */
    struct kv_sequence kv;
    struct matcher *matcher;        /* of the request's grammar; NULL: none */
    struct matcher_place place;     /* how far it has read the generated tokens */
    uint64_t submitted_ns, admitted_ns, first_token_ns;
    size_t n_scored, n_reported;    /* prompt tokens whose logprobs, and progress, were reported: survive a preemption */
    bool leaves;                    /* with this reason, before the next step */
    enum engine_reason reason;
    /* of the step under way */
    size_t n_step, first_row, n_rows;       /* tokens; rows of logits */
    struct logits_norm norm;
    int32_t drawn;
};

struct engine {
    struct engine_options options;
    const struct gguf *gguf;
    engine_event_fn on_event;
    void *event_arg;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sequence *queue;                 /* under lock: submitted or preempted, first comes first */
    uint64_t *cancelled;                    /* under lock: ids */
    size_t n_cancelled, cap_cancelled;
    bool stop;                              /* under lock */
    bool stopped;                           /* of the thread that calls engine_stop: the engine's thread is joined */
    int load_error;                         /* under lock; valid once the state has left LOADING */

    _Atomic int state;                      /* enum engine_state */
    _Atomic uint64_t load_done, load_total, load_started_ns;
    _Atomic uint64_t waiting_tokens, tokens_generated, tokens_prompt, milli_tokens_per_s, preemptions;
    _Atomic uint32_t n_running, n_waiting, n_ctx;

    struct model *model;                    /* written before the state leaves LOADING */
    size_t vocab_size;
    struct matchers matchers;               /* a lock inside */

    /* the engine's thread alone */
    struct model_info info;
    struct sequence **running;              /* [max_batch] in order of admission */
    size_t n_in_batch;
    struct step_token *step;
    char *sampler_scratch;                  /* one part a worker */
    uint64_t *masks;                        /* likewise: mask_words each */
    size_t mask_words;
    uint64_t rate_since_ns, rate_tokens;
};

/* batcher.c: the engine's thread. */
void *batcher_thread(void *engine);

/* engine.c: end a sequence that is in no list any more: pages back, last event, memory. */
void engine_finish(struct engine *e, struct sequence *s, enum engine_reason reason);

#endif
