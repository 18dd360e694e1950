/*
 * check_operations.c - every operation but matrices and attention: each level against plain C byte for byte, on all
 * lengths up to 600 with guard pages, and plain C against its definition in long double.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>

#include "tests/kernels/guarded.h"
#include "tests/kernels/levels.h"

enum { MAX_N = 600 };

/* Mostly ordinary numbers; one in four rows holds any bits: NaN, infinity, subnormals, both zeros, huge ones. */
static float *random_row(struct rng *rng, size_t n)
{
    static const float special[] = { NAN, INFINITY, -INFINITY, 0.0f, -0.0f, FLT_MAX, -FLT_MAX, FLT_MIN, 1e-45f, -1e-45f, 1e-40f,
                                     88.7f, -88.7f, -103.9f, 0.625f, 1e19f, -1e19f };
    const bool wild = rng_below(rng, 4) == 0;
    const float range = rng_below(rng, 2) ? 2.0f : 60.0f;
    float *row = guarded(n * sizeof(*row));

    for (size_t i = 0; i < n; i++) {
        row[i] = rng_float(rng, -range, range);
        if (wild && rng_below(rng, 16) == 0)
            row[i] = special[rng_below(rng, sizeof(special) / sizeof(special[0]))];
        else if (wild && rng_below(rng, 16) == 0)
            rng_bytes(rng, &row[i], sizeof(row[i]));
    }
    return row;
}

static float *copy_of(const float *row, size_t n)
{
    float *copy = guarded(n * sizeof(*copy));
    memcpy(copy, row, n * sizeof(*copy));
    return copy;
}

static void compare_norm(const struct kernels *ref, const struct kernels *opt)
{
    struct rng rng;

    rng_seed(&rng, 1);
    for (size_t n = 1; n <= MAX_N; n++) {
        const float *x = random_row(&rng, n), *w = random_row(&rng, n);
        const float eps = rng_below(&rng, 2) ? 1e-5f : 0;
        float *want = guarded(n * sizeof(*want)), *got = guarded(n * sizeof(*got)), *in_place = copy_of(x, n);
        ref->rms_norm(want, x, w, eps, n);
        opt->rms_norm(got, x, w, eps, n);
        CHECK_SAME_FLOATS(got, want, n, "rms_norm n=%zu level=%s", n, isa_name(opt->isa));
        opt->rms_norm(in_place, in_place, w, eps, n);
        CHECK_SAME_FLOATS(in_place, want, n, "rms_norm n=%zu level=%s", n, isa_name(opt->isa));
        guarded_free_all();
    }
}

typedef void (*pairs_fn)(float *x, const float *y, size_t n);
typedef void (*row_fn)(float *x, float parameter, size_t n);

static void compare_pairs(pairs_fn ref, pairs_fn opt, const char *name, uint64_t seed)
{
    struct rng rng;

    rng_seed(&rng, seed);
    for (size_t n = 1; n <= MAX_N; n++) {
        const float *x = random_row(&rng, n), *y = random_row(&rng, n);
        float *want = copy_of(x, n), *got = copy_of(x, n);
        ref(want, y, n);
        opt(got, y, n);
        CHECK_SAME_FLOATS(got, want, n, "%s n=%zu", name, n);
        guarded_free_all();
    }
}

static void compare_rows(row_fn ref, row_fn opt, const char *name, uint64_t seed)
{
    struct rng rng;

    rng_seed(&rng, seed);
    for (size_t n = 1; n <= MAX_N; n++) {
        const float *x = random_row(&rng, n);
        const float parameter = rng_float(&rng, 0.1f, 60.0f);
        float *want = copy_of(x, n), *got = copy_of(x, n);
        ref(want, parameter, n);
        opt(got, parameter, n);
        CHECK_SAME_FLOATS(got, want, n, "%s n=%zu", name, n);
        guarded_free_all();
    }
}

static void compare_elementwise(const struct kernels *ref, const struct kernels *opt)
{
    compare_pairs(ref->add, opt->add, "add", 2);
    compare_pairs(ref->silu_mul, opt->silu_mul, "silu_mul", 3);
    compare_pairs(ref->gelu_mul, opt->gelu_mul, "gelu_mul", 4);
    compare_rows(ref->scale, opt->scale, "scale", 5);
    compare_rows(ref->softcap, opt->softcap, "softcap", 6);
}

