/*
 * api_tools.c - the tools of a chat: checked, shown to the model, and made into the rules and the grammar of its answer.
 *
 * A template that knows tools gets them as a variable. For another, they, the calls of earlier answers and their results are told in words,
 * in the syntax that the parser reads; so that any chat model can be asked for calls, and constrained to them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_internal.h"
#include "server/schema.h"
#include "server/tool_grammar.h"

static bool is_name(const char *name)
{
    const size_t n = name ? strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") : 0;

    return n >= 1 && n <= TOOL_NAME_MOST && !name[n];
}

/* The schema of the arguments: an object, whether it says so or not. A new reference. */
static json_t *arguments_schema(const char *param, const json_t *parameters, struct api_error *e)
{
    static const char *const others[] = { "$ref", "anyOf", "oneOf", "allOf", "enum", "const" };
    const json_t *type = json_object_get(parameters, "type");
    bool object = !type || (json_is_string(type) && strcmp(json_string_value(type), "object") == 0);

    if (parameters && !json_is_object(parameters)) {
        fields_wrong_type(e, param, "an object", parameters);
        return NULL;
    }
    for (size_t i = 0; !type && i < sizeof(others) / sizeof(others[0]); i++)
        object &= !json_object_get(parameters, others[i]);
    if (!object) {
        api_error_set(e, API_INVALID_SCHEMA, param, "%s: arguments are an object: the schema must have \"type\": \"object\"", param);
        return NULL;
    }
    json_t *schema = parameters ? json_copy((json_t *)parameters) : json_pack("{s:{}}", "properties");
    if (!schema || json_object_set_new(schema, "type", json_string("object"))) {
        json_decref(schema);
        api_error_internal(e, -ENOMEM);
        return NULL;
    }
    return schema;
}

/* How the requests of a route write a function. */
struct shape {
    const char *type;           /* of a tool; "custom" may be left out */
    const char *function;       /* where it is in a tool, and in tool_choice: .function, or "" */
    const char *parameters;     /* its member with the schema of the arguments */
};

static const struct shape *shape_of(enum api_route route)
{
    static const struct shape chat = { "function", ".function", "parameters" }, responses = { "function", "", "parameters" },
                              messages = { "custom", "", "input_schema" };

    return route == API_RESPONSES ? &responses : route == API_MESSAGES || route == API_COUNT_TOKENS ? &messages : &chat;
}

static const json_t *function_of(const struct shape *s, const json_t *outer)
{
    return *s->function ? json_object_get(outer, "function") : outer;
}

/* As templates want it: with a description and parameters, which some join to other texts. A new reference, or NULL. */
static json_t *shown(const struct shape *s, const json_t *function, json_t *schema)
{
    json_t *copy = *s->function ? json_copy((json_t *)function)
                                : json_pack("{s:O, s:O*, s:n, s:O*}", "name", json_object_get(function, "name"), "description",
                                            json_object_get(function, "description"), "parameters", "strict",
                                            json_object_get(function, "strict"));
    const json_t *description = json_object_get(function, "description");

    if (copy && (json_object_set(copy, "parameters", schema) ||
                 (!json_is_string(description) && json_object_set_new(copy, "description", json_string(""))))) {
        json_decref(copy);
        copy = NULL;
    }
    return copy ? json_pack("{s:s, s:o}", "type", "function", "function", copy) : NULL;
}

static int check_function(const char *param, const json_t *function, struct api_error *e)
{
    const json_t *name = json_object_get(function, "name"), *description = json_object_get(function, "description");
    const json_t *strict = json_object_get(function, "strict");
    char at[128];

    if (!json_is_object(function))
        return function ? fields_wrong_type(e, param, "an object", function)
                        : api_error_set(e, API_INVALID_VALUE, param, "%s is required", param);
    snprintf(at, sizeof(at), "%s.name", param);
    if (!is_name(json_string_value(name)))
        return api_error_set(e, API_INVALID_VALUE, at, "%s must be a string of 1 to %d letters, digits, _ and -", at, TOOL_NAME_MOST);
    snprintf(at, sizeof(at), "%s.description", param);
    if (description && !json_is_null(description) && !json_is_string(description))
        return fields_wrong_type(e, at, "a string", description);
    snprintf(at, sizeof(at), "%s.strict", param);
    if (strict && !json_is_null(strict) && !json_is_boolean(strict))
        return fields_wrong_type(e, at, "true or false", strict);
    return 0;
}

