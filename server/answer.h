/*
 * answer.h - the parts of an answer, and the table of functions that write them in the form of one route.
 *
 * completion.c turns tokens into text and text into parts (message.h); it never writes JSON. When something is ready it calls the
 * functions of the format that belongs to the request's route; they append to completion->out. What they may read is in
 * completion_internal.h: the request with its own fields, the choices with finish reason and stop string, the numbers of usage.
 *
 * To add a format: one file answer_NAME.c with one `const struct answer_format answer_NAME`, its declaration below, its row in the table of
 * answer.c, and its source in CMakeLists.txt. Fields of the request that only the route knows go to api_request.own. A format for one
 * choice (n = 1) may look at completion->choices[0] alone. Write events whole: one call of a function appends whole events, never a part
 * of one. Text may be any bytes of valid UTF-8, at most COMPLETION_CHUNK_BYTES a call: json_write_bytes() quotes it.
 */
#ifndef FOURWAY_SERVER_ANSWER_H
#define FOURWAY_SERVER_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "server/api.h"
#include "server/message.h"

struct completion;
struct choice;
struct completion_event;

enum { CALL_ID_CHARACTERS = 24 };

struct answer_part {
    enum part_kind kind;
    size_t index;               /* among the choice's parts of its kind */
    char *name;                 /* of a call's function; else NULL */
    char id[CALL_ID_CHARACTERS + 1];    /* alphanumerics, for the format to put call_, toolu_ or msg_ before; one for each part */
    struct buf text;            /* reasoning, text, or a call's arguments; a stream forgets what was sent, unless the format keeps it */
    size_t n_sent;              /* bytes of `text` that were given to delta() */
    bool begun, ended;          /* part_begin() was called; the text is complete */
};

/*
 * Of a stream, in this order: head, then per choice any number of parts (part_begin, deltas, part_end; choices may interleave, parts of one
 * do not), finish, and after the last choice end. progress comes before the first part; error, if any, comes last of all, and instead of
 * end. A reply that is no stream: reply alone. A function that is NULL writes nothing.
 */
struct answer_format {
    size_t state_bytes;         /* of completion->state, zeroed; a format's own counters */
    bool keeps_text;            /* a stream's parts keep their whole text, for an end that repeats it */
    const char *ping;           /* written while a stream is silent; NULL: nothing */

    int (*create)(struct completion *c);        /* what all events share, in completion->head. 0 or -ENOMEM */
    void (*head)(struct completion *c);         /* before anything else of a stream is written */
    void (*progress)(struct completion *c, const struct completion_event *e);  /* of the prompt, if the request wants it */
    void (*part_begin)(struct completion *c, struct choice *ch, struct answer_part *part);
    /* The next text[n] of the part. lists: the choice's logprob entries and token ids that wait belong to it; with part NULL they come
     * alone, because they are many. */
    void (*delta)(struct completion *c, struct choice *ch, struct answer_part *part, const char *text, size_t n, bool lists);
    void (*part_end)(struct completion *c, struct choice *ch, struct answer_part *part);
    void (*finish)(struct completion *c, struct choice *ch);        /* a choice is over: ch->finish_reason says why */
    void (*end)(struct completion *c);
    void (*error)(struct completion *c, const struct api_error *e); /* after the first byte; e NULL: only that the stream is over */
    void (*reply)(struct completion *c);
};

extern const struct answer_format answer_text;      /* /v1/completions */
extern const struct answer_format answer_chat;      /* /v1/chat/completions */
extern const struct answer_format answer_responses; /* /v1/responses */
extern const struct answer_format answer_messages;  /* /v1/messages */
extern const struct answer_format answer_plain;     /* bare text, for Accept: text/plain */

/* The format of a request's route. plain: the client asked for bare text. */
const struct answer_format *answer_format_of(enum api_route route, bool plain);

#endif
