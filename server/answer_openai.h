/*
 * answer_openai.h - what /v1/completions and /v1/chat/completions share: one envelope around the choices of every event and reply.
 *
 * One event is one line without line breaks in its JSON, and an empty line.
 */
#ifndef FOURWAY_SERVER_ANSWER_OPENAI_H
#define FOURWAY_SERVER_ANSWER_OPENAI_H

#include "server/completion_internal.h"

/* {"id":..,"object":..,"created":..,"model":..,"system_fingerprint":..,"choices":[ to completion->head. 0 or -ENOMEM. */
int openai_create(struct completion *c, const char *id_prefix, const char *object);

void openai_open_chunk(struct completion *c);
/* From the end of the choices to the end of the event. */
void openai_close_chunk(struct completion *c, bool usage, bool timings);
/* ... of a chunk of a choice; finish_reason NULL: not its last. */
void openai_close_choice_chunk(struct completion *c, const char *finish_reason);

/* What follows the text in a choice, up to its closing brace. lists: with the entries that wait. prompt_ids: and those of the prompt. */
void openai_write_choice_tail(struct completion *c, struct choice *ch, bool lists, bool prompt_ids, const char *finish_reason);

void openai_write_progress(struct completion *c, const struct completion_event *e);
void openai_write_end(struct completion *c);
void openai_write_error(struct completion *c, const struct api_error *e);

/* The ends of a reply: between them come the choices. */
void openai_open_reply(struct completion *c);
void openai_close_reply(struct completion *c);

#endif
