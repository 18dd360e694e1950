/*
 * check_load.c - files with weights that are no numbers, matrices of another shape, tensors at any alignment, more workers than rows, and the
 * bytes of each KV type.
 *
 * The models are tiny ones, damaged in place. What must not be damaged is compared with the whole file's: the events of a request.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "server/batcher.h"
#include "tests/model/tiny_model.h"

enum { MET = 5, PROMPT = 70, ANSWER = 6 };      /* MET: the token whose embedding is damaged */

static char path[] = "/tmp/fourway-load-XXXXXX";
static char said[8192];         /* warnings and errors, one a line */

static void take_line(void *arg, enum log_level level, const char *message)
{
    (void)arg;
    if (level >= LOG_WARN)
        snprintf(said + strlen(said), sizeof(said) - strlen(said), "%s: %s\n", level == LOG_ERROR ? "error" : "warn", message);
}

static struct gguf *reopen(void)
{
    struct gguf *g;

    said[0] = 0;
    assert_int_equal(gguf_open(&g, path), 0);
    return g;
}

static struct gguf *whole_file(void)
{
    tiny_model_write(path, TINY_LLAMA);
    return reopen();
}

/* n bytes of a tensor, `at` bytes into its data. */
static void damage(const char *name, uint64_t at, const void *bytes, size_t n)
{
    struct gguf *g = reopen();
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    int fd = open(path, O_WRONLY);

    assert_non_null(t);
    assert_true(at + n <= t->bytes);
    assert_int_equal(pwrite(fd, bytes, n, (off_t)(t->offset + at)), n);
    close(fd);
    gguf_close(g);
}

static int try_open(const struct gguf *g, bool allow)
{
    struct model_options o = { .n_threads = 2, .n_virtual_nodes = 2, .n_ctx = 128, .max_batch = 1, .allow_nonfinite = allow };
    struct model *m;
    int err = model_open(&m, g, &o, NULL, NULL);

    model_close(m);
    return err;
}

/* Refused with one line that has `error`; loaded with --allow-nonfinite and one line that has `warning`. */
static void check_damage(const char *name, uint64_t at, const void *bytes, size_t n, const char *error, const char *warning)
{
    gguf_close(whole_file());
    damage(name, at, bytes, n);
    struct gguf *g = reopen();
    assert_int_equal(try_open(g, false), -EINVAL);
    assert_non_null(strstr(said, error));
    assert_non_null(strstr(said, name));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    said[0] = 0;
    assert_int_equal(try_open(g, true), 0);
    assert_non_null(strstr(said, warning));
    assert_non_null(strstr(said, name));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    gguf_close(g);
}

static const uint8_t nan_f32[] = { 0, 0, 0xc0, 0x7f }, inf_f32[] = { 0, 0, 0x80, 0xff }, nan_half[] = { 0, 0x7e }, inf_half[] = { 0, 0x7c },
                     nan_bf16[] = { 0xc0, 0x7f };

static void weights_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
#define IN_ONE "in 1 row (in all 1 row of 1 tensor)"
    /* Plain types: any value. Rows are 256 values. */
    check_damage("blk.1.attn_k.weight", 4 * (256 * 37 + 255), nan_f32, 4, "row 37: a value is not finite", IN_ONE);
    check_damage("blk.1.attn_k.weight", 4 * (256 * 37 + 255), inf_f32, 4, "row 37: a value is not finite", IN_ONE);
    check_damage("blk.0.attn_k.weight", 0, nan_half, 2, "not finite", IN_ONE);      /* F16, and q and k rows change places */
    check_damage("blk.1.attn_v.weight", 2 * 256 * 127, nan_bf16, 2, "row 127: a value", IN_ONE);
    /* Quantised: scales, minima, d and dmin of K-quants; blocks of 18, 20, 34, 144 and 210 bytes. */
    check_damage("blk.0.attn_output.weight", 18 * 8 * 255 + 18 * 7, inf_half, 2, "row 255: a scale or minimum", IN_ONE);
    check_damage("blk.0.ffn_gate.weight", 20 * 8 * 511 + 2, nan_half, 2, "row 511: a scale or minimum", IN_ONE);
    check_damage("output.weight", 210 * 599 + 208, nan_half, 2, "row 599: a scale or minimum", IN_ONE);
    check_damage("token_embd.weight", 34 * 8 * MET, nan_half, 2, "row 5: a scale or minimum", IN_ONE);
    check_damage("blk.1.ffn_down.weight", 144 * 2 * 200 + 144 + 2, inf_half, 2, "row 200: a scale or minimum", IN_ONE);
    /* Norms, which every node copies. */
    check_damage("output_norm.weight", 4 * 255, nan_f32, 4, "value 255 is not finite", IN_ONE);
    check_damage("blk.1.ffn_norm.weight", 0, inf_f32, 4, "value 0 is not finite", IN_ONE);
