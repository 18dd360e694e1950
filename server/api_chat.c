/*
 * api_chat.c - messages to the text of the model's chat template, and that text to tokens.
 *
 * The template marks which of its output came from the request. There the tokenizer matches no special token, so that a message
 * cannot end its own turn.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_internal.h"
#include "server/json_read.h"

/* Parts are joined by newlines, as vLLM and llama-server do. */
int api_join_text(const char *param, const json_t *parts, const char *const *types, struct buf *text, struct api_error *e)
{
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        char at[128];
        snprintf(at, sizeof(at), "%s[%zu]", param, i);
        if (!json_is_object(part))
            return fields_wrong_type(e, at, "an object", part);
        const char *type = json_string_value(json_object_get(part, "type"));
        const char *const *known = types;
        if (!type)
            return api_error_set(e, API_INVALID_VALUE, at, "%s.type must be a string", at);
        while (*known && strcmp(type, *known) != 0)
            known++;
        if (!*known)
            return api_error_set(e, API_UNSUPPORTED_CONTENT, at, "%s: content of type \"%.64s\" is not supported: only text", at,
                                 type);
        const json_t *part_text = json_object_get(part, "text");
        if (!json_is_string(part_text))
            return api_error_set(e, API_INVALID_VALUE, at, "%s.text must be a string", at);
        if (i)
            buf_putc(text, '\n');
        buf_append(text, json_string_value(part_text), json_string_length(part_text));
    }
    return text->failed ? api_error_internal(e, -ENOMEM) : 0;
}

json_t *api_add_message(json_t *list, const char *role, const struct buf *text)
{
    json_t *message = json_object();
    json_t *content = text ? json_stringn(text->data ? text->data : "", text->len) : json_null();

    if (json_object_set_new(message, "role", json_string(role)) || json_object_set(message, "content", content) ||
        json_array_append(list, message)) {
        json_decref(message);
        message = NULL;
    }
    json_decref(content);
    json_decref(message);
    return message;
}

/* null, which comes with calls, is an empty text to templates that join or loop over it; some tell the two apart (as_sent). */
static int set_content(bool as_sent, const char *param, const json_t *message, json_t *to, struct api_error *e)
{
    static const char *const types[] = { "text", NULL };
    json_t *content = json_object_get(message, "content");
    struct buf text = { 0 };
    int err = 0;

    if (json_is_string(content))
        return json_object_set(to, "content", content) ? api_error_internal(e, -ENOMEM) : 0;
    if (!content || json_is_null(content)) {
        if (!json_array_size(json_object_get(message, "tool_calls")))
            return api_error_set(e, API_INVALID_VALUE, param, "%s is required", param);
        return json_object_set_new(to, "content", as_sent ? json_null() : json_string("")) ? api_error_internal(e, -ENOMEM) : 0;
    }
    if (!json_is_array(content))
        return fields_wrong_type(e, param, "a string or an array of parts", content);
    err = api_join_text(param, content, types, &text, e);
    if (!err && json_object_set_new(to, "content", json_stringn(text.data ? text.data : "", text.len)))
        err = api_error_internal(e, -ENOMEM);
    buf_free(&text);
    return err;
}

/* Arguments are JSON in a string; most templates want the object. What is no object stays a string. */
static json_t *call_arguments(bool as_sent, json_t *arguments)
{
    struct json_read_error why;
    json_t *object = NULL;

    if (as_sent)
        return json_incref(arguments);
    if (json_is_string(arguments) && json_read(json_string_value(arguments), json_string_length(arguments), &object, &why) == 0) {
        if (json_is_object(object))
            return object;
        json_decref(object);
    }
    return json_incref(arguments);
}

static int set_tool_calls(bool as_sent, const char *param, const json_t *calls, json_t *to, struct api_error *e)
{
    if (!json_is_array(calls))
        return fields_wrong_type(e, param, "an array", calls);
    json_t *list = json_array();
    int err = list ? 0 : api_error_internal(e, -ENOMEM);
    for (size_t i = 0; i < json_array_size(calls) && !err; i++) {
        const json_t *call = json_array_get(calls, i);
        const json_t *function = json_object_get(call, "function");
        json_t *name = json_object_get(function, "name"), *arguments = json_object_get(function, "arguments");
        char at[128];
        snprintf(at, sizeof(at), "%s[%zu]", param, i);
        if (!json_is_string(name) || (arguments && !json_is_string(arguments))) {
            err = api_error_set(e, API_INVALID_VALUE, at, "%s must have a function with a name and arguments, both strings", at);
            break;
        }
        json_t *copy = json_pack("{s:O?, s:s, s:{s:O, s:o}}", "id", json_object_get(call, "id"), "type", "function", "function",
                                 "name", name, "arguments", arguments ? call_arguments(as_sent, arguments) : json_object());
        if (!copy || json_array_append_new(list, copy))
            err = api_error_internal(e, -ENOMEM);
    }
    if (!err && json_object_set(to, "tool_calls", list))
        err = api_error_internal(e, -ENOMEM);
    json_decref(list);
    return err;
}

