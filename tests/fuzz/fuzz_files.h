/*
 * fuzz_files.h - for targets that read a folder: one whose files are memory, and how many errors were said. Included once by a target.
 */
#ifndef FOURWAY_TESTS_FUZZ_FUZZ_FILES_H
#define FOURWAY_TESTS_FUZZ_FUZZ_FILES_H

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/fuzz/fuzz.h"

enum { FUZZ_MOST_FILES = 8 };

static char fuzz_folder[64];
static size_t fuzz_n_errors;
static struct { const char *name; int fd; } fuzz_files[FUZZ_MOST_FILES];

static inline void fuzz_count_line(void *arg, enum log_level level, const char *message)
{
    (void)arg;
    (void)message;
    fuzz_n_errors += level == LOG_ERROR;
}

static inline void fuzz_write_file(size_t i, const void *bytes, size_t n)
{
    require(!ftruncate(fuzz_files[i].fd, 0) && pwrite(fuzz_files[i].fd, bytes, n, 0) == (ssize_t)n, "cannot write a memfd");
}

/* The file is in the folder; or no longer. */
static inline void fuzz_name_file(size_t i)
{
    char path[128], target[64];

    snprintf(path, sizeof(path), "%s/%s", fuzz_folder, fuzz_files[i].name);
    snprintf(target, sizeof(target), "/proc/self/fd/%d", fuzz_files[i].fd);
    require(!symlink(target, path), "cannot link a file");
}

static inline void fuzz_unname_file(size_t i)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", fuzz_folder, fuzz_files[i].name);
    unlink(path);
}

static inline void fuzz_remove_folder(void)
{
    for (size_t i = 0; fuzz_files[i].name; i++)
        fuzz_unname_file(i);
    rmdir(fuzz_folder);
}

/* n < FUZZ_MOST_FILES names; none of them is in the folder yet. */
static inline void fuzz_make_folder(const char *const *names, size_t n)
{
    strcpy(fuzz_folder, "/tmp/fourway-fuzz-XXXXXX");
    require(mkdtemp(fuzz_folder) != NULL, "cannot make a folder");
    atexit(fuzz_remove_folder);
    for (size_t i = 0; i < n; i++) {
        fuzz_files[i].name = names[i];
        fuzz_files[i].fd = memfd_create(names[i], MFD_CLOEXEC);
    }
    log_set_sink(fuzz_count_line, NULL);
}

#endif
