#include "server/served_model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "model/config.h"

enum { MOST_TEMPLATE = 1 << 20 };       /* as chat_template_compile */

static int read_file(struct buf *out, const char *path)
{
    char bytes[4096];
    size_t n;
    FILE *file = fopen(path, "re");

    if (!file) {
        int err = -errno;
        log_error("%s: %s", path, strerror(-err));
        return err;
    }
    out->limit = MOST_TEMPLATE;
    while ((n = fread(bytes, 1, sizeof(bytes), file)) > 0)
        buf_append(out, bytes, n);
    int err = ferror(file) ? -EIO : out->failed ? -EFBIG : 0;
    fclose(file);
    if (err)
        log_error("%s: %s", path, strerror(-err));
    return err;
}

static int compile(struct served_model *m, struct template_error *why)
{
    const struct buf *source = &m->template_source;

    if (source->failed)
        return -ENOMEM;
    return chat_template_compile(&m->chat_template, source->data ? source->data : "", source->len, why);
}

static int compile_builtin(struct served_model *m)
{
    struct template_error why;

    buf_clear(&m->template_source);
    buf_puts(&m->template_source, chat_template_builtin());
    return compile(m, &why);
}

static int open_template(struct served_model *m, const char *file)
{
    struct template_error why;
    struct gguf_string own;

    if (file) {
        int err = read_file(&m->template_source, file);
        if (!err && !m->template_source.len) {
            log_error("%s: the chat template is empty", file);
            return -EINVAL;
        }
        if (!err)
            err = compile(m, &why);
        if (err == -EINVAL)
            log_error("%s: %s", file, why.message);
        return err;
    }
    if (gguf_get_string(m->gguf, "tokenizer.chat_template", &own) != 0) {
        log_info("the model has no chat template: chats use a plain one (role: content)");
        return compile_builtin(m);
    }
    buf_append(&m->template_source, own.data, own.len);
    int err = compile(m, &why);
    if (err != -EINVAL)
        return err;
    log_warn("the model's chat template cannot be used: %s; chats use a plain one (or give --chat-template)", why.message);
    return compile_builtin(m);
}

static int set_names(struct served_model *m, const char *path, const char *aliases)
{
    const char *slash = strrchr(path, '/');
    size_t n = 1;

    snprintf(m->name, sizeof(m->name), "%s", slash ? slash + 1 : path);
    char *end = strrchr(m->name, '.');
    if (end && end != m->name && strcmp(end, ".gguf") == 0)
        *end = '\0';
    m->names[0] = m->name;
    if (snprintf(m->aliases, sizeof(m->aliases), "%s", aliases ? aliases : "") >= (int)sizeof(m->aliases)) {
        log_error("--alias: the list is longer than %zu bytes", sizeof(m->aliases) - 1);
        return -EINVAL;
    }
    char *rest = m->aliases;
    for (char *alias = strtok_r(rest, ",", &rest); alias; alias = strtok_r(rest, ",", &rest)) {
        if (n == SERVED_MODEL_MAX_NAMES || strlen(alias) > 127) {
            log_error("--alias: at most %d names of up to 127 bytes", SERVED_MODEL_MAX_NAMES - 1);
            return -EINVAL;
        }
        m->names[n++] = alias;
    }
    m->api.n_names = n;
    return 0;
}

int served_model_open(struct served_model *m, const char *path, const char *template_file, const char *aliases)
{
    struct model_config config;

    *m = (struct served_model){ .gguf = NULL };
    int err = set_names(m, path, aliases);
    if (!err)
        err = gguf_open(&m->gguf, path);
    if (!err)       /* first of all: a file of another architecture is best told so, whatever else it lacks */
        err = model_config_read(&config, m->gguf);
    if (!err)
        err = tokenizer_open_gguf(&m->tokenizer, m->gguf);
    if (!err)
        err = open_template(m, template_file);
    if (err) {
        served_model_close(m);
        return err;
    }
    m->api.names = m->names;
    m->api.tokenizer = m->tokenizer;
    m->api.chat_template = m->chat_template;
    m->api.template_knows_developer = m->template_source.data && strstr(m->template_source.data, "developer");
    m->api.pooling = config.pooling;
    m->api.sampling = (struct sampling){ .temperature = 1, .top_p = 1, .repetition_penalty = 1 };
    return 0;
}

int served_model_make_trie(struct served_model *m)
{
    int err = token_trie_create(&m->trie, m->tokenizer);
    if (err)
        log_error("the vocabulary's trie: %s", strerror(-err));
    return err;
}

/* The first token that is another one; vocab_size where all are the same. */
static size_t first_difference(const struct tokenizer *a, const struct tokenizer *b)
{
    const size_t n = tokenizer_vocab_size(a);

    for (size_t i = 0; i < n; i++) {
        size_t n_a, n_b;
        const char *x = tokenizer_piece(a, (int32_t)i, &n_a), *y = tokenizer_piece(b, (int32_t)i, &n_b);
        if (n_a != n_b || memcmp(x, y, n_a) != 0)
            return i;
    }
    return n;
}

int served_model_open_draft(const struct served_model *m, const char *path, struct gguf **draft)
{
    struct tokenizer *t = NULL;
    int err = gguf_open(draft, path);

    if (!err)
        err = tokenizer_open_gguf(&t, *draft);
    if (err)
        return err;
    const size_t n = tokenizer_vocab_size(m->tokenizer), n_draft = tokenizer_vocab_size(t);
    const size_t first = n == n_draft ? first_difference(m->tokenizer, t) : 0;
    if (n != n_draft)
        log_error("%s: its vocabulary has %zu tokens, the model's %zu: a draft model must have the same", path, n_draft, n);
    else if (first < n)
        log_error("%s: token %zu is another one than the model's: a draft model must have the same vocabulary", path, first);
    tokenizer_close(t);
    return n != n_draft || first < n ? -EINVAL : 0;
}

void served_model_close(struct served_model *m)
{
    chat_template_free(m->chat_template);
    token_trie_destroy(m->trie);
    tokenizer_close(m->tokenizer);
    gguf_close(m->gguf);
    buf_free(&m->template_source);
    *m = (struct served_model){ .gguf = NULL };
}
