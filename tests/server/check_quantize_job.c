/*
 * tests/server/check_quantize_job.c - what `fourway quantize` makes of a source that is cut, damaged or too large for the type, of
 * shapes that are no whole window, and of being stopped; several threads each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/quantize_job.h"
#include "tests/kernels/file_blocks.h"
#include "tests/weights/gguf_writer.h"
#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "weights/gguf_build.h"
#include "weights/quantize.h"
#include "weights/quantize_plan.h"

enum { K = 544, ROWS = 1500 };          /* three windows and a rest; a row is 17 blocks of 32 */

static const char *folder;
static char source_path[96], path[96];
static struct log_capture lines;

static int make_folder(void **state)
{
    (void)state;
    folder = folder_make();
    snprintf(source_path, sizeof(source_path), "%s/source.gguf", folder);
    snprintf(path, sizeof(path), "%s/new.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

/* A source with one matrix and one norm; the bytes of the matrix are the caller's: free(). */
static uint8_t *write_source(enum dtype type, float odd_value)
{
    const uint64_t ne[] = { K, ROWS };
    const size_t row_bytes = file_row_bytes(type, K);
    uint8_t *data = malloc(ROWS * row_bytes);
    struct gguf_writer w;
    struct rng rng;
    float norm[K];

    assert_non_null(data);
    rng_seed(&rng, 3);
    for (size_t i = 0; i < ROWS; i++)
        file_random_row(type, data + i * row_bytes, K, RANGE_NORMAL, &rng);
    if (odd_value != 0) {
        const half h = half_from_float(odd_value);
        if (type == DTYPE_F32)
            memcpy(data + 1234 * row_bytes + 4 * 77, &odd_value, sizeof(odd_value));
        else
            memcpy(data + 1234 * row_bytes, &h, sizeof(h));
    }
    for (size_t i = 0; i < K; i++)
        norm[i] = (float)i;
    gguf_writer_init(&w);
    gguf_writer_string(&w, "general.architecture", "llama");
    gguf_writer_tensor(&w, "blk.0.attn_norm.weight", DTYPE_F32, 1, ne, norm);
    gguf_writer_tensor(&w, "blk.0.ffn_up.weight", type, 2, ne, data);
    gguf_writer_save(&w, source_path);
    gguf_writer_free(&w);
    return data;
}

/* The same tensors, of a type that no GGUF file holds: rows in a file of their own, as a folder has them. */
static struct gguf *build_source(enum dtype type, const uint8_t *data)
{
    static const char norm_name[] = "blk.0.attn_norm.weight", matrix_name[] = "blk.0.ffn_up.weight";
    static const float norm[K] = { 1 };
    const struct tensor_source values = { .row_elements = K, .file_type = DTYPE_F32, .values = norm };
    struct gguf_builder b;
    FILE *f = fopen(source_path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(data, file_row_bytes(type, K), ROWS, f), ROWS);
    assert_int_equal(fclose(f), 0);
    gguf_build(&b, folder);
    struct tensor_source *copy = gguf_build_memory(&b, sizeof(values));
    const uint32_t part = gguf_put_file(&b, source_path);
    assert_int_equal(b.err, 0);
    *copy = values;
    gguf_put_tensor(&b, &(struct gguf_tensor){ .name = { norm_name, strlen(norm_name) }, .type = DTYPE_F32, .n_dims = 1,
                                               .ne = { K, 1, 1, 1 }, .source = copy });
    gguf_put_tensor(&b, &(struct gguf_tensor){ .name = { matrix_name, strlen(matrix_name) }, .type = type, .n_dims = 2,
                                               .ne = { K, ROWS, 1, 1 }, .part = part });
    assert_int_equal(b.err, 0);
    return b.g;
}

static volatile sig_atomic_t stop;
static size_t n_steps;
static uint64_t last_done, last_total;

static void step(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    n_steps++;
    assert_true(done > last_done && done <= total);
    last_done = done;
    last_total = total;
}

/* Quantise the open source into `path` with the lines in `lines`. */
static int job(const struct gguf *g, enum dtype target, size_t n_threads)
{
    enum dtype types[2];
    struct gguf_output *o;

    n_steps = last_done = 0;
    log_capture_start(&lines);
    int err = quantize_plan(g, target, true, quantize_job_reads, types);
    assert_int_equal(err, 0);
    assert_int_equal(gguf_output_create(&o, path, true, 32), 0);
    for (size_t i = 0; i < 2; i++)
        gguf_output_add_tensor(o, gguf_tensor_at(g, i)->name, types[i], gguf_tensor_at(g, i)->n_dims, gguf_tensor_at(g, i)->ne);
    err = gguf_output_begin(o);
    if (!err)
        err = quantize_job_run(&(struct quantize_job){ .source = g, .out = o, .types = types, .n_threads = n_threads,
                                                       .progress = step, .stop = &stop });
    if (!err)
        err = gguf_output_finish(o);
    gguf_output_close(o);
    log_capture_start(NULL);
    return err;
}

static void expect_tensor(const struct gguf *g, const char *name, enum dtype type, const void *bytes, size_t n)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    uint8_t *got = malloc(n);

    assert_non_null(t);
    assert_non_null(got);
    assert_int_equal(t->type, type);
    assert_int_equal(t->bytes, n);
    assert_int_equal(gguf_read(g, t, 0, got, n), 0);
    assert_memory_equal(got, bytes, n);
    free(got);
}

/* From every type that can be read, decoded element by element; Q4_K and the like have no rows of 544. */
static void every_source(void **state)
{
    static const enum dtype targets[] = { DTYPE_F32, DTYPE_Q8_0, DTYPE_Q4_K };

    (void)state;
    for (size_t s = 0; s < N_WEIGHT_TYPES; s++) {
        const enum dtype from = weight_types[s];
        if (K % dtype_info(from)->block)
            continue;
        uint8_t *data = write_source(from, 0);
        float *values = malloc(ROWS * K * sizeof(*values));
        uint8_t *want = malloc(ROWS * K * sizeof(float));
        struct gguf *source, *g;
        assert_true(values && want);
        for (size_t i = 0; i < ROWS * K; i++)
            values[i] = file_dequantise(from, data, i);
        if (dtype_info(from)->own)
            source = build_source(from, data);
        else
            assert_int_equal(gguf_open(&source, source_path), 0);
        for (size_t t = 0; t < 3; t++) {
            const enum dtype to = targets[t] == DTYPE_Q4_K ? DTYPE_Q5_0 : targets[t];
            const size_t bytes = ROWS * file_row_bytes(to, K);
            assert_int_equal(job(source, targets[t], 1 + 2 * (s % 2)), 0);
            assert_int_equal(lines.n_lines, 0);
            assert_true(n_steps >= 4 && last_done == last_total);
            assert_int_equal(gguf_open(&g, path), 0);
            if (to == from)
                memcpy(want, data, bytes);
            else
                assert_true(quantize_values(to, want, values, ROWS * K));
            expect_tensor(g, "blk.0.ffn_up.weight", to, want, bytes);
            gguf_close(g);
        }
        gguf_close(source);
        free(values);
        free(want);
        free(data);
    }
    unlink(path);
}

static void cut_source(void **state)
{
    struct gguf *g;

    (void)state;
    free(write_source(DTYPE_F32, 0));
    assert_int_equal(gguf_open(&g, source_path), 0);
    assert_int_equal(truncate(source_path, 1 << 20), 0);
    assert_int_equal(job(g, DTYPE_Q8_0, 4), -EIO);
    assert_int_equal(lines.n_lines, 1);
    assert_non_null(strstr(lines.last, "cut"));
    assert_int_equal(access(path, F_OK), -1);
    gguf_close(g);
}

static void damaged_source(void **state)
{
    static const struct { enum dtype from, to; float value; const char *clue; } cases[] = {
        { DTYPE_F32, DTYPE_Q8_0, NAN, "row 1234: a value is NaN" },
        { DTYPE_F32, DTYPE_Q4_K, -INFINITY, "row 1234: a value is infinite" },
        { DTYPE_F32, DTYPE_F16, 70000, "row 1234: 70000 is too large for F16" },
        { DTYPE_F32, DTYPE_Q4_0, -1e9f, "row 1234: -1e+09 is too large for Q4_0" },
        { DTYPE_Q8_0, DTYPE_F32, INFINITY, "row 1234" },
    };
    struct gguf *g;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        free(write_source(cases[i].from, cases[i].value));
        assert_int_equal(gguf_open(&g, source_path), 0);
        assert_int_equal(job(g, cases[i].to, 3), -EINVAL);
        assert_int_equal(lines.n_lines, 1);
        assert_non_null(strstr(lines.last, "blk.0.ffn_up.weight"));
        if (!strstr(lines.last, cases[i].clue))
            fail_msg("'%s' does not say '%s'", lines.last, cases[i].clue);
        assert_int_equal(access(path, F_OK), -1);
        gguf_close(g);
    }
}

