/*
 * completion_logprobs.c - logprob entries in the two shapes of the interface.
 *
 * Completions: four arrays, where a token is its text and alternatives are the keys of an object. Texts are no good keys: two ids
 * may decode to one text, and a piece may be no valid UTF-8. Such a piece is written bytes:\xe2\x80, and a second id of one text
 * token_id:123, so that no entry is lost. Chat: objects with the exact bytes beside the text.
 */
#include <string.h>

#include "common/utf8.h"
#include "server/completion_internal.h"
#include "server/json_write.h"

/* As a key or token of completions. */
static void write_token(const struct completion *c, int32_t id, struct buf *out)
{
    size_t n;
    const char *piece = tokenizer_piece(c->options.tokenizer, id, &n);

    if (c->request->tokens_as_ids) {
        buf_printf(out, "\"token_id:%d\"", id);
    } else if (utf8_check(piece, n) == n) {
        json_write_bytes(out, piece, n);
    } else {
        buf_puts(out, "\"bytes:");
        for (size_t i = 0; i < n; i++)
            buf_printf(out, "\\\\x%02x", (unsigned char)piece[i]);
        buf_putc(out, '"');
    }
}

static bool same_text(const struct completion *c, int32_t a, int32_t b)
{
    size_t n_a, n_b;
    const char *x = tokenizer_piece(c->options.tokenizer, a, &n_a), *y = tokenizer_piece(c->options.tokenizer, b, &n_b);

    return n_a == n_b && memcmp(x, y, n_a) == 0;
}

/* The alternatives and the chosen token, whose number is always printed from the one value: clients may compare for equality. */
static void write_top_object(const struct completion *c, int32_t token, const struct completion_event *e, const struct token_logprob *top,
                             struct buf *out)
{
    bool chosen_listed = false;

    buf_putc(out, '{');
    for (uint32_t i = 0; i < e->n_top; i++) {
        const bool chosen = top[i].id == token;
        bool taken = !chosen && same_text(c, top[i].id, token);
        for (uint32_t k = 0; k < i && !chosen && !taken; k++)
            taken = same_text(c, top[i].id, top[k].id);
        if (i)
            buf_putc(out, ',');
        if (taken)
            buf_printf(out, "\"token_id:%d\"", top[i].id);
        else
            write_token(c, top[i].id, out);
        buf_putc(out, ':');
        json_write_logprob(out, chosen ? e->logprob : top[i].logprob);
        chosen_listed |= chosen;
    }
    if (!chosen_listed) {
        if (e->n_top)
            buf_putc(out, ',');
        write_token(c, token, out);
        buf_putc(out, ':');
        json_write_logprob(out, e->logprob);
    }
    buf_putc(out, '}');
}

static void write_chat_token(const struct completion *c, int32_t id, float logprob, struct buf *out)
{
    size_t n;
    const char *piece = tokenizer_piece(c->options.tokenizer, id, &n);

    buf_puts(out, "{\"token\":");
    if (c->request->tokens_as_ids)
        buf_printf(out, "\"token_id:%d\"", id);
    else
        json_write_bytes(out, piece, n);
    buf_puts(out, ",\"logprob\":");
    json_write_logprob(out, logprob);
    buf_puts(out, ",\"bytes\":");
    json_write_byte_list(out, piece, n);
}

static void add_chat(const struct completion *c, struct logprob_lists *l, const struct completion_event *e, const struct token_logprob *top)
{
    struct buf *out = &l->tokens;

    write_chat_token(c, e->token, e->logprob, out);
    buf_puts(out, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < e->n_top; i++) {
        if (i)
            buf_putc(out, ',');
        write_chat_token(c, top[i].id, top[i].id == e->token ? e->logprob : top[i].logprob, out);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}");
}

void logprobs_add(const struct completion *c, struct logprob_lists *l, int32_t token, uint64_t offset, const struct completion_event *e,
                  const struct token_logprob *top)
{
    struct buf *const lists[] = { &l->tokens, &l->logprobs, &l->tops, &l->offsets };
    const bool chat = c->request->route == API_CHAT;

    for (size_t i = 0; i < (chat ? 1 : 4) && l->n; i++)
        buf_putc(lists[i], ',');
    l->n++;
    if (chat) {
        add_chat(c, l, e, top);
        return;
    }
    write_token(c, token, &l->tokens);
    buf_printf(&l->offsets, "%llu", (unsigned long long)offset);
    if (!e) {
        buf_puts(&l->logprobs, "null");
        buf_puts(&l->tops, "null");
    } else {
        json_write_logprob(&l->logprobs, e->logprob);
        write_top_object(c, token, e, top, &l->tops);
    }
}

static void write_list(const char *name, const struct buf *list, struct buf *out)
{
    buf_printf(out, "\"%s\":[", name);
    buf_append(out, list->data ? list->data : "", list->len);
    buf_putc(out, ']');
    out->failed |= list->failed;
}

void logprobs_write(const struct completion *c, const struct logprob_lists *l, struct buf *out)
{
    buf_putc(out, '{');
    if (c->request->route == API_CHAT) {
        write_list("content", &l->tokens, out);
        buf_puts(out, ",\"refusal\":null}");
        return;
    }
    write_list("tokens", &l->tokens, out);
    buf_putc(out, ',');
    write_list("token_logprobs", &l->logprobs, out);
    buf_putc(out, ',');
    write_list("top_logprobs", &l->tops, out);
    buf_putc(out, ',');
    write_list("text_offset", &l->offsets, out);
    buf_putc(out, '}');
}

void logprobs_clear(struct logprob_lists *l)
{
    buf_clear(&l->tokens);
    buf_clear(&l->logprobs);
    buf_clear(&l->tops);
    buf_clear(&l->offsets);
    l->n = 0;
}

void logprobs_free(struct logprob_lists *l)
{
    buf_free(&l->tokens);
    buf_free(&l->logprobs);
    buf_free(&l->tops);
    buf_free(&l->offsets);
}
