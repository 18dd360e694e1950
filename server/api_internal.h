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
    const json_t *prompt, *messages, *template_kwargs;
    int64_t max_tokens, max_completion_tokens;      /* -1: absent */
    int64_t min_tokens, priority, n, best_of, top_k, seed, truncate, logprobs, top_logprobs;      /* best_of, truncate 0: absent */
    double temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty, timeout_s, ping_s;
    bool chat_logprobs, stream, include_usage, continuous_usage, progress, timings_per_token;
    bool echo, add_special_tokens, include_stop, ignore_eos, skip_special, return_token_ids, tokens_as_ids;
    bool add_generation_prompt, generation_prompt_given, continue_final;
};

/* The JSON text as an object. Returns 0 with *object, or a negative errno with *e filled. */
int api_parse_object(const char *body, size_t n, json_t **object, struct api_error *e);

/* The table of completions and chat; defaults first. */
void api_body_init(struct api_body *b, const struct api_model *served, size_t n_ctx, struct api_request *r);
int api_body_read(struct api_body *b, enum api_route route, const json_t *object, struct api_error *e);

/* Checks of single fields (api_values.c), as struct field wants them. */
int api_check_stop(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_stop_ids(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_logit_bias(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_stream_options(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_response_format(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_tools(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_tool_choice(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_reasoning_effort(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_template_kwargs(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_cache_salt(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_modalities(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_generation_prompt(void *body, const char *param, const json_t *value, struct api_error *e);
int api_check_truncate(void *body, const char *param, const json_t *value, struct api_error *e);
int api_refuse(void *body, const char *param, const json_t *value, struct api_error *e);        /* 400 */
int api_not_built(void *body, const char *param, const json_t *value, struct api_error *e);     /* 501 unless false */

/* A token id of the vocabulary at `param`. */
int api_token_id(const struct api_model *served, const char *param, const json_t *value, int32_t *id, struct api_error *e);

/* Token ids of an array, bounds and types checked. *ids is the caller's. `index_param` is "prompt[3]" for messages. */
int api_token_ids(const struct api_model *served, const char *param, const json_t *array, int32_t **ids, size_t *n, struct api_error *e);

/* Fill r->prompts from the field prompt (api_prompt.c), or from messages (api_chat.c). */
int api_read_prompts(struct api_body *b, struct api_error *e);
int api_read_chat(struct api_body *b, struct api_error *e);

/* Text of a prompt to ids. `literal` as in tokenizer_encode. add: begin and end tokens, where the vocabulary asks for them. */
int api_encode(const struct api_model *served, const char *text, size_t n, const uint8_t *literal, bool add, struct api_prompt *p,
               struct api_error *e);

/* The messages as the template gets them, and its text. */
int api_render(struct api_body *b, struct buf *text, struct buf *literal, struct api_error *e);

/* Cut to truncate_prompt_tokens, then see that prompt and output fit the context; sets max_tokens of each prompt. */
int api_budget(struct api_body *b, struct api_error *e);

#endif
