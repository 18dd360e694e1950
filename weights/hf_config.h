/*
 * hf_config.h - config.json of a Hugging Face folder: what model it is, and its numbers as the keys of a GGUF file.
 *
 * One row a family (hf_families.c): the keys follow the files of conversion/ of ggml-org/llama.cpp. Both styles of config.json are
 * read: that of transformers 4 (rope_theta, rope_scaling) and of 5 (rope_parameters); what a multimodal model has under text_config
 * goes first.
 */
#ifndef FOURWAY_WEIGHTS_HF_CONFIG_H
#define FOURWAY_WEIGHTS_HF_CONFIG_H

#include "weights/gguf_build.h"
#include "weights/hf_json.h"
#include "weights/hf_names.h"
#include "weights/hf_quantized.h"

struct hf_config;

enum { HF_MAX_LAYERS = 1024, HF_MAX_CTX = 1 << 24 };

/* One row a model_type. */
struct hf_family {
    const char *model_type, *arch;          /* of config.json; of GGUF */
    const struct hf_name *names;            /* tensors called otherwise than hf_names.c's common table says; may be NULL */
    bool rotated_pairs;                     /* GGUF has the rows of q and k in pairs (2j, 2j + 1) */
    bool norm_plus_one;                     /* GGUF's norm weights are 1 + those of the file */
    bool tied;                              /* where tie_word_embeddings is absent */
    bool latent;                            /* multi-head latent attention: struct hf_latent */
    bool unrounded_yarn;                    /* the ramp's bounds are no whole pairs, which readers of GGUF know by the architecture */
    /* Layers beyond num_hidden_layers, for further tokens: GGUF has them, and says how many; or the converter leaves them out. */
    enum { HF_NO_EXTRA_LAYERS, HF_KEEPS_EXTRA_LAYERS, HF_DROPS_EXTRA_LAYERS } extra_layers;
    const char *activation;                 /* the only one that the architecture has */
    const char *quant_method;               /* of quantization_config, that put_pieces knows; may be NULL */
    void (*put)(struct hf_config *c);
    /* Where GGUF has one tensor for several of the file's: puts them, and what stands in their names; may be NULL. */
    int (*put_pieces)(const struct hf_config *c, const struct safetensors_list *list, struct gguf_builder *b);
    const char *const *in_pieces;
};

/* Sizes of multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): of a head's q and k, and of its v; of what is cached. */
struct hf_latent {
    uint64_t nope_dim, rope_dim, value_dim;
    uint64_t kv_rank, q_rank;               /* q_rank 0: q is one matrix */
};

struct hf_config {
    struct hf_json file;
    const json_t *object[2];                /* where keys are looked for, in this order; the second may be NULL */
    const struct hf_family *family;
    struct gguf_builder *b;                 /* while the keys are put */
    bool failed;                            /* what was wrong is logged */
    uint64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, vocab_size, n_ctx;
    uint64_t n_extra_layers;                /* behind n_layers, that are kept */
    uint64_t n_dropped_layers;              /* behind n_layers, that are not */
    uint64_t n_experts;                     /* of a mixture, once its keys are put */
    struct hf_latent latent;
    bool has_head_dim, tied;
    struct hf_quantization quantization;
};

/* Read and check what every family has. Returns 0 or a negative errno (logged); hf_config_free() in any case. */
int hf_config_read(struct hf_config *c, const char *folder);
void hf_config_free(struct hf_config *c);

/* Put the keys of the architecture, and tensors that are computed from config.json (RoPE factors). */
int hf_config_put(struct hf_config *c, struct gguf_builder *b);

/* hf_families.c: the row of a model_type, or NULL (logged, unless c has failed). */
const struct hf_family *hf_find_family(struct hf_config *c, struct gguf_string model_type);

/* For the families' functions: the value of a key, or `otherwise`; NAN or UINT64_MAX as that means that the key must be there. */
uint64_t hf_config_u64(struct hf_config *c, const char *key, uint64_t least, uint64_t most, uint64_t otherwise);
double hf_config_f64(struct hf_config *c, const char *key, double least, double most, double otherwise);
bool hf_config_bool(struct hf_config *c, const char *key, bool otherwise);
struct gguf_string hf_config_text(struct hf_config *c, const char *key, const char *otherwise);

/* The same of an object within, or of NULL, which has no key. of: whose key it is, where it is missing, such as " of the RoPE scaling". */
uint64_t hf_config_u64_in(struct hf_config *c, const json_t *object, const char *of, const char *key, uint64_t least, uint64_t most,
                          uint64_t otherwise);
double hf_config_f64_in(struct hf_config *c, const json_t *object, const char *of, const char *key, double least, double most,
                        double otherwise);
bool hf_config_bool_in(struct hf_config *c, const json_t *object, const char *key, bool otherwise);
struct gguf_string hf_config_text_in(struct hf_config *c, const json_t *object, const char *key, const char *otherwise);
bool hf_text_is(struct gguf_string text, const char *expected);
const json_t *hf_config_get(const struct hf_config *c, const char *key);
void hf_config_fail(struct hf_config *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Put ARCH.key. */
void hf_put_u32(struct hf_config *c, const char *key, uint64_t value);
void hf_put_f32(struct hf_config *c, const char *key, double value);
void hf_put_bool(struct hf_config *c, const char *key, bool value);
void hf_put_flags(struct hf_config *c, const char *key, const unsigned char *flags, size_t n);
void hf_put_text(struct hf_config *c, const char *key, const char *value);

/* hf_rope.c: base and scaling of RoPE; `base` where config.json has none. Those of sliding layers (Gemma 3): hf_put_local_rope(). */
void hf_put_rope(struct hf_config *c, double base);
void hf_put_local_rope(struct hf_config *c, double base);
/* The same where a part of each head is rotated: rotary_dim, else partial_rotary_factor of it, else `share`. */
void hf_put_partial_rope(struct hf_config *c, double base, double share);
/* Phi-3's dims, original length and factors for short and long texts. */
void hf_put_longrope(struct hf_config *c);

#endif
