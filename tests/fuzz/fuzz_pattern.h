/*
 * fuzz_pattern.h - a pattern's source to a grammar, and a text through it: the body of fuzz_ebnf.c and fuzz_regex.c.
 *
 * The source ends at the first NUL, the text follows. What compiles must pass the check of the engine's side; what does not has a reason.
 */
#ifndef FOURWAY_TESTS_FUZZ_FUZZ_PATTERN_H
#define FOURWAY_TESTS_FUZZ_FUZZ_PATTERN_H

#include <string.h>

#include "server/matcher.h"
#include "server/pattern.h"
#include "tests/fuzz/fuzz.h"

static inline void fuzz_pattern(int (*compile)(const char *, size_t, struct grammar **, struct pattern_error *), const uint8_t *data,
                                size_t n)
{
    /* bytes are the whole vocabulary that a text needs */
    static const struct token_trie no_tokens = { .n_vocab = 1 };
    const uint8_t *end = memchr(data, 0, n);
    const size_t length = end ? (size_t)(end - data) : n;
    struct pattern_error e;
    struct grammar *g;
    struct matcher *m;

    if (compile((const char *)data, length, &g, &e)) {
        require(*e.message != '\0', "a refusal without a reason");
        return;
    }
    require(!grammar_check(g, g->n_bytes), "a compiled grammar that does not pass the check");
    require(!matcher_create(&m, g, &no_tokens), "no matcher for a grammar");
    if (end)
        matcher_read_text(m, (const char *)end + 1, n - length - 1);
    matcher_destroy(m);
    free(g);
}

#endif
