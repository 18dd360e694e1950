/*
 * check_amx_faults.c - exceptions of the tile instructions and what a program sees of them, signals that are none of the emulator's
 * business, threads, and the registers that an emulated instruction must leave alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/amx/amx_emulator.h"
#include "tests/amx/machine.h"
#include "tests/kernels/guarded.h"

static const uint8_t ldtilecfg_rax[] = { 0xc4, 0xe2, 0x78, 0x49, 0x00 };
static const uint8_t ud2[] = { 0x0f, 0x0b };

/* LDTILECFG refuses `bad` with #GP, and leaves the configuration as it was. */
static void check_bad_config(const struct tile_config *bad, const char *what, unsigned value)
{
    const struct tile_config good = config_of(3, 8);
    struct machine_fault fault;
    struct tile_config after;
    uint64_t registers[16];

    tile_configure(&good);
    machine_registers(registers);
    registers[0] = (uintptr_t)bad;
    if (!machine_run(&fault, ldtilecfg_rax, sizeof(ldtilecfg_rax), registers))
        fail_msg("%s %u: accepted", what, value);
    if (fault.signal != SIGSEGV || fault.code != SI_KERNEL || fault.offset != 0)
        fail_msg("%s %u: signal %d, code %d", what, value, fault.signal, fault.code);
    tile_read_config(&after);
    assert_memory_equal(&after, &good, sizeof(after));
}

static void check_bad_configs(void **state)
{
    (void)state;
    machine_start();
    for (unsigned palette = 2; palette < 256; palette++) {
        struct tile_config c = config_of(16, 64);
        c.palette = (uint8_t)palette;
        check_bad_config(&c, "palette", palette);
    }
    for (unsigned byte = 2; byte < sizeof(struct tile_config); byte++) {
        if ((byte >= 16 && byte < 32) || (byte >= 48 && byte < 56))
            continue;
        struct tile_config c = config_of(16, 64);
        ((uint8_t *)&c)[byte] = 1;
        check_bad_config(&c, "reserved byte", byte);
    }
    for (unsigned tile = 0; tile < 8; tile++) {
        for (unsigned rows = 0; rows < 256; rows = rows ? rows + 1 : 17) {
            struct tile_config c = config_of(16, 64);
            c.rows[tile] = (uint8_t)rows;
            check_bad_config(&c, "rows", rows);
        }
        for (unsigned colsb = 0; colsb < 65536; colsb = colsb == 0 ? 65 : colsb < 300 ? colsb + 1 : colsb + 4093) {
            struct tile_config c = config_of(16, 64);
            c.colsb[tile] = (uint16_t)colsb;
            check_bad_config(&c, "bytes", colsb);
        }
    }
}

static uint8_t somewhere[16][64];

static void load_tile_1(void *unused)
{
    (void)unused;
    tile_load(1, somewhere, 64);
}

static void stream_load_tile_1(void *unused)
{
    (void)unused;
    tile_stream_load(1, somewhere, 64);
}

static void store_tile_1(void *unused)
{
    (void)unused;
    tile_store(1, somewhere, 64);
}

static void zero_tile_1(void *unused)
{
    (void)unused;
    tile_zero(1);
}

static void multiply_bytes(void *unused)
{
    (void)unused;
    _tile_dpbusd(1, 2, 3);
}

static void multiply_bf16(void *unused)
{
    (void)unused;
    _tile_dpbf16ps(1, 2, 3);
}

/* Whether `run` raises SIGILL, as #UD does, with this configuration. */
static void check_undefined(const struct tile_config *config, void (*run)(void *), bool is_undefined, const char *what)
{
    struct machine_fault fault = { 0 };

    tile_configure(config);
    const bool is_fault = machine_catch(&fault, run, NULL);
    if (is_fault != is_undefined || (is_fault && fault.signal != SIGILL))
        fail_msg("%s: signal %d", what, fault.signal);
}

