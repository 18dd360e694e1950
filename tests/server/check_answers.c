/*
 * tests/server/check_answers.c - the events of /v1/responses and /v1/messages as engine events come: what is written after each, byte for
 * byte but for ids, and what an end says that nobody wanted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/completion.h"

static struct gguf *g;
static struct tokenizer *t;
static struct chat_template *template;
static struct api_model model;

static int open_vocab(void **state)
{
    static const char source[] = "{{ messages[-1].content }}";
    static const char *const names[] = { "m" };
    struct template_error why;

    (void)state;
    if (gguf_open(&g, "tests/data/tokenizers/smollm/vocab.gguf") || tokenizer_open_gguf(&t, g) ||
        chat_template_compile(&template, source, strlen(source), &why))
        return -1;
    model = (struct api_model){ .names = names, .n_names = 1, .tokenizer = t, .chat_template = template,
                                .sampling = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 } };
    return 0;
}

static int close_vocab(void **state)
{
    (void)state;
    chat_template_free(template);
    tokenizer_close(t);
    gguf_close(g);
    return 0;
}

static struct completion *start(enum api_route route, const char *body)
{
    const struct completion_options o = { .tokenizer = t, .fingerprint = "f", .label = "req-1", .id = "0", .created = 7 };
    struct api_request *request;
    struct completion *c;
    struct api_error e;

    if (api_read(&request, route, &model, 256, body, strlen(body), &e))
        fail_msg("%s: %s", body, e.message);
    assert_int_equal(completion_create(&c, request, &o), 0);
    completion_start(c);
    return c;
}

static void push(struct completion *c, enum engine_event_type type, const char *text, enum engine_reason reason, uint32_t n_cached)
{
    struct completion_event e = { .type = type, .reason = reason, .n_cached = n_cached, .at_ns = 1 };
    struct token_ids ids = { 0 };

    if (text) {
        assert_int_equal(tokenizer_encode(t, text, strlen(text), NULL, 0, &ids), 0);
        assert_int_equal(ids.n, 1);
        e.token = ids.ids[0];
        free(ids.ids);
    }
    completion_push(c, &e, NULL);
}

/* What was written since the last call. An id of a part, 24 characters after its prefix, is compared as ID. */
static void expect(struct completion *c, const char *want)
{
    static const char *const prefixes[] = { "\"msg_", "\"fc_", "\"rs_", "\"call_", "\"toolu_" };
    struct buf *out = completion_output(c), got = { 0 };

    for (size_t i = 0; i < out->len;) {
        size_t n = 0;
        for (size_t k = 0; k < sizeof(prefixes) / sizeof(prefixes[0]) && !n; k++)
            if (strncmp(out->data + i, prefixes[k], strlen(prefixes[k])) == 0 && out->data[i + strlen(prefixes[k]) + 24] == '"')
                n = strlen(prefixes[k]);
        buf_append(&got, out->data + i, n ? n : 1);
        if (n)
            buf_puts(&got, "ID");
        i += n ? n + 24 : 1;
    }
    assert_string_equal(got.data ? got.data : "", want);
    buf_free(&got);
    buf_clear(out);
}

static void expect_end(struct completion *c)
{
    assert_true(completion_done(c));
    assert_true(completion_closed(c));
    completion_free(c);
}

#define RESPONSE(status, error, output, usage) \
    "{\"id\":\"resp_0\",\"object\":\"response\",\"created_at\":7,\"status\":\"" status "\",\"error\":" error \
    ",\"incomplete_details\":null,\"instructions\":null,\"model\":\"m\",\"output\":[" output "],\"parallel_tool_calls\":true," \
    "\"temperature\":1,\"top_p\":1,\"tool_choice\":\"auto\",\"tools\":[],\"max_output_tokens\":null,\"previous_response_id\":null," \
    "\"metadata\":{},\"text\":{\"format\":{\"type\":\"text\"}},\"usage\":" usage "}"
#define RESPONSE_EVENT(type, n, response) \
    "event: response." type "\ndata: {\"type\":\"response." type "\",\"sequence_number\":" n ",\"response\":" response "}\n\n"
#define BEGIN RESPONSE_EVENT("created", "0", RESPONSE("in_progress", "null", "", "null")) \
    RESPONSE_EVENT("in_progress", "1", RESPONSE("in_progress", "null", "", "null"))
#define RESPONSE_USAGE(n_out, total) \
    "{\"input_tokens\":1,\"input_tokens_details\":{\"cached_tokens\":0,\"cache_write_tokens\":0},\"output_tokens\":" n_out \
    ",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":" total "}"
#define ITEM(status, content) \
    "{\"type\":\"message\",\"id\":\"msg_ID\",\"role\":\"assistant\",\"status\":\"" status "\",\"content\":[" content "]}"
#define TEXT(text) "{\"type\":\"output_text\",\"text\":\"" text "\",\"annotations\":[],\"logprobs\":[]}"
#define EVENT(type, n, rest) "event: response." type "\ndata: {\"type\":\"response." type "\",\"sequence_number\":" n "," rest "}\n\n"
#define PLACE "\"item_id\":\"msg_ID\",\"output_index\":0,\"content_index\":0,"

