/*
 * http_server.c - the real HTTP front end with a scripted engine and a real vocabulary, for tests that speak HTTP to it.
 *
 * usage: http_server VOCAB.gguf [name=value ...]; it then says 'listening on http://HOST:PORT' on stderr and behaves as fourway serve does.
 * Names are those of the struct settings below.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/http_tls.h"
#include "server/serve.h"
#include "tests/server/fake_engine.h"
#include "server/batcher.h"

static struct settings {
    double step_ms, load_ms, header_s, body_s, idle_s, drain_s, queue_s, ping_s;
    double max_body, max_connections, max_running, max_waiting, n_ctx, load_fails, any_model, vllm, no_embeddings, think_is_text, both_reasoning;
    double key_limit, request_s, max_tokens;
    const char *keys, *template_file, *origin, *host, *certificate, *certificate_key;
} settings = { .step_ms = 1, .drain_s = 10, .max_running = 8, .max_waiting = 64, .n_ctx = 2048, .key_limit = KEYS_DEFAULT_LIMIT };

static const struct { const char *name; double *number; const char **text; } names[] = {
    { "step_ms", &settings.step_ms, NULL }, { "load_ms", &settings.load_ms, NULL }, { "header_s", &settings.header_s, NULL },
    { "body_s", &settings.body_s, NULL }, { "idle_s", &settings.idle_s, NULL }, { "drain_s", &settings.drain_s, NULL },
    { "queue_s", &settings.queue_s, NULL }, { "ping_s", &settings.ping_s, NULL }, { "max_body", &settings.max_body, NULL },
    { "max_connections", &settings.max_connections, NULL }, { "max_running", &settings.max_running, NULL },
    { "max_waiting", &settings.max_waiting, NULL }, { "n_ctx", &settings.n_ctx, NULL }, { "load_fails", &settings.load_fails, NULL },
    { "think_is_text", &settings.think_is_text, NULL }, { "both_reasoning", &settings.both_reasoning, NULL },
    { "no_embeddings", &settings.no_embeddings, NULL },
    { "any_model", &settings.any_model, NULL }, { "vllm", &settings.vllm, NULL }, { "keys", NULL, &settings.keys },
    { "template", NULL, &settings.template_file },
    { "origin", NULL, &settings.origin }, { "host", NULL, &settings.host }, { "certificate", NULL, &settings.certificate },
    { "certificate_key", NULL, &settings.certificate_key }, { "key_limit", &settings.key_limit, NULL },
    { "request_s", &settings.request_s, NULL }, { "max_tokens", &settings.max_tokens, NULL },
};

static void read_arguments(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        bool known = false;
        for (size_t k = 0; value && k < sizeof(names) / sizeof(names[0]); k++) {
            if (strncmp(argv[i], names[k].name, (size_t)(value - argv[i])) != 0 || names[k].name[value - argv[i]])
                continue;
            known = true;
            if (names[k].number)
                *names[k].number = strtod(value + 1, NULL);
            else
                *names[k].text = value + 1;
        }
        if (!known) {
            log_error("no setting %s", argv[i]);
            exit(2);
        }
    }
}

static struct keys *keys;
static struct http_tls *tls;
static struct front *front;

static void on_reload(void *arg)
{
    (void)arg;
    if (keys && keys_reload(keys) == 0)
        log_info("keys read again");
    if (tls && http_tls_reload(tls) == 0)
        log_info("certificate read again");
}

static void on_ready(void *arg)
{
    (void)arg;
    const struct front_facts facts = { .isa = "scalar", .arch = "llama", .quant = "q4_1", .n_nodes = 1, .nodes = { { 0, 10e9 } }, .n_vocab = 49152, .n_ctx_train = 2048, .n_embd = 576, .n_params = 1,
                                       .file_bytes = 1 };

    front_set_facts(front, &facts);
}

/* The source of a template in a file, or a small one that shows where messages begin and end. */
static char *template_source(void)
{
    static const char chatml[] = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                                 "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    char *text = calloc(1, 1 << 16);
    FILE *file = settings.template_file ? fopen(settings.template_file, "re") : NULL;

    if (file) {
        if (!fread(text, 1, (1 << 16) - 1, file))
            log_error("%s is empty", settings.template_file);
        fclose(file);
    } else {
        strcpy(text, chatml);
    }
    return text;
}

