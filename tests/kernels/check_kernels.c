/*
 * check_kernels.c - how fast the matrix kernels are, beside what the machine can do.
 *
 *     check_kernels --bench [LEVEL] [TYPE]
 *
 * One thread. For one token the weights are read once from memory: GB/s of weights beside the rate of reading alone.
 * For many tokens: GOP/s beside the level's best dot instruction on registers alone (for float32 sums beside nothing).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/clock.h"
#include "kernels/kernels.h"
#include "tests/kernels/file_blocks.h"

enum {
    WEIGHT_BYTES = 400 << 20,       /* far more than any cache */
    K = 2048,
    ROUNDS = 5,                     /* the best counts: other programs can only slow a round down */
    MANY_PANELS = 128,
    MAX_TOKENS = 512,
};

static void *allocate(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("check_kernels: mmap");
        exit(1);
    }
    madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 0x2c, bytes);         /* as float16, bfloat16 and float32: a small normal number */
    return p;
}

static double best_seconds(matmul_fn matmul, const struct matmul_args *args)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start = clock_now_ns();
        matmul(args);
        uint64_t ns = clock_now_ns() - start;
        best = ns < best ? ns : best;
    }
    return (double)best * 1e-9;
}

struct limits {
    double read_bytes_per_s, ops_per_s;
};

static struct limits measure(const struct kernels *kernels, const void *w)
{
    struct limits best = { 0, 0 };
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start = clock_now_ns(), sum = kernels->read_stream(w, WEIGHT_BYTES);
        double seconds = (double)(clock_now_ns() - start) * 1e-9;
        __asm__ volatile("" : : "r"(sum));
        if (WEIGHT_BYTES / seconds > best.read_bytes_per_s)
            best.read_bytes_per_s = WEIGHT_BYTES / seconds;

        start = clock_now_ns();
        uint64_t ops = kernels->peak_int8(5000000);
        seconds = (double)(clock_now_ns() - start) * 1e-9;
        if ((double)ops / seconds > best.ops_per_s)
            best.ops_per_s = (double)ops / seconds;
    }
    return best;
}

static void bench(enum isa level, const char *only)
{
    static const size_t ms[] = { 1, 2, 4, 8, 16, 32, MAX_TOKENS };
    struct kernels kernels;
    uint8_t *w = allocate(WEIGHT_BYTES), *x = allocate(MAX_TOKENS * K * sizeof(float)), *scratch = allocate(matmul_scratch_bytes(K));
    float *y = allocate(WEIGHT_BYTES / 8);      /* panels of 4-bit weights for one token: 64 bytes for K * 9 */

    kernels_fill(&kernels, level);
    struct limits limits = measure(&kernels, w);
    printf("%s: reads %.1f GB/s, 8-bit peak %.0f GOP/s\n", isa_name(level), limits.read_bytes_per_s * 1e-9, limits.ops_per_s * 1e-9);
    printf("%-6s %5s %9s %8s %9s %8s\n", "type", "m", "GB/s", "of read", "GOP/s", "of peak");
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        const size_t bytes = panel_bytes(type, K);
        if (only && strcmp(only, dtype_info(type)->name) != 0)
            continue;
        for (size_t j = 0; j < sizeof(ms) / sizeof(*ms); j++) {
            struct matmul_args args = { .w = w, .x = x, .y = y, .m = ms[j], .n_panels = WEIGHT_BYTES / bytes, .k = K, .scratch = scratch };
            if (ms[j] > 8)
                args.n_panels = MANY_PANELS;
            else if (ms[j] > 1)
                args.n_panels /= ms[j];
            args.x_stride = activation_bytes(kernels_activation(type), K);
            args.y_stride = args.n_panels * PANEL_ROWS;
            const double seconds = best_seconds(kernels.matmul[type], &args);
            const double read = (double)(args.n_panels * bytes) / seconds;
            const double ops = 2.0 * (double)(ms[j] * args.n_panels * PANEL_ROWS * K) / seconds;
            printf("%-6s %5zu %9.1f %7.0f%% %9.1f", dtype_info(type)->name, ms[j], read * 1e-9, 100 * read / limits.read_bytes_per_s, ops * 1e-9);
            if (kernels_activation(type) == ACT_Q8)
                printf(" %7.0f%%", 100 * ops / limits.ops_per_s);
            printf("\n");
        }
    }
}

int main(int argc, char **argv)
{
    enum isa level = cpu_best_isa();

    if (argc < 2 || argc > 4 || strcmp(argv[1], "--bench") != 0 || (argc > 2 && (!isa_parse(argv[2], &level) || level > cpu_best_isa()))) {
        fprintf(stderr, "usage: check_kernels --bench [scalar|avx2|avx512] [TYPE]    (levels that this machine has)\n");
        return 2;
    }
    bench(level, argc > 3 ? argv[3] : NULL);
    return 0;
}
