/*
 * log.h - the only code that prints messages for people: one line an event, on stderr.
 *
 * Text form: "2026-11-21T09:00:00.123Z warn: message"; JSON form: {"time","level","msg"}. A command that is no
 * server prints "fourway: message" without a time (log_set_format). Bytes outside printable ASCII and valid
 * UTF-8 are written as \xNN, so that no file and no client can forge lines or send escapes to a terminal.
 * All functions may be called from any thread; a line is one write().
 */
#ifndef FOURWAY_COMMON_LOG_H
#define FOURWAY_COMMON_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_PLAIN, LOG_TEXT, LOG_JSON };  /* PLAIN: "fourway: message", for one-shot commands */

void log_set_format(enum log_format format);
void log_set_level(enum log_level least);

void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Take lines away from stderr, for tests: `sink` gets the finished message without time or level. NULL restores. */
void log_set_sink(void (*sink)(void *arg, enum log_level level, const char *message), void *arg);

#endif
