/*
 * matmul_problem.h - random weights and activations, and y = W x of them: what the tests of matrix kernels share.
 *
 * Each buffer ends at a page that cannot be read (guarded.h); rows of x and y lie apart, and what lies between them must stay.
 */
#ifndef FOURWAY_TESTS_KERNELS_MATMUL_PROBLEM_H
#define FOURWAY_TESTS_KERNELS_MATMUL_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "tests/kernels/file_blocks.h"
#include "tests/kernels/guarded.h"

enum { GAP = 3 };       /* floats between rows of y, and 16-byte units between rows of x, that must stay untouched */

struct problem {
    enum dtype type;
    enum activation act;
    bool prompt;            /* multiply by matmul_prompt */
    size_t m, n_panels, k;
    uint8_t *rows;          /* the file's rows, 16 n_panels */
    uint8_t *w, *x;
    size_t x_stride;
};

struct problem random_problem(enum dtype type, enum activation act, size_t m, size_t n_panels, size_t k, enum weight_range range,
                              struct rng *rng);

/* y[m][16 n_panels + GAP] of tokens first .. first + m - 1. */
float *multiply(const struct problem *p, const struct kernels *kernels, size_t first, size_t m);

/*
 * All m of the list, of which the largest comes first, at the levels from `lowest` to `highest`: the test fails unless each has the bits
 * of plain C, which runs once with all tokens. So neither the level, nor m, nor a token's place in the batch changes a bit. Both roles of
 * a token, where they differ.
 */
struct levels { enum isa lowest, highest; };
void check_problem(struct levels levels, enum dtype type, enum activation act, const size_t *ms, size_t n_ms, size_t n_panels, size_t k,
                   enum weight_range range, uint64_t seed);

#endif
