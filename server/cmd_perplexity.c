/*
 * cmd_perplexity.c - `fourway perplexity MODEL FILE`: how well a model predicts a text, and how far it is from a reference.
 *
 * llama.cpp's method, so that figures can be compared: the text is cut into windows of --ctx tokens, each read from an empty cache; the
 * tokens of a window's second half are scored, so that every scored token has at least half a window before it. --save-logits keeps all
 * probabilities at the scored tokens; with --kl-divergence they are the reference.
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
#include "server/divergence.h"
#include "server/logprob_file.h"
#include "server/node_choice.h"
#include "server/options.h"
#include "server/progress.h"
#include "weights/tokenizer.h"

enum { ROWS = 64, DEFAULT_WINDOW = 512, MOST_TEXT = 256 << 20 };

/* What the command line asks for, but for the model. */
struct request {
    const char *text, *save, *base;     /* paths; NULL: not asked for */
    uint64_t n_windows;                 /* 0: all */
    bool json;
};

struct scoring {
    struct model *model;
    const struct tokenizer *tokenizer;
    struct token_ids ids;
    size_t window, n_windows;
    double sum, sum_squares;            /* of the log-probabilities of the n scored tokens, whose text has n_bytes */
    size_t n, n_bytes;
    struct logprob_file save, base;     /* open if asked for */
    struct divergence divergence;
};

static int read_file(const char *path, struct buf *text)
{
    FILE *f = !strcmp(path, "-") ? stdin : fopen(path, "rb");
    int err = 0;

    if (!f) {
        log_error("%s: %s", path, strerror(errno));
        return -errno;
    }
    text->limit = MOST_TEXT;
    for (;;) {
        char *to = buf_reserve(text, 1 << 16);
        size_t n = to ? fread(to, 1, 1 << 16, f) : 0;
        if (n == 0)
            break;
        text->len += n;
    }
    if (ferror(f) || text->failed) {
        log_error("%s: %s", path, text->failed ? "longer than 256 MiB, or out of memory" : "cannot be read");
        err = -EIO;
    }
    if (f != stdin)
        fclose(f);
    return err;
}

/* Row `row` of the last step's logits, at position `at` of a window; `next` is the token that follows there. */
static int score_position(struct scoring *s, size_t row, size_t at, int32_t next)
{
    size_t n_segments, bytes = 0;
    const struct segment_stats *stats = model_logit_stats(s->model, row, &n_segments);
    const struct logits_norm norm = sampler_norm(stats, n_segments);
    const float *logits = model_logits(s->model, row);
    const double logprob = (double)sampler_logprob(logits, norm, next);

    if (!isfinite(logprob)) {
        log_error("the model's logits are not finite at token %zu", at);
        return -EIO;
    }
    tokenizer_piece(s->tokenizer, next, &bytes);
    s->sum -= logprob;
    s->sum_squares += logprob * logprob;
    s->n_bytes += bytes;
    s->n++;
    if (s->save.stream)
        return logprob_file_write(&s->save, logits, norm.log_sum_exp);
    if (s->base.stream) {
        struct logprob_row base;
        int err = logprob_file_read(&s->base, &base);
        if (err)
            return err;
        if (!divergence_add(&s->divergence, &base, logits, norm.log_sum_exp, norm.argmax, next)) {
            log_error("the divergence is not finite at token %zu", at);
            return -EIO;
        }
    }
    return 0;
}

/* Positions window / 2 .. window - 2 predict the tokens after them, which are scored. */
static int score_window(struct scoring *s, struct kv_sequence *sequence, const int32_t *ids)
{
    struct step_token tokens[ROWS];
    struct model_info info;
    const size_t n = s->window;

    model_info(s->model, &info);
    int err = 0;
    for (size_t i = 0; !err && i + 1 < n; i += ROWS) {
        size_t k = n - 1 - i < ROWS ? n - 1 - i : ROWS, row = 0;
        kv_cache_slide(model_kv_cache(s->model), sequence, i);
        if (kv_cache_reserve(model_kv_cache(s->model), sequence, i + k)) {
            log_error("the KV cache has no room for a window of %zu tokens", n);
            err = -ENOSPC;
            break;
        }
        for (size_t j = 0; j < k; j++)
            tokens[j] = (struct step_token){ .id = ids[i + j], .position = (uint32_t)(i + j), .sequence = sequence,
                                                .wants_logits = i + j >= n / 2, .rope_length = rope_length(&info.rope_lengths, n),
                                                .role = ROLE_PROMPT };
        model_step(s->model, tokens, k);
        for (size_t j = 0; !err && j < k; j++) {
            if (tokens[j].wants_logits)
                err = score_position(s, row++, i + j, ids[i + j + 1]);
        }
    }
    kv_cache_release(model_kv_cache(s->model), sequence);
    return err;
}

