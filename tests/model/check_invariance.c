/*
 * check_invariance.c - same request, same bits: whatever the nodes, threads, prefill chunks and batch mates.
 *
 *   check_invariance --tiny              both tiny models: the full product of the axes, at every ISA level
 *   check_invariance MODEL [--isa L]     one axis at a time
 *
 * Eight requests of different lengths and samplings run through the real engine. A run's record is every event's bytes: token, logprob,
 * alternatives, prompt logprobs, reason. Records must equal those of the first run: one worker, one node, one request at a time, at
 * that level. The tiny models' quantised arithmetic must give equal records at all levels, too.
 */
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "server/batcher.h"
#include "tests/model/tiny_model.h"

enum { N_REQUESTS = 8, MOST_PROMPT = 200 };

struct record { struct buf bytes; bool finished; };

struct run {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct record records[N_REQUESTS];      /* under lock */
};

struct setting { size_t nodes, threads, chunk; bool together; enum isa isa; size_t kv_pages; };

/* What a client can see of an event. */
static void on_event(void *arg, const struct engine_event *e)
{
    struct run *r = arg;
    struct record *record = &r->records[e->id];

    pthread_mutex_lock(&r->lock);
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

static void submit(struct engine *e, size_t i, size_t vocab)
{
    static const size_t lengths[N_REQUESTS] = { 1, 5, 70, 64, 129, 17, MOST_PROMPT, 100 };
    static const struct logit_bias bias[] = { { 3, 2.5f }, { 17, -100 } };
    int32_t prompt[MOST_PROMPT];
    struct engine_request q = {
        .id = i, .tokens = prompt, .n_prompt = lengths[i], .max_tokens = (uint32_t)(4 + 2 * i), .n_logprobs = 5,
        .prompt_logprobs = i % 3 == 0,
        .sampling = { .temperature = i % 2 ? 0.8f : 0, .top_k = i == 3 ? 40 : 0, .top_p = i == 5 ? 0.9f : 1, .min_p = i == 7 ? 0.02f : 0,
                      .repetition_penalty = i == 1 ? 1.2f : 1, .presence_penalty = i == 2 ? 0.5f : 0, .frequency_penalty = i == 3 ? 0.3f : 0,
                      .seed = 1000 + i, .choice = (uint32_t)(i % 2), .bias = bias, .n_bias = i == 4 ? 2 : 0 },
    };

    for (size_t j = 0; j < lengths[i]; j++)
        prompt[j] = (int32_t)((j * j * 31 + j * 7 + i * 101) % vocab);
    int err = engine_submit(e, &q);
    if (err) {
        fprintf(stderr, "request %zu was refused: %s\n", i, strerror(-err));
        exit(1);
    }
}

static void run_requests(const struct gguf *g, const struct setting *s, struct run *r)
{
    const struct engine_options o = {
        .prefill_chunk = s->chunk,
        .model = { .n_threads = s->threads, .n_virtual_nodes = s->nodes, .isa_given = true, .isa = s->isa, .n_ctx = 512,
                   .max_batch = N_REQUESTS, .full_contexts = s->kv_pages ? 1 : 4 },
    };
    struct engine *e;

    *r = (struct run){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    if (engine_create(&e, g, &o, on_event, r) || engine_wait_ready(e)) {
        fprintf(stderr, "the engine did not start\n");
        exit(1);
    }
    for (size_t i = 0; i < N_REQUESTS; i++) {
        submit(e, i, model_config(engine_model(e))->vocab_size);
        if (!s->together)
            wait_finished(r, i);
    }
    for (size_t i = 0; i < N_REQUESTS; i++)
        wait_finished(r, i);
    engine_destroy(e);
}

static void free_records(struct run *r)
{
    for (size_t i = 0; i < N_REQUESTS; i++)
        buf_free(&r->records[i].bytes);
}

static size_t n_runs, n_wrong;

/* Run with this setting and compare with `want`, whose records stay. */
static void compare(const struct gguf *g, const struct setting *s, const struct run *want, const char *name)
{
    struct run got;

    run_requests(g, s, &got);
    n_runs++;
    for (size_t i = 0; i < N_REQUESTS; i++) {
        const struct buf *a = &want->records[i].bytes, *b = &got.records[i].bytes;
        if (a->len == b->len && !memcmp(a->data, b->data, a->len))
            continue;
        size_t at = 0;
        while (at < a->len && at < b->len && a->data[at] == b->data[at])
            at++;
        printf("%s: request %zu differs at byte %zu of %zu: nodes %zu, threads %zu, chunk %zu, %s, %s%s\n", name, i, at, a->len, s->nodes,
               s->threads, s->chunk, s->together ? "together" : "alone", isa_name(s->isa), s->kv_pages ? ", few pages" : "");
        n_wrong++;
    }
    free_records(&got);
}

static const size_t nodes[] = { 1, 2, 3, 4, 8 }, threads[] = { 1, 2, 3 }, chunks[] = { 7, 64, 512 };
enum { N_NODES = 5, N_THREADS = 3, N_CHUNKS = 3 };

static void full_product(const struct gguf *g, const char *name)
{
    struct run want, first;

    for (enum isa isa = ISA_SCALAR; isa <= cpu_best_isa(); isa++) {
        run_requests(g, &(struct setting){ 1, 1, 512, false, isa, 0 }, &want);
        if (isa == ISA_SCALAR)
            first = want;
        for (size_t n = 0; n < N_NODES; n++)
            for (size_t t = 0; t < N_THREADS; t++)
                for (size_t c = 0; c < N_CHUNKS; c++)
                    for (int together = 0; together < 2; together++)
                        compare(g, &(struct setting){ nodes[n], threads[t], chunks[c], together, isa, 0 }, &want, name);
        /* Few pages: sequences are preempted and computed again. */
        compare(g, &(struct setting){ 2, 2, 64, true, isa, 1 }, &want, name);
        /* Every arithmetic is defined in plain C: the levels agree, too. */
        compare(g, &(struct setting){ 1, 1, 512, false, isa, 0 }, &first, "levels");
        if (isa != ISA_SCALAR)
            free_records(&want);
    }
    free_records(&first);
}

static void one_axis_at_a_time(const struct gguf *g, const char *name, enum isa isa)
{
    struct run want;

    run_requests(g, &(struct setting){ 1, 1, 512, false, isa, 0 }, &want);
    for (size_t i = 1; i < N_NODES; i++)
        compare(g, &(struct setting){ nodes[i], 2, 512, true, isa, 0 }, &want, name);
    for (size_t i = 1; i < N_THREADS; i++)
        compare(g, &(struct setting){ 1, threads[i], 512, true, isa, 0 }, &want, name);
    for (size_t i = 0; i < N_CHUNKS; i++)
        compare(g, &(struct setting){ 1, 2, chunks[i], true, isa, 0 }, &want, name);
    compare(g, &(struct setting){ 1, 2, 64, false, isa, 0 }, &want, name);
    compare(g, &(struct setting){ 1, 2, 64, true, isa, 1 }, &want, name);
    for (enum isa lower = ISA_SCALAR; lower < isa; lower++)
        if (lower != ISA_SCALAR || getenv("FOURWAY_SLOW_TESTS"))
            compare(g, &(struct setting){ 1, 2, 512, true, lower, 0 }, &want, "levels");
    free_records(&want);
}

int main(int argc, char **argv)
{
    const bool tiny = argc > 1 && !strcmp(argv[1], "--tiny");
    enum isa isa = cpu_best_isa();
    struct gguf *g;

    log_set_level(LOG_WARN);
    if (argc < 2) {
        fprintf(stderr, "usage: check_invariance --tiny | MODEL [--isa LEVEL]\n");
        return 2;
    }
    if (argc == 4 && !isa_parse(argv[3], &isa))
        return 2;
    for (int gemma = 0; tiny && gemma < 2; gemma++) {
        char path[] = "/tmp/fourway-tiny-XXXXXX";
        int fd = mkstemp(path);
        if (fd < 0)
            return 1;
        tiny_model_write(path, gemma);
        if (gguf_open(&g, path))
            return 1;
        full_product(g, gemma ? "tiny gemma3" : "tiny llama");
        gguf_close(g);
        close(fd);
        unlink(path);
    }
    if (!tiny) {
        if (gguf_open(&g, argv[1]))
            return 1;
        one_axis_at_a_time(g, argv[1], isa);
        gguf_close(g);
    }
    printf("%zu runs of %d requests, %zu records differ\n", n_runs, N_REQUESTS, n_wrong);
    return n_wrong || n_runs == 0;
}
