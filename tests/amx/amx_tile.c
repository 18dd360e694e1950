#include "tests/amx/amx_tile.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Bytes of LDTILECFG's operand; the others must be zero. */
enum { AT_PALETTE = 0, AT_START_ROW = 1, AT_COLSB = 16, AT_ROWS = 48 };

static uint8_t *row_address(const struct amx_memory *memory, unsigned row)
{
    return (uint8_t *)(uintptr_t)(memory->segment + ((memory->start + row * memory->stride) & memory->mask));
}

static bool is_reserved(size_t byte)
{
    return (byte > AT_START_ROW && byte < AT_COLSB) || (byte >= AT_COLSB + 2 * AMX_TILES && byte < AT_ROWS) ||
           byte >= AT_ROWS + AMX_TILES;
}

enum amx_fault amx_load_config(struct amx_tiles *t, const struct amx_memory *memory)
{
    uint8_t config[AMX_CONFIG_BYTES];
    uint16_t colsb[AMX_TILES];

    memcpy(config, row_address(memory, 0), sizeof(config));
    if (config[AT_PALETTE] == 0) {
        amx_release(t);
        return AMX_DONE;
    }
    if (config[AT_PALETTE] != 1)
        return AMX_GP;
    for (size_t i = 0; i < AMX_CONFIG_BYTES; i++) {
        if (is_reserved(i) && config[i] != 0)
            return AMX_GP;
    }
    memcpy(colsb, config + AT_COLSB, sizeof(colsb));
    for (size_t i = 0; i < AMX_TILES; i++) {
        const unsigned rows = config[AT_ROWS + i];
        if (rows > AMX_ROWS || colsb[i] > AMX_COLSB || (rows == 0) != (colsb[i] == 0))
            return AMX_GP;
    }
    memset(t, 0, sizeof(*t));
    t->palette = config[AT_PALETTE];
    t->start_row = config[AT_START_ROW];
    memcpy(t->colsb, colsb, sizeof(t->colsb));
    memcpy(t->rows, config + AT_ROWS, sizeof(t->rows));
    return AMX_DONE;
}

void amx_store_config(const struct amx_tiles *t, const struct amx_memory *memory)
{
    uint8_t config[AMX_CONFIG_BYTES] = { 0 };

    config[AT_PALETTE] = t->palette;
    config[AT_START_ROW] = t->start_row;
    memcpy(config + AT_COLSB, t->colsb, sizeof(t->colsb));
    memcpy(config + AT_ROWS, t->rows, sizeof(t->rows));
    memcpy(row_address(memory, 0), config, sizeof(config));
}

void amx_release(struct amx_tiles *t)
{
    memset(t, 0, sizeof(*t));
}

static bool is_configured(const struct amx_tiles *t, unsigned tile)
{
    return tile < AMX_TILES && t->rows[tile] > 0;       /* LDTILECFG has seen to it that colsb is then not zero either */
}

static bool can_move(const struct amx_tiles *t, unsigned tile)
{
    return is_configured(t, tile) && t->colsb[tile] % 4 == 0 && t->start_row < t->rows[tile];
}

static void zero_rows_from(struct amx_tiles *t, unsigned tile, unsigned row)
{
    memset(t->tile[tile][row], 0, (AMX_ROWS - row) * sizeof(t->tile[tile][row]));
}

enum amx_fault amx_zero(struct amx_tiles *t, unsigned tile)
{
    if (!is_configured(t, tile))
        return AMX_UD;
    zero_rows_from(t, tile, 0);
    t->start_row = 0;
    return AMX_DONE;
}

enum amx_fault amx_load(struct amx_tiles *t, unsigned tile, const struct amx_memory *memory)
{
    if (!can_move(t, tile))
        return AMX_UD;
    zero_rows_from(t, tile, t->start_row);
    for (unsigned row = t->start_row; row < t->rows[tile]; row++) {
        uint8_t bytes[AMX_COLSB];
        t->start_row = (uint8_t)row;
        memcpy(bytes, row_address(memory, row), t->colsb[tile]);
        memcpy(t->tile[tile][row], bytes, t->colsb[tile]);
    }
    t->start_row = 0;
    return AMX_DONE;
}

enum amx_fault amx_store(struct amx_tiles *t, unsigned tile, const struct amx_memory *memory)
{
    if (!can_move(t, tile))
        return AMX_UD;
    for (unsigned row = t->start_row; row < t->rows[tile]; row++) {
        t->start_row = (uint8_t)row;
        memcpy(row_address(memory, row), t->tile[tile][row], t->colsb[tile]);
    }
    t->start_row = 0;
    return AMX_DONE;
}

/* The loops of the dot products go over all 16 columns, which the compiler can vectorise, and store those that dst has. */

static int16_t extend(uint8_t byte, bool is_signed)
{
    return is_signed ? (int8_t)byte : byte;
}

