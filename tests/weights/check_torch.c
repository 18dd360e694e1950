/*
 * tests/weights/check_torch.c - pytorch_model.bin: a file of torch with views of every kind against the same tensors in safetensors;
 * views that a folder's rows are read through; archives and programs that are wrong.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/buf.h"
#include "tests/weights/log_capture.h"
#include "tests/weights/model_folder.h"
#include "weights/gguf.h"
#include "weights/pickle.h"
#include "weights/torch_file.h"

static unsigned char *read_list(const char *path, struct safetensors_list *list,
                                int (*read_file)(struct safetensors_list *list, const char *path, int fd, uint64_t size, uint32_t part))
{
    int fd = open(path, O_RDONLY);
    const off_t size = lseek(fd, 0, SEEK_END);
    unsigned char *bytes = malloc((size_t)size);

    assert_true(fd >= 0 && bytes);
    assert_int_equal(pread(fd, bytes, (size_t)size, 0), size);
    assert_int_equal(read_file(list, path, fd, (uint64_t)size, 1), 0);
    close(fd);
    return bytes;
}

/* Yuan's experts are transposed views of one storage, q and k are halves of another, and the head is the embedding. */
static void check_views(void **state)
{
    struct safetensors_list torch = { 0 }, plain = { 0 };
    unsigned char *a = read_list("tests/data/golden/yuan2_m32/pytorch_model.bin", &torch, torch_file_read);
    unsigned char *b = read_list("tests/data/golden/yuan2_m32/model.safetensors", &plain, safetensors_read);
    size_t n_strided = 0, n_compared = 0;

    (void)state;
    for (size_t i = 0; i < plain.n; i++) {
        const struct safetensors_tensor *want = &plain.tensors[i], *got = safetensors_find(&torch, want->name);
        if (!got || got->type != want->type || got->rank != want->rank ||
            memcmp(got->shape, want->shape, want->rank * sizeof(got->shape[0])))
            fail_msg("tensor %s is %s", want->name.data, got ? "of another shape or type" : "missing");
        const size_t size = safetensors_type_bits(want->type) / 8;
        for (uint64_t j = 0; j < want->bytes / size; j++) {
            uint64_t at = got->offset, rest = j;
            for (uint32_t d = got->rank; d-- > 0; rest /= got->shape[d])
                at += rest % got->shape[d] * got->stride[d];
            if (memcmp(a + at, b + want->offset + j * size, size))
                fail_msg("tensor %s: element %d differs", want->name.data, (int)j);
        }
        n_strided += got->strided;
        n_compared++;
    }
    print_message("%zu tensors, %zu of them with other strides\n", n_compared, n_strided);
    assert_true(n_strided > 5 && n_compared > 30);
    safetensors_free(&torch);
    safetensors_free(&plain);
    free(a);
    free(b);
}

static void put16(struct buf *b, unsigned v)
{
    const uint16_t x = (uint16_t)v;
    buf_append(b, &x, 2);
}

static void put32(struct buf *b, uint64_t v)
{
    const uint32_t x = (uint32_t)v;
    buf_append(b, &x, 4);
}

/* One archive: entries are appended, then the directory is. */
struct archive { struct buf file, directory; unsigned n, method, flags; };

static void put_entry(struct archive *a, const char *name, const void *bytes, size_t n)
{
    const size_t at = a->file.len;

    put32(&a->file, 0x04034b50);
    for (int i = 0; i < 11; i++)
        put16(&a->file, 0);
    put16(&a->file, (unsigned)strlen(name));
    put16(&a->file, 3);
    buf_puts(&a->file, name);
    buf_append(&a->file, "xyz", 3);
    buf_append(&a->file, bytes, n);
    put32(&a->directory, 0x02014b50);
    put32(&a->directory, 0);
    put16(&a->directory, a->flags);
    put16(&a->directory, a->method);
    put32(&a->directory, 0);
    put32(&a->directory, 0);
    put32(&a->directory, n);
    put32(&a->directory, n);
    put16(&a->directory, (unsigned)strlen(name));
    put16(&a->directory, 0);
    put16(&a->directory, 0);
    put32(&a->directory, 0);
    put32(&a->directory, 0);
    put32(&a->directory, at);
    buf_puts(&a->directory, name);
    a->n++;
}

static void finish(struct archive *a)
{
    const size_t at = a->file.len;

    buf_append(&a->file, a->directory.data, a->directory.len);
    put32(&a->file, 0x06054b50);
    put32(&a->file, 0);
    put16(&a->file, a->n);
    put16(&a->file, a->n);
    put32(&a->file, a->directory.len);
    put32(&a->file, at);
    put16(&a->file, 2);
    buf_append(&a->file, "hi", 2);
}

