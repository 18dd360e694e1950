/*
 * check_prefix.c - the prefix cache under random schedules: the bytes of every request are those it has alone and uncached.
 *
 *   check_prefix [SEED]      a few seconds; other seeds for more
 *
 * Requests begin like others (families of prompts), go on where an earlier answer ended (chats), have choices of one prompt, salts that keep
 * them apart, leave early, or want an embedding. They come in bursts to an engine with so few pages that known pages are forgotten and
 * sequences preempted.
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
#include "tests/kernels/guarded.h"
#include "tests/model/tiny_model.h"

enum { N_REQUESTS = 60, N_FAMILIES = 3, FAMILY_TOKENS = 260, MOST_PROMPT = 440, MOST_NEW = 70, N_CTX = 512 };

struct request {
    int32_t prompt[MOST_PROMPT];
    size_t n_prompt, max_tokens;
    struct kv_salt salt;
    bool is_alone;              /* the only one of its salt: nothing to share */
    bool cancelled;             /* what came before must still be right */
    bool embeds;                /* its last token's embedding instead of a text */
    struct sampling sampling;
};

struct answer {
    struct buf bytes;
    int32_t tokens[MOST_NEW];
    size_t n_tokens;
    uint32_t n_cached;
    enum engine_reason reason;
    bool finished;
};

struct run {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct answer answers[N_REQUESTS];      /* under lock */
    uint64_t hits, preemptions[ENGINE_PREEMPTIONS];
};

static struct request requests[N_REQUESTS];
static size_t n_wrong;

