/*
 * engine_figures.c - what steps took, read and waited for, counted by the engine's thread for GET /metrics.
 *
 * A profiled step reads clocks at each part of each layer on every worker, which costs SmolLM2, decoding one sequence on one Zen 4 core,
 * 0.4 to 0.9 % of a step (5th, 10th and 25th percentile of 1284 steps with and as many without, in turns, twice; two threads on that busy
 * machine were too noisy to tell). So only every PROFILE_EVERY-th step of a phase is profiled; its shares of computing, copying and
 * waiting hold for the steps after it, so that the three still sum to the time of all steps.
 */
#include <string.h>

#include "common/clock.h"
#include "numa/pool.h"
#include "server/engine_internal.h"

enum {
    PROFILE_EVERY = 64,         /* a power of two: leaves 0.02 % of that cost, and measures anew every 0.2 s at 3 ms a step */
    MEAN_STEPS = 16,            /* a step counts 1/16 in what is "now": 50 ms at 3 ms a step */
    BALANCE_EVERY = 16          /* steps: looking at all experts' counts takes 128 of 48 layers a few microseconds */
};

_Static_assert((int)ENGINE_MAX_NODES >= (int)TOPOLOGY_MAX_NODES, "a place for each node that a model can use");
_Static_assert((int)ENGINE_MAX_LAYERS >= (int)MODEL_MAX_LAYERS, "a place for each layer that a model can have");

/* One writer: no bus lock is needed to add. */
static void add(_Atomic uint64_t *to, uint64_t n)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n, memory_order_relaxed);
}

void figures_init(struct engine *e)
{
    struct figures *f = &e->figures;
    const struct pool *pool = model_pool(e->model);
    const struct topology *t = pool_topology(pool);
    const size_t n = pool_n_nodes(pool);
    uint64_t all = 0;

    for (size_t v = 0; v < n; v++) {
        struct figures_node *node = &f->nodes[v];
        node->node = t->is_virtual ? (int)(e->options.model.replica * n + v) : t->nodes[v].os_node;
        node->is_virtual = t->is_virtual;
        node->weight_bytes = model_node_weight_bytes(e->model, v);
        all += node->weight_bytes;
    }
    for (size_t v = 0; v < n; v++)
        f->nodes[v].weight_share = all ? (double)f->nodes[v].weight_bytes / (double)all : 0;
    f->kv_by_node = n == 1 || model_kv_cache(e->model)->pool.n_parts == n;
    figures_count_pages(e);
    if (model_n_moe_layers(e->model)) {
        f->experts.n_experts = model_config(e->model)->n_experts;
        f->experts.n_used = model_config(e->model)->n_experts_used;
        f->experts.n_layers = model_config(e->model)->n_layers;
        f->experts.n_moe_layers = model_n_moe_layers(e->model);
        f->experts.model_reads = model_experts_read(e->model);
    }
    atomic_store(&f->n_nodes, n);
}

void figures_count_pages(struct engine *e)
{
    const struct kv_pool *kv = &model_kv_cache(e->model)->pool;

    for (size_t i = 0; i < kv->n_parts; i++) {
        atomic_store_explicit(&e->figures.nodes[i].kv_pages, kv->start[i + 1] - kv->start[i], memory_order_relaxed);
        atomic_store_explicit(&e->figures.nodes[i].kv_free, kv->n_blank_of[i], memory_order_relaxed);
        atomic_store_explicit(&e->figures.nodes[i].kv_cached, kv->n_idle_of[i], memory_order_relaxed);
    }
}

static enum engine_phase phase_of(size_t n, size_t n_prompt)
{
    return n_prompt == 0 ? ENGINE_STEP_DECODE : n_prompt == n ? ENGINE_STEP_PREFILL : ENGINE_STEP_MIXED;
}

void figures_begin_step(struct engine *e, size_t n, size_t n_prompt)
{
    struct figures *f = &e->figures;

    f->profiles = f->n_steps[phase_of(n, n_prompt)]++ % PROFILE_EVERY == 0;
    if (f->profiles)
        model_profile(e->model, &f->profile);
    f->began_ns = clock_now_ns();
}

/* The shares of the first profiled step, then a mean in which each further one counts a quarter. */
static void learn_shares(struct engine *e, enum engine_phase phase)
{
    struct figures *f = &e->figures;
    const double part = f->n_steps[phase] == 1 ? 1 : 0.25;

    for (size_t v = 0; v < atomic_load_explicit(&f->n_nodes, memory_order_relaxed); v++) {
        struct figures_shares *share = &f->nodes[v].share[phase];
        const uint64_t *ns = f->profile.node_ns[v];
        double all = 0;

        for (size_t i = 0; i < PROFILE_PARTS; i++)
            all += (double)ns[i];
        if (all <= 0)
            continue;
        share->copy += part * ((double)ns[PROFILE_EXCHANGE] / all - share->copy);
        share->barrier += part * ((double)ns[PROFILE_WAIT] / all - share->barrier);
        if (phase == ENGINE_STEP_DECODE)
            atomic_store_explicit(&f->nodes[v].barrier_ppm, (uint64_t)(share->barrier * 1e6), memory_order_relaxed);
    }
    add(&f->steps_profiled, 1);
}

