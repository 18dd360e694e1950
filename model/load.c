/*
 * load.c - from a file's tensors to panels on their nodes, after load_plan.c.
 *
 * The workers of each node read the rows of their own panels with pread, repack them into the node's arena and so touch its pages first.
 * Nothing is ever computed from a mapping of the file: a file that is cut under a mapping is a SIGBUS, and its pages would lie on the node
 * that happened to read it first.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "model/model_internal.h"

enum { READ_WINDOW = 512 << 10 };       /* bytes a worker reads at once: stays in L2 while it is packed */

/* Bytes of a row as the file has it. */
static uint64_t row_bytes(const struct matrix *x)
{
    return x->tensor->bytes / x->tensor->ne[1] / x->tensor->ne[2];
}

static void take_matrix(struct model *m, struct matrix *x, void *arg)
{
    (void)arg;
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        x->panels[v] = place_take(&m->nodes[v].weights, node_panels(x, v) * x->panel_bytes);
}

static void take_norm(struct model *m, struct norm *x, void *arg)
{
    (void)arg;
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        x->copy[v] = place_take(&m->nodes[v].weights, x->n * sizeof(float));
}

/* What the workers share while they load. */
struct loading {
    struct model *m;
    const struct gguf *g;
    const struct worker *worker;        /* of the copy that a worker makes for itself */
    unsigned char *window;
    size_t window_bytes;
    unsigned char *convert_scratch;
    _Atomic uint64_t *bytes_done;
    _Atomic int *error;
    model_progress_fn progress;
    void *progress_arg;
    uint64_t bytes_total, last_progress_ns;
    bool drop_cache, allow_nonfinite;
};

static size_t head_panels(const struct matrix *x)
{
    return (x->head_dim + PANEL_ROWS - 1) / PANEL_ROWS;
}

/* Where in the tensor row r of panel p comes from; SIZE_MAX for a row that pads. */
static size_t source_row(const struct matrix *x, size_t panel, size_t r)
{
    size_t row = panel * PANEL_ROWS + r;

    if (x->head_dim) {
        const size_t padded = head_panels(x) * PANEL_ROWS, head = row / padded, n_pairs = x->head_dim / 2;
        size_t j = row % padded;
        if (j >= x->head_dim)
            return SIZE_MAX;
        if (x->interleaved)
            j = j < n_pairs ? 2 * j : 2 * (j - n_pairs) + 1;
        row = head * x->head_dim + j;
    }
    return row < x->n_rows ? x->first_row + row : SIZE_MAX;
}

/* True for the first to fail, who says why. */
static bool fail(struct loading *l, int err)
{
    int none = 0;
    return atomic_compare_exchange_strong(l->error, &none, err);
}

/* Read the rows that panels [begin, end) need, which stand close together, and pack them. */
static void load_panels(struct loading *l, struct matrix *x, size_t expert, size_t begin, size_t end)
{
    const size_t node = l->worker->node;
    const uint64_t bytes = row_bytes(x), from = (uint64_t)expert * x->tensor->ne[1] * bytes;
    const size_t first_panel = x->replicated ? 0 : x->split->start[node];
    unsigned char *const panels = x->panels[node] + (x->n_experts ? expert * (node_panels(x, node) / x->n_experts) * x->panel_bytes : 0);
    size_t first = SIZE_MAX, last = 0, n_rows = 0;

    for (size_t p = begin; p < end; p++)
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            size_t row = source_row(x, p, r);
            if (row == SIZE_MAX)
                continue;
            first = row < first ? row : first;
            last = row > last ? row : last;
            n_rows++;
        }
    if (first != SIZE_MAX) {
        int err = gguf_read(l->g, x->tensor, from + first * bytes, l->window, (last - first + 1) * bytes);
        if (err) {
            fail(l, err);
            return;
        }
    }
    for (size_t p = begin; p < end; p++) {
        unsigned char *panel = panels + (p - first_panel) * x->panel_bytes;
        const void *rows[PANEL_ROWS];
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            size_t row = source_row(x, p, r);
            rows[r] = row == SIZE_MAX ? NULL : l->window + (row - first) * bytes;
        }
        unsigned bad, too_large = 0;
        if (x->type == (enum dtype)x->tensor->type)
            bad = panel_pack(x->type, panel, rows, x->k);
        else
            convert_panel(x, panel, rows, l->convert_scratch, &bad, &too_large);
        if (too_large) {
            if (fail(l, -EINVAL))
                log_error("%s: tensor \"%s\" row %zu: a value is too large for %s: take --type bf16", gguf_path(l->g),
                          x->tensor->name.data, source_row(x, p, (size_t)__builtin_ctz(too_large)), dtype_info(x->type)->name);
            return;
        }
        if (bad && !l->allow_nonfinite) {
            if (fail(l, -EINVAL))
                log_error("%s: tensor \"%s\" row %zu: a %s is not finite (--allow-nonfinite loads it all the same)", gguf_path(l->g),
                          x->tensor->name.data, source_row(x, p, (size_t)__builtin_ctz(bad)),
                          dtype_info(x->tensor->type)->block > 1 ? "scale or minimum" : "value");
            return;
        }
        if (bad)
            atomic_fetch_add(&x->n_nonfinite, (size_t)__builtin_popcount(bad));
    }
    if (first == SIZE_MAX)
        return;
    if (l->drop_cache)
        gguf_drop_cache(l->g, x->tensor, from + first * bytes, (last - first + 1) * bytes);
    if (!x->replicated || node == 0)
        atomic_fetch_add(l->bytes_done, n_rows * bytes);     /* not those between them: another node's half of a head */
    uint64_t now = clock_now_ns();
    if (l->worker->index == 0 && l->progress && now - l->last_progress_ns > 100000000) {
        l->last_progress_ns = now;
        l->progress(l->progress_arg, atomic_load(l->bytes_done), l->bytes_total);
    }
}

