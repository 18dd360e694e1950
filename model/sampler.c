#include "model/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "model/philox.h"

/*
 * A vocabulary has up to 262,144 ids, and a draw must cost little beside a step of a small model. So nothing is sorted: blocks
 * of ids whose maximum is too low are skipped, and the few candidates that are left are cut by value with a radix
 * select, in which ties fall to the lower id by themselves.
 */
enum { BLOCK = VOCAB_SEGMENT };

struct candidate {
    float value;            /* logit after bias and penalties */
    float weight;           /* e^((value - largest value) / temperature) */
    int32_t id;
};

/* The parts of `scratch`. */
struct workspace {
    double *mass;                   /* sum of the weights of each block */
    float *block_max;
    float *values;                  /* the logits, when bias, penalties or bans change them */
    struct candidate *list;         /* in id order */
    uint32_t *seen;                 /* in the place of `list`, while penalties are applied */
};

static size_t n_blocks_of(size_t n_vocab)
{
    return (n_vocab + BLOCK - 1) / BLOCK;
}

size_t sampler_scratch_bytes(size_t n_vocab)
{
    const size_t bytes = n_blocks_of(n_vocab) * (sizeof(double) + sizeof(float)) +
                         n_vocab * (sizeof(float) + sizeof(struct candidate));
    return (bytes + 63) / 64 * 64;
}

static struct workspace split_scratch(void *scratch, size_t n_vocab)
{
    const size_t n_blocks = n_blocks_of(n_vocab);
    struct workspace w = { .mass = scratch };

    w.block_max = (float *)(w.mass + n_blocks);
    w.values = w.block_max + n_blocks;
    w.list = (struct candidate *)(w.values + n_vocab);
    w.seen = (uint32_t *)w.list;
    return w;
}

double sampler_uniform(uint64_t seed, uint32_t choice, uint64_t position)
{
    const uint32_t counter[4] = { (uint32_t)position, (uint32_t)(position >> 32), choice, 0 };
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t out[4];

    philox_4x32_10(out, counter, key);
    return (double)(((uint64_t)out[1] << 32 | out[0]) >> 11) * 0x1p-53;
}

struct logits_norm sampler_norm(const struct segment_stats *segments, size_t n_segments)
{
    struct logits_norm norm = { .log_sum_exp = NAN, .max = -INFINITY };
    double sum = 0;

    for (size_t i = 0; i < n_segments; i++) {
        const struct segment_stats *s = &segments[i];
        if (isnan(s->max) || s->max > norm.max) {
            norm.max = s->max;
            norm.argmax = (int32_t)(i * VOCAB_SEGMENT) + s->argmax;
        }
        if (isnan(s->max))
            return norm;
    }
    if (isinf(norm.max))
        return norm;
    for (size_t i = 0; i < n_segments; i++)
        sum += (double)segments[i].sum * (double)kernels_expf(segments[i].max - norm.max);
    norm.log_sum_exp = (double)norm.max + log(sum);
    return norm;
}

float sampler_logprob(const float *logits, struct logits_norm norm, int32_t id)
{
    return (float)((double)logits[id] - norm.log_sum_exp);
}

void sampler_top(const float *logits, size_t n_vocab, struct logits_norm norm, size_t n, struct token_logprob *out)
{
    float value[SAMPLER_MAX_TOP];
    size_t n_found = 0;

    for (size_t id = 0; id < n_vocab && n > 0; id++) {
        if (n_found == n && !(logits[id] > value[n - 1]))
            continue;
        size_t at = n_found < n ? n_found++ : n - 1;
        for (; at > 0 && logits[id] > value[at - 1]; at--) {
            value[at] = value[at - 1];
            out[at] = out[at - 1];
        }
        value[at] = logits[id];
        out[at] = (struct token_logprob){ (int32_t)id, sampler_logprob(logits, norm, (int32_t)id) };
    }
    for (; n_found < n; n_found++)
        out[n_found] = (struct token_logprob){ -1, -INFINITY };
}

/* Repetition over prompt and generated tokens, frequency and presence over generated ones; each id once. */
static void apply_penalties(float *values, uint32_t *seen, const struct sampling *s, const int32_t *tokens, size_t n_tokens,
                            size_t n_prompt)
{
    enum { IN_PROMPT = 1, ONE_GENERATED = 2 };

    for (size_t i = 0; i < n_tokens; i++)       /* `seen` is not cleared as a whole: a megabyte a draw */
        seen[tokens[i]] = 0;
    for (size_t i = 0; i < n_tokens; i++) {
        if (i < n_prompt)
            seen[tokens[i]] |= IN_PROMPT;
        else
            seen[tokens[i]] += ONE_GENERATED;
    }
    for (size_t i = 0; i < n_tokens; i++) {
        const uint32_t mark = seen[tokens[i]], n_generated = mark / ONE_GENERATED;
        float *value = &values[tokens[i]];
        if (mark && s->repetition_penalty != 1)
            *value = *value > 0 ? *value / s->repetition_penalty : *value * s->repetition_penalty;
        if (n_generated > 0)
            *value -= s->frequency_penalty * (float)n_generated + s->presence_penalty;
        seen[tokens[i]] = 0;
    }
}

