/*
 * check_providers.c - products by oneDNN and OpenBLAS: close to exact sums, and oneDNN's rows the same bits in every call.
 *
 *     check_providers [LEVEL]      the level that oneDNN is opened at (default: the machine's best)
 *     check_providers --bench      GFLOP/s of the libraries beside the native kernels, one thread
 *
 * A library's bits are its own, so its results are held to a bound, not to bytes. To serve a role of tokens (docs/design.md 4) the bits
 * of a row must depend on that row and the matrix alone: that is what `same_bits` of a product claims.
 */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/providers/providers.h"
#include "tests/kernels/bench_providers.h"
#include "tests/kernels/file_blocks.h"
#include "tests/kernels/guarded.h"

enum { GAP = 3 };       /* floats between rows of y, and 16-byte units between rows of x */

static enum isa level;
static struct onednn *onednn;

struct problem {
    enum dtype type;
    struct product product;
    size_t m, n_panels, k, x_stride;
    unsigned char *w, *x;
};

static void random_problem(struct problem *p, enum weight_range range, struct rng *rng)
{
    const size_t bytes = panel_bytes(p->type, p->k), row_bytes = file_row_bytes(p->type, p->k);
    uint8_t *row = guarded(16 * row_bytes);
    const void *rows[16];

    p->w = guarded((p->n_panels * bytes + 63) / 64 * 64);
    for (size_t panel = 0; panel < p->n_panels; panel++) {
        for (size_t r = 0; r < 16; r++) {
            rows[r] = row + r * row_bytes;
            file_random_row(p->type, row + r * row_bytes, p->k, range, rng);
        }
        assert_int_equal(panel_pack(p->type, p->w + panel * bytes, rows, p->k), 0);
    }
    p->x_stride = activation_bytes(p->product.activation, p->k) + 16 * GAP;
    p->x = guarded(p->m * p->x_stride - 16 * GAP);
    for (size_t t = 0; t < p->m; t++)
        for (size_t i = 0; i < p->k; i++) {
            float value = rng_float(rng, -1, 1);
            if (range == RANGE_EXTREME && rng_below(rng, 64) == 0)
                value *= rng_below(rng, 16) ? 1e-38f : rng_below(rng, 2) ? INFINITY : NAN;
            if (p->product.activation == ACT_BF16)
                ((bf16 *)(p->x + t * p->x_stride))[i] = bf16_from_float(value);
            else
                ((float *)(p->x + t * p->x_stride))[i] = value;
        }
}

/* y[m][16 n_panels + GAP] of some of the problem's tokens and panels; what lies between the rows stays. */
static float *multiply(const struct problem *p, size_t first, size_t m, size_t panel, size_t n_panels)
{
    const size_t y_stride = 16 * n_panels + GAP;
    const struct matmul_args args = {
        .w = p->w + panel * panel_bytes(p->type, p->k), .x = p->x + first * p->x_stride, .x_stride = p->x_stride,
        .y = guarded((m * y_stride - GAP) * sizeof(float)), .y_stride = y_stride, .m = m, .n_panels = n_panels, .k = p->k,
        .scratch = guarded((p->product.scratch_bytes + 63) / 64 * 64), .prepared = p->product.prepared,
    };
    uint32_t filler;

    p->product.multiply(&args);
    memset(&filler, 0xa5, sizeof(filler));
    for (size_t t = 0; t + 1 < m; t++)
        for (size_t i = 16 * n_panels; i < y_stride; i++)
            assert_memory_equal(&args.y[t * y_stride + i], &filler, sizeof(filler));
    return args.y;
}

static double activation(const struct problem *p, size_t t, size_t i)
{
    const unsigned char *row = p->x + t * p->x_stride;
    return p->product.activation == ACT_BF16 ? bf16_to_float(((const bf16 *)row)[i]) : ((const float *)row)[i];
}

/*
 * A sum of k products, in whatever order and with or without fma, is off by at most k eps / (1 - k eps) sum |w x|, eps = 2^-24 (Higham,
 * Accuracy and Stability, 2002, 3.1). Inputs are exact: activations are given as the product takes them, and weights decode without
 * rounding. VDPBF16PS flushes denormals: up to 2^-126 a product more.
 */
