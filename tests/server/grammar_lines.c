/*
 * tests/server/grammar_lines.c - what the compilers make of schemas, regular expressions and rules, for scripts: which texts a grammar
 * accepts, and texts that it produces.
 *
 *   grammar_lines VOCABULARY.gguf < LINES
 *
 * A line "S schema" compiles it and answers "ok" or "refused REASON"; so do "R "regex"" and "E "rules"", JSON strings both. "T text" answers
 * "yes", "part" (a beginning) or "no" for the last one, "J "text"" for the text in a JSON string; "G seed" answers a text drawn
 * token by token from the masks, each allowed token with the same probability but the end, which is taken as soon as it is
 * allowed after 64 tokens; "?" and the text so far after 4000.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/ebnf.h"
#include "server/matcher.h"
#include "server/regex.h"
#include "server/schema.h"
#include "weights/gguf.h"
#include "weights/tokenizer.h"

enum { MOST_TOKENS = 4000, END_AFTER = 64 };

static struct matcher *matcher;
static struct token_trie *trie;

static void read_grammar(char kind, const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    struct schema_error e = { "" };
    struct pattern_error why = { 0, "" };
    struct grammar *g = NULL;
    int err = 0;

    matcher_destroy(matcher);
    matcher = NULL;
    if (kind == 'S' && value)
        err = schema_compile(value, &g, &e);
    else if (kind == 'R' && value)
        err = regex_compile(json_string_value(value), json_string_length(value), &g, &why);
    else if (value)
        err = ebnf_compile(json_string_value(value), json_string_length(value), &g, &why);
    if (!value)
        puts("refused not JSON");
    else if (err)
        printf("refused %s\n", kind == 'S' ? e.message : why.message);
    else if (matcher_create(&matcher, g, trie))
        puts("refused no memory");
    else
        puts("ok");
    free(g);
    json_decref(value);
}

static void try_text(const char *text, size_t n)
{
    const int result = matcher_read_text(matcher, text, n);
    puts(result == 0 ? "yes" : result == 1 ? "part" : result == -EINVAL ? "no" : "full");
}

static uint64_t next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return *random >> 20;
}

static void generate(uint64_t random)
{
    static int32_t tokens[MOST_TOKENS];
    const size_t words = matcher_mask_words(trie->n_vocab);
    uint64_t *mask = malloc(words * sizeof(*mask));
    struct matcher_place place = { 0 };
    size_t n = 0;
    bool end = false, complete = false;

    for (; mask && n < MOST_TOKENS; n++) {
        size_t n_allowed = 0;
        int err = matcher_allowed(matcher, &place, tokens, n, mask, &end);
        for (size_t i = 0; i < words && !err; i++)
            n_allowed += (size_t)__builtin_popcountll(mask[i]);
        if (err || (n_allowed == 0 && !end)) {
            printf("stuck %d ", err);
            break;
        }
        complete = end && (n_allowed == 0 || n > END_AFTER || next_random(&random) % 8 == 0);
        if (complete)
            break;
        size_t k = (size_t)(next_random(&random) % n_allowed), id = 0;
        /* Half of the draws take a byte that ends something, so that texts come to an end. */
        for (;; id++)
            if (mask[id >> 6] >> (id & 63) & 1 && k-- == 0)
                break;
        tokens[n] = (int32_t)id;
        if (n > END_AFTER / 4 && next_random(&random) % 2) {
            for (size_t i = 0; i < trie->n_vocab; i++) {
                const uint32_t *at = trie->offsets + i;
                if (mask[i >> 6] >> (i & 63) & 1 && at[1] == at[0] + 1 && strchr("}]\"", trie->bytes[at[0]]))
                    tokens[n] = (int32_t)i;
            }
        }
    }
    free(mask);
    if (!complete)
        printf("? ");
    for (size_t i = 0; i < n; i++) {
        const uint32_t *at = trie->offsets + tokens[i];
        for (uint32_t k = at[0]; k < at[1]; k++)
            putchar(trie->bytes[k] == '\n' ? ' ' : trie->bytes[k]);
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    static char line[1 << 20];
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;

    log_set_level(LOG_ERROR);
    if (argc != 2 || gguf_open(&g, argv[1]) || tokenizer_open_gguf(&t, g) || token_trie_create(&trie, t))
        return 2;
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (strchr("SRE", line[0])) {
            read_grammar(line[0], line + 2);
        } else if (!matcher) {
            puts("no grammar");
        } else if (line[0] == 'T') {
            try_text(line + 2, strlen(line + 2));
        } else if (line[0] == 'J') {
            json_t *text = json_loads(line + 2, JSON_DECODE_ANY, NULL);
            try_text(json_string_value(text), json_string_length(text));
            json_decref(text);
        } else {
            generate(strtoull(line + 2, NULL, 10));
        }
        fflush(stdout);
    }
    matcher_destroy(matcher);
    token_trie_destroy(trie);
    tokenizer_close(t);
    gguf_close(g);
    return 0;
}
