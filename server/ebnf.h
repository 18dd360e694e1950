/*
 * ebnf.h - rules in the notation of llama.cpp's GBNF to a grammar of the texts that `root` derives.
 *
 *   root ::= item+                     # a comment
 *   item ::= "- " [^\r\n]{1,80} "\n" | "* " (word | .)
 *
 * Literals, classes, ".", groups, | and * + ? {m} {m,} {m,n}; escapes \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH. A rule ends where
 * another begins, wherever lines end. A rule may call itself after a character, not before one; what it calls must be defined.
 */
#ifndef FOURWAY_SERVER_EBNF_H
#define FOURWAY_SERVER_EBNF_H

#include "server/pattern.h"

enum { EBNF_MAX_BYTES = 64 << 10, EBNF_MAX_RULES = 1024 };

/* Returns 0 with *g (free by the caller), -EINVAL with *e, whose message begins with line and column, or -ENOMEM. */
int ebnf_compile(const char *text, size_t n, struct grammar **g, struct pattern_error *e);

#endif
