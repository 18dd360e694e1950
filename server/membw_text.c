/*
 * membw_text.c - the rules, and what the classic shapes have no place for: conditions, medians, shares of the theory, each node,
 * writes, numbers of cores, barriers and peaks.
 */
#include <string.h>

#include "server/membw.h"

const char membw_rules[] =
    "How fourway membw measures\n\n"
    "sizes      An array is 4 x the sum of the last-level caches (STREAM's rule), three of them for\n"
    "           each node; less only when less than twice that is free, which is said. Loops of one or\n"
    "           two arrays go over the same memory. --quick: 1 x.\n"
    "pages      Huge ones: from the node's own pool if it has enough of them free (of 1 GiB, else of\n"
    "           2 MiB), else transparent ones of 2 MiB by madvise. The share is printed.\n"
    "placement  Memory is bound to its node (mbind) before anyone touches it; the workers that will\n"
    "           read it touch it first; then the kernel is asked where it lies (move_pages), and less\n"
    "           than 99 % on the node is a warning.\n"
    "pinning    One worker a physical core, pinned to it. No second hyper-thread.\n"
    "time       All workers meet at a barrier; a sample goes from the first start to the last end and\n"
    "           lasts at least 0.5 s (--quick: as long as one pass, at least 10 ms). Runs before the\n"
    "           first sample find its length and do not count.\n"
    "figures    Best of 5 samples (--quick 3, --reps N) and the median beside it; classic shapes print\n"
    "           the best, loaded latency medians. 1 MB is 10^6 bytes. Nothing is clipped: more than\n"
    "           100 % of the theory means that the theory is wrong.\n"
    "bytes      As STREAM counts: what the loop names. A normal store also reads its line first: that\n"
    "           is not counted (so 'write' may be half of what is on the bus); non-temporal stores do\n"
    "           not.\n"
    "mixes      1:1 is a = a + 1; 2:1 and 3:1 read one and two arrays more; triad-like is 2 reads and\n"
    "           1 non-temporal write. With few cores a mix may exceed ALL reads: a core can wait for a\n"
    "           limited number of lines at once, and a written line leaves without being waited for.\n"
    "           With all cores of a server, where the memory is the limit, ALL reads is usually on top.\n"
    "reads      The loop that `fourway bench` takes as its yardstick: widest loads, four streams a\n"
    "           core, prefetched to all caches.\n"
    "latency    Dependent loads over a random cycle, one line of every 256 bytes, all flushed before\n"
    "           each round. Hardware prefetchers stay on (turning them off needs root); such a cycle\n"
    "           gives them nothing to guess.\n"
    "loaded     The same while all other workers read their own memory, with a pause of `delay` cycles\n"
    "           after every two lines.\n"
    "core2core  512 lines that the writer modified (HITM) or has read after a flush (HIT), loaded by\n"
    "           the reader, dependently.\n"
    "truth      What was read is used; after each loop every element of the array written is checked.\n"
    "quiet      Anything else that runs takes its share. Repeat, and compare the medians with the\n"
    "           best.\n";

static void write_share(struct buf *b, const struct membw *m, double bytes_per_s)
{
    if (m->theory > 0)
        buf_printf(b, "  %5.1f %%", 100 * bytes_per_s / m->theory);
}

static void write_conditions(struct buf *b, const struct membw *m)
{
    const struct membw_conditions *c = &m->conditions;

    buf_printf(b, "machine     %s; %s, %zu worker%s on %zu %s%s\n", c->cpu, isa_name(m->o.isa), m->n_workers,
               m->n_workers == 1 ? "" : "s", m->n_nodes, m->topology.is_virtual ? "virtual " : "", m->n_nodes == 1 ? "node" : "nodes");
    if (m->theory > 0)
        buf_printf(b, "theory      %.1f GB/s: %s\n", m->theory / 1e9, m->theory_source);
    else
        buf_printf(b, "theory      %s\n", m->theory_source);
    buf_printf(b, "arrays      3 of %.1f MB; last-level caches %.1f MB; %llu sample%s of at least %.2f s%s\n",
               (double)c->array_bytes / 1e6, (double)c->cache_bytes / 1e6, (unsigned long long)m->o.reps, m->o.reps == 1 ? "" : "s",
               (double)c->sample_ns / 1e9, m->o.quick ? " (--quick)" : "");
    for (size_t i = 0; i < m->n_memories; i++) {
        const struct bandwidth_memory *x = &m->memories[i];

        buf_printf(b, "node %-6zu kernel's node %d, %.1f MB, %s", i, x->os_node, (double)x->bytes / 1e6,
                   x->bound ? "bound" : "placed by first touch");
        if (x->on_node >= 0)
            buf_printf(b, ", %.1f %% there, %.1f %% in 2 MiB pages", 100 * x->on_node, 100 * x->huge);
        buf_putc(b, '\n');
    }
    buf_printf(b, "system      numa_balancing %s, governor %s, transparent huge pages %s\n",
               c->numa_balancing < 0 ? "not known" : c->numa_balancing ? "on" : "off", *c->governor ? c->governor : "not known",
               *c->huge_pages ? c->huge_pages : "not known");
}

