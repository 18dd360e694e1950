#include "server/schema.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/regex.h"
#include "server/schema_internal.h"

enum { MOST_NAME = 1024 };      /* bytes of a property's name */

/* What says nothing about validity. `format` is an annotation unless a validator is told otherwise (JSON Schema 2020-12, 7.2.1). */
static const char *const annotations[] = { "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
                                           "$schema", "$id", "$comment", "$defs", "definitions", "format", "contentMediaType",
                                           "contentEncoding", "discriminator" };

enum group { OF_ALL = 1, OF_OBJECT = 2, OF_ARRAY = 4, OF_STRING = 8, OF_NUMBER = 16, OF_VALUES = 32, OF_ANY = 64, OF_REF = 128 };

/* The keywords of the subset, and with which form of a schema each goes. */
static const struct { const char *name; unsigned groups; } keywords[] = {
    { "type", OF_ALL | OF_VALUES },
    { "properties", OF_ALL }, { "required", OF_ALL }, { "additionalProperties", OF_ALL },
    { "items", OF_ALL }, { "minItems", OF_ALL }, { "maxItems", OF_ALL },
    { "minLength", OF_ALL }, { "maxLength", OF_ALL }, { "pattern", OF_ALL },
    { "minimum", OF_ALL }, { "maximum", OF_ALL }, { "exclusiveMinimum", OF_ALL }, { "exclusiveMaximum", OF_ALL },
    { "enum", OF_VALUES }, { "const", OF_VALUES },
    { "anyOf", OF_ANY }, { "oneOf", OF_ANY }, { "allOf", OF_ANY },
    { "$ref", OF_REF },
};

static int refuse(struct schema_compiler *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct schema_compiler *c, const char *format, ...)
{
    va_list args;

    if (c->err)
        return c->err;
    int n = snprintf(c->error->message, sizeof(c->error->message), "%s: ", c->path);
    va_start(args, format);
    if (n >= 0 && (size_t)n < sizeof(c->error->message))
        vsnprintf(c->error->message + n, sizeof(c->error->message) - (size_t)n, format, args);
    va_end(args);
    return c->err = -EINVAL;
}

static uint16_t compile(struct schema_compiler *c, const json_t *schema, uint16_t next);

/* The schema at /a/b below the one at hand. */
static uint16_t compile_at(struct schema_compiler *c, const char *where, const json_t *schema, uint16_t next)
{
    const size_t n = strlen(c->path);

    if (c->err || c->b.error)
        return 0;
    snprintf(c->path + n, sizeof(c->path) - n, "/%.80s", where);
    const uint16_t start = compile(c, schema, next);
    if (!c->err)
        c->path[n] = '\0';
    return start;
}

static bool is_annotation(const char *name)
{
    for (size_t i = 0; i < sizeof(annotations) / sizeof(annotations[0]); i++)
        if (strcmp(annotations[i], name) == 0)
            return true;
    return strncmp(name, "x-", 2) == 0;
}

static unsigned groups_of(const char *name)
{
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
        if (strcmp(keywords[i].name, name) == 0)
            return keywords[i].groups;
    return 0;
}

static enum group form_of(const json_t *schema)
{
    if (json_object_get(schema, "$ref"))
        return OF_REF;
    if (json_object_get(schema, "anyOf") || json_object_get(schema, "oneOf") || json_object_get(schema, "allOf"))
        return OF_ANY;
    if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
        return OF_VALUES;
    return OF_ALL;
}

static int check_keywords(struct schema_compiler *c, const json_t *schema, enum group form)
{
    const char *name, *head = NULL;
    json_t *value;

    json_object_foreach((json_t *)schema, name, value) {
        const unsigned groups = groups_of(name);
        if (strcmp(name, "$id") == 0 && schema != c->root)
            return refuse(c, "the keyword \"$id\" is supported at the root only");
        if (is_annotation(name))
            continue;
        if (!groups)
            return refuse(c, "the keyword \"%.40s\" is not supported", name);
        if (!(groups & form))
            return refuse(c, "the keyword \"%.40s\" is not supported beside $ref, anyOf, oneOf, allOf, enum or const", name);
        if (form != OF_ALL && strcmp(name, "type") != 0) {
            if (head)
                return refuse(c, "the keyword \"%.40s\" is not supported beside \"%.40s\"", name, head);
            head = name;
        }
    }
    return 0;
}

