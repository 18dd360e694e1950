/*
 * config.h - a model's hyper-parameters, from the file's metadata, validated once. Keys and limits: config.c.
 */
#ifndef FOURWAY_MODEL_CONFIG_H
#define FOURWAY_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/gguf.h"

enum { MODEL_MAX_LAYERS = 1024, MODEL_MAX_HEAD_DIM = 1024 };

enum ffn_activation { FFN_SILU, FFN_GELU };

struct model_config {
    char arch[32], name[128];
    size_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size, n_ctx_train;
    float norm_eps;

    /* What an architecture does differently; set from one table row in config.c. */
    bool qk_norm;                               /* RMSNorm of each head of q and k before RoPE */
    bool post_norms;                            /* norms of the outputs of attention and FFN before the residual add */
    bool rope_rows_interleaved;                 /* the file's rows of q and k pair (2j, 2j + 1); packing undoes it */
    enum ffn_activation ffn_activation;
    float embedding_scale;                      /* embeddings are multiplied by it */
    float attention_scale;                      /* scores are multiplied by it */
    float attention_softcap, final_softcap;     /* 0: none */

    double rope_base, rope_base_sliding;        /* the second is for the layers that slide */
    double rope_linear_factor;                  /* positions of the other layers are divided by it; 1: none */
    size_t sliding_window;                      /* 0: none. position p sees q with 0 <= p - q < sliding_window */
    bool layer_slides[MODEL_MAX_LAYERS];
    bool tied_embedding;                        /* the output matrix is the embedding */
};

/* Returns 0, or -EINVAL after one line that names the file and the key. */
int model_config_read(struct model_config *c, const struct gguf *g);

/* "llama, gemma3" */
const char *model_config_supported(void);

#endif
