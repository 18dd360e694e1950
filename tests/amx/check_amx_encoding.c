/*
 * check_amx_encoding.c - the encodings of the tile instructions: every memory operand and every choice of tiles that the assembler
 * makes, prefixes, and what a processor refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <asm/prctl.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/amx/amx_emulator.h"
#include "tests/amx/amx_forms.h"
#include "tests/amx/amx_tile.h"
#include "tests/amx/machine.h"
#include "tests/kernels/guarded.h"

enum { RSP = 4, RED_ZONE = 128, REGION_BYTES = 32768 };

static uint8_t *const region = (uint8_t *)(uintptr_t)(MACHINE_DATA - REGION_BYTES / 2);

/* Random bytes around MACHINE_DATA, another piece of them each time. */
static void fill_region(struct rng *rng)
{
    static uint8_t bytes[2 * REGION_BYTES];

    if (bytes[0] == 0) {
        rng_bytes(rng, bytes, sizeof(bytes));
        bytes[0] |= 1;
    }
    memcpy(region, bytes + rng_below(rng, REGION_BYTES), REGION_BYTES);
}

/* Register values for a form, and what they make of its operand. */
struct operand {
    uint64_t registers[16];
    unsigned rows;              /* of a tile: one where base and index are the same register */
    int64_t stride;
    uint8_t *start;             /* base and displacement: row 0 of a tile */
    uint8_t *config;            /* and index: a configuration */
    uint8_t *unchanged_from;    /* the region's bytes that no signal frame has overwritten */
};

/* is_tile: the index is a stride, and no part of the first address. */
static void choose_operand(struct rng *rng, struct operand *o, const struct amx_form *form, bool is_tile)
{
    const bool has_index = form->index != NO_INDEX;
    int64_t base = form->base == NO_BASE ? 0 : MACHINE_DATA + rng_below(rng, 256), index = 0;

    machine_registers(o->registers);
    o->rows = 1 + rng_below(rng, 16);
    if (has_index)
        index = (int64_t)rng_below(rng, 64) - (form->base == RSP ? 0 : 32);     /* below rsp lies a signal's frame */
    if (has_index && form->base == form->index) {
        o->rows = 1;
        index = base = is_tile ? base : MACHINE_DATA / (1 + (1 << form->scale));
    }
    if (form->base != NO_BASE)
        o->registers[form->base] = (uint64_t)base;
    if (has_index)
        o->registers[form->index] = (uint64_t)index;
    o->stride = index * (1 << form->scale);
    o->start = (uint8_t *)(intptr_t)(base + form->displacement);
    o->config = (uint8_t *)(intptr_t)(base + form->displacement + o->stride);
    o->unchanged_from = form->base == RSP ? (uint8_t *)(intptr_t)(base - RED_ZONE) : region;
}

static void run_form(const struct amx_form *form, const struct operand *o)
{
    struct machine_fault fault;

    if (machine_run(&fault, form->code, form->n_bytes, o->registers))
        fail_msg("signal %d: base=%u index=%u scale=%u displacement=%d", fault.signal, form->base, form->index, 1u << form->scale,
                 form->displacement);
}

static void check_load_forms(struct amx_forms forms, uint64_t seed)
{
    struct rng rng;

    rng_seed(&rng, seed);
    for (size_t i = 0; i < forms.n; i++) {
        const struct amx_form *form = &forms.form[i];
        struct operand o;
        uint8_t got[16][64];

        choose_operand(&rng, &o, form, true);
        const unsigned colsb = 4 * (1 + rng_below(&rng, 16));
        const struct tile_config config = config_of(o.rows, colsb);
        tile_configure(&config);
        fill_region(&rng);
        run_form(form, &o);
        tile_store(FORM_TILE, got, sizeof(got[0]));
        for (unsigned row = 0; row < o.rows; row++)
            assert_memory_equal(got[row], o.start + (int64_t)row * o.stride, colsb);
    }
}

static void check_loads(void **state)
{
    (void)state;
    machine_start();
    check_load_forms(forms_tileloadd(), 1);
    check_load_forms(forms_tileloaddt1(), 2);
}

