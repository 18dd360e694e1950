/*
 * model_internal.h - what the files of this folder share of a model: weights, node memories and a step's plan.
 */
#ifndef FOURWAY_MODEL_MODEL_INTERNAL_H
#define FOURWAY_MODEL_MODEL_INTERNAL_H

#include <stdatomic.h>

#include "kernels/kernels.h"
#include "kernels/providers/providers.h"
#include "model/config.h"
#include "model/forward.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "model/profile.h"
#include "numa/place.h"
#include "numa/pool.h"
#include "weights/gguf.h"

enum {
    PRIVATE_TOKENS = 2,         /* steps of up to this many tokens: each worker repeats the per-token passes for itself instead of
                                 * sharing them and waiting at a barrier. Chosen, not measured yet */
    TILE_FLOATS = 1 << 16,      /* a worker's tile of gate or up outputs: 256 KiB, so that two stay in L2 */
    ATTENTION_SLOTS = 256       /* chunk partials of a node while the chunks of a few queries are split over its workers */
};

_Static_assert((int)MODEL_MAX_HEAD_DIM <= (int)KV_MAX_HEAD_DIM, "the kernels of attention have room for the widest head");
_Static_assert(TILE_FLOATS / MODEL_MAX_STEP_TOKENS >= 32, "a tile holds a quantisation block of all tokens of a step");

/* Which panels of a matrix lie on which node: node v has start[v] .. start[v + 1] - 1. */
struct split { size_t start[TOPOLOGY_MAX_NODES + 1]; };

struct matrix {
    const struct gguf_tensor *tensor;   /* valid while loading */
    enum dtype type;
    size_t n_rows, k;                   /* as in the file */
    size_t k_padded, n_panels, panel_bytes;
    size_t head_dim;                    /* not 0: rows are heads of head_dim, each padded to whole panels */
    bool interleaved;                   /* the rows of a head pair (2j, 2j + 1): packed as (j, j + head_dim / 2) */
    const struct split *split;
    unsigned char *panels[TOPOLOGY_MAX_NODES];
    matmul_fn multiply[ROLE_COUNT];
    const void *prepared;               /* of the library that serves a role, if one does */
    enum activation activation[ROLE_COUNT];
    size_t n_terms[ROLE_COUNT];         /* of int8 activations; else 1 */
    _Atomic size_t n_nonfinite;         /* rows with a scale, minimum or value that is not finite */
};

/* The matrices and norms of a layer. A norm is copied to each node: copy[node]. */
struct norm { const struct gguf_tensor *tensor; size_t n; float *copy[TOPOLOGY_MAX_NODES]; bool nonfinite; };

struct layer {
    struct matrix q, k, v, o, gate, up, down;
    struct norm attn_norm, ffn_norm, q_norm, k_norm, post_attn_norm, post_ffn_norm;    /* tensor NULL: the architecture has none */
};

/*
 * How a token's activations lie at the input of some matrices: a record with each kind that any of them takes for a token of its role.
 * Sites: q, k, v; o; gate, up; down; output.
 *
 * Int8 activations have two terms where attention begins and at the output matrix: a second record holds what the first left of the
 * vector, quantised again, and the products of both are added. There errors weigh most (scores and logits are exponentiated) and
 * arithmetic costs least: q, k, v are a ninth to a sixth of a layer, only the last token of a prompt meets the output matrix, and no
 * more bytes are read. KL divergence from float32 at the positions of the golden data, SmolLM2 and Gemma 3 270M: one term everywhere
 * 0.0029, 0.0024; two for v 0.0020, 0.0022; for v and output 0.0014, 0.0018; for q, k, v and output 0.0015, 0.0014. Without q and k, ten
 * percent less arithmetic in prefill, SmolLM2 no longer named Paris when asked for France's capital: 0.1 nat decide there.
 */
enum site { SITE_ATTN_IN, SITE_ATTN_OUT, SITE_FFN_IN, SITE_FFN_MID, SITE_HEAD_IN, SITE_COUNT };
struct site_layout {
    bool used[ROLE_COUNT][ACT_COUNT];
    size_t offset[ROLE_COUNT][ACT_COUNT];
    size_t n_terms[ROLE_COUNT]; /* the most that a matrix takes here */
    size_t k_padded;
    size_t bytes[ROLE_COUNT];   /* of a record: token_bytes / n_terms, a multiple of 64 */
    size_t token_bytes;         /* of all terms of either role */
};

struct node_memory {
    struct place_arena weights, kv, scratch;
    size_t first_kv_head, n_kv_heads;           /* heads whose keys and values it keeps: its own, or all where pages are dealt */
    size_t first_page, n_pages;                 /* pages that it keeps of those heads */
    size_t first_q_head, n_q_heads;             /* query heads whose outputs it hands on */
    float *x;                                   /* [tokens][d_padded] residual stream */
    unsigned char *act_in, *act_attn, *act_mid; /* [tokens] records: of ATTN_IN, FFN_IN and HEAD_IN; ATTN_OUT; FFN_MID */
    float *q, *k, *v;                           /* [tokens] rows of qkv_floats: those of the heads above, then k, then v */
    size_t qkv_floats;
    float *sent_qkv;                            /* where pages are dealt: such rows with what this node's matrices gave, for all nodes */
    float *y;                                   /* [tokens][d_out] outputs of o and down */
    float *attn;                                /* [tokens][heads x head_dim], only where heads straddle quantisation blocks */
    float *cos, *sin;                           /* [2][tokens][head_dim / 2]; the second for layers that slide */
    float *slots;                               /* attention partials */
    _Atomic uint32_t *items_taken;              /* [layers] attention items that a worker of the node has begun; 0 before a step */
};

