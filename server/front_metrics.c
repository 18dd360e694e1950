/*
 * front_metrics.c - what requests met, counted by the front's threads, and GET /metrics: this and the engines' figures as text.
 *
 * Names are one interface with dashboards: they stay. Labels come from our own tables, never from a client.
 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/front_internal.h"

static const int statuses[FRONT_STATUSES - 1] = { 200, 204, 400, 401, 403, 404, 405, 408, 413, 422, 429, 431, 499, 500, 501, 503, 504 };
static const char *const finish_names[FINISHES] = { "stop", "length", "tool_calls", "abort", "error" };
static const char *const rejection_names[REJECTIONS] = { "queue_requests", "queue_tokens", "kv", "rate", "context" };
static const char *const phase_names[PHASES] = { "upload", "queue", "prefill", "decode" };
static const char *const preemption_names[ENGINE_PREEMPTIONS] = { "park", "spill", "recompute" };
static const char *const step_names[ENGINE_PHASES] = { "prefill", "decode", "mixed" };

void front_count_reply(struct front *f, const struct route *route, int status)
{
    size_t i = 0;

    while (i < FRONT_STATUSES - 1 && statuses[i] != status)
        i++;
    metric_add(&f->metrics.requests[route_index(route)][i], 1);
}

void front_count_gone(struct job *job)
{
    if (job->gone || !job->route->engine || job_done(job))
        return;
    metric_add(&job->front->metrics.disconnects[job->decodes ? PHASE_DECODE : job->begun ? PHASE_PREFILL : PHASE_QUEUE], 1);
}

void front_count_end(const struct job *job, const struct completion_summary *s)
{
    struct front_metrics *m = &job->front->metrics;
    size_t reason = 0;

    while (reason < FINISH_ERROR && strcmp(finish_names[reason], s->finish_reason) != 0)
        reason++;
    metric_add(&m->finished[reason], 1);
    metric_observe(&m->total, BOUNDS_REQUEST, clock_now_ns() - job->arrived_ns);
    metric_observe(&m->prompt_tokens, BOUNDS_TOKENS, s->n_prompt);
    if (job->completion)
        metric_observe(&m->generation_tokens, BOUNDS_TOKENS, s->n_generated);
    if (s->queue_ns)
        metric_observe(&m->queue, BOUNDS_REQUEST, s->queue_ns);
    if (s->prompt_ns)
        metric_observe(&m->prefill, BOUNDS_REQUEST, s->prompt_ns);
    if (s->decode_ns)
        metric_observe(&m->decode, BOUNDS_REQUEST, s->decode_ns);
    if (s->token_ns)
        metric_observe(&m->token, BOUNDS_GAP, s->token_ns);
}

/* What the engines tell, all together; a node belongs to one replica. */
struct view {
    struct front *front;
    struct buf *out;
    size_t n_replicas;
    struct engine_status status;
    struct engine_figures *replica;         /* [n_replicas] */
    struct metric_histogram_copy step_ns[ENGINE_PHASES], step_tokens;
    uint64_t steps_profiled;
    double kv_usage;                        /* once write_kv_pages has summed it */
};

static int view_read(struct view *v)
{
    const struct replicas *r = v->front->replicas;

    replicas_status(r, &v->status);
    v->n_replicas = r->n;
    v->replica = calloc(r->n ? r->n : 1, sizeof(*v->replica));
    if (!v->replica)
        return -1;
    for (size_t i = 0; i < r->n; i++) {
        struct engine_figures *f = &v->replica[i];
        engine_figures(r->engine[i], f);
        for (size_t phase = 0; phase < ENGINE_PHASES; phase++)
            metric_histogram_sum(&v->step_ns[phase], &f->step_ns[phase]);
        metric_histogram_sum(&v->step_tokens, &f->step_tokens);
        v->steps_profiled += f->steps_profiled;
    }
    return 0;
}

static void gauge(struct view *v, const char *name, const char *help, double value)
{
    metrics_family(v->out, name, METRIC_GAUGE, help);
    metrics_value(v->out, name, NULL, value);
}

static void counter(struct view *v, const char *name, const char *help, const char *label, const char *label_value, uint64_t value)
{
    const char *const labels[] = { label, label_value, NULL };

    metrics_family(v->out, name, METRIC_COUNTER, help);
    metrics_count(v->out, name, labels, value);
}

