/*
 * machine.h - what the tests of the AMX emulator share: an instruction given by its bytes, executed with chosen register values;
 * signals caught and told apart; configurations of the tiles.
 */
#ifndef FOURWAY_TESTS_AMX_MACHINE_H
#define FOURWAY_TESTS_AMX_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Memory below 4 GiB, so that absolute and 32-bit addresses reach it. Code of a test may use MACHINE_DATA on either side by 64 KiB,
 * as data or with its stack pointer: a signal's frame fits below.
 */
enum { MACHINE_DATA = 0x20080000 };

/*
 * To be called first in each test: makes SIGILL and SIGSEGV stop at machine_catch(), installs the emulator before that where the
 * machine has no tiles, and gives the tiles of the calling thread their INIT state.
 */
void machine_start(void);

struct machine_fault {
    int signal, code;           /* si_code */
    ptrdiff_t offset;           /* of RIP, from machine_run()'s first byte */
    bool has_address;           /* si_addr was RIP */
};

/* Calls run(argument). Returns true and fills *fault when that raised SIGILL or SIGSEGV. */
bool machine_catch(struct machine_fault *fault, void (*run)(void *argument), void *argument);

/* Junk in every register that no instruction should use, but 0, which stands for the caller's, in rsp: number 4, as the processor has
 * it. */
void machine_registers(uint64_t registers[16]);

/* Executes instructions, of 64 bytes at most. Returns true and fills *fault when it raised SIGILL or SIGSEGV. */
bool machine_run(struct machine_fault *fault, const uint8_t *code, size_t n_bytes, const uint64_t registers[16]);

/* LDTILECFG's operand. */
struct tile_config {
    uint8_t palette, start_row, reserved_2[14];
    uint16_t colsb[8];
    uint8_t reserved_32[16];
    uint8_t rows[8];
    uint8_t reserved_56[8];
};

/* Palette 1, every tile with these rows and bytes. */
struct tile_config config_of(unsigned rows, unsigned colsb);

/*
 * The intrinsics, for a tile that is no constant. gcc 12 does not tell its optimiser that TILELOADD, LDTILECFG and STTILECFG use the
 * memory behind their pointers: these do.
 */
void tile_configure(const struct tile_config *config);
void tile_read_config(struct tile_config *config);
void tile_load(unsigned tile, const void *base, ptrdiff_t stride);
void tile_stream_load(unsigned tile, const void *base, ptrdiff_t stride);
void tile_store(unsigned tile, void *base, ptrdiff_t stride);
void tile_zero(unsigned tile);

#endif
