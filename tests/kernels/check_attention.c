/*
 * check_attention.c - attention over chunks: each level against plain C byte for byte, plain C against softmax attention in
 * double, and nothing from masked positions or other queries in a result.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "tests/kernels/guarded.h"
#include "tests/kernels/levels.h"

enum { MAX_DIM = KV_MAX_HEAD_DIM };

static const size_t head_dims[] = { 16, 32, 48, 64, 80, 96, 112, 128, 256, MAX_DIM };
enum { N_HEAD_DIMS = sizeof(head_dims) / sizeof(head_dims[0]) };

/* A chunk whose positions lo .. hi - 1 are stored, over stale bytes: now NaN in every type (of q8 the scales), now numbers. */
struct chunk {
    void *k, *v;
    float key[KV_CHUNK][MAX_DIM], value[KV_CHUNK][MAX_DIM];     /* as stored: rounded to the type */
};

static void *stale(size_t bytes, bool is_nan)
{
    void *p = guarded(bytes);
    memset(p, is_nan ? 0xff : 0xc1, bytes);
    return p;
}

/* x[head_dim] as it comes back from a chunk. */
static void as_stored(enum kv_type type, float *x, size_t head_dim)
{
    for (size_t d = 0; type == KV_BF16 && d < head_dim; d++)
        x[d] = bf16_to_float(bf16_from_float(x[d]));
    for (size_t d = 0; type == KV_Q8 && d < head_dim; d += 32) {
        const size_t n = head_dim - d < 32 ? head_dim - d : 32;
        float absmax = 0;
        for (size_t i = d; i < d + n; i++)
            absmax = fmaxf(absmax, fabsf(x[i]));
        const float scale = half_to_float(half_from_float(absmax / 127));
        for (size_t i = d; i < d + n; i++)
            x[i] = scale > 0 ? scale * fmaxf(-127, fminf(127, rintf(x[i] * (1 / scale)))) : 0;
    }
}

static void fill_chunk(struct chunk *c, const struct kernels *t, enum kv_type type, size_t lo, size_t hi, size_t head_dim,
                       struct rng *rng)
{
    const bool is_nan = rng_below(rng, 2);

    c->k = stale(kv_chunk_bytes(type, head_dim), is_nan);
    c->v = stale(kv_chunk_bytes(type, head_dim), is_nan);
    for (size_t j = lo; j < hi; j++) {
        for (size_t d = 0; d < head_dim; d++) {
            c->key[j][d] = rng_float(rng, -2, 2);
            c->value[j][d] = rng_float(rng, -2, 2);
        }
        t->kv_store[type](c->k, c->v, (unsigned)j, c->key[j], c->value[j], head_dim);
        as_stored(type, c->key[j], head_dim);
        as_stored(type, c->value[j], head_dim);
    }
}

/* Queries, ranges and results of one call; results lie before guard pages. */
struct batch {
    const float *q[ATTEND_MAX_Q];
    uint8_t lo[ATTEND_MAX_Q], hi[ATTEND_MAX_Q];
    float *out, *max, *sum;
};

static void new_results(struct batch *b, size_t n_q, size_t head_dim)
{
    b->out = guarded(n_q * head_dim * sizeof(float));
    b->max = guarded(n_q * sizeof(float));
    b->sum = guarded(n_q * sizeof(float));
}

static void random_batch(struct batch *b, size_t n_q, size_t head_dim, struct rng *rng)
{
    const uint32_t kind = rng_below(rng, 6);

    for (size_t i = 0; i < n_q; i++) {
        float *q = guarded((head_dim * sizeof(float) + 63) / 64 * 64);
        const bool tiny = rng_below(rng, 8) == 0;       /* scores are zeros of either sign */
        for (size_t d = 0; d < head_dim; d++)
            q[d] = tiny ? (d < 2 ? -1e-45f : 0) : rng_float(rng, -2, 2);
        b->q[i] = q;
        b->lo[i] = 0;
        b->hi[i] = KV_CHUNK;
        if (kind == 1) {                /* the chunk that is being written: one more position every few queries */
            b->hi[i] = (uint8_t)(20 + i / 3);
        } else if (kind == 2) {         /* a sliding window's first chunk */
            b->lo[i] = (uint8_t)(37 + i / 2);
        } else if (kind == 3) {         /* both ends inside, and sometimes one position or none */
            b->lo[i] = (uint8_t)rng_below(rng, 65);
            b->hi[i] = (uint8_t)(b->lo[i] + rng_below(rng, 65u - b->lo[i]));
        } else if (kind == 4) {
            b->lo[i] = (uint8_t)(i % 2 ? 3 : 60);
            b->hi[i] = (uint8_t)(i % 3 ? 63 : 1);
        } else if (kind == 5) {
            b->hi[i] = (uint8_t)(1 + i);
        }
    }
    new_results(b, n_q, head_dim);
}

