#include "server/answer.h"

#include <assert.h>

const struct answer_format *answer_format_of(enum api_route route, bool plain)
{
    static const struct { enum api_route route; const struct answer_format *format; } table[] = {
        { API_COMPLETIONS, &answer_text },
        { API_CHAT, &answer_chat },
        { API_RESPONSES, &answer_responses },
        { API_MESSAGES, &answer_messages },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].route == route)
            return plain ? &answer_plain : table[i].format;
    assert(!"a route without a format");
    return NULL;
}
