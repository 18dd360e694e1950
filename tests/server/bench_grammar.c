/*
 * tests/server/bench_grammar.c - what a mask costs: time of one thread for each token of a JSON text under a schema.
 *
 *   bench_grammar VOCABULARY.gguf [CASE]        (a model file, or tests/data/tokenizers/smollm/vocab.gguf; case 0, 1, ... alone)
 *
 * "first": by a fresh matcher, every state met for the first time; "again": the same text once more. Times are CPU time of the thread, so
 * that other processes do not count; beside them what 16 of them cost, as a step of a batch of 16 sequences has them, on one core.
 * "16 schemas": as many matchers with a schema each, in turn, the caches of the processor emptied between tokens as a step empties them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "server/matcher.h"
#include "server/schema.h"
#include "weights/gguf.h"
#include "weights/tokenizer.h"

static const struct { const char *name, *schema, *text; } cases[] = {
    { "any object", NULL, "{\n  \"name\": \"Ann Miller\",\n  \"age\": 31,\n  \"hobbies\": [\"chess\", \"long walks in the rain\"],\n"
      "  \"address\": "
      "{\"city\": \"Berlin\", \"zip\": \"10115\", \"notes\": \"second floor, left; ring twice and wait for somebody to come down\"}\n}" },
    { "object of three",
      "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\"},\"hobbies\":{\"type\":"
      "\"array\",\"items\":{\"type\":\"string\"}}},\"required\":[\"name\",\"age\"]}",
      "{\"name\": \"Ann Miller\", \"age\": 31, \"hobbies\": [\"chess\", \"long walks in the rain\", \"reading newspapers of other "
        "cities\"]}" },
    { "maxLength 200", "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\",\"maxLength\":200}},\"required\":[\"text\"]}",
      "{\"text\": \"second floor, left; ring twice and wait for somebody to come down, who will lead you to the room with the piano\"}" },
    { "enum of 4, number",
      "{\"type\":\"object\",\"properties\":{\"kind\":{\"enum\":[\"invoice\",\"receipt\",\"reminder\",\"other\"]},\"sum\":{\"type\":"
      "\"number\"},\"paid\":{\"type\":\"boolean\"}},\"required\":[\"kind\",\"sum\",\"paid\"]}",
      "{\"kind\": \"reminder\", \"sum\": 1299.95, \"paid\": false}" },
};

static const struct { const char *name, *property, *text; } different[] = {
    { "string", "{\"type\":\"string\",\"minLength\":8000,\"maxLength\":9000}",
      "\"second floor, left; ring twice and wait for somebody to come down, who will lead you to the room with the piano that he plays" },
    { "array", "{\"type\":\"array\",\"minItems\":300,\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\","
      "\"maxLength\":20},\"n\":{\"type\":\"integer\"}},\"required\":[\"name\",\"n\"]}}",
      "[{\"name\": \"Ann Miller\", \"n\": 31}, {\"name\": \"Bob\", \"n\": 127}, {\"name\": \"somebody else\", \"n\": -4}, "
      "{\"name\":\"x\",\"n\":0}" },
    { "free", "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1000}",
      "[\"chess\", \"long walks in the rain\", \"reading newspapers of other cities\", \"second floor, left; ring twice\"" },
};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void pass(const char *name, const char *which, struct matcher *m, const struct token_ids *ids, uint64_t *mask)
{
    static double us[4096];
    struct matcher_place place = { 0 };
    double sum = 0;
    bool may_end;

    for (size_t i = 0; i < ids->n; i++) {
        const double start = now_us();
        if (matcher_allowed(m, &place, ids->ids, i, mask, &may_end)) {
            printf("%s: token %zu does not fit\n", name, i);
            return;
        }
        us[i] = now_us() - start;
        sum += us[i];
    }
    qsort(us, ids->n, sizeof(*us), compare);
    printf("%-20s %-6s %4zu tokens: mean %7.1f us, median %7.1f, p99 %7.1f, most %7.1f; 16 of them %6.2f ms\n", name, which, ids->n,
           sum / (double)ids->n, us[ids->n / 2], us[ids->n * 99 / 100], us[ids->n - 1], 16 * sum / (double)ids->n / 1e3);
}

static struct matcher *matcher_of(const char *text, const struct token_trie *trie)
{
    json_t *schema = json_loads(text, JSON_DECODE_ANY, NULL);
    struct schema_error e;
    struct grammar *g = NULL;
    struct matcher *m = NULL;

    if (schema && schema_compile(schema, &g, &e) == 0)
        (void)matcher_create(&m, g, trie);
    free(g);
    json_decref(schema);
    return m;
}

/* The time of a step's 16 masks. */
static void pass_different(size_t which, const struct token_trie *trie, const struct tokenizer *t, uint64_t *mask)
{
    enum { N = 16, CACHES = 64 << 20 };
    static char caches[CACHES];
    struct matcher *m[N];
    struct matcher_place places[N] = { { 0 } };
    struct token_ids ids[N] = { { NULL, 0, 0 } };
    double us = 0, created = now_us();
    size_t n = SIZE_MAX, failed = 0;
    char text[1024];
    bool may_end;

    for (size_t i = 0; i < N; i++) {
        snprintf(text, sizeof(text), "{\"type\":\"object\",\"properties\":{\"p%zu\":%s},\"required\":[\"p%zu\"]}", i,
                 different[which].property, i);
        m[i] = matcher_of(text, trie);
        snprintf(text, sizeof(text), "{\"p%zu\": %s", i, different[which].text);
        if (!m[i] || tokenizer_encode(t, text, strlen(text), NULL, 0, &ids[i]))
            exit(1);
        n = ids[i].n < n ? ids[i].n : n;
    }
    created = now_us() - created;
    for (size_t k = 0; k < n; k++) {
        memset(caches, (int)k, sizeof(caches));
        const double start = now_us();
        for (size_t i = 0; i < N; i++)
            failed += matcher_allowed(m[i], &places[i], ids[i].ids, k, mask, &may_end) != 0;
        us += now_us() - start;
    }
    printf("16 schemas, %-8s %4zu tokens: %6.2f ms a step of 16, created in %.1f ms each%s\n", different[which].name, n,
           us / (double)n / 1e3, created / N / 1e3, failed ? ": SOME DO NOT FIT" : "");
    for (size_t i = 0; i < N; i++) {
        matcher_destroy(m[i]);
        free(ids[i].ids);
    }
}

