#include "server/completion.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/completion_internal.h"
#include "server/grammar.h"

int completion_create(struct completion **out, struct api_request *request, const struct completion_options *o)
{
    struct completion *c = calloc(1, sizeof(*c));

    *out = NULL;
    if (!c) {
        api_request_free(request);
        return -ENOMEM;
    }
    c->request = request;
    c->options = *o;
    c->request->stream |= o->plain;
    c->format = answer_format_of(request->route, o->plain);
    c->n_choices = request->n_prompts * request->n;
    c->choices = calloc(c->n_choices, sizeof(*c->choices));
    c->state = calloc(1, c->format->state_bytes + 1);
    if (!c->choices || !c->state || (c->format->create && c->format->create(c))) {
        completion_free(c);
        return -ENOMEM;
    }
    for (size_t i = 0; i < c->n_choices; i++) {
        struct choice *ch = &c->choices[i];
        ch->completion = c;
        ch->prompt = &request->prompts[i / request->n];
        ch->stop_string = ch->stop_id = -1;
        detokenizer_init(&ch->detokenizer, o->tokenizer, request->skip_special, false);
        completion_begin_parts(ch, &request->message);
    }
    *out = c;
    return 0;
}

void completion_free(struct completion *c)
{
    if (!c)
        return;
    for (size_t i = 0; c->choices && i < c->n_choices; i++) {
        buf_free(&c->choices[i].text);
        buf_free(&c->choices[i].ids);
        completion_free_parts(&c->choices[i]);
        logprobs_free(&c->choices[i].logprobs);
    }
    free(c->choices);
    free(c->state);
    buf_free(&c->head);
    buf_free(&c->out);
    api_request_free(c->request);
    free(c);
}

size_t completion_n_sequences(const struct completion *c)
{
    return c->n_choices;
}

bool completion_engine_request(const struct completion *c, size_t sequence, struct engine_request *out)
{
    const struct api_request *r = c->request;
    const struct api_prompt *p = c->choices[sequence].prompt;

    *out = (struct engine_request){
        .tokens = p->ids, .n_prompt = p->n, .sampling = r->sampling, .max_tokens = p->max_tokens, .min_tokens = r->min_tokens,
        .end_ids = r->end_ids, .n_end_ids = r->n_end_ids, .n_logprobs = r->n_logprobs,
        .prompt_logprobs = r->echo && r->n_logprobs >= 0, .progress = true, .priority = r->priority,
        .salt = r->salt, .grammar = r->grammar, .grammar_bytes = r->grammar ? r->grammar->n_bytes : 0,
    };
    out->sampling.choice = (uint32_t)(sequence % r->n);
    return p->max_tokens || out->prompt_logprobs;
}

/* A control token that the parser needs to see, such as [TOOL_CALLS]. */
static bool is_marker(const struct choice *ch, int32_t id)
{
    const struct message_rules *rules = ch->parser.rules;
    const struct tokenizer *t = ch->detokenizer.tokenizer;
    size_t n;

    if ((!rules->syntax && !rules->think) || !tokenizer_is_control(t, id))
        return false;
    const char *piece = tokenizer_piece(t, id, &n);
    return tool_marker_piece(rules->syntax, rules->think, piece, n);
}

/* Append what the detokenizer gives for `id` to the text; returns the bytes it gave. */
static size_t push_token(struct choice *ch, int32_t id)
{
    const size_t before = ch->text.len;
    const bool skip_special = ch->detokenizer.skip_special;

    ch->detokenizer.skip_special = skip_special && !is_marker(ch, id);
    detokenizer_push(&ch->detokenizer, id, &ch->text);
    ch->detokenizer.skip_special = skip_special;
    for (size_t i = before; i < ch->text.len; i++)
        ch->n_chars += ((unsigned char)ch->text.data[i] & 0xc0) != 0x80;
    return ch->text.len - before;
}

/* The text of prompt token i is now part of the echo. For a text prompt it is a piece of that text, not what the ids decode to. */
static void echo_token(struct choice *ch, size_t i)
{
    const struct api_prompt *p = ch->prompt;

    if (p->is_text && (i < p->n_front || i >= p->n - p->n_back))
        return;
    size_t n = push_token(ch, p->ids[i]);
    if (p->is_text) {
        ch->text.len -= n;
        if (n > p->text_bytes - ch->echo_bytes)
            n = p->text_bytes - ch->echo_bytes;
        buf_append(&ch->text, p->text + ch->echo_bytes, n);
        ch->echo_bytes += n;
    }
}

