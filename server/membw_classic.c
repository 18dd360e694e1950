/*
 * membw_classic.c - the output shapes of Intel MLC 3, STREAM 5.10 and likwid-bench, byte for byte where scripts look.
 *
 * Scripts read MLC by position: a section begins with "Measuring", a row is a line whose first non-blank is a digit, the mixes are the last
 * five lines of their section. Figures are the best of the samples, but loaded ones, which are medians.
 */
#include <string.h>

#include "server/membw.h"

static void conditions_of_mlc(struct buf *b, bool reads_only)
{
    buf_puts(b, "Bandwidths are in MB/sec (1 MB/sec = 1,000,000 Bytes/sec)\n"
                "Using only one thread from each core if Hyper-threading is enabled\n");
    buf_puts(b, reads_only ? "Using Read-only traffic type\n" : "Using traffic with the following read-write ratios\n");
}

static void matrix_head(struct buf *b, const struct membw *m)
{
    buf_puts(b, "\t\tNuma node\nNuma node");
    for (size_t i = 0; i < m->n_memories; i++)
        buf_printf(b, "\t%6zu", i);
    buf_putc(b, '\n');
}

static void write_latency(struct buf *b, const struct membw *m)
{
    buf_puts(b, "Measuring idle latencies (in ns)...\n");
    matrix_head(b, m);
    for (size_t v = 0; v < m->n_nodes; v++) {
        buf_printf(b, "%8zu", v);
        for (size_t i = 0; i < m->n_memories; i++)
            buf_printf(b, "\t%6.1f", m->latency[v][i].best);
        buf_putc(b, '\n');
    }
    buf_putc(b, '\n');
}

static void write_mixes(struct buf *b, const struct membw *m)
{
    static const struct { const char *label; enum stream_kind kind; } mixes[] = {
        { "ALL Reads        :", STREAM_READ },     { "3:1 Reads-Writes :", STREAM_READ_3_1 }, { "2:1 Reads-Writes :", STREAM_READ_2_1 },
        { "1:1 Reads-Writes :", STREAM_READ_1_1 }, { "Stream-triad like:", STREAM_TRIAD_NT },
    };

    buf_puts(b, "Measuring Peak Injection Memory Bandwidths for the system\n");
    conditions_of_mlc(b, false);
    for (size_t i = 0; i < sizeof(mixes) / sizeof(mixes[0]); i++)
        buf_printf(b, "%s\t%.1f\n", mixes[i].label, m->all[mixes[i].kind].best / 1e6);
    buf_putc(b, '\n');
}

static void write_matrix(struct buf *b, const struct membw *m)
{
    buf_puts(b, "Measuring Memory Bandwidths between nodes within system\n");
    conditions_of_mlc(b, true);
    matrix_head(b, m);
    for (size_t v = 0; v < m->n_nodes; v++) {
        buf_printf(b, "%8zu", v);
        for (size_t i = 0; i < m->n_memories; i++)
            buf_printf(b, "\t%7.1f", m->matrix[v][i].best / 1e6);
        buf_putc(b, '\n');
    }
    buf_putc(b, '\n');
}

static void write_loaded(struct buf *b, const struct membw *m)
{
    buf_puts(b, "Measuring Loaded Latencies for the system\n"
                "Using only one thread from each core if Hyper-threading is enabled\n"
                "Using Read-only traffic type\n"
                "Inject\tLatency\tBandwidth\nDelay\t(ns)\tMB/sec\n==========================\n");
    for (size_t i = 0; i < MEMBW_DELAYS; i++)
        buf_printf(b, " %05u\t%6.2f\t%9.1f\n", m->loaded[i].delay, m->loaded[i].latency.median, m->loaded[i].bytes_per_s / 1e6);
    buf_putc(b, '\n');
}

static double least_of(const double *x, size_t n)
{
    double least = 0;

    for (size_t i = 0; i < n; i++)
        if (x[i] > 0 && (least == 0 || x[i] < least))
            least = x[i];
    return least;
}

static void write_local(struct buf *b, const char *label, double ns)
{
    if (ns > 0)
        buf_printf(b, "%s\t%.1f\n", label, ns);
    else
        buf_printf(b, "%s\t-\n", label);
}

static void write_remote(struct buf *b, size_t n, const double rows[][TOPOLOGY_MAX_NODES])
{
    buf_puts(b, "\t\t\tReader Numa Node\nWriter Numa Node");
    for (size_t i = 0; i < n; i++)
        buf_printf(b, i ? "\t%6zu" : "%6zu", i);
    buf_putc(b, '\n');
    for (size_t v = 0; v < n; v++) {
        buf_printf(b, "%13zu", v);
        for (size_t i = 0; i < n; i++) {
            if (rows[v][i] > 0)
                buf_printf(b, "\t%6.1f", rows[v][i]);
            else
                buf_puts(b, "\t     -");
        }
        buf_putc(b, '\n');
    }
}

static void write_c2c(struct buf *b, const struct membw *m)
{
    buf_puts(b, "Measuring cache-to-cache transfer latency (in ns)...\n");
    write_local(b, "Local Socket L2->L2 HIT  latency", least_of(m->c2c.hit, m->n_nodes));
    write_local(b, "Local Socket L2->L2 HITM latency", least_of(m->c2c.hitm, m->n_nodes));
    if (m->n_nodes > 1) {
        buf_puts(b, "Remote Socket L2->L2 HITM latency (data address homed in writer socket)\n");
        write_remote(b, m->n_nodes, m->c2c.writer_home);
        buf_puts(b, "Remote Socket L2->L2 HITM latency (data address homed in reader socket)\n");
        write_remote(b, m->n_nodes, m->c2c.reader_home);
    }
    buf_putc(b, '\n');
}

