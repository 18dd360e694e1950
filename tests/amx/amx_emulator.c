#include "tests/amx/amx_emulator.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/amx/amx_decode.h"
#include "tests/amx/amx_tile.h"

static _Thread_local struct amx_tiles tiles;
static _Atomic uint64_t n_emulated;

static struct sigaction previous;       /* written by amx_emulator_install() under lock, read by the handler */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t segment_base(enum amx_segment segment)
{
    unsigned long base = 0;

    if (segment != AMX_FLAT)
        syscall(SYS_arch_prctl, segment == AMX_FS ? ARCH_GET_FS : ARCH_GET_GS, &base);
    return base;
}

static uint64_t register_value(const greg_t *registers, const struct amx_instruction *in, unsigned number)
{
    static const int at[] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

    if (number == AMX_NO_REGISTER)
        return 0;
    if (number == AMX_RIP)
        return (uint64_t)registers[REG_RIP] + in->n_bytes;
    return (uint64_t)registers[at[number]];
}

static struct amx_memory operand(const struct amx_instruction *in, const greg_t *registers)
{
    const uint64_t base = register_value(registers, in, in->base), index = register_value(registers, in, in->index) << in->scale;
    struct amx_memory memory = {
        .segment = segment_base(in->segment),
        .start = base + (uint64_t)(int64_t)in->displacement,
        .stride = index,
        .mask = in->address32 ? UINT32_MAX : UINT64_MAX,
    };

    if (in->kind == AMX_LDTILECFG || in->kind == AMX_STTILECFG)
        memory.start += index;
    return memory;
}

static enum amx_fault execute(const struct amx_instruction *in, const greg_t *registers)
{
    const struct amx_memory memory = operand(in, registers);

    switch (in->kind) {
    case AMX_LDTILECFG:
        return amx_load_config(&tiles, &memory);
    case AMX_STTILECFG:
        amx_store_config(&tiles, &memory);
        return AMX_DONE;
    case AMX_TILERELEASE:
        amx_release(&tiles);
        return AMX_DONE;
    case AMX_TILEZERO:
        return amx_zero(&tiles, in->tile);
    case AMX_TILELOADD:
        return amx_load(&tiles, in->tile, &memory);
    case AMX_TILESTORED:
        return amx_store(&tiles, in->tile, &memory);
    case AMX_TDP:
        return amx_dot(&tiles, in->dot, in->tile, in->src1, in->src2);
    }
    return AMX_UD;
}

/* What the kernel would do with this signal. It does not ignore one that an instruction has raised: SIG_IGN is then SIG_DFL. */
static void deliver(int number, const struct sigaction *action, siginfo_t *info, void *context)
{
    if (action->sa_flags & SA_SIGINFO) {
        action->sa_sigaction(number, info, context);
    } else if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN) {
        action->sa_handler(number);
    } else {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, number);
        signal(number, SIG_DFL);
        raise(number);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);       /* the process ends here, if not in raise() */
    }
}

static void deliver_general_protection(void *context)
{
    siginfo_t info = { .si_signo = SIGSEGV, .si_code = SI_KERNEL };
    struct sigaction action;

    if (sigaction(SIGSEGV, NULL, &action) == 0)
        deliver(SIGSEGV, &action, &info, context);
}

/* Executes the instruction at RIP, if it is one of ours, and moves RIP behind it. */
static enum amx_fault step(greg_t *registers)
{
    struct amx_instruction in;

    if (!amx_decode(&in, (const uint8_t *)registers[REG_RIP]))
        return AMX_UD;
    const enum amx_fault fault = execute(&in, registers);
    if (fault == AMX_DONE) {
        registers[REG_RIP] += in.n_bytes;
        atomic_fetch_add_explicit(&n_emulated, 1, memory_order_relaxed);
    }
    return fault;
}

/*
 * The kernel has saved the interrupted code's vector registers and MXCSR, and gives them back when this returns.
 *
 * A signal costs more than most instructions do here (7 us on a Zen 5 virtual machine, where the longest one takes 5), so those that
 * follow are executed too. One that faults is left for a signal of its own.
 */
static void on_sigill(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const int saved_errno = errno;

    /* si_code is positive when an instruction raised the signal, not kill() or raise() */
    const enum amx_fault fault = info->si_code > 0 ? step(registers) : AMX_UD;
    if (fault == AMX_GP) {
        deliver_general_protection(context);
    } else if (fault == AMX_UD) {
        deliver(number, &previous, info, context);
    } else {
        while (step(registers) == AMX_DONE)
            ;
    }
    errno = saved_errno;
}

/* XCR0 has bits for the tiles' configuration and for their data; cpuid leaf 7 for TILE, INT8 and BF16. */
static bool processor_has_tiles(void)
{
    const uint32_t xcr0_tiles = 3u << 17, features = 1u << 24 | 1u << 25 | 1u << 22;
    uint32_t a, b, c, d, high;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
        (d & features) != features)
        return false;
    __asm__("xgetbv" : "=a"(a), "=d"(high) : "c"(0));
    return (a & xcr0_tiles) == xcr0_tiles;
}

bool amx_hardware(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };       /* ARCH_REQ_XCOMP_PERM, Linux 5.16; headers are older here */

    return processor_has_tiles() && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

int amx_emulator_install(void)
{
    struct sigaction current, ours = { .sa_sigaction = on_sigill, .sa_flags = SA_SIGINFO };
    int err = 0;

    if (processor_has_tiles() && !amx_hardware())
        return -EPERM;
    sigemptyset(&ours.sa_mask);
    pthread_mutex_lock(&lock);
    if (sigaction(SIGILL, NULL, &current) != 0) {
        err = -errno;
    } else if (!(current.sa_flags & SA_SIGINFO) || current.sa_sigaction != on_sigill) {
        previous = current;
        if (sigaction(SIGILL, &ours, NULL) != 0)
            err = -errno;
    }
    pthread_mutex_unlock(&lock);
    return err;
}

uint64_t amx_emulator_count(void)
{
    return atomic_load_explicit(&n_emulated, memory_order_relaxed);
}
