/*
 * experts.c - the feed-forward of a layer that is a mixture of experts (Shazeer et al., ICLR 2017, arXiv:1701.06538).
 *
 * Every expert's rows are dealt over all nodes, like those of any other matrix: whichever experts a token goes to, all memories read their
 * part of them. Each node has the router and routes for itself, in float32. A token's outputs are summed in the order of its experts' rank,
 * equal scores in the order of their numbers: neither other tokens nor where rows lie can change that.
 *
 *   router rows -> softmax or sigmoid, the best k -> pairs (token, rank) sorted by expert -> gate and up rows -> exchange
 *   -> down rows, summed -> exchange
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/forward_internal.h"

enum { USE_WINDOW = 1024 };     /* tokens of an expert, on average, that make up "of late": a count of chance is then right within 5 % */

static size_t n_used(const struct context *c)
{
    return c->m->config.n_experts_used;
}

/* The k largest of x[n], the largest first, ties to the lower number. */
static void find_best(const float *x, size_t n, size_t k, uint32_t *best)
{
    for (size_t i = 0, held = 0; i < n; i++) {
        size_t at = held;
        while (at && x[i] > x[best[at - 1]])
            at--;
        if (at == k)
            continue;
        held += held < k;
        for (size_t j = held - 1; j > at; j--)
            best[j] = best[j - 1];
        best[at] = (uint32_t)i;
    }
}

/* From logits to scores: softmax, but for its denominator, which is returned; or the sigmoid of each, and 1. */
static float score(enum expert_gating gating, float *x, size_t n)
{
    float most = x[0], sum = 0;

    if (gating == GATING_SIGMOID) {
        for (size_t i = 0; i < n; i++)
            x[i] = 1 / (1 + kernels_expf(-x[i]));
        return 1;
    }
    for (size_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; i++) {
        x[i] = kernels_expf(x[i] - most);
        sum += x[i];
    }
    return sum;
}

/*
 * Experts of groups that are not among the best count no more (DeepSeek-V2 and V3, arXiv:2405.04434, 2412.19437): a group is as good as its
 * two best experts together, or, with softmax, its best one.
 */
static void keep_best_groups(const struct model_config *c, float *choices)
{
    const size_t n = c->n_expert_groups, size = c->n_experts / n;
    float groups[MODEL_MAX_EXPERT_GROUPS] = { 0 };
    uint32_t best[MODEL_MAX_EXPERT_GROUPS];

    for (size_t g = 0; g < n; g++) {
        uint32_t two[2];
        find_best(choices + g * size, size, 2, two);
        groups[g] = choices[g * size + two[0]];
        if (c->gating == GATING_SIGMOID)
            groups[g] += choices[g * size + two[1]];
    }
    find_best(groups, n, n, best);
    for (size_t i = c->n_expert_groups_used; i < n; i++)
        for (size_t j = 0; j < size; j++)
            choices[best[i] * size + j] = -INFINITY;
}

/* The experts of a token, and their weights, from its row of the router, which is used up. bias: for the choice alone; or NULL. */
static void pick(const struct model_config *c, float *scores, const float *bias, float *choices, uint32_t *expert, float *weight)
{
    const size_t n = c->n_experts, k = c->n_experts_used;
    const float denominator = score(c->gating, scores, n);
    float sum = 0;

    for (size_t i = 0; i < n; i++)
        choices[i] = bias ? scores[i] + bias[i] : scores[i];
    if (c->n_expert_groups)
        keep_best_groups(c, choices);
    find_best(choices, n, k, expert);
    for (size_t i = 0; i < k; i++) {
        weight[i] = scores[expert[i]];
        sum += weight[i];
    }
    if (!c->expert_weights_norm)
        sum = denominator;
    else if (c->gating == GATING_SIGMOID)
        sum += 1e-20f;
    for (size_t i = 0; i < k; i++)
        weight[i] = weight[i] / sum * c->expert_weights_scale;
}

/*
 * The router of Yuan2-M32 (Wu et al. 2024, arXiv:2405.17976): three products q, k, v of each expert, and what attention among the experts
 * makes of them: logit i = sum over j of softmax over j (q_i k_j) v_j. In place of the first n of products[3 n].
 */
static void attend_experts(float *products, size_t n)
{
    const float *k = products + n, *v = products + 2 * n;
    float least = k[0], most = k[0];

    for (size_t j = 1; j < n; j++) {
        least = k[j] < least ? k[j] : least;
        most = k[j] > most ? k[j] : most;
    }
    for (size_t i = 0; i < n; i++) {
        const float q = products[i], highest = q * (q >= 0 ? most : least);
        float sum = 0, logit = 0;
        for (size_t j = 0; j < n; j++) {
            const float p = kernels_expf(q * k[j] - highest);
            sum += p;
            logit += p * v[j];
        }
        products[i] = logit / sum;
    }
}

