/*
 * amx_emulator.h - runs the tile instructions of Intel AMX on an x86-64 processor that has none. For tests only.
 *
 * Such a processor raises SIGILL at a tile instruction. The handler installed here decodes it, does its work on the tiles of the
 * calling thread (amx_tile.h has the definitions) and goes on behind it. So the program under test is the real one, compiled with
 * -mamx-tile -mamx-int8 -mamx-bf16, byte for byte: LDTILECFG, STTILECFG, TILELOADD, TILELOADDT1, TILESTORED, TILEZERO, TILERELEASE,
 * TDPBSSD, TDPBSUD, TDPBUSD, TDPBUUD and TDPBF16PS, with any registers and any memory operand.
 *
 * Every thread starts with its tiles in the INIT state, whether it was created before or after the handler was installed. (On a
 * processor with tiles Linux hands a new thread its creator's configuration, but no data: a thread configures its own.) A thread must
 * not block SIGILL, or the kernel kills the process.
 *
 * Faults are those of the processor:
 *   #UD  an ordinary SIGILL, for the handler that was there before, else the default action. So is every other illegal instruction.
 *   #GP  a SIGSEGV with si_code SI_KERNEL, for the process's handler of SIGSEGV, else the default action.
 *   #PF  the SIGSEGV of the access itself. Its RIP lies in the emulator; TILECFG.start_row is as the processor leaves it, so a
 *        handler may repair the mapping and return, or siglongjmp() and execute the instruction again.
 * The handlers of #UD and #GP see the RIP of the tile instruction.
 *
 * Not emulated: that a signal handler starts with tiles in the INIT state and leaves those of the interrupted code alone. Here it
 * shares them, and may execute no tile instruction while the emulator is in one.
 */
#ifndef FOURWAY_TESTS_AMX_AMX_EMULATOR_H
#define FOURWAY_TESTS_AMX_AMX_EMULATOR_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether the tile registers of this machine can be used; asks the operating system for the permission, which then holds for the
 * whole process. Tests need no emulator where this is true.
 */
bool amx_hardware(void);

/*
 * Installs the handler where it is not the handler of SIGILL already. cmocka sets its own handlers before each test (and each
 * fixture) and takes them back afterwards: so a test has to call this itself, first. No other thread may run tile instructions
 * meanwhile.
 *
 * Returns 0; a negative errno when the handler could not be set; -EPERM when the processor has tiles and the operating system
 * refuses them: it would execute some of the instructions itself, and the emulator would not see those.
 */
int amx_emulator_install(void);

/* Instructions emulated so far, by all threads: a test of a kernel can make sure that it used tiles. */
uint64_t amx_emulator_count(void);

#endif
