/* check_openapi.c - the description of the interface against the tables it comes from: nothing is missing, nothing is left over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/api_internal.h"
#include "server/front_internal.h"
#include "server/openapi.h"
#include "weights/gguf.h"

extern const char openapi_fields[];

static struct gguf *file;
static struct tokenizer *tokenizer;
static json_t *document;
static const char *const names[] = { "model", "alias" };

static json_t *describe(const struct api_model *m, bool keys)
{
    struct buf out = { 0 };
    json_error_t why;

    assert_int_equal(openapi_write(m, keys, &out), 0);
    json_t *object = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, &why);
    assert_non_null(object);
    buf_free(&out);
    return object;
}

static int setup(void **state)
{
    (void)state;
    if (gguf_open(&file, "tests/data/tokenizers/smollm/vocab.gguf") || tokenizer_open_gguf(&tokenizer, file))
        return -1;
    const struct api_model m = { .names = names, .n_names = 2, .tokenizer = tokenizer };
    document = describe(&m, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(document);
    tokenizer_close(tokenizer);
    gguf_close(file);
    return 0;
}

/* The value at a path such as "components/schemas/Error"; a failure where there is none. */
static json_t *at(json_t *value, const char *path)
{
    char part[128];

    while (*path) {
        const size_t n = strcspn(path, "/");
        snprintf(part, sizeof(part), "%.*s", (int)n, path);
        for (char *p = part; *p; p++)
            *p = *p == '|' ? '/' : *p;          /* slashes of routes */
        json_t *next = json_object_get(value, part);
        if (!next)
            fail_msg("nothing at %s", path);
        value = next;
        path += n + (path[n] == '/');
    }
    return value;
}

static void check_references(json_t *value)
{
    const char *key;
    json_t *element;
    size_t i;

    json_array_foreach(value, i, element)
        check_references(element);
    json_object_foreach(value, key, element) {
        if (strcmp(key, "$ref") == 0) {
            const char *target = json_string_value(element);
            assert_memory_equal(target, "#/", 2);
            at(document, target + 2);
        }
        check_references(element);
    }
}

static void test_references(void **state)
{
    (void)state;
    check_references(document);
}

/* A table's fields on `route` are the properties of `request`, each with a text. */
static void check_table(const struct field_table *table, unsigned route, const char *request)
{
    char path[128];
    size_t n = 0;

    snprintf(path, sizeof(path), "components/schemas/%s", request);
    json_t *schema = at(document, path);
    for (size_t i = 0; i < table->n; i++) {
        const struct field *f = &table->fields[i];
        if (!(f->routes & route))
            continue;
        n++;
        const bool many = strchr(f->name, '*') != NULL;
        snprintf(path, sizeof(path), many ? "^%s" : "%s", f->name);
        path[strcspn(path, "*")] = '\0';
        json_t *property = json_object_get(json_object_get(schema, many ? "patternProperties" : "properties"), path);
        if (!property)
            fail_msg("%s has no property %s", request, f->name);
        if (!json_string_value(json_object_get(property, "description")))
            fail_msg("the field %s of %s has no text in server/openapi/fields.json", f->name, request);
        if (f->type == FIELD_INTEGER || f->type == FIELD_NUMBER) {
            assert_true(json_is_number(json_object_get(property, f->above ? "exclusiveMinimum" : "minimum")));
            assert_true(json_is_number(json_object_get(property, "maximum")));
        }
    }
    assert_int_equal(n, json_object_size(json_object_get(schema, "properties")) + json_object_size(json_object_get(schema, "patternProperties")));
}

static void test_fields(void **state)
{
    (void)state;
    check_table(&api_fields, API_COMPLETIONS, "CompletionRequest");
    check_table(&api_fields, API_CHAT, "ChatCompletionRequest");
    check_table(&api_fields, API_APPLY_TEMPLATE, "ApplyTemplateRequest");
    check_table(&api_responses_fields, API_RESPONSES, "ResponsesRequest");
    check_table(&api_messages_fields, API_MESSAGES, "MessagesRequest");
    check_table(&api_messages_fields, API_COUNT_TOKENS, "CountTokensRequest");
    check_table(&api_fields, API_EMBEDDINGS, "EmbeddingRequest");
    check_table(&api_tokenize_fields, 1, "TokenizeRequest");
    check_table(&api_detokenize_fields, 1, "DetokenizeRequest");
    check_table(&api_stream_options_fields, 1, "StreamOptions");

    const json_t *top_p = at(document, "components/schemas/CompletionRequest/properties/top_p");
    assert_true(json_number_value(json_object_get(top_p, "exclusiveMinimum")) == 0);
    assert_true(json_number_value(json_object_get(top_p, "maximum")) == 1);
    const json_t *seed = at(document, "components/schemas/ChatCompletionRequest/properties/seed");
    assert_true(json_integer_value(json_object_get(seed, "minimum")) == INT64_MIN);
    assert_true(json_integer_value(json_object_get(seed, "maximum")) == INT64_MAX);
}

