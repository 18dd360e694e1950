/*
 * grammar_help.h - a small vocabulary for tests of grammars, its tokens by their text, and matchers of schemas.
 */
#ifndef FOURWAY_TESTS_SERVER_GRAMMAR_HELP_H
#define FOURWAY_TESTS_SERVER_GRAMMAR_HELP_H

#include "server/matchers.h"
#include "server/schema.h"

/* That of tests/data/tokenizers/smollm: opened and closed by a group's fixtures. */
extern struct token_trie *trie;
int open_vocabulary(void **state);
int close_vocabulary(void **state);

/* The token with this text: there must be one. */
int32_t token_of(const char *text);

/* NULL: any JSON. NULL is returned, with e filled, for a schema that is refused. */
struct grammar *compile(const char *text, struct schema_error *e);

/* Of a schema that is accepted. */
struct matcher *matcher_of(const char *schema);

#endif
