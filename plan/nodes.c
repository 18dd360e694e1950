#include "plan/nodes.h"

#include <math.h>

/* Barriers of all nodes a layer: after attention, o, gate and up, down; with few KV heads one more after q, k and v. */
static const double syncs_per_layer = 5;

/* What is not worth a node or a copy more. */
static const double worth_it = 1.02;

double plan_rows_exchange_bytes(const struct plan_model *m, size_t n_tokens, double bytes_per_element)
{
    return (double)n_tokens * (double)(m->n_heads * m->head_dim + 2 * m->d_model + m->d_ff) * bytes_per_element;
}

double plan_rows_exchange_s(size_t n_layers, double syncs, double sync_s, double exchange_bytes, size_t n_nodes, double inbound_per_s)
{
    const double n = (double)n_nodes;

    return (double)n_layers * (syncs * sync_s + exchange_bytes * (n - 1) / n / inbound_per_s);
}

double plan_step_s(const struct plan_machine *machine, const struct plan_model *m, size_t n_nodes, size_t batch)
{
    const double n = (double)n_nodes, reads = m->weight_bytes / (n * machine->read_per_s);
    const double multiplies = 2 * m->params * (double)batch / (n * machine->ops_per_s);
    const double alone = reads > multiplies ? reads : multiplies;

    if (n_nodes == 1)
        return alone;
    /* float32 is what crosses at o and down, int8 the rest: taken as float32, which a full mesh brings from n - 1 nodes at once. */
    return alone + plan_rows_exchange_s(m->n_layers, syncs_per_layer, machine->sync_s, plan_rows_exchange_bytes(m, batch, 4), n_nodes,
                                        (n - 1) * machine->link_per_s);
}

static size_t least_nodes(const struct plan_machine *machine, const struct plan_model *m)
{
    const double n = ceil(m->resident_bytes / machine->node_bytes);

    return n < 1 ? 1 : n > (double)machine->n_nodes ? machine->n_nodes : (size_t)n;
}

size_t plan_choose_nodes(const struct plan_machine *machine, const struct plan_model *m)
{
    double fastest = INFINITY;
    size_t n = least_nodes(machine, m);

    for (size_t i = n; i <= machine->n_nodes; i++)
        fastest = fmin(fastest, plan_step_s(machine, m, i, 1));
    while (plan_step_s(machine, m, n, 1) > worth_it * fastest)
        n++;
    return n;
}

static double tokens_per_s(const struct plan_machine *machine, const struct plan_model *m, size_t n_replicas, size_t batch)
{
    const size_t each = (batch + n_replicas - 1) / n_replicas;

    return (double)batch / plan_step_s(machine, m, machine->n_nodes / n_replicas, each);
}

size_t plan_choose_replicas(const struct plan_machine *machine, const struct plan_model *m, size_t batch)
{
    const size_t most = machine->n_nodes / least_nodes(machine, m);
    double best = 0;
    size_t n = 1;

    for (size_t i = 1; i <= most; i++)
        if (machine->n_nodes % i == 0)
            best = fmax(best, tokens_per_s(machine, m, i, batch));
    while (machine->n_nodes % n || tokens_per_s(machine, m, n, batch) * worth_it < best)
        n++;
    return n;
}
