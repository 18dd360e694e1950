/* unpack.c - panels back to float32 (embedding rows, checks), and to the integers that the plain C multiplies. Layouts: panels.h. */
#include <math.h>
#include <string.h>

#include "kernels/block_internal.h"
#include "kernels/panels.h"

static const struct quant_traits traits[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = { .bits = 4, .offset = 8 },
    [DTYPE_Q4_1] = { .bits = 4, .minima = true },
    [DTYPE_Q5_0] = { .bits = 5, .offset = 16 },
    [DTYPE_Q5_1] = { .bits = 5, .minima = true },
    [DTYPE_Q8_0] = { .bits = 8, .offset = 128 },
    [DTYPE_IQ4_NL] = { .bits = 8, .offset = 128 },
    [DTYPE_MXFP4] = { .bits = 5, .offset = 16 },
    [DTYPE_Q2_K] = { .bits = 2, .minima = true, .halves = true },
    [DTYPE_Q3_K] = { .bits = 3, .offset = 4, .halves = true },
    [DTYPE_Q4_K] = { .bits = 4, .minima = true },
    [DTYPE_Q5_K] = { .bits = 5, .minima = true },
    [DTYPE_Q6_K] = { .bits = 6, .offset = 32, .halves = true },
    [DTYPE_IQ4_XS] = { .bits = 8, .offset = 128 },
};

const struct quant_traits *quant_traits(enum dtype type)
{
    return traits[type].bits ? &traits[type] : NULL;
}

static void unpack_nibbles(const uint8_t panel[4][64], unsigned row, uint8_t q[32])
{
    for (size_t n = 0; n < 16; n++) {
        uint8_t byte = panel[n / 4][4 * row + n % 4];
        q[n] = byte & 15;
        q[16 + n] = byte >> 4;
    }
}

static void add_bits(const uint64_t qh[8], unsigned row, unsigned shift, uint8_t q[32])
{
    for (size_t k = 0; k < 32; k++)
        q[k] |= (uint8_t)((qh[k / 4] >> (4 * row + k % 4) & 1) << shift);
}

static void add_pairs(const uint8_t pairs[2][64], unsigned row, unsigned shift, uint8_t q[32])
{
    for (size_t k = 0; k < 32; k++)
        q[k] |= (uint8_t)((pairs[k / 16][4 * row + k % 4] >> 2 * (k / 4 % 4) & 3) << shift);
}

static void look_up(const uint8_t table[16], uint8_t q[32])
{
    for (size_t k = 0; k < 32; k++)
        q[k] = table[q[k]];
}

/* 2^(e - 128), the scale of integers twice the values of E2M1; the first two are denormal. */
static float power_of_two(uint8_t e)
{
    return e == 255 ? NAN : ldexpf(1, e - 128);
}

