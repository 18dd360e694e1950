/*
 * answer_messages.c - /v1/messages: blocks of thinking, text and tool_use, in Anthropic's shape.
 *
 * Its clients dispatch on the `event:` line. The input of a call is an object in a reply, and pieces of that object's text in a stream.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "server/completion_internal.h"
#include "server/json_read.h"
#include "server/json_write.h"

#define PING "event: ping\ndata: {\"type\":\"ping\"}\n\n"

static int create(struct completion *c)
{
    buf_printf(&c->head, "{\"id\":\"msg_%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", c->options.id);
    json_write_string(&c->head, c->request->model);
    buf_puts(&c->head, ",\"content\":[");
    return c->head.failed ? -ENOMEM : 0;
}

/* The three input counts add up to the prompt. */
static void write_usage(const struct completion *c, uint64_t n_cached, struct buf *out)
{
    const struct completion_usage u = completion_usage(c);

    buf_printf(out, "\"usage\":{\"input_tokens\":%" PRIu64 ",\"cache_read_input_tokens\":%" PRIu64
               ",\"cache_creation_input_tokens\":0,\"output_tokens\":%" PRIu64 "}", u.n_prompt - n_cached, n_cached, u.n_generated);
}

static const char *stop_reason(const struct choice *ch)
{
    if (strcmp(ch->finish_reason, "tool_calls") == 0)
        return "tool_use";
    if (strcmp(ch->finish_reason, "length") == 0)
        return ch->prompt->fills_context ? "model_context_window_exceeded" : "max_tokens";
    return ch->stop_string >= 0 ? "stop_sequence" : "end_turn";
}

static void write_stop(const struct completion *c, struct buf *out)
{
    const struct choice *ch = &c->choices[0];
    const char *reason = stop_reason(ch);

    buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
    if (strcmp(reason, "stop_sequence") == 0) {
        const struct stop_string *s = &c->request->stop.strings[ch->stop_string];
        json_write_bytes(out, s->text, s->length);
    } else {
        buf_puts(out, "null");
    }
}

/* "event: TYPE" and its data up to where the event's own members come, each with a comma before. */
static void open_event(struct completion *c, const char *type)
{
    buf_printf(&c->out, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void close_event(struct completion *c)
{
    buf_puts(&c->out, "}\n\n");
}

static void write_head(struct completion *c)
{
    open_event(c, "message_start");
    buf_puts(&c->out, ",\"message\":");
    buf_append(&c->out, c->head.data, c->head.len);
    buf_puts(&c->out, "],\"stop_reason\":null,\"stop_sequence\":null,");
    write_usage(c, c->choices[0].n_cached_early, &c->out);
    buf_putc(&c->out, '}');
    close_event(c);
    buf_puts(&c->out, PING);
}

static size_t index_of(const struct choice *ch, const struct answer_part *part)
{
    return (size_t)(part - ch->parts);
}

/* A block without its last member: thinking, text or input. */
static void open_block(const struct answer_part *part, struct buf *out)
{
    switch (part->kind) {
    case PART_REASONING:
        buf_puts(out, "{\"type\":\"thinking\",\"signature\":\"\",\"thinking\":");
        break;
    case PART_TEXT:
        buf_puts(out, "{\"type\":\"text\",\"text\":");
        break;
    case PART_TOOL_CALL:
        buf_printf(out, "{\"type\":\"tool_use\",\"id\":\"toolu_%s\",\"name\":", part->id);
        json_write_string(out, part->name);
        buf_puts(out, ",\"input\":");
        break;
    }
}

static void begin_block(struct completion *c, struct choice *ch, struct answer_part *part)
{
    open_event(c, "content_block_start");
    buf_printf(&c->out, ",\"index\":%zu,\"content_block\":", index_of(ch, part));
    open_block(part, &c->out);
    buf_puts(&c->out, part->kind == PART_TOOL_CALL ? "{}}" : "\"\"}");
    close_event(c);
}

static void open_delta(struct completion *c, const struct choice *ch, const struct answer_part *part, const char *type)
{
    open_event(c, "content_block_delta");
    buf_printf(&c->out, ",\"index\":%zu,\"delta\":{\"type\":\"%s\"", index_of(ch, part), type);
}

static void close_delta(struct completion *c)
{
    buf_putc(&c->out, '}');
    close_event(c);
}

static void write_delta(struct completion *c, struct choice *ch, struct answer_part *part, const char *text, size_t n, bool lists)
{
    static const struct { const char *type, *member; } kinds[] = {
        [PART_REASONING] = { "thinking_delta", "thinking" },
        [PART_TEXT] = { "text_delta", "text" },
        [PART_TOOL_CALL] = { "input_json_delta", "partial_json" },
    };

    (void)lists;
    open_delta(c, ch, part, kinds[part->kind].type);
    buf_printf(&c->out, ",\"%s\":", kinds[part->kind].member);
    json_write_bytes(&c->out, text, n);
    close_delta(c);
}

static void end_block(struct completion *c, struct choice *ch, struct answer_part *part)
{
    if (part->kind == PART_REASONING) {
        open_delta(c, ch, part, "signature_delta");
        buf_puts(&c->out, ",\"signature\":\"\"");
        close_delta(c);
    }
    open_event(c, "content_block_stop");
    buf_printf(&c->out, ",\"index\":%zu", index_of(ch, part));
    close_event(c);
}

static void write_end(struct completion *c)
{
    completion_write_head(c);
    open_event(c, "message_delta");
    buf_puts(&c->out, ",\"delta\":{");
    write_stop(c, &c->out);
    buf_puts(&c->out, "},");
    write_usage(c, c->choices[0].n_cached, &c->out);
    close_event(c);
    open_event(c, "message_stop");
    close_event(c);
}

static void write_error(struct completion *c, const struct api_error *e)
{
    struct api_error cut;

    if (!e)
        api_error_set(&cut, API_INTERNAL_ERROR, NULL, "the answer was cut off");
    buf_puts(&c->out, "event: error\ndata: ");
    api_error_write_anthropic(e ? e : &cut, c->options.label, &c->out);
    buf_puts(&c->out, "\n\n");
}

/* Arguments that max_tokens has cut are no object, and half of one cannot be shown in a reply. */
static void write_input(const struct answer_part *part, struct buf *out)
{
    struct json_read_error why;
    json_t *input = NULL;

    if (part->text.len && json_read(part->text.data, part->text.len, &input, &why) == 0 && json_is_object(input))
        buf_append(out, part->text.data, part->text.len);
    else
        buf_puts(out, "{}");
    json_decref(input);
}

static void write_reply(struct completion *c)
{
    const struct choice *ch = &c->choices[0];
    struct buf *out = &c->out;

    buf_append(out, c->head.data, c->head.len);
    for (size_t i = 0; i < ch->n_parts; i++) {
        const struct answer_part *part = &ch->parts[i];
        if (i)
            buf_putc(out, ',');
        open_block(part, out);
        if (part->kind == PART_TOOL_CALL)
            write_input(part, out);
        else
            json_write_bytes(out, part->text.data ? part->text.data : "", part->text.len);
        buf_putc(out, '}');
    }
    buf_puts(out, "],");
    write_stop(c, out);
    buf_putc(out, ',');
    write_usage(c, ch->n_cached, out);
    buf_putc(out, '}');
}

const struct answer_format answer_messages = {
    .ping = PING, .create = create, .head = write_head, .part_begin = begin_block, .delta = write_delta, .part_end = end_block,
    .end = write_end, .error = write_error, .reply = write_reply,
};