static int set_text_field(const char *param, const json_t *message, const char *field, json_t *to, struct api_error *e)
{
    json_t *value = json_object_get(message, field);
    char at[128];

    if (!value || json_is_null(value))
        return 0;
    snprintf(at, sizeof(at), "%s.%s", param, field);
    if (!json_is_string(value))
        return fields_wrong_type(e, at, "a string", value);
    return json_object_set(to, field, value) ? api_error_internal(e, -ENOMEM) : 0;
}

static int read_message(const struct api_body *b, size_t i, const json_t *message, json_t *to, struct api_error *e)
{
    static const char *const roles[] = { "system", "developer", "user", "assistant", "tool" };
    char param[64], at[96];
    bool known = false;

    snprintf(param, sizeof(param), "messages[%zu]", i);
    if (!json_is_object(message))
        return fields_wrong_type(e, param, "an object", message);
    const char *role = json_string_value(json_object_get(message, "role"));
    snprintf(at, sizeof(at), "%s.role", param);
    for (size_t k = 0; role && k < sizeof(roles) / sizeof(roles[0]); k++)
        known |= strcmp(role, roles[k]) == 0;
    if (!known)
        return api_error_set(e, API_INVALID_VALUE, at, "%s must be system, developer, user, assistant or tool", at);
    if (strcmp(role, "developer") == 0 && !b->served->template_knows_developer)
        role = "system";
    if (json_object_set_new(to, "role", json_string(role)))
        return api_error_internal(e, -ENOMEM);

    snprintf(at, sizeof(at), "%s.content", param);
    const struct tool_syntax *syntax = b->served->template_knows_tools ? b->served->tool_syntax : NULL;
    const bool as_sent = syntax && syntax->history_as_sent;
    int err = set_content(as_sent, at, message, to, e);
    const json_t *calls = json_object_get(message, "tool_calls");
    snprintf(at, sizeof(at), "%s.tool_calls", param);
    if (!err && calls && !json_is_null(calls))
        err = set_tool_calls(as_sent, at, calls, to, e);
    if (!err)
        err = set_text_field(param, message, "name", to, e);
    if (!err)
        err = set_text_field(param, message, "tool_call_id", to, e);
    if (!err)
        err = set_text_field(param, message, "reasoning_content", to, e);
    return err;
}

const char *api_needed_text(const char *param, const json_t *object, const char *name, struct api_error *e)
{
    const char *text = json_string_value(json_object_get(object, name));
    char at[160];

    snprintf(at, sizeof(at), "%s.%s", param, name);
    if (!text)
        api_error_set(e, API_INVALID_VALUE, at, "%s must be a string", at);
    return text;
}

int api_check_messages(const struct api_body *b, struct api_error *e)
{
    if (!b->messages)
        return api_error_set(e, API_INVALID_VALUE, "messages", "messages is required");
    if (!json_is_array(b->messages))
        return fields_wrong_type(e, "messages", "an array", b->messages);
    if (!json_array_size(b->messages))
        return api_error_set(e, API_INVALID_VALUE, "messages", "messages is empty");
    return 0;
}

static int read_messages(const struct api_body *b, json_t *list, struct api_error *e)
{
    int err = api_check_messages(b, e);

    for (size_t i = 0; i < json_array_size(b->messages) && !err; i++) {
        json_t *to = json_object();
        err = to ? read_message(b, i, json_array_get(b->messages, i), to, e) : api_error_internal(e, -ENOMEM);
        if (json_array_append_new(list, to) && !err)
            err = api_error_internal(e, -ENOMEM);
    }
    return err;
}

static json_t *special_text(const struct tokenizer *t, int32_t id)
{
    size_t n = 0;
    const char *piece = id < 0 ? "" : tokenizer_piece(t, id, &n);

    return json_stringn(piece, n);
}

/* The last place of part[n_part] in text[n], or SIZE_MAX; linear, whatever a stranger repeats (Knuth, Morris, Pratt 1977). 0 or -ENOMEM. */
static int find_last(const char *text, size_t n, const char *part, size_t n_part, size_t *where)
{
    size_t *border = calloc(n_part + 1, sizeof(*border));

    *where = SIZE_MAX;
    if (!border)
        return -ENOMEM;
    for (size_t i = 1, k = 0; i < n_part; i++) {
        while (k && part[i] != part[k])
            k = border[k];
        k += part[i] == part[k];
        border[i + 1] = k;
    }
    for (size_t i = 0, k = 0; i < n && n_part; i++) {
        while (k && (k == n_part || text[i] != part[k]))
            k = border[k];
        k += text[i] == part[k];
        if (k == n_part)
            *where = i + 1 - n_part;
    }
    free(border);
    return 0;
}

