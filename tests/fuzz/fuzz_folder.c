/*
 * fuzz_folder.c - libFuzzer target: config.json, and after a NUL the tensors of model.safetensors, one a line: "NAME TYPE DIM,DIM,..".
 *
 * The file is made of them, so that mutations reach what takes names and shapes apart. What is accepted can be read to its last byte,
 * unless it is quantized and its zeros have no place in a type of GGUF; a refusal says exactly one thing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "tests/fuzz/fuzz_files.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

enum { MAX_BYTES = 1 << 20, MAX_LINES = 64, CONFIG = 0, WEIGHTS = 1, TOKENIZER = 2, N_FILES = 3 };
static const char *const names[N_FILES] = { "config.json", "model.safetensors", "tokenizer.json" };
static const char tokenizer[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
                                "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}";

static void set_up(void)
{
    fuzz_make_folder(names, N_FILES);
    for (size_t i = 0; i < N_FILES; i++)
        fuzz_name_file(i);
    fuzz_write_file(TOKENIZER, tokenizer, strlen(tokenizer));
}

static uint32_t bits_of(const char *type)
{
    for (int i = 0; i < SAFETENSORS_TYPE_COUNT; i++)
        if (!strcmp(type, safetensors_type_name((enum safetensors_type)i)))
            return safetensors_type_bits((enum safetensors_type)i);
    return 0;
}

/* Append a line's tensor, whose data begin at *at. A line that is none, or too large, is left out. */
static void put_line(struct buf *header, const char *line, size_t n, uint64_t *at)
{
    char text[640], name[512], type[16], dims[64];
    uint64_t elements = 1;

    if (n >= sizeof(text))
        return;
    memcpy(text, line, n);
    text[n] = '\0';
    if (sscanf(text, "%511[A-Za-z0-9._] %15[A-Z0-9_] %63[0-9,]", name, type, dims) != 3 || !bits_of(type))
        return;
    for (const char *dim = dims; dim; dim = strchr(dim, ','), dim = dim ? dim + 1 : NULL) {
        elements *= strtoull(dim, NULL, 10) % (MAX_BYTES + 1);
        if (*dim < '1' || *dim > '9' || elements > MAX_BYTES)
            return;
    }
    const uint64_t bytes = elements * bits_of(type) / 8;
    if (elements * bits_of(type) % 8 || *at + bytes > MAX_BYTES)
        return;
    buf_printf(header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", *at ? "," : "", name, type,
               dims, *at, *at + bytes);
    *at += bytes;
}

static void write_weights(const char *lines, size_t n)
{
    struct buf file = { 0 };
    uint64_t at = 0, length;

    buf_append(&file, "\0\0\0\0\0\0\0\0{", 9);
    for (size_t i = 0; n && i < MAX_LINES; i++) {
        const char *end = memchr(lines, '\n', n);
        const size_t line = end ? (size_t)(end - lines) : n, taken = line + (end != NULL);
        put_line(&file, lines, line, &at);
        lines += taken;
        n -= taken;
    }
    buf_putc(&file, '}');
    length = file.len - 8;
    memcpy(file.data, &length, 8);
    fuzz_write_file(WEIGHTS, file.data, file.len);
    require(!ftruncate(fuzz_files[WEIGHTS].fd, (off_t)(file.len + at)), "cannot write a memfd");
    buf_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g;

    if (!fuzz_folder[0])
        set_up();
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    if (!end)
        return 0;
    fuzz_write_file(CONFIG, data, (size_t)(end - data));
    write_weights((const char *)end + 1, size - (size_t)(end + 1 - data));
    fuzz_n_errors = 0;
    int err = gguf_open(&g, fuzz_folder);
    require(fuzz_n_errors == (err ? 1 : 0), "not one line for a refusal, none for a model");
    for (size_t i = 0; g && i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (t->bytes > 4 * MAX_BYTES)
            continue;
        char *bytes = malloc(t->bytes);
        fuzz_n_errors = 0;
        err = bytes ? gguf_read(g, t, 0, bytes, t->bytes) : -ENOMEM;
        require(!err || (err == -EINVAL && strstr((const char *)data, "quant_method")), "a tensor cannot be read");
        require(fuzz_n_errors == (err ? 1 : 0), "not one line for a tensor that is refused");
        gguf_drop_cache(g, t, 0, t->bytes);
        free(bytes);
    }
    gguf_close(g);
    return 0;
}
