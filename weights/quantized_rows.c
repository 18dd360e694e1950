#include "weights/quantized_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "weights/gguf_internal.h"

enum {
    BLOCK = 32,                     /* elements, of all types that are made here */
    TILE_BLOCKS = 512,              /* translated at once */
    TILE_CODES = TILE_BLOCKS * BLOCK,
    /* Elements that hold the codes of a tile: 32 bits each where a tile is one output's, of which an element has eight. */
    TILE_BYTES = TILE_CODES * 4,
    WINDOW_BYTES = 32 << 10,
    NEAR_BYTES = 4096               /* reading this much more is cheaper than another call */
};

/* Some outputs by some inputs of a matrix, or by groups of inputs. */
struct extent { uint64_t row, n_rows, column, n_columns; };

struct tile {
    const struct gguf *g;
    const struct gguf_tensor *t;
    const struct quantized_rows *q;
    uint64_t row, n_rows, block, n_blocks;          /* n_rows * n_blocks <= TILE_BLOCKS */
    struct extent groups;                           /* of its scales */
    uint8_t codes[TILE_CODES];                      /* [n_rows][n_blocks * BLOCK] */
    uint8_t zeros[TILE_BLOCKS];                     /* [groups.n_rows][groups.n_columns] */
    unsigned char scales[TILE_BLOCKS * 4];          /* as stored, in the file's order */
    unsigned char elements[TILE_BYTES], window[WINDOW_BYTES];
};

static int read_file(const struct tile *tile, const struct stored_matrix *m, void *dst, size_t n, uint64_t at)
{
    int err = gguf_pread(tile->g->parts[m->part].fd, dst, n, at);

    return err ? gguf_read_failed(tile->g, tile->t, m->part, at, err) : 0;
}

/* Elements [fast, fast + n_fast) of rows [slow, slow + n_slow) as the file has them, without what lies between, to `to`. */
static int read_elements(struct tile *tile, const struct stored_matrix *m, uint64_t slow, uint64_t n_slow, uint64_t fast, uint64_t n_fast,
                         unsigned char *to)
{
    const uint64_t stride = m->n_fast * m->element_bytes, want = n_fast * m->element_bytes;
    const uint64_t at = m->offset + slow * stride + fast * m->element_bytes;
    const uint64_t most = stride <= NEAR_BYTES && want <= WINDOW_BYTES ? (WINDOW_BYTES - want) / stride + 1 : 1;

    if (want == stride || n_slow == 1)
        return read_file(tile, m, to, (size_t)(n_slow * want), at);
    for (uint64_t i = 0; i < n_slow;) {
        const uint64_t k = n_slow - i < most ? n_slow - i : most;
        unsigned char *into = k > 1 ? tile->window : to + i * want;
        int err = read_file(tile, m, into, (size_t)((k - 1) * stride + want), at + i * stride);
        if (err)
            return err;
        for (uint64_t j = 0; k > 1 && j < k; j++)
            memcpy(to + (i + j) * want, tile->window + j * stride, want);
        i += k;
    }
    return 0;
}

/* One output's codes, which elements hold for several inputs each; `step` bytes from an element to its next. */
static void unpack_inputs(const struct stored_codes *s, const unsigned char *element, size_t step, uint64_t n, uint8_t *to)
{
    const size_t size = s->in.element_bytes;

    if (s->bits == 8) {
        for (uint64_t i = 0; i < n; i++, element += step, to += size)
            memcpy(to, element, size);
    } else if (size == 4) {             /* eight nibbles to eight bytes: halves of halves move apart */
        for (uint64_t i = 0; i < n; i++, element += step, to += 8) {
            uint32_t word;
            memcpy(&word, element, sizeof(word));
            uint64_t x = (word | (uint64_t)word << 16) & 0x0000ffff0000ffff;
            x = (x | x << 8) & 0x00ff00ff00ff00ff;
            x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
            memcpy(to, &x, sizeof(x));
        }
    } else {
        for (uint64_t i = 0; i < n; i++, element += step, to += 2) {
            to[0] = element[0] & 15;
            to[1] = element[0] >> 4;
        }
    }
}