/* The role as far as it counts. */
static enum token_role part_of(const struct context *c, size_t token)
{
    return c->m->experts_differ ? c->m->tokens[token].role : ROLE_PROMPT;
}

/*
 * Pairs of each part, an expert's together, in the order of tokens (counting sort). Returns how many experts have any. `use`: counts them,
 * too; or NULL.
 */
static size_t sort_pairs(const struct context *c, struct routing *r, struct expert_use *use)
{
    const size_t n_experts = c->m->config.n_experts, n_pairs = c->m->n_tokens * n_used(c);
    size_t at = 0, n_active = 0;

    r->n_pairs[ROLE_GENERATED] = 0;         /* unless the roles differ */
    for (enum token_role part = 0; part < ROLE_COUNT && at < n_pairs; part++) {
        const size_t first = at;
        memset(r->n_of, 0, (n_experts + 1) * sizeof(*r->n_of));
        for (size_t p = 0; p < n_pairs; p++)
            r->n_of[r->expert[p] + 1] += part_of(c, p / n_used(c)) == part;
        for (size_t e = 0; e < n_experts; e++) {
            n_active += r->n_of[e + 1] != 0;
            if (use)
                use->n_of[e] += r->n_of[e + 1];
            r->n_of[e + 1] += r->n_of[e];
        }
        at += r->n_of[n_experts];
        for (size_t p = 0; p < n_pairs; p++) {
            const uint32_t expert = r->expert[p], token = (uint32_t)(p / n_used(c));
            if (part_of(c, token) != part)
                continue;
            const uint32_t place = (uint32_t)first + r->n_of[expert]++;
            r->by_token[place] = (struct expert_pair){ .expert = expert, .token = token };
            r->by_record[place] = (struct expert_pair){ .expert = expert, .token = (uint32_t)p };
            r->place[p] = place;
        }
        r->n_pairs[part] = at - first;
    }
    if (use)
        use->n_pairs += n_pairs;
    return n_active;
}

/* What was counted long ago counts half as much, again and again. */
static void forget(struct expert_use *use, size_t n_experts)
{
    if (use->n_pairs <= USE_WINDOW * n_experts)
        return;
    use->n_pairs = 0;
    for (size_t e = 0; e < n_experts; e++)
        use->n_pairs += use->n_of[e] /= 2;
}

/* From the router's rows to sorted pairs. With few tokens each worker does it for itself: that is shorter than waiting for another. */
static struct routing *route(const struct context *c, const struct layer *l)
{
    const struct model_config *config = &c->m->config;
    struct routing *r = c->is_private ? &c->own->routing : &c->node->routing;
    const size_t stride = l->router.n_panels * PANEL_ROWS;
    struct expert_use *use = c->w->index == 0 ? l->use : NULL;      /* every node counts the same */
    size_t begin, end, n_active = 0;

    pool_share_node(c->w, l->router.n_panels, &begin, &end);
    forward_multiply(c, &l->router, SITE_FFN_IN, c->act_in, c->m->n_tokens, begin, end, c->node->router + begin * PANEL_ROWS, stride);
    profile_mark(c->profile, PROFILE_WEIGHTS);
    pool_barrier_node(c->w);
    for (size_t t = c->begin; t < c->end; t++) {
        memcpy(c->own->scores, c->node->router + t * stride, stride * sizeof(float));
        if (l->router_logit_bias.tensor)
            c->m->kernels.add(c->own->scores, l->router_logit_bias.copy[c->w->node], config->n_experts);
        if (config->attention_router)
            attend_experts(c->own->scores, config->n_experts);
        pick(config, c->own->scores, l->router_bias.tensor ? l->router_bias.copy[c->w->node] : NULL, c->own->choices,
             r->expert + t * n_used(c), r->weight + t * n_used(c));
    }
    if (c->is_private) {
        n_active = sort_pairs(c, r, use);
    } else {
        pool_barrier_node(c->w);
        if (c->w->index_in_node == 0)
            n_active = sort_pairs(c, r, use);
        pool_barrier_node(c->w);
    }
    if (use) {
        c->m->expert_bytes += n_active * l->expert_bytes;
        c->m->n_experts_read += n_active;
        forget(use, config->n_experts);
    }
    profile_mark(c->profile, PROFILE_NORMS);
    return r;
}

/* Panel `panel`, of this node, of each expert that a pair names. */
static const void *const *panels_of(const struct context *c, const struct matrix *x, const struct expert_pair *pairs, size_t n,
                                    size_t panel)
{
    const size_t stride = own_panels(c, x->split) * x->panel_bytes;

    for (size_t i = 0; i < n; i++)
        c->own->experts[pairs[i].expert] = x->panels[c->w->node] + pairs[i].expert * stride + panel * x->panel_bytes;
    return c->own->experts;
}