static void free_archive(struct archive *a)
{
    buf_free(&a->file);
    buf_free(&a->directory);
    *a = (struct archive){ 0 };
}

#define BEGIN "\x80\2ccollections\nOrderedDict\n)R("
#define END "u."

static void put_number(struct buf *b, unsigned v)
{
    buf_putc(b, 'M');
    put16(b, v);
}

/* name: a view of storage `key` of n float32. */
static void put_view(struct buf *b, const char *name, char key, unsigned n, unsigned first, unsigned rank, const unsigned *size,
                     const unsigned *stride)
{
    buf_putc(b, 'X');
    put32(b, strlen(name));
    buf_puts(b, name);
    buf_puts(b, "ctorch._utils\n_rebuild_tensor_v2\n((U\7storagectorch\nFloatStorage\nU\1");
    buf_putc(b, key);
    buf_puts(b, "U\3cpu");
    put_number(b, n);
    buf_puts(b, "tQ");
    put_number(b, first);
    for (int i = 0; i < 2; i++) {
        buf_putc(b, '(');
        for (unsigned d = 0; d < rank; d++)
            put_number(b, i ? stride[d] : size[d]);
        buf_putc(b, 't');
    }
    buf_puts(b, "\x89)tR");
}

#define CONFIG "{\"model_type\":\"llama\",\"hidden_size\":3,\"intermediate_size\":4,\"num_hidden_layers\":1,\"num_attention_heads\":1," \
    "\"head_dim\":4,\"rms_norm_eps\":1e-5,\"vocab_size\":4,\"max_position_embeddings\":8,\"tie_word_embeddings\":true}"

/* Rows of a folder's tensors through transposed, shared and rotated views, one of them with three dimensions. */
static void check_folder(void **state)
{
    const char *folder = folder_make();
    struct archive a = { 0 };
    struct buf program = { 0 };
    float storage[24], got[24];
    struct gguf *g;

    (void)state;
    for (int i = 0; i < 24; i++)
        storage[i] = (float)i;
    buf_puts(&program, BEGIN);
    put_view(&program, "model.embed_tokens.weight", '0', 24, 1, 2, (unsigned[]){ 4, 3 }, (unsigned[]){ 3, 1 });
    put_view(&program, "model.layers.0.mlp.up_proj.weight", '0', 24, 2, 2, (unsigned[]){ 4, 3 }, (unsigned[]){ 1, 4 });
    put_view(&program, "model.layers.0.self_attn.q_proj.weight", '0', 24, 0, 2, (unsigned[]){ 4, 3 }, (unsigned[]){ 1, 4 });
    put_view(&program, "model.layers.0.mlp.down_proj.weight", '0', 24, 0, 3, (unsigned[]){ 2, 3, 4 }, (unsigned[]){ 1, 8, 2 });
    put_view(&program, "model.norm.weight", '0', 24, 5, 1, (unsigned[]){ 3 }, (unsigned[]){ 7 });
    buf_append(&program, END, 2);
    put_entry(&a, "m/data.pkl", program.data, program.len);
    put_entry(&a, "m/byteorder", "little", 6);
    put_entry(&a, "m/data/0", storage, sizeof(storage));
    finish(&a);
    folder_put(folder, "pytorch_model-00001-of-00001.bin", a.file.data, a.file.len);
    folder_put_text(folder, "pytorch_model.bin.index.json", "{\"weight_map\":{"
                                                            "\"model.norm.weight\":\"pytorch_model-00001-of-00001.bin\"}}");
    folder_put_text(folder, "config.json", CONFIG);
    folder_put_text(folder, "tokenizer.json", "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},"
                                              "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}");
    assert_int_equal(gguf_open(&g, folder), 0);
    const struct { const char *name; size_t n; float want[24]; } tensors[] = {
        { "token_embd.weight", 12, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 } },
        { "blk.0.ffn_up.weight", 12, { 2, 6, 10, 3, 7, 11, 4, 8, 12, 5, 9, 13 } },
        { "blk.0.attn_q.weight", 12, { 0, 4, 8, 2, 6, 10, 1, 5, 9, 3, 7, 11 } },
        { "blk.0.ffn_down.weight", 24, { 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23 } },
        { "output_norm.weight", 3, { 5, 12, 19 } },
    };
    for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++) {
        const struct gguf_tensor *t = gguf_find_tensor(g, tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->bytes, 4 * tensors[i].n);
        assert_int_equal(gguf_read(g, t, 0, got, t->bytes), 0);
        if (memcmp(got, tensors[i].want, t->bytes))
            fail_msg("%s has other values", tensors[i].name);
    }
    assert_null(gguf_find_tensor(g, "token_embd.weight")->source);
    gguf_close(g);
    free_archive(&a);
    buf_free(&program);
    folder_remove(folder);
}

