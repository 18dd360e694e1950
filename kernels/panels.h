/*
 * panels.h - how weights and activations lie in memory when they are multiplied.
 *
 * A panel is 16 output rows of a weight matrix, interleaved so that one vector lane holds one row. It is
 * a sequence of k / 32 (or k / 256) panel blocks, scales first. Quants stand in groups of 4 k a row,
 *     q[group][row][4]        (64 bytes a group: one vector register)
 * which is the operand of VPDPBUSD and, unpacked to bytes, the B tile of AMX. All quants are unsigned; their offset
 * (4, 8, 16, 32, 128) is taken from the dot with the activations' negated sums, or at amx from the unpacked quants, for
 * TDPBSSD: exact integer arithmetic, either way. Values as in llama.cpp, ggml/src/ggml-common.h.
 *
 * Nibbles: byte 64 j + 4 row + i, j = 0..3 of a 32-wide block holds k = 4 j + i in its low and
 * k = 16 + 4 j + i in its high half, so that one mask and one shift unpack groups j and j + 4.
 * Single bits (the fifth, or the third): bit (4 row + i) of the 64-bit little-endian word g belongs to group g, k = 4 g + i.
 * Pairs of bits (the lowest, or those above a nibble): of group g in byte 64 (g / 4) + 4 row + i, shifted by 2 (g % 4).
 * Nibbles of IQ4_NL, IQ4_XS and MXFP4 name quants of a table.
 *
 * Rows that pad a matrix to whole panels are zero bytes, which are zeros in every type. k is padded with zeros to 32 in the plain types.
 */
#ifndef FOURWAY_KERNELS_PANELS_H
#define FOURWAY_KERNELS_PANELS_H

#include <stddef.h>
#include <stdint.h>

#include "common/dtype.h"

enum {
    PANEL_ROWS = 16,
    F8_CHUNK = 128,             /* k with one scale, of F8_E4M3 */
};

struct panel_q4_0 { half d[16]; uint8_t q[4][64]; };                                /* 288 = 16 x 18 bytes */
struct panel_q4_1 { half d[16], m[16]; uint8_t q[4][64]; };                         /* 320 = 16 x 20 */
struct panel_q5_0 { half d[16]; uint64_t qh[8]; uint8_t q[4][64]; };                /* 352 = 16 x 22 */
struct panel_q5_1 { half d[16], m[16]; uint64_t qh[8]; uint8_t q[4][64]; };         /* 384 = 16 x 24 */
struct panel_q8_0 { half d[16]; uint8_t q[8][64]; };                                /* 544 = 16 x 34; q + 128 */

/* Quants named by nibbles; their offset, 128 and 16, is in the table. An MXFP4 scale is 2^(e - 128), for e = 255 NaN. */
struct panel_iq4_nl { half d[16]; uint8_t q[4][64]; };                              /* 288 = 16 x 18 */
struct panel_mxfp4 { uint8_t e[16]; uint8_t q[4][64]; };                            /* 272 = 16 x 17 */
static const uint8_t quants_nl[16] = { 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241 };
static const uint8_t quants_e2m1[16] = { 16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4 };

/* 256-wide: scale of sub-block s is (float)d * (float)sc[s], its minimum -((float)dmin * (float)mn[s]). */
struct panel_q4_K { half d[16], dmin[16]; uint8_t sc[8][16], mn[8][16]; uint8_t q[8][4][64]; };     /* 2368 = 16 x 148 */
struct panel_q5_K { half d[16], dmin[16]; uint8_t sc[8][16], mn[8][16];
                    uint64_t qh[8][8]; uint8_t q[8][4][64]; };                                      /* 2880 = 16 x 180 */
struct panel_q6_K { half d[16]; int8_t sc[16][16]; uint8_t q[8][4][64]; uint8_t qh[8][2][64]; };    /* 3360 = 16 x 210; q + 32 */
struct panel_q3_K { half d[16]; int8_t sc[16][16]; uint8_t q[8][2][64]; uint64_t qh[8][8]; };       /* 1824 = 16 x 114; q + 4 */
struct panel_iq4_xs { half d[16]; int8_t sc[8][16]; uint8_t q[8][4][64]; };                         /* 2208 = 16 x 138 */

/* Scales in the low, minima in the high nibble of sc, as in the file, for 16 k each: bytes of their own would cost a fifth. */
struct panel_q2_K { half d[16], dmin[16]; uint8_t sc[16][16]; uint8_t q[8][2][64]; };               /* 1344 = 16 x 84 */

/*
 * F8_E4M3: codes, 128 k a block (of the last, only its whole 32 k: 64 + 512 bytes for each), as one scale holds for them. Of group g, k =
 * 4 g + 0, 1, 2, 3 stand in bytes 1, 3, 0, 2 of a row's four: each 16 bits become a bf16 of k and one of k + 2, and those of two k side by
 * side the operand of VDPBF16PS. A code stands for 2^-8 of its value, whose exponent in bf16 is 0111 before that of the code, and d is 2^8
 * scale. d is NaN where a code of the row is.
 */
struct panel_f8_e4m3 { float d[16]; uint8_t q[32][64]; };                           /* 2112 = 16 x 132 */

static inline size_t panel_f8_place(size_t k, size_t row)       /* of a code in its group */
{
    return 4 * row + 2 * (k % 2) + !(k & 2);
}

/* Plain types, 32 k a block so that all types have whole blocks. */
struct panel_f32 { float w[32][16]; };
struct panel_f16 { half w[32][16]; };
struct panel_bf16 { bf16 w[16][16][2]; };           /* pairs of k side by side: the operand of VDPBF16PS */

/*
 * Activations for quantised weights: int8 per 32 values.
 *     absmax = largest |x| (as the integer maximum of the absolute bits), scale = absmax / 127,
 *     q = x * (127 / absmax) rounded to nearest even.
 * absmax = 0, or so small that 127 / absmax is infinite: scale 0 and q 0. A non-finite absmax: scale NaN, q 0;
 * the output is then NaN and the sampler reports the request as failed.
 */
struct q8_block {
    float scale;
    float scaled_sum;       /* scale * (float)(sum of q), for minima */
    int32_t neg_sum;        /* -(sum of q[0..31]), for offsets */
    int32_t neg_sum_low;    /* -(sum of q[0..15]), for 16-wide scales and minima */
    int8_t q[32];
};

/* Bytes of one panel of `type` with k inputs. k is a multiple of the type's block (any k for plain types). */
size_t panel_bytes(enum dtype type, size_t k);

/*
 * Pack 16 file rows of k elements into one panel. rows[i] = NULL gives a padding row.
 * Returns the rows, as bits 0..15, that hold a scale or minimum (in a plain type, a value; of F8_E4M3, a code as well) that is not
 * finite, or an F8_E4M3 scale of 2^120 or more, or that changes within its 128; all rows are packed all the same.
 */
unsigned panel_pack(enum dtype type, void *panel, const void *const rows[16], size_t k);

/* out[k] = the float32 values of row `row` of the panel; exact, as the format defines them. */
void panel_unpack_row(enum dtype type, const void *panel, unsigned row, size_t k, float *out);

/* out[32][16] = the float32 values of k = 32 block .. 32 block + 31 of all 16 rows. */
void panel_unpack_block(enum dtype type, const void *panel, size_t block, float out[32][16]);

#endif