void figures_end_model(struct engine *e)
{
    e->figures.model_ended_ns = clock_now_ns();
    if (e->figures.profiles)
        model_profile(e->model, NULL);
}

/* What attention reads, once for each sequence of the step. */
static uint64_t kv_read_bytes(const struct engine *e)
{
    uint64_t n = 0;

    for (size_t i = 0; i < e->scheduler.n_running; i++) {
        const struct sequence *q = e->scheduler.running[i];
        n += q->n_step ? model_kv_read_bytes(&e->info, q->n_done + q->n_step) : 0;
    }
    return n;
}

/* Of a step of n tokens. */
static void count_experts(struct engine *e, enum engine_phase phase, size_t n)
{
    struct figures_experts *x = &e->figures.experts;
    const uint64_t reads = model_experts_read(e->model) - x->model_reads;

    x->model_reads += reads;
    add(&x->tokens, n * x->n_used * x->n_moe_layers);
    add(&x->reads, reads);
    add(&x->read_bytes[phase], model_expert_bytes(e->model));
    metric_observe(&x->step_experts, BOUNDS_TOKENS, (reads + x->n_moe_layers / 2) / x->n_moe_layers);
    if (x->n_steps++ % BALANCE_EVERY)
        return;
    for (size_t i = 0; i < x->n_layers; i++)
        atomic_store_explicit(&x->busiest[i], (float)model_expert_busiest(e->model, i), memory_order_relaxed);
}

void figures_end_step(struct engine *e, size_t n, size_t n_prompt)
{
    struct figures *f = &e->figures;
    const enum engine_phase phase = phase_of(n, n_prompt);
    const uint64_t model_ns = f->model_ended_ns - f->began_ns;
    const double bytes = (double)(e->info.step_weight_bytes + model_expert_bytes(e->model) + kv_read_bytes(e));

    metric_observe(&f->step_ns[phase], BOUNDS_GAP, clock_now_ns() - f->began_ns);
    metric_observe(&f->step_tokens, BOUNDS_STEP_TOKENS, n);
    if (f->profiles)
        learn_shares(e, phase);
    if (f->experts.n_experts)
        count_experts(e, phase, n);
    if (phase == ENGINE_STEP_DECODE) {
        const double part = f->mean_ns > 0 ? 1.0 / MEAN_STEPS : 1;
        f->mean_ns += part * ((double)model_ns - f->mean_ns);
        f->mean_bytes += part * (bytes - f->mean_bytes);
    }
    for (size_t v = 0; v < atomic_load_explicit(&f->n_nodes, memory_order_relaxed); v++) {
        struct figures_node *node = &f->nodes[v];
        const uint64_t copy = (uint64_t)((double)model_ns * node->share[phase].copy);
        const uint64_t barrier = (uint64_t)((double)model_ns * node->share[phase].barrier);

        add(&node->copy_ns, copy);
        add(&node->barrier_ns, barrier);
        add(&node->compute_ns, model_ns > copy + barrier ? model_ns - copy - barrier : 0);
        add(&node->read_bytes[phase], (uint64_t)(bytes * node->weight_share));
        if (f->mean_ns > 0)
            atomic_store_explicit(&node->decode_bytes_per_s, (uint64_t)(f->mean_bytes / f->mean_ns * 1e9 * node->weight_share),
                                  memory_order_relaxed);
    }
}

static void copy_experts(const struct figures_experts *from, struct engine_expert_figures *to)
{
    to->n_experts = from->n_experts;
    to->n_layers = from->n_layers;
    to->tokens = from->tokens;
    to->reads = from->reads;
    for (size_t i = 0; i < ENGINE_PHASES; i++)
        to->read_bytes[i] = from->read_bytes[i];
    metric_histogram_read(&from->step_experts, &to->step_experts);
    for (size_t i = 0; i < from->n_layers; i++)
        to->busiest[i] = atomic_load_explicit(&from->busiest[i], memory_order_relaxed);
}

void engine_figures(const struct engine *e, struct engine_figures *out)
{
    const struct figures *f = &e->figures;

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < ENGINE_PHASES; i++)
        metric_histogram_read(&f->step_ns[i], &out->step_ns[i]);
    metric_histogram_read(&f->step_tokens, &out->step_tokens);
    out->steps_profiled = f->steps_profiled;
    out->n_nodes = f->n_nodes;
    out->kv_by_node = out->n_nodes && f->kv_by_node;
    if (out->n_nodes)
        copy_experts(&f->experts, &out->experts);
    for (size_t v = 0; v < out->n_nodes; v++) {
        const struct figures_node *from = &f->nodes[v];
        struct engine_node_figures *to = &out->nodes[v];

        *to = (struct engine_node_figures){
            .node = from->node, .is_virtual = from->is_virtual, .weight_bytes = from->weight_bytes, .kv_pages = from->kv_pages,
            .kv_cached = from->kv_cached, .kv_free = from->kv_free,
            .compute_ns = from->compute_ns, .copy_ns = from->copy_ns, .barrier_ns = from->barrier_ns,
            .decode_bytes_per_s = (double)from->decode_bytes_per_s, .barrier_share = (double)from->barrier_ppm / 1e6,
        };
        for (size_t i = 0; i < ENGINE_PHASES; i++)
            to->read_bytes[i] = from->read_bytes[i];
    }
}
