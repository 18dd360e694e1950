/*
 * cpu.h - what the processor and the operating system allow, as one level. The only code that asks for CPU features.
 */
#ifndef FOURWAY_KERNELS_CPU_H
#define FOURWAY_KERNELS_CPU_H

#include <stdbool.h>

/* Each level includes those before it: avx2 means AVX2, FMA and F16C; avx512 F, BW, DQ, VL and VNNI; avx512bf16 BF16 as well; amx
 * the tiles with int8 and bf16 products. */
enum isa { ISA_SCALAR, ISA_AVX2, ISA_AVX512, ISA_AVX512BF16, ISA_AMX, ISA_COUNT };

/*
 * The best level that the processor has and the operating system grants. The first call asks the kernel to grant this process the
 * tile registers (arch_prctl ARCH_REQ_XCOMP_PERM): threads that exist before then keep what they had, so call it before starting any.
 */
enum isa cpu_best_isa(void);

/*
 * Why this process cannot use `level`, as static text, or NULL if it can. `*refused`: the processor has what it takes, and it is the
 * operating system that keeps it back. Asks for the tile registers like cpu_best_isa.
 */
const char *cpu_isa_lack(enum isa level, bool *refused);

/* A line of weights that meet one token is better asked for once than for two caches in turn (matmul_internal.h has the figures). */
static inline bool cpu_prefetches_once(void)
{
    return __builtin_cpu_is("amd");
}

const char *isa_name(enum isa level);

/* false when `name` is no level. */
bool isa_parse(const char *name, enum isa *level);

#endif