/* ln of the weight, at least -88: there the weight is 0 already. */
static inline float exponent_of(float value, float max, float temperature)
{
    float x = (value - max) / temperature;
    return x > -88.0f ? x : -88.0f;
}

/*
 * e^x for -88 <= x <= 0; 0 below -87.68, where 2^n is no normal float32. kernels_expf() is defined by fma, a function call in a
 * build for every x86-64 processor; this one does with what SSE2 has, so that a loop over it becomes vectors.
 */
static inline float exp_of(float x)
{
    const float magic = 0x1.8p23f;
    float shifted = x * 0x1.715476p+0f + magic, n = shifted - magic;
    float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;     /* ln 2 in two parts; n times the first is exact */
    float p = 0x1.6a4154p-10f;
    uint32_t bits;

    p = p * r + 0x1.1239c6p-7f;
    p = p * r + 0x1.5558bcp-5f;
    p = p * r + 0x1.555492p-3f;
    p = p * r + 0x1.fffffcp-2f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits << 23) + 0x3f800000;   /* 2^n, and 0 for n = -127; the magic number's own bits are shifted out */
    memcpy(&n, &bits, sizeof(n));
    return p * n;
}

/* Two loops: in one, the compiler would branch on the bound and make no vectors. */
static void weigh(float weight[BLOCK], const float *values, size_t n, float max, float temperature)
{
    for (size_t i = 0; i < n; i++)
        weight[i] = exponent_of(values[i], max, temperature);
    for (size_t i = 0; i < n; i++)
        weight[i] = exp_of(weight[i]);
}

/* Eight partial sums, for speed; always the same eight. */
static double sum_of(const float *weight, size_t n)
{
    double sum[8] = { 0 };
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t lane = 0; lane < 8; lane++)
            sum[lane] += (double)weight[i + lane];
    for (; i < n; i++)
        sum[i % 8] += (double)weight[i];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

static float max_of(const float *values, size_t n)
{
    float max[8];
    size_t i = 0;

    for (size_t lane = 0; lane < 8; lane++)
        max[lane] = -INFINITY;
    for (; i + 8 <= n; i += 8)
        for (size_t lane = 0; lane < 8; lane++)
            max[lane] = values[i + lane] > max[lane] ? values[i + lane] : max[lane];
    for (; i < n; i++)
        max[0] = values[i] > max[0] ? values[i] : max[0];
    for (size_t lane = 1; lane < 8; lane++)
        max[0] = max[lane] > max[0] ? max[lane] : max[0];
    return max[0];
}

static size_t block_length(size_t block, size_t n_vocab)
{
    return n_vocab - block * BLOCK < BLOCK ? n_vocab - block * BLOCK : BLOCK;
}

/* Blocks of which nothing may be drawn, most where a grammar leaves few ids, have no mass. */
static double fill_masses(const struct workspace *w, const float *values, size_t n_vocab, float max, float temperature)
{
    double total = 0;

    for (size_t b = 0; b < n_blocks_of(n_vocab); b++) {
        float weight[BLOCK];
        const size_t n = block_length(b, n_vocab);
        w->mass[b] = 0;
        if (w->block_max[b] == -INFINITY)
            continue;
        weigh(weight, values + b * BLOCK, n, max, temperature);
        w->mass[b] = sum_of(weight, n);
        total += w->mass[b];
    }
    return total;
}

/* The draw from all ids: first the block, then the id within it. */
static int32_t draw_from_blocks(const double *mass, double target, const float *values, size_t n_vocab, float max,
                                float temperature)
{
    const size_t n_blocks = n_blocks_of(n_vocab);
    float weight[BLOCK];
    size_t chosen = 0, within = 0;
    double below = 0, sum = 0;

    for (size_t b = 0; b < n_blocks; b++) {
        if (mass[b] > 0) {
            chosen = b;
            below = sum;
            sum += mass[b];
        }
        if (sum > target)
            break;
    }
    const size_t n = block_length(chosen, n_vocab);
    weigh(weight, values + chosen * BLOCK, n, max, temperature);
    sum = 0;
    for (size_t i = 0; i < n && !(sum > target - below); i++) {
        if (weight[i] > 0)
            within = i;         /* the last possible one stays chosen when rounding leaves the sum short of the target */
        sum += (double)weight[i];
    }
    return (int32_t)(chosen * BLOCK + within);
}

