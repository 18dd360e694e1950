/*
 * membw_json.c - all that was measured, for scripts: docs/membw.md lists the keys. A part that was not measured has no keys.
 */
#include "server/json_write.h"
#include "server/membw.h"

/* The text ends with ", " to be taken back, so that parts may be left out anywhere. */
static void end_list(struct buf *b, char close)
{
    if (b->len >= 2 && b->data[b->len - 1] == ' ' && b->data[b->len - 2] == ',')
        b->len -= 2;
    buf_putc(b, close);
}

static void number(struct buf *b, const char *key, double value)
{
    buf_printf(b, "\"%s\": %.9g, ", key, value);
}

static void text(struct buf *b, const char *key, const char *value)
{
    buf_printf(b, "\"%s\": ", key);
    json_write_string(b, value);
    buf_puts(b, ", ");
}

static void rates(struct buf *b, const char *key, const struct bandwidth_rate *r, enum stream_kind first, enum stream_kind last,
                  double unit)
{
    buf_printf(b, "\"%s\": {", key);
    for (enum stream_kind kind = first; kind <= last; kind++)
        number(b, stream_shapes[kind].name, r[kind].best / unit);
    end_list(b, '}');
    buf_puts(b, ", ");
}

/* What was measured of one node, or of all. */
static void write_kinds(struct buf *b, const struct membw *m, const struct bandwidth_rate *r)
{
    if (m->done & MEMBW_BANDWIDTH) {
        number(b, "all_reads_gb_per_s", r[STREAM_READ].best / 1e9);
        number(b, "all_reads_median_gb_per_s", r[STREAM_READ].median / 1e9);
        buf_printf(b, "\"mixes_gb_per_s\": {\"all_reads\": %.9g, \"3:1\": %.9g, \"2:1\": %.9g, \"1:1\": %.9g, \"triad\": %.9g}, ",
                   r[STREAM_READ].best / 1e9, r[STREAM_READ_3_1].best / 1e9, r[STREAM_READ_2_1].best / 1e9, r[STREAM_READ_1_1].best / 1e9,
                   r[STREAM_TRIAD_NT].best / 1e9);
        buf_printf(b, "\"write_gb_per_s\": {\"cached\": %.9g, \"nt\": %.9g}, ", r[STREAM_WRITE].best / 1e9, r[STREAM_WRITE_NT].best / 1e9);
    }
    if (m->done & MEMBW_STREAM)
        rates(b, "stream_mb_per_s", r, STREAM_COPY, STREAM_TRIAD_NT, 1e6);
    buf_puts(b, "\n  ");
}

static void write_medians(struct buf *b, const struct membw *m)
{
    buf_puts(b, "\"median_gb_per_s\": {");
    for (enum stream_kind kind = 0; kind < STREAM_KINDS; kind++)
        if (m->all[kind].median > 0)
            number(b, stream_shapes[kind].name, m->all[kind].median / 1e9);
    end_list(b, '}');
    buf_puts(b, ",\n  ");
}

static void write_nodes(struct buf *b, const struct membw *m)
{
    buf_puts(b, "\"nodes\": [");
    for (size_t i = 0; i < m->n_memories; i++) {
        const struct bandwidth_memory *x = &m->memories[i];

        buf_printf(b, "\n  {\"node\": %d, \"workers\": %zu, \"bytes\": %llu, \"bound\": %s, ", x->os_node,
                   i < m->n_nodes ? m->node_workers[i] : 0, (unsigned long long)x->bytes, x->bound ? "true" : "false");
        if (x->on_node >= 0) {
            number(b, "on_node", x->on_node);
            number(b, "in_2_mib_pages", x->huge);
        }
        if (i < m->n_nodes)
            write_kinds(b, m, m->node[i]);
        while (b->len && (b->data[b->len - 1] == ' ' || b->data[b->len - 1] == '\n' || b->data[b->len - 1] == ','))
            b->len--;
        buf_puts(b, "}, ");
    }
    end_list(b, ']');
    buf_puts(b, ",\n  ");
}

/* A matrix of [rows][columns], a row a line. */
static void write_matrix(struct buf *b, const char *key, const struct membw *m,
                         double (*at)(const struct membw *m, size_t row, size_t column), size_t n_columns)
{
    buf_printf(b, "\"%s\": [", key);
    for (size_t row = 0; row < m->n_nodes; row++) {
        buf_puts(b, "[");
        for (size_t column = 0; column < n_columns; column++) {
            const double value = at(m, row, column);

            if (value > 0)
                buf_printf(b, "%.9g, ", value);
            else
                buf_puts(b, "null, ");
        }
        end_list(b, ']');
        buf_puts(b, ", ");
    }
    end_list(b, ']');
    buf_puts(b, ",\n  ");
}

static double read_rate(const struct membw *m, size_t row, size_t column)
{
    return m->matrix[row][column].best / 1e9;
}

static double latency(const struct membw *m, size_t row, size_t column)
{
    return m->latency[row][column].best;
}

static double latency_median(const struct membw *m, size_t row, size_t column)
{
    return m->latency[row][column].median;
}

static double writer_home(const struct membw *m, size_t row, size_t column)
{
    return m->c2c.writer_home[row][column];
}

static double reader_home(const struct membw *m, size_t row, size_t column)
{
    return m->c2c.reader_home[row][column];
}

