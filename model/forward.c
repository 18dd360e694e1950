/*
 * forward.c - one step: every worker goes through all layers, with barriers where it needs what others wrote.
 *
 * Each node keeps its own copy of the residual stream and of all activations. A worker writes its slice of a result (the outputs
 * of its rows) into its node's buffer; after the barrier of all nodes each node copies the others' slices, its workers sharing that work,
 * and goes on with local memory. Norms and quantisation are repeated on each node rather than sent.
 *
 *   per layer      per-token pass -> q, k, v rows -> RoPE, KV write -> attention -> exchange -> o rows -> exchange
 *                  per-token pass -> gate and up rows -> exchange -> down rows -> exchange
 */
#include "model/forward.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/forward_internal.h"

void prepare_activations(const struct model *m, enum site site, enum token_role role, unsigned char *record, float *x, size_t begin,
                         size_t end)
{
    const struct site_layout *s = &m->sites[site];
    const bool *used = s->used[role];
    const size_t *offset = s->offset[role], n = end - begin;

    if (used[ACT_BF16])
        m->kernels.round_bf16((bf16 *)(record + offset[ACT_BF16]) + begin, x, n);
    if (used[ACT_F32]) {
        float *out = (float *)(record + offset[ACT_F32]) + begin;
        if (m->activations == ACTIVATIONS_BF16)
            for (size_t i = 0; i < n; i++)
                out[i] = bf16_to_float(bf16_from_float(x[i]));
        else
            memcpy(out, x, n * sizeof(float));
    }
    if (used[ACT_Q8]) {
        struct q8_block *q = (struct q8_block *)(record + offset[ACT_Q8]) + begin / 32;
        m->kernels.quantize_q8(q, x, n);
        if (s->n_terms[role] == 2) {
            m->kernels.subtract_q8(x, q, n);
            m->kernels.quantize_q8((struct q8_block *)((unsigned char *)q + s->bytes[role]), x, n);
        }
    }
}

static float *row(const struct context *c, size_t token)
{
    return c->x + token * c->m->d_padded;
}

static void barrier_unless_private(const struct context *c)
{
    if (!c->is_private)
        pool_barrier_node(c->w);
}

static enum token_role role_at(const struct model *m, enum site site, size_t token)
{
    return m->tokens[site == SITE_HEAD_IN ? m->logit_tokens[token] : token].role;
}

/*
 * Panels [begin, end) of the matrix, counted from the first of this node, with the records of n tokens of one role. Output columns begin at
 * y, which stands for panel `begin`. Two terms go through the matrix as two tokens; their products are added.
 */
static void multiply_role(const struct context *c, const struct matrix *x, enum site site, enum token_role role,
                          const unsigned char *records, size_t n, size_t begin, size_t end, float *y, size_t y_stride)
{
    const struct site_layout *s = &c->m->sites[site];
    const size_t n_terms = x->n_terms[role];
    struct matmul_args args = {
        .w = x->panels[c->w->node] + begin * x->panel_bytes, .x = records + s->offset[role][x->activation[role]],
        .x_stride = s->token_bytes / n_terms, .y = y, .y_stride = y_stride, .m = n * n_terms, .n_panels = end - begin, .k = x->k_padded,
        .scratch = c->own->matmul_scratch, .prepared = x->prepared,
    };

    if (n_terms == 1) {
        x->multiply[role](&args);
        return;
    }
    const size_t step = TILE_FLOATS / (2 * n) / PANEL_ROWS;
    for (size_t p = begin; p < end; p += step, y += step * PANEL_ROWS) {
        size_t to = p + step < end ? p + step : end, rows = (to - p) * PANEL_ROWS;
        args.w = x->panels[c->w->node] + p * x->panel_bytes;
        args.n_panels = to - p;
        args.y = c->own->tile;
        args.y_stride = rows;
        x->multiply[role](&args);
        for (size_t t = 0; t < n; t++) {
            float *sum = c->own->tile + 2 * t * rows;
            c->m->kernels.add(sum, sum + rows, rows);
            memcpy(y + t * y_stride, sum, rows * sizeof(float));
        }
    }
}

