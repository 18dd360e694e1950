/*
 * cmd_membw.c - `fourway membw`: what this machine's memory can do, in the shapes that scripts know.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/machine.h"
#include "server/commands.h"
#include "server/machine_file.h"
#include "server/membw.h"
#include "server/options.h"
#include "server/suggest.h"

static const char *const format_choices[] = { "all", "mlc", "stream", "likwid", NULL };    /* enum membw_format */
static const char *const isa_choices[] = { "auto", "scalar", "avx2", "avx512", "avx512bf16", "amx", NULL };     /* then enum isa + 1 */

struct flags {
    struct membw_options o;
    int isa, format;
    bool json, explain, channels_given, mts_given;
    const char *parts, *svg, *machine;
};

/* What a machine file holds, and what the picture shows. */
enum {
    MACHINE_PARTS = MEMBW_LATENCY | MEMBW_BANDWIDTH | MEMBW_MATRIX | MEMBW_BARRIER | MEMBW_PEAK,
    PICTURE_PARTS = MEMBW_LATENCY | MEMBW_MATRIX | MEMBW_LOADED | MEMBW_SWEEP,
};

static const unsigned format_parts[] = {
    [MEMBW_FORMAT_ALL] = MEMBW_ALL,
    [MEMBW_FORMAT_MLC] = MEMBW_LATENCY | MEMBW_BANDWIDTH | MEMBW_MATRIX | MEMBW_LOADED | MEMBW_C2C,
    [MEMBW_FORMAT_STREAM] = MEMBW_STREAM,
    [MEMBW_FORMAT_LIKWID] = MEMBW_BANDWIDTH | MEMBW_STREAM,
};

/* "latency,matrix" to a mask; false after one line that says what is wrong. */
static bool parse_parts(const char *list, unsigned *mask)
{
    *mask = 0;
    for (const char *at = list;; at++) {
        const size_t n = strcspn(at, ",");
        size_t i = 0;

        while (membw_part_names[i] && (strncmp(membw_part_names[i], at, n) || membw_part_names[i][n]))
            i++;
        if (!membw_part_names[i]) {
            struct buf names = { 0 };

            for (i = 0; membw_part_names[i]; i++)
                buf_printf(&names, "%s%s", i ? ", " : "", membw_part_names[i]);
            log_error("--part: '%.*s' is none of %s", (int)(n < 64 ? n : 64), at, names.failed ? "its parts" : names.data);
            buf_free(&names);
            return false;
        }
        *mask |= 1u << i;
        at += n;
        if (!*at)
            return true;
    }
}

/* Options that do not go together, and those that stand for others. Returns 0 or 2. */
static int settle(struct flags *f)
{
    const enum isa best = cpu_best_isa();
    const bool classic = f->format != MEMBW_FORMAT_ALL;

    f->o.isa = f->isa ? (enum isa)(f->isa - 1) : best;
    f->o.parts = format_parts[f->format];
    if (f->o.isa > best) {
        log_error("--isa %s: the best that this machine has is %s", isa_choices[f->isa], isa_name(best));
        return 2;
    }
    if (f->channels_given != f->mts_given) {
        log_error("--channels and --mts go together: the theory is channels x MT/s x 8 bytes");
        return 2;
    }
    if (f->json && classic) {
        log_error("--json and --format %s both want the standard output: leave one out", format_choices[f->format]);
        return 2;
    }
    if (f->parts && !parse_parts(f->parts, &f->o.parts))
        return 2;
    if (classic && f->parts && !(f->o.parts & format_parts[f->format])) {
        log_error("--format %s shows nothing of --part %s", format_choices[f->format], f->parts);
        return 2;
    }
    if (f->svg && !f->parts)
        f->o.parts |= PICTURE_PARTS;
    if (f->svg && !(f->o.parts & PICTURE_PARTS)) {
        log_error("--svg draws latency, matrix, loaded and sweep: --part %s has none of them", f->parts);
        return 2;
    }
    if (f->machine)
        f->o.parts |= MACHINE_PARTS;
    return 0;
}

static void write_result(struct buf *b, const struct membw *m, const struct flags *f)
{
    if (f->json) {
        membw_write_json(b, m);
        return;
    }
    if (f->format == MEMBW_FORMAT_ALL || f->format == MEMBW_FORMAT_MLC)
        membw_write_mlc(b, m);
    if (f->format == MEMBW_FORMAT_STREAM || (f->format == MEMBW_FORMAT_ALL && m->done & MEMBW_STREAM))
        membw_write_stream(b, m);
    if (f->format == MEMBW_FORMAT_LIKWID)
        membw_write_likwid(b, m);
    if (f->format == MEMBW_FORMAT_ALL) {
        buf_putc(b, '\n');
        membw_write_text(b, m);
    }
}

