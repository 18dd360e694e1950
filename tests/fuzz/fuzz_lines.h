/*
 * fuzz_lines.h - counts the lines that a target's code logs, for "a refusal says exactly one thing".
 */
#ifndef FOURWAY_TESTS_FUZZ_FUZZ_LINES_H
#define FOURWAY_TESTS_FUZZ_FUZZ_LINES_H

#include <stddef.h>
#include <string.h>

#include "common/log.h"
#include "tests/fuzz/fuzz.h"

static size_t n_lines;

/* A sink (common/log.h); arg: what each line begins with. */
static inline void count_line(void *arg, enum log_level level, const char *message)
{
    const char *path = arg;

    (void)level;
    require(!strncmp(message, path, strlen(path)), "a line does not begin with the path");
    n_lines++;
}

#endif