/* Whether prompt and generated tokens meet the matrix differently: another product, or activations that lie elsewhere. */
bool forward_roles_differ(const struct model *m, const struct matrix *x, enum site site)
{
    const struct site_layout *s = &m->sites[site];
    const enum activation prompt = x->activation[ROLE_PROMPT], generated = x->activation[ROLE_GENERATED];

    return x->multiply[ROLE_PROMPT] != x->multiply[ROLE_GENERATED] || prompt != generated ||
           s->offset[ROLE_PROMPT][prompt] != s->offset[ROLE_GENERATED][generated];
}

void forward_multiply(const struct context *c, const struct matrix *x, enum site site, const unsigned char *records, size_t n_tokens,
                      size_t begin, size_t end, float *y, size_t y_stride)
{
    const bool differ = forward_roles_differ(c->m, x, site);

    for (size_t t = 0, run; begin < end && t < n_tokens; t += run) {
        const enum token_role role = role_at(c->m, site, t);
        run = differ ? 1 : n_tokens;
        while (t + run < n_tokens && role_at(c->m, site, t + run) == role)
            run++;
        multiply_role(c, x, site, role, records + t * c->m->sites[site].token_bytes, run, begin, end, y + t * y_stride, y_stride);
    }
}

void forward_copy(const struct context *c, unsigned char *(*buffer)(struct node_memory *), size_t n, size_t n_per_token, size_t stride,
                  forward_columns columns, size_t n_kinds)
{
    const struct model *m = c->m;
    size_t begin, end;

    pool_share_node(c->w, n * c->w->n_nodes, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const size_t row = i / c->w->n_nodes, node = i % c->w->n_nodes;
        if (node == c->w->node)
            continue;
        for (size_t kind = 0; kind < n_kinds; kind++) {
            size_t from, bytes;
            columns(m, node, m->tokens[row / n_per_token].role, kind, &from, &bytes);
            if (bytes)
                memcpy(buffer(c->node) + row * stride + from, buffer(&c->m->nodes[node]) + row * stride + from, bytes);
        }
    }
}

void forward_exchange(const struct context *c, unsigned char *(*buffer)(struct node_memory *), size_t n, size_t n_per_token, size_t stride,
                      forward_columns columns, size_t n_kinds)
{
    pool_barrier_all(c->w);
    if (c->w->n_nodes == 1)
        return;
    forward_copy(c, buffer, n, n_per_token, stride, columns, n_kinds);
    pool_barrier_node(c->w);
}

static unsigned char *buffer_y(struct node_memory *n) { return (unsigned char *)n->y; }
static unsigned char *buffer_attn(struct node_memory *n) { return n->act_attn; }
static unsigned char *buffer_mid(struct node_memory *n) { return n->act_mid; }

static void columns_y(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes)
{
    (void)role;
    (void)kind;
    *from = m->d_split.start[node] * PANEL_ROWS * sizeof(float);
    *bytes = (m->d_split.start[node + 1] - m->d_split.start[node]) * PANEL_ROWS * sizeof(float);
}

/* The last node's part includes the zeros that pad. */
void forward_record_columns(const struct model *m, enum site site, enum token_role role, size_t kind, size_t begin, size_t end,
                            size_t *from, size_t *bytes)
{
    const struct site_layout *s = &m->sites[site];

    *from = *bytes = 0;
    if (!s->used[role][kind] || begin == end)
        return;
    *from = s->offset[role][kind] + activation_bytes(kind, begin);
    *bytes = activation_bytes(kind, end - begin);
}

size_t forward_attn_channel(const struct model *m, size_t node)
{
    size_t head = node < pool_n_nodes(m->pool) ? m->nodes[node].first_q_head : m->config.n_heads;
    return head == m->config.n_heads ? m->sites[SITE_ATTN_OUT].k_padded : head * m->config.value_dim;
}

static void columns_attn(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes)
{
    forward_record_columns(m, SITE_ATTN_OUT, role, kind, forward_attn_channel(m, node), forward_attn_channel(m, node + 1), from, bytes);
}

static void columns_mid(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes)
{
    forward_record_columns(m, SITE_FFN_MID, role, kind, m->ff_split.start[node] * PANEL_ROWS, m->ff_split.start[node + 1] * PANEL_ROWS,
                           from, bytes);
}

