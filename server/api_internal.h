/*
 * api_internal.h - the body of a request while it is read: values checked for type and range, still borrowed from the JSON tree.
 */
#ifndef FOURWAY_SERVER_API_INTERNAL_H
#define FOURWAY_SERVER_API_INTERNAL_H

#include <jansson.h>

#include "server/api.h"
#include "server/fields.h"

struct api_body {
    const struct api_model *served;
    size_t n_ctx, body_bytes;
    struct api_request *request;        /* what checks store at once: stop strings, biases, ids */

    const char *model, *request_id, *cache_salt, *reasoning_effort;
    const json_t *prompt, *messages, *template_kwargs, *tools, *tool_choice;
    int64_t max_tokens, max_completion_tokens;      /* -1: absent */
    int64_t min_tokens, priority, n, best_of, top_k, seed, truncate, logprobs, top_logprobs;      /* best_of, truncate 0: absent */
    double temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty, timeout_s, ping_s;
    bool chat_logprobs, stream, include_usage, continuous_usage, progress, timings_per_token;
    bool echo, add_special_tokens, include_stop, ignore_eos, skip_special, return_token_ids, tokens_as_ids;
    bool add_generation_prompt, generation_prompt_given, continue_final, parallel_tool_calls;
    bool base64;

    /* Of /v1/responses and /v1/messages. */
    const char *instructions;
    const json_t *input, *system, *metadata, *text_format;
    json_t *dialog, *kwargs, *choice;   /* owned: what they say as the fields messages, chat_template_kwargs and tool_choice of a chat */
};

extern const struct field_table api_fields, api_stream_options_fields, api_responses_fields, api_messages_fields;
extern const struct field_table api_tokenize_fields, api_detokenize_fields;

/* The JSON text as an object. Returns 0 with *object, or a negative errno with *e filled. */
int api_parse_object(const char *body, size_t n, json_t **object, struct api_error *e);

/* The fields of a route by its table; defaults first, and what the body owns last. */
void api_body_init(struct api_body *b, const struct api_model *served, size_t n_ctx, struct api_request *r);
int api_body_read(struct api_body *b, enum api_route route, const json_t *object, struct api_error *e);
void api_body_free(struct api_body *b);

/* Checks of single fields (api_values.c), as struct field wants them. */
int api_check_stop(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_stop_ids(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_logit_bias(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_stream_options(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_reasoning_effort(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_template_kwargs(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_cache_salt(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_modalities(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_generation_prompt(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_truncate(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_encoding_format(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_dimensions(void *body, const char *param, const json_t *value, struct api_error *e);

/* Those that make r->grammar (api_grammar.c). */
int api_check_response_format(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_structured_outputs(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_guided_json(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_guided_regex(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_guided_choice(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_grammar(void *body, const char *param, const json_t *value, struct api_error *e);

int api_refuse(void *body, const char *param, const json_t *value, struct api_error *e);        /* 400 */
int api_not_built(void *body, const char *param, const json_t *value, struct api_error *e);     /* 501 unless false */

/* The string `name` that the object at `param` must have; NULL with *e filled. */
const char *api_needed_text(const char *param, const json_t *object, const char *name, struct api_error *e);

/* `messages` must be an array that is not empty. */
int api_check_messages(const struct api_body *b, struct api_error *e);

/* A token id of the vocabulary at `param`. */
int api_token_id(const struct api_model *served, const char *param, const json_t *value, int32_t *id, struct api_error *e);

/* Token ids of an array, bounds and types checked. *ids is the caller's. `index_param` is "prompt[3]" for messages. */
int api_token_ids(const struct api_model *served, const char *param, const json_t *array, int32_t **ids, size_t *n, struct api_error *e);

/* Fill r->prompts from the field prompt or input (api_prompt.c), or from messages (api_chat.c). */
int api_read_prompts(struct api_body *b, struct api_error *e);
int api_read_chat(struct api_body *b, struct api_error *e);

/* Say what the fields of the route mean in those of a chat, after all of them were read. What they pass on is well-formed there. */
int api_responses_dialog(struct api_body *b, struct api_error *e);
int api_messages_dialog(struct api_body *b, struct api_error *e);

/* Append the text of a content array, whose parts may have the `types` (up to a NULL). */
int api_join_text(const char *param, const json_t *parts, const char *const *types, struct buf *text, struct api_error *e);

/* Append {"role":role,"content":text}; text NULL: null. Returns the message, borrowed from the list, or NULL without memory. */
json_t *api_add_message(json_t *list, const char *role, const struct buf *text);

/* The output follows `schema`, found at `param`; NULL: it is any object. */
int api_set_grammar(struct api_body *b, const char *param, const json_t *schema, struct api_error *e);

/* Text of a prompt, the field `param`, to ids. `literal` as in tokenizer_encode. add: begin and end tokens, where the vocabulary asks. */
int api_encode(const struct api_model *served, const char *param, const char *text, size_t n, const uint8_t *literal, bool add,
               struct api_prompt *p, struct api_error *e);

/* tools and tool_choice of a request, checked. Zero it; api_tools_free in any case. */
struct api_tools {
    size_t n;
    json_t *list;               /* as templates want them; NULL: none are shown to the model */
    char **names;
    struct grammar **arguments; /* of each; NULL where calls are not looked for */
    bool required;              /* the answer must be a call */
    size_t named;               /* ... of this one, or SIZE_MAX: of any */
};
int api_tools_read(struct api_tools *t, const struct api_body *b, struct api_error *e);
void api_tools_free(struct api_tools *t);

/* Messages for a template that knows no tools: those of the request, and calls and results in them, become words. */
int api_tools_tell(const struct api_tools *t, const struct api_body *b, json_t **messages, struct api_error *e);

/* With the prompt's text: what the answer consists of, as message rules and grammar of the request. The prompt may get a marker. */
int api_tools_apply(struct api_tools *t, struct api_body *b, struct buf *text, struct buf *literal, struct api_error *e);

/* The messages as the template gets them, and its text. */
int api_render(struct api_body *b, struct buf *text, struct buf *literal, struct api_error *e);

/* Cut to truncate_prompt_tokens, then see that prompt and output fit the context; sets max_tokens of each prompt. */
int api_budget(struct api_body *b, struct api_error *e);

#endif
