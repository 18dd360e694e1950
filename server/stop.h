/*
 * stop.h - finds stop strings in text that comes in pieces.
 *
 * A match may begin and end inside tokens, so the longest tail that could still become a stop string is held back. Each string has
 * its automaton (Knuth, Morris, Pratt 1977): a byte costs one step a string, whatever the text, and the state of a string is
 * the length of the tail that it could match. The set is made once a request and shared by its choices.
 */
#ifndef FOURWAY_SERVER_STOP_H
#define FOURWAY_SERVER_STOP_H

#include <stddef.h>
#include <stdint.h>

enum { STOP_MAX_STRINGS = 16, STOP_MAX_BYTES = 256 };

struct stop_string {
    uint16_t length;
    uint16_t fallback[STOP_MAX_BYTES + 1];      /* [k]: the longest proper border of the first k bytes */
    char text[STOP_MAX_BYTES + 1];
};

struct stop_set {
    size_t n;
    struct stop_string *strings;    /* NULL when n is 0 */
};

/* One choice's place in each string. Zero it to start. */
struct stop_state { uint16_t matched[STOP_MAX_STRINGS]; };

/* Add text[n], 1..STOP_MAX_BYTES bytes. Returns 0, -ENOSPC after STOP_MAX_STRINGS, or -ENOMEM. */
int stop_set_add(struct stop_set *set, const char *text, size_t n);
void stop_set_free(struct stop_set *set);

struct stop_result {
    int match;          /* index of the string that is complete, or -1 */
    size_t used;        /* bytes of this piece up to the end of the match; all of them without one */
    size_t held;        /* without a match: bytes at the end of the text so far that must wait */
};

/* The first match to be complete wins; of several that end at one byte the longest, so the cut never depends on the pieces. */
struct stop_result stop_push(const struct stop_set *set, struct stop_state *state, const char *piece, size_t n);

#endif
