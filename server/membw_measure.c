/*
 * membw_measure.c - runs the parts of `fourway membw` one after another, and notes under which conditions.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "numa/dmi.h"
#include "numa/settings.h"
#include "server/membw.h"

const char *const membw_part_names[] = { "latency", "bandwidth", "matrix", "stream", "loaded", "sweep", "c2c", "barrier", "peak", NULL };

/* Intel's Memory Latency Checker takes these, and so scripts know them. */
static const unsigned delays[MEMBW_DELAYS] = { 0,   2,   8,    15,   50,   100,  200,  300,  400,  500,
                                              700, 1000, 1300, 1700, 2500, 3500, 5000, 9000, 20000 };

/*
 * A whole run: samples of half a second, arrays of 4 x the last-level caches (STREAM's rule), 5 samples. A quick one: as long as one pass
 * takes over arrays as large as the caches.
 */
enum { SAMPLE_NS = 500000000, QUICK_SAMPLE_NS = 10000000, SAMPLES = 5, QUICK_SAMPLES = 3 };

static void read_conditions(struct membw_conditions *c, const struct topology *t)
{
    struct settings s;

    settings_read(&s, t, "");
    snprintf(c->cpu, sizeof(c->cpu), "%.*s", (int)sizeof(c->cpu) - 1, *s.cpu_name ? s.cpu_name : "unknown");
    snprintf(c->governor, sizeof(c->governor), "%s", s.governor);
    snprintf(c->huge_pages, sizeof(c->huge_pages), "%s", s.thp_enabled);
    c->numa_balancing = s.numa_balancing;
}

/* Part of the machine's channels: those of the nodes that are used, all nodes being alike. */
static void find_theory(struct membw *m, size_t n_nodes_of_machine)
{
    struct dmi_memory dmi = { 0 };
    const char *what = "";
    const double used = m->o.virtual_nodes ? 1 : (double)m->topology.n_nodes / (double)n_nodes_of_machine;
    int err = 0;

    if (m->o.channels) {
        m->theory = (double)m->o.channels * (double)m->o.mts * 8e6;
        snprintf(m->theory_source, sizeof(m->theory_source), "%llu channels x %llu MT/s x 8 bytes (options)",
                 (unsigned long long)m->o.channels, (unsigned long long)m->o.mts);
        return;
    }
    err = dmi_read(&dmi, "", &what);
    m->theory = dmi_bytes_per_s(&dmi) * used;
    if (m->theory > 0)
        snprintf(m->theory_source, sizeof(m->theory_source), "%zu channels%s x %s %u MT/s (firmware)%s", dmi.n_channels,
                 dmi.channels_named ? "" : ", one a DIMM,", dmi_type_name(dmi.dimms[0].type), dmi.mt_per_s,
                 used < 1 ? ", part of these nodes" : "");
    else if (err == -EINVAL)
        snprintf(m->theory_source, sizeof(m->theory_source), "not known: firmware table: %.40s", what);
    else
        snprintf(m->theory_source, sizeof(m->theory_source), "not known (%s): give --channels and --mts",
                 err == -ENOENT   ? "no firmware table here"
                 : err == -EACCES ? "only root may read the firmware table"
                 : err            ? strerror(-err)
                                  : "the firmware does not say");
    dmi_free(&dmi);
}

static void show_progress(const char *what)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s%s", *what ? "membw: " : "", what);
}

static void measure_latency(struct membw *m, struct bandwidth *b)
{
    for (size_t memory = 0; memory < m->n_memories; memory++)      /* one cycle serves all readers */
        for (size_t v = 0; v < m->n_nodes; v++)
            bandwidth_chase(b, v, memory, &m->latency[v][memory]);
}