/* Also 2.0; false for what is no integer of up to 2^53. */
static bool integer_of(const json_t *value, int64_t *n)
{
    const double x = json_is_number(value) ? json_number_value(value) : NAN;

    if (!(fabs(x) <= 0x1p53) || x != floor(x))
        return false;
    *n = (int64_t)x;
    return true;
}

/* A keyword's number of things; `absent` without it. */
static size_t count(struct schema_compiler *c, const json_t *schema, const char *name, size_t absent)
{
    const json_t *value = json_object_get(schema, name);
    int64_t n;

    if (!value)
        return absent;
    if (!integer_of(value, &n) || n < 0)
        refuse(c, "%s must be an integer of at least 0", name);
    else if (n > SCHEMA_MAX_REPEAT)
        refuse(c, "%s may be at most %d", name, SCHEMA_MAX_REPEAT);
    else
        return (size_t)n;
    return absent;
}

static uint16_t compile_string(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    const size_t least = count(c, schema, "minLength", 0), most = count(c, schema, "maxLength", SIZE_MAX);

    const json_t *pattern = json_object_get(schema, "pattern");
    struct grammar_builder *b = &c->b;
    struct pattern_error why;
    uint16_t start;

    if (least > most)
        refuse(c, "minLength is above maxLength");
    if (pattern && !json_is_string(pattern))
        refuse(c, "pattern must be a string");
    if (c->err || b->error)
        return 0;
    if (!pattern)
        return schema_string(c, least, most, next);
    /* As the standard has it, a pattern may match anywhere in the string unless it has ^ and $. */
    const struct pattern_use use = { .search = true, .as_json = true, .least = least, .most = most };
    int err = regex_build(b, json_string_value(pattern), json_string_length(pattern), &use, grammar_range(b, '"', '"', next), &start, &why);
    if (err == -ENOMEM)
        b->no_memory = true;
    else if (err && *why.message)
        refuse(c, "pattern: %s", why.message);
    return err ? 0 : grammar_range(b, '"', '"', start);
}

/* The bound as an integer, rounded inwards; for what excludes it, one further. */
static int64_t bound(struct schema_compiler *c, const json_t *schema, const char *name, int64_t absent, int inwards, bool exclusive)
{
    const json_t *value = json_object_get(schema, name);
    double x = json_number_value(value);

    if (!value)
        return absent;
    if (!json_is_number(value)) {
        refuse(c, "%s must be a number", name);
        return absent;
    }
    if (exclusive)
        x = inwards > 0 ? floor(x) + 1 : ceil(x) - 1;
    else
        x = inwards > 0 ? ceil(x) : floor(x);
    if (fabs(x) > (double)SCHEMA_MOST) {
        refuse(c, "%s may have at most 15 digits", name);
        return absent;
    }
    return (int64_t)x;
}

static uint16_t compile_integer(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    int64_t least = bound(c, schema, "minimum", -SCHEMA_MOST, 1, false), most = bound(c, schema, "maximum", SCHEMA_MOST, -1, false);
    const int64_t above = bound(c, schema, "exclusiveMinimum", -SCHEMA_MOST, 1, true);
    const int64_t below = bound(c, schema, "exclusiveMaximum", SCHEMA_MOST, -1, true);

    least = above > least ? above : least;
    most = below < most ? below : most;
    if (least > most)
        refuse(c, "no integer lies between its bounds");
    return c->err ? 0 : schema_integer(c, least, most, next);
}

static uint16_t compile_number(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    static const char *const others[] = { "maximum", "exclusiveMinimum", "exclusiveMaximum" };
    const json_t *least = json_object_get(schema, "minimum");

    for (size_t i = 0; i < 3; i++)
        if (json_object_get(schema, others[i]))
            refuse(c, "the keyword \"%s\" is supported for integers only", others[i]);
    if (least && (!json_is_number(least) || json_number_value(least) != 0))
        refuse(c, "the keyword \"minimum\" of a number is supported for 0 only");
    return c->err ? 0 : schema_number(c, !least, next);
}

static uint16_t compile_array(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    const size_t least = count(c, schema, "minItems", 0), most = count(c, schema, "maxItems", SIZE_MAX);
    const json_t *items = json_object_get(schema, "items");

    if (least > most)
        refuse(c, "minItems is above maxItems");
    if (c->err)
        return 0;
    if (most == 0 || (json_is_false(items) && least == 0))
        return grammar_text(&c->b, "[]", 2, next);
    const uint16_t item = items ? compile_at(c, "items", items, GRAMMAR_RETURN) : schema_any(c, GRAMMAR_RETURN);
    return c->err ? 0 : schema_repeat(c, item, least, most, next);
}

