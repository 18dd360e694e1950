#include "weights/chat_template.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "weights/template_internal.h"

const char *chat_template_builtin(void)
{
    return "{{- bos_token if bos_token }}"
           "{%- for message in messages %}"
           "{%- if message.content is string %}{% set content = message.content %}"
           "{%- elif message.content is iterable and message.content is not mapping %}"
           "{%- set content = message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('\\n') %}"
           "{%- else %}{% set content = '' %}{% endif %}"
           "{{- message.role | capitalize ~ ': ' ~ content | trim ~ '\\n\\n' }}"
           "{%- endfor %}"
           "{{- 'Assistant:' if add_generation_prompt }}";
}

/* The source with \n for every kind of line end, and without the last one, as jinja2 reads it. */
static char *normalize(struct jinja *j, const char *source, size_t n, size_t *out_n)
{
    char *out = jinja_alloc(j, n + 1);
    size_t used = 0;

    for (size_t i = 0; out && i < n; i++) {
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n')
            continue;
        out[used++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (out && used && out[used - 1] == '\n')
        used--;
    if (out)
        out[used] = '\0';
    *out_n = used;
    return out;
}

static void check_source(struct jinja *j, const char *source, size_t n)
{
    if (n > JINJA_MAX_SOURCE_BYTES) {
        jinja_fail_limit(j, "template of %zu bytes, the limit is %u", n, JINJA_MAX_SOURCE_BYTES);
        return;
    }
    size_t bad = utf8_check(source, n);
    if (bad < n) {
        for (size_t i = 0; i < bad; i++)
            j->line += source[i] == '\n';
        jinja_fail(j, "invalid UTF-8");
    }
}

int chat_template_compile(struct chat_template **out, const char *source, size_t n, struct template_error *error)
{
    struct chat_template *t = calloc(1, sizeof(*t));
    struct jinja_parser parser = { 0 };
    int err;

    *out = NULL;
    *error = (struct template_error){ 0 };
    if (!t)
        return -ENOMEM;
    t->memory = (struct jinja){ .max_bytes = JINJA_MAX_COMPILE_BYTES, .error = error, .line = 1, .steps = LONG_MAX };
    parser.j = &t->memory;
    check_source(parser.j, source, n);
    char *text = normalize(parser.j, source, n, &n);
    if (!jinja_failed(parser.j)) {
        jinja_lexer_open(&parser.lexer, parser.j, text, n);
        t->body = jinja_parse_template(&parser);
        jinja_take_names(&parser, t);
    }
    err = t->memory.err;
    t->memory.error = NULL;
    if (err)
        chat_template_free(t);
    else
        *out = t;
    return err;
}

void chat_template_free(struct chat_template *t)
{
    if (!t)
        return;
    jinja_free_all(&t->memory);
    free(t);
}

/* The top-level variables that the template names. */
static void read_vars(struct jinja *j, const json_t *vars)
{
    static const char *const from_client[] = { "messages", "tools", "documents" };

    j->globals = jinja_alloc_array(j, (size_t)j->t->n_names, sizeof(*j->globals));
    for (int i = 0; j->globals && i < j->t->n_names; i++) {
        const struct jinja_string *name = j->t->names[i];
        const json_t *value = json_object_getn(vars, name->at, name->n);
        bool request = false;
        if (!value)
            continue;
        for (size_t k = 0; k < sizeof(from_client) / sizeof(*from_client); k++)
            request |= jinja_text_is(name, from_client[k]);
        j->globals[i] = jinja_text_is(name, "messages") ? jinja_messages_from_json(j, value) : jinja_from_json(j, value, request);
    }
}

int chat_template_render(const struct chat_template *t, const json_t *vars, const struct template_options *options,
                         struct buf *text, struct buf *literal, struct template_error *error)
{
    size_t max_output = options && options->max_output ? options->max_output : JINJA_MAX_OUTPUT_BYTES;
    struct jinja_scope root = { 0 };
    struct jinja j = {
        .max_bytes = JINJA_MAX_RENDER_BYTES + (max_output < SIZE_MAX / 16 ? max_output : SIZE_MAX / 16) * 8,
        .error = error, .line = 1, .steps = JINJA_MAX_STEPS, .t = t, .max_output = max_output,
        .now = options && options->now ? options->now : time(NULL),
    };

    *error = (struct template_error){ 0 };
    read_vars(&j, vars);
    j.out = jinja_block_new(&j, 4096);
    if (!jinja_failed(&j))
        jinja_exec(&j, &root, t->body);
    if (!jinja_failed(&j)) {
        buf_append(text, j.out->bytes, j.out->used);
        buf_append(literal, j.out->marks, j.out->used);
        if (text->failed || literal->failed)
            jinja_fail_memory(&j);
    }
    jinja_free_all(&j);
    return j.err;
}
