/*
 * matmul.c - y = W x in plain C: the definition that every level is compared with, bit by bit.
 *
 * A row's block is unpacked once and goes through all tokens; y itself holds the accumulators. So the order of the
 * sum of one output is its k order, whatever m is.
 */
#include <math.h>
#include <string.h>
#include <xmmintrin.h>

#include "kernels/block_internal.h"
#include "kernels/kernels_internal.h"

static void clear(const struct matmul_args *a)
{
    for (size_t t = 0; t < a->m; t++)
        memset(a->y + t * a->y_stride, 0, a->n_panels * PANEL_ROWS * sizeof(float));
}

static int32_t dot16(const uint8_t *q, const int8_t *x)
{
    int32_t sum = 0;
    for (size_t i = 0; i < 16; i++)
        sum += q[i] * x[i];
    return sum;
}

static float add_block(float acc, const struct row_block *w, const struct quant_traits *t, const struct q8_block *x)
{
    const int32_t neg_sum[2] = { x->neg_sum_low, x->neg_sum - x->neg_sum_low };
    const int32_t dot[2] = { dot16(w->q, x->q) + t->offset * neg_sum[0], dot16(w->q + 16, x->q + 16) + t->offset * neg_sum[1] };

    for (size_t i = 0; t->halves && i < 2; i++) {
        acc = fmaf(w->scale[i] * x->scale, (float)dot[i], acc);
        acc = t->minima ? fmaf(w->min[i], x->scale * (float)-neg_sum[i], acc) : acc;
    }
    if (t->halves)
        return acc;
    acc = fmaf(w->scale[0] * x->scale, (float)(dot[0] + dot[1]), acc);
    return t->minima ? fmaf(w->min[0], x->scaled_sum, acc) : acc;
}

static void matmul_quantised(const struct matmul_args *a, enum dtype type)
{
    const struct quant_traits *traits = quant_traits(type);
    const size_t bytes = panel_bytes(type, a->k);

    clear(a);
    for (size_t p = 0; p < a->n_panels; p++) {
        const uint8_t *panel = (const uint8_t *)a->w + p * bytes;
        for (size_t b = 0; b < a->k / 32; b++) {
            for (unsigned row = 0; row < PANEL_ROWS; row++) {
                struct row_block w;
                block_unpack_row(type, panel, b, row, &w);
                for (size_t t = 0; t < a->m; t++) {
                    const struct q8_block *x = (const struct q8_block *)((const uint8_t *)a->x + t * a->x_stride) + b;
                    float *y = a->y + t * a->y_stride + PANEL_ROWS * p + row;
                    *y = add_block(*y, &w, traits, x);
                }
            }
        }
    }
}

static void matmul_float(const struct matmul_args *a, enum dtype type)
{
    const size_t bytes = panel_bytes(type, a->k);
    float w[32][PANEL_ROWS];

    clear(a);
    for (size_t p = 0; p < a->n_panels; p++) {
        const uint8_t *panel = (const uint8_t *)a->w + p * bytes;
        for (size_t b = 0; b < a->k / 32; b++) {
            panel_unpack_block(type, panel, b, w);
            for (size_t t = 0; t < a->m; t++) {
                const float *x = (const float *)((const uint8_t *)a->x + t * a->x_stride) + 32 * b;
                float *y = a->y + t * a->y_stride + PANEL_ROWS * p;
                for (size_t row = 0; row < PANEL_ROWS; row++)
                    for (size_t i = 0; i < 32; i++)
                        y[row] = fmaf(w[i][row], x[i], y[row]);
            }
        }
    }
}

/* Not inlined, like sum_bf16_tile(): their arithmetic must stay between two changes of MXCSR. */
static __attribute__((noinline)) void sum_bf16_pairs(const struct matmul_args *a)
{
    const size_t n_blocks = a->k / 32;

    clear(a);
    for (size_t p = 0; p < a->n_panels; p++) {
        const struct panel_bf16 *w = (const struct panel_bf16 *)a->w + p * n_blocks;
        for (size_t t = 0; t < a->m; t++) {
            const bf16 *x = (const bf16 *)((const uint8_t *)a->x + t * a->x_stride);
            for (size_t row = 0; row < PANEL_ROWS; row++) {
                float acc = 0;
                for (size_t pair = 0; pair < a->k / 2; pair++) {
                    const bf16 *even_odd = w[pair / 16].w[pair % 16][row];
                    acc = fmaf(bf16_to_float(even_odd[1]), bf16_to_float(x[2 * pair + 1]), acc);
                    acc = fmaf(bf16_to_float(even_odd[0]), bf16_to_float(x[2 * pair]), acc);
                }
                a->y[t * a->y_stride + PANEL_ROWS * p + row] = acc;
            }
        }
    }
}