static void check_close(const struct problem *p, const char *name)
{
    const double k_eps = (double)p->k * 0x1p-24;
    const float *y = multiply(p, 0, p->m, 0, p->n_panels);
    float *w = guarded(p->k * sizeof(float));

    for (size_t n = 0; n < 16 * p->n_panels; n++) {
        panel_unpack_row(p->type, p->w + n / 16 * panel_bytes(p->type, p->k), (unsigned)(n % 16), p->k, w);
        for (size_t t = 0; t < p->m; t++) {
            double sum = 0, magnitude = 0;
            for (size_t i = 0; i < p->k; i++) {
                sum += (double)w[i] * activation(p, t, i);
                magnitude += fabs((double)w[i] * activation(p, t, i));
            }
            const double got = y[t * (16 * p->n_panels + GAP) + n], bound = k_eps / (1 - k_eps) * magnitude + (double)p->k * 0x1p-126;
            if (!(fabs(got - sum) <= bound))
                fail_msg("%s %s: token %zu output %zu is %g, exact %g, bound %g (m %zu, n_panels %zu, k %zu)", name,
                         dtype_info(p->type)->name, t, n, got, sum, bound, p->m, p->n_panels, p->k);
        }
    }
    guarded_free_all();
}

static void products_are_close_to_exact_sums(void **state)
{
    (void)state;
    static const struct { size_t m, n_panels, k; } shapes[] = { { 1, 1, 32 }, { 2, 3, 64 }, { 3, 4, 288 }, { 7, 5, 256 }, { 33, 2, 544 },
                                                                { 65, 9, 768 }, { 130, 1, 2304 } };
    struct rng rng;

    rng_seed(&rng, 1);
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++)
        for (size_t j = 0; j < sizeof(shapes) / sizeof(*shapes); j++) {
            struct problem p = { .type = weight_types[i], .m = shapes[j].m, .n_panels = shapes[j].n_panels, .k = shapes[j].k };
            if (p.k % dtype_info(p.type)->block != 0 || p.type == DTYPE_F8_E4M3)      /* which is never handed to them */
                continue;
            assert_int_equal(onednn_prepare(onednn, &p.product, "w", p.type, kernels_activation(p.type), p.k), 0);
            random_problem(&p, RANGE_NORMAL, &rng);
            check_close(&p, p.product.implementation);
            openblas_prepare(&p.product, p.type, p.k);
            random_problem(&p, RANGE_NORMAL, &rng);
            check_close(&p, p.product.implementation);
        }
}

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof(a)) == 0;
}

/* m tokens from `first` on by n panels from `panel` on, as their own call, against the same outputs of the largest call. */
static void check_part(const struct problem *p, const float *want, size_t first, size_t m, size_t panel, size_t n_panels)
{
    const float *got = multiply(p, first, m, panel, n_panels);

    for (size_t t = 0; t < m; t++)
        for (size_t i = 0; i < 16 * n_panels; i++) {
            const float a = got[t * (16 * n_panels + GAP) + i], b = want[(first + t) * (16 * p->n_panels + GAP) + 16 * panel + i];
            if (!same(a, b))
                fail_msg("%s %s: token %zu + %zu output %zu is %a, not %a (m %zu, n_panels %zu, k %zu)", p->product.implementation,
                         dtype_info(p->type)->name, first, t, 16 * panel + i, (double)a, (double)b, m, n_panels, p->k);
        }
}

