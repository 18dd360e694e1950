/*
 * model.h - a model that is loaded: its shape, its weights packed into panels on the nodes, and the workers that step it.
 *
 * Weights are read by the workers of the node that will multiply them, repacked into panels and written to that node's arena;
 * the file is not needed afterwards. Read-only once open. One thread steps a model (forward.h).
 */
#ifndef FOURWAY_MODEL_MODEL_H
#define FOURWAY_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/config.h"
#include "numa/place.h"
#include "weights/gguf.h"

/*
 * What --activations says: the default of each weight type and role; int8 for quantised weights in both roles; or one for all (bf16, f32:
 * decoded weights, for checking).
 */
enum activations_option { ACTIVATIONS_AUTO, ACTIVATIONS_Q8, ACTIVATIONS_BF16, ACTIVATIONS_F32 };

/* What --gemm says. A library serves prompt tokens: for one generated token it is slower than reading the weights takes. */
enum gemm_choice { GEMM_AUTO, GEMM_NATIVE, GEMM_ONEDNN, GEMM_OPENBLAS };

enum { MODEL_MAX_STEP_TOKENS = 2048 };     /* tokens of one step: a tile of outputs of all of them stays in a worker's L2 */

struct model;

struct model_options {
    struct model *beside;       /* open it on the nodes and workers of that model, which stays open for longer; NULL: on its own. The two
                                 * are stepped in turn, by one thread */
    size_t n_threads;           /* 0: one a physical core */
    const char *nodes;          /* "all", "2", "0,1"; NULL: all */
    size_t n_virtual_nodes;     /* 0: the real ones */
    size_t replica, n_replicas; /* this copy takes its equal part of these nodes, and of the memory; 0 of 0 or of 1: all */
    enum place_pages pages;     /* of weights, KV and scratch */
    bool reserves_cores;        /* leave those of topology_reserve_cores to other threads; not with virtual nodes, or with n_threads */
    bool isa_given;
    enum isa isa;
    bool isa_unchecked;         /* for tests that emulate instructions: isa may be above what this machine has */
    enum activations_option activations;
    enum gemm_choice gemm;
    enum kv_type kv_type;
    enum dtype type;            /* matrices that the file has in 16 or 32 bits, or as FP8, become this, as `fourway quantize` would make
                                 * them; DTYPE_F32, the default: all stay what they are */
    bool allow_nonfinite;       /* weights that are NaN or infinity are a warning, not -EINVAL */
    size_t n_ctx;               /* 0: the model's own, or what fits kv_bytes; most tokens of one sequence */
    uint64_t kv_bytes;          /* 0: enough for `full_contexts` sequences of n_ctx, at most a quarter of the free memory, or all of
                                 * it when n_ctx is given */
    uint64_t kv_tokens;         /* not 0: KV for so many, if that can be had, in place of full_contexts */
    size_t full_contexts;       /* 0: 4, or max_batch if that is less; shorter sequences share the same pages */
    size_t max_batch;           /* sequences at once */
    size_t max_step_tokens;     /* most tokens of one step (prefill chunk + decodes); at most MODEL_MAX_STEP_TOKENS */
    size_t max_step_logits;     /* most rows of logits of one step */
    size_t max_drafts;          /* of one sequence in a step: tokens that may have to be taken back */
    size_t max_step_hidden;     /* most hidden states of one step; 0: none */
};

/* Bytes packed so far, of all. Called from the thread that opens, a few times a second. */
typedef void (*model_progress_fn)(void *arg, uint64_t bytes_done, uint64_t bytes_total);

struct pool;

/*
 * Open the model in `g` (which must stay open until this returns). Returns 0, -EINVAL (what is wrong with the file or the options
 * is logged), -ENOMEM (needs and has are logged), or what the threads, the memory or the file gave (logged). model_close afterwards;
 * NULL is fine.
 */
