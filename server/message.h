/*
 * message.h - a choice's text, as it comes, to the parts of a message: reasoning, text, tool calls.
 *
 * Reasoning stands between the model's markers at the beginning; white space around it is dropped. A call is looked for where the family's
 * marker is, and is one when its JSON is complete, its arguments are an object and its function is one of the request's; else
 * its text stays text, and is searched on behind its marker. So what is given out never has to be taken back, and does not depend on the
 * pieces in which the text comes. Where the text follows the grammar of the calls (tool_grammar.h) that is certain from the first
 * brace, and arguments are given out as they come; what is cut before them gives nothing.
 *
 * Linear in the text. What is held: a call that is not complete yet, what may become a marker, and up to MESSAGE_MOST_SPACE bytes of white
 * space that are dropped if a marker follows.
 */
#ifndef FOURWAY_SERVER_MESSAGE_H
#define FOURWAY_SERVER_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "server/json_scan.h"
#include "server/tool_syntax.h"

enum { MESSAGE_MOST_SPACE = 16, MESSAGE_MOST_CALL = 1 << 20 };  /* bytes; a longer call is text */

enum part_kind { PART_REASONING, PART_TEXT, PART_TOOL_CALL };

/* Who gets the parts, in the order of the text: begin, text any number of times, end; then the next part. */
struct message_sink {
    void (*begin)(void *arg, enum part_kind kind, const char *name, size_t n_name);     /* name: of the function of a call, else NULL */
    void (*text)(void *arg, const char *text, size_t n);        /* n >= 1; of a call: its arguments, JSON */
    void (*end)(void *arg);
    void *arg;
};

/* What the answers to a request may consist of; of all zeros: text. Lives as long as its parsers. */
struct message_rules {
    const struct think_markers *think;      /* NULL: the model has none */
    bool think_is_text;                     /* reasoning is not told apart: its markers stay in the text */
    const struct tool_syntax *syntax;       /* NULL: no calls are looked for */
    char **names;                           /* of the functions */
    size_t n_names;
    size_t most_calls;                      /* the text ends after so many; 0: any number */
    const char *prefix;                     /* a marker that ends the prompt and begins the message, or NULL */
    bool follows_grammar;                   /* of the calls */
};

enum message_state {
    MESSAGE_START, MESSAGE_REASONING, MESSAGE_TEXT,
    MESSAGE_SKIP,               /* white space that is dropped, then text */
    MESSAGE_OBJECT,
    MESSAGE_NAME, MESSAGE_MIDDLE, MESSAGE_ARGUMENTS,
    MESSAGE_AFTER_CALL
};

struct message_parser {
    const struct message_rules *rules;
    struct message_sink sink;
    enum message_state state;
    struct buf held;            /* the text from `from` on is not given out yet */
    size_t from;
    size_t at;                  /* from `from`: what of a call has been read. So are the places below */
    bool in_part;
    enum part_kind kind;        /* of the part that is open */
    bool fresh;                 /* only white space before: an object without a marker may be a call */
    bool full;                  /* the last call that is wanted is complete: the rest does not count */
    bool in_list;
    bool cut;                   /* the last call ended before its JSON did */
    size_t n_calls;             /* complete ones */

    /* The call at hand. */
    size_t n_marker;            /* bytes before its body, which are text if it is none */
    struct json_scan scan;
    size_t key_at, n_key, value_at;
    size_t name_at, n_name, arguments_at, n_arguments;
    bool begun;                 /* its part is; sent: up to here */
    size_t sent;
};

void message_begin(struct message_parser *p, const struct message_rules *rules, const struct message_sink *sink);
void message_free(struct message_parser *p);
void message_push(struct message_parser *p, const char *text, size_t n);
/* The text is over. Arguments that were given out ahead end as they are. */
void message_end(struct message_parser *p);

static inline bool message_in_reasoning(const struct message_parser *p)
{
    return p->state == MESSAGE_REASONING;
}

#endif
