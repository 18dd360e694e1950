/*
 * avx512bf16/attention.c - attention over one chunk of bf16 with VDPBF16PS. scalar/attention.c has the definition (bf16 dots).
 *
 * Keys lie as pairs of dims and values as pairs of positions, so both products are the same operation, out[lane] = chain over pairs of
 * dot(x[pair], m[pair][lane]): tiles of up to 6 queries by 4 registers of lanes, 24 sums, 10 loads for 24 dots.
 */
#include <math.h>
#include <string.h>

#include "kernels/avx512bf16/softmax.h"

enum { PAIR_QUERIES = 6, PAIR_VECS = 4, MAX_HEAD_PAIRS = KV_MAX_HEAD_DIM / 2 };

struct pair_product {
    const uint32_t *m;          /* pairs of bf16: [pair][row_length] */
    size_t row_length;
    size_t first, end;          /* pairs */
    const uint32_t *x;          /* pairs of bf16: [query][x_stride] */
    size_t x_stride;
    float *out;                 /* [query][out_stride] */
    size_t out_stride;
    bool fresh;                 /* sums start at zero, not at out */
    const char *ahead;          /* lines to fetch meanwhile, ahead_lines a pair; NULL: none */
    size_t ahead_lines;
};

/* Bits of the pair that takes part: all, or one half of it at an odd end. */
INLINE void pair_tile(const struct pair_product *p, const int queries, const int vecs, size_t lane, uint32_t mask, bool fetch)
{
    __m512 sum[PAIR_QUERIES][PAIR_VECS];

#pragma GCC unroll 6
    for (int i = 0; i < queries; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++)
            sum[i][v] = p->fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(p->out + (size_t)i * p->out_stride + lane + 16 * (size_t)v);
    }
    for (size_t pair = p->first; pair < p->end; pair++) {
        __m512bh m[PAIR_VECS];
        for (size_t i = 0; fetch && i < p->ahead_lines; i++)
            _mm_prefetch(p->ahead + ((pair - p->first) * p->ahead_lines + i) * 64, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) {
            const __m512i bits = _mm512_loadu_si512(p->m + pair * p->row_length + lane + 16 * (size_t)v);
            m[v] = (__m512bh)(mask == UINT32_MAX ? bits : _mm512_and_si512(bits, _mm512_set1_epi32((int)mask)));
        }
#pragma GCC unroll 6
        for (int i = 0; i < queries; i++) {
            const __m512bh x = (__m512bh)_mm512_set1_epi32((int)p->x[(size_t)i * p->x_stride + pair]);
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++)
                sum[i][v] = _mm512_dpbf16_ps(sum[i][v], x, m[v]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < queries; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++)
            _mm512_storeu_ps(p->out + (size_t)i * p->out_stride + lane + 16 * (size_t)v, sum[i][v]);
    }
}

INLINE void pair_lanes(const struct pair_product *p, const int queries, size_t lane, size_t end)
{
    bool fetch = p->ahead;

    for (; lane + 3 * 16 < end; lane += 4 * 16, fetch = false)
        pair_tile(p, queries, 4, lane, UINT32_MAX, fetch);
    for (; lane < end; lane += 16, fetch = false)
        pair_tile(p, queries, 1, lane, UINT32_MAX, fetch);
}

/* Lanes from `lane`, a multiple of 16, to `end` rounded up to one, of up to 6 queries. */
static __attribute__((noinline)) void pair_product(const struct pair_product *p, size_t queries, size_t lane, size_t end)
{
    switch (queries) {
    case 1: pair_lanes(p, 1, lane, end); break;
    case 2: pair_lanes(p, 2, lane, end); break;
    case 3: pair_lanes(p, 3, lane, end); break;
    case 4: pair_lanes(p, 4, lane, end); break;
    case 5: pair_lanes(p, 5, lane, end); break;
    default: pair_lanes(p, 6, lane, end); break;
    }
}

/* Positions lo .. hi - 1 of one query. Of a pair that is only half inside, the other value is never used: stale memory may be NaN. */
static void one_query_values(struct pair_product p, size_t lo, size_t hi, size_t head_dim)
{
    const size_t end = hi / 2;

    if (lo >= hi)
        return;
    if (lo % 2) {
        p.first = lo / 2;
        p.end = p.first + 1;
        for (size_t lane = 0; lane < head_dim; lane += 16)
            pair_tile(&p, 1, 1, lane, 0xffff0000, false);
        p.fresh = false;
    }
    p.first = (lo + 1) / 2;
    p.end = end;
    if (p.first < p.end || p.fresh) {
        pair_product(&p, 1, 0, head_dim);
        p.fresh = false;
    }
    if (hi % 2 && end >= p.first) {
        p.first = end;
        p.end = end + 1;
        for (size_t lane = 0; lane < head_dim; lane += 16)
            pair_tile(&p, 1, 1, lane, 0x0000ffff, false);
    }
}

