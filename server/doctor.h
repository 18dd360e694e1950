/*
 * doctor.h - what `fourway doctor` knows of a machine, and who finds it out. cmd_doctor.c goes through them in order; each adds what it
 * finds wrong to `findings`, and the two printers show all of it. One thread.
 */
#ifndef FOURWAY_SERVER_DOCTOR_H
#define FOURWAY_SERVER_DOCTOR_H

#include "kernels/cpu.h"
#include "numa/findings.h"

struct doctor_level {
    const char *lack;           /* why it is off; NULL: on. Static */
    bool refused;               /* by the operating system alone */
};

/* In bytes a second, of all workers at once; 0: not measured. */
struct doctor_reads {
    double local, remote;       /* every node its own memory, and the next node's */
    double node[TOPOLOGY_MAX_NODES];    /* each node its own */
};

struct doctor_model {
    const char *path;           /* NULL: none was named */
    size_t n_ctx;               /* what it was trained for */
    uint64_t weight_bytes;      /* as they will lie in memory, about */
    uint64_t context_bytes;     /* KV cache of n_ctx tokens, bf16 */
};

struct doctor {
    const char *root;           /* "" for this machine */
    struct topology topology;
    struct settings settings;
    struct findings findings;
    struct doctor_level levels[ISA_COUNT];
    struct doctor_reads reads;
    struct doctor_model model;
};

/* Which instruction sets the kernels may use, and why not. From the processor itself, or from a recorded tree's list of flags. */
void doctor_read_levels(struct doctor *d);

/* What the workers read, in about a second. Where it cannot be measured a line says why, and nothing else depends on it. */
void doctor_measure_reads(struct doctor *d);

/* The firmware's table of memory modules; with what was read, beside their rate on paper. Without a table a finding says so. */
void doctor_judge_dimms(struct doctor *d);

/* Does the model at `path` fit, on every node? Returns 0, or 1 when the file cannot be read (logged). */
int doctor_weigh_model(struct doctor *d, const char *path);

/* To stdout. Return 0, or -ENOMEM. */
int doctor_print_text(const struct doctor *d);
int doctor_print_json(const struct doctor *d);

#endif
