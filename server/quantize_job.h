/*
 * quantize_job.h - the values of one model into the tensors of another file, by several threads over windows of a few MiB.
 *
 * Memory is a few MiB a thread, however large a tensor is: a block depends on its own values alone, so a tensor is a sequence of
 * windows. The file's bytes depend on neither the number of threads nor their order.
 */
#ifndef FOURWAY_SERVER_QUANTIZE_JOB_H
#define FOURWAY_SERVER_QUANTIZE_JOB_H

#include <signal.h>

#include "weights/gguf.h"
#include "weights/gguf_output.h"

struct quantize_job {
    const struct gguf *source;
    struct gguf_output *out;            /* begun, with the source's tensors in their order */
    const enum dtype *types;            /* of each tensor in `out` */
    size_t n_threads;                   /* at least 1 */
    void (*progress)(void *arg, uint64_t done, uint64_t total);     /* bytes of the source; one call at a time */
    void *progress_arg;
    const volatile sig_atomic_t *stop;  /* not 0: give up, -EINTR */
};

/* Can the values of a tensor of this type be read? */
bool quantize_job_reads(enum dtype type);

/* Returns 0 or a negative errno; the first failure is logged, and ends the others. -EINTR is not logged. */
int quantize_job_run(const struct quantize_job *job);

#endif
