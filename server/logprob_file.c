#include "server/logprob_file.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/checked.h"
#include "common/log.h"

static const char magic[8] = "_logits_";

struct header { char magic[8]; uint32_t n_ctx, n_vocab, n_windows; };
struct row_head { float scale, least; };

_Static_assert(sizeof(struct header) == 20, "as the file has it");

static int say_errno(const struct logprob_file *f)
{
    int err = errno ? errno : EIO;

    log_error("%s: %s", f->path, strerror(err));
    return -err;
}

/* `n` bytes; a file that shrank since its size was compared ends without an error of the system's. */
static int read_exactly(const struct logprob_file *f, void *to, size_t n)
{
    errno = 0;
    return fread(to, 1, n, f->stream) == n ? 0 : say_errno(f);
}

static bool row_size(uint64_t n_vocab, uint64_t *bytes)
{
    return checked_align(n_vocab, 2, bytes) && checked_mul(*bytes, sizeof(uint16_t), bytes) &&
           checked_add(*bytes, sizeof(struct row_head), bytes);
}

static int take_shape(struct logprob_file *f, const struct header *h)
{
    uint64_t bytes;

    f->n_ctx = h->n_ctx;
    f->n_vocab = h->n_vocab;
    f->n_windows = h->n_windows;
    f->row = row_size(h->n_vocab, &bytes) ? calloc(1, bytes) : NULL;
    if (!f->row) {
        log_error("%s: no memory for a row of %" PRIu32 " log-probabilities", f->path, h->n_vocab);
        return -ENOMEM;
    }
    f->row_bytes = bytes;
    return 0;
}

int logprob_file_create(struct logprob_file *f, const char *path, size_t n_ctx, size_t n_vocab, size_t n_windows, const int32_t *ids)
{
    struct header h = { .n_ctx = (uint32_t)n_ctx, .n_vocab = (uint32_t)n_vocab, .n_windows = (uint32_t)n_windows };

    *f = (struct logprob_file){ .stream = fopen(path, "wbe"), .path = path };
    if (!f->stream)
        return say_errno(f);
    memcpy(h.magic, magic, sizeof(magic));
    int err = take_shape(f, &h);
    if (!err && (fwrite(&h, sizeof(h), 1, f->stream) != 1 || fwrite(ids, n_ctx * sizeof(*ids), n_windows, f->stream) != n_windows))
        err = say_errno(f);
    if (err)
        logprob_file_close(f);
    return err;
}

/* Every step in float32 and in llama-perplexity's order, so that equal logits give equal bytes. */
int logprob_file_write(struct logprob_file *f, const float *logits, double log_sum_exp)
{
    uint16_t *levels = (uint16_t *)(f->row + sizeof(struct row_head));
    float max = logits[0], min = logits[0];

    for (size_t i = 1; i < f->n_vocab; i++) {
        max = logits[i] > max ? logits[i] : max;
        min = logits[i] < min ? logits[i] : min;
    }
    min = min < max - 16 ? max - 16 : min;
    const struct row_head head = { .scale = (max - min) / 65535.0f, .least = min - max - (float)(log_sum_exp - (double)max) };
    const float inverse = head.scale > 0 ? 1 / head.scale : 0;
    memcpy(f->row, &head, sizeof(head));
    for (size_t i = 0; i < f->n_vocab; i++) {
        /* Rounded to even by the addition: then the low bits of the sum are the level. lrintf() would be no vector instruction. */
        float level = (logits[i] > min ? inverse * (logits[i] - min) : 0) + 0x1.8p23f;
        uint32_t bits;
        memcpy(&bits, &level, sizeof(bits));
        levels[i] = (uint16_t)bits;
    }
    return fwrite(f->row, f->row_bytes, 1, f->stream) == 1 ? 0 : say_errno(f);
}

int logprob_file_finish(struct logprob_file *f)
{
    int failed = fclose(f->stream);

    f->stream = NULL;
    return failed ? say_errno(f) : 0;
}

/* Bytes of the whole file that this header begins; false when no file can be so large. */
static bool file_size(const struct header *h, uint64_t *bytes)
{
    const uint64_t n_rows = (uint64_t)h->n_ctx - 1 - h->n_ctx / 2;
    uint64_t row, window;

    return row_size(h->n_vocab, &row) && checked_mul(n_rows, row, &window) &&
           checked_add(window, (uint64_t)h->n_ctx * sizeof(int32_t), &window) && checked_mul(window, h->n_windows, bytes) &&
           checked_add(*bytes, sizeof(*h), bytes);
}

