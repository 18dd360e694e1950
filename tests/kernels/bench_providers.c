#include "tests/kernels/bench_providers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "kernels/providers/providers.h"

enum {
    K = 2048,
    N_PANELS = 64,                  /* a worker's slice of a matrix of 2048 rows on two cores */
    MOST_TOKENS = 512,
    WEIGHT_BYTES = 64 << 20,        /* of several such slices, so that each comes from memory */
};

static void *allocate(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) {
        fprintf(stderr, "bench_providers: no memory\n");
        exit(1);
    }
    memset(p, 0x2c, bytes);         /* as float16, bfloat16 and float32: a small normal number */
    return p;
}

/* GFLOP/s of the fastest of some calls, each with another part of w. */
static double rate(const struct product *p, enum dtype type, size_t m, const unsigned char *w, const void *x, float *y, void *scratch)
{
    const size_t bytes = N_PANELS * panel_bytes(type, K);
    struct matmul_args args = { .x = x, .x_stride = activation_stride(p->activation, K), .y = y, .y_stride = N_PANELS * PANEL_ROWS, .m = m,
                                .n_panels = N_PANELS, .k = K, .scratch = scratch, .prepared = p->prepared };
    double best = 1e9;

    for (size_t i = 0; i < 12; i++) {
        args.w = w + i * bytes % (WEIGHT_BYTES / bytes * bytes);
        const uint64_t start = clock_now_ns();
        p->multiply(&args);
        best = fmin(best, (double)(clock_now_ns() - start));
    }
    return 2.0 * (double)(m * N_PANELS * PANEL_ROWS * K) / best;
}

int bench_providers(const char *level_name)
{
    static const enum dtype types[] = { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q8_0 };
    static const size_t ms[] = { 1, 4, 16, 64, 256, MOST_TOKENS };
    enum isa level = cpu_best_isa();
    struct onednn *onednn;
    struct kernels kernels;

    if ((level_name && !isa_parse(level_name, &level)) || level > cpu_best_isa())
        return 2;
    if (openblas_check() || onednn_open(&onednn, level))
        return 1;
    kernels_fill(&kernels, level);
    unsigned char *w = allocate(WEIGHT_BYTES);
    void *x = allocate(MOST_TOKENS * activation_stride(ACT_F32, K));
    float *y = allocate(MOST_TOKENS * N_PANELS * PANEL_ROWS * sizeof(float));
    printf("%s: GFLOP/s of one thread, k %d, %d outputs\n%-6s %5s %9s %9s %9s\n", isa_name(level), K, N_PANELS * PANEL_ROWS, "type", "m",
           "native", "onednn", "openblas");
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        const enum dtype type = types[i];
        struct product p[3] = { { .multiply = kernels.matmul_prompt[type], .activation = kernels.prompt_activation[type],
                                  .scratch_bytes = matmul_scratch_bytes(K) } };
        if (onednn_prepare(onednn, &p[1], "w", type, kernels_activation(type), K))
            return 1;
        openblas_prepare(&p[2], type, K);
        for (size_t j = 0; j < sizeof(ms) / sizeof(*ms); j++) {
            printf("%-6s %5zu", dtype_info(type)->name, ms[j]);
            for (size_t k = 0; k < 3; k++) {
                void *scratch = allocate(p[k].scratch_bytes);
                printf(" %9.1f", rate(&p[k], type, ms[j], w, x, y, scratch));
                free(scratch);
            }
            printf("%s%s%s%s\n", j ? "" : "  ", j ? "" : p[1].implementation, j ? "" : ", ", j ? "" : p[2].implementation);
        }
    }
    onednn_close(onednn);
    free(w);
    free(x);
    free(y);
    return 0;
}