/* Of all nodes at once and of each; one node is the machine. */
static void measure_kinds(struct membw *m, struct bandwidth *b, enum stream_kind first, enum stream_kind last)
{
    for (enum stream_kind kind = first; kind <= last; kind++) {
        bandwidth_stream(b, kind, BANDWIDTH_ALL_NODES, &m->all[kind], &m->valid);
        for (size_t v = 0; v < m->n_nodes && m->n_nodes > 1; v++)
            bandwidth_stream(b, kind, v, &m->node[v][kind], &m->valid);
        if (m->n_nodes == 1)
            m->node[0][kind] = m->all[kind];
    }
}

static void measure_bandwidth(struct membw *m, struct bandwidth *b)
{
    measure_kinds(m, b, STREAM_READ, STREAM_WRITE_NT);
    measure_kinds(m, b, STREAM_TRIAD_NT, STREAM_TRIAD_NT);         /* the mix that is like triad */
}

static void measure_stream(struct membw *m, struct bandwidth *b)
{
    measure_kinds(m, b, STREAM_COPY, m->done & MEMBW_BANDWIDTH ? STREAM_ADD_NT : STREAM_TRIAD_NT);
}

static void measure_matrix(struct membw *m, struct bandwidth *b)
{
    for (size_t v = 0; v < m->n_nodes; v++)
        for (size_t memory = 0; memory < m->n_memories; memory++)
            bandwidth_read_from(b, v, memory, &m->matrix[v][memory]);
    if (m->n_nodes > 1)
        bandwidth_read_remote(b, &m->remote);
}

static void measure_loaded(struct membw *m, struct bandwidth *b)
{
    for (size_t i = 0; i < MEMBW_DELAYS; i++) {
        m->loaded[i].delay = delays[i];
        bandwidth_loaded(b, delays[i], &m->loaded[i].latency, &m->loaded[i].bytes_per_s);
    }
}

/* 1, 2, 4 .. and all cores of each node. */
static void measure_sweep(struct membw *m, struct bandwidth *b)
{
    for (size_t v = 0; v < m->n_nodes; v++) {
        for (size_t cores = 1, last = 0; last < m->node_workers[v] && m->n_sweep[v] < MEMBW_SWEEP_POINTS; cores *= 2) {
            last = cores < m->node_workers[v] ? cores : m->node_workers[v];
            m->sweep[v][m->n_sweep[v]].cores = last;
            bandwidth_cores(b, v, last, &m->sweep[v][m->n_sweep[v]++].rate);
        }
    }
}

static void measure_c2c(struct membw *m, struct bandwidth *b)
{
    struct bandwidth_latency l;

    for (size_t writer = 0; writer < m->n_nodes; writer++) {
        if (!bandwidth_core_to_core(b, writer, writer, writer, false, &l))
            m->c2c.hit[writer] = l.best;
        if (!bandwidth_core_to_core(b, writer, writer, writer, true, &l))
            m->c2c.hitm[writer] = l.best;
        for (size_t reader = 0; reader < m->n_nodes; reader++) {
            if (writer != reader && !bandwidth_core_to_core(b, writer, reader, writer, true, &l))
                m->c2c.writer_home[writer][reader] = l.best;
            if (writer != reader && !bandwidth_core_to_core(b, writer, reader, reader, true, &l))
                m->c2c.reader_home[writer][reader] = l.best;
        }
    }
}

static void measure_barrier(struct membw *m, struct bandwidth *b)
{
    bandwidth_barrier(b, &m->barrier);
}

/* Every level up to the chosen one. One without an instruction of its own for a kind has the function of the level below. */
static void measure_peak(struct membw *m, struct bandwidth *b)
{
    for (enum isa level = ISA_SCALAR; level <= m->o.isa; level++) {
        struct kernels k;

        kernels_fill(&k, level);
        for (enum activation unit = 0; unit < ACT_COUNT; unit++)
            bandwidth_peak(b, k.peak[unit], &m->peak[level][unit]);
    }
}

