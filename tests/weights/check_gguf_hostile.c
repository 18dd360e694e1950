/*
 * tests/weights/check_gguf_hostile.c - wrong files: headers, counts, lengths, names, types and offsets that lie, every
 * truncation, every changed byte, and files that shrink to nothing of what they claim.
 *
 * What holds for all: -EINVAL, no model, one line that begins with the path, under a second of processor time, under 64 MiB more
 * memory, no file left open. (Leaks of memory are found by the address sanitizer.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tests/weights/gguf_writer.h"
#include "tests/weights/log_capture.h"
#include "weights/gguf.h"

static struct log_capture lines;

/* A file in memory that has a path: nothing to clean up, and holes cost nothing. */
static int memory_file(const void *bytes, size_t n, char path[32])
{
    int fd = memfd_create("model.gguf", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static long peak_kib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static size_t n_open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Open the bytes, followed by a hole up to `size`. Returns what gguf_open does; the line is in `lines`. */
static int open_bytes(const void *bytes, size_t n, off_t size)
{
    char path[32];
    struct gguf *g;
    int fd = memory_file(bytes, n, path);

    if (size)
        assert_int_equal(ftruncate(fd, size), 0);
    double start = cpu_seconds();
    log_capture_start(&lines);
    int err = gguf_open(&g, path);
    log_capture_start(NULL);
    assert_true(cpu_seconds() - start < 1);
    if (err) {
        assert_null(g);
        assert_int_equal(lines.n_lines, 1);
        assert_int_equal(lines.level, LOG_ERROR);
        assert_memory_equal(lines.last, path, strlen(path));
        assert_memory_equal(lines.last + strlen(path), ": ", 2);
    } else {
        assert_int_equal(lines.n_lines, 0);
    }
    gguf_close(g);
    close(fd);
    return err;
}

static void expect_refusal(int err, const char *says)
{
    if (err != -EINVAL)
        fail_msg("returned %d, expected the refusal '%s'", err, says);
    if (!strstr(lines.last, says))
        fail_msg("got '%s', expected '%s'", lines.last, says);
}

/* Refused, with `says` in the line. The writer is freed. `size`: 0, or the file is made that long with a hole. */
static void refused_sparse(struct gguf_writer *w, off_t size, const char *says)
{
    struct buf file = { 0 };

    gguf_writer_finish(w, &file);
    int err = open_bytes(file.data, file.len, size);
    buf_free(&file);
    gguf_writer_free(w);
    expect_refusal(err, says);
}

static void refused(struct gguf_writer *w, const char *says)
{
    refused_sparse(w, 0, says);
}

static struct gguf_writer *fresh(void)
{
    static struct gguf_writer w;

    gguf_writer_init(&w);
    return &w;
}

/* A right file with every type of value and three tensors. */
static void write_good(struct gguf_writer *w)
{
    static const char *const tokens[] = { "a", "", "\xc4\xa0the" };
    static const float scores[] = { 0, -1, -2 };
    static const uint8_t flags[] = { 0, 1 };
    static const uint64_t shapes[][4] = { { 32, 3 }, { 4, 2, 2, 1 }, { 5 } };
    const uint64_t eight = 8;

    for (int type = 0; type < GGUF_TYPE_COUNT; type++) {
        char key[16];
        snprintf(key, sizeof(key), "key.%d", type);
        if (type != GGUF_STRING && type != GGUF_ARRAY)
            gguf_writer_number(w, key, (enum gguf_type)type, type == GGUF_BOOL ? (const void *)"\1" : (const void *)&eight);
    }
    gguf_writer_string(w, "general.architecture", "llama");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", tokens, 3);
    gguf_writer_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, 3);
    gguf_writer_array(w, "flags", GGUF_BOOL, flags, 2);
    gguf_writer_tensor(w, "token_embd.weight", DTYPE_Q4_0, 2, shapes[0], NULL);
    gguf_writer_tensor(w, "blk.0.attn_q.weight", DTYPE_F32, 4, shapes[1], NULL);
    gguf_writer_tensor(w, "output_norm.weight", DTYPE_F16, 1, shapes[2], NULL);
}

static struct buf good_file(void)
{
    struct gguf_writer w;
    struct buf file = { 0 };

    gguf_writer_init(&w);
    write_good(&w);
    gguf_writer_finish(&w, &file);
    gguf_writer_free(&w);
    return file;
}

/* Every cut ends in a line that says where the file ends and how much it should have. */
static void check_truncated_anywhere(void **state)
{
    struct buf file = good_file();
    char expected[64];

    (void)state;
    for (size_t n = 0; n < file.len; n++) {
        unsigned long long need;
        int err = open_bytes(file.data, n, 0);
        snprintf(expected, sizeof(expected), "truncated at offset %zu, need ", n);
        expect_refusal(err, expected);
        assert_int_equal(sscanf(strstr(lines.last, expected) + strlen(expected), "%llu bytes", &need), 1);
        assert_in_range(need, n + 1, file.len);
    }
    assert_int_equal(open_bytes(file.data, file.len, 0), 0);
    buf_free(&file);
}

/* No rule of its own: whatever one byte is changed to, the file is refused with one line, or opened. */
static void check_every_byte_changed(void **state)
{
    struct buf file = good_file();
    size_t n_refused = 0, n_opened = 0;

    (void)state;
    for (size_t i = 0; i < file.len; i++) {
        const char before = file.data[i];
        const char changed[] = { 0, 1, before + 1, before - 1, (char)(before ^ 0x80), (char)0x7f, (char)0xff };
        for (size_t j = 0; j < sizeof(changed); j++) {
            file.data[i] = changed[j];
            int err = open_bytes(file.data, file.len, 0);
            assert_true(err == 0 || err == -EINVAL);
            n_refused += err != 0;
            n_opened += err == 0;
        }
        file.data[i] = before;
    }
    assert_true(n_refused > file.len && n_opened > file.len);       /* neither everything nor nothing */
    buf_free(&file);
}

/* No GGUF, no version that is known, or the byte order of another machine. */
static void check_magic_and_version(void **state)
{
    static const struct { uint32_t version; const char *says; } versions[] = {
        { 0, "GGUF version 0 is not supported (2 and 3 are)" },
        { 1, "GGUF version 1 is not supported (2 and 3 are)" },
        { 4, "GGUF version 4 is not supported (2 and 3 are)" },
        { UINT32_MAX, "GGUF version 4294967295 is not supported (2 and 3 are)" },
        { 0x80000000, "byte order of another machine" },
        { 0x03000000, "byte order of another machine" },
        { 0x02000000, "byte order of another machine" },
    };
    static const char *const wrong[] = { "GGUg", "ggml and more", "\x7f" "ELF..........................", "PK\3\4", "gguf" };

    (void)state;
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        struct gguf_writer *w = fresh();
        w->version = versions[i].version;
        refused(w, versions[i].says);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        expect_refusal(open_bytes(wrong[i], strlen(wrong[i]), 0), "header at byte 0: not a GGUF file");
}

/* More keys or tensors than the file has room for: refused before memory is taken (CVE-2024-23605 wrapped the size). */
static void check_counts(void **state)
{
    static const uint64_t counts[] = { (uint64_t)1 << 63, (uint64_t)1 << 32, UINT64_MAX, (uint64_t)1 << 56, 1000 };
    char says[128];

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct gguf_writer *w = fresh();
        write_good(w);
        w->n_tensors = counts[i];
        struct buf file = { 0 };
        gguf_writer_finish(w, &file);
        snprintf(says, sizeof(says), "header at byte 0: claims %" PRIu64 " tensors, the file has room for %zu", counts[i],
                 (file.len - 24) / 33);
        buf_free(&file);
        refused(w, says);

        w = fresh();
        write_good(w);
        w->n_kv = counts[i];
        gguf_writer_finish(w, &file);
        snprintf(says, sizeof(says), "header at byte 0: claims %" PRIu64 " keys, the file has room for %zu", counts[i],
                 (file.len - 24) / 14);
        buf_free(&file);
        refused(w, says);
    }
    struct gguf_writer *w = fresh();
    w->n_tensors = 65537;
    refused_sparse(w, 1 << 30, "claims 65537 tensors, at most 65536");
    w = fresh();
    w->n_kv = 65537;
    refused_sparse(w, 1 << 30, "claims 65537 keys, at most 65536");
}

