/*
 * doctor_levels.c - the instruction sets of the kernels: which are there, and what keeps the others off.
 */
#include <stdio.h>
#include <string.h>

#include "server/doctor.h"

/* As /proc/cpuinfo names them, which leaves out what the kernel does not support itself. */
static const struct { enum isa level; const char *flag, *lack; } flags[] = {
    { ISA_AVX2, " avx2 ", "no avx2 among the processor's flags" },
    { ISA_AVX2, " fma ", "no fma among the processor's flags" },
    { ISA_AVX2, " f16c ", "no f16c among the processor's flags" },
    { ISA_AVX512, " avx512f ", "no avx512f among the processor's flags" },
    { ISA_AVX512, " avx512bw ", "no avx512bw among the processor's flags" },
    { ISA_AVX512, " avx512dq ", "no avx512dq among the processor's flags" },
    { ISA_AVX512, " avx512vl ", "no avx512vl among the processor's flags" },
    { ISA_AVX512, " avx512_vnni ", "no avx512_vnni among the processor's flags" },
    { ISA_AVX512BF16, " avx512_bf16 ", "no avx512_bf16 among the processor's flags" },
    { ISA_AMX, " amx_tile ", "no amx_tile among the processor's flags" },
    { ISA_AMX, " amx_int8 ", "no amx_int8 among the processor's flags" },
    { ISA_AMX, " amx_bf16 ", "no amx_bf16 among the processor's flags" },
};

static const char *find_recorded_lack(const struct doctor *d, enum isa level)
{
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (flags[i].level <= level && !strstr(d->settings.cpu_flags, flags[i].flag))
            return flags[i].lack;
    }
    return NULL;
}

/*
 * What the level before loses of the prefill: the peaks of one core of a fifth-generation Xeon are 5.7 TOP/s int8 with tiles and 0.68
 * with VNNI, and a quarter of the former is reached (docs/performance.md): more than 60 %. The others: half as wide, or a word at a time.
 */
static double refused_cost(enum isa level)
{
    return level == ISA_AMX ? 60 : level == ISA_AVX2 ? 80 : 50;
}

void doctor_read_levels(struct doctor *d)
{
    enum isa best = ISA_SCALAR;

    for (enum isa level = ISA_SCALAR; level < ISA_COUNT; level++) {
        struct doctor_level *x = &d->levels[level];

        x->lack = *d->root ? find_recorded_lack(d, level) : cpu_isa_lack(level, &x->refused);
        if (!x->lack)
            best = level;
    }
    for (enum isa level = ISA_SCALAR; level < ISA_COUNT; level++) {
        if (!d->levels[level].refused)
            continue;
        struct finding *x = findings_add(&d->findings, "instructions", refused_cost(level), "%s is off, though the processor has it: %s",
                                         isa_name(level), d->levels[level].lack);
        finding_fix(x, "a newer kernel (AMX: Linux 5.16), or one that is not started with clearcpuid= or noxsave");
        return;
    }
    findings_add(&d->findings, "instructions", 0, "%s", isa_name(best));
}