static const struct {
    enum membw_part part;
    void (*measure)(struct membw *m, struct bandwidth *b);
    const char *what;
} parts[] = {
    { MEMBW_LATENCY, measure_latency, "idle latency" },
    { MEMBW_BANDWIDTH, measure_bandwidth, "reads, writes and mixes" },
    { MEMBW_MATRIX, measure_matrix, "node x node" },
    { MEMBW_STREAM, measure_stream, "STREAM" },
    { MEMBW_LOADED, measure_loaded, "loaded latency" },
    { MEMBW_SWEEP, measure_sweep, "numbers of cores" },
    { MEMBW_C2C, measure_c2c, "core to core" },
    { MEMBW_BARRIER, measure_barrier, "barriers" },
    { MEMBW_PEAK, measure_peak, "peak operations" },
};

static void take_shape(struct membw *m, const struct bandwidth *b)
{
    m->n_nodes = bandwidth_n_nodes(b);
    m->n_memories = bandwidth_n_memories(b);
    m->n_workers = bandwidth_n_workers(b);
    for (size_t v = 0; v < m->n_nodes; v++)
        m->node_workers[v] = bandwidth_node_workers(b, v);
    for (size_t i = 0; i < m->n_memories; i++)
        m->memories[i] = *bandwidth_memory(b, i);
    m->conditions.cache_bytes = bandwidth_cache_bytes(b);
    m->conditions.array_bytes = bandwidth_array_bytes(b);
    m->conditions.is_short = bandwidth_is_short(b);
}

static void warn(const struct membw *m)
{
    const struct membw_conditions *c = &m->conditions;

    if (c->is_short)
        log_warn("too little memory is free for arrays of %.0f x the last-level caches (%.1f MB): %.1f MB are taken, and caches may help",
                 m->o.quick ? 1.0 : 4.0, (double)c->cache_bytes / 1e6, (double)c->array_bytes / 1e6);
    if (c->numa_balancing > 0 && m->n_nodes > 1 && !m->memories[0].bound)
        log_warn("numa_balancing is on and memory is not bound: pages may move while they are measured (sysctl kernel.numa_balancing=0)");
    if (m->n_workers > m->topology.n_allowed_cpus)
        log_warn("%zu workers share %zu CPU%s: rates and latencies are those of taking turns", m->n_workers, m->topology.n_allowed_cpus,
                 m->topology.n_allowed_cpus == 1 ? "" : "s");
    if (!m->valid)
        log_warn("an array does not hold what its loop should have left: do not believe these figures, and test this machine's memory");
}

int membw_measure(struct membw *m)
{
    struct bandwidth *b = NULL;
    size_t n_nodes_of_machine;

    kernels_fill(&m->kernels, m->o.isa);
    int err = topology_read(&m->topology, "");
    n_nodes_of_machine = m->topology.n_nodes;
    if (!err)
        read_conditions(&m->conditions, &m->topology);
    if (!err)
        err = topology_select(&m->topology, m->o.nodes);
    if (!err && m->o.virtual_nodes)
        err = topology_make_virtual(&m->topology, m->o.virtual_nodes);
    if (err)
        return err;
    find_theory(m, n_nodes_of_machine);
    const struct bandwidth_options o = { .topology = &m->topology,
                                         .loops = &m->kernels.streams,
                                         .n_threads = m->o.threads,
                                         .n_samples = m->o.reps  ? m->o.reps
                                                      : m->o.quick ? QUICK_SAMPLES
                                                                   : SAMPLES,
                                         .sample_ns = m->o.quick ? QUICK_SAMPLE_NS : SAMPLE_NS,
                                         .cache_multiple = m->o.quick ? 1 : 4 };
    m->conditions.sample_ns = o.sample_ns;
    m->o.reps = o.n_samples;
    m->valid = true;
    show_progress("memory");
    err = bandwidth_create(&b, &o);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && !err; i++) {
        if (!i)
            take_shape(m, b);
        if (!(m->o.parts & parts[i].part))
            continue;
        show_progress(parts[i].what);
        parts[i].measure(m, b);
        m->done |= parts[i].part;
    }
    show_progress("");
    if (!err)
        warn(m);
    bandwidth_destroy(b);
    return err;
}

void membw_free(struct membw *m)
{
    topology_free(&m->topology);
}