static struct attend_args args_of(const struct batch *b, const struct chunk *c, size_t n_q, size_t head_dim, float softcap)
{
    return (struct attend_args){ .k = c->k, .v = c->v, .q = b->q, .lo = b->lo, .hi = b->hi, .out = b->out, .max = b->max,
                                 .sum = b->sum, .n_q = n_q, .head_dim = head_dim, .scale = 1 / sqrtf((float)head_dim),
                                 .softcap = softcap };
}

static void range_of_all(const struct batch *b, size_t n_q, size_t *lo, size_t *hi)
{
    *lo = KV_CHUNK;
    *hi = 0;
    for (size_t i = 0; i < n_q; i++) {
        if (b->lo[i] < b->hi[i]) {
            *lo = b->lo[i] < *lo ? b->lo[i] : *lo;
            *hi = b->hi[i] > *hi ? b->hi[i] : *hi;
        }
    }
}

static void compare_attend(const struct kernels *ref, const struct kernels *opt)
{
    static struct chunk c;
    struct rng rng;

    rng_seed(&rng, 1);
    for (size_t round = 0; round < 600; round++) {
        const enum kv_type type = round % KV_TYPE_COUNT;
        const size_t head_dim = head_dims[rng_below(&rng, N_HEAD_DIMS)], n_q = 1 + rng_below(&rng, ATTEND_MAX_Q);
        struct batch want, got;
        size_t lo, hi;

        random_batch(&want, n_q, head_dim, &rng);
        range_of_all(&want, n_q, &lo, &hi);
        fill_chunk(&c, ref, type, lo, hi, head_dim, &rng);
        got = want;
        new_results(&got, n_q, head_dim);
        const float softcap = rng_below(&rng, 3) ? 0 : 5;
        struct attend_args args = args_of(&want, &c, n_q, head_dim, softcap);
        ref->attend[type](&args);
        args = args_of(&got, &c, n_q, head_dim, softcap);
        opt->attend[type](&args);
        CHECK_SAME_FLOATS(got.max, want.max, n_q, "type=%d head_dim=%zu n_q=%zu round=%zu", type, head_dim, n_q, round);
        CHECK_SAME_FLOATS(got.sum, want.sum, n_q, "type=%d head_dim=%zu n_q=%zu round=%zu", type, head_dim, n_q, round);
        CHECK_SAME_FLOATS(got.out, want.out, n_q * head_dim, "type=%d head_dim=%zu n_q=%zu round=%zu", type, head_dim, n_q,
                          round);
        for (size_t i = 0; i < n_q * head_dim; i++)
            assert_true(isfinite(got.out[i]));          /* the stale bytes may be NaN */
        guarded_free_all();
    }
}

/* One query alone gives the bits that it gives among others: neither batch mates nor their ranges show. */
static void compare_alone(const struct kernels *ref, const struct kernels *opt)
{
    static struct chunk c;
    struct rng rng;

    rng_seed(&rng, 2);
    for (size_t round = 0; round < 200; round++) {
        const enum kv_type type = round % KV_TYPE_COUNT;
        const size_t head_dim = head_dims[rng_below(&rng, N_HEAD_DIMS)], n_q = 1 + rng_below(&rng, ATTEND_MAX_Q);
        struct batch all;

        fill_chunk(&c, ref, type, 0, KV_CHUNK, head_dim, &rng);
        random_batch(&all, n_q, head_dim, &rng);
        struct attend_args args = args_of(&all, &c, n_q, head_dim, 0);
        opt->attend[type](&args);
        for (size_t i = 0; i < n_q; i++) {
            struct batch one = { .q = { all.q[i] }, .lo = { all.lo[i] }, .hi = { all.hi[i] } };
            new_results(&one, 1, head_dim);
            args = args_of(&one, &c, 1, head_dim, 0);
            opt->attend[type](&args);
            CHECK_SAME_FLOATS(one.out, all.out + i * head_dim, head_dim, "alone: round=%zu query=%zu", round, i);
            CHECK_SAME_FLOATS(one.sum, all.sum + i, 1, "alone: round=%zu query=%zu", round, i);
            CHECK_SAME_FLOATS(one.max, all.max + i, 1, "alone: round=%zu query=%zu", round, i);
        }
        guarded_free_all();
    }
}

