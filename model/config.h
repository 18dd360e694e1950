/*
 * config.h - a model's hyper-parameters, from the file's metadata, validated once. Keys and limits: config.c.
 */
#ifndef FOURWAY_MODEL_CONFIG_H
#define FOURWAY_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/gguf.h"

enum { MODEL_MAX_LAYERS = 1024, MODEL_MAX_HEAD_DIM = 1024, MODEL_MAX_EXPERTS_USED = 64, MODEL_MAX_EXPERT_GROUPS = 256 };

enum ffn_activation { FFN_SILU, FFN_GELU, FFN_CLAMPED };     /* the last: gpt-oss, of experts alone */

enum rope_scaling { ROPE_PLAIN, ROPE_LINEAR, ROPE_YARN, ROPE_LONG, ROPE_DYNAMIC };

/* How positions rotate q and k; model/rope.c turns it into frequencies. */
struct rope_config {
    size_t n_dims;                              /* of a head, the first ones, or, latent, the last: pairs (j, j + n_dims / 2) */
    double base;
    enum rope_scaling scaling;
    double factor;                              /* linear, yarn, dynamic */
    double n_ctx_original;                      /* yarn, long, dynamic: what the model was trained for before its context was extended */
    double magnitude;                           /* cos and sin are multiplied by it */
    double beta_fast, beta_slow;                /* yarn: between these turns over the original context lies the ramp, */
    bool keeps_bounds;                          /* whose ends are not rounded to whole pairs */
    bool has_factors;                           /* the file may have a divisor for each frequency (rope_freqs.weight) */
};

/* Which prompts have another RoPE than the usual one, for all the life of their sequence: then it shares no pages with others. */
struct rope_lengths {
    size_t n_short;             /* not 0: longer ones have; */
    bool each;                  /* one for each length, instead of one for all */
};

/* 0: the usual one. */
static inline uint32_t rope_length(const struct rope_lengths *r, size_t n_prompt)
{
    return !r->n_short || n_prompt <= r->n_short ? 0 : (uint32_t)(r->each ? n_prompt : r->n_short + 1);
}

/* Which hidden states make an embedding: all of the prompt's, the first, the last. The numbers are those of pooling_type in GGUF files. */
enum pooling { POOLING_NONE, POOLING_MEAN, POOLING_CLS, POOLING_LAST };

struct model_config {
    char arch[32], name[128];
    size_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab_size, n_ctx_train;
    size_t value_dim;                           /* of a head's output; head_dim, unless attention is latent (kv_rank) */
    float norm_eps;

    /* What an architecture does differently; set from one table row in config.c. */
    bool qk_norm;                               /* RMSNorm of each head of q and k before RoPE */
    bool sinks;                                 /* each head attends to one more score, which has no value */
    const char *ffn_norm;                       /* what the file calls the norm before the FFN */
    size_t n_extra_layers;                      /* behind n_layers in the file: for predicting further tokens, not used */
    bool all_biases;                            /* of the attention's output, the router and the experts, too */
    bool wide_qk_norm;                          /* RMSNorm of all heads of q, and of k, together */
    bool qkv_bias;                              /* q, k and v have biases */
    /* Not 0: multi-head latent attention (mla.c): one KV head of kv_rank + rope.n_dims dims. q_rank 0: q is one product, not two. */
    size_t kv_rank, q_rank;
    size_t nope_dim;                            /* dims of a head of q that have no position, before the rope.n_dims that do */
    bool filters;                               /* Yuan: a filter over time before q and k (lfa.c) */
    bool fused_qkv, fused_ffn;                  /* the file has q, k, v in one matrix; and gate and up */
    bool post_norms;                            /* norms of the outputs of attention and FFN before the residual add */
    bool rope_rows_interleaved;                 /* the file's rows of q and k pair (2j, 2j + 1); packing undoes it */
    enum ffn_activation ffn_activation;
    float embedding_scale;                      /* embeddings are multiplied by it */
    float attention_scale;                      /* scores are multiplied by it */
    float attention_softcap, final_softcap;     /* 0: none */

    struct rope_config rope, rope_sliding;      /* the second is for the layers that slide */
    enum expert_gating { GATING_SOFTMAX = 1, GATING_SIGMOID = 2 } gating;       /* the numbers are those of GGUF files */
    bool attention_router;                      /* Yuan2-M32: three products of each expert, and attention among the experts */
    bool expert_weights_norm;                   /* a token's weights are divided by their sum, and then */
    float expert_weights_scale;                 /* multiplied by this */
    size_t n_expert_groups, n_expert_groups_used;       /* only experts of a token's best groups are chosen; 0: no groups */
    size_t d_ff_shared;                         /* of the expert that every token goes to; 0: none */
    size_t n_experts, n_experts_used, d_ff_expert;      /* 0: no mixture of experts; of a layer, and how many of them a token goes to */
    bool layer_rotates[MODEL_MAX_LAYERS];       /* else q and k have no position */
    size_t sliding_window;                      /* 0: none. position p sees q with 0 <= p - q < sliding_window */
    bool layer_slides[MODEL_MAX_LAYERS];
    bool tied_embedding;                        /* the output matrix is the embedding */
    enum pooling pooling;                       /* NONE: the file says that the model gives no embeddings */
};

/* Returns 0, or -EINVAL after one line that names the file and the key. */
int model_config_read(struct model_config *c, const struct gguf *g);

#endif
