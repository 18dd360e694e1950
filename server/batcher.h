/*
 * batcher.h - the engine: one thread that loads the model, lets the scheduler pick what each step computes, and steps it.
 */
#ifndef FOURWAY_SERVER_BATCHER_H
#define FOURWAY_SERVER_BATCHER_H

#include "model/model.h"
#include "server/engine.h"
#include "server/token_trie.h"

enum {
    ENGINE_MAX_BATCH = MODEL_MAX_STEP_TOKENS / 2,           /* the other half of a step is left for prompts */
    ENGINE_DEFAULT_BATCH = 32,
    ENGINE_ITL_MS = 60,                                     /* milliseconds between two tokens */
    ENGINE_MAX_DRAFTS = 64                                  /* of a step: rows of logits for each of them are kept ready */
};

struct engine_options {
    struct model_options model;     /* max_batch at most ENGINE_MAX_BATCH (0: ENGINE_DEFAULT_BATCH); max_step_tokens and max_step_logits
                                     * are set here */
    size_t prefill_chunk;           /* prompt tokens a step, all sequences together; 0: 256; cut to what a step can hold */
    double itl_ms;                  /* prompts are read in chunks so small that a step takes no longer; 0: in whole prefill_chunks; < 0:
                                     * ENGINE_ITL_MS, or five times what decodes take */
    size_t n_keys;                  /* of API keys, numbered from 1 */
    size_t reserve_tokens;          /* an admitted request finds room for its prompt and this many tokens more; 0: 256 */
    uint64_t spare_bytes;           /* for the KV of sequences that have to wait; 0: it is computed again. Cut to the KV cache's
                                     * size, and to an eighth of the memory that is available */
    bool drafts_ngrams;             /* speculation: drafts from the text itself (server/ngram.h); */
    const struct gguf *draft;       /* or from this model, kept open by the caller until engine_destroy (server/draft_model.h) */
    size_t draft_tokens;            /* drafts for a sequence and step; 0: as many as pay (server/speculation.h) */
    bool no_prefix_cache;           /* every prompt is computed whole */
    size_t max_waiting;             /* requests in the queue; 0: 512 */
    uint64_t max_waiting_tokens;    /* 0: no limit */
    const struct token_trie *trie;  /* of the model's vocabulary, kept by the caller until engine_destroy; NULL: requests with a grammar
                                     * are refused */
};

/*
 * Start the engine's thread, which loads the model from `g` (kept open by the caller until engine_destroy) and then serves. Returns
 * at once: 0, or a negative errno. engine_wait_ready returns 0 when the model is loaded, or the error of model_open.
 */
int engine_create(struct engine **e, const struct gguf *g, const struct engine_options *o, engine_event_fn on_event, void *arg);
int engine_wait_ready(struct engine *e);

/* The model's facts, once ready. */
const struct model *engine_model(const struct engine *e);

/*
 * Abort what is in flight (FINISHED, ENGINE_ABORTED) and end the thread: no event comes afterwards, engine_submit returns -ESHUTDOWN. The
 * handle stays good for the front, whose threads may be about to submit; engine_destroy, when they are gone, stops if need be and frees.
 * NULL is fine for both.
 */
void engine_stop(struct engine *e);
void engine_destroy(struct engine *e);

#endif
