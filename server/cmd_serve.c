/*
 * cmd_serve.c - `fourway serve MODEL`: opens the model file, listens, loads, answers until a signal.
 *
 * The parts start from the file up to HTTP and are taken down in reverse, except that HTTP stops first: nothing may ask for a part that
 * is gone.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/dtype.h"
#include "common/log.h"
#include "kernels/cpu.h"
#include "numa/affinity.h"
#include "server/batcher.h"
#include "server/commands.h"
#include "server/machine_file.h"
#include "server/node_choice.h"
#include "server/options.h"
#include "server/progress.h"
#include "server/serve.h"
#include "server/served_model.h"
#include "server/start_report.h"

enum { MAX_ORIGINS = 16, OWN_OPTIONS = 19 };

struct settings {
    const char *host, *key_file, *template_file, *alias, *origins;
    const char *replicas;
    uint64_t port, max_batch, prefill_chunk;
    double drain_s, ping_s, itl_ms;
    bool accept_any_model, no_auth_ok, no_prefix_cache;
    int isolation;                  /* index: none, key */
    int log;                        /* index: text, json */
    int metrics_compat;             /* index: none, vllm */
    struct model_flags model;
};

struct server {
    const struct settings *settings;
    struct served_model model;
    struct http_keys *keys;
    struct front *front;
    struct http *http;
    size_t n_replicas;              /* or REPLICAS_AUTO */
    struct node_choice choice;
    struct affinity all_cpus, own_cpus;
    struct replicas replicas;
    char origins[1024];
    const char *origin[MAX_ORIGINS];
    size_t n_origins;
};

static const char *config_file;     /* --config; options_parse asks for it by a function without arguments */

static const char *config_path(void)
{
    return config_file;
}

/* Which CPUs this thread, and those that it starts, may use: only asked for where cores were set aside for them. A sandbox may refuse that,
 * and costs some speed, not the server. */
static void use_cpus(const struct server *s, const struct affinity *cpus)
{
    static bool warned;
    const int err = s->choice.reserved.n_cpus ? affinity_set(cpus) : 0;

    if (err && !warned)
        log_warn("HTTP cannot be kept to the cores set aside for it: %s", strerror(-err));
    warned = warned || err;
}

static int split_origins(struct server *s)
{
    const char *list = s->settings->origins;

    if (!list)
        return 0;
    if (snprintf(s->origins, sizeof(s->origins), "%s", list) >= (int)sizeof(s->origins)) {
        log_error("--cors-origin: the list is longer than %zu bytes", sizeof(s->origins) - 1);
        return -EINVAL;
    }
    char *rest = s->origins;
    for (char *origin = strtok_r(rest, ",", &rest); origin; origin = strtok_r(rest, ",", &rest)) {
        if (s->n_origins == MAX_ORIGINS || !strstr(origin, "://") || strchr(strstr(origin, "://") + 3, '/')) {
            log_error("--cors-origin: at most %d of the form scheme://host:port, got '%s'", MAX_ORIGINS, origin);
            return -EINVAL;
        }
        s->origin[s->n_origins++] = origin;
    }
    return 0;
}

static int read_replicas(struct server *s)
{
    const char *text = s->settings->replicas;
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    s->n_replicas = n;
    if (!strcmp(text, "auto"))
        s->n_replicas = REPLICAS_AUTO;
    else if (!isdigit((unsigned char)*text) || *end || n < 1 || n > REPLICAS_MAX) {
        log_error("serve: --replicas takes a number from 1 to %d, or auto, not '%s'", REPLICAS_MAX, text);
        return -EINVAL;
    }
    return 0;
}

static int open_http(struct server *s)
{
    const struct settings *o = s->settings;
    struct http_options options = {
        .host = o->host, .port = (uint16_t)o->port, .origins = s->origin, .n_origins = s->n_origins, .keys = s->keys,
    };

    front_serve(s->front, &options);
    int err = http_open(&s->http, &options);
    if (!err && !http_is_loopback(s->http) && !s->keys && !o->no_auth_ok) {
        log_error("anyone who reaches %s could use this server: give --api-key-file FILE, or --no-auth-ok to allow that", o->host);
        err = -EACCES;
    }
    return err;
}