static void check_product(const struct tile_config *config, bool is_undefined, const char *what)
{
    check_undefined(config, multiply_bytes, is_undefined, what);
    check_undefined(config, multiply_bf16, is_undefined, what);
}

static void check_moves(const struct tile_config *config, bool is_undefined, const char *what)
{
    check_undefined(config, load_tile_1, is_undefined, what);
    check_undefined(config, stream_load_tile_1, is_undefined, what);
    check_undefined(config, store_tile_1, is_undefined, what);
}

static void check_undefined_instructions(void **state)
{
    const struct tile_config none = { 0 };
    struct tile_config c;

    (void)state;
    machine_start();
    check_moves(&none, true, "no configuration");
    check_undefined(&none, zero_tile_1, true, "no configuration");
    check_product(&none, true, "no configuration");

    c = config_of(16, 64);
    check_moves(&c, false, "all configured");
    check_product(&c, false, "all configured");
    for (unsigned tile = 1; tile <= 3; tile++) {
        c = config_of(16, 64);
        c.rows[tile] = 0;
        c.colsb[tile] = 0;
        check_moves(&c, tile == 1, "tile without a shape");
        check_undefined(&c, zero_tile_1, tile == 1, "tile without a shape");
        check_product(&c, true, "tile without a shape");
    }
    for (unsigned colsb = 1; colsb <= 64; colsb++) {
        c = config_of(16, colsb);
        check_moves(&c, colsb % 4 != 0, "bytes that are no multiple of 4");
        check_undefined(&c, zero_tile_1, false, "bytes that are no multiple of 4");
        check_product(&c, colsb != 64, "bytes against rows of src2");
    }
    for (unsigned start = 0; start < 256; start++) {
        c = config_of(7, 28);
        c.start_row = (uint8_t)start;
        check_moves(&c, start >= 7, "start_row");
        check_product(&c, false, "start_row");
    }

    /* 1 += 2 x 3: m = 5, n = 9, k = 12, and each of the six numbers off by one */
    const struct tile_config fits = { .palette = 1, .rows = { 0, 5, 5, 12 }, .colsb = { 0, 36, 48, 36 } };
    check_product(&fits, false, "a shape that fits");
    for (unsigned tile = 1; tile <= 3; tile++) {
        c = fits;
        c.rows[tile]++;
        check_product(&c, true, "rows");
        c = fits;
        c.colsb[tile] = (uint16_t)(c.colsb[tile] + 4);
        check_product(&c, true, "bytes");
        c = fits;
        c.colsb[tile]++;
        check_product(&c, true, "bytes and a quarter");
    }
}

/* Two pages, of which the second cannot be accessed; 320 bytes before it, so that row 5 of packed rows is the first in it. */
static uint8_t *half_page;

static void load_half(void *unused)
{
    (void)unused;
    tile_load(1, half_page, 64);
}

static void store_half(void *unused)
{
    (void)unused;
    tile_store(1, half_page, 64);
}

static void configure_half(void *unused)
{
    (void)unused;
    tile_configure((const struct tile_config *)(const void *)(half_page + 5 * 64 - 32));
}

/*
 * A page fault within an instruction leaves start_row at the row it came to; the instruction can be executed again. Not under the
 * thread sanitizer, which itself ends with a segmentation fault at a siglongjmp() from a handler within a handler.
 */
