/*
 * tests/server/check_divergence.c - files of log-probabilities, good and hostile, and the divergence from them.
 *
 * What holds for every refusal: one line that begins with the path, and no memory by the file's claims.
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
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/divergence.h"
#include "server/logprob_file.h"
#include "tests/weights/log_capture.h"

/* Two windows of 6 tokens, 2 scored positions in each; 5 tokens, so that a row of levels is padded. */
enum { N_CTX = 6, N_VOCAB = 5, N_WINDOWS = 2, N_ROWS = N_WINDOWS * 2, HEADER = 20, ROW = 8 + 6 * 2 };
enum { FILE_BYTES = HEADER + N_WINDOWS * N_CTX * 4 + N_ROWS * ROW };

static const int32_t ids[N_WINDOWS * N_CTX + 3] = { 1, 2, 3, 4, 0, 1, 2, 2, 4, 3, 1, 0, 4, 4, 4 };
static const float logits[N_ROWS][N_VOCAB] = {
    { 1, 2, 3, 2, 1 }, { 0, 0, 0, 0, 0 }, { 40, 10, 0, 38, -INFINITY }, { -3.5f, 2.25f, -1, 0.125f, 7 }
};

static struct log_capture lines;
static char path[32];
static int memory = -1;

static int make_file(void **state)
{
    (void)state;
    memory = memfd_create("base", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
    return memory < 0;
}

static int close_file(void **state)
{
    (void)state;
    return close(memory);
}

static double log_sum_exp(const float *x)
{
    double sum = 0;

    for (size_t i = 0; i < N_VOCAB; i++)
        sum += exp((double)x[i]);
    return log(sum);
}

static void write_file(void)
{
    struct logprob_file f;

    assert_int_equal(logprob_file_create(&f, path, N_CTX, N_VOCAB, N_WINDOWS, ids), 0);
    for (size_t i = 0; i < N_ROWS; i++)
        assert_int_equal(logprob_file_write(&f, logits[i], log_sum_exp(logits[i])), 0);
    assert_int_equal(logprob_file_finish(&f), 0);
    logprob_file_close(&f);
}

static int open_file(struct logprob_file *f, size_t n_vocab, size_t n_ids)
{
    log_capture_start(&lines);
    int err = logprob_file_open(f, path, n_vocab, ids, n_ids);
    log_capture_start(NULL);
    return err;
}

static void expect_refusal(int got, int err, const char *clue)
{
    assert_int_equal(got, err);
    assert_int_equal(lines.n_lines, 1);
    assert_int_equal(strncmp(lines.last, path, strlen(path)), 0);
    if (!strstr(lines.last, clue))
        fail_msg("no '%s' in: %s", clue, lines.last);
}

static void check_layout(void **state)
{
    unsigned char bytes[FILE_BYTES + 1];
    uint32_t numbers[3];
    int32_t tokens[N_WINDOWS * N_CTX];
    uint16_t levels[6];
    float head[2];

    (void)state;
    write_file();
    assert_int_equal(pread(memory, bytes, sizeof(bytes), 0), FILE_BYTES);
    assert_memory_equal(bytes, "_logits_", 8);
    memcpy(numbers, bytes + 8, sizeof(numbers));
    assert_int_equal(numbers[0], N_CTX);
    assert_int_equal(numbers[1], N_VOCAB);
    assert_int_equal(numbers[2], N_WINDOWS);
    memcpy(tokens, bytes + HEADER, sizeof(tokens));
    assert_memory_equal(tokens, ids, sizeof(tokens));
    /* { 1, 2, 3, 2, 1 }: from level 0 to 65535 over a range of 2, and half way, which rounds to even. */
    memcpy(head, bytes + HEADER + sizeof(tokens), sizeof(head));
    memcpy(levels, bytes + HEADER + sizeof(tokens) + sizeof(head), sizeof(levels));
    assert_true(head[0] == 2.0f / 65535);
    assert_true(fabs((double)head[1] - (1 - log_sum_exp(logits[0]))) < 1e-6);
    const uint16_t want[6] = { 0, 32768, 65535, 32768, 0, 0 };
    assert_memory_equal(levels, want, sizeof(want));
}

static void check_round_trip(void **state)
{
    struct logprob_file f;
    struct logprob_row row;

    (void)state;
    write_file();
    assert_int_equal(open_file(&f, N_VOCAB, sizeof(ids) / sizeof(ids[0])), 0);
    assert_int_equal(f.n_ctx, N_CTX);
    assert_int_equal(f.n_windows, N_WINDOWS);
    for (size_t r = 0; r < N_ROWS; r++) {
        float max = logits[r][0];
        for (size_t i = 0; i < N_VOCAB; i++)
            max = fmaxf(max, logits[r][i]);
        assert_int_equal(logprob_file_read(&f, &row), 0);
        for (size_t i = 0; i < N_VOCAB; i++) {
            double want = (double)fmaxf(logits[r][i], max - 16) - log_sum_exp(logits[r]);
            assert_true(fabs((double)(row.scale * row.levels[i] + row.least) - want) < 16.0 / 65535);
        }
    }
    log_capture_start(&lines);
    int err = logprob_file_read(&f, &row);
    log_capture_start(NULL);
    expect_refusal(err, -EIO, "");
    logprob_file_close(&f);
}

/* The good file with bytes[n] put at `at`, cut or grown to `size`. */
static void expect_hostile(size_t at, const void *bytes, size_t n, off_t size, const char *clue)
{
    struct logprob_file f;

    write_file();
    assert_int_equal(pwrite(memory, bytes, n, (off_t)at), (ssize_t)n);
    assert_int_equal(ftruncate(memory, size), 0);
    expect_refusal(open_file(&f, N_VOCAB, sizeof(ids) / sizeof(ids[0])), -EINVAL, clue);
    logprob_file_close(&f);
}

static void check_headers(void **state)
{
    const uint32_t none = 0, one = 1, most = UINT32_MAX, large = INT32_MAX, vocabulary = 6;

    (void)state;
    expect_hostile(0, "_logitz_", 8, FILE_BYTES, "does not begin with _logits_");
    expect_hostile(0, "GGUF", 4, FILE_BYTES, "does not begin with _logits_");
    expect_hostile(12, &vocabulary, 4, FILE_BYTES, "vocabulary of 6 tokens, the model has 5");      /* of the same size, by the padding */
    for (size_t at = 8; at < HEADER; at += 4) {
        expect_hostile(at, &none, 4, FILE_BYTES, "header");
        expect_hostile(at, &one, 4, FILE_BYTES, "header");
        expect_hostile(at, &most, 4, FILE_BYTES, "header");
        expect_hostile(at, &large, 4, FILE_BYTES, "header");
        expect_hostile(at, &large, 4, FILE_BYTES + 100, "header");
    }
    const uint32_t everything[3] = { INT32_MAX, UINT32_MAX, INT32_MAX };
    expect_hostile(8, everything, sizeof(everything), FILE_BYTES, "header");
}

static void check_lengths(void **state)
{
    (void)state;
    for (off_t size = 0; size < FILE_BYTES; size++)
        expect_hostile(0, "", 0, size, size < 8 ? "does not begin" : "truncated");
    expect_hostile(0, "", 0, FILE_BYTES + 1, "too long");
}

static void check_other_text(void **state)
{
    struct logprob_file f;
    const int32_t other = 77;
    struct rusage before, after;

    (void)state;
    expect_hostile(HEADER + 7 * 4, &other, 4, FILE_BYTES, "its token 7 is 77, here it is 2");
    write_file();
    expect_refusal(open_file(&f, N_VOCAB + 2, N_WINDOWS * N_CTX), -EINVAL, "vocabulary of 5 tokens, the model has 7");
    expect_refusal(open_file(&f, N_VOCAB, N_WINDOWS * N_CTX - 1), -EINVAL, "at least 12 tokens, this one has 11");

    /* A file of holes that is as long as it says: refused by the text's length before anything of its size is allocated. */
    const uint32_t n_ctx = 1 << 24;
    const off_t size = HEADER + N_WINDOWS * ((off_t)n_ctx * 4 + (n_ctx / 2 - 1) * (off_t)ROW);
    getrusage(RUSAGE_SELF, &before);
    expect_hostile(8, &n_ctx, 4, size, "at least 33554432 tokens");
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 4096);
}

