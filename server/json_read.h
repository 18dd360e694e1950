/*
 * json_read.h - a request body, or another small file that the server reads, to a jansson tree: common/json_text.h with the limits
 * for them.
 */
#ifndef FOURWAY_SERVER_JSON_READ_H
#define FOURWAY_SERVER_JSON_READ_H

#include "common/json_text.h"

enum {
    JSON_READ_MAX_DEPTH = JSON_TEXT_MAX_DEPTH,
    JSON_READ_MAX_VALUES = 200000
};

/* As json_text_read(). */
static inline int json_read(const char *text, size_t n, json_t **out, struct json_read_error *error)
{
    return json_text_read(text, n, JSON_READ_MAX_VALUES, out, error);
}

#endif
