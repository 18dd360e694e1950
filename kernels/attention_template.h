/*
 * attention_template.h - attention over one chunk for a level's vec.h. scalar/attention.c is the definition.
 *
 * Scores and values are one operation: out[i][lane] = chain over rows of fma(x[i][row], m[row][lane], out[i][lane]). For scores
 * the rows of m are dims and its lanes positions, for values the rows are positions and the lanes dims, and both lie in memory
 * as pairs of rows (bf16) or as rows (float32, int8). A tile holds the accumulators of several queries in registers, so that m is
 * read and widened once for all of them.
 *
 * While K is used V is fetched, and while V is used the next chunk's K: chunks of one head do not lie side by side, so the hardware
 * starts anew at each. One core of Zen 5 at avx512, 4 queries, 128 chunks of 64 dims from memory: 9.9 to 14.8 GB/s of q8, 14.4 to 28.6
 * of bf16; from cache q8 gives 16.4.
 */
#include <math.h>
#include <string.h>

#include "kernels/functions.h"
#include "kernels/kernels_internal.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* How m lies; int8 has scales, which for keys stand a block of rows and a lane, for values a row and a block of lanes. */
enum form { PAIRS_BF16, ROWS_F32, KEYS_Q8, VALUES_Q8 };

struct product {
    const void *m;              /* bf16 m[][row_length][2], float or int8 m[][row_length] */
    const float *scale;         /* of int8: [row / 32][row_length] or [row][row_length / 32, rounded up] */
    size_t row_length;
    size_t first, end;          /* rows; others are not used */
    const float *const *x;      /* one row of coefficients a query */
    float *const *out;
    const char *ahead;          /* what is read after m, fetched meanwhile: so many lines of 64 bytes with each pair of rows */
    size_t ahead_lines;
};

ALWAYS_INLINE vec load_q8(enum form form, const struct product *p, size_t row, size_t lane)
{
    const vec quants = vec_load_int8((const int8_t *)p->m + row * p->row_length + lane);

    if (form == KEYS_Q8)
        return vec_mul(quants, vec_load(p->scale + row / KV_Q8_BLOCK * p->row_length + lane));
    return vec_mul(quants, vec_set(p->scale[row * kv_q8_blocks(p->row_length) + lane / KV_Q8_BLOCK]));
}

ALWAYS_INLINE void load_rows(enum form form, const struct product *p, size_t pair, size_t lane, vec *even, vec *odd)
{
    if (form == PAIRS_BF16) {
        vec_load_bf16_pairs((const bf16 *)p->m + (pair * p->row_length + lane) * 2, even, odd);
    } else if (form == ROWS_F32) {
        const float *row = (const float *)p->m + 2 * pair * p->row_length + lane;
        *even = vec_load(row);
        *odd = vec_load(row + p->row_length);
    } else {
        *even = load_q8(form, p, 2 * pair, lane);
        *odd = load_q8(form, p, 2 * pair + 1, lane);
    }
}

