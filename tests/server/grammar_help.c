#include "tests/server/grammar_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>

#include <cmocka.h>

#include "common/log.h"
#include "weights/gguf.h"
#include "weights/tokenizer.h"

struct token_trie *trie;

int open_vocabulary(void **state)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;

    (void)state;
    log_set_level(LOG_ERROR);
    if (gguf_open(&g, "tests/data/tokenizers/smollm/vocab.gguf") || tokenizer_open_gguf(&t, g) || token_trie_create(&trie, t))
        return -1;
    tokenizer_close(t);
    gguf_close(g);
    return 0;
}

int close_vocabulary(void **state)
{
    (void)state;
    token_trie_destroy(trie);
    return 0;
}

int32_t token_of(const char *text)
{
    for (size_t id = 0; id < trie->n_vocab; id++)
        if (trie->offsets[id + 1] - trie->offsets[id] == strlen(text) &&
            memcmp(trie->bytes + trie->offsets[id], text, strlen(text)) == 0)
            return (int32_t)id;
    fail_msg("no token %s", text);
    return -1;
}

struct grammar *compile(const char *text, struct schema_error *e)
{
    json_t *schema = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    struct grammar *g = NULL;

    assert_true(!text || schema);
    int err = schema_compile(schema, &g, e);
    assert_true(err == 0 || err == -EINVAL);
    assert_true((g != NULL) == (err == 0) && (err == 0 || *e->message));
    json_decref(schema);
    return g;
}

struct matcher *matcher_of(const char *schema)
{
    struct schema_error e;
    struct grammar *g = compile(schema, &e);
    struct matcher *m;

    if (!g)
        fail_msg("%s: %s", schema, e.message);
    assert_int_equal(matcher_create(&m, g, trie), 0);
    free(g);
    return m;
}