static void dot_bytes(struct amx_tiles *t, unsigned dst, unsigned src1, unsigned src2, bool signed1, bool signed2)
{
    int16_t b[AMX_ROWS][4][AMX_COLSB / 4];
    const unsigned n_k = t->rows[src2];

    for (unsigned k = 0; k < n_k; k++) {
        for (unsigned i = 0; i < 4; i++) {
            for (unsigned n = 0; n < AMX_COLSB / 4; n++)
                b[k][i][n] = extend(t->tile[src2][k][4 * n + i], signed2);
        }
    }
    for (unsigned m = 0; m < t->rows[dst]; m++) {
        uint32_t sum[AMX_COLSB / 4];
        memcpy(sum, t->tile[dst][m], sizeof(sum));
        for (unsigned k = 0; k < n_k; k++) {
            for (unsigned i = 0; i < 4; i++) {
                const int16_t a = extend(t->tile[src1][m][4 * k + i], signed1);
                for (unsigned n = 0; n < AMX_COLSB / 4; n++)
                    sum[n] += (uint32_t)(a * b[k][i][n]);
            }
        }
        memcpy(t->tile[dst][m], sum, t->colsb[dst]);
    }
}

/* A float's value, with a zero of its sign for a subnormal one. */
static double float_value(uint32_t bits)
{
    float value;

    if ((bits & 0x7f800000) == 0)
        bits &= 0x80000000;
    memcpy(&value, &bits, sizeof(value));
    return (double)value;
}

/*
 * x rounded to float's 24 bits, to nearest even; a zero of its sign where that is below 2^-126. The bound is halfway between 2^-126
 * and the number before it; a tie goes to 2^-126, which is even.
 */
static inline double round_to_float(double x)
{
    const double flushed = fabs(x) < 0x1p-126 - 0x1p-151 ? copysign(0.0, x) : x;
    return (double)(float)flushed;
}

/*
 * fma(a, b, c) of float: the product of two bf16 has 16 bits, so it is exact in double. The sum is exact, or its operands are so far
 * apart (more than 53 bits from the first of one to the last of the other, and neither has more than 24) that the smaller one is
 * less than a sixteenth of half a unit in the last place of the float nearest to the larger: then rounding twice gives what
 * rounding once gives. Two lanes of SSE2 a time, where fmaf() would be a call for each.
 */
static inline double fma_float(double a, double b, double c)
{
    return round_to_float(a * b + c);
}

static void dot_bf16(struct amx_tiles *t, unsigned dst, unsigned src1, unsigned src2)
{
    double b[AMX_ROWS][2][AMX_COLSB / 4];
    const unsigned n_k = t->rows[src2];

    for (unsigned k = 0; k < n_k; k++) {
        for (unsigned n = 0; n < AMX_COLSB / 4; n++) {
            uint32_t pair;
            memcpy(&pair, &t->tile[src2][k][4 * n], sizeof(pair));
            b[k][0][n] = float_value(pair << 16);
            b[k][1][n] = float_value(pair & 0xffff0000);
        }
    }
    for (unsigned m = 0; m < t->rows[dst]; m++) {
        double even[AMX_COLSB / 4] = { 0 }, odd[AMX_COLSB / 4] = { 0 };
        uint32_t out[AMX_COLSB / 4];

        for (unsigned k = 0; k < n_k; k++) {
            uint32_t pair;
            memcpy(&pair, &t->tile[src1][m][4 * k], sizeof(pair));
            const double a_even = float_value(pair << 16), a_odd = float_value(pair & 0xffff0000);
            for (unsigned n = 0; n < AMX_COLSB / 4; n++) {
                even[n] = fma_float(a_even, b[k][0][n], even[n]);
                odd[n] = fma_float(a_odd, b[k][1][n], odd[n]);
            }
        }
        memcpy(out, t->tile[dst][m], sizeof(out));
        for (unsigned n = 0; n < AMX_COLSB / 4; n++) {
            const float sum = (float)round_to_float(float_value(out[n]) + round_to_float(even[n] + odd[n]));
            memcpy(&out[n], &sum, sizeof(sum));
            if (isnan(sum))
                out[n] = 0xffc00000;
        }
        memcpy(t->tile[dst][m], out, t->colsb[dst]);
    }
}

enum amx_fault amx_dot(struct amx_tiles *t, enum amx_dot op, unsigned dst, unsigned src1, unsigned src2)
{
    const unsigned tiles[] = { dst, src1, src2 };

    if (dst == src1 || dst == src2 || src1 == src2)
        return AMX_UD;
    for (size_t i = 0; i < 3; i++) {
        if (!is_configured(t, tiles[i]) || t->colsb[tiles[i]] % 4 != 0)
            return AMX_UD;
    }
    if (t->rows[dst] != t->rows[src1] || t->colsb[dst] != t->colsb[src2] || t->colsb[src1] / 4 != t->rows[src2])
        return AMX_UD;
    if (op == AMX_TDPBF16PS)
        dot_bf16(t, dst, src1, src2);
    else
        dot_bytes(t, dst, src1, src2, op == AMX_TDPBSSD || op == AMX_TDPBSUD, op == AMX_TDPBSSD || op == AMX_TDPBUSD);
    t->start_row = 0;
    return AMX_DONE;
}
