#include "tests/amx/machine.h"

#include <immintrin.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/amx/amx_emulator.h"

enum { ARENA = 0x20000000, ARENA_BYTES = 1 << 20, CODE_BYTES = 4096, RSP = 4 };

static uint8_t *code_page;
static uint64_t saved_rsp;          /* of machine_run(), while its instruction has a stack of its own */
static const uint8_t *instruction;  /* in code_page, the last that machine_run() got */

static sigjmp_buf catcher;
static volatile sig_atomic_t is_catching;
static struct machine_fault caught;

static void leave(void)
{
    siglongjmp(catcher, 1);
}

/*
 * The kernel starts a handler with tiles in the INIT state, and gives the interrupted code its own back when the handler returns. So
 * this one returns, into leave(), for the test to see what the instruction has left.
 */
static void on_signal(int number, siginfo_t *info, void *context)
{
    enum { RED_ZONE = 128, RETURN_ADDRESS = 8 };
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint64_t rip = (uint64_t)registers[REG_RIP];

    if (!is_catching) {
        signal(number, SIG_DFL);        /* the instruction is executed again, and ends the test */
        return;
    }
    caught = (struct machine_fault){ number, info->si_code, (ptrdiff_t)(rip - (uintptr_t)instruction), (uintptr_t)info->si_addr == rip };
    registers[REG_RIP] = (greg_t)(uintptr_t)leave;
    registers[REG_RSP] = ((registers[REG_RSP] - RED_ZONE) & ~(greg_t)15) - RETURN_ADDRESS;
}

static void *map_or_die(uintptr_t at, size_t n_bytes)
{
    void *p = mmap((void *)at, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);

    if (p == MAP_FAILED || (at && (uintptr_t)p != at)) {
        perror("machine: mmap");
        abort();
    }
    return p;
}

void machine_start(void)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

    if (!code_page) {
        code_page = map_or_die(0, CODE_BYTES);
        map_or_die(ARENA, ARENA_BYTES);
    }
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    if (!amx_hardware() && amx_emulator_install() != 0) {
        fprintf(stderr, "machine: the emulator cannot be installed\n");
        abort();
    }
    _tile_release();
}

bool machine_catch(struct machine_fault *fault, void (*run)(void *argument), void *argument)
{
    if (sigsetjmp(catcher, 1) != 0) {
        is_catching = 0;
        *fault = caught;
        return true;
    }
    is_catching = 1;
    run(argument);
    is_catching = 0;
    return false;
}

void machine_registers(uint64_t registers[16])
{
    for (uint64_t i = 0; i < 16; i++)
        registers[i] = 0x4141000000000000 + i;      /* not canonical: using it as an address faults */
    registers[RSP] = 0;
}

static uint8_t *emit(uint8_t *at, const void *bytes, size_t n)
{
    memcpy(at, bytes, n);
    return at + n;
}

static uint8_t *emit_move(uint8_t *at, const char *opcode, uint64_t immediate)
{
    at = emit(at, opcode, 2);
    return emit(at, &immediate, sizeof(immediate));
}

static void call_code(void *unused)
{
    void (*code)(void);

    (void)unused;
    memcpy(&code, &code_page, sizeof(code));
    code();
}

bool machine_run(struct machine_fault *fault, const uint8_t *code, size_t n_bytes, const uint64_t registers[16])
{
    static const uint8_t push_all[] = { 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57 };   /* rbx rbp r12 ... r15 */
    static const uint8_t pop_all_return[] = { 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3 };
    uint8_t *at = code_page;

    mprotect(code_page, CODE_BYTES, PROT_READ | PROT_WRITE);
    at = emit(at, push_all, sizeof(push_all));
    at = emit(at, "\x48\x89\xe0", 3);                                       /* mov %rsp, %rax */
    at = emit_move(at, "\x48\xa3", (uintptr_t)&saved_rsp);                  /* movabs %rax, saved_rsp */
    for (unsigned i = 0; i < 16; i++) {
        const char opcode[2] = { (char)(i < 8 ? 0x48 : 0x49), (char)(0xb8 + i % 8) };
        if (i != RSP || registers[i] != 0)
            at = emit_move(at, opcode, registers[i]);                       /* movabs $value, %register */
    }
    instruction = at;
    at = emit(at, code, n_bytes);
    at = emit_move(at, "\x48\xa1", (uintptr_t)&saved_rsp);                  /* movabs saved_rsp, %rax */
    at = emit(at, "\x48\x89\xc4", 3);                                       /* mov %rax, %rsp */
    emit(at, pop_all_return, sizeof(pop_all_return));
    mprotect(code_page, CODE_BYTES, PROT_READ | PROT_EXEC);

    return machine_catch(fault, call_code, NULL);
}

struct tile_config config_of(unsigned rows, unsigned colsb)
{
    struct tile_config config = { .palette = 1 };

    for (size_t i = 0; i < 8; i++) {
        config.rows[i] = (uint8_t)rows;
        config.colsb[i] = (uint16_t)colsb;
    }
    return config;
}

#define MEMORY_IS_USED() __asm__ volatile("" ::: "memory")

#define EACH_TILE(tile, instruction_of) \
    switch (tile) { \
    case 0: instruction_of(0); break; \
    case 1: instruction_of(1); break; \
    case 2: instruction_of(2); break; \
    case 3: instruction_of(3); break; \
    case 4: instruction_of(4); break; \
    case 5: instruction_of(5); break; \
    case 6: instruction_of(6); break; \
    default: instruction_of(7); break; \
    }

void tile_configure(const struct tile_config *config)
{
    MEMORY_IS_USED();
    _tile_loadconfig(config);
}

void tile_read_config(struct tile_config *config)
{
    _tile_storeconfig(config);
    MEMORY_IS_USED();
}

void tile_load(unsigned tile, const void *base, ptrdiff_t stride)
{
#define LOAD(n) _tile_loadd(n, base, stride)
    MEMORY_IS_USED();
    EACH_TILE(tile, LOAD)
}

void tile_stream_load(unsigned tile, const void *base, ptrdiff_t stride)
{
#define STREAM_LOAD(n) _tile_stream_loadd(n, base, stride)
    MEMORY_IS_USED();
    EACH_TILE(tile, STREAM_LOAD)
}

void tile_store(unsigned tile, void *base, ptrdiff_t stride)
{
#define STORE(n) _tile_stored(n, base, stride)
    EACH_TILE(tile, STORE)
    MEMORY_IS_USED();
}

void tile_zero(unsigned tile)
{
#define ZERO(n) _tile_zero(n)
    EACH_TILE(tile, ZERO)
}