static void write_row(struct buf *b, const struct membw *m, const char *name, enum stream_kind kind)
{
    const struct bandwidth_rate *all = &m->all[kind];

    buf_printf(b, "%-12s %9.1f %9.1f", name, all->best / 1e9, all->median / 1e9);
    write_share(b, m, all->best);
    for (size_t v = 0; v < m->n_nodes && m->n_nodes > 1; v++)
        buf_printf(b, " %9.1f", m->node[v][kind].best / 1e9);
    buf_putc(b, '\n');
}

static void write_kinds(struct buf *b, const struct membw *m)
{
    static const char *const names[STREAM_KINDS] = { "ALL reads", "3:1", "2:1", "1:1", "write", "write nt", "copy", "scale", "add", "triad",
                                                     "copy nt", "scale nt", "add nt", "triad nt" };

    buf_printf(b, "\n%-12s %9s %9s%s", "GB/s", "best", "median", m->theory > 0 ? "   theory" : "");
    for (size_t v = 0; v < m->n_nodes && m->n_nodes > 1; v++)
        buf_printf(b, "  node %3zu", v);
    buf_putc(b, '\n');
    for (enum stream_kind kind = 0; kind < STREAM_KINDS; kind++) {
        const bool of_bandwidth = kind <= STREAM_WRITE_NT || kind == STREAM_TRIAD_NT, of_stream = kind >= STREAM_COPY;

        if ((of_bandwidth && m->done & MEMBW_BANDWIDTH) || (of_stream && m->done & MEMBW_STREAM))
            write_row(b, m, names[kind], kind);
    }
}

static void write_sweep(struct buf *b, const struct membw *m)
{
    buf_puts(b, "\nreads by number of cores, GB/s\n");
    for (size_t v = 0; v < m->n_nodes; v++) {
        buf_printf(b, "node %-6zu", v);
        for (size_t i = 0; i < m->n_sweep[v]; i++)
            buf_printf(b, "%s %zu: %.1f", i ? "," : "", m->sweep[v][i].cores, m->sweep[v][i].rate.best / 1e9);
        buf_putc(b, '\n');
    }
}

static void write_peak(struct buf *b, const struct membw *m)
{
    buf_printf(b, "\n%-12s %10s %10s %10s\n", "peak GOP/s", "int8", "bf16", "float32");
    for (enum isa level = 0; level <= m->o.isa; level++)
        buf_printf(b, "%-12s %10.0f %10.0f %10.0f\n", isa_name(level), m->peak[level][ACT_Q8].best / 1e9,
                   m->peak[level][ACT_BF16].best / 1e9, m->peak[level][ACT_F32].best / 1e9);
}

void membw_write_text(struct buf *b, const struct membw *m)
{
    write_conditions(b, m);
    if (m->done & (MEMBW_BANDWIDTH | MEMBW_STREAM))
        write_kinds(b, m);
    if (m->done & MEMBW_MATRIX && m->n_nodes > 1)
        buf_printf(b, "\nevery node reads the next one's memory, all at once: %.1f GB/s\n", m->remote.best / 1e9);
    if (m->done & MEMBW_LATENCY)
        buf_printf(b, "\nidle latency, node 0: best %.1f ns, median %.1f ns\n", m->latency[0][0].best, m->latency[0][0].median);
    if (m->done & MEMBW_SWEEP)
        write_sweep(b, m);
    if (m->done & MEMBW_BARRIER)
        buf_printf(b, "\nbarrier of all workers: best %.0f ns, median %.0f ns\n", m->barrier.best, m->barrier.median);
    if (m->done & MEMBW_PEAK)
        write_peak(b, m);
}
