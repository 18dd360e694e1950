/*
 * api_responses.c - the fields of /v1/responses, and its input items as messages of a chat. Nothing is kept: the whole conversation comes
 * with each request, and the reply repeats what the request set.
 */
#include "server/api_responses.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_internal.h"
#include "server/json_write.h"

#define AT(member) offsetof(struct api_body, member)
#define INT32_MOST 2147483647.0

/* Limits of the original interface. */
enum { METADATA_MOST = 16, METADATA_KEY_BYTES = 64, METADATA_VALUE_BYTES = 512 };

static int refuse_state(void *body, const char *param, const json_t *value, struct api_error *e)
{
    (void)body;
    (void)value;
    return api_error_set(e, API_INVALID_VALUE, param, "%s is not accepted: nothing is kept here, send the whole conversation as input",
                         param);
}

static int check_background(void *body, const char *param, const json_t *value, struct api_error *e)
{
    return json_is_true(value) ? refuse_state(body, param, value, e) : 0;
}

static int check_metadata(void *body, const char *param, const json_t *value, struct api_error *e)
{
    const char *key;
    json_t *element;

    (void)body;
    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    if (json_object_size(value) > METADATA_MOST)
        return api_error_set(e, API_INVALID_VALUE, param, "%s may have at most %d entries, got %zu", param, METADATA_MOST,
                             json_object_size(value));
    json_object_foreach((json_t *)value, key, element) {
        char at[160];
        snprintf(at, sizeof(at), "%s.%s", param, key);
        if (!json_is_string(element))
            return fields_wrong_type(e, at, "a string", element);
        if (strlen(key) > METADATA_KEY_BYTES || json_string_length(element) > METADATA_VALUE_BYTES)
            return api_error_set(e, API_INVALID_VALUE, at, "%s: a key may have at most %d bytes, a value %d", at, METADATA_KEY_BYTES,
                                 METADATA_VALUE_BYTES);
    }
    return 0;
}

static int check_reasoning(void *body, const char *param, const json_t *value, struct api_error *e)
{
    static const struct field table[] = {
        { "effort", FIELD_STRING, 1, AT(reasoning_effort), 0, 0, false, api_check_reasoning_effort },
    };
    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    return fields_read(table, 1, 1, "reasoning.", value, body, e);
}

static int check_format(void *body, const char *param, const json_t *value, struct api_error *e)
{
    const json_t *schema = json_object_get(value, "schema"), *strict = json_object_get(value, "strict");

    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type)
        return api_error_set(e, API_INVALID_VALUE, "text.format.type", "text.format.type must be a string");
    if (strcmp(type, "text") == 0)
        return 0;
    if (strcmp(type, "json_object") == 0)
        return api_set_grammar(body, param, NULL, e);
    if (strcmp(type, "json_schema") != 0)
        return api_error_set(e, API_INVALID_VALUE, "text.format.type",
                             "text.format.type must be text, json_object or json_schema, got \"%.64s\"", type);
    if (!schema || json_is_null(schema))
        return api_error_set(e, API_INVALID_VALUE, "text.format.schema", "text.format.schema is missing");
    if (strict && !json_is_null(strict) && !json_is_boolean(strict))
        return fields_wrong_type(e, "text.format.strict", "true or false", strict);
    return api_set_grammar(body, "text.format.schema", schema, e);
}

static int check_text(void *body, const char *param, const json_t *value, struct api_error *e)
{
    static const struct field table[] = {
        { "format", FIELD_ANY, 1, AT(text_format), 0, 0, false, check_format },
        { "verbosity", FIELD_IGNORED, 1, NO_OFFSET, 0, 0, false, NULL },
    };
    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    return fields_read(table, sizeof(table) / sizeof(table[0]), 1, "text.", value, body, e);
}

