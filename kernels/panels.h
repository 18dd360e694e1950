/*
 * panels.h - how weights and activations lie in memory when they are multiplied.
 *
 * A panel is 16 output rows of a weight matrix, interleaved so that one vector lane holds one row. It is
 * a sequence of k / 32 (or k / 256) panel blocks, scales first. Quants stand in groups of 4 k a row,
 *     q[group][row][4]        (64 bytes a group: one vector register)
 * which is the operand of VPDPBUSD and, unpacked to bytes, the B tile of AMX. All quants are unsigned; their offset
 * (8, 16, 32, 128) is taken from the dot with the activations' negated sums, or at amx from the unpacked quants, for
 * TDPBSSD: exact integer arithmetic, either way. Values as in llama.cpp, ggml/src/ggml-common.h.
 *
 * Nibbles: byte 64 j + 4 row + i, j = 0..3 of a 32-wide block holds k = 4 j + i in its low and
 * k = 16 + 4 j + i in its high half, so that one mask and one shift unpack groups j and j + 4.
 * Fifth bits: bit (4 row + i) of the 64-bit little-endian word g belongs to group g, k = 4 g + i.
 * Six-bit quants: high pairs of group g stand in byte 64 (g / 4) + 4 row + i, shifted by 2 (g % 4).
 *
 * Rows that pad a matrix to whole panels have zero scales. k is padded with zeros to 32 in the plain types.
 */
#ifndef FOURWAY_KERNELS_PANELS_H
#define FOURWAY_KERNELS_PANELS_H

#include <stddef.h>
#include <stdint.h>

#include "common/dtype.h"

enum { PANEL_ROWS = 16 };

struct panel_q4_0 { half d[16]; uint8_t q[4][64]; };                                /* 288 = 16 x 18 bytes */
struct panel_q4_1 { half d[16], m[16]; uint8_t q[4][64]; };                         /* 320 = 16 x 20 */
struct panel_q5_0 { half d[16]; uint64_t qh[8]; uint8_t q[4][64]; };                /* 352 = 16 x 22 */
struct panel_q5_1 { half d[16], m[16]; uint64_t qh[8]; uint8_t q[4][64]; };         /* 384 = 16 x 24 */
struct panel_q8_0 { half d[16]; uint8_t q[8][64]; };                                /* 544 = 16 x 34; q + 128 */

/* 256-wide: scale of sub-block s is (float)d * (float)sc[s], its minimum -((float)dmin * (float)mn[s]). */
struct panel_q4_K { half d[16], dmin[16]; uint8_t sc[8][16], mn[8][16]; uint8_t q[8][4][64]; };     /* 2368 = 16 x 148 */
struct panel_q5_K { half d[16], dmin[16]; uint8_t sc[8][16], mn[8][16];
                    uint64_t qh[8][8]; uint8_t q[8][4][64]; };                                      /* 2880 = 16 x 180 */
struct panel_q6_K { half d[16]; int8_t sc[16][16]; uint8_t q[8][4][64]; uint8_t qh[8][2][64]; };    /* 3360 = 16 x 210; q + 32 */

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
    int32_t neg_sum_low;    /* -(sum of q[0..15]), for 16-wide scales */
    int8_t q[32];
};

/* Bytes of one panel of `type` with k inputs. k is a multiple of the type's block (any k for plain types). */
size_t panel_bytes(enum dtype type, size_t k);

/*
 * Pack 16 file rows of k elements into one panel. rows[i] = NULL gives a padding row.
 * Returns the rows, as bits 0..15, that hold a scale or minimum (in a plain type, a value) that is not finite; all rows are packed all
 * the same.
 */
unsigned panel_pack(enum dtype type, void *panel, const void *const rows[16], size_t k);

/* out[k] = the float32 values of row `row` of the panel; exact, as the format defines them. */
void panel_unpack_row(enum dtype type, const void *panel, unsigned row, size_t k, float *out);

/* out[32][16] = the float32 values of k = 32 block .. 32 block + 31 of all 16 rows. */
void panel_unpack_block(enum dtype type, const void *panel, size_t block, float out[32][16]);

#endif