struct worker_memory {
    void *matmul_scratch;
    float *x;                   /* [PRIVATE_TOKENS][d_padded] */
    unsigned char *act_in;      /* [PRIVATE_TOKENS] records */
    float *tmp, *tmp2;          /* [widest vector] */
    float *tile, *tile2;        /* TILE_FLOATS */
    float *out, *merged;        /* [ATTEND_MAX_Q][head_padded] */
    struct profile_worker profile;
};

/* Consecutive tokens of one sequence that go through attention together: queries of one call. */
struct attention_block {
    size_t token, n_tokens;
    uint32_t position;          /* of the first */
    const int32_t *pages;
};

struct model {
    struct model_config config;
    struct kernels kernels;
    struct topology topology;
    size_t n_machine_nodes, n_replicas;
    double memory_share;                /* of what all copies together may take: by the free memory of their nodes */
    enum place_pages pages;
    struct pool *pool;
    enum kv_type kv_type;
    enum activations_option activations;
    enum gemm_choice gemm;
    struct onednn *onednn;              /* NULL unless it serves */
    const char *gemm_implementation;    /* a library's own name of what it does with the first matrix that takes same_bits away, else with
                                         * the first; "" without one */
    bool same_bits, roles_agree;
    size_t matmul_scratch_bytes;        /* of the most demanding matrix */

    size_t n_ctx, max_step_tokens, max_step_logits, max_batch;
    size_t group;               /* query heads a KV head */
    size_t head_padded, d_padded, d_out, n_segments, vocab_padded;
    bool pages_dealt;           /* more nodes than KV heads: pages are dealt over the nodes, not heads */
    bool heads_straddle;        /* what one node hands on of the attention's output may end inside a quantisation block */
    size_t chunk_bytes;         /* of K of one head and layer */

    struct split q_split, kv_split, d_split, ff_split, vocab_split;
    struct matrix embedding, head;          /* head: also the embedding when tied (embedding.tensor is NULL then) */
    struct norm output_norm;
    struct layer *layers;
    struct site_layout sites[SITE_COUNT];
    double *rope_freq, *rope_freq_sliding;  /* [head_dim / 2] */

    struct node_memory nodes[TOPOLOGY_MAX_NODES];
    struct worker_memory *workers;
    struct kv_cache kv;
    uint64_t kv_page_bytes;                 /* all nodes together */

    float *logits;                          /* [max_step_logits][vocab_padded] */
    struct segment_stats *stats;            /* [max_step_logits][n_segments] */
    size_t *logit_tokens;                   /* [max_step_logits] */

    /* The step under way: written by the caller of model_step, read by the workers. */
    const struct step_token *tokens;
    size_t n_tokens, n_logits, n_blocks, most_chunks;
    struct attention_block *blocks;         /* [max_step_tokens] */
    struct profile *profile;                /* NULL: nobody looks */

    uint64_t n_params, weight_bytes, step_weight_bytes, step_params;
    double load_s;
};

/* load.c: find and check the tensors; then read, pack and place them. Both return 0 or a negative errno (logged). */
int load_plan(struct model *m, const struct gguf *g);
int load_weights(struct model *m, const struct gguf *g, bool allow_nonfinite, model_progress_fn progress, void *arg);
uint64_t load_node_bytes(struct model *m, size_t node);     /* of the plan: what the node's arena of weights must hold */

/*
 * gemm.c: who multiplies. gemm_open after the level is known; gemm_choose for a matrix whose type and k_padded are known. Both return 0
 * or a negative errno (logged). gemm_close after a gemm_open that failed, too.
 */
int gemm_open(struct model *m);
int gemm_choose(struct model *m, struct matrix *x);
void gemm_close(struct model *m);
const char *gemm_name(const struct model *m);
void gemm_say(const struct model *m);       /* what users should know of the choice, if anything */

/* Call fn for every matrix of the model, in the order of a step. */
void model_each_matrix(struct model *m, void (*fn)(struct model *m, struct matrix *x, void *arg), void *arg);

/*
 * attention.c. attention_plan cuts the step's tokens into blocks, before the workers start. attention_run is a worker's part of one
 * layer: it ends with the outputs in act_attn of its node (or in attn, where heads straddle blocks), without a barrier after it.
 * Where pages are dealt over the nodes it has barriers of all nodes within, else only of its own.
 */
size_t attention_slots(const struct model *m, size_t node);     /* slots for partials that a node needs */
size_t attention_slot_floats(const struct model *m);
void attention_plan(struct model *m);
void attention_run(struct model *m, const struct worker *w, size_t layer);

/* forward.c: write channels [begin, end), multiples of 32, of a token's records from x[end - begin], which is used up. */
void prepare_activations(const struct model *m, enum site site, enum token_role role, unsigned char *record, float *x, size_t begin,
                         size_t end);

static inline bool kv_keeps(const struct node_memory *n, int32_t page)
{
    return (size_t)page - n->first_page < n->n_pages;
}

/* K of one head and layer on a page that the node keeps; V follows m->chunk_bytes behind. */
static inline unsigned char *kv_chunk(const struct model *m, const struct node_memory *n, int32_t page, size_t layer, size_t head)
{
    size_t index = (((size_t)page - n->first_page) * m->config.n_layers + layer) * n->n_kv_heads + head;
    return (unsigned char *)n->kv.base + index * 2 * m->chunk_bytes;
}

static inline size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

#endif
