/*
 * amx_tile.h - the tile registers of Intel AMX, and what each instruction does to them, as plain functions.
 *
 * Palette 1: eight tiles of 16 rows by 64 bytes. After the Intel SDM, volume 1 chapter 18 and the pages of the instructions in
 * volume 2. A state of zeros is the INIT state: no tile is configured. LDTILECFG makes zeros of all tiles and no other instruction
 * writes right of a tile's colsb bytes or below its rows; so zeros remain there, which is what the SDM has each of them write.
 *
 * The functions touch nothing but the state and the memory that the instruction names; they expect MXCSR at its default and are
 * safe in a signal handler. A memory fault inside one of them leaves the state as the SDM has it: start_row is the row that
 * faulted, the rows before it are done.
 */
#ifndef FOURWAY_TESTS_AMX_AMX_TILE_H
#define FOURWAY_TESTS_AMX_AMX_TILE_H

#include <stdint.h>

enum { AMX_TILES = 8, AMX_ROWS = 16, AMX_COLSB = 64, AMX_CONFIG_BYTES = 64 };

struct amx_tiles {
    uint8_t palette, start_row;
    uint8_t rows[AMX_TILES];
    uint16_t colsb[AMX_TILES];
    uint8_t tile[AMX_TILES][AMX_ROWS][AMX_COLSB];
};

/* Row r lies at segment + ((start + r * stride) & mask); mask has 32 or 64 bits, the width of an address. */
struct amx_memory {
    uint64_t segment, start, stride, mask;
};

/* How an instruction ends: done, or the exception that the processor would raise; then nothing has changed. */
enum amx_fault { AMX_DONE, AMX_UD, AMX_GP };

/*
 * LDTILECFG. AMX_GP for a palette above 1 and, in palette 1, for a reserved byte that is not zero, more than 16 rows or 64 bytes,
 * and a tile with rows but no bytes or bytes but no rows. Palette 0 gives the INIT state whatever the other bytes are.
 */
enum amx_fault amx_load_config(struct amx_tiles *t, const struct amx_memory *memory);
void amx_store_config(const struct amx_tiles *t, const struct amx_memory *memory);
void amx_release(struct amx_tiles *t);

/*
 * TILEZERO, TILELOADD (and TILELOADDT1, whose hint changes no bits), TILESTORED. AMX_UD for a tile that does not exist or is not
 * configured; the last two also where colsb is no multiple of 4, and where start_row is no row of the tile.
 */
enum amx_fault amx_zero(struct amx_tiles *t, unsigned tile);
enum amx_fault amx_load(struct amx_tiles *t, unsigned tile, const struct amx_memory *memory);
enum amx_fault amx_store(struct amx_tiles *t, unsigned tile, const struct amx_memory *memory);

/* The first letter after TDPB is for src1: signed or unsigned bytes. */
enum amx_dot { AMX_TDPBSSD, AMX_TDPBSUD, AMX_TDPBUSD, AMX_TDPBUUD, AMX_TDPBF16PS, AMX_DOT_COUNT };

/*
 * dst[M][N] += src1[M][K] src2[K][N], an element of 4 bytes being four int8 or two bf16 of K. AMX_UD when two of the tiles are the
 * same, when one is not configured, and when the shapes do not fit.
 *
 * TDPB**D: dst.dword[m][n] += sum over k, i of src1.byte[m][4k+i] src2.byte[k][4n+i], modulo 2^32.
 *
 * TDPBF16PS, the definition (docs/design.md 4; SDM, "Operation" of TDPBF16PS):
 *     even = odd = +0
 *     for k = 0 .. src1.colsb/4 - 1:
 *         even = fma(src1.bf16[m][2k],     src2.bf16[k][2n],     even)
 *         odd  = fma(src1.bf16[m][2k + 1], src2.bf16[k][2n + 1], odd)
 *     dst.f32[m][n] = dst.f32[m][n] + (even + odd)
 * Each fma and each addition is rounded once, to nearest even. A subnormal operand is a zero of its sign, and so is a result that
 * is below 2^-126 after rounding to 24 bits. MXCSR is neither read nor written. So a result depends on where K is cut into tiles.
 * The SDM does not say which NaN comes out where there are several: here every NaN result is the indefinite one, 0xffc00000.
 */
enum amx_fault amx_dot(struct amx_tiles *t, enum amx_dot op, unsigned dst, unsigned src1, unsigned src2);

#endif
