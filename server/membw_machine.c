/* membw_machine.c - what was measured to a struct machine, which planning and --nodes auto read. */
#include <stdio.h>
#include <string.h>

#include "common/machine.h"
#include "server/membw.h"

_Static_assert((int)MACHINE_MAX_NODES == (int)TOPOLOGY_MAX_NODES && (int)MACHINE_MAX_LEVELS >= (int)ISA_COUNT, "a machine holds all nodes");

static uint64_t node_bytes(const struct membw *m, size_t memory)
{
    const struct topology *t = &m->topology;
    return memory < t->n_nodes ? t->nodes[memory].total_bytes : t->memory_nodes[memory - t->n_nodes].total_bytes;
}

void membw_to_machine(const struct membw *m, struct machine *machine)
{
    *machine = (struct machine){ .is_virtual = m->topology.is_virtual,
                                 .is_quick = m->o.quick,
                                 .n_nodes = m->n_memories,
                                 .n_core_nodes = m->n_nodes,
                                 .theory_bytes_per_s = m->theory,
                                 .read_bytes_per_s = m->all[STREAM_READ].best,
                                 .barrier_ns = m->barrier.best };
    memcpy(machine->cpu, m->conditions.cpu, sizeof(machine->cpu));
    for (size_t i = 0; i < m->n_memories; i++) {
        struct machine_node *x = &machine->nodes[i];

        *x = (struct machine_node){ .os_node = m->memories[i].os_node, .memory_bytes = node_bytes(m, i) };
        if (i >= m->n_nodes)
            continue;
        x->n_cores = m->node_workers[i];
        x->read_bytes_per_s = m->node[i][STREAM_READ].best;
        x->write_bytes_per_s = m->node[i][STREAM_WRITE].best;
        x->write_nt_bytes_per_s = m->node[i][STREAM_WRITE_NT].best;
    }
    for (size_t v = 0; v < m->n_nodes; v++) {
        for (size_t i = 0; i < m->n_memories; i++) {
            machine->link_bytes_per_s[v][i] = m->matrix[v][i].best;
            machine->latency_ns[v][i] = m->latency[v][i].best;
        }
    }
    for (enum isa level = 0; level <= m->o.isa; level++) {
        struct machine_level *l = &machine->levels[machine->n_levels++];

        snprintf(l->isa, sizeof(l->isa), "%s", isa_name(level));
        l->int8_ops_per_s = m->peak[level][ACT_Q8].best;
        l->bf16_ops_per_s = m->peak[level][ACT_BF16].best;
        l->float32_ops_per_s = m->peak[level][ACT_F32].best;
    }
}
