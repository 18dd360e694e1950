/*
 * matmul_template.h - cuts a product with quantised weights into tiles, for one level. Include after matmul_internal.h and
 * after defining
 *
 *     load_TYPE, load_unpacked, struct unpacked_block, store_block     the level's blocks.h
 *     tile(piece, format)     y += w x; `format` is a constant
 *     TILE                    most tokens of a tile
 *     MAX_DIRECT              most tokens that read panels as they are, at most TILE
 *     CHUNK_BLOCKS            blocks unpacked at once, a multiple of 8
 *
 * Few tokens read each panel once, as it is: memory is the limit. More go through unpacked panels, one chunk of k after
 * the other, so that the chunk's activations of all tokens stay in cache while all panels pass. The order of one output's sum
 * is the order of its blocks either way.
 */

INLINE void few_tokens(const struct matmul_args *a, const struct format *f)
{
    const size_t n_blocks = a->k / 32, panel = n_blocks / f->blocks * f->panel_block;

    for (size_t i = 0; i < a->n_panels; i++) {
        const struct piece p = { .tokens = a->m, .w = (const uint8_t *)a->w + i * panel, .n_blocks = n_blocks, .x = a->x,
                                 .x_stride = a->x_stride, .y = a->y + PANEL_ROWS * i, .y_stride = a->y_stride, .first = true };
        tile(&p, f);
    }
}

INLINE void many_tokens(const struct matmul_args *a, const struct format *f)
{
    const size_t n_blocks = a->k / 32, panel = n_blocks / f->blocks * f->panel_block;
    struct unpacked_block *scratch = a->scratch;
    struct format unpacked = *f;

    unpacked.load = load_unpacked;
    unpacked.unpacked = true;
    for (size_t b0 = 0; b0 < n_blocks; b0 += CHUNK_BLOCKS) {
        const size_t n = n_blocks - b0 < CHUNK_BLOCKS ? n_blocks - b0 : CHUNK_BLOCKS;
        for (size_t i = 0; i < a->n_panels; i++) {
            const uint8_t *w = (const uint8_t *)a->w + i * panel + b0 / f->blocks * f->panel_block;
            for (size_t b = 0; b < n; b++)
                store_block(&scratch[b], f->load, w, b);
            for (size_t t = 0; t < a->m; t += TILE) {
                const struct piece p = {
                    .tokens = a->m - t < TILE ? a->m - t : TILE, .w = scratch, .n_blocks = n,
                    .x = (const uint8_t *)a->x + t * a->x_stride + b0 * sizeof(struct q8_block), .x_stride = a->x_stride,
                    .y = a->y + t * a->y_stride + PANEL_ROWS * i, .y_stride = a->y_stride, .first = b0 == 0,
                };
                tile(&p, &unpacked);
            }
        }
    }
}

_Static_assert(CHUNK_BLOCKS * sizeof(struct unpacked_block) <= MATMUL_SCRATCH_BYTES, "matmul_scratch_bytes()");

#define MATMUL(type, ...) \
    static void matmul_##type(const struct matmul_args *a) \
    { \
        static const struct format f = { .load = load_##type, .panel_block = sizeof(struct panel_##type), __VA_ARGS__ }; \
        if (a->m <= MAX_DIRECT) \
            few_tokens(a, &f); \
        else \
            many_tokens(a, &f); \
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
