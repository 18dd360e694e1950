/*
 * check_matmul.c - y = W x: the plain C against double arithmetic on the file's values, and every level that this machine
 * has against the plain C, byte for byte.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/kernels/matmul_problem.h"

static struct levels every_level(void)
{
    return (struct levels){ ISA_SCALAR, cpu_best_isa() };
}

static const size_t all_m[] = { 66, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 21, 31, 33, 63, 64, 65 };

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
                check_problem(every_level(), type, kernels_activation(type), all_m, sizeof(all_m) / sizeof(*all_m), panels[j], ks[l], range,
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
                    check_problem(every_level(), type, ACT_F32, m, sizeof(m) / sizeof(*m), panels[j], ks[l],
                                  (j + l) % 2 ? RANGE_EXTREME : RANGE_NORMAL, seed++);
            }
        }
    }
}

/* Many tokens and long rows go through in pieces; the pieces must not show. */
static void long_rows_and_many_tokens_give_the_same_bits(void **state)
{
    (void)state;
    static const size_t m[] = { 300, 1, 13, 40 };
    uint64_t seed = 20000;

    for (size_t i = 0; i < N_WEIGHT_TYPES; i++)
        check_problem(every_level(), weight_types[i], kernels_activation(weight_types[i]), m, 4, 3, 4352, RANGE_NORMAL, seed++);
}

/* From 683 tokens on avx512 and amx take them in pieces (avx512/unpacked.h). */
static void more_tokens_than_go_at_once_give_the_same_bits(void **state)
{
    (void)state;
    static const size_t m[] = { 2048, 682, 683, 687, 1365 }, ks[] = { 32, 64, 256 };
    uint64_t seed = 25000;

    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        for (size_t panels = 1; panels <= 3; panels++) {
            for (size_t l = 0; l < sizeof(ks) / sizeof(*ks); l++) {
                /* 256 for the types of 256-wide blocks alone */
                if (ks[l] % dtype_info(type)->block != 0 || (ks[l] == 256 && dtype_info(type)->block != 256))
                    continue;
                check_problem(every_level(), type, kernels_activation(type), m, sizeof(m) / sizeof(*m), panels, ks[l], RANGE_NORMAL,
                              seed++);
            }
        }
    }
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
            kernels.matmul_prompt[p.type](&args);
            kernels.matmul_f32[p.type](&args);
            args.m = 1;
            args.n_panels = 0;
            kernels.matmul[p.type](&args);
            kernels.matmul_prompt[p.type](&args);
            kernels.matmul_f32[p.type](&args);
        }
        guarded_free_all();
    }
}

/* Pairs of a few experts and tokens, some consecutive, some not; every row as the expert's own product gives it. */
static void experts_give_the_bits_of_their_own_products(void **state)
{
    (void)state;
    enum { N_EXPERTS = 5, N_TOKENS = 9, N_PANELS = 3, KK = 256, Y_STRIDE = 16 * N_PANELS + GAP };
    struct rng rng;

    rng_seed(&rng, 6);
    for (size_t type = 0; type < N_WEIGHT_TYPES; type++) {
        for (enum isa level = ISA_SCALAR; level <= cpu_best_isa(); level++) {
            struct problem p[N_EXPERTS];
            struct expert_pair pairs[N_EXPERTS * N_TOKENS];
            const void *w[N_EXPERTS + 1];
            struct kernels kernels;
            size_t n = 0;

            kernels_fill(&kernels, level);
            for (uint32_t e = 0; e < N_EXPERTS; e++) {
                const enum dtype t = weight_types[type];
                p[e] = random_problem(t, kernels_activation(t), e ? 1 : N_TOKENS, N_PANELS, KK, RANGE_NORMAL, &rng);
                w[e] = p[e].w;
                for (uint32_t token = 0; token < N_TOKENS; token++)
                    if (e == 0 || rng_below(&rng, 3) == 0)
                        pairs[n++] = (struct expert_pair){ .expert = e, .token = token };
            }
            w[N_EXPERTS] = NULL;        /* an expert that nobody chose */
            const matmul_fn product = kernels.matmul[p[0].type];
            const size_t n_rows = 1 + rng_below(&rng, N_TOKENS), y_bytes = (n * Y_STRIDE - GAP) * sizeof(float);
            const struct experts_args args = {
                .w = w, .pairs = pairs, .n_pairs = n, .x = p[0].x, .x_stride = p[0].x_stride,
                .x_bytes = activation_bytes(p[0].act, KK), .y = guarded(y_bytes), .y_stride = Y_STRIDE, .n_panels = N_PANELS, .k = KK,
                .scratch = guarded(matmul_scratch_bytes(KK)), .rows = guarded(n_rows * p[0].x_stride), .n_rows = n_rows,
            };
            kernels_multiply_experts(product, &args);
            for (size_t i = 0; i < n; i++) {
                struct problem own = p[pairs[i].expert];
                own.x = p[0].x;
                own.x_stride = p[0].x_stride;
                const float *want = multiply(&own, &kernels, pairs[i].token, 1);
                assert_memory_equal(args.y + i * Y_STRIDE, want, 16 * N_PANELS * sizeof(float));
            }
            guarded_free_all();
        }
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
 * weight product + constant the two parts are summed apart and may cancel. Prompts at amx round quantised weights to bf16: 2^-8.
 */
static void plain_c_is_close_to_double_arithmetic(void **state)
{
    (void)state;
    const size_t m = 3, n_panels = 2, k = 512;
    struct kernels plain;
    struct rng rng;

    kernels_fill_plain(&plain, ISA_AMX);
    rng_seed(&rng, 5);
    for (size_t i = 0; i < 3 * N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i / 3];
        const bool prompt = i % 3 == 2;
        const enum activation act = prompt ? plain.prompt_activation[type] : i % 3 ? kernels_activation(type) : ACT_F32;
        const double of_weights = prompt && act != kernels_activation(type) ? 0x1p-8 : 0;
        struct problem p = random_problem(type, act, m, n_panels, k, RANGE_NORMAL, &rng);
        p.prompt = prompt;
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
                assert_true(fabs(y[t * (16 * n_panels + GAP) + r] - sum) <=
                            ((2 * (double)k + 3) * 0x1p-24 + of_weights) * magnitude);
            }
        }
        guarded_free_all();
    }
}

