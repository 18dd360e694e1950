/*
 * quantize_k.c - K-quants: 256 values whose sub-blocks have small integer scales below a float16, chosen by a search.
 *
 * After the search of llama.cpp (ggml/src/ggml-quants.c, make_qkx2_quants and make_qx_quants): a sub-block's codes are taken with its
 * range stretched by several factors; for each the best scale (and minimum) for these codes is a weighted least-squares problem with a
 * formula; the one with the smallest weighted error stays. Three steps more than there: integer scales are taken with the
 * float16 above them as it is stored; their neighbours are tried, too; and that float16 is fitted once more to the codes.
 *
 * Weights: a model's large weights matter more than its small ones, so errors count by sqrt(mean x^2) + |x| (Q6_K: by x^2), as in
 * llama.cpp. Sums are taken in LANES parts, so that the compiler makes vectors of these loops.
 */
#include <math.h>

#include "weights/quantize_internal.h"

enum { LANES = 4, SUB_BLOCKS = 8, SUB = 32 };

struct affine { float scale, min; };            /* x ~ scale q - min, min >= 0 */

/* Stretches of a sub-block's range: (most + first + i step) / (max - min), i <= last. llama.cpp's. */
struct stretches { float first, step; int last; };

static float lane_sum(const float part[LANES])
{
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* To the nearest whole number, ties to even, of |v| < 2^22. */
static float nearest(float v)
{
    return (v + 12582912.0f) - 12582912.0f;
}

static float clamp(float v, float least, float most)
{
    v = v < least ? least : v;
    return v > most ? most : v;
}

/* x ~ scale q - min: the sum of w (scale q - min - x)^2 for the codes q. */
static float affine_error(const float *x, const float *w, const float *q, struct affine a)
{
    float part[LANES] = { 0 };

    for (size_t i = 0; i < SUB; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            const float diff = a.scale * q[i + j] - a.min - x[i + j];
            part[j] += w[i + j] * diff * diff;
        }
    return lane_sum(part);
}

/* The best scale and minimum for the codes q; false: they are all the same. */
static bool affine_fit(const float *x, const float *w, const float *q, float sum_w, float sum_x, struct affine *a)
{
    float l[LANES] = { 0 }, l2[LANES] = { 0 }, xl[LANES] = { 0 };

    for (size_t i = 0; i < SUB; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            const float wl = w[i + j] * q[i + j];
            l[j] += wl;
            l2[j] += wl * q[i + j];
            xl[j] += wl * x[i + j];
        }
    const float sum_l = lane_sum(l), sum_l2 = lane_sum(l2), sum_xl = lane_sum(xl);
    const float determinant = sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0))
        return false;
    a->scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    a->min = (sum_l * sum_xl - sum_l2 * sum_x) / determinant;
    if (a->min < 0) {               /* the format subtracts a minimum that is not negative */
        a->min = 0;
        a->scale = sum_xl / sum_l2;
    }
    return a->scale > 0;
}

/* q = the codes of x where its range is least..., stretched; most is 15 or 31. */
static void affine_codes(float *q, const float *x, float least, float inv, float most)
{
    for (size_t i = 0; i < SUB; i++)
        q[i] = clamp(nearest(inv * (x[i] - least)), 0, most);
}

static struct affine search_affine(const float *x, const float *w, float most, const struct stretches *s)
{
    float least = 0, largest = x[0], sum_w = 0, sum_x = 0, q[SUB];

