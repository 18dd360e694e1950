/*
 * tests/weights/check_safetensors.c - headers of safetensors files: those that are right, also oddly, and every wrong one of the
 * table in the format's README and of the official reader, each with its message.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/weights/log_capture.h"
#include "weights/safetensors.h"

/* A file of n (or the JSON's length where n is 0), the JSON, and n_data bytes. */
static int file_of(const char *json, size_t n_json, uint64_t n, size_t n_data)
{
    int fd = memfd_create("safetensors", 0);
    char zeros[64] = { 0 };

    assert_true(fd >= 0 && n_data <= sizeof(zeros));
    n = n ? n : n_json;
    assert_int_equal(write(fd, &n, 8), 8);
    assert_int_equal(write(fd, json, n_json), n_json);
    assert_int_equal(write(fd, zeros, n_data), n_data);
    return fd;
}

static int read_file(struct safetensors_list *list, int fd)
{
    const off_t size = lseek(fd, 0, SEEK_END);
    int err = safetensors_read(list, "FILE", fd, (uint64_t)size, 3);

    close(fd);
    return err;
}

#define TENSOR(name, type, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

static void check_right(void **state)
{
    static const char json[] = "{\"__metadata__\":{\"format\":\"pt\",\"a\":\"\\u00e4\"}," TENSOR("b", "BF16", "2, 3", 4, 16) ","
        TENSOR("a\\u0041\\n", "F32", "", 0, 4) ",\n " TENSOR("empty", "F32", "0,7", 16, 16)
        ", \"more\":{\"shape\":[2],\"extra\":{\"x\":[1,-2.5e3,null,\"}\"]},\"data_offsets\":[16,18],\"dtype\":\"I8\"} }   ";
    struct safetensors_list list = { 0 };

    (void)state;
    assert_int_equal(read_file(&list, file_of(json, strlen(json), 0, 18)), 0);
    assert_int_equal(list.n, 4);
    const struct safetensors_tensor *t = safetensors_find(&list, (struct gguf_string){ "b", 1 });
    assert_non_null(t);
    assert_int_equal(t->type, SAFETENSORS_BF16);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->offset, 8 + strlen(json) + 4);
    assert_int_equal(t->bytes, 12);
    assert_int_equal(t->part, 3);
    t = safetensors_find(&list, (struct gguf_string){ "aA\n", 3 });
    assert_non_null(t);
    assert_int_equal(t->rank, 0);
    assert_null(safetensors_find(&list, (struct gguf_string){ "x", 1 }));
    assert_string_equal(safetensors_type_name(SAFETENSORS_F6_E3M2), "F6_E3M2");
    safetensors_free(&list);

    assert_int_equal(read_file(&list, file_of("{}", 2, 0, 0)), 0);
    assert_int_equal(read_file(&list, file_of("{\"__metadata__\":null}", strlen("{\"__metadata__\":null}"), 0, 0)), 0);
    assert_int_equal(list.n, 0);
    safetensors_free(&list);
}

