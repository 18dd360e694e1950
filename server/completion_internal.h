/*
 * completion_internal.h - the state of a request and its choices, shared by the files completion*.c.
 */
#ifndef FOURWAY_SERVER_COMPLETION_INTERNAL_H
#define FOURWAY_SERVER_COMPLETION_INTERNAL_H

#include "server/completion.h"
#include "server/latency.h"

/* Logprob entries that wait for their chunk. Chat: `tokens` alone, whole entries; completions: four arrays. */
struct logprob_lists {
    struct buf tokens, logprobs, tops, offsets;
    size_t n;
};

struct choice {
    const struct api_prompt *prompt;
    struct detokenizer detokenizer;
    struct stop_state stop;
    struct buf text;            /* a stream: not yet sent; else: all of it */
    size_t held;                /* bytes at its end that may become a stop string */
    struct logprob_lists logprobs;
    struct buf ids;             /* return_token_ids: "1,2,3" not yet sent */
    size_t n_echoed;            /* prompt tokens that have their logprob entry */
    size_t echo_bytes;          /* bytes of the prompt's text that are in `text` or sent */
    uint64_t n_chars;           /* code points decoded so far, prompt included where it is echoed */
    uint32_t n_generated, n_cached;
    const char *finish_reason;  /* NULL: open */
    int stop_string;            /* index, or -1 */
    int32_t stop_id, last_token;        /* stop_id: or -1 */
    bool echo_begun, role_sent, cut, closed, cancel_wanted, cancel_sent;
    uint64_t queue_ns, prompt_ns, decode_ns;        /* of FINISHED */
    uint64_t first_ns, last_ns;                     /* arrival of the first and the last token; 0: none */
};

struct completion {
    struct api_request *request;
    struct completion_options options;
    struct choice *choices;
    size_t n_choices, n_closed, n_cancels;
    struct buf head;            /* {"id":..,"object":..,"created":..,"model":..,"system_fingerprint":..,"choices":[ */
    struct buf out;
    size_t echo_output;         /* bytes of `out` that are an echo */
    struct api_error error;
    bool started;               /* the client has, or will have, a status line of 200 */
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

/* completion_write.c */
int completion_write_head(struct completion *c);
void completion_write_delta(struct completion *c, struct choice *ch, bool finishing);   /* send what `text` may give away */
void completion_write_finish(struct completion *c, struct choice *ch);                  /* the last chunk of a choice */
void completion_write_progress(struct completion *c, const struct completion_event *e, uint64_t began_ns);
void completion_write_end(struct completion *c);        /* stream: usage, [DONE]; else: the reply */
void completion_write_error(struct completion *c, const struct api_error *e);

#endif