static void on_event(void *arg, const struct engine_event *e)
{
    struct run *r = arg;
    struct answer *a = &r->answers[e->id];

    pthread_mutex_lock(&r->lock);
    if (e->type == ENGINE_TOKEN) {
        a->tokens[a->n_tokens++] = e->token;
        buf_append(&a->bytes, &e->token, sizeof(e->token));
        buf_append(&a->bytes, &e->logprob, sizeof(e->logprob));
        buf_append(&a->bytes, e->top, e->n_top * sizeof(e->top[0]));
    } else if (e->type == ENGINE_EMBEDDING) {
        buf_append(&a->bytes, e->embedding, e->n_embedding * sizeof(e->embedding[0]));
    } else if (e->type == ENGINE_FINISHED) {
        a->n_cached = e->n_cached;
        a->reason = e->reason;
        a->finished = true;
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
}

static struct engine *start(const struct gguf *g, struct run *r, bool cached, size_t nodes, size_t chunk, uint64_t spare, enum isa isa)
{
    const struct engine_options o = {
        .prefill_chunk = chunk, .no_prefix_cache = !cached, .reserve_tokens = cached ? 1 : 0, .spare_bytes = spare,
        .model = { .n_threads = cached ? 3 : 1, .n_virtual_nodes = nodes, .isa_given = true, .isa = isa, .n_ctx = N_CTX, .max_batch = 8,
                   .full_contexts = cached ? 2 : 8 },
    };
    struct engine *e;

    *r = (struct run){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    if (engine_create(&e, g, &o, on_event, r) || engine_wait_ready(e)) {
        fprintf(stderr, "the engine did not start\n");
        exit(1);
    }
    return e;
}

static void submit(struct engine *e, size_t i)
{
    const struct request *r = &requests[i];
    const struct engine_request q = { .id = i, .tokens = r->prompt, .n_prompt = r->n_prompt, .n_logprobs = 2, .salt = r->salt,
                                      .max_tokens = r->embeds ? 0 : (uint32_t)r->max_tokens, .sampling = r->sampling,
                                      .pooling = r->embeds ? POOLING_LAST : POOLING_NONE };
    const int err = engine_submit(e, &q);

    if (err) {
        fprintf(stderr, "request %zu was refused: %s\n", i, strerror(-err));
        exit(1);
    }
}

static void wait_finished(struct run *r, size_t i)
{
    pthread_mutex_lock(&r->lock);
    while (!r->answers[i].finished)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static int32_t family_token(size_t family, size_t at, size_t vocab)
{
    return (int32_t)((at * at * 31 + at * 7 + family * 1009) % vocab);
}

/* The i-th request; a chat goes on with what an earlier one was answered. */
static void make_request(size_t i, const struct run *alone, size_t vocab, struct rng *rng)
{
    struct request *r = &requests[i];
    const bool chats = i > 5 && rng_below(rng, 3) == 0;
    const size_t before = i ? rng_below(rng, (uint32_t)i) : 0, family = rng_below(rng, N_FAMILIES);
    size_t shared = rng_below(rng, FAMILY_TOKENS + 1);

    *r = (struct request){ .max_tokens = 1 + rng_below(rng, MOST_NEW), .sampling = { .temperature = rng_below(rng, 2) ? 0.9f : 0, .top_p = 1,
                           .repetition_penalty = 1, .seed = i, .choice = rng_below(rng, 3) } };
    if (chats && requests[before].n_prompt + MOST_NEW + 40 < MOST_PROMPT && !requests[before].is_alone) {
        memcpy(r->prompt, requests[before].prompt, requests[before].n_prompt * sizeof(*r->prompt));
        r->n_prompt = requests[before].n_prompt;
        for (size_t j = 0; j < alone->answers[before].n_tokens; j++)
            r->prompt[r->n_prompt++] = alone->answers[before].tokens[j];
        r->salt = requests[before].salt;
    } else {
        for (; r->n_prompt < shared; r->n_prompt++)
            r->prompt[r->n_prompt] = family_token(family, r->n_prompt, vocab);
        if (rng_below(rng, 5) == 0) {
            r->salt = (struct kv_salt){ { 1000 + i, 7 } };
            r->is_alone = true;
        } else {
            r->salt = (struct kv_salt){ { rng_below(rng, 2), 0 } };
        }
    }
    for (size_t n = 1 + rng_below(rng, 40); n; n--)
        r->prompt[r->n_prompt++] = (int32_t)rng_below(rng, (uint32_t)vocab);
    r->cancelled = rng_below(rng, 8) == 0;
    r->embeds = i % 6 == 5;
}

static void fail(const char *name, size_t i, const char *what)
{
    printf("%s: request %zu: %s\n", name, i, what);
    n_wrong++;
}

static void compare(const char *name, size_t i, const struct answer *got, const struct answer *want)
{
    const struct request *r = &requests[i];

    if (r->cancelled ? got->bytes.len > want->bytes.len : got->bytes.len != want->bytes.len)
        fail(name, i, "another number of tokens");
    else if (memcmp(got->bytes.data ? got->bytes.data : "", want->bytes.data ? want->bytes.data : "", got->bytes.len))
        fail(name, i, "other bytes");
    if (!r->cancelled && got->reason != want->reason)
        fail(name, i, "another reason");
    if (got->n_cached % KV_CHUNK || got->n_cached >= r->n_prompt)
        fail(name, i, "an impossible number of cached tokens");
    if (r->is_alone && got->n_cached)
        fail(name, i, "shares with another salt");
}

static void run_alone(const struct gguf *g, struct run *r, struct rng *rng, enum isa isa)
{
    struct engine *e = start(g, r, false, 1, 64, 0, isa);
    const size_t vocab = model_config(engine_model(e))->vocab_size;

    for (size_t i = 0; i < N_REQUESTS; i++) {
        make_request(i, r, vocab, rng);
        submit(e, i);
        wait_finished(r, i);
    }
    engine_destroy(e);
}

/* In bursts; all of a burst end before the next begins, so that chats find what they go on from. */
static void run_cached(const struct gguf *g, struct run *r, struct rng *rng, size_t nodes, size_t chunk, uint64_t spare, enum isa isa)
{
    struct engine *e = start(g, r, true, nodes, chunk, spare, isa);
    struct engine_status status;

    for (size_t i = 0, end; i < N_REQUESTS; i = end) {
        end = i + 1 + rng_below(rng, 12);
        end = end < N_REQUESTS ? end : N_REQUESTS;
        for (size_t j = i; j < end; j++) {
            submit(e, j);
            if (rng_below(rng, 4) == 0)
                usleep(rng_below(rng, 3000));
        }
        for (size_t j = i; j < end; j++)
            if (requests[j].cancelled)
                engine_cancel(e, j);
        for (size_t j = i; j < end; j++)
            wait_finished(r, j);
    }
    engine_status(e, &status);
    r->hits = status.prefix_hit_tokens;
    memcpy(r->preemptions, status.preemptions, sizeof(r->preemptions));
    engine_destroy(e);
}

static void free_run(struct run *r)
{
    for (size_t i = 0; i < N_REQUESTS; i++)
        buf_free(&r->answers[i].bytes);
}

int main(int argc, char **argv)
{
    const uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    const enum tiny_kind kinds[] = { TINY_LLAMA, TINY_GEMMA, TINY_FILTER, TINY_LATENT };
    const struct { size_t nodes, chunk; uint64_t spare; } ways[] = { { 1, 256, 0 }, { 3, 64, UINT64_MAX }, { 2, 7, 100000 } };
    static struct run alone, cached;
    uint64_t hits = 0, n_cached_embeddings = 0, preemptions[ENGINE_PREEMPTIONS] = { 0 };

    log_set_level(LOG_WARN);
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        char path[] = "/tmp/fourway-tiny-XXXXXX";
        struct rng rng;
        struct gguf *g;
        int fd = mkstemp(path);

        if (fd < 0)
            return 1;
        rng_seed(&rng, seed + k);
        tiny_model_write(path, kinds[k]);
        if (gguf_open(&g, path))
            return 1;
        run_alone(g, &alone, &rng, cpu_best_isa());
        for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
            run_cached(g, &cached, &rng, ways[w].nodes, ways[w].chunk, ways[w].spare, cpu_best_isa());
            for (size_t i = 0; i < N_REQUESTS; i++)
                compare(tiny_names[kinds[k]], i, &cached.answers[i], &alone.answers[i]);
            for (size_t i = 0; i < N_REQUESTS; i++)
                n_cached_embeddings += requests[i].embeds && cached.answers[i].bytes.len && cached.answers[i].n_cached;
            printf("%s, %zu nodes, chunk %zu: %llu tokens from the cache; preempted: %llu parked, %llu spilled, %llu computed again\n",
                   tiny_names[kinds[k]], ways[w].nodes, ways[w].chunk, (unsigned long long)cached.hits,
                   (unsigned long long)cached.preemptions[ENGINE_PARK], (unsigned long long)cached.preemptions[ENGINE_SPILL],
                   (unsigned long long)cached.preemptions[ENGINE_RECOMPUTE]);
            hits += cached.hits;
            for (size_t i = 0; i < ENGINE_PREEMPTIONS; i++)
                preemptions[i] += cached.preemptions[i];
            free_run(&cached);
        }
        free_run(&alone);
        gguf_close(g);
        close(fd);
        unlink(path);
    }
    if (!hits || !preemptions[ENGINE_PARK] || !preemptions[ENGINE_SPILL] || !preemptions[ENGINE_RECOMPUTE]) {
        printf("nothing was shared, or nothing preempted in one of the three ways: that was not tested\n");
        n_wrong++;
    }
    if (!n_cached_embeddings) {
        printf("no embedding began with what the cache had: that was not tested\n");
        n_wrong++;
    }
    printf("%zu wrong\n", n_wrong);
    return n_wrong != 0;
}
