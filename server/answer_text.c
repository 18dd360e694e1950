/*
 * answer_text.c - /v1/completions: choices of text; and the bare text alone, for Accept: text/plain.
 *
 * There is one part a choice, PART_TEXT, which begins with the prompt's text where that is echoed.
 */
#include "server/answer_openai.h"
#include "server/json_write.h"

static int create(struct completion *c)
{
    return openai_create(c, "cmpl", "text_completion");
}

static void write_chunk(struct completion *c, struct choice *ch, const char *text, size_t n, bool lists, const char *finish_reason)
{
    openai_open_chunk(c);
    buf_printf(&c->out, "{\"index\":%zu,\"text\":", completion_index(c, ch));
    json_write_bytes(&c->out, text, n);
    openai_write_choice_tail(c, ch, lists, !ch->first_sent, finish_reason);
    openai_close_choice_chunk(c, finish_reason);
    ch->first_sent = true;
}

static void write_delta(struct completion *c, struct choice *ch, struct answer_part *part, const char *text, size_t n, bool lists)
{
    (void)part;
    write_chunk(c, ch, text, n, lists, NULL);
}

static void write_finish(struct completion *c, struct choice *ch)
{
    write_chunk(c, ch, "", 0, true, ch->finish_reason);
}

static void write_reply(struct completion *c)
{
    openai_open_reply(c);
    for (size_t i = 0; i < c->n_choices; i++) {
        struct choice *ch = &c->choices[i];
        buf_printf(&c->out, "%s{\"index\":%zu,\"text\":", i ? "," : "", i);
        completion_write_text(c, ch, PART_TEXT);
        openai_write_choice_tail(c, ch, true, true, ch->finish_reason);
    }
    openai_close_reply(c);
}

const struct answer_format answer_text = {
    .ping = ": ping\n\n", .create = create, .progress = openai_write_progress, .delta = write_delta, .finish = write_finish,
    .end = openai_write_end, .error = openai_write_error, .reply = write_reply,
};

static void append_text(struct completion *c, struct choice *ch, struct answer_part *part, const char *text, size_t n, bool lists)
{
    (void)ch;
    (void)lists;
    if (part && part->kind == PART_TEXT)
        buf_append(&c->out, text, n);
}

const struct answer_format answer_plain = { .delta = append_text };