/* Panels whose rows come from one place in the file: those of a head, where rows may be reordered, or one. */
static size_t unit_panels(const struct matrix *x)
{
    return x->head_dim ? head_panels(x) : 1;
}

/* Panels a window holds, of whole units. */
static size_t window_panels(const struct matrix *x, size_t window_bytes)
{
    size_t unit_bytes = (x->head_dim ? x->head_dim : PANEL_ROWS) * (size_t)row_bytes(x);
    size_t n = window_bytes / unit_bytes;

    return unit_panels(x) * (n ? n : 1);
}

static size_t window_bytes(const struct model *m, const struct matrix *x)
{
    size_t unit_bytes = (x->head_dim ? x->head_dim : PANEL_ROWS) * (size_t)row_bytes(x);
    (void)m;
    return unit_bytes > READ_WINDOW ? unit_bytes : READ_WINDOW;
}

static void widest_window(struct model *m, struct matrix *x, void *arg)
{
    size_t *widest = arg, bytes = window_bytes(m, x);
    *widest = bytes > *widest ? bytes : *widest;
}

static void widest_convert(struct model *m, struct matrix *x, void *arg)
{
    size_t *widest = arg, bytes = convert_bytes(x);
    (void)m;
    *widest = bytes > *widest ? bytes : *widest;
}

static void widest_norm(struct model *m, struct norm *x, void *arg)
{
    size_t *widest = arg, bytes = x->n * sizeof(float);
    (void)m;
    *widest = bytes > *widest ? bytes : *widest;
}

static void load_matrix(struct model *m, struct matrix *x, void *arg)
{
    struct loading *l = arg;
    const struct worker *w = l->worker;
    const size_t from = x->replicated ? 0 : x->split->start[w->node], to = x->replicated ? x->n_panels : x->split->start[w->node + 1];
    const size_t unit = unit_panels(x), first = from / unit, step = window_panels(x, l->window_bytes);
    const size_t n_units = (to + unit - 1) / unit - first, n_experts = x->n_experts ? x->n_experts : 1;
    size_t begin, end;
    (void)m;

    /* Shares and windows are cut between units; a node's own first and last one may be in part another node's. */
    pool_share_node(w, n_units * n_experts, &begin, &end);
    for (size_t i = begin, run; i < end; i += run) {
        const size_t expert = i / n_units, at = i % n_units;
        run = n_units - at < end - i ? n_units - at : end - i;
        const size_t most = (first + at + run) * unit, last = most < to ? most : to;
        for (size_t p = (first + at) * unit; p < last && !atomic_load(l->error); p += step)
            load_panels(l, x, expert, p < from ? from : p, p + step < last ? p + step : last);
    }
}

/* Where value i of a vector comes from: as source_row() for matrices. */
static size_t source_value(const struct norm *x, size_t i)
{
    const size_t dims = x->interleaved_dims, j = dims ? i % dims : 0;

    return !dims ? i : i - j + (j < dims / 2 ? 2 * j : 2 * (j - dims / 2) + 1);
}

