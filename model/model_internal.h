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
    EXPERT_ROWS = 128,          /* tokens of an expert that are multiplied at once where they do not follow one another: copies of them */
    ATTENTION_SLOTS = 256       /* chunk partials of a node while the chunks of a few queries are split over its workers */
};

_Static_assert((int)MODEL_MAX_HEAD_DIM <= (int)KV_MAX_HEAD_DIM, "the kernels of attention have room for the widest head");
_Static_assert(TILE_FLOATS / MODEL_MAX_STEP_TOKENS >= 32, "a tile holds a quantisation block of all tokens of a step");

/* Which panels of a matrix lie on which node: node v has start[v] .. start[v + 1] - 1. */
struct split { size_t start[TOPOLOGY_MAX_NODES + 1]; };

struct matrix {
    size_t n_experts;                   /* 0: one matrix; else so many of this shape, an expert's panels on a node one after the other */
    bool replicated;                    /* every node has all panels */
    const struct gguf_tensor *tensor;   /* may be read while loading; later it only says that there is one */
    enum dtype type;
    size_t n_rows, k;                   /* as in the file */
    size_t first_row;                   /* of the tensor: it may hold several matrices, one below the other */
    size_t k_padded, n_panels, panel_bytes;
    size_t head_dim;                    /* not 0: rows are those of heads, head_dim each, padded to whole panels */
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
struct norm {
    const struct gguf_tensor *tensor;   /* likewise */
    size_t n;
    size_t first;               /* value of the tensor with which it begins */
    size_t interleaved_dims;    /* not 0: heads of so many dims in pairs (2j, 2j + 1), read as (j, j + dims / 2) */
    float *copy[TOPOLOGY_MAX_NODES];
    bool nonfinite;
};

/* Frequencies of the pairs of dims that positions rotate (rope.c). */
struct rope {
    size_t n_pairs;
    double *frequencies;
    double *long_frequencies;   /* for sequences with long prompts, where the model has others for these; else NULL */
    double magnitude;           /* cos and sin are multiplied by it */
    const struct rope_config *dynamic;      /* not NULL: then the frequencies of long prompts are computed from their length */
};

/* Pages of layers that see all positions, and of layers that slide: windows of kv_cache.h. */
enum kv_kind { KV_ALL_SEEN, KV_WINDOW, KV_KINDS };

/* Tokens that went to each expert of a layer, of late (experts.c halves them all now and then). Worker 0 counts, during a step. */
struct expert_use {
    uint64_t n_pairs;                       /* their sum */
    uint32_t n_of[];                        /* [n_experts] */
};

struct layer {
    struct matrix q, k, v, o, gate, up, down;
    /* Where attention is latent: k gives the latent vector and the rotated dims of keys, v is not there, q may follow upon q_a, */
    struct matrix q_a, k_b, v_b;            /* and k_b and v_b have a matrix for each head: from q to the latent dims, and from them */
    struct norm q_a_norm, kv_a_norm;
    enum kv_kind kv_kind;                   /* where its keys and values are, */
    size_t kv_index;                        /* of the layers of that kind */
    bool is_moe;                            /* then gate, up and down are all experts', */
    uint64_t expert_bytes;                  /* so many for each, as the file has them, */
    struct expert_use *use;                 /* on the heap, NULL without experts; */
    bool filters;                           /* q and k are made from the output of a filter over time (lfa.c): */
    struct matrix lfa_first[2], lfa_second[2];      /* taps: of the token before, and of the token itself */
    struct norm lfa_first_bias, lfa_second_bias, lfa_norm;
    struct matrix router;                   /* and this says how much of each a token gets; */
    struct norm router_bias;                /* added for the choice alone; tensor NULL: none */
    struct matrix shared_gate, shared_up, shared_down;      /* of the expert that all tokens go to; where d_ff_shared is not 0 */
    struct norm attn_norm, ffn_norm, q_norm, k_norm, post_attn_norm, post_ffn_norm;    /* tensor NULL: the architecture has none */
    struct norm sinks;                      /* likewise: a score for each query head */
    struct norm o_bias, router_logit_bias, gate_bias, up_bias, down_bias;   /* the last three of all experts, one after the other */
    struct norm q_bias, k_bias, v_bias;     /* likewise: vectors that are added, in the order of dims that packing gives */
};

/*
 * How a token's activations lie at the input of some matrices: a record with each kind that any of them takes for a token of its role.
 * Sites: q, k, v (with a filter before q and k: v and the filter's first part; its second part; q and k); o; gate, up, router; down;
 * experts' down; the shared expert's; output. Of latent attention: q_a and k, where others have q, k, v; q after q_a; k_b; v_b.
 *
 * Int8 activations have two terms where attention begins and at the output matrix: a second record holds what the first left of the
 * vector, quantised again, and the products of both are added. There errors weigh most (scores and logits are exponentiated) and
 * arithmetic costs least: q, k, v are a ninth to a sixth of a layer, only the last token of a prompt meets the output matrix, and no
 * more bytes are read. KL divergence from float32 at the positions of the golden data, SmolLM2 and Gemma 3 270M: one term everywhere
 * 0.0029, 0.0024; two for v 0.0020, 0.0022; for v and output 0.0014, 0.0018; for q, k, v and output 0.0015, 0.0014. Without q and k, ten
 * percent less arithmetic in prefill, SmolLM2 no longer named Paris when asked for France's capital: 0.1 nat decide there.
 */
enum site {
    SITE_ATTN_IN, SITE_LFA_MID, SITE_QK_IN, SITE_LATENT_Q, SITE_LATENT_KEY, SITE_LATENT_VALUE, SITE_ATTN_OUT, SITE_FFN_IN, SITE_FFN_MID,
    SITE_EXPERT_MID, SITE_SHARED_MID, SITE_HEAD_IN,
    SITE_COUNT
};
struct site_layout {
    bool used[ROLE_COUNT][ACT_COUNT];
    size_t offset[ROLE_COUNT][ACT_COUNT];
    size_t n_terms[ROLE_COUNT]; /* the most that a matrix takes here */
    size_t k_padded;
    size_t bytes[ROLE_COUNT];   /* of a record: token_bytes / n_terms, a multiple of 64 */
    size_t token_bytes;         /* of all terms of either role */
};

/* Which experts each token goes to. Pair p = token x n_experts_used + rank; `sorted` has an expert's together. */
struct routing {
    uint32_t *expert;                           /* [pairs] */
    float *weight;                              /* [pairs] */
    struct expert_pair *by_token, *by_record;   /* [pairs] sorted by expert: with the token, and with p, as the row of activations */
    uint32_t *place;                            /* [pairs] where p is in that order */
    uint32_t *n_of;                             /* [n_experts + 1] scratch */
    size_t n_pairs[ROLE_COUNT];                 /* those of prompt tokens first, where the roles differ; else all are in the first part */
};

/* KV pages of one kind that a node keeps. In a page K and V of layer after layer of the kind, of head after head. */
struct kv_region {
    unsigned char *base;
    size_t first_page, n_pages;
};

struct node_memory {
    struct place_arena weights, kv, scratch;
    size_t first_kv_head, n_kv_heads;           /* heads whose keys and values it keeps: its own, or all where pages are dealt */
    struct kv_region regions[KV_KINDS];         /* and their pages that it keeps */
    size_t first_q_head, n_q_heads;             /* query heads whose outputs it hands on */
    float *x;                                   /* [tokens][d_padded] residual stream */
    unsigned char *act_in, *act_attn, *act_mid; /* [tokens] records: of ATTN_IN, FFN_IN and HEAD_IN; ATTN_OUT; FFN_MID */
    float *q, *k, *v;                           /* [tokens] rows of qkv_floats: those of the heads above, then k, then v; where
                                                 * attention is latent q of all heads, alone */
    size_t qkv_floats;
    float *sent_qkv;                            /* where pages are dealt: such rows with what this node's matrices gave, for all nodes */
    float *y;                                   /* [tokens][d_out] outputs of o and down */
    float *attn;                                /* [tokens][heads x head_dim], only where heads straddle quantisation blocks */
    float *cos, *sin;                           /* [2][tokens][head_dim / 2]; the second for layers that slide */
    float *slots;                               /* attention partials */
    unsigned char *act_lfa;                     /* [tokens] records of LFA_MID */
    float *latent;                              /* [tokens][latent_floats] outputs of q_a and then k */
    unsigned char *act_latent_q;                /* [tokens] records of LATENT_Q */
    float *head_rows;                           /* [tokens][own query heads][head_row_floats] outputs of q, and of v_b */
    unsigned char *act_heads;                   /* [own query heads][tokens of the step] records of LATENT_KEY, then of LATENT_VALUE */
    float *state;                               /* [pages][layers][slots][state_floats]: of the filter, in the memory of the KV pages */
    size_t state_floats;                        /* rows of both of its parts that this node computes */
    float *router;                              /* [tokens][router_stride] outputs of the router */
    struct routing routing;                     /* of all tokens of the step; private steps have the workers' own */
    unsigned char *act_expert;                  /* [tokens x n_experts_used] records of EXPERT_MID: of pair (token, rank) */
    unsigned char *act_shared;                  /* [tokens] records of SHARED_MID */
    _Atomic uint32_t *items_taken;              /* [layers] attention items that a worker of the node has begun; 0 before a step */
};

struct worker_memory {
    void *matmul_scratch;
    float *x;                   /* [PRIVATE_TOKENS][d_padded] */
    unsigned char *act_in;      /* [PRIVATE_TOKENS] records */
    float *tmp, *tmp2;          /* [widest vector] */
    float *tile, *tile2;        /* TILE_FLOATS */
    float *out, *merged;        /* [ATTEND_MAX_Q][head_padded] */
    struct routing routing;     /* of PRIVATE_TOKENS */
    float *lfa_previous, *lfa_now;      /* TILE_FLOATS each */
    float *scores, *choices;    /* a token's row of the router; and what experts are chosen by */
    float *pair_tile;           /* outputs of a panel, or more, of all pairs */
    void *expert_rows;          /* EXPERT_ROWS records of FFN_IN or EXPERT_MID */
    const void **experts;       /* [n_experts] panels */
    struct profile_worker profile;
};

/* A token whose last hidden state somebody wants, and its rows among the logits and among the hidden states: NO_ROW where not wanted. */
struct output_token { size_t token, logits, hidden; };
#define NO_ROW ((size_t)-1)

/* Consecutive tokens of one sequence that go through attention together: queries of one call. */
struct attention_block {
    size_t token, n_tokens;
    uint32_t position;          /* of the first */
    const struct kv_sequence *sequence;
};

struct model {
    struct model_config config;
    struct kernels kernels;
    struct topology topology;
    size_t n_machine_nodes, n_replicas;
    double memory_share;                /* of what all copies together may take: by the free memory of their nodes */
    enum place_pages pages;
    struct pool *pool;
    bool shares_pool;                   /* and the lists in `topology`: they are another model's */
    enum kv_type kv_type;
    enum activations_option activations;
    enum gemm_choice gemm;
    struct onednn *onednn;              /* NULL unless it serves */
    const char *gemm_implementation;    /* a library's own name of what it does with the first matrix that takes same_bits away, else with
                                         * the first; "" without one */
    bool same_bits, roles_agree;
    size_t matmul_scratch_bytes;        /* of the most demanding matrix */

