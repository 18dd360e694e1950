/*
 * front_report.c - what the server is doing, in a few lines of the log: for SIGUSR1, when no scraper of /metrics is at hand.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"
#include "server/front_internal.h"

static void report_engine(const struct engine *e, size_t replica)
{
    struct engine_figures *f = calloc(1, sizeof(*f));
    struct engine_status s;
    uint64_t n_preemptions = 0;

    engine_status(e, &s);
    for (size_t i = 0; i < sizeof(s.preemptions) / sizeof(s.preemptions[0]); i++)
        n_preemptions += s.preemptions[i];
    log_info("status: replica %zu: %u running, %u waiting (%" PRIu64 " tokens), %.1f tokens/s; so far %" PRIu64 " tokens, %" PRIu64
             " of prompts, %" PRIu64 " preemptions", replica, s.n_running, s.n_waiting, s.waiting_tokens, s.tokens_per_s,
             s.tokens_generated, s.tokens_prompt, n_preemptions);
    if (!f)
        return;
    engine_figures(e, f);
    for (size_t i = 0; i < (f->kv_by_node ? f->n_nodes : f->n_nodes > 0); i++)
        log_info("status: replica %zu, %s %d: KV pages %" PRIu64 " in all, %" PRIu64 " used, %" PRIu64 " cached, %" PRIu64 " free", replica,
                 f->kv_by_node ? "node" : "all nodes from", f->nodes[i].node, f->nodes[i].kv_pages,
                 f->nodes[i].kv_pages - f->nodes[i].kv_cached - f->nodes[i].kv_free, f->nodes[i].kv_cached, f->nodes[i].kv_free);
    free(f);
}

void front_report(struct front *f, const struct http *http)
{
    size_t n_jobs = 0;

    pthread_mutex_lock(&f->jobs_lock);
    for (const struct job *job = f->jobs; job; job = job->next)
        n_jobs++;
    pthread_mutex_unlock(&f->jobs_lock);
    log_info("status: connections: %zu, requests in flight: %zu%s", http_n_connections(http), n_jobs,
             atomic_load(&f->draining) ? ", draining" : "");
    for (size_t i = 0; i < f->replicas->n; i++)
        report_engine(f->replicas->engine[i], i);
}