struct property { const char *name; const json_t *schema; bool required; };

/* The names of `required` that are no properties come after them, with any value or that of additionalProperties. */
static size_t list_properties(struct schema_compiler *c, const json_t *schema, struct property *out)
{
    const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    const json_t *others = json_object_get(schema, "additionalProperties");
    const char *name;
    json_t *value;
    size_t n = 0;

    if (properties && !json_is_object(properties))
        refuse(c, "properties must be an object");
    if (required && !json_is_array(required))
        refuse(c, "required must be an array of strings");
    json_object_foreach((json_t *)properties, name, value) {
        if (n == SCHEMA_MAX_PROPERTIES)
            refuse(c, "an object may have at most %d properties", SCHEMA_MAX_PROPERTIES);
        else
            out[n++] = (struct property){ name, value, false };
    }
    for (size_t i = 0; i < json_array_size(required) && !c->err; i++) {
        size_t at = 0;
        name = json_string_value(json_array_get(required, i));
        if (!name) {
            refuse(c, "required must be an array of strings");
            break;
        }
        while (at < n && strcmp(out[at].name, name) != 0)
            at++;
        if (at == n && json_is_false(others))
            refuse(c, "required names \"%.40s\", which is no property", name);
        else if (at == SCHEMA_MAX_PROPERTIES)
            refuse(c, "an object may have at most %d properties", SCHEMA_MAX_PROPERTIES);
        else if (at == n)
            out[n++] = (struct property){ name, others && json_is_object(others) ? others : NULL, false };
        if (!c->err)
            out[at].required = true;
    }
    for (size_t i = 0; i < n; i++)
        if (strlen(out[i].name) > MOST_NAME)
            refuse(c, "the name of a property may have at most %d bytes", MOST_NAME);
    return n;
}

