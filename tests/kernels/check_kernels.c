/*
 * check_kernels.c - how fast the matrix kernels are, beside what the machine can do.
 *
 *     check_kernels --bench [LEVEL] [TYPE]
 *
 * One thread. For one token the weights are read once from memory: GB/s of weights beside the rate of reading alone.
 * For many tokens: GOP/s beside the level's best dot instruction on registers alone (for float32 sums beside nothing).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/clock.h"
#include "kernels/kernels.h"
#include "tests/kernels/file_blocks.h"

enum {
    WEIGHT_BYTES = 400 << 20,       /* far more than any cache */
    SLICE_BYTES = 16 << 20,         /* weights of one call */
    K = 2048,
    MANY_PANELS = 8,                /* of a call with many tokens */
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

static double seconds_since(uint64_t start)
{
    return (double)(clock_now_ns() - start) * 1e-9;
}

/* All weights once, slice by slice, so that each comes from memory. The fastest slice counts: others can only slow it down. */
static double best_seconds(matmul_fn matmul, struct matmul_args args, const uint8_t *w, size_t panel)
{
    double best = 1e9;
    for (size_t at = 0; at + args.n_panels * panel <= WEIGHT_BYTES && at < 50 * args.n_panels * panel; at += args.n_panels * panel) {
        args.w = w + at;
        uint64_t start = clock_now_ns();
        matmul(&args);
        best = fmin(best, seconds_since(start));
    }
    return best;
}

struct limits {
    double read_bytes_per_s, ops_per_s;
};

static struct limits measure(const struct kernels *kernels, const uint8_t *w)
{
    struct limits best = { 0, 0 };
    for (size_t at = 0; at + SLICE_BYTES <= WEIGHT_BYTES; at += SLICE_BYTES) {
        uint64_t start = clock_now_ns(), sum = kernels->read_stream(w + at, SLICE_BYTES);
        __asm__ volatile("" : : "r"(sum));
        best.read_bytes_per_s = fmax(best.read_bytes_per_s, SLICE_BYTES / seconds_since(start));

        start = clock_now_ns();
        uint64_t ops = kernels->peak[ACT_Q8](100000);
        best.ops_per_s = fmax(best.ops_per_s, (double)ops / seconds_since(start));
    }
    return best;
}

static void bench_type(matmul_fn matmul, enum dtype type, const char *role, struct limits limits, const uint8_t *w)
{
    static const size_t ms[] = { 1, 2, 3, 4, 6, 8, 12, 16, 17, 24, 32, 48, 63, 64, MAX_TOKENS };
    const size_t panel = panel_bytes(type, K), x_bytes = activation_stride(kernels_activation(type), K);
    void *x = allocate(MAX_TOKENS * x_bytes), *scratch = allocate(matmul_scratch_bytes(K));

    for (size_t i = 0; i < sizeof(ms) / sizeof(*ms); i++) {
        const size_t m = ms[i], n_panels = m > 32 ? MANY_PANELS : SLICE_BYTES / m / panel;
        float *y = allocate(m * n_panels * PANEL_ROWS * sizeof(*y));
        const struct matmul_args args = { .x = x, .x_stride = x_bytes, .y = y, .y_stride = n_panels * PANEL_ROWS,
                                          .m = m, .n_panels = n_panels, .k = K, .scratch = scratch };
        const double seconds = best_seconds(matmul, args, w, panel);
        const double read = (double)(n_panels * panel) / seconds, ops = 2.0 * (double)(m * n_panels * PANEL_ROWS * K) / seconds;

        printf("%-6s %5zu %9.1f %7.0f%% %9.1f", dtype_info(type)->name, m, read * 1e-9, 100 * read / limits.read_bytes_per_s, ops * 1e-9);
        if (kernels_activation(type) == ACT_Q8)
            printf(" %7.0f%%", 100 * ops / limits.ops_per_s);
        printf("%s\n", role);
        munmap(y, m * n_panels * PANEL_ROWS * sizeof(*y));
    }
    munmap(x, MAX_TOKENS * x_bytes);
    munmap(scratch, matmul_scratch_bytes(K));
}

static void bench(enum isa level, const char *only)
{
    struct kernels kernels;
    uint8_t *w = allocate(WEIGHT_BYTES);

    kernels_fill(&kernels, level);
    const struct limits limits = measure(&kernels, w);
    printf("%s: reads %.1f GB/s, 8-bit peak %.0f GOP/s\n", isa_name(level), limits.read_bytes_per_s * 1e-9, limits.ops_per_s * 1e-9);
    printf("%-6s %5s %9s %8s %9s %8s\n", "type", "m", "GB/s", "of read", "GOP/s", "of peak");
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        const enum dtype type = weight_types[i];
        if (only && strcmp(only, dtype_info(type)->name) != 0)
            continue;
        bench_type(kernels.matmul[type], type, "", limits, w);
        if (kernels.matmul_prompt[type] != kernels.matmul[type])
            bench_type(kernels.matmul_prompt[type], type, "  prompt", limits, w);
    }
    munmap(w, WEIGHT_BYTES);
}

int main(int argc, char **argv)
{
    enum isa level = cpu_best_isa();

    if (argc < 2 || argc > 4 || strcmp(argv[1], "--bench") != 0 || (argc > 2 && (!isa_parse(argv[2], &level) || level > cpu_best_isa()))) {
        fprintf(stderr, "usage: check_kernels --bench [LEVEL] [TYPE]    (levels that this machine has)\n");
        return 2;
    }
    bench(level, argc > 3 ? argv[3] : NULL);
    return 0;
}
