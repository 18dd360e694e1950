/*
 * config.h - a model's hyper-parameters, from the file's metadata, validated once (formats.md sections 4 and 12).
 */
#ifndef FOURWAY_MODEL_CONFIG_H
#define FOURWAY_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/gguf.h"

enum arch { ARCH_LLAMA, ARCH_GEMMA3 };
enum rope_pairs { ROPE_PAIRS_NORM, ROPE_PAIRS_NEOX };   /* how the file orders the rows of q and k (formats.md 5) */

enum { MODEL_MAX_LAYERS = 1024 };

struct model_config {
    enum arch arch;
    char arch_name[32], name[128];
    size_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size, n_ctx_train;
    float norm_eps;
    enum rope_pairs rope_pairs;
    double rope_base, rope_base_local;          /* local: the sliding layers of gemma3 */
    double rope_linear_factor;                  /* positions are divided by it (global layers); 1: none */
    size_t sliding_window;                      /* 0: none. position p sees q with 0 <= p - q < window */
    bool layer_slides[MODEL_MAX_LAYERS];
    float attention_scale;                      /* scores are multiplied by it */
    float embedding_scale;                      /* 1, or sqrt(d_model) for gemma3 */
    float final_softcap, attention_softcap;     /* 0: none */
    bool tied_embedding;
    uint64_t n_params;
};

/* Returns 0, or -EINVAL after one line that names the file and the key. */
int model_config_read(struct model_config *c, const struct gguf *g);

/* "llama, gemma3" */
const char *model_config_supported(void);

#endif
