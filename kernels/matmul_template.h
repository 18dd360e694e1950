/*
 * matmul_template.h - cuts a product with quantised weights into tiles, for one level. Include after matmul_internal.h and
 * after defining
 *
 *     load_TYPE, load_unpacked, struct unpacked_block, store_block     the level's blocks.h
 *     tile(piece, format, tokens)         y += w x; `format` and `tokens` are constants
 *     MAX_DIRECT      most tokens of a tile that reads panels as they are, at most 8
 *     TILE            tokens of a tile that reads an unpacked panel
 *     CHUNK_BLOCKS    blocks unpacked at once, a multiple of 8
 *
 * Up to MAX_DIRECT tokens read each panel once, as it is: memory is the limit. More go through unpacked panels, one chunk of
 * k after the other, so that the chunk's activations of all tokens stay in cache while all panels pass. The order of one
 * output's sum is the order of its blocks either way.
 */

INLINE void tile_of(const struct piece *p, const struct format *f, size_t tokens)
{
    switch (tokens) {
    case 1: tile(p, f, 1); break;
    case 2: tile(p, f, 2); break;
    case 3: tile(p, f, 3); break;
    case 4: tile(p, f, 4); break;
#if MAX_DIRECT == 8
    case 5: tile(p, f, 5); break;
    case 6: tile(p, f, 6); break;
    case 7: tile(p, f, 7); break;
    case 8: tile(p, f, 8); break;
#endif
    }
}

INLINE void skip_tokens(struct piece *p, size_t n)
{
    p->x += n * p->x_stride;
    p->y += n * p->y_stride;
}

/* `direct` is tile_of() of the format, as a function of its own. */
INLINE void multiply(const struct matmul_args *a, const struct format *f, void (*direct)(const struct piece *p, size_t tokens))
{
    const size_t n_blocks = a->k / 32, panel = n_blocks / f->blocks * f->panel_block;
    const bool unpack = a->m > MAX_DIRECT;
    const size_t chunk = unpack ? CHUNK_BLOCKS : n_blocks;
    struct unpacked_block *scratch = a->scratch;
    struct format unpacked = *f;

    unpacked.load = load_unpacked;
    for (size_t b0 = 0; b0 < n_blocks; b0 += chunk) {
        for (size_t i = 0; i < a->n_panels; i++) {
            const uint8_t *w = (const uint8_t *)a->w + i * panel + b0 / f->blocks * f->panel_block;
            struct piece p = { .w = scratch, .n_blocks = n_blocks - b0 < chunk ? n_blocks - b0 : chunk,
                               .x = (const uint8_t *)a->x + b0 * sizeof(struct q8_block), .x_stride = a->x_stride,
                               .y = a->y + PANEL_ROWS * i, .y_stride = a->y_stride, .first = b0 == 0 };
            size_t left = a->m;
            for (size_t b = 0; unpack && b < p.n_blocks; b++)
                store_block(&scratch[b], f->load, w, b);
            for (; unpack && left >= TILE; left -= TILE, skip_tokens(&p, TILE))
                tile(&p, &unpacked, TILE);
            p.w = w;
            for (; left > MAX_DIRECT; left -= MAX_DIRECT, skip_tokens(&p, MAX_DIRECT))
                direct(&p, MAX_DIRECT);
            direct(&p, left);
        }
    }
}

_Static_assert(CHUNK_BLOCKS * sizeof(struct unpacked_block) <= MATMUL_SCRATCH_BYTES, "matmul_scratch_bytes()");

#define MATMUL(type, ...) \
    static const struct format format_##type = { .load = load_##type, .panel_block = sizeof(struct panel_##type), __VA_ARGS__ }; \
    static __attribute__((noinline)) void direct_##type(const struct piece *p, size_t tokens) \
    { \
        tile_of(p, &format_##type, tokens); \
    } \
    static void matmul_##type(const struct matmul_args *a) \
    { \
        multiply(a, &format_##type, direct_##type); \
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
