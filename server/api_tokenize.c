/*
 * api_tokenize.c - /tokenize, /detokenize and /apply-template, with the field names of vLLM and of llama-server.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "server/api_internal.h"
#include "server/json_write.h"

struct tokenize_body {
    const char *prompt, *content;
    const json_t *messages;
    bool add_special_tokens, return_token_strs;         /* with prompt */
    bool add_special, parse_special, with_pieces;       /* with content */
};

static const struct field tokenize_table[] = {
    { "prompt", FIELD_STRING, 1, offsetof(struct tokenize_body, prompt), 0, 0, false, NULL },
    { "content", FIELD_STRING, 1, offsetof(struct tokenize_body, content), 0, 0, false, NULL },
    { "messages", FIELD_ANY, 1, offsetof(struct tokenize_body, messages), 0, 0, false, NULL },
    { "add_special_tokens", FIELD_BOOL, 1, offsetof(struct tokenize_body, add_special_tokens), 0, 0, false, NULL },
    { "return_token_strs", FIELD_BOOL, 1, offsetof(struct tokenize_body, return_token_strs), 0, 0, false, NULL },
    { "add_special", FIELD_BOOL, 1, offsetof(struct tokenize_body, add_special), 0, 0, false, NULL },
    { "parse_special", FIELD_BOOL, 1, offsetof(struct tokenize_body, parse_special), 0, 0, false, NULL },
    { "with_pieces", FIELD_BOOL, 1, offsetof(struct tokenize_body, with_pieces), 0, 0, false, NULL },
};

const struct field_table api_tokenize_fields = { tokenize_table, sizeof(tokenize_table) / sizeof(tokenize_table[0]) };

static const struct field detokenize_table[] = {
    { "tokens", FIELD_ANY, 1, 0, 0, 0, false, NULL },
};

const struct field_table api_detokenize_fields = { detokenize_table, 1 };

static const char *text_of(const struct buf *b)
{
    return b->data ? b->data : "";
}

static int encode_plain(const struct api_model *m, const char *text, bool add, bool special, struct token_ids *ids, struct api_error *e)
{
    const unsigned flags = (add ? TOKENIZE_ADD_BOS : 0) | (special ? TOKENIZE_SPECIAL : 0);
    int err = tokenizer_encode(m->tokenizer, text, strlen(text), NULL, flags, ids);

    if (err == -EINVAL)
        return api_error_set(e, API_INVALID_VALUE, NULL, "the text cannot be tokenised");
    return err ? api_error_internal(e, err) : 0;
}

/* The rendered chat of `object` as text, and which bytes of it the request wrote. */
static int render_chat(const struct api_model *m, const json_t *object, size_t body_bytes, struct buf *text, struct buf *literal,
                       bool *add_special, struct api_error *e)
{
    struct api_request *scratch = calloc(1, sizeof(*scratch));
    struct api_body b;

    if (!scratch)
        return api_error_internal(e, -ENOMEM);
    api_body_init(&b, m, 0, scratch);
    b.body_bytes = body_bytes;
    b.add_special_tokens = false;
    int err = api_body_read(&b, API_APPLY_TEMPLATE, object, e);
    if (!err)
        err = api_render(&b, text, literal, e);
    *add_special = b.add_special_tokens;
    api_request_free(scratch);
    return err;
}

static int encode_chat(const struct api_model *m, const json_t *object, size_t body_bytes, struct token_ids *ids, struct api_error *e)
{
    struct buf text = { 0 }, literal = { 0 };
    struct api_prompt p = { 0 };
    bool add;

    int err = render_chat(m, object, body_bytes, &text, &literal, &add, e);
    if (!err)
        err = api_encode(m, "messages", text_of(&text), text.len, (const uint8_t *)literal.data, add, &p, e);
    buf_free(&text);
    buf_free(&literal);
    *ids = (struct token_ids){ .ids = p.ids, .n = p.n };
    return err;
}

static void write_piece(const struct api_model *m, int32_t id, struct buf *out)
{
    size_t n;
    const char *piece = tokenizer_piece(m->tokenizer, id, &n);

    json_write_bytes(out, piece, n);
}

/* llama-server writes a piece that is no UTF-8 as the list of its bytes. */
static void write_pieces(const struct api_model *m, const struct token_ids *ids, struct buf *out)
{
    buf_puts(out, "{\"tokens\":[");
    for (size_t i = 0; i < ids->n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(m->tokenizer, ids->ids[i], &n);
        buf_printf(out, "%s{\"id\":%d,\"piece\":", i ? "," : "", ids->ids[i]);
        if (utf8_check(piece, n) == n)
            json_write_bytes(out, piece, n);
        else
            json_write_byte_list(out, piece, n);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}");
}

