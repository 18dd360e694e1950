/*
 * tool_syntax.h - how a family of models writes tool calls and reasoning, as a table; and which row a model's chat template asks for.
 *
 * A call is an object of a name and arguments, or a name and then the arguments; texts stand around each and around all of them. The
 * parser (message.c), the grammar (tool_grammar.c) and the words for templates that know no tools (api_tools.c) read the same row.
 * Sources: the chat templates of Qwen2.5, Hermes 2 Pro, Llama 3.1, Mistral v3 to Small 3.2 and DeepSeek R1 and V3.1, and vLLM's parsers of
 * their answers. Families that write XML (Qwen3-Coder, GLM) or channels (gpt-oss) have no row.
 */
#ifndef FOURWAY_SERVER_TOOL_SYNTAX_H
#define FOURWAY_SERVER_TOOL_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"

enum { TOOL_NAME_MOST = 64 };           /* bytes: letters, digits, _ and - */

struct tool_syntax {
    const char *name;
    const char *marker;         /* text never has it by chance: where a call, or an array of them, begins. "": with {, first of all */
    const char *also_marker;    /* another way to begin, or NULL */
    const char *section;        /* markers around all calls that mean nothing by themselves, or NULL */
    const char *section_end;
    bool object;                /* {"name": NAME, "ARGUMENTS": {..}}, else NAME middle {..} */
    bool history_as_sent;       /* templates want earlier calls as clients send them: arguments as JSON text, no content as null */
    const char *arguments;      /* object: the key; the parser takes "arguments" and "parameters" */
    const char *middle;         /* no object */
    const char *optional;       /* no object: what may come between name and middle, with a word behind, or NULL */
    /* As it is written: begin, open, the object or NAME middle {..}, close, between, open, .., end. begin and open start with the marker,
     * or with the section. */
    const char *begin, *open, *close, *between, *end;   /* between NULL: one call an answer */
};

struct think_markers { const char *open, *close; };

enum tool_format { TOOL_FORMAT_AUTO, TOOL_FORMAT_HERMES, TOOL_FORMAT_LLAMA3, TOOL_FORMAT_MISTRAL, TOOL_FORMAT_NONE };

/* The row of a format; AUTO: the one that the template speaks of, hermes where it speaks of none. NULL: calls are not looked for. */
const struct tool_syntax *tool_syntax_find(enum tool_format format, const char *template_source);

/* The markers of reasoning that the template speaks of, or NULL. */
const struct think_markers *think_markers_find(const char *template_source);

/* Does the template show tools to the model? */
bool tool_template_knows_tools(const char *template_source);

/* May the token text[n] be a part of a marker of `s` or `t` (either may be NULL)? Such control tokens must not be left out of the text. */
bool tool_marker_piece(const struct tool_syntax *s, const struct think_markers *t, const char *text, size_t n);

/* A call as the family writes it: what comes before the arguments, and after. */
void tool_syntax_write_head(const struct tool_syntax *s, const char *name, struct buf *out);
void tool_syntax_write_tail(const struct tool_syntax *s, struct buf *out);

#endif
