/*
 * bench_providers.h - the measurement behind `--gemm auto`: GFLOP/s of native kernels and libraries, by weight type and tokens.
 */
#ifndef FOURWAY_TESTS_KERNELS_BENCH_PROVIDERS_H
#define FOURWAY_TESTS_KERNELS_BENCH_PROVIDERS_H

/* Prints the table for a level (NULL: the machine's best). Returns 0, or 2 when there is no such level here. */
int bench_providers(const char *level_name);

#endif