/* A counter with a sample for each value of one label. */
static void counters(struct view *v, const char *name, const char *help, const char *label, const char *const *values,
                     const _Atomic uint64_t *counts, size_t n)
{
    metrics_family(v->out, name, METRIC_COUNTER, help);
    for (size_t i = 0; i < n; i++) {
        const char *const labels[] = { label, values[i], NULL };
        metrics_count(v->out, name, labels, counts[i]);
    }
}

static void histogram(struct view *v, const char *name, const char *help, enum metric_bounds bounds, const struct metric_histogram *h,
                      uint64_t most)
{
    struct metric_histogram_copy copy = { 0 };

    metric_histogram_read(h, &copy);
    metrics_family(v->out, name, METRIC_HISTOGRAM, help);
    metrics_histogram(v->out, name, NULL, bounds, &copy, 0, most);
}

static void write_server(struct view *v, const struct http *http)
{
    struct front *f = v->front;
    const bool has_facts = atomic_load(&f->has_facts), draining = atomic_load(&f->draining);
    const struct engine_status *s = &v->status;
    char n_ctx[24];

    snprintf(n_ctx, sizeof(n_ctx), "%u", s->n_ctx);
    const char *const build[] = { "version", FOURWAY_VERSION, "isa", has_facts ? f->facts.isa : "", NULL };
    metrics_family(v->out, "fourway_build_info", METRIC_GAUGE,
                   "1; the program, and the instruction set that it uses once the model is loaded.");
    metrics_value(v->out, "fourway_build_info", build, 1);
    metrics_family(v->out, "fourway_model_info", METRIC_GAUGE, "1; the model, once it is loaded.");
    if (has_facts) {
        const char *const model[] = { "model_name", f->options.model.names[0], "arch", f->facts.arch, "quant", f->facts.quant,
                                      "n_ctx", n_ctx, NULL };
        metrics_value(v->out, "fourway_model_info", model, 1);
    }
    gauge(v, "fourway_ready", "1 if requests are taken, as /readyz says.", !draining && s->state == ENGINE_READY && has_facts);
    gauge(v, "fourway_model_load_ratio", "Share of the model that is loaded.",
          has_facts ? 1 : s->load_bytes_total ? (double)s->load_bytes_done / (double)s->load_bytes_total : 0);
    gauge(v, "fourway_requests_running", "Sequences in the batch.", s->n_running);
    gauge(v, "fourway_requests_waiting", "Sequences in the queue.", s->n_waiting);
    gauge(v, "fourway_waiting_tokens", "Tokens of the sequences in the queue.", (double)s->waiting_tokens);
    gauge(v, "fourway_open_connections", "HTTP connections.", (double)http_n_connections(http));
}

static void write_requests(struct view *v)
{
    struct front_metrics *m = &v->front->metrics;
    const uint64_t most = v->status.n_ctx;

    metrics_family(v->out, "fourway_requests_total", METRIC_COUNTER, "Replies begun, by path and HTTP status; route other: no such path.");
    for (size_t i = 0; i <= FRONT_MAX_ROUTES; i++) {
        for (size_t j = 0; j < FRONT_STATUSES; j++) {
            char status[12] = "other";
            const char *const labels[] = { "route", i < FRONT_MAX_ROUTES && route_at(i) ? route_at(i)->path : "other",
                                           "status", status, NULL };
            if (j < FRONT_STATUSES - 1)
                snprintf(status, sizeof(status), "%d", statuses[j]);
            if (m->requests[i][j])
                metrics_count(v->out, "fourway_requests_total", labels, m->requests[i][j]);
        }
    }
    counters(v, "fourway_requests_finished_total", "Completions that ended, by the finish_reason of their first choice.", "reason",
             finish_names, m->finished, FINISHES);
    counters(v, "fourway_admission_rejections_total", "Requests refused for want of room.", "reason", rejection_names, m->rejected,
             REJECTIONS);
    counters(v, "fourway_disconnects_total", "Clients that left before their reply was complete, by what was done for them.", "phase",
             phase_names, m->disconnects, PHASES);
    metrics_family(v->out, "fourway_corrupted_requests_total", METRIC_COUNTER, "Sequences whose logits were NaN or infinite.");
    metrics_count(v->out, "fourway_corrupted_requests_total", NULL, m->corrupted);

    histogram(v, "fourway_time_to_first_token_seconds", "From a request's arrival to its first token.", BOUNDS_FIRST_TOKEN,
              &m->first_token, 0);
    histogram(v, "fourway_inter_token_latency_seconds", "From token to token of a choice.", BOUNDS_GAP, &m->gap, 0);
    histogram(v, "fourway_time_per_output_token_seconds", "Mean time from token to token of a request's first choice.", BOUNDS_GAP,
              &m->token, 0);
    histogram(v, "fourway_e2e_request_latency_seconds", "From a request's arrival to its end.", BOUNDS_REQUEST, &m->total, 0);
    histogram(v, "fourway_request_queue_seconds", "In the queue of the engine.", BOUNDS_REQUEST, &m->queue, 0);
    histogram(v, "fourway_request_prefill_seconds", "From leaving the queue to the first token.", BOUNDS_REQUEST, &m->prefill, 0);
    histogram(v, "fourway_request_decode_seconds", "From the first token to the last.", BOUNDS_REQUEST, &m->decode, 0);
    histogram(v, "fourway_request_prompt_tokens", "Prompt tokens of a request.", BOUNDS_TOKENS, &m->prompt_tokens, most);
    histogram(v, "fourway_request_generation_tokens", "Tokens generated for a completion, all choices.", BOUNDS_TOKENS,
              &m->generation_tokens, most);
}

