/* matmul_f8.c - y = W x of F8_E4M3 weights in plain C: the definition (kernels.h). */
#include <math.h>
#include <xmmintrin.h>

#include "kernels/kernels_internal.h"

/* n k, 2^-8 of the codes. */
static void decode(float out[PANEL_ROWS][F8_CHUNK], const struct panel_f8_e4m3 *chunk, size_t n)
{
    for (size_t row = 0; row < PANEL_ROWS; row++)
        for (size_t k = 0; k < n; k++)
            out[row][k] = 0x1p-8f * e4m3_to_float(chunk->q[k / 4][panel_f8_place(k, row)]);
}

static float sum_f32(const float *w, const float *x, size_t n)
{
    float sum = 0;

    for (size_t k = 0; k < n; k++)
        sum = fmaf(w[k], x[k], sum);
    return sum;
}

static float sum_bf16(const float *w, const bf16 *x, size_t n)
{
    float sum = 0;

    for (size_t k = 0; k < n; k += 2) {
        sum = fmaf(w[k + 1], bf16_to_float(x[k + 1]), sum);
        sum = fmaf(w[k], bf16_to_float(x[k]), sum);
    }
    return sum;
}

/* Not inlined: its arithmetic must stay between two changes of MXCSR. */
static __attribute__((noinline)) void multiply(const struct matmul_args *a, bool bf16_x)
{
    const size_t bytes = panel_bytes(DTYPE_F8_E4M3, a->k);
    float w[PANEL_ROWS][F8_CHUNK];

    for (size_t p = 0; p < a->n_panels; p++) {
        const struct panel_f8_e4m3 *chunk = (const void *)((const uint8_t *)a->w + p * bytes);
        for (size_t k = 0; k < a->k; k += F8_CHUNK, chunk++) {
            const size_t n = a->k - k < F8_CHUNK ? a->k - k : F8_CHUNK;
            decode(w, chunk, n);
            for (size_t t = 0; t < a->m; t++) {
                const void *x = (const uint8_t *)a->x + t * a->x_stride;
                float *y = a->y + t * a->y_stride + PANEL_ROWS * p;
                for (size_t row = 0; row < PANEL_ROWS; row++) {
                    const float sum = bf16_x ? sum_bf16(w[row], (const bf16 *)x + k, n) : sum_f32(w[row], (const float *)x + k, n);
                    y[row] = fmaf(chunk->d[row], sum, k ? y[row] : 0);
                }
            }
        }
    }
}

static void matmul_f8_f32(const struct matmul_args *a)
{
    multiply(a, false);
}

static void matmul_f8(const struct matmul_args *a)
{
    const unsigned csr = _mm_getcsr();

    _mm_setcsr(csr | MXCSR_DAZ_FTZ);
    multiply(a, true);
    _mm_setcsr(csr);
}

void matmul_f8_scalar(struct kernels *table)
{
    table->matmul[DTYPE_F8_E4M3] = matmul_f8;
    table->matmul_f32[DTYPE_F8_E4M3] = matmul_f8_f32;
}
