/*
 * engine.h - the boundary between the HTTP side (front) and the engine (batcher + model): messages only.
 *
 * A request goes in as one self-contained message; events come back through one callback. No pointer crosses: what engine_submit
 * is given is copied, and an event is valid only during the callback. So the engine can move into a process of its own without a
 * change to either side (docs/design.md 8). The front owns tokenizer, template, stop strings and JSON; the engine sampling, penalties,
 * end ids and limits.
 */
#ifndef FOURWAY_SERVER_ENGINE_H
#define FOURWAY_SERVER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/config.h"
#include "model/kv_cache.h"
#include "model/sampler.h"
#include "server/metrics.h"

struct engine;

struct engine_request {
    uint64_t id;                    /* chosen by the front; unique among the requests in flight */
    const int32_t *tokens;          /* prompt, then tokens already generated (replay) */
    size_t n_prompt, n_replayed;
    struct sampling sampling;
    uint32_t max_tokens;            /* most tokens to generate; 0: the prompt alone, for its prompt_logprobs or its embedding */
    uint32_t min_tokens;            /* before that many tokens end and stop ids are not drawn */
    const int32_t *end_ids;         /* any of these ends the text (reason STOP); it is reported as a token first */
    size_t n_end_ids;
    int n_logprobs;                 /* -1: none wanted; else 0..20 alternatives a token */
    bool prompt_logprobs;           /* also for prompt tokens 1 .. n - 1, n_logprobs alternatives each */
    enum pooling pooling;           /* NONE: text; else the prompt's embedding: EMBEDDING, then FINISHED. max_tokens 0, no
                                     * prompt_logprobs, no grammar */
    bool progress;                  /* PROGRESS events while the prompt is read */
    uint32_t key;                   /* who asks: each is served as much as the others; 0 .. engine_options.n_keys */
    uint32_t key_holder;            /* how many held that number before: what those were served is forgotten */
    int32_t key_priority;           /* TURNS_LEAST_PRIORITY .. TURNS_MOST_PRIORITY: lower gets more beside others (server/turns.h) */
    int32_t priority;               /* among requests of one key: lower comes earlier */
    struct kv_salt salt;            /* prompts of one salt may share their beginnings' KV pages */
    const void *grammar;            /* what the text must be (server/grammar.h), one flat table; NULL: anything */
    size_t grammar_bytes;
    uint64_t deadline_ns;           /* clock_now_ns() after which it is aborted; 0: none */
};

enum engine_event_type {
    ENGINE_TOKEN,               /* token, logprob, top; `n_tokens` = index among the generated, from 0 */
    ENGINE_PROMPT_LOGPROB,      /* the same for prompt token `n_tokens` (1 .. n_prompt - 1), in order, before the first TOKEN */
    ENGINE_PROGRESS,            /* n_tokens prompt tokens of n_prompt are done; grows, and comes before the first TOKEN */
    ENGINE_EMBEDDING,           /* embedding[n_embedding], of unit length */
    ENGINE_FINISHED             /* last event of a request; reason and times */
};

enum engine_reason {
    ENGINE_STOP,                /* an end id; or the grammar's text is complete and nothing may follow; or the embedding was all */
    ENGINE_LENGTH,              /* max_tokens, or the context is full */
    ENGINE_CANCELLED,           /* engine_cancel */
    ENGINE_DEADLINE,
    ENGINE_CORRUPTED,           /* NaN or infinity in the logits or the embedding */
    ENGINE_ABORTED,             /* the engine stops */
    ENGINE_FAILED               /* also: no id may be drawn */
};

struct engine_event {
    uint64_t id;
    enum engine_event_type type;
    uint32_t n_tokens, n_prompt;
    int32_t token;
    float logprob;
    uint32_t n_top;
    struct token_logprob top[SAMPLER_MAX_TOP];
    uint32_t n_embedding;       /* d_model */
    const float *embedding;
    enum engine_reason reason;  /* FINISHED, and the times */
    uint32_t n_cached;          /* PROGRESS, too: prompt tokens taken from the prefix cache */
    uint64_t queue_ns, prompt_ns, decode_ns;
};

/* Called on the engine's thread, after a step, for each event of the step. Must not block and must not call the engine. */
typedef void (*engine_event_fn)(void *arg, const struct engine_event *event);