/* Panels [begin, end) of the experts of pairs[n], all of one part; rows of y in the order of the pairs. */
static void multiply_pairs(const struct context *c, const struct matrix *x, enum site site, enum token_role role,
                           const unsigned char *records, const struct expert_pair *pairs, size_t n, size_t begin, size_t end, float *y)
{
    const struct site_layout *s = &c->m->sites[site];
    const struct experts_args args = {
        .w = panels_of(c, x, pairs, n, begin), .pairs = pairs, .n_pairs = n, .x = records + s->offset[role][x->activation[role]],
        .x_stride = s->token_bytes, .x_bytes = activation_bytes(x->activation[role], x->k_padded), .y = y,
        .y_stride = (end - begin) * PANEL_ROWS, .n_panels = end - begin, .k = x->k_padded, .scratch = c->own->matmul_scratch,
        .prepared = x->prepared, .rows = c->own->expert_rows, .n_rows = EXPERT_ROWS,
    };

    assert(x->n_terms[role] == 1);
    kernels_multiply_experts(x->multiply[role], &args);
}

/*
 * What makes (u + 1) g sigmoid(1.702 g), with g at most 7 and u within 7 of zero, of silu(g) u: g times 1.702, and (u + 1) / 1.702. The
 * numbers are gpt-oss's.
 */
static void clamp(float *g, float *u, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g[i] = 1.702f * (g[i] > 7 ? 7 : g[i]);
        u[i] = ((u[i] < -7 ? -7 : u[i] > 7 ? 7 : u[i]) + 1) / 1.702f;
    }
}

/* Panels [begin, end) of gate and up of one expert, for pairs [from, from + n) of the order, into their records. */
static void gate_and_up(const struct context *c, const struct layer *l, const struct routing *r, enum token_role part, size_t from,
                        size_t n, size_t begin, size_t end)
{
    const struct model *m = c->m;
    const size_t first = m->expert_split.start[c->w->node], token_bytes = m->sites[SITE_EXPERT_MID].token_bytes;
    const size_t step = TILE_FLOATS / n / 32 * 2;

    for (size_t p = begin; p < end; p += step) {
        const size_t to = p + step < end ? p + step : end, rows = (to - p) * PANEL_ROWS;
        multiply_pairs(c, &l->gate, SITE_FFN_IN, part, c->act_in, r->by_token + from, n, p, to, c->own->tile);
        multiply_pairs(c, &l->up, SITE_FFN_IN, part, c->act_in, r->by_token + from, n, p, to, c->own->tile2);
        profile_mark(c->profile, PROFILE_WEIGHTS);
        for (size_t i = 0; i < n; i++) {
            const struct expert_pair *pair = &r->by_record[from + i];
            float *gate = c->own->tile + i * rows;
            float *up = c->own->tile2 + i * rows;
            if (l->gate_bias.tensor) {
                forward_add_bias(c, gate, &l->gate_bias, pair->expert, (first + p) * PANEL_ROWS, rows, m->config.d_ff_expert);
                forward_add_bias(c, up, &l->up_bias, pair->expert, (first + p) * PANEL_ROWS, rows, m->config.d_ff_expert);
            }
            if (m->config.ffn_activation == FFN_CLAMPED)
                clamp(gate, up, rows);
            m->kernels.silu_mul(gate, up, rows);
            prepare_activations(m, SITE_EXPERT_MID, m->tokens[r->by_token[from + i].token].role,
                                c->node->act_expert + pair->token * token_bytes, gate, (first + p) * PANEL_ROWS, (first + to) * PANEL_ROWS);
        }
        profile_mark(c->profile, PROFILE_NORMS);
    }
}

/* Pairs of panels of all experts that have tokens are shared out among the node's workers, an expert's to as few as can be. */
static void run_gate_and_up(const struct context *c, const struct layer *l, const struct routing *r)
{
    const size_t n_units = own_panels(c, &c->m->expert_split) / 2, n_all = r->n_pairs[0] + r->n_pairs[1];
    size_t begin, end, n_runs = 0, run = 0;

    for (size_t i = 0; i < n_all; i++)
        n_runs += i == 0 || i == r->n_pairs[0] || r->by_token[i].expert != r->by_token[i - 1].expert;
    pool_share_node(c->w, n_runs * n_units, &begin, &end);
    for (size_t i = 0, n; i < n_all; i += n, run++) {
        const enum token_role part = i < r->n_pairs[0] ? 0 : 1;
        const size_t last = part == 0 ? r->n_pairs[0] : n_all;
        for (n = 1; i + n < last && r->by_token[i + n].expert == r->by_token[i].expert; n++)
            ;
        const size_t from = begin > run * n_units ? begin - run * n_units : 0, left = end > run * n_units ? end - run * n_units : 0;
        const size_t to = left < n_units ? left : n_units;
        if (from < to)
            gate_and_up(c, l, r, part, i, n, 2 * from, 2 * to);
    }
}