void block_unpack_row(enum dtype type, const void *panel, size_t block, unsigned row, struct row_block *out)
{
    const size_t s = block % 8;         /* sub-block of a 256-wide block */
    float scale = 0, min = 0;

    switch (type) {
    case DTYPE_Q4_0: {
        const struct panel_q4_0 *p = (const struct panel_q4_0 *)panel + block;
        scale = half_to_float(p->d[row]);
        unpack_nibbles(p->q, row, out->q);
        break;
    }
    case DTYPE_Q4_1: {
        const struct panel_q4_1 *p = (const struct panel_q4_1 *)panel + block;
        scale = half_to_float(p->d[row]);
        min = half_to_float(p->m[row]);
        unpack_nibbles(p->q, row, out->q);
        break;
    }
    case DTYPE_Q5_0: {
        const struct panel_q5_0 *p = (const struct panel_q5_0 *)panel + block;
        scale = half_to_float(p->d[row]);
        unpack_nibbles(p->q, row, out->q);
        add_bits(p->qh, row, 4, out->q);
        break;
    }
    case DTYPE_Q5_1: {
        const struct panel_q5_1 *p = (const struct panel_q5_1 *)panel + block;
        scale = half_to_float(p->d[row]);
        min = half_to_float(p->m[row]);
        unpack_nibbles(p->q, row, out->q);
        add_bits(p->qh, row, 4, out->q);
        break;
    }
    case DTYPE_Q8_0: {
        const struct panel_q8_0 *p = (const struct panel_q8_0 *)panel + block;
        scale = half_to_float(p->d[row]);
        for (size_t k = 0; k < 32; k++)
            out->q[k] = p->q[k / 4][4 * row + k % 4];
        break;
    }
    case DTYPE_IQ4_NL: {
        const struct panel_iq4_nl *p = (const struct panel_iq4_nl *)panel + block;
        scale = half_to_float(p->d[row]);
        unpack_nibbles(p->q, row, out->q);
        look_up(quants_nl, out->q);
        break;
    }
    case DTYPE_MXFP4: {
        const struct panel_mxfp4 *p = (const struct panel_mxfp4 *)panel + block;
        scale = power_of_two(p->e[row]);
        unpack_nibbles(p->q, row, out->q);
        look_up(quants_e2m1, out->q);
        break;
    }
    case DTYPE_Q4_K: {
        const struct panel_q4_K *p = (const struct panel_q4_K *)panel + block / 8;
        scale = half_to_float(p->d[row]) * (float)p->sc[s][row];
        min = -(half_to_float(p->dmin[row]) * (float)p->mn[s][row]);
        unpack_nibbles(p->q[s], row, out->q);
        break;
    }
    case DTYPE_Q5_K: {
        const struct panel_q5_K *p = (const struct panel_q5_K *)panel + block / 8;
        scale = half_to_float(p->d[row]) * (float)p->sc[s][row];
        min = -(half_to_float(p->dmin[row]) * (float)p->mn[s][row]);
        unpack_nibbles(p->q[s], row, out->q);
        add_bits(p->qh[s], row, 4, out->q);
        break;
    }
    case DTYPE_IQ4_XS: {
        const struct panel_iq4_xs *p = (const struct panel_iq4_xs *)panel + block / 8;
        scale = half_to_float(p->d[row]) * (float)p->sc[s][row];
        unpack_nibbles(p->q[s], row, out->q);
        look_up(quants_nl, out->q);
        break;
    }
    case DTYPE_Q2_K: {
        const struct panel_q2_K *p = (const struct panel_q2_K *)panel + block / 8;
        for (size_t i = 0; i < 2; i++) {
            const uint8_t both = p->sc[2 * s + i][row];
            out->scale[i] = half_to_float(p->d[row]) * (float)(both & 15);
            out->min[i] = -(half_to_float(p->dmin[row]) * (float)(both >> 4));
        }
        memset(out->q, 0, sizeof(out->q));
        add_pairs(p->q[s], row, 0, out->q);
        return;
    }
    case DTYPE_Q3_K: {
        const struct panel_q3_K *p = (const struct panel_q3_K *)panel + block / 8;
        for (size_t i = 0; i < 2; i++)
            out->scale[i] = half_to_float(p->d[row]) * (float)p->sc[2 * s + i][row];
        memset(out->q, 0, sizeof(out->q));
        add_pairs(p->q[s], row, 0, out->q);
        add_bits(p->qh[s], row, 2, out->q);
        return;
    }
    case DTYPE_Q6_K: {
        const struct panel_q6_K *p = (const struct panel_q6_K *)panel + block / 8;
        for (size_t i = 0; i < 2; i++)
            out->scale[i] = half_to_float(p->d[row]) * (float)p->sc[2 * s + i][row];
        unpack_nibbles(p->q[s], row, out->q);
        add_pairs(p->qh[s], row, 4, out->q);
        return;
    }
    default:
        break;
    }
    out->scale[0] = out->scale[1] = scale;
    out->min[0] = out->min[1] = min;
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
            out[i] += r.min[i / 16];
    } else if (type == DTYPE_F8_E4M3) {
        const struct panel_f8_e4m3 *p = (const struct panel_f8_e4m3 *)panel + block / 4;
        for (size_t i = 0; i < 32; i++)
            out[i] = p->d[row] * (0x1p-8f * e4m3_to_float(p->q[8 * (block % 4) + i / 4][panel_f8_place(i, row)]));
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
