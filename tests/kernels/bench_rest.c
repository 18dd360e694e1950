/*
 * bench_rest.c - the operations between the products, each over a few thousand elements that stay in a core's L1 or L2.
 *
 * Those that work in place run many times over the same numbers, chosen so that these neither vanish nor overflow: a subnormal
 * or infinite operand costs extra on some processors.
 */
#include <math.h>
#include <string.h>

#include "tests/kernels/bench.h"
#include "tests/kernels/guarded.h"

enum {
    L1_ELEMENTS = 2048, L2_ELEMENTS = 32768,        /* three buffers of floats: 24 and 384 KiB */
    PASS_ELEMENTS = 1 << 21,                        /* of a worker's pass: a millisecond or so */
    MERGED = 8,                 /* queries merged at once */
    HEAD_DIM = 128,
};

/* In a worker's scratch. a: -1 .. -0.1, b: 2, c: room for results. */
struct buffers {
    _Alignas(64) float a[L2_ELEMENTS], b[L2_ELEMENTS];
    _Alignas(64) float c[4 * L2_ELEMENTS];
    struct q8_block blocks[L2_ELEMENTS / 32];
};

static void fill(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    struct buffers *s = bench_scratch(b, w);
    struct rng rng;

    (void)pass, (void)arg;
    memset(s, 0, sizeof(*s));
    rng_seed(&rng, w->index);
    for (size_t i = 0; i < L2_ELEMENTS; i++) {
        s->a[i] = rng_float(&rng, -1, -0.1f);
        s->b[i] = 2;
    }
    b->kernels.quantize_q8(s->blocks, s->a, L2_ELEMENTS);
}

static void run_quantize_q8(const struct kernels *t, struct buffers *s, size_t n)
{
    t->quantize_q8(s->blocks, s->a, n);
}

static void run_subtract_q8(const struct kernels *t, struct buffers *s, size_t n)
{
    t->subtract_q8(s->a, s->blocks, n);
}

static void run_round_bf16(const struct kernels *t, struct buffers *s, size_t n)
{
    t->round_bf16((bf16 *)s->c, s->a, n);
}

static void run_rms_norm(const struct kernels *t, struct buffers *s, size_t n)
{
    t->rms_norm(s->c, s->a, s->b, 1e-5f, n);
}

static void run_add(const struct kernels *t, struct buffers *s, size_t n)
{
    t->add(s->a, s->b, n);
}

static void run_scale(const struct kernels *t, struct buffers *s, size_t n)
{
    t->scale(s->a, 1, n);
}

/* g becomes 2 g / (1 + exp(-g)): below zero it creeps towards zero, as 2 / (times it ran). */
static void run_silu_mul(const struct kernels *t, struct buffers *s, size_t n)
{
    t->silu_mul(s->a, s->b, n);
}

static void run_gelu_mul(const struct kernels *t, struct buffers *s, size_t n)
{
    t->gelu_mul(s->a, s->b, n);
}

static void run_rope(const struct kernels *t, struct buffers *s, size_t n)
{
    static const float cosine[HEAD_DIM / 2], sine[HEAD_DIM / 2] = { [0 ... HEAD_DIM / 2 - 1] = 1 };     /* a quarter turn */

    for (size_t i = 0; i < n; i += HEAD_DIM)
        t->rope(s->a + i, cosine, sine, HEAD_DIM);
}

/* n elements: half of them keys, half values. */
static void store(const struct kernels *t, struct buffers *s, size_t n, enum kv_type type)
{
    const size_t bytes = kv_chunk_bytes(type, HEAD_DIM);

    for (size_t i = 0; i < n / 2; i += HEAD_DIM) {
        const size_t position = i / HEAD_DIM;
        unsigned char *chunk = (unsigned char *)s->c + position / KV_CHUNK * 2 * bytes;
        t->kv_store[type](chunk, chunk + bytes, position % KV_CHUNK, s->a + i, s->b + i, HEAD_DIM);
    }
}

static void run_kv_store_bf16(const struct kernels *t, struct buffers *s, size_t n)
{
    store(t, s, n, KV_BF16);
}

static void run_kv_store_f32(const struct kernels *t, struct buffers *s, size_t n)
{
    store(t, s, n, KV_F32);
}

static void run_kv_store_q8(const struct kernels *t, struct buffers *s, size_t n)
{
    store(t, s, n, KV_Q8);
}