static void begin_echo(struct completion *c, struct choice *ch)
{
    if (ch->echo_begun || !c->request->echo)
        return;
    ch->echo_begun = true;
    detokenizer_init(&ch->detokenizer, c->options.tokenizer, !ch->prompt->is_text && c->request->skip_special, true);
    if (c->request->n_logprobs >= 0) {
        logprobs_add(c, &ch->logprobs, ch->prompt->ids[0], 0, NULL, NULL);
        echo_token(ch, 0);
        ch->n_echoed = 1;
    }
}

/* Put the rest of the prompt's text before the completion, once. */
static void end_echo(struct completion *c, struct choice *ch)
{
    const struct api_prompt *p = ch->prompt;

    if (!c->request->echo || ch->n_echoed > p->n)
        return;
    begin_echo(c, ch);
    if (p->is_text) {
        buf_append(&ch->text, p->text + ch->echo_bytes, p->text_bytes - ch->echo_bytes);
        detokenizer_init(&ch->detokenizer, c->options.tokenizer, c->request->skip_special, false);
    } else {
        for (; ch->n_echoed < p->n; ch->n_echoed++)
            echo_token(ch, ch->n_echoed);
    }
    ch->n_echoed = p->n + 1;
}

static void push_prompt_logprob(struct completion *c, struct choice *ch, const struct completion_event *e, const struct token_logprob *top)
{
    const size_t before = c->out.len;

    begin_echo(c, ch);
    if (ch->n_echoed >= ch->prompt->n)
        return;
    logprobs_add(c, &ch->logprobs, e->token, ch->n_chars, e, top);
    echo_token(ch, ch->n_echoed++);
    if (ch->logprobs.tokens.len + ch->logprobs.tops.len > COMPLETION_CHUNK_BYTES)
        completion_release_text(c, ch, false);
    c->echo_output += c->out.len - before;
}

/* Look for stop strings in the last n bytes of the text; cut there. Returns true when one is complete. */
static bool match_stop(struct completion *c, struct choice *ch, size_t n)
{
    const struct api_request *r = c->request;
    const struct stop_result found = stop_push(&r->stop, &ch->stop, ch->text.data ? ch->text.data + ch->text.len - n : "", n);

    ch->held = found.held;
    if (found.match < 0)
        return false;
    ch->text.len -= n - found.used;
    if (!r->include_stop)
        ch->text.len -= r->stop.strings[found.match].length;
    ch->held = 0;
    ch->stop_string = found.match;
    return true;
}

static void write_finish(struct completion *c, struct choice *ch)
{
    if (!c->request->stream || !c->format->finish)
        return;
    completion_write_head(c);
    c->format->finish(c, ch);
}

static void write_end(struct completion *c)
{
    if (!c->request->stream)
        c->format->reply(c);
    else if (c->format->end)
        c->format->end(c);
}

static void finish_choice(struct completion *c, struct choice *ch, const char *reason)
{
    ch->finish_reason = reason;         /* before the last part ends: its format may ask how */
    completion_release_text(c, ch, true);
    if (ch->parser.n_calls && !ch->parser.cut && strcmp(reason, "stop") == 0)
        ch->finish_reason = "tool_calls";
    if (c->n_choices > 1)       /* a single one's last chunk waits for the engine's times */
        write_finish(c, ch);
}

