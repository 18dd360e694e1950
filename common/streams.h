/*
 * streams.h - the kinds of traffic by which a memory is measured: kernels/ has the loops, for each instruction set; numa/ runs them
 * on its workers, and knows of them only what stands here.
 *
 * A loop goes over up to three arrays of `bytes` (a multiple of STREAM_BLOCK_BYTES), 64-byte aligned. Only `a` is written.
 */
#ifndef FOURWAY_COMMON_STREAMS_H
#define FOURWAY_COMMON_STREAMS_H

#include <stddef.h>
#include <stdint.h>

enum stream_kind {
    STREAM_READ,                                            /* sum of a */
    STREAM_READ_3_1, STREAM_READ_2_1, STREAM_READ_1_1,      /* a = a + b + c; a = a + b; a = a + 1 */
    STREAM_WRITE, STREAM_WRITE_NT,                          /* a = 1 */
    STREAM_COPY, STREAM_SCALE, STREAM_ADD, STREAM_TRIAD,    /* a = b; a = 3 b; a = b + c; a = b + 3 c: STREAM's, in doubles */
    STREAM_COPY_NT, STREAM_SCALE_NT, STREAM_ADD_NT, STREAM_TRIAD_NT,    /* the same with non-temporal stores */
    STREAM_KINDS
};
enum { STREAM_BLOCK_BYTES = 256 };

/* Returns a value that depends on what was read, for the caller to keep: or nothing would have to be read. */
typedef uint64_t (*stream_fn)(double *a, const double *b, const double *c, size_t bytes);

struct stream_loops {
    uint64_t (*read)(const void *p, size_t bytes);  /* STREAM_READ: a function of its own, because inference has it as its yardstick */
    stream_fn run[STREAM_KINDS];                    /* the others */

    /* n loads, each of the address that the one before it gave; returns the last one. */
    const void *(*chase)(const void *start, size_t n);

    /* Read two lines, let `delay` cycles pass, and so on over p: traffic below what the machine could. */
    uint64_t (*read_paced)(const void *p, size_t bytes, unsigned delay);
};

struct stream_shape {
    const char *name;       /* as in JSON */
    unsigned n_arrays;
    unsigned n_streams;     /* arrays that are read or written, as STREAM counts: a line that a store has to read first is not counted */
};
static const struct stream_shape stream_shapes[STREAM_KINDS] = {
    [STREAM_READ] = { "read", 1, 1 },
    [STREAM_READ_3_1] = { "3:1", 3, 4 },
    [STREAM_READ_2_1] = { "2:1", 2, 3 },
    [STREAM_READ_1_1] = { "1:1", 1, 2 },
    [STREAM_WRITE] = { "write", 1, 1 },
    [STREAM_WRITE_NT] = { "write_nt", 1, 1 },
    [STREAM_COPY] = { "copy", 2, 2 },
    [STREAM_SCALE] = { "scale", 2, 2 },
    [STREAM_ADD] = { "add", 3, 3 },
    [STREAM_TRIAD] = { "triad", 3, 3 },
    [STREAM_COPY_NT] = { "copy_nt", 2, 2 },
    [STREAM_SCALE_NT] = { "scale_nt", 2, 2 },
    [STREAM_ADD_NT] = { "add_nt", 3, 3 },
    [STREAM_TRIAD_NT] = { "triad_nt", 3, 3 },
};

#endif
