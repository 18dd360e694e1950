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
#include "server/scheduler.h"
#include "server/serve.h"
#include "server/serve_access.h"
#include "server/serve_limits.h"
#include "server/served_model.h"
#include "server/start_report.h"

enum { OWN_OPTIONS = 20 };

struct settings {
    const char *template_file, *alias, *replicas;
    uint64_t max_batch, prefill_chunk;
    double ping_s, itl_ms;
    bool accept_any_model, no_prefix_cache;
    int isolation;                  /* index: none, key */
    int spec;                       /* index: none, ngram */
    const char *draft;
    uint64_t spare_bytes, draft_tokens;
    int log;                        /* index: text, json */
    int metrics_compat;             /* index: none, vllm */
    struct serve_limits limits;
    int tool_format;                /* enum tool_format */
    int reasoning_format;           /* index: auto, none */
    int reasoning_field;            /* index: reasoning_content, reasoning */
    struct model_flags model;
};

struct server {
    const struct settings *settings;
    struct served_model model;
    struct serve_access access;
    struct gguf *draft;
    struct front *front;
    struct http *http;
    size_t n_replicas;              /* or REPLICAS_AUTO */
    struct node_choice choice;
    struct affinity all_cpus, own_cpus;
    struct replicas replicas;
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

/* How the model writes tool calls and reasoning: said once, because it is a guess from the template. */
static void set_message_format(struct server *s, struct api_model *m)
{
    const struct settings *o = s->settings;
    const char *source = s->model.template_source.data ? s->model.template_source.data : "";

    m->tool_syntax = tool_syntax_find((enum tool_format)o->tool_format, source);
    m->template_knows_tools = tool_template_knows_tools(source);
    m->think = think_markers_find(source);
    m->think_is_text = o->reasoning_format == 1;
    m->both_reasoning_fields = o->reasoning_field == 1;
    log_info("tool calls: %s%s; reasoning: %s%s", m->tool_syntax ? m->tool_syntax->name : "not looked for",
             m->template_knows_tools ? "" : ", told in words (the chat template knows no tools)", m->think ? m->think->open : "none",
             m->think && m->think_is_text ? ", left in the text" : "");
}

static int open_front(struct server *s, struct http_options *http, struct engine_options *engine)
{
    struct front_options options = {
        .model = s->model.api, .template_source = s->model.template_source.data, .created = time(NULL), .keys = s->access.keys,
        .ping_s = s->settings->ping_s, .metrics_vllm = s->settings->metrics_compat == 1, .isolate_keys = s->settings->isolation == 1,
    };

    set_message_format(s, &options.model);
    options.model.accept_any_model = s->settings->accept_any_model;
    serve_limits_apply(&s->settings->limits, http, &options, engine);
    if (s->access.keys)
        engine->n_keys = KEYS_SLOTS;
    const int err = front_create(&s->front, &options);
    if (!err)
        front_serve(s->front, http);
    return err;
}

static int open_http(struct server *s, const struct http_options *http)
{
    const int err = http_open(&s->http, http);

    if (err || http_is_loopback(s->http) || s->access.keys || s->access.no_auth_ok)
        return err;
    log_error("anyone who reaches %s could use this server: give --api-key-file FILE, or --no-auth-ok to allow that", s->access.host);
    return -EACCES;
}

static void say_ready(const struct server *s)
{
    const struct model *m = engine_model(s->replicas.engine[0]);
    struct model_info info;

    model_info(m, &info);
    if (s->replicas.n > 1)
        log_info("%zu replicas; each:", s->replicas.n);
    log_info("model %s (%s, %.1f M parameters) in %.2f s; context %zu tokens; KV cache %zu tokens, %.1f MB", s->model.name,
             model_config(m)->arch, (double)info.n_params / 1e6, info.load_s, info.n_ctx, info.kv_pages * info.page_tokens,
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
             s->access.keys ? " -H 'Authorization: Bearer KEY'" : "");
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

static void on_reload(void *arg)
{
    struct server *s = arg;

    serve_access_reload(&s->access);
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

static int open_draft(struct server *s)
{
    char path[4096];

    if (s->settings->spec) {
        log_error("serve: --spec ngram or --draft MODEL, not both");
        return -EINVAL;
    }
    return model_resolve(s->settings->draft, path, sizeof(path)) ? -ENOENT : served_model_open_draft(&s->model, path, &s->draft);
}

static int run(struct server *s, const char *path)
{
    const struct settings *o = s->settings;
    struct engine_options engine = { .prefill_chunk = o->prefill_chunk, .itl_ms = o->itl_ms,
                                     .no_prefix_cache = o->no_prefix_cache, .spare_bytes = o->spare_bytes, .drafts_ngrams = o->spec == 1,
                                     .draft_tokens = o->draft_tokens };
    struct serve serve = { .drain_s = o->limits.drain_s, .json_log = o->log == 1, .show_loading = progress_show, .on_ready = on_ready,
                           .on_reload = on_reload, .arg = s };
    struct http_options http = { 0 };
    int status = model_flags_apply(&o->model, &engine.model);

    if (status)
        return status;
    engine.model.max_batch = o->max_batch;
    int err = read_replicas(s);
    if (err)
        return 2;
    err = serve_access_open(&s->access, &http);
    if (!err)
        err = served_model_open(&s->model, path, o->template_file, o->alias);
    if (!err)
        err = served_model_make_trie(&s->model);
    engine.trie = s->model.trie;
    if (!err && o->draft)
        err = open_draft(s);
    engine.draft = s->draft;
    if (!err)
        err = choose_nodes(s, &engine);
    if (!err)
        err = open_front(s, &http, &engine);
    if (!err)
        err = open_http(s, &http);
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
    gguf_close(s->draft);
    served_model_close(&s->model);
    serve_access_close(&s->access);
}

int cmd_serve(int argc, char **argv)
{
    static const char *const log_choices[] = { "text", "json", NULL }, *const isolation_choices[] = { "none", "key", NULL };
    static const char *const spec_choices[] = { "none", "ngram", NULL };
    static const char *const compat_choices[] = { "none", "vllm", NULL };
    static const char *const tool_choices[] = { "auto", "hermes", "llama3", "mistral", "none", NULL };      /* enum tool_format */
    static const char *const reasoning_choices[] = { "auto", "none", NULL };
    static const char *const field_choices[] = { "reasoning_content", "reasoning", NULL };
    enum { OWN = SERVE_ACCESS_OPTIONS, LIMITS = OWN + OWN_OPTIONS, MODEL = LIMITS + SERVE_LIMITS_OPTIONS };
    struct settings o = { .ping_s = 30, .itl_ms = -1, .replicas = "1", .spare_bytes = UINT64_MAX };
    struct option options[MODEL + MODEL_FLAGS_OPTIONS] = {
        [OWN] = { .name = "alias", .type = OPTION_STRING, .out = &o.alias, .metavar = "NAME,..",
                  .heading = "model and requests", .help = "more names of the model" },
        { .name = "accept-any-model", .type = OPTION_FLAG, .out = &o.accept_any_model,
          .help = "answer requests for any model name (default: 404)" },
        { .name = "chat-template", .type = OPTION_STRING, .out = &o.template_file, .metavar = "FILE",
          .help = "chat template (Jinja) instead of the model's own" },
        { .name = "tool-format", .type = OPTION_CHOICE, .out = &o.tool_format, .choices = tool_choices,
          .help = "how the model writes tool calls (default auto: as its chat template says; none: they stay text)" },
        { .name = "reasoning-format", .type = OPTION_CHOICE, .out = &o.reasoning_format, .choices = reasoning_choices,
          .help = "auto: what stands between the model's think markers is no content but reasoning_content (default); none: markers and "
                  "all stay in the content" },
        { .name = "reasoning-field", .type = OPTION_CHOICE, .out = &o.reasoning_field, .choices = field_choices,
          .help = "reasoning: send it under that name, too (default reasoning_content)" },
        { .name = "replicas", .type = OPTION_STRING, .out = &o.replicas, .metavar = "N|auto",
          .help = "copies of the model, each on an equal part of the nodes with its part of --threads and a KV cache of its own; a request "
                  "goes to the least loaded; auto: as many as give most tokens a second to --max-batch sequences (default 1)" },
        { .name = "max-batch", .type = OPTION_U64, .out = &o.max_batch, .metavar = "N", .least = 0, .most = ENGINE_MAX_BATCH,
          .help = "sequences at once (default 0: 32)" },
        { .name = "prefill-chunk", .type = OPTION_U64, .out = &o.prefill_chunk, .metavar = "N", .least = 0, .most = MODEL_MAX_STEP_TOKENS,
          .help = "prompt tokens a step, all sequences together (default 0: 256)" },
        { .name = "itl-ms", .type = OPTION_F64, .out = &o.itl_ms, .metavar = "MS", .least = 0, .most = 60000,
          .help = "while others are being answered, read new prompts in chunks so small that the time between two tokens stays near "
                  "this; 0: whole chunks (default: 60, or, where that is more, five times what the others' tokens take)" },
        { .name = "spec", .type = OPTION_CHOICE, .out = &o.spec, .choices = spec_choices,
          .help = "speculation; ngram: guess the next tokens from where the last three occurred before, and check the guesses in one step; "
                  "answers stay the same (default none)" },
        { .name = "draft", .type = OPTION_STRING, .out = &o.draft, .metavar = "MODEL",
          .help = "speculation with a small model of the same vocabulary that guesses the next tokens" },
        { .name = "draft-tokens", .type = OPTION_U64, .out = &o.draft_tokens, .metavar = "N", .least = 0, .most = SCHEDULER_MAX_DRAFT,
          .help = "tokens that speculation guesses at once (default 0: as many as pay, by what was accepted and what steps take)" },
        { .name = "spare-bytes", .type = OPTION_SIZE, .out = &o.spare_bytes, .metavar = "SIZE",
          .help = "memory for the KV of answers that must wait while the cache is full, taken as it is used; 0: it is computed again "
                  "(default: as much as the KV cache, at most an eighth of what is available)" },
        { .name = "no-prefix-cache", .type = OPTION_FLAG, .out = &o.no_prefix_cache,
          .help = "compute every prompt whole (default: what begins like an earlier one is shared)" },
        { .name = "cache-isolation", .type = OPTION_CHOICE, .out = &o.isolation, .choices = isolation_choices,
          .help = "who shares beginnings of prompts: all requests of the same cache_salt, or only those of the same API key, too (default "
                  "none)" },
        { .name = "sse-ping-interval", .type = OPTION_F64, .out = &o.ping_s, .metavar = "S", .least = 1, .most = 3600,
          .help = "seconds of silence in a stream until a comment is sent (default 30)" },
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
                    "SIGTERM finishes the requests in flight; a second one ends at once. SIGHUP reads keys and certificate again, "
                    "SIGUSR1 logs what the server is doing.",
        .config_path = config_path,
    };
    struct server s = { .settings = &o };
    const char *args[1];
    char path[4096];
    size_t n_args;

    model_flags_init(&o.model);
    serve_access_init(&s.access);
    serve_limits_init(&o.limits);
    serve_access_options(&s.access, options);
    serve_limits_options(&o.limits, options + LIMITS);
    model_flags_options(&o.model, options + MODEL);
    options[MODEL].heading = "placement and arithmetic";
    serve_prepare_signals();            /* before anything takes time: an early SIGHUP must not end the process */
    int status = options_parse(&command, argc, argv, args, &n_args);
    if (status >= 0)
        return status;
    log_set_format(o.log == 1 ? LOG_JSON : LOG_TEXT);
    status = model_resolve(args[0], path, sizeof(path));
    if (status)
        return status;
    status = run(&s, path);
    take_down(&s);
    return status;
}