/* A view that claims 90,000 matrices of one number. */
static void check_expanded(void **state)
{
    const char *folder = folder_make();
    struct archive a = { 0 };
    struct buf program = { 0 };
    struct log_capture log;
    const float one = 1;
    struct gguf *g;

    (void)state;
    buf_puts(&program, BEGIN);
    put_view(&program, "model.layers.0.mlp.down_proj.weight", '0', 1, 0, 4, (unsigned[]){ 300, 300, 1, 1 }, (unsigned[]){ 0, 0, 0, 0 });
    buf_append(&program, END, 2);
    put_entry(&a, "m/data.pkl", program.data, program.len);
    put_entry(&a, "m/data/0", &one, sizeof(one));
    finish(&a);
    folder_put(folder, "pytorch_model.bin", a.file.data, a.file.len);
    folder_put_text(folder, "config.json", CONFIG);
    log_capture_start(&log);
    assert_int_equal(gguf_open(&g, folder), -EINVAL);
    log_capture_start(NULL);
    assert_int_equal(log.n_lines, 1);
    assert_non_null(strstr(log.last, "tensor \"model.layers.0.mlp.down_proj.weight\" of its model: it is a view of too many matrices"));
    free_archive(&a);
    buf_free(&program);
    folder_remove(folder);
}

static int read_archive(const struct buf *file, struct log_capture *log)
{
    struct safetensors_list list = { 0 };
    int fd = memfd_create("torch", 0);

    assert_int_equal(write(fd, file->data, file->len), file->len);
    log_capture_start(log);
    int err = torch_file_read(&list, "FILE", fd, file->len, 1);
    log_capture_start(NULL);
    safetensors_free(&list);
    close(fd);
    return err;
}

#define REBUILD "U\1actorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE(n) "(U\7storagectorch\nFloatStorage\nU\0010U\3cpu" n "tQ"

static void check_programs(void **state)
{
    static const struct { const char *program; size_t n; const char *message; } wrong[] = {
#define P(text) text, sizeof(text) - 1
        { P("\x80\2cos\nsystem\nX\2\0\0\0idR."), "the result is no dict of tensors" },
        { P("R."), "data.pkl at byte 1: an opcode finds too little on the stack" },
        { P("(R."), "an opcode finds too little on the stack" },
        { P("."), "the program leaves nothing" },
        { P(""), "the program is cut short" },
        { P("\x80\2}"), "the program is cut short" },
        { P("\x80\6}."), "a protocol above 5" },
        { P("i"), "an opcode that weights do not need" },
        { P("X\xff\xff\xff\xff."), "the program is cut short" },
        { P("\x8a\11"), "an integer of more than 8 bytes" },
        { P("t."), "there is no mark on the stack" },
        { P("h\0."), "the memo has no such entry" },
        { P("}r\1\0\0\0."), "the memo is not filled in order" },
        { P("U\1a."), "the result is no dict of tensors" },
        { P("}Q."), "a persistent id is no storage of a known type" },
        { P("}(U\1a" REBUILD "(" "K\1tRu."), "a tensor is made of something else" },
        { P("}(" REBUILD "(" STORAGE("K\4") "K\0K\4\x85)tRu."), "are no tuples of one length" },
        { P("}(" REBUILD "(" STORAGE("K\4") "K\0K\4\x85\x8a\1\xff\x85tRu."), "is no number of 0 or more" },
        { P("}(" REBUILD "(" STORAGE("K\4") "K\1K\4\x85K\1\x85tRu."), "tensor \"a\": it reaches beyond its storage of 4 elements" },
        { P("}(" REBUILD "(" STORAGE("K\4") "K\0K\2\x85K\4\x85tRu."), "it reaches beyond its storage of 4 elements" },
        { P("}(" REBUILD "(" STORAGE("K\4") "K\0K\2\x85\x8a\10\0\0\0\0\0\0\0\x7f\x85tRu."), "it reaches beyond its storage" },
        { P("}(" REBUILD "(" STORAGE("K\5") "K\0K\4\x85K\1\x85tRu."), "its storage of 5 elements has 16 bytes" },
        { P("}(" REBUILD "(" STORAGE("\x8a\10\0\0\0\0\0\0\0\x7f") "K\0K\4\x85K\1\x85tRu."), "elements has 16 bytes" },
        { P("}(" REBUILD "((U\7storagectorch\nFloatStorage\nU\0019U\3cpuK\4tQK\0K\4\x85K\1\x85tRu."), "no entry for its storage \"9\"" },
        { P("}(" REBUILD "(" STORAGE("K\4") "K\0K\4\x85K\1\x85tR" REBUILD "(" STORAGE("K\4") "K\0K\4\x85K\1\x85tRu."), "comes twice" },
    };
    const float storage[4] = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct archive a = { 0 };
        struct log_capture log;
        put_entry(&a, "m/data.pkl", wrong[i].program, wrong[i].n);
        put_entry(&a, "m/data/0", storage, sizeof(storage));
        finish(&a);
        int err = read_archive(&a.file, &log);
        if (err != -EINVAL || log.n_lines != 1 || !strstr(log.last, wrong[i].message))
            fail_msg("program %zu: %d, %zu lines, \"%s\"; expected \"%s\"", i, err, log.n_lines, log.last, wrong[i].message);
        free_archive(&a);
    }
}

