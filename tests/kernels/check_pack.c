/* check_pack.c - panels hold the values of the file: packing, unpacking, padding rows and scales that are not finite. */
#include <math.h>
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
            const size_t k = plain ? 1 + rng_below(&rng, 100) : dtype_info(type)->block == 32 ? 32 * (1 + rng_below(&rng, 16)) : 512;
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
        { DTYPE_Q4_K, 2368 }, { DTYPE_Q5_K, 2880 }, { DTYPE_Q6_K, 3360 }, { DTYPE_MXFP4, 8 * 272 },
        { DTYPE_IQ4_NL, 8 * 288 }, { DTYPE_IQ4_XS, 2208 }, { DTYPE_Q3_K, 1824 }, { DTYPE_Q2_K, 1344 },
        { DTYPE_F8_E4M3, 2 * 2112 },
    };
    for (size_t i = 0; i < sizeof(per_256) / sizeof(*per_256); i++)
        assert_int_equal(panel_bytes(per_256[i].type, 512), 2 * per_256[i].bytes);
    assert_int_equal(panel_bytes(DTYPE_F32, 33), 2 * 2048);     /* a plain type's last block is padded */
    assert_int_equal(panel_bytes(DTYPE_BF16, 1), 1024);
    assert_int_equal(panel_bytes(DTYPE_F8_E4M3, 160), 2112 + 64 + 512);     /* and that of F8_E4M3 may be short */
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
        if (type == DTYPE_F8_E4M3)      /* below */
            continue;
        const size_t block_bytes = dtype_info(type)->block_bytes, last_block = file_row_bytes(type, 256) - block_bytes;
        int offsets[2];
        file_scale_offsets(type, &offsets[0], &offsets[1]);
        for (size_t bad = 0; bad < 4; bad++) {
            for (size_t which = 0; which < 2 && offsets[which] >= 0; which++) {
                const void *rows[16];
                void *panel = random_panel(type, 256, RANGE_NORMAL, &rng, rows);
                const int row = (int)rng_below(&rng, 15);
                for (int r = row; r < 16; r += 15 - row) {      /* two of them */
                    uint8_t *at = (uint8_t *)rows[r] + last_block + offsets[which] + (type == DTYPE_F32 ? 2 : 0);
                    memcpy(at, type == DTYPE_F32 || type == DTYPE_BF16 ? &bad_tops[bad] : &bad_halves[bad], type == DTYPE_MXFP4 ? 0 : 2);
                    *at = type == DTYPE_MXFP4 ? 255 : *at;
                }
                assert_int_equal(panel_pack(type, panel, rows, 256), 1 << row | 1 << 15);
                guarded_free_all();
            }
        }
    }
}

/* 160 = 128 + 32 elements. */
static void f8_rows_with_wrong_scales_or_codes_are_named(void **state)
{
    (void)state;
    static const struct { float scale; size_t first, n; uint8_t code; } wrong[] = {
        { INFINITY, 0, 4, 0 }, { NAN, 0, 4, 0 }, { -INFINITY, 4, 1, 0 }, { 3, 2, 1, 0 }, { 3, 0, 1, 0 }, { 0.5f, 3, 1, 0x7f }, { 0.5f, 4, 1, 0xff }, { 0x1p120f, 0, 4, 0 },
    };
    struct rng rng;

    rng_seed(&rng, 4);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        const void *rows[16];
        void *panel = random_panel(DTYPE_F8_E4M3, 160, RANGE_NORMAL, &rng, rows);
        const int row = (int)rng_below(&rng, 16);
        uint8_t *blocks = (uint8_t *)rows[row];
        float got[160];

        for (size_t b = 0; b < 5; b++)
            memcpy(blocks + 36 * b, &(float){ 0.5f }, sizeof(float));
        assert_int_equal(panel_pack(DTYPE_F8_E4M3, panel, rows, 160), 0);
        for (size_t b = wrong[i].first; b < wrong[i].first + wrong[i].n; b++)
            memcpy(blocks + 36 * b, &wrong[i].scale, sizeof(float));
        if (wrong[i].code)
            blocks[36 * wrong[i].first + 4 + rng_below(&rng, 32)] = wrong[i].code;
        assert_int_equal(panel_pack(DTYPE_F8_E4M3, panel, rows, 160), 1 << row);
        panel_unpack_row(DTYPE_F8_E4M3, panel, (unsigned)row, 160, got);
        for (size_t n = 0; n < 160; n++)
            assert_int_equal(isnan(got[n]), (n < 128) == (wrong[i].first < 4));
        guarded_free_all();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panels_hold_the_values_of_the_file),
        cmocka_unit_test(panels_have_the_sizes_of_their_layout),
        cmocka_unit_test(padding_rows_are_zero),
        cmocka_unit_test(rows_with_a_scale_that_is_not_finite_are_named),
        cmocka_unit_test(f8_rows_with_wrong_scales_or_codes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