static void check_no_file(void **state)
{
    static const char *const names[] = { "/nonexistent/base", "/dev/null", "/dev" };
    struct logprob_file f;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        log_capture_start(&lines);
        assert_true(logprob_file_open(&f, names[i], N_VOCAB, ids, 12) < 0);
        log_capture_start(NULL);
        assert_int_equal(lines.n_lines, 1);
        logprob_file_close(&f);
    }
    log_capture_start(&lines);
    assert_int_equal(logprob_file_create(&f, "/nonexistent/base", N_CTX, N_VOCAB, N_WINDOWS, ids), -ENOENT);
    log_capture_start(NULL);
    assert_int_equal(lines.n_lines, 1);
}

/* A disk that is full: no file is taken for whole. */
static void check_full_disk(void **state)
{
    struct logprob_file f;

    (void)state;
    log_capture_start(&lines);
    int err = logprob_file_create(&f, "/dev/full", N_CTX, N_VOCAB, N_WINDOWS, ids);
    for (size_t i = 0; !err && i < N_ROWS; i++)
        err = logprob_file_write(&f, logits[i], log_sum_exp(logits[i]));
    if (!err)
        err = logprob_file_finish(&f);
    log_capture_start(NULL);
    assert_int_equal(err, -ENOSPC);
    assert_int_equal(lines.n_lines, 1);
    logprob_file_close(&f);
}

