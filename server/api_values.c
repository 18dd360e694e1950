/*
 * api_values.c - checks of the fields whose values are more than a number, a flag or a text.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_internal.h"

int api_token_id(const struct api_model *served, const char *param, const json_t *value, int32_t *id, struct api_error *e)
{
    const size_t n_vocab = tokenizer_vocab_size(served->tokenizer);
    int64_t integer;

    if (!json_is_number(value))
        return fields_wrong_type(e, param, "a token id", value);
    if (!fields_integer(value, &integer) || integer < 0 || (uint64_t)integer >= n_vocab)
        return api_error_set(e, API_INVALID_VALUE, param, "%s must be a token id from 0 to %zu, got %.17g", param, n_vocab - 1,
                             json_number_value(value));
    *id = (int32_t)integer;
    return 0;
}

int api_token_ids(const struct api_model *served, const char *param, const json_t *array, int32_t **ids, size_t *n, struct api_error *e)
{
    const size_t count = json_array_size(array);
    int32_t *out = malloc((count ? count : 1) * sizeof(*out));
    int err = 0;

    if (!out)
        return api_error_internal(e, -ENOMEM);
    for (size_t i = 0; i < count && !err; i++) {
        const json_t *value = json_array_get(array, i);
        /* The path of an element is only written for one that fails: there may be millions. */
        if (api_token_id(served, param, value, &out[i], e) != 0) {
            char at[160];
            snprintf(at, sizeof(at), "%s[%zu]", param, i);
            err = api_token_id(served, at, value, &out[i], e);
        }
    }
    if (err) {
        free(out);
        return err;
    }
    *ids = out;
    *n = count;
    return 0;
}

static int add_stop(struct api_body *b, const char *param, const json_t *value, struct api_error *e)
{
    if (!json_is_string(value))
        return fields_wrong_type(e, param, "a string", value);
    const size_t n = json_string_length(value);
    if (n < 1 || n > STOP_MAX_BYTES)
        return api_error_set(e, API_INVALID_VALUE, param, "%s must have 1 to %d bytes, got %zu", param, STOP_MAX_BYTES, n);
    int err = stop_set_add(&b->request->stop, json_string_value(value), n);
    return err ? api_error_internal(e, err) : 0;
}

int api_check_stop(void *body, const char *param, const json_t *value, struct api_error *e)
{
    struct api_body *b = body;
    int err = 0;

    if (json_is_string(value))
        return add_stop(b, param, value, e);
    if (!json_is_array(value))
        return fields_wrong_type(e, param, "a string or an array of strings", value);
    if (json_array_size(value) > STOP_MAX_STRINGS)
        return api_error_set(e, API_INVALID_VALUE, param, "%s may have at most %d strings, got %zu", param, STOP_MAX_STRINGS,
                             json_array_size(value));
    for (size_t i = 0; i < json_array_size(value) && !err; i++) {
        char at[64];
        snprintf(at, sizeof(at), "%s[%zu]", param, i);
        err = add_stop(b, at, json_array_get(value, i), e);
    }
    return err;
}

int api_check_stop_ids(void *body, const char *param, const json_t *value, struct api_error *e)
{
    struct api_body *b = body;
    int32_t *ids;
    size_t n;

    if (!json_is_array(value))
        return fields_wrong_type(e, param, "an array of token ids", value);
    if (json_array_size(value) > API_MAX_STOP_IDS)
        return api_error_set(e, API_INVALID_VALUE, param, "%s may have at most %d ids, got %zu", param, API_MAX_STOP_IDS,
                             json_array_size(value));
    int err = api_token_ids(b->served, param, value, &ids, &n, e);
    if (err)
        return err;
    memcpy(b->request->stop_ids, ids, n * sizeof(*ids));
    b->request->n_stop_ids = n;
    free(ids);
    return 0;
}

/* false bans a token; a number is added to its logit. */
static int bias_value(const char *param, const json_t *value, float *bias, struct api_error *e)
{
    if (json_is_false(value)) {
        *bias = -INFINITY;
        return 0;
    }
    if (!json_is_number(value))
        return fields_wrong_type(e, param, "a number or false", value);
    double number = json_number_value(value);
    if (!(number >= -100 && number <= 100))
        return api_error_set(e, API_INVALID_VALUE, param, "%s must be between -100 and 100, got %g", param, number);
    *bias = (float)number;
    return 0;
}

