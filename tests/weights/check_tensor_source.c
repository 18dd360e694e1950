/*
 * tests/weights/check_tensor_source.c - every way in which a file can hold a tensor otherwise than GGUF orders it, read in ranges of
 * any place and length, against the tensor put in order by plain loops.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "weights/gguf_build.h"

enum { FILE_BYTES = 1 << 20 };

#define PIECE(rows, of_part, at, row, element) \
    { .n_rows = rows, .part = of_part, .offset = at, .row_stride = row, .element_stride = element }
#define SOURCE(all_pieces, n, elements, type, half, added, computed) \
    { .pieces = all_pieces, .n_pieces = n, .row_elements = elements, .file_type = type, .half_rows = half, .plus = added, \
      .values = computed }

struct fixture { struct gguf_builder b; unsigned char *file; char folder[64]; uint32_t part; };

static uint64_t random_state = 1;
static uint64_t random_below(uint64_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % n;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char path[128];

    *state = f;
    f->file = malloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        f->file[i] = (unsigned char)random_below(256);
    snprintf(f->folder, sizeof(f->folder), "%s", folder_make());
    folder_put(f->folder, "file", f->file, FILE_BYTES);
    gguf_build(&f->b, f->folder);
    snprintf(path, sizeof(path), "%s/file", f->folder);
    f->part = gguf_put_file(&f->b, path);
    assert_int_equal(f->part, 1);
    assert_int_equal(gguf_build_file_bytes(&f->b, 1), FILE_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    gguf_close(f->b.g);
    folder_remove(f->folder);
    free(f->file);
    free(f);
    return 0;
}

/* Put the tensor, and compare 300 ranges with what the plain loops made of it; the first is all of it. */
static void check(struct fixture *f, struct gguf_tensor t, struct tensor_source s, const unsigned char *want, size_t n)
{
    struct gguf_tensor all = t;
    unsigned char *got = malloc(n + 1);

    all.source = &s;
    all.name = (struct gguf_string){ "t", 1 };
    all.n_dims = 2;
    gguf_put_tensor(&f->b, &all);
    assert_int_equal(f->b.err, 0);
    const struct gguf_tensor *put = gguf_find_tensor(f->b.g, "t");
    assert_non_null(put);
    assert_int_equal(put->bytes, n);
    for (int i = 0; i < 300; i++) {
        const size_t from = i ? random_below(n) : 0, length = i ? random_below(n - from + 1) : n;
        memset(got, 0xee, n + 1);
        assert_int_equal(gguf_read(f->b.g, put, from, got, length), 0);
        if (memcmp(got, want + from, length))
            fail_msg("bytes %zu + %zu differ", from, length);
        assert_int_equal(got[length], 0xee);
        gguf_drop_cache(f->b.g, put, from, length);
    }
    free(got);
}

/* The order of q and k of llama: GGUF row 2j is row j of the head, 2j + 1 row j + half. */
static void check_rotated(void **state)
{
    enum { HEADS = 5, HEAD = 12, ROW = 70 };        /* a row of 140 bytes at an odd place */
    struct fixture *f = *state;
    unsigned char want[HEADS * HEAD * ROW * 2];
    const struct tensor_piece piece = PIECE(HEADS * HEAD, 1, 77, ROW * 2, 2);

    for (size_t r = 0; r < HEADS * HEAD; r++) {
        const size_t j = r % HEAD, from = r - j + (j % 2 ? HEAD / 2 + j / 2 : j / 2);
        memcpy(want + r * ROW * 2, f->file + 77 + from * ROW * 2, ROW * 2);
    }
    check(f, (struct gguf_tensor){ .type = DTYPE_BF16, .ne = { ROW, HEADS * HEAD, 1, 1 } },
          (struct tensor_source)SOURCE(&piece, 1, ROW, DTYPE_BF16, HEAD / 2, 0, NULL), want, sizeof(want));
}

/* Heads of more rows than one call of preadv takes. */
static void check_rotated_large(void **state)
{
    enum { HEAD = 1200, ROW = 3 };
    struct fixture *f = *state;
    static unsigned char want[HEAD * ROW * 4];
    const struct tensor_piece piece = PIECE(HEAD, 1, 8, ROW * 4, 4);

    for (size_t r = 0; r < HEAD; r++)
        memcpy(want + r * ROW * 4, f->file + 8 + (r % 2 ? HEAD / 2 + r / 2 : r / 2) * ROW * 4, ROW * 4);
    check(f, (struct gguf_tensor){ .type = DTYPE_F32, .ne = { ROW, HEAD, 1, 1 } },
          (struct tensor_source)SOURCE(&piece, 1, ROW, DTYPE_F32, HEAD / 2, 0, NULL), want, sizeof(want));
}

