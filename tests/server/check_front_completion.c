/*
 * tests/server/check_front_completion.c - random tokens through the state machine: a stream joined is the reply in one piece, which is the
 * text that a plain search over the decoded tokens gives; every event is JSON; every token that counts has its logprob entry.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "server/completion.h"
#include "server/json_read.h"

enum { MOST_TOKENS = 40, N_CTX = 256 };

static struct gguf *g;
static struct tokenizer *t;
static struct api_model model;
static unsigned random_state = 3;

static unsigned random_below(unsigned n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

static int open_vocab(void **state)
{
    static const char *const names[] = { "m" };

    (void)state;
    if (gguf_open(&g, "tests/data/tokenizers/smollm/vocab.gguf") || tokenizer_open_gguf(&t, g))
        return -1;
    model = (struct api_model){ .names = names, .n_names = 1, .tokenizer = t,
                                .sampling = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 } };
    return 0;
}

static int close_vocab(void **state)
{
    (void)state;
    tokenizer_close(t);
    gguf_close(g);
    return 0;
}

/* What one choice came to: from a stream's chunks, or from a reply. */
struct result {
    struct buf text;
    char finish[16], stop[300];     /* stop: the reason as JSON */
    struct buf tokens, logprobs, offsets;       /* the lists as JSON elements, each with a comma behind */
    size_t n_logprobs, n_events;
    long long n_generated;
};

static void add_list(struct buf *out, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *text = json_dumps(json_array_get(list, i), JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        buf_puts(out, text);
        buf_putc(out, ',');
        free(text);
    }
}

static void add_choice(struct result *r, const json_t *choice)
{
    const json_t *text = json_object_get(choice, "text");
    const json_t *lists = json_object_get(choice, "logprobs");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));

    buf_append(&r->text, json_string_value(text), json_string_length(text));
    add_list(&r->tokens, json_object_get(lists, "tokens"));
    add_list(&r->logprobs, json_object_get(lists, "token_logprobs"));
    add_list(&r->offsets, json_object_get(lists, "text_offset"));
    r->n_logprobs += json_array_size(json_object_get(lists, "tokens"));
    assert_int_equal(json_array_size(json_object_get(lists, "tokens")), json_array_size(json_object_get(lists, "top_logprobs")));
    if (finish) {
        char *stop = json_dumps(json_object_get(choice, "stop_reason"), JSON_ENCODE_ANY);
        snprintf(r->finish, sizeof(r->finish), "%s", finish);
        snprintf(r->stop, sizeof(r->stop), "%s", stop);
        free(stop);
    }
}

static void read_output(struct result *r, struct buf *out, bool stream)
{
    const char *at = out->data ? out->data : "";

    while (*at) {
        struct json_read_error why;
        json_t *object;
        const char *end = stream ? strstr(at, "\n\n") : at + strlen(at);
        assert_non_null(end);
        if (stream) {
            assert_memory_equal(at, "data: ", 6);
            at += 6;
            r->n_events++;
        }
        if (strncmp(at, "[DONE]", 6) != 0) {
            if (json_read(at, (size_t)(end - at), &object, &why))
                fail_msg("%.*s: %s at %zu", (int)(end - at), at, why.message, why.offset);
            const json_t *choice = json_array_get(json_object_get(object, "choices"), 0);
            if (choice)
                add_choice(r, choice);
            const json_t *usage = json_object_get(object, "usage");
            if (json_is_object(usage))
                r->n_generated = json_integer_value(json_object_get(usage, "completion_tokens"));
            json_decref(object);
        }
        at = end + (stream ? 2 : 0);
    }
    buf_clear(out);
}

static struct completion *start(const char *body)
{
    const struct completion_options o = { .tokenizer = t, .fingerprint = "f", .id = "0" };
    struct api_request *request;
    struct completion *c;
    struct api_error e;

    if (api_read(&request, API_COMPLETIONS, &model, N_CTX, body, strlen(body), &e))
        fail_msg("%s: %s", body, e.message);
    assert_int_equal(completion_create(&c, request, &o), 0);
    completion_start(c);
    return c;
}