void membw_write_mlc(struct buf *b, const struct membw *m)
{
    buf_puts(b, "fourway membw " FOURWAY_VERSION "\n\n");
    if (m->done & MEMBW_LATENCY)
        write_latency(b, m);
    if (m->done & MEMBW_BANDWIDTH)
        write_mixes(b, m);
    if (m->done & MEMBW_MATRIX)
        write_matrix(b, m);
    if (m->done & MEMBW_LOADED)
        write_loaded(b, m);
    if (m->done & MEMBW_C2C)
        write_c2c(b, m);
}

static void line(struct buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_putc(b, '-');
    buf_putc(b, '\n');
}

enum { STREAM_LINE = 61, LIKWID_LINE = 80, STREAM_ARRAYS = 3 };

void membw_write_stream(struct buf *b, const struct membw *m)
{
    static const char *const labels[] = { "Copy:      ", "Scale:     ", "Add:       ", "Triad:     " };
    const double bytes = (double)m->conditions.array_bytes, mib = 1 << 20, gib = 1 << 30;

    line(b, STREAM_LINE);
    buf_puts(b, "STREAM version $Revision: 5.10 $\n");
    line(b, STREAM_LINE);
    buf_puts(b, "This system uses 8 bytes per array element.\n");
    line(b, STREAM_LINE);
    buf_printf(b, "Array size = %llu (elements), Offset = 0 (elements)\n", (unsigned long long)m->conditions.array_bytes / 8);
    buf_printf(b, "Memory per array = %.1f MiB (= %.1f GiB).\n", bytes / mib, bytes / gib);
    buf_printf(b, "Total memory required = %.1f MiB (= %.1f GiB).\n", STREAM_ARRAYS * bytes / mib, STREAM_ARRAYS * bytes / gib);
    buf_printf(b, "Each kernel will be executed %llu times.\n", (unsigned long long)m->o.reps + 1);
    buf_puts(b, " The *best* time for each kernel (excluding the first iteration)\n"
                " will be used to compute the reported bandwidth.\n");
    line(b, STREAM_LINE);
    buf_printf(b, "Number of Threads requested = %zu\nNumber of Threads counted = %zu\n", m->n_workers, m->n_workers);
    line(b, STREAM_LINE);
    buf_puts(b, "Your clock granularity/precision appears to be 1 microseconds.\n");
    buf_printf(b, "Each test below will take on the order of %.0f microseconds.\n", m->all[STREAM_COPY].best_pass_s * 1e6);
    line(b, STREAM_LINE);
    buf_puts(b, "Function    Best Rate MB/s  Avg time     Min time     Max time\n");
    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        const struct bandwidth_rate *r = &m->all[STREAM_COPY + i];
        buf_printf(b, "%s%12.1f  %11.6f  %11.6f  %11.6f\n", labels[i], r->best / 1e6, r->pass_s, r->best_pass_s, r->worst_pass_s);
    }
    line(b, STREAM_LINE);
    if (m->valid)
        buf_puts(b, "Solution Validates: avg error less than 1.000000e-13 on all three arrays\n");
    else
        buf_puts(b, "Failed Validation on array a[], AvgRelAbsErr > epsilon (1.000000e-13)\n");
    line(b, STREAM_LINE);
}

static void write_likwid_test(struct buf *b, const struct membw *m, const char *name, enum stream_kind kind)
{
    const struct bandwidth_rate *r = &m->all[kind];
    const double bytes = r->best * r->best_pass_s;

    line(b, LIKWID_LINE);
    buf_puts(b, "LIKWID MICRO BENCHMARK\n");
    buf_printf(b, "Test: %s%s\n", name, m->o.isa >= ISA_AVX512 ? "_avx512" : m->o.isa >= ISA_AVX2 ? "_avx" : "");
    line(b, LIKWID_LINE);
    buf_puts(b, "Using 1 work groups\n");
    buf_printf(b, "Using %zu threads\n", m->n_workers);
    line(b, LIKWID_LINE);
    line(b, LIKWID_LINE);
    buf_printf(b, "Time:\t\t\t%e sec\n", r->best_pass_s);
    buf_printf(b, "Iterations:\t\t%zu\n", m->n_workers);
    buf_puts(b, "Iterations per thread:\t1\n");
    buf_printf(b, "Size (Byte):\t\t%.0f\n", bytes);
    buf_printf(b, "Size per thread:\t%.0f\n", bytes / (double)m->n_workers);
    buf_printf(b, "Data volume (Byte):\t%.0f\n", bytes);
    buf_printf(b, "MByte/s:\t\t%.2f\n", r->best / 1e6);
    line(b, LIKWID_LINE);
}

void membw_write_likwid(struct buf *b, const struct membw *m)
{
    static const struct { const char *name; enum stream_kind kind; enum membw_part part; } tests[] = {
        { "load", STREAM_READ, MEMBW_BANDWIDTH },         { "store", STREAM_WRITE, MEMBW_BANDWIDTH },
        { "store_mem", STREAM_WRITE_NT, MEMBW_BANDWIDTH }, { "update", STREAM_READ_1_1, MEMBW_BANDWIDTH },
        { "copy", STREAM_COPY, MEMBW_STREAM },            { "copy_mem", STREAM_COPY_NT, MEMBW_STREAM },
        { "stream", STREAM_TRIAD, MEMBW_STREAM },         { "stream_mem", STREAM_TRIAD_NT, MEMBW_STREAM },
    };

    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        if (m->done & tests[i].part)
            write_likwid_test(b, m, tests[i].name, tests[i].kind);
}