static void embed(const struct context *c)
{
    const struct model *m = c->m;
    const struct matrix *e = m->embedding.tensor ? &m->embedding : &m->head;

    for (size_t t = c->begin; t < c->end; t++) {
        size_t id = (size_t)m->tokens[t].id, panel = id / PANEL_ROWS, node = 0;
        while (panel >= e->split->start[node + 1])
            node++;
        panel_unpack_row(e->type, e->panels[node] + (panel - e->split->start[node]) * e->panel_bytes, id % PANEL_ROWS, e->k_padded,
                         row(c, t));
        if (m->config.embedding_scale != 1)
            m->kernels.scale(row(c, t), m->config.embedding_scale, m->config.d_model);
    }
}

static void fill_rope(const struct context *c)
{
    const struct model *m = c->m;
    const size_t n = m->rope.n_pairs, n_sliding = m->rope_sliding.n_pairs;
    size_t begin, end;

    pool_share_node(c->w, m->n_tokens, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        const struct step_token *token = &m->tokens[t];
        rope_fill(&m->rope, token->position, token->rope_length, c->node->cos + t * n, c->node->sin + t * n);
        if (m->config.sliding_window)
            rope_fill(&m->rope_sliding, token->position, token->rope_length, c->node->cos + (m->max_step_tokens + t) * n_sliding,
                      c->node->sin + (m->max_step_tokens + t) * n_sliding);
    }
}

/* x += post_norm(y) for the outputs of the block before, if there was one. */
static void add_outputs(const struct context *c, size_t token, const struct norm *post)
{
    const struct model *m = c->m;
    const float *y = c->node->y + token * m->d_out;

    if (post->tensor) {
        m->kernels.rms_norm(c->own->tmp2, y, post->copy[c->w->node], m->config.norm_eps, m->config.d_model);
        y = c->own->tmp2;
    }
    m->kernels.add(row(c, token), y, m->config.d_model);
}

/* The normed vector of `token`, d_padded floats in c->own->tmp. */
static const float *norm_token(const struct context *c, size_t token, const struct norm *norm)
{
    const struct model *m = c->m;
    float *tmp = c->own->tmp;

    m->kernels.rms_norm(tmp, row(c, token), norm->copy[c->w->node], m->config.norm_eps, m->config.d_model);
    memset(tmp + m->config.d_model, 0, (m->d_padded - m->config.d_model) * sizeof(float));
    return tmp;
}

/* The record of `token` at the next matrices: what norm_token() left, in their kinds of activations. It is used up. */
static void record_token(const struct context *c, size_t token, enum site site, unsigned char *record)
{
    prepare_activations(c->m, site, c->m->tokens[token].role, record, c->own->tmp, 0, c->m->d_padded);
}

static void token_pass(const struct context *c, const struct norm *post, const struct norm *norm, enum site site)
{
    for (size_t t = c->begin; t < c->end; t++) {
        if (post)
            add_outputs(c, t, post);
        norm_token(c, t, norm);
        record_token(c, t, site, c->act_in + t * c->m->sites[site].token_bytes);
    }
    profile_mark(c->profile, PROFILE_NORMS);
    barrier_unless_private(c);
}

/* Where pages are dealt: the first column, in a row of all heads, of what a node computes of q, k or v (part 0, 1, 2). */
static size_t qkv_column(const struct model *m, size_t node, size_t part)
{
    const size_t heads_before = part == 0 ? 0 : m->config.n_heads + (part - 1) * m->config.n_kv_heads;
    return heads_before * m->head_padded + (part == 0 ? &m->q_split : &m->kv_split)->start[node] * PANEL_ROWS;
}

/* From what each node computed to rows of all heads on every node. Not exchange(): these rows are rotated in place, while another node
 * may still read what this one has sent. */
static void gather_qkv(const struct context *c)
{
    const struct model *m = c->m;
    const size_t stride = c->node->qkv_floats;
    size_t begin, end;

    pool_barrier_all(c->w);
    pool_share_node(c->w, m->n_tokens * c->w->n_nodes, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const size_t token = i / c->w->n_nodes, node = i % c->w->n_nodes;
        for (size_t part = 0; part < 3; part++) {
            const struct split *s = part == 0 ? &m->q_split : &m->kv_split;
            const size_t at = token * stride + qkv_column(m, node, part);
            memcpy(c->node->q + at, m->nodes[node].sent_qkv + at,
                   (s->start[node + 1] - s->start[node]) * PANEL_ROWS * sizeof(float));
        }
    }
    pool_barrier_node(c->w);
    profile_mark(c->profile, PROFILE_EXCHANGE);
}

