/*
 * options.c - reads the command line, the environment and the configuration file into one table of options.
 *
 * Not getopt_long: the same table must also serve the other two sources and --help, and a wrong value has to be
 * answered with the range it should have been in. All three sources end in option_set().
 */
#include "server/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/buf.h"
#include "common/checked.h"
#include "common/log.h"
#include "server/options_internal.h"
#include "server/suggest.h"

enum { OPTIONS_MAX = 64, CONFIG_BYTES_MAX = 1 << 20 };

/* Where an option's value came from; a later one wins. */
enum source { SOURCE_DEFAULT, SOURCE_CONFIG, SOURCE_ENVIRONMENT, SOURCE_COMMAND_LINE };

struct parser {
    const struct command *command;
    enum source source[OPTIONS_MAX];
};

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

/* Give option `i` the value `text`. `label` is what the user wrote, for the one line that says what is wrong with it. */
static bool option_set(struct parser *p, size_t i, enum source source, const char *label, const char *text)
{
    const struct option *o = &p->command->options[i];
    const char *end;
    uint64_t u;
    double f;
    bool flag;

    if (source < p->source[i])
        return true;
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
        if (!set_choice(o, label, text))
            return false;
        break;
    case OPTION_U64_LIST:
        if (!set_list(o, label, text))
            return false;
        break;
    }
    p->source[i] = source;
    if (o->given)
        *o->given = true;
    return true;
}

/* Index of the option with this name, or n_options. */
static size_t find_option(const struct command *c, const char *name, size_t length)
{
    size_t i = 0;

    while (i < c->n_options && (strncmp(c->options[i].name, name, length) || c->options[i].name[length]))
        i++;
    return i;
}

static const char *nearest_option(const struct command *c, const char *name)
{
    struct suggestion s = suggest_start(name);

    for (size_t i = 0; i < c->n_options; i++)
        suggest_offer(&s, c->options[i].name);
    suggest_offer(&s, "help");
    return suggest_best(&s);
}

/* "--name", "--name=value" or "--name value" at argv[*at]; *at moves to the last word used. */
static bool parse_long(struct parser *p, int argc, char **argv, int *at)
{
    const char *name = argv[*at] + 2;
    size_t length = strcspn(name, "="), i = find_option(p->command, name, length);
    char label[80];

    snprintf(label, sizeof(label), "--%.*s", (int)(length < 64 ? length : 64), name);
    if (i == p->command->n_options) {
        const char *nearest = nearest_option(p->command, label + 2);
        if (nearest)
            log_error("%s has no option %s: did you mean --%s?", p->command->name, label, nearest);
        else
            log_error("%s has no option %s: 'fourway %s --help' lists them", p->command->name, label, p->command->name);
        return false;
    }
    if (name[length] == '=')
        return option_set(p, i, SOURCE_COMMAND_LINE, label, name + length + 1);
    if (p->command->options[i].type == OPTION_FLAG)
        return option_set(p, i, SOURCE_COMMAND_LINE, label, "true");
    if (*at + 1 == argc) {
        log_error("%s needs a value", label);
        return false;
    }
    return option_set(p, i, SOURCE_COMMAND_LINE, label, argv[++*at]);
}

/* "-n value", "-nvalue", or "-j" for a flag. */
static bool parse_letter(struct parser *p, int argc, char **argv, int *at)
{
    const char *word = argv[*at];
    char label[] = { '-', word[1], '\0' };
    size_t i = 0;

    while (i < p->command->n_options && p->command->options[i].letter != word[1])
        i++;
    if (i == p->command->n_options) {
        log_error("%s has no option %s: 'fourway %s --help' lists them", p->command->name, word, p->command->name);
        return false;
    }
    if (p->command->options[i].type == OPTION_FLAG) {
        if (word[2]) {
            log_error("%s takes no value, but is followed by '%s'", label, word + 2);
            return false;
        }
        return option_set(p, i, SOURCE_COMMAND_LINE, label, "true");
    }
    if (word[2])
        return option_set(p, i, SOURCE_COMMAND_LINE, label, word + 2);
    if (*at + 1 == argc) {
        log_error("%s needs a value", label);
        return false;
    }
    return option_set(p, i, SOURCE_COMMAND_LINE, label, argv[++*at]);
}

static int parse_command_line(struct parser *p, int argc, char **argv, const char **args, size_t *n_args)
{
    bool options_end = false;

    *n_args = 0;
    for (int at = 1; at < argc; at++) {
        const char *word = argv[at];
        bool good = true;
        if (options_end || word[0] != '-' || !word[1]) {        /* "-" alone is a file name */
            if (*n_args == p->command->max_args) {
                log_error("%s: unexpected argument '%s' (usage: fourway %s)", p->command->name, word, p->command->usage);
                return 2;
            }
            args[(*n_args)++] = word;
        } else if (!strcmp(word, "--")) {
            options_end = true;
        } else if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            options_print_help(p->command);
            return 0;
        } else if (word[1] == '-') {
            good = parse_long(p, argc, argv, &at);
        } else {
            good = parse_letter(p, argc, argv, &at);
        }
        if (!good)
            return 2;
    }
    if (*n_args < p->command->min_args) {
        log_error("%s: an argument is missing (usage: fourway %s)", p->command->name, p->command->usage);
        return 2;
    }
    return -1;
}