/* Play the tokens as the engine would: until an end id or all of them; then, or after a cancel, FINISHED. */
static void play(const char *body, bool stream, const int32_t *tokens, size_t n, struct result *r)
{
    struct completion *c = start(body);
    struct engine_request q;
    const int32_t *prompt;
    size_t sequence;

    *r = (struct result){ .n_events = 0 };
    assert_true(completion_engine_request(c, 0, &q));
    prompt = q.tokens;
    struct completion_event e = { .type = ENGINE_PROMPT_LOGPROB, .n_prompt = (uint32_t)q.n_prompt, .at_ns = 1 };
    struct token_logprob top[2];
    for (e.n_tokens = 1; q.prompt_logprobs && e.n_tokens < q.n_prompt; e.n_tokens++) {
        e.token = prompt[e.n_tokens];
        completion_push(c, &e, top);
    }
    enum engine_reason reason = ENGINE_LENGTH;
    e.type = ENGINE_TOKEN;
    for (size_t i = 0; i < n && reason == ENGINE_LENGTH; i++) {
        e.token = tokens[i];
        e.n_tokens = (uint32_t)i;
        e.logprob = -(float)(i + 1) / 7;
        e.n_top = 2;
        top[0] = (struct token_logprob){ tokens[i], e.logprob };
        top[1] = (struct token_logprob){ (tokens[i] + 1) % (int32_t)tokenizer_vocab_size(t), e.logprob - 1 };
        completion_push(c, &e, top);
        if (stream)
            read_output(r, completion_output(c), true);
        for (size_t k = 0; k < q.n_end_ids; k++)
            if (q.end_ids[k] == tokens[i])
                reason = ENGINE_STOP;
        /* The engine hears of the cancel late: what it sent meanwhile is dropped. */
        if (random_below(3) == 0 && completion_next_cancel(c, &sequence))
            reason = ENGINE_CANCELLED;
    }
    e.type = ENGINE_FINISHED;
    e.reason = reason;
    completion_push(c, &e, top);
    assert_true(completion_done(c));
    assert_true(completion_closed(c));
    assert_null(completion_error(c));
    read_output(r, completion_output(c), stream);
    completion_free(c);
}

static void free_result(struct result *r)
{
    buf_free(&r->text);
    buf_free(&r->tokens);
    buf_free(&r->logprobs);
    buf_free(&r->offsets);
}

/* The text of tokens[n], of which the first `skip` are not looked at for stop strings; the definition, without state. */
static void expected_text(const int32_t *tokens, size_t n, size_t skip, const char *const *stops, size_t n_stops,
                          struct buf *text, bool *stopped)
{
    struct detokenizer d;
    size_t from = 0, cut = SIZE_MAX, end = SIZE_MAX;

    detokenizer_init(&d, t, true, false);
    for (size_t i = 0; i < n; i++) {
        if (i == skip)
            from = text->len;
        detokenizer_push(&d, tokens[i], text);
    }
    if (skip >= n)
        from = text->len;
    detokenizer_finish(&d, text);
    for (size_t at = from; at <= text->len && end == SIZE_MAX; at++)
        for (size_t k = 0; k < n_stops; k++) {
            const size_t length = strlen(stops[k]);
            if (at - from >= length && memcmp(text->data + at - length, stops[k], length) == 0 && at - length < cut) {
                cut = at - length;
                end = at;
            }
        }
    *stopped = end != SIZE_MAX;
    if (*stopped)
        text->len = cut;
}

static bool has_nul(int32_t id)
{
    size_t n;
    const char *piece = tokenizer_piece(t, id % (int32_t)tokenizer_vocab_size(t), &n);

    return memchr(piece, 0, n) != NULL;
}

/* Byte tokens often, so that characters are cut and never complete. No NUL, which jansson does not read; play() shows the next id, too. */
static int32_t random_token(void)
{
    for (;;) {
        const int32_t id = (int32_t)(random_below(2) ? random_below((unsigned)tokenizer_vocab_size(t)) : 20 + random_below(250));
        if (!has_nul(id) && !has_nul(id + 1))
            return id;
    }
}

