/*
 * levels.h - run a comparison at every level of this machine, and compare floats by their bits.
 *
 * Two NaNs count as the same: which of two NaN operands an instruction hands on depends on the order that the compiler gave
 * them, and a NaN ends the request whatever its bits are.
 */
#ifndef FOURWAY_TESTS_KERNELS_LEVELS_H
#define FOURWAY_TESTS_KERNELS_LEVELS_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "tests/amx/amx_emulator.h"

/* Fails the test unless got[n] and want[n] have the same bits. */
#define CHECK_SAME_FLOATS(got, want, n, ...) \
    do { \
        const float *got_ = (got), *want_ = (want); \
        for (size_t i_ = 0; i_ < (n); i_++) { \
            if (memcmp(&got_[i_], &want_[i_], sizeof(float)) != 0 && !(isnan(got_[i_]) && isnan(want_[i_]))) { \
                print_error("%s[%zu] is %a, not %a; ", #got, i_, (double)got_[i_], (double)want_[i_]); \
                fail_msg(__VA_ARGS__); \
            } \
        } \
    } while (0)

typedef void (*compare_fn)(const struct kernels *ref, const struct kernels *opt);

/* The best level, tiles emulated where the machine has all else of amx. To be asked in each test: cmocka takes handlers back. */
static inline enum isa best_level(void)
{
    return cpu_best_isa() == ISA_AVX512BF16 && amx_emulator_install() == 0 ? ISA_AMX : cpu_best_isa();
}

/* compare(plain C, level) for every level above it; on a machine without any, plain C with itself. */
static inline void at_every_level(compare_fn compare)
{
    const enum isa best = best_level();
    struct kernels ref, opt;

    for (enum isa level = best > ISA_SCALAR ? ISA_AVX2 : ISA_SCALAR; level <= best; level++) {
        kernels_fill_plain(&ref, level);
        kernels_fill(&opt, level);
        compare(&ref, &opt);
    }
}

#endif
