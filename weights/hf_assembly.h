/*
 * hf_assembly.h - puts together a tensor of GGUF whose rows stand in several tensors of a Hugging Face folder, or in one of another order.
 *
 * An error is logged once and stays: what is called afterwards does nothing.
 */
#ifndef FOURWAY_WEIGHTS_HF_ASSEMBLY_H
#define FOURWAY_WEIGHTS_HF_ASSEMBLY_H

#include "weights/gguf_build.h"
#include "weights/hf_config.h"
#include "weights/safetensors.h"
#include "weights/tensor_source.h"

/* A tensor while it is assembled. The caller sets the first three, and the rest to 0. */
struct assembly {
    const struct hf_config *c;
    const struct safetensors_list *list;
    struct gguf_builder *b;
    struct tensor_piece *pieces;
    size_t n_pieces, cap;
    int type;                       /* enum dtype of all pieces; -1: none yet */
    uint64_t n_columns, n_rows;
    int err;                        /* logged */
};

void assembly_begin(struct assembly *a, size_t most_pieces);
void assembly_fail(struct assembly *a, const char *name, const char *what);

/* A tensor by its name; NULL where there is none. */
const struct safetensors_tensor *assembly_find(const struct assembly *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* GGUF's type of a file's, or -1; bytes from one element to the next along a dimension. */
int assembly_dtype(enum safetensors_type type);
uint64_t assembly_stride(const struct safetensors_tensor *t, uint32_t dim);

/* Rows of the tensor `name`, of n_columns elements each, at places inside of it that the caller has checked. */
void assembly_add(struct assembly *a, const char *name, int type, const struct tensor_piece *piece, uint64_t n_columns);

/* Rows [first, first + n) of t, of which tap `tap` of dimension 2 (of convolutions [out, in, taps, 1]; else 0). */
void assembly_add_rows(struct assembly *a, const struct safetensors_tensor *t, uint64_t first, uint64_t n, uint64_t tap);

/* All rows of the matrix NAME if the folder has quantized it. Returns false where it has not, or has no such matrix. */
bool assembly_add_quantized(struct assembly *a, const char *name);

/* What was added is the tensor of this name; n_stacked matrices one behind the other, or 1. `wide`: in 32 bits. */
void assembly_put(struct assembly *a, uint64_t n_stacked, bool wide, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Tensors PREFIX.E.SUFFIX.weight of a layer's n experts, whole, under one name. */
void assembly_stack(struct assembly *a, uint64_t layer, uint64_t n, const char *prefix, const char *suffix, const char *gguf);

#endif
