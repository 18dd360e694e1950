/*
 * tests/server/check_embedding.c - from hidden states to a vector, from vectors in any order to one reply, and what ends a request early.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/embedding.h"
#include "server/json_read.h"
#include "server/json_write.h"
#include "server/pooling.h"

static void unit_length(void **state)
{
    const float a[] = { 1, 2, -3 }, b[] = { 2, 2, 3 };
    double sum[3] = { 0 }, none[3] = { 0 }, nan_sum[] = { 1, NAN, 0 }, infinite[] = { 1, 0, INFINITY };
    float out[3];

    (void)state;
    pooling_add(sum, a, 3);
    pooling_add(sum, b, 3);
    assert_true(pooling_finish(out, sum, 3));
    assert_true(out[0] == 0.6f && out[1] == 0.8f && out[2] == 0);       /* of (3, 4, 0) */
    assert_true(pooling_finish(out, none, 3));
    assert_true(out[0] == 0 && out[1] == 0 && out[2] == 0);
    assert_false(pooling_finish(out, nan_sum, 3));
    assert_false(pooling_finish(out, infinite, 3));
}

/* Floats at the ends of their range neither overflow nor vanish. */
static void extreme_values(void **state)
{
    const float values[] = { 3e38f, 1e-45f };
    float out[2];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        double sum[2] = { 0 };
        const float row[] = { values[i], -values[i] };
        pooling_add(sum, row, 2);
        pooling_add(sum, row, 2);
        assert_true(pooling_finish(out, sum, 2));
        assert_true(out[0] == (float)sqrt(0.5) && out[1] == -out[0]);
    }
}

/* RFC 4648, section 10. */
static void base64(void **state)
{
    static const char *const pairs[][2] = { { "", "\"\"" }, { "f", "\"Zg==\"" }, { "fo", "\"Zm8=\"" }, { "foo", "\"Zm9v\"" },
                                            { "foob", "\"Zm9vYg==\"" }, { "fooba", "\"Zm9vYmE=\"" }, { "foobar", "\"Zm9vYmFy\"" },
                                            { "\xff\xef\xfe", "\"/+/+\"" } };
    struct buf b = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        buf_clear(&b);
        json_write_base64(&b, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(b.data, pairs[i][1]);
    }
    buf_free(&b);
}

/* Of n inputs: one token each, but input 0 has two. */
static struct embedding *make(size_t n, bool coded)
{
    struct api_request *r = calloc(1, sizeof(*r));
    struct embedding *m;

    r->route = API_EMBEDDINGS;
    strcpy(r->model, "m");
    r->n_prompts = n;
    r->base64 = coded;
    r->priority = 7;
    r->prompts = calloc(n, sizeof(*r->prompts));
    for (size_t i = 0; i < n; i++) {
        r->prompts[i].ids = calloc(2, sizeof(int32_t));
        r->prompts[i].n = i ? 1 : 2;
    }
    assert_int_equal(embedding_create(&m, r, POOLING_MEAN), 0);
    return m;
}

static void answer(struct embedding *m, size_t input)
{
    const float vector[] = { (float)input, 0.1f, -1e-30f };
    struct completion_event e = { .sequence = (uint32_t)input, .type = ENGINE_EMBEDDING, .n_embedding = 3 };

    embedding_push(m, &e, vector);
    e = (struct completion_event){ .sequence = (uint32_t)input, .type = ENGINE_FINISHED, .reason = ENGINE_STOP, .queue_ns = 5 + input };
    embedding_push(m, &e, NULL);
}

static size_t submit_all(struct embedding *m, size_t first)
{
    struct engine_request q;
    size_t input, n = 0;

    while (embedding_next(m, &input, &q)) {
        assert_int_equal(input, first + n++);
        assert_int_equal(q.pooling, POOLING_MEAN);
        assert_int_equal(q.max_tokens, 0);
        assert_int_equal(q.n_prompt, input ? 1 : 2);
        assert_int_equal(q.priority, 7);
    }
    return n;
}

