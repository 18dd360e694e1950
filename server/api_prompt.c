/*
 * api_prompt.c - the field prompt, or input, in its four forms, text to tokens, and the budget of the context.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_internal.h"

int api_encode(const struct api_model *served, const char *param, const char *text, size_t n, const uint8_t *literal, bool add,
               struct api_prompt *p, struct api_error *e)
{
    const struct tokenizer *t = served->tokenizer;
    struct token_ids ids = { 0 };
    int err = tokenizer_encode(t, text, n, literal, TOKENIZE_SPECIAL | (add ? TOKENIZE_ADD_BOS : 0), &ids);

    if (err) {
        free(ids.ids);
        return err == -EINVAL ? api_error_set(e, API_INVALID_VALUE, param, "the text cannot be tokenised") : api_error_internal(e, err);
    }
    p->ids = ids.ids;
    p->n = ids.n;
    p->is_text = true;
    p->n_front = add && tokenizer_adds_bos(t) && ids.n && ids.ids[0] == tokenizer_bos(t);
    if (add && ids.n > p->n_front && ids.ids[ids.n - 1] == tokenizer_eos(t)) {
        /* An end token that the text does not spell was appended by the vocabulary. */
        size_t piece_bytes;
        const char *piece = tokenizer_piece(t, tokenizer_eos(t), &piece_bytes);
        p->n_back = piece_bytes > n || memcmp(text + n - piece_bytes, piece, piece_bytes) != 0;
    }
    return 0;
}

static int text_prompt(struct api_body *b, const char *param, const json_t *value, struct api_prompt *p, struct api_error *e)
{
    const char *text = json_string_value(value);
    const size_t n = json_string_length(value);

    if (b->echo) {
        p->text = malloc(n + 1);
        if (!p->text)
            return api_error_internal(e, -ENOMEM);
        memcpy(p->text, text, n + 1);
        p->text_bytes = n;
    }
    return api_encode(b->served, param, text, n, NULL, b->add_special_tokens, p, e);
}

static int read_prompt(struct api_body *b, const char *param, const json_t *value, struct api_prompt *p, struct api_error *e)
{
    int err = json_is_string(value) ? text_prompt(b, param, value, p, e) : api_token_ids(b->served, param, value, &p->ids, &p->n, e);

    if (!err && !p->n)
        err = api_error_set(e, API_INVALID_VALUE, param, "%s has no tokens", param);
    return err;
}

/* [string] or [[int]]: a list of prompts. All have the kind of the first. */
static int read_list(struct api_body *b, const json_t *list, struct api_error *e)
{
    struct api_request *r = b->request;
    const bool texts = json_is_string(json_array_get(list, 0));
    const char *name = api_prompt_param(r->route);
    const size_t n = json_array_size(list), most = r->route == API_EMBEDDINGS ? API_MAX_INPUTS : API_MAX_PROMPTS;

    if (n > most)
        return api_error_set(e, API_INVALID_VALUE, name, "%s may have at most %zu entries, got %zu", name, most, n);
    r->prompts = calloc(n, sizeof(*r->prompts));
    if (!r->prompts)
        return api_error_internal(e, -ENOMEM);
    int err = 0;
    for (size_t i = 0; i < n && !err; i++) {
        const json_t *value = json_array_get(list, i);
        char param[32];
        snprintf(param, sizeof(param), "%s[%zu]", name, i);
        if (texts ? !json_is_string(value) : !json_is_array(value))
            return fields_wrong_type(e, param, texts ? "a string, like the first" : "an array of token ids, like the first", value);
        r->n_prompts = i + 1;
        err = read_prompt(b, param, value, &r->prompts[i], e);
    }
    return err;
}

int api_read_prompts(struct api_body *b, struct api_error *e)
{
    struct api_request *r = b->request;
    const json_t *prompt = b->prompt;
    const json_t *first = json_array_get(prompt, 0);        /* NULL for no array, too */
    const char *name = api_prompt_param(r->route);
    char at_first[16];
    int err;

    if (!prompt)
        return api_error_set(e, API_INVALID_VALUE, name, "%s is required", name);
    if (json_is_array(prompt) && !first)
        return api_error_set(e, API_INVALID_VALUE, name, "%s is empty", name);
    if (json_is_string(prompt) || json_is_number(first)) {
        r->prompts = calloc(1, sizeof(*r->prompts));
        if (!r->prompts)
            return api_error_internal(e, -ENOMEM);
        r->n_prompts = 1;
        err = read_prompt(b, name, prompt, r->prompts, e);
    } else if (json_is_string(first) || json_is_array(first)) {
        err = read_list(b, prompt, e);
    } else {
        snprintf(at_first, sizeof(at_first), "%s[0]", name);
        err = fields_wrong_type(e, first ? at_first : name, "a string, an array of strings, or token ids", first ? first : prompt);
    }
    if (!err && r->route != API_EMBEDDINGS && r->n_prompts * r->n > API_MAX_SEQUENCES)
        err = api_error_set(e, API_INVALID_VALUE, "n", "prompts times n may be at most %d, got %zu", API_MAX_SEQUENCES,
                            r->n_prompts * r->n);
    return err;
}

