/*
 * lfa.c - localized filtering-based attention of Yuan 2.0 (Wu et al. 2023, arXiv:2311.15786): q and k are made from what two causal
 * convolutions over time, of two taps each, give; v is not.
 *
 *   o1[t] = A0 a[t-1] + A1 a[t] + b1        a: the layer's input after its norm
 *   o2[t] = B0 o1[t-1] + B1 o1[t] + b2
 *   f[t]  = norm(o2[t] + a[t])              input of q and k
 *
 * What a token leaves for the next one is not a[t] and o1[t] but their products, u = A0 a[t] and w = B0 o1[t]: then every weight is read
 * once a step, and each node keeps the rows of u and w that it computed. They lie with the KV pages, a slot for each of the last
 * `n_state_slots` positions of a page (1, or as many as a sequence may draft, so that a draft that is refused spoils nothing): so they are
 * shared, preempted and brought back like these. Before the first token both are zero, o1[-1] itself too: b1 does not count there.
 */
#include <string.h>

#include "model/forward_internal.h"

static const float filter_eps = 1e-6f;         /* fixed in the model's code, whatever the configuration says */

/* Does token t follow the one before it in the step's list? */
static bool follows(const struct model *m, size_t t)
{
    return t && m->tokens[t].sequence == m->tokens[t - 1].sequence;
}

/* Will no later token of the step write to the slot that is this position's? */
static bool keeps_state(const struct model *m, size_t t)
{
    const uint32_t position = m->tokens[t].position, slots = (uint32_t)m->n_state_slots;
    const size_t later = t + slots;

    return later >= m->n_tokens || m->tokens[later].sequence != m->tokens[t].sequence ||
           position / KV_CHUNK != (position + slots) / KV_CHUNK;
}

/* The node's rows, u and then w, of a layer after `position`. */
static float *state_at(const struct context *c, size_t layer, const struct kv_sequence *s, uint32_t position)
{
    const struct model *m = c->m;
    const size_t page = (size_t)s->pages[position / KV_CHUNK], slot = position % m->n_state_slots;

    return c->node->state + ((page * m->config.n_layers + layer) * m->n_state_slots + slot) * c->node->state_floats;
}

/* out[t] += previous[t - 1] + bias for `rows` of the node's rows from `from` on; what the last tokens leave is kept. */
static void shift_and_add(const struct context *c, size_t layer, float *out, size_t out_stride, const float *previous, size_t rows,
                          const float *bias, size_t from)
{
    const struct model *m = c->m;

    for (size_t t = 0; t < m->n_tokens; t++) {
        const struct step_token *token = &m->tokens[t];
        float *to = out + t * out_stride;
        if (follows(m, t))
            m->kernels.add(to, previous + (t - 1) * rows, rows);
        else if (token->position)
            m->kernels.add(to, state_at(c, layer, token->sequence, token->position - 1) + from, rows);
        if (bias)
            m->kernels.add(to, bias, rows);
        if (keeps_state(m, t))
            memcpy(state_at(c, layer, token->sequence, token->position) + from, previous + t * rows, rows * sizeof(float));
    }
}

/* o1 of the node's rows, as records. */
static void first_filter(const struct context *c, const struct layer *l, size_t layer)
{
    const struct model *m = c->m;
    const size_t n = m->n_tokens, first = m->lfa_split.start[c->w->node], step = TILE_FLOATS / n / 32 * 2;
    const size_t token_bytes = m->sites[SITE_LFA_MID].token_bytes;
    float *previous = c->own->lfa_previous, *now = c->own->lfa_now;
    size_t begin, end;

    pool_share_node(c->w, own_panels(c, &m->lfa_split) / 2, &begin, &end);
    for (size_t p = 2 * begin; p < 2 * end; p += step) {
        const size_t to = p + step < 2 * end ? p + step : 2 * end, rows = (to - p) * PANEL_ROWS, channel = (first + p) * PANEL_ROWS;
        forward_multiply(c, &l->lfa_first[0], SITE_ATTN_IN, c->act_in, n, p, to, previous, rows);
        forward_multiply(c, &l->lfa_first[1], SITE_ATTN_IN, c->act_in, n, p, to, now, rows);
        profile_mark(c->profile, PROFILE_WEIGHTS);
        shift_and_add(c, layer, now, rows, previous, rows, l->lfa_first_bias.tensor ? l->lfa_first_bias.copy[c->w->node] + channel : NULL,
                      p * PANEL_ROWS);
        for (size_t t = 0; t < n; t++)
            prepare_activations(m, SITE_LFA_MID, m->tokens[t].role, c->node->act_lfa + t * token_bytes, now + t * rows, channel,
                                channel + rows);
        profile_mark(c->profile, PROFILE_NORMS);
    }
}

