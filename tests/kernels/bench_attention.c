/*
 * bench_attention.c - attention over chunks of the KV cache, merged chunk by chunk as the model does.
 *
 * Decode: the queries of one token that share a KV head, over contexts that together are far larger than the caches: every key and
 * value is read once from memory. Prefill: 24 queries, of 6 tokens and 4 heads, causal: what they see is in the caches.
 */
#include <math.h>
#include <string.h>

#include "tests/kernels/bench.h"
#include "tests/kernels/guarded.h"

enum {
    MOST_HEAD_DIM = 128,
    PREFILL_GROUP = 4,
    PREFILL_TOKENS = ATTEND_MAX_Q / PREFILL_GROUP,
    PREFILL_POSITIONS = 4096,           /* of a pass, at least: short prompts several times */
};

static const struct { const char *name; enum activation unit; } kv_types[KV_TYPE_COUNT] = {
    [KV_BF16] = { "bf16", ACT_BF16 }, [KV_F32] = { "f32", ACT_F32 }, [KV_Q8] = { "q8", ACT_F32 },
};

struct attention {
    enum kv_type type;
    size_t group, head_dim, context;    /* context in whole chunks */
    size_t n_heads, head_bytes;         /* of a worker's pass */
};

/* In a worker's scratch. */
struct state {
    _Alignas(64) float q[ATTEND_MAX_Q][MOST_HEAD_DIM];
    float out[ATTEND_MAX_Q * MOST_HEAD_DIM], merged[ATTEND_MAX_Q * MOST_HEAD_DIM];
    float max[ATTEND_MAX_Q], sum[ATTEND_MAX_Q], merged_max[ATTEND_MAX_Q], merged_sum[ATTEND_MAX_Q];
};

static void fill_cache(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    const struct attention *a = arg;
    const size_t k_bytes = kv_chunk_bytes(a->type, a->head_dim), chunk_bytes = 2 * k_bytes;
    unsigned char *slice = bench_slice(b, w);
    struct state *s = bench_scratch(b, w);
    struct rng rng;

    (void)pass;
    rng_seed(&rng, w->index);
    for (unsigned position = 0; position < KV_CHUNK; position++) {
        float k[MOST_HEAD_DIM], v[MOST_HEAD_DIM];
        for (size_t d = 0; d < a->head_dim; d++) {
            k[d] = rng_float(&rng, -1, 1);
            v[d] = rng_float(&rng, -1, 1);
        }
        b->kernels.kv_store[a->type](slice, slice + k_bytes, position, k, v, a->head_dim);
    }
    for (size_t i = 1; i < b->worker_bytes / chunk_bytes; i++)
        memcpy(slice + i * chunk_bytes, slice, chunk_bytes);
    for (size_t i = 0; i < ATTEND_MAX_Q; i++) {
        for (size_t d = 0; d < MOST_HEAD_DIM; d++)
            s->q[i][d] = rng_float(&rng, -1, 1);
    }
}

/* Queries i of token position first + i / group over the chunks of one head. */
static void attend_head(const struct bench *b, const struct attention *a, struct state *s, const unsigned char *head, size_t n_q,
                        size_t group, size_t first)
{
    const size_t k_bytes = kv_chunk_bytes(a->type, a->head_dim), last = first + (n_q - 1) / group;
    const float *q[ATTEND_MAX_Q];
    uint8_t lo[ATTEND_MAX_Q] = { 0 }, hi[ATTEND_MAX_Q];
    struct attend_args args = { .q = q, .lo = lo, .hi = hi, .out = s->out, .max = s->max, .sum = s->sum, .n_q = n_q,
                                .head_dim = a->head_dim, .scale = 0.125f };

    memset(s->merged, 0, n_q * a->head_dim * sizeof(float));
    for (size_t i = 0; i < n_q; i++) {
        q[i] = s->q[i];
        s->merged_max[i] = -INFINITY;
        s->merged_sum[i] = 0;
    }
    for (size_t chunk = 0; chunk <= last / KV_CHUNK; chunk++, head += 2 * k_bytes) {
        for (size_t i = 0; i < n_q; i++) {
            const size_t end = first + i / group + 1, begin = chunk * KV_CHUNK;
            hi[i] = (uint8_t)(end <= begin ? 0 : end - begin < KV_CHUNK ? end - begin : KV_CHUNK);
        }
        args.k = head;
        args.v = head + k_bytes;
        args.next_k = chunk < last / KV_CHUNK ? head + 2 * k_bytes : NULL;
        args.next_v = args.next_k ? head + 3 * k_bytes : NULL;
        b->kernels.attend[a->type](&args);
        b->kernels.attend_merge(s->merged_max, s->merged_sum, s->merged, s->max, s->sum, s->out, n_q, a->head_dim);
    }
    for (size_t i = 0; i < n_q; i++)
        b->kernels.attend_finish(s->out + i * a->head_dim, s->merged + i * a->head_dim, s->merged_sum[i], a->head_dim);
}

