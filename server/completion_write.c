/*
 * completion_write.c - chunks of a stream and the reply in one piece: the same objects, written straight into the output.
 *
 * One event is one line without line breaks in its JSON, and an empty line. The role travels with the first text, never earlier:
 * benchmark tools take the first chunk with choices as the time to the first token.
 */
#include <inttypes.h>
#include <string.h>

#include "server/completion_internal.h"
#include "server/json_write.h"

static bool is_chat(const struct completion *c)
{
    return c->request->route == API_CHAT;
}

int completion_write_head(struct completion *c)
{
    const struct completion_options *o = &c->options;
    struct buf *head = &c->head;

    buf_printf(head, "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", is_chat(c) ? "chatcmpl" : "cmpl", o->id,
               !is_chat(c) ? "text_completion" : c->request->stream ? "chat.completion.chunk" : "chat.completion", o->created);
    json_write_string(head, c->request->model);
    buf_puts(head, ",\"system_fingerprint\":");
    json_write_string(head, o->fingerprint);
    buf_puts(head, ",\"choices\":[");
    return head->failed ? -1 : 0;
}

static void write_usage(const struct completion *c, struct buf *out)
{
    uint64_t n_prompt = 0, n_generated = 0, n_cached = 0;

    for (size_t i = 0; i < c->n_choices; i++) {
        n_generated += c->choices[i].n_generated;
        if (i % c->request->n == 0) {       /* a prompt counts once, not times n */
            n_prompt += c->choices[i].prompt->n;
            n_cached += c->choices[i].n_cached;
        }
    }
    buf_printf(out, ",\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64
               ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64 "},\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
               n_prompt, n_generated, n_prompt + n_generated, n_cached);
}

static double per_second(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

/* While it runs, times are taken from the arrival of events; the engine's own come with its last. */
static void write_timings(const struct completion *c, struct buf *out)
{
    const struct choice *ch = &c->choices[0];
    const bool exact = ch->closed && !ch->cut;
    const uint64_t prompt_ns = ch->closed ? ch->prompt_ns : ch->first_ns ? ch->first_ns - c->options.arrived_ns : 0;
    const uint64_t decode_ns = exact ? ch->decode_ns : ch->last_ns - ch->first_ns;
    const size_t n_prompt = ch->prompt->n - ch->n_cached;

    buf_printf(out, ",\"timings\":{\"cache_n\":%u,\"prompt_n\":%zu,\"prompt_ms\":%.3f,\"prompt_per_second\":%.3f,\"predicted_n\":%u,"
               "\"predicted_ms\":%.3f,\"predicted_per_second\":%.3f,\"queue_ms\":%.3f}", ch->n_cached, n_prompt, (double)prompt_ns / 1e6,
               per_second(n_prompt, prompt_ns), ch->n_generated, (double)decode_ns / 1e6, per_second(ch->n_generated, decode_ns),
               (double)ch->queue_ns / 1e6);
}

static void open_chunk(struct completion *c)
{
    c->started = true;
    buf_puts(&c->out, "data: ");
    buf_append(&c->out, c->head.data, c->head.len);
}

static void close_chunk(struct completion *c, bool usage, bool timings)
{
    const struct api_request *r = c->request;

    buf_putc(&c->out, ']');
    if (usage)
        write_usage(c, &c->out);
    else if (r->include_usage)
        buf_puts(&c->out, ",\"usage\":null");
    if (timings && c->n_choices == 1)
        write_timings(c, &c->out);
    if (is_chat(c) && r->return_token_ids && !c->prompt_ids_sent) {
        buf_puts(&c->out, ",\"prompt_token_ids\":");
        json_write_ids(&c->out, r->prompts[0].ids, r->prompts[0].n);
        c->prompt_ids_sent = true;
    }
    buf_puts(&c->out, "}\n\n");
}

static void write_stop_reason(const struct completion *c, const struct choice *ch, struct buf *out)
{
    if (ch->stop_string >= 0) {
        const struct stop_string *s = &c->request->stop.strings[ch->stop_string];
        json_write_bytes(out, s->text, s->length);
    } else if (ch->stop_id >= 0) {
        buf_printf(out, "%d", ch->stop_id);
    } else {
        buf_puts(out, "null");
    }
}

/* What follows the text in a choice, up to its closing brace. `lists`: with the entries that wait. */
static void write_choice_tail(struct completion *c, struct choice *ch, bool lists, bool first, const char *finish_reason)
{
    const struct api_request *r = c->request;
    struct buf *out = &c->out;

    buf_puts(out, ",\"logprobs\":");
    if (r->n_logprobs >= 0 && lists)
        logprobs_write(c, &ch->logprobs, out);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"finish_reason\":");
    json_write_string_or_null(out, finish_reason);
    buf_puts(out, ",\"stop_reason\":");
    write_stop_reason(c, ch, out);
    if (r->return_token_ids) {
        buf_puts(out, ",\"token_ids\":[");
        if (lists)
            buf_append(out, ch->ids.data ? ch->ids.data : "", ch->ids.len);
        buf_putc(out, ']');
        if (!is_chat(c) && first) {
            buf_puts(out, ",\"prompt_token_ids\":");
            json_write_ids(out, ch->prompt->ids, ch->prompt->n);
        }
    }
    buf_putc(out, '}');
    if (lists) {
        logprobs_clear(&ch->logprobs);
        buf_clear(&ch->ids);
    }
}

