/*
 * node_choice.h - what `--nodes auto` and `--replicas auto` mean for one model on this machine.
 */
#ifndef FOURWAY_SERVER_NODE_CHOICE_H
#define FOURWAY_SERVER_NODE_CHOICE_H

#include <stddef.h>

#include "model/model.h"
#include "numa/topology.h"
#include "weights/gguf.h"

enum { REPLICAS_AUTO = 0 };

struct node_choice {        /* as long as the options are in use: */
    char nodes[8];          /* o->nodes points here afterwards, if it was auto */
    size_t n_replicas;
    struct topology_reserved reserved;  /* where o->reserves_cores is set */
};

/*
 * Ask the planner (plan/nodes.h) where `o->nodes` is "auto", and where n_replicas is REPLICAS_AUTO for `batch` sequences at once. Several
 * replicas take all nodes between them; so do virtual nodes. On a machine of several nodes the choice and its reasons are logged.
 * o->reserves_cores stays only where the nodes' cores are real and the workers' number is not given.
 * Returns 0, or a negative errno (logged): no such nodes, replicas that cannot share them equally.
 */
int node_choice_make(struct node_choice *c, struct model_options *o, const struct gguf *g, size_t n_replicas, size_t batch);

#endif
