/*
 * kernels.h - the table of operations, filled for one instruction-set level.
 *
 * Every operation works on the calling thread, allocates nothing, and cannot fail. The plain C version (scalar/) is
 * the definition: every level gives the same bits (docs/design.md, section 4). Lanes are output rows or
 * positions; each output has one accumulator that goes through its inputs in order, starting at +0.
 */
#ifndef FOURWAY_KERNELS_KERNELS_H
#define FOURWAY_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/streams.h"
#include "kernels/cpu.h"
#include "kernels/panels.h"

/* How activations are handed to a matrix: int8 blocks, bf16 pairs, or float32. */
enum activation { ACT_Q8, ACT_BF16, ACT_F32, ACT_COUNT };

/*
 * y[t][16 p + r] = sum over k of W[16 p + r][k] x[t][k]   for t < m, p < n_panels, r < 16
 *
 * x rows begin x_stride bytes apart (a multiple of 4); y rows y_stride floats apart. k is the padded k: a multiple
 * of 32, and of the type's block. Each panel is read from memory once for all m tokens; quantised ones at avx512 and above once for each
 * of the ceil(m / 682) parts that more tokens are cut into (avx512/unpacked.h); prompts at amx once. y must not alias x or w.
 */
struct matmul_args {
    const void *w;          /* n_panels panels, panel_bytes(type, k) apart, 64-byte aligned at the first */
    const void *x;          /* q8_block[k / 32], bf16[k] or float[k] a token; 16-byte aligned */
    size_t x_stride;        /* bytes */
    float *y;
    size_t y_stride;        /* floats */
    size_t m, n_panels, k;
    void *scratch;          /* matmul_scratch_bytes(k), 64-byte aligned, the worker's own */
    const void *prepared;   /* what a library needs (kernels/providers/); our own kernels need nothing */
};
typedef void (*matmul_fn)(const struct matmul_args *args);

/*
 * The same for a mixture of experts: y row i is the product of expert pairs[i].expert with token pairs[i].token. An expert's panels
 * are read once for all of its pairs (of more than n_rows, once every n_rows). A row's bits are those of the plain product. All pairs of
 * a call go through one function: where the functions of prompt and generated tokens differ, the caller splits the pairs by the
 * role of their tokens and calls once for each.
 */
struct expert_pair { uint32_t expert, token; };
struct experts_args {
    const void *const *w;                   /* of each expert, as in matmul_args; only those named by a pair are read */
    const struct expert_pair *pairs;        /* an expert's stand together */
    size_t n_pairs;
    const void *x;                          /* of all tokens, as in matmul_args */
    size_t x_stride, x_bytes;               /* x_bytes: activation_bytes() of k */
    float *y;
    size_t y_stride, n_panels, k;
    void *scratch;                          /* as in matmul_args */
    const void *prepared;                   /* as in matmul_args; one for all experts, whose type and k are one */
    void *rows;                             /* n_rows x_stride bytes, 64-byte aligned: tokens that do not follow one another are copied */
    size_t n_rows;                          /* at least 1 */
};
void kernels_multiply_experts(matmul_fn multiply, const struct experts_args *args);

/* KV types of a page. One chunk is 64 positions of one KV head; head_dim is padded with zeros to 16. */
enum kv_type { KV_BF16, KV_F32, KV_Q8, KV_TYPE_COUNT };
enum { KV_CHUNK = 64, KV_MAX_HEAD_DIM = 1024, KV_Q8_BLOCK = 32 };

/*
 * Layout of a chunk, chosen so that lanes are positions for scores and dims for values, and that a pair of bf16
 * is the operand of VDPBF16PS and of the AMX B tile:
 *     bf16: k[head_dim / 2][64][2], v[32][head_dim][2]      (pairs of dims; pairs of positions)
 *     f32:  k[head_dim][64],        v[64][head_dim]
 *     q8:   int8 k[head_dim][64], then half k_scale[blocks][64]; int8 v[64][head_dim], then half v_scale[64][blocks]
 * q8 is Q8_0 of GGUF in other places: blocks of 32 dims of one position (the last one may have 16) share a scale, and a stored value is
 * (float)scale * (float)q, exact in float32. Per block of x:
 *     scale = (largest |x|) / 127 rounded to half;  q = x * (1 / (float)scale) rounded to nearest even, at most 127 either way
 * A scale of 0 (all x are 0, or below 4e-6) stores zeros. A NaN or infinity among x, and a scale that half cannot hold (|x| above 8.3e6),
 * stores scale NaN and q 0: whatever reads the block is NaN, an error of the request.
 */