/* Strings longer than the rest of the file, or than any real one. */
static void check_string_lengths(void **state)
{
    static const uint64_t lengths[] = { UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63, (uint64_t)1 << 32, 11 };
    char says[128];

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct gguf_writer *w = fresh();        /* a value */
        put_key(w, "general.name", GGUF_STRING);
        put_u64(&w->kv, lengths[i]);
        buf_append(&w->kv, "ten bytes.", 10);
        snprintf(says, sizeof(says), "metadata entry 0 at byte 24: key \"general.name\": string of %" PRIu64 " bytes, 10 left",
                 lengths[i]);
        refused(w, says);

        w = fresh();                            /* an element of an array */
        put_key(w, "tokenizer.ggml.tokens", GGUF_ARRAY);
        put_u32(&w->kv, GGUF_STRING);
        put_u64(&w->kv, 2);
        put_string(&w->kv, "ok", 2);
        put_u64(&w->kv, lengths[i]);
        buf_append(&w->kv, "ten bytes.", 10);
        snprintf(says, sizeof(says), "key \"tokenizer.ggml.tokens\": string of %" PRIu64 " bytes, 10 left", lengths[i]);
        refused(w, says);

        w = fresh();                            /* a key */
        gguf_writer_u32(w, "first", 1);
        put_u64(&w->kv, lengths[i]);
        buf_append(&w->kv, "ten bytes.", 10);
        w->n_kv++;
        snprintf(says, sizeof(says), "metadata entry 1 at byte 45: key: string of %" PRIu64 " bytes, 10 left", lengths[i]);
        refused(w, says);
    }
    struct gguf_writer *w = fresh();
    put_key(w, "k", GGUF_STRING);
    put_u64(&w->kv, (16 << 20) + 1);
    refused_sparse(w, 1 << 30, "key \"k\": string of 16777217 bytes, at most 16777216");
    w = fresh();
    put_key(w, "k", GGUF_STRING);
    put_u64(&w->kv, 1 << 30);
    refused_sparse(w, (off_t)2 << 30, "key \"k\": string of 1073741824 bytes, at most 16777216");
    w = fresh();
    put_u64(&w->kv, 65536);
    w->n_kv = 1;
    refused_sparse(w, 1 << 20, "metadata entry 0 at byte 24: key of 65536 bytes, at most 65535");
}

