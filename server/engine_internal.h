/*
 * engine_internal.h - what engine.c (the boundary: queue, cancel, status) and batcher.c (the steps) share.
 */
#ifndef FOURWAY_SERVER_ENGINE_INTERNAL_H
#define FOURWAY_SERVER_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "model/forward.h"
#include "model/profile.h"
#include "server/batcher.h"
#include "server/engine.h"
#include "server/matchers.h"
#include "server/pace.h"
#include "server/turns.h"

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
    uint64_t number;                /* in the order of arrival */
    bool is_passed;                 /* over in this round of admission: it waits for another's prompt */
    size_t n_cached;                /* prompt tokens found in the prefix cache at the first admission */
    size_t n_scored, n_reported;    /* prompt tokens whose logprobs, and progress, were reported: survive a preemption */
    bool leaves;                    /* with this reason, before the next step */
    enum engine_reason reason;
    /* of the step under way */
    size_t n_step, first_row, n_rows;       /* tokens; rows of logits */
    struct logits_norm norm;
    int32_t drawn;
};

/* engine_figures.c: the atomics are written by the engine's thread alone, and read by anyone. */
struct figures {
    struct metric_histogram step_ns[ENGINE_PHASES], step_tokens;
    _Atomic uint64_t steps_profiled;
    _Atomic size_t n_nodes;                     /* set last, when the fields below that do not change are there */
    bool kv_by_node;
    struct figures_node {
        int node;
        bool is_virtual;
        uint64_t weight_bytes;
        double weight_share;
        _Atomic uint64_t kv_pages, kv_cached, kv_free;
        _Atomic uint64_t read_bytes[ENGINE_PHASES];
        _Atomic uint64_t compute_ns, copy_ns, barrier_ns, decode_bytes_per_s;
        _Atomic uint64_t barrier_ppm;
        /* the engine's thread alone */
        struct figures_shares { double copy, barrier; } share[ENGINE_PHASES];    /* of a step's time, from the steps that were profiled */
    } nodes[ENGINE_MAX_NODES];
    /* the engine's thread alone */
    struct profile profile;                     /* of the step under way, if it is profiled */
    uint64_t n_steps[ENGINE_PHASES];
    uint64_t began_ns, model_ended_ns;
    bool profiles;
    double mean_ns, mean_bytes;                 /* of decode steps */
};

struct engine {
    struct engine_options options;
    const struct gguf *gguf;
    engine_event_fn on_event;
    void *event_arg;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sequence *queue;                 /* under lock: submitted or preempted, in no order */
    struct turns turns;                     /* under lock */
    uint64_t n_submitted;                   /* under lock */
    uint64_t *cancelled;                    /* under lock: ids */
    size_t n_cancelled, cap_cancelled;
    bool stop;                              /* under lock */
    bool stopped;                           /* of the thread that calls engine_stop: the engine's thread is joined */
    int load_error;                         /* under lock; valid once the state has left LOADING */

    _Atomic int state;                      /* enum engine_state */
    _Atomic uint64_t load_done, load_total, load_started_ns;
    _Atomic uint64_t waiting_tokens, tokens_generated, tokens_prompt, milli_tokens_per_s, preemptions, prefix_lookup, prefix_hit;
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
    struct pace pace;
    struct figures figures;
};

/* batcher.c: the engine's thread. */
void *batcher_thread(void *engine);

/* engine_figures.c: once the model is loaded; around a step, of which n_prompt of n tokens are of prompts; and when
 * pages were given or taken. */
void figures_init(struct engine *e);
void figures_begin_step(struct engine *e, size_t n, size_t n_prompt);
void figures_end_model(struct engine *e);
void figures_end_step(struct engine *e, size_t n, size_t n_prompt);
void figures_count_pages(struct engine *e);

/* engine.c: end a sequence that is in no list any more: pages back, last event, memory. */
void engine_finish(struct engine *e, struct sequence *s, enum engine_reason reason);

#endif
