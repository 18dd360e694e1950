/*
 * doctor_model.c - does a model fit: its rows on each node, and the keys and values of one whole context beside them?
 */
#include "common/log.h"
#include "model/config.h"
#include "server/doctor.h"
#include "weights/gguf.h"

/*
 * Beyond the file's encoding: panels of K-quants take 148 for 144 bytes, and scratch for a step of 512 tokens a few dozen MB. 5 % in all
 * is a guess on the safe side; `serve` counts exactly.
 */
enum { MORE_PERCENT = 5 };

static uint64_t weight_bytes(const struct gguf *g)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        bytes += gguf_tensor_at(g, i)->bytes;
    return bytes + bytes / 100 * MORE_PERCENT;
}

static double gb(uint64_t bytes)
{
    return (double)bytes / 1e9;
}

/* The node that is shortest of memory when `bytes` are dealt by cores, and by how much; 0: they fit. */
static uint64_t find_shortage(const struct topology *t, uint64_t bytes, size_t *node, uint64_t *share)
{
    const size_t n_cores = topology_count_cores(t);
    uint64_t worst = 0;

    for (size_t v = 0; v < t->n_nodes; v++) {
        const uint64_t needed = (uint64_t)((double)bytes * (double)t->nodes[v].n_cpus / (double)n_cores);

        if (needed > t->nodes[v].free_bytes && needed - t->nodes[v].free_bytes > worst) {
            worst = needed - t->nodes[v].free_bytes;
            *node = v;
            *share = needed;
        }
    }
    return worst;
}

/* The first thing that is too small for `bytes`, in words; false if nothing is. */
static bool say_shortage(struct doctor *d, double cost, const char *what, uint64_t bytes, const char *fix)
{
    const struct topology *t = &d->topology;
    const uint64_t available = topology_available_bytes(d->root);
    size_t node = 0;
    uint64_t share = 0, lack = find_shortage(t, bytes, &node, &share);
    struct finding *x = NULL;

    if (bytes > available)
        x = findings_add(&d->findings, "model", cost, "%s: %.2f GB needed, %.2f are available: %.2f too few", what, gb(bytes),
                         gb(available), gb(bytes - available));
    else if (lack)
        x = findings_add(&d->findings, "model", cost, "%s: node %d needs %.2f GB and has %.2f free: %.2f too few", what,
                         t->nodes[node].os_node, gb(share), gb(t->nodes[node].free_bytes), gb(lack));
    if (x)
        finding_fix(x, "%s", fix);
    return x != NULL;
}

int doctor_weigh_model(struct doctor *d, const char *path)
{
    struct doctor_model *m = &d->model;
    struct model_config c;
    struct gguf *g;

    if (gguf_open(&g, path))
        return 1;
    const int err = model_config_read(&c, g);
    m->path = path;
    m->weight_bytes = weight_bytes(g);
    gguf_close(g);
    if (err)
        return 1;
    m->n_ctx = c.n_ctx_train;
    m->context_bytes = (uint64_t)c.n_ctx_train * c.n_layers * c.n_kv_heads * c.head_dim * 2 * sizeof(uint16_t);

    /* What cannot be loaded loses all; a shorter context loses no speed. */
    if (say_shortage(d, 100, "the weights do not fit", m->weight_bytes,
                     "a smaller quantisation or --type, more nodes, or free memory (numastat -m shows what fills it)"))
        return 0;
    if (say_shortage(d, 0, "a whole context does not fit", m->weight_bytes + m->context_bytes, "a shorter --ctx, or --kv-type q8")) {
        d->findings.items[d->findings.n - 1].level = FINDING_WARN;
        return 0;
    }
    findings_add(&d->findings, "model", 0, "fits: %.2f GB of weights, %.2f GB for a context of %zu tokens", gb(m->weight_bytes),
                 gb(m->context_bytes), m->n_ctx);
    return 0;
}
