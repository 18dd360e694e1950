/*
 * scalar/attention.c - attention over one chunk of 64 positions, and the merge of chunks: the definition.
 *
 * The partial results of chunks are merged as in Milakov and Gimelshein, "Online normalizer calculation for softmax",
 * 2018, arXiv:1805.02867, always first chunk to last, so that neither batch nor thread count changes a bit.
 */
#include <math.h>
#include <string.h>
#include <xmmintrin.h>

#include "kernels/kernels_internal.h"
#include "kernels/scalar/reduce.h"
#include "kernels/scalar/vec.h"

#include "kernels/functions.h"

size_t kv_chunk_bytes(enum kv_type type, size_t head_dim)
{
    switch (type) {
    case KV_BF16:
        return KV_CHUNK * head_dim * sizeof(bf16);
    case KV_Q8:
        return KV_CHUNK * (head_dim + kv_q8_blocks(head_dim) * sizeof(half));
    default:
        return KV_CHUNK * head_dim * sizeof(float);
    }
}

/* Index of element (position, dim) in a chunk's keys and values; kernels.h has the layouts. */
static inline size_t key_index(enum kv_type type, size_t position, size_t dim)
{
    return type == KV_BF16 ? (dim / 2 * KV_CHUNK + position) * 2 + dim % 2 : dim * KV_CHUNK + position;
}

static inline size_t value_index(enum kv_type type, size_t position, size_t dim, size_t head_dim)
{
    return type == KV_BF16 ? (position / 2 * head_dim + dim) * 2 + position % 2 : position * head_dim + dim;
}

static inline float load(enum kv_type type, const void *p, size_t index)
{
    return type == KV_BF16 ? bf16_to_float(((const bf16 *)p)[index]) : ((const float *)p)[index];
}

static void kv_store_bf16(void *k_chunk, void *v_chunk, unsigned position, const float *k, const float *v, size_t head_dim)
{
    bf16 *keys = k_chunk, *values = v_chunk;

    for (size_t d = 0; d < head_dim; d++) {
        keys[key_index(KV_BF16, position, d)] = bf16_from_float(k[d]);
        values[value_index(KV_BF16, position, d, head_dim)] = bf16_from_float(v[d]);
    }
}

static void kv_store_f32(void *k_chunk, void *v_chunk, unsigned position, const float *k, const float *v, size_t head_dim)
{
    float *keys = k_chunk, *values = v_chunk;

    for (size_t d = 0; d < head_dim; d++) {
        keys[key_index(KV_F32, position, d)] = k[d];
        values[value_index(KV_F32, position, d, head_dim)] = v[d];
    }
}

/* Blocks of k (scales [block][position]) or v ([position][block]) of one position. */
static void store_q8(void *chunk, unsigned position, const float *x, size_t head_dim, bool keys)
{
    int8_t *quants = chunk;
    half *scales = kv_q8_scales(chunk, head_dim);

    for (size_t b = 0; b < kv_q8_blocks(head_dim); b++) {
        const size_t begin = b * KV_Q8_BLOCK, end = begin + KV_Q8_BLOCK < head_dim ? begin + KV_Q8_BLOCK : head_dim;
        uint32_t absmax_bits = 0;       /* the integer order of the bits puts NaN above infinity */
        float absmax, inverse;

        for (size_t d = begin; d < end; d++) {
            uint32_t bits;
            memcpy(&bits, &x[d], sizeof(bits));
            bits &= 0x7fffffff;
            absmax_bits = bits > absmax_bits ? bits : absmax_bits;
        }
        memcpy(&absmax, &absmax_bits, sizeof(absmax));
        scales[keys ? b * KV_CHUNK + position : position * kv_q8_blocks(head_dim) + b] = kv_q8_scale(absmax, &inverse);
        for (size_t d = begin; d < end; d++) {
            const float q = inverse > 0 ? fmaxf(fminf(x[d] * inverse, 127), -127) : 0;
            quants[keys ? key_index(KV_Q8, position, d) : value_index(KV_Q8, position, d, head_dim)] = (int8_t)lrintf(q);
        }
    }
}

static void kv_store_q8(void *k_chunk, void *v_chunk, unsigned position, const float *k, const float *v, size_t head_dim)
{
    store_q8(k_chunk, position, k, head_dim, true);
    store_q8(v_chunk, position, v, head_dim, false);
}

static inline float load_q8(const void *chunk, size_t index, size_t scale, size_t head_dim)
{
    return half_to_float(kv_q8_scales(chunk, head_dim)[scale]) * (float)((const int8_t *)chunk)[index];
}

