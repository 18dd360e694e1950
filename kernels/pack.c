/*
 * pack.c - file rows to panels at load, and panels back to float32 (embedding rows, checks). Layouts: panels.h; file blocks:
 * llama.cpp ggml/src/ggml-common.h. File blocks of 18 and 34 bytes are not aligned: fields are read by memcpy.
 */
#include "kernels/panels.h"

#include <string.h>

#include "kernels/block_internal.h"

static const struct quant_traits traits[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = { .bits = 4, .offset = 8 },
    [DTYPE_Q4_1] = { .bits = 4, .minima = true },
    [DTYPE_Q5_0] = { .bits = 5, .offset = 16 },
    [DTYPE_Q5_1] = { .bits = 5, .minima = true },
    [DTYPE_Q8_0] = { .bits = 8, .offset = 128 },
    [DTYPE_Q4_K] = { .bits = 4, .minima = true },
    [DTYPE_Q5_K] = { .bits = 5, .minima = true },
    [DTYPE_Q6_K] = { .bits = 6, .offset = 32, .halves = true },
};

const struct quant_traits *quant_traits(enum dtype type)
{
    return traits[type].bits ? &traits[type] : NULL;
}

/* Bytes of one panel block and the elements of a row in it. */
static void block_shape(enum dtype type, size_t *bytes, size_t *elements)
{
    *elements = 32;
    switch (type) {
    case DTYPE_F32:  *bytes = sizeof(struct panel_f32);  break;
    case DTYPE_F16:  *bytes = sizeof(struct panel_f16);  break;
    case DTYPE_BF16: *bytes = sizeof(struct panel_bf16); break;
    case DTYPE_Q4_0: *bytes = sizeof(struct panel_q4_0); break;
    case DTYPE_Q4_1: *bytes = sizeof(struct panel_q4_1); break;
    case DTYPE_Q5_0: *bytes = sizeof(struct panel_q5_0); break;
    case DTYPE_Q5_1: *bytes = sizeof(struct panel_q5_1); break;
    case DTYPE_Q8_0: *bytes = sizeof(struct panel_q8_0); break;
    case DTYPE_Q4_K: *bytes = sizeof(struct panel_q4_K); *elements = 256; break;
    case DTYPE_Q5_K: *bytes = sizeof(struct panel_q5_K); *elements = 256; break;
    case DTYPE_Q6_K: *bytes = sizeof(struct panel_q6_K); *elements = 256; break;
    default:         *bytes = 0; break;
    }
}

size_t panel_bytes(enum dtype type, size_t k)
{
    size_t bytes, elements;
    block_shape(type, &bytes, &elements);
    return (k + elements - 1) / elements * bytes;
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

static void pack_fifth_bits(uint64_t qh[8], unsigned row, uint32_t bits)
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
    pack_fifth_bits(p->qh, row, fifth);
    pack_nibbles(p->q, row, b + 6);
    return half_is_finite(p->d[row]);
}

static bool pack_q5_1(struct panel_q5_1 *p, unsigned row, const uint8_t *b)
{
    uint32_t fifth;
    memcpy(&fifth, b + 4, sizeof(fifth));
    p->d[row] = load_half(b);
    p->m[row] = load_half(b + 2);
    pack_fifth_bits(p->qh, row, fifth);
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
        pack_fifth_bits(p->qh[s], row, fifth);
    }
    return half_is_finite(p->d[row]) && half_is_finite(p->dmin[row]);
}

