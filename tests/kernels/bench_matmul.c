/*
 * bench_matmul.c - every weight type at 1 to 512 tokens. Up to 8 tokens a pass reads all weights, half a gigabyte or more, once from
 * memory; with more it is arithmetic that counts, and a pass takes a part of them, each pass the next one.
 */
#include <math.h>
#include <string.h>

#include "tests/kernels/bench.h"
#include "tests/kernels/file_blocks.h"

enum {
    K = 2048,                           /* of models of a billion weights */
    PROMPT_TOKENS = 64,         /* from here on the tokens of a prompt, fewer are generated ones: their kernels may differ */
    MOST_TOKENS = 512,
    READ_TOKENS = 8,                    /* up to here memory is the limit */
    TILE_FLOATS = 1 << 16,              /* outputs of a call, as in model/forward.c */
    MOST_PANELS = 256,                  /* of a call: a worker's share of a matrix of 8192 rows */
    DISTINCT_PANELS = 16,               /* random ones; the rest are copies */
};

struct product {
    enum dtype type;
    size_t m, panel, n_panels;          /* tokens; bytes of a panel; panels of a call */
    size_t all_calls, calls;            /* of a slice; of a pass */
};

static void fill_weights(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    const struct product *p = arg;
    unsigned char *slice = bench_slice(b, w), *file = bench_scratch(b, w);
    const size_t row_bytes = file_row_bytes(p->type, K), n = b->worker_bytes / p->panel;
    struct rng rng;

    (void)pass;
    rng_seed(&rng, w->index);
    for (size_t i = 0; i < n; i++) {
        const void *rows[PANEL_ROWS];

        if (i >= DISTINCT_PANELS) {
            memcpy(slice + i * p->panel, slice + i % DISTINCT_PANELS * p->panel, p->panel);
            continue;
        }
        for (size_t row = 0; row < PANEL_ROWS; row++) {
            rows[row] = file + row * row_bytes;
            file_random_row(p->type, file + row * row_bytes, K, RANGE_NORMAL, &rng);
        }
        panel_pack(p->type, slice + i * p->panel, rows, K);
    }
}

static enum activation activation(const struct bench *b, const struct product *p)
{
    return p->m < PROMPT_TOKENS ? kernels_activation(p->type) : b->kernels.prompt_activation[p->type];
}

static void fill_activations(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    const struct product *p = arg;
    const enum activation a = activation(b, p);
    float *row = bench_scratch(b, w);
    struct rng rng;

    (void)pass;
    if (w->index_in_node)
        return;
    rng_seed(&rng, 1);
    for (size_t t = 0; t < MOST_TOKENS; t++) {
        void *x = (char *)bench_shared(b, w) + t * activation_stride(a, K);
        for (size_t i = 0; i < K; i++)
            row[i] = rng_float(&rng, -1, 1);
        if (a == ACT_Q8)
            b->kernels.quantize_q8(x, row, K);
        else if (a == ACT_BF16)
            b->kernels.round_bf16(x, row, K);
        else
            memcpy(x, row, K * sizeof(*row));
    }
}

static void multiply(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    const struct product *p = arg;
    unsigned char *scratch = bench_scratch(b, w);
    struct matmul_args args = { .x = bench_shared(b, w), .x_stride = activation_stride(activation(b, p), K), .m = p->m,
                                .y = (float *)(scratch + matmul_scratch_bytes(K)), .y_stride = p->n_panels * PANEL_ROWS,
                                .n_panels = p->n_panels, .k = K, .scratch = scratch };

    const matmul_fn product = (p->m < PROMPT_TOKENS ? b->kernels.matmul : b->kernels.matmul_prompt)[p->type];

    for (size_t i = 0; i < p->calls; i++) {
        args.w = (unsigned char *)bench_slice(b, w) + (pass * p->calls + i) % p->all_calls * p->n_panels * p->panel;
        product(&args);
    }
}

/*
 * The project's marks, or NaN. Reads: one token, 4 and 8 bits. Peak: 88 % of what the ports of a processor with VNNI allow, which
 * also convert and scale the sums: once a block, with a minimum, or twice a block. Tiles are another unit, and have no mark.
 */
