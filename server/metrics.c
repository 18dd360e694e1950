#include "server/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#define MS(x) ((uint64_t)((x) * 1000) * 1000)
#define S(x) ((uint64_t)((x) * 1000) * 1000000)

static const struct bounds {
    uint64_t at[METRIC_MAX_BOUNDS];
    size_t n;
    double unit;        /* of a value, in the text's */
} all_bounds[] = {
    [BOUNDS_FIRST_TOKEN] = { { MS(1), MS(5), MS(10), MS(20), MS(40), MS(60), MS(80), MS(100), MS(250), MS(500), MS(750), S(1), S(2.5), S(5),
                               S(7.5), S(10), S(20), S(40), S(80), S(160), S(640), S(2560) }, 22, 1e9 },
    [BOUNDS_GAP] = { { MS(1), MS(2.5), MS(5), MS(10), MS(25), MS(50), MS(75), MS(100), MS(150), MS(200), MS(300), MS(400), MS(500), MS(750),
                       S(1), S(2.5), S(5), S(7.5), S(10), S(20), S(40), S(80) }, 22, 1e9 },
    [BOUNDS_REQUEST] = { { MS(50), MS(100), MS(300), MS(500), MS(800), S(1), S(1.5), S(2), S(2.5), S(5), S(10), S(15), S(20), S(30), S(40),
                           S(50), S(60), S(120), S(240), S(480), S(960), S(1920), S(7680) }, 23, 1e9 },
    [BOUNDS_TOKENS] = { { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000,
                          2000000, 5000000, 10000000 }, 22, 1 },
    [BOUNDS_STEP_TOKENS] = { { 1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384 }, 13, 1 },
};

void metric_observe(struct metric_histogram *h, enum metric_bounds bounds, uint64_t value)
{
    const struct bounds *at = &all_bounds[bounds];
    size_t i = 0;

    while (i < at->n && value > at->at[i])
        i++;
    metric_add(&h->sum, value);
    metric_add(&h->buckets[i], 1);
}

void metric_histogram_read(const struct metric_histogram *h, struct metric_histogram_copy *copy)
{
    for (size_t i = 0; i <= METRIC_MAX_BOUNDS; i++)
        copy->buckets[i] += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
    copy->sum += atomic_load_explicit(&h->sum, memory_order_relaxed);
}

void metric_histogram_sum(struct metric_histogram_copy *to, const struct metric_histogram_copy *from)
{
    for (size_t i = 0; i <= METRIC_MAX_BOUNDS; i++)
        to->buckets[i] += from->buckets[i];
    to->sum += from->sum;
}

void metrics_family(struct buf *b, const char *name, enum metric_type type, const char *help)
{
    static const char *const types[] = { [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram" };

    buf_printf(b, "# HELP %s ", name);
    for (const char *c = help; *c; c++) {
        if (*c == '\n' || *c == '\\')
            buf_puts(b, *c == '\n' ? "\\n" : "\\\\");
        else
            buf_putc(b, *c);
    }
    buf_printf(b, "\n# TYPE %s %s\n", name, types[type]);
}

static void write_label(struct buf *b, bool *first, const char *name, const char *value)
{
    buf_printf(b, "%s%s=\"", *first ? "{" : ",", name);
    *first = false;
    for (const char *c = value; *c; c++) {
        if (*c == '\n')
            buf_puts(b, "\\n");
        else if (*c == '"' || *c == '\\')
            buf_printf(b, "\\%c", *c);
        else
            buf_putc(b, *c);
    }
    buf_putc(b, '"');
}

/* name + suffix, and the labels, of which `le` is the last; then a space. */
static void write_name(struct buf *b, const char *name, const char *suffix, const char *const *labels, const char *le)
{
    bool first = true;

    buf_printf(b, "%s%s", name, suffix);
    for (; labels && labels[0]; labels += 2)
        write_label(b, &first, labels[0], labels[1]);
    if (le)
        write_label(b, &first, "le", le);
    buf_puts(b, first ? " " : "} ");
}

static void write_number(struct buf *b, double value)
{
    if (isnan(value))
        buf_puts(b, "NaN");
    else if (isinf(value))
        buf_puts(b, value > 0 ? "+Inf" : "-Inf");
    else
        buf_printf(b, "%.15g", value);
}

void metrics_count(struct buf *b, const char *name, const char *const *labels, uint64_t value)
{
    write_name(b, name, "", labels, NULL);
    buf_printf(b, "%" PRIu64 "\n", value);
}

void metrics_value(struct buf *b, const char *name, const char *const *labels, double value)
{
    write_name(b, name, "", labels, NULL);
    write_number(b, value);
    buf_putc(b, '\n');
}

void metrics_histogram(struct buf *b, const char *name, const char *const *labels, enum metric_bounds bounds,
                       const struct metric_histogram_copy *h, uint64_t least, uint64_t most)
{
    const struct bounds *at = &all_bounds[bounds];
    uint64_t n = 0;

    for (size_t i = 0; i < at->n; i++) {
        char le[32];

        n += h->buckets[i];
        if (at->at[i] < least || (most && i && at->at[i - 1] >= most))
            continue;
        snprintf(le, sizeof(le), "%.15g", (double)at->at[i] / at->unit);
        write_name(b, name, "_bucket", labels, le);
        buf_printf(b, "%" PRIu64 "\n", n);
    }
    n += h->buckets[at->n];
    write_name(b, name, "_bucket", labels, "+Inf");
    buf_printf(b, "%" PRIu64 "\n", n);
    write_name(b, name, "_sum", labels, NULL);
    write_number(b, (double)h->sum / at->unit);
    buf_putc(b, '\n');
    write_name(b, name, "_count", labels, NULL);
    buf_printf(b, "%" PRIu64 "\n", n);
}