/* An integer whose order is that of the floats, with one zero. */
static uint32_t order_of(float x)
{
    uint32_t bits;

    x += 0.0f;
    memcpy(&bits, &x, sizeof(bits));
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/*
 * Keep the best of list[n], in its order: the fewest of largest value whose sum reaches `target`, ties to those that come
 * first. The sum is of weights, or with `count` of ones. Eight bits of the value a round: which of 256 bins crosses the target?
 */
static size_t keep_best(struct candidate *list, size_t n, double target, bool count)
{
    uint32_t prefix = 0, prefix_mask = 0;
    double above = 0;               /* sum of all that are better than the prefix */
    size_t n_kept = 0;

    for (int shift = 24; shift >= 0; shift -= 8) {
        double bins[256] = { 0 }, sum = above;
        uint32_t chosen = 0;

        for (size_t i = 0; i < n; i++) {
            uint32_t order = order_of(list[i].value);
            if ((order & prefix_mask) == prefix)
                bins[order >> shift & 0xff] += count ? 1 : (double)list[i].weight;
        }
        for (uint32_t b = 256; b-- > 0 && sum < target; ) {
            if (bins[b] > 0) {
                chosen = b;
                above = sum;
                sum += bins[b];
            }
        }
        prefix |= chosen << shift;
        prefix_mask |= (uint32_t)0xff << shift;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t order = order_of(list[i].value);
        if (order < prefix || (order == prefix && above >= target))
            continue;
        if (order == prefix)
            above += count ? 1 : (double)list[i].weight;
        list[n_kept++] = list[i];
    }
    return n_kept;
}

/* The k-th largest block maximum: at least k ids have that value or more. */
static float floor_of_top(const struct workspace *w, size_t n_blocks, size_t k)
{
    float lowest = FLT_MAX;

    if (k > n_blocks)
        return -FLT_MAX;
    for (size_t b = 0; b < n_blocks; b++)
        w->list[b] = (struct candidate){ .value = w->block_max[b] };
    const size_t n = keep_best(w->list, n_blocks, (double)k, true);
    for (size_t i = 0; i < n; i++)
        lowest = w->list[i].value < lowest ? w->list[i].value : lowest;
    return lowest > -FLT_MAX ? lowest : -FLT_MAX;
}

/* A value below that of every id whose weight is at least `weight`. */
static float floor_of_weight(double weight, float max, float temperature)
{
    const double slack = 0.01;      /* of the exponent: far above the rounding of exponent_of() and exp_of() */
    return nextafterf((float)((double)max + (double)temperature * (log(weight) - slack)), -INFINITY);
}

/* List the ids of value `least` or more. */
static size_t gather(const struct workspace *w, const float *values, size_t n_vocab, float least, float max,
                     float temperature)
{
    size_t n = 0;

    for (size_t b = 0; b < n_blocks_of(n_vocab); b++) {
        if (!(w->block_max[b] >= least))
            continue;
        for (size_t id = b * BLOCK; id < b * BLOCK + block_length(b, n_vocab); id++) {
            if (values[id] >= least && values[id] > -INFINITY)
                w->list[n++] = (struct candidate){ values[id], exp_of(exponent_of(values[id], max, temperature)), (int32_t)id };
        }
    }
    return n;
}

static double list_mass(const struct candidate *list, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)list[i].weight;
    return sum;
}

/* All ids that top-p of all ids may keep: from the best down until they have the mass. Mostly the first few e-folds do. */
static size_t gather_mass(const struct workspace *w, const float *values, size_t n_vocab, double target, float max,
                          float temperature)
{
    size_t n;
    float depth = 4;

    do {
        n = gather(w, values, n_vocab, max - depth * temperature, max, temperature);
        depth *= 1.5f;
    } while (list_mass(w->list, n) < target && depth < 200);    /* 4 * 1.5^i, up to 102.5 and 153.8: weights end at 88 */
    return n;
}

static size_t keep_heavy(struct candidate *list, size_t n, float least_weight)
{
    size_t n_kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (list[i].weight >= least_weight)
            list[n_kept++] = list[i];
    }
    return n_kept;
}

static bool has_top_k(const struct sampling *s, size_t n_vocab)
{
    return s->top_k > 0 && (size_t)s->top_k < n_vocab;
}

bool sampling_filters(const struct sampling *s, size_t n_vocab)
{
    return s->temperature >= SAMPLER_GREEDY && (has_top_k(s, n_vocab) || s->top_p < 1 || s->min_p > 0);
}

