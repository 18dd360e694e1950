#include "tests/weights/log_capture.h"

#include <stdio.h>

static void keep(void *arg, enum log_level level, const char *message)
{
    struct log_capture *c = arg;

    c->n_lines++;
    c->level = level;
    snprintf(c->last, sizeof(c->last), "%s", message);
}

void log_capture_start(struct log_capture *c)
{
    if (c)
        *c = (struct log_capture){ 0 };
    log_set_sink(c ? keep : NULL, c);
}