/* A bias of rotated heads: its elements are the rows, and 16 bits become 32. */
static void check_rotated_bias(void **state)
{
    enum { HEADS = 3, HEAD = 8 };
    struct fixture *f = *state;
    float want[HEADS * HEAD];
    const struct tensor_piece piece = PIECE(HEADS * HEAD, 1, 101, 2, 2);

    for (size_t r = 0; r < HEADS * HEAD; r++) {
        const size_t j = r % HEAD;
        uint16_t bits;
        memcpy(&bits, f->file + 101 + 2 * (r - j + (j % 2 ? HEAD / 2 + j / 2 : j / 2)), 2);
        want[r] = bf16_to_float(bits);
    }
    check(f, (struct gguf_tensor){ .type = DTYPE_F32, .ne = { HEADS * HEAD, 1, 1, 1 } },
          (struct tensor_source)SOURCE(&piece, 1, 1, DTYPE_BF16, HEAD / 2, 0, NULL), (const unsigned char *)want, sizeof(want));
}

/* Pieces of several places, as stacked experts are; one of them with rows that do not touch. */
static void check_stacked(void **state)
{
    enum { ROW = 32, N = 4, ROWS = 7 };
    struct fixture *f = *state;
    unsigned char want[N * ROWS * 34];      /* a row is one block of Q8_0 */
    struct tensor_piece pieces[N];

    for (size_t e = 0; e < N; e++) {
        pieces[e] = (struct tensor_piece)PIECE(ROWS, 1, 90000 - e * 1000, e == 2 ? 50 : 34, 34);
        for (size_t r = 0; r < ROWS; r++)
            memcpy(want + (e * ROWS + r) * 34, f->file + pieces[e].offset + r * pieces[e].row_stride, 34);
    }
    check(f, (struct gguf_tensor){ .type = DTYPE_Q8_0, .ne = { ROW, ROWS, N, 1 } },
          (struct tensor_source)SOURCE(pieces, N, ROW, DTYPE_Q8_0, 0, 0, NULL), want, sizeof(want));
}

/* Views: elements and rows with any stride; rows closer than elements are a transposed matrix. */
static void check_strides(void **state)
{
    static const struct { uint64_t row, element; } strides[] = {
        { 2, 600 }, { 4, 1200 }, { 500, 2 }, { 500, 4 }, { 3000, 40 }, { 2, 9000 }
    };
    enum { ROW = 40, ROWS = 50 };

    for (size_t i = 0; i < sizeof(strides) / sizeof(strides[0]); i++) {
        struct fixture *f;
        unsigned char want[ROWS * ROW * 2];
        const struct tensor_piece piece = PIECE(ROWS, 1, 333, strides[i].row, strides[i].element);
        if (i) {
            tear_down(state);
            set_up(state);
        }
        f = *state;
        for (size_t r = 0; r < ROWS; r++)
            for (size_t c = 0; c < ROW; c++)
                memcpy(want + (r * ROW + c) * 2, f->file + 333 + r * strides[i].row + c * strides[i].element, 2);
        check(f, (struct gguf_tensor){ .type = DTYPE_F16, .ne = { ROW, ROWS, 1, 1 } },
              (struct tensor_source)SOURCE(&piece, 1, ROW, DTYPE_F16, 0, 0, NULL), want, sizeof(want));
    }
}

/* Norms: 16 bits as 32, with 1 added for Gemma; and 32 bits with 1 added. */
static void check_wide(void **state)
{
    struct fixture *f = *state;
    const struct tensor_piece halves = PIECE(1, 1, 500, 9000, 2), floats = PIECE(1, 1, 60000, 16000, 4);
    static float want[4000];

    for (size_t i = 0; i < 4000; i++) {
        uint16_t bits = (uint16_t)(i * 7);
        memcpy(f->file + 500 + 2 * i, &bits, 2);
        want[i] = half_to_float(bits) + 1;
        memcpy(f->file + 60000 + 4 * i, &want[i], 4);
    }
    folder_put(f->folder, "file", f->file, FILE_BYTES);
    check(f, (struct gguf_tensor){ .type = DTYPE_F32, .ne = { 4000, 1, 1, 1 } },
          (struct tensor_source)SOURCE(&halves, 1, 4000, DTYPE_F16, 0, 1, NULL), (const unsigned char *)want, sizeof(want));
    float all[4000];
    const struct tensor_source s = SOURCE(&floats, 1, 4000, DTYPE_F32, 0, 1, NULL);
    gguf_put_tensor(&f->b, &(struct gguf_tensor){ .name = { "plus", 4 }, .type = DTYPE_F32, .n_dims = 1, .ne = { 4000, 1, 1, 1 },
                                                  .source = &s });
    assert_int_equal(gguf_read(f->b.g, gguf_find_tensor(f->b.g, "plus"), 0, all, sizeof(all)), 0);
    for (size_t i = 0; i < 4000; i++)
        assert_true(all[i] == want[i] + 1);
}

