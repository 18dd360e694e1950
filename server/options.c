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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
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

/* Give option `i` the value `text`, unless a stronger source has spoken. `label` is what the user wrote it as. */
static bool option_set(struct parser *p, size_t i, enum source source, const char *label, const char *text)
{
    const struct option *o = &p->command->options[i];

    if (source < p->source[i])
        return true;
    if (!option_store(o, label, text))
        return false;
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