/* Arrays longer than the rest of the file, than memory that is kept, or of types that do not exist. */
static void check_array_lengths(void **state)
{
    static const uint64_t counts[] = { UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 61, (uint64_t)1 << 32, 3 };
    char says[160];
    struct gguf_writer *w;

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (uint32_t type = 0; type < GGUF_TYPE_COUNT; type++) {
            static const unsigned char sizes[GGUF_TYPE_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8 };
            if (type == GGUF_ARRAY)
                continue;
            w = fresh();
            put_key(w, "k", GGUF_ARRAY);
            put_u32(&w->kv, type);
            put_u64(&w->kv, counts[i]);
            for (size_t j = 0; j < 2u * sizes[type]; j++)
                buf_putc(&w->kv, 0);
            snprintf(says, sizeof(says), "key \"k\": array of %" PRIu64 " %s, the file has room for 2", counts[i],
                     gguf_type_name((enum gguf_type)type));
            refused(w, says);
        }
    }
    w = fresh();
    put_key(w, "k", GGUF_ARRAY);
    put_u32(&w->kv, GGUF_U8);
    put_u64(&w->kv, (1 << 28) + 1);
    refused_sparse(w, 1 << 30, "key \"k\": array of 268435457 u8, at most 268435456");
    for (uint32_t type = 0; type < GGUF_TYPE_COUNT; type++) {           /* legal counts, but too much to keep in memory */
        if (type == GGUF_ARRAY)
            continue;
        w = fresh();
        put_key(w, "k", GGUF_ARRAY);
        put_u32(&w->kv, type);
        put_u64(&w->kv, type == GGUF_STRING ? 1 << 27 : 1 << 28);
        refused_sparse(w, (off_t)4 << 30, "key \"k\": keys, values and names of more than 268435456 bytes in memory");
    }
    w = fresh();
    put_key(w, "tokenizer.ggml.tokens", GGUF_ARRAY);
    put_u32(&w->kv, GGUF_ARRAY);
    put_u64(&w->kv, 1);
    buf_append(&w->kv, "0123456789abcdef", 16);
    refused(w, ": metadata entry 0 at byte 24: key \"tokenizer.ggml.tokens\": array of arrays is not supported");
    w = fresh();
    put_key(w, "k", GGUF_ARRAY);
    put_u32(&w->kv, 13);
    put_u64(&w->kv, 0);
    refused(w, "key \"k\": array of unknown type 13, at most 12");
    w = fresh();
    put_key(w, "k", 13);
    put_u64(&w->kv, 0);
    refused(w, "key \"k\": value of unknown type 13, at most 12");
    w = fresh();
    put_key(w, "k", UINT32_MAX);
    put_u64(&w->kv, 0);
    refused(w, "key \"k\": value of unknown type 4294967295, at most 12");
    w = fresh();
    gguf_writer_number(w, "k", GGUF_BOOL, "\2");
    refused(w, "key \"k\": bool of value 2, expected 0 or 1");
    w = fresh();
    gguf_writer_array(w, "k", GGUF_BOOL, "\1\0\377", 3);
    refused(w, "key \"k\": bool of value 255, expected 0 or 1");
}

