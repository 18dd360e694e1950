/*
 * fuzz_tokenizer.c - libFuzzer target: the input describes a small vocabulary, and a text for it.
 *
 * A GGUF file is made from it, since fuzz_gguf looks after wrong files already: here the vocabulary may be as odd as it likes, but
 * arrives. Layout: flags, pattern, then records (kind, length, bytes) up to a kind 0, then the text. Kinds 1 to 6 are tokens of
 * that type, 7 is a merge.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "common/utf8.h"
#include "tests/fuzz/fuzz.h"
#include "tests/weights/gguf_writer.h"
#include "weights/tokenizer.h"

enum { LLAMA = 1, SPACE_PREFIX = 2, ADD_BOS = 4, NO_TYPES = 8, ALL_BYTES = 16 };
enum { MOST_RECORDS = 300, MERGE = 7 };

static const char *const patterns[] = {
    "gpt-2", "smollm", "falcon", "default", "llama3", "qwen2", "qwen35", "gpt-4o", "tekken", "deepseek-v3", "deepseek-coder", "none"
};

struct list {       /* of strings as a GGUF array has them */
    struct buf strings;
    uint32_t n;
};

struct description {
    struct list tokens, merges;
    int32_t types[256 + MOST_RECORDS];
    float scores[256 + MOST_RECORDS];
};

static void drop_line(void *arg, enum log_level level, const char *message)
{
    (void)arg;
    (void)level;
    require(!strchr(message, '\n'), "a message of two lines");
}

static void add_token(struct description *d, int32_t type, const void *text, size_t n)
{
    d->types[d->tokens.n] = type;
    d->scores[d->tokens.n] = (float)((d->tokens.n * 7) % 64);      /* in no order, often equal */
    put_string(&d->tokens.strings, text, n);
    d->tokens.n++;
}

static void add_all_bytes(struct description *d, bool llama)
{
    uint32_t other = 0x100;

    for (uint32_t b = 0; b < 256; b++) {
        char text[8];
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (llama)
            add_token(d, 6, text, (size_t)snprintf(text, sizeof(text), "<0x%02X>", b));
        else
            add_token(d, 1, text, utf8_encode(printable ? b : other++, text));
    }
}

/* Returns where the text begins. */
static size_t read_records(struct description *d, const uint8_t *data, size_t size, size_t at)
{
    for (int i = 0; i < MOST_RECORDS && at + 1 < size && data[at]; i++) {
        int kind = data[at] & 7;
        size_t n = data[at + 1];
        at += 2;
        if (n > size - at)
            n = size - at;
        if (kind == MERGE) {
            put_string(&d->merges.strings, data + at, n);
            d->merges.n++;
        } else {
            add_token(d, kind, data + at, n);
        }
        at += n;
    }
    return at < size ? at + 1 : size;
}

static void put_list(struct gguf_writer *w, const char *key, const struct list *l)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(&w->kv, GGUF_STRING);
    put_u64(&w->kv, l->n);
    buf_append(&w->kv, l->strings.data, l->strings.len);
}

static struct tokenizer *open_described(const struct description *d, uint8_t flags, uint8_t pattern)
{
    static int fd = -1;
    static char path[32];
    struct gguf_writer w;
    struct buf file = { 0 };
    struct tokenizer *t = NULL;
    struct gguf *g = NULL;

    if (fd < 0) {
        fd = memfd_create("fuzz.gguf", MFD_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        log_set_sink(drop_line, NULL);
    }
    gguf_writer_init(&w);
    gguf_writer_string(&w, "tokenizer.ggml.model", flags & LLAMA ? "llama" : "gpt2");
    gguf_writer_string(&w, "tokenizer.ggml.pre", patterns[pattern % (sizeof(patterns) / sizeof(patterns[0]))]);
    put_list(&w, "tokenizer.ggml.tokens", &d->tokens);
    put_list(&w, "tokenizer.ggml.merges", &d->merges);
    gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_F32, d->scores, d->tokens.n);
    if (!(flags & NO_TYPES))
        gguf_writer_array(&w, "tokenizer.ggml.token_type", GGUF_I32, d->types, d->tokens.n);
    gguf_writer_bool(&w, "tokenizer.ggml.add_space_prefix", flags & SPACE_PREFIX);
    gguf_writer_bool(&w, "tokenizer.ggml.add_bos_token", flags & ADD_BOS);
    gguf_writer_u32(&w, "tokenizer.ggml.bos_token_id", pattern);
    gguf_writer_finish(&w, &file);
    gguf_writer_free(&w);
    require(!ftruncate(fd, 0) && pwrite(fd, file.data, file.len, 0) == (ssize_t)file.len, "cannot write the memfd");
    buf_free(&file);
    require(!gguf_open(&g, path), "the file does not open");
    int err = tokenizer_open_gguf(&t, g);
    require((t != NULL) == !err, "a tokenizer and an error, or neither");
    gguf_close(g);
    return t;
}

static void check_ids(const struct tokenizer *t, const struct token_ids *ids, bool may_be_control)
{
    struct detokenizer d;
    struct buf delta = { 0 };

    detokenizer_init(&d, t, !may_be_control, true);
    for (size_t i = 0; i < ids->n; i++) {
        size_t n;
        require(tokenizer_piece(t, ids->ids[i], &n) != NULL, "an id outside of the vocabulary");
        /* What has no token may become the unknown one, which has no effect on a model's turns. */
        require(may_be_control || !tokenizer_is_control(t, ids->ids[i]) || !strcmp(tokenizer_kind(t), "llama"),
                "a control token from a user's text");
        buf_clear(&delta);
        detokenizer_push(&d, ids->ids[i], &delta);
        require(utf8_check(delta.data, delta.len) == delta.len, "half a character");
    }
    buf_free(&delta);
}

static void encode(const struct tokenizer *t, const char *text, size_t n)
{
    struct token_ids ids = { 0 };
    uint8_t *literal = malloc(n + 1);
    bool valid = utf8_check(text, n) == n;

    memset(literal, 1, n + 1);
    require(!tokenizer_encode(t, text, n, NULL, TOKENIZE_SPECIAL | TOKENIZE_ADD_BOS, &ids) == valid, "valid text, and only that");
    check_ids(t, &ids, true);
    ids.n = 0;
    require(!tokenizer_encode(t, text, n, literal, TOKENIZE_SPECIAL, &ids) == valid, "the same text as a user's");
    check_ids(t, &ids, false);
    free(literal);
    free(ids.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct description d = { 0 };

    if (size < 2)
        return 0;
    if (data[0] & ALL_BYTES)
        add_all_bytes(&d, data[0] & LLAMA);
    size_t at = read_records(&d, data, size, 2);
    struct tokenizer *t = open_described(&d, data[0], data[1]);
    if (t)
        encode(t, (const char *)data + at, size - at);
    tokenizer_close(t);
    buf_free(&d.tokens.strings);
    buf_free(&d.merges.strings);
    return 0;
}