static int open_front(struct server *s)
{
    struct front_options options = {
        .model = s->model.api, .template_source = s->model.template_source.data, .created = time(NULL),
        .n_keys = http_keys_count(s->keys), .ping_s = s->settings->ping_s,
        .metrics_vllm = s->settings->metrics_compat == 1,
    };

    options.isolate_keys = s->settings->isolation == 1;
    options.model.accept_any_model = s->settings->accept_any_model;
    return front_create(&s->front, &options);
}

static void say_ready(const struct server *s)
{
    const struct model *m = engine_model(s->replicas.engine[0]);
    struct model_info info;

    model_info(m, &info);
    if (s->replicas.n > 1)
        log_info("%zu replicas; each:", s->replicas.n);
    const uint64_t kv_tokens = info.kv_token_bytes ? info.kv_bytes / info.kv_token_bytes : 0;
    log_info("model %s (%s, %.1f M parameters) in %.2f s; context %zu tokens; KV cache %llu tokens, %.1f MB", s->model.name,
             model_config(m)->arch, (double)info.n_params / 1e6, info.load_s, info.n_ctx, (unsigned long long)kv_tokens,
             (double)info.kv_bytes / 1e6);
    log_info("%zu thread%s on %zu %snode%s, %s kernels", info.n_threads, info.n_threads == 1 ? "" : "s", info.n_nodes,
             info.virtual_nodes ? "virtual " : "", info.n_nodes == 1 ? "" : "s", isa_name(info.isa));
    log_info("memory: weights %.1f MB, KV %.1f MB, scratch %.1f MB", (double)info.weight_arena_bytes / 1e6, (double)info.kv_bytes / 1e6,
             (double)info.scratch_bytes / 1e6);
    for (size_t i = 0; i < s->replicas.n; i++)
        start_report_placement(engine_model(s->replicas.engine[i]));
    use_cpus(s, &s->all_cpus);      /* what this thread may use is asked about, too */
    start_report_settings();
    use_cpus(s, &s->own_cpus);
    log_info("try: curl %s/v1/chat/completions -d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'%s", http_url(s->http),
             s->keys ? " -H 'Authorization: Bearer KEY'" : "");
}

/* The type of most bytes of the file's tensors. */
static const char *file_quant(const struct gguf *g)
{
    uint64_t bytes[DTYPE_COUNT] = { 0 };
    size_t most = 0;

    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        bytes[gguf_tensor_at(g, i)->type] += gguf_tensor_at(g, i)->bytes;
    for (size_t i = 1; i < DTYPE_COUNT; i++)
        most = bytes[i] > bytes[most] ? i : most;
    return dtype_info((uint32_t)most)->name;
}

/* For /metrics; a file that cannot be read was refused when the nodes were chosen, if they were. */
static int read_machine(struct front_facts *facts, const char *path)
{
    struct machine *m = calloc(1, sizeof(*m));
    const int err = m ? machine_load(m, path) : -ENOMEM;

    for (size_t i = 0; !err && !m->is_virtual && i < m->n_core_nodes && i < FRONT_MAX_NODES; i++)
        facts->nodes[facts->n_nodes++] = (struct front_node){ m->nodes[i].os_node, m->nodes[i].read_bytes_per_s };
    free(m);
    return err;
}

static void on_ready(void *arg)
{
    struct server *s = arg;
    const struct model *m = engine_model(s->replicas.engine[0]);
    struct model_info info;

    model_info(m, &info);
    const struct model_config *c = model_config(m);
    struct front_facts facts = {
        .isa = isa_name(info.isa), .arch = c->arch, .quant = file_quant(s->model.gguf), .n_vocab = c->vocab_size,
        .n_ctx_train = c->n_ctx_train, .n_embd = c->d_model,
        .n_params = info.n_params, .file_bytes = gguf_file_bytes(s->model.gguf),
    };
    if (s->settings->model.machine)
        read_machine(&facts, s->settings->model.machine);
    front_set_facts(s->front, &facts);
    say_ready(s);
}

/* A copy of the model for each equal part of the nodes; they load side by side. Their threads may use all CPUs but pin themselves. */
static int start_engines(struct server *s, const struct engine_options *options)
{
    const size_t n = s->choice.n_replicas;
    int err = 0;

    use_cpus(s, &s->all_cpus);
    for (size_t i = 0; i < n && !err; i++) {
        struct engine_options o = *options;
        o.model.replica = i;
        o.model.n_replicas = n;
        o.model.n_threads = options->model.n_threads / n;
        if (options->model.n_threads && !o.model.n_threads)
            o.model.n_threads = 1;
        err = engine_create(&s->replicas.engine[i], s->model.gguf, &o, front_on_event, s->front);
        s->replicas.n += !err;
    }
    use_cpus(s, &s->own_cpus);
    if (err)
        log_error("the engine did not start: %s", strerror(-err));
    return err;
}

