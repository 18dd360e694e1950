/*
 * amx_decode.h - one tile instruction, from its bytes. After the Intel SDM, volume 2: chapter 2 for prefixes, VEX, ModRM and SIB, and
 * the pages of the instructions.
 */
#ifndef FOURWAY_TESTS_AMX_AMX_DECODE_H
#define FOURWAY_TESTS_AMX_AMX_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/amx/amx_tile.h"

enum amx_kind {
    AMX_LDTILECFG,
    AMX_STTILECFG,
    AMX_TILERELEASE,
    AMX_TILEZERO,
    AMX_TILELOADD,      /* and TILELOADDT1 */
    AMX_TILESTORED,
    AMX_TDP,
};

enum { AMX_NO_REGISTER = 16, AMX_RIP = 17 };    /* beside the processor's numbers of rax (0) to r15 */

enum amx_segment { AMX_FLAT, AMX_FS, AMX_GS };

struct amx_instruction {
    enum amx_kind kind;
    unsigned n_bytes;           /* with its prefixes */
    unsigned tile;              /* TILE*: the tile; TDP: the destination. May be 8 to 15, which no palette has */
    enum amx_dot dot;           /* TDP: which one, and its sources */
    unsigned src1, src2;

    /* memory: segment + base + (index << scale) + displacement, where TILE* have rows (index << scale) bytes apart */
    enum amx_segment segment;
    bool address32;             /* prefix 0x67: registers and sums have 32 bits */
    unsigned base, index, scale;
    int32_t displacement;
};

/*
 * false when `code` is no tile instruction, or one that the processor refuses for its encoding alone. Reads no byte that a processor
 * would not have to read.
 */
bool amx_decode(struct amx_instruction *in, const uint8_t *code);

#endif