static void compare_store(const struct kernels *ref, const struct kernels *opt)
{
    struct rng rng;

    rng_seed(&rng, 3);
    for (size_t round = 0; round < 200; round++) {
        const enum kv_type type = round % KV_TYPE_COUNT;
        const size_t head_dim = head_dims[rng_below(&rng, N_HEAD_DIMS)], bytes = kv_chunk_bytes(type, head_dim);
        const float size = round % 2 ? 0 : powf(2, rng_float(&rng, -60, 30));      /* else any bytes: NaN and infinity among them */
        void *k[2] = { stale(bytes, true), stale(bytes, true) }, *v[2] = { stale(bytes, true), stale(bytes, true) };
        float *key = guarded(head_dim * sizeof(*key)), *value = guarded(head_dim * sizeof(*value));

        for (size_t stores = 0; stores < 5; stores++) {         /* at any place; the other bytes stay as they were */
            const unsigned position = rng_below(&rng, KV_CHUNK);
            rng_bytes(&rng, key, head_dim * sizeof(*key));
            rng_bytes(&rng, value, head_dim * sizeof(*value));
            for (size_t d = 0; size > 0 && d < head_dim; d++) {
                key[d] = size * rng_float(&rng, -1, 1);
                value[d] = size * rng_float(&rng, -1, 1);
            }
            ref->kv_store[type](k[0], v[0], position, key, value, head_dim);
            opt->kv_store[type](k[1], v[1], position, key, value, head_dim);
        }
        assert_memory_equal(k[1], k[0], bytes);
        assert_memory_equal(v[1], v[0], bytes);
        guarded_free_all();
    }
}

static void compare_merge(const struct kernels *ref, const struct kernels *opt)
{
    struct rng rng;

    rng_seed(&rng, 4);
    for (size_t round = 0; round < 200; round++) {
        const size_t head_dim = head_dims[rng_below(&rng, N_HEAD_DIMS)], n_q = 1 + rng_below(&rng, ATTEND_MAX_Q), n = n_q * head_dim;
        float *o[2] = { guarded(n * 4), guarded(n * 4) }, *oc = guarded(n * 4), *mc = guarded(n_q * 4), *lc = guarded(n_q * 4);
        float *m[2] = { guarded(n_q * 4), guarded(n_q * 4) }, *l[2] = { guarded(n_q * 4), guarded(n_q * 4) };
        bool filled[ATTEND_MAX_Q];

        for (size_t i = 0; i < n_q; i++) {
            const bool empty = rng_below(&rng, 8) == 0, later_empty = rng_below(&rng, 8) == 0;
            filled[i] = !empty || !later_empty;
            m[0][i] = m[1][i] = empty ? NAN : rng_float(&rng, -90, 90);     /* of an empty side nothing but the sum is read */
            l[0][i] = l[1][i] = empty ? 0 : rng_float(&rng, 1, 64);
            mc[i] = later_empty ? NAN : rng_float(&rng, -90, 90);
            lc[i] = later_empty ? 0 : rng_float(&rng, 1, 64);
            for (size_t d = i * head_dim; d < (i + 1) * head_dim; d++) {
                o[0][d] = o[1][d] = empty ? NAN : rng_float(&rng, -50, 50);
                oc[d] = later_empty ? NAN : rng_float(&rng, -50, 50);
            }
        }
        ref->attend_merge(m[0], l[0], o[0], mc, lc, oc, n_q, head_dim);
        opt->attend_merge(m[1], l[1], o[1], mc, lc, oc, n_q, head_dim);
        CHECK_SAME_FLOATS(m[1], m[0], n_q, "merge round=%zu", round);
        CHECK_SAME_FLOATS(l[1], l[0], n_q, "merge round=%zu", round);
        CHECK_SAME_FLOATS(o[1], o[0], n, "merge round=%zu", round);
        for (size_t i = 0; i < n_q; i++) {
            float *out[2] = { o[0] + i * head_dim, o[1] + i * head_dim };
            assert_true(!filled[i] || (isfinite(m[1][i]) && isfinite(l[1][i]) && isfinite(out[1][0])));
            ref->attend_finish(out[0], out[0], l[0][i], head_dim);
            opt->attend_finish(out[1], out[1], l[1][i], head_dim);
        }
        CHECK_SAME_FLOATS(o[1], o[0], n, "finish round=%zu", round);
        guarded_free_all();
    }
}

