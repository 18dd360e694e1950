/*
 * api_error.h - what is wrong with a request, and the one table that gives it an HTTP status, a type and a code.
 *
 * {"error":{"message","type","param","code"}} is what clients of the OpenAI interface parse.
 */
#ifndef FOURWAY_SERVER_API_ERROR_H
#define FOURWAY_SERVER_API_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

enum api_code {
    API_INVALID_JSON = 1,
    API_INVALID_VALUE,
    API_CONTEXT_LENGTH_EXCEEDED,
    API_INVALID_SCHEMA,
    API_TEMPLATE_LIMIT,
    API_UNSUPPORTED_CONTENT,
    API_BAD_REQUEST,
    API_INVALID_API_KEY,
    API_HOST_NOT_ALLOWED,
    API_ORIGIN_NOT_ALLOWED,
    API_MODEL_NOT_FOUND,
    API_ROUTE_NOT_FOUND,
    API_METHOD_NOT_ALLOWED,
    API_BODY_TOO_LARGE,
    API_HEADERS_TOO_LARGE,
    API_RATE_LIMITED,
    API_INTERNAL_ERROR,
    API_CORRUPTED_OUTPUT,
    API_NOT_SUPPORTED,
    API_SERVER_OVERLOADED,
    API_LOADING,
    API_DRAINING,
    API_DEADLINE_EXCEEDED
};

struct api_error {
    enum api_code code;         /* 0: no error */
    char param[160];            /* path of the field to blame, such as messages[2].content; "": null */
    char message[512];
    bool has_context;           /* the two counts are part of the error */
    uint64_t n_prompt_tokens, n_ctx;
    unsigned retry_after_s;     /* 0: no header */
};

/* Fill *e. `param` may be NULL. Always returns -EINVAL, so that a check can end with `return api_error_set(...)`. */
int api_error_set(struct api_error *e, enum api_code code, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* 500 internal_error for -ENOMEM and what nobody expected; returns `err`. */
int api_error_internal(struct api_error *e, int err);

int api_error_status(const struct api_error *e);

/* What the table says of a code, from 1; NULL after the last. */
struct api_error_kind { int status; const char *type, *code; };
const struct api_error_kind *api_error_kind(int code);

/* The object {"error":{...}} appended to out. */
void api_error_write(const struct api_error *e, struct buf *out);

/* The same as {"type":"error","error":{"type","message"},"request_id"}, which clients of Anthropic's interface parse. */
void api_error_write_anthropic(const struct api_error *e, const char *request_id, struct buf *out);

const char *api_error_code(const struct api_error *e);      /* invalid_value, ... */

#endif
