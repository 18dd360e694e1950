/*
 * cmd_perplexity.c - `fourway perplexity MODEL FILE`: how well a model predicts a text.
 *
 * llama.cpp's method, so that figures can be compared: the text is cut into windows of --ctx tokens, each read from an empty cache; the
 * tokens of a window's second half are scored, so that every scored token has at least half a window before it.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "model/forward.h"
#include "model/sampler.h"
#include "server/commands.h"
#include "server/options.h"
#include "server/progress.h"
#include "weights/tokenizer.h"

enum { ROWS = 64, DEFAULT_WINDOW = 512 };

struct scores { double sum, sum_squares; size_t n, n_windows, n_bytes; };

static int read_file(const char *path, struct buf *text)
{
    FILE *f = !strcmp(path, "-") ? stdin : fopen(path, "rb");
    int err = 0;

    if (!f) {
        log_error("%s: %s", path, strerror(errno));
        return -errno;
    }
    for (;;) {
        char *to = buf_reserve(text, 1 << 16);
        size_t n = to ? fread(to, 1, 1 << 16, f) : 0;
        if (n == 0)
            break;
        text->len += n;
    }
    if (ferror(f) || text->failed) {
        log_error("%s: %s", path, text->failed ? "out of memory" : "cannot be read");
        err = -EIO;
    }
    if (f != stdin)
        fclose(f);
    return err;
}

/* Positions first - 1 .. n - 2 of the window predict tokens first .. n - 1, which are scored. */
static int score_window(struct model *m, const struct tokenizer *t, struct kv_sequence *s, const int32_t *ids, size_t n, size_t first,
                        struct scores *scores)
{
    struct step_token tokens[ROWS];

    if (kv_cache_reserve(model_kv_cache(m), s, n)) {
        log_error("the KV cache has no room for a window of %zu tokens", n);
        return -ENOSPC;
    }
    for (size_t i = 0; i + 1 < n; i += ROWS) {
        size_t k = n - 1 - i < ROWS ? n - 1 - i : ROWS, row = 0;
        for (size_t j = 0; j < k; j++)
            tokens[j] = (struct step_token){ ids[i + j], (uint32_t)(i + j), s, i + j + 1 >= first, ROLE_PROMPT };
        model_step(m, tokens, k);
        for (size_t j = 0; j < k; j++) {
            size_t n_segments, bytes = 0;
            if (!tokens[j].wants_logits)
                continue;
            const struct segment_stats *stats = model_logit_stats(m, row, &n_segments);
            struct logits_norm norm = sampler_norm(stats, n_segments);
            double logprob = (double)sampler_logprob(model_logits(m, row), norm, ids[i + j + 1]);
            row++;
            if (isnan(logprob)) {
                log_error("the model's logits are not finite at token %zu", i + j);
                kv_cache_release(model_kv_cache(m), s);
                return -EIO;
            }
            tokenizer_piece(t, ids[i + j + 1], &bytes);
            scores->sum -= logprob;
            scores->sum_squares += logprob * logprob;
            scores->n_bytes += bytes;
            scores->n++;
        }
    }
    kv_cache_release(model_kv_cache(m), s);
    scores->n_windows++;
    return 0;
}

static int score_text(struct model *m, const struct tokenizer *t, const struct token_ids *ids, size_t window, struct scores *scores)
{
    const bool bos = tokenizer_adds_bos(t);
    int32_t *part = malloc(window * sizeof(*part));
    struct kv_sequence s = { 0 };
    int err = part ? kv_sequence_create(&s, window) : -ENOMEM;

    if (err)
        log_error("no memory for a window of %zu tokens", window);
    for (size_t i = 0; !err && i + window <= ids->n; i += window) {
        memcpy(part, ids->ids + i, window * sizeof(*part));
        if (bos)
            part[0] = tokenizer_bos(t);
        err = score_window(m, t, &s, part, window, window / 2 + 1, scores);
    }
    if (s.pages)
        kv_sequence_destroy(&s);
    free(part);
    return err;
}

static void print_scores(const struct scores *s, bool json)
{
    double n = (double)s->n, mean = s->sum / n, ppl = exp(mean);
    double error = ppl * sqrt((s->sum_squares / n - mean * mean) / n);
    double bits_per_byte = s->n_bytes ? s->sum / log(2) / (double)s->n_bytes : 0;

    if (json) {
        json_t *o = json_pack("{s:f, s:f, s:f, s:f, s:I, s:I}", "perplexity", ppl, "error", error, "nats_per_token", mean, "bits_per_byte",
                              bits_per_byte, "tokens", (json_int_t)s->n, "windows", (json_int_t)s->n_windows);
        json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(o);
    } else {
        printf("perplexity %.4f +/- %.4f (%.4f nats a token, %.4f bits a byte; %zu tokens scored in %zu windows)\n", ppl, error, mean,
               bits_per_byte, s->n, s->n_windows);
    }
}

static int run_perplexity(const char *model_path, const char *text_path, const struct model_flags *flags, bool json)
{
    struct model_options o = { .max_batch = 1, .max_step_tokens = ROWS, .max_step_logits = ROWS };
    struct scores scores = { 0 };
    struct token_ids ids = { 0 };
    struct tokenizer *t = NULL;
    struct model *m = NULL;
    struct gguf *g = NULL;
    struct buf text = { 0 };
    size_t window = flags->ctx ? flags->ctx : DEFAULT_WINDOW;
    uint64_t started = clock_now_ns();
    int status = model_flags_apply(flags, &o);

    if (status)
        return status;
    o.n_ctx = window;
    status = 1;
    if (read_file(text_path, &text) || gguf_open(&g, model_path) || tokenizer_open_gguf(&t, g))
        goto out;
    if (tokenizer_encode(t, text.data ? text.data : "", text.len, NULL, TOKENIZE_ADD_BOS, &ids)) {
        log_error("%s: cannot be tokenised (is it UTF-8 text?)", text_path);
        goto out;
    }
    if (ids.n < window || window < 4) {
        log_error("%s has %zu tokens, one window needs %zu (at least 4): use a longer text or a smaller --ctx", text_path, ids.n, window);
        goto out;
    }
    if (model_open(&m, g, &o, progress_step, &started) || score_text(m, t, &ids, window, &scores))
        goto out;
    print_scores(&scores, json);
    status = 0;
out:
    model_close(m);
    tokenizer_close(t);
    gguf_close(g);
    buf_free(&text);
    free(ids.ids);
    return status;
}

int cmd_perplexity(int argc, char **argv)
{
    struct model_flags flags;
    bool json = false;
    const char *args[2];
    size_t n_args;
    char path[4096];
    struct option options[1 + MODEL_FLAGS_OPTIONS] = {
        { .name = "json", .type = OPTION_FLAG, .out = &json, .help = "one JSON object on stdout" },
    };
    const struct command command = {
        .name = "perplexity", .usage = "perplexity MODEL FILE [options]",
        .summary = "How well a model predicts the text of FILE (- for stdin): exp of the mean negative log-likelihood of a token.",
        .options = options, .n_options = 1 + MODEL_FLAGS_OPTIONS, .min_args = 2, .max_args = 2,
        .epilogue = "The text is cut into windows of --ctx tokens (default 512); the second half of each is scored.",
    };

    model_flags_init(&flags);
    model_flags_options(&flags, options + 1);
    int status = options_parse(&command, argc, argv, args, &n_args);
    if (status >= 0)
        return status;
    status = model_resolve(args[0], path, sizeof(path));
    return status ? status : run_perplexity(path, args[1], &flags, json);
}
