#include "weights/sentencepiece.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PIECES = 1 << 21 };
enum wire { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };

/* A message, or one inside of it. */
struct message {
    const char *start;              /* of the whole file, for places */
    const char *at, *end;
    const char *why;                /* what is wrong; NULL: nothing */
};

struct field { uint32_t number; enum wire wire; uint64_t value; struct message inner; };

static bool fail(struct message *m, const char *why)
{
    if (!m->why)
        m->why = why;
    return false;
}

static bool take_varint(struct message *m, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (m->at == m->end)
            return fail(m, "a number is cut short");
        const unsigned char byte = (unsigned char)*m->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return fail(m, "a number of more than 64 bits");
}

/* The next field, or false at the end or when something is wrong. */
static bool next_field(struct message *m, struct field *f)
{
    uint64_t tag, n;

    if (m->at == m->end || m->why || !take_varint(m, &tag))
        return false;
    *f = (struct field){ .number = (uint32_t)(tag >> 3), .wire = (enum wire)(tag & 7) };
    if (!f->number || tag >> 32)
        return fail(m, "a field without a number");
    switch (f->wire) {
    case VARINT:
        return take_varint(m, &f->value);
    case FIXED64:
    case FIXED32:
        n = f->wire == FIXED64 ? 8 : 4;
        break;
    case LENGTH:
        if (!take_varint(m, &n))
            return false;
        break;
    default:
        return fail(m, "a field of a kind that protobuf has not");
    }
    if (n > (uint64_t)(m->end - m->at))
        return fail(m, "a field is longer than what is left");
    if (f->wire == FIXED32 || f->wire == FIXED64)
        memcpy(&f->value, m->at, n);
    f->inner = (struct message){ .start = m->start, .at = m->at, .end = m->at + n };
    m->at += n;
    return true;
}

static void take_piece(struct message *m, struct sentencepiece_piece *p)
{
    struct field f;

    *p = (struct sentencepiece_piece){ .text = { "", 0 }, .type = SENTENCEPIECE_NORMAL };
    while (next_field(m, &f)) {
        if (f.number == 1 && f.wire == LENGTH) {
            p->text = (struct gguf_string){ f.inner.at, (size_t)(f.inner.end - f.inner.at) };
        } else if (f.number == 2 && f.wire == FIXED32) {
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&p->score, &bits, sizeof(bits));
        } else if (f.number == 3 && f.wire == VARINT) {
            if (f.value < SENTENCEPIECE_NORMAL || f.value > SENTENCEPIECE_BYTE)
                fail(m, "a piece of unknown type");
            p->type = (enum sentencepiece_type)f.value;
        }
    }
    if (!m->why && (p->score != p->score))
        fail(m, "the score of a piece is NaN");
}

static void take_trainer(struct message *m, struct sentencepiece *s)
{
    struct field f;

    while (next_field(m, &f))
        if (f.number == 3 && f.wire == VARINT)
            s->model_type = f.value > 4 ? 0 : (uint32_t)f.value;
}

static void take_normalizer(struct message *m, struct sentencepiece *s)
{
    struct field f;

    while (next_field(m, &f)) {
        if (f.number == 2 && f.wire == LENGTH)
            s->has_charsmap = f.inner.at != f.inner.end;
        else if (f.number == 3 && f.wire == VARINT)
            s->add_dummy_prefix = f.value != 0;
        else if (f.number == 4 && f.wire == VARINT)
            s->remove_extra_whitespaces = f.value != 0;
    }
}

static int add_piece(struct sentencepiece *s, struct message *m, size_t *cap)
{
    if (s->n_pieces == MAX_PIECES) {
        fail(m, "more pieces than 2097152");
        return -EINVAL;
    }
    if (s->n_pieces == *cap) {
        *cap = *cap ? 2 * *cap : 1024;
        struct sentencepiece_piece *more = realloc(s->pieces, *cap * sizeof(*more));
        if (!more)
            return -ENOMEM;
        s->pieces = more;
    }
    take_piece(m, &s->pieces[s->n_pieces++]);
    return m->why ? -EINVAL : 0;
}

int sentencepiece_read(struct sentencepiece *s, const char *bytes, size_t n, const char **why, size_t *at)
{
    struct message m = { .start = bytes, .at = bytes, .end = bytes + n };
    struct field f;
    size_t cap = 0;
    int err = 0;

    /* The values that the definition gives a file that is silent. */
    *s = (struct sentencepiece){ .model_type = 1, .add_dummy_prefix = true, .remove_extra_whitespaces = true };
    while (!err && next_field(&m, &f)) {
        if (f.wire != LENGTH)
            continue;
        if (f.number == 1)
            err = add_piece(s, &f.inner, &cap);
        else if (f.number == 2)
            take_trainer(&f.inner, s);
        else if (f.number == 3)
            take_normalizer(&f.inner, s);
        if (f.inner.why) {
            m.at = f.inner.at;
            fail(&m, f.inner.why);
        }
    }
    if (!m.why && !err && !s->n_pieces)
        fail(&m, "it has no pieces");
    *why = m.why;
    *at = (size_t)(m.at - m.start);
    return err ? err : m.why ? -EINVAL : 0;
}

void sentencepiece_free(struct sentencepiece *s)
{
    free(s->pieces);
    *s = (struct sentencepiece){ 0 };
}