/* Stop strings that are likely: a few bytes of the text itself, whole characters. */
static void write_stops(struct buf *body, const struct buf *text, char stops[2][16], size_t n)
{
    for (size_t k = 0; k < n; k++) {
        size_t at = random_below((unsigned)text->len), end = at + 1 + random_below(6);
        while (at && ((unsigned char)text->data[at] & 0xc0) == 0x80)
            at--;
        while (end < text->len && ((unsigned char)text->data[end] & 0xc0) == 0x80)
            end++;
        if (end > text->len)
            end = text->len;
        snprintf(stops[k], 16, "%.*s", (int)(end - at), text->data + at);
    }
    json_t *list = json_array();
    for (size_t k = 0; k < n; k++)
        json_array_append_new(list, json_string(stops[k]));
    char *json = json_dumps(list, 0);
    buf_printf(body, ",\"stop\":%s", json);
    free(json);
    json_decref(list);
}

static void random_tokens(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++) {
        int32_t tokens[MOST_TOKENS];
        const size_t n = 1 + random_below(MOST_TOKENS - 1);
        const size_t min_tokens = random_below(4) ? 0 : random_below((unsigned)n + 1);
        const size_t n_stops = random_below(3);
        const char *const list[] = { "", "" };
        char stops[2][16] = { "", "" };
        const char *used[2] = { stops[0], stops[1] };
        struct buf all = { 0 }, want = { 0 }, body = { 0 };
        struct result whole, streamed;
        bool stopped;

        for (size_t i = 0; i < n; i++)
            tokens[i] = random_token();
        expected_text(tokens, n, 0, list, 0, &all, &stopped);
        buf_printf(&body, "{\"prompt\":[50,51,52],\"max_tokens\":%zu,\"min_tokens\":%zu,\"ignore_eos\":true,\"logprobs\":2", n, min_tokens);
        if (n_stops && all.len)
            write_stops(&body, &all, stops, n_stops);
        expected_text(tokens, n, min_tokens, used, all.len ? n_stops : 0, &want, &stopped);
        buf_putc(&body, '}');
        play(body.data, false, tokens, n, &whole);
        body.len--;
        buf_puts(&body, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
        play(body.data, true, tokens, n, &streamed);

        assert_int_equal(whole.text.len, want.len);
        if (want.len) {
            assert_memory_equal(whole.text.data, want.data, want.len);
            assert_string_equal(streamed.text.data, whole.text.data);
        }
        assert_int_equal(streamed.text.len, want.len);
        assert_string_equal(whole.finish, stopped ? "stop" : "length");
        assert_string_equal(streamed.finish, whole.finish);
        assert_string_equal(streamed.stop, whole.stop);
        assert_int_equal(whole.n_logprobs, whole.n_generated);
        assert_int_equal(streamed.n_logprobs, whole.n_logprobs);
        assert_int_equal(streamed.n_generated, whole.n_generated);
        assert_string_equal(streamed.tokens.data, whole.tokens.data);
        assert_string_equal(streamed.logprobs.data, whole.logprobs.data);
        assert_string_equal(streamed.offsets.data, whole.offsets.data);
        if (!stopped)
            assert_int_equal(whole.n_generated, n);
        free_result(&whole);
        free_result(&streamed);
        buf_free(&all);
        buf_free(&want);
        buf_free(&body);
    }
}