static void check_stores(void **state)
{
    static uint8_t want[REGION_BYTES];
    const struct amx_forms forms = forms_tilestored();
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 3);
    for (size_t i = 0; i < forms.n; i++) {
        const struct amx_form *form = &forms.form[i];
        struct operand o;
        uint8_t from[16][64];

        choose_operand(&rng, &o, form, true);
        const unsigned colsb = 4 * (1 + rng_below(&rng, 16));
        const struct tile_config config = config_of(o.rows, colsb);
        rng_bytes(&rng, from, sizeof(from));
        tile_configure(&config);
        tile_load(FORM_TILE, from, sizeof(from[0]));
        fill_region(&rng);
        memcpy(want, region, sizeof(want));
        run_form(form, &o);
        for (unsigned row = 0; row < o.rows; row++)
            memcpy(want + (o.start + (int64_t)row * o.stride - region), from[row], colsb);
        const size_t skip_bytes = (size_t)(o.unchanged_from - region);
        assert_memory_equal(o.unchanged_from, want + skip_bytes, sizeof(want) - skip_bytes);
    }
}

static void check_configs(void **state)
{
    static uint8_t want[REGION_BYTES];
    const struct amx_forms loads = forms_ldtilecfg(), stores = forms_sttilecfg();
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 4);
    assert_int_equal(loads.n, stores.n);
    for (size_t i = 0; i < loads.n; i++) {
        const struct tile_config config = config_of(1 + rng_below(&rng, 16), 1 + rng_below(&rng, 64)), none = { 0 };
        struct tile_config got;
        struct operand o;

        choose_operand(&rng, &o, &loads.form[i], false);
        memcpy(o.config, &config, sizeof(config));
        tile_configure(&none);
        run_form(&loads.form[i], &o);
        tile_read_config(&got);
        assert_memory_equal(&got, &config, sizeof(got));

        fill_region(&rng);
        memcpy(want, region, sizeof(want));
        memcpy(want + (o.config - region), &config, sizeof(config));
        run_form(&stores.form[i], &o);
        const size_t skip_bytes = (size_t)(o.unchanged_from - region);
        assert_memory_equal(o.unchanged_from, want + skip_bytes, sizeof(want) - skip_bytes);
    }
}

/* Small finite numbers as bytes, as bf16 and as float: so no result is NaN, whose bits are open. */
static void random_tiles(struct rng *rng, uint8_t bytes[8][16][64])
{
    rng_bytes(rng, bytes, 8 * 16 * 64);
    for (size_t i = 0; i < 8 * 16 * 64; i++)
        bytes[i / 1024][i / 64 % 16][i % 64] &= 0xbf;
}

static void check_tiles_are(const uint8_t want[8][16][64])
{
    for (unsigned tile = 0; tile < 8; tile++) {
        uint8_t got[16][64];
        tile_store(tile, got, 64);
        assert_memory_equal(got, want[tile], sizeof(got));
    }
}

static void check_tile_numbers(void **state)
{
    static struct amx_tiles plain;
    const struct tile_config config = config_of(16, 64);
    const struct amx_memory config_memory = { .start = (uintptr_t)&config, .mask = UINT64_MAX };
    struct operand o;
    struct rng rng;

    (void)state;
    machine_start();
    machine_registers(o.registers);
    rng_seed(&rng, 5);
    amx_load_config(&plain, &config_memory);
    tile_configure(&config);
    for (enum amx_dot op = 0; op < AMX_DOT_COUNT; op++) {
        const struct amx_forms forms = forms_dot(op);
        assert_int_equal(forms.n, 8 * 7 * 6);
        for (size_t i = 0; i < forms.n; i++) {
            const struct amx_form *form = &forms.form[i];
            random_tiles(&rng, plain.tile);
            for (unsigned tile = 0; tile < 8; tile++)
                tile_load(tile, plain.tile[tile], 64);
            run_form(form, &o);
            assert_int_equal(amx_dot(&plain, op, form->base, form->index, form->scale), AMX_DONE);
            check_tiles_are(plain.tile);
        }
    }
    for (unsigned tile = 0; tile < 8; tile++) {
        memset(plain.tile[tile], 0, sizeof(plain.tile[tile]));
        run_form(&forms_tilezero().form[tile], &o);
        check_tiles_are(plain.tile);
    }
}

static const struct amx_form *find_form(struct amx_forms forms, unsigned base, unsigned index, unsigned scale, int displacement)
{
    for (size_t i = 0; i < forms.n; i++) {
        const struct amx_form *f = &forms.form[i];
        if (f->base == base && f->index == index && f->scale == scale && f->displacement == displacement)
            return f;
    }
    fail_msg("no such form");
    return NULL;
}

