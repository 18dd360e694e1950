/*
 * load.c - from a file's tensors to panels on their nodes.
 *
 * First the plan: every tensor that the configuration implies must be there, with its shape and a type that can be multiplied.
 * Then the workers of each node read the rows of their own panels with pread, repack them into the node's arena and so
 * touch its pages first. Nothing is ever computed from a mapping of the file: a file that is cut under a mapping is a
 * SIGBUS, and its pages would lie on the node that happened to read it first.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "model/model_internal.h"

enum { READ_WINDOW = 512 << 10 };       /* bytes a worker reads at once: stays in L2 while it is packed */

struct plan { struct model *m; const struct gguf *g; int err; };      /* err: 0, or a negative errno that was logged */

static const struct gguf_tensor *find_tensor(struct plan *p, const char *name)
{
    const struct gguf_tensor *t = gguf_find_tensor(p->g, name);

    if (!t) {
        log_error("%s: tensor \"%s\" is missing", gguf_path(p->g), name);
        p->err = -EINVAL;
    }
    return t;
}

/* Biases would change the result if they were left out silently. */
static void refuse_bias(struct plan *p, const char *name)
{
    char bias[96];

    snprintf(bias, sizeof(bias), "%.*s.bias", (int)(strlen(name) - strlen(".weight")), name);
    if (gguf_find_tensor(p->g, bias)) {
        log_error("%s: tensor \"%s\": biases are not supported in this version", gguf_path(p->g), bias);
        p->err = -EINVAL;
    }
}

static void plan_matrix(struct plan *p, struct matrix *x, const char *name, size_t k, size_t n_rows, const struct split *split)
{
    const struct gguf_tensor *t = find_tensor(p, name);

    if (!t)
        return;
    refuse_bias(p, name);
    if (t->n_dims > 2 || t->ne[0] != k || t->ne[1] != n_rows) {
        log_error("%s: tensor \"%s\" is {%" PRIu64 ", %" PRIu64 "}, expected {%zu, %zu}", gguf_path(p->g), name, t->ne[0],
                  t->ne[1], k, n_rows);
        p->err = -EINVAL;
        return;
    }
    if (!dtype_info(t->type)->supported) {
        log_error("%s: tensor \"%s\" has type %s, which is not supported in this version", gguf_path(p->g), name,
                  dtype_info(t->type)->name);
        p->err = -EINVAL;
        return;
    }
    *x = (struct matrix){ .tensor = t, .type = t->type, .n_rows = n_rows, .k = k, .k_padded = round_up(k, 32), .split = split };
    x->n_panels = split->start[pool_n_nodes(p->m->pool)];
    x->panel_bytes = panel_bytes(x->type, x->k_padded);
    int err = gemm_choose(p->m, x);
    if (err)
        p->err = err;
}

/* A matrix whose rows are the dims of heads. */
static void plan_heads(struct plan *p, struct matrix *x, const char *name, size_t n_heads, const struct split *split, bool rotated)
{
    const struct model_config *c = &p->m->config;

    plan_matrix(p, x, name, c->d_model, n_heads * c->head_dim, split);
    x->head_dim = c->head_dim;
    x->interleaved = rotated && c->rope_rows_interleaved;
}

static void plan_norm(struct plan *p, struct norm *x, const char *name, size_t n)
{
    const struct gguf_tensor *t = find_tensor(p, name);

    if (!t)
        return;
    if (t->n_dims != 1 || t->ne[0] != n) {
        log_error("%s: tensor \"%s\" has %" PRIu64 " values in %" PRIu32 " dimensions, expected {%zu}", gguf_path(p->g), name,
                  t->ne[0], t->n_dims, n);
        p->err = -EINVAL;
    } else if (t->type != DTYPE_F32 && t->type != DTYPE_F16 && t->type != DTYPE_BF16) {
        log_error("%s: norm \"%s\" has type %s, expected F32, F16 or BF16", gguf_path(p->g), name, dtype_info(t->type)->name);
        p->err = -EINVAL;
    }
    *x = (struct norm){ .tensor = t, .n = n };
}