static int read_header(struct logprob_file *f, struct header *h)
{
    struct stat st;
    uint64_t bytes;

    if (fstat(fileno(f->stream), &st))
        return say_errno(f);
    if (!S_ISREG(st.st_mode)) {
        log_error("%s: a file of log-probabilities is a regular file, this is none", f->path);
        return -EINVAL;
    }
    const size_t n = fread(h, 1, sizeof(*h), f->stream);
    if (ferror(f->stream))
        return say_errno(f);
    if (n < sizeof(magic) || memcmp(h->magic, magic, sizeof(magic))) {
        log_error("%s: no file of log-probabilities: it does not begin with %.8s", f->path, magic);
        return -EINVAL;
    }
    if (n < sizeof(*h)) {
        log_error("%s: truncated within its header, after %zu bytes", f->path, n);
        return -EINVAL;
    }
    if (h->n_ctx < 4 || h->n_ctx > INT32_MAX || !h->n_windows || h->n_windows > INT32_MAX || !file_size(h, &bytes)) {
        log_error("%s: its header is wrong: %" PRIu32 " windows of %" PRIu32 " tokens", f->path, h->n_windows, h->n_ctx);
        return -EINVAL;
    }
    if ((uint64_t)st.st_size != bytes) {
        log_error("%s: %s: %" PRIu64 " bytes, where its header asks for %" PRIu64, f->path,
                  (uint64_t)st.st_size < bytes ? "truncated" : "too long", (uint64_t)st.st_size, bytes);
        return -EINVAL;
    }
    return 0;
}

/* Block by block: the file's tokens need no memory of their own, whatever it claims. */
static int compare_tokens(struct logprob_file *f, const int32_t *ids, size_t n)
{
    int32_t block[1024];

    for (size_t i = 0; i < n;) {
        const size_t k = n - i < 1024 ? n - i : 1024;
        int err = read_exactly(f, block, k * sizeof(*block));
        if (err)
            return err;
        for (size_t j = 0; j < k; j++, i++) {
            if (block[j] != ids[i]) {
                log_error("%s: made from another text or vocabulary: its token %zu is %" PRId32 ", here it is %" PRId32, f->path, i,
                          block[j], ids[i]);
                return -EINVAL;
            }
        }
    }
    return 0;
}

int logprob_file_open(struct logprob_file *f, const char *path, size_t n_vocab, const int32_t *ids, size_t n_ids)
{
    struct header h;
    int err;

    *f = (struct logprob_file){ .stream = fopen(path, "rbe"), .path = path };
    if (!f->stream)
        return say_errno(f);
    err = read_header(f, &h);
    if (err)
        goto out;
    const uint64_t n_tokens = (uint64_t)h.n_ctx * h.n_windows;
    if (h.n_vocab != n_vocab) {
        log_error("%s: made with a vocabulary of %" PRIu32 " tokens, the model has %zu", path, h.n_vocab, n_vocab);
        err = -EINVAL;
    } else if (n_tokens > n_ids) {
        log_error("%s: made from a text of at least %" PRIu64 " tokens, this one has %zu", path, n_tokens, n_ids);
        err = -EINVAL;
    }
    if (!err)
        err = compare_tokens(f, ids, n_tokens);
    if (!err)
        err = take_shape(f, &h);
out:
    if (err)
        logprob_file_close(f);
    return err;
}

int logprob_file_read(struct logprob_file *f, struct logprob_row *row)
{
    struct row_head head;

    int err = read_exactly(f, f->row, f->row_bytes);
    if (err)
        return err;
    memcpy(&head, f->row, sizeof(head));
    /* No probability is above 1, but for the rounding of scale and least. */
    if (!isfinite(head.least) || !(head.scale >= 0) || !(head.scale * 65535 + head.least <= 1e-3f)) {
        log_error("%s: the row at byte %lld holds no log-probabilities: scale %g, least %g", f->path,
                  (long long)ftello(f->stream) - (long long)f->row_bytes, (double)head.scale, (double)head.least);
        return -EINVAL;
    }
    *row = (struct logprob_row){ head.scale, head.least, (const uint16_t *)(f->row + sizeof(head)) };
    return 0;
}

void logprob_file_close(struct logprob_file *f)
{
    if (f->stream)
        fclose(f->stream);
    free(f->row);
    f->stream = NULL;
    f->row = NULL;
}
