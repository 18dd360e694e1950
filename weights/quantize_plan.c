#include "weights/quantize_plan.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"

const struct quantize_target quantize_targets[QUANTIZE_TARGETS] = {
    { "f32", DTYPE_F32, 0 }, { "f16", DTYPE_F16, 1 }, { "bf16", DTYPE_BF16, 32 }, { "q8_0", DTYPE_Q8_0, 7 }, { "q4_0", DTYPE_Q4_0, 2 },
    { "q4_1", DTYPE_Q4_1, 3 }, { "q5_0", DTYPE_Q5_0, 8 }, { "q5_1", DTYPE_Q5_1, 9 }, { "q4_k", DTYPE_Q4_K, 14 },
    { "q5_k", DTYPE_Q5_K, 16 }, { "q6_k", DTYPE_Q6_K, 18 },
};

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n >= m && !strcmp(text + n - m, end);
}

/* Matrices by their names, as llama.cpp has it (src/llama-quant.cpp): small ones, whose rounding costs much and saves nothing, stay. */
static bool is_large_matrix(const struct gguf_tensor *t)
{
    static const char *const small[] = {
        "ffn_gate_inp.", "position_embd", "token_types", "ssm_conv1d", "shortconv.conv", "altup", "laurel", "per_layer_model_proj",
    };
    const char *name = t->name.data;

    if (t->n_dims < 2 || t->ne[1] * t->ne[2] * t->ne[3] < 2 || !ends_with(name, ".weight") || ends_with(name, "_norm.weight"))
        return false;
    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++)
        if (strstr(name, small[i]))
            return false;
    return true;
}

static bool is_plain_float(uint32_t type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16;
}

/* FP8 is how the model was published: there is nothing wider to take. */
static bool is_published_form(uint32_t type)
{
    return is_plain_float(type) || type == DTYPE_F8_E4M3;
}

/* A type that a row of n values can have. */
static enum dtype fitting(enum dtype type, uint64_t n)
{
    if (n % dtype_info(type)->block == 0)
        return type;
    switch (type) {
    case DTYPE_Q4_K: return fitting(DTYPE_Q5_0, n);
    case DTYPE_Q5_K: return fitting(DTYPE_Q5_1, n);
    case DTYPE_Q6_K: return fitting(DTYPE_Q8_0, n);
    default:         return DTYPE_F16;
    }
}

static enum dtype choose(const struct gguf_tensor *t, enum dtype target)
{
    const bool is_edge = !strcmp(t->name.data, "token_embd.weight") || !strcmp(t->name.data, "output.weight");

    if (!is_large_matrix(t))
        return dtype_info(t->type)->own ? DTYPE_F32 : t->type;
    if (is_edge && !is_plain_float(target) && target != DTYPE_Q8_0)
        target = DTYPE_Q6_K;
    return fitting(target, t->ne[0]);
}

int quantize_plan(const struct gguf *g, enum dtype target, bool allow_requantize, bool (*can_decode)(enum dtype type), enum dtype *types)
{
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char quoted[GGUF_QUOTED];

        types[i] = choose(t, target);
        if (types[i] == (enum dtype)t->type)
            continue;
        if (!can_decode(t->type)) {
            log_error("%s: tensor %s is %s, which this version cannot read values of", gguf_path(g), gguf_quote(t->name, quoted),
                      dtype_info(t->type)->name);
            return -EINVAL;
        }
        if (!is_published_form(t->type) && !is_plain_float(types[i]) && !allow_requantize) {
            log_error("%s: tensor %s is quantised already (%s) and would lose more as %s: take the model in 16 bits, or say "
                      "--allow-requantize", gguf_path(g), gguf_quote(t->name, quoted), dtype_info(t->type)->name,
                      dtype_info(types[i])->name);
            return -EINVAL;
        }
    }
    return 0;
}

void quantize_plan_load(const struct gguf *g, enum dtype target, enum dtype *types)
{
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        types[i] = target != DTYPE_F32 && is_published_form(t->type) ? choose(t, target) : t->type;
    }
}

uint64_t quantize_matrix_bytes(enum dtype type, uint64_t n_rows, uint64_t k)
{
    const struct dtype_info *info = dtype_info(type);

    if (type == DTYPE_F8_E4M3)
        return n_rows * k + (n_rows + 127) / 128 * ((k + 127) / 128) * sizeof(float);
    return n_rows * (k / info->block * info->block_bytes);
}