static int score_text(struct scoring *s)
{
    int32_t *part = malloc(s->window * sizeof(*part));
    struct kv_sequence sequence = { 0 };
    int err = part ? kv_sequence_create(&sequence, s->window) : -ENOMEM;

    if (err)
        log_error("no memory for a window of %zu tokens", s->window);
    for (size_t i = 0; !err && i < s->n_windows; i++) {
        memcpy(part, s->ids.ids + i * s->window, s->window * sizeof(*part));
        if (tokenizer_adds_bos(s->tokenizer))
            part[0] = tokenizer_bos(s->tokenizer);
        err = score_window(s, &sequence, part);
    }
    if (sequence.pages)
        kv_sequence_destroy(&sequence);
    free(part);
    return err;
}

/* How the text is cut, and the file of the reference, which says so when there is one. Before the model is loaded. */
static int plan_windows(struct scoring *s, const struct request *r, uint64_t ctx)
{
    const size_t n_vocab = tokenizer_vocab_size(s->tokenizer);

    s->window = ctx ? ctx : DEFAULT_WINDOW;
    if (r->base) {
        int err = logprob_file_open(&s->base, r->base, n_vocab, s->ids.ids, s->ids.n);
        if (err)
            return err;
        if (ctx && ctx != s->base.n_ctx) {
            log_error("%s: made with windows of %zu tokens, --ctx says %zu", r->base, s->base.n_ctx, s->window);
            return -EINVAL;
        }
        s->window = s->base.n_ctx;
        s->n_windows = s->base.n_windows;
    } else if (s->ids.n < s->window || s->window < 4) {
        log_error("%s has %zu tokens, one window needs %zu (at least 4): use a longer text or a smaller --ctx", r->text, s->ids.n,
                  s->window);
        return -EINVAL;
    } else {
        s->n_windows = s->ids.n / s->window;
    }
    if (r->n_windows && r->n_windows < s->n_windows)
        s->n_windows = r->n_windows;
    if (r->base && divergence_create(&s->divergence, s->n_windows * (s->window - 1 - s->window / 2), n_vocab)) {
        log_error("no memory for the divergence at each of %zu windows", s->n_windows);
        return -ENOMEM;
    }
    return r->save ? logprob_file_create(&s->save, r->save, s->window, n_vocab, s->n_windows, s->ids.ids) : 0;
}

static int add_estimate(json_t *o, const char *name, struct estimate e)
{
    return json_object_set_new(o, name, json_pack("{s:f, s:f}", "value", e.value, "error", e.error));
}

static int print_json(const struct scoring *s, struct estimate nats, double bits_per_byte, const struct divergence_summary *d)
{
    const double ppl = exp(nats.value);
    json_t *o = json_pack("{s:f, s:f, s:f, s:f, s:I, s:I}", "perplexity", ppl, "error", ppl * nats.error, "nats_per_token", nats.value,
                          "bits_per_byte", bits_per_byte, "tokens", (json_int_t)s->n, "windows", (json_int_t)s->n_windows);

    int err = o ? 0 : -1;

    if (d) {
        err |= add_estimate(o, "base_perplexity", d->base_perplexity);
        err |= add_estimate(o, "perplexity_ratio", d->perplexity_ratio);
        err |= add_estimate(o, "kl_divergence", d->kl);
        json_t *kl = json_object_get(o, "kl_divergence");
        err |= json_object_set_new(kl, "median", json_real(d->kl_median));
        err |= json_object_set_new(kl, "p99", json_real(d->kl_p99));
        err |= json_object_set_new(kl, "max", json_real(d->kl_max));
        err |= add_estimate(o, "same_top", d->same_top);
        err |= add_estimate(o, "p_difference", d->p_diff);
        err |= add_estimate(o, "rms_p_difference", d->rms_p_diff);
    }
    if (err) {      /* JSON has no infinity */
        log_error("perplexity: a figure is beyond what a number can hold (%.4f nats a token)", nats.value);
        json_decref(o);
        return -ERANGE;
    }
    json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(o);
    return 0;
}

static int print_text(const struct scoring *s, struct estimate nats, double bits_per_byte, const struct divergence_summary *d)
{
    const double ppl = exp(nats.value);

    printf("perplexity %.4f +/- %.4f (%.4f nats a token, %.4f bits a byte; %zu tokens scored in %zu windows)\n", ppl, ppl * nats.error,
           nats.value, bits_per_byte, s->n, s->n_windows);
    if (!d)
        return 0;
    printf("base perplexity %.4f +/- %.4f, ratio %.5f +/- %.5f\n", d->base_perplexity.value, d->base_perplexity.error,
           d->perplexity_ratio.value, d->perplexity_ratio.error);
    printf("KL divergence %.6f +/- %.6f (median %.6f, 99 %% %.6f, largest %.6f)\n", d->kl.value, d->kl.error, d->kl_median, d->kl_p99,
           d->kl_max);
    printf("same first choice %.3f %% +/- %.3f\n", 100 * d->same_top.value, 100 * d->same_top.error);
    printf("difference of probability: mean %.3f %% +/- %.3f, rms %.3f %% +/- %.3f\n", 100 * d->p_diff.value, 100 * d->p_diff.error,
           100 * d->rms_p_diff.value, 100 * d->rms_p_diff.error);
    return 0;
}