/* `rax + 4 rcx + 4096` with prefixes, given the registers' values that make it row 0 at MACHINE_DATA, 80 bytes apart. */
static void check_prefixed(const uint8_t *prefixes, size_t n_prefixes, uint64_t rax, uint64_t rcx)
{
    const struct amx_form *form = find_form(forms_tileloadd(), 0, 1, 2, 4096);
    const struct tile_config config = config_of(16, 64);
    uint8_t code[16], got[16][64];
    struct machine_fault fault;
    uint64_t registers[16];

    machine_registers(registers);
    registers[0] = rax;
    registers[1] = rcx;
    memcpy(code, prefixes, n_prefixes);
    memcpy(code + n_prefixes, form->code, form->n_bytes);
    tile_configure(&config);
    if (machine_run(&fault, code, n_prefixes + form->n_bytes, registers))
        fail_msg("signal %d with prefix %02x", fault.signal, prefixes[0]);
    tile_store(FORM_TILE, got, 64);
    for (unsigned row = 0; row < 16; row++)
        assert_memory_equal(got[row], (const uint8_t *)(uintptr_t)MACHINE_DATA + 80 * row, 64);
}

static void check_prefixes(void **state)
{
    static const uint8_t none_at_all[] = { 0x2e, 0x36, 0x3e, 0x26 }, fs[] = { 0x64 }, gs[] = { 0x65 }, last_counts[] = { 0x64, 0x65 };
    static const uint8_t address32[] = { 0x67 }, gs_address32[] = { 0x65, 0x67 };
    const uint64_t rax = MACHINE_DATA - 4096, gs_base = 0x123450, high = 0x5555555500000000;
    unsigned long fs_base, old_gs_base;
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 6);
    fill_region(&rng);
    check_prefixed(none_at_all, sizeof(none_at_all), rax, 20);
    check_prefixed(address32, sizeof(address32), high | rax, high | 20);
    check_prefixed(address32, sizeof(address32), high | rax, high | 0x40000014);    /* 4 times that is 80 modulo 2^32 */

    assert_int_equal(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_base), 0);
    check_prefixed(fs, sizeof(fs), rax - fs_base, 20);
    assert_int_equal(syscall(SYS_arch_prctl, ARCH_GET_GS, &old_gs_base), 0);
    assert_int_equal(syscall(SYS_arch_prctl, ARCH_SET_GS, gs_base), 0);
    check_prefixed(gs, sizeof(gs), rax - gs_base, 20);
    check_prefixed(last_counts, sizeof(last_counts), rax - gs_base, 20);
    check_prefixed(gs_address32, sizeof(gs_address32), high | (rax - gs_base), 20);
    assert_int_equal(syscall(SYS_arch_prctl, ARCH_SET_GS, old_gs_base), 0);
}

/* SIB's "no base" is its three bits without VEX.B: not r13, and the assembler never writes it so. */
static void check_no_base_with_vex_b(void **state)
{
    static const uint8_t code[] = { 0xc4, 0xc2, 0x7b, 0x4b, 0x1c, 0x0d, 0x00, 0x00, 0x08, 0x20 };   /* FORM_ABSOLUTE + rcx */
    const struct tile_config config = config_of(16, 64);
    struct machine_fault fault;
    uint64_t registers[16];
    uint8_t got[16][64];
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 7);
    fill_region(&rng);
    machine_registers(registers);
    registers[1] = 64;
    tile_configure(&config);
    assert_false(machine_run(&fault, code, sizeof(code), registers));
    tile_store(FORM_TILE, got, 64);
    assert_memory_equal(got, (const uint8_t *)(uintptr_t)FORM_ABSOLUTE, sizeof(got));
}

static void check_rip_relative(void **state)
{
    static struct tile_config config, got;

    (void)state;
    machine_start();
    config = config_of(11, 36);
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
    __asm__ volatile("sttilecfg %0" : "=m"(got));
    assert_memory_equal(&got, &config, sizeof(got));
}