static const struct field table[] = {
    /* name, type, routes, where, least, most, above, check */
    { "model", FIELD_STRING, API_RESPONSES, AT(model), 0, 0, false, NULL },
    { "input", FIELD_ANY, API_RESPONSES, AT(input), 0, 0, false, NULL },
    { "instructions", FIELD_STRING, API_RESPONSES, AT(instructions), 0, 0, false, NULL },
    { "stream", FIELD_BOOL, API_RESPONSES, AT(stream), 0, 0, false, NULL },
    { "temperature", FIELD_NUMBER, API_RESPONSES, AT(temperature), 0, 2, false, NULL },
    { "top_p", FIELD_NUMBER, API_RESPONSES, AT(top_p), 0, 1, true, NULL },
    { "max_output_tokens", FIELD_INTEGER, API_RESPONSES, AT(max_tokens), 1, INT32_MOST, false, NULL },
    { "tools", FIELD_ANY, API_RESPONSES, AT(tools), 0, 0, false, NULL },
    { "tool_choice", FIELD_ANY, API_RESPONSES, AT(tool_choice), 0, 0, false, NULL },
    { "parallel_tool_calls", FIELD_BOOL, API_RESPONSES, AT(parallel_tool_calls), 0, 0, false, NULL },
    { "text", FIELD_ANY, API_RESPONSES, NO_OFFSET, 0, 0, false, check_text },
    { "reasoning", FIELD_ANY, API_RESPONSES, NO_OFFSET, 0, 0, false, check_reasoning },
    { "metadata", FIELD_ANY, API_RESPONSES, AT(metadata), 0, 0, false, check_metadata },
    { "seed", FIELD_INTEGER, API_RESPONSES, AT(seed), -0x1p63, 0x1p63, false, NULL },
    { "cache_salt", FIELD_STRING, API_RESPONSES, AT(cache_salt), 0, 0, false, api_check_cache_salt },
    { "priority", FIELD_INTEGER, API_RESPONSES, AT(priority), -INT32_MOST - 1, INT32_MOST, false, NULL },
    { "timeout", FIELD_NUMBER, API_RESPONSES, AT(timeout_s), 0.1, 86400, false, NULL },
    { "sse_ping_interval", FIELD_NUMBER, API_RESPONSES, AT(ping_s), 0, 3600, false, NULL },
    { "request_id", FIELD_STRING, API_RESPONSES, AT(request_id), 0, 0, false, NULL },

    { "previous_response_id", FIELD_ANY, API_RESPONSES, NO_OFFSET, 0, 0, false, refuse_state },
    { "conversation", FIELD_ANY, API_RESPONSES, NO_OFFSET, 0, 0, false, refuse_state },
    { "background", FIELD_BOOL, API_RESPONSES, NO_OFFSET, 0, 0, false, check_background },
    { "prompt", FIELD_ANY, API_RESPONSES, NO_OFFSET, 0, 0, false, api_refuse },

    { "store", FIELD_IGNORED, API_RESPONSES, NO_OFFSET, 0, 0, false, NULL },
    { "include", FIELD_IGNORED, API_RESPONSES, NO_OFFSET, 0, 0, false, NULL },
    { "truncation", FIELD_IGNORED, API_RESPONSES, NO_OFFSET, 0, 0, false, NULL },
    { "user", FIELD_IGNORED, API_RESPONSES, NO_OFFSET, 0, 0, false, NULL },
    { "service_tier", FIELD_IGNORED, API_RESPONSES, NO_OFFSET, 0, 0, false, NULL },
    { "safety_identifier", FIELD_IGNORED, API_RESPONSES, NO_OFFSET, 0, 0, false, NULL },
    { "prompt_cache_key", FIELD_IGNORED, API_RESPONSES, NO_OFFSET, 0, 0, false, NULL },
    { "stream_options", FIELD_IGNORED, API_RESPONSES, NO_OFFSET, 0, 0, false, NULL },
};

const struct field_table api_responses_fields = { table, sizeof(table) / sizeof(table[0]) };

/* ---- input items to messages ---- */

static const char *const part_types[] = { "input_text", "output_text", NULL };

static int text_of(const char *param, const json_t *value, struct buf *text, struct api_error *e)
{
    if (json_is_array(value))
        return api_join_text(param, value, part_types, text, e);
    if (!json_is_string(value))
        return value ? fields_wrong_type(e, param, "a string or an array of parts", value)
                     : api_error_set(e, API_INVALID_VALUE, param, "%s is required", param);
    buf_append(text, json_string_value(value), json_string_length(value));
    return text->failed ? api_error_internal(e, -ENOMEM) : 0;
}

static int add_message(const char *param, const json_t *item, json_t *list, struct api_error *e)
{
    static const char *const roles[] = { "user", "assistant", "system", "developer" };
    const char *role = json_string_value(json_object_get(item, "role"));
    struct buf text = { 0 };
    bool known = false;
    char at[96];

    for (size_t i = 0; role && i < sizeof(roles) / sizeof(roles[0]); i++)
        known |= strcmp(role, roles[i]) == 0;
    snprintf(at, sizeof(at), "%s.role", param);
    if (!known)
        return api_error_set(e, API_INVALID_VALUE, at, "%s must be user, assistant, system or developer", at);
    snprintf(at, sizeof(at), "%s.content", param);
    int err = text_of(at, json_object_get(item, "content"), &text, e);
    if (!err && !api_add_message(list, role, &text))
        err = api_error_internal(e, -ENOMEM);
    buf_free(&text);
    return err;
}

/* Calls belong to the message of the assistant before them; without one they make it. */
static int add_call(const char *param, const json_t *item, json_t *list, struct api_error *e)
{
    const char *id = api_needed_text(param, item, "call_id", e), *name = id ? api_needed_text(param, item, "name", e) : NULL;
    const char *arguments = name ? api_needed_text(param, item, "arguments", e) : NULL;
    json_t *last = json_array_get(list, json_array_size(list) - 1);

    if (!arguments)
        return -EINVAL;
    if (!last || strcmp(json_string_value(json_object_get(last, "role")), "assistant") != 0)
        last = api_add_message(list, "assistant", NULL);
    json_t *calls = json_object_get(last, "tool_calls");
    if (last && !calls && json_object_set_new(last, "tool_calls", json_array()) == 0)
        calls = json_object_get(last, "tool_calls");
    if (json_array_append_new(calls, json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function", "name", name,
                                               "arguments", arguments)))
        return api_error_internal(e, -ENOMEM);
    return 0;
}

