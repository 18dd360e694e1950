/*
 * schema_internal.h - what schema.c (keywords) and schema_values.c (the texts of values) share.
 */
#ifndef FOURWAY_SERVER_SCHEMA_INTERNAL_H
#define FOURWAY_SERVER_SCHEMA_INTERNAL_H

#include "server/schema.h"

/* Rules that any schema may need, built when first called for; 0: not yet. */
struct common_rules { uint16_t space, letter, value, object, array; };

struct schema_compiler {
    struct grammar_builder b;
    struct common_rules rules;
    const json_t *root;
    struct { const json_t *schema; uint16_t rule; char name[96]; } references[SCHEMA_MAX_REFERENCES];
    size_t n_references, n_compiled;
    char path[256];             /* of the schema at hand */
    size_t depth;
    int err;
    struct schema_error *error;
};

/* Each returns the node to begin with, `next` being what follows. */
uint16_t schema_space(struct schema_compiler *c, uint16_t next);       /* nothing, a blank, or a line break and up to 20 blanks */
uint16_t schema_blank(struct schema_compiler *c, uint16_t next);       /* nothing or a blank */
uint16_t schema_string(struct schema_compiler *c, size_t least, size_t most, uint16_t next);   /* most SIZE_MAX: any */
uint16_t schema_number(struct schema_compiler *c, bool negative, uint16_t next);
uint16_t schema_integer(struct schema_compiler *c, int64_t least, int64_t most, uint16_t next);        /* both within +-SCHEMA_MOST */
uint16_t schema_repeat(struct schema_compiler *c, uint16_t item, size_t least, size_t most, uint16_t next);     /* a JSON array of a rule */
uint16_t schema_any(struct schema_compiler *c, uint16_t next);         /* any value */
uint16_t schema_any_object(struct schema_compiler *c, uint16_t next);
uint16_t schema_any_array(struct schema_compiler *c, uint16_t next);
/* A key that is none of names[n], without escapes, and its quotes. */
uint16_t schema_other_key(struct schema_compiler *c, const char *const *names, size_t n, uint16_t next);

#define SCHEMA_MOST INT64_C(999999999999999)    /* 15 digits: exact in a double, whoever reads it */

#endif
