/*
 * nodes.h - how many NUMA nodes should share one copy of a model: their memory reads together, at the price of talking.
 *
 * Every matrix is split by rows (docs/design.md 3), so n nodes read the weights n times as fast, and each layer waits for a few
 * barriers and for the outputs of the others to come over the links. Pure arithmetic: no file is read here, nothing is logged.
 * Seconds, bytes and bytes per second; GB is 1e9. Formulas and how well they hold: docs/numa.md.
 */
#ifndef FOURWAY_PLAN_NODES_H
#define FOURWAY_PLAN_NODES_H

#include <stddef.h>

struct plan_machine {
    size_t n_nodes;
    double read_per_s;          /* bytes that all cores of one node read from its own memory */
    double link_per_s;          /* bytes from one other node's memory or caches; several send at once */
    double sync_s;              /* a barrier of all nodes */
    double ops_per_s;           /* of one node, two for a multiply-add */
    double node_bytes;          /* memory that is free on the smallest node */
};

struct plan_model {
    double weight_bytes;        /* that a decode step reads */
    double params;              /* that a token is multiplied by */
    double resident_bytes;      /* weights, in memory */
    size_t n_layers, n_heads, head_dim, d_model, d_ff;
};

/* Bytes that the layers' inputs have, which each node gathers: attention's output, o's, the hidden layer's, down's. */
double plan_rows_exchange_bytes(const struct plan_model *m, size_t n_tokens, double bytes_per_element);

/* Time for `n_layers` gathers of exchange_bytes over n nodes, inbound_per_s into each node, and syncs_per_layer barriers a layer. */
double plan_rows_exchange_s(size_t n_layers, double syncs_per_layer, double sync_s, double exchange_bytes, size_t n_nodes,
                            double inbound_per_s);

/* A decode step of `batch` sequences, without their KV, on n of the machine's nodes. */
double plan_step_s(const struct plan_machine *machine, const struct plan_model *m, size_t n_nodes, size_t batch);

/*
 * The fewest nodes whose step of one sequence is within 2 % of the fastest: what a node more does not speed up, another copy can use.
 * Only as many as hold the weights are looked at; all, if even those do not.
 */
size_t plan_choose_nodes(const struct plan_machine *machine, const struct plan_model *m);

/*
 * Copies of the model, each on its equal part of all nodes, that together give the most tokens a second to `batch` sequences; the fewest
 * of those within 2 %.
 */
size_t plan_choose_replicas(const struct plan_machine *machine, const struct plan_model *m, size_t batch);

#endif
