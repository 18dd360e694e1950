/*
 * keys_internal.h - the lines of a file of keys, between keys_file.c, which reads them, and keys.c, which has them in force.
 */
#ifndef FOURWAY_SERVER_KEYS_INTERNAL_H
#define FOURWAY_SERVER_KEYS_INTERNAL_H

#include "server/keys.h"

struct key_line {
    uint8_t digest[KEYS_DIGEST_BYTES];
    char name[KEYS_NAME_BYTES];
    unsigned limit;             /* 0: the default */
    int priority;
};

/*
 * Read all lines; no key and no name is there twice. `again`: the file was read before, so it must be one that can be: not a pipe. Free
 * *lines. 0, or a negative errno (logged).
 */
int keys_file_read(const char *path, bool again, struct key_line **lines, size_t *n_lines);

int keys_digest(const char *secret, size_t n, uint8_t digest[KEYS_DIGEST_BYTES]);

#endif