static int print_scores(struct scoring *s, const struct request *r)
{
    const struct estimate nats = estimate_mean(s->sum, s->sum_squares, s->n);
    const double bits_per_byte = s->n_bytes ? s->sum / log(2) / (double)s->n_bytes : 0;
    struct divergence_summary summary;

    if (r->base)
        divergence_summarise(&s->divergence, &summary);
    return (r->json ? print_json : print_text)(s, nats, bits_per_byte, r->base ? &summary : NULL);
}

static int run_perplexity(const char *model_path, const struct model_flags *flags, const struct request *r)
{
    struct model_options o = { .max_batch = 1, .max_step_tokens = ROWS, .max_step_logits = ROWS };
    struct scoring s = { 0 };
    const struct node_wish wish = { .machine_file = flags->machine, .n_replicas = 1, .batch = 1 };
    struct node_choice nodes;
    struct tokenizer *t = NULL;
    struct gguf *g = NULL;
    struct buf text = { 0 };
    uint64_t started = clock_now_ns();
    int status = model_flags_apply(flags, &o);

    if (status)
        return status;
    status = 1;
    if (read_file(r->text, &text) || gguf_open(&g, model_path) || tokenizer_open_gguf(&t, g))
        goto out;
    s.tokenizer = t;
    if (tokenizer_encode(t, text.data ? text.data : "", text.len, NULL, TOKENIZE_ADD_BOS, &s.ids)) {
        log_error("%s: cannot be tokenised (is it UTF-8 text?)", r->text);
        goto out;
    }
    if (plan_windows(&s, r, flags->ctx))
        goto out;
    o.n_ctx = s.window;
    if (node_choice_make(&nodes, &o, g, &wish) || model_open(&s.model, g, &o, progress_step, &started) || score_text(&s))
        goto out;
    if (r->save && logprob_file_finish(&s.save))
        goto out;
    status = print_scores(&s, r) ? 1 : 0;
out:
    logprob_file_close(&s.save);
    logprob_file_close(&s.base);
    divergence_destroy(&s.divergence);
    model_close(s.model);
    tokenizer_close(t);
    gguf_close(g);
    buf_free(&text);
    free(s.ids.ids);
    return status;
}

int cmd_perplexity(int argc, char **argv)
{
    enum { OWN = 4 };
    struct model_flags flags;
    struct request r = { 0 };
    const char *args[2];
    size_t n_args;
    char path[4096];
    struct option options[OWN + MODEL_FLAGS_OPTIONS] = {
        { .name = "windows", .type = OPTION_U64, .out = &r.n_windows, .metavar = "N", .least = 0, .most = INT32_MAX,
          .help = "score the first N windows (default 0: all)" },
        { .name = "save-logits", .type = OPTION_STRING, .out = &r.save, .metavar = "BASE",
          .help = "write the log-probabilities at all scored tokens to this file, in llama-perplexity's format" },
        { .name = "kl-divergence", .type = OPTION_STRING, .out = &r.base, .metavar = "BASE",
          .help = "compare with the log-probabilities in this file, from --save-logits or llama-perplexity" },
        { .name = "json", .type = OPTION_FLAG, .out = &r.json, .help = "one JSON object on stdout" },
    };
    const struct command command = {
        .name = "perplexity", .usage = "perplexity MODEL FILE [options]",
        .summary = "How well a model predicts the text of FILE (- for stdin): exp of the mean negative log-likelihood of a token.",
        .options = options, .n_options = OWN + MODEL_FLAGS_OPTIONS, .min_args = 2, .max_args = 2,
        .epilogue = "The text is cut into windows of --ctx tokens (default 512); the second half of each is scored. What quantised "
                    "arithmetic costs a model: --activations f32 --save-logits BASE, then --kl-divergence BASE without the two. BASE "
                    "has two bytes for each token of the vocabulary at each scored token. All tokens are taken as a prompt's: what "
                    "generated ones meet at amx is measured with --activations q8.",
    };

    model_flags_init(&flags);
    model_flags_options(&flags, options + OWN);
    int status = options_parse(&command, argc, argv, args, &n_args);
    if (status >= 0)
        return status;
    if (r.save && r.base) {
        log_error("perplexity: --save-logits and --kl-divergence are two runs: the first makes the file that the second reads");
        return 2;
    }
    r.text = args[1];
    status = model_resolve(args[0], path, sizeof(path));
    return status ? status : run_perplexity(path, &flags, &r);
}
