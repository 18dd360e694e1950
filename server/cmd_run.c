/*
 * cmd_run.c - `fourway run MODEL`: one completion, or a chat on a terminal.
 *
 * Each turn is a request of the REST interface, read by the same code (api.h) and run by the same engine, so that `run` and `serve` give
 * the same tokens. Events come through a pipe: a write of one is atomic, and a signal interrupts the read.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/buf.h"
#include "common/log.h"
#include "server/api.h"
#include "server/batcher.h"
#include "server/commands.h"
#include "server/node_choice.h"
#include "server/options.h"
#include "server/progress.h"
#include "server/served_model.h"

struct settings {
    const char *prompt, *file, *system, *template_file;
    uint64_t n, seed, top_k;
    double temperature, top_p, min_p;
    bool n_given, raw;
    struct model_flags model;
};

struct run {
    const struct settings *settings;
    struct served_model model;
    struct node_choice nodes;
    struct engine *engine;
    size_t n_ctx;
    int events[2];                  /* pipe */
    json_t *messages;               /* the chat so far */
    bool chats, too_long;           /* the last turn did not fit the context */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

/* SIGINT ends an answer, not the chat: reads return with EINTR. */
static void catch_interrupts(void)
{
    struct sigaction action = { .sa_handler = on_interrupt };
    sigaction(SIGINT, &action, NULL);
}

static void on_event(void *arg, const struct engine_event *event)
{
    const struct run *r = arg;
    while (write(r->events[1], event, sizeof(*event)) < 0 && errno == EINTR)
        ;
}

static int read_all(FILE *f, const char *name, struct buf *text)
{
    char bytes[4096];
    size_t n;

    text->limit = 16 << 20;         /* as the body of a request */
    while (!text->failed && (n = fread(bytes, 1, sizeof(bytes), f)) > 0)
        buf_append(text, bytes, n);
    if (ferror(f) || text->failed) {
        log_error("%s: %s", name, text->failed ? "the prompt is too long" : "cannot be read");
        return 1;
    }
    return 0;
}

/* The request of a turn as a JSON object: sampling, and the prompt or the messages. */
static json_t *request_body(const struct run *r, const char *prompt, size_t n)
{
    const struct settings *s = r->settings;
    json_t *body = json_pack("{s:f, s:f, s:f, s:I, s:I}", "temperature", s->temperature, "top_p", s->top_p, "min_p", s->min_p, "top_k",
                             (json_int_t)s->top_k, "seed", (json_int_t)s->seed);

    if (!body)
        return NULL;
    if (s->raw)
        json_object_set_new(body, "prompt", json_stringn(prompt, n));
    else
        json_object_set(body, "messages", r->messages);
    return body;
}

/* -n 128 unless given, and no more than the context has room for. */
static int set_budget(const struct run *r, json_t *body, struct api_request **request, struct api_error *e)
{
    enum api_route route = r->settings->raw ? API_COMPLETIONS : API_CHAT;
    char *text;
    int err;

    /* Read once to count the prompt: with max_tokens 1 it fails only if the prompt itself does not fit. */
    json_object_set_new(body, "max_tokens", json_integer(1));
    text = json_dumps(body, 0);
    err = text ? api_read(request, route, &r->model.api, r->n_ctx, text, strlen(text), e) : -ENOMEM;
    free(text);
    if (!err) {
        size_t room = r->n_ctx - (*request)->prompts[0].n;
        (*request)->prompts[0].max_tokens = (uint32_t)(r->settings->n < room ? r->settings->n : room);
    }
    return err;
}

static void print(struct buf *text, struct buf *answer)
{
    if (text->len) {
        fwrite(text->data, 1, text->len, stdout);
        fflush(stdout);
        buf_append(answer, text->data, text->len);
    }
    buf_clear(text);
}

/* Print the answer as it comes. Returns 0, or 1 when the engine failed. */
static int follow(const struct run *r, const struct api_request *request, struct buf *answer, struct engine_event *last)
{
    struct detokenizer d;
    struct buf text = { 0 };
    bool cancelled = false;

    detokenizer_init(&d, r->model.tokenizer, true, false);
    for (;;) {
        if (interrupted && !cancelled) {
            engine_cancel(r->engine, 1);
            cancelled = true;
        }
        if (read(r->events[0], last, sizeof(*last)) != (ssize_t)sizeof(*last))
            continue;       /* a signal */
        if (last->type == ENGINE_FINISHED)
            break;
        bool ends = false;
        for (size_t i = 0; i < request->n_end_ids; i++)
            ends |= request->end_ids[i] == last->token;
        if (last->type != ENGINE_TOKEN || ends)
            continue;
        detokenizer_push(&d, last->token, &text);
        print(&text, answer);
    }
    detokenizer_finish(&d, &text);
    print(&text, answer);
    buf_free(&text);
    putchar('\n');
    fflush(stdout);
    if (last->reason == ENGINE_CORRUPTED || last->reason == ENGINE_FAILED || last->reason == ENGINE_ABORTED) {
        log_error("%s", last->reason == ENGINE_CORRUPTED ? "the model's logits are not finite" : "the engine stopped");
        return 1;
    }
    return 0;
}

