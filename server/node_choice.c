#include "server/node_choice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "model/config.h"
#include "numa/topology.h"
#include "plan/nodes.h"
#include "server/machine_file.h"
#include "weights/quantize_plan.h"

/*
 * A server of today, where nobody has measured this one: of 8 channels of DDR5-4800 a socket reads 200 to 250 GB/s, a core up to 12; a UPI
 * link carries 48 GB/s of which three quarters arrive; a barrier over it takes 2 us (docs/numa.md). Cores multiply at a tenth of what
 * AMX has on paper and twice what AVX2 has.
 */
static const double core_reads = 12e9, node_reads = 200e9, link = 36e9, barrier_s = 2e-6, core_ops = 400e9;

static struct plan_machine assume_machine(const struct topology *t)
{
    struct plan_machine m = { .n_nodes = t->n_nodes, .link_per_s = link, .sync_s = barrier_s };
    double n_cores = 0;

    for (size_t i = 0; i < t->n_nodes; i++)
        n_cores += (double)t->nodes[i].n_cpus / (double)t->n_nodes;
    m.read_per_s = n_cores * core_reads < node_reads ? n_cores * core_reads : node_reads;
    m.ops_per_s = n_cores * core_ops;
    return m;
}

/* Where a node of the topology stands in the file, which may be of more nodes than are used; its n_nodes if it is not there. */
static size_t find_node(const struct machine *f, int os_node)
{
    size_t i = 0;

    while (i < f->n_core_nodes && f->nodes[i].os_node != os_node)
        i++;
    return i < f->n_core_nodes ? i : f->n_nodes;
}

/* Means over the nodes that are used: the planner knows one kind. A single node has no links; those stay as assumed. */
static int measured_machine(struct plan_machine *m, const char *path, const struct topology *t)
{
    struct machine *f = calloc(1, sizeof(*f));
    size_t at[TOPOLOGY_MAX_NODES];
    double n_links = 0, links = 0;
    int err = f ? machine_load(f, path) : -ENOMEM;

    if (!f)
        log_error("no memory to read the machine file %s", path);
    for (size_t i = 0; i < t->n_nodes && !err; i++) {
        at[i] = find_node(f, t->nodes[i].os_node);
        if (at[i] == f->n_nodes && !t->is_virtual) {
            log_error("%s: node %d is not in it: measure this machine with fourway membw --write-machine %s", path, t->nodes[i].os_node,
                      path);
            err = -EINVAL;
        }
        at[i] = at[i] == f->n_nodes ? 0 : at[i];
    }
    m->read_per_s = err ? m->read_per_s : 0;
    for (size_t i = 0; i < t->n_nodes && !err; i++) {
        m->read_per_s += f->nodes[at[i]].read_bytes_per_s / (double)t->n_nodes;
        for (size_t j = 0; j < t->n_nodes; j++) {
            links += at[i] != at[j] ? f->link_bytes_per_s[at[i]][at[j]] : 0;
            n_links += at[i] != at[j];
        }
    }
    if (!err && n_links > 0) {
        m->link_per_s = links / n_links;
        m->sync_s = f->barrier_ns / 1e9;
    }
    if (!err && f->n_levels)
        m->ops_per_s = f->levels[f->n_levels - 1].int8_ops_per_s / (double)f->n_core_nodes;
    free(f);
    return err;
}

static int describe_machine(struct plan_machine *m, const struct topology *t, const char *machine_file)
{
    *m = assume_machine(t);
    m->node_bytes = (double)topology_available_bytes("") / (double)t->n_nodes;      /* a cgroup may allow less than the nodes have */
    for (size_t i = 0; i < t->n_nodes; i++)
        m->node_bytes = (double)t->nodes[i].free_bytes < m->node_bytes ? (double)t->nodes[i].free_bytes : m->node_bytes;
    return machine_file ? measured_machine(m, machine_file, t) : 0;
}

