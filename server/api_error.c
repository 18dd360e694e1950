#include "server/api_error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/json_write.h"

static const struct api_error_kind table[] = {
    [0] = { 500, "server_error", "internal_error" },
    [API_INVALID_JSON] = { 400, "invalid_request_error", "invalid_json" },
    [API_INVALID_VALUE] = { 400, "invalid_request_error", "invalid_value" },
    [API_CONTEXT_LENGTH_EXCEEDED] = { 400, "invalid_request_error", "context_length_exceeded" },
    [API_INVALID_SCHEMA] = { 400, "invalid_request_error", "invalid_schema" },
    [API_TEMPLATE_LIMIT] = { 400, "invalid_request_error", "template_limit" },
    [API_UNSUPPORTED_CONTENT] = { 400, "invalid_request_error", "unsupported_content" },
    [API_BAD_REQUEST] = { 400, "invalid_request_error", "bad_request" },
    [API_INVALID_API_KEY] = { 401, "authentication_error", "invalid_api_key" },
    [API_HOST_NOT_ALLOWED] = { 403, "permission_error", "host_not_allowed" },
    [API_ORIGIN_NOT_ALLOWED] = { 403, "permission_error", "origin_not_allowed" },
    [API_MODEL_NOT_FOUND] = { 404, "not_found_error", "model_not_found" },
    [API_ROUTE_NOT_FOUND] = { 404, "not_found_error", "route_not_found" },
    [API_METHOD_NOT_ALLOWED] = { 405, "invalid_request_error", "method_not_allowed" },
    [API_BODY_TOO_LARGE] = { 413, "invalid_request_error", "body_too_large" },
    [API_HEADERS_TOO_LARGE] = { 431, "invalid_request_error", "headers_too_large" },
    [API_RATE_LIMITED] = { 429, "rate_limit_error", "rate_limited" },
    [API_INTERNAL_ERROR] = { 500, "server_error", "internal_error" },
    [API_CORRUPTED_OUTPUT] = { 500, "server_error", "corrupted_output" },
    [API_NOT_SUPPORTED] = { 501, "not_supported_error", "not_supported" },
    [API_SERVER_OVERLOADED] = { 503, "overloaded_error", "server_overloaded" },
    [API_LOADING] = { 503, "unavailable_error", "loading" },
    [API_DRAINING] = { 503, "unavailable_error", "draining" },
    [API_DEADLINE_EXCEEDED] = { 504, "timeout_error", "deadline_exceeded" },
};

int api_error_set(struct api_error *e, enum api_code code, const char *param, const char *format, ...)
{
    va_list args;

    *e = (struct api_error){ .code = code };
    if (param)
        snprintf(e->param, sizeof(e->param), "%s", param);
    va_start(args, format);
    vsnprintf(e->message, sizeof(e->message), format, args);
    va_end(args);
    if (code == API_SERVER_OVERLOADED || code == API_RATE_LIMITED || code == API_LOADING || code == API_DRAINING)
        e->retry_after_s = 1;
    return -EINVAL;
}

int api_error_internal(struct api_error *e, int err)
{
    api_error_set(e, API_INTERNAL_ERROR, NULL, "%s", err == -ENOMEM ? "out of memory" : strerror(-err));
    return err;
}

const struct api_error_kind *api_error_kind(int code)
{
    return (size_t)code < sizeof(table) / sizeof(table[0]) ? &table[code] : NULL;
}

int api_error_status(const struct api_error *e)
{
    return table[e->code].status;
}

void api_error_write(const struct api_error *e, struct buf *out)
{
    buf_puts(out, "{\"error\":{\"message\":");
    json_write_string(out, e->message);
    buf_printf(out, ",\"type\":\"%s\",\"param\":", table[e->code].type);
    json_write_string_or_null(out, *e->param ? e->param : NULL);
    buf_printf(out, ",\"code\":\"%s\"", table[e->code].code);
    if (e->has_context)
        buf_printf(out, ",\"n_prompt_tokens\":%" PRIu64 ",\"n_ctx\":%" PRIu64, e->n_prompt_tokens, e->n_ctx);
    buf_puts(out, "}}");
}

const char *api_error_code(const struct api_error *e)
{
    return table[e->code].code;
}

/* Anthropic has fewer types than we have codes; the status decides. */
static const char *anthropic_type(int status)
{
    static const struct { int status; const char *type; } types[] = {
        { 401, "authentication_error" }, { 403, "permission_error" }, { 404, "not_found_error" }, { 413, "request_too_large" },
        { 429, "rate_limit_error" }, { 500, "api_error" }, { 501, "api_error" }, { 503, "overloaded_error" }, { 504, "timeout_error" },
    };

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (types[i].status == status)
            return types[i].type;
    return "invalid_request_error";
}

void api_error_write_anthropic(const struct api_error *e, const char *request_id, struct buf *out)
{
    buf_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", anthropic_type(api_error_status(e)));
    json_write_string(out, e->message);
    buf_puts(out, "},\"request_id\":");
    json_write_string(out, request_id);
    buf_putc(out, '}');
}
