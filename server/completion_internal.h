/*
 * completion_internal.h - the state of a request and its choices, shared by the files completion*.c.
 */
#ifndef FOURWAY_SERVER_COMPLETION_INTERNAL_H
#define FOURWAY_SERVER_COMPLETION_INTERNAL_H

#include "server/answer.h"
#include "server/completion.h"
#include "server/latency.h"

/* Logprob entries that wait for their chunk. Chat: `tokens` alone, whole entries; completions: four arrays. */
struct logprob_lists {
    struct buf tokens, logprobs, tops, offsets;
    size_t n;
};

struct choice {
    struct completion *completion;
    const struct api_prompt *prompt;
    struct detokenizer detokenizer;
    struct stop_state stop;
    struct buf text;            /* that the parser has not got yet */
    size_t held;                /* bytes at its end that may become a stop string */
    struct message_parser parser;
    struct answer_part *parts;
    size_t n_parts, n_written;  /* n_written: of a stream, those that are sent and ended */
    struct logprob_lists logprobs;
    struct buf ids;             /* return_token_ids: "1,2,3" not yet sent */
    size_t n_echoed;            /* prompt tokens that have their logprob entry */
    size_t echo_bytes;          /* bytes of the prompt's text that are in `text` or sent */
    uint64_t n_chars;           /* code points decoded so far, prompt included where it is echoed */
    uint32_t n_generated, n_parsed, n_reasoning, n_cached;      /* parsed: whose kind of part is known, reasoning or not */
    uint32_t n_cached_early;    /* as the prompt's progress said; n_cached comes with FINISHED */
    const char *finish_reason;  /* stop, length, tool_calls, abort or error; NULL: open */
    int stop_string;            /* index in request->stop of the one that ended the text, or -1 */
    int32_t stop_id, last_token;        /* stop_id: of request->stop_ids, or -1 */
    bool first_sent;            /* for the format: something of this choice was written */
    bool echo_begun, cut, closed, cancel_wanted, cancel_sent;
    uint64_t queue_ns, prompt_ns, decode_ns;        /* of FINISHED */
    uint64_t first_ns, last_ns;                     /* arrival of the first and the last token; 0: none */
};

struct completion {
    struct api_request *request;
    const struct answer_format *format;
    void *state;                /* the format's own, format->state_bytes */
    struct completion_options options;
    struct choice *choices;
    size_t n_choices, n_closed, n_cancels;
    struct buf head;            /* the format's: what all events begin with */
    struct buf out;
    size_t echo_output;         /* bytes of `out` that are an echo */
    struct api_error error;
    bool started;               /* the client has, or will have, a status line of 200 */
    bool head_written;
    bool done;
    bool prompt_ids_sent;       /* chat: they stand outside the choices */
    struct latency gaps;
    uint64_t first_token_ns;
};

enum { COMPLETION_CHUNK_BYTES = 16384 };    /* longer text or lists go in several events: MHD's buffer takes 24 KiB whole */

/* completion_logprobs.c: one entry. e NULL: the first prompt token, which nothing predicts. offset: code points before it. */
void logprobs_add(const struct completion *c, struct logprob_lists *l, int32_t token, uint64_t offset, const struct completion_event *e,
                  const struct token_logprob *top);
void logprobs_write(const struct completion *c, const struct logprob_lists *l, struct buf *out);
void logprobs_clear(struct logprob_lists *l);
void logprobs_free(struct logprob_lists *l);

/* completion_parts.c */
void completion_begin_parts(struct choice *ch, const struct message_rules *rules);
void completion_free_parts(struct choice *ch);
void completion_write_head(struct completion *c);       /* before anything is written of a stream */
/* Give the parser the text but for what is held, and send what it made of it. finishing: all of it, and the parts end. */
void completion_release_text(struct completion *c, struct choice *ch, bool finishing);

/* For formats. */
static inline size_t completion_index(const struct completion *c, const struct choice *ch)
{
    return (size_t)(ch - c->choices);
}
bool completion_has_part(const struct choice *ch, enum part_kind kind);
/* The text of all parts of a kind, joined, as a JSON string. */
void completion_write_text(struct completion *c, const struct choice *ch, enum part_kind kind);

struct completion_usage { uint64_t n_prompt, n_cached, n_generated, n_reasoning; };     /* a prompt counts once, not times n */
struct completion_usage completion_usage(const struct completion *c);

#endif