static void print_rates(const struct engine_event *e)
{
    double prompt_s = (double)e->prompt_ns / 1e9, decode_s = (double)e->decode_ns / 1e9;

    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "[%u prompt tokens in %.2f s (%.0f tok/s), %u generated", e->n_prompt, prompt_s,
            prompt_s > 0 ? e->n_prompt / prompt_s : 0, e->n_tokens);
    if (e->n_tokens > 1 && decode_s > 0)
        fprintf(stderr, " in %.2f s (%.1f tok/s)", decode_s, (e->n_tokens - 1) / decode_s);
    fputs("]\n", stderr);
}

/* One turn: the answer goes to stdout and into `answer`. */
static int complete(struct run *r, const char *prompt, size_t n, struct buf *answer)
{
    struct api_request *request = NULL;
    struct api_error why = { 0 };
    struct engine_event last = { 0 };
    json_t *body = request_body(r, prompt, n);
    int err = body ? set_budget(r, body, &request, &why) : -ENOMEM, status = 1;

    r->too_long = false;

    if (!err) {
        const struct engine_request e = {
            .id = 1, .tokens = request->prompts[0].ids, .n_prompt = request->prompts[0].n, .sampling = request->sampling,
            .max_tokens = request->prompts[0].max_tokens, .end_ids = request->end_ids, .n_end_ids = request->n_end_ids, .n_logprobs = -1,
        };
        interrupted = 0;
        err = engine_submit(r->engine, &e);
    }
    if (err) {
        r->too_long = why.code == API_CONTEXT_LENGTH_EXCEEDED;
        if (!r->too_long || !r->chats)
            log_error("%s", why.message[0] ? why.message : strerror(-err));
    } else {
        status = follow(r, request, answer, &last);
        print_rates(&last);
    }
    api_request_free(request);
    json_decref(body);
    return status;
}

static int add_message(struct run *r, const char *role, const char *text, size_t n)
{
    json_t *content = json_stringn(text, n);

    if (!content) {
        log_error("the prompt is not valid UTF-8");
        return 1;
    }
    return json_array_append_new(r->messages, json_pack("{s:s, s:o}", "role", role, "content", content)) ? 1 : 0;
}

static int run_once(struct run *r, const char *prompt, size_t n)
{
    struct buf answer = { 0 };
    int status = r->settings->raw ? 0 : add_message(r, "user", prompt, n);

    if (!status)
        status = complete(r, prompt, n, &answer);
    buf_free(&answer);
    return status;
}

/* Make room: the oldest question and its answer leave the chat, the system message stays. False when only the new question is left. */
static bool forget_oldest(struct run *r)
{
    size_t first = r->settings->system ? 1 : 0;

    if (json_array_size(r->messages) < first + 3)
        return false;
    json_array_remove(r->messages, first);
    json_array_remove(r->messages, first);
    fputs("[the oldest turn is forgotten: the context is full]\n", stderr);
    return true;
}

/* Lines from the terminal until end of input; ^C ends an answer, at the prompt it ends the chat. */
static int run_chat(struct run *r)
{
    char *line = NULL;
    size_t cap = 0;
    int status = 0;

    r->chats = true;
    fprintf(stderr, "chat with %s: an empty line or ^D ends it, ^C ends an answer\n", r->model.name);
    while (!status) {
        struct buf answer = { 0 };
        interrupted = 0;
        fputs("> ", stderr);
        ssize_t n = getline(&line, &cap, stdin);
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        if (n <= 0)
            break;
        status = add_message(r, "user", line, (size_t)n);
        if (!status)
            status = complete(r, NULL, 0, &answer);
        while (status && r->too_long && forget_oldest(r))
            status = complete(r, NULL, 0, &answer);
        if (status && r->too_long) {        /* this question alone is longer than the context */
            log_error("the question does not fit the context of %zu tokens (--ctx)", r->n_ctx);
            json_array_remove(r->messages, json_array_size(r->messages) - 1);
            status = 0;
            buf_free(&answer);
            continue;
        }
        if (!status)
            status = add_message(r, "assistant", answer.data ? answer.data : "", answer.len);
        buf_free(&answer);
    }
    free(line);
    return status;
}

