/*
 * api.h - the body of a completion, chat or embeddings request, checked and tokenised: the last stage that knows JSON requests.
 *
 * api_read() does everything that can be refused before the engine is asked: JSON, types and ranges, template, tokens, context
 * budget. What it returns holds no pointer into the body. Runs on the front-end pool; any number of threads at once.
 */
#ifndef FOURWAY_SERVER_API_H
#define FOURWAY_SERVER_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/config.h"
#include "model/kv_cache.h"
#include "model/sampler.h"
#include "server/api_error.h"
#include "server/message.h"
#include "server/stop.h"
#include "weights/chat_template.h"
#include "weights/tokenizer.h"

enum api_route {
    API_COMPLETIONS = 1,
    API_CHAT = 2,
    API_APPLY_TEMPLATE = 4,     /* the fields of a chat, for its text alone */
    API_EMBEDDINGS = 8,         /* prompts are its inputs; nothing is generated */
    API_RESPONSES = 16,
    API_MESSAGES = 32,          /* Anthropic's shape */
    API_COUNT_TOKENS = 64       /* its prompt alone */
};

enum {
    API_MAX_PROMPTS = 128,
    API_MAX_SEQUENCES = 128,    /* prompts x n */
    API_MAX_INPUTS = 2048,      /* of embeddings */
    API_MAX_N = 16,
    API_MAX_LOGPROBS = 20,
    API_MAX_STOP_IDS = 16,
    API_MAX_BIAS = 1024,
    API_MAX_TOOLS = 128
};

/* The served model as requests see it. Read-only while the server runs. */
struct api_model {
    const char *const *names;   /* the served name, then aliases */
    size_t n_names;
    bool accept_any_model;
    const struct tokenizer *tokenizer;
    const struct chat_template *chat_template;
    bool template_knows_developer;      /* else role developer is given to it as system */
    bool template_knows_tools;          /* else tools, calls and their results are told in words */
    const struct tool_syntax *tool_syntax;      /* NULL: tool calls are not looked for */
    const struct think_markers *think;          /* NULL: the model does not think aloud */
    bool think_is_text;                 /* reasoning stays in the text, with its markers */
    bool both_reasoning_fields;         /* reasoning beside reasoning_content */
    struct sampling sampling;           /* defaults of the model's generation config */
    enum pooling pooling;               /* of embeddings; NONE: it gives none */
};

struct api_prompt {
    int32_t *ids;
    size_t n;
    bool is_text;               /* ids came from text; the first n_front and last n_back of them were added, and have no text */
    size_t n_front, n_back;
    char *text;                 /* with echo of a text prompt: that text, owned; else NULL */
    size_t text_bytes;
    uint32_t max_tokens;        /* after the context budget */
    bool fills_context;         /* max_tokens was cut to what the context has left */
};

struct api_request {
    enum api_route route;
    char model[128];            /* the served name or alias that answers */
    char label[129];            /* request_id of the body, printable; "" without */
    struct api_prompt *prompts;
    size_t n_prompts;
    size_t n;                   /* choices a prompt */
    struct sampling sampling;   /* choice is set at submission; bias owned */
    uint32_t min_tokens;
    int32_t *end_ids;           /* sorted; end tokens of the vocabulary (not with ignore_eos), and stop_token_ids */
    size_t n_end_ids;
    int32_t stop_ids[API_MAX_STOP_IDS];     /* those of the request alone: they are stop reasons */
    size_t n_stop_ids;
    struct stop_set stop;
    struct grammar *grammar;    /* of response_format and the like or of tool calls, owned; NULL: any text */
    struct message_rules message;       /* what its answers consist of; names owned */
    bool both_reasoning_fields;
    int n_logprobs;             /* -1: none */
    int32_t priority;           /* lower comes earlier */
    struct kv_salt salt;        /* of cache_salt; zeros without */
    double timeout_s;           /* 0: the server's */
    double ping_s;              /* < 0: the server's; 0: none */
    bool stream, include_usage, continuous_usage, progress, timings_per_token;
    bool echo, include_stop, skip_special, return_token_ids, tokens_as_ids;
    bool base64;                /* embeddings as the bytes of their float32s, little-endian */
    void *own;                  /* fields that only the route's answer format reads (answer.h); freed with free_own */
    void (*free_own)(void *own);
};

/* Returns 0 with *r (api_request_free by the caller), or a negative errno with *e filled. n_ctx: tokens a sequence may hold. */
int api_read(struct api_request **r, enum api_route route, const struct api_model *model, size_t n_ctx,
             const char *body, size_t n, struct api_error *e);
void api_request_free(struct api_request *r);

/* The field that holds the prompt, for errors: prompt, messages or input. */
const char *api_prompt_param(enum api_route route);

/* One body of the tokenizer routes to one reply body, appended to out. The same results. */
int api_tokenize(const struct api_model *model, size_t n_ctx, const char *body, size_t n, struct buf *out, struct api_error *e);
int api_detokenize(const struct api_model *model, const char *body, size_t n, struct buf *out, struct api_error *e);
int api_apply_template(const struct api_model *model, const char *body, size_t n, struct buf *out, struct api_error *e);
/* The body of /v1/messages/count_tokens (api_messages.c). */
int api_count_tokens(const struct api_model *model, const char *body, size_t n, struct buf *out, struct api_error *e);

#endif