static void write_chunk(struct completion *c, struct choice *ch, size_t n_text, bool lists, const char *finish_reason)
{
    struct buf *out = &c->out;
    const char *text = ch->text.data ? ch->text.data : "";
    const bool first = !ch->role_sent;

    open_chunk(c);
    buf_printf(out, "{\"index\":%zu,", (size_t)(ch - c->choices));
    if (!is_chat(c)) {
        buf_puts(out, "\"text\":");
        json_write_bytes(out, text, n_text);
    } else if (finish_reason) {
        buf_puts(out, "\"delta\":{}");
    } else {
        buf_puts(out, first ? "\"delta\":{\"role\":\"assistant\",\"content\":" : "\"delta\":{\"content\":");
        json_write_bytes(out, text, n_text);
        buf_putc(out, '}');
    }
    ch->role_sent = true;
    write_choice_tail(c, ch, lists, first, finish_reason);
    close_chunk(c, c->request->continuous_usage,
                c->request->timings_per_token || (finish_reason && !c->request->include_usage));
    if (n_text) {
        memmove(ch->text.data, ch->text.data + n_text, ch->text.len - n_text);
        ch->text.len -= n_text;
    }
    out->failed |= ch->text.failed;
}

/* The longest whole characters within n bytes of valid UTF-8. */
static size_t whole_characters(const char *text, size_t n)
{
    while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return n;
}

void completion_write_delta(struct completion *c, struct choice *ch, bool finishing)
{
    size_t ready = ch->text.len - (finishing ? 0 : ch->held);

    if (!c->request->stream)
        return;
    if (c->options.plain) {
        c->started |= ready > 0;
        buf_append(&c->out, ch->text.data ? ch->text.data : "", ready);
        if (ready)
            memmove(ch->text.data, ch->text.data + ready, ch->text.len - ready);
        ch->text.len -= ready;
        return;
    }
    while (ready > COMPLETION_CHUNK_BYTES) {
        const size_t piece = whole_characters(ch->text.data, COMPLETION_CHUNK_BYTES);
        write_chunk(c, ch, piece, false, NULL);
        ready -= piece;
    }
    if (ready || ch->logprobs.tokens.len + ch->logprobs.tops.len > COMPLETION_CHUNK_BYTES)
        write_chunk(c, ch, ready, true, NULL);
}

void completion_write_finish(struct completion *c, struct choice *ch)
{
    if (!c->request->stream || c->options.plain)
        return;
    if (is_chat(c) && !ch->role_sent)
        write_chunk(c, ch, 0, false, NULL);
    write_chunk(c, ch, 0, true, ch->finish_reason);
}

void completion_write_progress(struct completion *c, const struct completion_event *e, uint64_t began_ns)
{
    if (c->options.plain)
        return;
    open_chunk(c);
    close_chunk(c, c->request->continuous_usage, false);
    c->out.len -= strlen("}\n\n");
    buf_printf(&c->out, ",\"prompt_progress\":{\"total\":%u,\"cache\":%u,\"processed\":%u,\"time_ms\":%.3f}}\n\n", e->n_prompt, e->n_cached,
               e->n_tokens, (double)(e->at_ns - began_ns) / 1e6);
}

static void write_reply(struct completion *c)
{
    struct buf *out = &c->out;

    buf_append(out, c->head.data, c->head.len);
    for (size_t i = 0; i < c->n_choices; i++) {
        struct choice *ch = &c->choices[i];
        buf_printf(out, "%s{\"index\":%zu,%s", i ? "," : "", i,
                   is_chat(c) ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
        json_write_bytes(out, ch->text.data ? ch->text.data : "", ch->text.len);
        if (is_chat(c))
            buf_puts(out, ",\"refusal\":null}");
        write_choice_tail(c, ch, true, true, ch->finish_reason);
        out->failed |= ch->text.failed;
    }
    close_chunk(c, true, true);
    out->len -= strlen("\n\n");
}

void completion_write_end(struct completion *c)
{
    if (!c->request->stream) {
        write_reply(c);
    } else if (!c->options.plain) {
        if (c->request->include_usage) {
            open_chunk(c);
            close_chunk(c, true, true);
        }
        buf_puts(&c->out, "data: [DONE]\n\n");
    }
}

void completion_write_error(struct completion *c, const struct api_error *e)
{
    if (e) {
        buf_puts(&c->out, "data: ");
        api_error_write(e, &c->out);
        buf_puts(&c->out, "\n\n");
    }
    buf_puts(&c->out, "data: [DONE]\n\n");
}
