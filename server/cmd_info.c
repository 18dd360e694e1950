/*
 * cmd_info.c - `fourway info MODEL`: what a GGUF file, or a Hugging Face folder as one, says about itself, as text or JSON.
 *
 * It shows files of any architecture and type, also those this program cannot run, and so asks for no key with the typed
 * getters: whatever a key holds is printed as it is. Text from the file is escaped, because it ends on a terminal.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/utf8.h"
#include "server/commands.h"
#include "server/options.h"
#include "weights/gguf.h"

enum {
    FIRST_ELEMENTS = 6,     /* of an array; the rest is "..." */
    TEXT_CHARACTERS = 60    /* of a string in the table; JSON has all of it */
};

struct type_use { uint64_t n_tensors, n_elements, bytes; };

struct info {
    const struct gguf *g;
    struct gguf_string arch;
    uint64_t n_params;
    struct type_use types[DTYPE_COUNT];
};

static uint64_t n_elements(const struct gguf_tensor *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

static void collect(struct info *info, const struct gguf *g)
{
    const struct gguf_kv *arch = gguf_find(g, "general.architecture");

    *info = (struct info){ .g = g, .arch = { "", 0 } };
    if (arch && arch->type == GGUF_STRING)
        info->arch = arch->strings[0];
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        struct type_use *use = &info->types[t->type];
        use->n_tensors++;
        use->n_elements += n_elements(t);
        use->bytes += t->bytes;
        info->n_params += n_elements(t);
    }
}

/* The key ARCHITECTURE.name, or NULL. */
static const struct gguf_kv *find_arch_key(const struct info *info, const char *name)
{
    char key[256];

    snprintf(key, sizeof(key), "%.*s.%s", (int)(info->arch.len < 128 ? info->arch.len : 128), info->arch.data, name);
    return gguf_find(info->g, key);
}

/* At most `most` characters; control characters and what is no UTF-8 as \xNN. */
static void append_text(struct buf *out, struct gguf_string s, size_t most)
{
    size_t at = 0;

    buf_putc(out, '"');
    for (size_t i = 0; at < s.len && i < most; i++) {
        uint32_t c = 0;
        int length = utf8_decode(s.data + at, s.len - at, &c);
        if (length > 0 && c >= 0x20 && (c < 0x7f || c >= 0xa0)) {
            if (c == '"' || c == '\\')
                buf_putc(out, '\\');
            buf_append(out, s.data + at, (size_t)length);
        } else if (length > 0 && c == '\n') {
            buf_puts(out, "\\n");
        } else {
            length = length > 0 ? length : 1;
            for (int j = 0; j < length; j++)
                buf_printf(out, "\\x%02x", (unsigned char)s.data[at + (size_t)j]);
        }
        at += (size_t)length;
    }
    buf_puts(out, at < s.len ? "\"..." : "\"");
}

static void append_element(struct buf *out, const struct gguf_kv *kv, uint64_t i)
{
    uint64_t large;

    switch (kv->element_type) {
    case GGUF_STRING:
        append_text(out, kv->strings[i], TEXT_CHARACTERS);
        break;
    case GGUF_F32:
        buf_printf(out, "%.9g", gguf_float_at(kv, i));
        break;
    case GGUF_F64:
        buf_printf(out, "%.17g", gguf_float_at(kv, i));
        break;
    case GGUF_BOOL:
        buf_puts(out, gguf_int_at(kv, i) ? "true" : "false");
        break;
    case GGUF_U64:
        memcpy(&large, (const char *)kv->values + i * sizeof(large), sizeof(large));
        buf_printf(out, "%" PRIu64, large);
        break;
    default:
        buf_printf(out, "%" PRId64, gguf_int_at(kv, i));
    }
}

static void append_value(struct buf *out, const struct gguf_kv *kv)
{
    if (kv->type != GGUF_ARRAY) {
        append_element(out, kv, 0);
        return;
    }
    buf_putc(out, '[');
    for (uint64_t i = 0; i < kv->n && i < FIRST_ELEMENTS; i++) {
        buf_puts(out, i ? ", " : "");
        append_element(out, kv, i);
    }
    buf_puts(out, kv->n > FIRST_ELEMENTS ? ", ...]" : "]");
}

