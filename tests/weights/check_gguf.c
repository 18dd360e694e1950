/*
 * tests/weights/check_gguf.c - right files: every metadata type and its getters, tensors, versions, alignment, split models, and the
 * real models where scripts/get-model has put them.
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
#include <sys/stat.h>
#include <unistd.h>

#include "tests/weights/gguf_writer.h"
#include "tests/weights/log_capture.h"
#include "weights/gguf.h"

static char folder[] = "/tmp/fourway-check-gguf-XXXXXX";
static struct log_capture lines;

static const char *in_folder(const char *name)
{
    static char path[2][256];
    static int turn;

    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    return system(command);
}

static struct gguf *write_and_open(const struct gguf_writer *w)
{
    const char *path = in_folder("model.gguf");
    struct gguf *g;

    gguf_writer_save(w, path);
    assert_int_equal(gguf_open(&g, path), 0);
    assert_string_equal(gguf_path(g), path);
    return g;
}

static const int8_t i8 = -100;
static const uint8_t u8 = 200;
static const int16_t i16 = -30000;
static const uint16_t u16 = 60000;
static const int32_t i32 = -2000000000;
static const uint32_t u32 = 4000000000;
static const int64_t i64 = INT64_MIN;
static const uint64_t u64 = UINT64_MAX - 1;
static const float f32 = 1.25f;
static const double f64 = -0x1.23456789abcdep-100;

static void write_numbers(struct gguf_writer *w)
{
    gguf_writer_number(w, "u8", GGUF_U8, &u8);
    gguf_writer_number(w, "i8", GGUF_I8, &i8);
    gguf_writer_number(w, "u16", GGUF_U16, &u16);
    gguf_writer_number(w, "i16", GGUF_I16, &i16);
    gguf_writer_number(w, "u32", GGUF_U32, &u32);
    gguf_writer_number(w, "i32", GGUF_I32, &i32);
    gguf_writer_number(w, "u64", GGUF_U64, &u64);
    gguf_writer_number(w, "i64", GGUF_I64, &i64);
    gguf_writer_f32(w, "f32", f32);
    gguf_writer_number(w, "f64", GGUF_F64, &f64);
    gguf_writer_bool(w, "yes", 1);
    gguf_writer_bool(w, "no", 0);
}

static void check_scalars(void **state)
{
    static const struct { const char *key; enum gguf_type type; int64_t value; } integers[] = {
        { "u8", GGUF_U8, 200 }, { "i8", GGUF_I8, -100 }, { "u16", GGUF_U16, 60000 }, { "i16", GGUF_I16, -30000 },
        { "u32", GGUF_U32, 4000000000 }, { "i32", GGUF_I32, -2000000000 }, { "i64", GGUF_I64, INT64_MIN },
        { "u64", GGUF_U64, INT64_MAX },     /* saturates: gguf_get_u64 has all 64 bits */
    };
    struct gguf_writer w;
    uint64_t value;
    double real;
    bool flag;

    (void)state;
    gguf_writer_init(&w);
    write_numbers(&w);
    struct gguf *g = write_and_open(&w);
    assert_int_equal(gguf_n_kv(g), 12);
    assert_int_equal(gguf_n_tensors(g), 0);
    uint64_t at = 24;
    for (size_t i = 0; i < gguf_n_kv(g); i++) {         /* in the order of the file, each where it begins */
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        assert_int_equal(kv->offset, at);
        assert_ptr_equal(gguf_find(g, kv->key.data), kv);
        at += 8 + kv->key.len + 4 + (kv->type == GGUF_BOOL ? 1 : atoi(kv->key.data + 1) / 8);
    }
    assert_int_equal(gguf_file_bytes(g), at);

    for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
        const struct gguf_kv *kv = gguf_find(g, integers[i].key);
        assert_int_equal(kv->type, integers[i].type);
        assert_int_equal(kv->n, 1);
        assert_true(gguf_int_at(kv, 0) == integers[i].value);
        int expected = integers[i].value < 0 ? -EINVAL : 0;
        log_capture_start(&lines);
        assert_int_equal(gguf_get_u64(g, integers[i].key, 0, UINT64_MAX, &value), expected);
        assert_int_equal(lines.n_lines, expected ? 1 : 0);
        log_capture_start(NULL);
        if (!expected && integers[i].type != GGUF_U64)
            assert_true(value == (uint64_t)integers[i].value);
    }
    assert_int_equal(gguf_get_u64(g, "u64", 0, UINT64_MAX, &value), 0);
    assert_true(value == u64);
    assert_int_equal(gguf_get_f64(g, "f32", 1, 2, &real), 0);
    assert_true(real == 1.25);
    assert_int_equal(gguf_get_f64(g, "f64", -1, 1, &real), 0);
    assert_true(real == f64);
    assert_true(gguf_float_at(gguf_find(g, "i16"), 0) == -30000.0);
    assert_int_equal(gguf_get_bool(g, "yes", &flag), 0);
    assert_true(flag);
    assert_int_equal(gguf_get_bool(g, "no", &flag), 0);
    assert_false(flag);
    gguf_close(g);
    gguf_writer_free(&w);
}

