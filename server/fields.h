/*
 * fields.h - reads the fields of a JSON object by a table: name, type, range and where the value goes.
 *
 * The one place where numbers from clients are checked, before anything is allocated for them: out of range is an error, never clamped
 * (CVE-2026-21869 was a negative integer that went through). null means absent, for every field. An integer may be written 16 or 16.0.
 */
#ifndef FOURWAY_SERVER_FIELDS_H
#define FOURWAY_SERVER_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "server/api_error.h"

enum field_type {
    FIELD_BOOL,         /* bool */
    FIELD_INTEGER,      /* int64_t, least..most */
    FIELD_NUMBER,       /* double, least..most */
    FIELD_STRING,       /* const char *, borrowed from the object */
    FIELD_ANY,          /* const json_t *, borrowed; `check` does the rest */
    FIELD_IGNORED,      /* on purpose: does not change the text */
    FIELD_WARNED        /* changes the text in another server, is not built here: one line in the log */
};

struct field {
    const char *name;           /* "dry_*": all that begin so */
    enum field_type type;
    unsigned routes;            /* bit set: where the field exists */
    size_t offset;              /* of the value in the struct; NO_OFFSET: only checked */
    double least, most;
    bool above;                 /* the range starts above `least` */
    int (*check)(void *out, const char *param, const json_t *value, struct api_error *e);   /* after the value was stored; may be NULL */
};

#define NO_OFFSET ((size_t)-1)

/* All rows of a table, for who describes them (openapi.c). */
struct field_table {
    const struct field *fields;
    size_t n;
};

/*
 * Read the fields of `object` that exist on `route` into the struct `out`, in the order of the object: the first error met is the one
 * reported, with `prefix` before its name. Returns 0 or a negative errno with *e filled.
 */
int fields_read(const struct field *table, size_t n, unsigned route, const char *prefix, const json_t *object, void *out,
                struct api_error *e);

/* "a string", "an integer", ... for messages. */
const char *fields_type_name(const json_t *value);

/* An integer, also written as 16.0. False for anything else, and for what a double may have rounded. */
bool fields_integer(const json_t *value, int64_t *out);

/* 400 invalid_value: "PARAM must be EXPECTED, got a string". Returns -EINVAL. */
int fields_wrong_type(struct api_error *e, const char *param, const char *expected, const json_t *value);

#endif
