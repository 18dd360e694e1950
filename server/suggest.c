#include "server/suggest.h"

#include <string.h>

enum { LONGEST = 64 };      /* a longer word is no slip of the keyboard */

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Insertions, deletions, replacements and swaps of neighbours (optimal string alignment), row by row. */
static size_t edit_distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];

    for (size_t j = 0; j <= n_b; j++)
        last[j] = before[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            row[j] = smallest(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        size_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
    }
    return last[n_b];
}

void suggest_offer(struct suggestion *s, const char *name)
{
    size_t n_wanted = strlen(s->wanted), n_name = strlen(name), distance;

    if (n_wanted > LONGEST || n_name > LONGEST)
        return;
    distance = edit_distance(s->wanted, n_wanted, name, n_name);
    /* Half a name (--chunk for --prefill-chunk) counts as near, behind every real slip. */
    if (distance > 1 + n_wanted / 3) {
        if (n_wanted < 3 || !strstr(name, s->wanted))
            return;
        distance += LONGEST;
    }
    if (distance < s->distance) {
        s->distance = distance;
        s->nearest = name;
    }
}

const char *suggest_best(const struct suggestion *s)
{
    return s->nearest;
}