static void check_arrays(void **state)
{
    static const int16_t numbers[] = { -32768, -1, 0, 32767 };
    static const float reals[] = { -1.5f, 0, INFINITY };
    static const uint8_t flags[] = { 1, 0, 1 };
    static const char *const texts[] = { "", "two words", "\xe4\xbd\xa0\xe5\xa5\xbd", "\xff\xfe" };    /* tokens may be any bytes */
    const struct gguf_string *strings;
    struct gguf_writer w;
    uint64_t n;

    (void)state;
    gguf_writer_init(&w);
    gguf_writer_array(&w, "numbers", GGUF_I16, numbers, 4);
    gguf_writer_array(&w, "reals", GGUF_F32, reals, 3);
    gguf_writer_array(&w, "flags", GGUF_BOOL, flags, 3);
    gguf_writer_array(&w, "nothing", GGUF_U64, NULL, 0);
    gguf_writer_strings(&w, "texts", texts, 4);
    gguf_writer_strings(&w, "no texts", NULL, 0);
    put_key(&w, "nul", GGUF_STRING);
    put_string(&w.kv, "a\0b", 3);
    struct gguf *g = write_and_open(&w);

    const struct gguf_kv *kv = gguf_find(g, "numbers");
    assert_int_equal(kv->type, GGUF_ARRAY);
    assert_int_equal(kv->element_type, GGUF_I16);
    assert_int_equal(kv->n, 4);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(gguf_int_at(kv, i), numbers[i]);
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(gguf_float_at(gguf_find(g, "reals"), i) == reals[i]);
        assert_int_equal(gguf_int_at(gguf_find(g, "flags"), i), flags[i]);
    }
    assert_int_equal(gguf_find(g, "nothing")->n, 0);
    assert_int_equal(gguf_get_strings(g, "texts", &strings, &n), 0);
    assert_int_equal(n, 4);
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(strings[i].len, strlen(texts[i]));
        assert_string_equal(strings[i].data, texts[i]);
    }
    assert_int_equal(gguf_get_strings(g, "no texts", &strings, &n), 0);
    assert_int_equal(n, 0);
    struct gguf_string nul;
    assert_int_equal(gguf_get_string(g, "nul", &nul), 0);
    assert_int_equal(nul.len, 3);
    assert_memory_equal(nul.data, "a\0b", 4);
    gguf_close(g);
    gguf_writer_free(&w);
}

/* Type, count and range are checked before a value is used, and *out keeps its value when it is refused. */
static void check_getters_refuse(void **state)
{
    static const uint8_t bytes[] = { 1, 2 };
    struct gguf_writer w;
    char expected[512];

    (void)state;
    gguf_writer_init(&w);
    write_numbers(&w);
    gguf_writer_string(&w, "text", "x");
    gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_U8, bytes, 2);
    gguf_writer_f32(&w, "nan", NAN);
    gguf_writer_u32(&w, "evil \" \\ \xc3\xa9", 1);
    struct gguf *g = write_and_open(&w);

    uint64_t integer = 77;
    double real = 77;
    bool flag = true;
    struct gguf_string text = { "77", 2 };
    const struct gguf_string *strings = &text;
    uint64_t n = 77;
    log_capture_start(&lines);
    assert_int_equal(gguf_get_u64(g, "absent", 0, 1, &integer), -ENOENT);
    assert_int_equal(gguf_get_f64(g, "absent", 0, 1, &real), -ENOENT);
    assert_int_equal(gguf_get_bool(g, "absent", &flag), -ENOENT);
    assert_int_equal(gguf_get_string(g, "absent", &text), -ENOENT);
    assert_int_equal(gguf_get_strings(g, "absent", &strings, &n), -ENOENT);
    assert_int_equal(lines.n_lines, 0);

