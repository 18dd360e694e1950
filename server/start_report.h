/*
 * start_report.h - what a server says of its placement and its machine when it is ready, because both cost up to 20 times and show in
 * nothing else (docs/design.md 1).
 */
#ifndef FOURWAY_SERVER_START_REPORT_H
#define FOURWAY_SERVER_START_REPORT_H

#include "model/model.h"

/* One line: shares of the pages on their node, and in huge pages, as the kernel says; a warning below 99 % on their node. */
void start_report_placement(const struct model *m);

/* A warning for each setting of the kernel or the container that costs speed or may run out, as `fourway doctor` finds them. */
void start_report_settings(void);

#endif
