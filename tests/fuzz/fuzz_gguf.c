/*
 * fuzz_gguf.c - libFuzzer target: the input is a GGUF file. Whatever opens is asked for everything it has.
 *
 * The bytes lie in a memfd, so that the whole path from gguf_open() on is under test. A refusal must say exactly one thing.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz_lines.h"
#include "weights/gguf.h"

static double sum;      /* of what was read, so that no read is left out */

static void read_value(const struct gguf *g, const struct gguf_kv *kv)
{
    char quoted[GGUF_QUOTED];
    uint64_t integer;
    double real;
    bool flag;
    struct gguf_string text;
    const struct gguf_string *texts;
    uint64_t n;

    require(strlen(gguf_quote(kv->key, quoted)) < GGUF_QUOTED, "quoted text is too long");
    require(gguf_find(g, kv->key.data) == kv, "a key is not found by its name");
    for (uint64_t i = 0; i < kv->n; i++) {
        if (kv->element_type == GGUF_STRING) {
            require(kv->strings[i].data[kv->strings[i].len] == '\0', "a string does not end");
            gguf_quote(kv->strings[i], quoted);
        } else {
            sum += gguf_float_at(kv, i);
        }
    }
    gguf_get_u64(g, kv->key.data, 1, 1000, &integer);
    gguf_get_f64(g, kv->key.data, 0, 1, &real);
    gguf_get_bool(g, kv->key.data, &flag);
    gguf_get_string(g, kv->key.data, &text);
    gguf_get_strings(g, kv->key.data, &texts, &n);
}

static void read_tensor(const struct gguf *g, const struct gguf_tensor *t)
{
    const struct dtype_info *info = dtype_info(t->type);
    unsigned char bytes[64];
    size_t n = t->bytes < sizeof(bytes) ? t->bytes : sizeof(bytes);

    require(info && t->ne[0] % info->block == 0, "a tensor of no type, or with half a block");
    require(t->ne[0] / info->block * info->block_bytes * t->ne[1] * t->ne[2] * t->ne[3] == t->bytes, "wrong size of a tensor");
    require(t->offset + t->bytes <= gguf_file_bytes(g), "a tensor reaches beyond the file");
    require(gguf_find_tensor(g, t->name.data) == t, "a tensor is not found by its name");
    require(!gguf_read(g, t, 0, bytes, n), "the first bytes of a tensor cannot be read");
    require(!gguf_read(g, t, t->bytes - n, bytes, n), "the last bytes of a tensor cannot be read");
    require(gguf_read(g, t, t->bytes - n, bytes, n + 1) != 0, "a read beyond a tensor");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[32];
    struct gguf *g;

    if (fd < 0) {
        fd = memfd_create("fuzz.gguf", MFD_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        log_set_sink(count_line, "/proc/self/fd/");
    }
    require(!ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size, "cannot write the memfd");
    n_lines = 0;
    int err = gguf_open(&g, path);
    require(n_lines == (err ? 1 : 0), "not one line for a refusal, none for a model");
    require((g != NULL) == !err, "a model and an error, or neither");
    if (g) {
        for (size_t i = 0; i < gguf_n_kv(g); i++)
            read_value(g, gguf_kv_at(g, i));
        for (size_t i = 0; i < gguf_n_tensors(g); i++)
            read_tensor(g, gguf_tensor_at(g, i));
    }
    gguf_close(g);
    return 0;
}
