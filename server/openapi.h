/*
 * openapi.h - the description of the interface in OpenAPI 3.1, for GET /openapi.json.
 *
 * What can be read off the code is: fields with types and ranges from the tables that check them (fields.h), status codes, types and codes
 * of errors from the table of api_error.c, which routes there are from that of front_routes.c. The rest is written by hand in
 * server/openapi/: operations.json (a path item a route), schemas.json (bodies of requests, without their fields, and of replies),
 * fields.json (what a field means; its whole schema where the table says FIELD_ANY), document.json (all else).
 *
 * A new field or error appears by its row, a new route by its row and an entry in operations.json, a new table of fields by a row in
 * openapi.c. check_openapi.c fails where one is without a text, or a text without one.
 */
#ifndef FOURWAY_SERVER_OPENAPI_H
#define FOURWAY_SERVER_OPENAPI_H

#include <stdbool.h>

#include "common/buf.h"
#include "server/api.h"

/* Append the description as JSON. keys: one is needed. Returns 0 or -ENOMEM. */
int openapi_write(const struct api_model *model, bool keys, struct buf *out);

#endif