int main(int argc, char **argv)
{
    static const char *const model_names[] = { "fake", "fake-alias" };
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct chat_template *chat = NULL;
    struct template_error why;
    struct http *http = NULL;
    struct engine *engine = NULL;
    int status = 2;

    read_arguments(argc, argv);
    log_set_format(LOG_TEXT);
    serve_prepare_signals();
    char *source = template_source();
    if (argc < 2 || gguf_open(&g, argv[1]) || tokenizer_open_gguf(&t, g) || chat_template_compile(&chat, source, strlen(source), &why) ||
        (settings.keys && keys_open(&keys, settings.keys, (unsigned)settings.key_limit)) ||
        (settings.certificate && http_tls_open(&tls, settings.certificate, settings.certificate_key)))
        goto end;
    status = 1;
    const struct front_options o = {
        .model = { .names = model_names, .n_names = 2, .accept_any_model = settings.any_model > 0, .tokenizer = t, .chat_template = chat,
                   .pooling = settings.no_embeddings > 0 ? POOLING_NONE : POOLING_LAST,
                   .template_knows_tools = tool_template_knows_tools(source), .tool_syntax = tool_syntax_find(TOOL_FORMAT_AUTO, source),
                   .think = think_markers_find(source), .think_is_text = settings.think_is_text > 0,
                   .both_reasoning_fields = settings.both_reasoning > 0,
                   .sampling = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 } },
        .template_source = source, .created = 1760000000, .max_waiting = (size_t)settings.max_waiting,
        .keys = keys, .max_waiting_tokens = (uint64_t)settings.max_tokens,
        .queue_s = settings.queue_s, .request_s = settings.request_s, .ping_s = settings.ping_s, .metrics_vllm = settings.vllm > 0,
    };
    struct http_options h = {
        .host = "127.0.0.1", .tls = tls, .hosts = &settings.host, .n_hosts = settings.host != NULL,
        .header_s = settings.header_s, .body_s = settings.body_s, .idle_s = settings.idle_s,
        .max_body = (size_t)settings.max_body, .max_connections = (size_t)settings.max_connections, .origins = &settings.origin,
        .n_origins = settings.origin != NULL,
    };
    const struct fake_options f = {
        .step_ns = (uint64_t)(settings.step_ms * 1e6), .load_ns = (uint64_t)(settings.load_ms * 1e6), .load_fails = settings.load_fails > 0,
        .n_ctx = (uint32_t)settings.n_ctx, .n_vocab = (uint32_t)tokenizer_vocab_size(t), .max_running = (uint32_t)settings.max_running,
        .max_waiting = (uint32_t)settings.max_waiting,
    };
    struct replicas replicas = { 0 };
    if (front_create(&front, &o) == 0) {
        front_serve(front, &h);
        if (http_open(&http, &h) == 0)
            engine = fake_create(&f, front_on_event, front);
    }
    if (engine) {
        replicas.engine[replicas.n++] = engine;
        front_set_replicas(front, &replicas);
        struct serve s = { .front = front, .http = http, .replicas = &replicas, .drain_s = settings.drain_s, .on_ready = on_ready,
                           .on_reload = on_reload };
        status = serve_run(&s);
    }
end:
    engine_destroy(engine);
    front_destroy(front);
    http_close(http);
    keys_close(keys);
    http_tls_close(tls);
    chat_template_free(chat);
    tokenizer_close(t);
    gguf_close(g);
    free(source);
    return status;
}