static unsigned char *buffer_expert(struct node_memory *n)
{
    return n->act_expert;
}

static unsigned char *buffer_shared(struct node_memory *n)
{
    return n->act_shared;
}

static void columns_expert(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes)
{
    forward_record_columns(m, SITE_EXPERT_MID, role, kind, m->expert_split.start[node] * PANEL_ROWS,
                           m->expert_split.start[node + 1] * PANEL_ROWS, from, bytes);
}

static void columns_shared(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes)
{
    forward_record_columns(m, SITE_SHARED_MID, role, kind, m->shared_split.start[node] * PANEL_ROWS,
                           m->shared_split.start[node + 1] * PANEL_ROWS, from, bytes);
}

/* What gate and up gave, of all experts, to all nodes. */
static void exchange_activations(const struct context *c)
{
    const struct model *m = c->m;

    pool_barrier_all(c->w);
    if (c->w->n_nodes == 1)
        return;
    forward_copy(c, buffer_expert, m->n_tokens * n_used(c), n_used(c), m->sites[SITE_EXPERT_MID].token_bytes, columns_expert, ACT_COUNT);
    if (m->config.d_ff_shared)
        forward_copy(c, buffer_shared, m->n_tokens, 1, m->sites[SITE_SHARED_MID].token_bytes, columns_shared, ACT_COUNT);
    pool_barrier_node(c->w);
    profile_mark(c->profile, PROFILE_EXCHANGE);
}

/* y of panels [p, to): the experts' outputs, weighted, in the order of their ranks; then the shared one's. */
static void sum_outputs(const struct context *c, const struct layer *l, const struct routing *r, size_t p, size_t to)
{
    const struct model *m = c->m;
    const size_t rows = (to - p) * PANEL_ROWS, first = m->d_split.start[c->w->node];
    float *tile = c->own->pair_tile;
    float *y = c->node->y + (first + p) * PANEL_ROWS;

    if (m->config.d_ff_shared)
        forward_multiply(c, &l->shared_down, SITE_SHARED_MID, c->node->act_shared, m->n_tokens, p, to, c->own->tile, rows);
    profile_mark(c->profile, PROFILE_WEIGHTS);
    for (size_t t = 0; t < m->n_tokens; t++, y += m->d_out) {
        memset(y, 0, rows * sizeof(*y));
        for (size_t i = t * n_used(c); i < (t + 1) * n_used(c); i++) {
            float *out = tile + r->place[i] * rows;
            const float weight = r->weight[i];
            if (l->down_bias.tensor)
                forward_add_bias(c, out, &l->down_bias, r->expert[i], (first + p) * PANEL_ROWS, rows, m->config.d_model);
            for (size_t j = 0; j < rows; j++)
                y[j] += weight * out[j];
        }
        if (m->config.d_ff_shared)
            m->kernels.add(y, c->own->tile + t * rows, rows);
    }
    profile_mark(c->profile, PROFILE_NORMS);
}

/* Rows of down that belong to this worker, of all pairs, and their sums. */
static void run_down(const struct context *c, const struct layer *l, const struct routing *r)
{
    const struct model *m = c->m;
    const size_t n_all = m->n_tokens * n_used(c), step = TILE_FLOATS / (n_all * PANEL_ROWS) ? TILE_FLOATS / (n_all * PANEL_ROWS) : 1;
    float *tile = c->own->pair_tile;            /* has room for one panel of all pairs of the largest step */
    size_t begin, end;

    pool_share_node(c->w, own_panels(c, &m->d_split), &begin, &end);
    for (size_t p = begin; p < end; p += step) {
        const size_t to = p + step < end ? p + step : end, rows = (to - p) * PANEL_ROWS;
        multiply_pairs(c, &l->down, SITE_EXPERT_MID, 0, c->node->act_expert, r->by_record, r->n_pairs[0], p, to, tile);
        multiply_pairs(c, &l->down, SITE_EXPERT_MID, 1, c->node->act_expert, r->by_record + r->n_pairs[0], r->n_pairs[1], p, to,
                       tile + r->n_pairs[0] * rows);
        sum_outputs(c, l, r, p, to);
    }
}

void experts_run(const struct context *c, const struct layer *l)
{
    const struct routing *r = route(c, l);

    run_gate_and_up(c, l, r);
    if (c->m->config.d_ff_shared)
        forward_gate_and_up(c, &l->shared_gate, &l->shared_up, &c->m->shared_split, SITE_SHARED_MID, c->node->act_shared);
    exchange_activations(c);
    run_down(c, l, r);
    forward_exchange_outputs(c);
}
