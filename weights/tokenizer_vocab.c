/*
 * tokenizer_vocab.c - tokens of the file -> decoded pieces, types, and the way back from a text to its id.
 *
 * gpt2 files write each byte of a token as a letter (OpenAI's encoder.py: printable bytes as themselves, the other 68
 * as U+0100 and up); special tokens there are plain text. llama files write a space as U+2581 and a byte as "<0x0A>".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/utf8.h"
#include "weights/tokenizer_internal.h"

enum { N_LETTERS = 0x100 + 68 };

static void write_line(char *line, size_t size, const struct gguf *g, const char *key, const char *format, va_list args)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    char what[512];

    vsnprintf(what, sizeof(what), format, args);
    if (kv && kv->offset)
        snprintf(line, size, "%s: key \"%s\" at byte %" PRIu64 ": %s", gguf_path(g), key, kv->offset, what);
    else
        snprintf(line, size, "%s: key \"%s\": %s", gguf_path(g), key, what);
}

int tokenizer_complain(const struct gguf *g, const char *key, const char *format, ...)
{
    char line[4096];
    va_list args;

    va_start(args, format);
    write_line(line, sizeof(line), g, key, format, args);
    va_end(args);
    log_error("%s", line);
    return -EINVAL;
}

void tokenizer_warn(const struct gguf *g, const char *key, const char *format, ...)
{
    char line[4096];
    va_list args;

    va_start(args, format);
    write_line(line, sizeof(line), g, key, format, args);
    va_end(args);
    log_warn("%s", line);
}

int vocabulary_load_types(struct vocabulary *v, const struct gguf *g, const struct gguf_string **texts)
{
    const char *tokens_key = "tokenizer.ggml.tokens", *types_key = "tokenizer.ggml.token_type";
    const struct gguf_kv *types = gguf_find(g, types_key);
    uint64_t n, n_odd = 0;
    int err = gguf_get_strings(g, tokens_key, texts, &n);

    if (err == -ENOENT)
        return tokenizer_complain(g, tokens_key, "missing, there is no vocabulary");
    if (err)
        return err;
    if (n < 1 || n > TOKENIZER_MAX_VOCAB)
        return tokenizer_complain(g, tokens_key, "%" PRIu64 " tokens, expected 1..%d", n, TOKENIZER_MAX_VOCAB);
    for (uint64_t i = 0; i < n; i++) {
        if ((*texts)[i].len > TOKENIZER_MAX_TOKEN)
            return tokenizer_complain(g, tokens_key, "token %" PRIu64 " has %zu bytes, at most %d", i, (*texts)[i].len,
                                      TOKENIZER_MAX_TOKEN);
    }
    if (types && (types->type != GGUF_ARRAY || (types->element_type != GGUF_I32 && types->element_type != GGUF_U32)))
        return tokenizer_complain(g, types_key, "expected an array of i32");
    if (types && types->n != n)
        return tokenizer_complain(g, types_key, "%" PRIu64 " types for %" PRIu64 " tokens", types->n, n);

    v->n = (size_t)n;
    v->types = malloc(v->n);
    if (!v->types)
        return -ENOMEM;
    for (size_t i = 0; i < v->n; i++) {
        int64_t type = types ? gguf_int_at(types, i) : TOKEN_NORMAL;
        if (type < TOKEN_NORMAL || type > TOKEN_BYTE) {
            n_odd++;
            type = TOKEN_NORMAL;
        }
        v->types[i] = (uint8_t)type;
    }
    if (n_odd)
        tokenizer_warn(g, types_key, "%" PRIu64 " types are not in 1..6, taken as normal", n_odd);
    return 0;
}

/* The byte that each letter of a gpt2 file stands for, or -1. */
static void fill_letters(int16_t letters[N_LETTERS])
{
    int other = 0x100;

    memset(letters, -1, N_LETTERS * sizeof(*letters));
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        letters[printable ? b : other++] = (int16_t)b;
    }
}

static int64_t decode_letters(const int16_t letters[N_LETTERS], const char *text, size_t n, char *out)
{
    int64_t used = 0;

    for (size_t at = 0; at < n;) {
        uint32_t c;
        int length = utf8_decode(text + at, n - at, &c);
        if (length <= 0 || c >= N_LETTERS || letters[c] < 0)
            return -1;
        out[used++] = (char)letters[c];
        at += (size_t)length;
    }
    return used;
}

int64_t byte_level_decode(const char *text, size_t n, char *out)
{
    int16_t letters[N_LETTERS];

    fill_letters(letters);
    return decode_letters(letters, text, n, out);
}

/* The byte of a text "<0x0A>", or -1. */
static int byte_of_text(struct gguf_string s)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *high, *low;

    if (s.len != 6 || memcmp(s.data, "<0x", 3) || s.data[5] != '>' || !s.data[3] || !s.data[4])
        return -1;
    high = strchr(digits, s.data[3]);
    low = strchr(digits, s.data[4]);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

