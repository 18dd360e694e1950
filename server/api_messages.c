/*
 * api_messages.c - the fields of /v1/messages and its count_tokens, Anthropic's shape, and their blocks as messages of a chat.
 *
 * A block of text, reasoning or a call is part of a message; the result of a call is a message of its own (role tool). A last message of
 * the assistant is one that the model goes on with.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_internal.h"

#define AT(member) offsetof(struct api_body, member)
#define BOTH (API_MESSAGES | API_COUNT_TOKENS)
#define INT32_MOST 2147483647.0

static int check_stop_sequences(void *body, const char *param, const json_t *value, struct api_error *e)
{
    return json_is_array(value) ? api_check_stop(body, param, value, e) : fields_wrong_type(e, param, "an array of strings", value);
}

/* enabled, disabled, or adaptive: as the template does without being told. */
static int check_thinking(void *body, const char *param, const json_t *value, struct api_error *e)
{
    struct api_body *b = body;
    const json_t *budget = json_object_get(value, "budget_tokens");
    const char *type = json_string_value(json_object_get(value, "type"));
    int64_t tokens = 0;

    if (!json_is_object(value))
        return fields_wrong_type(e, param, "an object", value);
    if (!type || (strcmp(type, "enabled") != 0 && strcmp(type, "disabled") != 0 && strcmp(type, "adaptive") != 0))
        return api_error_set(e, API_INVALID_VALUE, "thinking.type", "thinking.type must be enabled, disabled or adaptive");
    const bool enabled = strcmp(type, "enabled") == 0;
    if (enabled && (!budget || !fields_integer(budget, &tokens) || tokens < 1))
        return api_error_set(e, API_INVALID_VALUE, "thinking.budget_tokens", "thinking.budget_tokens must be an integer of at least 1");
    if (strcmp(type, "adaptive") == 0)
        return 0;
    b->template_kwargs = b->kwargs = json_pack("{s:b, s:b}", "enable_thinking", enabled, "thinking", enabled);
    if (!b->kwargs || (enabled && json_object_set_new(b->kwargs, "thinking_budget", json_integer(tokens))))
        return api_error_internal(e, -ENOMEM);
    return 0;
}

static const struct field table[] = {
    /* name, type, routes, where, least, most, above, check */
    { "model", FIELD_STRING, BOTH, AT(model), 0, 0, false, NULL },
    { "max_tokens", FIELD_INTEGER, API_MESSAGES, AT(max_tokens), 1, INT32_MOST, false, NULL },
    { "messages", FIELD_ANY, BOTH, AT(messages), 0, 0, false, NULL },
    { "system", FIELD_ANY, BOTH, AT(system), 0, 0, false, NULL },
    { "stop_sequences", FIELD_ANY, API_MESSAGES, NO_OFFSET, 0, 0, false, check_stop_sequences },
    { "temperature", FIELD_NUMBER, API_MESSAGES, AT(temperature), 0, 1, false, NULL },
    { "top_p", FIELD_NUMBER, API_MESSAGES, AT(top_p), 0, 1, true, NULL },
    { "top_k", FIELD_INTEGER, API_MESSAGES, AT(top_k), -1, INT32_MOST, false, NULL },
    { "stream", FIELD_BOOL, API_MESSAGES, AT(stream), 0, 0, false, NULL },
    { "tools", FIELD_ANY, BOTH, AT(tools), 0, 0, false, NULL },
    { "tool_choice", FIELD_ANY, BOTH, AT(tool_choice), 0, 0, false, NULL },
    { "thinking", FIELD_ANY, BOTH, NO_OFFSET, 0, 0, false, check_thinking },
    { "seed", FIELD_INTEGER, API_MESSAGES, AT(seed), -0x1p63, 0x1p63, false, NULL },
    { "cache_salt", FIELD_STRING, API_MESSAGES, AT(cache_salt), 0, 0, false, api_check_cache_salt },
    { "priority", FIELD_INTEGER, API_MESSAGES, AT(priority), -INT32_MOST - 1, INT32_MOST, false, NULL },
    { "timeout", FIELD_NUMBER, API_MESSAGES, AT(timeout_s), 0.1, 86400, false, NULL },
    { "sse_ping_interval", FIELD_NUMBER, API_MESSAGES, AT(ping_s), 0, 3600, false, NULL },

    { "cache_control", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "metadata", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "service_tier", FIELD_IGNORED, BOTH, NO_OFFSET, 0, 0, false, NULL },
    { "output_config", FIELD_WARNED, BOTH, NO_OFFSET, 0, 0, false, NULL },
};

