/*
 * rope.c - the frequencies with which positions rotate pairs of q and k (Su et al., "RoFormer", arXiv:2104.09864), and their scalings.
 *
 * All in double, rounded once when a step's tables are filled. Formulas as transformers' modeling_rope_utils.py has them.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/log.h"
#include "model/model_internal.h"

/* How far pair j is from rotating beta times over the original context: YaRN's ramp runs between two of these. */
static double yarn_pair(const struct rope_config *c, double beta)
{
    return (double)c->n_dims * log(c->n_ctx_original / (2 * M_PI * beta)) / (2 * log(c->base));
}

/* Pairs that rotate often keep their frequency, those that hardly do are stretched by the factor, between them a ramp. */
static void scale_yarn(const struct rope_config *c, double *f)
{
    double low = yarn_pair(c, c->beta_fast), high = yarn_pair(c, c->beta_slow);

    if (!c->keeps_bounds) {
        low = floor(low);
        high = ceil(high);
    }
    low = low > 0 ? low : 0;
    high = high < (double)c->n_dims - 1 ? high : (double)c->n_dims - 1;
    if (low == high)
        high += 0.001;
    for (size_t j = 0; j < c->n_dims / 2; j++) {
        double ramp = ((double)j - low) / (high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        f[j] = f[j] / c->factor * ramp + f[j] * (1 - ramp);
    }
}

static double *plain_frequencies(const struct rope_config *c)
{
    double *f = malloc(c->n_dims / 2 * sizeof(*f));

    for (size_t j = 0; f && j < c->n_dims / 2; j++)
        f[j] = pow(c->base, -2 * (double)j / (double)c->n_dims);
    return f;
}

/* Divide by the factors that the file has for each pair. */
static int divide(const struct gguf *g, const char *name, double *f, size_t n)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    float *factors;

    if (!t) {
        log_error("%s: tensor \"%s\" is missing", gguf_path(g), name);
        return -EINVAL;
    }
    if (t->type != DTYPE_F32 || t->n_dims != 1 || t->ne[0] != n) {
        log_error("%s: tensor \"%s\" is %s {%" PRIu64 "}, expected F32 {%zu}", gguf_path(g), name, dtype_info(t->type)->name, t->ne[0], n);
        return -EINVAL;
    }
    factors = malloc(n * sizeof(*factors));
    if (!factors)
        return -ENOMEM;
    int err = gguf_read(g, t, 0, factors, n * sizeof(*factors));
    for (size_t j = 0; !err && j < n; j++) {
        if (!(factors[j] > 0 && factors[j] < 1e6f)) {
            log_error("%s: tensor \"%s\" entry %zu is %g, expected a positive number", gguf_path(g), name, j, (double)factors[j]);
            err = -EINVAL;
        }
        f[j] /= (double)factors[j];
    }
    free(factors);
    return err;
}

int rope_open(struct rope *r, const struct rope_config *c, const struct gguf *g)
{
    const size_t n = c->n_dims / 2;
    int err = 0;

    *r = (struct rope){ .n_pairs = n, .magnitude = c->magnitude, .frequencies = plain_frequencies(c) };
    if (!r->frequencies)
        return -ENOMEM;
    switch (c->scaling) {
    case ROPE_PLAIN:
        break;
    case ROPE_DYNAMIC:
        r->dynamic = c;
        break;
    case ROPE_LINEAR:
        for (size_t j = 0; j < n; j++)
            r->frequencies[j] /= c->factor;
        break;
    case ROPE_YARN:
        scale_yarn(c, r->frequencies);
        break;
    case ROPE_LONG:
        r->long_frequencies = plain_frequencies(c);
        if (!r->long_frequencies)
            return -ENOMEM;
        err = divide(g, "rope_factors_short.weight", r->frequencies, n);
        return err ? err : divide(g, "rope_factors_long.weight", r->long_frequencies, n);
    }
    /* Llama 3's scaling: the file has a divisor for each frequency. */
    return gguf_find_tensor(g, "rope_freqs.weight") && c->has_factors ? divide(g, "rope_freqs.weight", r->frequencies, n) : 0;
}

void rope_close(struct rope *r)
{
    free(r->frequencies);
    free(r->long_frequencies);
    *r = (struct rope){ 0 };
}

/* The base that stretches the slowest pair to `length` (NTK-aware scaling), for prompts beyond what the model was trained for. */
static double dynamic_base(const struct rope_config *c, double length)
{
    const double n = (double)c->n_dims;

    return c->base * pow(c->factor * length / c->n_ctx_original - (c->factor - 1), n / (n - 2));
}

/* One after the other: a table for whole contexts would cost more memory traffic than it saves. */
void rope_fill(const struct rope *r, uint32_t position, uint32_t length, float *cos_out, float *sin_out)
{
    const double *f = length && r->long_frequencies ? r->long_frequencies : r->frequencies;
    const double base = length && r->dynamic ? dynamic_base(r->dynamic, length) : 0;

    for (size_t j = 0; j < r->n_pairs; j++) {
        const double angle = position * (base > 0 ? pow(base, -(double)j / (double)r->n_pairs) : f[j]);
        cos_out[j] = (float)(cos(angle) * r->magnitude);
        sin_out[j] = (float)(sin(angle) * r->magnitude);
    }
}