static void plan_layer(struct plan *p, size_t i)
{
    const struct model_config *c = &p->m->config;
    struct model *m = p->m;
    struct layer *l = &m->layers[i];
    char name[64];

#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%zu." suffix ".weight", i), name)
    plan_norm(p, &l->attn_norm, NAME("attn_norm"), c->d_model);
    plan_heads(p, &l->q, NAME("attn_q"), c->n_heads, &m->q_split, true);
    plan_heads(p, &l->k, NAME("attn_k"), c->n_kv_heads, &m->kv_split, true);
    plan_heads(p, &l->v, NAME("attn_v"), c->n_kv_heads, &m->kv_split, false);
    plan_matrix(p, &l->o, NAME("attn_output"), c->n_heads * c->head_dim, c->d_model, &m->d_split);
    if (c->qk_norm) {
        plan_norm(p, &l->q_norm, NAME("attn_q_norm"), c->head_dim);
        plan_norm(p, &l->k_norm, NAME("attn_k_norm"), c->head_dim);
    }
    if (c->post_norms) {
        plan_norm(p, &l->post_attn_norm, NAME("post_attention_norm"), c->d_model);
        plan_norm(p, &l->post_ffn_norm, NAME("post_ffw_norm"), c->d_model);
    }
    plan_norm(p, &l->ffn_norm, NAME("ffn_norm"), c->d_model);
    plan_matrix(p, &l->gate, NAME("ffn_gate"), c->d_model, c->d_ff, &m->ff_split);
    plan_matrix(p, &l->up, NAME("ffn_up"), c->d_model, c->d_ff, &m->ff_split);
    plan_matrix(p, &l->down, NAME("ffn_down"), c->d_ff, c->d_model, &m->d_split);
#undef NAME
}

void model_each_matrix(struct model *m, void (*fn)(struct model *m, struct matrix *x, void *arg), void *arg)
{
    if (m->embedding.tensor)
        fn(m, &m->embedding, arg);
    for (size_t i = 0; i < m->config.n_layers; i++) {
        struct layer *l = &m->layers[i];
        struct matrix *const all[] = { &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down };
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++)
            fn(m, all[j], arg);
    }
    fn(m, &m->head, arg);
}

static void each_norm(struct model *m, void (*fn)(struct model *m, struct norm *x, void *arg), void *arg)
{
    for (size_t i = 0; i < m->config.n_layers; i++) {
        struct layer *l = &m->layers[i];
        struct norm *const all[] = { &l->attn_norm, &l->ffn_norm, &l->q_norm, &l->k_norm, &l->post_attn_norm, &l->post_ffn_norm };
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++)
            if (all[j]->tensor)
                fn(m, all[j], arg);
    }
    fn(m, &m->output_norm, arg);
}

static void count_matrix(struct model *m, struct matrix *x, void *arg)
{
    (void)arg;
    m->weight_bytes += x->n_panels * x->panel_bytes;
    if (x == &m->embedding)
        return;
    m->step_weight_bytes += x->tensor->bytes;
    m->step_params += (uint64_t)x->n_rows * x->k;
}

/* The llama3 scaling of RoPE: GGUF stores a divisor for each frequency (rope_freqs.weight). */
static int read_rope_factors(struct model *m, const struct gguf *g)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, "rope_freqs.weight");
    const size_t n = m->config.head_dim / 2;
    float *factors = NULL;
    int err = 0;

    if (!t)
        return 0;
    if (t->type != DTYPE_F32 || t->n_dims != 1 || t->ne[0] != n) {
        log_error("%s: tensor \"rope_freqs.weight\" is %s {%" PRIu64 "}, expected F32 {%zu}", gguf_path(g), dtype_info(t->type)->name,
                  t->ne[0], n);
        return -EINVAL;
    }
    factors = malloc(n * sizeof(*factors));
    if (!factors)
        return -ENOMEM;
    err = gguf_read(g, t, 0, factors, n * sizeof(*factors));
    for (size_t j = 0; !err && j < n; j++) {
        if (!(factors[j] > 0 && factors[j] < 1e6f)) {
            log_error("%s: tensor \"rope_freqs.weight\" entry %zu is %g, expected a positive number", gguf_path(g), j, (double)factors[j]);
            err = -EINVAL;
        }
        m->rope_freq[j] /= (double)factors[j];
    }
    free(factors);
    return err;
}