#define REFUSES(call, key, says)                                                                                      \
    do {                                                                                                              \
        log_capture_start(&lines);                                                                                    \
        assert_int_equal(call, -EINVAL);                                                                              \
        assert_int_equal(lines.n_lines, 1);                                                                           \
        snprintf(expected, sizeof(expected), "%s: metadata at byte %llu: key %s", gguf_path(g),                       \
                 (unsigned long long)gguf_find(g, key)->offset, says);                                                \
        assert_string_equal(lines.last, expected);                                                                    \
    } while (0)
    REFUSES(gguf_get_u64(g, "f32", 0, 9, &integer), "f32", "\"f32\": f32, expected an integer");
    REFUSES(gguf_get_u64(g, "yes", 0, 9, &integer), "yes", "\"yes\": bool, expected an integer");
    REFUSES(gguf_get_u64(g, "tokenizer.ggml.scores", 0, 9, &integer), "tokenizer.ggml.scores",
            "\"tokenizer.ggml.scores\": array of u8, expected an integer");
    REFUSES(gguf_get_u64(g, "u8", 1, 199, &integer), "u8", "\"u8\" is 200, expected 1..199");
    REFUSES(gguf_get_u64(g, "u8", 201, 300, &integer), "u8", "\"u8\" is 200, expected 201..300");
    REFUSES(gguf_get_u64(g, "i8", 0, 300, &integer), "i8", "\"i8\" is -100, expected 0..300");
    REFUSES(gguf_get_u64(g, "u64", 0, UINT64_MAX - 2, &integer), "u64",
            "\"u64\" is 18446744073709551614, expected 0..18446744073709551613");
    REFUSES(gguf_get_f64(g, "u8", 0, 1, &real), "u8", "\"u8\": u8, expected f32");
    REFUSES(gguf_get_f64(g, "f32", 0, 1, &real), "f32", "\"f32\" is 1.25, expected 0..1");
    REFUSES(gguf_get_f64(g, "nan", -INFINITY, INFINITY, &real), "nan", "\"nan\" is nan, expected -inf..inf");
    REFUSES(gguf_get_bool(g, "u8", &flag), "u8", "\"u8\": u8, expected bool");
    REFUSES(gguf_get_string(g, "u8", &text), "u8", "\"u8\": u8, expected string");
    REFUSES(gguf_get_strings(g, "text", &strings, &n), "text", "\"text\": string, expected array of string");
    REFUSES(gguf_get_strings(g, "tokenizer.ggml.scores", &strings, &n), "tokenizer.ggml.scores",
            "\"tokenizer.ggml.scores\": array of u8, expected array of string");
    REFUSES(gguf_get_bool(g, "evil \" \\ \xc3\xa9", &flag), "evil \" \\ \xc3\xa9",
            "\"evil \\x22 \\x5c \\xc3\\xa9\": u32, expected bool");
    log_capture_start(NULL);
    assert_int_equal(integer, 77);
    assert_true(real == 77 && flag && n == 77 && strings == &text);
    assert_string_equal(text.data, "77");
    gguf_close(g);
    gguf_writer_free(&w);
}

static void check_quote(void **state)
{
    char out[GGUF_QUOTED], all_escaped[64];

    (void)state;
    assert_string_equal(gguf_quote((struct gguf_string){ "a b~", 4 }, out), "\"a b~\"");
    assert_string_equal(gguf_quote((struct gguf_string){ "\0\n\x7f\"\\", 5 }, out), "\"\\x00\\x0a\\x7f\\x22\\x5c\"");
    memset(all_escaped, 0xff, sizeof(all_escaped));
    assert_int_equal(strlen(gguf_quote((struct gguf_string){ all_escaped, 64 }, out)), 64 * 4 + 2);
    assert_int_equal(strlen(gguf_quote((struct gguf_string){ all_escaped, 63 }, out)), 63 * 4 + 2);
    char long_text[66];
    memset(long_text, 'x', sizeof(long_text));
    gguf_quote((struct gguf_string){ long_text, 65 }, out);
    assert_int_equal(strlen(out), 1 + 64 + 4);
    assert_string_equal(out + 64, "x\"...");
    for (size_t i = 0; i < sizeof(long_text); i++)
        long_text[i] = '\1';
    assert_int_equal(strlen(gguf_quote((struct gguf_string){ long_text, 65 }, out)) + 1, GGUF_QUOTED);
}