    size_t n_ctx, max_step_tokens, max_step_logits, max_step_hidden, max_batch;
    size_t group;               /* query heads a KV head */
    size_t head_padded, d_padded, d_out, n_segments, vocab_padded;
    bool pages_dealt;           /* more nodes than KV heads: pages are dealt over the nodes, not heads */
    bool heads_straddle;        /* what one node hands on of the attention's output may end inside a quantisation block */
    size_t chunk_bytes;         /* of K of one head and layer */

    size_t latent_floats, head_row_floats;  /* 0 unless attention is latent */

    struct split q_a_split, k_b_split, v_b_split;       /* the last two by heads, as q_split then is */
    struct split q_split, kv_split, d_split, lfa_split, ff_split, expert_split, shared_split, router_split, vocab_split;
    struct matrix embedding, head;          /* head: also the embedding when tied (embedding.tensor is NULL then) */
    struct norm output_norm;
    struct layer *layers;
    struct site_layout sites[SITE_COUNT];
    struct rope rope, rope_sliding;         /* the second is for the layers that slide */

    struct node_memory nodes[TOPOLOGY_MAX_NODES];
    struct worker_memory *workers;
    struct kv_cache kv;
    size_t n_kv_layers[KV_KINDS];
    uint64_t kv_page_bytes[KV_KINDS];       /* all nodes together; */
    uint64_t state_page_bytes;              /* and of the filter's state that goes with a page of KV_ALL_SEEN */
    size_t n_state_slots;

