/*
 * shares.c - which rows, heads and pages are which node's, and how activations lie at the inputs of matrices.
 */
#include <assert.h>

#include "model/model_internal.h"

void shares_node_weights(const struct model *m, double out[TOPOLOGY_MAX_NODES])
{
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        out[v] = (double)pool_node_workers(m->pool, v);
}

void shares_split(const struct model *m, struct split *s, size_t n_panels, size_t unit_panels)
{
    double weights[TOPOLOGY_MAX_NODES];
    size_t n_nodes = pool_n_nodes(m->pool);

    shares_node_weights(m, weights);
    place_deal((n_panels + unit_panels - 1) / unit_panels, n_nodes, weights, s->start);
    for (size_t v = 0; v <= n_nodes; v++) {
        s->start[v] *= unit_panels;
        if (s->start[v] > n_panels)
            s->start[v] = n_panels;
    }
}

static size_t gcd(size_t a, size_t b)
{
    return b ? gcd(b, a % b) : a;
}

/*
 * Latent attention: whose query heads are whose decides also who computes q, k_b and v_b of them. One KV head for all nodes: its pages are
 * dealt, and queries go to all of them.
 */
static void plan_latent_heads(struct model *m)
{
    const struct model_config *c = &m->config;
    const size_t n_nodes = pool_n_nodes(m->pool), unit_heads = 32 / gcd(32, c->value_dim);
    const size_t q_panels = round_up(c->nope_dim + c->rope.n_dims, PANEL_ROWS) / PANEL_ROWS, k_panels = c->kv_rank / PANEL_ROWS;
    const size_t v_panels = round_up(c->value_dim, PANEL_ROWS) / PANEL_ROWS, q_a_panels = round_up(c->q_rank, PANEL_ROWS) / PANEL_ROWS;
    struct split heads;

    m->pages_dealt = n_nodes > 1;
    m->latent_floats = q_a_panels * PANEL_ROWS + m->head_padded;
    m->head_row_floats = (q_panels > v_panels ? q_panels : v_panels) * PANEL_ROWS;
    shares_split(m, &heads, c->n_heads, unit_heads);
    shares_split(m, &m->q_a_split, q_a_panels, 1);
    shares_split(m, &m->kv_split, m->head_padded / PANEL_ROWS, 1);
    for (size_t v = 0; v <= n_nodes; v++) {
        m->q_split.start[v] = heads.start[v] * q_panels;
        m->k_b_split.start[v] = heads.start[v] * k_panels;
        m->v_b_split.start[v] = heads.start[v] * v_panels;
    }
    for (size_t v = 0; v < n_nodes; v++) {
        struct node_memory *n = &m->nodes[v];

        n->first_q_head = heads.start[v];
        n->n_q_heads = heads.start[v + 1] - heads.start[v];
        n->n_kv_heads = 1;
        n->qkv_floats = c->n_heads * m->head_padded;
    }
}

/*
 * Heads over nodes, so that a node's slice of the attention's output begins and ends at a quantisation block where that can be. With
 * fewer KV heads than nodes every node has all of them for its own pages; the rows of q, k and v are dealt like any others, and whose
 * queries are whose is only a matter of who merges their partials.
 */
static void plan_heads(struct model *m)
{
    const struct model_config *c = &m->config;
    const size_t n_nodes = pool_n_nodes(m->pool), head_panels = m->head_padded / PANEL_ROWS;
    const size_t outputs = m->group * c->head_dim, unit_heads = 32 / gcd(32, outputs), unit_q_heads = 32 / gcd(32, c->head_dim);
    struct split q_heads;

    /* A norm of all heads together needs them in one place, which dealt pages give. */
    m->pages_dealt = c->wide_qk_norm || n_nodes > (c->n_kv_heads + unit_heads - 1) / unit_heads;
    if (m->pages_dealt) {
        m->heads_straddle = c->head_dim % 32 != 0;
        shares_split(m, &q_heads, c->n_heads, unit_q_heads);
        shares_split(m, &m->q_split, c->n_heads * head_panels, 1);
        shares_split(m, &m->kv_split, c->n_kv_heads * head_panels, 1);
    } else {
        m->heads_straddle = outputs % 32 != 0;
        shares_split(m, &m->kv_split, c->n_kv_heads * head_panels, unit_heads * head_panels);
        for (size_t v = 0; v <= n_nodes; v++) {
            m->q_split.start[v] = m->kv_split.start[v] * m->group;
            q_heads.start[v] = m->q_split.start[v] / head_panels;
        }
    }
    for (size_t v = 0; v < n_nodes; v++) {
        struct node_memory *n = &m->nodes[v];

        n->first_q_head = q_heads.start[v];
        n->n_q_heads = q_heads.start[v + 1] - q_heads.start[v];
        n->first_kv_head = m->pages_dealt ? 0 : n->first_q_head / m->group;
        n->n_kv_heads = m->pages_dealt ? c->n_kv_heads : n->n_q_heads / m->group;
        n->qkv_floats = n->n_kv_heads * (m->group + 2) * m->head_padded;
    }
}

