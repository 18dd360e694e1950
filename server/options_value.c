/*
 * options_value.c - one text to the value of one option: every type, its range, and the line that says what is wrong.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/buf.h"
#include "common/checked.h"
#include "common/log.h"
#include "server/options_internal.h"

/* Whole digits only: strtoull alone would take blanks, signs and "0x". */
static bool parse_u64(const char *text, const char **end, uint64_t *value)
{
    char *after;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    *value = strtoull(text, &after, 10);
    *end = after;
    return errno == 0;
}

static bool parse_f64(const char *text, double *value)
{
    char *after;

    if (!text[0] || text[strspn(text, "0123456789+-.eE")])  /* neither hexadecimal nor "nan" */
        return false;
    *value = strtod(text, &after);
    return !*after && isfinite(*value);
}

/* As GNU coreutils: K and KiB are 1024 bytes, KB is 1000. */
static bool parse_unit(const char *text, uint64_t *unit)
{
    static const char letters[] = "KMGT";
    const char *letter = text[0] ? strchr(letters, toupper((unsigned char)text[0])) : NULL;

    if (!letter) {
        *unit = 1;
        return !text[0] || !strcasecmp(text, "B");
    }
    uint64_t base = !strcasecmp(text + 1, "B") ? 1000 : 1024;
    *unit = base;
    for (const char *l = letters; l < letter; l++)
        *unit *= base;
    return !text[1] || !strcasecmp(text + 1, "B") || !strcasecmp(text + 1, "iB");
}

static bool parse_size(const char *text, uint64_t *value)
{
    const char *end;
    uint64_t whole, unit;
    double part = 0;

    if (!parse_u64(text, &end, &whole))
        return false;
    if (*end == '.') {
        double digit = 0.1;
        for (end++; isdigit((unsigned char)*end); end++, digit /= 10)
            part += digit * (*end - '0');
    }
    while (*end == ' ')
        end++;
    if (!parse_unit(end, &unit) || !checked_mul(whole, unit, value))
        return false;
    return checked_add(*value, (uint64_t)(part * (double)unit + 0.5), value);
}

static bool parse_flag(const char *text, bool *value)
{
    static const char *const words[][2] = { { "false", "true" }, { "0", "1" }, { "no", "yes" }, { "off", "on" } };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        for (int j = 0; j < 2; j++) {
            if (!strcasecmp(text, words[i][j])) {
                *value = j;
                return true;
            }
        }
    }
    return false;
}

/* least = most = 0 means no limit. */
static bool in_range(const struct option *o, const char *label, const char *text, double value)
{
    if ((o->least == 0 && o->most == 0) || (value >= o->least && value <= o->most))
        return true;
    if (o->most >= 0x1p63)
        log_error("%s: %s is out of range: it must be at least %.15g", label, text, o->least);
    else
        log_error("%s: %s is out of range: it must be from %.15g to %.15g", label, text, o->least, o->most);
    return false;
}

static bool set_list(const struct option *o, const char *label, const char *text)
{
    struct option_list list = { .n = 0 };
    const char *at = text;

    for (;;) {
        uint64_t value;
        if (!parse_u64(at, &at, &value) || (*at && *at != ',')) {
            log_error("%s: '%s' is not a list of whole numbers such as 1,4,16", label, text);
            return false;
        }
        if (list.n == OPTION_LIST_MAX) {
            log_error("%s: more than %d numbers", label, OPTION_LIST_MAX);
            return false;
        }
        if (!in_range(o, label, text, (double)value))
            return false;
        list.values[list.n++] = value;
        if (!*at)
            break;
        at++;
    }
    *(struct option_list *)o->out = list;
    return true;
}

static bool set_choice(const struct option *o, const char *label, const char *text)
{
    struct buf names = { 0 };

    for (int i = 0; o->choices[i]; i++) {
        if (!strcmp(text, o->choices[i])) {
            *(int *)o->out = i;
            return true;
        }
    }
    for (int i = 0; o->choices[i]; i++)
        buf_printf(&names, "%s%s", i ? ", " : "", o->choices[i]);
    log_error("%s: '%s' is none of %s", label, text, names.failed ? "its choices" : names.data);
    buf_free(&names);
    return false;
}

bool option_store(const struct option *o, const char *label, const char *text)
{
    const char *end;
    uint64_t u;
    double f;
    bool flag;

    switch (o->type) {
    case OPTION_FLAG:
        if (!parse_flag(text, &flag)) {
            log_error("%s: '%s' is neither true nor false", label, text);
            return false;
        }
        *(bool *)o->out = flag;
        break;
    case OPTION_U64:
        if (!parse_u64(text, &end, &u) || *end) {
            log_error("%s: '%s' is not a whole number", label, text);
            return false;
        }
        if (!in_range(o, label, text, (double)u))
            return false;
        *(uint64_t *)o->out = u;
        break;
    case OPTION_F64:
        if (!parse_f64(text, &f)) {
            log_error("%s: '%s' is not a number", label, text);
            return false;
        }
        if (!in_range(o, label, text, f))
            return false;
        *(double *)o->out = f;
        break;
    case OPTION_SIZE:
        if (!parse_size(text, &u)) {
            log_error("%s: '%s' is not a size such as 512M, 2G or 1.5GiB", label, text);
            return false;
        }
        if (!in_range(o, label, text, (double)u))
            return false;
        *(uint64_t *)o->out = u;
        break;
    case OPTION_STRING:
        *(const char **)o->out = text;
        break;
    case OPTION_CHOICE:
        return set_choice(o, label, text);
    case OPTION_U64_LIST:
        return set_list(o, label, text);
    }
    return true;
}
