/*
 * nfc.c - Unicode normal form C (UAX 15), which Qwen's tokenizers put in front of their pattern.
 *
 * utf8proc knows the characters, but sorts combining marks by exchanging neighbours, which is quadratic: a prompt of a
 * million marks in a bad order would block a thread for minutes. Here each run of marks is sorted by counting.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "common/utf8.h"
#include "weights/tokenizer_internal.h"

enum { MOST_PER_CHARACTER = 4 };        /* no canonical decomposition is longer (UAX 15, table 8) */

bool nfc_may_change(const char *text, size_t n)
{
    /* Nothing below U+0300 (bytes CC 80) changes unless something from there follows it. */
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] >= 0xcc)
            return true;
    }
    return false;
}

static int class_of(utf8proc_int32_t c)
{
    return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class;
}

/* Sort marks[n] by class, equal ones in their order; `spare` has room for n. */
static void sort_marks(utf8proc_int32_t *marks, size_t n, utf8proc_int32_t *spare)
{
    size_t place[257] = { 0 };
    bool sorted = true;

    for (size_t i = 1; i < n && sorted; i++)
        sorted = class_of(marks[i - 1]) <= class_of(marks[i]);
    if (sorted)
        return;
    for (size_t i = 0; i < n; i++)
        place[class_of(marks[i]) + 1]++;
    for (size_t c = 0; c < 256; c++)
        place[c + 1] += place[c];
    for (size_t i = 0; i < n; i++)
        spare[place[class_of(marks[i])]++] = marks[i];
    memcpy(marks, spare, n * sizeof(*marks));
}

int nfc_append(struct buf *out, const char *text, size_t n)
{
    size_t used = 0, room = n + 2 * MOST_PER_CHARACTER;     /* grown where decompositions need it */
    utf8proc_int32_t *points = malloc(room * sizeof(*points)), *spare = NULL;
    utf8proc_ssize_t left;
    int err = -ENOMEM;

    if (!points)
        return err;
    for (size_t at = 0; at < n;) {
        uint32_t c;
        at += (size_t)utf8_decode(text + at, n - at, &c);
        if (room - used < MOST_PER_CHARACTER) {
            utf8proc_int32_t *more = realloc(points, 2 * room * sizeof(*points));
            if (!more)
                goto done;
            points = more;
            room *= 2;
        }
        left = utf8proc_decompose_char((utf8proc_int32_t)c, points + used, (utf8proc_ssize_t)(room - used),
                                       UTF8PROC_STABLE | UTF8PROC_COMPOSE, NULL);
        if (left < 0)
            goto done;
        used += (size_t)left;
    }
    spare = malloc((used ? used : 1) * sizeof(*spare));
    if (!spare)
        goto done;
    for (size_t at = 0; at < used;) {
        size_t end = at;
        while (end < used && class_of(points[end]))
            end++;
        sort_marks(points + at, end - at, spare);
        at = end + 1;
    }
    left = utf8proc_normalize_utf32(points, (utf8proc_ssize_t)used, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (left < 0)
        goto done;
    for (utf8proc_ssize_t i = 0; i < left; i++) {
        char bytes[4];
        buf_append(out, bytes, utf8_encode((uint32_t)points[i], bytes));
    }
    err = out->failed ? -ENOMEM : 0;
done:
    free(points);
    free(spare);
    return err;
}