#undef IN_ONE
    /* Several. */
    gguf_close(whole_file());
    damage("blk.1.ffn_norm.weight", 8, nan_f32, 4);
    damage("blk.0.attn_v.weight", 210 * 3 + 208, nan_half, 2);
    damage("blk.0.attn_v.weight", 210 * 99 + 208, inf_half, 2);
    struct gguf *g = reopen();
    assert_int_equal(try_open(g, true), 0);
    assert_non_null(strstr(said, "\"blk.0.attn_v.weight\" has NaN or infinity in 2 rows (in all 3 rows of 2 tensors)"));
    gguf_close(g);
}

static void denormals_are_numbers(void **state)
{
    static const uint8_t denormal[] = { 1, 0, 0, 0 };

    (void)state;
    gguf_close(whole_file());
    damage("blk.1.attn_k.weight", 0, denormal, 4);
    damage("blk.0.attn_k.weight", 0, denormal, 2);
    damage("blk.1.attn_v.weight", 0, denormal, 2);
    damage("blk.0.attn_output.weight", 0, denormal, 2);
    damage("output_norm.weight", 0, denormal, 4);
    struct gguf *g = reopen();
    assert_int_equal(try_open(g, false), 0);
    assert_string_equal(said, "");
    gguf_close(g);
}

/* A file in which a tensor has these dimensions instead of its own. */
static void check_shape(enum tiny_kind kind, const char *name, const uint64_t ne[3], const char *error)
{
    tiny_model_write(path, kind);
    struct gguf *g = reopen();
    struct gguf_tensor *t = (struct gguf_tensor *)gguf_find_tensor(g, name);

    assert_non_null(t);
    t->n_dims = ne[2] > 1 ? 3 : 2;
    memcpy(t->ne, ne, 3 * sizeof(*ne));
    assert_int_equal(try_open(g, false), -EINVAL);
    assert_non_null(strstr(said, error));
    assert_non_null(strstr(said, name));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    gguf_close(g);
}

static void matrices_of_another_shape_are_refused(void **state)
{
    (void)state;
    check_shape(TINY_LLAMA, "blk.1.attn_k.weight", (uint64_t[]){ 128, 256, 1 }, "is {128, 256}, expected {256, 128}");
    check_shape(TINY_LLAMA, "blk.1.attn_k.weight", (uint64_t[]){ 256, 128, 2 }, "is a stack of 2 x 1 matrices, expected 1");
    check_shape(TINY_LLAMA, "token_embd.weight", (uint64_t[]){ 256, 600, 3 }, "has no shape {embedding_length, vocabulary}");
    check_shape(TINY_EXPERTS, "blk.0.ffn_down_exps.weight", (uint64_t[]){ 256, 256, 7 }, "has 3 dimensions, the last 7, expected 3 and");
    check_shape(TINY_EXPERTS, "blk.0.ffn_down_exps.weight", (uint64_t[]){ 256, 256, 1 }, "has 2 dimensions, the last 256, expected 3 and");
}

/* Events of up to 4 requests. */
struct events {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct { struct buf bytes; bool finished; enum engine_reason reason; } of[4];       /* under lock */
};

static void on_event(void *arg, const struct engine_event *e)
{
    struct events *all = arg;

    pthread_mutex_lock(&all->lock);
    if (e->type == ENGINE_FINISHED) {
        all->of[e->id].finished = true;
        all->of[e->id].reason = e->reason;
        pthread_cond_broadcast(&all->changed);
    } else {
        buf_append(&all->of[e->id].bytes, &e->token, sizeof(e->token));
        buf_append(&all->of[e->id].bytes, &e->logprob, sizeof(e->logprob));
    }
    pthread_mutex_unlock(&all->lock);
}

static void free_events(struct events *all)
{
    for (size_t i = 0; i < 4; i++)
        buf_free(&all->of[i].bytes);
}

