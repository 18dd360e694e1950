/*
 * fuzz_template.c - libFuzzer target: the input is a chat template and, after a byte FF (which is in no UTF-8 text), its variables as
 * JSON. Without them a short conversation with tools is rendered.
 *
 * Whatever compiles is rendered. The output must be valid UTF-8 with one mark a byte, a refusal one line with its number.
 */
#include <stdint.h>
#include <string.h>

#include <jansson.h>

#include "common/utf8.h"
#include "tests/fuzz/fuzz.h"
#include "weights/chat_template.h"

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"  h\xc3\xa9llo <b>\\n\"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"abc123def\", \"function\": {\"name\": \"f\","
    " \"arguments\": {\"x\": [1, 2.5, true, null]}}}]}, {\"role\": \"tool\", \"content\": \"{}\"}, {\"role\": \"user\", \"content\":"
    " [{\"type\": \"text\", \"text\": \"a b\"}]}], \"tools\": [{\"function\": {\"name\": \"f\", \"parameters\": {\"properties\":"
    " {\"x\": {\"type\": \"array\"}}}}}], \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";

static void check_error(const struct template_error *error)
{
    require(error->message[0] != '\0' || error->limit == 2, "a refusal without a reason");
    require(error->line >= 1, "a refusal without a line");
    require(error->limit == 2 || !strncmp(error->message, "line ", 5), "a message that does not begin with its line");
    require(memchr(error->message, '\0', sizeof(error->message)) != NULL, "a message without an end");
}

static void render(const struct chat_template *t, const json_t *vars)
{
    const struct template_options options = { .max_output = 1 << 16, .now = 1795251907 };
    struct buf text = { 0 }, literal = { 0 };
    struct template_error error;

    if (chat_template_render(t, vars, &options, &text, &literal, &error)) {
        check_error(&error);
        require(text.len == 0, "a refusal with output");
    }
    require(text.len == literal.len, "marks and text differ in length");
    require(text.len == 0 || utf8_check(text.data, text.len) == text.len, "output that is no UTF-8");
    for (size_t i = 0; i < literal.len; i++)
        require(literal.data[i] == 0 || literal.data[i] == 1, "a mark that is neither 0 nor 1");
    buf_free(&text);
    buf_free(&literal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *separator = memchr(data, 0xff, size);
    size_t n = separator ? (size_t)(separator - data) : size;
    struct chat_template *t;
    struct template_error error;
    json_t *vars = NULL;

    if (chat_template_compile(&t, (const char *)data, n, &error)) {
        check_error(&error);
        return 0;
    }
    if (separator)
        vars = json_loadb((const char *)separator + 1, size - n - 1, JSON_ALLOW_NUL, NULL);
    if (!vars)
        vars = json_loads(conversation, 0, NULL);
    render(t, vars);
    json_decref(vars);
    chat_template_free(t);
    return 0;
}
