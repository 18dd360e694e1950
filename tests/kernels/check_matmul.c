/*
 * check_matmul.c - y = W x: the plain C against double arithmetic on the file's values, and every level that this machine
 * has against the plain C, byte for byte.
 *
 * The plain C runs once with all tokens; every level must then give the same rows for every m. So the same
 * comparison shows that neither the level, nor m, nor a token's place in the batch changes a bit.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "tests/kernels/file_blocks.h"
#include "tests/kernels/guarded.h"

enum { GAP = 3 };       /* floats between rows of y, and 16-byte units between rows of x, that must stay untouched */

struct problem {
    enum dtype type;
    enum activation act;
    size_t m, n_panels, k;
    uint8_t *rows;          /* the file's rows, 16 n_panels */
    uint8_t *w, *x;
    size_t x_stride;
};

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

static struct problem random_problem(enum dtype type, enum activation act, size_t m, size_t n_panels, size_t k,
                                     enum weight_range range, struct rng *rng)
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

/* y[m][16 n_panels + GAP] of tokens first .. first + m - 1. */
static float *multiply(const struct problem *p, const struct kernels *kernels, size_t first, size_t m)
{
    const size_t y_stride = 16 * p->n_panels + GAP, y_bytes = (m * y_stride - GAP) * sizeof(float);
    const struct matmul_args args = {
        .w = p->w, .x = p->x + first * p->x_stride, .x_stride = p->x_stride, .y = guarded(y_bytes), .y_stride = y_stride,
        .m = m, .n_panels = p->n_panels, .k = p->k, .scratch = guarded(matmul_scratch_bytes(p->k)),
    };
    const bool checking = p->act == ACT_F32 && kernels_activation(p->type) != ACT_F32;
    (checking ? kernels->matmul_f32 : kernels->matmul)[p->type](&args);
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
                fail_msg("%s %s act %d: token %zu output %zu is %a, not %a (m %zu, n_panels %zu, k %zu, seed %llu)",
                         isa_name(level), dtype_info(p->type)->name, (int)p->act, first + t, i, got[t * y_stride + i],
                         want[(first + t) * y_stride + i], m, p->n_panels, p->k, (unsigned long long)seed);
        }
        for (size_t i = n; i < y_stride && t + 1 < m; i++)
            assert_memory_equal(&got[t * y_stride + i], &filler, sizeof(filler));
    }
}

/* All m of the list, of which the largest comes first, at every level up to the machine's. */
static void check_problem(enum dtype type, enum activation act, const size_t *ms, size_t n_ms, size_t n_panels, size_t k,
                          enum weight_range range, uint64_t seed)
{
    struct rng rng;
    struct kernels plain, kernels;

    rng_seed(&rng, seed);
    struct problem p = random_problem(type, act, ms[0], n_panels, k, range, &rng);
    kernels_fill(&plain, ISA_SCALAR);
    const float *want = multiply(&p, &plain, 0, ms[0]);
    for (enum isa level = ISA_SCALAR; level <= cpu_best_isa(); level++) {
        kernels_fill(&kernels, level);
        for (size_t i = 0; i < n_ms; i++) {
            const size_t first = rng_below(&rng, (uint32_t)(ms[0] - ms[i] + 1));
            check_rows(&p, multiply(&p, &kernels, first, ms[i]), want, first, ms[i], level, seed);
        }
    }
    guarded_free_all();
}

static const size_t all_m[] = { 64, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 31, 33 };

static void every_level_gives_the_bits_of_plain_c(void **state)
{
    (void)state;
    static const size_t panels[] = { 1, 2, 3, 5, 8 }, ks[] = { 32, 64, 96, 256, 512, 576, 1024 };
    uint64_t seed = 100;

    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        for (size_t j = 0; j < sizeof(panels) / sizeof(*panels); j++) {
            for (size_t l = 0; l < sizeof(ks) / sizeof(*ks); l++) {
                const enum weight_range range = (j + l) % 2 ? RANGE_EXTREME : RANGE_NORMAL;
                if (ks[l] % dtype_info(type)->block != 0 || (ks[l] == 1024 && panels[j] > 3))
                    continue;
                check_problem(type, kernels_activation(type), all_m, sizeof(all_m) / sizeof(*all_m), panels[j], ks[l], range,
                              seed++);
            }
        }
    }
}

static void every_level_gives_the_bits_of_plain_c_on_floats(void **state)
{
    (void)state;
    static const size_t m[] = { 33, 1, 2, 6, 7, 8, 17 }, panels[] = { 1, 2, 3, 5 }, ks[] = { 32, 96, 256, 512 };
    uint64_t seed = 10000;

    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        for (size_t j = 0; j < 4; j++) {
            for (size_t l = 0; l < 4; l++) {
                if (ks[l] % dtype_info(type)->block == 0)
                    check_problem(type, ACT_F32, m, sizeof(m) / sizeof(*m), panels[j], ks[l],
                                  (j + l) % 2 ? RANGE_EXTREME : RANGE_NORMAL, seed++);
            }
        }
    }
}