static void compare_rope(const struct kernels *ref, const struct kernels *opt)
{
    struct rng rng;

    rng_seed(&rng, 7);
    for (size_t n = 2; n <= MAX_N; n += 2) {
        const float *x = random_row(&rng, n), *cos = random_row(&rng, n / 2), *sin = random_row(&rng, n / 2);
        float *want = copy_of(x, n), *got = copy_of(x, n);
        ref->rope(want, cos, sin, n);
        opt->rope(got, cos, sin, n);
        CHECK_SAME_FLOATS(got, want, n, "rope n=%zu level=%s", n, isa_name(opt->isa));
        guarded_free_all();
    }
}

static void compare_quantize(const struct kernels *ref, const struct kernels *opt)
{
    struct rng rng;

    rng_seed(&rng, 8);
    for (size_t round = 0; round < 400; round++) {
        const size_t k = 32 * (1 + rng_below(&rng, 20));
        float *x = random_row(&rng, k);
        struct q8_block *want = guarded(k / 32 * sizeof(*want)), *got = guarded(k / 32 * sizeof(*got));
        const float factors[] = { 1, 1e-37f, 1e-39f, 3e36f, 0 }, factor = factors[rng_below(&rng, 5)];
        for (size_t i = 0; i < k; i++)
            x[i] = rng_below(&rng, 8) ? x[i] * factor : (float)rng_below(&rng, 20) * factor * 0.5f;
        ref->quantize_q8(want, x, k);
        opt->quantize_q8(got, x, k);
        for (size_t b = 0; b < k / 32; b++) {
            CHECK_SAME_FLOATS(&got[b].scale, &want[b].scale, 2, "quantize_q8 round=%zu block=%zu level=%s", round, b,
                              isa_name(opt->isa));
            assert_memory_equal(&got[b].neg_sum, &want[b].neg_sum, sizeof(*got) - offsetof(struct q8_block, neg_sum));
        }
        float *rest = copy_of(x, k), *want_rest = copy_of(x, k);
        ref->subtract_q8(want_rest, want, k);
        opt->subtract_q8(rest, want, k);
        CHECK_SAME_FLOATS(rest, want_rest, k, "subtract_q8 round=%zu level=%s", round, isa_name(opt->isa));
        guarded_free_all();
    }
    for (size_t n = 1; n <= MAX_N; n++) {
        const float *x = random_row(&rng, n);
        bf16 *want = guarded(n * sizeof(*want)), *got = guarded(n * sizeof(*got));
        ref->round_bf16(want, x, n);
        opt->round_bf16(got, x, n);
        assert_memory_equal(got, want, n * sizeof(*want));
        guarded_free_all();
    }
}

static void compare_segment_stats(const struct kernels *ref, const struct kernels *opt)
{
    struct rng rng;

    rng_seed(&rng, 9);
    for (size_t round = 0; round < 4000; round++) {
        const size_t n = 1 + rng_below(&rng, VOCAB_SEGMENT);
        const uint32_t kind = rng_below(&rng, 8);
        float *x = random_row(&rng, n);
        struct segment_stats want, got;

        for (size_t i = 0; i < n; i++) {
            if (kind == 0)
                x[i] = rng_below(&rng, 2) ? 0.0f : -0.0f;
            else if (kind == 1)
                x[i] = -INFINITY;
            else if (kind == 2)
                x[i] = (float)rng_below(&rng, 3);
        }
        if (kind == 3)
            x[rng_below(&rng, (uint32_t)n)] = NAN;
        if (kind == 4)
            x[rng_below(&rng, (uint32_t)n)] = INFINITY;
        ref->segment_stats(&want, x, n);
        opt->segment_stats(&got, x, n);
        CHECK_SAME_FLOATS(&got.max, &want.max, 1, "segment_stats round=%zu n=%zu", round, n);
        CHECK_SAME_FLOATS(&got.sum, &want.sum, 1, "segment_stats round=%zu n=%zu", round, n);
        assert_int_equal(got.argmax, want.argmax);
        guarded_free_all();
    }
}

static void levels_agree_on_norms(void **state) { (void)state; at_every_level(compare_norm); }
static void levels_agree_on_elementwise_operations(void **state) { (void)state; at_every_level(compare_elementwise); }
static void levels_agree_on_rope(void **state) { (void)state; at_every_level(compare_rope); }
static void levels_agree_on_rounding(void **state) { (void)state; at_every_level(compare_quantize); }
static void levels_agree_on_segment_stats(void **state) { (void)state; at_every_level(compare_segment_stats); }