static int compare_ids(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static bool is_end(const struct api_request *r, int32_t id)
{
    return bsearch(&id, r->end_ids, r->n_end_ids, sizeof(id), compare_ids) != NULL;
}

static void want_cancel(struct completion *c, struct choice *ch)
{
    if (ch->cancel_wanted || ch->closed)
        return;
    ch->cancel_wanted = true;
    c->n_cancels++;
}

static void note_times(struct completion *c, struct choice *ch, uint64_t now)
{
    if (!c->first_token_ns) {
        c->first_token_ns = now;
        if (c->options.first_token)
            metric_observe(c->options.first_token, BOUNDS_FIRST_TOKEN, now - c->options.arrived_ns);
    }
    if (ch->last_ns) {
        latency_add(&c->gaps, now - ch->last_ns);
        if (c->options.gap)
            metric_observe(c->options.gap, BOUNDS_GAP, now - ch->last_ns);
    } else
        ch->first_ns = now;
    ch->last_ns = now;
}

static void push_token_event(struct completion *c, struct choice *ch, const struct completion_event *e, const struct token_logprob *top)
{
    const struct api_request *r = c->request;
    const bool first = !ch->n_generated;
    const size_t before = c->out.len;
    size_t n = 0;

    end_echo(c, ch);
    note_times(c, ch, e->at_ns);
    ch->n_generated++;
    if (r->n_logprobs >= 0)
        logprobs_add(c, &ch->logprobs, e->token, ch->n_chars, e, top);
    if (r->return_token_ids)
        buf_printf(&ch->ids, ch->ids.len ? ",%d" : "%d", e->token);
    if (r->include_stop || !is_end(r, e->token))
        n = push_token(ch, e->token);
    if (ch->n_generated > r->min_tokens && match_stop(c, ch, n)) {
        ch->cut = true;
        want_cancel(c, ch);
        finish_choice(c, ch, "stop");
    } else {
        completion_release_text(c, ch, false);
        if (ch->parser.full) {
            ch->cut = true;
            want_cancel(c, ch);
            finish_choice(c, ch, "stop");
        }
    }
    if (first && r->echo)
        c->echo_output += c->out.len - before;
}

static void end_choice(struct completion *c, struct choice *ch, enum engine_reason reason, int32_t last)
{
    const size_t before = ch->text.len;

    end_echo(c, ch);
    detokenizer_finish(&ch->detokenizer, &ch->text);
    if (match_stop(c, ch, ch->text.len - before)) {
        finish_choice(c, ch, "stop");
        return;
    }
    for (size_t i = 0; reason == ENGINE_STOP && i < c->request->n_stop_ids; i++)
        if (c->request->stop_ids[i] == last)
            ch->stop_id = last;
    finish_choice(c, ch, reason == ENGINE_STOP ? "stop" : "length");
}

void completion_reason_error(enum engine_reason reason, struct api_error *e)
{
    switch (reason) {
    case ENGINE_DEADLINE:
        api_error_set(e, API_DEADLINE_EXCEEDED, NULL, "the deadline of the request has passed");
        break;
    case ENGINE_CORRUPTED:
        api_error_set(e, API_CORRUPTED_OUTPUT, NULL, "the model computed NaN or infinity for this prompt");
        break;
    case ENGINE_ABORTED:
        api_error_set(e, API_DRAINING, NULL, "the server is shutting down");
        break;
    default:
        api_error_set(e, API_INTERNAL_ERROR, NULL, "the engine failed");
        break;
    }
}

static void fail_by_reason(struct completion *c, enum engine_reason reason)
{
    struct api_error e;

    completion_reason_error(reason, &e);
    if (e.code == API_INTERNAL_ERROR && c->request->grammar)
        api_error_set(&e, API_INTERNAL_ERROR, NULL, "no token of the vocabulary can go on with this text as "
                      "the format or tools ask, or there are too many ways to follow");
    completion_abort(c, &e);
}

static void close_sequence(struct completion *c, struct choice *ch)
{
    ch->closed = true;
    c->n_closed++;
    if (c->done || c->n_closed < c->n_choices)
        return;
    if (c->n_choices == 1)
        write_finish(c, ch);
    write_end(c);
    c->done = true;
}

static void push_finished(struct completion *c, struct choice *ch, const struct completion_event *e)
{
    ch->n_cached = e->n_cached;
    ch->queue_ns = e->queue_ns;
    ch->prompt_ns = e->prompt_ns;
    ch->decode_ns = e->decode_ns;
    if (!c->done && !ch->finish_reason) {
        if (e->reason == ENGINE_STOP || e->reason == ENGINE_LENGTH)
            end_choice(c, ch, e->reason, ch->last_token);
        else
            fail_by_reason(c, e->reason);
    }
    close_sequence(c, ch);
}

void completion_push(struct completion *c, const struct completion_event *e, const struct token_logprob *top)
{
    struct choice *ch = &c->choices[e->sequence];

    if (ch->closed)
        return;
    if (e->type == ENGINE_FINISHED) {
        push_finished(c, ch, e);
        return;
    }
    if (c->done || ch->finish_reason)
        return;
    switch (e->type) {
    case ENGINE_TOKEN:
        ch->last_token = e->token;
        push_token_event(c, ch, e, top);
        break;
    case ENGINE_PROMPT_LOGPROB:
        push_prompt_logprob(c, ch, e, top);
        break;
    case ENGINE_PROGRESS:
        ch->n_cached_early = e->n_cached;
        if (c->request->progress && e->sequence == 0 && c->request->n_prompts == 1 && c->format->progress) {
            completion_write_head(c);
            c->format->progress(c, e);
        }
        break;
    case ENGINE_EMBEDDING:      /* of a request for text there is none */
    case ENGINE_FINISHED:
        break;
    }
}

void completion_start(struct completion *c)
{
    struct engine_request unused;

    for (size_t i = 0; i < c->n_choices; i++) {
        if (completion_engine_request(c, i, &unused))
            continue;
        end_choice(c, &c->choices[i], ENGINE_LENGTH, -1);
        c->echo_output = c->out.len;
        close_sequence(c, &c->choices[i]);
    }
}

bool completion_next_cancel(struct completion *c, size_t *sequence)
{
    for (size_t i = 0; c->n_cancels && i < c->n_choices; i++) {
        struct choice *ch = &c->choices[i];
        if (!ch->cancel_wanted || ch->cancel_sent)
            continue;
        ch->cancel_sent = true;
        c->n_cancels--;
        *sequence = i;
        return true;
    }
    return false;
}

void completion_abort(struct completion *c, const struct api_error *e)
{
    const char *reason = e && api_error_status(e) == 500 ? "error" : "abort";

    if (c->done)
        return;
    c->done = true;
    if (e)
        c->error = *e;
    for (size_t i = 0; i < c->n_choices; i++) {
        struct choice *ch = &c->choices[i];
        want_cancel(c, ch);
        const bool open = !ch->finish_reason;
        if (open)
            ch->finish_reason = reason;
        if (!c->started || !c->request->stream)
            continue;
        if (open)
            completion_release_text(c, ch, true);
        if (open || c->n_choices == 1)
            write_finish(c, ch);
    }
    if (c->started && c->request->stream && c->format->error)
        c->format->error(c, e);
}

void completion_mark_started(struct completion *c)
{
    c->started = true;
}

void completion_close_sequence(struct completion *c, size_t sequence)
{
    struct choice *ch = &c->choices[sequence];

    if (!ch->closed)
        close_sequence(c, ch);
}

struct buf *completion_output(struct completion *c)
{
    return &c->out;
}

bool completion_done(const struct completion *c)
{
    return c->done;
}

bool completion_closed(const struct completion *c)
{
    return c->n_closed == c->n_choices;
}

const struct api_error *completion_error(const struct completion *c)
{
    return c->error.code ? &c->error : NULL;
}

const struct api_request *completion_request(const struct completion *c)
{
    return c->request;
}

size_t completion_take_echo_bytes(struct completion *c)
{
    const size_t n = c->echo_output;

    c->echo_output = 0;
    return n;
}

const char *completion_ping(const struct completion *c)
{
    return c->format->ping;
}

struct completion_usage completion_usage(const struct completion *c)
{
    struct completion_usage u = { 0 };

    for (size_t i = 0; i < c->n_choices; i++) {
        u.n_generated += c->choices[i].n_generated;
        u.n_reasoning += c->choices[i].n_reasoning;
        if (i % c->request->n == 0) {
            u.n_prompt += c->choices[i].prompt->n;
            u.n_cached += c->choices[i].n_cached;
        }
    }
    return u;
}

void completion_summarise(const struct completion *c, struct completion_summary *s)
{
    const struct choice *first = &c->choices[0];

    *s = (struct completion_summary){
        .finish_reason = first->finish_reason ? first->finish_reason : "error",
        .queue_ns = first->queue_ns, .prompt_ns = first->prompt_ns, .decode_ns = first->decode_ns,
        .token_ns = first->n_generated > 1 ? (first->last_ns - first->first_ns) / (first->n_generated - 1) : 0,
        .first_token_ns = c->first_token_ns ? c->first_token_ns - c->options.arrived_ns : 0,
        .gap_median_ns = latency_median_ns(&c->gaps), .gap_most_ns = c->gaps.most_ns,
    };
    const struct completion_usage u = completion_usage(c);
    s->n_prompt = u.n_prompt;
    s->n_cached = u.n_cached;
    s->n_generated = u.n_generated;
}