static void append_field(struct buf *out, const char *label, const struct gguf_kv *kv)
{
    if (!kv)
        return;
    buf_printf(out, "%-16s ", label);
    if (kv->type == GGUF_STRING)
        append_text(out, kv->strings[0], 2 * TEXT_CHARACTERS);
    else
        append_value(out, kv);
    buf_putc(out, '\n');
}

/* "134.5 M" of 134515008; with the unit "B" "134.5 MB". */
static void append_short(struct buf *out, uint64_t n, const char *unit)
{
    static const char *const prefixes[] = { "", "k", "M", "G", "T", "P", "E" };
    double value = (double)n;
    size_t i = 0;

    for (; value >= 999.95; i++)
        value /= 1000;
    buf_printf(out, "%.*f%s%s%s", i ? 1 : 0, value, i || unit[0] ? " " : "", prefixes[i], unit);
}

static void append_types(struct buf *out, const struct info *info)
{
    const char *label = "types";

    for (uint32_t id = 0; id < DTYPE_COUNT; id++) {
        const struct type_use *use = &info->types[id];
        if (!use->n_tensors)
            continue;
        buf_printf(out, "%-16s %-8s %6" PRIu64 " %s", label, dtype_info(id)->name, use->n_tensors,
                   use->n_tensors == 1 ? "tensor,  " : "tensors, ");
        append_short(out, use->n_elements, "");
        buf_puts(out, " parameters, ");
        append_short(out, use->bytes, "B");
        buf_puts(out, dtype_info(id)->supported ? "\n" : " (this version cannot run it)\n");
        label = "";
    }
}

static void append_tensors(struct buf *out, const struct gguf *g)
{
    buf_printf(out, "\ntensors (%zu)\n", gguf_n_tensors(g));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        struct buf shape = { 0 };
        for (uint32_t d = 0; d < t->n_dims; d++)
            buf_printf(&shape, "%s%" PRIu64, d ? ", " : "{", t->ne[d]);
        buf_puts(&shape, "}");
        buf_printf(out, "  %-32s %-8s %-20s %12" PRIu64 " bytes", t->name.data, dtype_info(t->type)->name,
                   shape.failed ? "" : shape.data, t->bytes);
        if (gguf_is_folder(g) && !t->part)
            buf_puts(out, ", computed");
        else
            buf_printf(out, " at %" PRIu64, t->offset);
        if (gguf_n_parts(g) > 1 && (t->part || !gguf_is_folder(g)))
            buf_printf(out, " of part %" PRIu32, t->part + !gguf_is_folder(g));
        buf_putc(out, '\n');
        buf_free(&shape);
    }
}

static void append_summary(struct buf *out, const struct info *info)
{
    const struct gguf *g = info->g;
    const struct gguf_kv *template = gguf_find(g, "tokenizer.chat_template");
    const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");

    append_field(out, "architecture", gguf_find(g, "general.architecture"));
    append_field(out, "name", gguf_find(g, "general.name"));
    buf_printf(out, "%-16s %" PRIu64 " (", "parameters", info->n_params);
    append_short(out, info->n_params, "");
    buf_printf(out, ")\n%-16s %" PRIu64 " bytes (", "file size", gguf_file_bytes(g));
    append_short(out, gguf_file_bytes(g), "B");
    if (gguf_is_folder(g))
        buf_printf(out, ")\n%-16s Hugging Face folder, safetensors", "format");
    else
        buf_printf(out, ")\n%-16s GGUF %" PRIu32 ", alignment %" PRIu64, "format", gguf_version(g), gguf_alignment(g));
    buf_printf(out, ", %" PRIu32 " %s\n", gguf_n_parts(g), gguf_n_parts(g) == 1 ? "file" : "files");
    append_types(out, info);
    append_field(out, "context length", find_arch_key(info, "context_length"));
    append_field(out, "layers", find_arch_key(info, "block_count"));
    append_field(out, "embedding", find_arch_key(info, "embedding_length"));
    append_field(out, "heads", find_arch_key(info, "attention.head_count"));
    append_field(out, "key-value heads", find_arch_key(info, "attention.head_count_kv"));
    append_field(out, "tokenizer", gguf_find(g, "tokenizer.ggml.model"));
    append_field(out, "pre-tokenizer", gguf_find(g, "tokenizer.ggml.pre"));
    if (tokens)
        buf_printf(out, "%-16s %" PRIu64 " tokens\n", "vocabulary", tokens->n);
    if (template && template->type == GGUF_STRING)
        buf_printf(out, "%-16s yes (%zu bytes)\n", "chat template", template->strings[0].len);
    else
        buf_printf(out, "%-16s no\n", "chat template");
}