/* Many tokens and long rows go through in pieces; the pieces must not show. */
static void long_rows_and_many_tokens_give_the_same_bits(void **state)
{
    (void)state;
    static const size_t m[] = { 300, 1, 40 };
    uint64_t seed = 20000;

    for (size_t i = 0; i < N_WEIGHT_TYPES; i++)
        check_problem(weight_types[i], kernels_activation(weight_types[i]), m, 3, 3, 4352, RANGE_NORMAL, seed++);
}

static void no_tokens_and_no_rows_do_nothing(void **state)
{
    (void)state;
    struct rng rng;
    struct kernels kernels;

    rng_seed(&rng, 4);
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        struct problem p = random_problem(weight_types[i], kernels_activation(weight_types[i]), 1, 1, 256, RANGE_NORMAL, &rng);
        for (enum isa level = ISA_SCALAR; level <= cpu_best_isa(); level++) {
            struct matmul_args args = { .w = p.w, .x = p.x, .x_stride = p.x_stride, .y = guarded(0), .y_stride = 16,
                                        .m = 0, .n_panels = 1, .k = 256, .scratch = guarded(matmul_scratch_bytes(256)) };
            kernels_fill(&kernels, level);
            kernels.matmul[p.type](&args);
            kernels.matmul_f32[p.type](&args);
            args.m = 1;
            args.n_panels = 0;
            kernels.matmul[p.type](&args);
            kernels.matmul_f32[p.type](&args);
        }
        guarded_free_all();
    }
}

/* The value that token t's activations stand for, at k = i. */
static double activation(const struct problem *p, size_t t, size_t i)
{
    const uint8_t *row = p->x + t * p->x_stride;
    const struct q8_block *q8 = (const struct q8_block *)row + i / 32;

    switch (p->act) {
    case ACT_Q8:   return (double)q8->scale * q8->q[i % 32];
    case ACT_BF16: return bf16_to_float(((const bf16 *)row)[i]);
    default:       return ((const float *)row)[i];
    }
}

/*
 * At most 2 k roundings lie between the plain C and the exact sum of w x, each at most eps = 2^-24 of a sum that
 * is never larger than sum |w x| (Higham, Accuracy and Stability, 2002, 3.1); products with scales round 3 times more. For a
 * weight product + constant the two parts are summed apart and may cancel.
 */
static void plain_c_is_close_to_double_arithmetic(void **state)
{
    (void)state;
    const size_t m = 3, n_panels = 2, k = 512;
    struct kernels plain;
    struct rng rng;

    kernels_fill(&plain, ISA_SCALAR);
    rng_seed(&rng, 5);
    for (size_t i = 0; i < 2 * N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i / 2];
        struct problem p = random_problem(type, i % 2 ? ACT_F32 : kernels_activation(type), m, n_panels, k, RANGE_NORMAL, &rng);
        const float *y = multiply(&p, &plain, 0, m);
        for (size_t t = 0; t < m; t++) {
            for (size_t r = 0; r < 16 * n_panels; r++) {
                double sum = 0, magnitude = 0;
                for (size_t n = 0; n < k; n++) {
                    const struct file_value v = file_value(type, p.rows + r * file_row_bytes(type, k), n);
                    const double x = activation(&p, t, n);
                    sum += ((double)v.product + v.constant) * x;
                    magnitude += (fabs((double)v.product) + fabs((double)v.constant)) * fabs(x);
                }
                assert_true(magnitude > 0);
                assert_true(fabs(y[t * (16 * n_panels + GAP) + r] - sum) <= (2 * (double)k + 3) * 0x1p-24 * magnitude);
            }
        }
        guarded_free_all();
    }
}

static void rows_of_activations_spread_over_cache_sets(void **state)
{
    (void)state;
    for (enum activation a = ACT_Q8; a <= ACT_F32; a++) {
        for (size_t k = 32; k <= 16384; k += 32) {
            const size_t stride = activation_stride(a, k), bytes = activation_bytes(a, k);
            assert_true(stride >= bytes && stride < bytes + 128);
            assert_int_equal(stride % 128, 64);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_c_is_close_to_double_arithmetic),
        cmocka_unit_test(every_level_gives_the_bits_of_plain_c),
        cmocka_unit_test(every_level_gives_the_bits_of_plain_c_on_floats),
        cmocka_unit_test(long_rows_and_many_tokens_give_the_same_bits),
        cmocka_unit_test(rows_of_activations_spread_over_cache_sets),
        cmocka_unit_test(no_tokens_and_no_rows_do_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