static void write_counted(const struct api_model *m, size_t n_ctx, const struct token_ids *ids, bool strings, struct buf *out)
{
    buf_printf(out, "{\"count\":%zu,\"max_model_len\":%zu,\"tokens\":", ids->n, n_ctx);
    json_write_ids(out, ids->ids, ids->n);
    buf_puts(out, ",\"token_strs\":");
    if (strings) {
        buf_putc(out, '[');
        for (size_t i = 0; i < ids->n; i++) {
            if (i)
                buf_putc(out, ',');
            write_piece(m, ids->ids[i], out);
        }
        buf_putc(out, ']');
    } else {
        buf_puts(out, "null");
    }
    buf_putc(out, '}');
}

int api_tokenize(const struct api_model *m, size_t n_ctx, const char *body, size_t n, struct buf *out, struct api_error *e)
{
    struct tokenize_body b = { .add_special_tokens = true, .parse_special = true };
    struct token_ids ids = { 0 };
    json_t *object = NULL;

    int err = api_parse_object(body, n, &object, e);
    if (!err)
        err = fields_read(tokenize_table, api_tokenize_fields.n, 1, "", object, &b, e);
    if (!err && (b.prompt != NULL) + (b.content != NULL) + (b.messages != NULL) != 1)
        err = api_error_set(e, API_INVALID_VALUE, "prompt", "exactly one of prompt, messages and content must be given");
    if (err)
        goto out;
    if (b.messages)
        err = encode_chat(m, object, n, &ids, e);
    else if (b.content)
        err = encode_plain(m, b.content, b.add_special, b.parse_special, &ids, e);
    else
        err = encode_plain(m, b.prompt, b.add_special_tokens, true, &ids, e);
    if (err)
        goto out;
    if (b.content && b.with_pieces) {
        write_pieces(m, &ids, out);
    } else if (b.content) {
        buf_puts(out, "{\"tokens\":");
        json_write_ids(out, ids.ids, ids.n);
        buf_putc(out, '}');
    } else {
        write_counted(m, n_ctx, &ids, b.return_token_strs, out);
    }
out:
    free(ids.ids);
    json_decref(object);
    return err;
}

int api_detokenize(const struct api_model *m, const char *body, size_t n, struct buf *out, struct api_error *e)
{
    struct detokenizer d;
    struct buf text = { 0 };
    json_t *object = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;

    int err = api_parse_object(body, n, &object, e);
    if (err)
        return err;
    const json_t *tokens = NULL;
    err = fields_read(detokenize_table, 1, 1, "", object, &tokens, e);
    if (!err && !json_is_array(tokens))
        err = api_error_set(e, API_INVALID_VALUE, "tokens", "tokens must be an array of token ids");
    if (!err)
        err = api_token_ids(m, "tokens", tokens, &ids, &n_ids, e);
    json_decref(object);
    if (err)
        return err;
    /* The added begin token leaves no trace, so that detokenize(tokenize(x)) is x; others show as their texts. */
    detokenizer_init(&d, m->tokenizer, false, true);
    for (size_t i = 0; i < n_ids; i++)
        if (i || ids[i] != tokenizer_bos(m->tokenizer) || !tokenizer_adds_bos(m->tokenizer))
            detokenizer_push(&d, ids[i], &text);
    detokenizer_finish(&d, &text);
    buf_puts(out, "{\"prompt\":");
    json_write_bytes(out, text_of(&text), text.len);
    buf_puts(out, ",\"content\":");
    json_write_bytes(out, text_of(&text), text.len);
    buf_putc(out, '}');
    out->failed |= text.failed;
    buf_free(&text);
    free(ids);
    return 0;
}

int api_apply_template(const struct api_model *m, const char *body, size_t n, struct buf *out, struct api_error *e)
{
    struct buf text = { 0 }, literal = { 0 };
    json_t *object = NULL;
    bool add;

    int err = api_parse_object(body, n, &object, e);
    if (!err)
        err = render_chat(m, object, n, &text, &literal, &add, e);
    if (!err) {
        buf_puts(out, "{\"prompt\":");
        json_write_bytes(out, text_of(&text), text.len);
        buf_putc(out, '}');
    }
    buf_free(&text);
    buf_free(&literal);
    json_decref(object);
    return err;
}
