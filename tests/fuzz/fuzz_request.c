/*
 * fuzz_request.c - the body of a request, up to the token ids that the engine would get.
 *
 * The first byte picks the route and the family of models, the rest is the body. The vocabulary is a small one of the tests, the template the built-in one.
 */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/api.h"
#include "tests/fuzz/fuzz.h"

enum { CONTEXT = 4096 };

static struct api_model served;

/* Once; the files are read from the repository's root, where run.sh starts the target. */
static void open_model(void)
{
    static const char *const names[] = { "model" };
    struct template_error why;
    static struct gguf *g;          /* kept: what stays reachable is no leak */
    static struct tokenizer *tokenizer;
    static struct chat_template *template;

    log_set_level(LOG_ERROR);
    if (gguf_open(&g, "tests/data/tokenizers/smollm/vocab.gguf") || tokenizer_open_gguf(&tokenizer, g) ||
        chat_template_compile(&template, chat_template_builtin(), strlen(chat_template_builtin()), &why))
        abort();
    served = (struct api_model){ .names = names, .n_names = 1, .tokenizer = tokenizer, .chat_template = template,
                                 .think = think_markers_find("<think>"),
                                 .sampling = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 } };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const enum api_route routes[] = {
        [0] = API_COMPLETIONS, [1] = API_CHAT, [5] = API_EMBEDDINGS, [6] = API_MESSAGES, [7] = API_RESPONSES,
    };
    struct api_request *request = NULL;
    struct api_error error = { 0 };
    struct buf out = { 0 };

    if (!served.tokenizer)
        open_model();
    if (n < 1)
        return 0;
    served.tool_syntax = tool_syntax_find((enum tool_format)(TOOL_FORMAT_HERMES + (data[0] >> 4) % 4), "");
    served.template_knows_tools = data[0] & 8;
    const char *body = (const char *)data + 1;
    switch (data[0] % 8) {
    case 0:
    case 1:
    case 5:
    case 6:
    case 7: {
        int err = api_read(&request, routes[data[0] % 8], &served, CONTEXT, body, n - 1, &error);
        if (!err && (!request->n_prompts || !request->prompts[0].n || request->prompts[0].n > CONTEXT))
            abort();        /* a request that was accepted has prompts that fit */
        if (err && !error.code)
            abort();        /* one that was refused says why */
        api_request_free(request);
        if (data[0] % 8 == 6)
            api_count_tokens(&served, body, n - 1, &out, &error);
        break;
    }
    case 2:
        api_tokenize(&served, CONTEXT, body, n - 1, &out, &error);
        break;
    case 3:
        api_detokenize(&served, body, n - 1, &out, &error);
        break;
    default:
        api_apply_template(&served, body, n - 1, &out, &error);
        break;
    }
    buf_free(&out);
    return 0;
}
