#include "tests/kernels/matmul_problem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* One block of activations. Sums are what quantize_q8 stores; every q is in -127..127. */
static void random_q8(struct q8_block *x, enum weight_range range, struct rng *rng)
{
    static const float scales[] = { 0, 1e-45f, 1e-40f, 1.17549435e-38f, 1e30f, 3.4e38f, NAN };
    const uint32_t form = range == RANGE_EXTREME ? rng_below(rng, 4) : 0;
    int32_t sum = 0, low = 0;

    x->scale = range == RANGE_EXTREME && rng_below(rng, 4) == 0 ? scales[rng_below(rng, 7)] : rng_float(rng, 0, 0.1f);
    for (size_t i = 0; i < 32; i++) {
        x->q[i] = (int8_t)((int)rng_below(rng, 255) - 127);
        if (form == 1)
            x->q[i] = 127;
        else if (form == 2)
            x->q[i] = -127;
        else if (form == 3)
            x->q[i] = rng_below(rng, 2) ? 127 : -127;
        if (isnan(x->scale))
            x->q[i] = 0;
        sum += x->q[i];
        low += i < 16 ? x->q[i] : 0;
    }
    x->neg_sum = -sum;
    x->neg_sum_low = -low;
    x->scaled_sum = x->scale * (float)sum;
}

static float random_float(enum weight_range range, struct rng *rng)
{
    static const float extremes[] = { 0, -0.0f, 1e-45f, -1e-40f, 1.2e-38f, -1e-38f, 3e38f, -3e38f, 1e-20f, NAN, INFINITY };
    if (range == RANGE_EXTREME && rng_below(rng, 8) == 0)
        return extremes[rng_below(rng, 11)];
    return rng_float(rng, -1, 1);
}

static void random_activations(struct problem *p, enum weight_range range, struct rng *rng)
{
    p->x_stride = activation_bytes(p->act, p->k) + 16 * GAP;
    p->x = guarded(p->m * p->x_stride - 16 * GAP);
    for (size_t t = 0; t < p->m; t++) {
        uint8_t *row = p->x + t * p->x_stride;
        for (size_t b = 0; p->act == ACT_Q8 && b < p->k / 32; b++)
            random_q8((struct q8_block *)row + b, range, rng);
        for (size_t i = 0; p->act != ACT_Q8 && i < p->k; i++) {
            const float value = random_float(range, rng);
            if (p->act == ACT_BF16)
                ((bf16 *)row)[i] = bf16_from_float(value);
            else
                ((float *)row)[i] = value;
        }
    }
}

struct problem random_problem(enum dtype type, enum activation act, size_t m, size_t n_panels, size_t k, enum weight_range range,
                              struct rng *rng)
{
    struct problem p = { .type = type, .act = act, .m = m, .n_panels = n_panels, .k = k };
    const size_t row_bytes = file_row_bytes(type, k), bytes = panel_bytes(type, k);

    p.rows = guarded(16 * n_panels * row_bytes);
    p.w = guarded(n_panels * bytes + (64 - n_panels * bytes % 64) % 64);
    for (size_t panel = 0; panel < n_panels; panel++) {
        const void *rows[16];
        for (size_t r = 0; r < 16; r++) {
            rows[r] = p.rows + (16 * panel + r) * row_bytes;
            file_random_row(type, p.rows + (16 * panel + r) * row_bytes, k, range, rng);
        }
        assert_int_equal(panel_pack(type, p.w + panel * bytes, rows, k), 0);
    }
    random_activations(&p, range, rng);
    return p;
}

float *multiply(const struct problem *p, const struct kernels *kernels, size_t first, size_t m)
{
    const size_t y_stride = 16 * p->n_panels + GAP, y_bytes = (m * y_stride - GAP) * sizeof(float);
    const struct matmul_args args = {
        .w = p->w, .x = p->x + first * p->x_stride, .x_stride = p->x_stride, .y = guarded(y_bytes), .y_stride = y_stride,
        .m = m, .n_panels = p->n_panels, .k = p->k, .scratch = guarded(matmul_scratch_bytes(p->k)),
    };
    const bool checking = !p->prompt && p->act == ACT_F32 && kernels_activation(p->type) != ACT_F32;
    (checking ? kernels->matmul_f32 : p->prompt ? kernels->matmul_prompt : kernels->matmul)[p->type](&args);
    return args.y;
}

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof(a)) == 0;
}

static void check_rows(const struct problem *p, const float *got, const float *want, size_t first, size_t m, enum isa level,
                       uint64_t seed)
{
    const size_t n = 16 * p->n_panels, y_stride = n + GAP;
    uint32_t filler;

    memset(&filler, 0xa5, sizeof(filler));
    for (size_t t = 0; t < m; t++) {
        for (size_t i = 0; i < n; i++) {
            if (!same(got[t * y_stride + i], want[(first + t) * y_stride + i]))
                fail_msg("%s %s act %d%s: token %zu output %zu is %a, not %a (m %zu, n_panels %zu, k %zu, seed %llu)",
                         isa_name(level), dtype_info(p->type)->name, (int)p->act, p->prompt ? " prompt" : "", first + t, i,
                         got[t * y_stride + i], want[(first + t) * y_stride + i], m, p->n_panels, p->k, (unsigned long long)seed);
        }
        for (size_t i = n; i < y_stride && t + 1 < m; i++)
            assert_memory_equal(&got[t * y_stride + i], &filler, sizeof(filler));
    }
}

static void check_level(const struct problem *p, const struct kernels *kernels, const float *want, const size_t *ms, size_t n_ms,
                        struct rng *rng)
{
    for (size_t i = 0; i < n_ms; i++) {
        const size_t first = rng_below(rng, (uint32_t)(ms[0] - ms[i] + 1));
        check_rows(p, multiply(p, kernels, first, ms[i]), want, first, ms[i], kernels->isa, rng->seed);
    }
}

void check_problem(struct levels levels, enum dtype type, enum activation act, const size_t *ms, size_t n_ms, size_t n_panels, size_t k,
                   enum weight_range range, uint64_t seed)
{
    struct rng rng;
    struct kernels plain, kernels;

    rng_seed(&rng, seed);
    struct problem p = random_problem(type, act, ms[0], n_panels, k, range, &rng);
    for (enum isa level = levels.lowest; level <= levels.highest; level++) {
        kernels_fill(&kernels, level);
        kernels_fill_plain(&plain, level);
        check_level(&p, &kernels, multiply(&p, &plain, 0, ms[0]), ms, n_ms, &rng);
        if (kernels.matmul_prompt[type] != kernels.matmul[type] && act == kernels_activation(type)) {
            struct problem prompt = p;
            prompt.prompt = true;
            prompt.act = kernels.prompt_activation[type];
            random_activations(&prompt, range, &rng);
            assert_int_equal(plain.prompt_activation[type], prompt.act);
            check_level(&prompt, &kernels, multiply(&prompt, &plain, 0, ms[0]), ms, n_ms, &rng);
        }
    }
    guarded_free_all();
}
