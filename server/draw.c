#include "server/draw.h"

#include <math.h>

static int32_t draw_allowed(const struct draw *d, const float *logits, size_t n_vocab, struct logits_norm norm, uint64_t number,
                            const uint64_t *allowed)
{
    return sampler_draw(d->sampling, logits, n_vocab, norm, number, d->tokens, d->n_tokens, d->n_prompt, d->end_ids,
                        d->early ? d->n_end_ids : 0, allowed, d->scratch);
}

/* Is the text where a mask may not be needed? */
static bool is_in_string(const struct draw *d, size_t n_vocab)
{
    bool in_string;

    return !sampling_filters(d->sampling, n_vocab) &&
           !matcher_in_string(d->matcher, d->place, d->tokens + d->n_prompt, d->n_tokens - d->n_prompt, &in_string) && in_string;
}

static bool fits(const struct draw *d, int32_t id)
{
    bool takes;

    return id >= 0 && !matcher_takes(d->matcher, d->place, d->tokens + d->n_prompt, d->n_tokens - d->n_prompt, id, &takes) && takes;
}

/* The ids that the grammar allows; end ids where it may end. False: the request cannot go on. */
static bool fill_mask(const struct draw *d)
{
    bool may_end;

    if (matcher_allowed(d->matcher, d->place, d->tokens + d->n_prompt, d->n_tokens - d->n_prompt, d->mask, &may_end))
        return false;
    for (size_t i = 0; may_end && i < d->n_end_ids; i++)
        d->mask[d->end_ids[i] / 64] |= (uint64_t)1 << (d->end_ids[i] & 63);
    return true;
}

/*
 * In a string nearly all that a model says is allowed, and a mask costs most: with a limit of length every character is another state. So
 * there a token is drawn from all; if it is allowed it stays, else the position is drawn again, from the mask. Where nothing filters the
 * allowed ids by rank this has the distribution of the mask (rejection), for the second draw has a number of its own; greedily it is the
 * same token.
 */
int32_t draw_token(const struct draw *d, const float *logits, size_t n_vocab, struct logits_norm norm)
{
    uint64_t number = d->n_tokens;

    if (isnan(norm.log_sum_exp))
        return -1;
    if (!d->matcher)
        return draw_allowed(d, logits, n_vocab, norm, number, NULL);
    if (is_in_string(d, n_vocab)) {
        const int32_t id = draw_allowed(d, logits, n_vocab, norm, number, NULL);
        if (fits(d, id))
            return id;
        number |= SAMPLER_SECOND_DRAW;
    }
    return fill_mask(d) ? draw_allowed(d, logits, n_vocab, norm, number, d->mask) : -1;
}