static int read_tool(struct api_tools *t, const struct shape *s, const char *param, const json_t *tool, struct api_error *e)
{
    const json_t *function = function_of(s, tool), *given = json_object_get(tool, "type");
    const char *type = given || strcmp(s->type, "custom") != 0 ? json_string_value(given) : s->type;
    char at[96];

    if (!json_is_object(tool))
        return fields_wrong_type(e, param, "an object", tool);
    snprintf(at, sizeof(at), "%s.type", param);
    if (!type || strcmp(type, s->type) != 0)
        return api_error_set(e, API_INVALID_VALUE, at, "%s must be \"%s\"", at, s->type);
    snprintf(at, sizeof(at), "%s%s", param, s->function);
    int err = check_function(at, function, e);
    if (err)
        return err;
    const char *name = json_string_value(json_object_get(function, "name"));
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->names[i], name) == 0) {
            snprintf(at, sizeof(at), "%s%s.name", param, s->function);
            return api_error_set(e, API_INVALID_VALUE, at, "%s: a second function \"%s\"", at, name);
        }
    const json_t *parameters = json_object_get(function, s->parameters);
    snprintf(at, sizeof(at), "%s%s.%s", param, s->function, s->parameters);
    json_t *schema = arguments_schema(at, json_is_null(parameters) ? NULL : parameters, e);
    if (!schema)
        return -EINVAL;
    struct schema_error why;
    err = schema_compile(schema, &t->arguments[t->n], &why);
    if (err == -EINVAL)
        api_error_set(e, API_INVALID_SCHEMA, at, "%s: %s", at, why.message);
    if (!err) {
        t->names[t->n] = strdup(name);
        t->n++;
        if (!t->names[t->n - 1] || json_array_append_new(t->list, shown(s, function, schema)))
            err = -ENOMEM;
    }
    json_decref(schema);
    return err == -ENOMEM ? api_error_internal(e, err) : err;
}

/* The function that an object names, or what is wrong with it. */
static int read_named(struct api_tools *t, const struct shape *s, const json_t *choice, struct api_error *e)
{
    const char *type = json_string_value(json_object_get(choice, "type"));
    const char *name = json_string_value(json_object_get(function_of(s, choice), "name"));
    char at[32];

    snprintf(at, sizeof(at), "tool_choice%s.name", s->function);
    if (!type || strcmp(type, "function") != 0)
        return api_error_set(e, API_INVALID_VALUE, "tool_choice.type", "tool_choice.type must be \"function\"");
    if (!name)
        return api_error_set(e, API_INVALID_VALUE, at, "%s must be a string", at);
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->names[i], name) == 0)
            t->named = i;
    if (t->named == SIZE_MAX)
        return api_error_set(e, API_INVALID_VALUE, at, "tools has no function \"%.64s\"", name);
    t->required = true;
    return 0;
}

static int read_choice(struct api_tools *t, const struct api_body *b, bool *none, struct api_error *e)
{
    const char *choice = json_string_value(b->tool_choice);
    int err = 0;

    *none = choice && strcmp(choice, "none") == 0;
    if (json_is_object(b->tool_choice))
        err = read_named(t, shape_of(b->request->route), b->tool_choice, e);
    else if (b->tool_choice && !choice)
        err = fields_wrong_type(e, "tool_choice", "a string or an object", b->tool_choice);
    else if (choice && strcmp(choice, "required") == 0)
        t->required = true;
    else if (choice && !*none && strcmp(choice, "auto") != 0)
        err = api_error_set(e, API_INVALID_VALUE, "tool_choice", "tool_choice must be none, auto, required or an object, got \"%.64s\"",
                            choice);
    if (err || !t->required)
        return err;
    if (!t->n)
        return api_error_set(e, API_INVALID_VALUE, "tool_choice", "tool_choice asks for a call, but there are no tools");
    if (!b->served->tool_syntax)
        return api_error_set(e, API_INVALID_VALUE, "tool_choice", "tool_choice may only be none or auto: the server runs with "
                             "--tool-format none");
    if (b->request->grammar)
        return api_error_set(e, API_INVALID_VALUE, "tool_choice", "tool_choice asks for a call, the format for an answer: only one of "
                             "them can be met");
    if (b->continue_final)
        return api_error_set(e, API_INVALID_VALUE, "tool_choice", "tool_choice asks for a call, the last message to be gone on with: only "
                             "one of them can be met");
    return 0;
}