size_t kv_chunk_bytes(enum kv_type type, size_t head_dim);     /* of k alone; v has the same size; a multiple of 64 */

/*
 * Attention of n_q query vectors over one chunk: for query i, the positions lo[i] <= j < hi[i] of the chunk take part.
 *     s_j = scale * (chain over d in order of fma(q[d], k_j[d], s)),  then s_j = softcap * tanh(s_j / softcap) if softcap > 0
 *     max[i] = max s_j;  p_j = exp(s_j - max)
 *     sum[i] = sum p_j by 16 partial sums (j mod 16) and the tree of kernels/scalar/reduce.h
 *     out[i][d] = chain over j in order of fma(p_j, v_j[d], out)
 * At avx512bf16 and amx, chunks of bf16 take bf16 dots instead: q and p are rounded to bf16 for the two chains, with denormal operands
 * and results as zeros; max and sum are taken from the scores and p before rounding. The chains go
 *     at avx512bf16    by pairs of dims and of positions (those of even number and the next), in each fma of the odd one first, then of the
 *                      even one: VDPBF16PS. A position of a pair that takes no part counts as zero times zero.
 *     at amx           by blocks of 32 dims and of 32 positions, as matmul_prompt does: TDPBF16PS. A zero in out is +0.
 * Positions outside [lo, hi) are never used in arithmetic that reaches a result (stale memory may hold NaN).
 * hi[i] <= lo[i]: max = -INFINITY, sum = 0, out = 0.
 */
struct attend_args {
    const void *k, *v;
    const void *next_k, *next_v;        /* the chunk to be read after this one, fetched meanwhile; NULL: none */
    const float *const *q;              /* n_q pointers to q[head_dim], 64-byte aligned, padded dims zero */
    const uint8_t *lo, *hi;             /* n_q each, 0..64 */
    float *out;                         /* [n_q][head_dim] */
    float *max, *sum;                   /* [n_q] */
    size_t n_q, head_dim;               /* n_q <= ATTEND_MAX_Q */
    float scale, softcap;
};
enum { ATTEND_MAX_Q = 24 };     /* 4 tiles of 6 queries; a multiple of most group sizes */

/* What the sampler needs of one vocabulary segment (256 ids; the last may be shorter). */
enum { VOCAB_SEGMENT = 256 };
struct segment_stats {
    float max;              /* NaN if any logit is NaN; +INFINITY if one is */
    int32_t argmax;         /* lowest index of the maximum, within the segment; 0 if max is NaN */
    float sum;              /* sum of exp(x - max), 16 partial sums and the fixed tree; 0 if max is -INFINITY, NaN if NaN or +INFINITY */
};

struct kernels {
    enum isa isa;

    /*
     * By weight type, for the activations that it takes by default (kernels_activation()). Of F8_E4M3, whose scales hold for 128 k,
     *     sum = the chain of BF16 over these k of 2^-8 code, from +0;   y = fma(2^8 scale, sum, y), y from +0
     * with denormal operands and results as zeros, in both. With float32 activations the chain is that of float32, and denormals count.
     */
    matmul_fn matmul[DTYPE_COUNT];
    /*
     * The same for prompt tokens, and the activations it takes: matmul[] itself but for quantised weights at amx. There w and x are bf16,
     * and as for all tokens of BF16 weights at that level, 32 k at a time (TDPBF16PS)
     *     even, odd = chains over the block's pairs of k, from +0, of fma(w, x, .);   y = y + (even + odd)
     * with denormal operands and results as zeros, every operation rounded once. A quantised weight of quant q is
     *     w = bf16(fma(scale, base + q, fma(scale, -(base + offset), min)))     base 128, of 8-bit quants 256; min 0 where it has none
     * scale * (q - offset) + min but for a rounding of min: scale * (base + offset) is exact in float32. Denormals count here: an MXFP4
     * scale may be one (and where it is 2^121 or more, w is NaN). Quants that nibbles of IQ4_NL and IQ4_XS name have 8 bits.
     */
    matmul_fn matmul_prompt[DTYPE_COUNT];
    enum activation prompt_activation[DTYPE_COUNT];
    /* By weight type, float32 activations: weights decoded exactly, one fma chain in k order (of F8_E4M3 see above). For checking. */
    matmul_fn matmul_f32[DTYPE_COUNT];

