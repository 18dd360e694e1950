#include "numa/findings.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct finding *findings_add(struct findings *f, const char *name, double cost_percent, const char *what, ...)
{
    struct finding *x = &f->items[f->n];
    va_list args;

    assert(f->n < FINDINGS_MAX);
    f->n++;
    *x = (struct finding){ .name = name, .cost_percent = cost_percent };
    x->level = cost_percent > FINDING_FAIL_PERCENT ? FINDING_FAIL : cost_percent > 0 ? FINDING_WARN : FINDING_OK;
    va_start(args, what);
    vsnprintf(x->what, sizeof(x->what), what, args);
    va_end(args);
    return x;
}

void finding_fix(struct finding *x, const char *commands, ...)
{
    va_list args;

    va_start(args, commands);
    vsnprintf(x->fix, sizeof(x->fix), commands, args);
    va_end(args);
}

static double gb(uint64_t bytes)
{
    return (double)bytes / 1e9;
}

static bool has_more_nodes(const struct topology *t)
{
    return t->n_cpu_nodes > 1;
}

/* Cores that a cpuset or taskset keeps from us: the share of the machine that is not used. */
static void judge_cpuset(struct findings *f, const struct topology *t)
{
    const size_t n = topology_count_cores(t);
    const double cost = t->n_online_cores > n ? 100.0 * (double)(t->n_online_cores - n) / (double)t->n_online_cores : 0;
    struct finding *x;

    if (cost == 0) {
        findings_add(f, "cpuset", 0, "all %zu core%s may be used", n, n == 1 ? "" : "s");
        return;
    }
    x = findings_add(f, "cpuset", cost, "this process may use %zu of %zu cores (cpuset or taskset)", n, t->n_online_cores);
    finding_fix(x, "no taskset; docker: no --cpuset-cpus; systemd: AllowedCPUs=  (nothing, if it is meant so)");
}

/* Threads are stopped for the rest of each period once the quota is used up, so the workers get what the quota says. */
static void judge_quota(struct findings *f, const struct topology *t)
{
    const double n = (double)topology_count_cores(t);
    const double cost = t->cpu_quota > 0 && t->cpu_quota < n ? 100 * (1 - t->cpu_quota / n) : 0;

    if (t->cpu_quota == 0) {
        findings_add(f, "cpu quota", 0, "none");
        return;
    }
    struct finding *x = findings_add(f, "cpu quota", cost, "the cgroup grants the time of %.2f CPUs, for %.0f cores", t->cpu_quota, n);
    if (cost > 0)
        finding_fix(x, "docker: --cpus %.0f; Kubernetes: limits.cpu; systemctl set-property UNIT CPUQuota=%.0f%%", n, 100 * n);
}

/*
 * One node over several sockets: half of all reads go over the link. Two sockets of a Xeon 6980P read 554 GB/s each locally and 247 from
 * the other: as much of each takes 1.6 times as long. A virtual machine invents its sockets.
 */
static void judge_interleaving(struct findings *f, const struct topology *t, const struct settings *s)
{
    size_t wide = 0;

    for (size_t i = 0; i < t->n_nodes; i++)
        wide = t->nodes[i].n_packages > t->nodes[wide].n_packages ? i : wide;
    if (t->nodes[wide].n_packages <= 1) {
        char sockets[48] = "";

        if (t->n_packages)
            snprintf(sockets, sizeof(sockets), " on %zu socket%s", t->n_packages, t->n_packages == 1 ? "" : "s");
        findings_add(f, "nodes", 0, "%zu node%s%s", t->n_nodes, t->n_nodes == 1 ? "" : "s", sockets);
    } else if (s->is_guest) {
        findings_add(f, "nodes", 0, "one node over %zu sockets, as the virtual machine has it: the host's nodes are not visible",
                     t->nodes[wide].n_packages);
    } else {
        const size_t n = t->nodes[wide].n_packages;
        struct finding *x = findings_add(f, "nodes", 38, "node %d lies over %zu sockets: interleaved, so %.0f %% of reads are remote",
                                         t->nodes[wide].os_node, n, 100 - 100.0 / (double)n);
        finding_fix(x, "firmware: NUMA on, node interleaving off (AMD: NPS1 or more); kernel: no numa=off");
    }
}

/* Their reads are remote, at less than half the rate (6980P: 247 of 554 GB/s), and one memory serves more cores. */
static void judge_guests(struct findings *f, const struct topology *t)
{
    const size_t n = topology_count_cores(t);
    size_t n_guests = 0;

    for (size_t i = 0; i < t->n_nodes; i++)
        n_guests += t->nodes[i].n_guest_cpus;
    if (!n_guests)
        return;
    struct finding *x = findings_add(f, "memory of nodes", 55.0 * (double)n_guests / (double)n,
                                     "%zu of %zu cores are on nodes without memory for this process: they read from afar", n_guests, n);
    finding_fix(x, "cpuset.mems as cpuset.cpus (docker: --cpuset-mems); or DIMMs for those nodes (numactl -H)");
}

