#include "server/answer_openai.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "server/json_write.h"

int openai_create(struct completion *c, const char *id_prefix, const char *object)
{
    const struct completion_options *o = &c->options;
    struct buf *head = &c->head;

    buf_printf(head, "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", id_prefix, o->id, object, o->created);
    json_write_string(head, c->request->model);
    buf_puts(head, ",\"system_fingerprint\":");
    json_write_string(head, o->fingerprint);
    buf_puts(head, ",\"choices\":[");
    return head->failed ? -ENOMEM : 0;
}

static void write_usage(const struct completion *c, struct buf *out)
{
    const struct completion_usage u = completion_usage(c);

    buf_printf(out, ",\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64
               ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64 "},\"completion_tokens_details\":{\"reasoning_tokens\":%" PRIu64
               "}}", u.n_prompt, u.n_generated, u.n_prompt + u.n_generated, u.n_cached, u.n_reasoning);
}

static double per_second(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

/* While it runs, times are taken from the arrival of events; the engine's own come with its last. */
static void write_timings(const struct completion *c, struct buf *out)
{
    const struct choice *ch = &c->choices[0];
    const bool exact = ch->closed && !ch->cut;
    const uint64_t prompt_ns = ch->closed ? ch->prompt_ns : ch->first_ns ? ch->first_ns - c->options.arrived_ns : 0;
    const uint64_t decode_ns = exact ? ch->decode_ns : ch->last_ns - ch->first_ns;
    const size_t n_prompt = ch->prompt->n - ch->n_cached;

    buf_printf(out, ",\"timings\":{\"cache_n\":%u,\"prompt_n\":%zu,\"prompt_ms\":%.3f,\"prompt_per_second\":%.3f,\"predicted_n\":%u,"
               "\"predicted_ms\":%.3f,\"predicted_per_second\":%.3f,\"queue_ms\":%.3f}", ch->n_cached, n_prompt, (double)prompt_ns / 1e6,
               per_second(n_prompt, prompt_ns), ch->n_generated, (double)decode_ns / 1e6, per_second(ch->n_generated, decode_ns),
               (double)ch->queue_ns / 1e6);
}

void openai_open_chunk(struct completion *c)
{
    buf_puts(&c->out, "data: ");
    buf_append(&c->out, c->head.data, c->head.len);
}

void openai_close_chunk(struct completion *c, bool usage, bool timings)
{
    const struct api_request *r = c->request;

    buf_putc(&c->out, ']');
    if (usage)
        write_usage(c, &c->out);
    else if (r->include_usage)
        buf_puts(&c->out, ",\"usage\":null");
    if (timings && c->n_choices == 1)
        write_timings(c, &c->out);
    if (r->route == API_CHAT && r->return_token_ids && !c->prompt_ids_sent) {
        buf_puts(&c->out, ",\"prompt_token_ids\":");
        json_write_ids(&c->out, r->prompts[0].ids, r->prompts[0].n);
        c->prompt_ids_sent = true;
    }
    buf_puts(&c->out, "}\n\n");
}

void openai_close_choice_chunk(struct completion *c, const char *finish_reason)
{
    const struct api_request *r = c->request;

    openai_close_chunk(c, r->continuous_usage, r->timings_per_token || (finish_reason && !r->include_usage));
}

static void write_stop_reason(const struct completion *c, const struct choice *ch, struct buf *out)
{
    if (ch->stop_string >= 0) {
        const struct stop_string *s = &c->request->stop.strings[ch->stop_string];
        json_write_bytes(out, s->text, s->length);
    } else if (ch->stop_id >= 0) {
        buf_printf(out, "%d", ch->stop_id);
    } else {
        buf_puts(out, "null");
    }
}

void openai_write_choice_tail(struct completion *c, struct choice *ch, bool lists, bool prompt_ids, const char *finish_reason)
{
    const struct api_request *r = c->request;
    struct buf *out = &c->out;

    buf_puts(out, ",\"logprobs\":");
    if (r->n_logprobs >= 0 && lists)
        logprobs_write(c, &ch->logprobs, out);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"finish_reason\":");
    json_write_string_or_null(out, finish_reason);
    buf_puts(out, ",\"stop_reason\":");
    write_stop_reason(c, ch, out);
    if (r->return_token_ids) {
        buf_puts(out, ",\"token_ids\":[");
        if (lists)
            buf_append(out, ch->ids.data ? ch->ids.data : "", ch->ids.len);
        buf_putc(out, ']');
        if (prompt_ids) {
            buf_puts(out, ",\"prompt_token_ids\":");
            json_write_ids(out, ch->prompt->ids, ch->prompt->n);
        }
    }
    buf_putc(out, '}');
    if (lists) {
        logprobs_clear(&ch->logprobs);
        buf_clear(&ch->ids);
    }
}

void openai_write_progress(struct completion *c, const struct completion_event *e)
{
    openai_open_chunk(c);
    openai_close_chunk(c, c->request->continuous_usage, false);
    c->out.len -= strlen("}\n\n");
    buf_printf(&c->out, ",\"prompt_progress\":{\"total\":%u,\"cache\":%u,\"processed\":%u,\"time_ms\":%.3f}}\n\n", e->n_prompt, e->n_cached,
               e->n_tokens, (double)(e->at_ns - c->options.arrived_ns) / 1e6);
}

void openai_write_end(struct completion *c)
{
    if (c->request->include_usage) {
        openai_open_chunk(c);
        openai_close_chunk(c, true, true);
    }
    buf_puts(&c->out, "data: [DONE]\n\n");
}

void openai_write_error(struct completion *c, const struct api_error *e)
{
    if (e) {
        buf_puts(&c->out, "data: ");
        api_error_write(e, &c->out);
        buf_puts(&c->out, "\n\n");
    }
    buf_puts(&c->out, "data: [DONE]\n\n");
}

void openai_open_reply(struct completion *c)
{
    buf_append(&c->out, c->head.data, c->head.len);
}

void openai_close_reply(struct completion *c)
{
    openai_close_chunk(c, true, true);
    c->out.len -= strlen("\n\n");
}
