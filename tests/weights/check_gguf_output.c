/*
 * tests/weights/check_gguf_output.c - the writer of GGUF files: what it writes is read back by the reader of the program; every system
 * call on its way fails once, and then there is one line, an error, and no file but the one that was there before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/weights/gguf_writer.h"
#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "weights/gguf.h"
#include "weights/gguf_output.h"

static const char *folder;
static char source_path[96], path[96];
static struct log_capture lines;

enum fault { NO_FAULT, FAULT_TEMPORARY, FAULT_RESERVE, FAULT_WRITE, FAULT_SYNC, FAULT_CLOSE, FAULT_RENAME, FAULT_COUNT };
static enum fault fault;
static int fault_errno;
static bool stingy;                 /* pwrite: interrupted every other time, else one byte */

int __real_mkostemp(char *name, int flags);
int __wrap_mkostemp(char *name, int flags);
int __wrap_mkostemp(char *name, int flags)
{
    if (fault == FAULT_TEMPORARY) {
        errno = fault_errno;
        return -1;
    }
    return __real_mkostemp(name, flags);
}

int __real_fallocate(int fd, int mode, off_t at, off_t n);
int __wrap_fallocate(int fd, int mode, off_t at, off_t n);
int __wrap_fallocate(int fd, int mode, off_t at, off_t n)
{
    if (fault == FAULT_RESERVE) {
        errno = fault_errno;
        return -1;
    }
    return __real_fallocate(fd, mode, at, n);
}

ssize_t __real_pwrite(int fd, const void *bytes, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    static unsigned calls;

    if (fault == FAULT_WRITE || (stingy && calls++ % 2)) {
        errno = stingy ? EINTR : fault_errno;
        return -1;
    }
    return __real_pwrite(fd, bytes, stingy ? 1 : n, at);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    if (fault == FAULT_SYNC) {
        errno = fault_errno;
        return -1;
    }
    return __real_fsync(fd);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    const int result = __real_close(fd);

    if (fault == FAULT_CLOSE) {
        errno = fault_errno;
        return -1;
    }
    return result;
}

int __real_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    if (fault == FAULT_RENAME) {
        errno = fault_errno;
        return -1;
    }
    return __real_renameat2(a, from, b, to, flags);
}