static void check_wrong(void **state)
{
#define A TENSOR("a", "U8", "4", 0, 4)
    static const struct { const char *json; size_t n_data; const char *message; } wrong[] = {
        { "{" A "," TENSOR("b", "U8", "4", 5, 9) "}", 9, "data at byte 113: 1 bytes before tensor \"b\" belong to none" },
        { "{" TENSOR("a", "U8", "4", 1, 5) "}", 5, "1 bytes before tensor \"a\" belong to none" },
        { "{" A "," TENSOR("b", "U8", "4", 3, 7) "}", 7, "tensors \"a\" and \"b\" overlap" },
        { "{" A "," TENSOR("b", "U8", "4", 0, 4) "}", 4, "tensors \"a\" and \"b\" overlap" },
        { "{" A "}", 5, "1 bytes after the last tensor" },
        { "{}", 1, "1 bytes after the last tensor" },
        { "{" TENSOR("a", "U8", "4", 4, 0) "}", 4, "tensor \"a\": begins at 4 and ends at 0" },
        { "{" A "}", 3, "tensor \"a\": ends at 4, the file has 3 bytes of data" },
        { "{" TENSOR("a", "U8", "4", 0, 18446744073709551615) "}", 4, "ends at 18446744073709551615" },
        { "{" TENSOR("a", "U8", "4", 0, 18446744073709551616) "}", 4, "an integer beyond 64 bits" },
        { "{" TENSOR("a", "U8", "5", 0, 4) "}", 4, "has 4 bytes, its shape and type need 5" },
        { "{" TENSOR("a", "F4", "3", 0, 1) "}", 1, "need 1 and some bits" },
        { "{" TENSOR("a", "F64", "2147483648,2147483648,2", 0, 4) "}", 4, "the product of its shape exceeds 64 bits" },
        { "{" TENSOR("a", "U8", "-4", 0, 4) "}", 4, "expected an integer of 0 or more" },
        { "{" TENSOR("a", "U8", "4.5", 0, 4) "}", 4, "expected an integer at" },
        { "{" TENSOR("a", "U8", "4e0", 0, 4) "}", 4, "expected an integer at" },
        { "{" TENSOR("a", "U8", "04", 0, 4) "}", 4, "with a leading zero" },
        { "{" TENSOR("a", "U8", "1,1,1,1,1,1,1,1,4", 0, 4) "}", 4, "more than 8 dimensions" },
        { "{" TENSOR("a", "U9", "4", 0, 4) "}", 4, "type \"U9\" is unknown" },
        { "{" A "," A "}", 4, "tensor \"a\": comes twice" },
        { "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "the field \"dtype\" comes twice" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "lacks one of dtype, shape and data_offsets" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}", 4, "expected ']'" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]}}", 4, "expected ','" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":4,\"data_offsets\":[0,4]}}", 4, "expected '['" },
        { "{\"a\":[]}", 0, "expected '{'" },
        { "{\"__metadata__\":{\"a\":1}}", 0, "a value of __metadata__ is no string" },
        { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ comes twice" },
        { "{\"__metadata__\":{\"a\":\"\xff\"}}", 0, "no UTF-8 text" },
        { "{\"\xc3\":{}}", 0, "no UTF-8" },
        { "{\"\\ud800\":{}}", 0, "is no character" },
        { "{\"\\ud800\\u0041\":{}}", 0, "is no character" },
        { "{\"\\u0000\":{}}", 0, "is no character" },
        { "{\"\\q\":{}}", 0, "unknown escape" },
        { "{\"a\nb\":{}}", 0, "control byte 0x0a in a string" },
        { "[]", 0, "expected '{' at byte 8" },
        { "\xef\xbb\xbf{}", 0, "expected '{' at byte 8" },
        { "{} x", 0, "text after the JSON at byte 11" },
        { "{" A, 4, "the header's JSON ends early" },
        { "{" A ",}", 4, "expected '\"'" },
        { "{\"a\":{\"x\":}}", 0, "expected a value" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct safetensors_list list = { 0 };
        struct log_capture log;
        log_capture_start(&log);
        int err = read_file(&list, file_of(wrong[i].json, strlen(wrong[i].json), 0, wrong[i].n_data));
        log_capture_start(NULL);
        if (err != -EINVAL || log.n_lines != 1 || !strstr(log.last, wrong[i].message))
            fail_msg("%s: %d, %zu lines, \"%s\"; expected \"%s\"", wrong[i].json, err, log.n_lines, log.last, wrong[i].message);
        safetensors_free(&list);
    }
}

/* Lengths of the header that no file can have, and files that are too short to have one. */
static void check_lengths(void **state)
{
    static const struct { uint64_t n; const char *message; } wrong[] = {
        { UINT64_MAX, "a header of 18446744073709551615 bytes in a file of 10" },
        { (uint64_t)1 << 60, "a header of 1152921504606846976 bytes" },
        { 3, "a header of 3 bytes in a file of 10" }, { 1, "a header of 1 bytes, at least 2" },
    };
    struct log_capture log;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct safetensors_list list = { 0 };
        log_capture_start(&log);
        assert_int_equal(read_file(&list, file_of("{}", 2, wrong[i].n, 0)), -EINVAL);
        assert_int_equal(log.n_lines, 1);
        assert_non_null(strstr(log.last, wrong[i].message));
        log_capture_start(NULL);
    }
    for (size_t size = 0; size < 8; size++) {
        struct safetensors_list list = { 0 };
        int fd = file_of("{}", 2, 0, 0);
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        log_capture_start(&log);
        assert_int_equal(read_file(&list, fd), -EINVAL);
        assert_non_null(strstr(log.last, "truncated at offset"));
        log_capture_start(NULL);
    }
    /* 100,000,001 bytes of header in a sparse file: refused before they are read. */
    struct safetensors_list list = { 0 };
    int fd = file_of("{}", 2, 100000001, 0);
    assert_int_equal(ftruncate(fd, 200000000), 0);
    log_capture_start(&log);
    assert_int_equal(read_file(&list, fd), -EINVAL);
    assert_non_null(strstr(log.last, ", at most 100000000"));
    log_capture_start(NULL);
}

/* A file cut at every byte of its header, and every byte of it changed: an error or a list, never more. */
static void check_damaged(void **state)
{
    static const char json[] = "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR("a.b", "F16", "2,1", 0, 4) ","
        TENSOR("c", "U8", "3", 4, 7) "}";
    static const char others[] = "\"{}[],:0-\\n\xff\x01";
    struct log_capture log;

    (void)state;
    log_capture_start(&log);
    for (size_t n = 0; n < strlen(json); n++) {
        struct safetensors_list list = { 0 };
        assert_int_equal(read_file(&list, file_of(json, n, strlen(json), 0)), -EINVAL);
        safetensors_free(&list);
    }
    for (size_t i = 0; i < strlen(json); i++)
        for (size_t j = 0; j < sizeof(others); j++) {
            char copy[sizeof(json)];
            struct safetensors_list list = { 0 };
            memcpy(copy, json, sizeof(copy));
            copy[i] = others[j];
            int err = read_file(&list, file_of(copy, strlen(json), 0, 7));
            assert_true(err == 0 || err == -EINVAL);
            safetensors_free(&list);
        }
    log_capture_start(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_right), cmocka_unit_test(check_wrong), cmocka_unit_test(check_lengths), cmocka_unit_test(check_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
