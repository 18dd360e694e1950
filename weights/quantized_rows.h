/*
 * quantized_rows.h - rows of a quantized matrix of the PyTorch ecosystem, translated to blocks of a GGUF type while they are read.
 *
 * Such a matrix is two or three tensors: codes of 4 or 8 bits, often several in an integer, scales that a group of columns shares, and
 * perhaps zero points. Values are scale (code - zero); the same numbers are blocks of GGUF, bit for bit, as long as a group has whole
 * blocks and its scale is a float16. Where it is not, the read fails: nothing is ever rounded. What a file means comes from
 * hf_quantized.h, which has checked that all of it lies within its tensors.
 */
#ifndef FOURWAY_WEIGHTS_QUANTIZED_ROWS_H
#define FOURWAY_WEIGHTS_QUANTIZED_ROWS_H

#include "weights/gguf.h"

/* A matrix as a file has it: n_slow rows of n_fast elements, one behind the other. */
struct stored_matrix {
    uint32_t part;
    uint64_t offset;                /* from the start of the file */
    uint64_t n_slow, n_fast;
    uint32_t element_bytes;         /* 1, 2 or 4; of codes of 4 bits 1 or 4 */
    bool by_input;                  /* an input's (a group's) elements lie side by side; else an output's */
};

/* Codes, or zero points. */
struct stored_codes {
    struct stored_matrix in;
    uint32_t bits;                  /* 4 or 8; an element has 8 element_bytes / bits of them, the first in its lowest bits */
    bool packs_outputs;             /* those of an element are of outputs that follow one another; else of inputs */
    bool awq_order;                 /* ... in the order 0 2 4 6 1 3 5 7, from the lowest bits on */
};

struct quantized_rows {
    struct stored_codes codes;
    struct stored_matrix scales;
    enum scale_type { SCALES_F16, SCALES_BF16, SCALES_F32, SCALES_E8M0 } scale_type;
    uint64_t group_columns, group_rows;     /* of one scale; columns a multiple of 32 */
    bool f8;                                /* codes are E4M3 floats; else integers, or the values of MXFP4 */
    bool has_zeros;
    struct stored_codes zeros;              /* one for each scale */
    uint8_t zero_plus;                      /* GPTQ's first format stores zero - 1 */
    uint8_t zero;                           /* what Q4_0 and Q8_0 take for granted: 8, 128; 0 where codes are signed */
    /*
     * The rows are the matrix's columns, in float32, each of its outputs from first_output on: blocks would have to share a scale that
     * their codes do not share.
     */
    bool transposed;
    uint64_t first_output;
};

/*
 * Blocks [from, to) of rows [row, row + n) to dst, as those of t->type: Q4_0, Q5_0, Q8_0, F8_E4M3 or MXFP4; values, of all but MXFP4, as
 * F32 where they are transposed. Rows are dst_stride bytes apart there. Returns 0, -EINVAL (a scale, a code or a zero point has no place
 * in that type), or the error of pread; logged. Any number of threads may read.
 */
int quantized_rows_read(const struct gguf *g, const struct gguf_tensor *t, const struct quantized_rows *q, uint64_t row, uint64_t n,
                        uint64_t from, uint64_t to, unsigned char *dst, size_t dst_stride);

/* The kernel may drop pages that only these rows need. */
void quantized_rows_drop_cache(const struct gguf *g, const struct quantized_rows *q, uint64_t row, uint64_t n);

#endif
