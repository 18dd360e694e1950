/*
 * tests/weights/check_gguf_faults.c - memory, open and pread fail at the N-th call, N = 1, 2, 3 ... until a whole opening of a split
 * model passes without a hit; pread also returns one byte at a time, is interrupted, and gives other bytes than before.
 *
 * After each failure: an error, no model, one line, no file left open; the address sanitizer looks for leaks. The functions are
 * replaced by the linker (--wrap), so the code under test is the one that ships.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/weights/gguf_writer.h"
#include "tests/weights/log_capture.h"
#include "weights/gguf.h"

enum fault { NO_FAULT, FAULT_MEMORY, FAULT_OPEN, FAULT_PREAD_ERROR, FAULT_PREAD_END, FAULT_COUNT };
static enum fault fault;
static unsigned calls_left;         /* the fault happens when it reaches 0 */
static bool stingy;                 /* pread: every other call is interrupted, the others give one byte */
static int change;                  /* pread: added to the byte at change_at, from the call on at which calls_left reaches 0 */
static off_t change_at;

static bool fails_now(enum fault kind)
{
    return fault == kind && --calls_left == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now(FAULT_MEMORY) ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size)
{
    return fails_now(FAULT_MEMORY) ? NULL : __real_realloc(p, size);
}

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s)
{
    return fails_now(FAULT_MEMORY) ? NULL : __real_strdup(s);
}

int __wrap_asprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **out, const char *format, ...)
{
    va_list args;
    int n = -1;

    if (fails_now(FAULT_MEMORY))
        return -1;
    va_start(args, format);
    n = vasprintf(out, format, args);
    va_end(args);
    return n;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    if (fails_now(FAULT_OPEN)) {
        errno = EMFILE;
        return -1;
    }
    return __real_open(path, flags);
}

ssize_t __real_pread(int fd, void *to, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t n, off_t at)
{
    static unsigned turn;

    if (fails_now(FAULT_PREAD_END))
        return 0;
    if (fails_now(FAULT_PREAD_ERROR)) {
        errno = EIO;
        return -1;
    }
    if (change) {
        ssize_t got = __real_pread(fd, to, n, at);
        calls_left -= calls_left > 0;
        if (!calls_left && change_at >= at && change_at < at + got)
            ((char *)to)[change_at - at] += (char)change;
        return got;
    }
    if (!stingy)
        return __real_pread(fd, to, n, at);
    if (turn++ % 2) {
        errno = EINTR;
        return -1;
    }
    return __real_pread(fd, to, n < 1 ? n : 1, at);
}

static char folder[] = "/tmp/fourway-check-gguf-XXXXXX";
static char first[128];

static size_t n_open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Two parts, with a value larger than the reader's window and so many tensors that a table grows. */
static int write_model(void **state)
{
    enum { N = 200 };
    static const uint64_t large[9000];
    static const uint64_t ne[] = { 3 };
    char name[160];

    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(first, sizeof(first), "%s/m-00001-of-00002.gguf", folder);
    for (unsigned part = 0; part < 2; part++) {
        const uint32_t total = 2 * N;
        struct gguf_writer w;
        gguf_writer_init(&w);
        gguf_writer_string(&w, "general.architecture", "llama");
        gguf_writer_u32(&w, "split.no", part);
        gguf_writer_u32(&w, "split.count", 2);
        gguf_writer_u32(&w, "split.tensors.count", total);
        gguf_writer_array(&w, "large", GGUF_U64, large, 9000);
        for (unsigned i = 0; i < N; i++) {
            snprintf(name, sizeof(name), "t%u.%u", part, i);
            gguf_writer_tensor(&w, name, DTYPE_F32, 1, ne, NULL);
        }
        snprintf(name, sizeof(name), "%s/m-%05u-of-00002.gguf", folder, part + 1);
        gguf_writer_save(&w, name);
        gguf_writer_free(&w);
    }
    return 0;
}

static int remove_model(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    return system(command);
}

static void check_every_call_fails_once(void **state)
{
    static const struct { enum fault fault; int err; unsigned least; const char *says; } kinds[] = {
        { FAULT_MEMORY, -ENOMEM, 10, "no memory" },
        { FAULT_OPEN, -EMFILE, 2, "cannot open: Too many open files" },
        { FAULT_PREAD_ERROR, -EIO, 6, "cannot read: Input/output error" },
        { FAULT_PREAD_END, -EINVAL, 6, "the file was cut while it was read" },
    };
    const size_t files = n_open_files();

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        unsigned n = 0;
        for (bool hit = true; hit;) {
            struct log_capture lines;
            struct gguf *g;
            n++;
            fault = kinds[i].fault;
            calls_left = n;
            log_capture_start(&lines);
            int err = gguf_open(&g, first);
            log_capture_start(NULL);
            hit = calls_left == 0;
            fault = NO_FAULT;
            assert_int_equal(err, hit ? kinds[i].err : 0);
            assert_int_equal(lines.n_lines, hit ? 1 : 0);
            if (hit) {
                assert_null(g);
                assert_non_null(strstr(lines.last, kinds[i].says));
                assert_memory_equal(lines.last, folder, strlen(folder));
            }
            gguf_close(g);
            assert_int_equal(n_open_files(), files);
        }
        assert_true(n > kinds[i].least);        /* the faults did reach the code */
    }
}

static void check_short_reads(void **state)
{
    struct gguf *g;
    float got[3];

    (void)state;
    stingy = true;
    assert_int_equal(gguf_open(&g, first), 0);
    assert_int_equal(gguf_n_tensors(g), 400);
    assert_int_equal(gguf_read(g, gguf_find_tensor(g, "t1.199"), 0, got, sizeof(got)), 0);
    stingy = false;
    gguf_close(g);
}

/*
 * The file is measured, then stored: between the two somebody may write to it. Whatever byte changes, and from whatever call on,
 * there is one line or a model. (Zeros that were numbers and become empty strings need more memory than was measured.)
 */
static void check_changed_while_read(void **state)
{
    size_t n_caught = 0;

    (void)state;
    for (unsigned call = 1; call <= 8; call++) {
        for (change_at = 0; change_at < 200; change_at++) {
            for (change = -2; change <= 1; change += 3) {
                struct log_capture lines;
                struct gguf *g;
                calls_left = call;
                log_capture_start(&lines);
                int err = gguf_open(&g, first);
                log_capture_start(NULL);
                assert_int_equal(lines.n_lines, err ? 1 : 0);
                n_caught += err && strstr(lines.last, "the file changed while it was read");
                gguf_close(g);
            }
        }
    }
    change = 0;
    assert_true(n_caught > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_every_call_fails_once),
        cmocka_unit_test(check_short_reads),
        cmocka_unit_test(check_changed_while_read),
    };
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