/* Keys and tensors that appear twice, are too long or empty, or are no text that a line may show. */
static void check_names(void **state)
{
    static const struct { const char *bytes; size_t n; const char *quoted; } bad_text[] = {
        { "a\0b", 3, "\"a\\x00b\"" }, { "a\xff", 2, "\"a\\xff\"" }, { "\xc3", 1, "\"\\xc3\"" }, { "a\nb", 3, "\"a\\x0ab\"" },
        { "\x7f", 1, "\"\\x7f\"" }, { "\xc2\x9b", 2, "\"\\xc2\\x9b\"" }, { "\xed\xa0\x80", 3, "\"\\xed\\xa0\\x80\"" },
    };
    static const uint64_t ne[] = { 4 };
    struct gguf_writer *w = fresh();
    char name[65] = "", says[160];

    (void)state;
    write_good(w);
    gguf_writer_string(w, "general.name", "one");
    gguf_writer_string(w, "general.nam", "two");
    gguf_writer_string(w, "general.name", "three");
    refused(w, "key \"general.name\" appears twice");
    w = fresh();
    write_good(w);
    gguf_writer_tensor(w, "blk.0.attn_q.weight", DTYPE_F32, 1, ne, NULL);
    refused(w, "tensor \"blk.0.attn_q.weight\" appears twice");

    memset(name, 'n', 64);
    w = fresh();
    gguf_writer_tensor(w, name, DTYPE_F32, 1, ne, NULL);
    refused(w, "tensor info 0 at byte 24: name of 64 bytes, at most 63");
    w = fresh();
    gguf_writer_tensor(w, "", DTYPE_F32, 1, ne, NULL);
    refused(w, "tensor info 0 at byte 24: name of 0 bytes, at least 1");
    w = fresh();
    gguf_writer_u32(w, "", 1);
    buf_putc(&w->kv, 0);
    refused(w, "metadata entry 0 at byte 24: key of 0 bytes, at least 1");
    for (size_t i = 0; i < sizeof(bad_text) / sizeof(bad_text[0]); i++) {
        w = fresh();
        put_string(&w->kv, bad_text[i].bytes, bad_text[i].n);
        put_u32(&w->kv, GGUF_U8);
        buf_append(&w->kv, "\1", 2);
        w->n_kv = 1;
        snprintf(says, sizeof(says), "key %s is not text", bad_text[i].quoted);
        refused(w, says);

        w = fresh();
        put_string(&w->infos, bad_text[i].bytes, bad_text[i].n);
        put_u32(&w->infos, 1);
        put_u64(&w->infos, 4);
        put_u32(&w->infos, DTYPE_F32);
        put_u64(&w->infos, 0);
        buf_append(&w->data, "0123456789abcdef", 16);
        w->n_tensors = 1;
        snprintf(says, sizeof(says), "name %s is not text", bad_text[i].quoted);
        refused(w, says);
    }
}