/* One output's codes, each in an element that has those of other outputs, too. */
static void unpack_outputs(const struct stored_codes *s, uint32_t in_element, const unsigned char *element, size_t step, uint64_t n,
                           uint8_t *to)
{
    static const uint8_t awq_place[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };
    const uint32_t bit = (s->awq_order ? awq_place[in_element] : in_element) * s->bits, shift = bit % 8, mask = s->bits == 4 ? 15 : 255;

    element += bit / 8;
    for (uint64_t i = 0; i < n; i++, element += step)
        to[i] = (uint8_t)(*element >> shift & mask);
}

/* The codes of an extent to `to`, [n_rows][n_columns]; columns are whole elements where inputs share one. */
static int read_codes(struct tile *tile, const struct stored_codes *s, struct extent e, uint8_t *to)
{
    const uint32_t size = s->in.element_bytes, per = 8 * size / s->bits;
    const uint32_t per_row = s->packs_outputs ? per : 1, per_column = s->packs_outputs ? 1 : per;
    const uint64_t row = e.row / per_row, n_rows = (e.row + e.n_rows - 1) / per_row + 1 - row;
    const uint64_t column = e.column / per_column, n_columns = e.n_columns / per_column;
    const size_t row_step = (s->in.by_input ? 1 : n_columns) * size, column_step = (s->in.by_input ? n_rows : 1) * size;
    int err = s->in.by_input ? read_elements(tile, &s->in, column, n_columns, row, n_rows, tile->elements)
                             : read_elements(tile, &s->in, row, n_rows, column, n_columns, tile->elements);

    for (uint64_t r = 0; r < e.n_rows && !err; r++, to += e.n_columns) {
        const unsigned char *first = tile->elements + ((e.row + r) / per_row - row) * row_step;
        if (s->packs_outputs)
            unpack_outputs(s, (uint32_t)((e.row + r) % per), first, column_step, e.n_columns, to);
        else
            unpack_inputs(s, first, column_step, n_columns, to);
    }
    return err;
}

__attribute__((format(printf, 4, 5)))
static int fail(const struct tile *tile, uint64_t row, uint64_t block, const char *format, ...)
{
    const uint64_t column = (tile->block + block) * BLOCK;
    char quoted[GGUF_QUOTED], text[192];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_error("%s: tensor %s row %" PRIu64 " columns %" PRIu64 "..%" PRIu64 ": %s", tile->g->parts[tile->q->codes.in.part].path,
              gguf_quote(tile->t->name, quoted), tile->row + row, column, column + BLOCK - 1, text);
    return -EINVAL;
}

/* The scale of a block as float16, which it must be. */
static int half_scale(const struct tile *tile, uint64_t row, uint64_t block, float scale, unsigned char *dst)
{
    const half h = half_from_float(scale);

    if (!isfinite(scale))
        return fail(tile, row, block, "its scale is %g, not a finite number", scale);
    if (half_to_float(h) != scale)
        return fail(tile, row, block, "its scale %.9g is no float16, so %s cannot hold it exactly; take the model before it was quantized, "
                    "and `fourway quantize`", scale, dtype_info(tile->t->type)->name);
    memcpy(dst, &h, sizeof(h));
    return 0;
}

/* Code j in the lower half of byte j, j + 16 in the upper. */
static void put_nibbles(unsigned char *dst, const uint8_t *codes)
{
    for (size_t j = 0; j < BLOCK / 2; j++)
        dst[j] = (unsigned char)((codes[j] & 15) | codes[j + BLOCK / 2] << 4);
}

static void put_q5_0(unsigned char *dst, const uint8_t *codes, int zero)
{
    uint8_t shifted[BLOCK];
    uint32_t high = 0;

    for (size_t j = 0; j < BLOCK; j++) {
        shifted[j] = (uint8_t)(codes[j] - zero + 16);           /* 0..31, as zero is 0..16 */
        high |= (uint32_t)(shifted[j] >> 4) << j;
    }
    memcpy(dst, &high, sizeof(high));
    put_nibbles(dst + sizeof(high), shifted);
}

/* The scale of a group as stored, and in float32. */
static float scale_of(const struct tile *tile, const unsigned char *at)
{
    uint16_t bits;
    float value;

    switch (tile->q->scale_type) {
    case SCALES_F32:
        memcpy(&value, at, sizeof(value));
        return value;
    case SCALES_E8M0:
        return *at == 255 ? NAN : ldexpf(1, *at - 127);
    default:
        memcpy(&bits, at, sizeof(bits));
        return tile->q->scale_type == SCALES_F16 ? half_to_float(bits) : bf16_to_float(bits);
    }
}