const struct field_table api_messages_fields = { table, sizeof(table) / sizeof(table[0]) };

static const char *const text_types[] = { "text", NULL };

/* Text as it is, or blocks of text. */
static int text_of(const char *param, const json_t *value, struct buf *text, struct api_error *e)
{
    if (json_is_array(value))
        return api_join_text(param, value, text_types, text, e);
    if (!json_is_string(value))
        return fields_wrong_type(e, param, "a string or an array of blocks", value);
    buf_append(text, json_string_value(value), json_string_length(value));
    return text->failed ? api_error_internal(e, -ENOMEM) : 0;
}

/* One block's text to `to`, a line of its own, as joined parts are. */
static int add_line(const char *param, const json_t *block, const char *name, struct buf *to, struct api_error *e)
{
    const char *text = api_needed_text(param, block, name, e);

    if (!text)
        return -EINVAL;
    if (to->len)
        buf_putc(to, '\n');
    buf_puts(to, text);
    return to->failed ? api_error_internal(e, -ENOMEM) : 0;
}

static int add_result(const char *param, const json_t *block, json_t *list, struct api_error *e)
{
    const json_t *content = json_object_get(block, "content");
    const char *id = api_needed_text(param, block, "tool_use_id", e);
    struct buf text = { 0 };
    char at[128];
    int err = id ? 0 : -EINVAL;

    snprintf(at, sizeof(at), "%s.content", param);
    if (!err && content && !json_is_null(content))
        err = text_of(at, content, &text, e);
    if (!err) {
        json_t *message = api_add_message(list, "tool", &text);
        if (!message || json_object_set_new(message, "tool_call_id", json_string(id)))
            err = api_error_internal(e, -ENOMEM);
    }
    buf_free(&text);
    return err;
}

static int add_call(const char *param, const json_t *block, json_t *calls, struct api_error *e)
{
    const char *id = api_needed_text(param, block, "id", e), *name = id ? api_needed_text(param, block, "name", e) : NULL;
    const json_t *input = json_object_get(block, "input");
    char at[128];

    if (!name)
        return -EINVAL;
    snprintf(at, sizeof(at), "%s.input", param);
    if (!json_is_object(input))
        return api_error_set(e, API_INVALID_VALUE, at, "%s must be an object", at);
    char *arguments = json_dumps(input, JSON_COMPACT);
    json_t *call = arguments ? json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function", "name", name,
                                         "arguments", arguments) : NULL;
    free(arguments);
    return json_array_append_new(calls, call) ? api_error_internal(e, -ENOMEM) : 0;
}

static int wrong_block(const char *param, const char *role, const char *type, struct api_error *e)
{
    return api_error_set(e, API_UNSUPPORTED_CONTENT, param, "%s: a block of type \"%.64s\" is not supported in a message of the %s", param,
                         type, role);
}

