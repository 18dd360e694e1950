/*
 * memory.c - what the buffers of a step and the KV cache take of each node, how many pages fit, and the arenas.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "model/forward_internal.h"

/* A bump over an arena, or, with arena NULL, the sum of what it would take: one list of buffers serves sizing and taking. */
struct taker { struct place_arena *arena; size_t bytes; };

static void *take(struct taker *t, size_t bytes)
{
    t->bytes += round_up(bytes, 64);
    return t->arena ? place_take(t->arena, bytes) : NULL;
}

static void take_routing(const struct model *m, struct routing *r, size_t n_tokens, struct taker *t)
{
    const size_t n = n_tokens * m->config.n_experts_used;

    r->expert = take(t, n * sizeof(*r->expert));
    r->weight = take(t, n * sizeof(*r->weight));
    r->by_token = take(t, n * sizeof(*r->by_token));
    r->by_record = take(t, n * sizeof(*r->by_record));
    r->place = take(t, n * sizeof(*r->place));
    r->n_of = take(t, (m->config.n_experts + 1) * sizeof(*r->n_of));
}

/* Floats for the outputs of one panel of all pairs of a step, or of more of them. */
static size_t pair_tile_floats(const struct model *m)
{
    const size_t n = m->max_step_tokens * m->config.n_experts_used * PANEL_ROWS;

    return n > TILE_FLOATS ? n : TILE_FLOATS;
}

