#include "server/openapi.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "server/api_internal.h"
#include "server/front_internal.h"

/* The files of server/openapi/, embedded by CMake. */
extern const char openapi_document[], openapi_operations[], openapi_schemas[], openapi_fields[];

/* The fields of `table` that exist on `route` are properties of the schema of that name. */
static const struct { const char *schema; const struct field_table *table; unsigned route; } requests[] = {
    { "CompletionRequest", &api_fields, API_COMPLETIONS },
    { "ChatCompletionRequest", &api_fields, API_CHAT },
    { "ApplyTemplateRequest", &api_fields, API_APPLY_TEMPLATE },
    { "EmbeddingRequest", &api_fields, API_EMBEDDINGS },
    { "ResponsesRequest", &api_responses_fields, API_RESPONSES },
    { "MessagesRequest", &api_messages_fields, API_MESSAGES },
    { "CountTokensRequest", &api_messages_fields, API_COUNT_TOKENS },
    { "StreamOptions", &api_stream_options_fields, 1 },
    { "TokenizeRequest", &api_tokenize_fields, 1 },
    { "DetokenizeRequest", &api_detokenize_fields, 1 },
};

struct description {
    json_t *document, *schemas, *fields;
    bool failed;                /* no memory, once */
};

/* object[key] = value, which is taken over; a NULL is a failure that stays. */
static void put(struct description *d, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value))
        d->failed = true;
}

static void append(struct description *d, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value))
        d->failed = true;
}

static json_t *reference(const char *kind, const char *name)
{
    return json_pack("{s:s+}", "$ref", kind, name);
}

/* ---- fields ---- */

/* A limit as JSON; beyond int64 it is the end of int64, which is what fields_read() takes there. */
static json_t *limit(double value)
{
    if (value != floor(value))
        return json_real(value);
    return json_integer(value >= 0x1p63 ? INT64_MAX : (json_int_t)value);
}

static void put_type(struct description *d, json_t *schema, const char *type)
{
    put(d, schema, "type", json_pack("[s, s]", type, "null"));
}

static void put_range(struct description *d, json_t *schema, const struct field *f)
{
    put_type(d, schema, f->type == FIELD_INTEGER ? "integer" : "number");
    put(d, schema, f->above ? "exclusiveMinimum" : "minimum", limit(f->least));
    put(d, schema, "maximum", limit(f->most));
}

/* What the table says of a field, then what fields.json says: of its name in this request, else of its name. */
static json_t *field_schema(struct description *d, const char *request, const struct field *f)
{
    json_t *schema = json_object(), *text;
    char name[128];

    switch (f->type) {
    case FIELD_BOOL:
        put_type(d, schema, "boolean");
        break;
    case FIELD_INTEGER:
    case FIELD_NUMBER:
        put_range(d, schema, f);
        break;
    case FIELD_STRING:
        put_type(d, schema, "string");
        break;
    case FIELD_ANY:
        break;
    case FIELD_IGNORED:
        put(d, schema, "description", json_string("Accepted; it does not change the text."));
        break;
    case FIELD_WARNED:
        put(d, schema, "description", json_string("Accepted and, with a line in the log, ignored: not built here."));
        break;
    }
    snprintf(name, sizeof(name), "%s.%s", request, f->name);
    text = json_object_get(d->fields, name);
    if (!text)
        text = json_object_get(d->fields, f->name);
    if (text && json_object_update(schema, text))
        d->failed = true;
    return schema;
}

static json_t *object_in(struct description *d, json_t *object, const char *key)
{
    if (!json_object_get(object, key))
        put(d, object, key, json_object());
    return json_object_get(object, key);
}

static void describe_fields(struct description *d, const char *request, const struct field_table *table, unsigned route)
{
    json_t *schema = json_object_get(d->schemas, request);

    for (size_t i = 0; i < table->n; i++) {
        const struct field *f = &table->fields[i];
        const size_t n = strcspn(f->name, "*");
        char pattern[64];

        if (!(f->routes & route))
            continue;
        if (f->name[n]) {
            snprintf(pattern, sizeof(pattern), "^%.*s", (int)n, f->name);
            put(d, object_in(d, schema, "patternProperties"), pattern, field_schema(d, request, f));
        } else {
            put(d, object_in(d, schema, "properties"), f->name, field_schema(d, request, f));
        }
    }
}

/* What only the model can tell: its names, and the ids of its vocabulary. */
static void describe_model(struct description *d, const struct api_model *m)
{
    put(d, json_object_get(d->schemas, "TokenId"), "maximum", json_integer((json_int_t)tokenizer_vocab_size(m->tokenizer) - 1));
    if (m->accept_any_model)
        return;
    json_t *names = json_array();
    for (size_t i = 0; i < m->n_names; i++)
        append(d, names, json_string(m->names[i]));
    put(d, json_object_get(d->schemas, "ModelName"), "enum", names);
}

/* ---- errors ---- */

#define ANTHROPIC "Messages"        /* in front of the names of responses and schemas of these routes */

static void add_once(struct description *d, json_t *array, const char *text)
{
    size_t i;
    json_t *value;

    json_array_foreach(array, i, value)
        if (strcmp(json_string_value(value), text) == 0)
            return;
    append(d, array, json_string(text));
}

static void put_header(struct description *d, json_t *response, const char *name)
{
    put(d, object_in(d, response, "headers"), name, reference("#/components/headers/", name));
}

