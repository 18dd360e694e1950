/*
 * gguf_reader.c - a window of 64 KiB that moves over a file with pread, and the wording of what is wrong with the file.
 *
 * A mapping would be shorter, but a mapped file that is cut under us is a SIGBUS.
 */
#include "weights/gguf_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/log.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the files are little-endian, and so are all machines this program is for"
#endif

int gguf_pread(int fd, void *dst, size_t n, uint64_t at)
{
    char *to = dst;

    while (n) {
        ssize_t got = pread(fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -EINVAL;
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

void gguf_reader_seek(struct gguf_reader *r, uint64_t at)
{
    r->at = at;
}

void gguf_reader_object(struct gguf_reader *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(r->object, sizeof(r->object), format, args);
    va_end(args);
}

int gguf_reader_fail(const struct gguf_reader *r, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_error("%s: %s: %s", r->path, r->object, text);
    return -EINVAL;
}

const char *gguf_reader_shortage(const struct gguf_reader *r, uint64_t n, char out[GGUF_SHORTAGE])
{
    uint64_t need;

    if (checked_add(r->at, n, &need))
        snprintf(out, GGUF_SHORTAGE, " (truncated at offset %" PRIu64 ", need %" PRIu64 " bytes)", r->size, need);
    else
        snprintf(out, GGUF_SHORTAGE, " (the file ends at %" PRIu64 ")", r->size);
    return out;
}

static int need(const struct gguf_reader *r, uint64_t n)
{
    if (n <= gguf_reader_left(r))
        return 0;
    return gguf_reader_fail(r, "truncated at offset %" PRIu64 ", need %" PRIu64 " bytes", r->size, r->at + n);
}

static int fetch(const struct gguf_reader *r, void *dst, size_t n, uint64_t at)
{
    int err = gguf_pread(r->fd, dst, n, at);

    if (err == -EINVAL)
        gguf_reader_fail(r, "the file was cut while it was read");
    else if (err)
        gguf_reader_fail(r, "cannot read: %s", strerror(-err));
    return err;
}

int gguf_reader_bytes(struct gguf_reader *r, void *dst, uint64_t n)
{
    unsigned char *to = dst;
    int err = need(r, n);

    while (!err && n) {
        uint64_t in_window = r->at - r->window_at;      /* wraps to a large number when `at` lies before the window */
        if (in_window < r->window_n) {
            size_t have = r->window_n - (size_t)in_window, take = n < have ? (size_t)n : have;
            memcpy(to, r->window + in_window, take);
            to += take;
            r->at += take;
            n -= take;
        } else if (n >= sizeof(r->window)) {
            err = fetch(r, to, (size_t)n, r->at);
            r->at += n;
            n = 0;
        } else {
            uint64_t left = gguf_reader_left(r);
            r->window_n = 0;
            err = fetch(r, r->window, left < sizeof(r->window) ? (size_t)left : sizeof(r->window), r->at);
            if (!err) {
                r->window_at = r->at;
                r->window_n = left < sizeof(r->window) ? (size_t)left : sizeof(r->window);
            }
        }
    }
    return err;
}

int gguf_reader_u32(struct gguf_reader *r, uint32_t *value)
{
    return gguf_reader_bytes(r, value, sizeof(*value));
}

int gguf_reader_u64(struct gguf_reader *r, uint64_t *value)
{
    return gguf_reader_bytes(r, value, sizeof(*value));
}

int gguf_reader_skip(struct gguf_reader *r, uint64_t n)
{
    int err = need(r, n);

    if (!err)
        r->at += n;
    return err;
}

const char *gguf_quote(struct gguf_string s, char out[GGUF_QUOTED])
{
    enum { MOST = 64 };
    char *to = out;

    *to++ = '"';
    for (size_t i = 0; i < s.len && i < MOST; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')      /* the last two, so that the text cannot end its quotes */
            to += sprintf(to, "\\x%02x", c);
        else
            *to++ = (char)c;
    }
    strcpy(to, s.len > MOST ? "\"..." : "\"");
    return out;
}
