#include "server/fields.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"

const char *fields_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "a value";
}

bool fields_integer(const json_t *value, int64_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    /* Beyond 2^53 a double stands for several integers. */
    double real = json_is_real(value) ? json_real_value(value) : NAN;
    if (!(fabs(real) <= 0x1p53) || real != floor(real))
        return false;
    *out = (int64_t)real;
    return true;
}

int fields_wrong_type(struct api_error *e, const char *param, const char *expected, const json_t *value)
{
    return api_error_set(e, API_INVALID_VALUE, param, "%s must be %s, got %s", param, expected, fields_type_name(value));
}

static int out_of_range(const struct field *f, const char *param, double value, struct api_error *e)
{
    /* %.17g shows 2147483647 and 0.1 as they are written, but not more than a double holds. */
    char least[32], most[32], got[32];
    const bool whole = f->type == FIELD_INTEGER;

    snprintf(least, sizeof(least), whole ? "%.0f" : "%g", f->least);
    if (whole && f->most >= 0x1p63)     /* the last int64_t is no double */
        snprintf(most, sizeof(most), "%lld", (long long)INT64_MAX);
    else
        snprintf(most, sizeof(most), whole ? "%.0f" : "%g", f->most);
    snprintf(got, sizeof(got), whole && fabs(value) < 1e15 ? "%.0f" : "%g", value);
    if (f->above)
        return api_error_set(e, API_INVALID_VALUE, param, "%s must be above %s and at most %s, got %s", param, least, most, got);
    return api_error_set(e, API_INVALID_VALUE, param, "%s must be between %s and %s, got %s", param, least, most, got);
}

static bool in_range(const struct field *f, double value)
{
    return (f->above ? value > f->least : value >= f->least) && value <= f->most;
}

static int read_integer(const struct field *f, const char *param, const json_t *value, void *to, struct api_error *e)
{
    int64_t integer;

    if (!json_is_number(value))
        return fields_wrong_type(e, param, "an integer", value);
    if (!fields_integer(value, &integer)) {
        double real = json_real_value(value);
        if (real != floor(real))
            return api_error_set(e, API_INVALID_VALUE, param, "%s must be an integer, got %g", param, real);
        if (in_range(f, real))
            return api_error_set(e, API_INVALID_VALUE, param, "%s: an integer beyond 2^53 must be written in digits, got %.17g", param,
                                 real);
        return out_of_range(f, param, real, e);
    }
    if (!in_range(f, (double)integer))
        return out_of_range(f, param, (double)integer, e);
    if (to)
        memcpy(to, &integer, sizeof(integer));
    return 0;
}

static int read_number(const struct field *f, const char *param, const json_t *value, void *to, struct api_error *e)
{
    if (!json_is_number(value))
        return fields_wrong_type(e, param, "a number", value);
    double number = json_number_value(value);
    if (!in_range(f, number))
        return out_of_range(f, param, number, e);
    if (to)
        memcpy(to, &number, sizeof(number));
    return 0;
}

/* At most one line in ten seconds: every request of a client may bring such a field. */
static void warn_ignored(const char *param)
{
    static _Atomic uint64_t next_ns;
    const uint64_t now = clock_now_ns();
    uint64_t due = atomic_load(&next_ns);

    if (now >= due && atomic_compare_exchange_strong(&next_ns, &due, now + 10000000000u))
        log_warn("request field %s changes the text in other servers, but is not built here: ignored", param);
}

static int read_field(const struct field *f, const char *param, const json_t *value, void *out, struct api_error *e)
{
    void *to = f->offset == NO_OFFSET ? NULL : (char *)out + f->offset;
    int err = 0;

    switch (f->type) {
    case FIELD_BOOL:
        if (!json_is_boolean(value))
            err = fields_wrong_type(e, param, "true or false", value);
        else if (to)
            *(bool *)to = json_is_true(value);
        break;
    case FIELD_INTEGER:
        err = read_integer(f, param, value, to, e);
        break;
    case FIELD_NUMBER:
        err = read_number(f, param, value, to, e);
        break;
    case FIELD_STRING:
        if (!json_is_string(value))
            err = fields_wrong_type(e, param, "a string", value);
        else if (to)
            *(const char **)to = json_string_value(value);
        break;
    case FIELD_ANY:
        if (to)
            *(const json_t **)to = value;
        break;
    case FIELD_IGNORED:
        break;
    case FIELD_WARNED:
        warn_ignored(param);
        break;
    }
    if (!err && f->check)
        err = f->check(out, param, value, e);
    return err;
}

/* A name that ends in '*' stands for all that begin like it. */
static bool has_name(const struct field *f, const char *name)
{
    const size_t n = strcspn(f->name, "*");

    return f->name[n] ? strncmp(f->name, name, n) == 0 : strcmp(f->name, name) == 0;
}

static const struct field *find_field(const struct field *table, size_t n, unsigned route, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (table[i].name[0] == name[0] && (table[i].routes & route) && has_name(&table[i], name))
            return &table[i];
    return NULL;
}

int fields_read(const struct field *table, size_t n, unsigned route, const char *prefix, const json_t *object, void *out,
                struct api_error *e)
{
    const char *name;
    json_t *value;
    size_t n_unknown = 0;

    json_object_foreach((json_t *)object, name, value) {
        char param[128];
        const struct field *f = find_field(table, n, route, name);
        if (!f) {
            if (!n_unknown++)       /* one line, however many a stranger sends */
                log_debug("request field %s%s is unknown: ignored", prefix, name);
            continue;
        }
        if (json_is_null(value))
            continue;
        snprintf(param, sizeof(param), "%s%s", prefix, name);
        int err = read_field(f, param, value, out, e);
        if (err)
            return err;
    }
    return 0;
}
