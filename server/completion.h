/*
 * completion.h - one HTTP request's choices: engine events in, SSE events or one JSON reply out.
 *
 * A plain state machine, without threads, sockets or time of its own, so that tests can drive it event by event. Per choice:
 * token -> text (whole characters only) -> stop strings (a tail that may become one is held) -> chunk. The text ends at the token that
 * completes a stop string; what the engine had produced by then is dropped, not counted and not listed.
 */
#ifndef FOURWAY_SERVER_COMPLETION_H
#define FOURWAY_SERVER_COMPLETION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "server/api.h"
#include "server/engine.h"
#include "server/metrics.h"

struct completion;

struct completion_options {
    const struct tokenizer *tokenizer;
    const char *fingerprint, *label;        /* label: X-Request-Id. They live as long as the completion */
    int64_t created;                /* unix time */
    uint64_t arrived_ns;            /* clock_now_ns() when the request was there */
    struct metric_histogram *first_token, *gap;     /* ns; NULL: not counted. One first token a request, gaps of every choice */
    char id[40];                    /* without its prefix, such as cmpl- or msg_ */
    bool plain;                     /* bare text instead of JSON (Accept: text/plain): one prompt, n = 1 */
};

/* An engine event as the front keeps it: the alternatives follow it in memory. */
struct completion_event {
    uint32_t sequence;              /* prompt * n + choice */
    enum engine_event_type type;
    enum engine_reason reason;
    uint32_t n_tokens, n_prompt, n_cached;
    int32_t token;
    float logprob;
    uint32_t n_top;
    uint32_t n_embedding;           /* floats that follow instead, without alignment */
    uint64_t at_ns;                 /* when it came */
    uint64_t queue_ns, prompt_ns, decode_ns;
};

/* Takes `request` over, also on failure. Returns 0 or -ENOMEM. */
int completion_create(struct completion **c, struct api_request *request, const struct completion_options *o);
void completion_free(struct completion *c);

size_t completion_n_sequences(const struct completion *c);

/* What to submit for a sequence (ids and biases stay with the completion); false when it needs no engine: its text is an echo alone. */
bool completion_engine_request(const struct completion *c, size_t sequence, struct engine_request *out);

/* Begin: sequences that need no engine end here. */
void completion_start(struct completion *c);

void completion_push(struct completion *c, const struct completion_event *e, const struct token_logprob *top);

/* The next sequence that the engine should cancel, once each. False when there is none. */
bool completion_next_cancel(struct completion *c, size_t *sequence);

/*
 * End every open choice with finish_reason abort (deadline, drain, a reader that is too slow) or error, then the error event.
 * Before anything was written of it, it becomes the reply's error. `e` NULL: no error event. Sequences are cancelled.
 */
void completion_abort(struct completion *c, const struct api_error *e);

/* What it means for a request that a sequence ended so, neither STOP nor LENGTH. */
void completion_reason_error(enum engine_reason reason, struct api_error *e);
/* What to send a stream that is silent, in the form of its route; NULL: nothing. */
const char *completion_ping(const struct completion *c);

/* The status line has left (a ping did that): errors are now events. */
void completion_mark_started(struct completion *c);

/* The engine never got this sequence, or is gone: no FINISHED will come. */
void completion_close_sequence(struct completion *c, size_t sequence);

/* What is ready to be sent; the caller takes it and clears the buffer. A reply that is no stream is there once done. */
struct buf *completion_output(struct completion *c);
bool completion_done(const struct completion *c);       /* the output is complete, or *completion_error is the reply */
bool completion_closed(const struct completion *c);     /* every sequence has had its last event */
const struct api_error *completion_error(const struct completion *c);   /* NULL, or what to reply instead of the output */
const struct api_request *completion_request(const struct completion *c);

/* Bytes of the output that the client asked for with its prompt: they do not count against a slow reader. */
size_t completion_take_echo_bytes(struct completion *c);

struct completion_summary {
    const char *finish_reason;      /* of the first choice */
    uint64_t n_prompt, n_cached, n_generated;
    uint64_t queue_ns, prompt_ns, decode_ns;        /* of the first choice, as the engine says; 0: it did not come to that */
    uint64_t token_ns;              /* from token to token, the first choice's mean; 0: no two tokens */
    uint64_t first_token_ns, gap_median_ns, gap_most_ns;      /* first token: from arrival; 0: none came */
};
void completion_summarise(const struct completion *c, struct completion_summary *s);

#endif