/* Parts [from, to) of q, k, v, whose inputs lie at the site. */
static void project_heads(const struct context *c, const struct layer *l, size_t from_part, size_t to_part, enum site site)
{
    const struct model *m = c->m;
    const size_t n_q = own_panels(c, &m->q_split), n_kv = own_panels(c, &m->kv_split);
    const bool sends = m->pages_dealt;
    const struct { const struct matrix *x; size_t n; float *y; } parts[] = {
        { &l->q, n_q, sends ? c->node->sent_qkv + qkv_column(m, c->w->node, 0) : c->node->q },
        { &l->k, n_kv, sends ? c->node->sent_qkv + qkv_column(m, c->w->node, 1) : c->node->k },
        { &l->v, n_kv, sends ? c->node->sent_qkv + qkv_column(m, c->w->node, 2) : c->node->v },
    };
    size_t begin, end, at = 0, n = 0;

    for (size_t i = from_part; i < to_part; i++)
        n += parts[i].n;
    pool_share_node(c->w, n, &begin, &end);
    for (size_t i = from_part; i < to_part; at += parts[i].n, i++) {
        size_t from = begin > at ? begin - at : 0, to = end > at ? end - at : 0;
        to = to < parts[i].n ? to : parts[i].n;
        forward_multiply(c, parts[i].x, site, c->act_in, m->n_tokens, from, to, parts[i].y + from * PANEL_ROWS, c->node->qkv_floats);
    }
    profile_mark(c->profile, PROFILE_WEIGHTS);
}

static void project_qkv(const struct context *c, const struct layer *l, size_t layer)
{
    if (l->filters) {
        project_heads(c, l, 2, 3, SITE_ATTN_IN);
        lfa_run(c, l, layer);
        project_heads(c, l, 0, 2, SITE_QK_IN);
    } else {
        project_heads(c, l, 0, 3, SITE_ATTN_IN);
    }
    if (c->m->pages_dealt)
        gather_qkv(c);
    else
        pool_barrier_node(c->w);
}

/* What comes between the product and the attention, for a head of q or k: bias, norm, position. */
static void finish_head(const struct context *c, float *x, const struct norm *bias, size_t head, const struct norm *norm, const float *cos,
                        const float *sin)
{
    const struct model *m = c->m;
    const size_t n = m->config.head_dim;

    if (bias->tensor)
        m->kernels.add(x, bias->copy[c->w->node] + head * n, n);
    if (norm->tensor && !m->config.wide_qk_norm)
        m->kernels.rms_norm(x, x, norm->copy[c->w->node], m->config.norm_eps, n);
    if (cos)
        m->kernels.rope(x, cos, sin, m->config.rope.n_dims);
}

/* MiniMax-M2: one norm over all heads of q, and one over those of k. Heads have no padding between them (config.c sees to that). */
static void norm_all_heads(const struct context *c, const struct layer *l)
{
    const struct model *m = c->m;
    size_t begin, end;

    pool_share_node(c->w, m->n_tokens, &begin, &end);
    for (size_t t = begin; t < end; t++) {
        float *q = c->node->q + t * c->node->qkv_floats, *k = c->node->k + t * c->node->qkv_floats;
        m->kernels.rms_norm(q, q, l->q_norm.copy[c->w->node], m->config.norm_eps, l->q_norm.n);
        m->kernels.rms_norm(k, k, l->k_norm.copy[c->w->node], m->config.norm_eps, l->k_norm.n);
    }
    pool_barrier_node(c->w);
}

