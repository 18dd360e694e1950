/*
 * tests/common/check_common.c - buffers and their limit, UTF-8 by an independent definition, every 16-bit float, log escapes,
 * overflow-safe arithmetic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/checked.h"
#include "common/dtype.h"
#include "common/log.h"
#include "common/utf8.h"

static void check_buf_grows(void **state)
{
    struct buf b = { 0 };

    (void)state;
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    buf_puts(&b, "end");
    buf_append(&b, "\0x", 2);
    buf_putc(&b, '!');
    assert_false(b.failed);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4 + 3 + 2 + 1);
    assert_memory_equal(b.data + b.len - 6, "end\0x!", 7);      /* and the NUL that is not counted */
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    buf_free(&b);
    assert_null(b.data);
}

static void check_buf_limit(void **state)
{
    struct buf b = { .limit = 10 };

    (void)state;
    buf_puts(&b, "0123456789");
    assert_false(b.failed);
    buf_putc(&b, 'x');
    assert_true(b.failed);
    buf_clear(&b);
    buf_puts(&b, "01234567");
    buf_printf(&b, "%d", 999);
    assert_true(b.failed);
    buf_puts(&b, "");                       /* once failed, nothing is appended */
    assert_string_equal(b.data, "01234567");
    buf_clear(&b);
    assert_null(buf_reserve(&b, SIZE_MAX)); /* len + n must not wrap */
    buf_free(&b);
    assert_int_equal(b.limit, 10);
}

static void check_checked(void **state)
{
    uint64_t r;

    (void)state;
    assert_true(checked_add(UINT64_MAX - 1, 1, &r) && r == UINT64_MAX);
    assert_false(checked_add(UINT64_MAX, 1, &r));
    assert_true(checked_mul(1ull << 32, (1ull << 32) - 1, &r) && r == UINT64_MAX - UINT32_MAX);
    assert_false(checked_mul(1ull << 32, 1ull << 32, &r));
    assert_true(checked_align(0, 64, &r) && r == 0);
    assert_true(checked_align(1, 64, &r) && r == 64);
    assert_true(checked_align(64, 64, &r) && r == 64);
    assert_true(checked_align(UINT64_MAX - 63, 64, &r) && r == UINT64_MAX - 63);
    assert_false(checked_align(UINT64_MAX - 62, 64, &r));
}

static void check_utf8_round_trip(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000 + 10; c++) {
        char bytes[5];
        uint32_t back = 0;
        size_t n = utf8_encode(c, bytes);
        uint32_t want = c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0xfffd : c;
        assert_int_equal(n, want < 0x80 ? 1 : want < 0x800 ? 2 : want < 0x10000 ? 3 : 4);
        assert_int_equal(utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, want);
        for (size_t cut = 1; cut < n; cut++)
            assert_int_equal(utf8_decode(bytes, cut, &back), UTF8_INCOMPLETE);
        bytes[n] = 'x';
        assert_int_equal(utf8_check(bytes, n + 1), n + 1);
    }
}

/* Table 3-7 at its borders, and a count of all valid three-byte sequences. */
static void check_utf8_invalid(void **state)
{
    static const struct { const char *bytes; size_t n; int result; } cases[] = {
        { "\x80", 1, -1 }, { "\xc0\x80", 2, -1 }, { "\xc1\xbf", 2, -1 },            /* stray, overlong */
        { "\xe0\x9f\xbf", 3, -1 }, { "\xf0\x8f\xbf\xbf", 4, -1 },                   /* overlong */
        { "\xed\xa0\x80", 3, -1 },                                                  /* surrogate */
        { "\xf4\x90\x80\x80", 4, -1 }, { "\xf5\x80", 2, -1 }, { "\xff", 1, -1 },    /* beyond U+10FFFF */
        { "\xc3(", 2, -1 }, { "\xe2\x82(", 3, -2 }, { "\xf0\x9f\x98(", 4, -3 },     /* cut by another character */
        { "\xe2(", 2, -1 }, { "\xf0\x9f(", 3, -2 }, { "\xe2\x82\xe2", 3, -2 },
        { "\xed\x9f\xbf", 3, 3 }, { "\xee\x80\x80", 3, 3 }, { "\xf4\x8f\xbf\xbf", 4, 4 },
    };
    uint32_t c;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(utf8_decode(cases[i].bytes, cases[i].n, &c), cases[i].result);
    assert_int_equal(utf8_check("a\xc3\xa9\xc3", 4), 3);
    assert_int_equal(utf8_check("", 0), 0);

    size_t n_valid = 0;
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            for (unsigned d = 0; d < 256; d++) {
                const char s[3] = { (char)a, (char)b, (char)d };
                n_valid += utf8_decode(s, 3, &c) == 3;
            }
        }
    }
    assert_int_equal(n_valid, 0x10000 - 0x800 - 0x800);     /* U+0800..U+FFFF without the surrogates */
}

