#include "weights/hf_folder.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "weights/gguf_build.h"
#include "weights/gguf_internal.h"
#include "weights/hf_config.h"
#include "weights/hf_tokenizer.h"
#include "weights/torch_file.h"

/* The forms in which a folder has its weights; of several the first counts. */
struct form {
    const char *single, *index, *suffix;
    int (*read)(struct safetensors_list *list, const char *path, int fd, uint64_t size, uint32_t part);
};

static const struct form forms[] = {
    { "model.safetensors", "model.safetensors.index.json", ".safetensors", safetensors_read },
    { "pytorch_model.bin", "pytorch_model.bin.index.json", ".bin", torch_file_read },
};

/* Open one file of weights and append its tensors. */
static int add_file(struct gguf_builder *b, const struct form *form, const char *folder, const char *name, struct safetensors_list *list)
{
    char *path;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return -ENOMEM;
    const uint32_t part = gguf_put_file(b, path);
    free(path);
    if (b->err)
        return b->err;
    const struct gguf_part *p = &b->g->parts[part];
    return form->read(list, p->path, p->fd, p->size, part);
}

/* A name of an index may not lead out of the folder. */
static bool is_plain_name(const char *name, size_t n, const char *suffix)
{
    return n == strlen(name) && n > strlen(suffix) && n < 256 && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\') &&
           !strcmp(name + n - strlen(suffix), suffix);
}

/* The number of a file among the parts that are open, or 0. */
static uint32_t find_file(const struct gguf *g, const char *folder, const char *name)
{
    const size_t n = strlen(folder) + 1;

    for (size_t i = 1; i < g->n_parts; i++)
        if (!strcmp(g->parts[i].path + n, name))
            return (uint32_t)i;
    return 0;
}

static int open_files_of(const struct hf_json *index, const json_t *map, struct gguf_builder *b, const struct form *form,
                         const char *folder, struct safetensors_list *all)
{
    const char *tensor;
    json_t *value;
    char quoted[GGUF_QUOTED];
    int err = 0;

    json_object_foreach((json_t *)map, tensor, value) {
        const char *name = json_string_value(value);
        if (!name)
            return hf_fail(index, "\"weight_map\": a file is no text");
        if (!is_plain_name(name, json_string_length(value), form->suffix))
            return hf_fail(index, "names the file %s: files of the folder that end in %s are meant", gguf_quote(hf_text(value), quoted),
                           form->suffix);
        if (find_file(b->g, folder, name))
            continue;
        if (b->g->n_parts > GGUF_MAX_PARTS)
            return hf_fail(index, "names more than %d files", GGUF_MAX_PARTS);
        err = add_file(b, form, folder, name, all);
        if (err)
            return err;
    }
    return 0;
}

/* Of all that the files hold, what the index says: each tensor once, in its file. */
static int check_index(const struct hf_json *index, const json_t *map, const struct gguf_builder *b, const char *folder,
                       const struct safetensors_list *all)
{
    const char *tensor;
    json_t *value;
    char quoted[GGUF_QUOTED], file[GGUF_QUOTED];

    json_object_foreach((json_t *)map, tensor, value) {
        const struct gguf_string name = { tensor, strlen(tensor) };
        const struct safetensors_tensor *t = safetensors_find(all, name);
        if (!t || t->part != find_file(b->g, folder, json_string_value(value)))
            return hf_fail(index, "tensor %s is not in the file %s", gguf_quote(name, quoted), gguf_quote(hf_text(value), file));
    }
    return 0;
}

static int read_index(const struct hf_json *index, struct gguf_builder *b, const struct form *form, const char *folder,
                      struct safetensors_list *all)
{
    const json_t *map = hf_get(index->root, "weight_map");

    if (!json_is_object(map) || !json_object_size(map))
        return hf_fail(index, "\"weight_map\" is missing, or no object of tensors");
    int err = open_files_of(index, map, b, form, folder, all);
    return err ? err : check_index(index, map, b, folder, all);
}

