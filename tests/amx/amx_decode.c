#include "tests/amx/amx_decode.h"

#include <string.h>

enum { MAX_PREFIXES = 10 };     /* an instruction has at most 15 bytes, and these have 5 without prefixes */

/* VEX.pp, which stands for a prefix. */
enum { PP_NONE, PP_66, PP_F3, PP_F2 };

enum { MODRM_REGISTER = 3, RM_SIB = 4, RM_RIP = 5, SIB_NO_INDEX = 4, SIB_NO_BASE = 5 };

/* Segment overrides other than fs and gs mean nothing in 64-bit mode. Of several the last counts. */
static const uint8_t *take_prefixes(struct amx_instruction *in, const uint8_t *at)
{
    for (unsigned i = 0; i < MAX_PREFIXES; i++, at++) {
        switch (*at) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            break;
        case 0x64:
            in->segment = AMX_FS;
            break;
        case 0x65:
            in->segment = AMX_GS;
            break;
        case 0x67:
            in->address32 = true;
            break;
        default:
            return at;
        }
    }
    return at;
}

/* Takes SIB and displacement behind a ModRM with a memory operand. b, x: the registers' fourth bits, from VEX. */
static const uint8_t *take_memory(struct amx_instruction *in, const uint8_t *at, unsigned modrm, unsigned b, unsigned x)
{
    const unsigned mod = modrm >> 6, rm = modrm & 7;
    unsigned displacement_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;

    in->index = AMX_NO_REGISTER;
    in->base = rm | b;
    if (rm == RM_SIB) {
        const unsigned sib = *at++, index = (sib >> 3 & 7) | x;
        in->base = (sib & 7) | b;
        in->scale = sib >> 6;
        if (index != SIB_NO_INDEX)
            in->index = index;
        if ((sib & 7) == SIB_NO_BASE && mod == 0) {
            in->base = AMX_NO_REGISTER;
            displacement_bytes = 4;
        }
    } else if (rm == RM_RIP && mod == 0) {
        in->base = AMX_RIP;
        displacement_bytes = 4;
    }
    if (displacement_bytes == 1)
        in->displacement = (int8_t)*at;
    else if (displacement_bytes == 4)
        memcpy(&in->displacement, at, sizeof(in->displacement));
    return at + displacement_bytes;
}

/* The instruction of opcode, VEX.pp and kind of operand; false when there is none. */
static bool find(struct amx_instruction *in, unsigned opcode, unsigned pp, unsigned modrm)
{
    static const enum amx_dot bytes[] = { [PP_NONE] = AMX_TDPBUUD, [PP_66] = AMX_TDPBUSD, [PP_F3] = AMX_TDPBSUD, [PP_F2] = AMX_TDPBSSD };
    const bool is_memory = modrm >> 6 != MODRM_REGISTER;
    const unsigned reg = modrm >> 3 & 7, rm = modrm & 7;

    if (opcode == 0x49 && is_memory && reg == 0 && (pp == PP_NONE || pp == PP_66)) {
        in->kind = pp == PP_NONE ? AMX_LDTILECFG : AMX_STTILECFG;
    } else if (opcode == 0x49 && modrm == 0xc0 && pp == PP_NONE) {
        in->kind = AMX_TILERELEASE;
    } else if (opcode == 0x49 && !is_memory && rm == 0 && pp == PP_F2) {
        in->kind = AMX_TILEZERO;
    } else if (opcode == 0x4b && is_memory && rm == RM_SIB && pp != PP_NONE) {
        in->kind = pp == PP_F3 ? AMX_TILESTORED : AMX_TILELOADD;
    } else if (opcode == 0x5e && !is_memory) {
        in->kind = AMX_TDP;
        in->dot = bytes[pp];
    } else if (opcode == 0x5c && !is_memory && pp == PP_F3) {
        in->kind = AMX_TDP;
        in->dot = AMX_TDPBF16PS;
    } else {
        return false;
    }
    return true;
}

bool amx_decode(struct amx_instruction *in, const uint8_t *code)
{
    *in = (struct amx_instruction){ .base = AMX_NO_REGISTER, .index = AMX_NO_REGISTER };

    /* VEX in three bytes: 0xc4; not R, not X, not B, the map 0F38 in five bits; W, not vvvv, L, pp. W and L are 0 here. */
    const uint8_t *at = take_prefixes(in, code);
    if (at[0] != 0xc4 || (at[1] & 0x1f) != 2 || (at[2] & 0x84) != 0)
        return false;
    const unsigned r = at[1] & 0x80 ? 0 : 8, x = at[1] & 0x40 ? 0 : 8, b = at[1] & 0x20 ? 0 : 8;
    const unsigned vvvv = ~at[2] >> 3 & 15, pp = at[2] & 3, modrm = at[4];

    if (!find(in, at[3], pp, modrm) || (in->kind != AMX_TDP && vvvv != 0))
        return false;
    in->tile = (modrm >> 3 & 7) | r;
    in->src1 = (modrm & 7) | b;
    in->src2 = vvvv;
    at += 5;
    if (modrm >> 6 != MODRM_REGISTER)
        at = take_memory(in, at, modrm, b, x);
    in->n_bytes = (unsigned)(at - code);
    return true;
}