static void levels_agree_on_attention(void **state) { (void)state; at_every_level(compare_attend); }
static void batch_mates_change_nothing(void **state) { (void)state; at_every_level(compare_alone); }
static void levels_agree_on_stores(void **state) { (void)state; at_every_level(compare_store); }
static void levels_agree_on_merges(void **state) { (void)state; at_every_level(compare_merge); }

/* softmax(scale q k) v over positions first .. end - 1 of consecutive chunks */
static void softmax_attention(double *out, const float *q, const struct chunk *chunks, size_t first, size_t end, size_t head_dim,
                              double softcap)
{
    double *s = malloc(end * sizeof(*s)), max = -INFINITY, sum = 0;

    for (size_t j = first; j < end; j++) {
        s[j] = 0;
        for (size_t d = 0; d < head_dim; d++)
            s[j] += (double)q[d] * (double)chunks[j / KV_CHUNK].key[j % KV_CHUNK][d];
        s[j] /= sqrt((double)head_dim);
        if (softcap > 0)
            s[j] = softcap * tanh(s[j] / softcap);
        max = fmax(max, s[j]);
    }
    memset(out, 0, head_dim * sizeof(*out));
    for (size_t j = first; j < end; j++) {
        const double p = exp(s[j] - max);
        sum += p;
        for (size_t d = 0; d < head_dim; d++)
            out[d] += p * (double)chunks[j / KV_CHUNK].value[j % KV_CHUNK][d];
    }
    for (size_t d = 0; d < head_dim; d++)
        out[d] /= sum;
    free(s);
}

static void merged_chunks_are_softmax_attention(void **state)
{
    (void)state;
    enum { N_CHUNKS = 5 };
    static struct chunk chunks[N_CHUNKS];
    struct kernels t;
    struct rng rng;

    rng_seed(&rng, 5);
    for (enum isa level = ISA_SCALAR; level <= best_level(); level++) {
        kernels_fill(&t, level);
        for (size_t round = 0; round < 60; round++) {
            const enum kv_type type = round % KV_TYPE_COUNT;
            const bool bf16_dots = level >= ISA_AVX512BF16 && type == KV_BF16;
            const size_t head_dim = head_dims[round % N_HEAD_DIMS], n_q = 1 + round % ATTEND_MAX_Q;
            const float softcap = round % 5 == 0 ? 3 : 0;
            const size_t n_chunks = 1 + rng_below(&rng, N_CHUNKS), window = round % 3 == 0 ? 70 : 1000;
            /* query i stands at the end of the sequence, at position last - i / 2, and sees `window` positions up to its own */
            const size_t last = n_chunks * KV_CHUNK - 1 - rng_below(&rng, 50);
            float o[ATTEND_MAX_Q * MAX_DIM] = { 0 }, m[ATTEND_MAX_Q] = { 0 }, l[ATTEND_MAX_Q] = { 0 };
            struct batch b;

            for (size_t c = 0; c < n_chunks; c++)
                fill_chunk(&chunks[c], &t, type, 0, c == n_chunks - 1 ? last % KV_CHUNK + 1 : KV_CHUNK, head_dim, &rng);
            random_batch(&b, n_q, head_dim, &rng);
            for (size_t c = 0; c < n_chunks; c++) {
                for (size_t i = 0; i < n_q; i++) {
                    const size_t end = last - i / 2 + 1, first = end > window ? end - window : 0, base = c * KV_CHUNK;
                    b.lo[i] = (uint8_t)(first <= base ? 0 : first >= base + KV_CHUNK ? KV_CHUNK : first - base);
                    b.hi[i] = (uint8_t)(end <= base ? 0 : end >= base + KV_CHUNK ? KV_CHUNK : end - base);
                }
                struct attend_args args = args_of(&b, &chunks[c], n_q, head_dim, softcap);
                t.attend[type](&args);
                t.attend_merge(m, l, o, b.max, b.sum, b.out, n_q, head_dim);
            }
            for (size_t i = 0; i < n_q; i++) {
                const size_t end = last - i / 2 + 1;
                double want[MAX_DIM], bound = 5e-6;
                float q[MAX_DIM];
                for (size_t d = 0; d < head_dim; d++)
                    q[d] = bf16_dots ? bf16_to_float(bf16_from_float(b.q[i][d])) : b.q[i][d];
                softmax_attention(want, q, chunks, end > window ? end - window : 0, end, head_dim, (double)softcap);
                if (bf16_dots)
                    bound += 2 * 0x1p-9;        /* each p is rounded to 8 bits, relatively 2^-9; |v| <= 2 */
                float *out = o + i * head_dim;
                t.attend_finish(out, out, l[i], head_dim);
                for (size_t d = 0; d < head_dim; d++) {
                    if (!(fabs((double)out[d] - want[d]) < bound))
                        fail_msg("%g, not %g: level=%s type=%d head_dim=%zu query=%zu round=%zu", (double)out[d], want[d],
                                 isa_name(level), type, head_dim, i, round);
                }
            }
            guarded_free_all();
        }
    }
}