/*
 * The file's values rounded once to bf16, but that a sum with a minimum is rounded twice to float32 before (kernels.h, matmul_prompt: 128
 * scales are below 256 of the block's largest product).
 */
static void check_rounded_block(enum dtype type, const uint8_t *row, size_t first, const double got[32])
{
    double largest = 0;

    for (size_t i = 0; i < 32; i++)
        largest = fmax(largest, fabs((double)file_value(type, row, first + i).product));
    for (size_t i = 0; i < 32; i++) {
        const struct file_value v = file_value(type, row, first + i);
        const double exact = (double)v.product + v.constant;
        const double slack = v.constant != 0 ? (256 * largest + fabs((double)v.constant)) * 0x1p-23 : 0;
        assert_true(got[i] >= bf16_to_float(bf16_from_float((float)(exact - slack))));
        assert_true(got[i] <= bf16_to_float(bf16_from_float((float)(exact + slack))));
    }
}

/* Each token is 1 at one k and 0 elsewhere, so that its outputs are the weights there. */
static void prompts_meet_quantised_weights_rounded_to_bf16(void **state)
{
    (void)state;
    enum { KK = 256, N_PANELS = 2 };
    struct kernels plain;
    struct rng rng;

    kernels_fill_plain(&plain, ISA_AMX);
    rng_seed(&rng, 7);
    for (size_t n = 0; n < N_WEIGHT_TYPES; n++) {
        const enum dtype type = weight_types[n];
        if (kernels_activation(type) != ACT_Q8)
            continue;
        assert_int_equal(plain.prompt_activation[type], ACT_BF16);
        struct problem p = random_problem(type, ACT_BF16, KK, N_PANELS, KK, RANGE_NORMAL, &rng);
        p.prompt = true;
        for (size_t t = 0; t < KK; t++)
            for (size_t i = 0; i < KK; i++)
                ((bf16 *)(p.x + t * p.x_stride))[i] = bf16_from_float(i == t);
        const float *y = multiply(&p, &plain, 0, KK);
        for (size_t r = 0; r < 16 * N_PANELS; r++) {
            for (size_t first = 0; first < KK; first += 32) {
                double got[32];
                for (size_t i = 0; i < 32; i++)
                    got[i] = y[(first + i) * (16 * N_PANELS + GAP) + r];
                check_rounded_block(type, p.rows + r * file_row_bytes(type, KK), first, got);
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
        cmocka_unit_test(prompts_meet_quantised_weights_rounded_to_bf16),
        cmocka_unit_test(every_level_gives_the_bits_of_plain_c),
        cmocka_unit_test(every_level_gives_the_bits_of_plain_c_on_floats),
        cmocka_unit_test(long_rows_and_many_tokens_give_the_same_bits),
        cmocka_unit_test(more_tokens_than_go_at_once_give_the_same_bits),
        cmocka_unit_test(rows_of_activations_spread_over_cache_sets),
        cmocka_unit_test(no_tokens_and_no_rows_do_nothing),
        cmocka_unit_test(experts_give_the_bits_of_their_own_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
