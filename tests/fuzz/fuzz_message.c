/*
 * fuzz_message.c - an answer's text to the parts of a message.
 *
 * The first byte picks the family of models and the rules, the second the size of the pieces, the rest is the text. The parts must not
 * depend on the pieces, but for calls that are given out while they come; and no byte may be given out twice.
 */
#include <stdlib.h>
#include <string.h>

#include "server/message.h"
#include "tests/fuzz/fuzz.h"

static const char *const templates[] = {
    "tools <tool_call> <think>", "tools <|python_tag|>", "tools [TOOL_CALLS] [THINK]", "tools [TOOL_CALLS][ARGS]",
    "tools <\xef\xbd\x9ctool\xe2\x96\x81" "call\xe2\x96\x81" "begin\xef\xbd\x9c> ```json </think>",
    "tools <\xef\xbd\x9ctool\xe2\x96\x81" "call\xe2\x96\x81" "begin\xef\xbd\x9c>",
};

struct parts { struct buf text; size_t n_bytes; bool open; };

static void on_begin(void *arg, enum part_kind kind, const char *name, size_t n_name)
{
    struct parts *p = arg;

    if (p->open || (kind == PART_TOOL_CALL) != (name != NULL))
        abort();
    p->open = true;
    buf_printf(&p->text, "<%d %.*s>", (int)kind, (int)n_name, name ? name : "");
}

static void on_text(void *arg, const char *text, size_t n)
{
    struct parts *p = arg;

    if (!p->open || !n)
        abort();
    buf_append(&p->text, text, n);
    p->n_bytes += n;
}

static void on_end(void *arg)
{
    struct parts *p = arg;

    if (!p->open)
        abort();
    p->open = false;
    buf_putc(&p->text, '.');
}

static struct parts parse(const struct message_rules *rules, const char *text, size_t n, size_t size)
{
    struct parts parts = { .open = false };
    const struct message_sink sink = { on_begin, on_text, on_end, &parts };
    struct message_parser p;

    message_begin(&p, rules, &sink);
    for (size_t at = 0; at < n; at += size)
        message_push(&p, text + at, size < n - at ? size : n - at);
    message_end(&p);
    if (parts.open || parts.n_bytes > n + 2 * p.n_calls)        /* {} for arguments that are left out */
        abort();
    message_free(&p);
    return parts;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *names[] = { (char *)"f", (char *)"get" };

    if (n < 3)
        return 0;
    const char *source = templates[data[0] % 6];
    const struct message_rules rules = {
        .think = think_markers_find(source), .syntax = tool_syntax_find(TOOL_FORMAT_AUTO, source), .names = names, .n_names = 2,
        .most_calls = data[0] >> 6 & 1, .follows_grammar = data[0] >> 7,
    };
    struct parts whole = parse(&rules, (const char *)data + 2, n - 2, n - 2);
    struct parts pieces = parse(&rules, (const char *)data + 2, n - 2, 1 + data[1] % 16);
    if (!rules.follows_grammar && (whole.text.len != pieces.text.len ||
                                   (whole.text.len && memcmp(whole.text.data, pieces.text.data, whole.text.len) != 0)))
        abort();
    buf_free(&whole.text);
    buf_free(&pieces.text);
    return 0;
}
