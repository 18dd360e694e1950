/*
 * openblas.c - products by OpenBLAS's cblas_sgemm (Debian's serial build of version 0.3.21): float32, any weight type decoded.
 *
 * Its kernels are chosen by CPU when the library loads (OPENBLAS_CORETYPE overrides), and inside a call by shape: so a row's bits
 * depend on m and on the number of columns.
 */
#include <cblas.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "common/log.h"
#include "kernels/providers/providers.h"
#include "kernels/providers/unpack.h"

enum {
    W_BYTES = 2 << 20,                  /* of unpacked columns: with those that the library packs again, about what L2 and L3 hold */
    MOST_PANELS = 16,
};

int openblas_check(void)
{
    const char *config = openblas_get_config();

    if (strstr(config, "SINGLE_THREADED"))
        return 0;
    log_error("--gemm openblas: the library that is loaded has threads of its own (%s): install libopenblas0-serial", config);
    return -ENOTSUP;
}

/*
 * Debian's serial build hands two callers the same packing buffer when both come in one instant, as workers behind a barrier do: of 6000
 * such products on two cores 224 to 360 were wrong. So workers take turns.
 */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

/* Panels unpacked at once. */
static size_t most_panels(size_t k)
{
    const size_t n = W_BYTES / (k * PANEL_ROWS * sizeof(float));
    return n < 1 ? 1 : n < MOST_PANELS ? n : MOST_PANELS;
}

static void multiply(const struct matmul_args *a, enum dtype type)
{
    const size_t most = most_panels(a->k), w_bytes = panel_bytes(type, a->k);

    if (a->m == 0)
        return;
    for (size_t i = 0; i < a->n_panels; i += most) {
        const size_t panels = a->n_panels - i < most ? a->n_panels - i : most;
        const int n = (int)(panels * PANEL_ROWS);
        unpack_float(a->scratch, type, (const unsigned char *)a->w + i * w_bytes, panels, a->k);
        pthread_mutex_lock(&one_at_a_time);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)a->m, n, (int)a->k, 1, a->x, (int)(a->x_stride / sizeof(float)),
                    a->scratch, n, 0, a->y + i * PANEL_ROWS, (int)a->y_stride);
        pthread_mutex_unlock(&one_at_a_time);
    }
}

#define MULTIPLY(type) static void multiply_##type(const struct matmul_args *a) { multiply(a, DTYPE_##type); }
MULTIPLY(F32)
MULTIPLY(F16)
MULTIPLY(BF16)
MULTIPLY(Q4_0)
MULTIPLY(Q4_1)
MULTIPLY(Q5_0)
MULTIPLY(Q5_1)
MULTIPLY(Q8_0)
MULTIPLY(Q4_K)
MULTIPLY(Q5_K)
MULTIPLY(Q6_K)
#undef MULTIPLY

void openblas_prepare(struct product *out, enum dtype type, size_t k)
{
    static const matmul_fn functions[DTYPE_COUNT] = {
        [DTYPE_F32] = multiply_F32, [DTYPE_F16] = multiply_F16, [DTYPE_BF16] = multiply_BF16, [DTYPE_Q4_0] = multiply_Q4_0,
        [DTYPE_Q4_1] = multiply_Q4_1, [DTYPE_Q5_0] = multiply_Q5_0, [DTYPE_Q5_1] = multiply_Q5_1, [DTYPE_Q8_0] = multiply_Q8_0,
        [DTYPE_Q4_K] = multiply_Q4_K, [DTYPE_Q5_K] = multiply_Q5_K, [DTYPE_Q6_K] = multiply_Q6_K,
    };

    *out = (struct product){ .multiply = functions[type], .activation = ACT_F32, .implementation = openblas_get_corename(),
                             .scratch_bytes = most_panels(k) * PANEL_ROWS * k * sizeof(float) };
}