/* Block b of a row as bf16. Not inlined: here denormals count, as scales of MXFP4 may be. */
static __attribute__((noinline)) void bf16_weights(enum dtype type, const void *panel, size_t b, unsigned row, bf16 out[32])
{
    const struct quant_traits *t = quant_traits(type);
    struct row_block w;

    if (!t) {
        for (size_t i = 0; i < 32; i++)
            out[i] = ((const struct panel_bf16 *)panel)[b].w[i / 2][row][i % 2];
        return;
    }
    block_unpack_row(type, panel, b, row, &w);
    const int base = prompt_base(t->bits);
    for (size_t i = 0; i < 32; i++) {
        const float scale = w.scale[i / 16], c = fmaf(scale, (float)-(base + t->offset), t->minima ? w.min[i / 16] : 0);
        out[i] = bf16_from_float(fmaf(scale, (float)(base + w.q[i]), c));
    }
}

/* What block b of a panel adds to the outputs y of all tokens. */
static __attribute__((noinline)) void sum_bf16_tile(const struct matmul_args *a, bf16 w[PANEL_ROWS][32], size_t b, float *y)
{
    for (size_t row = 0; row < PANEL_ROWS; row++) {
        for (size_t t = 0; t < a->m; t++) {
            const bf16 *x = (const bf16 *)((const uint8_t *)a->x + t * a->x_stride) + 32 * b;
            float even = 0, odd = 0;
            for (size_t i = 0; i < 32; i += 2) {
                even = fmaf(bf16_to_float(w[row][i]), bf16_to_float(x[i]), even);
                odd = fmaf(bf16_to_float(w[row][i + 1]), bf16_to_float(x[i + 1]), odd);
            }
            y[t * a->y_stride + row] += even + odd;
        }
    }
}

/* VDPBF16PS: the odd element of each pair first, denormal inputs and results are zeros, whatever MXCSR says (Intel SDM). */
static void matmul_bf16(const struct matmul_args *a)
{
    const unsigned csr = _mm_getcsr();

    _mm_setcsr(csr | MXCSR_DAZ_FTZ);
    sum_bf16_pairs(a);
    _mm_setcsr(csr);
}

/*
 * TDPBF16PS, a tile of 32 k after the other: even and odd k apart, then both together, added to the sum so far (Intel SDM). Products
 * and sums are rounded as in float32 and never kept longer, denormals are zeros, and MXCSR is not asked.
 */
static void matmul_prompt(const struct matmul_args *a, enum dtype type)
{
    const unsigned csr = _mm_getcsr();
    const size_t bytes = panel_bytes(type, a->k);
    bf16 w[PANEL_ROWS][32];

    clear(a);
    for (size_t p = 0; p < a->n_panels; p++) {
        for (size_t b = 0; b < a->k / 32; b++) {
            for (unsigned row = 0; row < PANEL_ROWS; row++)
                bf16_weights(type, (const uint8_t *)a->w + p * bytes, b, row, w[row]);
            _mm_setcsr(csr | MXCSR_DAZ_FTZ);
            sum_bf16_tile(a, w, b, a->y + PANEL_ROWS * p);
            _mm_setcsr(csr);
        }
    }
}

/* A function for each type, and tables of them. */
#define MATMUL_PROMPT(type) \
    static void matmul_prompt_##type(const struct matmul_args *a) { matmul_prompt(a, DTYPE_##type); }
#define MATMUL_F32(type) \
    static void matmul_f32_##type(const struct matmul_args *a) { matmul_float(a, DTYPE_##type); }
#define MATMUL(type) \
    static void matmul_##type(const struct matmul_args *a) { matmul_quantised(a, DTYPE_##type); }
#define PROMPT_ENTRY(type) [DTYPE_##type] = matmul_prompt_##type,
#define F32_ENTRY(type) [DTYPE_##type] = matmul_f32_##type,
#define ENTRY(type) [DTYPE_##type] = matmul_##type,

MATMUL_PROMPT(BF16)
QUANTISED_TYPES(MATMUL_PROMPT)
MATMUL_F32(F32)
MATMUL_F32(F16)
MATMUL_F32(BF16)
QUANTISED_TYPES(MATMUL_F32)
QUANTISED_TYPES(MATMUL)

void matmul_scalar_tiles(struct kernels *table)
{
    static const matmul_fn matmul[DTYPE_COUNT] = { PROMPT_ENTRY(BF16) QUANTISED_TYPES(PROMPT_ENTRY) };

    for (enum dtype type = 0; type < DTYPE_COUNT; type++) {
        if (!matmul[type])
            continue;
        table->matmul_prompt[type] = matmul[type];
        table->prompt_activation[type] = ACT_BF16;
    }
    table->matmul[DTYPE_BF16] = matmul_prompt_BF16;
}

void matmul_scalar(struct kernels *table)
{
    static const matmul_fn matmul[DTYPE_COUNT] = {
        [DTYPE_F32] = matmul_f32_F32, [DTYPE_F16] = matmul_f32_F16, [DTYPE_BF16] = matmul_bf16, QUANTISED_TYPES(ENTRY)
    };
    static const matmul_fn matmul_f32[DTYPE_COUNT] = { F32_ENTRY(F32) F32_ENTRY(F16) F32_ENTRY(BF16) QUANTISED_TYPES(F32_ENTRY) };

    memcpy(table->matmul, matmul, sizeof(matmul));
    memcpy(table->matmul_f32, matmul_f32, sizeof(matmul_f32));
}
