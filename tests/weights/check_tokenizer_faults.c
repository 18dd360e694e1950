/*
 * tests/weights/check_tokenizer_faults.c - every allocation fails once: opening and encoding give -ENOMEM, and leak nothing
 * (which the address sanitizer sees).
 *
 * The linker puts the functions below in front of the C library's (--wrap). PCRE2 and utf8proc are shared libraries and keep theirs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "weights/tokenizer.h"

static long countdown = -1;     /* allocations until one fails; negative: none does */

static bool fails(void)
{
    return countdown >= 0 && countdown-- == 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

static void check_open(const char *path)
{
    struct tokenizer *t = NULL;
    struct gguf *g;
    long n = 0;
    int err;

    assert_int_equal(gguf_open(&g, path), 0);
    do {
        countdown = n++;
        err = tokenizer_open_gguf(&t, g);
        assert_true(err == 0 || err == -ENOMEM);
        assert_true((t != NULL) == !err);
    } while (err);
    assert_true(n > 5);
    countdown = -1;
    tokenizer_close(t);
    gguf_close(g);
}

static void check_encode(const char *path)
{
    static const char text[] = "<|im_start|>hello hello\n  e\xcc\x81\xcc\x96 caf\xc3\xa9 12345<s> and so on, and so on";
    struct token_ids ids = { 0 };
    struct tokenizer *t;
    struct gguf *g;
    long n = 0;
    int err;

    assert_int_equal(gguf_open(&g, path), 0);
    assert_int_equal(tokenizer_open_gguf(&t, g), 0);
    gguf_close(g);
    do {
        free(ids.ids);
        ids = (struct token_ids){ __real_malloc(sizeof(int32_t)), 1, 1 };     /* full: what is there before stays */
        ids.ids[0] = 42;
        countdown = n++;
        err = tokenizer_encode(t, text, strlen(text), NULL, TOKENIZE_SPECIAL, &ids);
        assert_true(err == 0 || err == -ENOMEM);
        assert_int_equal(ids.ids[0], 42);
        if (err)
            assert_int_equal(ids.n, 1);
    } while (err);
    countdown = -1;
    assert_true(n > 3 && ids.n > 10);
    free(ids.ids);
    tokenizer_close(t);
}

static void check_faults(void **state)
{
    static const char *const models[] = {
        "tests/data/tokenizers/qwen2/vocab.gguf", "tests/data/tokenizers/smollm/vocab.gguf", "tests/data/tokenizers/spm/vocab.gguf"
    };

    (void)state;
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        check_open(models[i]);
        check_encode(models[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