/* Also what q8 cannot hold: infinity, and numbers whose scale overflows in half. */
static void a_nan_in_use_is_not_lost(void **state)
{
    (void)state;
    static const float bad[] = { NAN, -NAN, INFINITY, -INFINITY, 8.4e6f, -3e38f };
    static struct chunk c;
    struct kernels t;
    struct rng rng;

    rng_seed(&rng, 6);
    for (enum isa level = ISA_SCALAR; level <= best_level(); level++) {
        kernels_fill(&t, level);
        for (size_t round = 0; round < 60; round++) {
            const enum kv_type type = round % KV_TYPE_COUNT;
            const size_t position = rng_below(&rng, KV_CHUNK);
            const bool in_key = rng_below(&rng, 2);
            struct batch b;
            float m = 1, l = 2, o[48] = { 0 };

            fill_chunk(&c, &t, type, 0, KV_CHUNK, 48, &rng);
            (in_key ? c.key : c.value)[position][37] = bad[type == KV_Q8 ? rng_below(&rng, 6) : rng_below(&rng, 2)];
            t.kv_store[type](c.k, c.v, (unsigned)position, c.key[position], c.value[position], 48);
            random_batch(&b, 1, 48, &rng);
            b.lo[0] = 0;
            b.hi[0] = KV_CHUNK;
            struct attend_args args = args_of(&b, &c, 1, 48, 0);
            t.attend[type](&args);
            assert_true(isnan(b.out[37]) && (isnan(b.sum[0]) || !in_key));
            t.attend_merge(&m, &l, o, b.max, b.sum, b.out, 1, 48);
            assert_true(isnan(o[37]) && (isnan(l) || !in_key));
            guarded_free_all();
        }
    }
}

