/*
 * tool_grammar.h - the grammar of an answer that consists of tool calls, in the syntax of the model's family.
 *
 * Names are those of the functions, arguments what schema.h makes of their parameters: so they always parse. A model that thinks may do so
 * first.
 */
#ifndef FOURWAY_SERVER_TOOL_GRAMMAR_H
#define FOURWAY_SERVER_TOOL_GRAMMAR_H

#include "server/grammar.h"
#include "server/tool_syntax.h"

enum { TOOL_GRAMMAR_MOST_CALLS = 16 };      /* of one answer: a small model may go on for ever */

struct tool_grammar_wish {
    const struct tool_syntax *syntax;
    const char *const *names;               /* of the functions that may be called */
    struct grammar *const *arguments;       /* of each */
    size_t n;
    size_t most_calls;                      /* 1..TOOL_GRAMMAR_MOST_CALLS */
    bool marker_given;                      /* the prompt ends with the syntax's marker */
    const struct think_markers *think;      /* NULL: it must begin with a call */
    bool think_open;                        /* the prompt has opened the reasoning */
    const struct grammar *instead;          /* an answer that is no call but this is one, too; or NULL */
};

/* Returns 0 with *g (free by the caller), -EINVAL with *why, or -ENOMEM. */
int tool_grammar_make(const struct tool_grammar_wish *w, struct grammar **g, const char **why);

#endif
