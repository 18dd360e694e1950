#include "kernels/cpu.h"

#include <cpuid.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const names[ISA_COUNT] = { [ISA_SCALAR] = "scalar", [ISA_AVX2] = "avx2", [ISA_AVX512] = "avx512",
                                              [ISA_AVX512BF16] = "avx512bf16", [ISA_AMX] = "amx" };

/* The register sets that the operating system saves at a context switch (XCR0); an instruction whose registers it does not
 * save raises SIGILL, whatever cpuid says. */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6, XCR0_TILES = 0x60000 };

/* asm/prctl.h of Linux 5.16; the headers of a build machine may be older. */
enum { REQUEST_PERMISSION = 0x1023, FEATURE_TILE_DATA = 18 };

enum { CPUID_7_1_AVX512BF16 = 1 << 5 };

static uint32_t saved_registers(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

enum isa cpu_best_isa(void)
{
    const uint32_t avx2_1c = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
    const uint32_t amx_7d = 1u << 24 | 1u << 25 | 1u << 22;        /* AMX-TILE, AMX-INT8, AMX-BF16 */
    const uint32_t avx512_7b = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    uint32_t a, b, c1, c7, d;

    if (!__get_cpuid(1, &a, &b, &c1, &d) || (c1 & avx2_1c) != avx2_1c)
        return ISA_SCALAR;
    uint32_t saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c7, &d) || !(b & bit_AVX2) || (saved & XCR0_AVX) != XCR0_AVX)
        return ISA_SCALAR;
    if ((b & avx512_7b) != avx512_7b || !(c7 & bit_AVX512VNNI) || (saved & XCR0_AVX512) != XCR0_AVX512)
        return ISA_AVX2;
    /* Leaf 7 has a second part where its EAX says so. */
    uint32_t a1 = 0, d7 = d;
    if (a >= 1)
        __get_cpuid_count(7, 1, &a1, &b, &c1, &d);
    if (!(a1 & CPUID_7_1_AVX512BF16))
        return ISA_AVX512;
    if ((d7 & amx_7d) != amx_7d || (saved & XCR0_TILES) != XCR0_TILES)
        return ISA_AVX512BF16;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, FEATURE_TILE_DATA) == 0 ? ISA_AMX : ISA_AVX512BF16;
}

const char *isa_name(enum isa level)
{
    return names[level];
}

bool isa_parse(const char *name, enum isa *level)
{
    for (size_t i = 0; i < ISA_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *level = (enum isa)i;
            return true;
        }
    }
    return false;
}