/* The response of that status, of this family of routes: its codes so far, and one more. */
static void describe_error(struct description *d, json_t *responses, const char *family, const struct api_error_kind *kind)
{
    char status[32], text[512];

    snprintf(status, sizeof(status), "%s%d", family, kind->status);
    json_t *response = json_object_get(responses, status);
    const char *before = json_string_value(json_object_get(response, "description"));
    snprintf(text, sizeof(text), "%s%s%s", before ? before : "", before ? ", " : "", kind->code);
    if (!response) {
        put(d, responses, status, json_object());
        response = json_object_get(responses, status);
    }
    put(d, response, "description", json_string(text));
    put_header(d, response, "X-Request-Id");
    if (kind->status == 429 || kind->status == 503)
        put_header(d, response, "Retry-After");
    if (kind->status == 401)
        put_header(d, response, "WWW-Authenticate");
    if (kind->status == 405)
        put_header(d, response, "Allow");
    snprintf(text, sizeof(text), "%sError", family);
    put(d, response, "content", json_pack("{s:{s:o}}", "application/json", "schema", reference("#/components/schemas/", text)));
}

static void describe_errors(struct description *d)
{
    json_t *responses = json_object_get(json_object_get(d->document, "components"), "responses");
    json_t *error = json_object_get(json_object_get(json_object_get(d->schemas, "Error"), "properties"), "error");
    json_t *types = json_array(), *codes = json_array();
    const struct api_error_kind *kind;

    for (int code = 1; (kind = api_error_kind(code)) != NULL; code++) {
        describe_error(d, responses, "", kind);
        describe_error(d, responses, ANTHROPIC, kind);
        add_once(d, types, kind->type);
        add_once(d, codes, kind->code);
    }
    put(d, json_object_get(json_object_get(error, "properties"), "type"), "enum", types);
    put(d, json_object_get(json_object_get(error, "properties"), "code"), "enum", codes);
}

/* ---- routes ---- */

/* Statuses that a route of this kind may answer; who: bit set of the kinds below. */
enum { EVERY = 1, WITH_KEY = 2, WITH_BODY = 4, WITH_ENGINE = 8 };
static const struct { const char *status; unsigned who; } statuses[] = {
    { "400", EVERY }, { "401", WITH_KEY }, { "403", EVERY }, { "405", EVERY }, { "413", WITH_BODY }, { "414", EVERY },
    { "429", WITH_ENGINE }, { "431", EVERY }, { "500", EVERY }, { "503", EVERY }, { "504", WITH_ENGINE },
};

static void describe_route(struct description *d, const struct route *route, json_t *operation)
{
    const unsigned is = EVERY | (route->open ? 0 : WITH_KEY) | (route->post ? WITH_BODY : 0) | (route->engine ? WITH_ENGINE : 0);
    json_t *responses = json_object_get(operation, "responses"), *response;
    const char *status;

    json_object_foreach(responses, status, response)
        if (!json_object_get(response, "$ref"))
            put_header(d, response, "X-Request-Id");
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        char name[32];
        snprintf(name, sizeof(name), "%s%s", route_is_anthropic(route) ? ANTHROPIC : "", statuses[i].status);
        if ((statuses[i].who & is) && !json_object_get(responses, statuses[i].status))
            put(d, responses, statuses[i].status, reference("#/components/responses/", name));
    }
    if (!json_object_get(operation, "parameters"))
        put(d, operation, "parameters", json_array());
    append(d, json_object_get(operation, "parameters"), reference("#/components/parameters/", "RequestId"));
    if (route->open)
        put(d, operation, "security", json_array());
}

static void describe_routes(struct description *d, json_t *paths)
{
    const struct route *route;

    for (size_t i = 0; (route = route_at(i)) != NULL; i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s%s", route->path, route->prefix ? "{id}" : "");
        json_t *operation = json_object_get(json_object_get(paths, path), route->post ? "post" : "get");
        if (operation)          /* else it is not built; check_openapi.c knows which those are */
            describe_route(d, route, operation);
    }
}

/* One of the embedded files. Their syntax was checked by the tests, so that only memory can be missing. */
static json_t *load(struct description *d, const char *text)
{
    json_error_t why;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &why);

    d->failed |= !object;
    return object;
}

int openapi_write(const struct api_model *model, bool keys, struct buf *out)
{
    struct description d = { 0 };

    d.document = load(&d, openapi_document);
    d.schemas = load(&d, openapi_schemas);
    d.fields = load(&d, openapi_fields);
    json_t *paths = load(&d, openapi_operations);
    if (!d.failed) {
        put(&d, json_object_get(d.document, "info"), "version", json_string(FOURWAY_VERSION));
        put(&d, d.document, "security", keys ? json_pack("[{s:[]}]", "bearer") : json_pack("[{}, {s:[]}]", "bearer"));
        describe_model(&d, model);
        for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
            describe_fields(&d, requests[i].schema, requests[i].table, requests[i].route);
        describe_errors(&d);
        describe_routes(&d, paths);
        put(&d, json_object_get(d.document, "components"), "schemas", json_incref(d.schemas));
        put(&d, d.document, "paths", json_incref(paths));
    }
    char *text = d.failed ? NULL : json_dumps(d.document, JSON_COMPACT);
    buf_puts(out, text ? text : "");
    free(text);
    json_decref(paths);
    json_decref(d.fields);
    json_decref(d.schemas);
    json_decref(d.document);
    return text && !out->failed ? 0 : -ENOMEM;
}
