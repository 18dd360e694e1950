#include "weights/hf_config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "weights/gguf_internal.h"

/* The limits of model/config.c. */
enum { MAX_HEADS = 1024, MAX_HEAD_DIM = 1024, MAX_D_MODEL = 65536, MAX_VOCAB = 1 << 21, MAX_CTX = HF_MAX_CTX };

void hf_config_fail(struct hf_config *c, const char *format, ...)
{
    char text[1024];
    va_list args;

    if (c->failed)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    hf_fail(&c->file, "%s", text);
    c->failed = true;
}

const json_t *hf_config_get(const struct hf_config *c, const char *key)
{
    const json_t *value = hf_get(c->object[0], key);

    return value ? value : hf_get(c->object[1], key);
}

/* The object that has the key, or the first. */
static const json_t *owner(const struct hf_config *c, const char *key)
{
    return !hf_get(c->object[0], key) && hf_get(c->object[1], key) ? c->object[1] : c->object[0];
}

bool hf_text_is(struct gguf_string text, const char *expected)
{
    return text.len == strlen(expected) && !memcmp(text.data, expected, text.len);
}

struct gguf_string hf_config_text_in(struct hf_config *c, const json_t *object, const char *key, const char *otherwise)
{
    struct gguf_string value = { otherwise, strlen(otherwise) };

    if (!c->failed && hf_get_string(&c->file, object, key, &value) == -EINVAL)
        c->failed = true;
    return value;
}

uint64_t hf_config_u64_in(struct hf_config *c, const json_t *object, const char *of, const char *key, uint64_t least, uint64_t most,
                          uint64_t otherwise)
{
    uint64_t value = otherwise;
    int err = c->failed ? 0 : hf_get_u64(&c->file, object, key, least, most, &value);

    if (err == -ENOENT && otherwise == UINT64_MAX)
        hf_config_fail(c, "\"%s\"%s is missing", key, of);
    else if (err == -EINVAL)
        c->failed = true;
    return value;
}

double hf_config_f64_in(struct hf_config *c, const json_t *object, const char *of, const char *key, double least, double most,
                        double otherwise)
{
    double value = otherwise;
    int err = c->failed ? 0 : hf_get_f64(&c->file, object, key, least, most, &value);

    if (err == -ENOENT && isnan(otherwise))
        hf_config_fail(c, "\"%s\"%s is missing", key, of);
    else if (err == -EINVAL)
        c->failed = true;
    return value;
}

bool hf_config_bool_in(struct hf_config *c, const json_t *object, const char *key, bool otherwise)
{
    bool value = otherwise;

    if (!c->failed && hf_get_bool(&c->file, object, key, &value) == -EINVAL)
        c->failed = true;
    return value;
}

struct gguf_string hf_config_text(struct hf_config *c, const char *key, const char *otherwise)
{
    return hf_config_text_in(c, owner(c, key), key, otherwise);
}

uint64_t hf_config_u64(struct hf_config *c, const char *key, uint64_t least, uint64_t most, uint64_t otherwise)
{
    return hf_config_u64_in(c, owner(c, key), "", key, least, most, otherwise);
}

double hf_config_f64(struct hf_config *c, const char *key, double least, double most, double otherwise)
{
    return hf_config_f64_in(c, owner(c, key), "", key, least, most, otherwise);
}

bool hf_config_bool(struct hf_config *c, const char *key, bool otherwise)
{
    return hf_config_bool_in(c, owner(c, key), key, otherwise);
}

static const char *full_key(const struct hf_config *c, const char *key, char out[128])
{
    snprintf(out, 128, "%s.%s", c->family->arch, key);
    return out;
}

void hf_put_u32(struct hf_config *c, const char *key, uint64_t value)
{
    char name[128];

    if (!c->failed)
        gguf_put_u32(c->b, full_key(c, key, name), (uint32_t)value);
}

void hf_put_f32(struct hf_config *c, const char *key, double value)
{
    char name[128];

    if (!c->failed)
        gguf_put_f32(c->b, full_key(c, key, name), (float)value);
}

void hf_put_bool(struct hf_config *c, const char *key, bool value)
{
    char name[128];

    if (!c->failed)
        gguf_put_bool(c->b, full_key(c, key, name), value);
}

void hf_put_flags(struct hf_config *c, const char *key, const unsigned char *flags, size_t n)
{
    char name[128];

    if (!c->failed)
        gguf_put_array(c->b, full_key(c, key, name), GGUF_BOOL, flags, n);
}

void hf_put_text(struct hf_config *c, const char *key, const char *value)
{
    char name[128];

    if (!c->failed)
        gguf_put_string(c->b, full_key(c, key, name), (struct gguf_string){ value, strlen(value) });
}

/* Whatever would change the result and has no place in GGUF is refused. */
static void refuse_others(struct hf_config *c)
{
    const char *activation_key = hf_config_get(c, "hidden_activation") ? "hidden_activation" : "hidden_act";
    char quoted[GGUF_QUOTED];

    hf_quantization_read(c);
    const struct gguf_string activation = hf_config_text(c, activation_key, c->family->activation);
    if (!hf_text_is(activation, c->family->activation))
        hf_config_fail(c, "\"%s\" is %s, model_type \"%s\" is supported with \"%s\"", activation_key, gguf_quote(activation, quoted),
                       c->family->model_type, c->family->activation);
}

