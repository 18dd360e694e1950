#include "tests/model/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PROMPT = 125 };

/* What a client can see of an event. */
static void on_event(void *arg, const struct engine_event *e)
{
    struct run *r = arg;
    struct record *record = &r->records[e->id];

    pthread_mutex_lock(&r->lock);
    r->has_begun = true;
    pthread_cond_broadcast(&r->changed);
    while (!r->may_go_on)
        pthread_cond_wait(&r->changed, &r->lock);
    buf_append(&record->bytes, &e->type, sizeof(e->type));
    if (e->type == ENGINE_FINISHED) {
        buf_append(&record->bytes, &e->reason, sizeof(e->reason));
        buf_append(&record->bytes, &e->n_tokens, sizeof(e->n_tokens));
        record->finished = true;
        pthread_cond_broadcast(&r->changed);
    } else {
        buf_append(&record->bytes, &e->n_tokens, sizeof(e->n_tokens));
        buf_append(&record->bytes, &e->token, sizeof(e->token));
        buf_append(&record->bytes, &e->logprob, sizeof(e->logprob));
        buf_append(&record->bytes, e->top, e->n_top * sizeof(e->top[0]));
        if (e->n_embedding)
            buf_append(&record->bytes, e->embedding, e->n_embedding * sizeof(e->embedding[0]));
    }
    pthread_mutex_unlock(&r->lock);
}

static void wait_finished(struct run *r, size_t i)
{
    pthread_mutex_lock(&r->lock);
    while (!r->records[i].finished)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static void wait_begun(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->has_begun)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static void let_go_on(struct run *r)
{
    pthread_mutex_lock(&r->lock);
    r->may_go_on = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void submit(struct engine *e, size_t i, size_t vocab)
{
    static const size_t lengths[N_REQUESTS] = { 1, 60, 70, 62, MOST_PROMPT, 17, 40, 120, 110, 70, MOST_PROMPT };
    static const struct logit_bias bias[] = { { 3, 2.5f }, { 17, -100 } };
    int32_t prompt[MOST_PROMPT];
    struct engine_request q = {
        .id = i, .tokens = prompt, .n_prompt = lengths[i], .max_tokens = (uint32_t)(4 + 2 * i), .n_logprobs = 5,
        .prompt_logprobs = i % 3 == 0,
        .sampling = { .temperature = i % 2 ? 0.8f : 0, .top_k = i == 3 ? 40 : 0, .top_p = i == 5 ? 0.9f : 1, .min_p = i == 7 ? 0.02f : 0,
                      .repetition_penalty = i == 1 ? 1.2f : 1, .presence_penalty = i == 2 ? 0.5f : 0,
                      .frequency_penalty = i == 3 ? 0.3f : 0,
                      .seed = 1000 + i, .choice = (uint32_t)(i % 2), .bias = bias, .n_bias = i == 4 ? 2 : 0 },
    };

    if (i >= N_TEXTS)
        q = (struct engine_request){ .id = i, .tokens = prompt, .n_prompt = lengths[i], .pooling = POOLING_MEAN + (i - N_TEXTS) };
    for (size_t j = 0; j < lengths[i]; j++)
        prompt[j] = (int32_t)((j * j * 31 + j * 7 + i * 101) % vocab);
    int err = engine_submit(e, &q);
    if (err) {
        fprintf(stderr, "request %zu was refused: %s\n", i, strerror(-err));
        exit(1);
    }
}

void requests_run(const struct gguf *g, const struct setting *s, struct run *r, void (*ready)(struct engine *e))
{
    const struct engine_options o = {
        .prefill_chunk = s->chunk,
        .reserve_tokens = s->room ? 1 : 0,
        .spare_bytes = s->room == ROOM_TO_SPILL ? UINT64_MAX : 0,
        .model = { .n_threads = s->threads, .n_virtual_nodes = s->nodes, .isa_given = true, .isa = s->isa,
                   .isa_unchecked = s->isa > cpu_best_isa(), .gemm = s->gemm, .kv_type = s->kv_type, .n_ctx = 512, .max_batch = N_REQUESTS,
                   .full_contexts = s->room ? 1 : 4 },
    };
    struct engine *e;

    *r = (struct run){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    if (engine_create(&e, g, &o, on_event, r) || engine_wait_ready(e)) {
        fprintf(stderr, "the engine did not start\n");
        exit(1);
    }
    if (ready)
        ready(e);
    /* Together: all others come while the engine waits after its first step, whoever is slow: so steps are the same in every run. */
    r->may_go_on = !s->together;
    for (size_t i = 0; i < N_REQUESTS; i++) {
        submit(e, i, model_config(engine_model(e))->vocab_size);
        if (!s->together)
            wait_finished(r, i);
        else if (i == 0)
            wait_begun(r);
    }
    let_go_on(r);
    for (size_t i = 0; i < N_REQUESTS; i++)
        wait_finished(r, i);
    struct engine_status status;
    engine_status(e, &status);
    r->spills = status.preemptions[ENGINE_SPILL];
    r->recomputes = status.preemptions[ENGINE_RECOMPUTE];
    engine_destroy(e);
}

void requests_free(struct run *r)
{
    for (size_t i = 0; i < N_REQUESTS; i++)
        buf_free(&r->records[i].bytes);
}