/* Four prompts at once; that of number `meets` has the token MET at its end. */
static void run(const struct gguf *g, struct engine_options o, size_t meets, struct events *all)
{
    const struct logit_bias not_met = { MET, -100 };
    struct engine *e;

    o.model.n_ctx = 128;
    o.model.max_batch = 4;
    o.model.allow_nonfinite = true;
    o.prefill_chunk = 48;
    *all = (struct events){ .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    assert_int_equal(engine_create(&e, g, &o, on_event, all), 0);
    assert_int_equal(engine_wait_ready(e), 0);
    for (size_t i = 0; i < 4; i++) {
        int32_t prompt[PROMPT];
        struct engine_request r = { .id = i, .tokens = prompt, .n_prompt = PROMPT, .max_tokens = ANSWER, .n_logprobs = 0,
                                    .prompt_logprobs = true,
                                    .sampling = { .top_p = 1, .repetition_penalty = 1, .bias = &not_met, .n_bias = 1 } };
        for (size_t j = 0; j < PROMPT; j++)
            prompt[j] = (int32_t)(MET + 1 + (j * 31 + i * 101) % (TINY_VOCAB - MET - 1));
        if (i == meets)
            prompt[PROMPT - 1] = MET;
        assert_int_equal(engine_submit(e, &r), 0);
    }
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < 4; i++)
        while (!all->of[i].finished)
            pthread_cond_wait(&all->changed, &all->lock);
    pthread_mutex_unlock(&all->lock);
    struct engine_status status;
    engine_status(e, &status);
    assert_int_equal(status.state, ENGINE_READY);
    engine_destroy(e);
}

static void assert_same_events(const struct events *got, const struct events *want, size_t i)
{
    assert_int_equal(got->of[i].reason, ENGINE_LENGTH);
    assert_int_equal(got->of[i].bytes.len, want->of[i].bytes.len);
    assert_memory_equal(got->of[i].bytes.data, want->of[i].bytes.data, want->of[i].bytes.len);
}

static void only_requests_that_meet_a_nan_fail(void **state)
{
    struct events want, got;

    (void)state;
    for (enum kv_type type = 0; type < KV_TYPE_COUNT; type++) {
        const struct engine_options o = { .model = { .n_threads = 2, .kv_type = type } };
        struct gguf *g = whole_file();
        run(g, o, SIZE_MAX, &want);
        gguf_close(g);
        damage("token_embd.weight", 34 * 8 * MET, nan_half, 2);
        g = reopen();
        run(g, o, 2, &got);
        gguf_close(g);
        for (size_t i = 0; i < 4; i++) {
            if (i != 2)
                assert_same_events(&got, &want, i);
        }
        assert_int_equal(got.of[2].reason, ENGINE_CORRUPTED);
        assert_true(got.of[2].bytes.len < want.of[2].bytes.len);
        free_events(&got);

        /* A norm is met by all. */
        gguf_close(whole_file());
        damage("blk.1.ffn_norm.weight", 4 * 100, nan_f32, 4);
        g = reopen();
        run(g, o, SIZE_MAX, &got);
        gguf_close(g);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(got.of[i].reason, ENGINE_CORRUPTED);
            assert_int_equal(got.of[i].bytes.len, 0);
        }
        free_events(&got);
        free_events(&want);
    }
}

/* 600 rows are 37.5 panels, WIDTH rows 16: some workers have none. And tensors may lie at any multiple of 8 that the file says. */
static void neither_workers_without_rows_nor_alignment_show(void **state)
{
    static const uint64_t alignments[] = { 8, 64, 4096 };
    struct events want, got;
    struct gguf *g = whole_file();

    (void)state;
    run(g, (struct engine_options){ .model.n_threads = 1 }, SIZE_MAX, &want);
    run(g, (struct engine_options){ .model.n_threads = 19 }, SIZE_MAX, &got);
    for (size_t i = 0; i < 4; i++)
        assert_same_events(&got, &want, i);
    free_events(&got);
    gguf_close(g);
    for (size_t a = 0; a < 3; a++) {
        bool odd = false;
        tiny_model_write_aligned(path, TINY_LLAMA, alignments[a]);
        g = reopen();
        for (size_t i = 0; i < gguf_n_tensors(g); i++)
            odd |= gguf_tensor_at(g, i)->offset % 32 != 0;
        assert_int_equal(odd, alignments[a] < 32);
        run(g, (struct engine_options){ .model.n_threads = 2 }, SIZE_MAX, &got);
        for (size_t i = 0; i < 4; i++)
            assert_same_events(&got, &want, i);
        free_events(&got);
        gguf_close(g);
    }
    free_events(&want);
}

