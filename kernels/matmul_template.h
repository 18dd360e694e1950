/*
 * matmul_template.h - cuts a product with quantised weights into tiles, for one level. Include after matmul_internal.h and
 * after defining
 *
 *     load_TYPE               the level's blocks.h
 *     tile(piece, format)     y += w x; `format` is a constant
 *     TILE                    most tokens of a tile
 *
 * Panels are read as they are whatever m is: a tile of 32 tokens hides the work of unpacking, while panels unpacked to scratch
 * cost their stores and loads (Zen 4: 64 tokens of Q4_0 304 GOP/s by scratch, 357 without).
 */

/* Activations of this many bytes stay in the second-level cache, of 1 MiB and more where there is AVX-512. */
enum { CACHED_BYTES = 1 << 19 };

/*
 * All panels pass one chunk of k after the other, so that its activations of all tokens stay in cache; sums wait in y. At least
 * 1024 k, or too much time would go into that. Few tokens: all k at once. A multiple of 8 blocks.
 */
static size_t chunk_blocks(size_t m)
{
    const size_t fit = CACHED_BYTES / (m * sizeof(struct q8_block)) / 8 * 8;
    return fit > 32 ? fit : 32;
}

INLINE void multiply(const struct matmul_args *a, const struct format *f)
{
    const size_t n_blocks = a->k / 32, panel = n_blocks / f->blocks * f->panel_block;

    if (a->m == 0)
        return;
    const size_t chunk = chunk_blocks(a->m);
    for (size_t b = 0; b < n_blocks; b += chunk) {
        for (size_t i = 0; i < a->n_panels; i++) {
            for (size_t t = 0; t < a->m; t += TILE) {
                const struct piece p = {
                    .tokens = a->m - t < TILE ? a->m - t : TILE,
                    .w = (const uint8_t *)a->w + i * panel + b / f->blocks * f->panel_block,
                    .n_blocks = n_blocks - b < chunk ? n_blocks - b : chunk,
                    .x = (const uint8_t *)a->x + t * a->x_stride + b * sizeof(struct q8_block), .x_stride = a->x_stride,
                    .y = a->y + t * a->y_stride + PANEL_ROWS * i, .y_stride = a->y_stride, .first = b == 0,
                };
                tile(&p, f);
            }
        }
    }
}

#define MATMUL(type, ...) \
    static void matmul_##type(const struct matmul_args *a) \
    { \
        static const struct format f = { .load = load_##type, .panel_block = sizeof(struct panel_##type), __VA_ARGS__ }; \
        multiply(a, &f); \
    }

MATMUL(q4_0, .blocks = 1, .bits = 4, .shift = 3)
MATMUL(q4_1, .blocks = 1, .bits = 4, .minima = true)
MATMUL(q5_0, .blocks = 1, .bits = 5, .shift = 4)
MATMUL(q5_1, .blocks = 1, .bits = 5, .minima = true)
MATMUL(q8_0, .blocks = 1, .bits = 8, .shift = 7)
MATMUL(q4_K, .blocks = 8, .bits = 4, .minima = true)
MATMUL(q5_K, .blocks = 8, .bits = 5, .minima = true)
MATMUL(q6_K, .blocks = 8, .bits = 6, .shift = 5, .halves = true)
#undef MATMUL

static void fill(struct kernels *table)
{
    table->matmul[DTYPE_Q4_0] = matmul_q4_0;
    table->matmul[DTYPE_Q4_1] = matmul_q4_1;
    table->matmul[DTYPE_Q5_0] = matmul_q5_0;
    table->matmul[DTYPE_Q5_1] = matmul_q5_1;
    table->matmul[DTYPE_Q8_0] = matmul_q8_0;
    table->matmul[DTYPE_Q4_K] = matmul_q4_K;
    table->matmul[DTYPE_Q5_K] = matmul_q5_K;
    table->matmul[DTYPE_Q6_K] = matmul_q6_K;
}