static inline float load_key(enum kv_type type, const void *k, size_t position, size_t dim, size_t head_dim)
{
    const size_t index = key_index(type, position, dim);
    return type == KV_Q8 ? load_q8(k, index, dim / KV_Q8_BLOCK * KV_CHUNK + position, head_dim) : load(type, k, index);
}

static inline float load_value(enum kv_type type, const void *v, size_t position, size_t dim, size_t head_dim)
{
    const size_t index = value_index(type, position, dim, head_dim);
    return type == KV_Q8 ? load_q8(v, index, position * kv_q8_blocks(head_dim) + dim / KV_Q8_BLOCK, head_dim) : load(type, v, index);
}

/* p[lo .. hi - 1] from scores to probabilities. */
static inline void softmax(const struct attend_args *args, size_t query, float p[KV_CHUNK])
{
    const size_t lo = args->lo[query], hi = args->hi[query];
    float partial[16] = { 0 }, max = -INFINITY;

    for (size_t j = lo; j < hi; j++) {
        p[j] *= args->scale;
        if (args->softcap > 0)
            p[j] = args->softcap * vec_tanh(p[j] / args->softcap);
        max = vec_max(p[j], max);      /* a NaN stays out of the maximum and comes back in the sum */
    }
    for (size_t j = lo; j < hi; j++) {
        p[j] = vec_exp(p[j] - max);
        partial[j % 16] += p[j];
    }
    args->max[query] = max + 0.0f;  /* one zero: which of -0 and +0 a maximum returns depends on the order */
    args->sum[query] = reduce_sum(partial);
}

static inline void attend_query(enum kv_type type, const struct attend_args *args, size_t query)
{
    const size_t head_dim = args->head_dim, lo = args->lo[query], hi = args->hi[query];
    const float *q = args->q[query];
    float *out = args->out + query * head_dim;
    float p[KV_CHUNK];

    memset(out, 0, head_dim * sizeof(*out));
    for (size_t j = lo; j < hi; j++) {
        p[j] = 0;
        for (size_t d = 0; d < head_dim; d++)
            p[j] = fmaf(q[d], load_key(type, args->k, j, d, head_dim), p[j]);
    }
    softmax(args, query, p);
    for (size_t j = lo; j < hi; j++)
        for (size_t d = 0; d < head_dim; d++)
            out[d] = fmaf(p[j], load_value(type, args->v, j, d, head_dim), out[d]);
}

static inline float rounded(float x)
{
    return bf16_to_float(bf16_from_float(x));
}

/* Not inlined: their arithmetic must stay between the two changes of MXCSR. */
static __attribute__((noinline)) void scores_by_pairs(const struct attend_args *args, size_t query, float s[KV_CHUNK])
{
    const float *q = args->q[query];

    for (size_t j = args->lo[query]; j < args->hi[query]; j++) {
        s[j] = 0;
        for (size_t d = 0; d < args->head_dim; d += 2) {
            s[j] = fmaf(rounded(q[d + 1]), load(KV_BF16, args->k, key_index(KV_BF16, j, d + 1)), s[j]);
            s[j] = fmaf(rounded(q[d]), load(KV_BF16, args->k, key_index(KV_BF16, j, d)), s[j]);
        }
    }
}

static __attribute__((noinline)) void values_by_pairs(const struct attend_args *args, size_t query, const float p[KV_CHUNK])
{
    const size_t head_dim = args->head_dim, lo = args->lo[query], hi = args->hi[query];
    float *out = args->out + query * head_dim;

    /* Of a pair that is half outside, zero times zero stands for that half: it turns a sum of -0 into +0. */
    for (size_t j = lo & ~(size_t)1; j < hi; j += 2) {
        const float p_odd = j + 1 < hi ? rounded(p[j + 1]) : 0, p_even = j >= lo ? rounded(p[j]) : 0;
        for (size_t d = 0; d < head_dim; d++) {
            const float v_odd = j + 1 < hi ? load(KV_BF16, args->v, value_index(KV_BF16, j + 1, d, head_dim)) : 0;
            const float v_even = j >= lo ? load(KV_BF16, args->v, value_index(KV_BF16, j, d, head_dim)) : 0;
            out[d] = fmaf(p_even, v_even, fmaf(p_odd, v_odd, out[d]));
        }
    }
}

/* Tiles of 32 dims, and of 32 positions: even and odd ones apart, then both together, added to the sum so far. */
static __attribute__((noinline)) void scores_by_tiles(const struct attend_args *args, size_t query, float s[KV_CHUNK])
{
    const float *q = args->q[query];

    for (size_t j = args->lo[query]; j < args->hi[query]; j++) {
        s[j] = 0;
        for (size_t first = 0; first < args->head_dim; first += 32) {
            float even = 0, odd = 0;
            for (size_t d = first; d < first + 32 && d < args->head_dim; d += 2) {
                even = fmaf(rounded(q[d]), load(KV_BF16, args->k, key_index(KV_BF16, j, d)), even);
                odd = fmaf(rounded(q[d + 1]), load(KV_BF16, args->k, key_index(KV_BF16, j, d + 1)), odd);
            }
            s[j] += even + odd;
        }
    }
}