/* Layers that the metadata leaves out are no detail: the text would be garbage. Other tensors that nothing uses are a warning. */
static int check_unused(const struct plan *p, size_t n_used)
{
    if (gguf_n_tensors(p->g) == n_used)
        return 0;
    for (size_t i = 0; i < gguf_n_tensors(p->g); i++) {
        const char *name = gguf_tensor_at(p->g, i)->name.data;
        unsigned long layer = strncmp(name, "blk.", 4) ? 0 : strtoul(name + 4, NULL, 10);
        if (layer >= p->m->config.n_layers) {
            log_error("%s: tensor \"%s\" belongs to layer %lu, %s.block_count is %zu", gguf_path(p->g), name, layer, p->m->config.arch,
                      p->m->config.n_layers);
            return -EINVAL;
        }
    }
    const size_t n = gguf_n_tensors(p->g) - n_used;
    log_warn("%s: %zu tensor%s not used by this version", gguf_path(p->g), n, n == 1 ? " is" : "s are");
    return 0;
}

static void count_norm(struct model *m, struct norm *x, void *arg)
{
    (void)m;
    (void)x;
    ++*(size_t *)arg;
}

static void count_used(struct model *m, struct matrix *x, void *arg)
{
    (void)m;
    (void)x;
    ++*(size_t *)arg;
}

int load_plan(struct model *m, const struct gguf *g)
{
    const struct model_config *c = &m->config;
    struct plan p = { m, g, 0 };
    size_t n_used = 0;

    plan_matrix(&p, &m->head, c->tied_embedding ? "token_embd.weight" : "output.weight", c->d_model, c->vocab_size, &m->vocab_split);
    if (!c->tied_embedding)
        plan_matrix(&p, &m->embedding, "token_embd.weight", c->d_model, c->vocab_size, &m->vocab_split);
    plan_norm(&p, &m->output_norm, "output_norm.weight", c->d_model);
    for (size_t i = 0; i < c->n_layers && !p.err; i++)
        plan_layer(&p, i);
    if (p.err)
        return p.err;
    model_each_matrix(m, count_used, &n_used);
    each_norm(m, count_norm, &n_used);
    n_used += gguf_find_tensor(g, "rope_freqs.weight") != NULL;
    if (check_unused(&p, n_used))
        return -EINVAL;
    model_each_matrix(m, count_matrix, NULL);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        m->n_params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    return read_rope_factors(m, g);
}

struct node_count { size_t node; uint64_t bytes; };

static void add_matrix_bytes(struct model *m, struct matrix *x, void *arg)
{
    struct node_count *n = arg;
    (void)m;
    n->bytes += round_up((x->split->start[n->node + 1] - x->split->start[n->node]) * x->panel_bytes, 64);
}

static void add_norm_bytes(struct model *m, struct norm *x, void *arg)
{
    struct node_count *n = arg;
    (void)m;
    n->bytes += round_up(x->n * sizeof(float), 64);
}

uint64_t load_node_bytes(struct model *m, size_t node)
{
    struct node_count n = { .node = node };

    model_each_matrix(m, add_matrix_bytes, &n);
    each_norm(m, add_norm_bytes, &n);
    return n.bytes;
}

