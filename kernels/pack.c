/*
 * pack.c - file rows to panels at load; unpack.c is the way back. Layouts: panels.h; file blocks: llama.cpp ggml/src/ggml-common.h.
 * File blocks of 17, 18 and 34 bytes are not aligned: fields are read by memcpy.
 */
#include "kernels/panels.h"

#include <math.h>
#include <string.h>

/* Bytes of one panel block and the elements of a row in it. */
static void block_shape(enum dtype type, size_t *bytes, size_t *elements)
{
    static const size_t block_bytes[DTYPE_COUNT] = {
        [DTYPE_F32] = sizeof(struct panel_f32), [DTYPE_F16] = sizeof(struct panel_f16), [DTYPE_BF16] = sizeof(struct panel_bf16),
        [DTYPE_Q4_0] = sizeof(struct panel_q4_0), [DTYPE_Q4_1] = sizeof(struct panel_q4_1), [DTYPE_Q5_0] = sizeof(struct panel_q5_0),
        [DTYPE_Q5_1] = sizeof(struct panel_q5_1), [DTYPE_Q8_0] = sizeof(struct panel_q8_0), [DTYPE_Q2_K] = sizeof(struct panel_q2_K),
        [DTYPE_Q3_K] = sizeof(struct panel_q3_K), [DTYPE_Q4_K] = sizeof(struct panel_q4_K), [DTYPE_Q5_K] = sizeof(struct panel_q5_K),
        [DTYPE_Q6_K] = sizeof(struct panel_q6_K), [DTYPE_IQ4_NL] = sizeof(struct panel_iq4_nl),
        [DTYPE_IQ4_XS] = sizeof(struct panel_iq4_xs), [DTYPE_MXFP4] = sizeof(struct panel_mxfp4),
        [DTYPE_F8_E4M3] = sizeof(struct panel_f8_e4m3),
    };

    *bytes = block_bytes[type];
    *elements = dtype_info(type)->block == 256 ? 256 : type == DTYPE_F8_E4M3 ? 128 : 32;
}

size_t panel_bytes(enum dtype type, size_t k)
{
    size_t bytes, elements;
    block_shape(type, &bytes, &elements);
    const size_t absent = type == DTYPE_F8_E4M3 ? (128 - k % 128) % 128 * PANEL_ROWS : 0;       /* codes of the last block */
    return (k + elements - 1) / elements * bytes - absent;
}

/* Packing. Each function writes one row of one panel block, which is zero before, and returns whether all of its scales and
 * minima (of a plain type: its values) are finite. */

static half load_half(const uint8_t *p)
{
    half h;
    memcpy(&h, p, sizeof(h));
    return h;
}

/* The nibbles of the 32-wide types lie in the file as in the panel: byte n holds k = n and k = 16 + n. */
static void pack_nibbles(uint8_t q[4][64], unsigned row, const uint8_t *file)
{
    for (size_t j = 0; j < 4; j++)
        memcpy(q[j] + 4 * row, file + 4 * j, 4);
}

/* Bit k of `bits` is that of k. */
static void pack_bits(uint64_t qh[8], unsigned row, uint32_t bits)
{
    for (size_t g = 0; g < 8; g++)
        qh[g] |= (uint64_t)(bits >> 4 * g & 15) << 4 * row;
}

/* q[32] of any values up to 15, where the file has them in another order (K-quants). */
static void pack_low_nibbles(uint8_t panel[4][64], unsigned row, const uint8_t q[32])
{
    for (size_t n = 0; n < 16; n++)
        panel[n / 4][4 * row + n % 4] = (uint8_t)(q[n] | q[16 + n] << 4);
}

/* v[32] of values up to 3. */
static void pack_pairs(uint8_t panel[2][64], unsigned row, const uint8_t v[32])
{
    for (size_t n = 0; n < 32; n++)
        panel[n / 16][4 * row + n % 4] |= (uint8_t)(v[n] << 2 * (n / 4 % 4));
}

