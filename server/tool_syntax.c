#include "server/tool_syntax.h"

#include <string.h>

#define DEEPSEEK_SECTION "<\xef\xbd\x9ctool\xe2\x96\x81" "calls\xe2\x96\x81" "begin\xef\xbd\x9c>"
#define DEEPSEEK_SECTION_END "<\xef\xbd\x9ctool\xe2\x96\x81" "calls\xe2\x96\x81" "end\xef\xbd\x9c>"
#define DEEPSEEK_CALL "<\xef\xbd\x9ctool\xe2\x96\x81" "call\xe2\x96\x81" "begin\xef\xbd\x9c>"
#define DEEPSEEK_CALL_END "<\xef\xbd\x9ctool\xe2\x96\x81" "call\xe2\x96\x81" "end\xef\xbd\x9c>"
#define DEEPSEEK_SEPARATOR "<\xef\xbd\x9ctool\xe2\x96\x81" "sep\xef\xbd\x9c>"

static const struct tool_syntax hermes = {
    .name = "hermes", .marker = "<tool_call>", .object = true, .arguments = "arguments",
    .begin = "", .open = "<tool_call>\n", .close = "\n</tool_call>", .between = "\n", .end = "",
};

static const struct tool_syntax llama3 = {
    .name = "llama3", .marker = "", .also_marker = "<|python_tag|>", .object = true, .arguments = "parameters",
    .begin = "", .open = "", .close = "", .end = "",
};

static const struct tool_syntax mistral = {
    .name = "mistral", .marker = "[TOOL_CALLS]", .object = true, .arguments = "arguments",
    .begin = "[TOOL_CALLS] [", .open = "", .close = "", .between = ", ", .end = "]",
};

/* From Mistral Small 3.2 and Magistral on; some leave [ARGS] out, some write [CALL_ID] and an id. */
static const struct tool_syntax mistral_args = {
    .name = "mistral (name first)", .marker = "[TOOL_CALLS]", .middle = "[ARGS]", .optional = "[CALL_ID]",
    .begin = "", .open = "[TOOL_CALLS]", .close = "", .between = "", .end = "",
};

static const struct tool_syntax deepseek = {
    .name = "deepseek", .marker = DEEPSEEK_CALL "function" DEEPSEEK_SEPARATOR, .section = DEEPSEEK_SECTION,
    .section_end = DEEPSEEK_SECTION_END, .history_as_sent = true, .middle = "\n```json\n",
    .begin = DEEPSEEK_SECTION, .open = DEEPSEEK_CALL "function" DEEPSEEK_SEPARATOR, .close = "\n```" DEEPSEEK_CALL_END,
    .between = "\n", .end = DEEPSEEK_SECTION_END,
};

static const struct tool_syntax deepseek_v31 = {
    .name = "deepseek v3.1", .marker = DEEPSEEK_CALL, .section = DEEPSEEK_SECTION, .section_end = DEEPSEEK_SECTION_END,
    .history_as_sent = true, .middle = DEEPSEEK_SEPARATOR,
    .begin = DEEPSEEK_SECTION, .open = DEEPSEEK_CALL, .close = DEEPSEEK_CALL_END, .between = "", .end = DEEPSEEK_SECTION_END,
};

static const struct tool_syntax *find_mistral(const char *source)
{
    return strstr(source, "[ARGS]") ? &mistral_args : &mistral;
}

static const struct tool_syntax *find_by_template(const char *source)
{
    if (strstr(source, DEEPSEEK_CALL))
        return strstr(source, "```json") ? &deepseek : &deepseek_v31;
    if (strstr(source, "[TOOL_CALLS]"))
        return find_mistral(source);
    if (strstr(source, "<tool_call>"))
        return &hermes;
    if (strstr(source, "<|python_tag|>") || strstr(source, "\"parameters\": "))
        return &llama3;
    return &hermes;
}

const struct tool_syntax *tool_syntax_find(enum tool_format format, const char *source)
{
    switch (format) {
    case TOOL_FORMAT_HERMES: return &hermes;
    case TOOL_FORMAT_LLAMA3: return &llama3;
    case TOOL_FORMAT_MISTRAL: return find_mistral(source);
    case TOOL_FORMAT_NONE: return NULL;
    default: return tool_template_knows_tools(source) ? find_by_template(source) : &hermes;
    }
}

const struct think_markers *think_markers_find(const char *source)
{
    static const struct think_markers known[] = { { "<think>", "</think>" }, { "[THINK]", "[/THINK]" } };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strstr(source, known[i].open) || strstr(source, known[i].close))
            return &known[i];
    return NULL;
}

static bool is_word_byte(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* As a word of its own: "tool_calls" is about earlier calls, and many a text says "tools". */
bool tool_template_knows_tools(const char *source)
{
    for (const char *at = strstr(source, "tools"); at; at = strstr(at + 1, "tools"))
        if ((at == source || !is_word_byte(at[-1])) && !is_word_byte(at[5]))
            return true;
    return false;
}

bool tool_marker_piece(const struct tool_syntax *s, const struct think_markers *t, const char *text, size_t n)
{
    const char *const all[] = {
        s ? s->begin : NULL, s ? s->open : NULL, s ? s->middle : NULL, s ? s->optional : NULL, s ? s->close : NULL, s ? s->end : NULL,
        s ? s->also_marker : NULL, t ? t->open : NULL, t ? t->close : NULL,
    };

    for (size_t i = 0; n > 2 && i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i] && memmem(all[i], strlen(all[i]), text, n))
            return true;
    return false;
}

void tool_syntax_write_head(const struct tool_syntax *s, const char *name, struct buf *out)
{
    buf_puts(out, s->open);
    if (s->object)
        buf_printf(out, "{\"name\": \"%s\", \"%s\": ", name, s->arguments);
    else
        buf_printf(out, "%s%s", name, s->middle);
}

void tool_syntax_write_tail(const struct tool_syntax *s, struct buf *out)
{
    if (s->object)
        buf_putc(out, '}');
    buf_puts(out, s->close);
}