/* Tensors of several types one after the other: offsets, sizes, bytes, and reads that stay inside. */
static void check_tensors(uint32_t version, uint64_t alignment)
{
    static const uint64_t shapes[][4] = { { 3 }, { 32, 5 }, { 256, 2, 2 }, { 2, 2, 2, 2 }, { 64 }, { 96 }, { 256, 2 } };
    static const struct { enum dtype type; uint32_t n_dims; uint64_t bytes; } kinds[] = {
        { DTYPE_F32, 1, 12 }, { DTYPE_Q4_0, 2, 90 }, { DTYPE_Q6_K, 3, 840 }, { DTYPE_BF16, 4, 32 }, { DTYPE_Q8_0, 1, 68 },
        { DTYPE_MXFP4, 1, 51 }, { DTYPE_IQ4_XS, 2, 272 },
    };
    enum { N = sizeof(kinds) / sizeof(kinds[0]) };
    unsigned char data[1024], got[1024];
    struct gguf_writer w;
    char name[16];

    gguf_writer_init(&w);
    w.version = version;
    w.alignment = alignment;
    if (alignment != 32)
        gguf_writer_u32(&w, "general.alignment", (uint32_t)alignment);
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < kinds[i].bytes; j++)
            data[j] = (unsigned char)(j * 7 + i);
        snprintf(name, sizeof(name), "tensor.%zu", i);
        gguf_writer_tensor(&w, name, kinds[i].type, kinds[i].n_dims, shapes[i], data);
    }
    struct gguf *g = write_and_open(&w);
    assert_int_equal(gguf_version(g), version);
    assert_int_equal(gguf_alignment(g), alignment);
    assert_int_equal(gguf_n_parts(g), 1);
    assert_int_equal(gguf_n_tensors(g), N);
    for (size_t i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "tensor.%zu", i);
        const struct gguf_tensor *t = gguf_find_tensor(g, name);
        assert_ptr_equal(t, gguf_tensor_at(g, i));
        assert_string_equal(t->name.data, name);
        assert_int_equal(t->type, kinds[i].type);
        assert_int_equal(t->n_dims, kinds[i].n_dims);
        assert_int_equal(t->bytes, kinds[i].bytes);
        assert_int_equal(t->offset % alignment, 0);
        assert_int_equal(t->part, 0);
        for (uint32_t d = 0; d < 4; d++)
            assert_int_equal(t->ne[d], d < t->n_dims ? shapes[i][d] : 1);
        assert_int_equal(gguf_read(g, t, 0, got, t->bytes), 0);
        for (size_t j = 0; j < t->bytes; j++)
            assert_int_equal(got[j], (unsigned char)(j * 7 + i));
        assert_int_equal(gguf_read(g, t, t->bytes - 3, got, 3), 0);
        assert_int_equal(got[2], (unsigned char)((t->bytes - 1) * 7 + i));
        assert_int_equal(gguf_read(g, t, t->bytes, got, 0), 0);
        gguf_drop_cache(g, t, 0, t->bytes);
    }
    const struct gguf_tensor *t = gguf_tensor_at(g, 0);
    log_capture_start(&lines);
    assert_int_equal(gguf_read(g, t, 1, got, 12), -EINVAL);
    assert_int_equal(gguf_read(g, t, 13, got, 0), -EINVAL);
    assert_int_equal(gguf_read(g, t, UINT64_MAX, got, 2), -EINVAL);
    assert_int_equal(gguf_read(g, t, 2, got, SIZE_MAX), -EINVAL);
    assert_int_equal(lines.n_lines, 4);
    assert_non_null(strstr(lines.last, "tensor \"tensor.0\" at byte "));
    log_capture_start(&lines);
    assert_int_equal(truncate(gguf_path(g), (off_t)gguf_tensor_at(g, N - 1)->offset), 0);
    assert_int_equal(gguf_read(g, gguf_tensor_at(g, N - 1), 0, got, 68), -EIO);
    assert_non_null(strstr(lines.last, "the file was cut after it was opened"));
    log_capture_start(NULL);
    assert_null(gguf_find_tensor(g, "tensor"));
    assert_null(gguf_find_tensor(g, "tensor.00"));
    gguf_close(g);
    gguf_writer_free(&w);
}

