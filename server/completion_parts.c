/*
 * completion_parts.c - text to parts, and parts to the functions of the answer's format.
 */
#include <stdlib.h>
#include <string.h>

#include "server/completion_internal.h"
#include "server/json_write.h"

/* splitmix64 (Steele, Lea and Flood 2014): the request's random id, spread over the ids of its parts. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void make_id(const struct completion *c, const struct choice *ch, char id[CALL_ID_CHARACTERS + 1])
{
    static const char alphanumerics[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t state = completion_index(c, ch) << 32 | ch->n_parts;

    for (const char *at = c->options.id; *at; at++) {
        state ^= (unsigned char)*at;
        state = next_random(&state);
    }
    for (size_t i = 0; i < CALL_ID_CHARACTERS; i++)
        id[i] = alphanumerics[next_random(&state) % (sizeof(alphanumerics) - 1)];
    id[CALL_ID_CHARACTERS] = '\0';
}

static void begin_part(void *arg, enum part_kind kind, const char *name, size_t n_name)
{
    struct choice *ch = arg;
    struct answer_part *parts = realloc(ch->parts, (ch->n_parts + 1) * sizeof(*parts));

    if (!parts) {
        ch->text.failed = true;
        return;
    }
    ch->parts = parts;
    struct answer_part *part = &parts[ch->n_parts];
    *part = (struct answer_part){ .kind = kind, .name = name ? strndup(name, n_name) : NULL };
    for (size_t i = 0; i < ch->n_parts; i++)
        part->index += parts[i].kind == kind;
    make_id(ch->completion, ch, part->id);
    ch->text.failed |= name && !part->name;
    ch->n_parts++;
}

static void add_text(void *arg, const char *text, size_t n)
{
    struct choice *ch = arg;

    if (ch->n_parts)
        buf_append(&ch->parts[ch->n_parts - 1].text, text, n);
}

static void end_part(void *arg)
{
    struct choice *ch = arg;

    if (ch->n_parts)
        ch->parts[ch->n_parts - 1].ended = true;
}

void completion_begin_parts(struct choice *ch, const struct message_rules *rules)
{
    const struct message_sink sink = { .begin = begin_part, .text = add_text, .end = end_part, .arg = ch };

    message_begin(&ch->parser, rules, &sink);
}

void completion_free_parts(struct choice *ch)
{
    for (size_t i = 0; i < ch->n_parts; i++) {
        free(ch->parts[i].name);
        buf_free(&ch->parts[i].text);
    }
    free(ch->parts);
    message_free(&ch->parser);
}

void completion_write_head(struct completion *c)
{
    c->started = true;
    if (!c->head_written && c->format->head)
        c->format->head(c);
    c->head_written = true;
}

/* The longest whole characters within n bytes of valid UTF-8. */
static size_t whole_characters(const char *text, size_t n)
{
    while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return n;
}

/* Entries travel with the last piece. Returns whether there was any. */
static bool write_text(struct completion *c, struct choice *ch, struct answer_part *part)
{
    const bool any = part->text.len > part->n_sent;

    while (part->text.len > part->n_sent) {
        const char *text = part->text.data + part->n_sent;
        const size_t rest = part->text.len - part->n_sent;
        const size_t n = rest > COMPLETION_CHUNK_BYTES ? whole_characters(text, COMPLETION_CHUNK_BYTES) : rest;
        completion_write_head(c);
        c->format->delta(c, ch, part, text, n, n == rest);
        part->n_sent += n;
    }
    if (!c->format->keeps_text)
        part->text.len = part->n_sent = 0;
    return any;
}

static void write_parts(struct completion *c, struct choice *ch)
{
    const size_t waiting = ch->logprobs.tokens.len + ch->logprobs.tops.len;
    bool any = false;

    for (; ch->n_written < ch->n_parts; ch->n_written++) {
        struct answer_part *part = &ch->parts[ch->n_written];
        if (!part->begun && c->format->part_begin) {
            completion_write_head(c);
            c->format->part_begin(c, ch, part);
        }
        part->begun = true;
        any |= write_text(c, ch, part);
        if (!part->ended)
            break;
        if (c->format->part_end)
            c->format->part_end(c, ch, part);
    }
    if (!any && waiting > COMPLETION_CHUNK_BYTES) {
        completion_write_head(c);
        c->format->delta(c, ch, NULL, "", 0, true);
    }
}

void completion_release_text(struct completion *c, struct choice *ch, bool finishing)
{
    struct buf *text = &ch->text;
    const size_t ready = text->len - (finishing ? 0 : ch->held);

    const bool reasoned = message_in_reasoning(&ch->parser);
    if (ready) {
        message_push(&ch->parser, text->data, ready);
        memmove(text->data, text->data + ready, text->len - ready);
        text->len -= ready;
    }
    if (reasoned || message_in_reasoning(&ch->parser))
        ch->n_reasoning += ch->n_generated - ch->n_parsed;
    ch->n_parsed = ch->n_generated;
    if (finishing)
        message_end(&ch->parser);
    if (c->request->stream)
        write_parts(c, ch);
    c->out.failed |= text->failed || ch->parser.held.failed || (ch->n_parts && ch->parts[ch->n_parts - 1].text.failed);
}

bool completion_has_part(const struct choice *ch, enum part_kind kind)
{
    for (size_t i = 0; i < ch->n_parts; i++)
        if (ch->parts[i].kind == kind)
            return true;
    return false;
}

void completion_write_text(struct completion *c, const struct choice *ch, enum part_kind kind)
{
    struct buf all = { 0 };

    for (size_t i = 0; i < ch->n_parts; i++)
        if (ch->parts[i].kind == kind)
            buf_append(&all, ch->parts[i].text.data ? ch->parts[i].text.data : "", ch->parts[i].text.len);
    json_write_bytes(&c->out, all.data ? all.data : "", all.len);
    c->out.failed |= all.failed;
    buf_free(&all);
}
