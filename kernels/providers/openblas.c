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
#include "kernels/kernels_internal.h"
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
QUANTISED_TYPES(MULTIPLY)
#undef MULTIPLY

void openblas_prepare(struct product *out, enum dtype type, size_t k)
{
#define ENTRY(type) [DTYPE_##type] = multiply_##type,
    static const matmul_fn functions[DTYPE_COUNT] = { ENTRY(F32) ENTRY(F16) ENTRY(BF16) QUANTISED_TYPES(ENTRY) };
#undef ENTRY

    *out = (struct product){ .multiply = functions[type], .activation = ACT_F32, .implementation = openblas_get_corename(),
                             .scratch_bytes = most_panels(k) * PANEL_ROWS * k * sizeof(float) };
}