static void check_rows(void **state)
{
    const float wrong[][2] = { { NAN, -1 }, { 1, NAN }, { -1e-6f, -1 }, { INFINITY, -1 }, { 1e-4f, -INFINITY }, { 1e-4f, -1 }, { 0, 1 } };
    struct logprob_file f;
    struct logprob_row row;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        write_file();
        assert_int_equal(pwrite(memory, wrong[i], sizeof(wrong[i]), FILE_BYTES - ROW), sizeof(wrong[i]));
        assert_int_equal(open_file(&f, N_VOCAB, 12), 0);
        for (size_t r = 0; r + 1 < N_ROWS; r++)
            assert_int_equal(logprob_file_read(&f, &row), 0);
        log_capture_start(&lines);
        int err = logprob_file_read(&f, &row);
        log_capture_start(NULL);
        expect_refusal(err, -EINVAL, "holds no log-probabilities");
        logprob_file_close(&f);
    }
}

static int32_t best_of(const float *x)
{
    int32_t best = 0;

    for (int32_t i = 1; i < N_VOCAB; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

/* Against itself: nothing but the rounding of the levels, 2^-17 of a range of at most 16. */
static void check_same_model(void **state)
{
    struct divergence_summary s;
    struct logprob_file f;
    struct logprob_row row;
    struct divergence d;
    const int32_t next[N_ROWS] = { 0, 1, 3, 4 };

    (void)state;
    write_file();
    assert_int_equal(open_file(&f, N_VOCAB, 12), 0);
    assert_int_equal(divergence_create(&d, N_ROWS, N_VOCAB), 0);
    for (size_t r = 0; r < N_ROWS; r++) {
        float finite[N_VOCAB];
        for (size_t i = 0; i < N_VOCAB; i++)
            finite[i] = fmaxf(logits[r][i], -100);
        assert_int_equal(logprob_file_read(&f, &row), 0);
        assert_true(divergence_add(&d, &row, finite, log_sum_exp(finite), best_of(finite), next[r]));
    }
    divergence_summarise(&d, &s);
    assert_true(fabs(s.kl.value) < 1e-4 && fabs(s.kl_max) < 1e-4);
    assert_true(s.same_top.value == 1 && s.same_top.error == 0);
    assert_true(fabs(s.perplexity_ratio.value - 1) < 1e-4 && fabs(s.p_diff.value) < 1e-4 && s.rms_p_diff.value < 1e-4);
    divergence_destroy(&d);
    logprob_file_close(&f);
}

/*
 * Three positions whose figures are known: p = (1/2, 1/4, 1/8, 1/8, ~0) in levels of ln 2, q by logits that are multiples of it.
 * 1e-5: float32 at least = -20.8 is exact to 1e-6.
 */
static void check_figures(void **state)
{
    const uint16_t levels[6] = { 29, 28, 27, 27, 0, 0 };
    const float ln2 = 0.6931472f;
    const struct logprob_row base = { .scale = ln2, .least = -30 * ln2, .levels = levels };
    const float same[N_VOCAB] = { -ln2, -2 * ln2, -3 * ln2, -3 * ln2, -100 };
    const float swapped[N_VOCAB] = { -2 * ln2, -ln2, -3 * ln2, -3 * ln2, -100 };
    const float even[N_VOCAB] = { 0, 0, 0, 0, -100 };
    const double kl_swapped = 0.25 * log(2), kl_even = 0.25 * log(2);
    struct divergence_summary s;
    struct divergence d;

    (void)state;
    assert_int_equal(divergence_create(&d, 3, N_VOCAB), 0);
    assert_true(divergence_add(&d, &base, even, log(4), 0, 1));
    assert_true(divergence_add(&d, &base, same, 0, 0, 0));
    assert_true(divergence_add(&d, &base, swapped, 0, 1, 0));
    divergence_summarise(&d, &s);
    assert_true(fabs(s.kl.value - (kl_swapped + kl_even) / 3) < 1e-5);
    assert_true(fabs(s.kl_max - kl_even) < 1e-5);
    assert_true(fabs(s.kl_median - kl_swapped) < 1e-5);
    assert_true(fabs(s.kl.error - 0.25 * log(2) * sqrt(2.0 / 9 / 2)) < 1e-5);
    assert_true(fabs(s.same_top.value - 2.0 / 3) < 1e-9);
    assert_true(fabs(s.p_diff.value - (0 + 0 - 0.25) / 3) < 1e-5);
    assert_true(fabs(s.rms_p_diff.value - sqrt(0.0625 / 3)) < 1e-5);
    assert_true(fabs(s.perplexity.value - exp((2 + 1 + 2) * log(2) / 3)) < 1e-5);
    assert_true(fabs(s.base_perplexity.value - exp((2 + 1 + 1) * log(2) / 3)) < 1e-5);
    divergence_destroy(&d);
}

static void check_no_probability(void **state)
{
    const uint16_t levels[6] = { 30, 30, 0, 0, 0, 0 };
    const struct logprob_row base = { .scale = 1, .least = -31, .levels = levels };
    const float none[N_VOCAB] = { 0, -INFINITY, 0, 0, 0 };
    struct divergence d;

    (void)state;
    assert_int_equal(divergence_create(&d, 1, N_VOCAB), 0);
    assert_false(divergence_add(&d, &base, none, log(4), 0, 0));
    assert_int_equal(d.n, 0);
    divergence_destroy(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_layout),    cmocka_unit_test(check_round_trip),     cmocka_unit_test(check_headers),
        cmocka_unit_test(check_lengths),   cmocka_unit_test(check_other_text),     cmocka_unit_test(check_no_file),
        cmocka_unit_test(check_full_disk), cmocka_unit_test(check_rows),           cmocka_unit_test(check_same_model),
        cmocka_unit_test(check_figures),   cmocka_unit_test(check_no_probability),
    };
    return cmocka_run_group_tests(tests, make_file, close_file);
}