/* The error of `got` in units of the last place of a float32 near `want`. */
static double ulps(float got, long double want)
{
    int exponent;

    if (isnan(got) || (isinf(got) && fabsl(want) < (long double)FLT_MAX))
        return INFINITY;
    if (isinf(got))
        return 0;
    frexpl(want, &exponent);
    if (want == 0 || exponent < -125)
        exponent = -125;                /* subnormal: the step is 2^-149 */
    return (double)(fabsl((long double)got - want) / ldexpl(1, exponent - 24));
}

static void worst(double *so_far, double error)
{
    if (!(error <= *so_far))
        *so_far = error;
}

static void functions_are_accurate(void **state)
{
    (void)state;
    struct kernels t;
    double exp_error = 0, tanh_error = 0, silu_error = 0, gelu_error = 0;

    kernels_fill(&t, ISA_SCALAR);
    for (uint64_t bits = 0; bits < (1ull << 32); bits += 4099) {    /* a prime, so that all low bits occur */
        const uint32_t word = (uint32_t)bits;
        float x, y;
        memcpy(&x, &word, sizeof(x));
        if (isnan(x) || fabsf(x) > 150)
            continue;
        const long double e = expl((long double)x);
        worst(&exp_error, ulps(kernels_expf(x), e > 1.01L * (long double)FLT_MAX ? (long double)INFINITY : e));

        y = x;
        t.softcap(&y, 1.0f, 1);
        worst(&tanh_error, ulps(y, tanhl((long double)x)));

        y = x;
        t.silu_mul(&y, &(float){ 1 }, 1);
        if (x > -80)
            worst(&silu_error, ulps(y, (long double)x / (1 + expl(-(long double)x))));

        y = x;
        t.gelu_mul(&y, &(float){ 1 }, 1);
        const long double wide = (long double)x, u = 0.797884560802865355879892L * (wide + 0.044715L * wide * wide * wide);
        if (fabsf(x) > 1e-36f)
            worst(&gelu_error, (double)(fabsl((long double)y - 0.5L * wide * (1 + tanhl(u))) / fabsl(wide)));
    }
    print_message("errors: exp %.3f ulp, tanh %.3f ulp, silu %.3f ulp, gelu %.3g |x|\n", exp_error, tanh_error, silu_error,
                  gelu_error);
    assert_true(exp_error < 0.9);
    assert_true(tanh_error < 1.4);
    assert_true(silu_error < 2.4);
    assert_true(gelu_error < 1.3e-7);
}

static void functions_have_their_limits(void **state)
{
    (void)state;
    struct kernels t;
    float x[] = { INFINITY, -INFINITY, NAN, -0.0f, 1e-45f, -1e-45f };

    kernels_fill(&t, ISA_SCALAR);
    assert_true(kernels_expf(0) == 1 && kernels_expf(-0.0f) == 1);
    assert_true(kernels_expf(-INFINITY) == 0 && !signbit(kernels_expf(-INFINITY)));
    assert_true(kernels_expf(-104) == 0 && kernels_expf(-103.9f) == 1e-45f);
    assert_true(isinf(kernels_expf(88.73f)) && isinf(kernels_expf(INFINITY)) && isfinite(kernels_expf(88.72f)));
    assert_true(isnan(kernels_expf(NAN)) && isnan(kernels_expf(-NAN)));
    t.softcap(x, 1.0f, 6);
    assert_true(x[0] == 1 && x[1] == -1 && isnan(x[2]) && x[3] == 0 && signbit(x[3]) && x[4] == 1e-45f && x[5] == -1e-45f);
}

static void norm_is_its_definition(void **state)
{
    (void)state;
    struct kernels t;
    struct rng rng;

    kernels_fill(&t, ISA_SCALAR);
    rng_seed(&rng, 10);
    for (size_t n = 1; n <= MAX_N; n += 7) {
        float x[MAX_N], w[MAX_N], y[MAX_N];
        long double squares = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = rng_float(&rng, -3, 3);
            w[i] = rng_float(&rng, -2, 2);
            squares += (long double)x[i] * (long double)x[i];
        }
        t.rms_norm(y, x, w, 1e-5f, n);
        for (size_t i = 0; i < n; i++) {
            const long double want = (long double)x[i] / sqrtl(squares / n + 1e-5L) * (long double)w[i];
            /* 2^-24 each: 42 roundings in the sum, halved by the root, and 5 after it */
            assert_true(fabsl((long double)y[i] - want) <= 1.6e-6L * fabsl(want));
        }
    }
}

