#include "server/stop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int stop_set_add(struct stop_set *set, const char *text, size_t n)
{
    if (set->n == STOP_MAX_STRINGS)
        return -ENOSPC;
    struct stop_string *strings = realloc(set->strings, (set->n + 1) * sizeof(*strings));
    if (!strings)
        return -ENOMEM;
    set->strings = strings;

    struct stop_string *s = &strings[set->n++];
    *s = (struct stop_string){ .length = (uint16_t)n };
    memcpy(s->text, text, n);
    for (uint16_t k = 1, border = 0; k < n; k++) {
        while (border && text[k] != text[border])
            border = s->fallback[border];
        if (text[k] == text[border])
            border++;
        s->fallback[k + 1] = border;
    }
    return 0;
}

void stop_set_free(struct stop_set *set)
{
    free(set->strings);
    *set = (struct stop_set){ 0 };
}

struct stop_result stop_push(const struct stop_set *set, struct stop_state *state, const char *piece, size_t n)
{
    struct stop_result result = { .match = -1, .used = n };

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < set->n; k++) {
            const struct stop_string *s = &set->strings[k];
            uint16_t matched = state->matched[k];
            while (matched && s->text[matched] != piece[i])
                matched = s->fallback[matched];
            if (s->text[matched] == piece[i])
                matched++;
            if (matched == s->length) {
                if (result.match < 0 || s->length > set->strings[result.match].length)
                    result.match = (int)k;
                matched = s->fallback[matched];
            }
            state->matched[k] = matched;
        }
        if (result.match >= 0) {
            result.used = i + 1;
            return result;
        }
    }
    for (size_t k = 0; k < set->n; k++)
        if (state->matched[k] > result.held)
            result.held = state->matched[k];
    return result;
}
