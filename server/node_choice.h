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

/* What is asked for beside the options: */
struct node_wish {
    const char *machine_file;   /* NULL: the machine was not measured */
    size_t n_replicas;          /* or REPLICAS_AUTO */
    size_t batch;               /* sequences at once */
};

struct node_choice {        /* as long as the options are in use: */
    char nodes[8];          /* o->nodes points here afterwards, if it was auto */
    size_t n_replicas;
    struct topology_reserved reserved;  /* where o->reserves_cores is set */
};

/*
 * Ask the planner (plan/nodes.h) where `o->nodes` is "auto", and where the wish has REPLICAS_AUTO. Several replicas take all nodes between
 * them; so do virtual nodes. On a machine of several nodes the choice and its reasons are logged.
 * o->reserves_cores stays only where the nodes' cores are real and the workers' number is not given.
 * Returns 0, or a negative errno (logged): no such nodes, replicas that cannot share them equally, a file that cannot be read or is of
 * another machine.
 */
int node_choice_make(struct node_choice *c, struct model_options *o, const struct gguf *g, const struct node_wish *wish);

#endif