/* The value of a half by its definition, in double: exact. */
static double half_value(unsigned h)
{
    double sign = h & 0x8000 ? -1 : 1, mantissa = h & 0x3ff;
    int exponent = h >> 10 & 31;

    if (exponent == 31)
        return mantissa > 0 ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

static void check_half(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        float f = half_to_float((half)h);
        double want = half_value(h);
        if (isnan(want)) {
            assert_true(isnan(f));
            assert_true(isnan(half_to_float(half_from_float(f))));
            continue;
        }
        assert_true((double)f == want && !signbit(f) == !(h & 0x8000));
        assert_int_equal(half_from_float(f), h);
        assert_int_equal(half_is_finite((half)h), isfinite(f) != 0);
        /* Between h and the next: below the middle, the middle (to even), above it. */
        if ((h & 0x7fff) < 0x7bff) {
            double next = half_value(h + 1), middle = (want + next) / 2;
            assert_int_equal(half_from_float((float)middle), h & 1 ? h + 1 : h);
            assert_int_equal(half_from_float(nextafterf((float)middle, (float)want)), h);
            assert_int_equal(half_from_float(nextafterf((float)middle, (float)next)), h + 1);
        }
    }
    assert_int_equal(half_from_float(65519.996f), 0x7bff);
    assert_int_equal(half_from_float(65520.0f), 0x7c00);
    assert_int_equal(half_from_float(-1e30f), 0xfc00);
    assert_int_equal(half_from_float(0x1p-25f), 0);         /* the middle between 0 and the least: to even */
    assert_int_equal(half_from_float(0x1.000002p-25f), 1);
    assert_int_equal(half_from_float(-0.0f), 0x8000);
}

static void check_bf16(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        float f = bf16_to_float((bf16)h);
        assert_int_equal(bits_of(f), h << 16);
        if (isnan(f)) {
            assert_true(isnan(bf16_to_float(bf16_from_float(f))));
            continue;
        }
        assert_int_equal(bf16_from_float(f), h);
        if (isinf(f))
            continue;
        uint32_t middle = h << 16 | 0x8000;
        float m;
        memcpy(&m, &middle, sizeof(m));
        assert_int_equal(bf16_from_float(m), h & 1 ? h + 1 : h);
        middle++;
        memcpy(&m, &middle, sizeof(m));
        assert_int_equal(bf16_from_float(m), h + 1);
    }
}

static void check_dtype_info(void **state)
{
    static const struct { uint32_t id; const char *name; uint32_t block, bytes; } known[] = {
        { 0, "F32", 1, 4 }, { 1, "F16", 1, 2 }, { 2, "Q4_0", 32, 18 }, { 3, "Q4_1", 32, 20 }, { 6, "Q5_0", 32, 22 }, { 7, "Q5_1", 32, 24 },
        { 8, "Q8_0", 32, 34 }, { 12, "Q4_K", 256, 144 }, { 13, "Q5_K", 256, 176 }, { 14, "Q6_K", 256, 210 }, { 30, "BF16", 1, 2 },
        { 10, "Q2_K", 256, 84 }, { 11, "Q3_K", 256, 110 }, { 20, "IQ4_NL", 32, 18 }, { 23, "IQ4_XS", 256, 136 }, { 39, "MXFP4", 32, 17 },
        { DTYPE_F8_E4M3, "F8_E4M3", 32, 36 },
    };
    size_t n_supported = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        const struct dtype_info *info = dtype_info(known[i].id);
        assert_non_null(info);
        assert_string_equal(info->name, known[i].name);
        assert_int_equal(info->block, known[i].block);
        assert_int_equal(info->block_bytes, known[i].bytes);
        assert_true(info->supported);
        assert_int_equal(info->own, known[i].id == DTYPE_F8_E4M3);
    }
    for (uint32_t id = 0; id < DTYPE_COUNT; id++)
        n_supported += dtype_info(id) && dtype_info(id)->supported;
    assert_int_equal(n_supported, sizeof(known) / sizeof(known[0]));
    assert_null(dtype_info(4));         /* retired */
    assert_null(dtype_info(DTYPE_COUNT));
    assert_null(dtype_info(UINT32_MAX));
}

