/*
 * mla.c - multi-head latent attention of DeepSeek-V2 and its successors (DeepSeek-AI 2024, arXiv:2405.04434).
 *
 * The cache keeps one latent vector a token for all heads, and the dims of the key that have a position. Keys and values of the heads are
 * products of the latent vector, which are never made: a head's query goes through the transpose of its key matrix instead ("absorbed"),
 * and what attention returns, in latent dims, through its value matrix. So attention has one KV head with very many query heads.
 *
 *   q = Wq norm(Wqa a)        a: the layer's input after its norm; some models have q = Wq a
 *   (c, r) = Wkv a            key: [norm(c), rotated r], value: norm(c)
 *   query of head h: [Wkb[h] q_nope, rotated q_rope]      output of head h: Wvb[h] (attention's, in latent dims)
 *
 * Pairs of rotated dims are neighbours in the file; here they are put (j, j + n / 2), alike in queries and keys. In the pages a value is as
 * long as a key, with zeros at the end.
 *
 *   q_a and kv rows -> exchange -> norms, KV write -> q rows of own heads -> RoPE -> k_b rows -> exchange -> attention -> v_b rows
 */
#include <string.h>

#include "model/forward_internal.h"

static unsigned char *buffer_latent(struct node_memory *n)
{
    return (unsigned char *)n->latent;
}

static unsigned char *buffer_q(struct node_memory *n)
{
    return (unsigned char *)n->q;
}

/* Floats of q_a's outputs, before those of kv. */
static size_t q_a_floats(const struct model *m)
{
    return m->latent_floats - m->head_padded;
}

static void columns_latent(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes)
{
    const struct split *s = kind == 0 ? &m->q_a_split : &m->kv_split;
    (void)role;

    *from = ((kind == 0 ? 0 : q_a_floats(m)) + s->start[node] * PANEL_ROWS) * sizeof(float);
    *bytes = (s->start[node + 1] - s->start[node]) * PANEL_ROWS * sizeof(float);
}

static void columns_q(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes)
{
    (void)role;
    (void)kind;
    *from = m->nodes[node].first_q_head * m->head_padded * sizeof(float);
    *bytes = m->nodes[node].n_q_heads * m->head_padded * sizeof(float);
}

/* q_a and kv of all tokens, on all nodes. */
static void project_latent(const struct context *c, const struct layer *l)
{
    const struct model *m = c->m;
    const size_t n_q_a = own_panels(c, &m->q_a_split), first = m->q_a_split.start[c->w->node];
    size_t begin, end;

    pool_share_node(c->w, n_q_a + own_panels(c, &m->kv_split), &begin, &end);
    if (begin < n_q_a) {
        const size_t to = end < n_q_a ? end : n_q_a;
        forward_multiply(c, &l->q_a, SITE_ATTN_IN, c->act_in, m->n_tokens, begin, to, c->node->latent + (first + begin) * PANEL_ROWS,
                         m->latent_floats);
    }
    if (end > n_q_a) {
        const size_t from = begin > n_q_a ? begin - n_q_a : 0;
        forward_multiply(c, &l->k, SITE_ATTN_IN, c->act_in, m->n_tokens, from, end - n_q_a,
                         c->node->latent + q_a_floats(m) + (m->kv_split.start[c->w->node] + from) * PANEL_ROWS, m->latent_floats);
    }
    profile_mark(c->profile, PROFILE_WEIGHTS);
    forward_exchange(c, buffer_latent, m->n_tokens, 1, m->latent_floats * sizeof(float), columns_latent, 2);
    profile_mark(c->profile, PROFILE_EXCHANGE);
}

/* From pairs (2j, 2j + 1) to (j, j + n / 2), rotated as token t is. */
static void rotate(const struct context *c, float *out, const float *x, size_t t)
{
    const struct model *m = c->m;
    const size_t n_pairs = m->config.rope.n_dims / 2;

    for (size_t j = 0; j < n_pairs; j++) {
        out[j] = x[2 * j];
        out[j + n_pairs] = x[2 * j + 1];
    }
    m->kernels.rope(out, c->node->cos + t * n_pairs, c->node->sin + t * n_pairs, 2 * n_pairs);
}

/* Key and value of token t to its page, where this node keeps it. */
static void store(const struct context *c, const struct layer *l, size_t layer, size_t t)
{
    const struct model *m = c->m;
    const size_t rank = m->config.kv_rank, n_rotated = m->config.rope.n_dims;
    const uint32_t position = m->tokens[t].position;
    const int32_t page = kv_page_table(m->tokens[t].sequence, l->kv_kind)[position / KV_CHUNK];
    const float *latent = c->node->latent + t * m->latent_floats + q_a_floats(m);
    float *key = c->own->tmp, *value = c->own->tmp2;

    if (!kv_keeps(c->node, l->kv_kind, page))
        return;
    m->kernels.rms_norm(key, latent, l->kv_a_norm.copy[c->w->node], m->config.norm_eps, rank);
    memcpy(value, key, rank * sizeof(float));
    memset(value + rank, 0, (m->head_padded - rank) * sizeof(float));
    rotate(c, key + rank, latent + rank, t);
    memset(key + rank + n_rotated, 0, (m->head_padded - rank - n_rotated) * sizeof(float));
    unsigned char *chunk = kv_chunk(m, c->node, page, layer, 0);
    m->kernels.kv_store[m->kv_type](chunk, chunk + m->chunk_bytes, position % KV_CHUNK, key, value, m->head_padded);
}

