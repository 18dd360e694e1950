/*
 * amx_forms.h - tile instructions with every register and every form of memory operand, as the assembler encodes them: the emulator's
 * decoder is tested against these bytes and not against an encoder by the same hand.
 */
#ifndef FOURWAY_TESTS_AMX_AMX_FORMS_H
#define FOURWAY_TESTS_AMX_AMX_FORMS_H

#include <stddef.h>
#include <stdint.h>

#include "tests/amx/amx_tile.h"

enum { NO_BASE = 16, NO_INDEX = 4, FORM_TILE = 3, FORM_ABSOLUTE = 0x20080000 };

/* 32 bytes, as amx_forms.c lays them out. */
struct amx_form {
    uint8_t n_bytes;
    uint8_t base, index, scale;     /* numbers of registers and the logarithm of the scale; TDP: destination, src1, src2 */
    int32_t displacement;           /* FORM_ABSOLUTE without a base */
    uint8_t code[24];
};

struct amx_forms {
    const struct amx_form *form;
    size_t n;
};

/* Memory operands: 16 bases, 15 indices and none, 4 scales, displacements of 0, 1 and 4 bytes; without a base the last. */
struct amx_forms forms_tileloadd(void);         /* of tile FORM_TILE, like the next two */
struct amx_forms forms_tileloaddt1(void);
struct amx_forms forms_tilestored(void);
struct amx_forms forms_ldtilecfg(void);
struct amx_forms forms_sttilecfg(void);

struct amx_forms forms_tilezero(void);          /* of tiles 0 to 7 */

/* The 336 triples of different tiles; the assembler refuses the others. */
struct amx_forms forms_tdpbssd(void);
struct amx_forms forms_tdpbsud(void);
struct amx_forms forms_tdpbusd(void);
struct amx_forms forms_tdpbuud(void);
struct amx_forms forms_tdpbf16ps(void);
struct amx_forms forms_dot(enum amx_dot op);    /* one of these five */

#endif
