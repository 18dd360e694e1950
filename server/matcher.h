/*
 * matcher.h - runs a grammar over a vocabulary: which tokens may come next, found once per state.
 *
 * A state is the set of ways in which the text so far can go on, each a node of the grammar and a stack of returns; stacks share their
 * lower parts. States are numbered as they are met and their transitions kept, so that the automaton turns into a table of bytes where
 * it is used (a lazy DFA), and a mask of tokens is one walk of the trie over that table. When the table is full it is emptied but
 * for the state that is needed; masks are kept for the states that were used last. What comes out depends on grammar and text alone,
 * never on what the table held: a request gets the same bits whatever ran before. Memory is bounded and taken at creation.
 *
 * Many sequences may share a matcher: each call takes its lock.
 */
#ifndef FOURWAY_SERVER_MATCHER_H
#define FOURWAY_SERVER_MATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/grammar.h"
#include "server/token_trie.h"

struct matcher;

/* Where one text is. Zero at its beginning. If the table was emptied since, the text is read again from its tokens. */
struct matcher_place { uint32_t generation, state; size_t n_tokens; };

/* `g` passed grammar_check and is copied; `t` outlives the matcher. Returns 0 or -ENOMEM. */
int matcher_create(struct matcher **m, const struct grammar *g, const struct token_trie *t);
void matcher_destroy(struct matcher *m);
size_t matcher_bytes(const struct matcher *m);          /* address space; touched as it is used */

static inline size_t matcher_mask_words(size_t n_vocab)
{
    return (n_vocab + 63) / 64;
}

/*
 * mask[matcher_mask_words(n_vocab)]: a bit for each token that may follow tokens[n]. *may_end: the text may end here.
 * Returns 0, -EINVAL (the tokens do not fit the grammar), or -E2BIG (more ways at once, or within one token, than the table holds).
 */
int matcher_allowed(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n, uint64_t *mask, bool *may_end);

/* Without a mask: whether `id` may follow tokens[n]; *takes is what its bit of the mask would be. The same results. */
int matcher_takes(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n, int32_t id, bool *takes);

/* Whether after tokens[n] a whole character of a JSON string may follow, and the text may not end. The same results. */
int matcher_in_string(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n, bool *in_string);

/* The text is complete and nothing may follow. The same results; *only_end is set with 0. */
int matcher_only_end(struct matcher *m, struct matcher_place *p, const int32_t *tokens, size_t n, bool *only_end);

/* For tests: text[n] from the beginning. 0: fits and may end; 1: fits so far; else as above. */
int matcher_read_text(struct matcher *m, const char *text, size_t n);

struct matcher_counts { uint64_t masks, walks, empties; size_t n_states; };
struct matcher_counts matcher_counts(struct matcher *m);

#endif
