/*
 * json_text.h - a JSON text from a stranger to a jansson tree, strictly: RFC 8259 in UTF-8, bounded before anything is allocated.
 *
 * A scan of our own goes first, because jansson 2.14 allows a depth of 2048, has no limit on the number of values, and builds its
 * tree while it reads. The scan needs no memory and names the byte where the text stops being JSON; what it lets
 * through, jansson parses with duplicate keys refused. Both are linear in the text.
 */
#ifndef FOURWAY_COMMON_JSON_TEXT_H
#define FOURWAY_COMMON_JSON_TEXT_H

#include <stddef.h>

#include <jansson.h>

enum { JSON_TEXT_MAX_DEPTH = 64 };

struct json_read_error {
    size_t offset;          /* of the first byte that is wrong */
    char message[128];      /* without the offset */
};

/*
 * Returns 0 with *out (json_decref by the caller), -EINVAL with *error filled, or -ENOMEM. At most `max_values` values, where integers
 * that are elements of an array (token ids) do not count. An integer beyond 64 bits does not fail here, where its field is unknown:
 * then all integers of the text come as reals.
 */
int json_text_read(const char *text, size_t n, size_t max_values, json_t **out, struct json_read_error *error);

#endif