/* Fill w->list with the ids that top-k, top-p and min-p leave: at least the best. */
static size_t filter(const struct workspace *w, const struct sampling *s, const float *values, size_t n_vocab, float max)
{
    const float temperature = s->temperature;
    const bool use_p = s->top_p < 1;
    double mass = 0;
    size_t n;

    if (has_top_k(s, n_vocab)) {
        const float least = floor_of_top(w, n_blocks_of(n_vocab), (size_t)s->top_k);
        n = gather(w, values, n_vocab, least, max, temperature);
        n = keep_best(w->list, n, (double)s->top_k, true);
        mass = list_mass(w->list, n);
    } else if (use_p) {
        mass = fill_masses(w, values, n_vocab, max, temperature);
        n = gather_mass(w, values, n_vocab, (double)s->top_p * mass, max, temperature);
    } else {
        n = gather(w, values, n_vocab, floor_of_weight((double)s->min_p, max, temperature), max, temperature);
    }
    if (use_p)
        n = keep_best(w->list, n, fmax((double)s->top_p * mass, DBL_MIN), false);
    if (s->min_p > 0)
        n = keep_heavy(w->list, n, s->min_p);     /* the best has weight 1 */
    return n;
}

static int32_t draw_from_list(const struct candidate *list, size_t n, double target)
{
    int32_t id = -1;
    double sum = 0;

    for (size_t i = 0; i < n && !(sum > target); i++) {
        if (list[i].weight > 0)
            id = list[i].id;
        sum += (double)list[i].weight;
    }
    return id;
}

/* The lowest id with the largest value. */
static int32_t find(const struct workspace *w, const float *values, size_t n_vocab, float max)
{
    for (size_t b = 0; b < n_blocks_of(n_vocab); b++) {
        for (size_t id = b * BLOCK; w->block_max[b] == max && id < n_vocab; id++) {
            if (values[id] == max)
                return (int32_t)id;
        }
    }
    return -1;
}

/* The logits of the ids that are allowed; NULL: of all. Words of the mask are mostly all ids or none. */
static void copy_allowed(float *values, const float *logits, size_t n_vocab, const uint64_t *allowed)
{
    if (!allowed)
        memcpy(values, logits, n_vocab * sizeof(*logits));
    for (size_t from = 0; allowed && from < n_vocab; from += 64) {
        const uint64_t bits = allowed[from / 64];
        const size_t n = n_vocab - from < 64 ? n_vocab - from : 64;
        if (bits == UINT64_MAX) {
            memcpy(values + from, logits + from, n * sizeof(*logits));
            continue;
        }
        for (size_t i = 0; i < n; i++)
            values[from + i] = -INFINITY;
        for (uint64_t left = bits; left; left &= left - 1) {
            const size_t i = (size_t)__builtin_ctzll(left);
            if (i < n)
                values[from + i] = logits[from + i];
        }
    }
}

int32_t sampler_draw(const struct sampling *s, const float *logits, size_t n_vocab, struct logits_norm norm, uint64_t position,
                     const int32_t *tokens, size_t n_tokens, size_t n_prompt, const int32_t *banned, size_t n_banned,
                     const uint64_t *allowed, void *scratch)
{
    const bool penalties = s->repetition_penalty != 1 || s->presence_penalty != 0 || s->frequency_penalty != 0;
    const bool changed = penalties || s->n_bias > 0 || n_banned > 0 || allowed, greedy = s->temperature < SAMPLER_GREEDY;
    const struct workspace w = split_scratch(scratch, n_vocab);
    const float *values = logits;
    float max = -INFINITY;

    if (isnan(norm.log_sum_exp))
        return -1;
    if (greedy && !changed)
        return norm.argmax;
    if (changed) {
        copy_allowed(w.values, logits, n_vocab, allowed);
        for (size_t i = 0; i < s->n_bias; i++) {
            if ((uint32_t)s->bias[i].id < n_vocab)
                w.values[s->bias[i].id] += s->bias[i].bias;
        }
        if (penalties)
            apply_penalties(w.values, w.seen, s, tokens, n_tokens, n_prompt);
        for (size_t i = 0; i < n_banned; i++) {
            if ((uint32_t)banned[i] < n_vocab)
                w.values[banned[i]] = -INFINITY;
        }
        values = w.values;
    }
    for (size_t b = 0; b < n_blocks_of(n_vocab); b++) {
        w.block_max[b] = max_of(values + b * BLOCK, block_length(b, n_vocab));
        max = w.block_max[b] > max ? w.block_max[b] : max;
    }
    if (max == -INFINITY)
        return -1;
    if (greedy || max == INFINITY)
        return find(&w, values, n_vocab, max);

    const double u = sampler_uniform(s->seed, s->choice, position);
    if (sampling_filters(s, n_vocab)) {
        const size_t n = filter(&w, s, values, n_vocab, max);
        return draw_from_list(w.list, n, u * list_mass(w.list, n));
    }
    const double total = fill_masses(&w, values, n_vocab, max, s->temperature);
    return draw_from_blocks(w.mass, u * total, values, n_vocab, max, s->temperature);
}
