/*
 * options_internal.h - what options.c asks of options_help.c.
 */
#ifndef FOURWAY_SERVER_OPTIONS_INTERNAL_H
#define FOURWAY_SERVER_OPTIONS_INTERNAL_H

#include "server/options.h"

/* The command's --help, on stdout, at most 100 columns wide. */
void options_print_help(const struct command *c);

#endif