static int make_folder(void **state)
{
    struct gguf_writer w;
    const float f[] = { 1.5f, -2 };
    const int32_t i[] = { -1, 7, 9 };
    const uint64_t large = UINT64_MAX, ne[] = { 32, 3 };
    const uint8_t truth[] = { 1, 0 };
    const double d = 0.1;

    (void)state;
    folder = folder_make();
    snprintf(source_path, sizeof(source_path), "%s/source.gguf", folder);
    snprintf(path, sizeof(path), "%s/new.gguf", folder);
    gguf_writer_init(&w);
    gguf_writer_string(&w, "general.architecture", "llama");
    gguf_writer_string(&w, "empty", "");
    gguf_writer_f32(&w, "f", 0.5f);
    gguf_writer_number(&w, "large", GGUF_U64, &large);
    gguf_writer_number(&w, "double", GGUF_F64, &d);
    gguf_writer_bool(&w, "yes", 1);
    gguf_writer_array(&w, "floats", GGUF_F32, f, 2);
    gguf_writer_array(&w, "ints", GGUF_I32, i, 3);
    gguf_writer_array(&w, "truths", GGUF_BOOL, truth, 2);
    gguf_writer_array(&w, "nothing", GGUF_I16, NULL, 0);
    gguf_writer_strings(&w, "texts", (const char *const[]){ "a", "", "long text with \xc3\xa9" }, 3);
    gguf_writer_tensor(&w, "a.weight", DTYPE_F32, 2, ne, NULL);
    gguf_writer_save(&w, source_path);
    gguf_writer_free(&w);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static size_t files_in_folder(void)
{
    DIR *dir = opendir(folder);
    size_t n = 0;

    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static const struct gguf_string first_name = { "first.weight", 12 }, second_name = { "second", 6 };
static const uint64_t first_ne[] = { 64, 5 }, second_ne[] = { 3 };
static uint8_t first_bytes[5 * 2 * 34];
static const float second_values[] = { 1, 2, 3 };

/* The source's keys and two tensors, the second one first and in two parts. Returns 0 or the first error. */
static int write_file(const struct gguf *g, bool overwrite)
{
    struct gguf_output *o;
    int err = gguf_output_create(&o, path, overwrite, 64);

    if (err)
        return err;
    for (size_t i = 0; i < gguf_n_kv(g); i++)
        gguf_output_put(o, gguf_kv_at(g, i));
    gguf_output_put_u32(o, "general.alignment", 64);
    gguf_output_add_tensor(o, first_name, DTYPE_Q8_0, 2, first_ne);
    gguf_output_add_tensor(o, second_name, DTYPE_F32, 1, second_ne);
    for (size_t i = 0; i < sizeof(first_bytes); i++)
        first_bytes[i] = (uint8_t)(i * 37);
    err = gguf_output_begin(o);
    if (!err)
        err = gguf_output_write(o, 1, 0, second_values, sizeof(second_values));
    if (!err)
        err = gguf_output_write(o, 0, 100, first_bytes + 100, sizeof(first_bytes) - 100);
    if (!err)
        err = gguf_output_write(o, 0, 0, first_bytes, 100);
    if (!err)
        err = gguf_output_finish(o);
    gguf_output_close(o);
    return err;
}

static void expect_same_keys(const struct gguf *want, const struct gguf *got)
{
    assert_int_equal(gguf_n_kv(got), gguf_n_kv(want) + 1);
    for (size_t i = 0; i < gguf_n_kv(want); i++) {
        const struct gguf_kv *a = gguf_kv_at(want, i), *b = gguf_kv_at(got, i);
        assert_string_equal(a->key.data, b->key.data);
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->element_type, b->element_type);
        assert_int_equal(a->n, b->n);
        for (uint64_t j = 0; j < a->n; j++) {
            if (a->element_type == GGUF_STRING)
                assert_string_equal(a->strings[j].data, b->strings[j].data);
            else if (a->element_type == GGUF_F32 || a->element_type == GGUF_F64)
                assert_true(gguf_float_at(a, j) == gguf_float_at(b, j));
            else
                assert_int_equal(gguf_int_at(a, j), gguf_int_at(b, j));
        }
    }
}

static void expect_file(const struct gguf *source)
{
    struct gguf *g;
    uint8_t bytes[sizeof(first_bytes)];
    float values[3];
    struct stat st;

    assert_int_equal(gguf_open(&g, path), 0);
    assert_int_equal(gguf_version(g), 3);
    assert_int_equal(gguf_alignment(g), 64);
    expect_same_keys(source, g);
    assert_int_equal(gguf_n_tensors(g), 2);
    const struct gguf_tensor *first = gguf_find_tensor(g, "first.weight"), *second = gguf_find_tensor(g, "second");
    assert_int_equal(first->type, DTYPE_Q8_0);
    assert_int_equal(first->ne[1], 5);
    assert_int_equal(first->offset % 64, 0);
    assert_int_equal(gguf_read(g, first, 0, bytes, sizeof(bytes)), 0);
    assert_memory_equal(bytes, first_bytes, sizeof(bytes));
    assert_int_equal(gguf_read(g, second, 0, values, sizeof(values)), 0);
    assert_memory_equal(values, second_values, sizeof(values));
    assert_int_equal(gguf_file_bytes(g) % 64, 0);
    gguf_close(g);
    assert_int_equal(stat(path, &st), 0);
    const mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
}

static void round_trip(void **state)
{
    struct gguf *g;

    (void)state;
    assert_int_equal(gguf_open(&g, source_path), 0);
    for (int i = 0; i < 2; i++) {
        stingy = i == 1;
        assert_int_equal(write_file(g, i == 1), 0);
        stingy = false;
        expect_file(g);
        assert_int_equal(files_in_folder(), 2);
    }
    log_capture_start(&lines);
    assert_int_equal(write_file(g, false), -EEXIST);
    log_capture_start(NULL);
    assert_int_equal(lines.n_lines, 1);
    assert_non_null(strstr(lines.last, "--overwrite"));
    expect_file(g);
    unlink(path);
    gguf_close(g);
}

static void faults(void **state)
{
    static const int numbers[] = { ENOSPC, EIO, EDQUOT };
    struct gguf *g;

    (void)state;
    assert_int_equal(gguf_open(&g, source_path), 0);
    for (int kind = FAULT_TEMPORARY; kind < FAULT_COUNT; kind++)
        for (size_t i = 0; i < 3; i++) {
            fault_errno = numbers[i];
            log_capture_start(&lines);
            fault = (enum fault)kind;
            const int err = write_file(g, false);
            fault = NO_FAULT;
            log_capture_start(NULL);
            assert_int_equal(err, -numbers[i]);
            assert_int_equal(lines.n_lines, 1);
            assert_non_null(strstr(lines.last, path));
            assert_non_null(strstr(lines.last, strerror(numbers[i])));
            assert_int_equal(files_in_folder(), 1);
        }
    /* file systems without reservations, without renames that do not replace, and without fsync */
    static const struct { enum fault kind; int number; } harmless[] = {
        { FAULT_RESERVE, EOPNOTSUPP }, { FAULT_RENAME, EINVAL }, { FAULT_SYNC, EINVAL },
    };
    for (size_t i = 0; i < 3; i++) {
        fault_errno = harmless[i].number;
        fault = harmless[i].kind;
        const int err = write_file(g, false);
        fault = NO_FAULT;
        assert_int_equal(err, 0);
        expect_file(g);
        unlink(path);
    }
    gguf_close(g);
}

/* A limit on the size of files, as a full disk is: the real calls fail. */
static void size_limit(void **state)
{
    struct rlimit before, small = { 0 };
    struct gguf *g;

    (void)state;
    assert_int_equal(gguf_open(&g, source_path), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){ 700, before.rlim_max };
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    log_capture_start(&lines);
    const int err = write_file(g, false);
    log_capture_start(NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(err, -EFBIG);
    assert_int_equal(lines.n_lines, 1);
    assert_int_equal(files_in_folder(), 1);
    gguf_close(g);
}

static void wrong_places(void **state)
{
    static const struct { const char *path; int err; } cases[] = {
        { "/dev/full", -EINVAL }, { "/tmp", -EISDIR }, { "/nowhere/there.gguf", -ENOENT }, { "/dev/null/x.gguf", -ENOTDIR },
    };
    struct gguf_output *o;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        log_capture_start(&lines);
        const int err = gguf_output_create(&o, cases[i].path, true, 32);
        log_capture_start(NULL);
        assert_int_equal(err, cases[i].err);
        assert_null(o);
        assert_int_equal(lines.n_lines, 1);
        assert_non_null(strstr(lines.last, cases[i].path));
    }
}

/* Sizes that no file can have. */
static void absurd_sizes(void **state)
{
    static const uint64_t ne[] = { 1u << 31, 1u << 31, 8 };
    struct gguf_output *o;

    (void)state;
    assert_int_equal(gguf_output_create(&o, path, false, 32), 0);
    gguf_output_add_tensor(o, first_name, DTYPE_F32, 3, ne);
    log_capture_start(&lines);
    assert_int_equal(gguf_output_begin(o), -EFBIG);
    log_capture_start(NULL);
    assert_int_equal(lines.n_lines, 1);
    gguf_output_close(o);
    assert_int_equal(files_in_folder(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(faults), cmocka_unit_test(size_limit), cmocka_unit_test(wrong_places),
        cmocka_unit_test(absurd_sizes),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
