/*
 * requests.h - eight requests of different lengths and samplings and three embeddings, run through the real engine, and what a client
 * could see of them.
 */
#ifndef FOURWAY_TESTS_MODEL_REQUESTS_H
#define FOURWAY_TESTS_MODEL_REQUESTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "server/batcher.h"

enum { N_TEXTS = 8, N_REQUESTS = N_TEXTS + 3 };

/* Every event's bytes: token, logprob, alternatives, prompt logprobs, reason; embedding. */
struct record { struct buf bytes; bool finished; };

struct run {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct record records[N_REQUESTS];      /* under lock */
    bool has_begun, may_go_on;              /* under lock: the engine waits at its first event until it may go on */
    uint64_t spills, recomputes;
};

/* KV pages for all; or for one context, handed out greedily, so that sequences are preempted: computed again, or brought back. */
enum kv_room { ROOM_FOR_ALL, ROOM_FOR_ONE, ROOM_TO_SPILL };

struct setting {
    size_t nodes;                           /* virtual nodes; 0: the real ones */
    size_t threads, chunk;
    bool together;                          /* all at once, else one after the other */
    enum isa isa;                           /* may be above the machine's, if its instructions are emulated */
    enum kv_room room;
    enum gemm_choice gemm;
    enum kv_type kv_type;
};

/* Runs them and ends the engine. `ready`, if not NULL, sees the engine before the first request. Ends the program when the engine does
 * not start. */
void requests_run(const struct gguf *g, const struct setting *s, struct run *r, void (*ready)(struct engine *e));
void requests_free(struct run *r);

#endif