static void stopped(void **state)
{
    struct gguf *g;

    (void)state;
    free(write_source(DTYPE_BF16, 0));
    assert_int_equal(gguf_open(&g, source_path), 0);
    stop = 1;
    assert_int_equal(job(g, DTYPE_Q8_0, 2), -EINTR);
    stop = 0;
    assert_int_equal(lines.n_lines, 0);
    assert_int_equal(access(path, F_OK), -1);
    gguf_close(g);
}

/* What stays, what becomes what, and what is refused. */
static void plans(void **state)
{
    static const struct { const char *name; uint64_t ne[2]; enum dtype from, target, want; } cases[] = {
        { "blk.0.attn_q.weight", { 512, 4 }, DTYPE_BF16, DTYPE_Q4_K, DTYPE_Q4_K },
        { "blk.0.attn_q.weight", { 544, 4 }, DTYPE_BF16, DTYPE_Q4_K, DTYPE_Q5_0 },
        { "blk.0.attn_q.weight", { 544, 4 }, DTYPE_BF16, DTYPE_Q5_K, DTYPE_Q5_1 },
        { "blk.0.attn_q.weight", { 544, 4 }, DTYPE_BF16, DTYPE_Q6_K, DTYPE_Q8_0 },
        { "blk.0.attn_q.weight", { 40, 4 }, DTYPE_BF16, DTYPE_Q4_K, DTYPE_F16 },
        { "blk.0.attn_q.weight", { 40, 4 }, DTYPE_F32, DTYPE_BF16, DTYPE_BF16 },
        { "blk.0.attn_q.weight", { 512, 1 }, DTYPE_BF16, DTYPE_Q4_K, DTYPE_BF16 },
        { "blk.0.attn_q.bias", { 512, 4 }, DTYPE_F32, DTYPE_Q4_K, DTYPE_F32 },
        { "blk.0.attn_q_norm.weight", { 512, 4 }, DTYPE_F32, DTYPE_Q4_K, DTYPE_F32 },
        { "blk.0.ffn_gate_inp.weight", { 512, 4 }, DTYPE_F32, DTYPE_Q8_0, DTYPE_F32 },
        { "token_embd.weight", { 512, 4 }, DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q6_K },
        { "output.weight", { 544, 4 }, DTYPE_BF16, DTYPE_Q4_K, DTYPE_Q8_0 },
        { "output.weight", { 512, 4 }, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q8_0 },
        { "output.weight", { 512, 4 }, DTYPE_Q4_0, DTYPE_F16, DTYPE_F16 },
    };
    enum dtype type;
    struct gguf *g;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_tensor(&w, cases[i].name, cases[i].from, 2, cases[i].ne, NULL);
        gguf_writer_save(&w, source_path);
        gguf_writer_free(&w);
        assert_int_equal(gguf_open(&g, source_path), 0);
        assert_int_equal(quantize_plan(g, cases[i].target, false, quantize_job_reads, &type), 0);
        if (type != cases[i].want)
            fail_msg("case %zu: %s", i, dtype_info(type)->name);
        gguf_close(g);
    }

    /* FP8 is a model's own form, and goes into no file. */
    uint8_t *data = calloc(ROWS, file_row_bytes(DTYPE_F8_E4M3, K));
    enum dtype both[2];
    assert_non_null(data);
    g = build_source(DTYPE_F8_E4M3, data);
    assert_int_equal(quantize_plan(g, DTYPE_Q4_K, false, quantize_job_reads, both), 0);
    assert_int_equal(both[0], DTYPE_F32);
    assert_int_equal(both[1], DTYPE_Q5_0);
    gguf_close(g);
    free(data);

    const struct { uint32_t from; bool requantise; const char *clue; } refused[] = {
        { DTYPE_Q8_0, false, "--allow-requantize" }, { 16 /* IQ2_XXS */, true, "IQ2_XXS" },
    };
    for (size_t i = 0; i < 2; i++) {
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_tensor(&w, "blk.0.attn_q.weight", (enum dtype)refused[i].from, 2, (const uint64_t[]){ 512, 4 }, NULL);
        gguf_writer_save(&w, source_path);
        gguf_writer_free(&w);
        assert_int_equal(gguf_open(&g, source_path), 0);
        log_capture_start(&lines);
        assert_int_equal(quantize_plan(g, DTYPE_Q4_0, refused[i].requantise, quantize_job_reads, &type), -EINVAL);
        log_capture_start(NULL);
        assert_int_equal(lines.n_lines, 1);
        assert_non_null(strstr(lines.last, refused[i].clue));
        gguf_close(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_source), cmocka_unit_test(cut_source), cmocka_unit_test(damaged_source), cmocka_unit_test(stopped),
        cmocka_unit_test(plans),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