struct tile_memory {
    uint32_t q[PAIR_QUERIES][MAX_HEAD_PAIRS];
    float scores[PAIR_QUERIES][KV_CHUNK];
    uint32_t p[PAIR_QUERIES][PAIRS];
} __attribute__((aligned(64)));

/* Queries [at, at + n), n up to 6. */
static void attend_tile(const struct attend_args *args, size_t at, size_t n, struct tile_memory *t)
{
    const size_t head_dim = args->head_dim;
    size_t lowest = KV_CHUNK, highest = 0, all_lo = 0, all_hi = KV_CHUNK;   /* of any query, and of all */

    for (size_t i = 0; i < n; i++) {
        const size_t lo = args->lo[at + i], hi = args->hi[at + i];
        lowest = lo < lowest ? lo : lowest;
        highest = hi > highest ? hi : highest;
        all_lo = lo > all_lo ? lo : all_lo;
        all_hi = hi < all_hi ? hi : all_hi;
        for (size_t d = 0; d < head_dim; d += 16)
            store_bf16(t->q[i] + d / 2, vec_load(args->q[at + i] + d));
    }
    /* A chunk comes from memory while the one before it is multiplied: values behind keys, the next chunk's keys behind values. The
     * processor's own prefetcher stops at the end of each (Zen 5, one query: a chunk of 64 dims took 1090 ns, from cache 240). */
    const bool fetch = at == 0;
    const struct pair_product keys = { .m = args->k, .row_length = KV_CHUNK, .end = head_dim / 2, .x = t->q[0], .x_stride = MAX_HEAD_PAIRS,
                                  .out = t->scores[0], .out_stride = KV_CHUNK, .fresh = true, .ahead = fetch ? args->next_k : NULL,
                                  .ahead_lines = 2 * sizeof(bf16) * KV_CHUNK / 64 };
    const size_t first_lane = lowest / 16 * 16, end_lane = (highest + 15) / 16 * 16;
    pair_product(&keys, n, first_lane, highest);
    for (size_t i = 0; i < n; i++) {        /* lanes that no product wrote: the softmax reads whole registers */
        memset(t->scores[i], 0, first_lane * sizeof(float));
        memset(t->scores[i] + end_lane, 0, (KV_CHUNK - end_lane) * sizeof(float));
    }

    struct pair_product values = { .m = args->v, .row_length = head_dim, .x = t->p[0], .x_stride = PAIRS,
                              .out = args->out + at * head_dim, .out_stride = head_dim, .fresh = true,
                              .ahead = fetch ? args->next_v : NULL, .ahead_lines = head_dim * 2 * sizeof(bf16) / 64 };
    for (size_t i = 0; i < n; i += 4)
        softmax(args, at + i, n - i < 4 ? n - i : 4, t->scores + i, t->p + i);
    /* The pairs that all queries share go together. Before and after them each query goes on its own, in order. */
    values.first = (all_lo + 1) / 2;
    values.end = all_hi / 2;
    const bool shared = values.first < values.end;
    for (size_t i = 0; i < n; i++) {
        struct pair_product own = values;
        own.ahead = NULL;
        own.x += i * PAIRS;
        own.out += i * head_dim;
        own.fresh = true;
        if (!shared)
            one_query_values(own, args->lo[at + i], args->hi[at + i], head_dim);
        else if (args->lo[at + i] < 2 * values.first)
            one_query_values(own, args->lo[at + i], 2 * values.first, head_dim);
        else if (lowest < 2 * values.first)
            memset(own.out, 0, head_dim * sizeof(float));
    }
    if (!shared)
        return;
    values.fresh = lowest >= 2 * values.first;
    pair_product(&values, n, 0, head_dim);
    for (size_t i = 0; i < n; i++) {
        struct pair_product own = values;
        own.ahead = NULL;
        own.x += i * PAIRS;
        own.out += i * head_dim;
        own.fresh = false;
        one_query_values(own, 2 * values.end, args->hi[at + i], head_dim);
    }
}

static void attend_bf16(const struct attend_args *args)
{
    struct tile_memory t;

    for (size_t at = 0, n; at < args->n_q; at += n) {
        if (args->lo[at] >= args->hi[at]) {
            args->max[at] = -INFINITY;
            args->sum[at] = 0;
            memset(args->out + at * args->head_dim, 0, args->head_dim * sizeof(float));
            n = 1;
            continue;
        }
        for (n = 1; n < PAIR_QUERIES && at + n < args->n_q && args->lo[at + n] < args->hi[at + n]; n++)
            ;
        attend_tile(args, at, n, &t);
    }
}

void attention_avx512bf16(struct kernels *table)
{
    table->attend[KV_BF16] = attend_bf16;
}