/* What a block of q8 holds, in bytes: the scale's rounding, its limits, and quants that a rounded scale would put beyond 127. */
static void q8_blocks_have_the_bytes_of_their_definition(void **state)
{
    (void)state;
    static const struct { float x[3]; half scale; int8_t q[3]; } blocks[] = {
        { { 127, -1, 0.5f }, 0x3c00, { 127, -1, 0 } },                          /* scale 1; ties to even */
        { { -127, 1.5f, 2.5f }, 0x3c00, { -127, 2, 2 } },
        { { 0, -0.0f, 0 }, 0, { 0, 0, 0 } },
        { { 1e-45f, -1e-40f, 3.7e-6f }, 0, { 0, 0, 0 } },                       /* 3.7e-6 / 127 is less than 2^-25 */
        { { 127 * 0x1p-24f, 0x1p-24f, -0x1p-23f }, 1, { 127, 1, -2 } },         /* the least scale */
        { { 127 * 0x1.7p-24f, 0x1.7p-24f, -190 * 0x1p-24f }, 1, { 127, 1, -127 } },     /* 1.496 units: rounded down, quants end at 127 */
        { { 8.32e6f, -8.32e6f, 65472 }, 0x7bff, { 127, -127, 1 } },             /* near the largest scale */
        { { 8.33e6f, 1, 1 }, 0x7e00, { 0, 0, 0 } },
        { { INFINITY, 1, 1 }, 0x7e00, { 0, 0, 0 } },
        { { NAN, -INFINITY, 1 }, 0x7e00, { 0, 0, 0 } },
        { { -NAN, 0, 1e-45f }, 0x7e00, { 0, 0, 0 } },
    };
    struct kernels t;

    for (enum isa level = ISA_SCALAR; level <= best_level(); level++) {
        kernels_fill(&t, level);
        for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
            const size_t head_dim = 48, bytes = kv_chunk_bytes(KV_Q8, head_dim);
            int8_t *k = stale(bytes, true), *v = stale(bytes, true);
            float *x = guarded(head_dim * sizeof(*x));
            const half *k_scale = (half *)(k + KV_CHUNK * head_dim), *v_scale = (half *)(v + KV_CHUNK * head_dim);
            const size_t at[] = { 3, 31, 16 };

            assert_int_equal(bytes, KV_CHUNK * (48 + 2 * 2));
            memset(x, 0, head_dim * sizeof(*x));
            for (size_t j = 0; j < 3; j++)
                x[at[j]] = blocks[i].x[j];
            x[40] = 127;                                    /* the other block has a scale of its own */
            t.kv_store[KV_Q8](k, v, 9, x, x, head_dim);
            for (size_t j = 0; j < 3; j++) {
                assert_int_equal(k[at[j] * KV_CHUNK + 9], blocks[i].q[j]);
                assert_int_equal(v[9 * head_dim + at[j]], blocks[i].q[j]);
            }
            assert_int_equal(k_scale[9], blocks[i].scale);
            assert_int_equal(v_scale[2 * 9], blocks[i].scale);
            assert_int_equal(k_scale[KV_CHUNK + 9], 0x3c00);
            assert_int_equal(v_scale[2 * 9 + 1], 0x3c00);
            assert_int_equal(k[40 * KV_CHUNK + 9], 127);
            guarded_free_all();
        }
    }
}

static void nothing_attended_gives_zeros(void **state)
{
    (void)state;
    static struct chunk c;
    struct kernels t;
    struct rng rng;

    rng_seed(&rng, 7);
    for (size_t round = 0; round < KV_TYPE_COUNT * ((size_t)best_level() + 1); round++) {
        const enum kv_type type = round % KV_TYPE_COUNT;
        struct batch b;
        kernels_fill(&t, (enum isa)(round / KV_TYPE_COUNT));
        fill_chunk(&c, &t, type, 0, 0, 32, &rng);
        random_batch(&b, 2, 32, &rng);
        b.lo[0] = b.lo[1] = 9;
        b.hi[0] = 9;
        b.hi[1] = 3;
        struct attend_args args = args_of(&b, &c, 2, 32, 0);
        t.attend[type](&args);
        for (size_t i = 0; i < 64; i++)
            assert_true(b.out[i] == 0);
        assert_true(b.max[0] == -INFINITY && b.sum[0] == 0 && b.max[1] == -INFINITY && b.sum[1] == 0);
        t.attend_finish(b.out, b.out, 0, 32);
        assert_true(b.out[0] == 0 && b.out[31] == 0);
        new_results(&b, 0, 32);                         /* no queries: nothing is written */
        args = args_of(&b, &c, 0, 32, 0);
        t.attend[type](&args);
        guarded_free_all();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_chunks_are_softmax_attention),
        cmocka_unit_test(a_nan_in_use_is_not_lost),
        cmocka_unit_test(q8_blocks_have_the_bytes_of_their_definition),
        cmocka_unit_test(nothing_attended_gives_zeros),
        cmocka_unit_test(levels_agree_on_attention),
        cmocka_unit_test(batch_mates_change_nothing),
        cmocka_unit_test(levels_agree_on_stores),
        cmocka_unit_test(levels_agree_on_merges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