/* Rows are dealt by cores, so the smallest node bounds the model. No speed is lost as long as it fits. */
static void judge_sizes(struct findings *f, const struct topology *t)
{
    size_t least = 0, most = 0;

    for (size_t i = 1; i < t->n_nodes; i++) {
        least = t->nodes[i].free_bytes < t->nodes[least].free_bytes ? i : least;
        most = t->nodes[i].free_bytes > t->nodes[most].free_bytes ? i : most;
    }
    if (t->n_nodes < 2)
        return;
    const struct topology_node *a = &t->nodes[least], *b = &t->nodes[most];
    if (a->free_bytes >= b->free_bytes / 2) {
        findings_add(f, "free memory", 0, "%.1f to %.1f GB a node", gb(a->free_bytes), gb(b->free_bytes));
        return;
    }
    struct finding *x = findings_add(f, "free memory", 0, "node %d has %.1f GB free, node %d %.1f: the smallest bounds the model",
                                     a->os_node, gb(a->free_bytes), b->os_node, gb(b->free_bytes));
    x->level = FINDING_WARN;
    finding_fix(x, "numastat -m shows what fills it, dmidecode -t memory whether it has fewer DIMMs");
}

/*
 * Binding refused: the workers' first touch places pages, which fails silently where a node is full. 10 %: chosen. With numa_balancing
 * such pages are moved about as well: a quarter, what others gained by undoing it (their decode 1.3 times as fast on two sockets).
 */
static void judge_binding(struct findings *f, const struct topology *t, const struct settings *s)
{
    const bool refused = s->bind_error && s->bind_error != -ENOSYS;

    if (!has_more_nodes(t) || !refused) {
        findings_add(f, "binding", 0, "%s", !s->bind_tried ? "not tried"
                     : s->bind_error == -ENOSYS ? "a kernel without NUMA: nothing to bind"
                     : refused ? "refused, but there is one node" : "memory can be bound to nodes");
        return;
    }
    struct finding *x = findings_add(f, "binding", 10, "memory cannot be bound to nodes: %s%s", strerror(-s->bind_error),
                                     s->has_sys_nice ? "" : ", CAP_SYS_NICE is missing");
    finding_fix(x, "docker: --cap-add SYS_NICE; Kubernetes: securityContext.capabilities.add [SYS_NICE]");
}

/* The kernel leaves bound memory alone (it skips mappings whose policy forbids migration) and scans the rest: 3 %, chosen. */
static void judge_balancing(struct findings *f, const struct topology *t, const struct settings *s)
{
    const bool on = s->numa_balancing > 0 && has_more_nodes(t);

    if (!on) {
        findings_add(f, "numa_balancing", 0, s->numa_balancing == SETTINGS_UNKNOWN ? "the kernel has none"
                     : s->numa_balancing > 0 ? "on, but there is one node" : "off");
        return;
    }
    struct finding *x = findings_add(f, "numa_balancing", s->bind_error ? 25 : 3, "on: the kernel unmaps pages to see who reads them%s",
                                     s->bind_error ? ", and moves those that cannot be bound" : "");
    finding_fix(x, "sysctl -w kernel.numa_balancing=0");
}

/* Allocation on a full node first throws out page cache there, while the model loads. Bound memory has to do that anyway: 2 %, chosen. */
static void judge_reclaim(struct findings *f, const struct topology *t, const struct settings *s)
{
    if (s->zone_reclaim_mode <= 0 || !has_more_nodes(t)) {
        findings_add(f, "zone_reclaim", 0, "off");
        return;
    }
    finding_fix(findings_add(f, "zone_reclaim", 2, "zone_reclaim_mode is %d: allocations stall to empty a node's page cache",
                             s->zone_reclaim_mode), "sysctl -w vm.zone_reclaim_mode=0");
}

/*
 * A 6980P decodes 12 to 13 % faster with 2 MiB pages and reads short prompts up to 35 % faster, a 7950X not at all: 12 % of speed.
 * Without compaction at a fault (defrag) only what lies free in 2 MiB pieces is huge: a third of that, chosen.
 */
