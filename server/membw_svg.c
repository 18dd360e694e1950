/*
 * membw_svg.c - one picture: the node x node read rates and latencies as heat maps, the loaded-latency curve, and reads by number of cores.
 *
 * Plain SVG 1.1, no script and no font of its own, so that any browser and any wiki shows it. Only numbers and our own words are written,
 * but for the processor's name, which is escaped.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "server/membw.h"

enum { WIDTH = 960, HEAD = 60, PANEL_WIDTH = 440, PANEL_HEIGHT = 400, MARGIN = 24, LEFT = 70, TOP = 44, RIGHT = 20, BOTTOM = 50 };
enum { PLOT_WIDTH = PANEL_WIDTH - LEFT - RIGHT, PLOT_HEIGHT = PANEL_HEIGHT - TOP - BOTTOM };

static const char *const line_colours[] = { "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f" };
enum { N_COLOURS = sizeof(line_colours) / sizeof(line_colours[0]) };

static void write_escaped(struct buf *b, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            buf_puts(b, "&amp;");
        else if (*text == '<')
            buf_puts(b, "&lt;");
        else
            buf_putc(b, *text >= ' ' && *text <= '~' ? *text : '?');
    }
}

static void write_label(struct buf *b, double x, double y, const char *anchor, const char *text)
{
    buf_printf(b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text);
}

static void begin_panel(struct buf *b, size_t place, const char *title)
{
    const int x = MARGIN + (int)(place % 2) * (PANEL_WIDTH + MARGIN), y = HEAD + (int)(place / 2) * PANEL_HEIGHT;

    buf_printf(b, "<g transform=\"translate(%d %d)\">\n<text x=\"%d\" y=\"20\" font-weight=\"bold\">%s</text>\n", x, y, LEFT, title);
}

/* From pale (nothing) to dark blue (the most), so that half as much looks like half; text in what can be read on it. */
static void write_cell(struct buf *b, double x, double y, double width, double height, double share, double value)
{
    const int red = (int)(235 - 200 * share), green = (int)(243 - 160 * share), blue = (int)(252 - 100 * share);

    buf_printf(b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"rgb(%d,%d,%d)\"/>\n", x, y, width,
               height, red, green, blue);
    if (width >= 24)
        buf_printf(b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"%s\">%.*f</text>\n", x + width / 2, y + height / 2 + 4,
                   share > 0.55 ? "white" : "black", value < 100, value);
}

static double read_rate(const struct membw *m, size_t row, size_t column)
{
    return m->matrix[row][column].best / 1e9;
}

static double latency(const struct membw *m, size_t row, size_t column)
{
    return m->latency[row][column].best;
}

static void write_heat_map(struct buf *b, const struct membw *m, size_t place, const char *title,
                           double (*at)(const struct membw *m, size_t row, size_t column))
{
    const double width = (double)PLOT_WIDTH / (double)m->n_memories, height = (double)PLOT_HEIGHT / (double)m->n_nodes;
    double most = 0;

    begin_panel(b, place, title);
    for (size_t v = 0; v < m->n_nodes; v++)
        for (size_t i = 0; i < m->n_memories; i++)
            most = fmax(most, at(m, v, i));
    for (size_t v = 0; v < m->n_nodes; v++) {
        char name[32];

        snprintf(name, sizeof(name), "%zu", v);
        write_label(b, LEFT - 8, TOP + height * ((double)v + 0.5) + 4, "end", name);
        for (size_t i = 0; i < m->n_memories; i++)
            write_cell(b, LEFT + width * (double)i, TOP + height * (double)v, width, height,
                       at(m, v, i) / most, at(m, v, i));
    }
    for (size_t i = 0; i < m->n_memories; i++) {
        char name[32];

        snprintf(name, sizeof(name), "%zu", i);
        write_label(b, LEFT + width * ((double)i + 0.5), TOP + PLOT_HEIGHT + 18, "middle", name);
    }
    write_label(b, LEFT + PLOT_WIDTH / 2.0, TOP + PLOT_HEIGHT + 38, "middle", "memory of node");
    write_label(b, LEFT - 8, TOP - 8, "end", "cores of");
    buf_puts(b, "</g>\n");
}

/* The next of 1, 2, 5, 10, 20, .. at or above x. */
static double round_up(double x)
{
    const double decade = pow(10, floor(log10(x)));

    return x <= decade ? decade : x <= 2 * decade ? 2 * decade : x <= 5 * decade ? 5 * decade : 10 * decade;
}

/* Both axes from 0, four steps each. */
static void write_axes(struct buf *b, double x_most, double y_most, const char *x_name, const char *y_name)
{
    buf_printf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", LEFT, TOP, PLOT_WIDTH,
               PLOT_HEIGHT);
    for (int i = 0; i <= 4; i++) {
        char text[32];
        const double x = LEFT + PLOT_WIDTH * i / 4.0, y = TOP + PLOT_HEIGHT - PLOT_HEIGHT * i / 4.0;

        buf_printf(b, "<path d=\"M%.1f %d V%d M%d %.1f H%d\" stroke=\"#ddd\"/>\n", x, TOP, TOP + PLOT_HEIGHT, LEFT, y, LEFT + PLOT_WIDTH);
        snprintf(text, sizeof(text), "%.4g", x_most * i / 4);
        write_label(b, x, TOP + PLOT_HEIGHT + 18, "middle", text);
        snprintf(text, sizeof(text), "%.4g", y_most * i / 4);
        write_label(b, LEFT - 8, y + 4, "end", text);
    }
    write_label(b, LEFT + PLOT_WIDTH / 2.0, TOP + PLOT_HEIGHT + 38, "middle", x_name);
    write_label(b, LEFT - 8, TOP - 8, "end", y_name);
}