static void number_or_null(struct buf *b, double value)
{
    if (value > 0)
        buf_printf(b, "%.9g, ", value);
    else
        buf_puts(b, "null, ");
}

static void write_c2c(struct buf *b, const struct membw *m)
{
    buf_puts(b, "\"c2c_ns\": {\"hit\": [");
    for (size_t v = 0; v < m->n_nodes; v++)
        number_or_null(b, m->c2c.hit[v]);
    end_list(b, ']');
    buf_puts(b, ", \"hitm\": [");
    for (size_t v = 0; v < m->n_nodes; v++)
        number_or_null(b, m->c2c.hitm[v]);
    end_list(b, ']');
    buf_puts(b, ",\n    ");
    write_matrix(b, "remote_writer_home", m, writer_home, m->n_nodes);
    write_matrix(b, "remote_reader_home", m, reader_home, m->n_nodes);
    while (b->len && b->data[b->len - 1] != ']')
        b->len--;
    buf_puts(b, "},\n  ");
}

static void write_curves(struct buf *b, const struct membw *m)
{
    if (m->done & MEMBW_LOADED) {
        buf_puts(b, "\"loaded\": [");
        for (size_t i = 0; i < MEMBW_DELAYS; i++)
            buf_printf(b, "[%u, %.6g, %.9g], ", m->loaded[i].delay, m->loaded[i].latency.median, m->loaded[i].bytes_per_s / 1e9);
        end_list(b, ']');
        buf_puts(b, ",\n  ");
    }
    if (m->done & MEMBW_SWEEP) {
        buf_puts(b, "\"sweep\": [");
        for (size_t v = 0; v < m->n_nodes; v++) {
            buf_putc(b, '[');
            for (size_t i = 0; i < m->n_sweep[v]; i++)
                buf_printf(b, "[%zu, %.9g], ", m->sweep[v][i].cores, m->sweep[v][i].rate.best / 1e9);
            end_list(b, ']');
            buf_puts(b, ", ");
        }
        end_list(b, ']');
        buf_puts(b, ",\n  ");
    }
}

static void write_peak(struct buf *b, const struct membw *m)
{
    buf_puts(b, "\"peak_gop_per_s\": {");
    for (enum isa level = 0; level <= m->o.isa; level++)
        buf_printf(b, "\"%s\": {\"int8\": %.9g, \"bf16\": %.9g, \"float32\": %.9g}, ", isa_name(level), m->peak[level][ACT_Q8].best / 1e9,
                   m->peak[level][ACT_BF16].best / 1e9, m->peak[level][ACT_F32].best / 1e9);
    end_list(b, '}');
    buf_puts(b, ",\n  ");
}

static void write_conditions(struct buf *b, const struct membw *m)
{
    const struct membw_conditions *c = &m->conditions;

    buf_puts(b, "\"conditions\": {\"version\": \"" FOURWAY_VERSION "\", ");
    text(b, "cpu", c->cpu);
    text(b, "isa", isa_name(m->o.isa));
    buf_printf(b, "\"threads\": %zu, \"virtual_nodes\": %s, \"quick\": %s, \"samples\": %llu, ", m->n_workers,
               m->topology.is_virtual ? "true" : "false", m->o.quick ? "true" : "false", (unsigned long long)m->o.reps);
    number(b, "sample_s", (double)c->sample_ns / 1e9);
    buf_printf(b, "\"array_bytes\": %llu, \"last_level_cache_bytes\": %llu, \"memory_was_short\": %s, \"valid\": %s, ",
               (unsigned long long)c->array_bytes, (unsigned long long)c->cache_bytes, c->is_short ? "true" : "false",
               m->valid ? "true" : "false");
    buf_printf(b, "\"numa_balancing\": %s, ", c->numa_balancing < 0 ? "null" : c->numa_balancing ? "true" : "false");
    buf_puts(b, "\"governor\": ");
    json_write_string_or_null(b, *c->governor ? c->governor : NULL);
    buf_puts(b, ", \"transparent_huge_pages\": ");
    json_write_string_or_null(b, *c->huge_pages ? c->huge_pages : NULL);
    buf_puts(b, ", \"theory\": ");
    json_write_string(b, m->theory_source);
    buf_putc(b, '}');
}

void membw_write_json(struct buf *b, const struct membw *m)
{
    buf_puts(b, "{\"theory_gb_per_s\": ");
    number_or_null(b, m->theory / 1e9);
    write_kinds(b, m, m->all);
    if (m->done & (MEMBW_BANDWIDTH | MEMBW_STREAM))
        write_medians(b, m);
    write_nodes(b, m);
    if (m->done & MEMBW_MATRIX) {
        write_matrix(b, "matrix_gb_per_s", m, read_rate, m->n_memories);
        buf_puts(b, "\"all_remote_gb_per_s\": ");
        number_or_null(b, m->remote.best / 1e9);
    }
    if (m->done & MEMBW_LATENCY) {
        write_matrix(b, "latency_ns", m, latency, m->n_memories);
        write_matrix(b, "latency_median_ns", m, latency_median, m->n_memories);
    }
    write_curves(b, m);
    if (m->done & MEMBW_C2C)
        write_c2c(b, m);
    if (m->done & MEMBW_BARRIER)
        buf_printf(b, "\"barrier_ns\": %.6g,\n  ", m->barrier.best);
    if (m->done & MEMBW_PEAK)
        write_peak(b, m);
    write_conditions(b, m);
    buf_puts(b, "}\n");
}