/* Texts of fields that no table has any more. */
static void test_texts_are_used(void **state)
{
    json_error_t why;
    json_t *texts = json_loads(openapi_fields, 0, &why), *text;
    json_t *schemas = at(document, "components/schemas");
    const char *key;

    (void)state;
    json_object_foreach(texts, key, text) {
        const char *dot = strchr(key, '.'), *request;
        json_t *schema;
        bool used = false;
        json_object_foreach(schemas, request, schema) {
            const bool meant = !dot || (strlen(request) == (size_t)(dot - key) && strncmp(request, key, (size_t)(dot - key)) == 0);
            const json_t *property = json_object_get(json_object_get(schema, "properties"), dot ? dot + 1 : key);
            used |= meant && json_equal(json_object_get(property, "description"), json_object_get(text, "description"));
        }
        if (!used)
            fail_msg("server/openapi/fields.json describes %s, which no request has", key);
    }
    json_decref(texts);
}

static void test_routes(void **state)
{
    json_t *paths = at(document, "paths"), *item;
    const struct route *route;
    size_t n_built = 0;
    char path[128];

    (void)state;
    for (size_t i = 0; (route = route_at(i)) != NULL; i++) {
        if (route->id == ROUTE_NOT_BUILT)
            continue;
        n_built++;
        snprintf(path, sizeof(path), "%s%s", route->path, route->prefix ? "{id}" : "");
        item = json_object_get(paths, path);
        json_t *operation = json_object_get(item, route->post ? "post" : "get");
        if (!operation)
            fail_msg("server/openapi/operations.json has no %s %s", route->post ? "post" : "get", path);
        assert_int_equal(json_object_get(at(operation, "responses"), "401") == NULL, route->open);
        assert_int_equal(json_object_get(at(operation, "responses"), "504") != NULL, route->engine);
        assert_int_equal(json_object_get(operation, "requestBody") != NULL, route->post);
        if (route->id != ROUTE_RESPONSE)        /* it finds nothing */
            at(operation, "responses/200/headers/X-Request-Id");
        at(operation, "operationId");
        at(operation, "summary");
    }
    assert_int_equal(json_object_size(paths), n_built);
}

static void test_errors(void **state)
{
    const struct api_error_kind *kind;
    char path[64];

    (void)state;
    for (int code = 1; (kind = api_error_kind(code)) != NULL; code++) {
        snprintf(path, sizeof(path), "components/responses/%d/description", kind->status);
        assert_non_null(strstr(json_string_value(at(document, path)), kind->code));
    }
    assert_int_equal(json_array_size(at(document, "components/schemas/Error/properties/error/properties/code/enum")), API_DEADLINE_EXCEEDED);
}

static void test_model(void **state)
{
    const struct api_model any = { .names = names, .n_names = 2, .tokenizer = tokenizer, .accept_any_model = true };
    json_t *open = describe(&any, false);

    (void)state;
    assert_int_equal(json_array_size(at(document, "components/schemas/ModelName/enum")), 2);
    assert_null(json_object_get(at(open, "components/schemas/ModelName"), "enum"));
    assert_int_equal(json_integer_value(at(document, "components/schemas/TokenId/maximum")), tokenizer_vocab_size(tokenizer) - 1);
    assert_int_equal(json_array_size(at(document, "security")), 1);         /* a key, or nothing where there are none */
    assert_int_equal(json_array_size(at(open, "security")), 2);
    json_decref(open);
}

static long allocations_left;

static void *failing_malloc(size_t n)
{
    return allocations_left-- > 0 ? malloc(n) : NULL;
}

/* Each allocation of jansson fails once: an error, no crash, no leak. */
static void test_without_memory(void **state)
{
    const struct api_model m = { .names = names, .n_names = 2, .tokenizer = tokenizer };
    int err = -1;

    (void)state;
    json_set_alloc_funcs(failing_malloc, free);
    for (long n = 0; err; n += n < 200 ? 1 : 97) {
        struct buf out = { 0 };
        allocations_left = n;
        err = openapi_write(&m, true, &out);
        assert_int_equal(!err, out.len > 0);
        buf_free(&out);
    }
    json_set_alloc_funcs(malloc, free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references), cmocka_unit_test(test_fields), cmocka_unit_test(test_texts_are_used),
        cmocka_unit_test(test_routes), cmocka_unit_test(test_errors), cmocka_unit_test(test_model),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