static void check_page_fault(void **state)
{
#ifdef __SANITIZE_THREAD__
    print_message("*** SKIPPED: page faults within tile instructions are NOT tested under the thread sanitizer ***\n");
    skip();
#endif
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const struct tile_config config = config_of(16, 64);
    uint8_t *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t bytes[16][64], got[16][64];
    struct machine_fault fault;
    struct tile_config after;
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 1);
    rng_bytes(&rng, bytes, sizeof(bytes));
    half_page = pages + page - 5 * 64;

    memcpy(half_page, bytes, sizeof(bytes));
    tile_configure(&config);
    mprotect(pages + page, page, PROT_NONE);
    assert_true(machine_catch(&fault, load_half, NULL));
    assert_int_equal(fault.signal, SIGSEGV);
    assert_int_equal(fault.code, SEGV_ACCERR);
    tile_read_config(&after);
    assert_int_equal(after.start_row, 5);
    memset(half_page, 0, 5 * 64);       /* these rows are in the tile already */
    mprotect(pages + page, page, PROT_READ | PROT_WRITE);
    tile_load(1, half_page, 64);
    tile_store(1, got, 64);
    assert_memory_equal(got, bytes, sizeof(got));

    mprotect(pages + page, page, PROT_NONE);
    assert_true(machine_catch(&fault, store_half, NULL));
    assert_int_equal(fault.signal, SIGSEGV);
    tile_read_config(&after);
    assert_int_equal(after.start_row, 5);
    assert_memory_equal(half_page, bytes, 5 * 64);
    assert_true(machine_catch(&fault, configure_half, NULL));
    assert_int_equal(fault.signal, SIGSEGV);
    mprotect(pages + page, page, PROT_READ | PROT_WRITE);
    memset(half_page, 0, 5 * 64);
    tile_store(1, half_page, 64);
    memset(bytes, 0, 5 * 64);
    assert_memory_equal(half_page, bytes, sizeof(bytes));
    munmap(pages, 2 * page);
}

static volatile sig_atomic_t n_old_style;

static void on_old_style(int number)
{
    (void)number;
    n_old_style = n_old_style + 1;
}

static void raise_illegal(void *unused)
{
    (void)unused;
    raise(SIGILL);
}

/* The emulator goes on with the instructions behind the one that raised a signal; a fault among those looks like any other. */
static void check_fault_in_sequence(void **state)
{
    static const uint8_t undefined[] = { 0xc4, 0xe2, 0x78, 0x49, 0xc0, 0xc4, 0xe2, 0x7b, 0x49, 0xc0 };     /* tilerelease, tilezero */
    static const uint8_t protection[] = { 0xc4, 0xe2, 0x78, 0x49, 0xc0, 0xc4, 0xe2, 0x78, 0x49, 0x00 };    /* tilerelease, ldtilecfg */
    static const uint8_t foreign[] = { 0xc4, 0xe2, 0x78, 0x49, 0xc0, 0x0f, 0x0b };                         /* tilerelease, ud2 */
    const struct tile_config bad = config_of(17, 64);
    struct machine_fault fault;
    uint64_t registers[16];

    (void)state;
    machine_start();
    machine_registers(registers);
    registers[0] = (uintptr_t)&bad;
    assert_true(machine_run(&fault, undefined, sizeof(undefined), registers));
    assert_int_equal(fault.signal, SIGILL);
    assert_int_equal(fault.offset, 5);
    assert_true(fault.has_address);
    assert_true(machine_run(&fault, protection, sizeof(protection), registers));
    assert_int_equal(fault.signal, SIGSEGV);
    assert_int_equal(fault.code, SI_KERNEL);
    assert_int_equal(fault.offset, 5);
    assert_true(machine_run(&fault, foreign, sizeof(foreign), registers));
    assert_int_equal(fault.signal, SIGILL);
    assert_int_equal(fault.offset, 5);
    assert_true(fault.has_address);
}