static void append_metadata(struct buf *out, const struct gguf *g)
{
    buf_printf(out, "\nmetadata (%zu keys)\n", gguf_n_kv(g));
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        struct buf type = { 0 };
        buf_puts(&type, gguf_type_name(kv->element_type));
        if (kv->type == GGUF_ARRAY)
            buf_printf(&type, "[%" PRIu64 "]", kv->n);
        buf_printf(out, "  %-44s %-15s ", kv->key.data, type.failed ? "" : type.data);
        append_value(out, kv);
        buf_putc(out, '\n');
        buf_free(&type);
    }
}

/* JSON must be UTF-8: what is not becomes U+FFFD. */
static json_t *json_text(struct gguf_string s)
{
    struct buf valid = { 0 };
    json_t *text = NULL;

    for (size_t at = 0; at < s.len;) {
        uint32_t c;
        int length = utf8_decode(s.data + at, s.len - at, &c);
        if (length > 0)
            buf_append(&valid, s.data + at, (size_t)length);
        else
            buf_puts(&valid, "\xef\xbf\xbd");
        at += length > 0 ? (size_t)length : length < 0 ? (size_t)-length : s.len - at;
    }
    if (!valid.failed)
        text = json_stringn(valid.len ? valid.data : "", valid.len);
    buf_free(&valid);
    return text;
}

static json_t *json_element(const struct gguf_kv *kv, uint64_t i)
{
    uint64_t large;

    switch (kv->element_type) {
    case GGUF_STRING:
        return json_text(kv->strings[i]);
    case GGUF_F32:
    case GGUF_F64:
        return isfinite(gguf_float_at(kv, i)) ? json_real(gguf_float_at(kv, i)) : json_null();
    case GGUF_BOOL:
        return json_boolean(gguf_int_at(kv, i));
    case GGUF_U64:
        memcpy(&large, (const char *)kv->values + i * sizeof(large), sizeof(large));
        if (large > INT64_MAX)          /* beyond jansson's integers */
            return json_sprintf("%" PRIu64, large);
        return json_integer((json_int_t)large);
    default:
        return json_integer(gguf_int_at(kv, i));
    }
}

/* A scalar as it is, an array as its length and first elements. */
static json_t *json_value(const struct gguf_kv *kv)
{
    if (kv->type != GGUF_ARRAY)
        return json_element(kv, 0);
    json_t *first = json_array();
    for (uint64_t i = 0; i < kv->n && i < FIRST_ELEMENTS; i++)
        json_array_append_new(first, json_element(kv, i));
    return json_pack("{s:s, s:I, s:o}", "array_of", gguf_type_name(kv->element_type), "n", (json_int_t)kv->n, "first", first);
}

static json_t *json_value_or_null(const struct gguf_kv *kv)
{
    return kv ? json_value(kv) : json_null();
}

static json_t *json_types(const struct info *info)
{
    json_t *types = json_object();

    for (uint32_t id = 0; id < DTYPE_COUNT; id++) {
        const struct type_use *use = &info->types[id];
        if (use->n_tensors)
            json_object_set_new(types, dtype_info(id)->name,
                                json_pack("{s:I, s:I, s:I, s:b}", "tensors", (json_int_t)use->n_tensors,
                                          "parameters", (json_int_t)use->n_elements, "bytes", (json_int_t)use->bytes,
                                          "supported", dtype_info(id)->supported));
    }
    return types;
}

static json_t *json_tensors(const struct gguf *g)
{
    json_t *tensors = json_array();

    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->n_dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->ne[d]));
        json_array_append_new(tensors, json_pack("{s:o, s:s, s:o, s:I, s:I, s:i}", "name", json_text(t->name),
                                                 "type", dtype_info(t->type)->name, "shape", shape,
                                                 "offset", (json_int_t)t->offset, "bytes", (json_int_t)t->bytes,
                                                 "part", (int)(t->part - (gguf_is_folder(g) && t->part))));
    }
    return tensors;
}