    /* out[k / 32] from x[k], panels.h */
    void (*quantize_q8)(struct q8_block *out, const float *x, size_t k);
    void (*round_bf16)(bf16 *out, const float *x, size_t k);
    /* x[k] -= scale * q, the product rounded first: what int8 blocks leave of x, to be quantised as a second term. */
    void (*subtract_q8)(float *x, const struct q8_block *q, size_t k);

    /* y[n] = x[n] * (1 / sqrt(mean(x^2) + eps)) * w[n]; mean by 16 partial sums (i mod 16) of fma(x, x, s) and the fixed
     * tree; 1 / sqrt by sqrtf and a division. y may be x. n any. Zhang and Sennrich 2019, arXiv:1910.07467. */
    void (*rms_norm)(float *y, const float *x, const float *w, float eps, size_t n);
    void (*add)(float *x, const float *y, size_t n);                        /* x += y */
    void (*scale)(float *x, float factor, size_t n);                        /* x *= factor */
    void (*silu_mul)(float *g, const float *u, size_t n);                   /* g = g / (1 + exp(-g)) * u */
    void (*gelu_mul)(float *g, const float *u, size_t n);                   /* g = gelu(g) * u, tanh form */
    /* Pairs (x[j], x[j + n / 2]), j < n / 2: (a, b) -> (a cos - b sin, b cos + a sin), each as
     * fma(a, cos, -(b * sin)) and fma(b, cos, a * sin). n is even. */
    void (*rope)(float *x, const float *cos, const float *sin, size_t n);

    /* Store one position (0..63) of k[head_dim] and v[head_dim] into a chunk; rounds to the KV type. */
    void (*kv_store[KV_TYPE_COUNT])(void *k_chunk, void *v_chunk, unsigned position, const float *k, const float *v, size_t head_dim);
    void (*attend[KV_TYPE_COUNT])(const struct attend_args *args);
    /* Of each of n_q queries (at most ATTEND_MAX_Q) merge a later chunk's partial (mc, lc, oc) into (m, l, o):
     * M = max(m, mc), a = exp(m - M), b = exp(mc - M), l = fma(l, a, lc * b), o = fma(o, a, oc * b). An empty side (sum 0) leaves the other
     * as it is. */
    void (*attend_merge)(float *m, float *l, float *o, const float *mc, const float *lc, const float *oc, size_t n_q, size_t head_dim);
    /* out[d] = o[d] / l; l = 0 gives zeros. */
    void (*attend_finish)(float *out, const float *o, float l, size_t head_dim);

    void (*softcap)(float *x, float cap, size_t n);                         /* x = cap * tanh(x / cap) */
    void (*segment_stats)(struct segment_stats *out, const float *logits, size_t n);   /* n <= VOCAB_SEGMENT */

    /* For measuring the machine: sum of all 64-bit words of p[bytes], read with the widest loads. */
    uint64_t (*read_stream)(const void *p, size_t bytes);
    /* And other traffic, for `fourway membw`. streams.read is read_stream: one yardstick. */
    struct stream_loops streams;
    /* `n` rounds of the level's best dot instruction on registers alone, by the kind of activations it multiplies; returns
     * operations done (a multiply and an add count 2 an element). */
    uint64_t (*peak[ACT_COUNT])(uint64_t n);
};

/* The plain C that defines the bits of `level`, for tests: attention over bf16 has three definitions, prompts have two. */
void kernels_fill_plain(struct kernels *table, enum isa level);

/* Fill the table for `level`, which must be at most what cpu_best_isa() grants. No entry is left NULL for a supported type. */
void kernels_fill(struct kernels *table, enum isa level);

/* The activations that weights of `type` take by default: int8 for quantised, bf16 for BF16 and F8_E4M3, float32 for F32 and F16. */
enum activation kernels_activation(enum dtype type);

/* Bytes of one token's activations: q8_block[k / 32], bf16[k] or float[k]; k a multiple of 32. */
size_t activation_bytes(enum activation a, size_t k);

/* A good x_stride: activation_bytes() up to an odd multiple of 64, so that the rows of many tokens spread over all cache sets
 * (k = 8192, 512 tokens of Q4_0, Zen 4: 342 GOP/s, and 290 with rows a multiple of 4096 bytes apart). */
size_t activation_stride(enum activation a, size_t k);

size_t matmul_scratch_bytes(size_t k);

/* exp(x) in double-free float arithmetic, the function that all levels use, for the few scalar places outside kernels/. */
float kernels_expf(float x);

#endif
