/*
 * http_keys.c - the API keys of a file, compared in constant time (CVE-2025-59425 was a comparison that stopped at the first difference).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/http.h"

enum { KEY_BYTES = 256 };

struct http_keys {
    size_t n;
    char (*keys)[KEY_BYTES];    /* padded with zeros: every comparison looks at all of them */
};

static int add_key(struct http_keys *k, const char *key, size_t n)
{
    char (*keys)[KEY_BYTES] = realloc(k->keys, (k->n + 1) * sizeof(*keys));

    if (!keys)
        return -ENOMEM;
    k->keys = keys;
    memset(keys[k->n], 0, KEY_BYTES);
    memcpy(keys[k->n++], key, n);
    return 0;
}

static int read_lines(struct http_keys *k, FILE *file, const char *path)
{
    char *line = NULL;
    size_t size = 0, number = 0;
    ssize_t n;
    int err = 0;

    while (!err && (n = getline(&line, &size, file)) >= 0) {
        number++;
        while (n && strchr(" \t\r\n", line[n - 1]))
            n--;
        if (!n || line[0] == '#')
            continue;
        if (n >= KEY_BYTES || strlen(line) < (size_t)n) {
            log_error("%s: line %zu is no key: it must have at most %d bytes and no NUL", path, number, KEY_BYTES - 1);
            err = -EINVAL;
        } else {
            err = add_key(k, line, (size_t)n);
        }
    }
    if (!err && ferror(file)) {
        err = -EIO;
        log_error("%s: %s", path, strerror(EIO));
    }
    free(line);
    return err;
}

int http_keys_read(struct http_keys **out, const char *path)
{
    struct http_keys *k = calloc(1, sizeof(*k));
    FILE *file = fopen(path, "re");
    int err = 0;

    *out = NULL;
    if (!file) {
        err = -errno;
        log_error("%s: %s", path, strerror(errno));
    } else if (!k) {
        err = -ENOMEM;
    } else {
        err = read_lines(k, file, path);
        if (!err && !k->n) {
            log_error("%s: the file has no key", path);
            err = -EINVAL;
        }
    }
    if (file)
        fclose(file);
    if (err)
        http_keys_free(k);
    else
        *out = k;
    return err;
}

void http_keys_free(struct http_keys *k)
{
    if (k)
        free(k->keys);
    free(k);
}

size_t http_keys_count(const struct http_keys *k)
{
    return k ? k->n : 0;
}

int http_keys_find(const struct http_keys *k, const char *key)
{
    char padded[KEY_BYTES] = { 0 };
    const size_t n = strlen(key);
    int found = -1;

    memcpy(padded, key, n < KEY_BYTES ? n : KEY_BYTES - 1);
    for (size_t i = 0; i < k->n; i++) {
        unsigned char differs = n >= KEY_BYTES;
        for (size_t j = 0; j < KEY_BYTES; j++)
            differs |= (unsigned char)(padded[j] ^ k->keys[i][j]);
        found = differs ? found : (int)i + 1;
    }
    return found;
}