static unsigned char *buffer_lfa(struct node_memory *n)
{
    return n->act_lfa;
}

/* Of each kind of activation, and once more of the second term, which int8 has. */
static void columns_lfa(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes)
{
    const struct site_layout *s = &m->sites[SITE_LFA_MID];
    const size_t term = kind / ACT_COUNT;

    forward_record_columns(m, SITE_LFA_MID, role, kind % ACT_COUNT, m->lfa_split.start[node] * PANEL_ROWS,
                           m->lfa_split.start[node + 1] * PANEL_ROWS, from, bytes);
    *from += term * s->bytes[role];
    if (term && (kind % ACT_COUNT != ACT_Q8 || s->n_terms[role] < 2))
        *bytes = 0;
}

/* o2 of the node's rows, into y. */
static void second_filter(const struct context *c, const struct layer *l, size_t layer)
{
    const struct model *m = c->m;
    const size_t n = m->n_tokens, first = m->d_split.start[c->w->node], n_first = own_panels(c, &m->lfa_split);
    const size_t most = TILE_FLOATS / n / PANEL_ROWS, step = most ? most : 1;
    float *previous = c->own->lfa_previous;
    size_t begin, end;

    pool_share_node(c->w, own_panels(c, &m->d_split), &begin, &end);
    for (size_t p = begin; p < end; p += step) {
        const size_t to = p + step < end ? p + step : end, rows = (to - p) * PANEL_ROWS, channel = (first + p) * PANEL_ROWS;
        float *y = c->node->y + channel;
        forward_multiply(c, &l->lfa_second[0], SITE_LFA_MID, c->node->act_lfa, n, p, to, previous, rows);
        forward_multiply(c, &l->lfa_second[1], SITE_LFA_MID, c->node->act_lfa, n, p, to, y, m->d_out);
        profile_mark(c->profile, PROFILE_WEIGHTS);
        shift_and_add(c, layer, y, m->d_out, previous, rows,
                      l->lfa_second_bias.tensor ? l->lfa_second_bias.copy[c->w->node] + channel : NULL, (n_first + p) * PANEL_ROWS);
        profile_mark(c->profile, PROFILE_NORMS);
    }
}

/* f of this worker's tokens, as records. The norm that the layer begins with is computed once more: cheaper than keeping it. */
static void filtered_activations(const struct context *c, const struct layer *l)
{
    const struct model *m = c->m;
    const size_t n = m->config.d_model;
    float *a = c->own->tmp, *f = c->own->tmp2;

    for (size_t t = c->begin; t < c->end; t++) {
        m->kernels.rms_norm(a, c->x + t * m->d_padded, l->attn_norm.copy[c->w->node], m->config.norm_eps, n);
        m->kernels.add(a, c->node->y + t * m->d_out, n);
        m->kernels.rms_norm(f, a, l->lfa_norm.copy[c->w->node], filter_eps, n);
        memset(f + n, 0, (m->d_padded - n) * sizeof(float));
        prepare_activations(m, SITE_QK_IN, m->tokens[t].role, c->act_in + t * m->sites[SITE_QK_IN].token_bytes, f, 0, m->d_padded);
    }
    profile_mark(c->profile, PROFILE_NORMS);
    if (!c->is_private)
        pool_barrier_node(c->w);
}

void lfa_run(const struct context *c, const struct layer *l, size_t layer)
{
    first_filter(c, l, layer);
    forward_exchange(c, buffer_lfa, c->m->n_tokens, 1, c->m->sites[SITE_LFA_MID].token_bytes, columns_lfa, 2 * ACT_COUNT);
    profile_mark(c->profile, PROFILE_EXCHANGE);
    second_filter(c, l, layer);
    forward_exchange_outputs(c);
    filtered_activations(c, l);
}