static void write_kv_pages(struct view *v)
{
    static const char *const states[] = { "used", "cached", "free" };
    uint64_t pages = 0, all_used = 0;

    metrics_family(v->out, "fourway_kv_pages", METRIC_GAUGE, "Pages of the KV cache; node all: a part of each page lies on every node.");
    for (size_t r = 0; r < v->n_replicas; r++) {
        const struct engine_figures *f = &v->replica[r];
        for (size_t i = 0; i < (f->kv_by_node ? f->n_nodes : f->n_nodes > 0); i++) {
            const struct engine_node_figures *n = &f->nodes[i];
            const uint64_t unused = n->kv_free + n->kv_cached;     /* read one after the other: may be more than all for a moment */
            const uint64_t used = unused < n->kv_pages ? n->kv_pages - unused : 0, counts[] = { used, n->kv_cached, n->kv_free };
            char node[16], replica[24];
            snprintf(node, sizeof(node), "%d", n->node);
            snprintf(replica, sizeof(replica), "%zu", r);
            for (size_t k = 0; k < 3; k++) {
                const char *const labels[] = { "state", states[k], "node", f->kv_by_node ? node : "all",
                                               v->n_replicas > 1 ? "replica" : NULL, replica, NULL };
                metrics_count(v->out, "fourway_kv_pages", labels, counts[k]);
            }
            pages += n->kv_pages;
            all_used += used;
        }
    }
    v->kv_usage = pages ? (double)all_used / (double)pages : 0;
    gauge(v, "fourway_kv_usage_ratio", "Share of the KV cache's pages that sequences hold.", v->kv_usage);
}

static void write_engine(struct view *v)
{
    const struct engine_status *s = &v->status;

    counter(v, "fourway_prefix_cache_queries_total", "Prompt tokens looked for in the prefix cache.", "unit", "tokens",
            s->prefix_lookup_tokens);
    counter(v, "fourway_prefix_cache_hits_total", "Prompt tokens found there.", "unit", "tokens", s->prefix_hit_tokens);
    counter(v, "fourway_prompt_tokens_total", "Prompt tokens of requests, each once.", "source", "computed", s->tokens_prompt);
    metrics_count(v->out, "fourway_prompt_tokens_total", (const char *const[]){ "source", "cached", NULL }, s->prefix_hit_tokens);
    counter(v, "fourway_generation_tokens_total", "Tokens generated.", NULL, NULL, s->tokens_generated);
    metrics_family(v->out, "fourway_preemptions_total", METRIC_COUNTER, "Sequences that had to wait for KV pages while others ran: parked "
                   "with theirs, spilled to spare memory, or to be computed again.");
    for (size_t i = 0; i < ENGINE_PREEMPTIONS; i++)
        metrics_count(v->out, "fourway_preemptions_total", (const char *const[]){ "kind", preemption_names[i], NULL }, s->preemptions[i]);
    counter(v, "fourway_draft_tokens_total", "Tokens that speculation drafted, by whether they were drawn.", "outcome", "accepted",
            s->drafts_accepted);
    metrics_count(v->out, "fourway_draft_tokens_total", (const char *const[]){ "outcome", "refused", NULL }, s->drafts_refused);
    write_kv_pages(v);
    metrics_family(v->out, "fourway_step_seconds", METRIC_HISTOGRAM, "A step of the model, with sampling, by whose tokens it computed.");
    for (size_t i = 0; i < ENGINE_PHASES; i++) {
        const char *const labels[] = { "phase", step_names[i], NULL };
        metrics_histogram(v->out, "fourway_step_seconds", labels, BOUNDS_GAP, &v->step_ns[i], 0, 0);
    }
    metrics_family(v->out, "fourway_step_tokens", METRIC_HISTOGRAM, "Tokens of a step.");
    metrics_histogram(v->out, "fourway_step_tokens", NULL, BOUNDS_STEP_TOKENS, &v->step_tokens, 0, 0);
}

