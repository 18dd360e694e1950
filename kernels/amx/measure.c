/* measure.c - what this machine can do at most with tiles, on registers alone: full ones, four sums in turn. */
#include "kernels/amx/tiles.h"
#include "kernels/kernels_internal.h"

/* Operations of an instruction on full tiles: 16 x 16 sums, over 64 k of int8 or 32 of bf16. */
enum { INT8_OPS = 2 * 16 * 16 * 64, BF16_OPS = 2 * 16 * 16 * 32 };

static void configure(void)
{
    struct tile_config c = { .palette = 1 };

    for (unsigned tile = 0; tile < 8; tile++)
        tiles_shape(&c, tile, TILE_ROWS, TILE_ROW_BYTES);
    tiles_configure(&c);        /* all tiles are zero then */
}

/* A round is one instruction: its 16 cycles are no fewer than those of a round of vectors. */
#define PEAK(name, instruction, ops) \
    static uint64_t name(uint64_t n) \
    { \
        uint64_t round; \
\
        configure(); \
        for (round = 0; round < n; round += 4) { \
            instruction(0, 4, 6); \
            instruction(1, 4, 7); \
            instruction(2, 5, 6); \
            instruction(3, 5, 7); \
        } \
        _tile_release(); \
        return round * (ops); \
    }
PEAK(peak_int8, _tile_dpbssd, INT8_OPS)
PEAK(peak_bf16, _tile_dpbf16ps, BF16_OPS)

void measure_amx(struct kernels *table)
{
    table->peak[ACT_Q8] = peak_int8;
    table->peak[ACT_BF16] = peak_bf16;
}