static void norm_and_store(const struct context *c, const struct layer *l, size_t layer)
{
    const struct model *m = c->m;
    const struct site_layout *s = &m->sites[SITE_LATENT_Q];
    const size_t rank = m->config.q_rank;
    size_t begin, end;

    pool_share_node(c->w, m->n_tokens, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        store(c, l, layer, t);
        if (!rank)
            continue;
        m->kernels.rms_norm(c->own->tmp, c->node->latent + t * m->latent_floats, l->q_a_norm.copy[c->w->node], m->config.norm_eps, rank);
        memset(c->own->tmp + rank, 0, (s->k_padded - rank) * sizeof(float));
        prepare_activations(m, SITE_LATENT_Q, m->tokens[t].role, c->node->act_latent_q + t * s->token_bytes, c->own->tmp, 0, s->k_padded);
    }
    profile_mark(c->profile, PROFILE_ROPE);
    pool_barrier_node(c->w);
}

/*
 * Rows of this node's heads, each head's padded to whole panels: to y, of which a head has head_floats and a token `stride`. A head's
 * records lie `record_bytes` behind those of the head before.
 */
static void multiply_heads(const struct context *c, const struct matrix *x, const struct split *split, enum site site,
                           const unsigned char *records, size_t record_bytes, float *y, size_t head_floats, size_t stride)
{
    const size_t n_heads = c->node->n_q_heads, per_head = n_heads ? own_panels(c, split) / n_heads : 0;
    size_t begin, end;

    pool_share_node(c->w, n_heads * per_head, &begin, &end);
    for (size_t p = begin, to; p < end; p = to) {
        const size_t head = p / per_head, first = head * per_head;
        to = first + per_head < end ? first + per_head : end;
        forward_multiply(c, x, site, records + head * record_bytes, c->m->n_tokens, p, to,
                         y + head * head_floats + (p - first) * PANEL_ROWS, stride);
    }
    profile_mark(c->profile, PROFILE_WEIGHTS);
}

/* q, to head_rows: all heads from the same records. */
static void project_q(const struct context *c, const struct layer *l)
{
    const struct model *m = c->m;

    multiply_heads(c, &l->q, &m->q_split, m->config.q_rank ? SITE_LATENT_Q : SITE_ATTN_IN,
                   m->config.q_rank ? c->node->act_latent_q : c->act_in, 0, c->node->head_rows, m->head_row_floats,
                   c->node->n_q_heads * m->head_row_floats);
    pool_barrier_node(c->w);
}

/* Of each token and head of this node: the rotated dims to the end of the query, the others to records of k_b. */
static void split_queries(const struct context *c)
{
    const struct model *m = c->m;
    const struct site_layout *s = &m->sites[SITE_LATENT_KEY];
    const size_t n_heads = c->node->n_q_heads, n = m->n_tokens, nope = m->config.nope_dim, rank = m->config.kv_rank;
    const size_t n_rotated = m->config.rope.n_dims;
    size_t begin, end;

    pool_share_node(c->w, n_heads * n, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const size_t head = i / n, t = i % n;
        const float *x = c->node->head_rows + (t * n_heads + head) * m->head_row_floats;
        float *query = c->node->q + t * c->node->qkv_floats + (c->node->first_q_head + head) * m->head_padded;
        rotate(c, query + rank, x + nope, t);
        memset(query + rank + n_rotated, 0, (m->head_padded - rank - n_rotated) * sizeof(float));
        memcpy(c->own->tmp, x, nope * sizeof(float));
        memset(c->own->tmp + nope, 0, (s->k_padded - nope) * sizeof(float));
        prepare_activations(m, SITE_LATENT_KEY, m->tokens[t].role, c->node->act_heads + i * s->token_bytes, c->own->tmp, 0, s->k_padded);
    }
    profile_mark(c->profile, PROFILE_ROPE);
    pool_barrier_node(c->w);
}

void mla_project(const struct context *c, const struct layer *l, size_t layer)
{
    const struct model *m = c->m;

    project_latent(c, l);
    norm_and_store(c, l, layer);
    project_q(c, l);
    split_queries(c);
    multiply_heads(c, &l->k_b, &m->k_b_split, SITE_LATENT_KEY, c->node->act_heads, m->n_tokens * m->sites[SITE_LATENT_KEY].token_bytes,
                   c->node->q + c->node->first_q_head * m->head_padded, m->head_padded, c->node->qkv_floats);
    forward_exchange(c, buffer_q, m->n_tokens, 1, c->node->qkv_floats * sizeof(float), columns_q, 1);
    profile_mark(c->profile, PROFILE_EXCHANGE);
}

void mla_finish(const struct context *c, const struct layer *l)
{
    const struct model *m = c->m;
    const struct site_layout *s = &m->sites[SITE_ATTN_OUT];
    const size_t n_heads = c->node->n_q_heads, dim = m->config.value_dim;
    const size_t from = forward_attn_channel(m, c->w->node), to = forward_attn_channel(m, c->w->node + 1);
    float *channels = c->own->tmp;
    size_t begin, end;

    pool_barrier_node(c->w);
    multiply_heads(c, &l->v_b, &m->v_b_split, SITE_LATENT_VALUE, c->node->act_heads, m->n_tokens * m->sites[SITE_LATENT_VALUE].token_bytes,
                   c->node->head_rows, m->head_row_floats, n_heads * m->head_row_floats);
    pool_barrier_node(c->w);
    pool_share_node(c->w, m->n_tokens, &begin, &end);
    for (size_t t = begin; t < end && from < to; t++) {
        for (size_t head = 0; head < n_heads; head++)
            memcpy(channels + head * dim, c->node->head_rows + (t * n_heads + head) * m->head_row_floats, dim * sizeof(float));
        memset(channels + n_heads * dim, 0, (to - from - n_heads * dim) * sizeof(float));
        prepare_activations(m, SITE_ATTN_OUT, m->tokens[t].role, c->node->act_attn + t * s->token_bytes, channels, from, to);
    }
}