static void rotate_and_store(const struct context *c, const struct layer *l, size_t layer)
{
    const struct model *m = c->m;
    const struct model_config *config = &m->config;
    struct node_memory *node = c->node;
    const size_t n_pairs = config->rope.n_dims / 2, pad = m->head_padded, n = config->head_dim;
    const size_t table = l->kv_kind == KV_WINDOW ? m->max_step_tokens : 0;
    size_t begin, end;

    if (node->n_kv_heads == 0)
        return;
    pool_share_node(c->w, m->n_tokens * node->n_kv_heads, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const size_t t = i / node->n_kv_heads, head = i % node->n_kv_heads, kv_head = node->first_kv_head + head;
        const float *cos = config->layer_rotates[layer] ? node->cos + (table + t) * n_pairs : NULL;
        const float *sin = node->sin + (table + t) * n_pairs;
        float *q = node->q + t * node->qkv_floats + head * m->group * pad;
        float *k = node->k + t * node->qkv_floats + head * pad, *v = node->v + t * node->qkv_floats + head * pad;
        const uint32_t position = m->tokens[t].position;
        const int32_t page = kv_page_table(m->tokens[t].sequence, l->kv_kind)[position / KV_CHUNK];
        for (size_t j = 0; j < m->group; j++, q += pad)
            finish_head(c, q, &l->q_bias, kv_head * m->group + j, &l->q_norm, cos, sin);
        if (!kv_keeps(node, l->kv_kind, page))
            continue;
        finish_head(c, k, &l->k_bias, kv_head, &l->k_norm, cos, sin);
        if (l->v_bias.tensor)
            m->kernels.add(v, l->v_bias.copy[c->w->node] + kv_head * n, n);
        unsigned char *chunk = kv_chunk(m, node, page, layer, head);
        m->kernels.kv_store[m->kv_type](chunk, chunk + m->chunk_bytes, position % KV_CHUNK, k, v, pad);
    }
}

static void project_and_store(const struct context *c, const struct layer *l, size_t layer)
{
    project_qkv(c, l, layer);
    if (c->m->config.wide_qk_norm)
        norm_all_heads(c, l);
    rotate_and_store(c, l, layer);
    profile_mark(c->profile, PROFILE_ROPE);
    pool_barrier_node(c->w);
}

/* Heads that end inside a quantisation block: the node's whole slice is quantised once all of its heads are there. */
static void prepare_straddling(const struct context *c)
{
    const struct model *m = c->m;
    const struct site_layout *s = &m->sites[SITE_ATTN_OUT];
    const size_t from = forward_attn_channel(m, c->w->node), to = forward_attn_channel(m, c->w->node + 1);
    size_t begin, end;

    pool_barrier_node(c->w);
    pool_share_node(c->w, m->n_tokens, &begin, &end);
    for (size_t t = begin; t < end && from < to; t++)       /* the padding at the end of attn stays zero from the start */
        prepare_activations(m, SITE_ATTN_OUT, m->tokens[t].role, c->node->act_attn + t * s->token_bytes,
                            c->node->attn + t * s->k_padded + from, from, to);
}

void forward_add_bias(const struct context *c, float *y, const struct norm *bias, size_t of, size_t row, size_t n, size_t n_rows)
{
    n = row >= n_rows ? 0 : n < n_rows - row ? n : n_rows - row;        /* panels are padded, biases are not */
    if (n)
        c->m->kernels.add(y, bias->copy[c->w->node] + of * n_rows + row, n);
}

void forward_exchange_outputs(const struct context *c)
{
    forward_exchange(c, buffer_y, c->m->n_tokens, 1, c->m->d_out * sizeof(float), columns_y, 1);
    profile_mark(c->profile, PROFILE_EXCHANGE);
}

/* Rows of o or down that belong to this worker, into y of its node; then y of all. */
static void project_out(const struct context *c, const struct matrix *x, const struct norm *bias, enum site site,
                        const unsigned char *records)
{
    const struct model *m = c->m;
    size_t begin, end;

    pool_share_node(c->w, own_panels(c, &m->d_split), &begin, &end);
    const size_t first = (m->d_split.start[c->w->node] + begin) * PANEL_ROWS;
    forward_multiply(c, x, site, records, m->n_tokens, begin, end, c->node->y + first, m->d_out);
    for (size_t t = 0; t < m->n_tokens && bias->tensor && begin < end; t++)
        forward_add_bias(c, c->node->y + t * m->d_out + first, bias, 0, first, (end - begin) * PANEL_ROWS, m->config.d_model);
    profile_mark(c->profile, PROFILE_WEIGHTS);
    forward_exchange_outputs(c);
}

