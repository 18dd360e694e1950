/*
 * api_read.c - the table of request fields, and the checks that need more than one of them.
 */
#include <errno.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <xxhash.h>

#include "server/api_internal.h"
#include "server/json_read.h"

#define AT(member) offsetof(struct api_body, member)
#define BOTH (API_COMPLETIONS | API_CHAT)
#define TOKENS (BOTH | API_EMBEDDINGS)      /* whatever the engine computes */
#define TEMPLATE (API_CHAT | API_APPLY_TEMPLATE)
#define INT32_MOST 2147483647.0

static const struct field table[] = {
    /* name, type, routes, where, least, most, above, check */
    { "model", FIELD_STRING, TOKENS | API_APPLY_TEMPLATE, AT(model), 0, 0, false, NULL },
    { "prompt", FIELD_ANY, API_COMPLETIONS, AT(prompt), 0, 0, false, NULL },
    { "input", FIELD_ANY, API_EMBEDDINGS, AT(prompt), 0, 0, false, NULL },
    { "encoding_format", FIELD_STRING, API_EMBEDDINGS, NO_OFFSET, 0, 0, false, api_check_encoding_format },
    { "dimensions", FIELD_INTEGER, API_EMBEDDINGS, NO_OFFSET, 1, INT32_MOST, false, api_check_dimensions },
    { "messages", FIELD_ANY, TEMPLATE, AT(messages), 0, 0, false, NULL },
    { "max_tokens", FIELD_INTEGER, BOTH, AT(max_tokens), 0, INT32_MOST, false, NULL },
    { "max_completion_tokens", FIELD_INTEGER, API_CHAT, AT(max_completion_tokens), 1, INT32_MOST, false, NULL },
    { "min_tokens", FIELD_INTEGER, BOTH, AT(min_tokens), 0, INT32_MOST, false, NULL },
    { "n", FIELD_INTEGER, BOTH, AT(n), 1, API_MAX_N, false, NULL },
    { "best_of", FIELD_INTEGER, BOTH, AT(best_of), 1, API_MAX_N, false, NULL },
    { "temperature", FIELD_NUMBER, BOTH, AT(temperature), 0, 2, false, NULL },
    { "top_p", FIELD_NUMBER, BOTH, AT(top_p), 0, 1, true, NULL },
    { "top_k", FIELD_INTEGER, BOTH, AT(top_k), -1, INT32_MOST, false, NULL },
    { "min_p", FIELD_NUMBER, BOTH, AT(min_p), 0, 1, false, NULL },
    { "presence_penalty", FIELD_NUMBER, BOTH, AT(presence_penalty), -2, 2, false, NULL },
    { "frequency_penalty", FIELD_NUMBER, BOTH, AT(frequency_penalty), -2, 2, false, NULL },
    { "repetition_penalty", FIELD_NUMBER, BOTH, AT(repetition_penalty), 0, 10, true, NULL },
    { "repeat_penalty", FIELD_NUMBER, BOTH, AT(repetition_penalty), 0, 10, true, NULL },
    { "seed", FIELD_INTEGER, BOTH, AT(seed), -0x1p63, 0x1p63, false, NULL },
    { "stop", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_stop },
    { "stop_token_ids", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_stop_ids },
    { "include_stop_str_in_output", FIELD_BOOL, BOTH, AT(include_stop), 0, 0, false, NULL },
    { "ignore_eos", FIELD_BOOL, BOTH, AT(ignore_eos), 0, 0, false, NULL },
    { "skip_special_tokens", FIELD_BOOL, BOTH, AT(skip_special), 0, 0, false, NULL },
    { "logit_bias", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_logit_bias },
    { "stream", FIELD_BOOL, BOTH, AT(stream), 0, 0, false, NULL },
    { "stream_options", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_stream_options },
    { "response_format", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_response_format },
    { "structured_outputs", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_structured_outputs },
    { "grammar", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_grammar },
    { "guided_json", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_guided_json },
    { "guided_regex", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_guided_regex },
    { "guided_choice", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_guided_choice },
    { "guided_grammar", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_grammar },
    { "truncate_prompt_tokens", FIELD_INTEGER, TOKENS, AT(truncate), -1, INT32_MOST, false, api_check_truncate },
    { "return_token_ids", FIELD_BOOL, BOTH, AT(return_token_ids), 0, 0, false, NULL },
    { "return_tokens_as_token_ids", FIELD_BOOL, BOTH, AT(tokens_as_ids), 0, 0, false, NULL },
    { "cache_salt", FIELD_STRING, TOKENS, AT(cache_salt), 0, 0, false, api_check_cache_salt },
    { "priority", FIELD_INTEGER, TOKENS, AT(priority), -INT32_MOST - 1, INT32_MOST, false, NULL },
    { "timeout", FIELD_NUMBER, TOKENS, AT(timeout_s), 0.1, 86400, false, NULL },
    { "timings_per_token", FIELD_BOOL, BOTH, AT(timings_per_token), 0, 0, false, NULL },
    { "return_progress", FIELD_BOOL, BOTH, AT(progress), 0, 0, false, NULL },
    { "sse_ping_interval", FIELD_NUMBER, BOTH, AT(ping_s), 0, 3600, false, NULL },
    { "request_id", FIELD_STRING, TOKENS, AT(request_id), 0, 0, false, NULL },
    { "echo", FIELD_BOOL, API_COMPLETIONS, AT(echo), 0, 0, false, NULL },
    { "logprobs", FIELD_INTEGER, API_COMPLETIONS, AT(logprobs), 0, API_MAX_LOGPROBS, false, NULL },
    { "add_special_tokens", FIELD_BOOL, API_COMPLETIONS | API_APPLY_TEMPLATE | API_EMBEDDINGS, AT(add_special_tokens), 0, 0, false, NULL },
    { "logprobs", FIELD_BOOL, API_CHAT, AT(chat_logprobs), 0, 0, false, NULL },
    { "top_logprobs", FIELD_INTEGER, API_CHAT, AT(top_logprobs), 0, API_MAX_LOGPROBS, false, NULL },
    { "tools", FIELD_ANY, TEMPLATE, AT(tools), 0, 0, false, NULL },
    { "tool_choice", FIELD_ANY, TEMPLATE, AT(tool_choice), 0, 0, false, NULL },
    { "parallel_tool_calls", FIELD_BOOL, TEMPLATE, AT(parallel_tool_calls), 0, 0, false, NULL },
    { "reasoning_effort", FIELD_STRING, TEMPLATE, AT(reasoning_effort), 0, 0, false, api_check_reasoning_effort },
    { "chat_template_kwargs", FIELD_ANY, TEMPLATE, AT(template_kwargs), 0, 0, false, api_check_template_kwargs },
    { "add_generation_prompt", FIELD_BOOL, TEMPLATE, AT(add_generation_prompt), 0, 0, false, api_check_generation_prompt },
    { "continue_final_message", FIELD_BOOL, TEMPLATE, AT(continue_final), 0, 0, false, NULL },
    { "modalities", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_check_modalities },

    { "suffix", FIELD_ANY, API_COMPLETIONS, NO_OFFSET, 0, 0, false, api_refuse },
    { "prompt_embeds", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, api_refuse },
    { "chat_template", FIELD_ANY, TEMPLATE, NO_OFFSET, 0, 0, false, api_refuse },     /* CVE-2025-61620 */
    { "use_beam_search", FIELD_BOOL, BOTH, NO_OFFSET, 0, 0, false, api_not_built },

    { "user", FIELD_IGNORED, TOKENS, NO_OFFSET, 0, 0, false, NULL },
    { "safety_identifier", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "metadata", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "store", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "service_tier", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "prompt_cache_key", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "verbosity", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "prediction", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },

    { "guided_*", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "bad_words", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "allowed_token_ids", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "prompt_logprobs", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "typical_p", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "mirostat*", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "dry_*", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "xtc_*", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "samplers", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "lora", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
};

const struct field_table api_fields = { table, sizeof(table) / sizeof(table[0]) };

int api_parse_object(const char *body, size_t n, json_t **object, struct api_error *e)
{
    struct json_read_error why;
    int err = json_read(body, n, object, &why);

    if (err == -EINVAL)
        return api_error_set(e, API_INVALID_JSON, NULL, "the body is not JSON: %s (byte %zu)", why.message, why.offset);
    if (err)
        return api_error_internal(e, err);
    if (!json_is_object(*object)) {
        err = api_error_set(e, API_INVALID_VALUE, NULL, "the body must be an object, got %s", fields_type_name(*object));
        json_decref(*object);
        *object = NULL;
    }
    return err;
}

void api_body_init(struct api_body *b, const struct api_model *served, size_t n_ctx, struct api_request *r)
{
    const struct sampling *d = &served->sampling;

    *b = (struct api_body){
        .served = served, .n_ctx = n_ctx, .request = r,
        .max_tokens = -1, .max_completion_tokens = -1, .n = 1, .top_k = d->top_k, .seed = -1, .logprobs = -1,
        .temperature = (double)d->temperature, .top_p = (double)d->top_p, .min_p = (double)d->min_p,
        .repetition_penalty = (double)d->repetition_penalty, .ping_s = -1,
        .add_special_tokens = true, .skip_special = true, .add_generation_prompt = true,
        .parallel_tool_calls = true,
    };
}

void api_body_free(struct api_body *b)
{
    json_decref(b->dialog);
    json_decref(b->kwargs);
    json_decref(b->choice);
}

static int check_model(struct api_body *b, struct api_error *e)
{
    const struct api_model *served = b->served;
    const char *name = served->names[0];
    char known[256] = "";

    for (size_t i = 0; b->model && i < served->n_names; i++)
        if (strcmp(served->names[i], b->model) == 0)
            name = served->names[i];
    if (b->model && strcmp(name, b->model) != 0 && !served->accept_any_model) {
        for (size_t i = 0, at = 0; i < served->n_names && at < sizeof(known); i++)
            at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", i ? ", " : "", served->names[i]);
        return api_error_set(e, API_MODEL_NOT_FOUND, "model", "model \"%.128s\" is not served here; there is: %s", b->model, known);
    }
    snprintf(b->request->model, sizeof(b->request->model), "%s", name);
    return 0;
}

int api_body_read(struct api_body *b, enum api_route route, const json_t *object, struct api_error *e)
{
    const struct field_table *t = &api_fields;

    b->request->route = route;
    if (route == API_RESPONSES)
        t = &api_responses_fields;
    else if (route == API_MESSAGES || route == API_COUNT_TOKENS)
        t = &api_messages_fields;
    int err = fields_read(t->fields, t->n, route, "", object, b, e);
    if (err)
        return err;
    if (b->continue_final && b->add_generation_prompt) {
        if (b->generation_prompt_given)
            return api_error_set(e, API_INVALID_VALUE, "continue_final_message",
                                 "continue_final_message and add_generation_prompt cannot both be true");
        b->add_generation_prompt = false;
    }
    return check_model(b, e);
}

static int check_together(struct api_body *b, struct api_error *e)
{
    if (b->best_of && b->best_of != b->n)
        return api_error_set(e, API_INVALID_VALUE, "best_of", "best_of must equal n (%lld), got %lld", (long long)b->n,
                             (long long)b->best_of);
    if (b->top_logprobs && !b->chat_logprobs)
        return api_error_set(e, API_INVALID_VALUE, "top_logprobs", "top_logprobs needs \"logprobs\": true");
    if (b->max_tokens == 0 && !b->echo)
        return api_error_set(e, API_INVALID_VALUE, "max_tokens", "max_tokens must be at least 1, got 0 (0 needs echo)");
    if (b->max_completion_tokens >= 0)
        b->max_tokens = b->max_completion_tokens;
    if (b->max_tokens >= 0 && b->min_tokens > b->max_tokens)
        return api_error_set(e, API_INVALID_VALUE, "min_tokens", "min_tokens must be at most max_tokens (%lld), got %lld",
                             (long long)b->max_tokens, (long long)b->min_tokens);
    return 0;
}

static int compare_ids(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static int set_end_ids(struct api_body *b)
{
    struct api_request *r = b->request;
    size_t n_vocab_ends = 0;
    const int32_t *ends = tokenizer_stop_ids(b->served->tokenizer, &n_vocab_ends);

    if (b->ignore_eos)
        n_vocab_ends = 0;
    r->end_ids = malloc((n_vocab_ends + r->n_stop_ids + 1) * sizeof(*r->end_ids));
    if (!r->end_ids)
        return -ENOMEM;
    if (n_vocab_ends)
        memcpy(r->end_ids, ends, n_vocab_ends * sizeof(*ends));
    memcpy(r->end_ids + n_vocab_ends, r->stop_ids, r->n_stop_ids * sizeof(*r->stop_ids));
    r->n_end_ids = n_vocab_ends + r->n_stop_ids;
    qsort(r->end_ids, r->n_end_ids, sizeof(*r->end_ids), compare_ids);
    return 0;
}

/* A label only: it goes to headers and logs, never into a key. */
static void copy_label(char *to, size_t size, const char *from)
{
    size_t i = 0;

    for (; from && from[i] && i + 1 < size; i++)
        to[i] = from[i] >= 0x20 && from[i] < 0x7f ? from[i] : '?';
    to[i] = '\0';
}

/* For ranges that are open at 0: a tiny double must not become 0 as a float. */
static float above_zero(double x)
{
    return x < (double)FLT_MIN ? FLT_MIN : (float)x;
}

static int fill_request(struct api_body *b)
{
    struct api_request *r = b->request;
    const size_t n_vocab = tokenizer_vocab_size(b->served->tokenizer);
    uint64_t seed = (uint64_t)b->seed;

    if (b->seed == -1 && getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        return -errno;
    r->n = (size_t)b->n;
    r->sampling.temperature = (float)b->temperature;
    r->sampling.top_k = b->top_k > 0 && (uint64_t)b->top_k < n_vocab ? (int32_t)b->top_k : 0;
    r->sampling.top_p = above_zero(b->top_p);
    r->sampling.min_p = (float)b->min_p;
    r->sampling.repetition_penalty = above_zero(b->repetition_penalty);
    r->sampling.presence_penalty = (float)b->presence_penalty;
    r->sampling.frequency_penalty = (float)b->frequency_penalty;
    r->sampling.seed = seed;
    r->min_tokens = (uint32_t)b->min_tokens;
    r->n_logprobs = r->route == API_COMPLETIONS ? (int)b->logprobs : b->chat_logprobs ? (int)b->top_logprobs : -1;
    r->priority = (int32_t)b->priority;
    r->timeout_s = b->timeout_s;
    r->ping_s = b->ping_s;
    r->stream = b->stream;
    r->include_usage = b->stream && b->include_usage;
    r->continuous_usage = b->stream && b->continuous_usage;
    r->progress = b->stream && b->progress;
    r->timings_per_token = b->timings_per_token;
    r->echo = b->echo;
    r->include_stop = b->include_stop;
    r->skip_special = b->skip_special;
    r->return_token_ids = b->return_token_ids;
    r->tokens_as_ids = b->tokens_as_ids;
    r->base64 = b->base64;
    r->both_reasoning_fields = b->served->both_reasoning_fields;
    if (b->cache_salt) {
        const XXH128_hash_t hash = XXH3_128bits(b->cache_salt, strlen(b->cache_salt));
        r->salt = (struct kv_salt){ { hash.low64, hash.high64 } };
    }
    copy_label(r->label, sizeof(r->label), b->request_id);
    return set_end_ids(b);
}

static int read_prompts(struct api_body *b, struct api_error *e)
{
    int err = 0;

    if (b->request->route == API_COMPLETIONS || b->request->route == API_EMBEDDINGS)
        return api_read_prompts(b, e);
    if (b->request->route == API_RESPONSES)
        err = api_responses_dialog(b, e);
    else if (b->request->route == API_MESSAGES)
        err = api_messages_dialog(b, e);
    return err ? err : api_read_chat(b, e);
}

int api_read(struct api_request **out, enum api_route route, const struct api_model *model, size_t n_ctx,
             const char *text, size_t n, struct api_error *e)
{
    struct api_request *r = calloc(1, sizeof(*r));
    struct api_body b;
    json_t *object = NULL;

    *out = NULL;
    if (!r)
        return api_error_internal(e, -ENOMEM);
    api_body_init(&b, model, n_ctx, r);
    b.body_bytes = n;
    int err = api_parse_object(text, n, &object, e);
    if (err)
        goto out;
    err = api_body_read(&b, route, object, e);
    if (!err)
        err = check_together(&b, e);
    if (err)
        goto out;
    err = fill_request(&b);
    if (err) {
        api_error_internal(e, err);
        goto out;
    }
    err = read_prompts(&b, e);
    if (!err)
        err = api_budget(&b, e);
out:
    api_body_free(&b);
    json_decref(object);
    if (err)
        api_request_free(r);
    else
        *out = r;
    return err;
}

void api_request_free(struct api_request *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_prompts; i++) {
        free(r->prompts[i].ids);
        free(r->prompts[i].text);
    }
    free(r->prompts);
    for (size_t i = 0; i < r->message.n_names; i++)
        free(r->message.names[i]);
    free(r->message.names);
    free(r->end_ids);
    free(r->grammar);
    free((struct logit_bias *)r->sampling.bias);
    stop_set_free(&r->stop);
    if (r->own)
        r->free_own(r->own);
    free(r);
}
