/*
 * ngram.h - drafts from the text itself: what followed the last three tokens when they last occurred.
 *
 * Good where an answer repeats its prompt: code that is edited, quotations, lists. After Saxena, "Prompt Lookup Decoding", 2023. An index
 * of three tokens to the place after them, the latest one each; a lookup compares the tokens, so a collision costs a draft, no more.
 */
#ifndef FOURWAY_SERVER_NGRAM_H
#define FOURWAY_SERVER_NGRAM_H

#include <stddef.h>
#include <stdint.h>

struct ngram {
    int32_t *places;        /* [mask + 1]; 0: none */
    size_t mask;
    size_t n_indexed;       /* tokens before this place were followed by one that is known */
};

/* For a text of up to n_room tokens. Returns 0 or -ENOMEM. Destroy is fine on zeros. */
int ngram_create(struct ngram *g, size_t n_room);
void ngram_destroy(struct ngram *g);

/* Up to `most` tokens that may follow the n of tokens[], into draft[]; tokens[] only grows from call to call. Returns how many. */
size_t ngram_draft(struct ngram *g, const int32_t *tokens, size_t n, int32_t *draft, size_t most);

#endif
