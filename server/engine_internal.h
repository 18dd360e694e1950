/*
 * engine_internal.h - what engine.c (the boundary: submit, cancel, status) and batcher*.c (the steps) share.
 */
#ifndef FOURWAY_SERVER_ENGINE_INTERNAL_H
#define FOURWAY_SERVER_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "model/forward.h"
#include "model/profile.h"
#include "server/batcher.h"
#include "server/draft_model.h"
#include "server/engine.h"
#include "server/matchers.h"
#include "server/scheduler.h"

/* engine_figures.c: the atomics are written by the engine's thread alone, and read by anyone. */
struct figures {
    struct metric_histogram step_ns[ENGINE_PHASES], step_tokens;
    _Atomic uint64_t steps_profiled;
    _Atomic size_t n_nodes;                     /* set last, when the fields below that do not change are there */
    bool kv_by_node;
    struct figures_experts {
        size_t n_experts, n_used, n_layers, n_moe_layers;       /* do not change */
        _Atomic uint64_t tokens, reads, read_bytes[ENGINE_PHASES];
        struct metric_histogram step_experts;
        _Atomic float busiest[ENGINE_MAX_LAYERS];
        uint64_t n_steps, model_reads;          /* the engine's thread alone; the second: the model's count, after the last step */
    } experts;
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
    struct sequence *inbox;                 /* under lock: submitted, and not yet the scheduler's; the last one first */
    size_t n_inbox;                         /* under lock */
    uint64_t inbox_tokens;                  /* under lock */
    uint64_t n_submitted;                   /* under lock */
    uint64_t *cancelled;                    /* under lock: ids */
    size_t n_cancelled, cap_cancelled;
    bool stop;                              /* under lock */
    bool stopped;                           /* of the thread that calls engine_stop: the engine's thread is joined */
    int load_error;                         /* under lock; valid once the state has left LOADING */

    _Atomic int state;                      /* enum engine_state */
    _Atomic uint64_t load_done, load_total, load_started_ns;
    _Atomic uint64_t waiting_tokens;        /* inbox and scheduler; stored under lock, like n_waiting */
    _Atomic uint32_t n_waiting, n_running, n_ctx;
    _Atomic uint64_t tokens_generated, tokens_prompt, milli_tokens_per_s, prefix_lookup, prefix_hit;
    _Atomic uint64_t preemptions[ENGINE_PREEMPTIONS];
    _Atomic uint64_t drafts_accepted, drafts_refused;

    struct model *model;                    /* written before the state leaves LOADING */
    size_t vocab_size;
    struct matchers matchers;               /* a lock inside */

    /* the engine's thread alone */
    struct model_info info;
    struct scheduler scheduler;
    struct kv_spare spare;
    struct kv_spare_memory *spare_memory;
    struct draft_model *draft_model;        /* NULL: none */
    struct sequence **drafting;             /* [max_batch] of the step that is built, and how many drafts for each */
    size_t *draft_lengths;
    float *embedding;                       /* [d_model] of the event under way */
    char *sampler_scratch;                  /* one part a worker */
    uint64_t *masks;                        /* likewise: mask_words each */
    size_t mask_words;
    uint64_t rate_since_ns, rate_tokens;
    struct figures figures;
};

/* batcher.c: the engine's thread. */
void *batcher_thread(void *engine);

/* batcher_drafts.c: speculation. Open after the model; propose before a step is built; observe when a sequence's part is evaluated. */
int drafts_open(struct engine *e);
void drafts_close(struct engine *e);
void drafts_propose(struct engine *e);
void drafts_observe(struct engine *e, struct sequence *s, size_t n_accepted);
static inline bool drafts_wanted(const struct engine *e)
{
    return e->options.drafts_ngrams || e->options.draft;
}

/*
 * batcher_results.c: after the model's part of a step. Draw what each sequence's rows give, by all workers; then account for each one's
 * tokens and send its events: true when it is finished, with the reason.
 */
void batcher_draw(struct engine *e);
bool batcher_evaluate(struct engine *e, struct sequence *s, enum engine_reason *reason);

/* engine_figures.c: once the model is loaded; around a step, of which n_prompt of n tokens are of prompts; and when
 * pages were given or taken. */
void figures_init(struct engine *e);
void figures_begin_step(struct engine *e, size_t n, size_t n_prompt);
void figures_end_model(struct engine *e);
void figures_end_step(struct engine *e, size_t n, size_t n_prompt);
void figures_count_pages(struct engine *e);

/* engine.c: end a sequence that the scheduler does not have any more: last event, memory. */
void engine_finish(struct engine *e, struct sequence *s, enum engine_reason reason);

#endif
