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

/* Where cpuid says what the processor has: leaf 1 ECX, leaf 7 EBX, ECX, EDX, and leaf 7.1 EAX. */
enum word { WORD_1C, WORD_7B, WORD_7C, WORD_7D, WORD_71A, WORD_COUNT };

static const struct { enum isa level; enum word word; uint32_t bit; const char *lack; } features[] = {
    { ISA_AVX2, WORD_1C, bit_AVX, "the processor has no AVX2" },
    { ISA_AVX2, WORD_1C, bit_OSXSAVE, "the operating system saves no AVX registers" },
    { ISA_AVX2, WORD_1C, bit_FMA, "the processor has no FMA" },
    { ISA_AVX2, WORD_1C, bit_F16C, "the processor has no F16C" },
    { ISA_AVX2, WORD_7B, bit_AVX2, "the processor has no AVX2" },
    { ISA_AVX512, WORD_7B, bit_AVX512F, "the processor has no AVX-512" },
    { ISA_AVX512, WORD_7B, bit_AVX512BW, "the processor has no AVX512BW" },
    { ISA_AVX512, WORD_7B, bit_AVX512DQ, "the processor has no AVX512DQ" },
    { ISA_AVX512, WORD_7B, bit_AVX512VL, "the processor has no AVX512VL" },
    { ISA_AVX512, WORD_7C, bit_AVX512VNNI, "the processor has no AVX512_VNNI" },
    { ISA_AVX512BF16, WORD_71A, 1u << 5, "the processor has no AVX512_BF16" },
    { ISA_AMX, WORD_7D, 1u << 24, "the processor has no AMX" },
    { ISA_AMX, WORD_7D, 1u << 25, "the processor has no AMX-INT8" },
    { ISA_AMX, WORD_7D, 1u << 22, "the processor has no AMX-BF16" },
};

static uint32_t saved_registers(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static void read_cpuid(uint32_t words[WORD_COUNT])
{
    uint32_t a, b, c, d, a1 = 0;

    memset(words, 0, WORD_COUNT * sizeof(*words));
    if (__get_cpuid(1, &a, &b, &c, &d))
        words[WORD_1C] = c;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return;
    words[WORD_7B] = b;
    words[WORD_7C] = c;
    words[WORD_7D] = d;
    if (a >= 1 && __get_cpuid_count(7, 1, &a1, &b, &c, &d)) /* leaf 7 has a second part where its EAX says so */
        words[WORD_71A] = a1;
}

/* What is missing for `level` itself, whatever those before it need. */
static const char *find_lack(enum isa level, const uint32_t words[WORD_COUNT], bool *refused)
{
    static const struct { uint32_t mask; const char *lack; } registers[ISA_COUNT] = {
        [ISA_AVX2] = { XCR0_AVX, "the operating system saves no AVX registers" },
        [ISA_AVX512] = { XCR0_AVX512, "the operating system saves no AVX-512 registers" },
        [ISA_AMX] = { XCR0_TILES, "the operating system saves no tile registers (Linux 5.16 does)" },
    };

    *refused = false;
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        if (features[i].level == level && !(words[features[i].word] & features[i].bit)) {
            *refused = features[i].bit == bit_OSXSAVE && features[i].word == WORD_1C;
            return features[i].lack;
        }
    }
    *refused = true;
    if (level != ISA_SCALAR && (saved_registers() & registers[level].mask) != registers[level].mask)
        return registers[level].lack;
    if (level == ISA_AMX && syscall(SYS_arch_prctl, REQUEST_PERMISSION, FEATURE_TILE_DATA))
        return "the kernel does not grant the tile registers (arch_prctl ARCH_REQ_XCOMP_PERM)";
    *refused = false;
    return NULL;
}

const char *cpu_isa_lack(enum isa level, bool *refused)
{
    uint32_t words[WORD_COUNT];
    const char *lack = NULL;

    *refused = false;
    read_cpuid(words);
    for (enum isa i = ISA_SCALAR; i <= level && !lack; i++)
        lack = find_lack(i, words, refused);
    return lack;
}

enum isa cpu_best_isa(void)
{
    enum isa best = ISA_SCALAR;
    bool refused;

    while (best + 1 < ISA_COUNT && !cpu_isa_lack(best + 1, &refused))
        best++;
    return best;
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