static void write_point(struct buf *b, bool first, double x, double x_most, double y, double y_most)
{
    buf_printf(b, "%s%.1f %.1f", first ? "M" : " L", LEFT + PLOT_WIDTH * x / x_most, TOP + PLOT_HEIGHT * (1 - y / y_most));
}

static void begin_curve(struct buf *b, size_t i)
{
    buf_printf(b, "<path fill=\"none\" stroke-width=\"2\" stroke=\"%s\" d=\"", line_colours[i % N_COLOURS]);
}

static void write_loaded(struct buf *b, const struct membw *m, size_t place)
{
    double x_most = 0, y_most = 0;

    begin_panel(b, place, "Latency under load (reads)");
    for (size_t i = 0; i < MEMBW_DELAYS; i++) {
        x_most = fmax(x_most, m->loaded[i].bytes_per_s / 1e9);
        y_most = fmax(y_most, m->loaded[i].latency.median);
    }
    x_most = round_up(x_most);
    y_most = round_up(y_most);
    write_axes(b, x_most, y_most, "GB/s", "ns");
    begin_curve(b, 0);
    for (size_t i = 0; i < MEMBW_DELAYS; i++)
        write_point(b, !i, m->loaded[i].bytes_per_s / 1e9, x_most, m->loaded[i].latency.median, y_most);
    buf_puts(b, "\"/>\n</g>\n");
}

static void write_sweep(struct buf *b, const struct membw *m, size_t place)
{
    double x_most = 1, y_most = 0;

    begin_panel(b, place, "Reads by number of cores");
    for (size_t v = 0; v < m->n_nodes; v++) {
        for (size_t i = 0; i < m->n_sweep[v]; i++) {
            x_most = fmax(x_most, (double)m->sweep[v][i].cores);
            y_most = fmax(y_most, m->sweep[v][i].rate.best / 1e9);
        }
    }
    y_most = round_up(y_most);
    write_axes(b, x_most, y_most, "cores of the node", "GB/s");
    for (size_t v = 0; v < m->n_nodes; v++) {
        begin_curve(b, v);
        write_point(b, true, 0, x_most, 0, y_most);
        for (size_t i = 0; i < m->n_sweep[v]; i++)
            write_point(b, false, (double)m->sweep[v][i].cores, x_most, m->sweep[v][i].rate.best / 1e9, y_most);
        buf_printf(b, "\"><title>node %zu</title></path>\n", v);
        if (m->n_nodes > 1)
            buf_printf(b, "<text x=\"%d\" y=\"%zu\" fill=\"%s\">node %zu</text>\n", LEFT + 10, TOP + 16 * (v + 1),
                       line_colours[v % N_COLOURS], v);
    }
    buf_puts(b, "</g>\n");
}

void membw_write_svg(struct buf *b, const struct membw *m)
{
    const unsigned shown = m->done & (MEMBW_MATRIX | MEMBW_LATENCY | MEMBW_LOADED | MEMBW_SWEEP);
    const int height = HEAD + (__builtin_popcount(shown) + 1) / 2 * PANEL_HEIGHT;
    size_t place = 0;

    buf_printf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
                  "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", WIDTH, height, WIDTH, height);
    buf_printf(b, "<text x=\"%d\" y=\"28\" font-size=\"16\">fourway membw: ", MARGIN);
    write_escaped(b, m->conditions.cpu);
    buf_printf(b, ", %zu core%s on %zu %s%s", m->n_workers, m->n_workers == 1 ? "" : "s", m->n_nodes,
               m->topology.is_virtual ? "virtual " : "", m->n_nodes == 1 ? "node" : "nodes");
    if (m->done & MEMBW_BANDWIDTH)
        buf_printf(b, ", ALL reads %.1f GB/s", m->all[STREAM_READ].best / 1e9);
    if (m->done & MEMBW_BANDWIDTH && m->theory > 0)
        buf_printf(b, " (%.0f %% of %.0f)", 100 * m->all[STREAM_READ].best / m->theory, m->theory / 1e9);
    buf_puts(b, "</text>\n");
    if (shown & MEMBW_MATRIX)
        write_heat_map(b, m, place++, "Reads, node x node, GB/s", read_rate);
    if (shown & MEMBW_LATENCY)
        write_heat_map(b, m, place++, "Idle latency, node x node, ns", latency);
    if (shown & MEMBW_LOADED)
        write_loaded(b, m, place++);
    if (shown & MEMBW_SWEEP)
        write_sweep(b, m, place++);
    buf_puts(b, "</svg>\n");
}
