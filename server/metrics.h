/*
 * metrics.h - numbers that are written without a lock while the server works, and read by GET /metrics as Prometheus text 0.0.4.
 *
 * A counter is an _Atomic uint64_t; a histogram has one for each of its buckets, and its count is their sum at the time of reading: so a
 * scrape that meets a writer is still whole, and no bucket exceeds _count. Who has the numbers: front_metrics.c those of requests,
 * engine_figures.c those of steps.
 */
#ifndef FOURWAY_SERVER_METRICS_H
#define FOURWAY_SERVER_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* Bounds of the buckets. Those of times are vLLM's (v1/metrics/loggers.py); the last two have finer steps below, for small models. */
enum metric_bounds {
    BOUNDS_FIRST_TOKEN,         /* 1 ms .. 2560 s */
    BOUNDS_GAP,                 /* 1 ms .. 80 s: between tokens, and of steps */
    BOUNDS_REQUEST,             /* 50 ms .. 7680 s */
    BOUNDS_TOKENS,              /* 1-2-5 steps */
    BOUNDS_STEP_TOKENS
};

enum { METRIC_MAX_BOUNDS = 24 };

/* Of values in nanoseconds, or in tokens; bucket i counts those above bound i - 1 and up to bound i, the one after the
 * last bound the rest. */
struct metric_histogram { _Atomic uint64_t buckets[METRIC_MAX_BOUNDS + 1], sum; };
struct metric_histogram_copy { uint64_t buckets[METRIC_MAX_BOUNDS + 1], sum; };

/* From any thread. */
void metric_observe(struct metric_histogram *h, enum metric_bounds bounds, uint64_t value);

static inline void metric_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Adds to *copy, so that several can be summed. */
void metric_histogram_read(const struct metric_histogram *h, struct metric_histogram_copy *copy);
void metric_histogram_sum(struct metric_histogram_copy *to, const struct metric_histogram_copy *from);

/* ---- the text ---- */

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* Begin a family; its samples follow, before the next family. */
void metrics_family(struct buf *b, const char *name, enum metric_type type, const char *help);

/* One sample. `labels`: name, value, name, value, ..., NULL; or NULL: none. Values are escaped. */
void metrics_count(struct buf *b, const char *name, const char *const *labels, uint64_t value);
void metrics_value(struct buf *b, const char *name, const char *const *labels, double value);

/* All samples of a histogram. Bounds from the first that is at least `least`, up to the first that is at least `most` (0: all). */
void metrics_histogram(struct buf *b, const char *name, const char *const *labels, enum metric_bounds bounds,
                       const struct metric_histogram_copy *h, uint64_t least, uint64_t most);

#endif