/* "key": value, then `next`. */
static uint16_t compile_member(struct schema_compiler *c, const struct property *p, uint16_t next)
{
    json_t *key = json_string(p->name);
    char *text = key ? json_dumps(key, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    uint16_t start = 0;

    json_decref(key);
    if (!text) {
        c->b.no_memory = true;
        return 0;
    }
    const uint16_t value = p->schema ? compile_at(c, p->name, p->schema, next) : schema_any(c, next);
    if (!c->err)
        start = grammar_text(&c->b, text, strlen(text), grammar_range(&c->b, ':', ':', schema_blank(c, value)));
    free(text);
    return start;
}

/* Members that the schema does not name: after those that it does, any number, in front of `rest`, which comes back here. */
static uint16_t compile_others(struct schema_compiler *c, const json_t *others, const struct property *p, size_t n, uint16_t rest)
{
    const char *names[SCHEMA_MAX_PROPERTIES];

    for (size_t i = 0; i < n; i++)
        names[i] = p[i].name;
    const uint16_t value = json_is_object(others) ? compile_at(c, "additionalProperties", others, rest) : schema_any(c, rest);
    return c->err ? 0 : schema_other_key(c, names, n, grammar_range(&c->b, ':', ':', schema_blank(c, value)));
}

static uint16_t compile_object(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    struct grammar_builder *b = &c->b;
    struct property p[SCHEMA_MAX_PROPERTIES];
    const json_t *others = json_object_get(schema, "additionalProperties");
    const size_t n = list_properties(c, schema, p);
    const bool open = others ? !json_is_false(others) : !json_object_get(schema, "properties");
    const uint16_t brace = grammar_range(b, '}', '}', next), close = schema_space(c, brace);
    bool has_member = false, can_end = true;

    if (others && !json_is_boolean(others) && !json_is_object(others))
        refuse(c, "additionalProperties must be true, false or a schema");
    if (c->err)
        return 0;
    /* after: what may follow member i; members: the ways into member i or a later one, up to the next that is required */
    uint16_t after = close, members = 0;
    if (open) {
        after = grammar_later(b);
        members = compile_others(c, others, p, n, after);
        grammar_define(b, after, grammar_split(b, close, grammar_range(b, ',', ',', schema_space(c, members))));
        has_member = true;
    }
    const size_t path = strlen(c->path);
    snprintf(c->path + path, sizeof(c->path) - path, "/properties");
    for (size_t i = n; i-- > 0 && !c->err && !b->error; ) {
        const uint16_t one = compile_member(c, &p[i], after);
        members = has_member && !p[i].required ? grammar_split(b, one, members) : one;
        has_member = true;
        can_end &= !p[i].required;
        const uint16_t more = grammar_range(b, ',', ',', schema_space(c, members));
        after = can_end ? grammar_split(b, close, more) : more;
    }
    if (c->err)
        return 0;
    c->path[path] = '\0';
    if (!has_member)
        return grammar_text(b, "{", 1, brace);
    members = schema_space(c, members);
    return grammar_range(b, '{', '{', can_end ? grammar_split(b, brace, members) : members);
}

static const char *const types[] = { "object", "array", "string", "number", "integer", "boolean", "null" };

static uint16_t compile_type(struct schema_compiler *c, const json_t *schema, const char *type, uint16_t next)
{
    size_t i = 0;

    while (i < sizeof(types) / sizeof(types[0]) && strcmp(types[i], type) != 0)
        i++;
    switch (i) {
    case 0: return compile_object(c, schema, next);
    case 1: return compile_array(c, schema, next);
    case 2: return compile_string(c, schema, next);
    case 3: return compile_number(c, schema, next);
    case 4: return compile_integer(c, schema, next);
    case 5: return grammar_split(&c->b, grammar_text(&c->b, "true", 4, next), grammar_text(&c->b, "false", 5, next));
    case 6: return grammar_text(&c->b, "null", 4, next);
    default: refuse(c, "the type \"%.40s\" is unknown", type); return 0;
    }
}

/* Without "type" a schema that speaks of properties means an object, and so on: fewer texts than it allows, all of them valid. */
static const char *implied_type(const json_t *schema)
{
    static const struct { const char *keyword, *type; } implied[] = {
        { "properties", "object" }, { "required", "object" }, { "additionalProperties", "object" }, { "items", "array" },
        { "minItems", "array" }, { "maxItems", "array" }, { "minLength", "string" }, { "maxLength", "string" },
        { "pattern", "string" },
        { "minimum", "integer" }, { "maximum", "integer" }, { "exclusiveMinimum", "integer" }, { "exclusiveMaximum", "integer" },
    };
    for (size_t i = 0; i < sizeof(implied) / sizeof(implied[0]); i++)
        if (json_object_get(schema, implied[i].keyword))
            return implied[i].type;
    return NULL;
}

static uint16_t compile_types(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    const json_t *type = json_object_get(schema, "type");
    const char *implied = implied_type(schema);
    uint16_t ways = 0;

    if (!type)
        return implied ? compile_type(c, schema, implied, next) : schema_any(c, next);
    if (json_is_string(type))
        return compile_type(c, schema, json_string_value(type), next);
    if (!json_is_array(type) || !json_array_size(type) || json_array_size(type) > 7)
        refuse(c, "type must be a string or an array of 1 to 7 strings");
    for (size_t i = 0; i < json_array_size(type) && !c->err; i++) {
        const char *one = json_string_value(json_array_get(type, i));
        if (!one)
            refuse(c, "type must be a string or an array of strings");
        else if (i == 0)
            ways = compile_type(c, schema, one, next);
        else
            ways = grammar_split(&c->b, ways, compile_type(c, schema, one, next));
    }
    return ways;
}

static bool has_type(const json_t *value, const char *type)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return strcmp(type, "object") == 0;
    case JSON_ARRAY: return strcmp(type, "array") == 0;
    case JSON_STRING: return strcmp(type, "string") == 0;
    case JSON_INTEGER: return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case JSON_REAL: return strcmp(type, "number") == 0 ||
                           (strcmp(type, "integer") == 0 && json_real_value(value) == floor(json_real_value(value)));
    case JSON_NULL: return strcmp(type, "null") == 0;
    default: return strcmp(type, "boolean") == 0;
    }
}

static bool allowed_by_type(struct schema_compiler *c, const json_t *schema, const json_t *value)
{
    const json_t *type = json_object_get(schema, "type");
    bool any = !type;

    if (json_is_string(type))
        return has_type(value, json_string_value(type));
    if (type && !json_is_array(type))
        refuse(c, "type must be a string or an array of strings");
    for (size_t i = 0; i < json_array_size(type); i++) {
        const char *one = json_string_value(json_array_get(type, i));
        any |= one && has_type(value, one);
    }
    return any;
}