int api_tools_read(struct api_tools *t, const struct api_body *b, struct api_error *e)
{
    const json_t *tools = b->tools;
    const size_t n = json_array_size(tools);
    bool none = false;
    int err = 0;

    t->named = SIZE_MAX;
    if (tools && !json_is_array(tools))
        return fields_wrong_type(e, "tools", "an array", tools);
    if (n > API_MAX_TOOLS)
        return api_error_set(e, API_INVALID_VALUE, "tools", "tools may have at most %d entries, got %zu", API_MAX_TOOLS, n);
    t->names = calloc(n + 1, sizeof(*t->names));
    t->arguments = calloc(n + 1, sizeof(*t->arguments));
    t->list = json_array();
    if (!t->names || !t->arguments || !t->list)
        return api_error_internal(e, -ENOMEM);
    for (size_t i = 0; i < n && !err; i++) {
        char param[32];
        snprintf(param, sizeof(param), "tools[%zu]", i);
        err = read_tool(t, shape_of(b->request->route), param, json_array_get(tools, i), e);
    }
    if (!err)
        err = read_choice(t, b, &none, e);
    if (!n || none) {
        json_decref(t->list);
        t->list = NULL;
    }
    return err;
}

void api_tools_free(struct api_tools *t)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->names)
            free(t->names[i]);
        free(t->arguments[i]);
    }
    free(t->names);
    free(t->arguments);
    json_decref(t->list);
}

static void write_call(const struct tool_syntax *s, const json_t *function, struct buf *out)
{
    const json_t *arguments = json_object_get(function, "arguments");
    char *text = json_is_string(arguments) ? NULL : json_dumps(arguments, JSON_ENCODE_ANY);

    tool_syntax_write_head(s, json_string_value(json_object_get(function, "name")), out);
    buf_puts(out, text ? text : json_is_string(arguments) ? json_string_value(arguments) : "{}");
    tool_syntax_write_tail(s, out);
    free(text);
}

/* What a system message says of the tools. */
static void write_tools(const struct tool_syntax *s, const struct api_tools *t, struct buf *out)
{
    buf_puts(out, "You may call functions to help with the user's request. These are the functions, within <tools></tools>:\n<tools>\n");
    for (size_t i = 0; i < t->n; i++) {
        char *text = json_dumps(json_array_get(t->list, i), 0);
        buf_puts(out, text ? text : "");
        buf_putc(out, '\n');
        out->failed |= !text;
        free(text);
    }
    buf_puts(out, "</tools>\n\nTo call a function, answer with its name and its arguments as JSON, like this:\n");
    tool_syntax_write_head(s, "NAME", out);
    buf_puts(out, "{\"ARGUMENT\": \"VALUE\"}");
    tool_syntax_write_tail(s, out);
}

/* A message of the assistant with calls: they follow its text. */
static int tell_calls(const struct tool_syntax *s, json_t *message, const json_t *calls)
{
    const json_t *content = json_object_get(message, "content");
    struct buf text = { 0 };

    if (json_string_length(content))
        buf_printf(&text, "%s\n", json_string_value(content));
    for (size_t i = 0; i < json_array_size(calls); i++) {
        buf_puts(&text, i ? "\n" : "");
        write_call(s, json_object_get(json_array_get(calls, i), "function"), &text);
    }
    int err = text.failed || json_object_set_new(message, "content", json_stringn(text.data ? text.data : "", text.len)) ? -ENOMEM : 0;
    json_object_del(message, "tool_calls");
    buf_free(&text);
    return err;
}

/* Results that follow one another are one message of the user: many templates want the roles to take turns. */
static int add_results(json_t *to, struct buf *results)
{
    int err = 0;

    if (results->len)
        err = json_array_append_new(to, json_pack("{s:s, s:s%}", "role", "user", "content", results->data, results->len)) ? -ENOMEM : 0;
    if (results->failed)
        err = -ENOMEM;
    buf_clear(results);
    return err;
}

