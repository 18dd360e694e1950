/*
 * tensor_source.h - tensors that no file holds in one piece in GGUF's order: where their bytes lie, and reading them into that order.
 *
 * A GGUF tensor is its rows, one after the other. In the files of other formats the same rows stand in another order (q and k of
 * llama: rotated pairs), in several places (experts, which GGUF stacks), with a stride (a view of a PyTorch storage), as 16-bit
 * floats that GGUF keeps in 32 bits (norms, biases), or as codes and scales in tensors of their own (quantized_rows.h). All that is
 * undone while rows are read, never on disk, so that whoever reads rows with gguf_read() sees one format.
 */
#ifndef FOURWAY_WEIGHTS_TENSOR_SOURCE_H
#define FOURWAY_WEIGHTS_TENSOR_SOURCE_H

#include "weights/gguf.h"
#include "weights/quantized_rows.h"

/* Some rows of a tensor, at one place of one file. */
struct tensor_piece {
    uint64_t n_rows;                /* a multiple of 2 half_rows where that is set */
    uint32_t part;
    uint64_t offset;                /* of the first element, from the start of the file */
    uint64_t row_stride;            /* bytes from a row to the next in the file */
    uint64_t element_stride;        /* bytes from an element (a block) to the next; its own size where rows are contiguous */
    /* Not NULL: rows are translated; `offset` is the first of them in that matrix, and strides mean nothing. */
    const struct quantized_rows *quantized;
};

struct tensor_source {
    const struct tensor_piece *pieces;      /* their rows, in this order, are those of the tensor */
    size_t n_pieces;
    uint64_t row_elements;          /* elements of such a row: ne[0], or 1 for a vector whose elements are reordered */
    uint32_t file_type;             /* enum dtype; the tensor's own (also of translated rows), or F16 or BF16 that become F32 */
    uint64_t half_rows;             /* not 0: in each 2 half_rows rows, row 2j is the file's row j, row 2j + 1 the file's half_rows + j */
    float plus;                     /* added to each value of an F32 tensor */
    const float *values;            /* not NULL: the whole tensor, computed; nothing else counts then */
};

/* As gguf_read(), which has checked the range, for a tensor with a source. */
int tensor_source_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, void *dst, size_t n);

/* As gguf_drop_cache(). */
void tensor_source_drop_cache(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, size_t n);

#endif
