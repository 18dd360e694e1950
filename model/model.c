/*
 * model.c - opens a model: nodes and workers, memory, weights; and tells what it found.
 */
#include "model/model.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "model/forward_internal.h"

/* The other model's nodes, with what it left of their memory. */
static int share_nodes(struct model *m, const struct model *other)
{
    struct topology now;
    const int err = topology_read(&now, "");

    m->topology = other->topology;
    m->pool = other->pool;
    m->shares_pool = true;
    m->n_machine_nodes = other->n_machine_nodes;
    m->n_replicas = other->n_replicas;
    m->memory_share = other->memory_share;
    for (size_t v = 0; v < m->topology.n_nodes && !m->topology.is_virtual; v++)
        for (size_t i = 0; i < now.n_nodes; i++)
            if (now.nodes[i].os_node == m->topology.nodes[v].os_node)
                m->topology.nodes[v].free_bytes = now.nodes[i].free_bytes;
    topology_free(&now);
    return err;
}

static int open_own_nodes(struct model *m, const struct model_options *o)
{
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
    return err ? err : pool_create(&m->pool, &m->topology, o->n_threads);
}

static int open_nodes(struct model *m, const struct model_options *o)
{
    const enum isa best = cpu_best_isa();
    const int err = o->beside ? share_nodes(m, o->beside) : open_own_nodes(m, o);

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
    m->n_state_slots = o->max_drafts + 1;
    m->max_step_logits = o->max_step_logits ? o->max_step_logits : m->max_batch;
    if (m->max_step_logits > m->max_step_tokens)
        m->max_step_logits = m->max_step_tokens;
    m->max_step_hidden = o->max_step_hidden < m->max_step_tokens ? o->max_step_hidden : m->max_step_tokens;
    err = model_config_read(&m->config, g);
    if (err)
        goto fail;
    err = open_nodes(m, o);
    if (err)
        goto fail;
    m->layers = calloc(m->config.n_layers, sizeof(*m->layers));
    m->workers = calloc(pool_n_workers(m->pool), sizeof(*m->workers));
    err = m->layers && m->workers ? rope_open(&m->rope, &m->config.rope, g) : -ENOMEM;
    if (!err)
        err = rope_open(&m->rope_sliding, &m->config.rope_sliding, g);
    if (err)
        goto fail;
    shares_plan(m);
    err = gemm_open(m);
    if (!err)
        err = load_plan(m, g, o->type);
    if (err)
        goto fail;
    shares_plan_sites(m);
    for (size_t i = 0; i < m->config.n_layers; i++) {
        struct layer *l = &m->layers[i];
        if (l->is_moe)
            l->use = calloc(1, sizeof(*l->use) + m->config.n_experts * sizeof(l->use->n_of[0]));
        if (l->is_moe && !l->use) {
            err = -ENOMEM;
            goto fail;
        }
        m->n_moe_layers += l->is_moe;
        m->experts_differ |= l->is_moe && (forward_roles_differ(m, &l->gate, SITE_FFN_IN) || forward_roles_differ(m, &l->up, SITE_FFN_IN) ||
                                           forward_roles_differ(m, &l->down, SITE_EXPERT_MID));
    }
    err = memory_plan(m, o, gguf_path(g), &n_pages);
    if (!err)
        err = memory_take(m, n_pages);
    if (!err)
        err = load_weights(m, g, o->allow_nonfinite, progress, arg);
    if (err)
        goto fail;
    memory_touch_kv(m);
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
    if (!m->shares_pool)
        pool_destroy(m->pool);
    for (size_t v = 0; v < TOPOLOGY_MAX_NODES; v++) {
        place_arena_free(&m->nodes[v].weights);
        place_arena_free(&m->nodes[v].kv);
        place_arena_free(&m->nodes[v].scratch);
    }
    kv_cache_destroy(&m->kv);
    if (!m->shares_pool)
        topology_free(&m->topology);
    rope_close(&m->rope);
    rope_close(&m->rope_sliding);
    for (size_t i = 0; m->layers && i < m->config.n_layers; i++)
        free(m->layers[i].use);
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
        .kv_bytes = m->kv.pool.n_pages * (m->kv_page_bytes[KV_ALL_SEEN] + m->state_page_bytes) +
                    m->kv.window_pool.n_pages * m->kv_page_bytes[KV_WINDOW],
        .kv_page_bytes = m->kv_page_bytes[KV_ALL_SEEN] + m->kv_page_bytes[KV_WINDOW] + m->state_page_bytes,
        .kv_token_bytes = m->kv_page_bytes[KV_ALL_SEEN] / KV_CHUNK,
        .kv_window = m->kv.span,
        .kv_window_token_bytes = m->kv_page_bytes[KV_WINDOW] / KV_CHUNK,
        .kv_pages = m->kv.pool.n_pages,
        .page_tokens = KV_CHUNK,
        .load_s = m->load_s,
        .gemm = gemm_name(m),
        .gemm_implementation = m->gemm_implementation,
        .roles_agree = m->roles_agree,
        .same_bits = m->same_bits,
        .rope_lengths = { m->config.rope.scaling == ROPE_LONG || m->config.rope.scaling == ROPE_DYNAMIC ?
                          (size_t)m->config.rope.n_ctx_original : 0, m->config.rope.scaling == ROPE_DYNAMIC },
    };
}

uint64_t model_expert_bytes(const struct model *m)
{
    return m->expert_bytes;
}

size_t model_n_moe_layers(const struct model *m)
{
    return m->n_moe_layers;
}

uint64_t model_experts_read(const struct model *m)
{
    return m->n_experts_read;
}

double model_expert_busiest(const struct model *m, size_t layer)
{
    const struct expert_use *use = m->layers[layer].use;
    uint32_t most = 0;

    for (size_t e = 0; use && e < m->config.n_experts; e++)
        most = use->n_of[e] > most ? use->n_of[e] : most;
    return most ? (double)most * (double)m->config.n_experts / (double)use->n_pairs : 0;
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