uint64_t shares_state_bytes(const struct model *m, size_t node)
{
    return (uint64_t)m->config.n_layers * m->n_state_slots * m->nodes[node].state_floats * sizeof(float);
}

void shares_plan(struct model *m)
{
    const struct model_config *c = &m->config;

    m->group = c->n_heads / c->n_kv_heads;
    m->head_padded = round_up(c->head_dim, 16);
    m->d_padded = round_up(c->d_model, 32);
    m->d_out = round_up(c->d_model, 16);
    m->vocab_padded = round_up(c->vocab_size, 16);
    m->n_segments = (c->vocab_size + VOCAB_SEGMENT - 1) / VOCAB_SEGMENT;
    if (c->kv_rank)
        plan_latent_heads(m);
    else
        plan_heads(m);
    shares_split(m, &m->d_split, m->d_out / PANEL_ROWS, 1);
    shares_split(m, &m->ff_split, round_up(c->d_ff, 32) / PANEL_ROWS, 2);     /* pairs: whole quantisation blocks for ffn_down */
    if (c->filters) {
        shares_split(m, &m->lfa_split, round_up(c->d_model / 2, 32) / PANEL_ROWS, 2);
        for (size_t v = 0; v < pool_n_nodes(m->pool); v++) {
            m->nodes[v].state_floats = PANEL_ROWS * (m->lfa_split.start[v + 1] - m->lfa_split.start[v] + m->d_split.start[v + 1] -
                                                     m->d_split.start[v]);
            m->state_page_bytes += shares_state_bytes(m, v);
        }
    }
    if (c->n_experts) {
        shares_split(m, &m->expert_split, round_up(c->d_ff_expert, 32) / PANEL_ROWS, 2);
        shares_split(m, &m->shared_split, round_up(c->d_ff_shared, 32) / PANEL_ROWS, 2);
        for (size_t v = 0; v <= pool_n_nodes(m->pool); v++)     /* replicated: take_matrix and load_matrix know */
            m->router_split.start[v] = v ? round_up(c->n_experts * (c->attention_router ? 3 : 1), PANEL_ROWS) / PANEL_ROWS : 0;
    }
    shares_split(m, &m->vocab_split, m->vocab_padded / PANEL_ROWS, VOCAB_SEGMENT / PANEL_ROWS);
    m->chunk_bytes = kv_chunk_bytes(m->kv_type, m->head_padded);
    for (size_t i = 0; i < c->n_layers; i++) {
        struct layer *l = &m->layers[i];
        l->kv_kind = c->sliding_window && c->layer_slides[i] ? KV_WINDOW : KV_ALL_SEEN;
        l->kv_index = m->n_kv_layers[l->kv_kind]++;
    }
    for (size_t kind = 0; kind < KV_KINDS; kind++)
        m->kv_page_bytes[kind] = (uint64_t)m->n_kv_layers[kind] * c->n_kv_heads * 2 * m->chunk_bytes;
}

/* Matrix x reads what lies at the site, as int8 in n_terms terms. */
static void add_use(struct model *m, enum site site, struct matrix *x, size_t n_terms)
{
    struct site_layout *s = &m->sites[site];

    for (size_t role = 0; role < ROLE_COUNT; role++) {
        const enum activation kind = x->activation[role];
        s->used[role][kind] = true;
        x->n_terms[role] = kind == ACT_Q8 ? n_terms : 1;
        s->n_terms[role] = x->n_terms[role] > s->n_terms[role] ? x->n_terms[role] : s->n_terms[role];
    }
}

