/*
 * regex.h - a regular expression to a grammar of the texts that match it.
 *
 * What Python's re and ECMA 262 have in common, without what an automaton cannot do: literals, [classes], . \d \w \s \D \W \S (ASCII),
 * \n \r \t \f \v, \xHH, \uHHHH, groups (named and non-capturing, too), |, * + ? {m} {m,} {m,n} and their lazy forms, ^ and $. References to
 * groups, look-around, word boundaries and flags are refused with their position.
 */
#ifndef FOURWAY_SERVER_REGEX_H
#define FOURWAY_SERVER_REGEX_H

#include "server/pattern.h"

enum { REGEX_MAX_BYTES = 4096 };

/* Nodes for text[n]; as pattern_build. Returns 0 with *start, -EINVAL with *e, whose message begins with the position in characters, or
 * with b->error, or -ENOMEM. */
int regex_build(struct grammar_builder *b, const char *text, size_t n, const struct pattern_use *use, uint16_t next, uint16_t *start,
                struct pattern_error *e);

/* A grammar of the texts that match as a whole. The same results; *g is the caller's (free). */
int regex_compile(const char *text, size_t n, struct grammar **g, struct pattern_error *e);

#endif
