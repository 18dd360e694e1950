/*
 * membw.h - one run of `fourway membw`: what to measure, what came out, and the ways to say it.
 *
 * Rates are bytes a second, latencies nanoseconds. A rate's `best` is what classic tools print; `median` stands beside it.
 */
#ifndef FOURWAY_SERVER_MEMBW_H
#define FOURWAY_SERVER_MEMBW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "kernels/kernels.h"
#include "numa/bandwidth.h"
#include "numa/settings.h"

/* Parts of a run, as bits of a mask, in the order of membw_part_names. */
enum membw_part { MEMBW_LATENCY = 1, MEMBW_BANDWIDTH = 2, MEMBW_MATRIX = 4, MEMBW_STREAM = 8, MEMBW_LOADED = 16, MEMBW_SWEEP = 32,
                  MEMBW_C2C = 64, MEMBW_BARRIER = 128, MEMBW_PEAK = 256, MEMBW_ALL = 511 };
extern const char *const membw_part_names[];        /* NULL-terminated */

enum membw_format { MEMBW_FORMAT_ALL, MEMBW_FORMAT_MLC, MEMBW_FORMAT_STREAM, MEMBW_FORMAT_LIKWID };

enum { MEMBW_DELAYS = 19, MEMBW_SWEEP_POINTS = 16 };

struct membw_options {
    uint64_t threads, virtual_nodes, reps;
    const char *nodes;
    enum isa isa;
    bool quick;
    unsigned parts;                 /* membw_part */
    uint64_t channels, mts;         /* 0: from the firmware */
};

struct membw_conditions {
    char cpu[64];
    char governor[SETTINGS_WORD], huge_pages[SETTINGS_WORD];    /* "" when the system does not say */
    int numa_balancing;                     /* or SETTINGS_UNKNOWN */
    uint64_t cache_bytes, array_bytes;
    bool is_short;                          /* too little memory was free for arrays of 4 x the caches */
    uint64_t sample_ns;
};

struct membw_c2c {
    double hit[TOPOLOGY_MAX_NODES], hitm[TOPOLOGY_MAX_NODES];               /* within a node; 0: it has no two cores */
    double writer_home[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES];             /* [writer][reader]; 0 on the diagonal */
    double reader_home[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES];
};

struct membw {
    struct membw_options o;
    struct kernels kernels;
    struct topology topology;
    size_t n_nodes, n_memories, n_workers;
    size_t node_workers[TOPOLOGY_MAX_NODES];
    struct bandwidth_memory memories[TOPOLOGY_MAX_NODES];
    struct membw_conditions conditions;

    double theory;                          /* 0: not known */
    char theory_source[96];                 /* "8 channels x DDR5 4800 MT/s x 8 bytes (firmware)", or why there is none */

    unsigned done;                          /* membw_part: what was measured */
    bool valid;                             /* the arrays of every kind of traffic held what they should */
    struct bandwidth_rate all[STREAM_KINDS], node[TOPOLOGY_MAX_NODES][STREAM_KINDS];
    struct bandwidth_rate matrix[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES];   /* [reader][memory] */
    struct bandwidth_rate remote;           /* all workers, each node of the next one's memory; with one node not measured */
    struct bandwidth_latency latency[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES];
    struct { unsigned delay; struct bandwidth_latency latency; double bytes_per_s; } loaded[MEMBW_DELAYS];
    struct { size_t cores; struct bandwidth_rate rate; } sweep[TOPOLOGY_MAX_NODES][MEMBW_SWEEP_POINTS];
    size_t n_sweep[TOPOLOGY_MAX_NODES];
    struct membw_c2c c2c;
    struct bandwidth_latency barrier;
    struct bandwidth_rate peak[ISA_COUNT][ACT_COUNT];       /* best 0: this machine has no such level */
};

/* Measure o->parts into a zeroed `m` with m->o set. Returns 0 or a negative errno (logged). membw_free afterwards, always. */
int membw_measure(struct membw *m);
void membw_free(struct membw *m);

/* The rules of honest measurement, for --explain. */
extern const char membw_rules[];

/* What was measured, appended to `b`: the shapes of other tools, our own text, JSON, and a picture. */
void membw_write_mlc(struct buf *b, const struct membw *m);
void membw_write_stream(struct buf *b, const struct membw *m);
void membw_write_likwid(struct buf *b, const struct membw *m);
void membw_write_text(struct buf *b, const struct membw *m);
void membw_write_json(struct buf *b, const struct membw *m);
void membw_write_svg(struct buf *b, const struct membw *m);

struct machine;
void membw_to_machine(const struct membw *m, struct machine *machine);     /* latency, bandwidth, matrix, barrier and peak are done */

#endif