static int answer(struct run *r)
{
    const struct settings *s = r->settings;
    struct buf text = { 0 };
    int status = 0;

    if (s->system && add_message(r, "system", s->system, strlen(s->system)))
        return 1;
    if (s->prompt)
        return run_once(r, s->prompt, strlen(s->prompt));
    if (!s->file && isatty(STDIN_FILENO) && !s->raw)
        return run_chat(r);
    FILE *f = s->file ? fopen(s->file, "re") : stdin;
    if (!f) {
        log_error("%s: %s", s->file, strerror(errno));
        return 1;
    }
    status = read_all(f, s->file ? s->file : "stdin", &text);
    if (f != stdin)
        fclose(f);
    /* The newline that ends a file or echo's output is no part of a question; --raw takes every byte. */
    while (!s->raw && text.len && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
        text.len--;
    if (!status)
        status = run_once(r, text.data ? text.data : "", text.len);
    buf_free(&text);
    return status;
}

static int run(struct run *r, const char *path)
{
    struct engine_options o = { .prefill_chunk = 512 };
    const struct node_wish wish = { .machine_file = r->settings->model.machine, .n_replicas = 1, .batch = 1 };
    struct model_info info;
    int status = model_flags_apply(&r->settings->model, &o.model);

    if (status)
        return status;
    o.model.max_batch = 1;
    if (served_model_open(&r->model, path, r->settings->template_file, NULL) || node_choice_make(&r->nodes, &o.model, r->model.gguf, &wish))
        return 1;
    r->messages = json_array();
    if (!r->messages || pipe(r->events)) {
        log_error("cannot start: %s", strerror(errno));
        return 1;
    }
    int err = engine_create(&r->engine, r->model.gguf, &o, on_event, r);
    if (err) {
        log_error("the engine did not start: %s", strerror(-err));
        return 1;
    }
    progress_show(&(struct replicas){ .n = 1, .engine = { r->engine } });
    if (engine_wait_ready(r->engine))
        return 1;
    model_info(engine_model(r->engine), &info);
    r->n_ctx = info.n_ctx;
    catch_interrupts();
    return answer(r);
}

int cmd_run(int argc, char **argv)
{
    struct settings s = { .n = 128, .top_p = 1 };
    struct option options[11 + MODEL_FLAGS_OPTIONS] = {
        { .name = "prompt", .letter = 'p', .type = OPTION_STRING, .out = &s.prompt, .metavar = "TEXT",
          .help = "what to answer; without -p and -f a chat on a terminal, else the text on stdin" },
        { .name = "file", .letter = 'f', .type = OPTION_STRING, .out = &s.file, .metavar = "FILE", .help = "the same, from a file" },
        { .name = "max-tokens", .letter = 'n', .type = OPTION_U64, .out = &s.n, .metavar = "N", .least = 1, .most = 1 << 24,
          .help = "most tokens of an answer (default 128; 1024 in a chat)", .given = &s.n_given },
        { .name = "temp", .type = OPTION_F64, .out = &s.temperature, .metavar = "T", .least = 0, .most = 2,
          .help = "temperature; 0 takes the most likely token (default 0)" },
        { .name = "top-k", .type = OPTION_U64, .out = &s.top_k, .metavar = "N", .least = 0, .most = 1 << 21,
          .help = "draw from the N most likely tokens; 0: all (default 0)" },
        { .name = "top-p", .type = OPTION_F64, .out = &s.top_p, .metavar = "P", .least = 1e-6, .most = 1,
          .help = "draw from the most likely tokens that together have P (default 1)" },
        { .name = "min-p", .type = OPTION_F64, .out = &s.min_p, .metavar = "P", .least = 0, .most = 1,
          .help = "drop tokens less likely than P times the most likely (default 0)" },
        { .name = "seed", .type = OPTION_U64, .out = &s.seed, .metavar = "S", .least = 0, .most = 9e18,
          .help = "of the draws; the same seed gives the same answer (default 0)" },
        { .name = "system", .type = OPTION_STRING, .out = &s.system, .metavar = "TEXT", .help = "system message of the chat" },
        { .name = "chat-template", .type = OPTION_STRING, .out = &s.template_file, .metavar = "FILE",
          .help = "chat template (Jinja) instead of the model's own" },
        { .name = "raw", .type = OPTION_FLAG, .out = &s.raw, .help = "no chat template: the model goes on with the text" },
    };
    const struct command command = {
        .name = "run", .usage = "run MODEL [-p TEXT | -f FILE] [options]",
        .summary = "Answer one prompt on stdout, token by token; without a prompt, on a terminal, chat.",
        .options = options, .n_options = sizeof(options) / sizeof(options[0]), .min_args = 1, .max_args = 1,
    };
    struct run r = { .settings = &s, .events = { -1, -1 } };
    const char *args[1];
    size_t n_args;
    char path[4096];

    model_flags_init(&s.model);
    model_flags_options(&s.model, options + 11);
    int status = options_parse(&command, argc, argv, args, &n_args);
    if (status >= 0)
        return status;
    if (s.prompt && s.file) {
        log_error("run: give -p or -f, not both");
        return 2;
    }
    if (s.raw && s.system) {
        log_error("run: --system needs a chat template, which --raw leaves out");
        return 2;
    }
    if (!s.n_given && !s.prompt && !s.file && isatty(STDIN_FILENO))
        s.n = 1024;
    status = model_resolve(args[0], path, sizeof(path));
    if (status)
        return status;
    status = run(&r, path);
    engine_destroy(r.engine);
    served_model_close(&r.model);
    json_decref(r.messages);
    for (int i = 0; i < 2; i++)
        if (r.events[i] >= 0)
            close(r.events[i]);
    return status;
}