static void check_tensors_of_all_versions(void **state)
{
    (void)state;
    check_tensors(3, 32);
    check_tensors(2, 32);
    check_tensors(3, 8);
    check_tensors(3, 4096);
}

/* A type that no kernel knows is indexed all the same: info must be able to show the file. */
static void check_unsupported_type_is_indexed(void **state)
{
    static const uint64_t ne[] = { 64, 2 };
    struct gguf_writer w;

    (void)state;
    gguf_writer_init(&w);
    gguf_writer_tensor(&w, "blk.0.ffn_up.weight", (enum dtype)40, 2, ne, NULL);
    struct gguf *g = write_and_open(&w);
    assert_string_equal(dtype_info(gguf_tensor_at(g, 0)->type)->name, "NVFP4");
    assert_int_equal(gguf_tensor_at(g, 0)->bytes, 72);
    gguf_close(g);
    gguf_writer_free(&w);
}

/* So many keys and tensors that the tables grow several times. */
static void check_many(void **state)
{
    enum { N = 20000 };
    static const uint64_t ne[] = { 1 };
    struct gguf_writer w;
    uint64_t value;
    char name[32];

    (void)state;
    gguf_writer_init(&w);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "key.%u", i);
        gguf_writer_u32(&w, name, i);
        gguf_writer_tensor(&w, name, DTYPE_F32, 1, ne, &i);
    }
    struct gguf *g = write_and_open(&w);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t content;
        snprintf(name, sizeof(name), "key.%u", i);
        assert_int_equal(gguf_get_u64(g, name, 0, N, &value), 0);
        assert_int_equal(value, i);
        assert_ptr_equal(gguf_find_tensor(g, name), gguf_tensor_at(g, i));
        assert_int_equal(gguf_read(g, gguf_tensor_at(g, i), 0, &content, 4), 0);
        assert_int_equal(content, i);
    }
    assert_null(gguf_find(g, "key.20000"));
    gguf_close(g);
    gguf_writer_free(&w);
}

static void write_split_keys(struct gguf_writer *w, uint16_t no, uint16_t count, int32_t n_tensors)
{
    gguf_writer_number(w, "split.no", GGUF_U16, &no);
    gguf_writer_number(w, "split.count", GGUF_U16, &count);
    gguf_writer_number(w, "split.tensors.count", GGUF_I32, &n_tensors);
}

static void save_part(unsigned i, unsigned n, uint16_t no, uint16_t count, int32_t n_tensors, const char *arch, const char *tensor)
{
    static const uint64_t ne[] = { 10 };
    float data[10];
    struct gguf_writer w;
    char name[64];

    for (int j = 0; j < 10; j++)
        data[j] = (float)i * 100 + (float)j;
    gguf_writer_init(&w);
    if (arch)
        gguf_writer_string(&w, "general.architecture", arch);
    write_split_keys(&w, no, count, n_tensors);
    if (i == 2)                     /* so that the offsets of the parts differ */
        gguf_writer_u32(&w, "something.else", 5);
    gguf_writer_tensor(&w, tensor, DTYPE_F32, 1, ne, data);
    snprintf(name, sizeof(name), "m-%05u-of-%05u.gguf", i, n);
    gguf_writer_save(&w, in_folder(name));
    gguf_writer_free(&w);
}