int model_open(struct model **m, const struct gguf *g, const struct model_options *o, model_progress_fn progress, void *arg);
void model_close(struct model *m);

const struct model_config *model_config(const struct model *m);

/* The model's workers, for work beside a step that should use all cores (sampling). The thread that steps the model runs it. */
struct pool *model_pool(struct model *m);

struct model_info {
    enum isa isa;
    size_t n_nodes, n_threads, n_ctx, max_step_tokens, max_step_logits;
    bool virtual_nodes;
    uint64_t n_params;
    uint64_t weight_bytes;          /* as packed */
    uint64_t weight_arena_bytes;    /* these and what is copied to each node, of all nodes */
    uint64_t scratch_bytes;         /* activations, attention's partials, workers' tiles, logits, of all nodes */
    uint64_t step_weight_bytes;     /* of the file's own encoding (of what --type makes of it), that a decode step multiplies by; a tied
                                     * embedding counts once, experts do not */
    uint64_t step_params;           /* weights that each token is multiplied by */
    uint64_t head_params;           /* those of the output matrix among them, which only tokens that want logits meet */
    uint64_t kv_bytes;              /* the whole pool */
    uint64_t kv_page_bytes;         /* what belongs to one page, its window and the filter's state included */
    uint64_t kv_token_bytes;        /* of one token, all layers that see all positions */
    uint64_t kv_window_token_bytes; /* of one token, all layers that slide, */
    size_t kv_window;               /* of which a token sees so many positions; 0: none slides */
    size_t kv_pages, page_tokens;
    double load_s;
    const char *gemm;               /* who multiplies for prompt tokens: native, onednn, openblas */
    const char *gemm_implementation;    /* a library's own name of what it does, "" for native; valid while the model is open */
    struct rope_lengths rope_lengths;
    bool roles_agree;               /* a token has the same keys and values as part of a prompt and as generated */
    bool same_bits;                 /* the bits of a row depend neither on batch mates nor on nodes, threads and chunks */
};
void model_info(const struct model *m, struct model_info *info);

/* Keys and values that attention reads for the last of n tokens. */
static inline uint64_t model_kv_read_bytes(const struct model_info *i, uint64_t n)
{
    return n * i->kv_token_bytes + (n < i->kv_window ? n : i->kv_window) * i->kv_window_token_bytes;
}

uint64_t model_expert_bytes(const struct model *m);     /* likewise, of the experts that the last step read */

/*
 * How mixtures of experts were used; between steps, for the thread that steps the model. Layers that are mixtures; experts that all steps
 * so far read, of all these layers (one that prompt and generated tokens meet differently is read for each); and of one layer the tokens of
 * its busiest expert over the mean of its experts, of late: 1 is perfect balance, n_experts / n_experts_used the most there can be. 0: the
 * layer is none, or had no tokens.
 */
size_t model_n_moe_layers(const struct model *m);
uint64_t model_experts_read(const struct model *m);
double model_expert_busiest(const struct model *m, size_t layer);
uint64_t model_node_weight_bytes(const struct model *m, size_t node);   /* of node 0 .. n_nodes - 1: its part of weight_arena_bytes */

/*
 * What these workers can do on this machine, measured now (about a second): reads of their own node's memory, all at once, and
 * on registers alone, for tokens of each role, the operations of the unit that multiplies most of their weights.
 */
struct unit_rate {
    const char *unit;               /* "int8 dots", "bf16 dots" or "float32"; static */
    double ops_per_s;
};
struct model_rates {
    double read_bytes_per_s;
    struct unit_rate prompt, generated;
};
int model_measure(struct model *m, struct model_rates *rates);

/* Where the kernel says the pages are: pages asked about, and those on their node. Returns 0 or a negative errno. */
struct model_placement { uint64_t weight_pages, weight_local, kv_pages, kv_local, huge_bytes, bytes; };
int model_placement(const struct model *m, bool every_page, struct model_placement *p);

#endif
