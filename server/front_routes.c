/*
 * front_routes.c - the table of routes, who may enter, and the routes that answer from memory.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/clock.h"
#include "server/front_internal.h"
#include "server/json_write.h"

static const struct route routes[] = {
    { "/v1/completions", ROUTE_COMPLETIONS, true, false, false, true },
    { "/v1/chat/completions", ROUTE_CHAT, true, false, false, true },
    { "/v1/models", ROUTE_MODELS, false, false, false, false },
    { "/v1/models/", ROUTE_MODEL, false, false, true, false },
    { "/tokenize", ROUTE_TOKENIZE, true, false, false, false },
    { "/detokenize", ROUTE_DETOKENIZE, true, false, false, false },
    { "/apply-template", ROUTE_APPLY_TEMPLATE, true, false, false, false },
    { "/tokenizer_info", ROUTE_TOKENIZER_INFO, false, false, false, false },
    { "/health", ROUTE_HEALTH, false, true, false, false },
    { "/livez", ROUTE_LIVEZ, false, true, false, false },
    { "/readyz", ROUTE_READYZ, false, true, false, false },
    { "/version", ROUTE_VERSION, false, false, false, false },
    { "/metrics", ROUTE_METRICS, false, false, false, false },
    { "/openapi.json", ROUTE_OPENAPI, false, false, false, false },
    { "/v1/embeddings", ROUTE_EMBEDDINGS, true, false, false, true },
    { "/v1/responses", ROUTE_RESPONSES, true, false, false, true },
    { "/v1/responses/", ROUTE_RESPONSE, false, false, true, false },
    { "/v1/messages", ROUTE_MESSAGES, true, false, false, true },
    { "/v1/messages/count_tokens", ROUTE_COUNT_TOKENS, true, false, false, false },
};

_Static_assert(sizeof(routes) / sizeof(routes[0]) <= FRONT_MAX_ROUTES, "a row of counters for each route");

size_t route_index(const struct route *route)
{
    return route ? (size_t)(route - routes) : FRONT_MAX_ROUTES;
}

const struct route *route_at(size_t i)
{
    return i < sizeof(routes) / sizeof(routes[0]) ? &routes[i] : NULL;
}

/* Byte for byte, before any unescaping: //v1/models, /v1/models/ and anything with % are no routes. */
const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const size_t n = strlen(routes[i].path);
        if (routes[i].prefix ? strncmp(path, routes[i].path, n) == 0 && path[n] && !strchr(path, '%') : strcmp(path, routes[i].path) == 0)
            return &routes[i];
    }
    return NULL;
}

bool route_is_anthropic(const struct route *route)
{
    return route && (route->id == ROUTE_MESSAGES || route->id == ROUTE_COUNT_TOKENS);
}