static void load_norm(struct model *m, struct norm *x, void *arg)
{
    struct loading *l = arg;
    const size_t size = dtype_info(x->tensor->type)->block_bytes;
    float *copy = x->copy[l->worker->node];
    (void)m;

    if (atomic_load(l->error))      /* of all that cannot be read, the first is said */
        return;
    int err = gguf_read(l->g, x->tensor, x->first * size, l->window, x->n * size);
    if (err)
        fail(l, err);
    for (size_t i = 0; !err && i < x->n; i++) {
        const size_t from = source_value(x, i);
        if (size == 4) {
            memcpy(&copy[i], l->window + 4 * from, 4);
        } else {
            uint16_t h;
            memcpy(&h, l->window + 2 * from, 2);
            copy[i] = x->tensor->type == DTYPE_F16 ? half_to_float(h) : bf16_to_float(h);
        }
        if (isfinite(copy[i]))
            continue;
        if (!l->allow_nonfinite) {
            if (fail(l, -EINVAL))
                log_error("%s: norm \"%s\" value %zu is not finite (--allow-nonfinite loads it all the same)", gguf_path(l->g),
                          x->tensor->name.data, i);
            return;
        }
        if (l->worker->node == 0)
            x->nonfinite = true;
    }
}

struct nonfinite { const struct gguf_tensor *first; size_t n_rows, n_tensors, n_first; };

static void count_nonfinite(struct nonfinite *n, const struct gguf_tensor *t, size_t n_rows)
{
    if (n_rows == 0)
        return;
    if (!n->first) {
        n->first = t;
        n->n_first = n_rows;
    }
    n->n_rows += n_rows;
    n->n_tensors++;
}

static void nonfinite_matrix(struct model *m, struct matrix *x, void *arg)
{
    (void)m;
    count_nonfinite(arg, x->tensor, x->n_nonfinite);
}

static void nonfinite_norm(struct model *m, struct norm *x, void *arg)
{
    (void)m;
    count_nonfinite(arg, x->tensor, x->nonfinite);
}

static void warn_of_nonfinite(struct model *m, const struct gguf *g)
{
    struct nonfinite n = { 0 };

    model_each_matrix(m, nonfinite_matrix, &n);
    model_each_norm(m, nonfinite_norm, &n);
    if (n.n_tensors)
        log_warn("%s: tensor \"%s\" has NaN or infinity in %zu row%s (in all %zu row%s of %zu tensor%s): requests that meet them fail",
                 gguf_path(g), n.first->name.data, n.n_first, n.n_first == 1 ? "" : "s", n.n_rows, n.n_rows == 1 ? "" : "s", n.n_tensors,
                 n.n_tensors == 1 ? "" : "s");
}

static void load_worker(const struct worker *w, void *arg)
{
    struct loading l = *(struct loading *)arg;
    size_t widest = 65536 * sizeof(float), most_convert = 64;       /* a norm, and what else is read at once */

    model_each_matrix(l.m, widest_window, &widest);
    model_each_norm(l.m, widest_norm, &widest);
    model_each_matrix(l.m, widest_convert, &most_convert);
    l.worker = w;
    l.window_bytes = READ_WINDOW;
    l.window = malloc(widest);
    l.convert_scratch = aligned_alloc(64, round_up(most_convert, 64));
    if (!l.window || !l.convert_scratch) {
        if (fail(&l, -ENOMEM))
            log_error("no memory for a window of %zu bytes to read the model through", widest + most_convert);
    }
    if (w->index_in_node == 0 && !atomic_load(l.error))
        model_each_norm(l.m, load_norm, &l);
    if (!atomic_load(l.error))
        model_each_matrix(l.m, load_matrix, &l);
    free(l.window);
    free(l.convert_scratch);
}

int load_weights(struct model *m, const struct gguf *g, bool allow_nonfinite, model_progress_fn progress, void *arg)
{
    _Atomic uint64_t bytes_done = 0;
    _Atomic int error = 0;
    struct loading l = { .m = m, .g = g, .bytes_done = &bytes_done, .error = &error, .progress = progress, .progress_arg = arg,
                         .allow_nonfinite = allow_nonfinite };

    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        l.bytes_total += gguf_tensor_at(g, i)->bytes;
    /* The page cache behind us is dropped for models that would crowd a node's memory; a small one stays for the next start. */
    l.drop_cache = l.bytes_total > topology_available_bytes("") / 4;
    model_each_matrix(m, take_matrix, NULL);
    model_each_norm(m, take_norm, NULL);
    pool_run(m->pool, load_worker, &l);
    if (!error && progress)
        progress(arg, l.bytes_total, l.bytes_total);
    if (!error)
        warn_of_nonfinite(m, g);
    return error;
}
