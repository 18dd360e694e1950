#include "common/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/utf8.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum log_format form = LOG_PLAIN;                    /* under lock, like those below */
static enum log_level least_level = LOG_INFO;
static void (*sink)(void *arg, enum log_level level, const char *message);
static void *sink_arg;

static const char *const level_names[] = { "debug", "info", "warn", "error" };

void log_set_format(enum log_format format)
{
    pthread_mutex_lock(&lock);
    form = format;
    pthread_mutex_unlock(&lock);
}

void log_set_level(enum log_level least)
{
    pthread_mutex_lock(&lock);
    least_level = least;
    pthread_mutex_unlock(&lock);
}

void log_set_sink(void (*new_sink)(void *arg, enum log_level level, const char *message), void *arg)
{
    pthread_mutex_lock(&lock);
    sink = new_sink;
    sink_arg = arg;
    pthread_mutex_unlock(&lock);
}

/* Control bytes and invalid UTF-8 become \xNN (as JSON: \u00NN for control characters, \\xNN for bytes). */
static void append_escaped(struct buf *out, const char *s, bool json)
{
    size_t n = strlen(s);

    while (n) {
        uint32_t c = 0;
        int length = utf8_decode(s, n, &c);
        unsigned char byte = (unsigned char)*s;
        if (length <= 0) {
            buf_printf(out, json ? "\\\\x%02x" : "\\x%02x", byte);
            length = 1;
        } else if (c < 0x20 || (c >= 0x7f && c < 0xa0)) {
            for (int i = 0; i < length; i++)
                buf_printf(out, json ? "\\\\x%02x" : "\\x%02x", (unsigned char)s[i]);
        } else if (json && (byte == '"' || byte == '\\')) {
            buf_putc(out, '\\');
            buf_putc(out, *s);
        } else {
            buf_append(out, s, (size_t)length);
        }
        s += length;
        n -= (size_t)length;
    }
}

static void append_time(struct buf *out)
{
    struct timespec now;
    struct tm utc;
    char text[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    buf_printf(out, "%s.%03ldZ", text, now.tv_nsec / 1000000);
}

static void log_line(enum log_level level, const char *format, va_list args)
{
    char message[4096];
    struct buf line = { 0 };

    pthread_mutex_lock(&lock);
    if (level < least_level)
        goto out;
    vsnprintf(message, sizeof(message), format, args);
    if (sink) {
        sink(sink_arg, level, message);
        goto out;
    }
    switch (form) {
    case LOG_PLAIN:
        buf_puts(&line, level == LOG_WARN ? "fourway: warning: " : "fourway: ");
        append_escaped(&line, message, false);
        break;
    case LOG_TEXT:
        append_time(&line);
        buf_printf(&line, " %s: ", level_names[level]);
        append_escaped(&line, message, false);
        break;
    case LOG_JSON:
        buf_puts(&line, "{\"time\":\"");
        append_time(&line);
        buf_printf(&line, "\",\"level\":\"%s\",\"msg\":\"", level_names[level]);
        append_escaped(&line, message, true);
        buf_puts(&line, "\"}");
        break;
    }
    buf_putc(&line, '\n');
    if (!line.failed && write(STDERR_FILENO, line.data, line.len) < 0) {
        /* Nobody is left to be told. */
    }
out:
    pthread_mutex_unlock(&lock);
    buf_free(&line);
}

#define LOG_FUNCTION(name, level)              \
    void name(const char *format, ...)         \
    {                                          \
        va_list args;                          \
        va_start(args, format);                \
        log_line(level, format, args);         \
        va_end(args);                          \
    }

LOG_FUNCTION(log_debug, LOG_DEBUG)
LOG_FUNCTION(log_info, LOG_INFO)
LOG_FUNCTION(log_warn, LOG_WARN)
LOG_FUNCTION(log_error, LOG_ERROR)