static void check_e4m3(void **state)
{
    (void)state;
    assert_true(e4m3_to_float(0) == 0 && !signbit(e4m3_to_float(0)) && signbit(e4m3_to_float(0x80)));
    assert_true(e4m3_to_float(0x38) == 1 && e4m3_to_float(0xb9) == -1.125f && e4m3_to_float(0x7e) == 448 && e4m3_to_float(8) == 0x1p-6f);
    for (int code = 0; code < 0x7f; code++) {
        const float step = ldexpf(1, (code >> 3 > 1 ? code >> 3 : 1) - 10);        /* to the next one */
        assert_true(e4m3_to_float((e4m3)(code + 1)) - e4m3_to_float((e4m3)code) == step || code == 0x7e);
        assert_true(e4m3_to_float((e4m3)(code | 0x80)) == -e4m3_to_float((e4m3)code));
        assert_false(e4m3_is_nan((e4m3)code) || e4m3_is_nan((e4m3)(code | 0x80)));
    }
    assert_true(isnan(e4m3_to_float(0x7f)) && isnan(e4m3_to_float(0xff)) && e4m3_is_nan(0x7f) && e4m3_is_nan(0xff));
}

/* What log_error prints on stderr for a hostile message. */
static void printed(enum log_format format, const char *message, char *out, size_t out_size)
{
    FILE *copy = tmpfile();
    int err = dup(STDERR_FILENO);

    assert_non_null(copy);
    dup2(fileno(copy), STDERR_FILENO);
    log_set_format(format);
    log_error("%s", message);
    log_debug("below the level");
    dup2(err, STDERR_FILENO);
    close(err);
    log_set_format(LOG_PLAIN);
    rewind(copy);
    size_t n = fread(out, 1, out_size - 1, copy);
    out[n] = '\0';
    fclose(copy);
}

static void check_log_escapes(void **state)
{
    /* A new line, an escape sequence, C1 control (as UTF-8), an invalid byte, a quote, a backslash, a real character. */
    static const char hostile[] = "a\nb\x1b[2J\xc2\x9b\xff\"\\\xc3\xa9";
    char line[512];
    struct tm time;

    (void)state;
    printed(LOG_PLAIN, hostile, line, sizeof(line));
    assert_string_equal(line, "fourway: a\\x0ab\\x1b[2J\\xc2\\x9b\\xff\"\\\xc3\xa9\n");
    printed(LOG_TEXT, hostile, line, sizeof(line));
    const char *rest = strptime(line, "%Y-%m-%dT%H:%M:%S", &time);
    assert_non_null(rest);
    assert_int_equal(strspn(rest, ".0123456789"), 4);
    assert_string_equal(rest + 4, "Z error: a\\x0ab\\x1b[2J\\xc2\\x9b\\xff\"\\\xc3\xa9\n");
    printed(LOG_JSON, hostile, line, sizeof(line));
    rest = strstr(line, "\"level\"");
    assert_non_null(rest);
    assert_string_equal(rest, "\"level\":\"error\",\"msg\":\"a\\\\x0ab\\\\x1b[2J\\\\xc2\\\\x9b\\\\xff\\\"\\\\\xc3\xa9\"}\n");
}

static void count_message(void *arg, enum log_level level, const char *message)
{
    int *n = arg;
    assert_int_equal(level, LOG_WARN);
    assert_string_equal(message, "7 of 8");
    ++*n;
}

static void check_log_sink(void **state)
{
    int n = 0;

    (void)state;
    log_set_sink(count_message, &n);
    log_set_level(LOG_WARN);
    log_info("not this");
    log_warn("%d of %d", 7, 8);
    log_set_level(LOG_INFO);
    log_set_sink(NULL, NULL);
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_buf_grows), cmocka_unit_test(check_buf_limit), cmocka_unit_test(check_checked),
        cmocka_unit_test(check_utf8_round_trip), cmocka_unit_test(check_utf8_invalid), cmocka_unit_test(check_half),
        cmocka_unit_test(check_bf16), cmocka_unit_test(check_e4m3), cmocka_unit_test(check_dtype_info), cmocka_unit_test(check_log_escapes),
        cmocka_unit_test(check_log_sink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
