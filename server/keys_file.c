/*
 * keys_file.c - one line of a file of keys after the other, to digests, names and limits.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/crypto.h>

#include "common/buf.h"
#include "common/log.h"
#include "server/keys_internal.h"

enum { FILE_BYTES_MAX = 1 << 20, KEY_BYTES_MAX = 255, HEX_DIGITS = 2 * KEYS_DIGEST_BYTES };

static const char mark[] = ":sha256:";

/* Where the reader is: for messages. */
struct place { const char *path; size_t line; };

int keys_digest(const char *secret, size_t n, uint8_t digest[KEYS_DIGEST_BYTES])
{
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, secret, n, digest) ? -EIO : 0;
}

int keys_hash(const char *secret, char hex[HEX_DIGITS + 1])
{
    uint8_t digest[KEYS_DIGEST_BYTES];
    const int err = keys_digest(secret, strlen(secret), digest);

    for (size_t i = 0; !err && i < KEYS_DIGEST_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return err;
}

bool keys_is_name(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && (!name[i] || !strchr("._@-", name[i])))
            return false;
    return n > 0 && n < KEYS_NAME_BYTES;
}

static size_t n_hex(const char *text)
{
    return strspn(text, "0123456789abcdefABCDEF");
}

static int wrong(const struct place *at, const char *what)
{
    log_error("%s:%zu: %s", at->path, at->line, what);
    return -EINVAL;
}