void forward_gate_and_up(const struct context *c, const struct matrix *gate_matrix, const struct matrix *up_matrix,
                         const struct split *split, enum site site, unsigned char *records)
{
    const struct model *m = c->m;
    const size_t n = m->n_tokens, first = split->start[c->w->node];
    size_t begin, end, step = TILE_FLOATS / n / 32 * 2;     /* panels, in pairs: whole quantisation blocks */

    pool_share_node(c->w, own_panels(c, split) / 2, &begin, &end);
    for (size_t p = 2 * begin; p < 2 * end; p += step) {
        size_t to = p + step < 2 * end ? p + step : 2 * end, rows = (to - p) * PANEL_ROWS;
        forward_multiply(c, gate_matrix, SITE_FFN_IN, c->act_in, n, p, to, c->own->tile, rows);
        forward_multiply(c, up_matrix, SITE_FFN_IN, c->act_in, n, p, to, c->own->tile2, rows);
        profile_mark(c->profile, PROFILE_WEIGHTS);
        for (size_t t = 0; t < n; t++) {
            float *gate = c->own->tile + t * rows;
            if (m->config.ffn_activation == FFN_GELU)
                m->kernels.gelu_mul(gate, c->own->tile2 + t * rows, rows);
            else
                m->kernels.silu_mul(gate, c->own->tile2 + t * rows, rows);
            prepare_activations(m, site, m->tokens[t].role, records + t * m->sites[site].token_bytes, gate, (first + p) * PANEL_ROWS,
                                (first + to) * PANEL_ROWS);
        }
        profile_mark(c->profile, PROFILE_NORMS);
    }
}

static void run_layer(const struct context *c, size_t i)
{
    static const struct norm no_norm;
    struct model *m = c->m;
    const struct layer *l = &m->layers[i];
    const struct norm *post = i == 0 ? NULL : m->layers[i - 1].post_ffn_norm.tensor ? &m->layers[i - 1].post_ffn_norm : &no_norm;

    token_pass(c, post, &l->attn_norm, SITE_ATTN_IN);
    if (m->config.kv_rank)
        mla_project(c, l, i);
    else
        project_and_store(c, l, i);
    attention_run(m, c->w, i);
    if (m->config.kv_rank)
        mla_finish(c, l);
    else if (m->heads_straddle)
        prepare_straddling(c);
    profile_mark(c->profile, PROFILE_ATTENTION);
    forward_exchange(c, buffer_attn, m->n_tokens, 1, m->sites[SITE_ATTN_OUT].token_bytes, columns_attn, ACT_COUNT);
    profile_mark(c->profile, PROFILE_EXCHANGE);
    project_out(c, &l->o, &l->o_bias, SITE_ATTN_OUT, c->node->act_attn);

    token_pass(c, &l->post_attn_norm, &l->ffn_norm, SITE_FFN_IN);
    if (l->is_moe) {
        experts_run(c, l);
        return;
    }
    forward_gate_and_up(c, &l->gate, &l->up, &m->ff_split, SITE_FFN_MID, c->node->act_mid);
    forward_exchange(c, buffer_mid, m->n_tokens, 1, m->sites[SITE_FFN_MID].token_bytes, columns_mid, ACT_COUNT);
    profile_mark(c->profile, PROFILE_EXCHANGE);
    project_out(c, &l->down, &no_norm, SITE_FFN_MID, c->node->act_mid);
}

/*
 * The final norm of the tokens that want logits or their hidden state. Every node makes the records of logits for itself; hidden states,
 * which are read by the caller alone, are kept by the first node, or, where each worker repeats the pass, by the first worker.
 */
static void output_norm(const struct context *c)
{
    struct model *m = c->m;
    const struct layer *last = &m->layers[m->config.n_layers - 1];
    const bool keeps = c->is_private ? c->w->index == 0 : c->w->node == 0;
    size_t begin = 0, end = m->n_outputs;

    if (!c->is_private)
        pool_share_node(c->w, m->n_outputs, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const struct output_token *o = &m->output_tokens[i];
        if (o->logits == NO_ROW && !keeps)
            continue;
        add_outputs(c, o->token, &last->post_ffn_norm);
        const float *normed = norm_token(c, o->token, &m->output_norm);
        if (o->hidden != NO_ROW && keeps)
            memcpy(m->hidden + o->hidden * m->config.d_model, normed, m->config.d_model * sizeof(float));
        if (o->logits != NO_ROW)
            record_token(c, o->token, SITE_HEAD_IN, c->act_in + o->logits * m->sites[SITE_HEAD_IN].token_bytes);
    }
    profile_mark(c->profile, PROFILE_NORMS);
}