static void decode(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    const struct attention *a = arg;

    (void)pass;
    for (size_t i = 0; i < a->n_heads; i++)
        attend_head(b, a, bench_scratch(b, w), (unsigned char *)bench_slice(b, w) + i * a->head_bytes, a->group, a->group,
                    a->context - 1);
}

static void prefill(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    const struct attention *a = arg;

    (void)pass;
    for (size_t i = 0; i < a->n_heads; i++) {
        const unsigned char *head = (unsigned char *)bench_slice(b, w) + i * a->head_bytes;
        for (size_t t = 0; t < a->context; t += PREFILL_TOKENS) {
            const size_t tokens = a->context - t < PREFILL_TOKENS ? a->context - t : PREFILL_TOKENS;
            attend_head(b, a, bench_scratch(b, w), head, tokens * a->group, a->group, t);
        }
    }
}

/* Two products of a multiply and an add for every query, visible position and dimension. */
static void report(struct bench *b, struct attention *a, const char *kind, bench_fn fn, double visible, double bytes)
{
    const double ops = 4 * visible * (double)(a->group * a->head_dim * a->n_heads * b->n_workers);
    const struct timing t = bench_time(b, fn, a, kv_types[a->type].unit, bytes, ops);
    const struct cell row[] = {
        { .text = kind },
        { .text = kv_types[a->type].name },
        { .number = (double)a->group },
        { .number = (double)a->head_dim },
        { .number = (double)a->context },
        { .number = bytes / t.best_s * 1e-9 },
        { .number = bytes / t.median_s * 1e-9 },
        { .number = t.read_per_s * 1e-9 },
        { .number = t.of_read },
        { .number = ops / t.best_s * 1e-9 },
        { .number = t.peak_per_s * 1e-9 },
        { .number = t.of_peak },
    };
    output_row(b->output, row);
}

static void bench_decode(struct bench *b, struct attention a)
{
    a.n_heads = b->worker_bytes / a.head_bytes;
    if (!a.n_heads)
        return;
    report(b, &a, "decode", decode, (double)a.context, (double)(b->n_workers * a.n_heads * a.head_bytes));
}

static void bench_prefill(struct bench *b, struct attention a)
{
    const double n = (double)a.context;

    a.n_heads = a.context < PREFILL_POSITIONS ? PREFILL_POSITIONS / a.context : 1;
    if (b->worker_bytes < a.n_heads * a.head_bytes)
        return;
    report(b, &a, "prefill", prefill, n * (n + 1) / 2, NAN);
}

void bench_attention(struct bench *b)
{
    static const struct column columns[] = {
        { "kind", "kind", COLUMN_TEXT, 7, 0 },
        { "kv_type", "KV", COLUMN_TEXT, 4, 0 },
        { "group", "group", COLUMN_NUMBER, 5, 0 },
        { "head_dim", "dim", COLUMN_NUMBER, 4, 0 },
        { "context", "context", COLUMN_NUMBER, 7, 0 },
        { "gb_per_s", "GB/s", COLUMN_NUMBER, 7, 1 },
        { "median_gb_per_s", "median", COLUMN_NUMBER, 7, 1 },
        { "read_gb_per_s", "reads", COLUMN_NUMBER, 7, 1 },
        { "of_read", "of reads", COLUMN_SHARE, 9, 1 },
        { "gop_per_s", "GOP/s", COLUMN_NUMBER, 8, 1 },
        { "peak_gop_per_s", "peak", COLUMN_NUMBER, 8, 1 },
        { "of_peak", "of peak", COLUMN_SHARE, 8, 1 },
    };
    static const size_t groups[] = { 1, 4, 8 }, dims[] = { 64, MOST_HEAD_DIM }, contexts[] = { 1024, 8192 }, prompts[] = { 512, 4096 };
    const size_t n_prompts = b->options->quick ? 1 : 2;

    output_section(b->output, "attention", "group: query heads of a KV head; GB/s of keys and values", columns,
                   sizeof(columns) / sizeof(*columns));
    for (enum kv_type type = 0; type < KV_TYPE_COUNT; type++) {
        for (size_t d = 0; d < sizeof(dims) / sizeof(*dims); d++) {
            struct attention a = { .type = type, .head_dim = dims[d] };
            const size_t token_bytes = 2 * kv_chunk_bytes(type, a.head_dim) / KV_CHUNK;

            bench_fill(b, fill_cache, &a);
            for (size_t i = 0; i < 6; i++) {
                a.context = contexts[i / 3];
                a.group = groups[i % 3];
                a.head_bytes = a.context * token_bytes;
                bench_decode(b, a);
            }
            for (size_t i = 0; i < n_prompts; i++) {
                a.context = prompts[i];
                a.group = PREFILL_GROUP;
                a.head_bytes = a.context * token_bytes;
                bench_prefill(b, a);
            }
        }
    }
}
