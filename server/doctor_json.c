/*
 * doctor_json.c - the same as the screen of `fourway doctor`, for scripts.
 */
#include <errno.h>
#include <stdio.h>

#include <jansson.h>

#include "server/doctor.h"

static json_t *number_or_null(double x)
{
    return x > 0 ? json_real(x) : json_null();
}

static json_t *limit_or_null(uint64_t bytes)
{
    return bytes == UINT64_MAX ? json_null() : json_integer((json_int_t)bytes);
}

static json_t *levels_json(const struct doctor *d)
{
    json_t *levels = json_array();

    for (enum isa i = ISA_SCALAR; i < ISA_COUNT; i++) {
        const struct doctor_level *x = &d->levels[i];
        json_array_append_new(levels, json_pack("{s:s, s:b, s:o}", "level", isa_name(i), "on", !x->lack, "why_off",
                                                x->lack ? json_string(x->lack) : json_null()));
    }
    return levels;
}

static json_t *nodes_json(const struct doctor *d)
{
    const struct topology *t = &d->topology;
    json_t *nodes = json_array();

    for (size_t i = 0; i < t->n_nodes; i++) {
        const struct topology_node *n = &t->nodes[i];
        json_t *cpus = json_array(), *distances = json_array();

        for (size_t c = 0; c < n->n_cpus; c++)
            json_array_append_new(cpus, json_integer(n->cpus[c]));
        for (size_t j = 0; j < t->n_nodes; j++)
            json_array_append_new(distances, json_integer(t->distance[i][j]));
        json_array_append_new(nodes, json_pack("{s:i, s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "node", n->os_node,
                                               "socket", n->package, "cpus", cpus, "guest_cpus", (json_int_t)n->n_guest_cpus,
                                               "total_bytes", (json_int_t)n->total_bytes, "free_bytes", (json_int_t)n->free_bytes,
                                               "huge_pages", (json_int_t)d->settings.huge_pages[i].n,
                                               "free_huge_pages", (json_int_t)d->settings.huge_pages[i].n_free,
                                               "read_gb_per_s", number_or_null(d->reads.node[i] / 1e9), "distances", distances));
    }
    return nodes;
}

static json_t *memory_nodes_json(const struct topology *t)
{
    json_t *nodes = json_array();

    for (size_t i = 0; i < t->n_memory_nodes; i++) {
        const struct topology_memory_node *m = &t->memory_nodes[i];
        json_t *distances = json_array();

        for (size_t j = 0; j < t->n_nodes; j++)
            json_array_append_new(distances, json_integer(m->distance[j]));
        json_array_append_new(nodes, json_pack("{s:i, s:I, s:I, s:o}", "node", m->os_node, "total_bytes", (json_int_t)m->total_bytes,
                                               "free_bytes", (json_int_t)m->free_bytes, "distances", distances));
    }
    return nodes;
}

static json_t *findings_json(const struct findings *f)
{
    static const char *const names[] = { [FINDING_OK] = "OK", [FINDING_WARN] = "WARN", [FINDING_FAIL] = "FAIL" };
    json_t *items = json_array();

    for (size_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->items[i];
        json_array_append_new(items, json_pack("{s:s, s:s, s:f, s:s, s:s}", "name", x->name, "level", names[x->level], "cost_percent",
                                               x->cost_percent, "what", x->what, "fix", x->fix));
    }
    return items;
}

static json_t *model_json(const struct doctor_model *m)
{
    if (!m->path)
        return json_null();
    return json_pack("{s:s, s:I, s:I, s:I}", "path", m->path, "weight_bytes", (json_int_t)m->weight_bytes,
                     "context", (json_int_t)m->n_ctx, "context_bytes", (json_int_t)m->context_bytes);
}

int doctor_print_json(const struct doctor *d)
{
    const struct topology *t = &d->topology;
    json_t *cpu = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "name", d->settings.cpu_name, "sockets", (json_int_t)t->n_packages,
                            "allowed_cpus", (json_int_t)t->n_allowed_cpus, "online_cpus", (json_int_t)t->n_online_cpus,
                            "threads_per_core", (json_int_t)t->threads_per_core, "l2_bytes", (json_int_t)t->l2_bytes,
                            "llc_total_bytes", (json_int_t)t->llc_total_bytes, "virtual_machine", d->settings.is_guest);
    json_t *root = json_pack("{s:o*, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "cpu", cpu, "levels", levels_json(d),
                             "nodes", nodes_json(d), "memory_nodes", memory_nodes_json(t),
                             "available_bytes", limit_or_null(topology_available_bytes(d->root)),
                             "memory_limit_bytes", limit_or_null(d->settings.memory_limit_bytes),
                             "cpu_quota", number_or_null(t->cpu_quota), "read_gb_per_s", number_or_null(d->reads.local / 1e9),
                             "remote_read_gb_per_s", number_or_null(d->reads.remote / 1e9), "model", model_json(&d->model),
                             "findings", findings_json(&d->findings));
    int err = root ? 0 : -ENOMEM;

    if (!err && (json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) || putchar('\n') == EOF))
        err = -EIO;
    json_decref(root);
    return err;
}