/* Results of tools come before the text that goes with them, as the blocks do. */
static int add_user_blocks(const char *param, const json_t *blocks, json_t *list, struct api_error *e)
{
    const size_t before = json_array_size(list);
    struct buf text = { 0 };
    int err = 0;

    for (size_t i = 0; i < json_array_size(blocks) && !err; i++) {
        const json_t *block = json_array_get(blocks, i);
        char at[96];
        snprintf(at, sizeof(at), "%s[%zu]", param, i);
        const char *type = api_needed_text(at, block, "type", e);
        if (!type)
            err = -EINVAL;
        else if (strcmp(type, "text") == 0)
            err = add_line(at, block, "text", &text, e);
        else if (strcmp(type, "tool_result") != 0)
            err = wrong_block(at, "user", type, e);
        else {
            if (text.len && !api_add_message(list, "user", &text))
                err = api_error_internal(e, -ENOMEM);
            buf_clear(&text);
            if (!err)
                err = add_result(at, block, list, e);
        }
    }
    if (!err && (text.len || json_array_size(list) == before) && !api_add_message(list, "user", &text))
        err = api_error_internal(e, -ENOMEM);
    buf_free(&text);
    return err;
}

static int add_assistant_blocks(const char *param, const json_t *blocks, json_t *list, struct api_error *e)
{
    struct buf text = { 0 }, thinking = { 0 };
    json_t *calls = json_array();
    int err = calls ? 0 : api_error_internal(e, -ENOMEM);

    for (size_t i = 0; i < json_array_size(blocks) && !err; i++) {
        const json_t *block = json_array_get(blocks, i);
        char at[96];
        snprintf(at, sizeof(at), "%s[%zu]", param, i);
        const char *type = api_needed_text(at, block, "type", e);
        if (!type)
            err = -EINVAL;
        else if (strcmp(type, "text") == 0)
            err = add_line(at, block, "text", &text, e);
        else if (strcmp(type, "thinking") == 0)
            err = add_line(at, block, "thinking", &thinking, e);
        else if (strcmp(type, "tool_use") == 0)
            err = add_call(at, block, calls, e);
        else if (strcmp(type, "redacted_thinking") != 0)        /* another server's secret: dropped */
            err = wrong_block(at, "assistant", type, e);
    }
    if (!err) {
        const bool only_calls = json_array_size(calls) && !text.len;
        json_t *message = api_add_message(list, "assistant", only_calls ? NULL : &text);
        if (!message || (json_array_size(calls) && json_object_set(message, "tool_calls", calls)) ||
            (thinking.len && json_object_set_new(message, "reasoning_content", json_stringn(thinking.data, thinking.len))))
            err = api_error_internal(e, -ENOMEM);
    }
    json_decref(calls);
    buf_free(&text);
    buf_free(&thinking);
    return err;
}

static int add_message(size_t i, const json_t *message, json_t *list, struct api_error *e)
{
    const json_t *content = json_object_get(message, "content");
    char param[40], at[64];

    snprintf(param, sizeof(param), "messages[%zu]", i);
    if (!json_is_object(message))
        return fields_wrong_type(e, param, "an object", message);
    const char *role = json_string_value(json_object_get(message, "role"));
    snprintf(at, sizeof(at), "%s.role", param);
    if (!role || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0))
        return api_error_set(e, API_INVALID_VALUE, at, "%s must be user or assistant", at);
    snprintf(at, sizeof(at), "%s.content", param);
    if (!content)
        return api_error_set(e, API_INVALID_VALUE, at, "%s is required", at);
    if (json_is_array(content))
        return strcmp(role, "user") == 0 ? add_user_blocks(at, content, list, e) : add_assistant_blocks(at, content, list, e);
    struct buf text = { 0 };
    int err = text_of(at, content, &text, e);
    if (!err && !api_add_message(list, role, &text))
        err = api_error_internal(e, -ENOMEM);
    buf_free(&text);
    return err;
}