/* n_q queries, n_vecs registers of lanes from `lane`; all but p, query and lane are constants where this is inlined. */
ALWAYS_INLINE void product_tile(enum form form, size_t n_q, size_t n_vecs, const struct product *p, const size_t query[],
                                size_t lane, size_t ahead_lines)
{
    vec sum[TILE_QUERIES][4], even[4], odd[4];
    const float *x[TILE_QUERIES];

#pragma GCC unroll 8
    for (size_t i = 0; i < n_q; i++) {
        x[i] = p->x[query[i]];
#pragma GCC unroll 4
        for (size_t v = 0; v < n_vecs; v++)
            sum[i][v] = vec_load(p->out[query[i]] + lane + v * VEC_LANES);
    }
    for (size_t row = p->first & ~(size_t)1; row < p->end; row += 2) {
        for (size_t i = 0; i < ahead_lines; i++)
            _mm_prefetch(p->ahead + (row / 2 * ahead_lines + i) * 64, _MM_HINT_T0);
#pragma GCC unroll 4
        for (size_t v = 0; v < n_vecs; v++)
            load_rows(form, p, row / 2, lane + v * VEC_LANES, &even[v], &odd[v]);
        if (row >= p->first) {
#pragma GCC unroll 8
            for (size_t i = 0; i < n_q; i++) {
                const vec c = vec_set(x[i][row]);
#pragma GCC unroll 4
                for (size_t v = 0; v < n_vecs; v++)
                    sum[i][v] = vec_fma(c, even[v], sum[i][v]);
            }
        }
        if (row + 1 < p->end) {
#pragma GCC unroll 8
            for (size_t i = 0; i < n_q; i++) {
                const vec c = vec_set(x[i][row + 1]);
#pragma GCC unroll 4
                for (size_t v = 0; v < n_vecs; v++)
                    sum[i][v] = vec_fma(c, odd[v], sum[i][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < n_q; i++) {
#pragma GCC unroll 4
        for (size_t v = 0; v < n_vecs; v++)
            vec_store(p->out[query[i]] + lane + v * VEC_LANES, sum[i][v]);
    }
}

ALWAYS_INLINE void product_lanes(enum form form, size_t n_q, const struct product *p, const size_t query[], size_t lane,
                                 size_t end, size_t ahead_lines)
{
    const size_t n_vecs = TILE_VECS / n_q < 4 ? TILE_VECS / n_q : 4;

    for (; lane + (n_vecs - 1) * VEC_LANES < end; lane += n_vecs * VEC_LANES, ahead_lines = 0)
        product_tile(form, n_q, n_vecs, p, query, lane, ahead_lines);
    for (; lane < end; lane += VEC_LANES, ahead_lines = 0)
        product_tile(form, n_q, 1, p, query, lane, ahead_lines);
}

/* Lanes from `lane`, a multiple of 16, to `end` rounded up to one, of all queries. */
ALWAYS_INLINE void product_all(enum form form, const struct product *p, size_t n_queries, size_t lane, size_t end)
{
    if (p->end <= p->first)
        return;
    for (size_t at = 0; at < n_queries; at += TILE_QUERIES) {
        const size_t left = n_queries - at;
        const size_t ahead_lines = at == 0 ? p->ahead_lines : 0;
        size_t query[TILE_QUERIES];

        /* Five to seven queries are rounded up to eight by repeating the last, which then writes the same result again. */
        for (size_t i = 0; i < TILE_QUERIES; i++)
            query[i] = at + (i < left ? i : left - 1);
        if (left == 1)
            product_lanes(form, 1, p, query, lane, end, ahead_lines);
        else if (left == 2)
            product_lanes(form, 2, p, query, lane, end, ahead_lines);
        else if (left == 3)
            product_lanes(form, 3, p, query, lane, end, ahead_lines);
        else if (TILE_QUERIES == 4 || left == 4)
            product_lanes(form, 4, p, query, lane, end, ahead_lines);
        else
            product_lanes(form, TILE_QUERIES, p, query, lane, end, ahead_lines);
    }
}

static void product_bf16(const struct product *p, size_t n_queries, size_t lane, size_t end)
{
    product_all(PAIRS_BF16, p, n_queries, lane, end);
}

static void product_f32(const struct product *p, size_t n_queries, size_t lane, size_t end)
{
    product_all(ROWS_F32, p, n_queries, lane, end);
}

static void product_keys_q8(const struct product *p, size_t n_queries, size_t lane, size_t end)
{
    product_all(KEYS_Q8, p, n_queries, lane, end);
}

static void product_values_q8(const struct product *p, size_t n_queries, size_t lane, size_t end)
{
    product_all(VALUES_Q8, p, n_queries, lane, end);
}

typedef void (*product_fn)(const struct product *p, size_t n_queries, size_t lane, size_t end);

/* Scores to probabilities in s[64], for positions lo .. hi - 1; all others of the same blocks of 16 become 0. */
ALWAYS_INLINE void softmax_range(float *s, size_t lo, size_t hi, float scale, float softcap, float *max_out, float *sum_out)
{
    const size_t first = lo / VEC_LANES * VEC_LANES;
    vec max = vec_set(-INFINITY), sum = vec_set(0);

#pragma GCC unroll 4
    for (size_t j = first; j < hi; j += VEC_LANES) {
        vec a = vec_mul(vec_load(s + j), vec_set(scale));
        if (softcap > 0)
            a = vec_mul(vec_set(softcap), vec_tanh(vec_div(a, vec_set(softcap))));
        vec_store(s + j, a);
        if (hi - j < VEC_LANES)
            a = vec_select(vmask_first(hi - j), a, vec_set(-INFINITY));
        if (j < lo)
            a = vec_select(vmask_first(lo - j), vec_set(-INFINITY), a);
        max = vec_max(a, max);
    }
    const float largest = vec_largest(max);
#pragma GCC unroll 4
    for (size_t j = first; j < hi; j += VEC_LANES) {
        vec e = vec_exp(vec_sub(vec_load(s + j), vec_set(largest)));
        if (hi - j < VEC_LANES)
            e = vec_select(vmask_first(hi - j), e, vec_set(0));
        if (j < lo)
            e = vec_select(vmask_first(lo - j), vec_set(0), e);
        vec_store(s + j, e);
        sum = vec_add(sum, e);
    }
    *max_out = largest + 0.0f;
    *sum_out = vec_sum(sum);
}

/* Most chunks are whole: without masks and loops they take 4 % less time altogether (4 queries, 64 dims, Zen 5). */
static void softmax(float *s, size_t lo, size_t hi, float scale, float softcap, float *max_out, float *sum_out)
{
    if (lo == 0 && hi == KV_CHUNK && !(softcap > 0))
        softmax_range(s, 0, KV_CHUNK, scale, 0, max_out, sum_out);
    else
        softmax_range(s, lo, hi, scale, softcap, max_out, sum_out);
}

/* Who multiplies by keys and by values, and the scales of either. */
struct reading {
    product_fn keys, values;
    const float *key_scales, *value_scales;
    size_t pair_lines;          /* lines that a pair of rows of 64 lanes fills */
};

static void attend(const struct attend_args *args, const struct reading *r)
{
    const size_t head_dim = args->head_dim;
    float scores[ATTEND_MAX_Q][KV_CHUNK] __attribute__((aligned(64)));
    const float *q[ATTEND_MAX_Q], *p[ATTEND_MAX_Q];
    float *s[ATTEND_MAX_Q], *out[ATTEND_MAX_Q];
    size_t query[ATTEND_MAX_Q], n = 0;
    size_t lowest = KV_CHUNK, highest = 0, all_lo = 0, all_hi = KV_CHUNK;   /* of any query, and of all */

    memset(args->out, 0, args->n_q * head_dim * sizeof(*args->out));
    for (size_t i = 0; i < args->n_q; i++) {
        const size_t lo = args->lo[i], hi = args->hi[i];
        if (lo >= hi) {
            args->max[i] = -INFINITY;
            args->sum[i] = 0;
            continue;
        }
        lowest = lo < lowest ? lo : lowest;
        highest = hi > highest ? hi : highest;
        all_lo = lo > all_lo ? lo : all_lo;
        all_hi = hi < all_hi ? hi : all_hi;
        query[n] = i;
        q[n] = args->q[i];
        p[n] = s[n] = scores[n];
        out[n] = args->out + i * head_dim;
        n++;
    }
    if (all_hi < all_lo)
        all_hi = all_lo;

    struct product keys = { .m = args->k, .scale = r->key_scales, .row_length = KV_CHUNK, .first = 0, .end = head_dim, .x = q, .out = s,
                            .ahead = args->v, .ahead_lines = r->pair_lines };
    memset(scores, 0, n * sizeof(scores[0]));
    r->keys(&keys, n, lowest / VEC_LANES * VEC_LANES, highest);
    for (size_t i = 0; i < n; i++) {
        const size_t to = query[i];
        softmax(scores[i], args->lo[to], args->hi[to], args->scale, args->softcap, &args->max[to], &args->sum[to]);
    }

    /* The positions that all queries share go together. Before and after them each query goes on its own, in order. */
    struct product values = { .m = args->v, .scale = r->value_scales, .row_length = head_dim };
    for (size_t i = 0; i < n; i++) {
        const size_t hi = args->hi[query[i]];
        values.x = p + i;
        values.out = out + i;
        values.first = args->lo[query[i]];
        values.end = hi < all_lo ? hi : all_lo;
        r->values(&values, 1, 0, head_dim);
    }
    values.x = p;
    values.out = out;
    values.first = all_lo;
    values.end = all_hi;
    values.ahead = args->next_k;
    values.ahead_lines = args->next_k ? (r->pair_lines * head_dim + KV_CHUNK - 1) / KV_CHUNK : 0;
    r->values(&values, n, 0, head_dim);
    for (size_t i = 0; i < n; i++) {
        values.x = p + i;
        values.out = out + i;
        values.first = all_hi;
        values.end = args->hi[query[i]];
        r->values(&values, 1, 0, head_dim);
    }
}

static void attend_bf16(const struct attend_args *args)
{
    attend(args, &(struct reading){ .keys = product_bf16, .values = product_bf16, .pair_lines = 4 });
}

static void attend_f32(const struct attend_args *args)
{
    attend(args, &(struct reading){ .keys = product_f32, .values = product_f32, .pair_lines = 8 });
}

/* The scales become floats once for all rows and queries: then they are memory operands of the multiplications. */
static void attend_q8(const struct attend_args *args)
{
    float scales[2][KV_CHUNK * KV_MAX_HEAD_DIM / KV_Q8_BLOCK] __attribute__((aligned(64)));
    const half *k = kv_q8_scales(args->k, args->head_dim), *v = kv_q8_scales(args->v, args->head_dim);

    for (size_t i = 0; args->next_k && i < KV_CHUNK * kv_q8_blocks(args->head_dim); i += 32) {
        _mm_prefetch((const char *)(kv_q8_scales(args->next_k, args->head_dim) + i), _MM_HINT_T0);
        _mm_prefetch((const char *)(kv_q8_scales(args->next_v, args->head_dim) + i), _MM_HINT_T0);
    }
    for (size_t i = 0; i < KV_CHUNK * kv_q8_blocks(args->head_dim); i += VEC_LANES) {
        vec_store(scales[0] + i, vec_load_half(k + i));
        vec_store(scales[1] + i, vec_load_half(v + i));
    }
    attend(args, &(struct reading){ product_keys_q8, product_values_q8, scales[0], scales[1], 2 });
}

static void kv_store_bf16(void *k_chunk, void *v_chunk, unsigned position, const float *k, const float *v, size_t head_dim)
{
    bf16 *keys = (bf16 *)k_chunk + 2 * position, *values = (bf16 *)v_chunk + position / 2 * head_dim * 2 + position % 2;

    for (size_t d = 0; d < head_dim; d += VEC_LANES) {
        bf16 key[VEC_LANES], value[VEC_LANES];
        vec_store_bf16(key, vec_load(k + d));
        vec_store_bf16(value, vec_load(v + d));
        for (size_t i = 0; i < VEC_LANES; i += 2)
            memcpy(keys + (d + i) * KV_CHUNK, key + i, 2 * sizeof(*key));
        for (size_t i = 0; i < VEC_LANES; i++)
            values[(d + i) * 2] = value[i];
    }
}

/* n is 16 or 32. The quants are 0 where nothing is to be multiplied: x may be NaN then. */
static half quantize_q8(int8_t q[KV_Q8_BLOCK], const float *x, size_t n)
{
    vec max = vec_set(0);
    bool finite = true;
    float inverse;

    for (size_t i = 0; i < n; i += VEC_LANES) {
        const vec a = vec_abs(vec_load(x + i));
        finite &= vmask_bits(vec_less(a, vec_set(INFINITY))) == vmask_bits(vmask_first(VEC_LANES));
        max = vec_max(a, max);          /* a NaN stays out */
    }
    const half scale = kv_q8_scale(finite ? vec_largest(max) : INFINITY, &inverse);
    memset(q, 0, KV_Q8_BLOCK);
    for (size_t i = 0; inverse > 0 && i < n; i += VEC_LANES) {
        const vec a = vec_mul(vec_load(x + i), vec_set(inverse));
        vec_store_int8(q + i, vec_max(vec_min(a, vec_set(127)), vec_set(-127)));
    }
    return scale;
}

static void kv_store_q8(void *k_chunk, void *v_chunk, unsigned position, const float *k, const float *v, size_t head_dim)
{
    const size_t n_blocks = kv_q8_blocks(head_dim);
    half *k_scales = kv_q8_scales(k_chunk, head_dim), *v_scales = kv_q8_scales(v_chunk, head_dim);
    int8_t *keys = (int8_t *)k_chunk + position, *values = (int8_t *)v_chunk + position * head_dim;

    for (size_t b = 0, d = 0; b < n_blocks; b++, d += KV_Q8_BLOCK) {
        const size_t n = head_dim - d < KV_Q8_BLOCK ? head_dim - d : KV_Q8_BLOCK;
        int8_t q[KV_Q8_BLOCK];

        k_scales[b * KV_CHUNK + position] = quantize_q8(q, k + d, n);
        for (size_t i = 0; i < n; i++)
            keys[(d + i) * KV_CHUNK] = q[i];
        v_scales[position * n_blocks + b] = quantize_q8(q, v + d, n);
        memcpy(values + d, q, n);
    }
}

/* Factors of both sides for all queries at once; where a side is empty they are not used. */
static void attend_merge(float *m, float *l, float *o, const float *mc, const float *lc, const float *oc, size_t n_q, size_t head_dim)
{
    float max[ATTEND_MAX_Q], sum[ATTEND_MAX_Q], a[ATTEND_MAX_Q], b[ATTEND_MAX_Q];

    for (size_t i = 0; i < n_q; i += VEC_LANES) {
        const size_t n = vec_lanes(n_q - i);
        const vec before = vec_load_first(m + i, n), chunk = vec_load_first(mc + i, n), larger = vec_max(chunk, before);
        const vec va = vec_exp(vec_sub(before, larger)), vb = vec_exp(vec_sub(chunk, larger));
        vec_store_first(max + i, larger, n);
        vec_store_first(a + i, va, n);
        vec_store_first(b + i, vb, n);
        vec_store_first(sum + i, vec_fma(vec_load_first(l + i, n), va, vec_mul(vec_load_first(lc + i, n), vb)), n);
    }
    for (size_t i = 0; i < n_q; i++, o += head_dim, oc += head_dim) {
        if (lc[i] == 0)
            continue;
        if (l[i] == 0) {
            m[i] = mc[i];
            l[i] = lc[i];
            memcpy(o, oc, head_dim * sizeof(*o));
            continue;
        }
        const vec va = vec_set(a[i]), vb = vec_set(b[i]);
        m[i] = max[i];
        l[i] = sum[i];
        for (size_t d = 0; d < head_dim; d += VEC_LANES) {
            const size_t lanes = vec_lanes(head_dim - d);
            vec_store_first(o + d, vec_fma(vec_load_first(o + d, lanes), va, vec_mul(vec_load_first(oc + d, lanes), vb)), lanes);
        }
    }
}

static void attend_finish(float *out, const float *o, float l, size_t head_dim)
{
    for (size_t d = 0; d < head_dim; d += VEC_LANES) {
        const size_t lanes = vec_lanes(head_dim - d);
        vec result = l == 0 ? vec_set(0) : vec_div(vec_load_first(o + d, lanes), vec_set(l));
        vec_store_first(out + d, result, lanes);
    }
}
