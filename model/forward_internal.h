/*
 * forward_internal.h - a worker's view of the step under way, shared by the files that compute it.
 */
#ifndef FOURWAY_MODEL_FORWARD_INTERNAL_H
#define FOURWAY_MODEL_FORWARD_INTERNAL_H

#include "model/model_internal.h"

struct context {
    struct model *m;
    const struct worker *w;
    struct node_memory *node;
    struct worker_memory *own;
    bool is_private;            /* this worker repeats the per-token passes in memory of its own */
    float *x;                   /* residual stream: the worker's or the node's */
    unsigned char *act_in;
    size_t begin, end;          /* tokens of the per-token passes */
    struct profile_worker *profile;     /* NULL: nobody looks */
};

/*
 * Panels [begin, end) of the matrix, counted from the first of this node, with the records of all tokens of the step at the site.
 * Output columns begin at y, which stands for panel `begin`. Runs of tokens of one role where the roles differ.
 */
void forward_multiply(const struct context *c, const struct matrix *x, enum site site, const unsigned char *records, size_t n_tokens,
                      size_t begin, size_t end, float *y, size_t y_stride);
bool forward_roles_differ(const struct model *m, const struct matrix *x, enum site site);

/* silu(gate) * up, or gelu, of this worker's part of the split, as records of the site. */
void forward_gate_and_up(const struct context *c, const struct matrix *gate, const struct matrix *up, const struct split *split,
                         enum site site, unsigned char *records);

/* Panels that this node has. */
static inline size_t own_panels(const struct context *c, const struct split *s)
{
    return s->start[c->w->node + 1] - s->start[c->w->node];
}

/*
 * Barrier of all; then the node's workers copy columns of the other nodes' buffers: n rows of `stride` bytes, of which every n_per_token
 * belong to one token. columns() says which of them a node computed, in up to n_kinds pieces.
 */
typedef void (*forward_columns)(const struct model *m, size_t node, enum token_role role, size_t kind, size_t *from, size_t *bytes);
void forward_exchange(const struct context *c, unsigned char *(*buffer)(struct node_memory *), size_t n, size_t n_per_token, size_t stride,
                      forward_columns columns, size_t n_kinds);

/* The copying alone, for more than one buffer between two barriers. */
void forward_copy(const struct context *c, unsigned char *(*buffer)(struct node_memory *), size_t n, size_t n_per_token, size_t stride,
                  forward_columns columns, size_t n_kinds);

/* Channels [begin, end) of a record, in the kind of activation asked for: its bytes [*from, *from + *bytes). */
void forward_record_columns(const struct model *m, enum site site, enum token_role role, size_t kind, size_t begin, size_t end,
                            size_t *from, size_t *bytes);

/* y[n] += the bias of rows [row, row + n) of matrix number `of`, each of n_rows. */
void forward_add_bias(const struct context *c, float *y, const struct norm *bias, size_t of, size_t row, size_t n, size_t n_rows);

/* The sum of a block's outputs, in y of the node, to all nodes. */
void forward_exchange_outputs(const struct context *c);

/* The first channel of the attention's output that a node hands on; of the number after the last node: where the padding ends. */
size_t forward_attn_channel(const struct model *m, size_t node);

/*
 * mla.c, around attention_run(): from the records of ATTN_IN to queries on all nodes and keys in the pages, with a barrier at the end; and
 * from what attention leaves in act_heads to act_attn of this node.
 */
void mla_project(const struct context *c, const struct layer *l, size_t layer);
void mla_finish(const struct context *c, const struct layer *l);

/* lfa.c: from the records of ATTN_IN to those of QK_IN, both in act_in. */
void lfa_run(const struct context *c, const struct layer *l, size_t layer);

/* experts.c: from the records of FFN_IN to y, for a layer that is a mixture of experts. */
void experts_run(const struct context *c, const struct layer *l);

#endif
