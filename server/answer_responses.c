/*
 * answer_responses.c - /v1/responses: items of reasoning, text and calls, each with events from added to done.
 *
 * Events are numbered without gaps, the whole response comes with the first two and the last of them, and there is no [DONE].
 */
#include <inttypes.h>
#include <string.h>

#include "server/api_responses.h"
#include "server/completion_internal.h"
#include "server/json_write.h"

struct state {
    uint64_t n_events;
    size_t n_whole;             /* items that were complete when their last event was sent */
};

static size_t index_of(const struct choice *ch, const struct answer_part *part)
{
    return (size_t)(part - ch->parts);
}

static const char *text_of(const struct answer_part *part)
{
    return part->text.data ? part->text.data : "";
}

/* Did the answer, or its last item, end before the model had ended it? */
static bool cut_short(const struct choice *ch)
{
    return ch->finish_reason && strcmp(ch->finish_reason, "stop") != 0 && strcmp(ch->finish_reason, "tool_calls") != 0;
}

/* ---- objects ---- */

static void write_id(const struct answer_part *part, struct buf *out)
{
    static const char *const prefixes[] = { [PART_REASONING] = "rs", [PART_TEXT] = "msg", [PART_TOOL_CALL] = "fc" };

    buf_printf(out, "\"%s_%s\"", prefixes[part->kind], part->id);
}

static void write_text_part(const struct answer_part *part, bool with_text, struct buf *out)
{
    buf_puts(out, "{\"type\":\"output_text\",\"text\":");
    json_write_bytes(out, text_of(part), with_text ? part->text.len : 0);
    buf_puts(out, ",\"annotations\":[],\"logprobs\":[]}");
}

/* status in_progress: without what the model has written of it. */
static void write_item(const struct answer_part *part, const char *status, struct buf *out)
{
    const bool whole = strcmp(status, "in_progress") != 0;

    switch (part->kind) {
    case PART_REASONING:
        buf_puts(out, "{\"type\":\"reasoning\",\"id\":");
        write_id(part, out);
        buf_puts(out, ",\"summary\":[],\"content\":[");
        if (whole) {
            buf_puts(out, "{\"type\":\"reasoning_text\",\"text\":");
            json_write_bytes(out, text_of(part), part->text.len);
            buf_putc(out, '}');
        }
        buf_puts(out, "]}");
        break;
    case PART_TEXT:
        buf_puts(out, "{\"type\":\"message\",\"id\":");
        write_id(part, out);
        buf_printf(out, ",\"role\":\"assistant\",\"status\":\"%s\",\"content\":[", status);
        if (whole)
            write_text_part(part, true, out);
        buf_puts(out, "]}");
        break;
    case PART_TOOL_CALL:
        buf_puts(out, "{\"type\":\"function_call\",\"id\":");
        write_id(part, out);
        buf_printf(out, ",\"call_id\":\"call_%s\",\"name\":", part->id);
        json_write_string(out, part->name);
        buf_puts(out, ",\"arguments\":");
        json_write_bytes(out, text_of(part), whole ? part->text.len : 0);
        buf_printf(out, ",\"status\":\"%s\"}", status);
        break;
    }
}

static void write_usage(const struct completion *c, struct buf *out)
{
    const struct completion_usage u = completion_usage(c);

    buf_printf(out, "{\"input_tokens\":%" PRIu64 ",\"input_tokens_details\":{\"cached_tokens\":%" PRIu64 ",\"cache_write_tokens\":0}"
               ",\"output_tokens\":%" PRIu64 ",\"output_tokens_details\":{\"reasoning_tokens\":%" PRIu64 "},\"total_tokens\":%" PRIu64 "}",
               u.n_prompt, u.n_cached, u.n_generated, u.n_reasoning, u.n_prompt + u.n_generated);
}

static void write_failure(const struct api_error *e, struct buf *out)
{
    buf_printf(out, "{\"code\":\"%s\",\"message\":", e->code ? api_error_code(e) : "server_error");
    json_write_string(out, e->code ? e->message : "the answer was cut off");
    buf_putc(out, '}');
}

/* n_whole: of the items; one that follows them is incomplete. */
static void write_response(struct completion *c, const char *status, size_t n_whole)
{
    const struct responses_own *own = c->request->own;
    const struct choice *ch = &c->choices[0];
    const bool over = strcmp(status, "in_progress") != 0;
    struct buf *out = &c->out;

    buf_printf(out, "{\"id\":\"resp_%s\",\"object\":\"response\",\"created_at\":%" PRId64 ",\"status\":\"%s\",\"error\":", c->options.id,
               c->options.created, status);
    if (strcmp(status, "failed") == 0)
        write_failure(&c->error, out);
    else
        buf_puts(out, "null");
    buf_printf(out, ",\"incomplete_details\":%s,\"instructions\":%s,\"model\":",
               strcmp(status, "incomplete") == 0 ? "{\"reason\":\"max_output_tokens\"}" : "null", own->instructions);
    json_write_string(out, c->request->model);
    buf_puts(out, ",\"output\":[");
    for (size_t i = 0; over && i < ch->n_parts; i++) {
        if (i)
            buf_putc(out, ',');
        write_item(&ch->parts[i], i < n_whole ? "completed" : "incomplete", out);
    }
    buf_printf(out, "],%s,\"usage\":", own->settings);
    if (over)
        write_usage(c, out);
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
}

