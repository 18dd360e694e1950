/*
 * log_capture.h - keeps the lines that the code under test logs, so that a test can count and read them.
 */
#ifndef FOURWAY_TESTS_WEIGHTS_LOG_CAPTURE_H
#define FOURWAY_TESTS_WEIGHTS_LOG_CAPTURE_H

#include <stddef.h>

#include "common/log.h"

struct log_capture {
    size_t n_lines;
    enum log_level level;       /* of the last line */
    char last[4096];
};

/* From here on lines go to `c`, which is emptied; with NULL they go to stderr again. */
void log_capture_start(struct log_capture *c);

#endif