/* Which nodes and copies; and on large nodes, a core for what is not the engine: this thread, and those of HTTP that it starts. */
static int choose_nodes(struct server *s, struct engine_options *o)
{
    o->model.reserves_cores = true;
    const struct node_wish wish = { .machine_file = s->settings->model.machine, .n_replicas = s->n_replicas,
                                    .batch = o->model.max_batch ? o->model.max_batch : ENGINE_DEFAULT_BATCH };
    int err = node_choice_make(&s->choice, &o->model, s->model.gguf, &wish);

    if (err || !s->choice.reserved.n_cpus)
        return err;
    s->own_cpus = affinity_of(s->choice.reserved.cpus, s->choice.reserved.n_cpus);
    err = affinity_get(&s->all_cpus);
    if (err)
        log_error("cannot read which CPUs may be used: %s", strerror(-err));
    else
        use_cpus(s, &s->own_cpus);
    return err;
}

static int run(struct server *s, const char *path)
{
    const struct settings *o = s->settings;
    struct engine_options engine = { .prefill_chunk = o->prefill_chunk, .itl_ms = o->itl_ms,
                                     .no_prefix_cache = o->no_prefix_cache };
    struct serve serve = { .drain_s = o->drain_s, .json_log = o->log == 1, .show_loading = progress_show, .on_ready = on_ready, .arg = s };
    int status = model_flags_apply(&o->model, &engine.model);

    if (status)
        return status;
    engine.model.max_batch = o->max_batch;
    int err = read_replicas(s);
    if (err)
        return 2;
    err = split_origins(s);
    if (!err && o->key_file)
        err = http_keys_read(&s->keys, o->key_file);
    if (!err)
        err = served_model_open(&s->model, path, o->template_file, o->alias);
    if (!err)
        err = served_model_make_trie(&s->model);
    engine.trie = s->model.trie;
    if (!err)
        err = choose_nodes(s, &engine);
    if (!err)
        err = open_front(s);
    if (!err)
        err = open_http(s);
    if (!err)
        engine.n_keys = http_keys_count(s->keys);
    if (!err)
        err = start_engines(s, &engine);
    if (!err) {
        front_set_replicas(s->front, &s->replicas);
        serve.front = s->front;
        serve.http = s->http;
        serve.replicas = &s->replicas;
        status = serve_run(&serve);
    }
    return err ? 1 : status;
}

static void take_down(struct server *s)
{
    for (size_t i = 0; i < s->replicas.n; i++)
        engine_stop(s->replicas.engine[i]);         /* no more events for the front */
    front_destroy(s->front);                        /* no more threads that submit */
    for (size_t i = 0; i < s->replicas.n; i++)
        engine_destroy(s->replicas.engine[i]);
    http_close(s->http);
    served_model_close(&s->model);
    http_keys_free(s->keys);
}