/* Other illegal instructions, and signals that no instruction raised, go to the handler that was there before. */
static void check_foreign(void **state)
{
    struct machine_fault fault;
    uint64_t registers[16];

    (void)state;
    machine_start();
    machine_registers(registers);
    assert_true(machine_run(&fault, ud2, sizeof(ud2), registers));
    assert_int_equal(fault.signal, SIGILL);
    assert_int_equal(fault.offset, 0);
    assert_true(machine_catch(&fault, raise_illegal, NULL));
    assert_int_equal(fault.signal, SIGILL);
    assert_true(fault.code <= 0);

#ifndef __SANITIZE_THREAD__         /* which would deliver it later */
    /* sent while RIP is at a tile instruction: the system call that sends it comes right before */
    static const uint8_t syscall_tilerelease[] = { 0x0f, 0x05, 0xc4, 0xe2, 0x78, 0x49, 0xc0 };
    registers[0] = SYS_kill;
    registers[7] = (uint64_t)getpid();
    registers[6] = SIGILL;
    assert_true(machine_run(&fault, syscall_tilerelease, sizeof(syscall_tilerelease), registers));
    assert_int_equal(fault.signal, SIGILL);
    assert_int_equal(fault.code, SI_USER);
#endif

    signal(SIGILL, on_old_style);
    if (!amx_hardware()) {
        assert_int_equal(amx_emulator_install(), 0);
        assert_int_equal(amx_emulator_install(), 0);        /* must not make itself the handler before it */
    }
    raise(SIGILL);
    assert_int_equal(n_old_style, 1);
    _tile_release();
    assert_int_equal(n_old_style, 1);
}

static void do_nothing(void)
{
}

static void execute_ud2(void)
{
    __asm__ volatile("ud2");
}

static void execute_undefined(void)
{
    _tile_release();
    _tile_zero(0);
}

static void execute_bad_config(void)
{
    struct tile_config config = config_of(17, 64);
    tile_configure(&config);
}

static void raise_illegal_itself(void)
{
    raise(SIGILL);
}

/* What ends a process that has these actions for SIGILL and SIGSEGV; 0 when nothing does. */
static int signal_of_child(void (*run)(void), void (*action)(int))
{
    int status;
    const pid_t child = fork();

    if (child == 0) {
        const struct rlimit no_core = { 0, 0 };
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGILL, action);
        signal(SIGSEGV, action);
        if (!amx_hardware() && amx_emulator_install() != 0)
            _exit(1);
        struct tile_config config = config_of(16, 64);
        tile_configure(&config);
        run();
        tile_zero(3);
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        return WTERMSIG(status);
    assert_int_equal(WEXITSTATUS(status), 0);
    return 0;
}

static void check_default_action(void **state)
{
    (void)state;
    assert_int_equal(signal_of_child(do_nothing, SIG_DFL), 0);
    assert_int_equal(signal_of_child(execute_ud2, SIG_DFL), SIGILL);
    assert_int_equal(signal_of_child(execute_undefined, SIG_DFL), SIGILL);
    assert_int_equal(signal_of_child(execute_bad_config, SIG_DFL), SIGSEGV);
    assert_int_equal(signal_of_child(raise_illegal_itself, SIG_DFL), SIGILL);
    /* an instruction's signal cannot be ignored */
    assert_int_equal(signal_of_child(execute_ud2, SIG_IGN), SIGILL);
    assert_int_equal(signal_of_child(execute_bad_config, SIG_IGN), SIGSEGV);
}

struct worker {
    pthread_t thread;
    pthread_barrier_t *start;
    unsigned rows, colsb, n_wrong;
};