/* A block of the tile: its codes, and what its group has. */
struct quantized_block { const uint8_t *codes; const unsigned char *stored; float scale; int zero; };

static struct quantized_block block_at(const struct tile *tile, uint64_t r, uint64_t b)
{
    const struct quantized_rows *q = tile->q;
    const struct extent *e = &tile->groups;
    const uint64_t y = (tile->row + r) / q->group_rows - e->row, x = (tile->block + b) * BLOCK / q->group_columns - e->column;
    const unsigned char *stored = tile->scales + (q->scales.by_input ? x * e->n_rows + y : y * e->n_columns + x) * q->scales.element_bytes;

    return (struct quantized_block){ .codes = tile->codes + (r * tile->n_blocks + b) * BLOCK, .stored = stored,
                                     .scale = scale_of(tile, stored),
                                     .zero = q->has_zeros ? tile->zeros[y * e->n_columns + x] + q->zero_plus : q->zero };
}

/* Codes of FP8, and their scale. */
static int check_f8(const struct tile *tile, uint64_t r, uint64_t b, const struct quantized_block *block)
{
    if (!isfinite(block->scale))
        return fail(tile, r, b, "its scale is %g, not a finite number", block->scale);
    for (size_t j = 0; j < BLOCK; j++)
        if (e4m3_is_nan(block->codes[j]))
            return fail(tile, r, b, "code %zu is 0x%02x, not a number", j, block->codes[j]);
    return 0;
}

/* Row r and block b of the tile. */
static int put_block(const struct tile *tile, uint64_t r, uint64_t b, unsigned char *dst)
{
    const struct quantized_rows *q = tile->q;
    const struct quantized_block block = block_at(tile, r, b);
    const uint8_t *codes = block.codes;
    const int zero = block.zero;
    int err = 0;

    if (tile->t->type == DTYPE_F8_E4M3) {
        err = check_f8(tile, r, b, &block);
        memcpy(dst, &block.scale, sizeof(block.scale));
        memcpy(dst + sizeof(block.scale), codes, BLOCK);
        return err;
    }
    if (tile->t->type == DTYPE_MXFP4) {
        if (isnan(block.scale))
            return fail(tile, r, b, "its scale is 255, not a number");
        dst[0] = *block.stored;
        put_nibbles(dst + 1, codes);
        return 0;
    }
    err = half_scale(tile, r, b, block.scale, dst);
    if (!err && tile->t->type != DTYPE_Q5_0 && zero != q->zero)
        return fail(tile, r, b, "its zero point is %d: in a matrix that config.json calls symmetric it must be %d", zero, q->zero);
    if (tile->t->type == DTYPE_Q5_0)
        put_q5_0(dst + 2, codes, zero);
    else if (tile->t->type == DTYPE_Q4_0)
        put_nibbles(dst + 2, codes);
    for (size_t j = 0; tile->t->type == DTYPE_Q8_0 && j < BLOCK; j++)
        dst[2 + j] = (unsigned char)(codes[j] ^ q->zero);       /* less 128: the upper bit turned */
    return err;
}

static int read_scales(struct tile *tile)
{
    const struct quantized_rows *q = tile->q;
    const uint64_t row = tile->row / q->group_rows, column = tile->block * BLOCK / q->group_columns;
    const uint64_t last_row = (tile->row + tile->n_rows - 1) / q->group_rows;
    const uint64_t last_column = ((tile->block + tile->n_blocks) * BLOCK - 1) / q->group_columns;
    const struct extent e = { row, last_row - row + 1, column, last_column - column + 1 };

    tile->groups = e;
    int err = q->scales.by_input ? read_elements(tile, &q->scales, e.column, e.n_columns, e.row, e.n_rows, tile->scales)
                                 : read_elements(tile, &q->scales, e.row, e.n_rows, e.column, e.n_columns, tile->scales);
    return err || !q->has_zeros ? err : read_codes(tile, &q->zeros, e, tile->zeros);
}

/* The tile's place is set: fill it. */
static int read_tile(struct tile *tile)
{
    const struct extent e = { tile->row, tile->n_rows, tile->block * BLOCK, tile->n_blocks * BLOCK };
    int err = read_codes(tile, &tile->q->codes, e, tile->codes);

    return err ? err : read_scales(tile);
}