enum engine_state { ENGINE_LOADING, ENGINE_READY, ENGINE_DRAINING, ENGINE_DEAD };

enum engine_preemption { ENGINE_PARK, ENGINE_SPILL, ENGINE_RECOMPUTE, ENGINE_PREEMPTIONS };      /* server/scheduler.h */

struct engine_status {          /* a snapshot, read without a lock of the scheduler */
    enum engine_state state;
    uint64_t load_bytes_done, load_bytes_total;
    uint64_t load_started_ns;
    uint32_t n_running, n_waiting;
    uint64_t waiting_tokens;
    uint32_t n_ctx;             /* tokens a sequence may hold */
    uint64_t tokens_generated, tokens_prompt;
    uint64_t prefix_lookup_tokens, prefix_hit_tokens;   /* of prompts that were looked for in the prefix cache; and found */
    uint64_t preemptions[ENGINE_PREEMPTIONS];       /* sequences that had to wait for KV pages while others ran, by what became of theirs */
    uint64_t drafts_accepted, drafts_refused;       /* tokens that speculation drafted */
    double tokens_per_s;        /* generated, over the last seconds; for Retry-After */
};

enum engine_phase { ENGINE_STEP_PREFILL, ENGINE_STEP_DECODE, ENGINE_STEP_MIXED, ENGINE_PHASES };    /* whose tokens a step had */

enum { ENGINE_MAX_NODES = 64, ENGINE_MAX_LAYERS = 1024 };

/* What GET /metrics tells of the steps. Numbers only grow but where it says otherwise. */
struct engine_figures {
    struct metric_histogram_copy step_ns[ENGINE_PHASES];        /* BOUNDS_GAP; the model and the sampling */
    struct metric_histogram_copy step_tokens;                   /* BOUNDS_STEP_TOKENS */
    uint64_t steps_profiled;
    struct engine_expert_figures {              /* of mixtures of experts */
        size_t n_experts, n_layers;             /* of a layer; and layers of the model; 0: no mixture, or still loading */
        uint64_t tokens, reads, read_bytes[ENGINE_PHASES];      /* token and expert, and experts read by steps: of all layers */
        struct metric_histogram_copy step_experts;      /* BOUNDS_TOKENS; read of a layer, on average */
        float busiest[ENGINE_MAX_LAYERS];       /* now: tokens of its busiest expert over the mean; 0: none yet, or no mixture */
    } experts;
    size_t n_nodes;                             /* 0: still loading */
    bool kv_by_node;                            /* a page lies on one node; else a part of each page on every node */
    struct engine_node_figures {
        int node;                               /* the kernel's number; of virtual nodes our own */
        bool is_virtual;
        uint64_t weight_bytes;                  /* constant: as packed, with what is copied to each node */
        uint64_t kv_pages, kv_cached, kv_free;  /* now: in all, known to the prefix cache alone, blank; without kv_by_node node 0 has all */
        uint64_t read_bytes[ENGINE_PHASES];     /* weights and KV that steps must read, this node's share */
        uint64_t compute_ns, copy_ns, barrier_ns;       /* its workers on average; together the time of all steps */
        double decode_bytes_per_s;              /* now: of decode steps, the last few counting most; 0: none yet */
        double barrier_share;                   /* now: of a decode step's time */
    } nodes[ENGINE_MAX_NODES];
};

/*
 * Queue a request. Returns 0; -EBUSY when the queue is full (n_waiting or waiting_tokens at its limit); -EAGAIN while loading;
 * -ESHUTDOWN while draining; -E2BIG when prompt + max_tokens > n_ctx; -EINVAL for anything that the front should
 * have refused (ids outside the vocabulary, an empty prompt, a table that is no grammar). Events may arrive before it returns.
 */
int engine_submit(struct engine *e, const struct engine_request *r);

/* The request leaves at the next step (prefill: the next chunk) and gets its FINISHED event. Unknown ids are ignored. */
void engine_cancel(struct engine *e, uint64_t id);

void engine_status(const struct engine *e, struct engine_status *out);
void engine_figures(const struct engine *e, struct engine_figures *out);        /* likewise without a lock; 14 KB */

/* Refuse new requests (state DRAINING); those in flight go on. */
void engine_drain(struct engine *e);

#endif