/* ---- events ---- */

/* Up to where the event's own members come, each with a comma before. */
static void open_event(struct completion *c, const char *type)
{
    struct state *s = c->state;

    buf_printf(&c->out, "event: response.%s\ndata: {\"type\":\"response.%s\",\"sequence_number\":%" PRIu64, type, type, s->n_events++);
}

static void close_event(struct completion *c)
{
    buf_puts(&c->out, "}\n\n");
}

/* The client asked for what such an event repeats: it does not count against a slow reader. */
static void write_response_event(struct completion *c, const char *type, const char *status)
{
    const struct state *s = c->state;
    const size_t before = c->out.len;

    open_event(c, type);
    buf_puts(&c->out, ",\"response\":");
    write_response(c, status, s->n_whole);
    close_event(c);
    c->echo_output += c->out.len - before;
}

static void write_head(struct completion *c)
{
    write_response_event(c, "created", "in_progress");
    write_response_event(c, "in_progress", "in_progress");
}

static void write_item_event(struct completion *c, const struct choice *ch, const struct answer_part *part, const char *type,
                             const char *status)
{
    open_event(c, type);
    buf_printf(&c->out, ",\"output_index\":%zu,\"item\":", index_of(ch, part));
    write_item(part, status, &c->out);
    close_event(c);
}

/* An event of what is in an item. A call's arguments are no content, and have no content_index. */
static void open_content_event(struct completion *c, const struct choice *ch, const struct answer_part *part, const char *type)
{
    open_event(c, type);
    buf_puts(&c->out, ",\"item_id\":");
    write_id(part, &c->out);
    buf_printf(&c->out, ",\"output_index\":%zu%s", index_of(ch, part), part->kind == PART_TOOL_CALL ? "" : ",\"content_index\":0");
}

static void write_part_event(struct completion *c, const struct choice *ch, const struct answer_part *part, const char *type,
                             bool with_text)
{
    open_content_event(c, ch, part, type);
    buf_puts(&c->out, ",\"part\":");
    write_text_part(part, with_text, &c->out);
    close_event(c);
}

static void begin_item(struct completion *c, struct choice *ch, struct answer_part *part)
{
    write_item_event(c, ch, part, "output_item.added", "in_progress");
    if (part->kind == PART_TEXT)
        write_part_event(c, ch, part, "content_part.added", false);
}

static void write_delta(struct completion *c, struct choice *ch, struct answer_part *part, const char *text, size_t n, bool lists)
{
    static const char *const types[] = {
        [PART_REASONING] = "reasoning_text.delta", [PART_TEXT] = "output_text.delta", [PART_TOOL_CALL] = "function_call_arguments.delta",
    };

    (void)lists;
    open_content_event(c, ch, part, types[part->kind]);
    buf_puts(&c->out, ",\"delta\":");
    json_write_bytes(&c->out, text, n);
    if (part->kind == PART_TEXT)
        buf_puts(&c->out, ",\"logprobs\":[]");
    close_event(c);
}

static void end_item(struct completion *c, struct choice *ch, struct answer_part *part)
{
    static const char *const types[] = {
        [PART_REASONING] = "reasoning_text.done", [PART_TEXT] = "output_text.done", [PART_TOOL_CALL] = "function_call_arguments.done",
    };
    struct state *s = c->state;
    const bool whole = !cut_short(ch);

    s->n_whole += whole;
    open_content_event(c, ch, part, types[part->kind]);
    buf_puts(&c->out, part->kind == PART_TOOL_CALL ? ",\"arguments\":" : ",\"text\":");
    json_write_bytes(&c->out, text_of(part), part->text.len);
    if (part->kind == PART_TEXT)
        buf_puts(&c->out, ",\"logprobs\":[]");
    close_event(c);
    if (part->kind == PART_TEXT)
        write_part_event(c, ch, part, "content_part.done", true);
    write_item_event(c, ch, part, "output_item.done", whole ? "completed" : "incomplete");
}

static const char *status_of(const struct choice *ch)
{
    return cut_short(ch) ? "incomplete" : "completed";
}

static void write_end(struct completion *c)
{
    const char *status = status_of(&c->choices[0]);

    completion_write_head(c);
    write_response_event(c, status, status);
}

static void write_error(struct completion *c, const struct api_error *e)
{
    (void)e;            /* it is c->error, too */
    completion_write_head(c);
    write_response_event(c, "failed", "failed");
}

static void write_reply(struct completion *c)
{
    const struct choice *ch = &c->choices[0];

    write_response(c, status_of(ch), ch->n_parts - (cut_short(ch) && ch->n_parts));
}

const struct answer_format answer_responses = {
    .state_bytes = sizeof(struct state), .keeps_text = true, .ping = ": ping\n\n", .head = write_head, .part_begin = begin_item,
    .delta = write_delta, .part_end = end_item, .end = write_end, .error = write_error, .reply = write_reply,
};
