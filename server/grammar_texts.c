/*
 * grammar_texts.c - sets of characters and of literal texts as nodes: no two of their ways begin with the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "server/grammar.h"

/* What may follow each first byte; equal ones become one set of bytes. */
struct first_bytes { size_t n; uint8_t bytes[256]; uint16_t next[256]; };

static uint16_t join_bytes(struct grammar_builder *b, const struct first_bytes *f)
{
    bool done[256] = { false }, any = false;
    uint16_t ways = 0;

    for (size_t i = 0; i < f->n; i++) {
        struct byte_set set = { { 0 } };
        if (done[i])
            continue;
        for (size_t k = i; k < f->n; k++) {
            if (f->next[k] != f->next[i])
                continue;
            byte_set_add(&set, f->bytes[k], f->bytes[k]);
            done[k] = true;
        }
        const uint16_t way = grammar_set(b, &set, f->next[i]);
        ways = any ? grammar_split(b, ways, way) : way;
        any = true;
    }
    return ways;
}

struct characters {
    struct grammar_builder *b;
    const struct code_range *ranges;
    size_t n;
    uint16_t all[4];            /* all[k]: any k bytes of those that continue a character, then what follows */
};

/* Is some character of [least, most] in the set, or every one? */
static bool overlaps(const struct characters *c, uint32_t least, uint32_t most, bool *covered)
{
    size_t low = 0, high = c->n;

    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (c->ranges[middle].most < least)
            low = middle + 1;
        else
            high = middle;
    }
    *covered = low < c->n && c->ranges[low].least <= least && c->ranges[low].most >= most;
    return low < c->n && c->ranges[low].least <= most;
}

/* The k bytes that follow a beginning which stands for characters from `from` on; those below `floor` have a shorter form. */
static uint16_t continue_character(const struct characters *c, uint32_t from, unsigned k, uint32_t floor)
{
    const uint32_t step = (uint32_t)1 << (6 * (k - 1));
    struct first_bytes f = { 0 };
    bool covered;

    for (uint32_t i = 0; i < 64; i++) {
        const uint32_t least = from + i * step, most = least + step - 1;
        if (most < floor || !overlaps(c, least, most, &covered))
            continue;
        f.bytes[f.n] = (uint8_t)(0x80 + i);
        f.next[f.n++] = covered ? c->all[k - 1] : continue_character(c, least, k - 1, floor);
    }
    return join_bytes(c->b, &f);
}

uint16_t grammar_characters(struct grammar_builder *b, const struct code_range *ranges, size_t n, uint16_t next)
{
    static const struct { uint8_t first, last, mask; uint32_t floor; } forms[] = {     /* Unicode 15, table 3-6 */
        { 0xc2, 0xdf, 0x1f, 0x80 }, { 0xe0, 0xef, 0x0f, 0x800 }, { 0xf0, 0xf4, 0x07, 0x10000 },
    };
    struct characters c = { b, ranges, n, { next } };
    struct first_bytes f = { 0 };
    bool covered;

    const bool wide = n > 0 && ranges[n - 1].most >= 0x80;
    for (unsigned k = 1; k < 4 && wide; k++)
        c.all[k] = grammar_range(b, 0x80, 0xbf, c.all[k - 1]);
    for (uint32_t code = 0; code < 0x80; code++) {
        if (!overlaps(&c, code, code, &covered))
            continue;
        f.bytes[f.n] = (uint8_t)code;
        f.next[f.n++] = next;
    }
    for (unsigned k = 1; k < 4 && wide; k++) {
        for (unsigned byte = forms[k - 1].first; byte <= forms[k - 1].last; byte++) {
            const uint32_t size = (uint32_t)1 << (6 * k), least = (byte & forms[k - 1].mask) * size, floor = forms[k - 1].floor;
            if (!overlaps(&c, least > floor ? least : floor, least + size - 1, &covered))
                continue;
            f.bytes[f.n] = (uint8_t)byte;
            f.next[f.n++] = covered && least >= floor ? c.all[k] : continue_character(&c, least, k, floor);
        }
    }
    return join_bytes(b, &f);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Those that are equal up to `at`. The recursion is as deep as a text is long where texts part: a run they share is one step. */
static uint16_t part(struct grammar_builder *b, char *const *texts, size_t n, size_t at, uint16_t next)
{
    uint16_t ways = 0;
    bool any = false;
    size_t shared = at;

    if (b->error)
        return 0;
    if (n == 1)
        return grammar_text(b, texts[0] + at, strlen(texts[0] + at), next);
    while (texts[0][shared] && texts[0][shared] == texts[n - 1][shared])       /* sorted: then all share it */
        shared++;
    if (!texts[0][shared] && !texts[n - 1][shared])
        return grammar_text(b, texts[0] + at, shared - at, next);
    for (size_t i = 0; i < n; ) {
        const char byte = texts[i][shared];
        size_t m = i + 1;
        while (m < n && texts[m][shared] == byte)
            m++;
        const uint16_t way = byte ? part(b, texts + i, m - i, shared, next) : next;
        ways = any ? grammar_split(b, ways, way) : way;
        any = true;
        i = m;
    }
    return grammar_text(b, texts[0] + at, shared - at, ways);
}

uint16_t grammar_one_of(struct grammar_builder *b, char **texts, size_t n, uint16_t next)
{
    qsort(texts, n, sizeof(*texts), compare_texts);
    return part(b, texts, n, 0, next);
}
