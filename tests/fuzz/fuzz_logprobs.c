/*
 * fuzz_logprobs.c - libFuzzer target: the input is a file of log-probabilities. Whatever opens is read to its end and compared with.
 *
 * The text is as long as a small file may want and alternates the tokens 0, 1, 2; the vocabulary has 5. A refusal must say exactly one
 * thing.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/divergence.h"
#include "server/logprob_file.h"
#include "tests/fuzz/fuzz_lines.h"

enum { N_VOCAB = 5, N_IDS = 512 };

/* What perplexity --kl-divergence does, with a model that gives every token the same logit. */
static void use(struct logprob_file *f)
{
    const float logits[N_VOCAB] = { 0 };
    const size_t n = f->n_windows * (f->n_ctx - 1 - f->n_ctx / 2);
    struct divergence_summary summary;
    struct logprob_row row;
    struct divergence d;
    int err = 0;

    require(f->n_ctx >= 4 && f->n_windows >= 1 && f->n_ctx * f->n_windows <= N_IDS, "a shape that does not fit the text");
    require(!divergence_create(&d, n, N_VOCAB), "no memory for a small file");
    for (size_t i = 0; i < n && !err; i++) {
        err = logprob_file_read(f, &row);
        if (!err)
            require(divergence_add(&d, &row, logits, log(N_VOCAB), 0, (int32_t)(i % N_VOCAB)), "no finite divergence from finite logits");
    }
    require((err != 0) == (n_lines == 1), "a refused row says exactly one thing");
    if (d.n) {
        divergence_summarise(&d, &summary);
        require(isfinite(summary.kl.value) && summary.kl_max >= summary.kl_median, "the figures are wrong");
    }
    divergence_destroy(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct logprob_file f;
    int32_t ids[N_IDS];
    char path[32];

    for (size_t i = 0; i < N_IDS; i++)
        ids[i] = (int32_t)(i % 3);
    int fd = memfd_create("base", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size, "no file in memory");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    log_set_sink(count_line, "/proc/self/fd/");
    n_lines = 0;
    if (!logprob_file_open(&f, path, N_VOCAB, ids, N_IDS))
        use(&f);
    else
        require(n_lines == 1, "a refusal says exactly one thing");
    logprob_file_close(&f);
    close(fd);
    return 0;
}