/* general.alignment divides and pads: only powers of two of a sane size, and only as u32. */
static void check_alignment(void **state)
{
    static const uint32_t wrong[] = { 0, 1, 3, 4, 33, 8192, 1u << 31, UINT32_MAX };
    const uint64_t wide = 32;
    char says[160];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct gguf_writer *w = fresh();
        gguf_writer_u32(w, "general.alignment", wrong[i]);
        snprintf(says, sizeof(says), "metadata at byte 24: general.alignment is %" PRIu32
                 ", expected a power of two from 8 to 4096", wrong[i]);
        refused(w, says);
    }
    struct gguf_writer *w = fresh();
    gguf_writer_number(w, "general.alignment", GGUF_U64, &wide);
    refused(w, "general.alignment is of type u64, expected u32");
    w = fresh();
    gguf_writer_array(w, "general.alignment", GGUF_U32, &wide, 1);
    refused(w, "general.alignment is of type array, expected u32");
    w = fresh();
    gguf_writer_string(w, "general.alignment", "32");
    refused(w, "general.alignment is of type string, expected u32");
}

/* One tensor with any claim, in a file that goes on long enough. */
static void tensor_refused(uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset, const char *says)
{
    struct gguf_writer *w = fresh();
    char line[256];

    gguf_writer_info(w, "blk.0.ffn_up.weight", n_dims, ne, type, offset);
    for (int i = 0; i < 100; i++)
        buf_append(&w->data, "0123456789abcdef", 16);
    snprintf(line, sizeof(line), "tensor \"blk.0.ffn_up.weight\" at byte %s", says);
    refused(w, line);
}

/* Dimensions: how many, none of them 0, no product that wraps, rows of whole blocks; and types that do not exist. */
static void check_shapes_and_types(void **state)
{
    static const uint64_t five[5] = { 1, 1, 1, 1, 1 };

    (void)state;
#define SHAPE(...) (const uint64_t[]){ __VA_ARGS__ }
    tensor_refused(0, NULL, DTYPE_F32, 0, "24: 0 dimensions, at least 1");
    tensor_refused(5, five, DTYPE_F32, 0, "24: 5 dimensions, at most 4");
    struct gguf_writer *w = fresh();
    put_string(&w->infos, "t", 1);
    put_u32(&w->infos, 1u << 31);
    buf_append(&w->infos, "0123456789abcdef0123456789abcdef", 32);
    w->n_tensors = 1;
    refused(w, "tensor \"t\" at byte 24: 2147483648 dimensions, at most 4");

    tensor_refused(1, SHAPE(0), DTYPE_F32, 0, "24: dimension 0 is 0");
    tensor_refused(2, SHAPE(0, 4), DTYPE_Q4_0, 0, "24: dimension 0 is 0");
    tensor_refused(4, SHAPE(4, 4, 4, 0), DTYPE_F32, 0, "24: dimension 3 is 0");
    tensor_refused(2, SHAPE(4, UINT64_MAX), DTYPE_F32, 0, "24: dimension 1 is 18446744073709551615, at most 2147483647");
    tensor_refused(1, SHAPE((uint64_t)1 << 31), DTYPE_F32, 0, "24: dimension 0 is 2147483648, at most 2147483647");
    tensor_refused(2, SHAPE(INT32_MAX, INT32_MAX), DTYPE_F32, 0, "24: the product of the dimensions exceeds 281474976710656");
    tensor_refused(4, SHAPE(1 << 30, 1 << 30, 1 << 30, 1 << 30), DTYPE_F32, 0, "24: the product of the dimensions exceeds");
    tensor_refused(2, SHAPE(1 << 24, (1 << 24) + 1), DTYPE_F32, 0, "24: the product of the dimensions exceeds");

    tensor_refused(2, SHAPE(640, 2), DTYPE_Q4_K, 0, "24: row of 640 elements is no multiple of 256 (Q4_K)");
    tensor_refused(1, SHAPE(31), DTYPE_Q8_0, 0, "24: row of 31 elements is no multiple of 32 (Q8_0)");
    static const uint32_t unknown[] = { 4, 5, 31, 36, 43, 90, 99, INT32_MAX, UINT32_MAX };
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        char says[64];
        snprintf(says, sizeof(says), "24: type %" PRIu32 " (unknown) is not supported", unknown[i]);
        tensor_refused(1, SHAPE(32), unknown[i], 0, says);
    }
}

