/*
 * scheduler.h - which sequences run, and what each step computes of them. No thread, no clock, no model: tests drive it with their own.
 *
 * Continuous batching after Yu et al., "Orca", OSDI 2022; decodes first, then chunks of prompts fill the step's token budget
 * (Agrawal et al., "Sarathi-Serve", OSDI 2024). Those that run are ranked by priority, then arrival. Pages are reserved as a sequence
 * grows; when they run out while one of higher rank needs some,
 *   1. the one of lowest rank stops growing, if it is the one that needs them: it is parked, and keeps what it has;
 *   2. else its pages are spilled to spare memory, from where they come back as they were;
 *   3. where that is full they are dropped, and computed again later, to the same bits.
 * So the sequence of highest rank always gets on, and one that was admitted never fails for memory.
 *
 * One thread, the batcher, owns a scheduler. Per step it calls: arrive and cancel for what came, take_leaving until NULL, admit, build; it
 * computes step[], and tells computed() and append() what came of each sequence, and remove() of those that are finished.
 */
#ifndef FOURWAY_SERVER_SCHEDULER_H
#define FOURWAY_SERVER_SCHEDULER_H

#include "model/forward.h"
#include "model/kv_spare.h"
#include "model/sampler.h"
#include "server/engine.h"
#include "server/matcher.h"
#include "server/ngram.h"
#include "server/pace.h"
#include "server/speculation.h"
#include "server/turns.h"

enum { SCHEDULER_MAX_DRAFT = 15 };          /* drafted tokens of one sequence in a step */

/* One request, from submission to its last event. One allocation beside its page tables. */
struct sequence {
    struct sequence *next;          /* in a list of the engine's or of those that wait */
    struct engine_request request;  /* its pointers point into this allocation */
    int32_t *tokens;                /* prompt, then generated; room for n_prompt + max_tokens */
    size_t n_tokens, n_done;        /* known; and computed: their K and V are in the cache */
    struct kv_sequence kv;
    uint64_t submitted_ns, admitted_ns, first_token_ns;
    uint64_t number;                /* in the order of arrival */
    size_t n_cached;                /* prompt tokens found in the prefix cache at the first admission */
    bool runs, parked;              /* parked: it gets no page before others give some back */
    bool is_passed;                 /* over in this round of admission: it waits for another's prompt */
    bool leaves;                    /* with this reason, before the next step */
    enum engine_reason reason;
    int32_t *slots;                 /* of the spare memory: its first n_spilled pages are there. NULL: nothing is spilled */
    size_t n_spilled, n_spilled_done;       /* and n_done then */

    /* Of the step under way. Drafted tokens stand in tokens[] behind the known ones; the step has a row of logits for the last known and
     * each of them. */
    size_t n_draft;                 /* wanted; cut to what the step has room for */
    size_t n_step, first_row, n_rows;       /* tokens; rows of logits */
    size_t first_hidden;                    /* of its hidden states in the step */

    /* The batcher's. */
    struct matcher *matcher;        /* of the request's grammar; NULL: none */
    struct matcher_place place;     /* how far it has read the generated tokens */
    struct ngram ngram;             /* of the text, where drafts come from it */
    struct kv_sequence draft_kv;    /* with a draft model: its cache, */
    size_t n_draft_done;            /* and how many tokens are in it, perhaps drafts that were refused */
    struct speculation speculation;
    size_t n_scored, n_reported;    /* prompt tokens whose logprobs, and progress, were reported: survive a preemption */
    double *pooled;                 /* sum of hidden states, for an embedding; NULL: none yet */
    size_t n_pooled;                /* prompt tokens up to here are in it: survives a preemption */
    struct logits_norm norms[SCHEDULER_MAX_DRAFT + 1];      /* of the rows that were sampled, */
    int32_t drawn[SCHEDULER_MAX_DRAFT + 1];                 /* the tokens drawn there, */
    size_t n_drawn;                                         /* and how many: up to the first that was not drafted, */
    bool ends;                                              /* or the one that ends the text */
};

static inline size_t sequence_n_generated(const struct sequence *s)
{
    return s->n_tokens - s->request.n_prompt;
}

/* The next token is drawn in the next step: all others are computed, and it is not the prompt that is read. */
static inline bool sequence_decodes(const struct sequence *s)
{
    return s->n_done + 1 == s->n_tokens && s->n_done >= s->request.n_prompt;
}