static void any_order(void **state)
{
    enum { N = 300 };
    size_t waiting[N], n_waiting = 0, n_submitted = 0;
    unsigned random_state = 5;

    (void)state;
    struct embedding *m = make(N, false);
    while (!embedding_done(m)) {
        const size_t n = submit_all(m, n_submitted);
        for (size_t i = 0; i < n; i++)
            waiting[n_waiting++] = n_submitted++;
        assert_true(n_waiting == API_MAX_SEQUENCES || n_submitted == N);
        random_state = random_state * 1664525 + 1013904223;
        const size_t at = (random_state >> 8) % n_waiting;
        answer(m, waiting[at]);
        waiting[at] = waiting[--n_waiting];
    }
    assert_true(embedding_closed(m));
    assert_int_equal(n_submitted, N);

    json_t *reply;
    struct json_read_error why;
    assert_int_equal(json_read(embedding_output(m)->data, embedding_output(m)->len, &reply, &why), 0);
    const json_t *data = json_object_get(reply, "data");
    assert_int_equal(json_array_size(data), N);
    for (size_t i = 0; i < N; i++) {
        const json_t *vector = json_object_get(json_array_get(data, i), "embedding");
        assert_int_equal(json_integer_value(json_object_get(json_array_get(data, i), "index")), i);
        assert_true(json_number_value(json_array_get(vector, 0)) == (double)i);
        assert_true((float)json_number_value(json_array_get(vector, 1)) == 0.1f);
        assert_true((float)json_number_value(json_array_get(vector, 2)) == -1e-30f);
    }
    assert_int_equal(json_integer_value(json_object_get(json_object_get(reply, "usage"), "total_tokens")), N + 1);
    json_decref(reply);
    struct completion_summary s;
    embedding_summarise(m, &s);
    assert_string_equal(s.finish_reason, "stop");
    assert_true(s.n_prompt == N + 1 && s.queue_ns == 5);
    embedding_free(m);
}

static void a_full_queue(void **state)
{
    struct engine_request q;
    size_t input;

    (void)state;
    struct embedding *m = make(3, true);
    assert_true(embedding_next(m, &input, &q));
    assert_true(embedding_next(m, &input, &q));
    assert_int_equal(input, 1);
    assert_true(embedding_refused(m, 1));       /* input 0 is there */
    answer(m, 0);
    assert_false(embedding_done(m));
    assert_true(embedding_closed(m));
    assert_true(embedding_next(m, &input, &q));
    assert_int_equal(input, 1);
    assert_false(embedding_refused(m, 1));
    assert_int_equal(submit_all(m, 1), 2);
    answer(m, 2);
    answer(m, 1);
    assert_true(embedding_done(m) && !embedding_error(m));
    assert_non_null(strstr(embedding_output(m)->data, "\"index\":1,\"embedding\":\"AACAP83MzD1gQqKN\"}"));
    embedding_free(m);
}

static void failures(void **state)
{
    static const struct { enum engine_reason reason; enum api_code code; } ends[] = {
        { ENGINE_CORRUPTED, API_CORRUPTED_OUTPUT }, { ENGINE_DEADLINE, API_DEADLINE_EXCEEDED }, { ENGINE_ABORTED, API_DRAINING },
        { ENGINE_FAILED, API_INTERNAL_ERROR },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct embedding *m = make(200, false);
        size_t input, n_cancels = 0;
        assert_int_equal(submit_all(m, 0), API_MAX_SEQUENCES);
        assert_false(embedding_next_cancel(m, &input));
        answer(m, 1);
        embedding_push(m, &(struct completion_event){ .sequence = 0, .type = ENGINE_FINISHED, .reason = ends[i].reason }, NULL);
        assert_true(embedding_done(m) && !embedding_closed(m));
        assert_int_equal(embedding_error(m)->code, ends[i].code);
        assert_int_equal(submit_all(m, API_MAX_SEQUENCES), 0);          /* the rest is not computed */
        while (embedding_next_cancel(m, &input))
            assert_int_equal(input, n_cancels++);
        assert_int_equal(n_cancels, API_MAX_SEQUENCES);
        answer(m, 2);                                                   /* it was faster than its cancel */
        for (size_t k = 3; k < API_MAX_SEQUENCES; k++)
            embedding_push(m, &(struct completion_event){ .sequence = (uint32_t)k, .type = ENGINE_FINISHED, .reason = ENGINE_CANCELLED },
                           NULL);
        assert_true(embedding_closed(m));
        assert_int_equal(embedding_error(m)->code, ends[i].code);
        embedding_free(m);
    }
}

static void nobody_waits(void **state)
{
    struct completion_summary s;

    (void)state;
    struct embedding *m = make(2, false);
    assert_int_equal(submit_all(m, 0), 2);
    embedding_abort(m, NULL);
    assert_true(embedding_done(m) && !embedding_error(m));
    embedding_close(m);
    embedding_close(m);
    assert_true(embedding_closed(m));
    embedding_summarise(m, &s);
    assert_string_equal(s.finish_reason, "abort");
    embedding_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unit_length), cmocka_unit_test(extreme_values), cmocka_unit_test(base64), cmocka_unit_test(any_order),
        cmocka_unit_test(a_full_queue), cmocka_unit_test(failures), cmocka_unit_test(nobody_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