static void take_matrix(struct model *m, struct matrix *x, void *arg)
{
    (void)arg;
    for (size_t v = 0; v < pool_n_nodes(m->pool); v++)
        x->panels[v] = place_take(&m->nodes[v].weights, (x->split->start[v + 1] - x->split->start[v]) * x->panel_bytes);
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
    _Atomic uint64_t *bytes_done;
    _Atomic int *error;
    model_progress_fn progress;
    void *progress_arg;
    uint64_t bytes_total, last_progress_ns;
    bool drop_cache, allow_nonfinite;
};

/* Where in the tensor row r of panel p comes from; SIZE_MAX for a row that pads. */
static size_t source_row(const struct model *m, const struct matrix *x, size_t panel, size_t r)
{
    size_t row = panel * PANEL_ROWS + r;

    if (x->head_dim) {
        size_t head = row / m->head_padded, j = row % m->head_padded, n_pairs = x->head_dim / 2;
        if (j >= x->head_dim)
            return SIZE_MAX;
        if (x->interleaved)
            j = j < n_pairs ? 2 * j : 2 * (j - n_pairs) + 1;
        row = head * x->head_dim + j;
    }
    return row < x->n_rows ? row : SIZE_MAX;
}

/* True for the first to fail, who says why. */
static bool fail(struct loading *l, int err)
{
    int none = 0;
    return atomic_compare_exchange_strong(l->error, &none, err);
}

/* Read the rows that panels [begin, end) need, which stand close together, and pack them. */
static void load_panels(struct loading *l, struct matrix *x, size_t begin, size_t end)
{
    const struct model *m = l->m;
    const size_t node = l->worker->node;
    const uint64_t row_bytes = x->tensor->bytes / x->n_rows;
    size_t first = SIZE_MAX, last = 0, n_rows = 0;

    for (size_t p = begin; p < end; p++)
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            size_t row = source_row(m, x, p, r);
            if (row == SIZE_MAX)
                continue;
            first = row < first ? row : first;
            last = row > last ? row : last;
            n_rows++;
        }
    if (first != SIZE_MAX) {
        int err = gguf_read(l->g, x->tensor, first * row_bytes, l->window, (last - first + 1) * row_bytes);
        if (err) {
            fail(l, err);
            return;
        }
    }
    for (size_t p = begin; p < end; p++) {
        unsigned char *panel = x->panels[node] + (p - x->split->start[node]) * x->panel_bytes;
        const void *rows[PANEL_ROWS];
        for (size_t r = 0; r < PANEL_ROWS; r++) {
            size_t row = source_row(m, x, p, r);
            rows[r] = row == SIZE_MAX ? NULL : l->window + (row - first) * row_bytes;
        }
        unsigned bad = panel_pack(x->type, panel, rows, x->k);
        if (bad && !l->allow_nonfinite) {
            if (fail(l, -EINVAL))
                log_error("%s: tensor \"%s\" row %zu: a %s is not finite (--allow-nonfinite loads it all the same)", gguf_path(l->g),
                          x->tensor->name.data, source_row(m, x, p, (size_t)__builtin_ctz(bad)),
                          dtype_info(x->type)->block > 1 ? "scale or minimum" : "value");
            return;
        }
        if (bad)
            atomic_fetch_add(&x->n_nonfinite, (size_t)__builtin_popcount(bad));
    }
    if (first == SIZE_MAX)
        return;
    if (l->drop_cache)
        gguf_drop_cache(l->g, x->tensor, first * row_bytes, (last - first + 1) * row_bytes);
    atomic_fetch_add(l->bytes_done, n_rows * row_bytes);     /* not those between them: another node's half of a head */
    uint64_t now = clock_now_ns();
    if (l->worker->index == 0 && l->progress && now - l->last_progress_ns > 100000000) {
        l->last_progress_ns = now;
        l->progress(l->progress_arg, atomic_load(l->bytes_done), l->bytes_total);
    }
}