/* Multi-head latent attention: what its keys and values are made of. The head_dim of new files is the rotated part alone. */
static void read_latent(struct hf_config *c)
{
    struct hf_latent *l = &c->latent;

    l->nope_dim = hf_config_u64(c, "qk_nope_head_dim", 1, MAX_HEAD_DIM, UINT64_MAX);
    l->rope_dim = hf_config_u64(c, "qk_rope_head_dim", 2, MAX_HEAD_DIM, UINT64_MAX);
    l->value_dim = hf_config_u64(c, "v_head_dim", 1, MAX_HEAD_DIM, UINT64_MAX);
    l->kv_rank = hf_config_u64(c, "kv_lora_rank", 1, MAX_D_MODEL, UINT64_MAX);
    l->q_rank = hf_config_u64(c, "q_lora_rank", 1, MAX_D_MODEL, 0);
    c->has_head_dim = false;
    c->head_dim = l->nope_dim + l->rope_dim;
}

int hf_config_read(struct hf_config *c, const char *folder)
{
    *c = (struct hf_config){ .failed = false };
    int err = hf_json_read(&c->file, folder, "config.json");
    if (err == -ENOENT)
        log_error("%s: not a model: a folder needs config.json, as Hugging Face models have it", folder);
    if (err)
        return err == -ENOENT ? -EINVAL : err;
    const json_t *text = hf_get(c->file.root, "text_config");
    text = text ? text : hf_get(c->file.root, "llm_config");
    c->object[0] = json_is_object(text) ? text : c->file.root;
    c->object[1] = json_is_object(text) ? c->file.root : NULL;
    c->family = hf_find_family(c, hf_config_text(c, "model_type", ""));
    if (!c->family)
        return -EINVAL;
    refuse_others(c);
    const bool gemma = c->family->norm_plus_one;        /* its files leave out what is as transformers has it */
    c->n_layers = hf_config_u64(c, "num_hidden_layers", 1, HF_MAX_LAYERS, UINT64_MAX);
    c->d_model = hf_config_u64(c, "hidden_size", 1, MAX_D_MODEL, UINT64_MAX);
    c->n_heads = hf_config_u64(c, "num_attention_heads", 1, MAX_HEADS, gemma ? 8 : UINT64_MAX);
    c->n_kv_heads = hf_config_u64(c, "num_key_value_heads", 1, MAX_HEADS, gemma ? 4 : c->n_heads);
    c->has_head_dim = gemma || hf_config_get(c, "head_dim");
    c->vocab_size = hf_config_u64(c, "vocab_size", 1, MAX_VOCAB, gemma ? 262208 : UINT64_MAX);
    c->n_ctx = hf_config_u64(c, "max_position_embeddings", 1, MAX_CTX, gemma ? 131072 : UINT64_MAX);
    c->tied = hf_config_bool(c, "tie_word_embeddings", c->family->tied);
    if (c->family->extra_layers == HF_KEEPS_EXTRA_LAYERS)
        c->n_extra_layers = hf_config_u64(c, "num_nextn_predict_layers", 0, 16, 0);
    else if (c->family->extra_layers == HF_DROPS_EXTRA_LAYERS)
        c->n_dropped_layers = hf_config_u64(c, "num_nextn_predict_layers", 0, 16, 0);
    if (c->failed)
        return -EINVAL;
    c->head_dim = hf_config_u64(c, "head_dim", 1, MAX_HEAD_DIM, gemma ? 256 : c->d_model / c->n_heads);
    /* Yuan says how wide all heads are together. */
    const uint64_t outputs = hf_config_u64(c, "attention_projection_size", 1, (uint64_t)MAX_HEADS * MAX_HEAD_DIM, 0);
    if (outputs && !c->has_head_dim) {
        c->head_dim = outputs / c->n_heads;
        c->has_head_dim = true;
    }
    if (c->family->latent)
        read_latent(c);
    const char *of_head = c->family->latent ? "\"qk_nope_head_dim\" + \"qk_rope_head_dim\"" :
                                              "\"head_dim\", or \"hidden_size\" / \"num_attention_heads\"";
    if (!c->failed && c->n_heads % c->n_kv_heads)
        hf_config_fail(c, "\"num_key_value_heads\" is %" PRIu64 ", does not divide \"num_attention_heads\" %" PRIu64, c->n_kv_heads,
                       c->n_heads);
    if (!c->failed && (c->head_dim < 2 || c->head_dim > MAX_HEAD_DIM || c->head_dim % 2))
        hf_config_fail(c, "head size %" PRIu64 " (%s), expected an even number of 2..%d", c->head_dim, of_head, MAX_HEAD_DIM);
    return c->failed ? -EINVAL : 0;
}

void hf_config_free(struct hf_config *c)
{
    hf_json_free(&c->file);
}

int hf_config_put(struct hf_config *c, struct gguf_builder *b)
{
    const double eps = hf_config_f64(c, "rms_norm_eps", 1e-12, 0.1, c->family->norm_plus_one ? 1e-6 : NAN);

    c->b = b;
    hf_put_u32(c, "block_count", c->n_layers + c->n_extra_layers);
    hf_put_u32(c, "context_length", c->n_ctx);
    hf_put_u32(c, "embedding_length", c->d_model);
    hf_put_u32(c, "feed_forward_length", hf_config_u64(c, "intermediate_size", 1, 1 << 20, UINT64_MAX));
    hf_put_u32(c, "attention.head_count", c->n_heads);
    hf_put_u32(c, "attention.head_count_kv", c->family->latent ? 1 : c->n_kv_heads);     /* all heads share one latent vector */
    hf_put_f32(c, "attention.layer_norm_rms_epsilon", eps);
    if (c->has_head_dim) {
        hf_put_u32(c, "attention.key_length", c->head_dim);
        hf_put_u32(c, "attention.value_length", c->head_dim);
    }
    c->family->put(c);
    if (b->err)
        return b->err;
    return c->failed ? -EINVAL : 0;
}