static void judge_huge_pages(struct findings *f, const struct topology *t, const struct settings *s)
{
    uint64_t n_free = 0;
    size_t n_pools = 0;

    for (size_t i = 0; i < t->n_nodes; i++) {
        n_pools += s->huge_pages[i].n_free > 0;
        n_free += s->huge_pages[i].n_free;
    }
    const bool transparent = !strcmp(s->thp_enabled, "always") || !strcmp(s->thp_enabled, "madvise");
    const bool compacts = strcmp(s->thp_defrag, "never") && strcmp(s->thp_defrag, "defer");
    char pool[96] = "";

    if (n_free)
        snprintf(pool, sizeof(pool), "; %.1f GB free in the pools of %zu of %zu nodes", gb(n_free << 21), n_pools, t->n_nodes);
    if (!s->huge_pages_known) {
        findings_add(f, "huge pages", 0, "the kernel does not say");
    } else if (transparent && compacts) {
        findings_add(f, "huge pages", 0, "transparent: %s%s", s->thp_enabled, pool);
    } else if (transparent) {
        finding_fix(findings_add(f, "huge pages", 4, "transparent: %s, but defrag is %s: only what happens to lie free together%s",
                                 s->thp_enabled, s->thp_defrag, pool),
                    "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag");
    } else if (n_pools == t->n_nodes) {
        findings_add(f, "huge pages", 0, "no transparent ones%s", pool);
    } else {
        finding_fix(findings_add(f, "huge pages", 12, "none: transparent ones are %s%s",
                                 *s->thp_enabled ? s->thp_enabled : "not in this kernel", pool),
                    "%s", *s->thp_enabled ? "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
                                          : "echo PAGES > /sys/devices/system/node/nodeN/hugepages/hugepages-2048kB/nr_hugepages");
    }
}

/* Strict accounting refuses a mapping that the memory would hold. No speed is lost. */
static void judge_overcommit(struct findings *f, const struct topology *t, const struct settings *s)
{
    uint64_t free_bytes = 0;

    for (size_t i = 0; i < t->n_nodes; i++)
        free_bytes += t->nodes[i].free_bytes;
    if (s->overcommit_memory != 2 || s->commit_left_bytes >= free_bytes) {
        findings_add(f, "overcommit", 0, s->overcommit_memory == 2 ? "strict, and it allows all that is free" : "not strict");
        return;
    }
    struct finding *x = findings_add(f, "overcommit", 0, "strict: %.1f GB can be mapped, though %.1f are free", gb(s->commit_left_bytes),
                                     gb(free_bytes));
    x->level = FINDING_WARN;
    finding_fix(x, "sysctl -w vm.overcommit_memory=0");
}

/*
 * powersave of intel_pstate and amd-pstate follows the load, as ondemand and schedutil do, and lags behind bursts: 5 %, chosen.
 * Elsewhere powersave is the lowest frequency, which prefill follows in proportion.
 */
static void judge_governor(struct findings *f, const struct settings *s)
{
    const bool fixed_low = !strcmp(s->governor, "powersave") && !strstr(s->driver, "pstate");

    if (!s->n_governed) {
        findings_add(f, "governor", 0, s->is_guest ? "the host decides" : "the kernel does not manage frequencies");
    } else if (!s->n_not_performance) {
        findings_add(f, "governor", 0, "performance");
    } else {
        const double cost = fixed_low ? 100 * (1 - (s->least_clock > 0 ? s->least_clock : 0.5)) : 5;
        finding_fix(findings_add(f, "governor", cost, "%s (%s) on %zu of %zu cores%s", s->governor,
                                 *s->driver ? s->driver : "no driver named", s->n_not_performance, s->n_governed,
                                 fixed_low ? ": the lowest frequency" : ""),
                    "cpupower frequency-set -g performance");
    }
    /* All-core turbo of servers is 1.3 to 1.5 times their base frequency (Xeon 8480+: 3.0 and 2.0 GHz); decode hardly sees it: 15 %. */
    if (s->no_turbo)
        finding_fix(findings_add(f, "turbo", 15, "boost frequencies are off"), "%s",
                    strstr(s->driver, "intel_pstate") ? "echo 0 > /sys/devices/system/cpu/intel_pstate/no_turbo"
                                                      : "echo 1 > /sys/devices/system/cpu/cpufreq/boost");
}

/* Other threads take their share of the cores; the average of a minute, to which fourway itself counts when it runs elsewhere. */
static void judge_load(struct findings *f, const struct topology *t, const struct settings *s)
{
    const double idle = 0.3;    /* what a quiet system has */
    const double cost = s->load > idle ? 100 * s->load / (s->load + (double)t->n_online_cpus) : 0;

    if (cost < 2)
        findings_add(f, "other load", 0, "%.2f threads on %zu CPUs", s->load, t->n_online_cpus);
    else
        finding_fix(findings_add(f, "other load", cost, "%.2f threads run on %zu CPUs (last minute)", s->load, t->n_online_cpus),
                    "ps -eo pid,psr,pcpu,args --sort=-pcpu | head");
}

void findings_judge(struct findings *f, const struct topology *t, const struct settings *s)
{
    judge_cpuset(f, t);
    judge_quota(f, t);
    judge_interleaving(f, t, s);
    judge_guests(f, t);
    judge_sizes(f, t);
    judge_binding(f, t, s);
    judge_balancing(f, t, s);
    judge_reclaim(f, t, s);
    judge_huge_pages(f, t, s);
    judge_overcommit(f, t, s);
    judge_governor(f, s);
    judge_load(f, t, s);
}
