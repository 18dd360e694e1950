/*
 * buf.h - a growing byte buffer with a limit.
 *
 * A failed allocation or a passed limit sets `failed`; later appends do nothing, so a caller builds a whole
 * text and checks once. The bytes are always followed by a NUL (not counted in len), once something was
 * appended. The owner calls buf_free().
 */
#ifndef FOURWAY_COMMON_BUF_H
#define FOURWAY_COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data;
    size_t len, cap;
    size_t limit;       /* most bytes it may hold; 0: SIZE_MAX / 2 */
    bool failed;
};

void buf_free(struct buf *b);
void buf_clear(struct buf *b);                      /* len = 0, failed = false; keeps the memory */
void buf_append(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for `n` more bytes, not yet counted in len; NULL when failed. */
char *buf_reserve(struct buf *b, size_t n);

#endif
