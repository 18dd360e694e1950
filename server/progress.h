/*
 * progress.h - a bar on a terminal while a model loads or is written; nothing where stderr is no terminal.
 */
#ifndef FOURWAY_SERVER_PROGRESS_H
#define FOURWAY_SERVER_PROGRESS_H

#include "server/replicas.h"

/* Draw the bar, or erase it when all is done. `doing`: "loading"; started_ns: clock_now_ns() at the start. */
void progress_bar(const char *doing, uint64_t started_ns, uint64_t bytes_done, uint64_t bytes_total);

/* A model_progress_fn for commands that load a model on their own thread: draws the bar, and erases it when all is done.
 * `started_ns`: uint64_t, clock_now_ns() at the start. */
void progress_step(void *started_ns, uint64_t bytes_done, uint64_t bytes_total);

/* Draw the bar until the engines have left the loading state, then erase it. Returns at once where stderr is no terminal. */
void progress_show(const struct replicas *r);

#endif