int64_t spaces_decode(const char *text, size_t n, char *out)
{
    int64_t used = 0;

    for (size_t at = 0; at < n;) {
        if (n - at >= 3 && !memcmp(text + at, "\xe2\x96\x81", 3)) {
            out[used++] = ' ';
            at += 3;
        } else {
            out[used++] = text[at++];
        }
    }
    return used;
}

static bool is_special(uint8_t type)
{
    return type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_USER_DEFINED;
}

/* Write the piece of token i to out; returns its length. *whole = false: merging cannot make it. */
static size_t decode_piece(const struct vocabulary *v, size_t i, struct gguf_string text, const int16_t letters[N_LETTERS],
                           bool byte_level, char *out, bool *whole)
{
    uint8_t type = v->types[i];

    *whole = text.len && (type == TOKEN_NORMAL || type == TOKEN_UNUSED || type == TOKEN_USER_DEFINED);
    if (byte_level && !is_special(type)) {
        int64_t n = decode_letters(letters, text.data, text.len, out);
        if (n >= 0)
            return (size_t)n;
        *whole = false;
    }
    if (!byte_level && type == TOKEN_BYTE) {
        out[0] = (char)byte_of_text(text);
        return 1;
    }
    if (!byte_level && type != TOKEN_CONTROL && type != TOKEN_UNKNOWN)
        return (size_t)spaces_decode(text.data, text.len, out);
    memcpy(out, text.data, text.len);
    return text.len;
}

/* Of two tokens with one text the later counts, but a user-defined one only if no other has its text: it is cut out of the
 * text before merging starts, and matters here only as a step of other merges. */
static int index_pieces(struct vocabulary *v, const bool *whole, bool user_defined, size_t *n_twice)
{
    struct name_array array = { v->pieces, sizeof(*v->pieces) };
    int err = 0;

    for (size_t i = v->n; i-- > 0 && !err;) {
        if (!whole[i] || (v->types[i] == TOKEN_USER_DEFINED) != user_defined)
            continue;
        if (name_table_find(&v->ids, array, v->pieces[i]) >= 0) {
            *n_twice += 1;
            continue;
        }
        err = name_table_add(&v->ids, array, (uint32_t)i);
        if (v->pieces[i].len > v->longest)
            v->longest = v->pieces[i].len;
    }
    return err;
}

int vocabulary_load_pieces(struct vocabulary *v, const struct gguf *g, const struct gguf_string *texts, bool byte_level)
{
    int16_t letters[N_LETTERS];
    size_t total = 0, used = 0, n_twice = 0, n_no_byte = 0;
    bool *whole = calloc(v->n, sizeof(*whole));
    int err = -ENOMEM;

    fill_letters(letters);
    for (size_t i = 0; i < v->n; i++) {
        total += texts[i].len + 1;      /* each is in memory already: no overflow */
        if (v->types[i] == TOKEN_NORMAL && !byte_level && !gguf_find(g, "tokenizer.ggml.token_type") && byte_of_text(texts[i]) >= 0)
            v->types[i] = TOKEN_BYTE;
        if (v->types[i] == TOKEN_BYTE && (byte_level || byte_of_text(texts[i]) < 0)) {
            n_no_byte += !byte_level;
            v->types[i] = TOKEN_NORMAL;
        }
    }
    v->pieces = calloc(v->n, sizeof(*v->pieces));
    v->bytes = malloc(total);
    if (!whole || !v->pieces || !v->bytes)
        goto done;
    for (size_t i = 0; i < v->n; i++) {
        size_t n = decode_piece(v, i, texts[i], letters, byte_level, v->bytes + used, &whole[i]);
        v->bytes[used + n] = '\0';
        v->pieces[i] = (struct gguf_string){ v->bytes + used, n };
        used += n + 1;
    }
    err = index_pieces(v, whole, false, &n_twice);
    if (!err)
        err = index_pieces(v, whole, true, &n_twice);
    if (n_twice)
        tokenizer_warn(g, "tokenizer.ggml.tokens", "%zu tokens have the text of another, the last one counts", n_twice);
    if (n_no_byte)
        tokenizer_warn(g, "tokenizer.ggml.tokens", "%zu byte tokens are not written <0x00> to <0xFF>, taken as text", n_no_byte);
done:
    free(whole);
    return err;
}

int32_t vocabulary_find(const struct vocabulary *v, const char *piece, size_t n)
{
    if (n > v->longest)
        return -1;
    return (int32_t)name_table_find(&v->ids, (struct name_array){ v->pieces, sizeof(*v->pieces) },
                                    (struct gguf_string){ piece, n });
}

void vocabulary_free(struct vocabulary *v)
{
    free(v->types);
    free(v->pieces);
    free(v->bytes);
    name_table_free(&v->ids);
    *v = (struct vocabulary){ 0 };
}
