/*
 * model.c - opens a model: shape, nodes and workers, shares, memory, weights; and tells what it found.
 */
#include "model/model.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "model/model_internal.h"

/* Weights of the nodes when rows are dealt: their workers, which stand for their bandwidth. */
static void node_weights(const struct model *m, double out[TOPOLOGY_MAX_NODES])
{
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        out[v] = (double)pool_node_workers(m->pool, v);
}

/* Deal `n` units of `unit_panels` panels, `n_panels` in all (the last unit may be shorter). */
static void make_split(const struct model *m, struct split *s, size_t n_panels, size_t unit_panels)
{
    double weights[TOPOLOGY_MAX_NODES];
    size_t n_nodes = pool_n_nodes(m->pool);

    node_weights(m, weights);
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

    m->pages_dealt = n_nodes > (c->n_kv_heads + unit_heads - 1) / unit_heads;
    if (m->pages_dealt) {
        m->heads_straddle = c->head_dim % 32 != 0;
        make_split(m, &q_heads, c->n_heads, unit_q_heads);
        make_split(m, &m->q_split, c->n_heads * head_panels, 1);
        make_split(m, &m->kv_split, c->n_kv_heads * head_panels, 1);
    } else {
        m->heads_straddle = outputs % 32 != 0;
        make_split(m, &m->kv_split, c->n_kv_heads * head_panels, unit_heads * head_panels);
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

static void plan_shares(struct model *m)
{
    const struct model_config *c = &m->config;

    m->group = c->n_heads / c->n_kv_heads;
    m->head_padded = round_up(c->head_dim, 16);
    m->d_padded = round_up(c->d_model, 32);
    m->d_out = round_up(c->d_model, 16);
    m->vocab_padded = round_up(c->vocab_size, 16);
    m->n_segments = (c->vocab_size + VOCAB_SEGMENT - 1) / VOCAB_SEGMENT;
    plan_heads(m);
    make_split(m, &m->d_split, m->d_out / PANEL_ROWS, 1);
    make_split(m, &m->ff_split, round_up(c->d_ff, 32) / PANEL_ROWS, 2);     /* pairs: whole quantisation blocks for ffn_down */
    make_split(m, &m->vocab_split, m->vocab_padded / PANEL_ROWS, VOCAB_SEGMENT / PANEL_ROWS);
    m->chunk_bytes = kv_chunk_bytes(m->kv_type, m->head_padded);
    m->kv_page_bytes = (uint64_t)c->n_layers * c->n_kv_heads * 2 * m->chunk_bytes;
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
    for (size_t role = 0; role < ROLE_COUNT; role++) {
        assert(s->n_terms[role] * s->bytes[role] <= s->token_bytes);
        s->bytes[role] = s->token_bytes / s->n_terms[role];
        assert(s->bytes[role] % 64 == 0);
    }
}

static void plan_sites(struct model *m)
{
    const struct model_config *c = &m->config;
    const size_t widths[SITE_COUNT] = { [SITE_ATTN_IN] = c->d_model, [SITE_ATTN_OUT] = c->n_heads * c->head_dim,
                                        [SITE_FFN_IN] = c->d_model, [SITE_FFN_MID] = c->d_ff, [SITE_HEAD_IN] = c->d_model };

    for (size_t i = 0; i < c->n_layers; i++) {
        struct layer *l = &m->layers[i];
        add_use(m, SITE_ATTN_IN, &l->q, 2);
        add_use(m, SITE_ATTN_IN, &l->k, 2);
        add_use(m, SITE_ATTN_IN, &l->v, 2);
        add_use(m, SITE_ATTN_OUT, &l->o, 1);
        add_use(m, SITE_FFN_IN, &l->gate, 1);
        add_use(m, SITE_FFN_IN, &l->up, 1);
        add_use(m, SITE_FFN_MID, &l->down, 1);
    }
    add_use(m, SITE_HEAD_IN, &m->head, 2);
    for (size_t s = 0; s < SITE_COUNT; s++) {
        struct site_layout *site = &m->sites[s];
        site->k_padded = round_up(widths[s], 32);
        lay_out_records(site);
    }
}

static int plan_rope(struct model *m)
{
    const struct model_config *c = &m->config;
    const size_t n = c->head_dim / 2;

    m->rope_freq = malloc(n * sizeof(double));
    m->rope_freq_sliding = malloc(n * sizeof(double));
    if (!m->rope_freq || !m->rope_freq_sliding)
        return -ENOMEM;
    for (size_t j = 0; j < n; j++) {
        double exponent = -2 * (double)j / (double)c->head_dim;
        m->rope_freq[j] = pow(c->rope_base, exponent) / c->rope_linear_factor;
        m->rope_freq_sliding[j] = pow(c->rope_base_sliding, exponent);
    }
    return 0;
}

/* A bump over an arena, or, with arena NULL, the sum of what it would take: one list of buffers serves sizing and taking. */
struct taker { struct place_arena *arena; size_t bytes; };

static void *take(struct taker *t, size_t bytes)
{
    t->bytes += round_up(bytes, 64);
    return t->arena ? place_take(t->arena, bytes) : NULL;
}

static void take_scratch(struct model *m, size_t node, struct taker *t)
{
    const struct model_config *c = &m->config;
    const size_t n = m->max_step_tokens, n_pairs = c->head_dim / 2;
    size_t act_in = m->sites[SITE_ATTN_IN].token_bytes, widest = m->d_padded;
    struct node_memory *v = &m->nodes[node];

    act_in = m->sites[SITE_FFN_IN].token_bytes > act_in ? m->sites[SITE_FFN_IN].token_bytes : act_in;
    act_in = m->sites[SITE_HEAD_IN].token_bytes > act_in ? m->sites[SITE_HEAD_IN].token_bytes : act_in;
    widest = widest > m->group * m->head_padded ? widest : m->group * m->head_padded;
    widest = widest > m->sites[SITE_ATTN_OUT].k_padded ? widest : m->sites[SITE_ATTN_OUT].k_padded;

    v->x = take(t, n * m->d_padded * sizeof(float));
    v->act_in = take(t, n * act_in);
    v->act_attn = take(t, n * m->sites[SITE_ATTN_OUT].token_bytes);
    v->act_mid = take(t, n * m->sites[SITE_FFN_MID].token_bytes);
    v->q = take(t, n * v->qkv_floats * sizeof(float));
    v->k = v->q + v->n_kv_heads * m->group * m->head_padded;
    v->v = v->k + v->n_kv_heads * m->head_padded;
    v->sent_qkv = m->pages_dealt ? take(t, n * v->qkv_floats * sizeof(float)) : NULL;
    v->y = take(t, n * m->d_out * sizeof(float));
    v->attn = m->heads_straddle ? take(t, n * m->sites[SITE_ATTN_OUT].k_padded * sizeof(float)) : NULL;
    v->cos = take(t, 2 * n * n_pairs * sizeof(float));
    v->sin = take(t, 2 * n * n_pairs * sizeof(float));
    v->slots = take(t, attention_slots(m, node) * attention_slot_floats(m) * sizeof(float));
    v->items_taken = take(t, c->n_layers * sizeof(*v->items_taken));

    size_t first = 0;
    for (size_t i = 0; i < node; i++)
        first += pool_node_workers(m->pool, i);
    for (size_t i = first; i < first + pool_node_workers(m->pool, node); i++) {
        struct worker_memory *s = &m->workers[i];
        s->matmul_scratch = take(t, m->matmul_scratch_bytes);
        s->x = take(t, PRIVATE_TOKENS * m->d_padded * sizeof(float));
        s->act_in = take(t, PRIVATE_TOKENS * act_in);
        s->tmp = take(t, widest * sizeof(float));
        s->tmp2 = take(t, widest * sizeof(float));
        s->tile = take(t, TILE_FLOATS * sizeof(float));
        s->tile2 = take(t, TILE_FLOATS * sizeof(float));
        s->out = take(t, ATTEND_MAX_Q * m->head_padded * sizeof(float));
        s->merged = take(t, ATTEND_MAX_Q * m->head_padded * sizeof(float));
    }
    if (node == 0) {    /* read by the batcher, written by all */
        m->logits = take(t, m->max_step_logits * m->vocab_padded * sizeof(float));
        m->stats = take(t, m->max_step_logits * m->n_segments * sizeof(*m->stats));
        m->logit_tokens = take(t, m->max_step_logits * sizeof(*m->logit_tokens));
        m->blocks = take(t, n * sizeof(*m->blocks));
    }
}

/* Before the node's scratch is taken: it leaves the pointers to it NULL. */
static uint64_t scratch_bytes(struct model *m, size_t node)
{
    struct taker t = { 0 };

    assert(!m->nodes[node].scratch.used);
    take_scratch(m, node, &t);
    return t.bytes;
}

/* Bytes of one KV page on one node. */
static uint64_t node_page_bytes(const struct model *m, size_t node)
{
    return (uint64_t)m->config.n_layers * m->nodes[node].n_kv_heads * 2 * m->chunk_bytes;
}

static double gb(uint64_t bytes)
{
    return (double)bytes / 1e9;
}

/*
 * Pages that the nodes have room for beside weights and scratch: a bound arena that does not fit its node is killed, not refused. Where
 * every node has a part of each page, the tightest one decides; where pages are dealt, the one that is tightest for its share. A
 * machine of one node, and virtual nodes, are bounded by the whole. Returns 0, or -ENOMEM (logged) when a node cannot hold its weights.
 */
static int pages_of_tightest_node(struct model *m, const char *path, uint64_t *pages)
{
    double weights[TOPOLOGY_MAX_NODES], total = 0;

    *pages = UINT64_MAX;
    node_weights(m, weights);
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        total += weights[v];
    if (m->topology.is_virtual || m->n_machine_nodes == 1)
        return 0;
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++) {
        uint64_t fixed = load_node_bytes(m, v) + scratch_bytes(m, v), room = m->topology.nodes[v].free_bytes, page = node_page_bytes(m, v);
        if (fixed > room) {
            log_error("%s: weights and scratch of node %d need %.2f GB, %.2f GB are free there: use %s", path,
                      m->topology.nodes[v].os_node, gb(fixed), gb(room),
                      m->n_replicas > 1 ? "fewer copies (--replicas)" : "more nodes (--nodes)");
            return -ENOMEM;
        }
        uint64_t most = page ? (room - fixed) / page : UINT64_MAX;
        if (m->pages_dealt)
            most = (uint64_t)((double)most * total / weights[v]);
        *pages = most < *pages ? most : *pages;
    }
    return 0;
}

/*
 * What this copy of the model may take: other copies are opened at the same time, on nodes of their own. Together they must not take more
 * than is available, which may be less than the nodes have free, by the cgroup's limit.
 */
static uint64_t available_bytes(const struct model *m)
{
    const uint64_t available = topology_available_bytes("");

    if (m->n_replicas == 1)
        return available;
    const uint64_t share = (uint64_t)((double)available * m->memory_share), free_bytes = topology_free_bytes(&m->topology);
    return m->topology.is_virtual || share < free_bytes ? share : free_bytes;
}

/* How many tokens a sequence and the KV pool may hold; fails with the numbers when even that does not fit. */
static int plan_memory(struct model *m, const struct model_options *o, const char *path, size_t *n_pages)
{
    const uint64_t available = available_bytes(m);
    uint64_t fixed = 0, kv_limit = o->kv_bytes, wanted, most_pages;
    int err;

    m->n_ctx = o->n_ctx ? o->n_ctx : m->config.n_ctx_train;     /* the scratch of attention depends on it */
    err = pages_of_tightest_node(m, path, &most_pages);
    if (err)
        return err;
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        fixed += load_node_bytes(m, v) + scratch_bytes(m, v);
    if (fixed > available) {
        log_error("%s: the model needs %.2f GB of memory, %.2f GB are available", path, gb(fixed), gb(available));
        return -ENOMEM;
    }
    if (o->n_ctx > m->config.n_ctx_train)
        log_warn("context %zu is longer than the %zu tokens that the model was trained for", o->n_ctx, m->config.n_ctx_train);
    if (!kv_limit)
        kv_limit = o->n_ctx ? available - fixed : (available - fixed) / 4;
    if (most_pages < kv_limit / m->kv_page_bytes)
        kv_limit = most_pages * m->kv_page_bytes;
    wanted = (uint64_t)kv_pages_for(m->n_ctx) * (o->full_contexts ? o->full_contexts : m->max_batch < 4 ? m->max_batch : 4);
    if (o->kv_bytes)
        wanted = o->kv_bytes / m->kv_page_bytes;
    if (wanted > kv_limit / m->kv_page_bytes)
        wanted = kv_limit / m->kv_page_bytes;
    if (wanted == 0 || (o->n_ctx && wanted < kv_pages_for(m->n_ctx))) {
        log_error("context %zu needs %.2f GB of KV cache, %.2f GB are %s: use a smaller --ctx%s", m->n_ctx,
                  gb(kv_pages_for(m->n_ctx) * m->kv_page_bytes), gb(kv_limit), o->kv_bytes ? "allowed by --kv-bytes" : "available",
                  m->kv_type == KV_F32 ? " or --kv-type bf16" : m->kv_type == KV_BF16 ? " or --kv-type q8" : "");
        return -ENOMEM;
    }
    if (wanted < kv_pages_for(m->n_ctx)) {
        m->n_ctx = wanted * KV_CHUNK;
        log_warn("the context is cut to %zu tokens, which fit %.2f GB of KV cache (--ctx, --kv-bytes)", m->n_ctx, gb(kv_limit));
    }
    if (wanted > (available - fixed) / m->kv_page_bytes) {
        log_error("%s: weights and scratch need %.2f GB and the KV cache %.2f GB, %.2f GB are available: use a smaller --kv-bytes",
                  path, gb(fixed), (double)wanted * gb(m->kv_page_bytes), gb(available));
        return -ENOMEM;
    }
    *n_pages = wanted;
    return 0;
}

/* Each node's workers touch its KV pages, so that no request pays for page faults. */
static void touch_kv(const struct worker *w, void *arg)
{
    struct model *m = arg;
    struct place_arena *a = &m->nodes[w->node].kv;
    size_t begin, end, granule = 2 << 20;

    pool_share_node(w, (a->bytes + granule - 1) / granule, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        size_t from = i * granule, n = a->bytes - from < granule ? a->bytes - from : granule;
        memset((char *)a->base + from, 0, n);
    }
}

/* The free pages, and which of them each node keeps. */
static int create_kv_cache(struct model *m, size_t n_pages)
{
    const size_t n_nodes = pool_n_nodes(m->pool), whole[2] = { 0, n_pages };
    struct split pages;

    if (m->pages_dealt)
        make_split(m, &pages, n_pages, 1);
    for (size_t v = 0; v < n_nodes; v++) {
        m->nodes[v].first_page = m->pages_dealt ? pages.start[v] : 0;
        m->nodes[v].n_pages = m->pages_dealt ? pages.start[v + 1] - pages.start[v] : n_pages;
    }
    return m->pages_dealt ? kv_cache_create(&m->kv, n_nodes, pages.start) : kv_cache_create(&m->kv, 1, whole);
}

static int take_memory(struct model *m, size_t n_pages)
{
    int err = create_kv_cache(m, n_pages);

    for (size_t v = 0; !err && v < pool_n_nodes(m->pool); v++) {
        struct node_memory *n = &m->nodes[v];
        size_t kv_bytes = n->n_pages * node_page_bytes(m, v);
        err = place_arena_create(&n->weights, &m->topology, v, load_node_bytes(m, v), m->pages);
        if (!err)
            err = place_arena_create(&n->scratch, &m->topology, v, scratch_bytes(m, v), m->pages);
        if (!err && kv_bytes)
            err = place_arena_create(&n->kv, &m->topology, v, kv_bytes, m->pages);
        if (!err) {
            struct taker t = { .arena = &n->scratch };
            take_scratch(m, v, &t);
        }
    }
    return err;
}

static int open_nodes(struct model *m, const struct model_options *o)
{
    enum isa best = cpu_best_isa();
    struct topology_reserved reserved;
    int err = topology_read(&m->topology, "");

    m->n_machine_nodes = m->topology.n_nodes;
    m->n_replicas = o->n_replicas ? o->n_replicas : 1;
    if (!err && o->nodes)
        err = topology_select(&m->topology, o->nodes);
    if (!err && o->reserves_cores)
        topology_reserve_cores(&m->topology, &reserved);
    if (!err && o->n_virtual_nodes)
        err = topology_make_virtual(&m->topology, o->n_virtual_nodes);
    const double all_free = err ? 0 : (double)topology_free_bytes(&m->topology);
    if (!err)
        err = topology_keep_part(&m->topology, o->replica, m->n_replicas);
    m->memory_share = !err && all_free > 0 ? (double)topology_free_bytes(&m->topology) / all_free : 1 / (double)m->n_replicas;
    if (!err)
        err = pool_create(&m->pool, &m->topology, o->n_threads);
    if (err)
        return err;
    if (o->isa_given && !o->isa_unchecked && o->isa > best) {
        log_error("--isa %s: this machine has %s at most", isa_name(o->isa), isa_name(best));
        return -EINVAL;
    }
    kernels_fill(&m->kernels, o->isa_given ? o->isa : best);
    return 0;
}

static void count_disagreements(struct model *m, struct matrix *x, void *arg)
{
    size_t *n = arg;

    (void)m;
    *n += x->multiply[ROLE_PROMPT] != x->multiply[ROLE_GENERATED] || x->activation[ROLE_PROMPT] != x->activation[ROLE_GENERATED] ||
          x->n_terms[ROLE_PROMPT] != x->n_terms[ROLE_GENERATED];
}

int model_open(struct model **out, const struct gguf *g, const struct model_options *o, model_progress_fn progress, void *arg)
{
    const uint64_t start = clock_now_ns();
    struct model *m = calloc(1, sizeof(*m));
    size_t n_pages = 0, n_disagreements = 0;
    int err;

    *out = NULL;
    if (!m)
        return -ENOMEM;
    m->kv_type = o->kv_type;
    m->activations = o->activations;
    m->pages = o->pages;
    m->gemm = o->gemm;
    m->max_batch = o->max_batch ? o->max_batch : 1;
    m->max_step_tokens = o->max_step_tokens > MODEL_MAX_STEP_TOKENS ? MODEL_MAX_STEP_TOKENS : o->max_step_tokens ? o->max_step_tokens : 512;
    m->max_step_logits = o->max_step_logits ? o->max_step_logits : m->max_batch;
    if (m->max_step_logits > m->max_step_tokens)
        m->max_step_logits = m->max_step_tokens;
    err = model_config_read(&m->config, g);
    if (err)
        goto fail;
    err = open_nodes(m, o);
    if (err)
        goto fail;
    m->layers = calloc(m->config.n_layers, sizeof(*m->layers));
    m->workers = calloc(pool_n_workers(m->pool), sizeof(*m->workers));
    err = m->layers && m->workers ? plan_rope(m) : -ENOMEM;
    if (err)
        goto fail;
    plan_shares(m);
    err = gemm_open(m);
    if (!err)
        err = load_plan(m, g);
    if (err)
        goto fail;
    plan_sites(m);
    err = plan_memory(m, o, gguf_path(g), &n_pages);
    if (!err)
        err = take_memory(m, n_pages);
    if (!err)
        err = load_weights(m, g, o->allow_nonfinite, progress, arg);
    if (err)
        goto fail;
    pool_run(m->pool, touch_kv, m);
    m->load_s = (double)(clock_now_ns() - start) / 1e9;
    model_each_matrix(m, count_disagreements, &n_disagreements);
    m->roles_agree = n_disagreements == 0;
    gemm_say(m);
    *out = m;
    return 0;
fail:
    model_close(m);
    return err;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    pool_destroy(m->pool);
    for (size_t v = 0; v < TOPOLOGY_MAX_NODES; v++) {
        place_arena_free(&m->nodes[v].weights);
        place_arena_free(&m->nodes[v].kv);
        place_arena_free(&m->nodes[v].scratch);
    }
    kv_cache_destroy(&m->kv);
    topology_free(&m->topology);
    free(m->rope_freq);
    free(m->rope_freq_sliding);
    free(m->layers);
    free(m->workers);
    gemm_close(m);
    free(m);
}

const struct model_config *model_config(const struct model *m)
{
    return &m->config;
}

struct pool *model_pool(struct model *m)
{
    return m->pool;
}

struct kv_cache *model_kv_cache(struct model *m)
{
    return &m->kv;
}

void model_info(const struct model *m, struct model_info *info)
{
    uint64_t weight_arena_bytes = 0, scratch = 0;

    for (size_t v = 0; v < pool_n_nodes(m->pool); v++) {
        weight_arena_bytes += m->nodes[v].weights.used;
        scratch += m->nodes[v].scratch.used;
    }
    *info = (struct model_info){
        .isa = m->kernels.isa,
        .n_nodes = pool_n_nodes(m->pool),
        .n_threads = pool_n_workers(m->pool),
        .n_ctx = m->n_ctx,
        .max_step_tokens = m->max_step_tokens,
        .max_step_logits = m->max_step_logits,
        .virtual_nodes = m->topology.is_virtual,
        .n_params = m->n_params,
        .weight_bytes = m->weight_bytes,
        .weight_arena_bytes = weight_arena_bytes,
        .scratch_bytes = scratch,
        .step_weight_bytes = m->step_weight_bytes,
        .step_params = m->step_params,
        .head_params = (uint64_t)m->head.n_rows * m->head.k,
        .kv_bytes = m->kv.n_pages * m->kv_page_bytes,
        .kv_token_bytes = m->kv_page_bytes / KV_CHUNK,
        .kv_pages = m->kv.n_pages,
        .page_tokens = KV_CHUNK,
        .load_s = m->load_s,
        .gemm = gemm_name(m),
        .gemm_implementation = m->gemm_implementation,
        .roles_agree = m->roles_agree,
        .same_bits = m->same_bits,
    };
}

uint64_t model_node_weight_bytes(const struct model *m, size_t node)
{
    return m->nodes[node].weights.used;
}

int model_placement(const struct model *m, bool every_page, struct model_placement *p)
{
    *p = (struct model_placement){ 0 };
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++) {
        struct place_report weights = { 0 }, kv = { 0 };
        int err = place_verify(&m->nodes[v].weights, every_page, &weights);
        if (!err && m->nodes[v].kv.base)
            err = place_verify(&m->nodes[v].kv, every_page, &kv);
        if (err)
            return err;
        p->weight_pages += weights.pages - weights.untouched;
        p->weight_local += weights.on_node;
        p->kv_pages += kv.pages - kv.untouched;
        p->kv_local += kv.on_node;
        p->huge_bytes += weights.huge_bytes + kv.huge_bytes;
        p->bytes += weights.bytes + kv.bytes;
    }
    return 0;
}