/*
 * Data beyond the file (a leak of memory elsewhere: CVE-2026-7482), unaligned, overlapping, or with holes.
 *
 * The info takes 24 + 8 + 19 + 4 + 8 + 4 + 8 = 75 bytes, so the data section begins at 96 (with four dimensions: 128), and
 * has 1600 bytes.
 */
static void check_offsets(void **state)
{
    static const uint64_t four[] = { 4 };
    struct gguf_writer *w;

    (void)state;
    tensor_refused(1, SHAPE(401), DTYPE_F32, 0,
                   "96: needs bytes 96..1699, the file ends at 1696 (truncated at offset 1696, need 1700 bytes)");
    tensor_refused(1, SHAPE(4), DTYPE_F32, 7, "24: offset 7 is no multiple of 32");
    tensor_refused(1, SHAPE(4), DTYPE_F32, 32, "24: offset is 32, expected 0");
    tensor_refused(1, SHAPE(4), DTYPE_F32, UINT64_MAX - 7, "24: offset 18446744073709551608 is no multiple of 32");
    tensor_refused(1, SHAPE(4), DTYPE_F32, UINT64_MAX - 31, "24: offset is 18446744073709551584, expected 0");
    tensor_refused(4, SHAPE(1 << 20, 1 << 20, 1 << 8, 1), 28, 0, "128: needs bytes 128..2251799813685375, the file ends at 1728");

    w = fresh();                        /* two that overlap, one that leaves a hole, one before the other */
    gguf_writer_tensor(w, "a", DTYPE_F32, 1, four, NULL);
    gguf_writer_info(w, "b", 1, four, DTYPE_F32, 0);
    refused(w, "tensor \"b\" at byte 57: offset is 0, expected 32");
    w = fresh();
    gguf_writer_tensor(w, "a", DTYPE_F32, 1, four, NULL);
    gguf_writer_info(w, "b", 1, four, DTYPE_F32, 64);
    refused_sparse(w, 4096, "tensor \"b\" at byte 57: offset is 64, expected 32");
    w = fresh();
    gguf_writer_info(w, "a", 1, four, DTYPE_F32, 32);
    gguf_writer_info(w, "b", 1, four, DTYPE_F32, 0);
    refused_sparse(w, 4096, "tensor \"a\" at byte 24: offset is 32, expected 0");
}

/* 65,536 tensors of the largest legal size: the sum passes 64 bits (CVE-2025-53630), and must not wrap to something small. */
static void check_sum_of_sizes(void **state)
{
    enum { N = 65536 };
    static const uint64_t ne[] = { 1 << 24, 1 << 24 };          /* 2^48 elements of 8 bytes: 2^51 bytes each */
    struct gguf_writer *w = fresh();
    char name[16];

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "%u", i);
        gguf_writer_info(w, name, 2, ne, 28, (uint64_t)i << 51);
    }
    refused(w, "tensor \"8191\" at byte ");
    assert_non_null(strstr(lines.last, " plus 2251799813685248 bytes exceeds 64 bits"));
}

/* Keys and tensors whose number is a claim that the file's length allows, as zeros: the first key is empty. */
static void check_sparse(void **state)
{
    struct gguf_writer *w = fresh();

    (void)state;
    w->n_kv = 65536;
    w->n_tensors = 65536;
    refused_sparse(w, (off_t)1 << 40, "metadata entry 0 at byte 24: key of 0 bytes, at least 1");
}

static long peak_before;
static size_t files_before;

static void check_left_nothing(void **state)
{
    (void)state;
    assert_int_equal(n_open_files(), files_before);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)        /* they need memory themselves */
    assert_in_range(peak_kib() - peak_before, 0, 64 << 10);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_truncated_anywhere),
        cmocka_unit_test(check_every_byte_changed),
        cmocka_unit_test(check_magic_and_version),
        cmocka_unit_test(check_counts),
        cmocka_unit_test(check_string_lengths),
        cmocka_unit_test(check_array_lengths),
        cmocka_unit_test(check_names),
        cmocka_unit_test(check_alignment),
        cmocka_unit_test(check_shapes_and_types),
        cmocka_unit_test(check_offsets),
        cmocka_unit_test(check_sum_of_sizes),
        cmocka_unit_test(check_sparse),
        cmocka_unit_test(check_left_nothing),       /* after all others */
    };
    peak_before = peak_kib();
    files_before = n_open_files();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