static double asked_of_reads(enum dtype type, size_t m)
{
    return m == 1 && (type == DTYPE_Q4_0 || type == DTYPE_Q4_1 || type == DTYPE_Q4_K || type == DTYPE_Q8_0) ? 0.95 : NAN;
}

static double asked_of_peak(enum isa isa, enum dtype type, size_t m)
{
    if (m < 256 || isa < ISA_AVX512 || isa >= ISA_AMX)
        return NAN;
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_Q5_0:
    case DTYPE_Q8_0:
        return 0.70;
    case DTYPE_Q4_1:
    case DTYPE_Q5_1:
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        return 0.64;
    case DTYPE_Q6_K:
        return 0.58;
    default:
        return NAN;
    }
}

static void bench_product(struct bench *b, struct product *p)
{
    const size_t slice_panels = b->worker_bytes / p->panel;

    p->n_panels = TILE_FLOATS / p->m / PANEL_ROWS;
    p->n_panels = p->n_panels < MOST_PANELS ? p->n_panels : MOST_PANELS;
    p->n_panels = p->n_panels < slice_panels ? p->n_panels : slice_panels;
    p->all_calls = slice_panels / p->n_panels;
    p->calls = p->m <= READ_TOKENS ? p->all_calls : (p->all_calls * READ_TOKENS + p->m - 1) / p->m;

    const double panels = (double)(b->n_workers * p->calls * p->n_panels), bytes = panels * (double)p->panel;
    const double ops = 2 * panels * PANEL_ROWS * K * (double)p->m;
    const struct timing t = bench_time(b, multiply, p, activation(b, p), bytes, ops);
    const struct cell row[] = {
        { .text = dtype_info(p->type)->name },
        { .number = (double)p->m },
        { .number = bytes / t.best_s * 1e-9 },
        { .number = bytes / t.median_s * 1e-9 },
        { .number = t.read_per_s * 1e-9 },
        { .number = t.of_read },
        { .number = asked_of_reads(p->type, p->m) },
        { .number = ops / t.best_s * 1e-9 },
        { .number = t.peak_per_s * 1e-9 },
        { .number = t.of_peak },
        { .number = asked_of_peak(b->options->isa, p->type, p->m) },
    };
    output_row(b->output, row);
}

void bench_matmul(struct bench *b)
{
    static const struct column columns[] = {
        { "type", "type", COLUMN_TEXT, 6, 0 },
        { "m", "m", COLUMN_NUMBER, 4, 0 },
        { "gb_per_s", "GB/s", COLUMN_NUMBER, 8, 1 },
        { "median_gb_per_s", "median", COLUMN_NUMBER, 8, 1 },
        { "read_gb_per_s", "reads", COLUMN_NUMBER, 8, 1 },
        { "of_read", "of reads", COLUMN_SHARE, 9, 1 },
        { "ask_of_read", "ask", COLUMN_SHARE, 4, 0 },
        { "gop_per_s", "GOP/s", COLUMN_NUMBER, 9, 1 },
        { "peak_gop_per_s", "peak", COLUMN_NUMBER, 9, 1 },
        { "of_peak", "of peak", COLUMN_SHARE, 8, 1 },
        { "ask_of_peak", "ask", COLUMN_SHARE, 4, 0 },
    };
    static const size_t ms[] = { 1, 2, 4, 8, 16, 32, 64, 256, MOST_TOKENS };

    output_section(b->output, "matmul", "m tokens, best pass; reads, peak and the shares of them: medians", columns,
                   sizeof(columns) / sizeof(*columns));
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        struct product p = { .type = weight_types[i], .panel = panel_bytes(weight_types[i], K) };

        if (b->options->type && strcmp(b->options->type, dtype_info(p.type)->name) != 0)
            continue;
        bench_fill(b, fill_weights, &p);
        for (size_t j = 0; j < sizeof(ms) / sizeof(*ms); j++) {
            p.m = ms[j];
            if (j == 0 || p.m == PROMPT_TOKENS)
                bench_fill(b, fill_activations, &p);
            bench_product(b, &p);
        }
    }
}