/* The output matrix for the tokens that want logits, by segments of the vocabulary. */
static void output_logits(const struct context *c)
{
    struct model *m = c->m;
    const size_t n = m->n_logits, per_segment = VOCAB_SEGMENT / PANEL_ROWS;
    const size_t first = m->vocab_split.start[c->w->node], n_panels = own_panels(c, &m->vocab_split);
    size_t begin, end;

    if (n == 0)
        return;
    barrier_unless_private(c);
    pool_share_node(c->w, (n_panels + per_segment - 1) / per_segment, &begin, &end);
    for (size_t s = begin; s < end; s++) {
        size_t from = s * per_segment, to = from + per_segment < n_panels ? from + per_segment : n_panels;
        size_t id = (first + from) * PANEL_ROWS, ids = (to - from) * PANEL_ROWS;
        forward_multiply(c, &m->head, SITE_HEAD_IN, c->act_in, n, from, to, m->logits + id, m->vocab_padded);
        profile_mark(c->profile, PROFILE_WEIGHTS);
        if (id + ids > m->config.vocab_size)
            ids = m->config.vocab_size - id;
        for (size_t i = 0; i < n; i++) {
            float *logits = m->logits + i * m->vocab_padded + id;
            if (m->config.final_softcap > 0)
                m->kernels.softcap(logits, m->config.final_softcap, ids);
            m->kernels.segment_stats(&m->stats[i * m->n_segments + id / VOCAB_SEGMENT], logits, ids);
        }
        profile_mark(c->profile, PROFILE_LOGITS);
    }
}

static void step_worker(const struct worker *w, void *arg)
{
    struct model *m = arg;
    struct context c = { .m = m, .w = w, .node = &m->nodes[w->node], .own = &m->workers[w->index],
                         .is_private = m->n_tokens <= PRIVATE_TOKENS, .profile = m->profile ? &m->workers[w->index].profile : NULL };

    c.x = c.is_private ? c.own->x : c.node->x;
    c.act_in = c.is_private ? c.own->act_in : c.node->act_in;
    c.end = m->n_tokens;
    if (!c.is_private)
        pool_share_node(w, m->n_tokens, &c.begin, &c.end);
    embed(&c);
    profile_mark(c.profile, PROFILE_OTHER);
    fill_rope(&c);
    profile_mark(c.profile, PROFILE_ROPE);
    for (size_t i = 0; i < m->config.n_layers; i++)
        run_layer(&c, i);
    output_norm(&c);
    output_logits(&c);
}

void model_step(struct model *m, const struct step_token *tokens, size_t n)
{
    assert(n >= 1 && n <= m->max_step_tokens);
    profile_begin(m);
    m->tokens = tokens;
    m->n_tokens = n;
    m->expert_bytes = 0;
    m->n_logits = m->n_hidden = m->n_outputs = 0;
    for (size_t i = 0; i < n; i++) {
        struct output_token o = { .token = i, .logits = NO_ROW, .hidden = NO_ROW };
        assert(tokens[i].id >= 0 && (size_t)tokens[i].id < m->config.vocab_size && tokens[i].position < m->n_ctx);
        if (tokens[i].wants_logits) {
            assert(m->n_logits < m->max_step_logits);
            m->logit_tokens[m->n_logits] = i;
            o.logits = m->n_logits++;
        }
        if (tokens[i].wants_hidden) {
            assert(m->n_hidden < m->max_step_hidden);
            o.hidden = m->n_hidden++;
        }
        if (tokens[i].wants_logits || tokens[i].wants_hidden)
            m->output_tokens[m->n_outputs++] = o;
    }
    attention_plan(m);
    pool_run(m->pool, step_worker, m);
    profile_end(m);
}

const float *model_logits(const struct model *m, size_t i)
{
    assert(i < m->n_logits);
    return m->logits + i * m->vocab_padded;
}

const float *model_hidden(const struct model *m, size_t i)
{
    assert(i < m->n_hidden);
    return m->hidden + i * m->config.d_model;
}

const struct segment_stats *model_logit_stats(const struct model *m, size_t i, size_t *n_segments)
{
    assert(i < m->n_logits);
    *n_segments = m->n_segments;
    return m->stats + i * m->n_segments;
}