/* A last message of the assistant is the beginning of the answer. */
static int check_last(struct api_body *b, struct api_error *e)
{
    const size_t last = json_array_size(b->dialog) - 1;
    const json_t *message = json_array_get(b->dialog, last);
    const char *text = json_string_value(json_object_get(message, "content"));

    if (strcmp(json_string_value(json_object_get(message, "role")), "assistant") != 0)
        return 0;
    if (json_object_get(message, "tool_calls"))
        return api_error_set(e, API_INVALID_VALUE, "messages", "messages: a tool_use block needs a message with its tool_result after it");
    if (!text || !text[strspn(text, " \t\r\n\f\v")])
        return api_error_set(e, API_INVALID_VALUE, "messages", "messages: the last message, of the assistant, has no text to go on with");
    b->continue_final = true;
    b->add_generation_prompt = false;
    return 0;
}

/* auto, none, any or tool in the words of a chat; disable_parallel_tool_use. */
static int read_choice(struct api_body *b, struct api_error *e)
{
    const json_t *given = b->tool_choice, *serial = json_object_get(given, "disable_parallel_tool_use");
    const char *type = json_string_value(json_object_get(given, "type"));
    json_t *name = json_object_get(given, "name");

    if (!given)
        return 0;
    if (!json_is_object(given))
        return fields_wrong_type(e, "tool_choice", "an object", given);
    if (serial && !json_is_null(serial) && !json_is_boolean(serial))
        return fields_wrong_type(e, "tool_choice.disable_parallel_tool_use", "true or false", serial);
    b->parallel_tool_calls = !json_is_true(serial);
    if (type && (strcmp(type, "auto") == 0 || strcmp(type, "none") == 0))
        b->choice = json_string(type);
    else if (type && strcmp(type, "any") == 0)
        b->choice = json_string("required");
    else if (!type || strcmp(type, "tool") != 0)
        return api_error_set(e, API_INVALID_VALUE, "tool_choice.type", "tool_choice.type must be auto, any, tool or none");
    else if (!json_is_string(name))
        return api_error_set(e, API_INVALID_VALUE, "tool_choice.name", "tool_choice.name must be a string");
    else
        b->choice = json_pack("{s:s, s:O}", "type", "function", "name", name);
    b->tool_choice = b->choice;
    return b->choice ? 0 : api_error_internal(e, -ENOMEM);
}

int api_messages_dialog(struct api_body *b, struct api_error *e)
{
    int err = 0;

    if (b->request->route == API_MESSAGES && b->max_tokens < 0)
        return api_error_set(e, API_INVALID_VALUE, "max_tokens", "max_tokens is required");
    err = api_check_messages(b, e);
    if (err)
        return err;
    const json_t *messages = b->messages;
    b->messages = b->dialog = json_array();
    if (!b->dialog)
        return api_error_internal(e, -ENOMEM);
    if (b->system) {
        struct buf text = { 0 };
        err = text_of("system", b->system, &text, e);
        if (!err && text.len && !api_add_message(b->dialog, "system", &text))
            err = api_error_internal(e, -ENOMEM);
        buf_free(&text);
    }
    for (size_t i = 0; i < json_array_size(messages) && !err; i++)
        err = add_message(i, json_array_get(messages, i), b->dialog, e);
    if (!err)
        err = check_last(b, e);
    return err ? err : read_choice(b, e);
}

int api_count_tokens(const struct api_model *model, const char *body, size_t n, struct buf *out, struct api_error *e)
{
    struct api_request *r = calloc(1, sizeof(*r));
    struct api_body b;
    json_t *object = NULL;

    if (!r)
        return api_error_internal(e, -ENOMEM);
    api_body_init(&b, model, 0, r);
    b.body_bytes = n;
    int err = api_parse_object(body, n, &object, e);
    if (!err)
        err = api_body_read(&b, API_COUNT_TOKENS, object, e);
    if (!err)
        err = api_messages_dialog(&b, e);
    if (!err)
        err = api_read_chat(&b, e);
    if (!err)
        buf_printf(out, "{\"input_tokens\":%zu}", r->prompts->n);
    api_body_free(&b);
    api_request_free(r);
    json_decref(object);
    return err;
}