static bool pack_q6_K(struct panel_q6_K *p, unsigned row, const uint8_t *b)
{
    uint8_t q[32];

    p->d[row] = load_half(b + 208);
    for (size_t j = 0; j < 16; j++)
        p->sc[j][row] = (int8_t)b[192 + j];
    for (size_t s = 0; s < 8; s++) {
        const size_t half_block = s / 4, quarter = s % 4;           /* 128 values share 64 + 32 bytes */
        const uint8_t *low = b + 64 * half_block + 32 * (quarter % 2), *high = b + 128 + 32 * half_block;
        for (size_t i = 0; i < 32; i++) {
            const size_t g = i / 4;
            q[i] = low[i] >> 4 * (quarter / 2) & 15;
            p->qh[s][g / 4][4 * row + i % 4] |= (uint8_t)((high[i] >> 2 * quarter & 3) << 2 * (g % 4));
        }
        pack_low_nibbles(p->q[s], row, q);
    }
    return half_is_finite(p->d[row]);
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

/* `n` elements of the row are left, from `b` on; only plain types have blocks that are not full. */
static bool pack_block_row(enum dtype type, void *block, unsigned row, const uint8_t *b, size_t n)
{
    switch (type) {
    case DTYPE_Q4_0: return pack_q4_0(block, row, b);
    case DTYPE_Q4_1: return pack_q4_1(block, row, b);
    case DTYPE_Q5_0: return pack_q5_0(block, row, b);
    case DTYPE_Q5_1: return pack_q5_1(block, row, b);
    case DTYPE_Q8_0: return pack_q8_0(block, row, b);
    case DTYPE_Q4_K: return pack_q4_K(block, row, b);
    case DTYPE_Q5_K: return pack_q5_K(block, row, b);
    case DTYPE_Q6_K: return pack_q6_K(block, row, b);
    case DTYPE_F32:  return pack_f32(block, row, b, n < 32 ? n : 32);
    case DTYPE_F16:  return pack_f16(block, row, b, n < 32 ? n : 32);
    case DTYPE_BF16: return pack_bf16(block, row, b, n < 32 ? n : 32);
    default:         return true;
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
        memset(block, 0, bytes);
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

/* Unpacking. */

static void unpack_nibbles(const uint8_t panel[4][64], unsigned row, uint8_t q[32])
{
    for (size_t n = 0; n < 16; n++) {
        uint8_t byte = panel[n / 4][4 * row + n % 4];
        q[n] = byte & 15;
        q[16 + n] = byte >> 4;
    }
}

static void add_fifth_bits(const uint64_t qh[8], unsigned row, uint8_t q[32])
{
    for (size_t k = 0; k < 32; k++)
        q[k] |= (uint8_t)((qh[k / 4] >> (4 * row + k % 4) & 1) << 4);
}

static void add_high_pairs(const uint8_t qh[2][64], unsigned row, uint8_t q[32])
{
    for (size_t k = 0; k < 32; k++)
        q[k] |= (uint8_t)((qh[k / 16][4 * row + k % 4] >> 2 * (k / 4 % 4) & 3) << 4);
}

void block_unpack_row(enum dtype type, const void *panel, size_t block, unsigned row, struct row_block *out)
{
    const size_t s = block % 8;         /* sub-block of a 256-wide block */

    out->min = 0;
    switch (type) {
    case DTYPE_Q4_0: {
        const struct panel_q4_0 *p = (const struct panel_q4_0 *)panel + block;
        out->scale[0] = half_to_float(p->d[row]);
        unpack_nibbles(p->q, row, out->q);
        break;
    }
    case DTYPE_Q4_1: {
        const struct panel_q4_1 *p = (const struct panel_q4_1 *)panel + block;
        out->scale[0] = half_to_float(p->d[row]);
        out->min = half_to_float(p->m[row]);
        unpack_nibbles(p->q, row, out->q);
        break;
    }
    case DTYPE_Q5_0: {
        const struct panel_q5_0 *p = (const struct panel_q5_0 *)panel + block;
        out->scale[0] = half_to_float(p->d[row]);
        unpack_nibbles(p->q, row, out->q);
        add_fifth_bits(p->qh, row, out->q);
        break;
    }
    case DTYPE_Q5_1: {
        const struct panel_q5_1 *p = (const struct panel_q5_1 *)panel + block;
        out->scale[0] = half_to_float(p->d[row]);
        out->min = half_to_float(p->m[row]);
        unpack_nibbles(p->q, row, out->q);
        add_fifth_bits(p->qh, row, out->q);
        break;
    }
    case DTYPE_Q8_0: {
        const struct panel_q8_0 *p = (const struct panel_q8_0 *)panel + block;
        out->scale[0] = half_to_float(p->d[row]);
        for (size_t k = 0; k < 32; k++)
            out->q[k] = p->q[k / 4][4 * row + k % 4];
        break;
    }
    case DTYPE_Q4_K: {
        const struct panel_q4_K *p = (const struct panel_q4_K *)panel + block / 8;
        out->scale[0] = half_to_float(p->d[row]) * (float)p->sc[s][row];
        out->min = -(half_to_float(p->dmin[row]) * (float)p->mn[s][row]);
        unpack_nibbles(p->q[s], row, out->q);
        break;
    }
    case DTYPE_Q5_K: {
        const struct panel_q5_K *p = (const struct panel_q5_K *)panel + block / 8;
        out->scale[0] = half_to_float(p->d[row]) * (float)p->sc[s][row];
        out->min = -(half_to_float(p->dmin[row]) * (float)p->mn[s][row]);
        unpack_nibbles(p->q[s], row, out->q);
        add_fifth_bits(p->qh[s], row, out->q);
        break;
    }
    case DTYPE_Q6_K: {
        const struct panel_q6_K *p = (const struct panel_q6_K *)panel + block / 8;
        out->scale[0] = half_to_float(p->d[row]) * (float)p->sc[2 * s][row];
        out->scale[1] = half_to_float(p->d[row]) * (float)p->sc[2 * s + 1][row];
        unpack_nibbles(p->q[s], row, out->q);
        add_high_pairs(p->qh[s], row, out->q);
        return;
    }
    default:
        return;
    }
    out->scale[1] = out->scale[0];
}

/* out[i] = the value of k = 32 block + i in row `row`. Products are exact; only adding a minimum rounds. */
static void unpack_values(enum dtype type, const void *panel, size_t block, unsigned row, float out[32])
{
    const struct quant_traits *t = quant_traits(type);
    struct row_block r;

    if (t) {
        block_unpack_row(type, panel, block, row, &r);
        for (size_t i = 0; i < 32; i++)
            out[i] = r.scale[i / 16] * (float)(r.q[i] - t->offset);
        for (size_t i = 0; t->minima && i < 32; i++)
            out[i] += r.min;
    } else if (type == DTYPE_F32) {
        const struct panel_f32 *p = (const struct panel_f32 *)panel + block;
        for (size_t i = 0; i < 32; i++)
            out[i] = p->w[i][row];
    } else if (type == DTYPE_F16) {
        const struct panel_f16 *p = (const struct panel_f16 *)panel + block;
        for (size_t i = 0; i < 32; i++)
            out[i] = half_to_float(p->w[i][row]);
    } else {
        const struct panel_bf16 *p = (const struct panel_bf16 *)panel + block;
        for (size_t i = 0; i < 32; i++)
            out[i] = bf16_to_float(p->w[i / 2][row][i % 2]);
    }
}

void panel_unpack_row(enum dtype type, const void *panel, unsigned row, size_t k, float *out)
{
    float values[32];

    for (size_t done = 0; done < k; done += 32) {
        unpack_values(type, panel, done / 32, row, values);
        memcpy(out + done, values, (k - done < 32 ? k - done : 32) * sizeof(float));
    }
}

void panel_unpack_block(enum dtype type, const void *panel, size_t block, float out[32][16])
{
    float values[32];

    for (unsigned row = 0; row < PANEL_ROWS; row++) {
        unpack_values(type, panel, block, row, values);
        for (size_t i = 0; i < 32; i++)
            out[i][row] = values[i];
    }
}
