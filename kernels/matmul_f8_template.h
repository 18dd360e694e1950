/*
 * matmul_f8_template.h - y = W x of F8_E4M3 weights: the codes of 128 k of some panels, which share their scales, are decoded to scratch
 * once for all tokens, multiplied there, and the sums added to y with the scales. Include after matmul_f8_internal.h and after defining
 *
 *     F8_TOKENS F8_PANELS     the most of a tile; a tile of fewer panels has one
 *     f8_tile_tokens(left)    of the next tile
 *     f8_decode(p)            the panels of a struct f8_piece, to its scratch
 *     f8_tile(p)              from there: y = fma(scale, sum of the chunk, y), with 0 for y where `first` is set
 */

/* Of many tokens, the activations of so many k stay in L2 from panel to panel. Few go through a panel from end to end, as it is read. */
enum { F8_STEP = 8 * F8_CHUNK };

INLINE void multiply_f8(const struct matmul_args *a, bool bf16_x)
{
    const size_t bytes = panel_bytes(DTYPE_F8_E4M3, a->k), x_size = bf16_x ? sizeof(bf16) : sizeof(float);
    const size_t step = a->m <= F8_TOKENS ? a->k : F8_STEP;

    for (size_t k0 = 0; a->m && k0 < a->k; k0 += step) {
        const size_t end = a->k - k0 < step ? a->k : k0 + step;
        for (size_t i = 0, panels; i < a->n_panels; i += panels) {
            panels = a->n_panels - i >= F8_PANELS ? F8_PANELS : 1;
            for (size_t k = k0; k < end; k += F8_CHUNK) {
                struct f8_piece p = {
                    .scratch = a->scratch, .w = (const uint8_t *)a->w + i * bytes + k / F8_CHUNK * sizeof(struct panel_f8_e4m3),
                    .panel_bytes = bytes, .k = end - k < F8_CHUNK ? end - k : F8_CHUNK,
                    .x = (const uint8_t *)a->x + k * x_size, .x_stride = a->x_stride,
                    .y = a->y + i * PANEL_ROWS, .y_stride = a->y_stride, .panels = panels, .m = a->m, .first = k == 0, .bf16_x = bf16_x,
                };
                f8_decode(&p);
                for (size_t left = a->m; left; left -= p.tokens) {
                    p.tokens = f8_tile_tokens(left);
                    f8_tile(&p);
                    p.x += p.tokens * a->x_stride;
                    p.y += p.tokens * a->y_stride;
                }
            }
        }
    }
}
