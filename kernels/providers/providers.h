/*
 * providers.h - matrix products by a library, oneDNN or OpenBLAS, on the calling thread: a choice beside our own kernels.
 *
 * A worker calls a product as any matmul_fn, on its own slice of panels. Panels are unpacked block by block into the worker's scratch:
 * there is no second copy of the weights. Whatever a product needs is prepared when the model opens. Only this folder includes the
 * libraries' headers.
 *
 * A library sums in an order of its own, so its bits are not those of plain C. Where a row's bits at least depend on nothing but the
 * row and the matrix, it may serve a role of tokens (docs/design.md 4): `same_bits`. Other products are for comparison.
 */
#ifndef FOURWAY_KERNELS_PROVIDERS_PROVIDERS_H
#define FOURWAY_KERNELS_PROVIDERS_PROVIDERS_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/kernels.h"

/* How a library multiplies by matrices of one type and k. Types are those of GGUF: F8_E4M3 has our own kernels alone. */
struct product {
    matmul_fn multiply;
    const void *prepared;           /* for matmul_args.prepared; owned by the library */
    enum activation activation;     /* that x must have */
    size_t scratch_bytes;           /* that matmul_args.scratch must have */
    const char *implementation;     /* the library's own name of it; static, or owned by the library */
    bool same_bits;                 /* a row of y depends on its row of x and on W, not on m, n_panels or its place */
};

/*
 * oneDNN keeps primitives: code made for one shape. They are read-only once prepared, any number of threads may multiply. Of the
 * instructions above `level` the library uses none, if this is the first level of the process. Return 0, or a negative errno (logged;
 * `name` is the matrix that the message names).
 */
struct onednn;
int onednn_open(struct onednn **library, enum isa level);
int onednn_prepare(struct onednn *library, struct product *out, const char *name, enum dtype type, enum activation activation, size_t k);
void onednn_close(struct onednn *library);      /* NULL is fine */

/*
 * OpenBLAS keeps nothing. Its serial build only: the others start threads of their own, which know nothing of nodes. It is not safe for
 * several callers, so workers wait for each other. Returns 0, or -ENOTSUP (logged) when another build is loaded.
 */
int openblas_check(void);
void openblas_prepare(struct product *out, enum dtype type, size_t k);

#endif
