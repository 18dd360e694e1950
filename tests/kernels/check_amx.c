/*
 * check_amx.c - y = W x at level amx against plain C, byte for byte. Where the machine has no tiles their instructions are emulated
 * (tests/amx); the AVX-512 part of the level has to be there.
 *
 * A machine with tiles runs all of check_matmul at this level besides.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/amx/amx_emulator.h"
#include "tests/amx/machine.h"
#include "tests/kernels/matmul_problem.h"

static const struct levels amx = { ISA_AMX, ISA_AMX };

/* First in each test, as cmocka takes back handlers between them. Returns what tiles_were_used() wants to know. */
static uint64_t start(void)
{
    const int err = amx_hardware() ? 0 : amx_emulator_install();

    if (cpu_best_isa() < ISA_AVX512BF16 || err == -EPERM) {
        print_message("NOT TESTED: level amx; this machine has %s%s, and only tiles are emulated\n", isa_name(cpu_best_isa()),
                      err ? " and tiles that the operating system refuses" : "");
        skip();
    }
    assert_int_equal(err, 0);
    return amx_emulator_count();
}

static void tiles_were_used(uint64_t before)
{
    if (!amx_hardware())
        assert_true(amx_emulator_count() > before);
}

/* F8_E4M3 has no tiles: its kernel is that of the level below. */
static bool takes_tiles(enum dtype type)
{
    return kernels_activation(type) != ACT_F32 && type != DTYPE_F8_E4M3;
}

/* Both sides of every bound on m; panels in pairs and one over; one block, an odd number, more than a chunk. */
static const size_t all_m[] = { 65, 1, 8, 9, 10, 11, 12, 13, 16, 17, 24, 25, 32, 33, 48 };

static void tiles_give_the_bits_of_plain_c(void **state)
{
    (void)state;
    static const size_t panels[] = { 1, 2, 3, 4, 5 }, ks[] = { 32, 64, 96, 256, 512, 544, 768 };
    uint64_t seed = 30000;

    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        if (!takes_tiles(type))
            continue;
        for (size_t j = 0; j < sizeof(panels) / sizeof(*panels); j++) {
            for (size_t l = 0; l < sizeof(ks) / sizeof(*ks); l++) {
                const uint64_t before = start();
                if (ks[l] % dtype_info(type)->block != 0)
                    continue;
                check_problem(amx, type, kernels_activation(type), all_m, sizeof(all_m) / sizeof(*all_m), panels[j], ks[l],
                              (j + l) % 2 ? RANGE_EXTREME : RANGE_NORMAL, seed++);
                tiles_were_used(before);
            }
        }
    }
}

/* Long rows and many tokens go through in pieces; activations of more than L2 holds in chunks of k. */
static void long_rows_and_many_tokens_give_the_same_bits(void **state)
{
    (void)state;
    static const size_t m[] = { 150, 100 };
    uint64_t seed = 40000;

    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const uint64_t before = start();
        if (!takes_tiles(weight_types[i]))
            continue;
        check_problem(amx, weight_types[i], kernels_activation(weight_types[i]), m, 2, 3, 2560, RANGE_NORMAL, seed++);
        tiles_were_used(before);
    }
}

/* The smallest shapes: 682 tokens go at once (avx512/unpacked.h), and what is left must fill tiles, too. */
static void more_tokens_than_go_at_once_give_the_bits_of_plain_c(void **state)
{
    (void)state;
    static const size_t m[] = { 1365, 682, 683, 687 };
    uint64_t seed = 45000;

    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        const uint64_t before = start();
        if (!takes_tiles(type))
            continue;
        const size_t k = dtype_info(type)->block == 256 ? 256 : 32;
        check_problem(amx, type, kernels_activation(type), m, sizeof(m) / sizeof(*m), 1, k, RANGE_NORMAL, seed++);
        tiles_were_used(before);
    }
}

static void check_released(void)
{
    struct tile_config left;

    tile_read_config(&left);
    assert_int_equal(left.palette, 0);
}

/* Nor does one count on the tiles of the last: the second of two alike, with the scratch of the first, needs its own configuration. */
static void no_call_leaves_tiles_behind(void **state)
{
    (void)state;
    enum { M = 26, K = 256 };        /* tiles serve every type that has them */
    struct kernels kernels;
    struct rng rng;

    start();
    rng_seed(&rng, 6);
    kernels_fill(&kernels, ISA_AMX);
    for (size_t i = 0; i < 2 * N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i / 2];
        const matmul_fn function = i % 2 ? kernels.matmul_prompt[type] : kernels.matmul[type];
        const enum activation act = i % 2 ? kernels.prompt_activation[type] : kernels_activation(type);
        const struct problem p = random_problem(type, act, M, 1, K, RANGE_NORMAL, &rng);
        struct matmul_args args = { .w = p.w, .x = p.x, .x_stride = p.x_stride, .y = guarded(M * PANEL_ROWS * sizeof(float)),
                                    .y_stride = PANEL_ROWS, .m = M, .n_panels = 1, .k = K, .scratch = guarded(matmul_scratch_bytes(K)) };
        for (int call = 0; call < 2; call++) {
            function(&args);
            check_released();
        }
        args.n_panels = 0;
        function(&args);
        check_released();
        guarded_free_all();
    }
}

static void peaks_count_their_operations(void **state)
{
    (void)state;
    struct kernels kernels;
    const uint64_t before = start();

    kernels_fill(&kernels, ISA_AMX);
    assert_int_equal(kernels.peak[ACT_Q8](8), 8 * 2 * 16 * 16 * 64);
    assert_int_equal(kernels.peak[ACT_BF16](8), 8 * 2 * 16 * 16 * 32);
    check_released();
    tiles_were_used(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_give_the_bits_of_plain_c),
        cmocka_unit_test(long_rows_and_many_tokens_give_the_same_bits),
        cmocka_unit_test(more_tokens_than_go_at_once_give_the_bits_of_plain_c),
        cmocka_unit_test(no_call_leaves_tiles_behind),
        cmocka_unit_test(peaks_count_their_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