/* From a layout that is all zeros but for `used` and `n_terms`. A token has one role, so the records of both lie in the same place. */
static void lay_out_records(struct site_layout *s)
{
    size_t most_terms = 1;

    for (size_t role = 0; role < ROLE_COUNT; role++) {
        for (size_t kind = 0; kind < ACT_COUNT; kind++) {
            s->offset[role][kind] = s->bytes[role];
            if (s->used[role][kind])
                s->bytes[role] += activation_stride(kind, s->k_padded);
        }
        s->token_bytes = s->n_terms[role] * s->bytes[role] > s->token_bytes ? s->n_terms[role] * s->bytes[role] : s->token_bytes;
        most_terms = s->n_terms[role] > most_terms ? s->n_terms[role] : most_terms;
    }
    /* As activation_stride(): an odd multiple of 64 of each of the most terms. Where there are two, records of one term lie twice that
     * apart and use every other set of the cache. */
    s->token_bytes = ((s->token_bytes + 64 * most_terms - 1) / (64 * most_terms) | 1) * 64 * most_terms;
    for (size_t role = 0; role < ROLE_COUNT && s->n_terms[role]; role++) {      /* a site that nothing uses has none */
        assert(s->n_terms[role] * s->bytes[role] <= s->token_bytes);
        s->bytes[role] = s->token_bytes / s->n_terms[role];
        assert(s->bytes[role] % 64 == 0);
    }
}

void shares_plan_sites(struct model *m)
{
    const struct model_config *c = &m->config;
    const size_t widths[SITE_COUNT] = { [SITE_ATTN_IN] = c->d_model, [SITE_LFA_MID] = c->d_model / 2,
                                        [SITE_QK_IN] = c->d_model, [SITE_LATENT_Q] = c->q_rank,
                                        [SITE_LATENT_KEY] = c->nope_dim, [SITE_LATENT_VALUE] = c->kv_rank,
                                        [SITE_ATTN_OUT] = c->n_heads * c->value_dim,
                                        [SITE_FFN_IN] = c->d_model, [SITE_FFN_MID] = c->d_ff,
                                        [SITE_EXPERT_MID] = c->d_ff_expert, [SITE_SHARED_MID] = c->d_ff_shared,
                                        [SITE_HEAD_IN] = c->d_model };

    for (size_t i = 0; i < c->n_layers; i++) {
        struct layer *l = &m->layers[i];
        if (c->kv_rank) {
            if (c->q_rank)
                add_use(m, SITE_ATTN_IN, &l->q_a, 2);
            add_use(m, SITE_LATENT_KEY, &l->k_b, 2);
            add_use(m, SITE_LATENT_VALUE, &l->v_b, 1);
        }
        add_use(m, c->q_rank ? SITE_LATENT_Q : l->filters ? SITE_QK_IN : SITE_ATTN_IN, &l->q, 2);
        add_use(m, l->filters ? SITE_QK_IN : SITE_ATTN_IN, &l->k, 2);
        for (size_t j = 0; l->filters && j < 2; j++) {
            add_use(m, SITE_ATTN_IN, &l->lfa_first[j], 2);
            add_use(m, SITE_LFA_MID, &l->lfa_second[j], 2);
        }
        if (!c->kv_rank)
            add_use(m, SITE_ATTN_IN, &l->v, 2);
        add_use(m, SITE_ATTN_OUT, &l->o, 1);
        add_use(m, SITE_FFN_IN, &l->gate, 1);
        add_use(m, SITE_FFN_IN, &l->up, 1);
        add_use(m, l->is_moe ? SITE_EXPERT_MID : SITE_FFN_MID, &l->down, 1);
        if (l->is_moe)
            add_use(m, SITE_FFN_IN, &l->router, 1);
        if (l->is_moe && c->d_ff_shared) {
            add_use(m, SITE_FFN_IN, &l->shared_gate, 1);
            add_use(m, SITE_FFN_IN, &l->shared_up, 1);
            add_use(m, SITE_SHARED_MID, &l->shared_down, 1);
        }
    }
    add_use(m, SITE_HEAD_IN, &m->head, 2);
    for (size_t s = 0; s < SITE_COUNT; s++) {
        struct site_layout *site = &m->sites[s];
        site->k_padded = round_up(widths[s], 32);
        lay_out_records(site);
    }
}
