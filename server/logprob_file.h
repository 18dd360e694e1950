/*
 * logprob_file.h - the log-probabilities of every token at every scored position of a text, kept in a file so that another run, or
 * another program, can be compared with them.
 *
 * The format is that of llama.cpp's llama-perplexity (--kl-divergence-base; tools/perplexity/perplexity.cpp), so that both programs
 * can be held against one reference, little-endian:
 *
 *     "_logits_", u32 n_ctx, i32 n_vocab, i32 n_windows, i32 tokens[n_windows][n_ctx], and for each scored position a row:
 *     f32 scale, f32 least, u16 levels[n_vocab rounded up to even]           ln p = scale * level + least
 *
 * Positions n_ctx / 2 .. n_ctx - 2 of each window are scored. Level 0 also stands for all that is below e^-16 of the best, so that the
 * perplexity by such a file is a little lower than the model's (Gemma 3 270M: 17.98 for 18.01).
 *
 * One thread uses a file. What is wrong is logged once, with its path. close() accepts a struct of zeros.
 */
#ifndef FOURWAY_SERVER_LOGPROB_FILE_H
#define FOURWAY_SERVER_LOGPROB_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct logprob_row {
    float scale, least;
    const uint16_t *levels;     /* [n_vocab], the file's own, until the next row */
};

struct logprob_file {
    FILE *stream;
    const char *path;           /* the caller's */
    size_t n_ctx, n_vocab, n_windows;
    size_t row_bytes;
    unsigned char *row;
};

/* Begin a file of ids[n_windows * n_ctx]. Returns 0, -ENOMEM, or what the system gave. */
int logprob_file_create(struct logprob_file *f, const char *path, size_t n_ctx, size_t n_vocab, size_t n_windows, const int32_t *ids);

/* Append the row of logits[n_vocab], none of them NaN; log_sum_exp as of sampler_norm(). Returns 0 or what the system gave. */
int logprob_file_write(struct logprob_file *f, const float *logits, double log_sum_exp);

/* The last bytes of a created file. Returns 0 or what the system gave; logprob_file_close() afterwards in any case. */
int logprob_file_finish(struct logprob_file *f);

/*
 * Open a file for a model with `n_vocab` tokens and the text ids[n_ids], which must begin with the file's own tokens. n_ctx and
 * n_windows are then the file's: n_ctx >= 4, n_windows >= 1, n_ctx * n_windows <= n_ids. Returns 0, -EINVAL (it is no such file, or
 * one of another vocabulary or text), -ENOMEM, or what the system gave.
 */
int logprob_file_open(struct logprob_file *f, const char *path, size_t n_vocab, const int32_t *ids, size_t n_ids);

/* The next row. Returns 0, -EINVAL (numbers that are no log-probabilities), or what the system gave (-EIO: the file has shrunk). */
int logprob_file_read(struct logprob_file *f, struct logprob_row *row);

void logprob_file_close(struct logprob_file *f);

#endif
