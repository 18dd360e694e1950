#include "weights/tensor_source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#include "weights/gguf_internal.h"

enum {
    GATHER_BYTES = 16 << 10,        /* of a file at once, where elements or rows are picked out of what lies between them */
    MOST_ROWS = 256                 /* of one preadv; the kernel takes IOV_MAX, 1024 */
};

/* What reading a tensor needs to know, worked out once. */
struct reading {
    const struct gguf *g;
    const struct gguf_tensor *t;
    const struct tensor_source *s;
    uint64_t row_units;             /* elements, or blocks, of a row */
    size_t unit_bytes, file_unit_bytes;
    uint64_t row_bytes;             /* as they are given */
};

/* Some rows of one piece that follow one another in the file. */
struct run {
    const struct tensor_piece *piece;
    uint64_t row, n_rows;           /* in the piece, in the file's order */
    unsigned char *dst;
    size_t dst_stride;              /* from one of them to the next */
};

static int read_file(const struct reading *r, const struct tensor_piece *piece, void *dst, size_t n, uint64_t at)
{
    int err = gguf_pread(r->g->parts[piece->part].fd, dst, n, at);

    return err ? gguf_read_failed(r->g, r->t, piece->part, at, err) : 0;
}

static void convert(const struct reading *r, unsigned char *dst, const unsigned char *from)
{
    uint16_t bits;
    float value;

    if (r->s->file_type == r->t->type && r->s->plus == 0) {
        memcpy(dst, from, r->unit_bytes);
        return;
    }
    if (r->file_unit_bytes == 2) {
        memcpy(&bits, from, 2);
        value = r->s->file_type == DTYPE_F16 ? half_to_float(bits) : bf16_to_float(bits);
    } else {
        memcpy(&value, from, 4);
    }
    value += r->s->plus;
    memcpy(dst, &value, 4);
}

static bool as_stored(const struct reading *r, const struct tensor_piece *p)
{
    return r->s->file_type == r->t->type && r->s->plus == 0 && p->element_stride == r->unit_bytes;
}

/* n things that stand `stride` apart in the file, the first at `at`, to places `dst_stride` apart. */
static int gather(const struct reading *r, const struct tensor_piece *p, uint64_t at, uint64_t stride, uint64_t n, unsigned char *dst,
                  size_t dst_stride)
{
    unsigned char window[GATHER_BYTES];
    const size_t size = r->file_unit_bytes;
    const uint64_t most = stride && stride <= sizeof(window) - size ? (sizeof(window) - size) / stride + 1 : 1;

    for (uint64_t i = 0; i < n;) {
        const uint64_t k = n - i < most ? n - i : most;
        int err = read_file(r, p, window, (size_t)((k - 1) * stride) + size, at + i * stride);
        if (err)
            return err;
        for (uint64_t j = 0; j < k; j++)
            convert(r, dst + (i + j) * dst_stride, window + j * stride);
        i += k;
    }
    return 0;
}

/* Units [from, to) of a row. */
static int read_units(const struct reading *r, const struct tensor_piece *p, uint64_t row, uint64_t from, uint64_t to, unsigned char *dst)
{
    const uint64_t at = p->offset + row * p->row_stride + from * p->element_stride;

    if (p->quantized)
        return quantized_rows_read(r->g, r->t, p->quantized, p->offset + row, 1, from, to, dst, r->row_bytes);
    if (as_stored(r, p))
        return read_file(r, p, dst, (size_t)(to - from) * r->unit_bytes, at);
    return gather(r, p, at, p->element_stride, to - from, dst, r->unit_bytes);
}

/* Rows that lie side by side, each to its own place. */
static int read_scattered(const struct reading *r, const struct run *run)
{
    const struct tensor_piece *p = run->piece;
    struct iovec places[MOST_ROWS];

    for (uint64_t i = 0; i < run->n_rows;) {
        const uint64_t n = run->n_rows - i < MOST_ROWS ? run->n_rows - i : MOST_ROWS, at = p->offset + (run->row + i) * p->row_stride;
        for (uint64_t j = 0; j < n; j++)
            places[j] = (struct iovec){ run->dst + (i + j) * run->dst_stride, r->row_bytes };
        ssize_t got = preadv(r->g->parts[p->part].fd, places, (int)n, (off_t)at);
        /* Interrupted, or a file system that gives less: whole rows count, the rest comes again row by row. */
        uint64_t whole = got < 0 ? 0 : (uint64_t)got / r->row_bytes;
        if (got < 0 && errno != EINTR)
            return gguf_read_failed(r->g, r->t, p->part, at, -errno);
        if (!whole) {
            int err = read_units(r, p, run->row + i, 0, r->row_units, run->dst + i * run->dst_stride);
            if (err)
                return err;
            whole = 1;
        }
        i += whole;
    }
    return 0;
}

static int read_run(const struct reading *r, const struct run *run)
{
    const struct tensor_piece *p = run->piece;
    int err = 0;

    if (p->quantized)
        return quantized_rows_read(r->g, r->t, p->quantized, p->offset + run->row, run->n_rows, 0, r->row_units, run->dst,
                                   run->dst_stride);
    if (as_stored(r, p) && p->row_stride == r->row_bytes) {
        if (run->dst_stride == r->row_bytes)
            return read_file(r, p, run->dst, (size_t)(run->n_rows * r->row_bytes), p->offset + run->row * p->row_stride);
        return read_scattered(r, run);
    }
    if (p->row_stride < p->element_stride) {        /* transposed: what stands together in the file is a column */
        for (uint64_t u = 0; !err && u < r->row_units; u++)
            err = gather(r, p, p->offset + run->row * p->row_stride + u * p->element_stride, p->row_stride, run->n_rows,
                         run->dst + u * r->unit_bytes, run->dst_stride);
        return err;
    }
    for (uint64_t i = 0; !err && i < run->n_rows; i++)
        err = read_units(r, p, run->row + i, 0, r->row_units, run->dst + i * run->dst_stride);
    return err;
}

