/*
 * doctor_text.c - the screen of `fourway doctor`: the machine, a line a check, and what to change, the largest gain first.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "server/doctor.h"

enum { MOST_NODES = 16, MOST_DISTANCES = 8 };       /* lines of a table, numbers in one */

static const char *const level_names[] = { [FINDING_OK] = "OK", [FINDING_WARN] = "WARN", [FINDING_FAIL] = "FAIL" };

static double gb(uint64_t bytes)
{
    return (double)bytes / 1e9;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

/* "SNC2" and "NPS4" are what the firmware's setup calls it when a socket is several nodes. */
static void append_clusters(struct buf *out, const struct doctor *d)
{
    const struct topology *t = &d->topology;

    if (t->n_packages && t->n_cpu_nodes > t->n_packages && t->n_nodes > t->n_packages && t->n_nodes % t->n_packages == 0)
        buf_printf(out, " (%s%zu)", strstr(d->settings.cpu_name, "AMD") ? "NPS" : "SNC", t->n_nodes / t->n_packages);
}

static void append_cpu(struct buf *out, const struct doctor *d)
{
    const struct topology *t = &d->topology;
    const size_t n_cores = topology_count_cores(t);

    buf_printf(out, "%-10s%s%s\n", "CPU", *d->settings.cpu_name ? d->settings.cpu_name : "unknown",
               d->settings.is_guest ? ", in a virtual machine" : "");
    buf_printf(out, "%-10s%zu core%s on %zu node%s", "", n_cores, plural(n_cores), t->n_nodes, plural(t->n_nodes));
    if (t->n_packages)
        buf_printf(out, ", %zu socket%s", t->n_packages, plural(t->n_packages));
    append_clusters(out, d);
    if (t->threads_per_core > 1)
        buf_printf(out, "; %zu threads a core, of which workers use one", t->threads_per_core);
    buf_printf(out, "\n%-10s", "caches");
    if (t->llc_total_bytes)
        buf_printf(out, "L2 %.2f MiB, last level %.0f MiB, %.0f MiB in all\n", mib(t->l2_bytes), mib(t->llc_bytes),
                   mib(t->llc_total_bytes));
    else
        buf_puts(out, "the kernel does not say\n");
}

static void append_levels(struct buf *out, const struct doctor *d)
{
    const char *last = NULL;

    buf_printf(out, "%-10s", "kernels");
    for (enum isa i = ISA_SCALAR; i < ISA_COUNT && !d->levels[i].lack; i++)
        buf_printf(out, "%s%s", i ? ", " : "", isa_name(i));
    for (enum isa i = ISA_SCALAR; i < ISA_COUNT; i++) {
        if (!d->levels[i].lack)
            continue;
        if (last == d->levels[i].lack) {
            buf_printf(out, ", %s", isa_name(i));
            continue;
        }
        if (last)
            buf_printf(out, ": %s", last);
        buf_printf(out, "\n%-10soff: %s", "", isa_name(i));
        last = d->levels[i].lack;
    }
    if (last)
        buf_printf(out, ": %s%s", last, d->settings.is_guest && !*d->root ? " (or the hypervisor hides it)" : "");
    buf_putc(out, '\n');
}

static void append_distances(struct buf *out, const struct topology *t, size_t node)
{
    for (size_t j = 0; j < t->n_nodes && t->n_nodes <= MOST_DISTANCES; j++)
        buf_printf(out, " %3u", t->distance[node][j]);
}

static void append_nodes(struct buf *out, const struct doctor *d)
{
    const struct topology *t = &d->topology;
    const bool measured = d->reads.local > 0;

    buf_printf(out, "\n%-10s%6s %6s %10s %10s %12s%s%s\n", "node", "socket", "cores", "GB", "GB free", "2 MiB pages",
               measured ? "  GB/s read" : "", t->n_nodes <= MOST_DISTANCES ? "  distances" : "");
    for (size_t i = 0; i < t->n_nodes && i < MOST_NODES; i++) {
        const struct topology_node *n = &t->nodes[i];

        if (n->package < 0)
            buf_printf(out, "%-10d%6s", n->os_node, "-");
        else
            buf_printf(out, "%-10d%6d", n->os_node, n->package);
        buf_printf(out, " %6zu %10.1f %10.1f %12llu", n->n_cpus, gb(n->total_bytes), gb(n->free_bytes),
                   (unsigned long long)d->settings.huge_pages[i].n);
        if (measured)
            buf_printf(out, " %10.1f", d->reads.node[i] / 1e9);
        buf_puts(out, t->n_nodes <= MOST_DISTANCES ? " " : "");
        append_distances(out, t, i);
        buf_putc(out, '\n');
    }
    if (t->n_nodes > MOST_NODES)
        buf_printf(out, "%-10s%zu more nodes: --json lists them\n", "...", t->n_nodes - MOST_NODES);
    for (size_t i = 0; i < t->n_memory_nodes; i++) {
        const struct topology_memory_node *m = &t->memory_nodes[i];

        buf_printf(out, "%-10d%13s %10.1f %10.1f   no cores: not used\n", m->os_node, "memory", gb(m->total_bytes), gb(m->free_bytes));
    }
    buf_printf(out, "%-10s%.1f GB", "available", gb(topology_available_bytes(d->root)));
    if (d->settings.memory_limit_bytes != UINT64_MAX)
        buf_printf(out, ", of %.1f GB that the cgroup allows", gb(d->settings.memory_limit_bytes));
    buf_putc(out, '\n');
}

static void append_checks(struct buf *out, const struct findings *f)
{
    buf_putc(out, '\n');
    for (size_t i = 0; i < f->n; i++)
        buf_printf(out, "%-5s %-15s %s\n", level_names[f->items[i].level], f->items[i].name, f->items[i].what);
}

static int by_cost(const void *a, const void *b)
{
    const struct finding *x = *(const struct finding *const *)a, *y = *(const struct finding *const *)b;

    if (x->cost_percent != y->cost_percent)
        return x->cost_percent < y->cost_percent ? 1 : -1;
    return x < y ? -1 : 1;      /* those without a cost in the order of the checks */
}

static void append_changes(struct buf *out, const struct findings *f)
{
    const struct finding *wrong[FINDINGS_MAX];
    size_t n = 0;

    for (size_t i = 0; i < f->n; i++) {
        if (f->items[i].level != FINDING_OK)
            wrong[n++] = &f->items[i];
    }
    if (!n) {
        buf_puts(out, "\nNothing to change.\n");
        return;
    }
    qsort(wrong, n, sizeof(wrong[0]), by_cost);
    buf_puts(out, "\nWhat to change, in order of gain (share of speed that is lost, estimated)\n");
    for (size_t i = 0; i < n; i++) {
        if (wrong[i]->cost_percent > 0)
            buf_printf(out, "%3.0f %%  ", wrong[i]->cost_percent);
        else
            buf_puts(out, "    -  ");
        buf_printf(out, "%s: %s\n", wrong[i]->name, *wrong[i]->fix ? wrong[i]->fix : wrong[i]->what);
    }
}

int doctor_print_text(const struct doctor *d)
{
    struct buf out = { 0 };

    append_cpu(&out, d);
    append_levels(&out, d);
    append_nodes(&out, d);
    append_checks(&out, &d->findings);
    append_changes(&out, &d->findings);
    const int err = out.failed ? -ENOMEM : 0;
    if (!err)
        fwrite(out.data, 1, out.len, stdout);
    buf_free(&out);
    return err;
}
