#include "server/draft_model.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "model/forward.h"
#include "numa/pool.h"

enum { STEP_TOKENS = 512 };     /* of the texts it reads; twice the large model's chunk, as it is faster */

struct draft_model {
    struct model *model;
    struct model_info info;
    size_t vocab_size, max_batch;
    struct step_token *step;                /* [max_step_tokens] */
    char *sampler_scratch;                  /* a part for each worker */
    double step_ns;
    /* of the step under way */
    struct sequence **active;               /* [max_batch], and for each: */
    size_t *n_active_known;                 /* its tokens, drafts included */
    size_t n_active;
};

int draft_model_open(struct draft_model **out, const struct gguf *g, const struct model_options *o, struct model *large)
{
    struct draft_model *d = calloc(1, sizeof(*d));
    struct model_info info;

    *out = NULL;
    if (!d)
        return -ENOMEM;
    model_info(large, &info);
    d->max_batch = o->max_batch;
    struct model_options options = *o;
    options.beside = large;
    options.max_drafts = SCHEDULER_MAX_DRAFT;       /* what was not drawn is read again, too */
    options.max_step_tokens = STEP_TOKENS > o->max_batch ? STEP_TOKENS : o->max_batch;
    options.max_step_logits = o->max_batch;
    options.max_step_hidden = 0;
    options.full_contexts = 0;
    options.n_ctx = 0;
    options.kv_bytes = 0;
    options.kv_tokens = info.kv_pages * info.page_tokens;
    int err = model_open(&d->model, g, &options, NULL, NULL);
    if (!err && model_config(d->model)->vocab_size != model_config(large)->vocab_size)
        err = -EINVAL;                      /* whoever opened the file has compared the tokens */
    if (!err) {
        model_info(d->model, &d->info);
        d->vocab_size = model_config(d->model)->vocab_size;
        d->step = calloc(d->info.max_step_tokens, sizeof(*d->step));
        d->sampler_scratch = malloc(d->info.n_threads * sampler_scratch_bytes(d->vocab_size));
        d->active = calloc(d->max_batch, sizeof(*d->active));
        d->n_active_known = calloc(d->max_batch, sizeof(*d->n_active_known));
        err = d->step && d->sampler_scratch && d->active && d->n_active_known ? 0 : -ENOMEM;
    }
    if (err)
        draft_model_close(d);
    else
        *out = d;
    return err;
}

void draft_model_close(struct draft_model *d)
{
    if (!d)
        return;
    model_close(d->model);
    free(d->step);
    free(d->sampler_scratch);
    free(d->active);
    free(d->n_active_known);
    free(d);
}

double draft_model_step_ns(const struct draft_model *d)
{
    return d->step_ns;
}

void draft_model_forget(struct draft_model *d, struct sequence *s)
{
    kv_cache_release(model_kv_cache(d->model), &s->draft_kv);
    s->n_draft_done = 0;
}

/* What of the text it has not read, up to `most` tokens, into the step. Returns how many; 0: no pages, or no room. */
static size_t add_tokens(struct draft_model *d, struct sequence *s, size_t n_known, size_t at, size_t most)
{
    size_t n = n_known - s->n_draft_done;

    n = n < most ? n : most;
    if (!n || n_known > d->info.n_ctx || kv_cache_reserve(model_kv_cache(d->model), &s->draft_kv, s->n_draft_done + n))
        return 0;
    for (size_t i = 0; i < n; i++) {
        const size_t position = s->n_draft_done + i;
        d->step[at + i] = (struct step_token){
            .id = s->tokens[position], .position = (uint32_t)position, .sequence = &s->draft_kv, .wants_logits = position + 1 == n_known,
            .rope_length = rope_length(&d->info.rope_lengths, s->request.n_prompt),
            .role = position < s->request.n_prompt ? ROLE_PROMPT : ROLE_GENERATED };
    }
    s->n_draft_done += n;
    return n;
}

/* The next draft of each, as the large model would draw it from these logits. */
static void draw_worker(const struct worker *w, void *arg)
{
    struct draft_model *d = arg;
    void *scratch = d->sampler_scratch + w->index * sampler_scratch_bytes(d->vocab_size);
    size_t n_segments;

    for (size_t i = w->index; i < d->n_active; i += w->n_workers) {
        struct sequence *s = d->active[i];
        const size_t n = d->n_active_known[i];
        const struct segment_stats *stats = model_logit_stats(d->model, i, &n_segments);
        const struct logits_norm norm = sampler_norm(stats, n_segments);
        const bool early = n - s->request.n_prompt < s->request.min_tokens;
        s->tokens[n] = isnan(norm.log_sum_exp) ? -1 : sampler_draw(
            &s->request.sampling, model_logits(d->model, i), d->vocab_size, norm, n, s->tokens, n, s->request.n_prompt, s->request.end_ids,
            early ? s->request.n_end_ids : 0, NULL, scratch);
    }
}

/* One step for all that want one more draft; `reads`: others read on in their texts. Returns false when no draft was made. */
static bool draft_once(struct draft_model *d, struct sequence *const *sequences, const size_t *wanted, size_t n, bool reads)
{
    size_t n_tokens = 0;

    d->n_active = 0;
    for (size_t i = 0; i < n; i++) {
        struct sequence *s = sequences[i];
        const size_t n_known = s->n_tokens + s->n_draft;
        if (s->n_draft == wanted[i] || s->n_draft_done >= n_known || (!reads && s->n_draft_done + 1 < n_known))
            continue;
        const size_t n_added = add_tokens(d, s, n_known, n_tokens, d->info.max_step_tokens - n_tokens);
        n_tokens += n_added;
        if (!n_added || s->n_draft_done < n_known)
            continue;
        d->n_active_known[d->n_active] = n_known;
        d->active[d->n_active++] = s;
    }
    if (!n_tokens)
        return false;
    const uint64_t start = clock_now_ns();
    model_step(d->model, d->step, n_tokens);
    if (d->n_active)
        pool_run(model_pool(d->model), draw_worker, d);
    for (size_t i = 0; i < d->n_active; i++) {
        struct sequence *s = d->active[i];
        s->n_draft += s->tokens[s->n_tokens + s->n_draft] >= 0;
    }
    if (n_tokens == d->n_active) {          /* each read one token: what a draft costs */
        const double ns = (double)(clock_now_ns() - start);
        d->step_ns = d->step_ns > 0 ? d->step_ns + (ns - d->step_ns) / 8 : ns;
    }
    return d->n_active > 0;
}

void draft_model_run(struct draft_model *d, struct sequence *const *sequences, const size_t *wanted, size_t n)
{
    assert(n <= d->max_batch);
    for (size_t i = 0; i < n; i++) {
        struct sequence *s = sequences[i];
        s->n_draft = 0;
        if (s->n_draft_done > s->n_tokens - 1)      /* drafts that were not drawn; the last token is always read anew */
            s->n_draft_done = s->n_tokens - 1;
    }
    for (bool reads = true; draft_once(d, sequences, wanted, n, reads); reads = false)
        ;
    for (size_t i = 0; i < n; i++) {        /* as above: whatever was drafted, the last token of the text is read again */
        const size_t n_sure = sequences[i]->n_tokens - 1, n_done = sequences[i]->n_draft_done;
        kv_cache_slide(model_kv_cache(d->model), &sequences[i]->draft_kv, n_done < n_sure ? n_done : n_sure);
    }
}