/* Measured reads of a node by its own cores; 0: not known. Virtual nodes have none. */
static double node_reads(const struct front *f, const struct engine_node_figures *n)
{
    for (size_t i = 0; atomic_load(&f->has_facts) && i < f->facts.n_nodes && !n->is_virtual; i++)
        if (f->facts.nodes[i].node == n->node)
            return f->facts.nodes[i].read_bytes_per_s;
    return 0;
}

/* A family with samples of every node: `write` gives those of one, whose label is `node`. */
typedef void (*node_fn)(struct view *v, const char *name, const char *node, const struct engine_node_figures *n);

static void each_node(struct view *v, const char *name, enum metric_type type, const char *help, node_fn write)
{
    metrics_family(v->out, name, type, help);
    for (size_t r = 0; r < v->n_replicas; r++) {
        for (size_t i = 0; i < v->replica[r].n_nodes; i++) {
            char node[16];
            snprintf(node, sizeof(node), "%d", v->replica[r].nodes[i].node);
            write(v, name, node, &v->replica[r].nodes[i]);
        }
    }
}

static void write_weights(struct view *v, const char *name, const char *node, const struct engine_node_figures *n)
{
    const char *const labels[] = { "node", node, NULL };
    metrics_count(v->out, name, labels, n->weight_bytes);
}

static void write_bandwidth(struct view *v, const char *name, const char *node, const struct engine_node_figures *n)
{
    const char *const labels[] = { "node", node, NULL };
    if (node_reads(v->front, n) > 0)
        metrics_value(v->out, name, labels, node_reads(v->front, n));
}

static void write_reads(struct view *v, const char *name, const char *node, const struct engine_node_figures *n)
{
    for (size_t i = 0; i < ENGINE_PHASES; i++) {
        const char *const labels[] = { "node", node, "phase", step_names[i], NULL };
        metrics_count(v->out, name, labels, n->read_bytes[i]);
    }
}

static void write_decode_rate(struct view *v, const char *name, const char *node, const struct engine_node_figures *n)
{
    const char *const labels[] = { "node", node, NULL };
    metrics_value(v->out, name, labels, n->decode_bytes_per_s);
}

static void write_times(struct view *v, const char *name, const char *node, const struct engine_node_figures *n)
{
    const struct { const char *state; uint64_t ns; } of[] = { { "compute", n->compute_ns }, { "copy", n->copy_ns },
                                                             { "barrier", n->barrier_ns } };

    for (size_t i = 0; i < 3; i++) {
        const char *const labels[] = { "node", node, "state", of[i].state, NULL };
        metrics_value(v->out, name, labels, (double)of[i].ns / 1e9);
    }
}

static void write_barrier_share(struct view *v, const char *name, const char *node, const struct engine_node_figures *n)
{
    const char *const labels[] = { "node", node, NULL };
    metrics_value(v->out, name, labels, n->barrier_share);
}

static void write_mbu(struct view *v)
{
    static const char name[] = "fourway_mbu_ratio";

    metrics_family(v->out, name, METRIC_GAUGE, "What decode steps read a second, now, of what all cores of these nodes can read; only with "
                   "--machine FILE, on real nodes.");
    for (size_t r = 0; r < v->n_replicas; r++) {
        const struct engine_figures *f = &v->replica[r];
        double read = 0, most = 0;
        bool known = f->n_nodes > 0;
        char replica[24];

        for (size_t i = 0; i < f->n_nodes; i++) {
            const double reads = node_reads(v->front, &f->nodes[i]);
            known = known && reads > 0;
            most += reads;
            read += f->nodes[i].decode_bytes_per_s;
        }
        snprintf(replica, sizeof(replica), "%zu", r);
        const char *const labels[] = { v->n_replicas > 1 ? "replica" : NULL, replica, NULL };
        if (known)
            metrics_value(v->out, name, labels, read / most);
    }
}