/* A key such as "50256": digits alone, without leading zeros, so that no id has two keys. */
static int bias_key(const struct api_body *b, const char *param, const char *key, int32_t *id, struct api_error *e)
{
    const size_t digits = strspn(key, "0123456789");
    const size_t n_vocab = tokenizer_vocab_size(b->served->tokenizer);

    if (!digits || key[digits] || digits > 9 || (key[0] == '0' && digits > 1) || (size_t)atol(key) >= n_vocab)
        return api_error_set(e, API_INVALID_VALUE, param, "%s: the key must be a token id from 0 to %zu", param, n_vocab - 1);
    *id = (int32_t)atol(key);
    return 0;
}

static int compare_bias(const void *a, const void *b)
{
    const struct logit_bias *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int read_bias_object(struct api_body *b, const char *param, const json_t *value, struct logit_bias *out, struct api_error *e)
{
    const char *key;
    json_t *element;
    size_t i = 0;
    int err = 0;

    json_object_foreach((json_t *)value, key, element) {
        char at[128];
        snprintf(at, sizeof(at), "%s.%s", param, key);
        err = bias_key(b, at, key, &out[i].id, e);
        if (!err)
            err = bias_value(at, element, &out[i++].bias, e);
        if (err)
            break;
    }
    return err;
}

static int read_bias_pairs(struct api_body *b, const char *param, const json_t *value, struct logit_bias *out, struct api_error *e)
{
    int err = 0;

    for (size_t i = 0; i < json_array_size(value) && !err; i++) {
        const json_t *pair = json_array_get(value, i);
        char at[64];
        snprintf(at, sizeof(at), "%s[%zu]", param, i);
        if (!json_is_array(pair) || json_array_size(pair) != 2)
            return fields_wrong_type(e, at, "a pair [id, bias]", pair);
        err = api_token_id(b->served, at, json_array_get(pair, 0), &out[i].id, e);
        if (!err)
            err = bias_value(at, json_array_get(pair, 1), &out[i].bias, e);
    }
    return err;
}

int api_check_logit_bias(void *body, const char *param, const json_t *value, struct api_error *e)
{
    struct api_body *b = body;

    if (!json_is_object(value) && !json_is_array(value))
        return fields_wrong_type(e, param, "an object or an array of pairs", value);
    const size_t n = json_is_object(value) ? json_object_size(value) : json_array_size(value);
    if (n > API_MAX_BIAS)
        return api_error_set(e, API_INVALID_VALUE, param, "%s may have at most %d entries, got %zu", param, API_MAX_BIAS, n);
    if (!n)
        return 0;
    struct logit_bias *bias = malloc(n * sizeof(*bias));
    if (!bias)
        return api_error_internal(e, -ENOMEM);
    int err = json_is_object(value) ? read_bias_object(b, param, value, bias, e) : read_bias_pairs(b, param, value, bias, e);
    if (!err) {
        qsort(bias, n, sizeof(*bias), compare_bias);
        for (size_t i = 1; i < n && !err; i++)
            if (bias[i].id == bias[i - 1].id)
                err = api_error_set(e, API_INVALID_VALUE, param, "%s names token %d twice", param, bias[i].id);
    }
    if (err) {
        free(bias);
        return err;
    }
    b->request->sampling.bias = bias;
    b->request->sampling.n_bias = n;
    return 0;
}

static const struct field stream_options_table[] = {
    { "include_usage", FIELD_BOOL, 1, offsetof(struct api_body, include_usage), 0, 0, false, NULL },
    { "continuous_usage_stats", FIELD_BOOL, 1, offsetof(struct api_body, continuous_usage), 0, 0, false, NULL },
};

const struct field_table api_stream_options_fields = {
    stream_options_table, sizeof(stream_options_table) / sizeof(stream_options_table[0])
};

int api_check_stream_options(void *body, const char *param, const json_t *value, struct api_error *e)
{
    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    return fields_read(stream_options_table, api_stream_options_fields.n, 1, "stream_options.", value, body, e);
}

int api_check_reasoning_effort(void *body, const char *param, const json_t *value, struct api_error *e)
{
    static const char *const known[] = { "none", "minimal", "low", "medium", "high", "max" };
    const char *effort = json_string_value(value);

    (void)body;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(effort, known[i]) == 0)
            return 0;
    return api_error_set(e, API_INVALID_VALUE, param, "%s must be none, minimal, low, medium, high or max, got \"%.64s\"", param, effort);
}

