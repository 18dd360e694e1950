/*
 * speculation.h - how many tokens to draft for a sequence, so that on average a step gives more tokens for its time.
 *
 * A draft is checked by computing it beside the last token: the token that is drawn after it stands, whatever was drafted, so text and bits
 * do not change (Leviathan et al., ICML 2023, arXiv:2211.17192, with equality in place of rejection sampling). What it may change is
 * speed: a step reads the weights once for all its tokens, but each token has its arithmetic. The i-th draft is accepted with a chance of
 * p^i. It pays if that, for its time, is more than what the step gives anyway: tokens of the batch per time of the step. Both times are
 * learned by pace.h, p from the sequence's own drafts. Pure arithmetic. Times are in nanoseconds.
 */
#ifndef FOURWAY_SERVER_SPECULATION_H
#define FOURWAY_SERVER_SPECULATION_H

#include <stddef.h>

#include "server/pace.h"

struct speculation { float chance; };           /* p; 0: nothing is known yet */

/* Drafts worth trying, at most `most`, in a step that n_decodes sequences share; draft_ns: what drafting one takes. */
size_t speculation_length(const struct speculation *s, const struct pace *p, size_t n_decodes, double draft_ns, size_t most);

/* Of n drafts the first n_accepted were drawn. n = 0: none was tried, and what is known fades. */
void speculation_observe(struct speculation *s, size_t n, size_t n_accepted);

#endif