/* dst = src1 x ones, with the worker's own shapes: dst[m][n] is the sum of src1's row m. */
static void *work(void *argument)
{
    static const struct tile_config none;
    struct worker *w = argument;
    struct tile_config config = { .palette = 1 }, got;
    int8_t ones[16][64], src1[16][64];
    int32_t dst[16][16];
    struct rng rng;

    rng_seed(&rng, w->rows);
    memset(ones, 1, sizeof(ones));
    config.rows[0] = config.rows[1] = (uint8_t)w->rows;
    config.colsb[0] = config.colsb[2] = 64;
    config.colsb[1] = (uint16_t)w->colsb;
    config.rows[2] = (uint8_t)(w->colsb / 4);
    pthread_barrier_wait(w->start);
    if (!amx_hardware()) {      /* where the kernel may hand a thread its creator's configuration, without data */
        tile_read_config(&got);
        w->n_wrong += memcmp(&got, &none, sizeof(got)) != 0;
    }
    tile_configure(&config);
    tile_load(2, ones, 64);
    for (unsigned round = 0; round < 2000; round++) {
        rng_bytes(&rng, src1, sizeof(src1));
        tile_load(1, src1, 64);
        tile_zero(0);
        _tile_dpbssd(0, 1, 2);
        tile_store(0, dst, 64);
        for (unsigned m = 0; m < w->rows; m++) {
            int32_t sum = 0;
            for (unsigned k = 0; k < w->colsb; k++)
                sum += src1[m][k];
            w->n_wrong += dst[m][round % 16] != sum;
        }
        tile_read_config(&got);
        w->n_wrong += memcmp(&got, &config, sizeof(got)) != 0;
    }
    return NULL;
}

/* Two threads with configurations of their own at once, one of them older than the handler, beside that of this thread. */
static void check_threads(void **state)
{
    const struct tile_config config = config_of(2, 12);
    struct tile_config after;
    pthread_barrier_t start;
    struct worker workers[2] = { { .start = &start, .rows = 16, .colsb = 20 }, { .start = &start, .rows = 7, .colsb = 64 } };

    (void)state;
    pthread_barrier_init(&start, NULL, 2);
    assert_int_equal(pthread_create(&workers[0].thread, NULL, work, &workers[0]), 0);
    machine_start();
    tile_configure(&config);
    assert_int_equal(pthread_create(&workers[1].thread, NULL, work, &workers[1]), 0);
    for (size_t i = 0; i < 2; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].n_wrong, 0);
    }
    pthread_barrier_destroy(&start);
    tile_read_config(&after);
    assert_memory_equal(&after, &config, sizeof(after));
}

/* Vector registers, masks and flags around a long instruction. */
static void check_registers(void **state)
{
    static _Alignas(64) uint8_t before[32 * 64], after[32 * 64];
    const struct tile_config config = config_of(16, 64);
    size_t n_bytes = 16 * 16;
    uint8_t carry;
    struct rng rng;

    (void)state;
    machine_start();
    rng_seed(&rng, 1);
    rng_bytes(&rng, before, sizeof(before));
    tile_configure(&config);
    if (__builtin_cpu_supports("avx512f")) {
        n_bytes = 32 * 64;
        __asm__ volatile(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
            "vmovdqu64 64*\\n(%1), %%zmm\\n\n"
            ".endr\n"
            "kmovw (%1), %%k1\n"
            "stc\n"
            "tdpbf16ps %%tmm3, %%tmm2, %%tmm1\n"
            "setc %0\n"
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
            "vmovdqu64 %%zmm\\n, 64*\\n(%2)\n"
            ".endr\n"
            "kmovw %%k1, (%2)\n"
            "vzeroupper\n"
            : "=&r"(carry)
            : "r"(before), "r"(after)
            : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
              "xmm13", "xmm14", "xmm15");
    } else {
        __asm__ volatile(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
            "movdqu 16*\\n(%1), %%xmm\\n\n"
            ".endr\n"
            "stc\n"
            "tdpbf16ps %%tmm3, %%tmm2, %%tmm1\n"
            "setc %0\n"
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
            "movdqu %%xmm\\n, 16*\\n(%2)\n"
            ".endr\n"
            : "=&r"(carry)
            : "r"(before), "r"(after)
            : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
              "xmm13", "xmm14", "xmm15");
    }
    assert_memory_equal(after, before, n_bytes);
    assert_int_equal(carry, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_bad_configs), cmocka_unit_test(check_undefined_instructions), cmocka_unit_test(check_page_fault),
        cmocka_unit_test(check_foreign),     cmocka_unit_test(check_default_action),         cmocka_unit_test(check_threads),
        cmocka_unit_test(check_registers),   cmocka_unit_test(check_fault_in_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