/* With echo: the prompt's text before it, its entries before its entries, offsets without a gap. */
static void echoed(void **state)
{
    static const char prompt[] = "Hello \xe6\x9d\xb1\xe4\xba\xac world";
    struct token_ids ids = { 0 };
    int32_t tokens[4];

    (void)state;
    assert_int_equal(tokenizer_encode(t, prompt, strlen(prompt), NULL, 0, &ids), 0);
    for (int i = 0; i < 4; i++)
        tokens[i] = ids.ids[i];
    for (int form = 0; form < 2; form++) {
        struct buf body = { 0 };
        struct result whole, streamed;
        buf_puts(&body, "{\"prompt\":");
        if (form == 0)
            buf_printf(&body, "\"%s\"", prompt);
        for (size_t i = 0; form == 1 && i < ids.n; i++)
            buf_printf(&body, "%s%d", i ? "," : "[", ids.ids[i]);
        buf_puts(&body, form == 1 ? "]" : "");
        buf_puts(&body, ",\"max_tokens\":4,\"echo\":true,\"logprobs\":1}");
        play(body.data, false, tokens, 4, &whole);
        body.len--;
        buf_puts(&body, ",\"stream\":true}");
        play(body.data, true, tokens, 4, &streamed);
        assert_memory_equal(whole.text.data, prompt, strlen(prompt));
        assert_string_equal(streamed.text.data, whole.text.data);
        assert_int_equal(whole.n_logprobs, ids.n + 4);
        assert_memory_equal(whole.logprobs.data, "null,", 5);
        assert_string_equal(streamed.logprobs.data, whole.logprobs.data);
        assert_string_equal(streamed.offsets.data, whole.offsets.data);
        assert_int_equal(utf8_check(whole.text.data, whole.text.len), whole.text.len);
        free_result(&whole);
        free_result(&streamed);
        buf_free(&body);
    }
    free(ids.ids);
}

/* Mutated bodies: a request or an error that says what it is, never anything else. */
static void mutated_bodies(void **state)
{
    static const char *const seeds[] = {
        "{\"model\":\"m\",\"prompt\":[\"a b\",\"c\"],\"n\":2,\"max_tokens\":5,\"stop\":[\"x\",\"yy\"],"
        "\"logit_bias\":{\"5\":1.5,\"6\":false},\"seed\":7}",
        "{\"prompt\":[[1,2],[3]],\"echo\":true,\"logprobs\":3,\"temperature\":0.5,\"top_p\":0.9,\"top_k\":5,"
        "\"min_p\":0.1,\"stop_token_ids\":[1,2]}",
        "{\"prompt\":\"\xe6\x9d\xb1\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"timeout\":1.5,"
        "\"truncate_prompt_tokens\":-1}",
        "{\"prompt\":\"a\",\"logit_bias\":[[1,2],[3,-4]],\"min_tokens\":1,\"best_of\":1,\"user\":null,\"dry_base\":1,\"request_id\":\"r\"}",
    };
    static const char *const pieces[] = {
        "null", "-1", "1e999", "[]", "{}", "\"", "true", "16.0", "0.5", ",", "9223372036854775808", "\\u0000", "[[",
    };

    (void)state;
    for (int round = 0; round < 60000; round++) {
        struct buf body = { 0 };
        struct api_request *r = NULL;
        struct api_error e = { .code = 0 };
        const char *seed = seeds[random_below(4)];
        const size_t n = strlen(seed), at = random_below((unsigned)n), skip = random_below(6);
        buf_append(&body, seed, at);
        if (random_below(3))
            buf_puts(&body, pieces[random_below(sizeof(pieces) / sizeof(pieces[0]))]);
        else
            buf_putc(&body, (char)random_below(256));
        if (at + skip < n)
            buf_append(&body, seed + at + skip, n - at - skip);
        if (api_read(&r, API_COMPLETIONS, &model, N_CTX, body.data, body.len, &e) == 0) {
            assert_true(r->n_prompts >= 1 && r->prompts[0].n >= 1 && r->n >= 1 && r->n_prompts * r->n <= API_MAX_SEQUENCES);
            assert_true(r->sampling.top_p > 0 && r->sampling.top_p <= 1 && r->sampling.temperature >= 0);
            api_request_free(r);
        } else {
            assert_null(r);
            assert_true(e.message[0] && api_error_status(&e) >= 400 && api_error_status(&e) != 500);
        }
        buf_free(&body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_tokens), cmocka_unit_test(echoed), cmocka_unit_test(mutated_bodies) };

    return cmocka_run_group_tests(tests, open_vocab, close_vocab);
}