static void write_nodes(struct view *v)
{
    each_node(v, "fourway_weight_bytes", METRIC_GAUGE, "Weights in the memory of a node, as packed, with what each node has a copy of.",
              write_weights);
    each_node(v, "fourway_numa_read_bandwidth_bytes_per_second", METRIC_GAUGE,
              "What a node's cores can read of its memory, measured; only with --machine FILE, on real nodes.", write_bandwidth);
    each_node(v, "fourway_read_bytes_total", METRIC_COUNTER, "Weights (as in the file) and KV that steps must read; a node's part is its "
              "share of the weights.", write_reads);
    each_node(v, "fourway_decode_read_bytes_per_second", METRIC_GAUGE, "What decode steps read a second of their time; a mean in which the "
              "last 16 steps count most.", write_decode_rate);
    write_mbu(v);
    each_node(v, "fourway_node_seconds_total", METRIC_COUNTER, "Time of steps of a node's workers, on average: computing, copying from "
              "other nodes, waiting at barriers. Shares are measured in one step of 64.", write_times);
    each_node(v, "fourway_barrier_ratio", METRIC_GAUGE, "Share of a decode step's time that a node's workers wait at barriers.",
              write_barrier_share);
    counter(v, "fourway_profiled_steps_total", "Steps whose parts were measured.", NULL, NULL, v->steps_profiled);
}

/* Which experts tokens went to: only models with mixtures of experts have these families. */
static void write_experts(struct view *v)
{
    struct metric_histogram_copy step_experts = { 0 };
    uint64_t tokens = 0, reads = 0, bytes[ENGINE_PHASES] = { 0 };
    size_t n_experts = 0;

    for (size_t r = 0; r < v->n_replicas; r++) {
        const struct engine_expert_figures *x = &v->replica[r].experts;
        n_experts = x->n_experts > n_experts ? x->n_experts : n_experts;
        tokens += x->tokens;
        reads += x->reads;
        for (size_t i = 0; i < ENGINE_PHASES; i++)
            bytes[i] += x->read_bytes[i];
        metric_histogram_sum(&step_experts, &x->step_experts);
    }
    if (!n_experts)
        return;
    counter(v, "fourway_expert_tokens_total", "Tokens that experts computed, of all layers: one counts for every expert that it went to.",
            NULL, NULL, tokens);
    counter(v, "fourway_expert_reads_total", "Experts that steps read, of all layers; tokens over reads is how many shared one.",
            NULL, NULL, reads);
    metrics_family(v->out, "fourway_expert_read_bytes_total", METRIC_COUNTER,
                   "Experts' part, on all nodes together, of fourway_read_bytes_total.");
    for (size_t i = 0; i < ENGINE_PHASES; i++)
        metrics_count(v->out, "fourway_expert_read_bytes_total", (const char *const[]){ "phase", step_names[i], NULL }, bytes[i]);
    metrics_family(v->out, "fourway_step_experts", METRIC_HISTOGRAM, "Experts of a layer that a step read, on average over its layers.");
    metrics_histogram(v->out, "fourway_step_experts", NULL, BOUNDS_TOKENS, &step_experts, 0, n_experts);
    metrics_family(v->out, "fourway_expert_busiest_ratio", METRIC_GAUGE, "Tokens of a layer's busiest expert over the mean of its experts, "
                   "of about the last thousand tokens for each; 1: all are as busy.");
    for (size_t r = 0; r < v->n_replicas; r++) {
        const struct engine_expert_figures *x = &v->replica[r].experts;
        for (size_t i = 0; i < x->n_layers; i++) {
            char layer[24], replica[24];
            snprintf(layer, sizeof(layer), "%zu", i);
            snprintf(replica, sizeof(replica), "%zu", r);
            const char *const labels[] = { "layer", layer, v->n_replicas > 1 ? "replica" : NULL, replica, NULL };
            if (x->busiest[i] > 0)
                metrics_value(v->out, "fourway_expert_busiest_ratio", labels, (double)x->busiest[i]);
        }
    }
}

/* ---- vLLM's names (v1/metrics/loggers.py), for --metrics-compat vllm: the same numbers, in its own buckets ---- */

enum { VLLM_LEAST_GAP_NS = 10000000, VLLM_LEAST_REQUEST_NS = 300000000 };       /* its first bounds; ours begin below */

static void vllm_value(struct view *v, const char *name, enum metric_type type, const char *help, double value)
{
    const char *const labels[] = { "model_name", v->front->options.model.names[0], "engine", "0", NULL };

    metrics_family(v->out, name, type, help);
    metrics_value(v->out, name, labels, value);
}

