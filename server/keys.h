/*
 * keys.h - API keys: who may ask, how much at once, and with which weight when others wait, too. Read from a file, and again at SIGHUP.
 *
 * A line of the file is one key: NAME:sha256:HEX, as `fourway hash-key` writes it, or the key itself, whose name is then line-N. Behind
 * it may stand limit=N (requests in flight) and priority=N (-20..19, as nice levels of processes: lower gets more; with each step a key
 * that waits beside others gets a quarter more or a fifth less). Blank lines and lines that begin with # are skipped.
 *
 * Why one SHA-256 and no slow or salted hash of passwords: a key is random, 128 bits or more, so nobody tries them all, and a
 * slow hash would be work that any stranger could make this server do. The file then tells no key to who reads it.
 *
 * A key has a number that it keeps for as long as it is in the file, whatever else changes there: the engine counts by it. Numbers of
 * removed keys are given to new ones, but only once no request of the old holder is left, and with another count of holders, so
 * that nobody inherits what an earlier holder was served.
 */
#ifndef FOURWAY_SERVER_KEYS_H
#define FOURWAY_SERVER_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KEYS_MAX = 2048,            /* in a file */
    KEYS_SLOTS = 2 * KEYS_MAX,  /* numbers 1 .. KEYS_SLOTS: a file of other keys can replace a full one */
    KEYS_NAME_BYTES = 64,
    KEYS_DEFAULT_LIMIT = 32,
    KEYS_MAX_LIMIT = 65536,
    KEYS_LEAST_PRIORITY = -20, KEYS_MOST_PRIORITY = 19,
    KEYS_DIGEST_BYTES = 32
};

struct keys;

/* What a request knows of its key. */
struct key_grant {
    unsigned number;            /* 0: no key was needed */
    uint32_t holder;            /* how many held this number before */
    int priority;
    uint64_t tag;               /* of the key itself: the same after a restart, different for any two keys */
    char name[KEYS_NAME_BYTES]; /* for the log */
};

/* 0, or a negative errno (one line is logged: file, line, what is wrong). */
int keys_open(struct keys **k, const char *path, unsigned default_limit);
/* The same file again. At an error the keys stay as they were. One thread at a time; requests go on meanwhile. */
int keys_reload(struct keys *k);
void keys_close(struct keys *k);        /* NULL is fine */
size_t keys_count(const struct keys *k);

/*
 * Is this a key? Then true, with what goes for it in *grant, and its number is not given to another key before keys_release. The time
 * depends on the length of `secret` and on how many keys there are, not on which bytes are right.
 */
bool keys_take(struct keys *k, const char *secret, struct key_grant *grant);
void keys_release(struct keys *k, unsigned number);

/* One more request in flight; false, and none, when there are as many as the key's limit, which is then in *limit. */
bool keys_enter(struct keys *k, unsigned number, unsigned *limit);
void keys_leave(struct keys *k, unsigned number);
/* Would keys_enter fail now? */
bool keys_is_full(struct keys *k, unsigned number, unsigned *limit);

/* SHA-256 of the key, as the file has it: 64 digits and a NUL. 0 or a negative errno. */
int keys_hash(const char *secret, char hex[2 * KEYS_DIGEST_BYTES + 1]);
/* Letters, digits and . _ @ - ; at most KEYS_NAME_BYTES - 1. */
bool keys_is_name(const char *name, size_t n);
/* The whole text as a number from least to most. */
bool keys_read_number(const char *text, long least, long most, long *value);

#endif
