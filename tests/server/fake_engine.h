/*
 * fake_engine.h - engine.h with a script instead of a model, for tests of the front: it repeats its prompt, one token a step.
 *
 * Generated token i is prompt[(i + shift) % n]; shift is 0 when greedy, else seed + choice. After the whole prompt the first end id
 * follows, if there is one and min_tokens allows it. The logprob of token t is -(t % 50) / 8, and alternative k of it is token t + k with
 * that logprob minus k. So a test can ask for any text, by asking for it.
 *
 * Seeds with a meaning: 900001 fails as CORRUPTED at the third token, 900002 as FAILED at the first, 900003 never leaves the queue.
 */
#ifndef FOURWAY_TESTS_FAKE_ENGINE_H
#define FOURWAY_TESTS_FAKE_ENGINE_H

#include "server/engine.h"

struct fake_options {
    uint64_t step_ns;           /* between steps */
    uint64_t load_ns;           /* state LOADING for so long */
    bool load_fails;
    uint32_t n_ctx, n_vocab;
    uint32_t max_running, max_waiting;
};

struct engine *fake_create(const struct fake_options *o, engine_event_fn on_event, void *arg);

enum { FAKE_CORRUPTED = 900001, FAKE_FAILED, FAKE_STUCK };

#endif
