/*
 * cpu.h - what the processor and the operating system allow, as one level. The only code that asks for CPU features.
 */
#ifndef FOURWAY_KERNELS_CPU_H
#define FOURWAY_KERNELS_CPU_H

#include <stdbool.h>

/* Each level includes those before it: avx2 means AVX2, FMA and F16C; avx512 means F, BW, DQ, VL and VNNI. */
enum isa { ISA_SCALAR, ISA_AVX2, ISA_AVX512, ISA_COUNT };

enum isa cpu_best_isa(void);

const char *isa_name(enum isa level);

/* false when `name` is no level. */
bool isa_parse(const char *name, enum isa *level);

#endif