static bool exists(const char *folder, const char *name)
{
    char path[PATH_MAX];

    return snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path) && access(path, F_OK) == 0;
}

static int read_form(struct gguf_builder *b, const struct form *form, const char *folder, struct safetensors_list *all)
{
    struct hf_json index;
    int err = hf_json_read(&index, folder, form->index);

    if (!err)
        err = read_index(&index, b, form, folder, all);
    else if (err == -ENOENT)
        err = add_file(b, form, folder, form->single, all);
    hf_json_free(&index);
    return err;
}

static int read_weights(struct gguf_builder *b, const char *folder, struct safetensors_list *all)
{
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (exists(folder, forms[i].index) || exists(folder, forms[i].single))
            return read_form(b, &forms[i], folder, all);
    log_error("%s: none of %s, %s, %s and %s is there", folder, forms[0].single, forms[0].index, forms[1].single, forms[1].index);
    return -EINVAL;
}

/* The last name of the path: what the model is called where nothing else says it. */
static struct gguf_string model_name(const char *path, char **resolved)
{
    *resolved = realpath(path, NULL);
    const char *from = *resolved ? *resolved : path, *slash = strrchr(from, '/');
    const char *name = slash && slash[1] ? slash + 1 : from;
    return (struct gguf_string){ name, strlen(name) };
}

/* llama.cpp's number of what most bytes of weights are; it has none for F8_E4M3. */
static uint32_t file_type(const struct gguf *g)
{
    static const struct { uint32_t type, number; } numbers[] = {
        { DTYPE_F32, 0 }, { DTYPE_F16, 1 }, { DTYPE_Q4_0, 2 }, { DTYPE_Q8_0, 7 }, { DTYPE_Q5_0, 8 }, { DTYPE_BF16, 32 }, { DTYPE_MXFP4, 38 }
    };
    uint64_t bytes[DTYPE_COUNT] = { 0 };
    size_t most = 0;

    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        bytes[gguf_tensor_at(g, i)->type] += gguf_tensor_at(g, i)->bytes;
    for (size_t i = 1; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (bytes[numbers[i].type] > bytes[numbers[most].type])
            most = i;
    return numbers[most].number;
}

static int put_all(struct hf_config *c, struct gguf_builder *b, const char *folder, struct safetensors_list *all)
{
    char *resolved;
    const struct gguf_string name = model_name(folder, &resolved);

    gguf_put_string(b, "general.architecture", (struct gguf_string){ c->family->arch, strlen(c->family->arch) });
    gguf_put_string(b, "general.type", (struct gguf_string){ "model", 5 });
    gguf_put_string(b, "general.name", name);
    free(resolved);
    int err = hf_config_put(c, b);
    if (!err)
        err = read_weights(b, folder, all);
    if (!err)
        err = hf_names_put(c, all, b);
    if (!err) {
        gguf_put_u32(b, "general.file_type", file_type(b->g));
        gguf_put_u32(b, "general.quantization_version", 2);
        err = hf_tokenizer_put(c, folder, b);
    }
    return err ? err : b->err;
}

int hf_folder_open(struct gguf **g, const char *path)
{
    struct safetensors_list all = { 0 };
    struct gguf_builder b = { .g = NULL };
    struct hf_config c;
    char *folder = strdup(path);
    int err = folder ? 0 : -ENOMEM;

    for (size_t n = folder ? strlen(folder) : 0; n > 1 && folder[n - 1] == '/'; n--)
        folder[n - 1] = '\0';
    c = (struct hf_config){ .failed = false };
    if (!err)
        err = hf_config_read(&c, folder);
    if (!err) {
        gguf_build(&b, folder);
        err = b.err ? b.err : put_all(&c, &b, folder, &all);
    }
    if (err == -ENOMEM)
        log_error("%s: no memory for its index", path);
    if (err) {
        gguf_close(b.g);
        b.g = NULL;
    }
    safetensors_free(&all);
    hf_config_free(&c);
    free(folder);
    *g = b.g;
    return err;
}