void route_allow(const struct route *route, struct http_exchange *x)
{
    http_add_header(x, "Allow", route->post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS");
}

static double load_share(const struct engine_status *s)
{
    return s->load_bytes_total ? (double)s->load_bytes_done / (double)s->load_bytes_total : 0;
}

static double load_rest_s(const struct engine_status *s)
{
    const double share = load_share(s);
    const double spent = s->load_started_ns ? (double)(clock_now_ns() - s->load_started_ns) / 1e9 : 0;

    return share > 0.01 ? spent * (1 - share) / share : 0;
}

/* Whole seconds until a place in the queue is free: the tokens that wait, at the measured rate. */
static unsigned retry_after(const struct front *f, const struct engine_status *s)
{
    const uint64_t finished = f->n_finished;
    const double mean = finished ? (double)f->n_generated / (double)finished : 64;
    const double seconds = s->tokens_per_s > 0 ? s->n_waiting * mean / s->tokens_per_s : 1;

    return seconds < 1 ? 1 : seconds > 60 ? 60 : (unsigned)ceil(seconds);
}

int route_admit(struct front *f, const struct route *route, size_t body_bytes, struct api_error *e)
{
    enum { BYTES_PER_TOKEN = 4 };       /* an estimate, before the exact count */
    struct engine_status s;

    if (route->id == ROUTE_NOT_BUILT)
        return api_error_set(e, API_NOT_SUPPORTED, NULL, "%s is not built into this version", route->path);
    if (route->id == ROUTE_EMBEDDINGS && f->options.model.pooling == POOLING_NONE)
        return api_error_set(e, API_NOT_SUPPORTED, NULL, "%s gives no embeddings: its file says so (pooling_type)",
                             f->options.model.names[0]);
    if (!route->engine)
        return 0;
    replicas_status(f->replicas, &s);
    if (atomic_load(&f->draining) || s.state == ENGINE_DRAINING)
        return api_error_set(e, API_DRAINING, NULL, "the server is shutting down");
    if (s.state == ENGINE_DEAD)
        return api_error_internal(e, -ESHUTDOWN);
    if (s.state == ENGINE_LOADING) {
        const double rest = load_rest_s(&s);
        api_error_set(e, API_LOADING, NULL, "the model is loading: %.0f %% (%.2f of %.2f GB)", 100 * load_share(&s),
                      (double)s.load_bytes_done / 1e9, (double)s.load_bytes_total / 1e9);
        e->retry_after_s = rest < 1 ? 1 : rest > 120 ? 120 : (unsigned)ceil(rest);
        return -EINVAL;
    }
    const bool full = s.n_waiting >= f->options.max_waiting;
    if (full || (f->options.max_waiting_tokens && s.waiting_tokens + body_bytes / BYTES_PER_TOKEN > f->options.max_waiting_tokens)) {
        metric_add(&f->metrics.rejected[full ? REJECT_QUEUE_REQUESTS : REJECT_QUEUE_TOKENS], 1);
        api_error_set(e, API_SERVER_OVERLOADED, NULL, "%u requests are waiting: the queue is full", s.n_waiting);
        e->retry_after_s = retry_after(f, &s);
        return -EINVAL;
    }
    return 0;
}

static void write_model(struct front *f, const char *name, struct buf *out)
{
    const struct front_facts *m = &f->facts;
    struct engine_status s;

    replicas_status(f->replicas, &s);
    buf_puts(out, "{\"id\":");
    json_write_string(out, name);
    buf_printf(out, ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"fourway\",\"root\":", f->options.created);
    json_write_string(out, f->options.model.names[0]);
    buf_puts(out, ",\"parent\":null,\"max_model_len\":");
    if (!atomic_load(&f->has_facts)) {
        buf_puts(out, "null,\"permission\":[],\"meta\":null}");
        return;
    }
    buf_printf(out, "%u,\"permission\":[],\"meta\":{\"n_vocab\":%" PRIu64 ",\"n_ctx_train\":%" PRIu64 ",\"n_embd\":%" PRIu64
               ",\"n_params\":%" PRIu64 ",\"size\":%" PRIu64 "}}", s.n_ctx, m->n_vocab, m->n_ctx_train, m->n_embd, m->n_params,
               m->file_bytes);
}

static void write_models(struct front *f, struct buf *out)
{
    const struct api_model *m = &f->options.model;

    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < m->n_names; i++) {
        if (i)
            buf_putc(out, ',');
        write_model(f, m->names[i], out);
    }
    buf_puts(out, "]}");
}

static void answer_model(struct front *f, struct http_exchange *x, struct buf *out)
{
    const struct api_model *m = &f->options.model;
    const char *name = http_path(x) + strlen("/v1/models/");
    struct api_error e;

    for (size_t i = 0; i < m->n_names; i++) {
        if (strcmp(m->names[i], name) == 0) {
            write_model(f, name, out);
            http_reply(x, 200, "application/json", out);
            return;
        }
    }
    api_error_set(&e, API_MODEL_NOT_FOUND, "model", "model \"%.128s\" is not served here", name);
    http_reply_error(x, &e);
}

static void write_special(struct front *f, const char *name, int32_t id, struct buf *out)
{
    const struct tokenizer *t = f->options.model.tokenizer;
    size_t n;

    buf_printf(out, ",\"%s\":", name);
    if (id < 0) {
        buf_puts(out, "null");
    } else {
        const char *piece = tokenizer_piece(t, id, &n);
        json_write_bytes(out, piece, n);
    }
}