static void run_attend_merge(const struct kernels *t, struct buffers *s, size_t n)
{
    for (size_t i = 0; i < n; i += MERGED * HEAD_DIM) {
        const size_t left = (n - i) / HEAD_DIM, n_q = left < MERGED ? left : MERGED;
        const float later_max[MERGED] = { 0 }, later_sum[MERGED] = { 1, 1, 1, 1, 1, 1, 1, 1 };
        float max[MERGED] = { 0 }, sum[MERGED] = { 1, 1, 1, 1, 1, 1, 1, 1 };
        t->attend_merge(max, sum, s->a + i, later_max, later_sum, s->b + i, n_q, HEAD_DIM);
    }
}

static void run_attend_finish(const struct kernels *t, struct buffers *s, size_t n)
{
    for (size_t i = 0; i < n; i += HEAD_DIM)
        t->attend_finish(s->c + i, s->a + i, 3, HEAD_DIM);
}

static void run_softcap(const struct kernels *t, struct buffers *s, size_t n)
{
    t->softcap(s->a, 30, n);
}

static void run_segment_stats(const struct kernels *t, struct buffers *s, size_t n)
{
    struct segment_stats *stats = (struct segment_stats *)s->c;

    for (size_t i = 0; i < n; i += VOCAB_SEGMENT)
        t->segment_stats(stats++, s->a + i, VOCAB_SEGMENT);
}

/* Bytes that an element makes a core read and write, each operand once. */
static const struct operation {
    const char *name;
    void (*run)(const struct kernels *t, struct buffers *s, size_t n);
    double bytes;
} operations[] = {
    { "quantize_q8", run_quantize_q8, 4 + sizeof(struct q8_block) / 32.0 },
    { "subtract_q8", run_subtract_q8, 8 + sizeof(struct q8_block) / 32.0 },
    { "round_bf16", run_round_bf16, 6 },
    { "rms_norm", run_rms_norm, 12 },
    { "add", run_add, 12 },
    { "scale", run_scale, 8 },
    { "silu_mul", run_silu_mul, 12 },
    { "gelu_mul", run_gelu_mul, 12 },
    { "rope", run_rope, 8 },
    { "kv_store bf16", run_kv_store_bf16, 6 },
    { "kv_store f32", run_kv_store_f32, 8 },
    { "kv_store q8", run_kv_store_q8, 5 },
    { "attend_merge", run_attend_merge, 12 },
    { "attend_finish", run_attend_finish, 8 },
    { "softcap", run_softcap, 8 },
    { "segment_stats", run_segment_stats, 4 },
};

struct repeated {
    const struct operation *operation;
    size_t n, times;
};

static void repeat(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    const struct repeated *r = arg;

    (void)pass;
    for (size_t i = 0; i < r->times; i++)
        r->operation->run(&b->kernels, bench_scratch(b, w), r->n);
}

void bench_rest(struct bench *b)
{
    static const struct column columns[] = {
        { "operation", "operation", COLUMN_TEXT, 14, 0 },
        { "cache", "cache", COLUMN_TEXT, 5, 0 },
        { "elements", "elements", COLUMN_NUMBER, 8, 0 },
        { "ns_per_1000", "ns per 1000", COLUMN_NUMBER, 11, 2 },
        { "median_ns_per_1000", "median", COLUMN_NUMBER, 9, 2 },
        { "gb_per_s", "GB/s", COLUMN_NUMBER, 8, 1 },
    };
    _Static_assert(sizeof(struct buffers) <= BENCH_SCRATCH_BYTES, "buffers lie in the scratch");

    output_section(b->output, "rest", "one worker of all that run at once; GB/s of all operands, from and to the cache", columns,
                   sizeof(columns) / sizeof(*columns));
    for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
        for (size_t level = 1; level <= 2; level++) {
            const size_t n = level == 1 ? L1_ELEMENTS : L2_ELEMENTS;
            struct repeated r = { &operations[i], n, b->options->quick ? 1 : PASS_ELEMENTS / n };
            const double elements = (double)(n * r.times), bytes = operations[i].bytes * elements;

            bench_fill(b, fill, NULL);
            const struct timing t = bench_time(b, repeat, &r, ACT_F32, bytes, 0);
            const struct cell row[] = {
                { .text = operations[i].name },
                { .text = level == 1 ? "L1" : "L2" },
                { .number = (double)n },
                { .number = t.best_s * 1e9 / elements * 1000 },
                { .number = t.median_s * 1e9 / elements * 1000 },
                { .number = bytes / t.best_s * 1e-9 },
            };
            output_row(b->output, row);
        }
    }
}