/* m 1 to 512 and n 16 to 576, at random places. */
static void onednn_gives_a_row_the_same_bits_in_every_call(void **state)
{
    (void)state;
    static const enum dtype types[] = { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_Q4_0 };
    static const size_t ks[] = { 64, 576, 1056, 2304 };
    enum { MOST_M = 512, MOST_PANELS = 36, N_PARTS = 60 };
    struct rng rng;

    rng_seed(&rng, 2);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) {
            struct problem p = { .type = types[i], .m = MOST_M, .n_panels = MOST_PANELS, .k = ks[j] };
            assert_int_equal(onednn_prepare(onednn, &p.product, "w", p.type, kernels_activation(p.type), p.k), 0);
            if (level >= ISA_AVX512)
                assert_true(p.product.same_bits);
            if (level >= ISA_AVX512BF16)
                assert_int_equal(p.product.activation == ACT_BF16, p.type == DTYPE_BF16);
            if (!p.product.same_bits) {
                print_message("%s: %s claims nothing at this level\n", dtype_info(p.type)->name, p.product.implementation);
                break;
            }
            random_problem(&p, j == 1 ? RANGE_EXTREME : RANGE_NORMAL, &rng);
            const float *want = multiply(&p, 0, MOST_M, 0, MOST_PANELS);
            for (size_t part = 0; part < N_PARTS; part++) {
                /* Small m more often: powers of two and their neighbours, up to 512. */
                size_t m = ((size_t)1 << rng_below(&rng, 10)) + rng_below(&rng, 3), n_panels = 1 + rng_below(&rng, MOST_PANELS);
                m = m == 1 ? 1 : m - 1 > MOST_M ? MOST_M : m - 1;
                check_part(&p, want, rng_below(&rng, (uint32_t)(MOST_M - m + 1)), m,
                           rng_below(&rng, (uint32_t)(MOST_PANELS - n_panels + 1)), n_panels);
            }
            print_message("%s, k %zu: %s\n", dtype_info(p.type)->name, p.k, p.product.implementation);
            guarded_free_all();
        }
}

enum { N_WORKERS = 2, N_ROUNDS = 500 };

struct worker_call {
    struct problem problem;
    struct matmul_args args;
    const float *want;
    size_t y_bytes, n_wrong;
    atomic_uint *arrived;
};

static void *multiply_in_step(void *arg)
{
    struct worker_call *c = arg;

    for (unsigned round = 1; round <= N_ROUNDS; round++) {
        atomic_fetch_add(c->arrived, 1);
        while (atomic_load(c->arrived) < N_WORKERS * round)
            sched_yield();
        c->problem.product.multiply(&c->args);
        c->n_wrong += memcmp(c->args.y, c->want, c->y_bytes) != 0;
    }
    return NULL;
}

/* Workers leave a barrier together and call in the same instant: a race that calls at random hardly ever meet. */
static void workers_that_multiply_at_once_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct rng rng;

    rng_seed(&rng, 3);
    for (int library = 0; library < 2; library++) {
        struct worker_call calls[N_WORKERS];
        pthread_t threads[N_WORKERS];
        atomic_uint arrived = 0;
        for (size_t i = 0; i < N_WORKERS; i++) {
            struct problem p = { .type = DTYPE_F32, .m = 16, .n_panels = 4, .k = 288 };
            if (library)
                openblas_prepare(&p.product, p.type, p.k);
            else
                assert_int_equal(onednn_prepare(onednn, &p.product, "w", p.type, ACT_F32, p.k), 0);
            random_problem(&p, RANGE_NORMAL, &rng);
            calls[i] = (struct worker_call){
                .problem = p, .want = multiply(&p, 0, p.m, 0, p.n_panels), .arrived = &arrived,
                .y_bytes = (p.m * (16 * p.n_panels + GAP) - GAP) * sizeof(float),
            };
            calls[i].args = (struct matmul_args){
                .w = p.w, .x = p.x, .x_stride = p.x_stride, .y = guarded(calls[i].y_bytes), .y_stride = 16 * p.n_panels + GAP, .m = p.m,
                .n_panels = p.n_panels, .k = p.k, .scratch = guarded((p.product.scratch_bytes + 63) / 64 * 64),
                .prepared = p.product.prepared,
            };
        }
        for (size_t i = 0; i < N_WORKERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, multiply_in_step, &calls[i]), 0);
        for (size_t i = 0; i < N_WORKERS; i++)
            pthread_join(threads[i], NULL);
        for (size_t i = 0; i < N_WORKERS; i++)
            assert_int_equal(calls[i].n_wrong, 0);
        guarded_free_all();
    }
}