/* A short program that would fill the memory, and a deep one. */
static void check_bombs(void **state)
{
    static const char *const bombs[] = { ")", "(", "]q", "N" };
    const size_t n = 16 << 20;
    char *program = malloc(n);

    (void)state;
    assert_non_null(program);
    for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
        const char *why;
        size_t at;
        memset(program, bombs[i][0], n);
        if (i == 0)         /* made and dropped, so that the stack stays low */
            for (size_t j = 1; j < n; j += 2)
                program[j] = '0';
        assert_int_equal(pickle_read(program, n, NULL, NULL, &why, &at), -EINVAL);
        assert_true(strstr(why, "too deep") || strstr(why, "more than weights need") || strstr(why, "too long"));
    }
    free(program);
}

static void check_archives(void **state)
{
    const char program[] = "}.";
    struct log_capture log;
    struct archive a = { 0 };

    (void)state;
    put_entry(&a, "m/data.pkl", program, 2);
    put_entry(&a, "m/byteorder", "little", 6);
    finish(&a);
    assert_int_equal(read_archive(&a.file, &log), 0);

    /* Every byte of it changed: read or refused with one line. */
    for (size_t i = 0; i < a.file.len; i++)
        for (unsigned v = 1; v < 256; v += 84) {
            a.file.data[i] = (char)(a.file.data[i] ^ (char)v);
            int err = read_archive(&a.file, &log);
            assert_true(err ? err == -EINVAL && log.n_lines == 1 : log.n_lines == 0);
            a.file.data[i] = (char)(a.file.data[i] ^ (char)v);
        }
    for (size_t n = 0; n < a.file.len; n++) {
        const struct buf cut = { .data = a.file.data, .len = n };
        assert_int_equal(read_archive(&cut, &log), -EINVAL);
        assert_int_equal(log.n_lines, 1);
    }
    free_archive(&a);

    a.method = 8;
    put_entry(&a, "m/data.pkl", program, 2);
    finish(&a);
    assert_int_equal(read_archive(&a.file, &log), -EINVAL);
    assert_string_equal(log.last, "FILE: entry \"m/data.pkl\": is compressed or encrypted");
    free_archive(&a);
    put_entry(&a, "m/data.pkl", program, 2);
    put_entry(&a, "m/data.pkl", program, 2);
    finish(&a);
    assert_int_equal(read_archive(&a.file, &log), -EINVAL);
    assert_string_equal(log.last, "FILE: entry \"m/data.pkl\": comes twice");
    free_archive(&a);
    put_entry(&a, "m/other", program, 2);
    finish(&a);
    assert_int_equal(read_archive(&a.file, &log), -EINVAL);
    assert_string_equal(log.last, "FILE: it has no data.pkl: not a file of torch.save");
    free_archive(&a);
    put_entry(&a, "m/data.pkl", program, 2);
    put_entry(&a, "m/byteorder", "big", 3);
    finish(&a);
    assert_int_equal(read_archive(&a.file, &log), -EINVAL);
    assert_string_equal(log.last, "FILE: its byte order is that of another machine");
    free_archive(&a);
    const struct buf bare = { .data = (char[]){ "\x80\2}." }, .len = 4 };
    assert_int_equal(read_archive(&bare, &log), -EINVAL);
    assert_non_null(strstr(log.last, "a bare pickle: save it again with torch 1.6 or later"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_views), cmocka_unit_test(check_folder), cmocka_unit_test(check_expanded),
        cmocka_unit_test(check_programs), cmocka_unit_test(check_bombs),
        cmocka_unit_test(check_archives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
