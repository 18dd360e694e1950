/*
 * answer_chat.c - /v1/chat/completions: a message a choice, or deltas of one.
 *
 * The role travels with the first delta, never earlier: benchmark tools take the first chunk with choices as the time to the first token.
 */
#include "server/answer_openai.h"
#include "server/json_write.h"

static int create(struct completion *c)
{
    return openai_create(c, "chatcmpl", c->request->stream ? "chat.completion.chunk" : "chat.completion");
}

/* Up to where the delta's own fields come. */
static void open_delta(struct completion *c, struct choice *ch)
{
    openai_open_chunk(c);
    buf_printf(&c->out, "{\"index\":%zu,\"delta\":{%s", completion_index(c, ch), ch->first_sent ? "" : "\"role\":\"assistant\",");
    ch->first_sent = true;
}

static void close_delta(struct completion *c, struct choice *ch, bool lists)
{
    buf_putc(&c->out, '}');
    openai_write_choice_tail(c, ch, lists, false, NULL);
    openai_close_choice_chunk(c, NULL);
}

static void begin_part(struct completion *c, struct choice *ch, struct answer_part *part)
{
    const bool first = !ch->first_sent;

    if (part->kind != PART_TOOL_CALL)
        return;
    open_delta(c, ch);
    buf_printf(&c->out, "%s\"tool_calls\":[{\"index\":%zu,\"id\":\"call_%s\",\"type\":\"function\",\"function\":{\"name\":",
               first ? "\"content\":null," : "", part->index, part->id);
    json_write_string(&c->out, part->name);
    buf_puts(&c->out, ",\"arguments\":\"\"}}]");
    close_delta(c, ch, false);
}

static void write_delta(struct completion *c, struct choice *ch, struct answer_part *part, const char *text, size_t n, bool lists)
{
    const enum part_kind kind = part ? part->kind : PART_TEXT;

    open_delta(c, ch);
    if (kind == PART_TOOL_CALL)
        buf_printf(&c->out, "\"tool_calls\":[{\"index\":%zu,\"function\":{\"arguments\":", part->index);
    else
        buf_puts(&c->out, kind == PART_REASONING ? "\"reasoning_content\":" : "\"content\":");
    json_write_bytes(&c->out, text, n);
    if (kind == PART_TOOL_CALL)
        buf_puts(&c->out, "}}]");
    if (kind == PART_REASONING && c->request->both_reasoning_fields) {
        buf_puts(&c->out, ",\"reasoning\":");
        json_write_bytes(&c->out, text, n);
    }
    close_delta(c, ch, lists);
}

static void write_finish(struct completion *c, struct choice *ch)
{
    if (!ch->first_sent)
        write_delta(c, ch, NULL, "", 0, false);
    openai_open_chunk(c);
    buf_printf(&c->out, "{\"index\":%zu,\"delta\":{}", completion_index(c, ch));
    openai_write_choice_tail(c, ch, true, false, ch->finish_reason);
    openai_close_choice_chunk(c, ch->finish_reason);
}

static void write_calls(struct completion *c, const struct choice *ch)
{
    size_t n = 0;

    for (size_t i = 0; i < ch->n_parts; i++) {
        const struct answer_part *part = &ch->parts[i];
        if (part->kind != PART_TOOL_CALL)
            continue;
        buf_printf(&c->out, "%s{\"id\":\"call_%s\",\"type\":\"function\",\"function\":{\"name\":", n ? "," : ",\"tool_calls\":[",
                   part->id);
        n++;
        json_write_string(&c->out, part->name);
        buf_puts(&c->out, ",\"arguments\":");
        json_write_bytes(&c->out, part->text.data ? part->text.data : "", part->text.len);
        buf_puts(&c->out, "}}");
    }
    if (n)
        buf_putc(&c->out, ']');
}

static void write_message(struct completion *c, const struct choice *ch)
{
    buf_puts(&c->out, "\"message\":{\"role\":\"assistant\",\"content\":");
    if (completion_has_part(ch, PART_TOOL_CALL) && !completion_has_part(ch, PART_TEXT))
        buf_puts(&c->out, "null");
    else
        completion_write_text(c, ch, PART_TEXT);
    if (completion_has_part(ch, PART_REASONING)) {
        buf_puts(&c->out, ",\"reasoning_content\":");
        completion_write_text(c, ch, PART_REASONING);
        if (c->request->both_reasoning_fields) {
            buf_puts(&c->out, ",\"reasoning\":");
            completion_write_text(c, ch, PART_REASONING);
        }
    }
    write_calls(c, ch);
    buf_puts(&c->out, ",\"refusal\":null}");
}

static void write_reply(struct completion *c)
{
    openai_open_reply(c);
    for (size_t i = 0; i < c->n_choices; i++) {
        struct choice *ch = &c->choices[i];
        buf_printf(&c->out, "%s{\"index\":%zu,", i ? "," : "", i);
        write_message(c, ch);
        openai_write_choice_tail(c, ch, true, false, ch->finish_reason);
    }
    openai_close_reply(c);
}

const struct answer_format answer_chat = {
    .ping = ": ping\n\n", .create = create, .progress = openai_write_progress, .part_begin = begin_part, .delta = write_delta,
    .finish = write_finish, .end = openai_write_end, .error = openai_write_error, .reply = write_reply,
};
