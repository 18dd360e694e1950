/*
 * options_internal.h - what options.c asks of options_value.c and options_help.c.
 */
#ifndef FOURWAY_SERVER_OPTIONS_INTERNAL_H
#define FOURWAY_SERVER_OPTIONS_INTERNAL_H

#include "server/options.h"

/* *o->out = the value that `text` says. false after one line that begins with `label`: the name as the user wrote it, and where. */
bool option_store(const struct option *o, const char *label, const char *text);

/* The command's --help, on stdout, at most 100 columns wide. */
void options_print_help(const struct command *c);

#endif
