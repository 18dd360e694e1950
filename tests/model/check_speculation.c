/*
 * check_speculation.c - drafts change the speed, not a byte: the same requests with and without them.
 *
 *   check_speculation                   tiny models: drafts from n-grams, from the model itself, from another one
 *   check_speculation MODEL [DRAFT]     these
 *
 * Prompts repeat themselves, so that there are n-grams to find; some answers are drawn, with penalties, biases, end ids and limits that fall
 * among drafts. Few pages: sequences are preempted while they speculate.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "server/batcher.h"
#include "server/scheduler.h"
#include "tests/model/tiny_model.h"

enum { N_REQUESTS = 12, MOST_PROMPT = 200, MOST_NEW = 64 };

struct run {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct buf bytes[N_REQUESTS];           /* under lock: what a client could see */
    size_t n_finished;                      /* under lock */
    struct engine_status status;
};

static size_t n_wrong, n_runs;

static void on_event(void *arg, const struct engine_event *e)
{
    struct run *r = arg;

    pthread_mutex_lock(&r->lock);
    buf_append(&r->bytes[e->id], &e->type, sizeof(e->type));
    buf_append(&r->bytes[e->id], &e->n_tokens, sizeof(e->n_tokens));
    if (e->type == ENGINE_TOKEN) {
        buf_append(&r->bytes[e->id], &e->token, sizeof(e->token));
        buf_append(&r->bytes[e->id], &e->logprob, sizeof(e->logprob));
        buf_append(&r->bytes[e->id], e->top, e->n_top * sizeof(e->top[0]));
    } else if (e->type == ENGINE_FINISHED) {
        buf_append(&r->bytes[e->id], &e->reason, sizeof(e->reason));
        r->n_finished++;
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
}

static void submit(struct engine *e, size_t i)
{
    static const struct logit_bias bias[] = { { 5, 3.5f }, { 9, -100 } };
    const int32_t end_ids[] = { 11, 13 };
    const size_t vocab = model_config(engine_model(e))->vocab_size, period = 5 + i % 4;
    int32_t prompt[MOST_PROMPT];
    const struct engine_request q = {
        .id = i, .tokens = prompt, .n_prompt = 30 + 14 * i, .max_tokens = (uint32_t)(MOST_NEW - i % 3), .n_logprobs = 2,
        .end_ids = end_ids, .n_end_ids = i % 4 == 3 ? 2 : 0, .min_tokens = i == 3 ? 20 : 0,
        .sampling = { .temperature = i % 3 ? 0.4f * (float)(i % 3) : 0, .top_p = i == 4 ? 0.9f : 1, .top_k = i == 5 ? 20 : 0,
                      .repetition_penalty = i == 7 ? 1.1f : 1, .frequency_penalty = i == 8 ? 0.2f : 0, .seed = 7 + i,
                      .choice = (uint32_t)(i % 2), .bias = bias, .n_bias = i == 2 ? 2 : 0 },
    };

    for (size_t j = 0; j < q.n_prompt; j++)
        prompt[j] = (int32_t)((j % period * 37 + i * 101) % vocab);
    const int err = engine_submit(e, &q);
    if (err) {
        fprintf(stderr, "request %zu was refused: %s\n", i, strerror(-err));
        exit(1);
    }
}

static void run(const struct gguf *g, struct engine_options o, bool together, struct run *r)
{
    struct engine *e;

    o.model.max_batch = o.model.max_batch ? o.model.max_batch : 8;
    *r = (struct run){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    if (engine_create(&e, g, &o, on_event, r) || engine_wait_ready(e)) {
        fprintf(stderr, "the engine did not start\n");
        exit(1);
    }
    for (size_t i = 0; i < N_REQUESTS; i++) {
        submit(e, i);
        pthread_mutex_lock(&r->lock);
        while ((!together || i + 1 == N_REQUESTS) && r->n_finished <= i)
            pthread_cond_wait(&r->changed, &r->lock);
        pthread_mutex_unlock(&r->lock);
    }
    engine_status(e, &r->status);
    engine_destroy(e);
}

static void free_run(struct run *r)
{
    for (size_t i = 0; i < N_REQUESTS; i++)
        buf_free(&r->bytes[i]);
}

/* What must have happened, else the run tested nothing. How many pay depends on time: only a fixed number of drafts is sure to be tried. */
enum outcome { ANY, SOME_ACCEPTED = 1, SOME_REFUSED = 2 };

static void compare(const char *name, const struct gguf *g, const struct engine_options *o, bool together, const struct run *want, int outcome)
{
    struct run got;

    run(g, *o, together, &got);
    n_runs++;
    for (size_t i = 0; i < N_REQUESTS; i++) {
        if (got.bytes[i].len == want->bytes[i].len && !memcmp(got.bytes[i].data, want->bytes[i].data, got.bytes[i].len))
            continue;
        printf("%s: request %zu differs\n", name, i);
        n_wrong++;
    }
    const unsigned long long accepted = got.status.drafts_accepted, refused = got.status.drafts_refused;
    printf("%s: %llu drafts accepted, %llu refused; %llu spilled, %llu computed again\n", name, accepted, refused,
           (unsigned long long)got.status.preemptions[ENGINE_SPILL], (unsigned long long)got.status.preemptions[ENGINE_RECOMPUTE]);
    if ((outcome & SOME_ACCEPTED && !accepted) || (outcome & SOME_REFUSED && !refused)) {
        printf("%s: that was not tested\n", name);
        n_wrong++;
    }
    free_run(&got);
}

/* `other`: a model of the same vocabulary. */
static void check(const struct gguf *g, const struct gguf *other)
{
    struct engine_options o = { .prefill_chunk = 64, .model = { .n_threads = 1, .n_ctx = 320 } };
    struct run want;

    run(g, o, false, &want);
    o.drafts_ngrams = true;
    compare("n-grams, alone", g, &o, false, &want, ANY);
    o.model.n_threads = 3;
    o.model.n_virtual_nodes = 2;
    o.draft_tokens = 5;
    compare("n-grams, together", g, &o, true, &want, SOME_ACCEPTED | SOME_REFUSED);
    o.reserve_tokens = 1;
    o.model.full_contexts = 1;
    compare("n-grams, few pages", g, &o, true, &want, SOME_ACCEPTED);
    o.spare_bytes = UINT64_MAX;
    compare("n-grams, spilled", g, &o, true, &want, SOME_ACCEPTED);
    o.drafts_ngrams = false;
    o.draft = other;
    compare("another model, spilled", g, &o, true, &want, ANY);
    o.model.full_contexts = 8;
    compare("another model", g, &o, true, &want, other == g ? SOME_ACCEPTED : SOME_REFUSED);
    o.draft = g;
    o.prefill_chunk = 7;
    o.draft_tokens = SCHEDULER_MAX_DRAFT;
    compare("the model itself, together", g, &o, true, &want, SOME_ACCEPTED);
    o.model.n_virtual_nodes = 3;
    o.draft_tokens = 0;
    compare("the model itself, alone", g, &o, false, &want, ANY);
    free_run(&want);
}

static struct gguf *open_tiny(enum tiny_kind kind)
{
    char path[] = "/tmp/fourway-tiny-XXXXXX";
    const int fd = mkstemp(path);
    struct gguf *g;

    if (fd < 0)
        exit(1);
    tiny_model_write(path, kind);
    if (gguf_open(&g, path))
        exit(1);
    close(fd);
    unlink(path);       /* it stays while it is open */
    return g;
}

int main(int argc, char **argv)
{
    struct gguf *g, *other = NULL;

    log_set_level(LOG_WARN);
    if (argc > 1) {
        if (gguf_open(&g, argv[1]) || (argc > 2 && gguf_open(&other, argv[2])))
            return 1;
        check(g, other ? other : g);
    } else {
        g = open_tiny(TINY_LLAMA);
        other = open_tiny(TINY_GEMMA);
        check(g, other);
        check(other, g);
        gguf_close(other);
        other = open_tiny(TINY_FILTER);
        check(other, g);
        gguf_close(other);
        other = open_tiny(TINY_LATENT);
        check(other, g);
    }
    gguf_close(g);
    gguf_close(other);
    printf("%zu runs of %d requests, %zu wrong\n", n_runs, N_REQUESTS, n_wrong);
    return n_wrong || n_runs == 0;
}