static __attribute__((noinline)) void values_by_tiles(const struct attend_args *args, size_t query, const float p[KV_CHUNK])
{
    const size_t head_dim = args->head_dim, lo = args->lo[query], hi = args->hi[query];
    float *out = args->out + query * head_dim;

    for (size_t d = 0; d < head_dim; d++) {
        for (size_t first = 0; first < KV_CHUNK; first += 32) {
            float sum[2] = { 0, 0 };
            for (size_t j = lo > first ? lo : first; j < hi && j < first + 32; j++)
                sum[j % 2] = fmaf(rounded(p[j]), load(KV_BF16, args->v, value_index(KV_BF16, j, d, head_dim)), sum[j % 2]);
            out[d] += sum[0] + sum[1];
        }
        out[d] += 0.0f;         /* one zero: whether positions outside count as zeros must not show */
    }
}

typedef void (*scores_fn)(const struct attend_args *args, size_t query, float s[KV_CHUNK]);
typedef void (*values_fn)(const struct attend_args *args, size_t query, const float p[KV_CHUNK]);

static void attend_rounded(const struct attend_args *args, scores_fn scores, values_fn values)
{
    const unsigned csr = _mm_getcsr();
    float p[KV_CHUNK];

    memset(args->out, 0, args->n_q * args->head_dim * sizeof(*args->out));
    for (size_t i = 0; i < args->n_q; i++) {
        _mm_setcsr(csr | MXCSR_DAZ_FTZ);
        scores(args, i, p);
        _mm_setcsr(csr);
        softmax(args, i, p);
        _mm_setcsr(csr | MXCSR_DAZ_FTZ);
        values(args, i, p);
        _mm_setcsr(csr);
    }
}

static void attend_bf16_dots(const struct attend_args *args)
{
    attend_rounded(args, scores_by_pairs, values_by_pairs);
}

void attend_scalar_tiles(const struct attend_args *args)
{
    attend_rounded(args, scores_by_tiles, values_by_tiles);
}

static void attend_bf16(const struct attend_args *args)
{
    for (size_t i = 0; i < args->n_q; i++)
        attend_query(KV_BF16, args, i);
}

static void attend_f32(const struct attend_args *args)
{
    for (size_t i = 0; i < args->n_q; i++)
        attend_query(KV_F32, args, i);
}

static void attend_q8(const struct attend_args *args)
{
    for (size_t i = 0; i < args->n_q; i++)
        attend_query(KV_Q8, args, i);
}

static void merge_query(float *m, float *l, float *o, float mc, float lc, const float *oc, size_t head_dim)
{
    if (lc == 0)
        return;
    if (*l == 0) {
        *m = mc;
        *l = lc;
        memcpy(o, oc, head_dim * sizeof(*o));
        return;
    }
    float max = vec_max(mc, *m), a = vec_exp(*m - max), b = vec_exp(mc - max);
    *m = max;
    *l = fmaf(*l, a, lc * b);
    for (size_t d = 0; d < head_dim; d++)
        o[d] = fmaf(o[d], a, oc[d] * b);
}

static void attend_merge(float *m, float *l, float *o, const float *mc, const float *lc, const float *oc, size_t n_q, size_t head_dim)
{
    for (size_t i = 0; i < n_q; i++)
        merge_query(m + i, l + i, o + i * head_dim, mc[i], lc[i], oc + i * head_dim, head_dim);
}

static void attend_finish(float *out, const float *o, float l, size_t head_dim)
{
    for (size_t d = 0; d < head_dim; d++)
        out[d] = l == 0 ? 0 : o[d] / l;
}

void attention_scalar_bf16_dots(struct kernels *table)
{
    table->attend[KV_BF16] = attend_bf16_dots;
}

void attention_scalar_tiles(struct kernels *table)
{
    table->attend[KV_BF16] = attend_scalar_tiles;
}

void attention_scalar(struct kernels *table)
{
    table->kv_store[KV_BF16] = kv_store_bf16;
    table->kv_store[KV_F32] = kv_store_f32;
    table->kv_store[KV_Q8] = kv_store_q8;
    table->attend[KV_BF16] = attend_bf16;
    table->attend[KV_F32] = attend_f32;
    table->attend[KV_Q8] = attend_q8;
    table->attend_merge = attend_merge;
    table->attend_finish = attend_finish;
}