int cmd_serve(int argc, char **argv)
{
    static const char *const log_choices[] = { "text", "json", NULL }, *const isolation_choices[] = { "none", "key", NULL };
    static const char *const compat_choices[] = { "none", "vllm", NULL };
    struct settings o = { .host = "127.0.0.1", .port = 8080, .drain_s = 90, .ping_s = 30, .replicas = "1" };
    struct option options[OWN_OPTIONS + MODEL_FLAGS_OPTIONS] = {
        { .name = "host", .type = OPTION_STRING, .out = &o.host, .metavar = "HOST",
          .help = "address to listen on (default 127.0.0.1: only this machine)" },
        { .name = "port", .letter = 'p', .type = OPTION_U64, .out = &o.port, .metavar = "N", .least = 0, .most = 65535,
          .help = "port; 0 takes a free one (default 8080)" },
        { .name = "api-key-file", .type = OPTION_STRING, .out = &o.key_file, .metavar = "FILE",
          .help = "keys, one a line; every route but health then needs one" },
        { .name = "no-auth-ok", .type = OPTION_FLAG, .out = &o.no_auth_ok, .help = "allow other machines without a key" },
        { .name = "cors-origin", .type = OPTION_STRING, .out = &o.origins, .metavar = "URL,..",
          .help = "sites whose pages may call this server, such as http://localhost:3000" },
        { .name = "alias", .type = OPTION_STRING, .out = &o.alias, .metavar = "NAME,..", .help = "more names of the model" },
        { .name = "accept-any-model", .type = OPTION_FLAG, .out = &o.accept_any_model,
          .help = "answer requests for any model name (default: 404)" },
        { .name = "chat-template", .type = OPTION_STRING, .out = &o.template_file, .metavar = "FILE",
          .help = "chat template (Jinja) instead of the model's own" },
        { .name = "replicas", .type = OPTION_STRING, .out = &o.replicas, .metavar = "N|auto",
          .help = "copies of the model, each on an equal part of the nodes with its part of --threads and a KV cache of its own; a request "
                  "goes to the least loaded; auto: as many as give most tokens a second to --max-batch sequences (default 1)" },
        { .name = "max-batch", .type = OPTION_U64, .out = &o.max_batch, .metavar = "N", .least = 0, .most = ENGINE_MAX_BATCH,
          .help = "sequences at once (default 0: 32)" },
        { .name = "prefill-chunk", .type = OPTION_U64, .out = &o.prefill_chunk, .metavar = "N", .least = 0, .most = MODEL_MAX_STEP_TOKENS,
          .help = "prompt tokens a step, all sequences together (default 0: 256)" },
        { .name = "itl-ms", .type = OPTION_F64, .out = &o.itl_ms, .metavar = "MS", .least = 0, .most = 60000,
          .help = "while others are being answered, read new prompts in chunks so small that the time between two tokens stays near "
                  "this (default 0: whole chunks)" },
        { .name = "no-prefix-cache", .type = OPTION_FLAG, .out = &o.no_prefix_cache,
          .help = "compute every prompt whole (default: what begins like an earlier one is shared)" },
        { .name = "cache-isolation", .type = OPTION_CHOICE, .out = &o.isolation, .choices = isolation_choices,
          .help = "who shares beginnings of prompts: all requests of the same cache_salt, or only those of the same API key, too (default "
                  "none)" },
        { .name = "sse-ping-interval", .type = OPTION_F64, .out = &o.ping_s, .metavar = "S", .least = 1, .most = 3600,
          .help = "seconds of silence in a stream until a comment is sent (default 30)" },
        { .name = "drain-timeout", .type = OPTION_F64, .out = &o.drain_s, .metavar = "S", .least = 0, .most = 86400,
          .help = "seconds that SIGTERM gives to requests in flight (default 90)" },
        { .name = "metrics-compat", .type = OPTION_CHOICE, .out = &o.metrics_compat, .choices = compat_choices,
          .help = "more names in /metrics: those of vLLM, which Kubernetes' inference gateway and dashboards read (default none)" },
        { .name = "log", .type = OPTION_CHOICE, .out = &o.log, .choices = log_choices, .help = "form of the log (default text)" },
        { .name = "config", .type = OPTION_STRING, .out = &config_file, .metavar = "FILE", .help = "file with more options: name = value" },
    };
    const struct command command = {
        .name = "serve", .usage = "serve MODEL [options]",
        .summary = "Answer completions and chats over HTTP, as clients of the OpenAI interface ask for them.",
        .options = options, .n_options = sizeof(options) / sizeof(options[0]), .min_args = 1, .max_args = 1,
        .epilogue = "When the server is ready, stderr has the line 'listening on http://HOST:PORT'.\n"
                    "SIGTERM finishes the requests in flight; a second one ends at once. SIGHUP and SIGUSR1 are ignored.",
        .config_path = config_path,
    };
    struct server s = { .settings = &o };
    const char *args[1];
    char path[4096];
    size_t n_args;

    model_flags_init(&o.model);
    model_flags_options(&o.model, options + OWN_OPTIONS);
    int status = options_parse(&command, argc, argv, args, &n_args);
    if (status >= 0)
        return status;
    log_set_format(o.log == 1 ? LOG_JSON : LOG_TEXT);
    status = model_resolve(args[0], path, sizeof(path));
    if (status)
        return status;
    serve_prepare_signals();
    status = run(&s, path);
    take_down(&s);
    return status;
}
