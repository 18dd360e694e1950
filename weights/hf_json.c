#include "weights/hf_json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json_text.h"
#include "common/log.h"
#include "weights/gguf_internal.h"

/* The largest tokenizer.json published has 33 MB and 2.1 million values (Gemma 3: 262,144 tokens, 514,906 merges as pairs). */
enum { MAX_FILE = 256 << 20, MAX_VALUES = 16 << 20 };

static int read_open_file(const char *path, int fd, size_t most, struct buf *text)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode)) {
        log_error("%s: not a regular file", path);
        return -EINVAL;
    }
    if ((uint64_t)st.st_size > most) {
        log_error("%s: %" PRIu64 " bytes, at most %zu", path, (uint64_t)st.st_size, most);
        return -EINVAL;
    }
    char *to = buf_reserve(text, (size_t)st.st_size + 1);
    if (!to)
        return -ENOMEM;
    int err = gguf_pread(fd, to, (size_t)st.st_size, 0);
    if (err == -EINVAL)
        log_error("%s: the file was cut while it was read", path);
    to[st.st_size] = '\0';
    text->len += (size_t)st.st_size;
    return err;
}

static int read_path(const char *path, size_t most, struct buf *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err;

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return -ENOENT;
    err = fd < 0 ? -errno : read_open_file(path, fd, most, text);
    if (err && err != -EINVAL)
        log_error("%s: cannot read: %s", path, strerror(-err));
    if (fd >= 0)
        close(fd);
    return err == -ENOENT ? -EIO : err;
}

int hf_read_file(const char *folder, const char *name, size_t most, struct buf *text)
{
    char *path;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return -ENOMEM;
    int err = read_path(path, most, text);
    free(path);
    return err;
}

int hf_json_read(struct hf_json *f, const char *folder, const char *name)
{
    struct json_read_error error;
    struct buf text = { 0 };

    *f = (struct hf_json){ 0 };
    if (asprintf(&f->path, "%s/%s", folder, name) < 0) {
        f->path = NULL;
        return -ENOMEM;
    }
    int err = read_path(f->path, MAX_FILE, &text);
    if (!err) {
        err = json_text_read(text.data, text.len, MAX_VALUES, &f->root, &error);
        if (err == -EINVAL)
            log_error("%s: at byte %zu: %s", f->path, error.offset, error.message);
        else if (err)
            log_error("%s: no memory to read it", f->path);
    }
    buf_free(&text);
    if (!err && !json_is_object(f->root))
        err = hf_fail(f, "not a JSON object");
    return err;
}

void hf_json_free(struct hf_json *f)
{
    free(f->path);
    json_decref(f->root);
    *f = (struct hf_json){ 0 };
}

int hf_fail(const struct hf_json *f, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_error("%s: %s", f->path, text);
    return -EINVAL;
}

const json_t *hf_get(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_null(value) ? NULL : value;
}

bool hf_integer(const json_t *value, uint64_t most, uint64_t *out)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
    } else if (json_is_real(value) && json_real_value(value) >= 0 && json_real_value(value) < 9e15 &&
               json_real_value(value) == floor(json_real_value(value))) {
        *out = (uint64_t)json_real_value(value);
    } else {
        return false;
    }
    return *out <= most;
}

struct gguf_string hf_text(const json_t *string)
{
    return (struct gguf_string){ json_string_value(string), json_string_length(string) };
}

/* What a message calls a value: numbers as they are, texts quoted, else the type. */
static const char *describe(const json_t *value, char out[GGUF_QUOTED])
{
    static const char *const names[] = { "an object", "an array", "a string", "an integer", "a real", "true", "false", "null" };

    if (json_is_integer(value))
        snprintf(out, GGUF_QUOTED, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(out, GGUF_QUOTED, "%.17g", json_real_value(value));
    else if (json_is_string(value))
        gguf_quote(hf_text(value), out);
    else
        snprintf(out, GGUF_QUOTED, "%s", names[json_typeof(value)]);
    return out;
}

int hf_get_u64(const struct hf_json *f, const json_t *object, const char *key, uint64_t least, uint64_t most, uint64_t *out)
{
    const json_t *value = hf_get(object, key);
    char text[GGUF_QUOTED];
    uint64_t number;

    if (!value)
        return -ENOENT;
    if (!hf_integer(value, most, &number) || number < least)
        return hf_fail(f, "\"%s\" is %s, expected %" PRIu64 "..%" PRIu64, key, describe(value, text), least, most);
    *out = number;
    return 0;
}

int hf_get_f64(const struct hf_json *f, const json_t *object, const char *key, double least, double most, double *out)
{
    const json_t *value = hf_get(object, key);
    char text[GGUF_QUOTED];

    if (!value)
        return -ENOENT;
    const double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= least && number <= most))
        return hf_fail(f, "\"%s\" is %s, expected %g..%g", key, describe(value, text), least, most);
    *out = number;
    return 0;
}

int hf_get_bool(const struct hf_json *f, const json_t *object, const char *key, bool *out)
{
    const json_t *value = hf_get(object, key);
    char text[GGUF_QUOTED];

    if (!value)
        return -ENOENT;
    if (!json_is_boolean(value))
        return hf_fail(f, "\"%s\" is %s, expected true or false", key, describe(value, text));
    *out = json_is_true(value);
    return 0;
}

int hf_get_string(const struct hf_json *f, const json_t *object, const char *key, struct gguf_string *out)
{
    const json_t *value = hf_get(object, key);
    char text[GGUF_QUOTED];

    if (!value)
        return -ENOENT;
    if (!json_is_string(value))
        return hf_fail(f, "\"%s\" is %s, expected a string", key, describe(value, text));
    *out = hf_text(value);
    return 0;
}
