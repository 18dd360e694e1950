/*
 * settings.h - what the kernel and the container are set to, as far as it changes the speed of reading much memory on several nodes.
 *
 * Only read, never judged: findings.h does that. From proc and sysfs below a root that a test can replace.
 */
#ifndef FOURWAY_NUMA_SETTINGS_H
#define FOURWAY_NUMA_SETTINGS_H

#include "numa/topology.h"

enum { SETTINGS_WORD = 32, SETTINGS_UNKNOWN = -1 };

struct settings {
    char cpu_name[128];             /* as the processor calls itself; "" if unknown */
    char cpu_flags[4096];           /* what the kernel lists of its features, in one line */
    bool is_guest;                  /* a virtual machine: sockets may be invented, frequencies and DIMMs are the host's */

    int numa_balancing, zone_reclaim_mode, overcommit_memory;       /* or SETTINGS_UNKNOWN */
    uint64_t commit_left_bytes;     /* what overcommit_memory 2 lets all processes map more; UINT64_MAX if unknown */
    char thp_enabled[SETTINGS_WORD], thp_defrag[SETTINGS_WORD];     /* the word in brackets; "" where the kernel has none */
    bool huge_pages_known;          /* false: no /sys/kernel/mm to read, as in some containers */
    struct { uint64_t n, n_free; } huge_pages[TOPOLOGY_MAX_NODES];  /* of 2 MiB, in the pool of each of t->nodes */

    size_t n_governed;              /* cores with a frequency governor */
    size_t n_not_performance;       /* those that have another one than performance */
    char governor[SETTINGS_WORD], driver[SETTINGS_WORD];    /* of the first of these, else of the first core */
    double least_clock;             /* its lowest frequency as a share of its highest; 0: unknown */
    bool no_turbo;                  /* boost frequencies are switched off */

    uint64_t memory_limit_bytes;    /* of the cgroup; UINT64_MAX: none */
    bool has_sys_nice;              /* CAP_SYS_NICE is effective */
    bool bind_tried;                /* whether memory can be bound to a node: only on this machine */
    int bind_error;                 /* 0, or the negative errno that the kernel gave */
    double load;                    /* runnable threads, average of the last minute, of the machine; 0 if unknown */
};

/* What cannot be read is unknown: no errors. `t` as topology_read left it. */
void settings_read(struct settings *s, const struct topology *t, const char *root);

#endif
