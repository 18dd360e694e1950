/*
 * batcher.h - the engine: one thread that loads the model, picks the prefill chunks and decode tokens of each step, and steps it.
 *
 * Continuous batching after Yu et al., "Orca", OSDI 2022; decodes first, then chunks of prompts fill the step's token budget
 * (Agrawal et al., "Sarathi-Serve", OSDI 2024).
 */
#ifndef FOURWAY_SERVER_BATCHER_H
#define FOURWAY_SERVER_BATCHER_H

#include "model/model.h"
#include "server/engine.h"
#include "server/token_trie.h"

enum {
    ENGINE_MAX_BATCH = MODEL_MAX_STEP_TOKENS / 2,           /* the other half of a step is left for prompts */
    ENGINE_DEFAULT_BATCH = 32
};

struct engine_options {
    struct model_options model;     /* max_batch at most ENGINE_MAX_BATCH (0: ENGINE_DEFAULT_BATCH); max_step_tokens and max_step_logits
                                     * are set here */
    size_t prefill_chunk;           /* prompt tokens a step, all sequences together; 0: 256; cut to what a step can hold */
    double itl_ms;                  /* prompts are read in chunks so small that a step takes no longer; 0: in whole prefill_chunks */
    size_t n_keys;                  /* of API keys, numbered from 1 */
    size_t reserve_tokens;          /* an admitted request finds room for its prompt and this many tokens more; 0: 256 */
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