/* The first system message begins with the tools, or there is one that does. */
static int add_system(const struct tool_syntax *s, const struct api_tools *t, json_t *messages, json_t *to)
{
    json_t *first = json_array_get(messages, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    const bool has_system = role && strcmp(role, "system") == 0;
    struct buf text = { 0 };
    int err;

    write_tools(s, t, &text);
    if (has_system)
        buf_printf(&text, "\n\n%s", json_string_value(json_object_get(first, "content")));
    json_t *content = text.failed ? NULL : json_stringn(text.data, text.len);
    if (has_system)
        err = json_object_set_new(first, "content", content);
    else
        err = content ? json_array_append_new(to, json_pack("{s:s, s:o}", "role", "system", "content", content)) : -1;
    buf_free(&text);
    return err ? -ENOMEM : 0;
}

int api_tools_tell(const struct api_tools *t, const struct api_body *b, json_t **messages, struct api_error *e)
{
    const struct tool_syntax *s = b->served->tool_syntax;
    struct buf results = { 0 };
    json_t *to = json_array();
    int err = to ? 0 : -ENOMEM;

    if (!err && t->list && s)
        err = add_system(s, t, *messages, to);
    for (size_t i = 0; i < json_array_size(*messages) && !err; i++) {
        json_t *message = json_array_get(*messages, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        const json_t *calls = json_object_get(message, "tool_calls");
        if (s && strcmp(role, "tool") == 0) {
            const json_t *content = json_object_get(message, "content");
            buf_printf(&results, "%s<tool_response>\n", results.len ? "\n" : "");
            buf_append(&results, json_string_value(content) ? json_string_value(content) : "", json_string_length(content));
            buf_puts(&results, "\n</tool_response>");
            continue;
        }
        err = add_results(to, &results);
        if (!err && s && json_array_size(calls))
            err = tell_calls(s, message, calls);
        if (!err && json_array_append(to, message))
            err = -ENOMEM;
    }
    if (!err)
        err = add_results(to, &results);
    buf_free(&results);
    if (err) {
        json_decref(to);
        return api_error_internal(e, err);
    }
    json_decref(*messages);
    *messages = to;
    return 0;
}

/* Does the template's own text end with a marker, but for white space? */
static bool ends_with(const struct buf *text, const struct buf *literal, const char *marker)
{
    const size_t length = strlen(marker);
    size_t n = text->len;

    while (n && strchr(" \t\r\n", text->data[n - 1]))
        n--;
    return n >= length && memcmp(text->data + n - length, marker, length) == 0 && !literal->data[n - 1];
}

/* A text that is one control token: no grammar of bytes can ask for it. */
static bool is_control(const struct tokenizer *t, const char *text)
{
    struct token_ids ids = { 0 };
    const bool control = *text && tokenizer_encode(t, text, strlen(text), NULL, TOKENIZE_SPECIAL, &ids) == 0 && ids.n == 1 &&
                         tokenizer_is_control(t, ids.ids[0]);

    free(ids.ids);
    return control;
}

static int constrain(struct api_tools *t, struct api_body *b, const struct tool_grammar_wish *wish, struct api_error *e)
{
    struct api_request *r = b->request;
    struct grammar *g;
    const char *why;
    int err = tool_grammar_make(wish, &g, &why);

    if (err == -EINVAL)
        return api_error_set(e, API_INVALID_SCHEMA, t->named == SIZE_MAX ? "tools" : "tool_choice",
                             "the functions' parameters together: %s", why);
    if (err)
        return api_error_internal(e, err);
    free(r->grammar);
    r->grammar = g;
    return 0;
}

int api_tools_apply(struct api_tools *t, struct api_body *b, struct buf *text, struct buf *literal, struct api_error *e)
{
    const struct api_model *served = b->served;
    const struct think_markers *think = b->request->grammar ? NULL : served->think;
    struct message_rules *rules = &b->request->message;
    const bool opened = think && ends_with(text, literal, think->open), closed = think && ends_with(text, literal, think->close);

    *rules = (struct message_rules){ .think = think, .think_is_text = served->think_is_text };
    if (opened && !served->think_is_text)
        rules->prefix = think->open;
    if (!t->list || !served->tool_syntax)
        return 0;
    rules->syntax = served->tool_syntax;
    rules->most_calls = b->parallel_tool_calls && t->named == SIZE_MAX ? 0 : 1;
    rules->follows_grammar = t->required;
    rules->names = t->names;
    rules->n_names = t->n;
    t->names = NULL;
    if (!t->required && !b->request->grammar)
        return 0;

    const size_t first = t->named == SIZE_MAX ? 0 : t->named;
    struct tool_grammar_wish wish = {
        .syntax = rules->syntax, .names = (const char *const *)rules->names + first, .arguments = t->arguments + first,
        .n = t->named == SIZE_MAX ? t->n : 1, .most_calls = rules->most_calls ? rules->most_calls : TOOL_GRAMMAR_MOST_CALLS,
        .think = think && !closed && !is_control(served->tokenizer, think->open) ? think : NULL, .think_open = opened,
        .instead = t->required ? NULL : b->request->grammar,
    };
    if (t->required && !wish.think && is_control(served->tokenizer, rules->syntax->marker)) {
        wish.marker_given = true;
        rules->prefix = rules->syntax->marker;
        buf_puts(text, rules->syntax->marker);
        for (size_t i = literal->len; i < text->len; i++)
            buf_putc(literal, 0);
    }
    return constrain(t, b, &wish, e);
}