static void take_scratch(struct model *m, size_t node, struct taker *t)
{
    const struct model_config *c = &m->config;
    const size_t n = m->max_step_tokens, n_pairs = c->rope.n_dims / 2;
    size_t act_in = m->sites[SITE_ATTN_IN].token_bytes, widest = m->d_padded;
    struct node_memory *v = &m->nodes[node];

    act_in = m->sites[SITE_FFN_IN].token_bytes > act_in ? m->sites[SITE_FFN_IN].token_bytes : act_in;
    act_in = m->sites[SITE_QK_IN].token_bytes > act_in ? m->sites[SITE_QK_IN].token_bytes : act_in;
    act_in = m->sites[SITE_HEAD_IN].token_bytes > act_in ? m->sites[SITE_HEAD_IN].token_bytes : act_in;
    widest = widest > m->group * m->head_padded ? widest : m->group * m->head_padded;
    for (size_t site = 0; site < SITE_COUNT; site++)
        widest = widest > m->sites[site].k_padded ? widest : m->sites[site].k_padded;

    v->x = take(t, n * m->d_padded * sizeof(float));
    v->act_in = take(t, n * act_in);
    v->act_attn = take(t, n * m->sites[SITE_ATTN_OUT].token_bytes);
    v->act_mid = take(t, n * m->sites[SITE_FFN_MID].token_bytes);
    v->q = take(t, n * v->qkv_floats * sizeof(float));
    v->k = v->q + v->n_kv_heads * m->group * m->head_padded;
    v->v = v->k + v->n_kv_heads * m->head_padded;
    v->sent_qkv = m->pages_dealt && !c->kv_rank ? take(t, n * v->qkv_floats * sizeof(float)) : NULL;
    v->y = take(t, n * m->d_out * sizeof(float));
    v->attn = m->heads_straddle ? take(t, n * m->sites[SITE_ATTN_OUT].k_padded * sizeof(float)) : NULL;
    v->cos = take(t, 2 * n * n_pairs * sizeof(float));
    v->sin = take(t, 2 * n * n_pairs * sizeof(float));
    v->slots = take(t, attention_slots(m, node) * attention_slot_floats(m) * sizeof(float));
    if (c->kv_rank) {
        const size_t key = m->sites[SITE_LATENT_KEY].token_bytes, value = m->sites[SITE_LATENT_VALUE].token_bytes;
        v->latent = take(t, n * m->latent_floats * sizeof(float));
        v->act_latent_q = take(t, n * m->sites[SITE_LATENT_Q].token_bytes);
        v->head_rows = take(t, n * v->n_q_heads * m->head_row_floats * sizeof(float));
        v->act_heads = take(t, n * v->n_q_heads * (key > value ? key : value));
    }
    v->act_lfa = c->filters ? take(t, n * m->sites[SITE_LFA_MID].token_bytes) : NULL;
    if (c->n_experts) {
        v->router = take(t, n * m->router_split.start[1] * PANEL_ROWS * sizeof(float));
        take_routing(m, &v->routing, n, t);
        v->act_expert = take(t, n * c->n_experts_used * m->sites[SITE_EXPERT_MID].token_bytes);
        v->act_shared = take(t, n * m->sites[SITE_SHARED_MID].token_bytes);
    }
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
        s->lfa_previous = c->filters ? take(t, TILE_FLOATS * sizeof(float)) : NULL;
        s->lfa_now = c->filters ? take(t, TILE_FLOATS * sizeof(float)) : NULL;
        if (c->n_experts) {
            const size_t in = m->sites[SITE_FFN_IN].token_bytes, mid = m->sites[SITE_EXPERT_MID].token_bytes;
            take_routing(m, &s->routing, PRIVATE_TOKENS, t);
            s->scores = take(t, m->router_split.start[1] * PANEL_ROWS * sizeof(float));
            s->choices = take(t, m->router_split.start[1] * PANEL_ROWS * sizeof(float));
            s->pair_tile = take(t, pair_tile_floats(m) * sizeof(float));
            s->expert_rows = take(t, EXPERT_ROWS * (in > mid ? in : mid));
            s->experts = take(t, c->n_experts * sizeof(*s->experts));
        }
    }
    if (node == 0) {    /* read by the batcher, written by all */
        m->logits = take(t, m->max_step_logits * m->vocab_padded * sizeof(float));
        m->stats = take(t, m->max_step_logits * m->n_segments * sizeof(*m->stats));
        m->logit_tokens = take(t, m->max_step_logits * sizeof(*m->logit_tokens));
        m->hidden = take(t, m->max_step_hidden * c->d_model * sizeof(float));
        m->output_tokens = take(t, (m->max_step_logits + m->max_step_hidden) * sizeof(*m->output_tokens));
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

static double gb(uint64_t bytes)
{
    return (double)bytes / 1e9;
}

/* Windows of layers that slide, beside so many pages: what sequences use at most, and a quarter for prefixes to be found again. */
static uint64_t windows_beside(const struct model *m, uint64_t n_pages)
{
    const uint64_t n = kv_windows_in_use(m->config.sliding_window, m->max_batch, m->max_step_tokens) + n_pages / 4;

    return n < n_pages ? n : n_pages;
}

static uint64_t kv_bytes(const struct model *m, uint64_t n_pages)
{
    return n_pages * (m->kv_page_bytes[KV_ALL_SEEN] + m->state_page_bytes) + windows_beside(m, n_pages) * m->kv_page_bytes[KV_WINDOW];
}

/* The most pages that `bytes` hold where `share` of the KV lies, and so many bytes of the filter's state for each page. */
static uint64_t pages_within(const struct model *m, double bytes, double share, uint64_t state_bytes)
{
    const double page = share * (double)m->kv_page_bytes[KV_ALL_SEEN] + (double)state_bytes;
    const double window = share * (double)m->kv_page_bytes[KV_WINDOW];
    uint64_t least = 0, most = INT32_MAX;

    while (least < most) {
        const uint64_t n = least + (most - least + 1) / 2;
        if ((double)n * page + (double)windows_beside(m, n) * window <= bytes)
            least = n;
        else
            most = n - 1;
    }
    return least;
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
    shares_node_weights(m, weights);
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        total += weights[v];
    if (m->topology.is_virtual || m->n_machine_nodes == 1)
        return 0;
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++) {
        const uint64_t fixed = load_node_bytes(m, v) + scratch_bytes(m, v), room = m->topology.nodes[v].free_bytes;
        const double heads = (double)m->nodes[v].n_kv_heads / (double)m->config.n_kv_heads;
        if (fixed > room) {
            log_error("%s: weights and scratch of node %d need %.2f GB, %.2f GB are free there: use %s", path,
                      m->topology.nodes[v].os_node, gb(fixed), gb(room),
                      m->n_replicas > 1 ? "fewer copies (--replicas)" : "more nodes (--nodes)");
            return -ENOMEM;
        }
        const double share = m->pages_dealt ? weights[v] / total : heads;
        const uint64_t most = pages_within(m, (double)(room - fixed), share, shares_state_bytes(m, v));
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
int memory_plan(struct model *m, const struct model_options *o, const char *path, size_t *n_pages)
{
    const uint64_t available = available_bytes(m);
    uint64_t fixed = 0, kv_limit = o->kv_bytes, wanted, most_pages;
    int err;

    m->n_ctx = o->n_ctx ? o->n_ctx : m->config.n_ctx_train;     /* the scratch of attention depends on it */
    if (o->kv_tokens && m->n_ctx > o->kv_tokens)
        m->n_ctx = o->kv_tokens;
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
    const uint64_t of_limit = pages_within(m, (double)kv_limit, 1, m->state_page_bytes), context = kv_pages_for(m->n_ctx);
    if (most_pages < of_limit)
        kv_limit = kv_bytes(m, most_pages);
    most_pages = most_pages < of_limit ? most_pages : of_limit;
    wanted = context * (o->full_contexts ? o->full_contexts : m->max_batch < 4 ? m->max_batch : 4);
    if (o->kv_tokens)
        wanted = kv_pages_for(o->kv_tokens);
    if (o->kv_bytes || wanted > most_pages)
        wanted = most_pages;
    if (wanted == 0 || (o->n_ctx && wanted < context)) {
        log_error("context %zu needs %.2f GB of KV cache, %.2f GB are %s: use a smaller --ctx%s", m->n_ctx, gb(kv_bytes(m, context)),
                  gb(kv_limit), o->kv_bytes ? "allowed by --kv-bytes" : "available",
                  m->kv_type == KV_F32 ? " or --kv-type bf16" : m->kv_type == KV_BF16 ? " or --kv-type q8" : "");
        return -ENOMEM;
    }
    if (wanted < context) {
        m->n_ctx = wanted * KV_CHUNK;
        log_warn("the context is cut to %zu tokens, which fit %.2f GB of KV cache (--ctx, --kv-bytes)", m->n_ctx, gb(kv_limit));
    }
    if (kv_bytes(m, wanted) > available - fixed) {
        log_error("%s: weights and scratch need %.2f GB and the KV cache %.2f GB, %.2f GB are available: use a smaller --kv-bytes",
                  path, gb(fixed), gb(kv_bytes(m, wanted)), gb(available));
        return -ENOMEM;
    }
    *n_pages = wanted;
    return 0;
}

/* Which of n pages of a kind each node keeps; start[n_parts + 1]: the parts of the cache. Returns n_parts. */
static size_t plan_regions(struct model *m, enum kv_kind kind, size_t n, size_t *start)
{
    const size_t n_nodes = pool_n_nodes(m->pool);
    struct split pages;

    if (m->pages_dealt)
        shares_split(m, &pages, n, 1);
    for (size_t v = 0; v < n_nodes; v++) {
        struct kv_region *r = &m->nodes[v].regions[kind];
        r->first_page = m->pages_dealt ? pages.start[v] : 0;
        r->n_pages = m->pages_dealt ? pages.start[v + 1] - pages.start[v] : n;
        start[v] = r->first_page;
    }
    start[m->pages_dealt ? n_nodes : 1] = n;
    return m->pages_dealt ? n_nodes : 1;
}

static int create_kv_cache(struct model *m, size_t n_pages)
{
    size_t start[TOPOLOGY_MAX_NODES + 1];
    int err = kv_cache_create(&m->kv, plan_regions(m, KV_ALL_SEEN, n_pages, start), start);

    if (!err && m->n_kv_layers[KV_WINDOW]) {
        plan_regions(m, KV_WINDOW, windows_beside(m, n_pages), start);
        err = kv_cache_add_windows(&m->kv, m->config.sliding_window, start);
    }
    return err;
}

size_t memory_node_page_bytes(const struct model *m, size_t node, enum kv_kind kind)
{
    return m->n_kv_layers[kind] * m->nodes[node].n_kv_heads * 2 * m->chunk_bytes;
}

/* The node's KV: pages of one kind after the other, then the filter's state. */
static int take_kv(struct model *m, size_t node, size_t n_pages)
{
    struct node_memory *n = &m->nodes[node];
    const size_t state_bytes = n_pages * shares_state_bytes(m, node);
    size_t offset[KV_KINDS], bytes = 0;

    for (size_t kind = 0; kind < KV_KINDS; kind++) {
        offset[kind] = bytes;
        bytes += round_up(n->regions[kind].n_pages * memory_node_page_bytes(m, node, kind), 64);
    }
    if (bytes + state_bytes == 0)
        return 0;           /* more nodes than pages or heads */
    const int err = place_arena_create(&n->kv, &m->topology, node, bytes + state_bytes, m->pages);
    for (size_t kind = 0; !err && kind < KV_KINDS; kind++)
        n->regions[kind].base = (unsigned char *)n->kv.base + offset[kind];
    n->state = !err && m->config.filters ? (float *)((char *)n->kv.base + bytes) : NULL;
    return err;
}

int memory_take(struct model *m, size_t n_pages)
{
    int err = create_kv_cache(m, n_pages);

    for (size_t v = 0; !err && v < pool_n_nodes(m->pool); v++) {
        struct node_memory *n = &m->nodes[v];
        err = place_arena_create(&n->weights, &m->topology, v, load_node_bytes(m, v), m->pages);
        if (!err)
            err = place_arena_create(&n->scratch, &m->topology, v, scratch_bytes(m, v), m->pages);
        if (!err)
            err = take_kv(m, v, n_pages);
        if (!err) {
            struct taker t = { .arena = &n->scratch };
            take_scratch(m, v, &t);
        }
    }
    return err;
}

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

void memory_touch_kv(struct model *m)
{
    pool_run(m->pool, touch_kv, m);
}