    for (size_t i = 0; i < SUB; i++) {
        least = x[i] < least ? x[i] : least;
        largest = x[i] > largest ? x[i] : largest;
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    struct affine best = { 0, -least }, a;
    if (!(largest - least > 1e-30f))        /* all the same, or so near that float16 knows no scale between them */
        return best;
    best.scale = (largest - least) / most;
    affine_codes(q, x, least, most / (largest - least), most);
    float best_error = affine_error(x, w, q, best);
    for (int i = 0; i <= s->last; i++) {
        affine_codes(q, x, least, (most + s->first + s->step * (float)i) / (largest - least), most);
        if (!affine_fit(x, w, q, sum_w, sum_x, &a))
            continue;
        const float error = affine_error(x, w, q, a);
        if (error < best_error) {
            best_error = error;
            best = a;
        }
    }
    return best;
}

/* What a block of Q4_K or Q5_K will hold; d and dmin as float16 has them. */
struct affine_block {
    float d, dmin;
    float scale[SUB_BLOCKS], min[SUB_BLOCKS];       /* 0..63 */
    float q[SUB_BLOCKS * SUB];
    float error;
};

static float as_half(float value)
{
    return half_to_float(half_from_float(value));
}

/* Sub-block j's codes for these integer scales, if their error is below *best. */
static void try_scales(struct affine_block *b, size_t j, float scale, float min, const float *x, const float *w, float most, float *best)
{
    const struct affine a = { b->d * scale, b->dmin * min };
    float q[SUB];

    if (scale < 0 || scale > 63 || min < 0 || min > 63)
        return;
    affine_codes(q, x + SUB * j, -a.min, a.scale > 0 ? 1 / a.scale : 0, most);
    const float error = affine_error(x + SUB * j, w + SUB * j, q, a);
    if (error < *best) {
        *best = error;
        b->scale[j] = scale;
        b->min[j] = min;
        memcpy(b->q + SUB * j, q, sizeof(q));
    }
}

/* Integer scales below b->d and b->dmin, the nearest ones or a neighbour of theirs; codes and their error. */
static void choose_codes(struct affine_block *b, const struct affine wanted[SUB_BLOCKS], const float *x, const float *w, float most)
{
    const float inv_d = b->d > 0 ? 1 / b->d : 0, inv_min = b->dmin > 0 ? 1 / b->dmin : 0;

    b->error = 0;
    for (size_t j = 0; j < SUB_BLOCKS; j++) {
        const float scale = clamp(nearest(clamp(inv_d * wanted[j].scale, 0, 64)), 0, 63);
        const float min = clamp(nearest(clamp(inv_min * wanted[j].min, 0, 64)), 0, 63);
        float best = INFINITY;
        for (int i = -1; i <= 1; i++)
            for (int k = -1; k <= 1; k++)
                try_scales(b, j, scale + (float)i, min + (float)k, x, w, most, &best);
        b->error += best;
    }
}

/* The float16s that are best for the codes and integer scales that stand: x ~ d (scale q) - dmin min, weighted least squares. */
static bool refit(struct affine_block *b, const float *x, const float *w)
{
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;

    for (size_t j = 0; j < SUB_BLOCKS; j++) {
        float l[LANES] = { 0 }, l2[LANES] = { 0 }, xl[LANES] = { 0 }, sw[LANES] = { 0 }, sx[LANES] = { 0 };
        for (size_t i = SUB * j; i < SUB * (j + 1); i += LANES)
            for (size_t k = 0; k < LANES; k++) {
                const float wl = w[i + k] * b->q[i + k];
                l[k] += wl;
                l2[k] += wl * b->q[i + k];
                xl[k] += wl * x[i + k];
                sw[k] += w[i + k];
                sx[k] += w[i + k] * x[i + k];
            }
        const double s = (double)b->scale[j], m = (double)b->min[j];
        aa += s * s * (double)lane_sum(l2);
        ab -= s * m * (double)lane_sum(l);
        bb += m * m * (double)lane_sum(sw);
        ax += s * (double)lane_sum(xl);
        bx -= m * (double)lane_sum(sx);
    }
    const double determinant = aa * bb - ab * ab;
    if (bb == 0 && aa > 0) {
        b->d = as_half((float)(ax / aa));
    } else if (determinant > 1e-9 * aa * bb) {
        b->d = as_half((float)((ax * bb - bx * ab) / determinant));
        b->dmin = as_half((float)((bx * aa - ax * ab) / determinant));
    } else {
        return false;
    }
    return b->d > 0 && b->dmin >= 0 && isfinite(b->d) && isfinite(b->dmin);
}

/* Returns false when float16 cannot hold the block's scale or minimum. */
static bool search_block(struct affine_block *best, const float *x, float most, const struct stretches *s)
{
    struct affine wanted[SUB_BLOCKS];
    float w[SUB_BLOCKS * SUB], largest_scale = 0, largest_min = 0;

    for (size_t j = 0; j < SUB_BLOCKS; j++) {
        const float *xs = x + SUB * j;
        float part[LANES] = { 0 };
        for (size_t i = 0; i < SUB; i += LANES)
            for (size_t k = 0; k < LANES; k++)
                part[k] += xs[i + k] * xs[i + k];
        const float mean = sqrtf(lane_sum(part) / SUB);
        for (size_t i = 0; i < SUB; i++)
            w[SUB * j + i] = mean + fabsf(xs[i]);
        wanted[j] = search_affine(xs, w + SUB * j, most, s);
        largest_scale = fmaxf(largest_scale, wanted[j].scale);
        largest_min = fmaxf(largest_min, wanted[j].min);
    }
    best->d = as_half(largest_scale / 63);
    best->dmin = as_half(largest_min / 63);
    if (!isfinite(best->d) || !isfinite(best->dmin))
        return false;
    choose_codes(best, wanted, x, w, most);
    struct affine_block next = *best;
    if (refit(&next, x, w)) {
        choose_codes(&next, wanted, x, w, most);
        if (next.error < best->error)
            *best = next;
    }
    return true;
}

/* Eight pairs of 6 bits in 12 bytes. */
static void put_scales(uint8_t c[12], const struct affine_block *b)
{
    for (size_t j = 0; j < 4; j++) {
        const unsigned low_scale = (unsigned)b->scale[j], low_min = (unsigned)b->min[j];
        const unsigned high_scale = (unsigned)b->scale[j + 4], high_min = (unsigned)b->min[j + 4];
        c[j] = (uint8_t)(low_scale | high_scale >> 4 << 6);
        c[j + 4] = (uint8_t)(low_min | high_min >> 4 << 6);
        c[j + 8] = (uint8_t)((high_scale & 15) | (high_min & 15) << 4);
    }
}

/* Two sub-blocks share 32 bytes: the even one has the low nibbles. */
static void put_sub_block_nibbles(uint8_t *to, const float *q)
{
    for (size_t i = 0; i < SUB_BLOCKS * SUB / 2; i++) {
        const size_t first = i / SUB * 2 * SUB + i % SUB;
        to[i] = (uint8_t)(((unsigned)q[first] & 15) | ((unsigned)q[first + SUB] & 15) << 4);
    }
}

bool quantize_q4_k(uint8_t *block, const float *x)
{
    static const struct stretches stretches = { -1, 0.1f, 20 };
    struct affine_block b;

    if (!search_block(&b, x, 15, &stretches))
        return false;
    put_scales(block + 4, &b);
    put_sub_block_nibbles(block + 16, b.q);
    put_half(block, b.d);
    put_half(block + 2, b.dmin);
    return true;
}

bool quantize_q5_k(uint8_t *block, const float *x)
{
    static const struct stretches stretches = { -0.5f, 0.1f, 15 };
    struct affine_block b;

    if (!search_block(&b, x, 31, &stretches))
        return false;
    put_scales(block + 4, &b);
    for (size_t i = 0; i < SUB; i++) {      /* byte i: the fifth bit of value i of each sub-block */
        unsigned bits = 0;
        for (size_t j = 0; j < SUB_BLOCKS; j++)
            bits |= (unsigned)b.q[SUB * j + i] >> 4 << j;
        block[16 + i] = (uint8_t)bits;
    }
    put_sub_block_nibbles(block + 48, b.q);
    put_half(block, b.d);
    put_half(block + 2, b.dmin);
    return true;
}

/* Q6_K: x ~ scale q, q from -32 to 31, 16 values a sub-block. */
enum { HALF_SUBS = 16, HALF = 16 };
#define LARGEST_Q6_K (65504.0f * 128 * 32)

/* q = the codes of x, and how much of sum w x^2 the best scale for them takes away; w = x^2. */
static float symmetric_gain(float *q, const float *x, float inv, float *scale)
{
    float xl[LANES] = { 0 }, l2[LANES] = { 0 };

    for (size_t i = 0; i < HALF; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            const float v = x[i + j], code = clamp(nearest(inv * v), -32, 31), wl = v * v * code;
            q[i + j] = code;
            xl[j] += wl * v;
            l2[j] += wl * code;
        }
    const float sum_xl = lane_sum(xl), sum_l2 = lane_sum(l2);
    *scale = sum_l2 > 0 ? sum_xl / sum_l2 : 0;
    return *scale * sum_xl;
}

static float search_symmetric(const float *x)
{
    float largest = 0, q[HALF], best = 0, best_gain = 0, scale;

    for (size_t i = 0; i < HALF; i++)
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    if (!(fabsf(largest) > 1e-15f))         /* llama.cpp's bound; float16 scales end at 6e-8 */
        return 0;
    for (int i = -9; i <= 9; i++) {
        const float gain = symmetric_gain(q, x, -(32 + 0.1f * (float)i) / largest, &scale);
        if (gain > best_gain) {
            best_gain = gain;
            best = scale;
        }
    }
    return best;
}

struct symmetric_block {
    float d;
    float scale[HALF_SUBS];             /* -128..127 */
    float q[HALF_SUBS * HALF];
    float error;                        /* less the sum of x^4, which is the same for all */
    double xl, l2;                      /* for the best d */
};

static void choose_symmetric_codes(struct symmetric_block *b, const float wanted[HALF_SUBS], const float *x)
{
    const float inv_d = b->d != 0 ? 1 / b->d : 0;

    b->xl = b->l2 = 0;
    for (size_t j = 0; j < HALF_SUBS; j++) {
        b->scale[j] = clamp(nearest(clamp(inv_d * wanted[j], -129, 128)), -128, 127);
        const float scale = b->d * b->scale[j], inv = scale != 0 ? 1 / scale : 0;
        float xl[LANES] = { 0 }, l2[LANES] = { 0 };
        for (size_t i = HALF * j; i < HALF * (j + 1); i += LANES)
            for (size_t k = 0; k < LANES; k++) {
                const float v = x[i + k], code = clamp(nearest(clamp(inv * v, -64, 64)), -32, 31), wl = v * v * code;
                b->q[i + k] = code;
                xl[k] += wl * v;
                l2[k] += wl * code;
            }
        b->xl += (double)b->scale[j] * (double)lane_sum(xl);
        b->l2 += (double)b->scale[j] * (double)b->scale[j] * (double)lane_sum(l2);
    }
    b->error = (float)((double)b->d * ((double)b->d * b->l2 - 2 * b->xl));
}

bool quantize_q6_k(uint8_t *block, const float *x)
{
    float wanted[HALF_SUBS], largest = 0;
    struct symmetric_block b, next;

    for (size_t i = 0; i < HALF_SUBS * HALF; i++)
        if (fabsf(x[i]) > LARGEST_Q6_K)
            return false;
    for (size_t j = 0; j < HALF_SUBS; j++) {
        wanted[j] = search_symmetric(x + HALF * j);
        largest = fabsf(wanted[j]) > fabsf(largest) ? wanted[j] : largest;
    }
    b.d = as_half(largest / -128);
    choose_symmetric_codes(&b, wanted, x);
    next.d = b.l2 > 0 ? as_half((float)(b.xl / b.l2)) : b.d;
    if (next.d != b.d) {
        choose_symmetric_codes(&next, wanted, x);
        if (next.error < b.error)
            b = next;
    }

    memset(block, 0, 192);
    for (size_t i = 0; i < HALF_SUBS * HALF; i++) {
        const size_t n = i / 128, r = i % 128;
        const unsigned code = (unsigned)(b.q[i] + 32);
        block[64 * n + r % 64] |= (uint8_t)((code & 15) << 4 * (r / 64));
        block[128 + 32 * n + r % 32] |= (uint8_t)(code >> 4 << 2 * (r / 32));
    }
    for (size_t j = 0; j < HALF_SUBS; j++)
        block[192 + j] = (uint8_t)(int8_t)b.scale[j];
    put_half(block + 208, b.d);
    return true;
}