static int add_output(const char *param, const json_t *item, json_t *list, struct api_error *e)
{
    const char *id = api_needed_text(param, item, "call_id", e);
    struct buf text = { 0 };
    char at[96];

    if (!id)
        return -EINVAL;
    snprintf(at, sizeof(at), "%s.output", param);
    int err = text_of(at, json_object_get(item, "output"), &text, e);
    if (!err) {
        json_t *message = api_add_message(list, "tool", &text);
        if (!message || json_object_set_new(message, "tool_call_id", json_string(id)))
            err = api_error_internal(e, -ENOMEM);
    }
    buf_free(&text);
    return err;
}

static int add_item(size_t i, const json_t *item, json_t *list, struct api_error *e)
{
    const json_t *given = json_object_get(item, "type");
    const char *type = json_string_value(given);
    char param[64], at[80];

    snprintf(param, sizeof(param), "input[%zu]", i);
    if (!json_is_object(item))
        return fields_wrong_type(e, param, "an object", item);
    if (!given || (type && strcmp(type, "message") == 0))
        return add_message(param, item, list, e);
    if (type && strcmp(type, "function_call") == 0)
        return add_call(param, item, list, e);
    if (type && strcmp(type, "function_call_output") == 0)
        return add_output(param, item, list, e);
    if (type && strcmp(type, "reasoning") == 0)         /* of an earlier answer: templates leave it out, too */
        return 0;
    snprintf(at, sizeof(at), "%s.type", param);
    return api_error_set(e, API_INVALID_VALUE, at, "%s must be message, function_call, function_call_output or reasoning", at);
}

static int read_input(struct api_body *b, struct api_error *e)
{
    int err = 0;

    if (!b->input)
        return api_error_set(e, API_INVALID_VALUE, "input", "input is required");
    if (b->instructions) {
        struct buf text = { .data = (char *)b->instructions, .len = strlen(b->instructions) };
        if (!api_add_message(b->dialog, "system", &text))
            return api_error_internal(e, -ENOMEM);
    }
    if (json_is_string(b->input)) {
        struct buf text = { .data = (char *)json_string_value(b->input), .len = json_string_length(b->input) };
        return api_add_message(b->dialog, "user", &text) ? 0 : api_error_internal(e, -ENOMEM);
    }
    if (!json_is_array(b->input))
        return fields_wrong_type(e, "input", "a string or an array of items", b->input);
    for (size_t i = 0; i < json_array_size(b->input) && !err; i++)
        err = add_item(i, json_array_get(b->input, i), b->dialog, e);
    if (!err && !json_array_size(b->dialog))
        err = api_error_set(e, API_INVALID_VALUE, "input", "input has no message");
    return err;
}

/* ---- what the response repeats ---- */

static void free_own(void *arg)
{
    struct responses_own *own = arg;

    free(own->instructions);
    free(own->settings);
    free(own);
}

static void put(struct buf *out, const json_t *value, const char *absent)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    buf_puts(out, text ? text : absent);
    out->failed |= value && !text;
    free(text);
}

static int set_own(struct api_body *b, struct api_error *e)
{
    struct responses_own *own = calloc(1, sizeof(*own));
    struct buf instructions = { 0 }, settings = { 0 };

    if (!own)
        return api_error_internal(e, -ENOMEM);
    json_write_string_or_null(&instructions, b->instructions);
    buf_printf(&settings, "\"parallel_tool_calls\":%s,\"temperature\":%.9g,\"top_p\":%.9g,\"tool_choice\":",
               b->parallel_tool_calls ? "true" : "false", b->temperature, b->top_p);
    put(&settings, b->tool_choice, "\"auto\"");
    buf_puts(&settings, ",\"tools\":");
    put(&settings, b->tools, "[]");
    buf_printf(&settings, b->max_tokens < 0 ? ",\"max_output_tokens\":null" : ",\"max_output_tokens\":%lld", (long long)b->max_tokens);
    buf_puts(&settings, ",\"previous_response_id\":null,\"metadata\":");
    put(&settings, b->metadata, "{}");
    buf_puts(&settings, ",\"text\":{\"format\":");
    put(&settings, b->text_format, "{\"type\":\"text\"}");
    buf_putc(&settings, '}');
    own->instructions = instructions.data;
    own->settings = settings.data;
    b->request->own = own;
    b->request->free_own = free_own;
    return instructions.failed || settings.failed ? api_error_internal(e, -ENOMEM) : 0;
}

int api_responses_dialog(struct api_body *b, struct api_error *e)
{
    b->messages = b->dialog = json_array();
    if (!b->dialog)
        return api_error_internal(e, -ENOMEM);
    int err = read_input(b, e);
    return err ? err : set_own(b, e);
}