/* Of row r of the tile, block b, the values of columns [first, first + n) of the matrix: to dst, each stride bytes from the last. */
static int put_values(const struct tile *tile, uint64_t r, uint64_t b, uint64_t first, uint64_t n, unsigned char *dst, size_t stride)
{
    const bool is_f8 = tile->q->f8;
    const struct quantized_block block = block_at(tile, r, b);
    int err = is_f8 ? check_f8(tile, r, b, &block) : 0;

    if (!isfinite(block.scale) && !err)
        err = fail(tile, r, b, "its scale is %g, not a finite number", block.scale);
    for (uint64_t j = 0; j < BLOCK && !err; j++) {
        const uint64_t column = (tile->block + b) * BLOCK + j;
        const int code = tile->q->zero ? block.codes[j] : (int8_t)block.codes[j];
        const float value = block.scale * (is_f8 ? e4m3_to_float(block.codes[j]) : (float)(code - block.zero));
        if (column >= first && column < first + n)
            memcpy(dst + (column - first) * stride, &value, sizeof(value));
    }
    return err;
}

/* Columns [column, column + n) of the matrix, each of outputs [from, to) after the first, as rows in float32. */
static int read_columns(struct tile *tile, uint64_t column, uint64_t n, uint64_t from, uint64_t to, unsigned char *dst, size_t dst_stride)
{
    const uint64_t rows = to - from < TILE_BLOCKS ? to - from : TILE_BLOCKS, blocks = TILE_BLOCKS / rows;
    const uint64_t end = (column + n - 1) / BLOCK + 1;
    int err = 0;

    for (uint64_t r = from; r < to && !err; r += rows) {
        for (uint64_t b = column / BLOCK; b < end && !err; b += blocks) {
            tile->row = tile->q->first_output + r;
            tile->n_rows = to - r < rows ? to - r : rows;
            tile->block = b;
            tile->n_blocks = end - b < blocks ? end - b : blocks;
            err = read_tile(tile);
            for (uint64_t i = 0; i < tile->n_rows && !err; i++)
                for (uint64_t j = 0; j < tile->n_blocks && !err; j++)
                    err = put_values(tile, i, j, column, n, dst + (r - from + i) * sizeof(float), dst_stride);
        }
    }
    return err;
}

int quantized_rows_read(const struct gguf *g, const struct gguf_tensor *t, const struct quantized_rows *q, uint64_t row, uint64_t n,
                        uint64_t from, uint64_t to, unsigned char *dst, size_t dst_stride)
{
    const size_t block_bytes = dtype_info(t->type)->block_bytes;
    /* What lies side by side goes together: blocks of a row, or rows of a block. */
    const uint64_t wide = to - from < TILE_BLOCKS ? to - from : TILE_BLOCKS, tall = n < TILE_BLOCKS ? n : TILE_BLOCKS;
    const uint64_t blocks = q->codes.in.by_input ? TILE_BLOCKS / tall : wide, rows = TILE_BLOCKS / blocks;
    struct tile tile;
    int err = 0;

    tile.g = g;
    tile.t = t;
    tile.q = q;
    if (q->transposed)
        return read_columns(&tile, row, n, from, to, dst, dst_stride);
    for (uint64_t r = 0; r < n && !err; r += rows) {
        for (uint64_t b = from; b < to && !err; b += blocks) {
            tile.row = row + r;
            tile.n_rows = n - r < rows ? n - r : rows;
            tile.block = b;
            tile.n_blocks = to - b < blocks ? to - b : blocks;
            err = read_tile(&tile);
            for (uint64_t i = 0; i < tile.n_rows && !err; i++)
                for (uint64_t j = 0; j < tile.n_blocks && !err; j++)
                    err = put_block(&tile, i, j, dst + (r + i) * dst_stride + (b - from + j) * block_bytes);
        }
    }
    return err;
}

void quantized_rows_drop_cache(const struct gguf *g, const struct quantized_rows *q, uint64_t row, uint64_t n)
{
    const struct stored_matrix *m = &q->codes.in;
    const uint64_t row_bytes = m->n_fast * m->element_bytes;

    if (!m->by_input && !q->transposed)     /* else other rows need the same pages */
        posix_fadvise(g->parts[m->part].fd, (off_t)(m->offset + row * row_bytes), (off_t)(n * row_bytes), POSIX_FADV_DONTNEED);
}
