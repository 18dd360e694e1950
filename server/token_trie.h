/*
 * token_trie.h - the vocabulary as a trie of bytes, for grammars: what tokens share is tried once.
 *
 * Nodes lie in depth-first order, so a walk over all tokens is one loop; a node knows where its subtree ends. Control tokens, those without
 * text and those longer than 255 bytes are not in it. Built once per model from the tokenizer, read-only afterwards.
 */
#ifndef FOURWAY_SERVER_TOKEN_TRIE_H
#define FOURWAY_SERVER_TOKEN_TRIE_H

#include <stddef.h>
#include <stdint.h>

struct tokenizer;

struct trie_node {
    uint8_t byte, depth;        /* depth of the first byte: 1 */
    uint16_t n_tokens;          /* tokens that end here: usually 0 or 1 */
    uint32_t end;               /* the first node behind the subtree */
    uint32_t first_token;       /* into tokens */
};

/*
 * Within a JSON string most tokens are plain: whole characters that need no escape. Where k characters may follow, all plain tokens of up
 * to k are allowed and need no walk: plain[k - 1], a mask. The second trie has the others.
 */
enum { TRIE_MOST_PLAIN = 32 };

struct token_trie {
    size_t n_vocab, n_nodes, n_other_nodes;
    struct trie_node *nodes, *other_nodes;
    int32_t *tokens, *other_tokens;
    uint64_t *plain;            /* [TRIE_MOST_PLAIN][(n_vocab + 63) / 64] */
    uint64_t *in_trie;          /* [(n_vocab + 63) / 64] a bit for each token that is */
    uint32_t *offsets;          /* [n_vocab + 1] into bytes: the text of each token, also of those that are not in the trie */
    char *bytes;
};

/* Returns 0 or -ENOMEM. The trie does not need the tokenizer afterwards. */
int token_trie_create(struct token_trie **t, const struct tokenizer *tokenizer);
void token_trie_destroy(struct token_trie *t);

#endif