/* As it will be in memory, with the types that --type makes. */
static int describe_model(struct plan_model *m, const struct gguf *g, enum dtype wanted)
{
    struct model_config c;
    enum dtype *types = malloc(gguf_n_tensors(g) * sizeof(*types));
    int err = types ? model_config_read(&c, g) : -ENOMEM;

    if (err) {
        free(types);
        return err;
    }
    quantize_plan_load(g, wanted, types);
    const size_t context = c.n_ctx_train < 8192 ? c.n_ctx_train : 8192;      /* at least one of these should fit beside the weights */

    *m = (struct plan_model){ .resident_bytes = 4 * (double)(c.n_layers * c.n_kv_heads * c.head_dim * context), .n_layers = c.n_layers,
                              .n_heads = c.n_heads, .head_dim = c.head_dim, .d_model = c.d_model, .d_ff = c.d_ff };
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        const bool is_embedding = t->name.len == strlen("token_embd.weight") && !memcmp(t->name.data, "token_embd.weight", t->name.len);

        const double bytes = (double)quantize_matrix_bytes(types[i], t->ne[1] * t->ne[2] * t->ne[3], t->ne[0]);
        m->resident_bytes += 1.05 * bytes;      /* as packed, and scratch */
        if (is_embedding && !c.tied_embedding)      /* a row of it is looked up */
            continue;
        m->weight_bytes += bytes;
        m->params += (double)t->ne[0] * (double)t->ne[1];
    }
    free(types);
    return 0;
}

static int read_nodes(struct topology *t, const struct model_options *o)
{
    int err = topology_read(t, "");

    if (!err && o->nodes && strcmp(o->nodes, "auto"))
        err = topology_select(t, o->nodes);
    if (!err && o->n_virtual_nodes)
        err = topology_make_virtual(t, o->n_virtual_nodes);
    return err;
}

static void say(const struct plan_machine *machine, const struct plan_model *m, size_t n_nodes, size_t n_replicas, bool measured)
{
    log_info("nodes: %zu of %zu for %zu cop%s; predicted decode step %.2f ms (one node %.2f ms, all %.2f ms), from %.0f GB/s a node, "
             "%.0f GB/s a link, %.1f us a barrier (%s)", n_nodes, machine->n_nodes, n_replicas, n_replicas == 1 ? "y" : "ies",
             1e3 * plan_step_s(machine, m, n_nodes / n_replicas, 1), 1e3 * plan_step_s(machine, m, 1, 1),
             1e3 * plan_step_s(machine, m, machine->n_nodes, 1), machine->read_per_s / 1e9, machine->link_per_s / 1e9,
             1e6 * machine->sync_s, measured ? "measured" : "assumed; fourway membw --write-machine measures");
}

/* `t` as the options choose it; what they leave open, and *c with it, is filled in. */
static int choose(struct node_choice *c, struct model_options *o, const struct gguf *g, const struct node_wish *wish, struct topology *t)
{
    const bool auto_nodes = !o->nodes || !strcmp(o->nodes, "auto"), auto_replicas = wish->n_replicas == REPLICAS_AUTO;
    struct plan_machine machine;
    struct plan_model model;
    size_t n_nodes = t->n_nodes;
    int err = describe_model(&model, g, o->type);

    if (!err)
        err = describe_machine(&machine, t, wish->machine_file);
    if (err)
        return err;
    if (!auto_replicas && n_nodes % wish->n_replicas) {
        log_error("--replicas %zu: %zu node%s cannot be shared equally by as many; see fourway doctor for the nodes", wish->n_replicas,
                  n_nodes, n_nodes == 1 ? "" : "s");
        return -EINVAL;
    }
    if (auto_replicas)
        c->n_replicas = plan_choose_replicas(&machine, &model, wish->batch);
    if (auto_nodes && c->n_replicas == 1 && !o->n_virtual_nodes) {
        n_nodes = plan_choose_nodes(&machine, &model);
        snprintf(c->nodes, sizeof(c->nodes), "%zu", n_nodes);
    }
    if (t->n_nodes > 1 && (auto_replicas || (auto_nodes && !o->n_virtual_nodes)))
        say(&machine, &model, n_nodes, c->n_replicas, wish->machine_file);
    if (auto_nodes)
        o->nodes = c->nodes;
    return auto_nodes ? topology_select(t, o->n_virtual_nodes ? "all" : c->nodes) : 0;
}

int node_choice_make(struct node_choice *c, struct model_options *o, const struct gguf *g, const struct node_wish *wish)
{
    struct topology t = { 0 };
    int err = read_nodes(&t, o);

    *c = (struct node_choice){ .nodes = "all", .n_replicas = wish->n_replicas };
    if (!err)
        err = choose(c, o, g, wish, &t);
    o->reserves_cores = o->reserves_cores && !o->n_virtual_nodes && !o->n_threads;
    if (o->reserves_cores && !err)
        topology_reserve_cores(&t, &c->reserved);
    topology_free(&t);
    return err;
}