static void write_tokenizer_info(struct front *f, struct buf *out)
{
    const struct tokenizer *t = f->options.model.tokenizer;

    buf_puts(out, "{\"tokenizer_class\":");
    json_write_string(out, tokenizer_kind(t));
    write_special(f, "bos_token", tokenizer_bos(t), out);
    write_special(f, "eos_token", tokenizer_eos(t), out);
    write_special(f, "pad_token", -1, out);
    buf_puts(out, ",\"chat_template\":");
    json_write_string_or_null(out, f->options.template_source);
    buf_putc(out, '}');
}

/* How busy the server is; with several replicas also how busy each of them is. */
static void write_load(struct front *f, const struct engine_status *all, struct buf *out)
{
    buf_printf(out, ",\"requests_running\":%u,\"requests_waiting\":%u,\"tokens_per_s\":%.2f", all->n_running, all->n_waiting,
               all->tokens_per_s);
    for (size_t i = 0; f->replicas->n > 1 && i < f->replicas->n; i++) {
        struct engine_status s;

        engine_status(f->replicas->engine[i], &s);
        buf_printf(out, "%s{\"requests_running\":%u,\"requests_waiting\":%u,\"tokens_per_s\":%.2f,\"tokens_generated\":%" PRIu64 "}%s",
                   i ? "," : ",\"replicas\":[", s.n_running, s.n_waiting, s.tokens_per_s, s.tokens_generated,
                   i + 1 < f->replicas->n ? "" : "]");
    }
}

/* Health takes no lock of the scheduler: engine_status reads a snapshot. */
static int write_health(struct front *f, bool verbose, struct buf *out)
{
    struct engine_status s;

    replicas_status(f->replicas, &s);
    const bool draining = atomic_load(&f->draining) || s.state == ENGINE_DRAINING;
    const bool ready = s.state == ENGINE_READY && atomic_load(&f->has_facts);
    const char *status = draining ? "draining" : ready ? "ok" : s.state == ENGINE_DEAD ? "dead" : "loading";
    buf_printf(out, "{\"status\":\"%s\"", status);
    if (!draining && !ready && s.state != ENGINE_DEAD)
        buf_printf(out, ",\"progress\":%.4f,\"bytes_done\":%" PRIu64 ",\"bytes_total\":%" PRIu64 ",\"eta_s\":%.0f", load_share(&s),
                   s.load_bytes_done, s.load_bytes_total, load_rest_s(&s));
    if (verbose)
        write_load(f, &s, out);
    buf_putc(out, '}');
    return !draining && ready ? 200 : 503;
}

void route_answer(struct front *f, struct job *job)
{
    struct http_exchange *x = job->x;
    struct buf out = { 0 };
    struct api_error e;
    int status = 200;

    switch (job->route->id) {
    case ROUTE_MODELS:
        write_models(f, &out);
        break;
    case ROUTE_MODEL:
        answer_model(f, x, &out);
        return;
    case ROUTE_RESPONSE:
        api_error_set(&e, API_ROUTE_NOT_FOUND, NULL, "no response is kept here: %.200s", http_path(x));
        http_reply_error(x, &e);
        return;
    case ROUTE_TOKENIZER_INFO:
        write_tokenizer_info(f, &out);
        break;
    case ROUTE_HEALTH:
        status = write_health(f, job->verbose, &out);
        break;
    case ROUTE_READYZ:
        status = write_health(f, false, &out);
        buf_clear(&out);
        buf_puts(&out, status == 200 ? "ok\n" : "not ready\n");
        http_reply(x, status, "text/plain; charset=utf-8", &out);
        return;
    case ROUTE_METRICS:
        front_write_metrics(f, http_of(x), &out);
        http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
        return;
    case ROUTE_OPENAPI:
        buf_append(&out, f->description.data, f->description.len);
        break;
    case ROUTE_LIVEZ:
        buf_puts(&out, "ok\n");
        http_reply(x, 200, "text/plain; charset=utf-8", &out);
        return;
    default:
        buf_printf(&out, "{\"version\":\"%s\",\"commit\":\"%s\",\"isa\":", FOURWAY_VERSION, FOURWAY_COMMIT);
        json_write_string_or_null(&out, atomic_load(&f->has_facts) ? f->facts.isa : NULL);
        buf_puts(&out, ",\"build\":\"" FOURWAY_BUILD "\"}");
        break;
    }
    http_reply(x, status, "application/json", &out);
}
