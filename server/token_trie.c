#include "server/token_trie.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "weights/tokenizer.h"

enum { MOST_BYTES = 255 };

struct piece { const char *text; size_t n; int32_t id; };

static int compare(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);

    if (order)
        return order;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The nodes of sorted pieces; with nodes == NULL they are only counted. */
static size_t fill(const struct piece *pieces, size_t n, struct trie_node *nodes, int32_t *tokens)
{
    uint32_t open[MOST_BYTES + 1];
    const struct piece *before = NULL;
    size_t n_nodes = 0, n_open = 0;

    for (size_t i = 0; i < n; i++) {
        const struct piece *p = &pieces[i];
        size_t common = 0;
        while (before && common < before->n && common < p->n && before->text[common] == p->text[common])
            common++;
        for (; n_open > common; n_open--)
            if (nodes)
                nodes[open[n_open - 1]].end = (uint32_t)n_nodes;
        for (; n_open < p->n; n_open++) {
            if (nodes)
                nodes[n_nodes] = (struct trie_node){ .byte = (uint8_t)p->text[n_open], .depth = (uint8_t)(n_open + 1),
                                                     .first_token = (uint32_t)i };
            open[n_open] = (uint32_t)n_nodes++;
        }
        if (nodes && nodes[open[n_open - 1]].n_tokens < UINT16_MAX) {
            nodes[open[n_open - 1]].n_tokens++;
            tokens[i] = p->id;
        }
        before = p;
    }
    for (; nodes && n_open > 0; n_open--)
        nodes[open[n_open - 1]].end = (uint32_t)n_nodes;
    return n_nodes;
}

static int make_trie(const struct piece *pieces, size_t n, struct trie_node **nodes, size_t *n_nodes, int32_t **tokens)
{
    *n_nodes = fill(pieces, n, NULL, NULL);
    *nodes = malloc((*n_nodes + 1) * sizeof(**nodes));
    *tokens = calloc(n + 1, sizeof(**tokens));
    if (!*nodes || !*tokens)
        return -ENOMEM;
    fill(pieces, n, *nodes, *tokens);
    return 0;
}

/* Characters of a token that a JSON string may have as they are; 0: it has others, or too many. */
static size_t plain_characters(const struct piece *p)
{
    size_t n = 0;

    for (size_t at = 0; at < p->n; n++) {
        const uint8_t byte = (uint8_t)p->text[at];
        uint32_t code_point;
        const int length = utf8_decode(p->text + at, p->n - at, &code_point);
        if (length <= 0 || byte < 0x20 || byte == '"' || byte == '\\' || byte == 0x7f)
            return 0;
        at += (size_t)length;
    }
    return n <= TRIE_MOST_PLAIN ? n : 0;
}

/* Marks the plain ones, and leaves the others of pieces[n]; returns their number. */
static size_t split_plain(struct token_trie *t, struct piece *pieces, size_t n)
{
    const size_t words = (t->n_vocab + 63) / 64;
    size_t n_others = 0;

    for (size_t i = 0; i < n; i++) {
        const size_t length = plain_characters(&pieces[i]);
        if (!length)
            pieces[n_others++] = pieces[i];
        for (size_t k = length; k > 0 && k <= TRIE_MOST_PLAIN; k++)
            t->plain[(k - 1) * words + (size_t)pieces[i].id / 64] |= (uint64_t)1 << (pieces[i].id & 63);
    }
    return n_others;
}

static int build(struct token_trie *t, const struct tokenizer *tokenizer, struct piece *pieces)
{
    const size_t words = (t->n_vocab + 63) / 64;
    size_t n = 0, n_bytes = 0;

    for (size_t id = 0; id < t->n_vocab; id++) {
        struct piece p = { .id = (int32_t)id };
        p.text = tokenizer_piece(tokenizer, p.id, &p.n);
        n_bytes += p.text ? p.n : 0;
        if (p.text && p.n > 0 && p.n <= MOST_BYTES && !tokenizer_is_control(tokenizer, p.id))
            pieces[n++] = p;
    }
    qsort(pieces, n, sizeof(*pieces), compare);
    t->plain = calloc(TRIE_MOST_PLAIN * words, sizeof(*t->plain));
    t->in_trie = calloc(words, sizeof(*t->in_trie));
    for (size_t i = 0; t->in_trie && i < n; i++)
        t->in_trie[(size_t)pieces[i].id / 64] |= (uint64_t)1 << (pieces[i].id & 63);
    if (!t->plain || !t->in_trie || make_trie(pieces, n, &t->nodes, &t->n_nodes, &t->tokens))
        return -ENOMEM;
    n = split_plain(t, pieces, n);
    if (make_trie(pieces, n, &t->other_nodes, &t->n_other_nodes, &t->other_tokens))
        return -ENOMEM;
    t->offsets = malloc((t->n_vocab + 1) * sizeof(*t->offsets));
    t->bytes = malloc(n_bytes + 1);
    if (!t->offsets || !t->bytes || n_bytes > UINT32_MAX)
        return -ENOMEM;
    t->offsets[0] = 0;
    for (size_t id = 0, at = 0; id < t->n_vocab; id++) {
        size_t length = 0;
        const char *text = tokenizer_piece(tokenizer, (int32_t)id, &length);
        if (text)
            memcpy(t->bytes + at, text, length);
        at += text ? length : 0;
        t->offsets[id + 1] = (uint32_t)at;
    }
    return 0;
}

int token_trie_create(struct token_trie **out, const struct tokenizer *tokenizer)
{
    struct token_trie *t = calloc(1, sizeof(*t));
    int err = -ENOMEM;

    *out = NULL;
    if (!t)
        return err;
    t->n_vocab = tokenizer_vocab_size(tokenizer);
    struct piece *pieces = malloc((t->n_vocab + 1) * sizeof(*pieces));
    if (pieces)
        err = build(t, tokenizer, pieces);
    free(pieces);
    if (err)
        token_trie_destroy(t);
    else
        *out = t;
    return err;
}

void token_trie_destroy(struct token_trie *t)
{
    if (!t)
        return;
    free(t->nodes);
    free(t->tokens);
    free(t->other_nodes);
    free(t->other_tokens);
    free(t->plain);
    free(t->in_trie);
    free(t->offsets);
    free(t->bytes);
    free(t);
}
