/* check_pack.c - panels hold the values of the file: packing, unpacking, padding rows and scales that are not finite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/panels.h"
#include "tests/kernels/file_blocks.h"
#include "tests/kernels/guarded.h"

/* 16 random rows in the file's form; returns their panel. */
static void *random_panel(enum dtype type, size_t k, enum weight_range range, struct rng *rng, const void *rows[16])
{
    void *panel = guarded(panel_bytes(type, k));
    for (size_t r = 0; r < 16; r++) {
        uint8_t *row = guarded(file_row_bytes(type, k));
        file_random_row(type, row, k, range, rng);
        rows[r] = row;
    }
    assert_int_equal(panel_pack(type, panel, rows, k), 0);
    return panel;
}

static void panels_hold_the_values_of_the_file(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        const bool plain = dtype_info(type)->block == 1;
        for (size_t round = 0; round < 8; round++) {
            const size_t k = plain ? 1 + rng_below(&rng, 100) : 512;
            const void *rows[16];
            void *panel = random_panel(type, k, round % 2 ? RANGE_EXTREME : RANGE_NORMAL, &rng, rows);
            float *got = guarded(k * sizeof(float)), *want = guarded(k * sizeof(float)), block[32][16];

            for (unsigned r = 0; r < 16; r++) {
                for (size_t n = 0; n < k; n++)
                    want[n] = file_dequantise(type, rows[r], n);
                panel_unpack_row(type, panel, r, k, got);
                assert_memory_equal(got, want, k * sizeof(float));
                for (size_t n = 0; n < (k + 31) / 32 * 32; n++) {
                    const float value = n < k ? want[n] : 0;
                    if (n % 32 == 0)
                        panel_unpack_block(type, panel, n / 32, block);
                    assert_memory_equal(&block[n % 32][r], &value, sizeof(value));
                }
            }
            guarded_free_all();
        }
    }
}

static void panels_have_the_sizes_of_their_layout(void **state)
{
    (void)state;
    static const struct { enum dtype type; size_t bytes; } per_256[] = {        /* panels.h: bytes of 16 rows by 256 */
        { DTYPE_F32, 8 * 2048 }, { DTYPE_F16, 8 * 1024 }, { DTYPE_BF16, 8 * 1024 }, { DTYPE_Q4_0, 8 * 288 },
        { DTYPE_Q4_1, 8 * 320 }, { DTYPE_Q5_0, 8 * 352 }, { DTYPE_Q5_1, 8 * 384 }, { DTYPE_Q8_0, 8 * 544 },
        { DTYPE_Q4_K, 2368 }, { DTYPE_Q5_K, 2880 }, { DTYPE_Q6_K, 3360 },
    };
    for (size_t i = 0; i < sizeof(per_256) / sizeof(*per_256); i++)
        assert_int_equal(panel_bytes(per_256[i].type, 512), 2 * per_256[i].bytes);
    assert_int_equal(panel_bytes(DTYPE_F32, 33), 2 * 2048);     /* a plain type's last block is padded */
    assert_int_equal(panel_bytes(DTYPE_BF16, 1), 1024);
}

static void padding_rows_are_zero(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 2);
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        const void *rows[16], *three[16] = { NULL };
        random_panel(type, 256, RANGE_NORMAL, &rng, rows);
        memcpy(three, rows, 3 * sizeof(*rows));

        void *panel = guarded(panel_bytes(type, 256));          /* filled with garbage */
        float *got = guarded(256 * sizeof(float)), zero[256] = { 0 };
        assert_int_equal(panel_pack(type, panel, three, 256), 0);
        for (unsigned r = 0; r < 16; r++) {
            panel_unpack_row(type, panel, r, 256, got);
            if (r < 3) {
                assert_true(got[255] == file_dequantise(type, rows[r], 255));
            } else {
                for (size_t n = 0; n < 256; n++)
                    assert_true(got[n] == zero[n]);
            }
        }
        guarded_free_all();
    }
}

static void rows_with_a_scale_that_is_not_finite_are_named(void **state)
{
    (void)state;
    static const half bad_halves[] = { 0x7c00, 0xfc00, 0x7e00, 0x7c01 };
    static const uint16_t bad_tops[] = { 0x7f80, 0xff80, 0x7fc0, 0x7f81 };      /* of float32, and all of bf16 */
    struct rng rng;
    rng_seed(&rng, 3);
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        const size_t block_bytes = dtype_info(type)->block_bytes, last_block = file_row_bytes(type, 256) - block_bytes;
        int offsets[2];
        file_scale_offsets(type, &offsets[0], &offsets[1]);
        for (size_t bad = 0; bad < 4; bad++) {
            for (size_t which = 0; which < 2 && offsets[which] >= 0; which++) {
                const void *rows[16];
                void *panel = random_panel(type, 256, RANGE_NORMAL, &rng, rows);
                const int row = (int)rng_below(&rng, 15);
                for (int r = row; r < 16; r += 15 - row)        /* two of them */
                    memcpy((uint8_t *)rows[r] + last_block + offsets[which] + (type == DTYPE_F32 ? 2 : 0),
                           type == DTYPE_F32 || type == DTYPE_BF16 ? &bad_tops[bad] : &bad_halves[bad], 2);
                assert_int_equal(panel_pack(type, panel, rows, 256), 1 << row | 1 << 15);
                guarded_free_all();
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panels_hold_the_values_of_the_file),
        cmocka_unit_test(panels_have_the_sizes_of_their_layout),
        cmocka_unit_test(padding_rows_are_zero),
        cmocka_unit_test(rows_with_a_scale_that_is_not_finite_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