/* Arguments of a template reach a stranger's program: only those by name that published templates know (CVE-2025-62426). */
int api_check_template_kwargs(void *body, const char *param, const json_t *value, struct api_error *e)
{
    static const char *const allowed[] = { "enable_thinking", "thinking", "reasoning_effort", "thinking_budget" };
    const char *key;
    json_t *element;

    (void)body;
    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    json_object_foreach((json_t *)value, key, element) {
        bool known = false;
        for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
            known |= strcmp(key, allowed[i]) == 0;
        char at[128];
        snprintf(at, sizeof(at), "%s.%s", param, key);
        if (!known)
            return api_error_set(e, API_INVALID_VALUE, at,
                                 "%s is not accepted: only enable_thinking, thinking, reasoning_effort, thinking_budget", at);
        if (json_is_object(element) || json_is_array(element))
            return fields_wrong_type(e, at, "a boolean, number or string", element);
    }
    return 0;
}

int api_check_cache_salt(void *body, const char *param, const json_t *value, struct api_error *e)
{
    const size_t n = json_string_length(value);

    (void)body;
    if (n < 1 || n > 128 || strpbrk(json_string_value(value), "@/\\"))
        return api_error_set(e, API_INVALID_VALUE, param, "%s must have 1 to 128 bytes without @, / and \\", param);
    return 0;
}

int api_check_modalities(void *body, const char *param, const json_t *value, struct api_error *e)
{
    (void)body;
    if (!json_is_array(value))
        return fields_wrong_type(e, param, "an array", value);
    const char *first = json_string_value(json_array_get(value, 0));
    if (json_array_size(value) != 1 || !first || strcmp(first, "text") != 0)
        return api_error_set(e, API_UNSUPPORTED_CONTENT, param, "%s may only be [\"text\"]", param);
    return 0;
}

int api_check_truncate(void *body, const char *param, const json_t *value, struct api_error *e)
{
    const struct api_body *b = body;

    (void)value;
    if (b->truncate == 0 || b->truncate > (int64_t)b->n_ctx)
        return api_error_set(e, API_INVALID_VALUE, param, "%s must be -1 or between 1 and %zu, got %lld", param, b->n_ctx,
                             (long long)b->truncate);
    return 0;
}

int api_check_generation_prompt(void *body, const char *param, const json_t *value, struct api_error *e)
{
    (void)param;
    (void)value;
    (void)e;
    ((struct api_body *)body)->generation_prompt_given = true;
    return 0;
}

int api_check_encoding_format(void *body, const char *param, const json_t *value, struct api_error *e)
{
    const char *format = json_string_value(value);

    ((struct api_body *)body)->base64 = strcmp(format, "base64") == 0;
    if (strcmp(format, "float") == 0 || strcmp(format, "base64") == 0)
        return 0;
    return api_error_set(e, API_INVALID_VALUE, param, "%s must be \"float\" or \"base64\", got \"%.64s\"", param, format);
}

/* No GGUF key says which models were trained to have their vectors cut. */
int api_check_dimensions(void *body, const char *param, const json_t *value, struct api_error *e)
{
    (void)body;
    (void)value;
    return api_error_set(e, API_INVALID_VALUE, param, "%s cannot be chosen: the model does not say that its vectors may be cut", param);
}

int api_refuse(void *body, const char *param, const json_t *value, struct api_error *e)
{
    (void)body;
    (void)value;
    return api_error_set(e, API_INVALID_VALUE, param, "%s is not accepted by this server", param);
}

int api_not_built(void *body, const char *param, const json_t *value, struct api_error *e)
{
    (void)body;
    if (json_is_false(value))
        return 0;
    return api_error_set(e, API_NOT_SUPPORTED, param, "%s is not built into this version", param);
}
