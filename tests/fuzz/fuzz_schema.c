/*
 * fuzz_schema.c - a JSON schema to a grammar, and a text through it.
 *
 * The schema ends at the first NUL, the text follows. What compiles must pass the check of the engine's side, and while the text fits,
 * something must be able to follow or it may end: a mask without a bit in it would be the end of a request.
 */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/json_read.h"
#include "server/matcher.h"
#include "server/schema.h"
#include "tests/fuzz/fuzz.h"
#include "weights/gguf.h"
#include "weights/tokenizer.h"

static struct token_trie *trie;

/* Once; the files are read from the repository's root, where run.sh starts the target. */
static void open_vocabulary(void)
{
    struct gguf *g;
    struct tokenizer *t;

    log_set_level(LOG_ERROR);
    if (gguf_open(&g, "tests/data/tokenizers/smollm/vocab.gguf") || tokenizer_open_gguf(&t, g) || token_trie_create(&trie, t))
        abort();
    tokenizer_close(t);
    gguf_close(g);
}

static void follow(struct matcher *m, const uint8_t *text, size_t n)
{
    uint64_t mask[64] = { 0 };
    struct matcher_place place = { 0 };
    int32_t tokens[64];
    size_t n_tokens = 0;
    bool may_end = false, any;

    if (matcher_mask_words(trie->n_vocab) > 64)
        abort();
    do {
        if (matcher_allowed(m, &place, tokens, n_tokens, mask, &may_end))
            return;                             /* too many ways: an answer, too */
        any = false;
        for (size_t i = 0; i < 64; i++)
            any |= mask[i] != 0;
        if (!any && !may_end)
            abort();
        /* the next byte of the text picks among the allowed tokens */
        size_t id = n_tokens < n ? (size_t)text[n_tokens] * 5 % trie->n_vocab : 0;
        for (size_t i = 0; any && i < trie->n_vocab && !(mask[id >> 6] >> (id & 63) & 1); i++)
            id = (id + 1) % trie->n_vocab;
        tokens[n_tokens++] = (int32_t)id;
    } while (any && n_tokens < n && n_tokens < 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *end = memchr(data, 0, n);
    const size_t length = end ? (size_t)(end - data) : n;
    struct json_read_error why;
    struct schema_error e;
    struct grammar *g = NULL;
    struct matcher *m;
    json_t *schema;

    if (!trie)
        open_vocabulary();
    if (json_read((const char *)data, length, &schema, &why))
        return 0;
    if (schema_compile(schema, &g, &e) == 0) {
        if (grammar_check(g, g->n_bytes) || matcher_create(&m, g, trie))
            abort();
        if (end) {
            matcher_read_text(m, (const char *)end + 1, n - length - 1);
            follow(m, end + 1, n - length - 1);
        }
        matcher_destroy(m);
    } else if (!*e.message) {
        abort();
    }
    free(g);
    json_decref(schema);
    return 0;
}