/* enum and const: the values as they would be written compactly; those that `type` excludes are no choice. */
static uint16_t compile_values(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    const json_t *values = json_object_get(schema, "enum"), *one = json_object_get(schema, "const");
    const size_t n = one ? 1 : json_array_size(values);
    size_t n_texts = 0;
    uint16_t start = 0;

    if (!one && (!json_is_array(values) || n == 0 || n > SCHEMA_MAX_VALUES)) {
        refuse(c, "enum must be an array of 1 to %d values", SCHEMA_MAX_VALUES);
        return 0;
    }
    char **texts = calloc(n, sizeof(*texts));
    for (size_t i = 0; texts && i < n && !c->b.no_memory; i++) {
        const json_t *value = one ? one : json_array_get(values, i);
        if (!allowed_by_type(c, schema, value))
            continue;
        texts[n_texts] = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        c->b.no_memory |= !texts[n_texts];
        n_texts += texts[n_texts] != NULL;
    }
    if (!texts)
        c->b.no_memory = true;
    else if (!n_texts && !c->b.no_memory)
        refuse(c, "no value of %s has the type", one ? "const" : "enum");
    else if (!c->err && !c->b.no_memory)
        start = grammar_one_of(&c->b, texts, n_texts, next);
    for (size_t i = 0; i < n_texts; i++)
        free(texts[i]);
    free(texts);
    return start;
}

static uint16_t compile_alternatives(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    const char *name = json_object_get(schema, "anyOf") ? "anyOf" : json_object_get(schema, "oneOf") ? "oneOf" : "allOf";
    const json_t *list = json_object_get(schema, name);
    const size_t n = json_array_size(list);
    uint16_t ways = 0;

    if (json_object_get(schema, "type"))
        refuse(c, "the keyword \"type\" is not supported beside \"%s\"", name);
    if (!json_is_array(list) || n == 0 || n > SCHEMA_MAX_ALTERNATIVES)
        refuse(c, "%s must be an array of 1 to %d schemas", name, SCHEMA_MAX_ALTERNATIVES);
    else if (n > 1 && strcmp(name, "allOf") == 0)
        refuse(c, "the keyword \"allOf\" is supported with one schema only");
    for (size_t i = 0; i < n && !c->err && !c->b.error; i++) {
        char where[32];
        snprintf(where, sizeof(where), "%s/%zu", name, i);
        const uint16_t way = compile_at(c, where, json_array_get(list, i), next);
        ways = i ? grammar_split(&c->b, ways, way) : way;
    }
    return ways;
}

/* "#", or "#/$defs/NAME", "#/definitions/NAME". */
static const json_t *find_reference(const struct schema_compiler *c, const char *name)
{
    static const char *const places[] = { "$defs", "definitions" };
    char key[MOST_NAME];
    size_t n = 0;

    if (strcmp(name, "#") == 0)
        return c->root;
    for (size_t i = 0; i < 2; i++) {
        const size_t length = strlen(places[i]);
        if (strncmp(name, "#/", 2) != 0 || strncmp(name + 2, places[i], length) != 0 || name[2 + length] != '/')
            continue;
        for (const char *at = name + 3 + length; *at; at++) {
            if (*at == '/' || n + 1 == sizeof(key))
                return NULL;
            const bool escaped = at[0] == '~' && (at[1] == '0' || at[1] == '1');       /* RFC 6901 */
            key[n++] = !escaped ? *at : at[1] == '0' ? '~' : '/';
            at += escaped;
        }
        key[n] = '\0';
        return json_object_get(json_object_get(c->root, places[i]), key);
    }
    return NULL;
}

/* A rule each, compiled later: so recursion in the schema is none here. */
static uint16_t compile_reference(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    const char *name = json_string_value(json_object_get(schema, "$ref"));
    const json_t *target = name ? find_reference(c, name) : NULL;
    size_t i = 0;

    if (!target) {
        refuse(c, "$ref must be # or name an entry of #/$defs, got \"%.80s\"", name ? name : "?");
        return 0;
    }
    while (i < c->n_references && c->references[i].schema != target)
        i++;
    if (i == SCHEMA_MAX_REFERENCES) {
        refuse(c, "a schema may refer to at most %d others", SCHEMA_MAX_REFERENCES);
        return 0;
    }
    if (i == c->n_references) {
        c->references[i].schema = target;
        c->references[i].rule = grammar_later(&c->b);
        snprintf(c->references[i].name, sizeof(c->references[i].name), "%.95s", name);
        c->n_references++;
    }
    return grammar_call(&c->b, c->references[i].rule, next);
}