/* Panels whose rows come from one place in the file: those of a head, where rows may be reordered, or one. */
static size_t unit_panels(const struct model *m, const struct matrix *x)
{
    return x->head_dim ? m->head_padded / PANEL_ROWS : 1;
}

/* Panels a window holds, of whole units. */
static size_t window_panels(const struct model *m, const struct matrix *x, size_t window_bytes)
{
    size_t unit_bytes = (x->head_dim ? x->head_dim : PANEL_ROWS) * (size_t)(x->tensor->bytes / x->n_rows);
    size_t n = window_bytes / unit_bytes;

    return unit_panels(m, x) * (n ? n : 1);
}

static size_t window_bytes(const struct model *m, const struct matrix *x)
{
    size_t unit_bytes = (x->head_dim ? x->head_dim : PANEL_ROWS) * (size_t)(x->tensor->bytes / x->n_rows);
    (void)m;
    return unit_bytes > READ_WINDOW ? unit_bytes : READ_WINDOW;
}

static void widest_window(struct model *m, struct matrix *x, void *arg)
{
    size_t *widest = arg, bytes = window_bytes(m, x);
    *widest = bytes > *widest ? bytes : *widest;
}

static void load_matrix(struct model *m, struct matrix *x, void *arg)
{
    struct loading *l = arg;
    const struct worker *w = l->worker;
    const size_t from = x->split->start[w->node], to = x->split->start[w->node + 1], unit = unit_panels(m, x);
    const size_t first = from / unit, step = window_panels(m, x, l->window_bytes);
    size_t begin, end;

    /* Shares and windows are cut between units; a node's own first and last one may be in part another node's. */
    pool_share_node(w, (to + unit - 1) / unit - first, &begin, &end);
    begin = (first + begin) * unit;
    end = (first + end) * unit < to ? (first + end) * unit : to;
    for (size_t p = begin; p < end && !atomic_load(l->error); p += step)
        load_panels(l, x, p < from ? from : p, p + step < end ? p + step : end);
}

static void load_norm(struct model *m, struct norm *x, void *arg)
{
    struct loading *l = arg;
    const size_t size = dtype_info(x->tensor->type)->block_bytes;
    float *copy = x->copy[l->worker->node];
    (void)m;

    int err = gguf_read(l->g, x->tensor, 0, l->window, x->n * size);
    if (err)
        fail(l, err);
    for (size_t i = 0; !err && i < x->n; i++) {
        if (size == 4) {
            memcpy(&copy[i], l->window + 4 * i, 4);
        } else {
            uint16_t h;
            memcpy(&h, l->window + 2 * i, 2);
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
    each_norm(m, nonfinite_norm, &n);
    if (n.n_tensors)
        log_warn("%s: tensor \"%s\" has NaN or infinity in %zu row%s (in all %zu row%s of %zu tensor%s): requests that meet them fail",
                 gguf_path(g), n.first->name.data, n.n_first, n.n_first == 1 ? "" : "s", n.n_rows, n.n_rows == 1 ? "" : "s", n.n_tensors,
                 n.n_tensors == 1 ? "" : "s");
}

static void load_worker(const struct worker *w, void *arg)
{
    struct loading l = *(struct loading *)arg;
    size_t widest = 65536 * sizeof(float);      /* a norm */

    model_each_matrix(l.m, widest_window, &widest);
    l.worker = w;
    l.window_bytes = READ_WINDOW;
    l.window = malloc(widest);
    if (!l.window) {
        log_error("no memory for a window of %zu bytes to read the model through", widest);
        fail(&l, -ENOMEM);
        return;
    }
    if (w->index_in_node == 0)
        each_norm(l.m, load_norm, &l);
    model_each_matrix(l.m, load_matrix, &l);
    free(l.window);
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
    each_norm(m, take_norm, NULL);
    pool_run(m->pool, load_worker, &l);
    if (!error && progress)
        progress(arg, l.bytes_total, l.bytes_total);
    if (!error)
        warn_of_nonfinite(m, g);
    return error;
}