static int write_files(const struct membw *m, const struct flags *f)
{
    int err = 0;

    if (f->svg) {
        struct buf svg = { 0 };

        membw_write_svg(&svg, m);
        if (svg.failed)
            log_error("no memory for the picture %s", f->svg);
        err = svg.failed ? -1 : file_replace(f->svg, "picture", svg.data, svg.len);
        buf_free(&svg);
    }
    if (f->machine) {
        struct machine *machine = malloc(sizeof(*machine));

        if (machine)
            membw_to_machine(m, machine);
        else
            log_error("no memory for the machine file %s", f->machine);
        if (!machine || machine_save(machine, f->machine))
            err = -1;
        free(machine);
    }
    return err;
}

static int run_membw(const struct flags *f)
{
    struct membw *m = calloc(1, sizeof(*m));
    struct buf b = { 0 };
    int status = 1;

    if (!m) {
        log_error("no memory for the results");
        return 1;
    }
    m->o = f->o;
    if (!membw_measure(m)) {
        write_result(&b, m, f);
        if (b.failed)
            log_error("no memory for the output");
        else
            fputs(b.data, stdout);
        status = b.failed || write_files(m, f) ? 1 : 0;
    }
    membw_free(m);
    buf_free(&b);
    free(m);
    return status;
}

int cmd_membw(int argc, char **argv)
{
    struct flags f = { .o = { .nodes = "all" } };
    const struct option options[] = {
        { .name = "quick", .letter = 'q', .type = OPTION_FLAG, .out = &f.o.quick,
          .help = "rough figures in less than 10 seconds: short samples, arrays as large as the caches" },
        { .name = "part", .type = OPTION_STRING, .out = &f.parts, .metavar = "NAME,...",
          .help = "only these: latency, bandwidth, matrix, stream, loaded, sweep, c2c, barrier, peak (default: what --format shows)" },
        { .name = "reps", .letter = 'r', .type = OPTION_U64, .out = &f.o.reps, .metavar = "N", .least = 1, .most = BANDWIDTH_MAX_SAMPLES,
          .help = "samples of each figure, of which the best and the median are shown (default 5; 3 with --quick)" },
        { .name = "threads", .letter = 't', .type = OPTION_U64, .out = &f.o.threads, .metavar = "N", .least = 0, .most = 4096,
          .help = "workers (default 0: one for each physical core)" },
        { .name = "nodes", .type = OPTION_STRING, .out = &f.o.nodes, .metavar = "all|N|0,1",
          .help = "NUMA nodes to use: all, the first N, or these (default all)" },
        { .name = "virtual-nodes", .type = OPTION_U64, .out = &f.o.virtual_nodes, .metavar = "N", .least = 0, .most = 64,
          .help = "measure as if the machine had N nodes, for tests (default 0: the real ones)" },
        { .name = "isa", .type = OPTION_CHOICE, .out = &f.isa, .choices = isa_choices,
          .help = "instruction set of the loops (default auto: the best this machine has)" },
        { .name = "format", .letter = 'f', .type = OPTION_CHOICE, .out = &f.format, .choices = format_choices,
          .help = "text as Intel MLC, STREAM or likwid-bench print it, and nothing else on stdout (default all: MLC, STREAM, then ours)" },
        { .name = "json", .type = OPTION_FLAG, .out = &f.json, .help = "JSON on stdout instead of text" },
        { .name = "svg", .type = OPTION_STRING, .out = &f.svg, .metavar = "FILE",
          .help = "also draw a picture: node x node heat maps, latency under load, reads by number of cores" },
        { .name = "write-machine", .type = OPTION_STRING, .out = &f.machine, .metavar = "FILE",
          .help = "also write what planning needs: rates of nodes and links, latencies, peak operations (docs/membw.md)" },
        { .name = "channels", .type = OPTION_U64, .out = &f.o.channels, .metavar = "N", .least = 1, .most = 1024,
          .given = &f.channels_given,
          .help = "memory channels of all sockets, for the theory; with --mts (default: what the firmware says)" },
        { .name = "mts", .type = OPTION_U64, .out = &f.o.mts, .metavar = "N", .least = 100, .most = 100000, .given = &f.mts_given,
          .help = "MT/s of the memory, such as 4800; with --channels" },
        { .name = "explain", .type = OPTION_FLAG, .out = &f.explain, .help = "print how everything is measured, and stop" },
    };
    const struct command command = {
        .name = "membw",
        .usage = "membw [options]",
        .summary = "Measures this machine's memory: latency and bandwidth between nodes, reads, writes and mixes, STREAM, latency under "
                   "load, scaling over cores, core to core; and its peak operations. A few minutes, with the machine to itself.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
    };
    int status = options_parse(&command, argc, argv, NULL, &(size_t){ 0 });

    if (status >= 0)
        return status;
    if (f.explain) {
        fputs(membw_rules, stdout);
        return 0;
    }
    status = settle(&f);
    return status ? status : run_membw(&f);
}