int main(int argc, char **argv)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct token_trie *trie = NULL;

    log_set_level(LOG_ERROR);
    if (argc < 2 || gguf_open(&g, argv[1]) || tokenizer_open_gguf(&t, g))
        return 2;
    double start = now_us();
    if (token_trie_create(&trie, t))
        return 1;
    printf("vocabulary of %zu, trie of %zu nodes in %.1f ms\n", trie->n_vocab, trie->n_nodes, (now_us() - start) / 1e3);
    uint64_t *mask = calloc(matcher_mask_words(trie->n_vocab), sizeof(*mask));
    const size_t n_cases = sizeof(cases) / sizeof(cases[0]), n_different = sizeof(different) / sizeof(different[0]);
    const size_t only = argc > 2 ? strtoul(argv[2], NULL, 10) : SIZE_MAX;
    for (size_t i = 0; i < n_different; i++)
        if (only == SIZE_MAX || only == n_cases + i)
            pass_different(i, trie, t, mask);
    for (size_t i = 0; i < n_cases; i++) {
        if (only != SIZE_MAX && only != i)
            continue;
        json_t *schema = cases[i].schema ? json_loads(cases[i].schema, 0, NULL) : NULL;
        struct schema_error e;
        struct grammar *grammar = NULL;
        struct matcher *m = NULL;
        struct token_ids ids = { NULL, 0, 0 };
        start = now_us();
        if (schema_compile(schema, &grammar, &e))
            return 1;
        const double compiled = now_us();
        if (matcher_create(&m, grammar, trie) || tokenizer_encode(t, cases[i].text, strlen(cases[i].text), NULL, 0, &ids))
            return 1;
        printf("%-20s %u nodes compiled in %.0f us, matcher and tokens %.0f us\n", cases[i].name, grammar->n_nodes, compiled - start,
               now_us() - compiled);
        pass(cases[i].name, "first", m, &ids, mask);
        pass(cases[i].name, "again", m, &ids, mask);
        matcher_destroy(m);
        free(grammar);
        free(ids.ids);
        json_decref(schema);
    }
    free(mask);
    token_trie_destroy(trie);
    tokenizer_close(t);
    gguf_close(g);
    return 0;
}