static void check_split(void **state)
{
    struct stat st;
    uint64_t bytes = 0;
    struct gguf *g;
    float got[10];
    char name[64];

    (void)state;
    save_part(1, 3, 0, 3, 3, "llama", "a");
    save_part(2, 3, 1, 3, 3, NULL, "b");
    save_part(3, 3, 2, 3, 3, "llama", "c");
    for (unsigned i = 1; i <= 3; i++) {
        snprintf(name, sizeof(name), "m-%05u-of-00003.gguf", i);
        assert_int_equal(stat(in_folder(name), &st), 0);
        bytes += (uint64_t)st.st_size;
    }
    assert_int_equal(gguf_open(&g, in_folder("m-00001-of-00003.gguf")), 0);
    assert_int_equal(gguf_n_parts(g), 3);
    assert_int_equal(gguf_n_tensors(g), 3);
    assert_int_equal(gguf_file_bytes(g), bytes);
    assert_null(gguf_find(g, "something.else"));        /* metadata is that of the first part */
    for (uint32_t i = 0; i < 3; i++) {
        const struct gguf_tensor *t = gguf_find_tensor(g, (const char *[]){ "a", "b", "c" }[i]);
        assert_int_equal(t->part, i);
        assert_int_equal(gguf_read(g, t, 0, got, sizeof(got)), 0);
        assert_true(got[0] == (float)(i + 1) * 100 && got[9] == (float)(i + 1) * 100 + 9);
    }
    gguf_close(g);
}

/* Parts that are missing, misnumbered, foreign or doubled are refused, and the line blames the right file. */
static void check_bad_split(void **state)
{
    struct gguf *g;

    (void)state;
#define SPLIT_REFUSED(err, file, says)                                                  \
    do {                                                                                \
        log_capture_start(&lines);                                                      \
        assert_int_equal(gguf_open(&g, in_folder("m-00001-of-00003.gguf")), err);       \
        log_capture_start(NULL);                                                        \
        assert_null(g);                                                                 \
        assert_int_equal(lines.n_lines, 1);                                             \
        if (strncmp(lines.last, in_folder(file), strlen(in_folder(file))) || !strstr(lines.last, says)) \
            fail_msg("unexpected: %s", lines.last);                                     \
    } while (0)
    save_part(1, 3, 0, 3, 3, "llama", "a");
    save_part(2, 3, 1, 3, 3, NULL, "b");
    save_part(3, 3, 2, 3, 3, "llama", "c");
    assert_int_equal(unlink(in_folder("m-00002-of-00003.gguf")), 0);
    SPLIT_REFUSED(-ENOENT, "m-00001-of-00003.gguf", ": part 2 of 3 is missing: m-00002-of-00003.gguf");
    save_part(2, 3, 2, 3, 3, NULL, "b");
    SPLIT_REFUSED(-EINVAL, "m-00002-of-00003.gguf", ": split.no is 2, expected 1");
    save_part(2, 3, 1, 4, 3, NULL, "b");
    SPLIT_REFUSED(-EINVAL, "m-00002-of-00003.gguf", ": split.count is 4, the first part has 3");
    save_part(2, 3, 1, 3, 4, NULL, "b");
    SPLIT_REFUSED(-EINVAL, "m-00002-of-00003.gguf", ": split.tensors.count is 4, the first part has 3");
    save_part(2, 3, 1, 3, -3, NULL, "b");
    SPLIT_REFUSED(-EINVAL, "m-00002-of-00003.gguf", ": key \"split.tensors.count\" is -3, expected 0..65536");
    save_part(2, 3, 1, 3, 3, "qwen3", "b");
    SPLIT_REFUSED(-EINVAL, "m-00002-of-00003.gguf", ": general.architecture is \"qwen3\", the first part has \"llama\"");
    save_part(2, 3, 1, 3, 3, NULL, "a");
    SPLIT_REFUSED(-EINVAL, "m-00002-of-00003.gguf", ": tensor \"a\" appears twice");
    save_part(2, 3, 1, 3, 3, NULL, "b");
    save_part(1, 3, 0, 1000, 3, "llama", "a");
    SPLIT_REFUSED(-EINVAL, "m-00001-of-00003.gguf", ": key \"split.count\" is 1000, expected 0..999");
    save_part(1, 3, 1, 3, 3, "llama", "a");
    SPLIT_REFUSED(-EINVAL, "m-00001-of-00003.gguf", ": this is part 2 of 3: open the first part (-00001-of-00003.gguf)");
    save_part(1, 3, 0, 2, 3, "llama", "a");
    SPLIT_REFUSED(-EINVAL, "m-00001-of-00003.gguf", ": split.count is 2, but the name of the file does not end in -00001-of-00002.gguf");
    for (unsigned i = 1; i <= 3; i++)
        save_part(i, 3, (uint16_t)(i - 1), 3, 4, "llama", (const char *[]){ "a", "b", "c" }[i - 1]);
    SPLIT_REFUSED(-EINVAL, "m-00001-of-00003.gguf", ": split.tensors.count is 4, the parts hold 3");
    save_part(1, 3, 0, 0, 99, "llama", "a");        /* as gguf-split --merge leaves it: not split */
    assert_int_equal(gguf_open(&g, in_folder("m-00001-of-00003.gguf")), 0);
    assert_int_equal(gguf_n_parts(g), 1);
    gguf_close(g);
}

