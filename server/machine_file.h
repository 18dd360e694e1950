/*
 * machine_file.h - struct machine as a file: JSON, written whole or not at all, and read with suspicion.
 */
#ifndef FOURWAY_SERVER_MACHINE_FILE_H
#define FOURWAY_SERVER_MACHINE_FILE_H

#include <stddef.h>

#include "common/buf.h"
#include "common/machine.h"

enum { MACHINE_FILE_VERSION = 1, MACHINE_FILE_BYTES_MAX = 4 << 20 };

void machine_write(struct buf *b, const struct machine *m);

/* Returns 0, or -EINVAL after one log line that says what is wrong in `name`, where, and what to do. -ENOMEM is logged, too. */
int machine_parse(struct machine *m, const char *name, const char *text, size_t n);

/* To a temporary file beside `path`, then renamed: a reader sees the old file or the new one. Returns 0 or a negative errno (logged). */
int machine_save(const struct machine *m, const char *path);
int machine_load(struct machine *m, const char *path);

/* The same for any text: `what` it is, for the log line. A device or pipe is written to, not replaced. */
int file_replace(const char *path, const char *what, const char *text, size_t n);

#endif
