/*
 * api_grammar.c - the fields that say what an answer may consist of: a request has at most one grammar.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_internal.h"
#include "server/ebnf.h"
#include "server/json_read.h"
#include "server/regex.h"
#include "server/schema.h"

/* Before the only place that may set it. */
static int check_alone(const struct api_body *b, const char *param, struct api_error *e)
{
    if (b->request->grammar)
        return api_error_set(e, API_INVALID_VALUE, param,
                             "%s: only one of response_format, structured_outputs, grammar and guided_* may say what is allowed", param);
    return 0;
}

/* What a compiler returned, and why. */
static int finish(int err, const char *param, const char *why, struct api_error *e)
{
    if (err == -EINVAL)
        return api_error_set(e, API_INVALID_SCHEMA, param, "%s: %s", param, why);
    return err ? api_error_internal(e, err) : 0;
}

int api_set_grammar(struct api_body *b, const char *param, const json_t *schema, struct api_error *e)
{
    struct schema_error why;
    int err = check_alone(b, param, e);

    return err ? err : finish(schema_compile(schema, &b->request->grammar, &why), param, why.message, e);
}

/* A schema, or as vLLM takes it, the text of one. */
int api_check_guided_json(void *body, const char *param, const json_t *value, struct api_error *e)
{
    struct json_read_error why;
    json_t *schema;

    if (!json_is_string(value))
        return api_set_grammar(body, param, value, e);
    int err = json_read(json_string_value(value), json_string_length(value), &schema, &why);
    if (err == -EINVAL)
        return api_error_set(e, API_INVALID_SCHEMA, param, "%s is not JSON: %s (byte %zu)", param, why.message, why.offset);
    if (err)
        return api_error_internal(e, err);
    err = api_set_grammar(body, param, schema, e);
    json_decref(schema);
    return err;
}

/* A text in one of the two notations. */
static int check_pattern(struct api_body *b, const char *param, const json_t *value, struct api_error *e,
                         int (*compile)(const char *text, size_t n, struct grammar **out, struct pattern_error *why))
{
    struct pattern_error why;
    const int err = check_alone(b, param, e);

    if (err)
        return err;
    if (!json_is_string(value))
        return fields_wrong_type(e, param, "a string", value);
    return finish(compile(json_string_value(value), json_string_length(value), &b->request->grammar, &why), param, why.message, e);
}

int api_check_guided_regex(void *body, const char *param, const json_t *value, struct api_error *e)
{
    return check_pattern(body, param, value, e, regex_compile);
}

int api_check_grammar(void *body, const char *param, const json_t *value, struct api_error *e)
{
    return check_pattern(body, param, value, e, ebnf_compile);
}

int api_check_guided_choice(void *body, const char *param, const json_t *value, struct api_error *e)
{
    struct api_body *b = body;
    struct schema_error why;
    int err = check_alone(b, param, e);

    if (err)
        return err;
    if (!json_is_array(value))
        return fields_wrong_type(e, param, "an array of strings", value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        char at[160];
        snprintf(at, sizeof(at), "%.120s[%zu]", param, i);
        if (!json_is_string(json_array_get(value, i)))
            return fields_wrong_type(e, at, "a string", json_array_get(value, i));
    }
    return finish(schema_compile_choice(value, &b->request->grammar, &why), param, why.message, e);
}

int api_check_structured_outputs(void *body, const char *param, const json_t *value, struct api_error *e)
{
    static const struct { const char *name; int (*check)(void *, const char *, const json_t *, struct api_error *); } kinds[] = {
        { "json", api_check_guided_json }, { "regex", api_check_guided_regex }, { "choice", api_check_guided_choice },
        { "grammar", api_check_grammar },
    };
    const size_t n_kinds = sizeof(kinds) / sizeof(kinds[0]);
    const json_t *chosen = NULL;
    size_t which = 0, n = 0;
    const char *key;
    json_t *element;

    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    json_object_foreach((json_t *)value, key, element) {
        size_t i = 0;
        char at[160];
        if (json_is_null(element))
            continue;
        while (i < n_kinds && strcmp(kinds[i].name, key) != 0)
            i++;
        snprintf(at, sizeof(at), "%s.%.100s", param, key);
        if (i == n_kinds)
            return api_error_set(e, API_INVALID_VALUE, at, "%s is not supported: only json, regex, choice and grammar", at);
        chosen = element;
        which = i;
        n++;
    }
    if (n != 1)
        return api_error_set(e, API_INVALID_VALUE, param, "%s must have exactly one of json, regex, choice and grammar, got %zu", param, n);
    char at[64];
    snprintf(at, sizeof(at), "%.40s.%s", param, kinds[which].name);
    return kinds[which].check(body, at, chosen, e);
}

static int read_json_schema(struct api_body *b, const json_t *value, struct api_error *e)
{
    static const char *const param = "response_format.json_schema.schema";
    const json_t *outer = json_object_get(value, "json_schema"), *schema = json_object_get(outer, "schema");
    const json_t *name = json_object_get(outer, "name"), *strict = json_object_get(outer, "strict");

    if (!outer || !json_is_object(outer))
        return api_error_set(e, API_INVALID_VALUE, "response_format.json_schema", "response_format.json_schema must be an object");
    if (!schema || json_is_null(schema))
        return api_error_set(e, API_INVALID_VALUE, param, "%s is missing", param);
    if (name && !json_is_null(name) && !json_is_string(name))
        return fields_wrong_type(e, "response_format.json_schema.name", "a string", name);
    if (strict && !json_is_null(strict) && !json_is_boolean(strict))
        return fields_wrong_type(e, "response_format.json_schema.strict", "true or false", strict);
    return api_set_grammar(b, param, schema, e);
}

int api_check_response_format(void *body, const char *param, const json_t *value, struct api_error *e)
{
    const json_t *schema = json_object_get(value, "schema");
    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type)
        return api_error_set(e, API_INVALID_VALUE, "response_format.type", "response_format.type must be a string");
    if (strcmp(type, "text") == 0)
        return 0;
    if (strcmp(type, "json_object") == 0)
        return api_set_grammar(body, "response_format.schema", json_is_null(schema) ? NULL : schema, e);
    if (strcmp(type, "json_schema") == 0)
        return read_json_schema(body, value, e);
    return api_error_set(e, API_INVALID_VALUE, "response_format.type",
                         "response_format.type must be text, json_object or json_schema, got \"%.64s\"", type);
}