/* The piece that holds a row of the tensor; *row becomes the row in it, in GGUF's order. */
static const struct tensor_piece *find_piece(const struct tensor_source *s, uint64_t *row)
{
    const struct tensor_piece *p = s->pieces;

    for (; *row >= p->n_rows; p++)
        *row -= p->n_rows;
    return p;
}

/* Where a row of a piece stands in the file. */
static uint64_t file_row(const struct tensor_source *s, uint64_t row)
{
    if (!s->half_rows)
        return row;
    const uint64_t in_head = row % (2 * s->half_rows);
    return row - in_head + in_head / 2 + in_head % 2 * s->half_rows;
}

/* Whole rows [row, row + n) of a piece: those in order at once, those of rotated pairs as the two halves of their head. */
static int read_rows(const struct reading *r, const struct tensor_piece *p, uint64_t row, uint64_t n, unsigned char *dst)
{
    const uint64_t head_rows = 2 * r->s->half_rows;
    int err = 0;

    if (!head_rows)
        return read_run(r, &(struct run){ p, row, n, dst, r->row_bytes });
    for (uint64_t i = 0; !err && i < n;) {
        const uint64_t left = head_rows - (row + i) % head_rows, k = n - i < left ? n - i : left;
        for (uint64_t first = i; !err && first < i + k && first < i + 2; first++)
            err = read_run(r, &(struct run){ p, file_row(r->s, row + first), (i + k - first + 1) / 2, dst + first * r->row_bytes,
                                             2 * r->row_bytes });
        i += k;
    }
    return err;
}

/* Bytes [from, from + n) of one row. */
static int read_within(const struct reading *r, const struct tensor_piece *p, uint64_t row, uint64_t from, size_t n, unsigned char *dst)
{
    unsigned char units[GATHER_BYTES];
    const uint64_t most = sizeof(units) / r->unit_bytes;
    int err = 0;

    while (!err && n) {
        const uint64_t first = from / r->unit_bytes, skip = from % r->unit_bytes, last = (from + n - 1) / r->unit_bytes;
        const uint64_t k = last - first + 1 < most ? last - first + 1 : most;
        const size_t take = k * r->unit_bytes - skip < n ? (size_t)(k * r->unit_bytes - skip) : n;
        err = read_units(r, p, file_row(r->s, row), first, first + k, units);
        if (!err)
            memcpy(dst, units + skip, take);
        dst += take;
        from += take;
        n -= take;
    }
    return err;
}

static struct reading reading_of(const struct gguf *g, const struct gguf_tensor *t)
{
    const struct dtype_info *info = dtype_info(t->type), *in_file = dtype_info(t->source->file_type);
    struct reading r = { .g = g, .t = t, .s = t->source, .row_units = t->source->row_elements / info->block,
                         .unit_bytes = info->block_bytes, .file_unit_bytes = in_file->block_bytes };

    r.row_bytes = r.row_units * r.unit_bytes;
    return r;
}

int tensor_source_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, void *dst, size_t n)
{
    unsigned char *to = dst;
    int err = 0;

    if (t->source->values) {
        memcpy(dst, (const char *)t->source->values + from, n);
        return 0;
    }
    const struct reading r = reading_of(g, t);
    while (!err && n) {
        uint64_t row = from / r.row_bytes, within = from % r.row_bytes;
        size_t take;
        const struct tensor_piece *p = find_piece(t->source, &row);
        if (within || n < r.row_bytes) {
            take = r.row_bytes - within < n ? (size_t)(r.row_bytes - within) : n;
            err = read_within(&r, p, row, within, take, to);
        } else {
            const uint64_t rows = n / r.row_bytes, k = p->n_rows - row < rows ? p->n_rows - row : rows;
            take = (size_t)(k * r.row_bytes);
            err = read_rows(&r, p, row, k, to);
        }
        to += take;
        from += take;
        n -= take;
    }
    return err;
}

void tensor_source_drop_cache(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, size_t n)
{
    if (t->source->values || !n)
        return;
    const struct reading r = reading_of(g, t);
    const uint64_t head_rows = t->source->half_rows ? 2 * t->source->half_rows : 1;
    uint64_t row = from / r.row_bytes, left = (from + n - 1) / r.row_bytes + 1 - row;

    while (left) {
        uint64_t in_piece = row;
        const struct tensor_piece *p = find_piece(t->source, &in_piece);
        const uint64_t k = p->n_rows - in_piece < left ? p->n_rows - in_piece : left;
        const uint64_t begin = in_piece / head_rows * head_rows, end = (in_piece + k + head_rows - 1) / head_rows * head_rows;
        if (p->quantized)
            quantized_rows_drop_cache(g, p->quantized, p->offset + begin, end - begin);
        else if (p->row_stride >= p->element_stride)    /* of a transposed piece, other rows still need the same pages */
            posix_fadvise(g->parts[p->part].fd, (off_t)(p->offset + begin * p->row_stride), (off_t)((end - begin) * p->row_stride),
                          POSIX_FADV_DONTNEED);
        row += k;
        left -= k;
    }
}