/* Keep the last tokens. The text is then no longer the prompt's: an echo shows the decoded tokens. */
static void truncate_prompt(struct api_prompt *p, size_t keep)
{
    if (p->n <= keep)
        return;
    memmove(p->ids, p->ids + (p->n - keep), keep * sizeof(*p->ids));
    p->n = keep;
    p->is_text = false;
    p->n_front = p->n_back = 0;
    free(p->text);
    p->text = NULL;
    p->text_bytes = 0;
}

const char *api_prompt_param(enum api_route route)
{
    return route == API_COMPLETIONS ? "prompt" : route == API_RESPONSES || route == API_EMBEDDINGS ? "input" : "messages";
}

static int too_long(const struct api_body *b, const struct api_prompt *p, struct api_error *e)
{
    const struct api_request *r = b->request;
    const char *name = api_prompt_param(r->route);
    char param[32];

    snprintf(param, sizeof(param), r->route == API_EMBEDDINGS && r->n_prompts > 1 ? "%s[%zu]" : "%s", name, (size_t)(p - r->prompts));
    if (r->route == API_EMBEDDINGS)
        api_error_set(e, API_CONTEXT_LENGTH_EXCEEDED, param,
                      "%s has %zu tokens, the context %zu: shorten it, or give truncate_prompt_tokens (-1: what fits)", param, p->n,
                      b->n_ctx);
    else if (b->max_tokens > 0 && p->n < b->n_ctx)
        api_error_set(e, API_CONTEXT_LENGTH_EXCEEDED, param,
                      "the prompt has %zu tokens and %s is %" PRId64 ": together more than the context of %zu tokens",
                      p->n, b->request->route == API_RESPONSES ? "max_output_tokens" : "max_tokens", b->max_tokens, b->n_ctx);
    else
        api_error_set(e, API_CONTEXT_LENGTH_EXCEEDED, param,
                      "the prompt has %zu tokens: the context of %zu tokens has no room for an answer", p->n, b->n_ctx);
    e->has_context = true;
    e->n_prompt_tokens = p->n;
    e->n_ctx = b->n_ctx;
    return -EINVAL;
}

int api_budget(struct api_body *b, struct api_error *e)
{
    enum { COMPLETION_DEFAULT = 16 };       /* OpenAI's */
    struct api_request *r = b->request;
    const size_t n_ctx = b->n_ctx;
    /* max_tokens must be given there, so clients give a large one; the answer may say model_context_window_exceeded. */
    const bool upper_limit = r->route == API_MESSAGES;

    for (size_t i = 0; i < r->n_prompts; i++) {
        struct api_prompt *p = &r->prompts[i];
        const size_t wanted = r->route == API_EMBEDDINGS ? 0 : b->max_tokens >= 0 && !upper_limit ? (size_t)b->max_tokens : 1;
        if (b->truncate > 0)
            truncate_prompt(p, (size_t)b->truncate);
        else if (b->truncate < 0 && wanted < n_ctx)
            truncate_prompt(p, n_ctx - wanted);
        if (p->n > n_ctx || wanted > n_ctx - p->n)
            return too_long(b, p, e);
        size_t most = wanted ? n_ctx - p->n : 0;
        p->fills_context = upper_limit && (size_t)b->max_tokens > most;
        if (b->max_tokens >= 0 && !p->fills_context)
            most = (size_t)b->max_tokens;
        else if (r->route == API_COMPLETIONS && most > COMPLETION_DEFAULT)
            most = COMPLETION_DEFAULT;
        if (r->min_tokens > most)
            return api_error_set(e, API_INVALID_VALUE, "min_tokens", "min_tokens must be at most max_tokens (%zu), got %u", most,
                                 r->min_tokens);
        p->max_tokens = (uint32_t)most;
    }
    return 0;
}
