/*
 * schema.h - a JSON schema to a grammar of the JSON texts that satisfy it; docs/constrained.md lists the subset.
 *
 * A keyword that would change which values are valid and is not in the subset is refused by name: never is one ignored. The texts are
 * fewer than the schema allows: keys come in the schema's order, white space and digits are bounded, an object that lists its properties
 * has no others unless it says so.
 */
#ifndef FOURWAY_SERVER_SCHEMA_H
#define FOURWAY_SERVER_SCHEMA_H

#include <jansson.h>

#include "server/grammar.h"

enum {
    SCHEMA_MAX_BYTES = 128 << 10,
    SCHEMA_MAX_DEPTH = 32,              /* of schemas within schemas */
    SCHEMA_MAX_REFERENCES = 256,        /* different ones */
    SCHEMA_MAX_REPEAT = 10000,          /* minItems, maxItems, minLength, maxLength */
    SCHEMA_MAX_PROPERTIES = 256,        /* of one object */
    SCHEMA_MAX_ALTERNATIVES = 256,      /* of one anyOf */
    SCHEMA_MAX_VALUES = 10000           /* of one enum */
};

struct schema_error { char message[320]; };     /* begins with the place, as #/properties/a */

/* One of these strings as they are, without quotes. The same results. */
int schema_compile_choice(const json_t *strings, struct grammar **g, struct schema_error *e);

/* `schema` NULL: any object. Returns 0 with *g (free by the caller), -EINVAL with *e, or -ENOMEM. */
int schema_compile(const json_t *schema, struct grammar **g, struct schema_error *e);

#endif