static void check_refused(void **state)
{
    static const struct {
        const char *what;
        uint8_t n_bytes, code[8];
    } refused[] = {
        { "tileloadd (%rax,%rcx), VEX.W", 6, { 0xc4, 0xe2, 0xfb, 0x4b, 0x1c, 0x08 } },
        { "VEX.L", 6, { 0xc4, 0xe2, 0x7f, 0x4b, 0x1c, 0x08 } },
        { "VEX.vvvv", 6, { 0xc4, 0xe2, 0x73, 0x4b, 0x1c, 0x08 } },
        { "tile 11", 6, { 0xc4, 0x62, 0x7b, 0x4b, 0x1c, 0x08 } },
        { "no SIB", 5, { 0xc4, 0xe2, 0x7b, 0x4b, 0x18 } },
        { "no memory", 5, { 0xc4, 0xe2, 0x7b, 0x4b, 0xdb } },
        { "no VEX.pp", 6, { 0xc4, 0xe2, 0x78, 0x4b, 0x1c, 0x08 } },
        { "prefix 66", 7, { 0x66, 0xc4, 0xe2, 0x7b, 0x4b, 0x1c, 0x08 } },
        { "prefix f2", 7, { 0xf2, 0xc4, 0xe2, 0x7b, 0x4b, 0x1c, 0x08 } },
        { "prefix f3", 7, { 0xf3, 0xc4, 0xe2, 0x7b, 0x4b, 0x1c, 0x08 } },
        { "lock", 7, { 0xf0, 0xc4, 0xe2, 0x7b, 0x4b, 0x1c, 0x08 } },
        { "REX", 7, { 0x48, 0xc4, 0xe2, 0x7b, 0x4b, 0x1c, 0x08 } },
        { "tilezero, rm", 5, { 0xc4, 0xe2, 0x7b, 0x49, 0xc1 } },
        { "tilezero, tile 8", 5, { 0xc4, 0x62, 0x7b, 0x49, 0xc0 } },
        { "tilezero, vvvv", 5, { 0xc4, 0xe2, 0x73, 0x49, 0xc0 } },
        { "tilerelease, rm", 5, { 0xc4, 0xe2, 0x78, 0x49, 0xc1 } },
        { "ldtilecfg, reg", 5, { 0xc4, 0xe2, 0x78, 0x49, 0x08 } },
        { "ldtilecfg, vvvv", 5, { 0xc4, 0xe2, 0x70, 0x49, 0x00 } },
        { "sttilecfg, register", 5, { 0xc4, 0xe2, 0x79, 0x49, 0xc0 } },
        { "tdpbssd, dst = src1", 5, { 0xc4, 0xe2, 0x63, 0x5e, 0xd2 } },
        { "tdpbssd, src1 = src2", 5, { 0xc4, 0xe2, 0x6b, 0x5e, 0xca } },
        { "tdpbssd, dst = src2", 5, { 0xc4, 0xe2, 0x73, 0x5e, 0xca } },
        { "tdpbssd, dst 9", 5, { 0xc4, 0x62, 0x63, 0x5e, 0xca } },
        { "tdpbssd, src1 10", 5, { 0xc4, 0xc2, 0x63, 0x5e, 0xca } },
        { "tdpbssd, src2 11", 5, { 0xc4, 0xe2, 0x23, 0x5e, 0xca } },
        { "tdpbssd, memory", 5, { 0xc4, 0xe2, 0x63, 0x5e, 0x08 } },
        { "tdpbssd, VEX.L", 5, { 0xc4, 0xe2, 0x67, 0x5e, 0xca } },
        { "tdpbssd, VEX.W", 5, { 0xc4, 0xe2, 0xe3, 0x5e, 0xca } },
        { "ud2", 2, { 0x0f, 0x0b } },
    };
    const struct tile_config config = config_of(16, 64);
    struct machine_fault fault;
    uint64_t registers[16];

    (void)state;
    machine_start();
    tile_configure(&config);
    machine_registers(registers);
    registers[0] = MACHINE_DATA;
    registers[1] = 64;
    const uint64_t before = amx_emulator_count();
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (!machine_run(&fault, refused[i].code, refused[i].n_bytes, registers))
            fail_msg("%s: not refused", refused[i].what);
        if (fault.signal != SIGILL || fault.offset != 0)
            fail_msg("%s: signal %d", refused[i].what, fault.signal);
    }
    assert_int_equal(amx_emulator_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_loads),        cmocka_unit_test(check_stores),   cmocka_unit_test(check_configs),
        cmocka_unit_test(check_tile_numbers), cmocka_unit_test(check_prefixes), cmocka_unit_test(check_rip_relative),
        cmocka_unit_test(check_refused),      cmocka_unit_test(check_no_base_with_vex_b),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
