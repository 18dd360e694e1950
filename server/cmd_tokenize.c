/*
 * cmd_tokenize.c - `fourway tokenize MODEL`: a text on stdin to token ids on stdout, or back with --decode.
 *
 * The text is read as a prompt of /v1/completions is: BOS in front if the vocabulary asks for it, and the texts of special tokens
 * are these tokens.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/utf8.h"
#include "server/commands.h"
#include "server/json_write.h"
#include "server/options.h"
#include "weights/gguf.h"
#include "weights/tokenizer.h"

enum {
    MOST_INPUT = 256 << 20,     /* bytes; a mistake such as `tokenize MODEL < model.gguf` should not take all memory */
    READ_BYTES = 1 << 16
};

static int read_stdin(struct buf *text)
{
    text->limit = MOST_INPUT;
    for (;;) {
        char *room = buf_reserve(text, READ_BYTES);
        ssize_t got = room ? read(STDIN_FILENO, room, READ_BYTES) : 0;
        if (!room) {
            log_error("the input is longer than %d bytes, or the memory is full", MOST_INPUT);
            return -ENOMEM;
        }
        if (got == 0)
            return 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int err = -errno;
            log_error("cannot read the standard input: %s", strerror(-err));
            return err;
        }
        text->len += (size_t)got;
    }
}

static int encode(const struct tokenizer *t, const struct buf *text, unsigned flags, struct token_ids *ids)
{
    size_t valid = utf8_check(text->data, text->len);
    int err;

    if (valid != text->len) {
        log_error("the text is not valid UTF-8 at byte %zu", valid);
        return -EINVAL;
    }
    err = tokenizer_encode(t, text->data, text->len, NULL, flags, ids);
    if (err == -EINVAL)
        log_error("the text takes more steps to split than the limit of the pre-tokenizer allows");
    else if (err)
        log_error("cannot tokenize: %s", strerror(-err));
    return err;
}

/* Ids as this command prints them, or as a JSON list. */
static int parse_ids(const struct tokenizer *t, const struct buf *text, struct token_ids *ids)
{
    size_t vocab_size = tokenizer_vocab_size(t);

    ids->cap = text->len / 2 + 1;       /* every id but the last has a separator */
    ids->ids = malloc(ids->cap * sizeof(*ids->ids));
    if (!ids->ids) {
        log_error("cannot read %zu bytes of ids: the memory is full", text->len);
        return -ENOMEM;
    }
    for (size_t at = 0; at < text->len;) {
        unsigned char c = (unsigned char)text->data[at];
        if (isspace(c) || c == ',' || c == '[' || c == ']') {
            at++;
            continue;
        }
        size_t begin = at;
        uint64_t id = 0;
        for (; at < text->len && isdigit((unsigned char)text->data[at]); at++)
            id = id < vocab_size ? id * 10 + (uint64_t)(text->data[at] - '0') : id;
        if (at == begin) {
            log_error("byte %zu of the input begins no token id: write numbers, with spaces or commas between them", begin);
            return -EINVAL;
        }
        if (id >= vocab_size) {
            log_error("token id %.*s at byte %zu of the input: the vocabulary has %zu", (int)(at - begin < 32 ? at - begin : 32),
                      text->data + begin, begin, vocab_size);
            return -EINVAL;
        }
        ids->ids[ids->n++] = (int32_t)id;
    }
    return 0;
}

static void append_text(struct buf *out, const struct tokenizer *t, const struct token_ids *ids, bool skip_special)
{
    struct detokenizer d;

    detokenizer_init(&d, t, skip_special, true);
    for (size_t i = 0; i < ids->n; i++)
        detokenizer_push(&d, ids->ids[i], out);
    detokenizer_finish(&d, out);
}

/* A piece that is no UTF-8 by itself is the list of its bytes, as llama-server has it. */
static void append_json(struct buf *out, const struct tokenizer *t, const struct token_ids *ids)
{
    buf_printf(out, "{\"count\":%zu,\"tokens\":[", ids->n);
    for (size_t i = 0; i < ids->n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(t, ids->ids[i], &n);
        buf_printf(out, "%s\n{\"id\":%d,\"piece\":", i ? "," : "", ids->ids[i]);
        if (utf8_check(piece, n) == n)
            json_write_bytes(out, piece, n);
        else
            json_write_byte_list(out, piece, n);
        buf_putc(out, '}');
    }
    buf_puts(out, "\n]}\n");
}

static void append_ids(struct buf *out, const struct token_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++)
        buf_printf(out, "%s%d", i ? " " : "", ids->ids[i]);
    buf_putc(out, '\n');
}

struct flags { bool json, no_special, no_bos, decode; };

static int tokenize(const struct tokenizer *t, const struct flags *f)
{
    unsigned flags = (f->no_special ? 0 : TOKENIZE_SPECIAL) | (f->no_bos ? 0 : TOKENIZE_ADD_BOS);
    struct buf text = { 0 }, out = { 0 };
    struct token_ids ids = { 0 };
    int err = read_stdin(&text);

    if (!err)
        err = f->decode ? parse_ids(t, &text, &ids) : encode(t, &text, flags, &ids);
    if (!err) {
        if (f->json)
            append_json(&out, t, &ids);
        else if (f->decode)
            append_text(&out, t, &ids, f->no_special);
        else
            append_ids(&out, &ids);
        if (out.failed) {
            log_error("cannot write %zu tokens: the memory is full", ids.n);
            err = -ENOMEM;
        } else {
            fwrite(out.data, 1, out.len, stdout);       /* main() looks whether all of it was written */
        }
    }
    free(ids.ids);
    buf_free(&text);
    buf_free(&out);
    return err;
}

int cmd_tokenize(int argc, char **argv)
{
    struct flags f = { 0 };
    const struct option options[] = {
        { .name = "json", .type = OPTION_FLAG, .out = &f.json, .help = "print JSON: the count, and each id with its text" },
        { .name = "decode", .type = OPTION_FLAG, .out = &f.decode, .help = "read ids and print their text" },
        { .name = "no-special", .type = OPTION_FLAG, .out = &f.no_special,
          .help = "texts like <|im_end|> are ordinary text; with --decode: control tokens give no text" },
        { .name = "no-bos", .type = OPTION_FLAG, .out = &f.no_bos, .help = "do not add the tokens that the vocabulary asks for" },
    };
    const struct command command = {
        .name = "tokenize", .usage = "tokenize MODEL [--json] [--no-special] [--no-bos] < TEXT, or tokenize MODEL --decode < IDS",
        .summary = "The token ids of a text, or the text of ids.",
        .options = options, .n_options = sizeof(options) / sizeof(options[0]), .min_args = 1, .max_args = 1,
    };
    struct tokenizer *t = NULL;
    struct gguf *g = NULL;
    const char *model;
    char path[4096];
    size_t n_args;
    int err, status = options_parse(&command, argc, argv, &model, &n_args);

    if (status >= 0)
        return status;
    status = model_resolve(model, path, sizeof(path));
    if (status)
        return status;
    err = gguf_open(&g, path);
    if (!err)
        err = tokenizer_open_gguf(&t, g);
    gguf_close(g);
    if (!err)
        err = tokenize(t, &f);
    tokenizer_close(t);
    return err ? 1 : 0;
}