static void rope_turns_pairs(void **state)
{
    (void)state;
    struct kernels t;
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    const float cos[3] = { 1, 0, -1 }, sin[3] = { 0, 1, 0 }, want[6] = { 1, -5, -3, 4, 2, -6 };

    kernels_fill(&t, ISA_SCALAR);
    t.rope(x, cos, sin, 6);
    for (size_t i = 0; i < 6; i++)
        assert_true(x[i] == want[i]);
}

static void quantisation_is_its_definition(void **state)
{
    (void)state;
    struct kernels t;
    struct rng rng;

    kernels_fill(&t, ISA_SCALAR);
    rng_seed(&rng, 11);
    for (size_t round = 0; round < 1000; round++) {
        float x[32], absmax = 0;
        struct q8_block got;
        int32_t sum = 0, sum_low = 0;

        for (size_t i = 0; i < 32; i++) {
            x[i] = round % 2 ? rng_float(&rng, -5, 5) : ((float)rng_below(&rng, 255) - 127) * 0.5f;    /* many ties */
            absmax = fmaxf(absmax, fabsf(x[i]));
        }
        t.quantize_q8(&got, x, 32);
        assert_true(got.scale == absmax / 127.0f);
        for (size_t i = 0; i < 32; i++) {
            assert_int_equal(got.q[i], lrintf(x[i] * (127.0f / absmax)));       /* the default mode: to nearest even */
            sum += got.q[i];
            sum_low += i < 16 ? got.q[i] : 0;
        }
        assert_int_equal(got.neg_sum, -sum);
        assert_int_equal(got.neg_sum_low, -sum_low);
        assert_true(got.scaled_sum == got.scale * (float)sum);

        float rest[32];
        memcpy(rest, x, sizeof(rest));
        t.subtract_q8(rest, &got, 32);
        for (size_t i = 0; i < 32; i++) {
            const float term = got.scale * (float)got.q[i];
            assert_true(rest[i] == x[i] - term);
        }
    }
}

static void quantisation_of_extremes(void **state)
{
    (void)state;
    static const struct { float value; bool finite; } extremes[] = {
        { 0, true }, { -0.0f, true }, { 1e-45f, true }, { 3e-37f, true }, { INFINITY, false }, { -INFINITY, false },
        { NAN, false }, { -NAN, false },
    };
    struct kernels t;

    for (enum isa level = ISA_SCALAR; level <= cpu_best_isa(); level++) {
        kernels_fill(&t, level);
        for (size_t e = 0; e < sizeof(extremes) / sizeof(extremes[0]); e++) {
            for (size_t at = 0; at < 32; at++) {
                float x[32] = { 0 };
                struct q8_block got;
                if (!extremes[e].finite)
                    x[(at + 5) % 32] = FLT_MAX;         /* a larger number does not hide a NaN */
                x[at] = extremes[e].value;
                t.quantize_q8(&got, x, 32);
                assert_true(extremes[e].finite ? got.scale == 0 : isnan(got.scale));
                assert_true(extremes[e].finite ? got.scaled_sum == 0 : isnan(got.scaled_sum));
                assert_int_equal(got.neg_sum, 0);
                for (size_t i = 0; i < 32; i++)
                    assert_int_equal(got.q[i], 0);
            }
        }
    }
}

static void segment_stats_are_their_definition(void **state)
{
    (void)state;
    struct kernels t;
    struct rng rng;
    struct segment_stats got;

    kernels_fill(&t, ISA_SCALAR);
    rng_seed(&rng, 12);
    for (size_t n = 1; n <= VOCAB_SEGMENT; n++) {
        float x[VOCAB_SEGMENT];
        size_t best = 0;
        long double sum = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = rng_float(&rng, -20, 20);
            best = x[i] > x[best] ? i : best;
        }
        for (size_t i = 0; i < n; i++)
            sum += expl((long double)x[i] - (long double)x[best]);
        t.segment_stats(&got, x, n);
        assert_true(got.max == x[best]);
        assert_int_equal(got.argmax, best);
        assert_true(fabsl((long double)got.sum - sum) <= 1e-6L * sum);
    }
    const float ties[] = { 1, 3, 3, 2 }, nan[] = { 5, NAN, 9 };
    const float infinite[] = { 1, INFINITY, INFINITY }, none[] = { -INFINITY, -INFINITY };
    t.segment_stats(&got, ties, 4);
    assert_int_equal(got.argmax, 1);
    t.segment_stats(&got, nan, 3);
    assert_true(isnan(got.max));
    t.segment_stats(&got, infinite, 3);
    assert_true(got.max == INFINITY && got.argmax == 1);
    t.segment_stats(&got, none, 2);
    assert_true(got.max == -INFINITY && got.argmax == 0 && got.sum == 0);
}