    float *logits;                          /* [max_step_logits][vocab_padded] */
    struct segment_stats *stats;            /* [max_step_logits][n_segments] */
    size_t *logit_tokens;                   /* [max_step_logits] */
    float *hidden;                          /* [max_step_hidden][d_model] */
    struct output_token *output_tokens;     /* [max_step_logits + max_step_hidden] */

    /* The step under way: written by the caller of model_step, read by the workers. */
    const struct step_token *tokens;
    size_t n_tokens, n_logits, n_hidden, n_outputs, n_blocks, most_chunks;
    struct attention_block *blocks;         /* [max_step_tokens] */
    struct profile *profile;                /* NULL: nobody looks */

    bool experts_differ;                    /* prompt and generated tokens meet experts differently */
    uint64_t n_params, weight_bytes, step_weight_bytes, step_params;
    _Atomic uint64_t expert_bytes;          /* of the experts that the last step read, as the file has them */
    size_t n_moe_layers;
    uint64_t n_experts_read;                /* by all steps; worker 0 counts */
    double load_s;
};

/*
 * shares.c. shares_plan once the nodes are known, shares_plan_sites once it is known who multiplies (gemm_choose). shares_split deals
 * n_panels in units of unit_panels, the last of which may be shorter, by the nodes' weights: their workers, which stand for their
 * bandwidth.
 */
void shares_plan(struct model *m);
void shares_plan_sites(struct model *m);
void shares_split(const struct model *m, struct split *s, size_t n_panels, size_t unit_panels);
void shares_node_weights(const struct model *m, double out[TOPOLOGY_MAX_NODES]);
uint64_t shares_state_bytes(const struct model *m, size_t node);        /* of the filter's state of one page */

/*
 * memory.c, in this order: pages of the KV cache that fit (0 or a negative errno, logged); all arenas and the cache; each node's workers
 * touch its KV pages, so that no request pays for page faults.
 */
int memory_plan(struct model *m, const struct model_options *o, const char *path, size_t *n_pages);
int memory_take(struct model *m, size_t n_pages);
void memory_touch_kv(struct model *m);
size_t memory_node_page_bytes(const struct model *m, size_t node, enum kv_kind kind);      /* of a page that the node keeps */

/*
 * load_convert.c: rows[i] of x's tensor (NULL: padding) to a panel of x's own type. *bad: rows with what is not finite, *too_large: others
 * with values that the type cannot hold, as bits 0..15. scratch: convert_bytes(), at a multiple of 64; 0 where nothing is to be converted.
 */
size_t convert_bytes(const struct matrix *x);
void convert_panel(const struct matrix *x, unsigned char *panel, const void *const rows[PANEL_ROWS], unsigned char *scratch, unsigned *bad,
                   unsigned *too_large);

/* load_plan.c: find and check the tensors; load.c: read, pack and place them. Both return 0 or a negative errno (logged). */
int load_plan(struct model *m, const struct gguf *g, enum dtype wanted);       /* wanted: model_options.type */
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

/* rope.c. Open returns 0 or a negative errno (logged); close in any case. */
int rope_open(struct rope *r, const struct rope_config *c, const struct gguf *g);
void rope_close(struct rope *r);
void rope_fill(const struct rope *r, uint32_t position, uint32_t length, float *cos_out, float *sin_out);   /* [n_pairs] each */

/* Call fn for every matrix of the model, in the order of a step; for every vector. */
void model_each_matrix(struct model *m, void (*fn)(struct model *m, struct matrix *x, void *arg), void *arg);
void model_each_norm(struct model *m, void (*fn)(struct model *m, struct norm *x, void *arg), void *arg);

/*
 * attention.c. attention_plan cuts the step's tokens into blocks, before the workers start. attention_run is a worker's part of one
 * layer: it ends with the outputs in act_attn of its node (or in attn, where heads straddle blocks; in act_heads, where attention is
 * latent), without a barrier after it. Where pages are dealt over the nodes it has barriers of all nodes within, else only of its own.
 */
size_t attention_slots(const struct model *m, size_t node);     /* slots for partials that a node needs */
size_t attention_slot_floats(const struct model *m);
void attention_plan(struct model *m);
void attention_run(struct model *m, const struct worker *w, size_t layer);

/* forward.c: write channels [begin, end), multiples of 32, of a token's records from x[end - begin], which is used up. */
void prepare_activations(const struct model *m, enum site site, enum token_role role, unsigned char *record, float *x, size_t begin,
                         size_t end);

/* Panels of a matrix on a node. */
static inline size_t node_panels(const struct matrix *x, size_t node)
{
    const size_t n = x->replicated ? x->n_panels : x->split->start[node + 1] - x->split->start[node];

    return x->n_experts ? n * x->n_experts : n;
}

/* The page table of a sequence for layers of a kind: entry i has positions i KV_CHUNK and on. */
static inline const int32_t *kv_page_table(const struct kv_sequence *s, enum kv_kind kind)
{
    return kind == KV_WINDOW ? s->windows : s->pages;
}

/* The pool that these pages are numbers of. */
static inline const struct kv_pool *kv_pool_of(const struct model *m, enum kv_kind kind)
{
    return kind == KV_WINDOW ? &m->kv.window_pool : &m->kv.pool;
}

static inline bool kv_keeps(const struct node_memory *n, enum kv_kind kind, int32_t page)
{
    return (size_t)page - n->regions[kind].first_page < n->regions[kind].n_pages;
}

/* K of one head and layer on a page of its kind that the node keeps; V follows m->chunk_bytes behind. */
static inline unsigned char *kv_chunk(const struct model *m, const struct node_memory *n, int32_t page, size_t layer, size_t head)
{
    const struct layer *l = &m->layers[layer];
    const struct kv_region *r = &n->regions[l->kv_kind];
    const size_t index = (((size_t)page - r->first_page) * m->n_kv_layers[l->kv_kind] + l->kv_index) * n->n_kv_heads + head;

    return r->base + index * 2 * m->chunk_bytes;
}

static inline size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

#endif
