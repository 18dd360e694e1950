/*
 * hf_quantization.c - quantization_config of config.json: the method, and what of it no tensor tells. What is not known is refused with
 * its name, as it would change the values.
 */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "weights/hf_config.h"

static const char before[] = "take the model before it was quantized, and `fourway quantize`";

/* A key whose text must be one of a list that ends with a NULL, or absent; in any case of letters. */
static struct gguf_string one_of(struct hf_config *c, const json_t *from, const char *method, const char *key, const char *const *known)
{
    const struct gguf_string text = hf_config_text_in(c, from, key, "");
    char quoted[GGUF_QUOTED];

    while (*known && strcasecmp(*known, text.data))
        known++;
    if (text.len && !*known)
        hf_config_fail(c, "\"quantization_config\": %s with \"%s\" %s is not supported; %s", method, key, gguf_quote(text, quoted), before);
    return text;
}

static void read_bits(struct hf_config *c, const json_t *from, const char *method, bool eight)
{
    struct hf_quantization *q = &c->quantization;
    const json_t *group = hf_get(from, "group_size");
    const uint64_t bits = hf_config_u64_in(c, from, "", "bits", 1, 32, 4);
    uint64_t columns = UINT64_MAX;

    if (bits != 4 && !(eight && bits == 8))
        hf_config_fail(c, "\"quantization_config\": %s of %" PRIu64 " bits is not supported (%s); %s", method, bits,
                       eight ? "4 and 8 are" : "4 are", before);
    q->bits = (uint32_t)bits;
    if (group && !(json_is_integer(group) && json_integer_value(group) == -1) &&
        (!hf_integer(group, INT32_MAX, &columns) || columns < 1))
        hf_config_fail(c, "\"quantization_config\": \"group_size\" is neither -1 nor a number of columns");
    q->group = group ? columns : 0;
}

static void read_gptq(struct hf_config *c, const json_t *from)
{
    const struct gguf_string format = one_of(c, from, "GPTQ", "checkpoint_format", (const char *const[]){ "gptq", "gptq_v2", NULL });

    c->quantization.method = HF_GPTQ;
    read_bits(c, from, "GPTQ", true);
    c->quantization.symmetric = hf_config_bool_in(c, from, "sym", false);
    c->quantization.zero_plus = strcasecmp(format.data, "gptq_v2") ? 1 : 0;
    if (hf_config_bool_in(c, from, "is_marlin_format", false))
        hf_config_fail(c, "\"quantization_config\": GPTQ in the order of Marlin kernels is not supported; %s", before);
}

static void read_awq(struct hf_config *c, const json_t *from)
{
    one_of(c, from, "AWQ", "version", (const char *const[]){ "gemm", NULL });
    c->quantization.method = HF_AWQ;
    read_bits(c, from, "AWQ", false);
}

/* [rows, columns], or null for scales of other shapes. */
static void read_block(struct hf_config *c, const json_t *block)
{
    struct hf_quantization *q = &c->quantization;

    if (!block)
        return;
    if (json_array_size(block) != 2 || !hf_integer(json_array_get(block, 0), INT32_MAX, &q->block_rows) || q->block_rows < 1 ||
        !hf_integer(json_array_get(block, 1), INT32_MAX, &q->block_columns) || q->block_columns < 1)
        hf_config_fail(c, "\"quantization_config\": the size of its blocks is no array of two numbers");
}

static void read_fp8(struct hf_config *c, const json_t *from)
{
    one_of(c, from, "FP8", "fmt", (const char *const[]){ "e4m3", "float8_e4m3fn", NULL });
    c->quantization.method = HF_FP8;
    read_block(c, hf_get(from, "weight_block_size"));
}

static void read_compressed(struct hf_config *c, const json_t *from)
{
    static const char *const formats[] = { "pack-quantized", "int-quantized", "float-quantized", "naive-quantized",
                                           "mxfp4-pack-quantized", "mixed-precision", NULL };
    const char *name;
    json_t *group;

    c->quantization.method = HF_COMPRESSED;
    one_of(c, from, "compressed-tensors", "format", formats);
    one_of(c, hf_get(from, "sparsity_config"), "compressed-tensors", "format", (const char *const[]){ "dense", NULL });
    if (json_object_size(hf_get(from, "transform_config")))
        hf_config_fail(c, "\"quantization_config\": compressed-tensors with a \"transform_config\" is not supported; %s", before);
    json_object_foreach((json_t *)hf_get(from, "config_groups"), name, group) {
        one_of(c, group, "compressed-tensors", "format", formats);
        if (!c->quantization.block_rows)
            read_block(c, hf_get(hf_get(group, "weights"), "block_structure"));
    }
}

void hf_quantization_read(struct hf_config *c)
{
    static const struct { const char *name; void (*read)(struct hf_config *c, const json_t *from); } methods[] = {
        { "awq", read_awq }, { "compressed-tensors", read_compressed }, { "fp8", read_fp8 }, { "gptq", read_gptq }
    };
    const json_t *from = hf_config_get(c, "quantization_config");
    char quoted[GGUF_QUOTED];

    from = from ? from : hf_config_get(c, "compression_config");
    if (!from)
        return;
    const struct gguf_string method = hf_config_text_in(c, from, "quant_method", "");
    if (c->family->quant_method && !strcmp(c->family->quant_method, method.data))
        return;                     /* the family's own way, which put_pieces knows */
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (!strcmp(methods[i].name, method.data)) {
            methods[i].read(c, from);
            return;
        }
    }
    hf_config_fail(c, "quantized with %s, which is not supported (awq, compressed-tensors, fp8 and gptq are); %s",
                   gguf_quote(method, quoted), before);
}