static bool pack_q4_0(struct panel_q4_0 *p, unsigned row, const uint8_t *b)
{
    p->d[row] = load_half(b);
    pack_nibbles(p->q, row, b + 2);
    return half_is_finite(p->d[row]);
}

static bool pack_q4_1(struct panel_q4_1 *p, unsigned row, const uint8_t *b)
{
    p->d[row] = load_half(b);
    p->m[row] = load_half(b + 2);
    pack_nibbles(p->q, row, b + 4);
    return half_is_finite(p->d[row]) && half_is_finite(p->m[row]);
}

static bool pack_q5_0(struct panel_q5_0 *p, unsigned row, const uint8_t *b)
{
    uint32_t fifth;
    memcpy(&fifth, b + 2, sizeof(fifth));
    p->d[row] = load_half(b);
    pack_bits(p->qh, row, fifth);
    pack_nibbles(p->q, row, b + 6);
    return half_is_finite(p->d[row]);
}

static bool pack_q5_1(struct panel_q5_1 *p, unsigned row, const uint8_t *b)
{
    uint32_t fifth;
    memcpy(&fifth, b + 4, sizeof(fifth));
    p->d[row] = load_half(b);
    p->m[row] = load_half(b + 2);
    pack_bits(p->qh, row, fifth);
    pack_nibbles(p->q, row, b + 8);
    return half_is_finite(p->d[row]) && half_is_finite(p->m[row]);
}

static bool pack_q8_0(struct panel_q8_0 *p, unsigned row, const uint8_t *b)
{
    p->d[row] = load_half(b);
    for (size_t i = 0; i < 32; i++)
        p->q[i / 4][4 * row + i % 4] = b[2 + i] ^ 0x80;
    return half_is_finite(p->d[row]);
}

static bool pack_iq4_nl(struct panel_iq4_nl *p, unsigned row, const uint8_t *b)
{
    p->d[row] = load_half(b);
    pack_nibbles(p->q, row, b + 2);
    return half_is_finite(p->d[row]);
}

static bool pack_mxfp4(struct panel_mxfp4 *p, unsigned row, const uint8_t *b)
{
    p->e[row] = b[0];
    pack_nibbles(p->q, row, b + 1);
    return b[0] != 255;
}

/* Eight pairs of 6-bit sub-scale and minimum in 12 bytes. */
static void unpack_scales_k(const uint8_t c[12], uint8_t sc[8], uint8_t mn[8])
{
    for (size_t j = 0; j < 4; j++) {
        sc[j] = c[j] & 63;
        mn[j] = c[j + 4] & 63;
        sc[j + 4] = (uint8_t)((c[j + 8] & 15) | c[j] >> 6 << 4);
        mn[j + 4] = (uint8_t)(c[j + 8] >> 4 | c[j + 4] >> 6 << 4);
    }
}

static bool pack_q4_K(struct panel_q4_K *p, unsigned row, const uint8_t *b)
{
    uint8_t sc[8], mn[8], q[32];

    p->d[row] = load_half(b);
    p->dmin[row] = load_half(b + 2);
    unpack_scales_k(b + 4, sc, mn);
    for (size_t s = 0; s < 8; s++) {
        p->sc[s][row] = sc[s];
        p->mn[s][row] = mn[s];
        for (size_t i = 0; i < 32; i++)
            q[i] = b[16 + 32 * (s / 2) + i] >> 4 * (s % 2) & 15;
        pack_low_nibbles(p->q[s], row, q);
    }
    return half_is_finite(p->d[row]) && half_is_finite(p->dmin[row]);
}

static bool pack_q5_K(struct panel_q5_K *p, unsigned row, const uint8_t *b)
{
    uint8_t sc[8], mn[8], q[32];

    p->d[row] = load_half(b);
    p->dmin[row] = load_half(b + 2);
    unpack_scales_k(b + 4, sc, mn);
    for (size_t s = 0; s < 8; s++) {
        uint32_t fifth = 0;
        p->sc[s][row] = sc[s];
        p->mn[s][row] = mn[s];
        for (size_t i = 0; i < 32; i++) {
            q[i] = b[48 + 32 * (s / 2) + i] >> 4 * (s % 2) & 15;
            fifth |= (uint32_t)(b[16 + i] >> s & 1) << i;
        }
        pack_low_nibbles(p->q[s], row, q);
        pack_bits(p->qh[s], row, fifth);
    }
    return half_is_finite(p->d[row]) && half_is_finite(p->dmin[row]);
}