/*
 * The prompt ends where the last message does, so that the model goes on in it. Found as transformers' apply_chat_template does:
 * the last place in the output that holds the trimmed text.
 */
static int cut_after_last(const json_t *messages, struct buf *text, struct buf *literal, struct api_error *e)
{
    const char *content = json_string_value(json_object_get(json_array_get(messages, json_array_size(messages) - 1), "content"));
    const char *const blank = " \t\r\n\f\v";
    size_t at;

    if (!content)
        return api_error_set(e, API_INVALID_VALUE, "continue_final_message", "continue_final_message needs a last message with text");
    const char *from = content + strspn(content, blank);
    const size_t n = strlen(from);
    size_t trimmed = n;
    while (trimmed && strchr(blank, from[trimmed - 1]))
        trimmed--;
    int err = find_last(text->data, text->len, from, trimmed, &at);
    if (err)
        return api_error_internal(e, err);
    if (at == SIZE_MAX)
        return api_error_set(e, API_INVALID_VALUE, "continue_final_message", "the chat template does not show the last message as it is");
    const bool blanks_too = text->len - at >= n && memcmp(text->data + at, from, n) == 0;
    text->len = literal->len = at + (blanks_too ? n : trimmed);
    return 0;
}

int api_render(struct api_body *b, struct buf *text, struct buf *literal, struct api_error *e)
{
    enum { LEAST_OUTPUT = 1 << 20 };
    const struct tokenizer *t = b->served->tokenizer;
    const char *param = api_prompt_param(b->request->route);
    json_t *messages = json_array();
    json_t *vars = json_object();
    struct template_error why = { .line = 0 };
    struct api_tools tools = { 0 };
    int err;

    if (!messages || !vars) {
        err = api_error_internal(e, -ENOMEM);
        goto out;
    }
    err = read_messages(b, messages, e);
    if (!err)
        err = api_tools_read(&tools, b, e);
    if (!err && !b->served->template_knows_tools)
        err = api_tools_tell(&tools, b, &messages, e);
    if (err)
        goto out;
    if ((b->template_kwargs && json_object_update(vars, (json_t *)b->template_kwargs)) ||
        (b->reasoning_effort && json_object_set_new(vars, "reasoning_effort", json_string(b->reasoning_effort))) ||
        json_object_set(vars, "messages", messages) ||
        json_object_set_new(vars, "tools", tools.list ? json_incref(tools.list) : json_null()) ||
        json_object_set_new(vars, "documents", json_null()) ||
        json_object_set_new(vars, "add_generation_prompt", json_boolean(b->add_generation_prompt)) ||
        json_object_set_new(vars, "bos_token", special_text(t, tokenizer_bos(t))) ||
        json_object_set_new(vars, "eos_token", special_text(t, tokenizer_eos(t)))) {
        err = api_error_internal(e, -ENOMEM);
        goto out;
    }
    const size_t most = 4 * b->body_bytes;
    const struct template_options options = { .max_output = most > LEAST_OUTPUT ? most : LEAST_OUTPUT };
    err = chat_template_render(b->served->chat_template, vars, &options, text, literal, &why);
    if (err == -EINVAL)
        api_error_set(e, why.limit == 1 ? API_TEMPLATE_LIMIT : API_INVALID_VALUE, param, "chat template: %s", why.message);
    else if (err)
        api_error_internal(e, err);
    else if (b->continue_final)
        err = cut_after_last(messages, text, literal, e);
    if (!err)
        err = api_tools_apply(&tools, b, text, literal, e);
out:
    api_tools_free(&tools);
    json_decref(messages);
    json_decref(vars);
    return err;
}

int api_read_chat(struct api_body *b, struct api_error *e)
{
    struct api_request *r = b->request;
    struct buf text = { 0 }, literal = { 0 };

    int err = api_render(b, &text, &literal, e);
    if (!err) {
        r->prompts = calloc(1, sizeof(*r->prompts));
        if (!r->prompts)
            err = api_error_internal(e, -ENOMEM);
    }
    if (!err) {
        r->n_prompts = 1;
        err = api_encode(b->served, "messages", text.data ? text.data : "", text.len, (const uint8_t *)literal.data, false, r->prompts, e);
    }
    if (!err && !r->prompts->n)
        err = api_error_set(e, API_INVALID_VALUE, api_prompt_param(r->route), "the chat template gives no tokens for these messages");
    buf_free(&text);
    buf_free(&literal);
    return err;
}
