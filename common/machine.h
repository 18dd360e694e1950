/*
 * machine.h - what a machine can do, as measured: what planning needs, and nothing else.
 *
 * `fourway membw --write-machine FILE` measures and writes it (server/machine_file.c; docs/membw.md has its fields); readers get this
 * struct, checked: counts are within bounds, every rate and latency of what is there is above 0. Whoever plans needs no file and no JSON.
 */
#ifndef FOURWAY_COMMON_MACHINE_H
#define FOURWAY_COMMON_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MACHINE_MAX_NODES = 64, MACHINE_MAX_LEVELS = 8, MACHINE_NAME_BYTES = 64 };

struct machine_node {               /* those with cores come first */
    int os_node;
    size_t n_cores;                 /* that were measured; 0: memory alone */
    uint64_t memory_bytes;          /* in all */
    double read_bytes_per_s;        /* by its own cores; of memory alone 0, and so for the next two */
    double write_bytes_per_s;       /* ordinary stores */
    double write_nt_bytes_per_s;    /* non-temporal stores */
};

struct machine_level {              /* an instruction-set level: all cores together */
    char isa[16];
    double int8_ops_per_s, bf16_ops_per_s, float32_ops_per_s;
};

struct machine {
    char cpu[MACHINE_NAME_BYTES];
    bool is_virtual;                /* nodes were pretended: a machine file for tests */
    bool is_quick;                  /* measured with --quick: rough */
    size_t n_nodes, n_core_nodes;   /* all, and those with cores */
    struct machine_node nodes[MACHINE_MAX_NODES];
    double theory_bytes_per_s;      /* 0: not known */
    double read_bytes_per_s;        /* all nodes at once, each its own memory: the yardstick of decode */
    double link_bytes_per_s[MACHINE_MAX_NODES][MACHINE_MAX_NODES];      /* [node with cores that reads][node of the memory] */
    double latency_ns[MACHINE_MAX_NODES][MACHINE_MAX_NODES];            /* the same */
    double barrier_ns;              /* of all workers */
    size_t n_levels;
    struct machine_level levels[MACHINE_MAX_LEVELS];
};

#endif