/* Row `position`, which predicts position + 1, is wanted for the prompt's own logprobs, and was not reported. */
static inline bool sequence_scores(const struct sequence *s, size_t position)
{
    return s->request.prompt_logprobs && position + 1 < s->request.n_prompt && position >= s->n_scored;
}

/* Row `position` of logits is wanted: for the next token, or for the prompt's own logprobs. */
static inline bool sequence_wants_logits(const struct sequence *s, size_t position)
{
    return !s->request.pooling && (sequence_scores(s, position) || position + 1 >= s->n_tokens);
}

/* The hidden state at `position` is a part of the embedding, and not yet in the sum. */
static inline bool sequence_wants_hidden(const struct sequence *s, size_t position)
{
    switch (s->request.pooling) {
    case POOLING_MEAN: return position >= s->n_pooled;
    case POOLING_CLS: return position == 0 && s->n_pooled == 0;
    case POOLING_LAST: return position + 1 == s->request.n_prompt;
    default: return false;
    }
}

struct scheduler_limits {
    size_t max_batch;               /* sequences at once */
    size_t max_step_tokens, max_step_logits;
    size_t max_drafts;              /* drafted tokens of a step, all sequences together */
    size_t reserve_tokens;          /* an admitted request finds room for its prompt and this many tokens more */
    bool prefix_cache;
    struct rope_lengths rope_lengths;
    bool roles_agree;               /* generated tokens' pages are good for prompts (model_info) */
};

struct scheduler_counts {           /* only grow */
    uint64_t parks, spills, recomputes;
    uint64_t prefix_lookup_tokens, prefix_hit_tokens;
};

struct step_size { size_t n_tokens, n_decodes, n_prompt_tokens, n_rows, n_hidden; };     /* n_decodes: with drafted tokens */

struct scheduler {
    struct scheduler_limits limits;
    struct kv_cache *kv;
    struct kv_spare *spare;
    struct turns turns;
    struct pace pace;
    struct sequence *waiting;       /* in no order */
    size_t n_waiting;
    uint64_t waiting_tokens;        /* of these */
    struct sequence **running;      /* [max_batch] by rank */
    size_t n_running;
    struct step_token *step;        /* [max_step_tokens] */
    struct scheduler_counts counts;
};

/* `kv` and `spare` are the caller's and outlive the scheduler. Returns 0 or -ENOMEM; destroy in any case, when nobody waits or runs. */
int scheduler_create(struct scheduler *s, const struct scheduler_limits *limits, const struct pace *pace, size_t n_keys,
                     struct kv_cache *kv, struct kv_spare *spare);
void scheduler_destroy(struct scheduler *s);

/*
 * A request came, with submitted_ns and number set. It is the scheduler's until take_leaving, take_any or remove gives it back, without
 * pages.
 */
void scheduler_arrive(struct scheduler *s, struct sequence *q);

/* Requests with these ids will leave. Unknown ids are ignored. */
void scheduler_cancel(struct scheduler *s, const uint64_t *ids, size_t n);

/* One that was cancelled, or whose deadline has passed (`reason` says which); NULL: no more. */
struct sequence *scheduler_take_leaving(struct scheduler *s, uint64_t now_ns);
struct sequence *scheduler_take_any(struct scheduler *s);          /* at the end; NULL: nobody is left */

/* Let those that wait run, as their turns come and pages allow. admitted_ns becomes now where it was 0. */
void scheduler_admit(struct scheduler *s, uint64_t now_ns);

/* What the next step computes: step[n_tokens], and n_step, first_row, n_rows of each that runs. Empty when nobody runs. */
struct step_size scheduler_build(struct scheduler *s);

/* The first n tokens of q's part of the step were computed, as q's text has them (without drafts that were refused). */
void scheduler_computed(struct scheduler *s, struct sequence *q, size_t n);
/* Of the prompt so many tokens were read for the first time. */
void scheduler_read(struct scheduler *s, struct sequence *q, size_t n);
/* A token of q was drawn. */
void scheduler_append(struct scheduler *s, struct sequence *q, int32_t token);
/* q, which runs, is finished. */
void scheduler_remove(struct scheduler *s, struct sequence *q);

/* Asserts what must hold between steps: ranks, pages and their users, spare memory, counters. Cost: a pass over all pages. */
void scheduler_check(const struct scheduler *s);

#endif
