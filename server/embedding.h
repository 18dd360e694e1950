/*
 * embedding.h - one embeddings request: its inputs to the engine, their vectors to one JSON reply.
 *
 * A plain state machine like completion.h. No more inputs are with the engine at once than a completion may have sequences, so that a
 * request of 2048 neither fills the queue nor waits for room in it. A vector becomes text as it comes: the reply's last step is short
 * however long it is. It is written in order; what comes early is kept as text.
 */
#ifndef FOURWAY_SERVER_EMBEDDING_H
#define FOURWAY_SERVER_EMBEDDING_H

#include "server/completion.h"

struct embedding;

/* Takes `request` over, also on failure. Returns 0 or -ENOMEM. */
int embedding_create(struct embedding **m, struct api_request *request, enum pooling pooling);
void embedding_free(struct embedding *m);

size_t embedding_n_inputs(const struct embedding *m);

/* The next input to submit, in order; false: none now. Its ids stay with the embedding. */
bool embedding_next(struct embedding *m, size_t *input, struct engine_request *out);
/* The engine did not take it: it is next again. Returns whether others are with the engine, after whose end it may be tried again. */
bool embedding_refused(struct embedding *m, size_t input);

/* floats: e->n_embedding of them, without alignment. */
void embedding_push(struct embedding *m, const struct completion_event *e, const void *floats);
/* No FINISHED will come for an input that was submitted. */
void embedding_close(struct embedding *m);

/* Give up: `e` is the reply; NULL: nobody waits for one. */
void embedding_abort(struct embedding *m, const struct api_error *e);
/* After that, the inputs that may be with the engine, once each. */
bool embedding_next_cancel(struct embedding *m, size_t *input);

struct buf *embedding_output(struct embedding *m);      /* the reply, once done without an error */
bool embedding_done(const struct embedding *m);
bool embedding_closed(const struct embedding *m);       /* none of its inputs is with the engine */
const struct api_error *embedding_error(const struct embedding *m);
const struct api_request *embedding_request(const struct embedding *m);

/* Times are those of the first input. */
void embedding_summarise(const struct embedding *m, struct completion_summary *s);

#endif
