/*
 * detokenizer.c - ids -> text, one id at a time.
 *
 * A character may be spread over several tokens. What could still become a character is held back (at most 3 bytes),
 * so a client never sees half of one; what cannot becomes U+FFFD, one for each maximal subpart (Unicode 3.9).
 */
#include <string.h>

#include "common/utf8.h"
#include "weights/tokenizer_internal.h"

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool skip_special, bool strip_prefix)
{
    *d = (struct detokenizer){ .tokenizer = t, .skip_special = skip_special, .strip_prefix = strip_prefix };
}

/* Append the whole characters of text[n]; returns how many bytes at its end are the beginning of one. */
static size_t release(struct buf *out, const char *text, size_t n)
{
    size_t valid = 0, at = 0;       /* text[valid..at) is valid and not appended yet */

    while (at < n) {
        uint32_t code_point;
        int length = utf8_decode(text + at, n - at, &code_point);
        if (length > 0) {
            at += (size_t)length;
            continue;
        }
        buf_append(out, text + valid, at - valid);
        if (length == UTF8_INCOMPLETE)
            return n - at;
        buf_puts(out, "\xef\xbf\xbd");
        at += (size_t)-length;
        valid = at;
    }
    buf_append(out, text + valid, at - valid);
    return 0;
}

void detokenizer_push(struct detokenizer *d, int32_t id, struct buf *out)
{
    const struct tokenizer *t = d->tokenizer;
    size_t n, used = 0;
    const char *piece = tokenizer_piece(t, id, &n);

    if (!piece || (d->skip_special && tokenizer_is_control(t, id)))
        return;
    if (!d->started && d->strip_prefix && !t->byte_level && t->spm.add_space_prefix && n && piece[0] == ' ')
        used = 1;
    d->started |= n > 0;

    /* First complete what is held: it ends at the latest with the third byte from here. */
    while (d->n_held && used < n) {
        uint32_t code_point;
        d->held[d->n_held++] = piece[used++];
        int length = utf8_decode(d->held, d->n_held, &code_point);
        if (length == UTF8_INCOMPLETE)
            continue;
        if (length > 0) {
            buf_append(out, d->held, d->n_held);
        } else {
            buf_puts(out, "\xef\xbf\xbd");
            used--;         /* the byte that does not continue the character may begin another */
        }
        d->n_held = 0;
    }
    size_t rest = release(out, piece + used, n - used);
    if (rest) {
        memcpy(d->held, piece + n - rest, rest);
        d->n_held = rest;
    }
}

void detokenizer_finish(struct detokenizer *d, struct buf *out)
{
    if (d->n_held)
        buf_puts(out, "\xef\xbf\xbd");
    d->n_held = 0;
}
