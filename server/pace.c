#include "server/pace.h"

/* Half of what was known is forgotten after five steps: contexts grow slowly, and one step that met something else counts little. */
static const double weight = 1.0 / 8;

static void learn(double *known, double seen)
{
    *known = *known > 0 ? *known + weight * (seen - *known) : seen;
}

static double decodes_ns(const struct pace *p, size_t n_decodes)
{
    return n_decodes ? p->shared_ns + p->decode_ns * (double)n_decodes : 0;
}

size_t pace_budget(const struct pace *p, size_t n_decodes)
{
    const size_t least = PACE_LEAST < p->most ? PACE_LEAST : p->most;

    if (p->target_ns <= 0 || n_decodes == 0)
        return p->most;
    if (p->prompt_ns <= 0)      /* the first prompt among decodes: begin small, and learn */
        return least;
    const double decodes = decodes_ns(p, n_decodes), target = p->stretches && 5 * decodes > p->target_ns ? 5 * decodes : p->target_ns;
    const double tokens = (target - decodes) / p->prompt_ns;
    return tokens <= (double)least ? least : tokens >= (double)p->most ? p->most : (size_t)tokens;
}

void pace_observe(struct pace *p, size_t n_decodes, size_t n_prompt, double ns)
{
    if (n_prompt == 0 && n_decodes) {
        /* One equation for two unknowns: what differs from the prediction is shared out evenly. */
        const double error = ns - decodes_ns(p, n_decodes);

        if (p->shared_ns <= 0) {
            p->shared_ns = ns / 2;
            p->decode_ns = ns / 2 / (double)n_decodes;
            return;
        }
        p->shared_ns += weight * error / 2;
        p->decode_ns += weight * error / 2 / (double)n_decodes;
        p->shared_ns = p->shared_ns > 0 ? p->shared_ns : 0;
        p->decode_ns = p->decode_ns > 0 ? p->decode_ns : 0;
    } else if (n_prompt >= PACE_LEAST / 2 || n_decodes == 0) {
        /* A few tokens say little of what one costs: a step reads the weights for the first of them. */
        const double rest = ns - decodes_ns(p, n_decodes);

        learn(&p->prompt_ns, rest > 0 ? rest / (double)n_prompt : ns / (double)n_prompt);
    }
}