/* The yardstick of decoding must read every byte once: whole rounds of its streams, the rest, and a few words at the end. */
static void compare_streams(const struct kernels *ref, const struct kernels *opt)
{
    const size_t bytes = (9 << 20) + 64 + 24;
    struct rng rng;
    uint8_t *p = guarded(bytes);

    rng_seed(&rng, 12);
    rng_bytes(&rng, p, bytes);
    assert_int_equal(opt->read_stream(p, bytes), ref->read_stream(p, bytes));
    assert_int_equal(opt->read_stream(p, 8), ref->read_stream(p, 8));
    guarded_free_all();
}

/* What a loop of common/streams.h leaves in `a` of these values; true for all levels, non-temporal or not. */
static double streamed(enum stream_kind kind, double a, double b, double c)
{
    switch (kind) {
    case STREAM_READ_3_1:
        return a + (b + c);
    case STREAM_READ_2_1:
        return a + b;
    case STREAM_READ_1_1:
        return a + 1;
    case STREAM_WRITE:
    case STREAM_WRITE_NT:
        return 1;
    case STREAM_COPY:
    case STREAM_COPY_NT:
        return b;
    case STREAM_SCALE:
    case STREAM_SCALE_NT:
        return 3 * b;
    case STREAM_ADD:
    case STREAM_ADD_NT:
        return b + c;
    default:
        return b + 3 * c;
    }
}

static void check_stream_loops(const struct kernels *ref, const struct kernels *opt)
{
    const size_t bytes = 3 * STREAM_BLOCK_BYTES, n = bytes / sizeof(double);
    double *a = guarded(bytes), *b = guarded(bytes), *c = guarded(bytes);

    (void)ref;
    assert_ptr_equal(opt->streams.read, opt->read_stream);
    for (enum stream_kind kind = STREAM_READ + 1; kind < STREAM_KINDS; kind++) {
        for (size_t i = 0; i < n; i++) {
            a[i] = 7 + (double)i;
            b[i] = -0.5 * (double)i;
            c[i] = 1000 + 3 * (double)i;
        }
        opt->streams.run[kind](a, b, c, bytes);
        for (size_t i = 0; i < n; i++) {
            if (a[i] != streamed(kind, 7 + (double)i, b[i], c[i]))
                fail_msg("%s, %s: a[%zu] = %g", isa_name(opt->isa), stream_shapes[kind].name, i, a[i]);
        }
    }
    const void *ring[11];
    for (size_t i = 0; i < 11; i++)
        ring[i] = &ring[(i + 4) % 11];
    assert_ptr_equal(opt->streams.chase(ring, 0), ring);
    assert_ptr_equal(opt->streams.chase(ring, 13), &ring[4 * 13 % 11]);
    for (size_t i = 0; i < n; i++)
        ((uint64_t *)a)[i] = i % 8 ? 1000000 : i;       /* the first word of each line counts */
    assert_int_equal(opt->streams.read_paced(a, bytes, 0), opt->streams.read_paced(a, bytes, 5));
    assert_int_equal(opt->streams.read_paced(a, bytes, 1), (n / 8 - 1) * (n / 8) / 2 * 8);
    guarded_free_all();
}

static void levels_agree_on_streams(void **state)
{
    (void)state;
    at_every_level(compare_streams);
    at_every_level(check_stream_loops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_accurate),
        cmocka_unit_test(functions_have_their_limits),
        cmocka_unit_test(norm_is_its_definition),
        cmocka_unit_test(rope_turns_pairs),
        cmocka_unit_test(quantisation_is_its_definition),
        cmocka_unit_test(quantisation_of_extremes),
        cmocka_unit_test(segment_stats_are_their_definition),
        cmocka_unit_test(levels_agree_on_norms),
        cmocka_unit_test(levels_agree_on_elementwise_operations),
        cmocka_unit_test(levels_agree_on_rope),
        cmocka_unit_test(levels_agree_on_rounding),
        cmocka_unit_test(levels_agree_on_segment_stats),
        cmocka_unit_test(levels_agree_on_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
