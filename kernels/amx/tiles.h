/*
 * tiles.h - the configuration of the tile registers, and what gcc 12 does not know about their instructions.
 *
 * The intrinsics that load and store tiles name no memory operand: TILES_USE_MEMORY() stands between them and ordinary accesses to the
 * same memory. Each kernel configures its tiles itself and ends with TILERELEASE: a worker that waits has no tile state, which
 * Linux would save and restore at each switch (8 KiB) and which keeps a core from its deeper sleep states.
 */
#ifndef FOURWAY_KERNELS_AMX_TILES_H
#define FOURWAY_KERNELS_AMX_TILES_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* LDTILECFG's operand. A tile of no rows is not configured. */
struct tile_config {
    uint8_t palette, start_row, reserved_2[14];
    uint16_t row_bytes[8];
    uint8_t reserved_32[16];
    uint8_t rows[8];
    uint8_t reserved_56[8];
};
_Static_assert(sizeof(struct tile_config) == 64, "as LDTILECFG reads it");

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64 };

#define TILES_USE_MEMORY() __asm__ volatile("" ::: "memory")

static inline void tiles_shape(struct tile_config *c, unsigned tile, size_t rows, size_t row_bytes)
{
    c->rows[tile] = (uint8_t)rows;
    c->row_bytes[tile] = (uint16_t)(rows ? row_bytes : 0);
}

/* Not _tile_loadconfig(), of whose 64 bytes gcc 12 takes the first 8 for used. */
static inline void tiles_configure(const struct tile_config *c)
{
    __asm__ volatile("ldtilecfg %0" : : "m"(*c));
}

#endif