/* NAME:sha256:HEX; `colon` is where the mark begins. */
static int read_hashed(const struct place *at, const char *word, const char *colon, struct key_line *key)
{
    const char *hex = colon + sizeof(mark) - 1;

    if (!keys_is_name(word, (size_t)(colon - word)))
        return wrong(at, "the name of a key has 1 to 63 letters, digits, dots, dashes, underscores or @");
    if (n_hex(hex) != HEX_DIGITS || hex[HEX_DIGITS])
        return wrong(at, "after :sha256: there must be 64 hexadecimal digits, as 'fourway hash-key' prints them");
    memcpy(key->name, word, (size_t)(colon - word));
    for (size_t i = 0; i < KEYS_DIGEST_BYTES; i++) {
        const char pair[] = { hex[2 * i], hex[2 * i + 1], '\0' };
        key->digest[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return 0;
}

/* Whatever else stands on the line is the key. */
static int read_plain(const struct place *at, const char *text, struct key_line *key)
{
    const char *colon = strrchr(text, ':');
    const size_t n = strlen(text);

    if (n > KEY_BYTES_MAX)
        return wrong(at, "a key has at most 255 bytes");
    if (colon && n_hex(colon + 1) == HEX_DIGITS && !colon[1 + HEX_DIGITS])      /* nobody could guess why it does not work */
        return wrong(at, "this looks like a hash of unknown kind: write NAME:sha256:HASH");
    snprintf(key->name, sizeof(key->name), "line-%zu", at->line);
    return keys_digest(text, n, key->digest);
}

bool keys_read_number(const char *text, long least, long most, long *value)
{
    char *end;

    errno = 0;
    *value = strtol(text, &end, 10);
    return end != text && !*end && !errno && !isspace((unsigned char)*text) && *value >= least && *value <= most;
}

static int read_option(const struct place *at, const char *word, struct key_line *key)
{
    long value;

    if (!strncmp(word, "limit=", 6)) {
        if (!keys_read_number(word + 6, 1, KEYS_MAX_LIMIT, &value))
            return wrong(at, "limit must be from 1 to 65536");
        key->limit = (unsigned)value;
    } else if (!strncmp(word, "priority=", 9)) {
        if (!keys_read_number(word + 9, KEYS_LEAST_PRIORITY, KEYS_MOST_PRIORITY, &value))
            return wrong(at, "priority must be from -20 to 19");
        key->priority = (int)value;
    } else {
        return wrong(at, "behind a key only limit=N and priority=N can stand");
    }
    return 0;
}

static void cut_blanks(char *line)
{
    size_t n = strlen(line);

    while (n && strchr(" \t\r", line[n - 1]))
        n--;
    line[n] = '\0';
}

/* The last word of the line if it has the form name=value, cut off; else NULL: a key of its own may have blanks. */
static char *take_option(char *line)
{
    char *space = strrchr(line, ' '), *tab = strrchr(line, '\t');
    char *word = !space || (tab && tab > space) ? tab : space;
    const size_t n = word ? strspn(word + 1, "abcdefghijklmnopqrstuvwxyz") : 0;

    if (!n || word[1 + n] != '=')
        return NULL;
    *word = '\0';
    cut_blanks(line);
    return word + 1;
}

static int read_line(const struct place *at, char *line, struct key_line *key)
{
    const char *option, *colon;
    int err = 0;

    *key = (struct key_line){ 0 };
    cut_blanks(line);
    while (!err && (option = take_option(line)))
        err = read_option(at, option, key);
    if (err)
        return err;
    colon = strstr(line, mark);
    return colon ? read_hashed(at, line, colon, key) : read_plain(at, line, key);
}

/* Quadratic, but 2048 keys are 2 million comparisons of a few bytes: some milliseconds, on no request's way. */
static int refuse_twins(const struct place *at, const struct key_line *lines, size_t n)
{
    const struct key_line *last = &lines[n - 1];

    for (size_t i = 0; i + 1 < n; i++) {
        if (!memcmp(lines[i].digest, last->digest, sizeof(last->digest)))
            return wrong(at, "this key stands in the file twice");
        if (!strcmp(lines[i].name, last->name))
            return wrong(at, "this name stands in the file twice: give each key a name of its own");
    }
    return 0;
}

static int read_lines(const char *path, char *text, struct key_line *lines, size_t *n)
{
    struct place at = { .path = path };
    char *rest = text, *line;
    int err = 0;

    while (!err && (line = strsep(&rest, "\n"))) {
        at.line++;
        line += strspn(line, " \t\r");
        if (!*line || *line == '#')
            continue;
        if (*n == KEYS_MAX)
            return wrong(&at, "a file has at most 2048 keys");
        err = read_line(&at, line, &lines[*n]);
        if (!err)
            err = refuse_twins(&at, lines, ++*n);
    }
    if (!err && !*n) {
        log_error("%s: the file has no key", path);
        err = -EINVAL;
    }
    return err;
}

/* A pipe gives its bytes once, and may wait for a writer: at a reload nothing may wait. */
static int read_text(const char *path, bool again, struct buf *text)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | (again ? O_NONBLOCK : 0));
    ssize_t n = -1;
    int err = fd < 0 || fstat(fd, &status) ? -errno : 0;

    if (!err && again && !S_ISREG(status.st_mode))
        err = -ESPIPE;
    text->limit = FILE_BYTES_MAX;
    while (!err && n) {
        char *to = buf_reserve(text, 4096);
        n = to ? read(fd, to, 4096) : 0;
        if (!to)
            err = -EFBIG;
        else if (n < 0 && errno != EINTR)
            err = -errno;
        else if (n > 0)
            text->len += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
    if (err)
        log_error("cannot read the keys in %s: %s", path, strerror(-err));
    return err;
}

int keys_file_read(const char *path, bool again, struct key_line **lines, size_t *n_lines)
{
    struct buf text = { 0 };

    *n_lines = 0;
    *lines = calloc(KEYS_MAX, sizeof(**lines));
    int err = *lines ? read_text(path, again, &text) : -ENOMEM;
    if (!err && memchr(text.data, '\0', text.len)) {
        log_error("%s: a file of keys is text, this one holds NUL bytes", path);
        err = -EINVAL;
    }
    if (!err) {
        text.data[text.len] = '\0';
        err = read_lines(path, text.data, *lines, n_lines);
    }
    if (text.data)
        explicit_bzero(text.data, text.cap);    /* from here on there are digests alone */
    buf_free(&text);
    return err;
}