static bool pack_q6_K(struct panel_q6_K *p, unsigned row, const uint8_t *b)
{
    uint8_t q[32], pairs[32];

    p->d[row] = load_half(b + 208);
    for (size_t j = 0; j < 16; j++)
        p->sc[j][row] = (int8_t)b[192 + j];
    for (size_t s = 0; s < 8; s++) {
        const size_t half_block = s / 4, quarter = s % 4;           /* 128 values share 64 + 32 bytes */
        const uint8_t *low = b + 64 * half_block + 32 * (quarter % 2), *high = b + 128 + 32 * half_block;
        for (size_t i = 0; i < 32; i++) {
            q[i] = low[i] >> 4 * (quarter / 2) & 15;
            pairs[i] = high[i] >> 2 * quarter & 3;
        }
        pack_low_nibbles(p->q[s], row, q);
        pack_pairs(p->qh[s], row, pairs);
    }
    return half_is_finite(p->d[row]);
}

/* The lowest pairs of Q2_K and Q3_K: 32 bytes for 128 values. */
static void pack_low_pairs(uint8_t q[8][2][64], unsigned row, const uint8_t *file)
{
    uint8_t pairs[32];

    for (size_t s = 0; s < 8; s++) {
        for (size_t i = 0; i < 32; i++)
            pairs[i] = file[32 * (s / 4) + i] >> 2 * (s % 4) & 3;
        pack_pairs(q[s], row, pairs);
    }
}

static bool pack_q2_K(struct panel_q2_K *p, unsigned row, const uint8_t *b)
{
    p->d[row] = load_half(b + 80);
    p->dmin[row] = load_half(b + 82);
    for (size_t j = 0; j < 16; j++)
        p->sc[j][row] = b[j];
    pack_low_pairs(p->q, row, b + 16);
    return half_is_finite(p->d[row]) && half_is_finite(p->dmin[row]);
}

static bool pack_q3_K(struct panel_q3_K *p, unsigned row, const uint8_t *b)
{
    p->d[row] = load_half(b + 108);
    for (size_t j = 0; j < 16; j++) {
        const int low = b[96 + j % 8] >> 4 * (j / 8) & 15, high = b[104 + j % 4] >> 2 * (j / 4) & 3;
        p->sc[j][row] = (int8_t)(low + 16 * high - 32);
    }
    pack_low_pairs(p->q, row, b + 32);
    for (size_t s = 0; s < 8; s++) {
        uint32_t third = 0;
        for (size_t i = 0; i < 32; i++)
            third |= (uint32_t)(b[i] >> s & 1) << i;
        pack_bits(p->qh[s], row, third);
    }
    return half_is_finite(p->d[row]);
}

static bool pack_iq4_xs(struct panel_iq4_xs *p, unsigned row, const uint8_t *b)
{
    p->d[row] = load_half(b);
    for (size_t s = 0; s < 8; s++) {
        const int low = b[4 + s / 2] >> 4 * (s % 2) & 15, high = b[2 + s / 4] >> 2 * (s % 4) & 3;
        p->sc[s][row] = (int8_t)(low + 16 * high - 32);
        pack_nibbles(p->q[s], row, b + 8 + 16 * s);
    }
    return half_is_finite(p->d[row]);
}

