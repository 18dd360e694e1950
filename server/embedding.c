#include "server/embedding.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "server/json_write.h"

enum { MOST_WITH_ENGINE = API_MAX_SEQUENCES };

struct embedding {
    struct api_request *request;
    enum pooling pooling;
    struct buf *texts;              /* [n_prompts] vectors that wait for an earlier one */
    size_t n_submitted, n_written, n_with_engine, n_cancelled;
    struct buf out;
    struct api_error error;
    bool done, aborted;
    uint64_t n_cached, queue_ns, prompt_ns;
};

int embedding_create(struct embedding **out, struct api_request *request, enum pooling pooling)
{
    struct embedding *m = calloc(1, sizeof(*m));

    *out = NULL;
    if (!m) {
        api_request_free(request);
        return -ENOMEM;
    }
    m->request = request;
    m->pooling = pooling;
    m->texts = calloc(request->n_prompts, sizeof(*m->texts));
    if (!m->texts) {
        embedding_free(m);
        return -ENOMEM;
    }
    buf_puts(&m->out, "{\"object\":\"list\",\"model\":");
    json_write_string(&m->out, request->model);
    buf_puts(&m->out, ",\"data\":[");
    *out = m;
    return 0;
}

void embedding_free(struct embedding *m)
{
    if (!m)
        return;
    for (size_t i = 0; m->texts && i < m->request->n_prompts; i++)
        buf_free(&m->texts[i]);
    free(m->texts);
    buf_free(&m->out);
    api_request_free(m->request);
    free(m);
}

size_t embedding_n_inputs(const struct embedding *m)
{
    return m->request->n_prompts;
}

bool embedding_next(struct embedding *m, size_t *input, struct engine_request *out)
{
    const struct api_request *r = m->request;

    if (m->done || m->n_submitted == r->n_prompts || m->n_with_engine == MOST_WITH_ENGINE)
        return false;
    const struct api_prompt *p = &r->prompts[m->n_submitted];
    *out = (struct engine_request){ .tokens = p->ids, .n_prompt = p->n, .sampling = r->sampling, .n_logprobs = -1, .pooling = m->pooling,
                                    .priority = r->priority, .salt = r->salt };
    *input = m->n_submitted++;
    m->n_with_engine++;
    return true;
}

bool embedding_refused(struct embedding *m, size_t input)
{
    m->n_submitted = input;
    m->n_with_engine--;
    return m->n_with_engine > 0;
}

static void finish(struct embedding *m)
{
    uint64_t n_tokens = 0;

    for (size_t i = 0; i < m->request->n_prompts; i++)
        n_tokens += m->request->prompts[i].n;
    buf_printf(&m->out, "],\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64 "}}", n_tokens, n_tokens);
    m->done = true;
}

static void push_vector(struct embedding *m, size_t input, const void *floats, size_t n)
{
    struct buf *text = &m->texts[input];
    struct api_error error;

    buf_printf(text, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", input ? "," : "", input);
    if (m->request->base64)
        json_write_base64(text, floats, n * sizeof(float));
    else
        json_write_floats(text, floats, n);
    buf_putc(text, '}');
    if (text->failed) {
        api_error_internal(&error, -ENOMEM);
        embedding_abort(m, &error);
        return;
    }
    for (; m->n_written < m->request->n_prompts && m->texts[m->n_written].len; m->n_written++) {
        text = &m->texts[m->n_written];
        buf_append(&m->out, text->data, text->len);
        buf_free(text);
    }
}

void embedding_push(struct embedding *m, const struct completion_event *e, const void *floats)
{
    struct api_error error;

    if (e->type == ENGINE_EMBEDDING && !m->done)
        push_vector(m, e->sequence, floats, e->n_embedding);
    if (e->type != ENGINE_FINISHED)
        return;
    m->n_cached += e->n_cached;
    if (e->sequence == 0) {
        m->queue_ns = e->queue_ns;
        m->prompt_ns = e->prompt_ns;
    }
    if (e->reason != ENGINE_STOP && !m->done) {
        completion_reason_error(e->reason, &error);
        embedding_abort(m, &error);
    }
    embedding_close(m);
}

void embedding_close(struct embedding *m)
{
    m->n_with_engine--;
    if (!m->done && m->n_written == m->request->n_prompts && !m->n_with_engine)
        finish(m);
}

void embedding_abort(struct embedding *m, const struct api_error *e)
{
    if (m->done)
        return;
    m->done = m->aborted = true;
    if (e)
        m->error = *e;
}

bool embedding_next_cancel(struct embedding *m, size_t *input)
{
    if (!m->aborted || m->n_cancelled == m->n_submitted)
        return false;
    *input = m->n_cancelled++;
    return true;
}

struct buf *embedding_output(struct embedding *m)
{
    return &m->out;
}

bool embedding_done(const struct embedding *m)
{
    return m->done;
}

bool embedding_closed(const struct embedding *m)
{
    return m->n_with_engine == 0;
}

const struct api_error *embedding_error(const struct embedding *m)
{
    return m->error.code ? &m->error : NULL;
}

const struct api_request *embedding_request(const struct embedding *m)
{
    return m->request;
}

void embedding_summarise(const struct embedding *m, struct completion_summary *s)
{
    *s = (struct completion_summary){
        .finish_reason = !m->aborted ? "stop" : m->error.code && api_error_status(&m->error) == 500 ? "error" : "abort",
        .n_cached = m->n_cached, .queue_ns = m->queue_ns, .prompt_ns = m->prompt_ns,
    };
    for (size_t i = 0; i < m->request->n_prompts; i++)
        s->n_prompt += m->request->prompts[i].n;
}