static int open_as(const struct gguf *g, enum dtype type, bool allow, struct model_info *info)
{
    const struct model_options o = { .n_threads = 2, .n_virtual_nodes = 2, .n_ctx = 128, .max_batch = 1, .type = type,
                                     .allow_nonfinite = allow };
    struct model *m;
    const int err = model_open(&m, g, &o, NULL, NULL);

    if (!err)
        model_info(m, info);
    model_close(m);
    return err;
}

static void another_type_is_made_while_loading(void **state)
{
    static const float large = 1e6f;
    struct model_info as_is, info;
    struct gguf *g = whole_file();

    (void)state;
    assert_int_equal(open_as(g, DTYPE_F32, false, &as_is), 0);
    assert_int_equal(open_as(g, DTYPE_Q8_0, false, &info), 0);
    /* k of both layers, F16 and F32, and v of the second, BF16, have 128 rows of 256 */
    assert_int_equal(as_is.step_weight_bytes - info.step_weight_bytes, 128 * (256 * (2 + 4 + 2) - 3 * 34 * 8));
    assert_int_equal(as_is.step_params, info.step_params);
    gguf_close(g);
    damage("blk.1.attn_k.weight", 4 * (256 * 37 + 255), &large, 4);
    g = reopen();
    assert_int_equal(open_as(g, DTYPE_BF16, false, &info), 0);
    assert_int_equal(open_as(g, DTYPE_F16, false, &info), -EINVAL);
    assert_non_null(strstr(said, "\"blk.1.attn_k.weight\" row 37: a value is too large for F16"));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    gguf_close(g);
    damage("blk.1.attn_k.weight", 4 * (256 * 37 + 255), nan_f32, 4);
    g = reopen();
    assert_int_equal(open_as(g, DTYPE_Q4_0, false, &info), -EINVAL);
    assert_non_null(strstr(said, "row 37: a value is not finite"));
    said[0] = 0;
    assert_int_equal(open_as(g, DTYPE_Q4_0, true, &info), 0);
    assert_non_null(strstr(said, "in 1 row (in all 1 row of 1 tensor)"));
    gguf_close(g);
}

/* Two layers, four KV heads of 32 dims; K and V. */
static void the_cache_counts_the_bytes_of_its_type(void **state)
{
    static const size_t bytes[KV_TYPE_COUNT] = { [KV_BF16] = 2 * 4 * 2 * 64, [KV_F32] = 2 * 4 * 2 * 128, [KV_Q8] = 2 * 4 * 2 * 34 };
    struct gguf *g = whole_file();

    (void)state;
    for (enum kv_type type = 0; type < KV_TYPE_COUNT; type++) {
        struct model_options o = { .n_threads = 1, .kv_type = type, .n_ctx = 128, .max_batch = 1, .kv_bytes = 1 << 20 };
        struct model_info info;
        struct model *m;

        assert_int_equal(model_open(&m, g, &o, NULL, NULL), 0);
        model_info(m, &info);
        assert_int_equal(info.kv_token_bytes, bytes[type]);
        assert_int_equal(info.kv_pages, (1 << 20) / (bytes[type] * info.page_tokens));
        assert_int_equal(info.kv_bytes, info.kv_pages * bytes[type] * info.page_tokens);
        model_close(m);
        o.kv_bytes = bytes[type] * info.page_tokens;        /* one page: half of the context */
        assert_int_equal(model_open(&m, g, &o, NULL, NULL), -ENOMEM);
    }
    gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_that_are_no_numbers_are_refused),
        cmocka_unit_test(denormals_are_numbers),
        cmocka_unit_test(matrices_of_another_shape_are_refused),
        cmocka_unit_test(only_requests_that_meet_a_nan_fail),
        cmocka_unit_test(neither_workers_without_rows_nor_alignment_show),
        cmocka_unit_test(another_type_is_made_while_loading),
        cmocka_unit_test(the_cache_counts_the_bytes_of_its_type),
    };
    int fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    log_set_sink(take_line, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