/* Up to 4 file blocks, whose scale is one. Whatever is wrong with them shows in the product: it is NaN. */
static bool pack_f8_e4m3(struct panel_f8_e4m3 *p, unsigned row, const uint8_t *b, size_t n)
{
    bool good = true;
    float scale;

    for (size_t block = 0; block < n / 32; block++) {
        const uint8_t *at = b + 36 * block;
        good &= !memcmp(at, b, sizeof(scale));
        for (size_t i = 0; i < 32; i++) {
            p->q[8 * block + i / 4][panel_f8_place(i, row)] = at[4 + i];
            good &= !e4m3_is_nan(at[4 + i]);
        }
    }
    memcpy(&scale, b, sizeof(scale));
    good &= isfinite(0x1p8f * scale);
    p->d[row] = good ? 0x1p8f * scale : NAN;
    return good;
}

static bool pack_f32(struct panel_f32 *p, unsigned row, const uint8_t *b, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, b + 4 * i, sizeof(bits));
        memcpy(&p->w[i][row], &bits, sizeof(bits));
        finite &= (bits & 0x7f800000) != 0x7f800000;
    }
    return finite;
}

static bool pack_f16(struct panel_f16 *p, unsigned row, const uint8_t *b, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        p->w[i][row] = load_half(b + 2 * i);
        finite &= half_is_finite(p->w[i][row]);
    }
    return finite;
}

static bool pack_bf16(struct panel_bf16 *p, unsigned row, const uint8_t *b, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        bf16 w = load_half(b + 2 * i);
        p->w[i / 2][row][i % 2] = w;
        finite &= (w & 0x7f80) != 0x7f80;
    }
    return finite;
}

/* `n` elements of the row are left, from `b` on; only plain types and F8_E4M3 have blocks that are not full. */
static bool pack_block_row(enum dtype type, void *block, unsigned row, const uint8_t *b, size_t n)
{
    switch (type) {
    case DTYPE_Q4_0:   return pack_q4_0(block, row, b);
    case DTYPE_Q4_1:   return pack_q4_1(block, row, b);
    case DTYPE_Q5_0:   return pack_q5_0(block, row, b);
    case DTYPE_Q5_1:   return pack_q5_1(block, row, b);
    case DTYPE_Q8_0:   return pack_q8_0(block, row, b);
    case DTYPE_IQ4_NL: return pack_iq4_nl(block, row, b);
    case DTYPE_MXFP4:  return pack_mxfp4(block, row, b);
    case DTYPE_Q2_K:   return pack_q2_K(block, row, b);
    case DTYPE_Q3_K:   return pack_q3_K(block, row, b);
    case DTYPE_Q4_K:   return pack_q4_K(block, row, b);
    case DTYPE_Q5_K:   return pack_q5_K(block, row, b);
    case DTYPE_Q6_K:   return pack_q6_K(block, row, b);
    case DTYPE_IQ4_XS: return pack_iq4_xs(block, row, b);
    case DTYPE_F8_E4M3: return pack_f8_e4m3(block, row, b, n < 128 ? n : 128);
    case DTYPE_F32:    return pack_f32(block, row, b, n < 32 ? n : 32);
    case DTYPE_F16:    return pack_f16(block, row, b, n < 32 ? n : 32);
    case DTYPE_BF16:   return pack_bf16(block, row, b, n < 32 ? n : 32);
    default:            return true;
    }
}

unsigned panel_pack(enum dtype type, void *panel, const void *const rows[16], size_t k)
{
    const struct dtype_info *file = dtype_info(type);
    size_t bytes, elements;
    unsigned bad = 0;

    block_shape(type, &bytes, &elements);
    const size_t row_bytes = elements / file->block * file->block_bytes;    /* of one panel block, in the file */
    for (size_t done = 0; done < k; done += elements) {
        uint8_t *block = (uint8_t *)panel + done / elements * bytes;
        memset(block, 0, panel_bytes(type, k - done < elements ? k - done : elements));
        for (unsigned row = 0; row < PANEL_ROWS; row++) {
            if (!rows[row])
                continue;
            const uint8_t *b = (const uint8_t *)rows[row] + done / elements * row_bytes;
            if (!pack_block_row(type, block, row, b, k - done))
                bad |= 1u << row;
        }
    }
    return bad;
}