/* FOURWAY_KV_TYPE for kv-type. An empty variable counts as not set, so that a script can clear one for a command. */
static bool parse_environment(struct parser *p)
{
    for (size_t i = 0; i < p->command->n_options; i++) {
        char name[80] = "FOURWAY_";
        size_t n = strlen(name);
        for (const char *c = p->command->options[i].name; *c && n + 1 < sizeof(name); c++)
            name[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        name[n] = '\0';
        const char *value = getenv(name);
        if (value && *value && !option_set(p, i, SOURCE_ENVIRONMENT, name, value))
            return false;
    }
    return true;
}

static char *trim(char *s)
{
    s += strspn(s, " \t\r");
    size_t n = strlen(s);
    while (n && strchr(" \t\r", s[n - 1]))
        n--;
    s[n] = '\0';
    return s;
}

/* The value after "=": in double quotes as it stands, else up to a # that follows a blank. NULL when a quote is not closed. */
static char *config_value(char *s)
{
    s = trim(s);
    if (*s == '"') {
        char *close = strchr(s + 1, '"');
        if (!close || (close[1] && *trim(close + 1) != '#' && *trim(close + 1)))
            return NULL;
        *close = '\0';
        return s + 1;
    }
    for (char *hash = strchr(s, '#'); hash; hash = strchr(hash + 1, '#')) {
        if (hash == s || hash[-1] == ' ' || hash[-1] == '\t') {
            *hash = '\0';
            break;
        }
    }
    return trim(s);
}

static bool parse_config_line(struct parser *p, const char *path, size_t number, char *line)
{
    char label[512];
    char *equals, *name, *value;

    line = trim(line);
    if (!*line || *line == '#')
        return true;
    equals = strchr(line, '=');
    if (!equals) {
        log_error("%s:%zu: expected 'name = value'", path, number);
        return false;
    }
    *equals = '\0';
    name = trim(line);
    value = config_value(equals + 1);
    if (!value) {
        log_error("%s:%zu: %s: the quote is not closed, or text follows it", path, number, name);
        return false;
    }
    size_t i = find_option(p->command, name, strlen(name));
    if (i == p->command->n_options) {
        const char *nearest = nearest_option(p->command, name);
        log_error("%s:%zu: there is no option '%s'%s%s%s", path, number, name, nearest ? ": did you mean " : "", nearest ? nearest : "",
                  nearest ? "?" : "");
        return false;
    }
    snprintf(label, sizeof(label), "%s:%zu: %s", path, number, name);
    return option_set(p, i, SOURCE_CONFIG, label, value);
}

static int read_file(struct buf *text, const char *path)
{
    FILE *f = fopen(path, "re");
    int err = 0;

    if (!f)
        return -errno;
    text->limit = CONFIG_BYTES_MAX;
    for (;;) {
        char *to = buf_reserve(text, 4096);
        if (!to) {
            err = -EFBIG;
            break;
        }
        size_t n = fread(to, 1, 4096, f);
        text->len += n;
        text->data[text->len] = '\0';
        if (ferror(f))
            err = errno ? -errno : -EIO;
        if (err || n == 0)
            break;
    }
    fclose(f);
    return err;
}

static bool parse_config(struct parser *p, const char *path)
{
    static struct buf text;     /* option values point into it for as long as the process lives, as with argv */
    size_t number = 0;

    buf_free(&text);
    int err = read_file(&text, path);
    if (err) {
        log_error("cannot read the configuration file %s: %s", path, strerror(-err));
        return false;
    }
    if (strlen(text.data) != text.len) {
        log_error("%s: a configuration file is text, this one holds NUL bytes", path);
        return false;
    }
    for (char *line = text.data; line;) {
        char *end = strchr(line, '\n');
        if (end)
            *end++ = '\0';
        if (!parse_config_line(p, path, ++number, line))
            return false;
        line = end;
    }
    return true;
}

int options_parse(const struct command *command, int argc, char **argv, const char **args, size_t *n_args)
{
    struct parser p = { .command = command };

    assert(command->n_options <= OPTIONS_MAX);
    int status = parse_command_line(&p, argc, argv, args, n_args);
    if (status >= 0)
        return status;
    if (!parse_environment(&p))     /* before the file: it may name the file */
        return 2;
    const char *config = command->config_path ? command->config_path() : NULL;
    if (config && !parse_config(&p, config))
        return 2;
    return -1;
}