static uint16_t compile(struct schema_compiler *c, const json_t *schema, uint16_t next)
{
    uint16_t start = 0;

    if (c->err || c->b.error)
        return 0;
    if (json_is_true(schema))
        return schema_any(c, next);
    if (!json_is_object(schema)) {
        refuse(c, "a schema must be an object or true%s", json_is_false(schema) ? ": false allows nothing" : "");
        return 0;
    }
    if (c->depth == SCHEMA_MAX_DEPTH) {
        refuse(c, "schemas may be nested at most %d deep", SCHEMA_MAX_DEPTH);
        return 0;
    }
    c->depth++;
    const enum group form = form_of(schema);
    if (check_keywords(c, schema, form))
        return 0;
    switch (form) {
    case OF_REF: start = compile_reference(c, schema, next); break;
    case OF_ANY: start = compile_alternatives(c, schema, next); break;
    case OF_VALUES: start = compile_values(c, schema, next); break;
    default: start = compile_types(c, schema, next); break;
    }
    c->depth--;
    return start;
}

static int compile_all(struct schema_compiler *c, const json_t *schema, struct grammar **g)
{
    const char *why;
    uint16_t start;

    if (schema && json_dumpb(schema, NULL, 0, JSON_COMPACT) > SCHEMA_MAX_BYTES)
        return refuse(c, "a schema may have at most %d bytes", SCHEMA_MAX_BYTES);
    start = schema ? compile(c, schema, GRAMMAR_RETURN) : schema_any_object(c, GRAMMAR_RETURN);
    for (; c->n_compiled < c->n_references && !c->err && !c->b.error; c->n_compiled++) {
        snprintf(c->path, sizeof(c->path), "%s", c->references[c->n_compiled].name);
        const uint16_t rule = compile(c, c->references[c->n_compiled].schema, GRAMMAR_RETURN);
        grammar_define(&c->b, c->references[c->n_compiled].rule, rule);
    }
    if (c->b.no_memory)
        return -ENOMEM;
    if (c->err)
        return c->err;
    int err = grammar_finish(&c->b, start, g, &why);
    snprintf(c->path, sizeof(c->path), "#");
    return err == -EINVAL ? refuse(c, "%s", why) : err;
}

static int compile_choice(struct schema_compiler *c, const json_t *strings, struct grammar **g)
{
    const size_t n = json_array_size(strings);
    size_t n_bytes = 0;
    const char *why;

    for (size_t i = 0; i < n; i++)
        n_bytes += json_string_length(json_array_get(strings, i));
    if (n == 0 || n > SCHEMA_MAX_VALUES || n_bytes > SCHEMA_MAX_BYTES)
        return refuse(c, "1 to %d strings of %d bytes together are supported", SCHEMA_MAX_VALUES, SCHEMA_MAX_BYTES);
    char **texts = malloc(n * sizeof(*texts));
    if (!texts)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        texts[i] = (char *)(uintptr_t)json_string_value(json_array_get(strings, i));
    const uint16_t start = grammar_one_of(&c->b, texts, n, GRAMMAR_RETURN);
    free(texts);
    int err = grammar_finish(&c->b, start, g, &why);
    return err == -EINVAL ? refuse(c, "%s", why) : err;
}

static int compile_with(int (*compiler)(struct schema_compiler *, const json_t *, struct grammar **), const json_t *input,
                        struct grammar **g, struct schema_error *e)
{
    struct schema_compiler *c = calloc(1, sizeof(*c));
    int err = -ENOMEM;

    *g = NULL;
    *e = (struct schema_error){ "" };
    if (!c)
        return err;
    c->root = input;
    c->error = e;
    c->path[0] = '#';
    err = grammar_begin(&c->b);
    if (!err)
        err = compiler(c, input, g);
    grammar_abandon(&c->b);
    free(c);
    return err;
}

int schema_compile(const json_t *schema, struct grammar **g, struct schema_error *e)
{
    return compile_with(compile_all, schema, g, e);
}

int schema_compile_choice(const json_t *strings, struct grammar **g, struct schema_error *e)
{
    return compile_with(compile_choice, strings, g, e);
}
