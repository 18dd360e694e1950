/*
 * options_help.c - --help from the table of options: usage, summary, options in two columns, where else values come from.
 */
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "server/options_internal.h"

enum { HELP_WIDTH = 100, LEFT_MAX = 32 };

/* Words of `text` from column `column` on, with `indent` blanks before each later line. */
static void print_wrapped(const char *text, size_t column, size_t indent)
{
    bool first = true;

    while (*text) {
        size_t n = strcspn(text, " \n");
        if (!first && column + 1 + n > HELP_WIDTH) {
            printf("\n%*s", (int)indent, "");
            column = indent;
            first = true;
        }
        column += (size_t)printf("%s%.*s", first ? "" : " ", (int)n, text);
        first = false;
        text += n;
        if (*text == '\n') {
            printf("\n%*s", (int)indent, "");
            column = indent;
            first = true;
            text++;
        }
        text += strspn(text, " ");
    }
    putchar('\n');
}

/* "  -n, --gen N", or "      --isa auto|scalar|avx2". */
static void left_column(struct buf *b, const struct option *o)
{
    buf_clear(b);
    if (o->letter)
        buf_printf(b, "  -%c, --%s", o->letter, o->name);
    else
        buf_printf(b, "      --%s", o->name);
    if (o->metavar) {
        buf_printf(b, " %s", o->metavar);
    } else if (o->type == OPTION_CHOICE) {
        for (size_t i = 0; o->choices[i]; i++)
            buf_printf(b, "%c%s", i ? '|' : ' ', o->choices[i]);
    }
}

static void print_option(struct buf *left, const struct option *o, size_t width)
{
    left_column(left, o);
    if (left->failed)
        return;
    printf("%s", left->data);
    if (left->len + 2 > width)
        printf("\n%*s", (int)width, "");
    else
        printf("%*s", (int)(width - left->len), "");
    print_wrapped(o->help, width, width);
}

void options_print_help(const struct command *c)
{
    static const struct option help = { .name = "help", .letter = 'h', .type = OPTION_FLAG, .help = "print this" };
    struct buf left = { 0 };
    size_t width = 0;

    printf("usage: fourway ");
    print_wrapped(c->usage, 15, 7);
    putchar('\n');
    print_wrapped(c->summary, 0, 0);
    for (size_t i = 0; i < c->n_options; i++) {
        left_column(&left, &c->options[i]);
        if (left.len + 2 > width && left.len + 2 <= LEFT_MAX)
            width = left.len + 2;
    }
    if (!width)
        width = 14;
    if (!c->n_options || !c->options[0].heading)
        printf("\noptions:\n");
    for (size_t i = 0; i < c->n_options; i++) {
        if (c->options[i].heading)
            printf("\n%s:\n", c->options[i].heading);
        print_option(&left, &c->options[i], width);
    }
    print_option(&left, &help, width);
    if (c->epilogue) {
        putchar('\n');
        print_wrapped(c->epilogue, 0, 0);
    }
    if (c->n_options) {
        putchar('\n');
        print_wrapped(c->config_path ? "Each --name can also be set as FOURWAY_NAME in the environment, and as 'name = value' in the "
                                       "configuration file; the command line goes first, then the environment."
                                     : "Each --name can also be set as FOURWAY_NAME in the environment; the command line goes first.",
                      0, 0);
    }
    buf_free(&left);
}