static void check_values(void **state)
{
    struct fixture *f = *state;
    const float values[6] = { 1, 2.5f, -3, 4, 5, 6 };

    check(f, (struct gguf_tensor){ .type = DTYPE_F32, .ne = { 6, 1, 1, 1 } },
          (struct tensor_source)SOURCE(NULL, 0, 6, DTYPE_F32, 0, 0, values), (const unsigned char *)values, sizeof(values));
}

/* A file that is cut afterwards is an error of the file, and a tensor has an end. */
static void check_cut(void **state)
{
    struct fixture *f = *state;
    const struct tensor_piece piece = PIECE(24, 1, 1000, 8, 2);
    const struct tensor_source s = SOURCE(&piece, 1, 4, DTYPE_F16, 4, 0, NULL);
    struct log_capture log;
    unsigned char got[24 * 8];

    gguf_put_tensor(&f->b, &(struct gguf_tensor){ .name = { "t", 1 }, .type = DTYPE_F16, .n_dims = 2, .ne = { 4, 24, 1, 1 },
                                                  .source = &s });
    const struct gguf_tensor *t = gguf_find_tensor(f->b.g, "t");
    folder_put(f->folder, "file", f->file, 1100);
    log_capture_start(&log);
    assert_int_equal(gguf_read(f->b.g, t, 0, got, sizeof(got)), -EIO);
    assert_int_equal(log.n_lines, 1);
    assert_non_null(strstr(log.last, "/file: tensor \"t\" at byte "));
    assert_non_null(strstr(log.last, "the file was cut after it was opened"));
    assert_int_equal(gguf_read(f->b.g, t, 1, got, sizeof(got)), -EINVAL);
    assert_int_equal(log.n_lines, 2);
    log_capture_start(NULL);
}

/* What is put twice, or is named too long, is refused once, and everything later is ignored. */
static void check_builder(void **state)
{
    struct fixture *f = *state;
    struct log_capture log;
    char name[80];
    uint64_t value = 0;

    gguf_put_u32(&f->b, "a", 7);
    gguf_put_strings(&f->b, "texts", (const struct gguf_string[]){ { "x", 1 }, { "", 0 } }, 2);
    assert_int_equal(gguf_get_u64(f->b.g, "a", 0, 10, &value), 0);
    assert_int_equal(value, 7);
    assert_true(gguf_is_folder(f->b.g));
    assert_int_equal(gguf_n_parts(f->b.g), 1);
    log_capture_start(&log);
    assert_int_equal(gguf_get_u64(f->b.g, "a", 8, 10, &value), -EINVAL);
    assert_non_null(strstr(log.last, ": key \"a\" is 7, expected 8..10"));
    assert_null(strstr(log.last, "at byte"));
    memset(name, 'n', sizeof(name));
    gguf_put_tensor(&f->b, &(struct gguf_tensor){ .name = { name, 64 }, .n_dims = 1, .ne = { 1, 1, 1, 1 } });
    assert_int_equal(f->b.err, -EINVAL);
    gguf_put_u32(&f->b, "b", 7);
    assert_null(gguf_find(f->b.g, "b"));
    f->b.err = 0;
    gguf_put_u32(&f->b, "a", 8);
    assert_int_equal(f->b.err, -EINVAL);
    assert_non_null(strstr(log.last, "key \"a\" comes twice"));
    assert_int_equal(log.n_lines, 3);
    log_capture_start(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(check_rotated), TEST(check_rotated_large), TEST(check_rotated_bias), TEST(check_stacked), TEST(check_strides),
        TEST(check_wide), TEST(check_values), TEST(check_cut), TEST(check_builder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
