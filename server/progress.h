/*
 * progress.h - a bar on a terminal while a model loads; nothing where stderr is no terminal.
 */
#ifndef FOURWAY_SERVER_PROGRESS_H
#define FOURWAY_SERVER_PROGRESS_H

#include "server/engine.h"

/* Draw the bar until the engine has left the loading state, then erase it. Returns at once where stderr is no terminal. */
void progress_show(const struct engine *e);

#endif
