/*
 * amx/attention.c - attention over one chunk of bf16 with tiles (TDPBF16PS). scalar/attention.c has the definition (tiles).
 *
 * Keys lie as pairs of dims and values as pairs of positions: both are B tiles as they lie. Queries, and then their probabilities, are the
 * rows of A tiles, in one group of up to 16 or in two: a tile of keys or values is loaded once for both.
 *
 * Positions that a query does not see have probability 0. What lies there is finite, so that it adds nothing; a NaN, of stale memory or of
 * a query that sees more, shows in the sums, and those queries go through the definition itself.
 */
#include <math.h>
#include <string.h>

#include "kernels/amx/tiles.h"
#include "kernels/avx512bf16/softmax.h"

enum {
    GROUPS = 2,
    MAX_HEAD_PAIRS = KV_MAX_HEAD_DIM / 2,
    TILE_PAIRS = TILE_ROW_BYTES / 4,        /* of dims or positions, one row of an A tile; half of them at the end of some heads */
};
_Static_assert((int)ATTEND_MAX_Q <= (int)GROUPS * (int)TILE_ROWS, "queries of a call");

struct tile_memory {
    float scores[ATTEND_MAX_Q][KV_CHUNK];
    uint32_t p[ATTEND_MAX_Q][PAIRS];
    uint32_t q[ATTEND_MAX_Q * MAX_HEAD_PAIRS];      /* [query][head_dim / 2] */
} __attribute__((aligned(64)));

/* A matrix of B tiles in memory, and what it is multiplied with. */
struct operand {
    const uint8_t *m;               /* pairs of bf16: [pair][row_bytes / 4] */
    size_t row_bytes;
    size_t first, end;              /* pairs: a multiple of the configured ones */
    const uint32_t *x;              /* pairs of bf16: [query][x_pairs] */
    size_t x_pairs;
    float *out;                     /* [query][out_floats] */
    size_t out_floats;
    const char *ahead;              /* the next chunk: a line is fetched for every line of m that is loaded; NULL: none */
    bool fresh;                     /* sums start at zero, not at out */
};

static const _Alignas(64) float zeros[TILE_ROWS][16];

/*
 * Four tiles of sums, because what leaves a tile waits for its last product: of one group of queries and four tiles of lanes (0 to 3), or
 * of two groups (0 and 1, 2 and 3) and two. Tiles 4 and 5 are the groups' x, 6 and 7 the matrix.
 */
static void configure(const size_t rows[GROUPS], size_t pairs)
{
    const size_t second = rows[1] ? rows[1] : rows[0];
    struct tile_config c = { .palette = 1 };

    for (unsigned tile = 0; tile < 4; tile++)
        tiles_shape(&c, tile, tile < 2 ? rows[0] : second, TILE_ROW_BYTES);
    tiles_shape(&c, 4, rows[0], 4 * pairs);
    tiles_shape(&c, 5, second, 4 * pairs);
    tiles_shape(&c, 6, pairs, TILE_ROW_BYTES);
    tiles_shape(&c, 7, pairs, TILE_ROW_BYTES);
    tiles_configure(&c);
}

INLINE void fetch_ahead(struct operand *o, const size_t n_lines)
{
    if (!o->ahead)
        return;
    for (size_t i = 0; i < n_lines; i++)
        _mm_prefetch(o->ahead + 64 * i, _MM_HINT_T0);
    o->ahead += 64 * n_lines;
}

/* Lane tile i of a block of pairs. */
#define LOAD_MATRIX(tile, i) \
    do { \
        _tile_loadd(tile, o->m + pair * o->row_bytes + (lane + 16 * (i)) * 4, o->row_bytes); \
        fetch_ahead(o, pairs); \
    } while (0)
#define BEGIN(tile, at) \
    do { \
        if (o->fresh) \
            _tile_loadd(tile, zeros, TILE_ROW_BYTES);   /* not TILEZERO: see matmul.c */ \
        else \
            _tile_loadd(tile, at, out_bytes); \
    } while (0)

/* out[query][lane ...] = sum over pairs of x[query][pair] m[pair][lane ...], `lanes` tiles of 16. */
INLINE void one_group(struct operand *o, const size_t pairs, size_t lane, const int lanes)
{
    const size_t out_bytes = o->out_floats * 4;
    float *out = o->out + lane;

#define EACH_SUM(instruction) \
    do { \
        instruction(0, out); \
        if (lanes == 4) { \
            instruction(1, out + 16); \
            instruction(2, out + 32); \
            instruction(3, out + 48); \
        } \
    } while (0)
#define STORE(tile, at) _tile_stored(tile, at, out_bytes)
    EACH_SUM(BEGIN);
    for (size_t pair = o->first; pair < o->end; pair += pairs) {
        _tile_loadd(4, o->x + pair, o->x_pairs * 4);
        LOAD_MATRIX(6, 0);
        _tile_dpbf16ps(0, 4, 6);
        if (lanes == 4) {
            LOAD_MATRIX(7, 1);
            _tile_dpbf16ps(1, 4, 7);
            LOAD_MATRIX(6, 2);
            _tile_dpbf16ps(2, 4, 6);
            LOAD_MATRIX(7, 3);
            _tile_dpbf16ps(3, 4, 7);
        }
    }
    EACH_SUM(STORE);
#undef EACH_SUM
}

