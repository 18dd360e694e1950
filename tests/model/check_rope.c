/*
 * check_rope.c - frequencies of rotation, against their formulas (transformers modeling_rope_utils.py) written out for single pairs.
 *
 * The other scalings are tested by models (golden_llama, _qwen3_yarn, _phi3, _gemma3); no published model here has the dynamic one.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/model_internal.h"
#include "tests/model/tiny_model.h"

enum { N_DIMS = 32 };

static struct gguf *g;

static int open_file(void **state)
{
    char path[] = "/tmp/fourway-tiny-XXXXXX";
    const int fd = mkstemp(path);

    (void)state;
    if (fd < 0)
        return -1;
    tiny_model_write(path, TINY_LLAMA);
    const int err = gguf_open(&g, path);
    close(fd);
    unlink(path);
    return err;
}

static int close_file(void **state)
{
    (void)state;
    gguf_close(g);
    return 0;
}

/* Table entries of a position for a sequence of this rope_length(), against an angle a pair. */
static void check_tables(const struct rope_config *c, uint32_t position, uint32_t length, double base)
{
    float cosines[N_DIMS / 2], sines[N_DIMS / 2];
    struct rope r;

    assert_int_equal(rope_open(&r, c, g), 0);
    rope_fill(&r, position, length, cosines, sines);
    for (size_t j = 0; j < N_DIMS / 2; j++) {
        const double angle = position / pow(base, (double)(2 * j) / N_DIMS);
        assert_float_equal(cosines[j], cos(angle), 1e-6);
        assert_float_equal(sines[j], sin(angle), 1e-6);
    }
    rope_close(&r);
}

static void dynamic_scaling_depends_on_the_prompt_alone(void **state)
{
    const struct rope_config c = { .n_dims = N_DIMS, .base = 10000, .scaling = ROPE_DYNAMIC, .factor = 4, .n_ctx_original = 64,
                                   .magnitude = 1 };
    const struct rope_lengths lengths = { 64, true };

    (void)state;
    assert_int_equal(rope_length(&lengths, 64), 0);
    assert_int_equal(rope_length(&lengths, 100), 100);
    check_tables(&c, 5, rope_length(&lengths, 64), 10000);
    check_tables(&c, 200, rope_length(&lengths, 3), 10000);                 /* a short prompt that has grown */
    check_tables(&c, 5, rope_length(&lengths, 100), 35156.7660);            /* 10000 x 3.25^(32/30) */
    check_tables(&c, 99, rope_length(&lengths, 128), 55663.1788);            /* 10000 x 5^(32/30) */
}

static void longrope_knows_short_and_long(void **state)
{
    const struct rope_lengths none = { 0, false }, lengths = { 64, false };

    (void)state;
    assert_int_equal(rope_length(&none, 100000), 0);
    assert_int_equal(rope_length(&lengths, 64), 0);
    assert_int_not_equal(rope_length(&lengths, 65), 0);
    assert_int_equal(rope_length(&lengths, 65), rope_length(&lengths, 100000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dynamic_scaling_depends_on_the_prompt_alone),
        cmocka_unit_test(longrope_knows_short_and_long),
    };

    return cmocka_run_group_tests(tests, open_file, close_file);
}