static void vllm_histogram_of(struct view *v, const char *name, const char *help, enum metric_bounds bounds,
                              const struct metric_histogram_copy *h)
{
    const char *const labels[] = { "model_name", v->front->options.model.names[0], "engine", "0", NULL };
    const uint64_t least = bounds == BOUNDS_GAP ? VLLM_LEAST_GAP_NS : bounds == BOUNDS_REQUEST ? VLLM_LEAST_REQUEST_NS : 0;

    metrics_family(v->out, name, METRIC_HISTOGRAM, help);
    metrics_histogram(v->out, name, labels, bounds, h, least, 0);
}

static void vllm_histogram(struct view *v, const char *name, const char *help, enum metric_bounds bounds, const struct metric_histogram *h)
{
    struct metric_histogram_copy copy = { 0 };

    metric_histogram_read(h, &copy);
    vllm_histogram_of(v, name, help, bounds, &copy);
}

static void write_vllm(struct view *v)
{
    const struct engine_status *s = &v->status;
    struct front_metrics *m = &v->front->metrics;

    vllm_value(v, "vllm:num_requests_running", METRIC_GAUGE, "Sequences in the batch.", s->n_running);
    vllm_value(v, "vllm:num_requests_waiting", METRIC_GAUGE, "Sequences in the queue.", s->n_waiting);
    vllm_value(v, "vllm:kv_cache_usage_perc", METRIC_GAUGE, "Share of the KV cache in use, 0 to 1.", v->kv_usage);
    vllm_value(v, "vllm:prefix_cache_queries_total", METRIC_COUNTER, "Prompt tokens looked for in the prefix cache.",
               (double)s->prefix_lookup_tokens);
    vllm_value(v, "vllm:prefix_cache_hits_total", METRIC_COUNTER, "Prompt tokens found there.", (double)s->prefix_hit_tokens);
    vllm_value(v, "vllm:num_preemptions_total", METRIC_COUNTER, "Sequences that gave their KV pages back.",
               (double)(s->preemptions[ENGINE_SPILL] + s->preemptions[ENGINE_RECOMPUTE]));
    vllm_value(v, "vllm:prompt_tokens_total", METRIC_COUNTER, "Prompt tokens of requests.",
               (double)(s->tokens_prompt + s->prefix_hit_tokens));
    vllm_value(v, "vllm:generation_tokens_total", METRIC_COUNTER, "Tokens generated.", (double)s->tokens_generated);
    metrics_family(v->out, "vllm:request_success_total", METRIC_COUNTER, "Completions that ended, by their finish_reason.");
    for (size_t i = 0; i < FINISHES; i++) {
        const char *const labels[] = { "model_name", v->front->options.model.names[0], "engine", "0",
                                       "finished_reason", finish_names[i], NULL };
        metrics_count(v->out, "vllm:request_success_total", labels, m->finished[i]);
    }
    vllm_histogram_of(v, "vllm:iteration_tokens_total", "Tokens of a step.", BOUNDS_STEP_TOKENS, &v->step_tokens);
    vllm_histogram(v, "vllm:time_to_first_token_seconds", "From arrival to the first token.", BOUNDS_FIRST_TOKEN, &m->first_token);
    vllm_histogram(v, "vllm:inter_token_latency_seconds", "From token to token.", BOUNDS_GAP, &m->gap);
    vllm_histogram(v, "vllm:request_time_per_output_token_seconds", "Mean of a request from token to token.", BOUNDS_GAP, &m->token);
    vllm_histogram(v, "vllm:e2e_request_latency_seconds", "From arrival to end.", BOUNDS_REQUEST, &m->total);
    vllm_histogram(v, "vllm:request_queue_time_seconds", "In the queue.", BOUNDS_REQUEST, &m->queue);
    vllm_histogram(v, "vllm:request_prefill_time_seconds", "From the queue to the first token.", BOUNDS_REQUEST, &m->prefill);
    vllm_histogram(v, "vllm:request_decode_time_seconds", "From the first token to the last.", BOUNDS_REQUEST, &m->decode);
}

void front_write_metrics(struct front *f, const struct http *http, struct buf *out)
{
    struct view v = { .front = f, .out = out };

    if (view_read(&v)) {
        out->failed = true;         /* the reply is then a 500 */
        return;
    }
    write_server(&v, http);
    write_requests(&v);
    write_engine(&v);
    write_nodes(&v);
    write_experts(&v);
    if (f->options.metrics_vllm)
        write_vllm(&v);
    free(v.replica);
}