static void check_not_a_file(void **state)
{
    static const struct { const char *path; int err; const char *says; } paths[] = {
        { "/nonexistent/model.gguf", -ENOENT, "/nonexistent/model.gguf: cannot open: No such file or directory" },
        { "/", -EINVAL, "/: not a model: a folder needs config.json, as Hugging Face models have it" },
        { "/dev/zero", -EINVAL, "/dev/zero: not a regular file" },
        { "", -ENOENT, ": cannot open: No such file or directory" },
    };
    const char *fifo = in_folder("fifo");
    struct gguf *g;

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        log_capture_start(&lines);
        assert_int_equal(gguf_open(&g, paths[i].path), paths[i].err);
        log_capture_start(NULL);
        assert_null(g);
        assert_int_equal(lines.n_lines, 1);
        assert_string_equal(lines.last, paths[i].says);
    }
    assert_int_equal(mkfifo(fifo, 0600), 0);
    log_capture_start(&lines);
    assert_int_equal(gguf_open(&g, fifo), -EINVAL);         /* and does not wait for a writer */
    log_capture_start(NULL);
    assert_non_null(strstr(lines.last, "not a regular file"));
    gguf_close(NULL);
}

/* Where the models of the README are: as scripts/get-model puts them. */
static void check_real_model(const char *file, const char *arch, size_t n_kv, size_t n_tensors, uint64_t n_tokens,
                             uint64_t n_params, uint64_t file_bytes)
{
    const char *models = getenv("FOURWAY_MODELS"), *home = getenv("HOME");
    const struct gguf_string *tokens;
    struct gguf_string text;
    uint64_t n, params = 0;
    struct gguf *g;
    char path[512];

    if (models)
        snprintf(path, sizeof(path), "%s/%s", models, file);
    else
        snprintf(path, sizeof(path), "%s/.cache/fourway/models/%s", home ? home : "", file);
    if (access(path, R_OK) < 0) {
        print_message("SKIPPED: %s is not there (scripts/get-model fetches it)\n", path);
        skip();
    }
    assert_int_equal(gguf_open(&g, path), 0);
    assert_int_equal(gguf_n_kv(g), n_kv);
    assert_int_equal(gguf_n_tensors(g), n_tensors);
    assert_int_equal(gguf_file_bytes(g), file_bytes);
    assert_int_equal(gguf_get_string(g, "general.architecture", &text), 0);
    assert_string_equal(text.data, arch);
    assert_int_equal(gguf_get_strings(g, "tokenizer.ggml.tokens", &tokens, &n), 0);
    assert_int_equal(n, n_tokens);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char last;
        params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        assert_ptr_equal(gguf_find_tensor(g, t->name.data), t);
        assert_true(dtype_info(t->type)->supported);
        assert_int_equal(gguf_read(g, t, t->bytes - 1, &last, 1), 0);
    }
    assert_int_equal(params, n_params);
    gguf_close(g);
}

static void check_smollm2(void **state)
{
    (void)state;
    check_real_model("smollm2.gguf", "llama", 33, 272, 49152, 134515008, 98362432);
}

static void check_gemma3(void **state)
{
    (void)state;
    check_real_model("gemma3-270m.gguf", "gemma3", 33, 236, 262144, 268098176, 253113024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_scalars),
        cmocka_unit_test(check_arrays),
        cmocka_unit_test(check_getters_refuse),
        cmocka_unit_test(check_quote),
        cmocka_unit_test(check_tensors_of_all_versions),
        cmocka_unit_test(check_unsupported_type_is_indexed),
        cmocka_unit_test(check_many),
        cmocka_unit_test(check_split),
        cmocka_unit_test(check_bad_split),
        cmocka_unit_test(check_not_a_file),
        cmocka_unit_test(check_smollm2),
        cmocka_unit_test(check_gemma3),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
