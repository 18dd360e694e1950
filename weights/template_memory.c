/*
 * template_memory.c - the arena, the step counter and the first failure of a compile or a render.
 */
#include "weights/template_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (32u << 10)

struct jinja_chunk {
    struct jinja_chunk *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

static void set_error(struct jinja *j, int limit, const char *format, va_list args)
{
    if (jinja_failed(j))
        return;
    int n = snprintf(j->error->message, sizeof(j->error->message), "line %d: ", j->line);
    vsnprintf(j->error->message + n, sizeof(j->error->message) - (size_t)n, format, args);
    j->error->line = j->line;
    j->error->limit = limit;
    j->err = -EINVAL;
}

void jinja_fail(struct jinja *j, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_error(j, 0, format, args);
    va_end(args);
}

void jinja_fail_limit(struct jinja *j, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_error(j, 1, format, args);
    va_end(args);
}

void jinja_fail_raised(struct jinja *j, const char *message, size_t n)
{
    size_t room = sizeof(j->error->message) - 1;

    if (jinja_failed(j))
        return;
    if (n > room)
        for (n = room; n > 0 && ((unsigned char)message[n] & 0xc0) == 0x80;)     /* never half a character */
            n--;
    memcpy(j->error->message, message, n);
    j->error->message[n] = '\0';
    j->error->line = j->line;
    j->error->limit = 2;
    j->err = -EINVAL;
}

void jinja_fail_memory(struct jinja *j)
{
    if (jinja_failed(j))
        return;
    snprintf(j->error->message, sizeof(j->error->message), "line %d: out of memory", j->line);
    j->error->line = j->line;
    j->err = -ENOMEM;
}

bool jinja_touch(struct jinja *j, size_t bytes)
{
    j->touched += bytes;
    if (j->touched >= JINJA_STEP_BYTES) {
        j->steps -= (long)(j->touched / JINJA_STEP_BYTES);
        j->touched %= JINJA_STEP_BYTES;
    }
    if (j->steps < 0)
        jinja_fail_limit(j, "step limit of %d reached", JINJA_MAX_STEPS);
    return !jinja_failed(j);
}

bool jinja_charge(struct jinja *j, size_t bytes)
{
    j->steps--;
    return jinja_touch(j, bytes);
}

void *jinja_alloc(struct jinja *j, size_t n)
{
    struct jinja_chunk *chunk = j->chunks;

    if (jinja_failed(j))
        return NULL;
    if (n > j->max_bytes - j->bytes) {
        jinja_fail_limit(j, "memory limit of %zu MiB reached", j->max_bytes >> 20);
        return NULL;
    }
    n = (n + 15) & ~(size_t)15;
    if (!chunk || n > chunk->size - chunk->used) {
        size_t size = n > CHUNK_BYTES / 4 ? n : CHUNK_BYTES;
        struct jinja_chunk *fresh = calloc(1, sizeof(*fresh) + size);
        if (!fresh) {
            jinja_fail_memory(j);
            return NULL;
        }
        fresh->size = size;
        j->bytes += size < j->max_bytes - j->bytes ? size : j->max_bytes - j->bytes;
        if (chunk && size == n && chunk->used < chunk->size) {   /* keep filling the small chunk */
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            j->chunks = fresh;
        }
        chunk = fresh;
    }
    void *p = chunk->bytes + chunk->used;
    chunk->used += n;
    return p;
}

void *jinja_alloc_array(struct jinja *j, size_t n, size_t size)
{
    return jinja_alloc(j, n > SIZE_MAX / 32 / size ? SIZE_MAX / 32 : n * size);
}

void jinja_free_all(struct jinja *j)
{
    while (j->chunks) {
        struct jinja_chunk *next = j->chunks->next;
        free(j->chunks);
        j->chunks = next;
    }
    j->bytes = 0;
}