INLINE void two_groups(struct operand *o, const size_t rows[GROUPS], const size_t pairs, size_t lane, const int lanes)
{
    const size_t out_bytes = o->out_floats * 4;
    const uint32_t *second = o->x + rows[0] * o->x_pairs;
    float *out = o->out + lane, *second_out = out + rows[0] * o->out_floats;

#define EACH_SUM(instruction) \
    do { \
        instruction(0, out); \
        instruction(2, second_out); \
        if (lanes == 2) { \
            instruction(1, out + 16); \
            instruction(3, second_out + 16); \
        } \
    } while (0)
    EACH_SUM(BEGIN);
    for (size_t pair = o->first; pair < o->end; pair += pairs) {
        _tile_loadd(4, o->x + pair, o->x_pairs * 4);
        LOAD_MATRIX(6, 0);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, second + pair, o->x_pairs * 4);
        _tile_dpbf16ps(2, 5, 6);
        if (lanes == 2) {
            LOAD_MATRIX(7, 1);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    EACH_SUM(STORE);
#undef STORE
#undef EACH_SUM
}
#undef BEGIN
#undef LOAD_MATRIX

/* Lanes from `lane`, a multiple of 16, to `end`, in blocks of as many pairs as are configured. */
static void products(struct operand *o, const size_t rows[GROUPS], size_t pairs, size_t lane, size_t end)
{
    TILES_USE_MEMORY();
    if (rows[1]) {
        for (; lane + 16 < end; lane += 2 * 16)
            two_groups(o, rows, pairs, lane, 2);
        for (; lane < end; lane += 16)
            two_groups(o, rows, pairs, lane, 1);
    } else {
        for (; lane + 3 * 16 < end; lane += 4 * 16)
            one_group(o, pairs, lane, 4);
        for (; lane < end; lane += 16)
            one_group(o, pairs, lane, 1);
    }
    TILES_USE_MEMORY();
}

/* One zero for both, which the definition asks for. Whether a NaN is among them. */
static bool finish(float *out, size_t n)
{
    __mmask16 unordered = 0;

    for (size_t i = 0; i < n; i += 16) {
        const vec x = vec_add(vec_load(out + i), vec_set(0));
        unordered |= _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        vec_store(out + i, x);
    }
    return unordered;
}

static void attend_bf16(const struct attend_args *args)
{
    const size_t head_dim = args->head_dim, n = args->n_q;
    const size_t rows[GROUPS] = { n > TILE_ROWS ? (n + 1) / 2 : n, n > TILE_ROWS ? n / 2 : 0 };
    size_t lowest = KV_CHUNK, highest = 0;          /* of any query */
    struct tile_memory t;

    for (size_t i = 0; i < n; i++) {
        lowest = args->lo[i] < lowest ? args->lo[i] : lowest;
        highest = args->hi[i] > highest ? args->hi[i] : highest;
        for (size_t d = 0; d < head_dim; d += 16)
            store_bf16(t.q + (i * head_dim + d) / 2, vec_load(args->q[i] + d));
    }
    if (lowest >= highest) {
        for (size_t i = 0; i < n; i++) {
            args->max[i] = -INFINITY;
            args->sum[i] = 0;
        }
        memset(args->out, 0, n * head_dim * sizeof(*args->out));
        return;
    }
    configure(rows, TILE_PAIRS);
    struct operand keys = { .m = args->k, .row_bytes = KV_CHUNK * 4, .end = head_dim / 32 * TILE_PAIRS, .x = t.q, .x_pairs = head_dim / 2,
                            .out = t.scores[0], .out_floats = KV_CHUNK, .ahead = args->next_k, .fresh = true };
    const size_t first_lane = lowest / 16 * 16, end_lane = (highest + 15) / 16 * 16;
    if (keys.end)
        products(&keys, rows, TILE_PAIRS, first_lane, end_lane);
    if (head_dim % 32) {
        configure(rows, TILE_PAIRS / 2);
        keys.fresh = keys.end == 0;
        keys.first = keys.end;
        keys.end += TILE_PAIRS / 2;
        products(&keys, rows, TILE_PAIRS / 2, first_lane, end_lane);
        configure(rows, TILE_PAIRS);
    }
    for (size_t i = 0; i < n; i++) {                /* lanes that no product wrote: the softmax reads whole registers */
        memset(t.scores[i], 0, first_lane * sizeof(float));
        memset(t.scores[i] + end_lane, 0, (KV_CHUNK - end_lane) * sizeof(float));
    }
    for (size_t i = 0; i < n; i += 4)
        softmax(args, i, n - i < 4 ? n - i : 4, t.scores + i, t.p + i);
    struct operand values = { .m = args->v, .row_bytes = head_dim * 4, .first = lowest / 32 * TILE_PAIRS,
                                    .end = (highest + 31) / 32 * TILE_PAIRS, .x = t.p[0], .x_pairs = PAIRS, .out = args->out,
                                    .out_floats = head_dim, .ahead = args->next_v, .fresh = true };
    products(&values, rows, TILE_PAIRS, 0, head_dim);
    _tile_release();
    for (size_t i = 0; i < n; i++) {
        if (!finish(args->out + i * head_dim, head_dim))
            continue;
        struct attend_args one = *args;
        one.q += i;
        one.lo += i;
        one.hi += i;
        one.out += i * head_dim;
        one.max += i;
        one.sum += i;
        one.n_q = 1;
        attend_scalar_tiles(&one);
    }
}

void attention_amx(struct kernels *table)
{
    table->attend[KV_BF16] = attend_bf16;
}