static json_t *json_info(const struct info *info, bool with_tensors)
{
    const struct gguf *g = info->g;
    const struct gguf_kv *template = gguf_find(g, "tokenizer.chat_template");
    const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    json_t *root = json_object(), *metadata = json_object();

    json_object_set_new(root, "architecture", json_value_or_null(gguf_find(g, "general.architecture")));
    json_object_set_new(root, "name", json_value_or_null(gguf_find(g, "general.name")));
    json_object_set_new(root, "parameters", json_integer((json_int_t)info->n_params));
    json_object_set_new(root, "file_bytes", json_integer((json_int_t)gguf_file_bytes(g)));
    json_object_set_new(root, "gguf_version", gguf_is_folder(g) ? json_null() : json_integer(gguf_version(g)));
    json_object_set_new(root, "alignment", json_integer((json_int_t)gguf_alignment(g)));
    json_object_set_new(root, "parts", json_integer(gguf_n_parts(g)));
    json_object_set_new(root, "types", json_types(info));
    json_object_set_new(root, "context_length", json_value_or_null(find_arch_key(info, "context_length")));
    json_object_set_new(root, "layers", json_value_or_null(find_arch_key(info, "block_count")));
    json_object_set_new(root, "embedding_length", json_value_or_null(find_arch_key(info, "embedding_length")));
    json_object_set_new(root, "heads", json_value_or_null(find_arch_key(info, "attention.head_count")));
    json_object_set_new(root, "kv_heads", json_value_or_null(find_arch_key(info, "attention.head_count_kv")));
    json_object_set_new(root, "tokenizer", json_value_or_null(gguf_find(g, "tokenizer.ggml.model")));
    json_object_set_new(root, "pre_tokenizer", json_value_or_null(gguf_find(g, "tokenizer.ggml.pre")));
    json_object_set_new(root, "vocab_size", tokens ? json_integer((json_int_t)tokens->n) : json_null());
    json_object_set_new(root, "chat_template", json_boolean(template && template->type == GGUF_STRING));
    for (size_t i = 0; i < gguf_n_kv(g); i++)
        json_object_set_new(metadata, gguf_kv_at(g, i)->key.data, json_value(gguf_kv_at(g, i)));
    json_object_set_new(root, "metadata", metadata);
    json_object_set_new(root, "n_tensors", json_integer((json_int_t)gguf_n_tensors(g)));
    if (with_tensors)
        json_object_set_new(root, "tensors", json_tensors(g));
    return root;
}

static int print_json(const struct info *info, bool with_tensors)
{
    json_t *root = json_info(info, with_tensors);
    int failed = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF || fflush(stdout);

    json_decref(root);
    return failed;
}

static int print_text(const struct info *info, bool with_tensors)
{
    struct buf out = { 0 };
    int failed;

    append_summary(&out, info);
    append_metadata(&out, info->g);
    if (with_tensors)
        append_tensors(&out, info->g);
    failed = out.failed || fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout);
    buf_free(&out);
    return failed;
}

int cmd_info(int argc, char **argv)
{
    bool json = false, with_tensors = false;
    const struct option options[] = {
        { .name = "json", .type = OPTION_FLAG, .out = &json, .help = "print JSON" },
        { .name = "tensors", .type = OPTION_FLAG, .out = &with_tensors, .help = "list every tensor: type, shape, place in the file" },
    };
    const struct command command = {
        .name = "info", .usage = "info MODEL [--json] [--tensors]", .summary = "What a model file holds.",
        .options = options, .n_options = sizeof(options) / sizeof(options[0]), .min_args = 1, .max_args = 1,
    };
    const char *model;
    char path[4096];
    struct gguf *g;
    struct info info;
    size_t n_args;
    int status = options_parse(&command, argc, argv, &model, &n_args);

    if (status >= 0)
        return status;
    status = model_resolve(model, path, sizeof(path));
    if (status)
        return status;
    if (gguf_open(&g, path))
        return 1;
    collect(&info, g);
    status = (json ? print_json : print_text)(&info, with_tensors);
    if (status)
        log_error("cannot write the output");
    gguf_close(g);
    return status ? 1 : 0;
}