/* Pairs in runs of one expert's, rows that follow one another and rows that do not: the bits of the plain product. */
static void experts_are_multiplied_by_a_library_too(void **state)
{
    (void)state;
    static const struct expert_pair pairs[] = { { 1, 0 }, { 1, 1 }, { 1, 2 }, { 0, 0 }, { 0, 2 } };
    enum { N_PAIRS = sizeof(pairs) / sizeof(*pairs), N_EXPERTS = 2, N_ROWS = 2 };
    struct problem p[N_EXPERTS];
    struct rng rng;

    rng_seed(&rng, 4);
    for (size_t e = 0; e < N_EXPERTS; e++) {
        p[e] = (struct problem){ .type = DTYPE_BF16, .m = 3, .n_panels = 5, .k = 96 };
        assert_int_equal(onednn_prepare(onednn, &p[e].product, "w", p[e].type, ACT_BF16, p[e].k), 0);
        random_problem(&p[e], RANGE_NORMAL, &rng);
    }
    p[1].x = p[0].x;
    const struct product *product = &p[0].product;
    const size_t y_stride = 16 * p[0].n_panels;
    const struct experts_args args = {
        .w = (const void *[]){ p[0].w, p[1].w }, .pairs = pairs, .n_pairs = N_PAIRS, .x = p[0].x, .x_stride = p[0].x_stride,
        .x_bytes = activation_bytes(product->activation, p[0].k), .y = guarded(N_PAIRS * y_stride * sizeof(float)),
        .y_stride = y_stride, .n_panels = p[0].n_panels, .k = p[0].k, .scratch = guarded((product->scratch_bytes + 63) / 64 * 64),
        .prepared = product->prepared, .rows = guarded((N_ROWS * p[0].x_stride + 63) / 64 * 64), .n_rows = N_ROWS,
    };
    kernels_multiply_experts(product->multiply, &args);
    for (size_t i = 0; product->same_bits && i < N_PAIRS; i++)
        assert_memory_equal(args.y + i * y_stride, multiply(&p[pairs[i].expert], pairs[i].token, 1, 0, p[0].n_panels),
                            y_stride * sizeof(float));
    guarded_free_all();
}

static void no_tokens_and_no_rows_do_nothing(void **state)
{
    (void)state;
    struct matmul_args args = { .y = guarded(0), .y_stride = 16, .k = 256 };
    struct product products[2];

    assert_int_equal(onednn_prepare(onednn, &products[0], "w", DTYPE_BF16, ACT_BF16, 256), 0);
    openblas_prepare(&products[1], DTYPE_BF16, 256);
    for (size_t i = 0; i < 2; i++) {
        args.x_stride = activation_bytes(products[i].activation, 256);
        args.x = guarded(args.x_stride);
        args.w = guarded(panel_bytes(DTYPE_BF16, 256));
        args.scratch = guarded((products[i].scratch_bytes + 63) / 64 * 64);
        args.prepared = products[i].prepared;
        args.m = 0;
        args.n_panels = 1;
        products[i].multiply(&args);
        args.m = 1;
        args.n_panels = 0;
        products[i].multiply(&args);
    }
    guarded_free_all();
}

static void equal_questions_are_prepared_once(void **state)
{
    (void)state;
    struct product a, b;

    assert_int_equal(onednn_prepare(onednn, &a, "w", DTYPE_F32, ACT_F32, 96), 0);
    assert_int_equal(onednn_prepare(onednn, &b, "w", DTYPE_F32, ACT_F32, 96), 0);
    assert_ptr_equal(a.prepared, b.prepared);
    assert_int_equal(onednn_prepare(onednn, &b, "w", DTYPE_F16, ACT_F32, 96), 0);
    assert_ptr_not_equal(a.prepared, b.prepared);
    assert_int_equal(a.activation, ACT_F32);
}

static int open_libraries(void **state)
{
    (void)state;
    return openblas_check() || onednn_open(&onednn, level);
}

static int close_libraries(void **state)
{
    (void)state;
    onednn_close(onednn);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_close_to_exact_sums),
        cmocka_unit_test(onednn_gives_a_row_the_same_bits_in_every_call),
        cmocka_unit_test(workers_that_multiply_at_once_do_not_disturb_each_other),
        cmocka_unit_test(experts_are_multiplied_by_a_library_too),
        cmocka_unit_test(no_tokens_and_no_rows_do_nothing),
        cmocka_unit_test(equal_questions_are_prepared_once),
    };

    level = cpu_best_isa();
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        return bench_providers(argc > 2 ? argv[2] : NULL);
    if (argc > 1 && (!isa_parse(argv[1], &level) || level > cpu_best_isa())) {
        fprintf(stderr, "usage: check_providers [LEVEL] | --bench [LEVEL]    (levels that this machine has)\n");
        return 2;
    }
    return cmocka_run_group_tests(tests, open_libraries, close_libraries);
}