static void test_responses(void **state)
{
    struct completion *c = start(API_RESPONSES, "{\"input\":\"Hello\",\"stream\":true}");

    (void)state;
    push(c, ENGINE_PROGRESS, NULL, 0, 0);
    expect(c, "");
    push(c, ENGINE_TOKEN, "Hello", 0, 0);
    const size_t repeated = strlen(BEGIN);
    assert_int_equal(completion_take_echo_bytes(c), repeated);
    expect(c, BEGIN EVENT("output_item.added", "2", "\"output_index\":0,\"item\":" ITEM("in_progress", ""))
           EVENT("content_part.added", "3", PLACE "\"part\":" TEXT(""))
           EVENT("output_text.delta", "4", PLACE "\"delta\":\"Hello\",\"logprobs\":[]"));
    push(c, ENGINE_TOKEN, " world", 0, 0);
    expect(c, EVENT("output_text.delta", "5", PLACE "\"delta\":\" world\",\"logprobs\":[]"));
    push(c, ENGINE_FINISHED, NULL, ENGINE_STOP, 0);
    expect(c, EVENT("output_text.done", "6", PLACE "\"text\":\"Hello world\",\"logprobs\":[]")
           EVENT("content_part.done", "7", PLACE "\"part\":" TEXT("Hello world"))
           EVENT("output_item.done", "8", "\"output_index\":0,\"item\":" ITEM("completed", TEXT("Hello world")))
           RESPONSE_EVENT("completed", "9", RESPONSE("completed", "null", ITEM("completed", TEXT("Hello world")),
                                                     RESPONSE_USAGE("2", "3"))));
    expect_end(c);
}

/* No item, but the whole frame. */
static void test_responses_without_text(void **state)
{
    struct completion *c = start(API_RESPONSES, "{\"input\":\"Hello\",\"stream\":true}");

    (void)state;
    push(c, ENGINE_FINISHED, NULL, ENGINE_STOP, 0);
    expect(c, BEGIN RESPONSE_EVENT("completed", "2", RESPONSE("completed", "null", "", RESPONSE_USAGE("0", "1"))));
    expect_end(c);
    c = start(API_RESPONSES, "{\"input\":\"Hello\"}");
    push(c, ENGINE_FINISHED, NULL, ENGINE_STOP, 0);
    expect(c, RESPONSE("completed", "null", "", RESPONSE_USAGE("0", "1")));
    expect_end(c);
}

/* A reader that is too slow: completion_abort() without an error. */
static void test_responses_cut(void **state)
{
    struct completion *c = start(API_RESPONSES, "{\"input\":\"Hello\",\"stream\":true}");

    (void)state;
    push(c, ENGINE_TOKEN, "Hello", 0, 0);
    buf_clear(completion_output(c));
    completion_abort(c, NULL);
    expect(c, EVENT("output_text.done", "5", PLACE "\"text\":\"Hello\",\"logprobs\":[]")
           EVENT("content_part.done", "6", PLACE "\"part\":" TEXT("Hello"))
           EVENT("output_item.done", "7", "\"output_index\":0,\"item\":" ITEM("incomplete", TEXT("Hello")))
           RESPONSE_EVENT("failed", "8", RESPONSE("failed", "{\"code\":\"server_error\",\"message\":\"the answer was cut off\"}",
                                                  ITEM("incomplete", TEXT("Hello")), RESPONSE_USAGE("1", "2"))));
    completion_close_sequence(c, 0);
    expect_end(c);
}

#define MESSAGE_USAGE(input, cached, n_out) \
    "\"usage\":{\"input_tokens\":" input ",\"cache_read_input_tokens\":" cached ",\"cache_creation_input_tokens\":0," \
    "\"output_tokens\":" n_out "}"
#define MESSAGE_START(usage) \
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_0\",\"type\":\"message\",\"role\":\"assistant\"," \
    "\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null," usage "}}\n\n" \
    "event: ping\ndata: {\"type\":\"ping\"}\n\n"
#define BLOCK_START \
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\"," \
    "\"text\":\"\"}}\n\n"
#define BLOCK_DELTA(text) \
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\"," \
    "\"text\":\"" text "\"}}\n\n"
#define BLOCK_STOP "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"

/* What the cache had is not in input_tokens, at the start, when the prompt's progress has told it, and at the end. */
static void test_messages(void **state)
{
    struct completion *c = start(API_MESSAGES, "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello world Hello world\"}],"
                                 "\"max_tokens\":9,\"stream\":true}");

    (void)state;
    push(c, ENGINE_PROGRESS, NULL, 0, 3);
    expect(c, "");
    push(c, ENGINE_TOKEN, "Hello", 0, 0);
    expect(c, MESSAGE_START(MESSAGE_USAGE("2", "3", "1")) BLOCK_START BLOCK_DELTA("Hello"));
    push(c, ENGINE_TOKEN, " world", 0, 0);
    expect(c, BLOCK_DELTA(" world"));
    push(c, ENGINE_FINISHED, NULL, ENGINE_LENGTH, 3);
    expect(c, BLOCK_STOP "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\","
           "\"stop_sequence\":null}," MESSAGE_USAGE("2", "3", "2") "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    expect_end(c);
}

static void test_messages_cut(void **state)
{
    struct completion *c = start(API_MESSAGES, "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"max_tokens\":9,"
                                 "\"stream\":true}");

    (void)state;
    push(c, ENGINE_TOKEN, "Hello", 0, 0);
    buf_clear(completion_output(c));
    completion_abort(c, NULL);
    expect(c, BLOCK_STOP "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","
           "\"message\":\"the answer was cut off\"},\"request_id\":\"req-1\"}\n\n");
    completion_close_sequence(c, 0);
    expect_end(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_responses_without_text),
        cmocka_unit_test(test_responses_cut),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_messages_cut),
    };
    return cmocka_run_group_tests(tests, open_vocab, close_vocab);
}
