#include "server/speculation.h"

/* What a sequence begins with, and slowly returns to while its drafts do not pay: so that it tries again. Chosen. */
static const float prior = 0.6f, fading = 1.0f / 64;

/* Of a draft's tokens each says something: half of what was known is forgotten after five. */
static const float weight = 1.0f / 8;

size_t speculation_length(const struct speculation *s, const struct pace *p, size_t n_decodes, double draft_ns, size_t most)
{
    const double token_ns = p->decode_ns, step_ns = p->shared_ns + token_ns * (double)n_decodes;
    const double chance = s->chance > 0 ? s->chance : prior;
    double accepted = chance;
    size_t n = 0;

    if (step_ns <= 0)               /* no step was timed yet */
        return most < 1 ? most : 1;
    for (; n < most && accepted * step_ns > (token_ns + draft_ns) * (double)n_decodes; n++)
        accepted *= chance;
    return n;
}

void speculation_observe(struct speculation *s, size_t n, size_t n_accepted)
{
    const size_t n_seen = n_accepted < n ? n_accepted + 1 : n;      /* after the first that was wrong they say nothing */

    if (s->chance <= 0)
        s->chance = prior;
    for (size_t i = 0; i < n_seen; i++)
        s->chance += weight * ((i < n_accepted ? 1.0f : 0.0f) - s->chance);
    if (n == 0)
        s->chance += fading * (prior - s->chance);
    s->chance = s->chance < 0.001f ? 0.001f : s->chance;
}
