#include "server/quantize_job.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "kernels/panels.h"
#include "weights/quantize.h"

enum {
    WINDOW = 1 << 18,               /* elements a thread takes at once: 1 MiB of float32, which stays in its cache */
    SOURCE_BYTES = 8 * WINDOW,      /* the largest element of any type */
    OUTPUT_BYTES = 4 * WINDOW,
    PIECE = 4096,                   /* elements decoded at once */
    PANEL_K = PIECE / PANEL_ROWS,   /* a quantised piece is decoded as one panel of 16 rows of 256 */
    PANEL_BYTES = 4608              /* Q8_0: 4352 */
};

struct window {
    size_t tensor;
    uint64_t first, n;              /* elements */
};

struct shared {
    const struct quantize_job *job;
    uint64_t total;                 /* bytes of the source */
    pthread_mutex_t read;           /* `next` and reading: so the source is read front to back, and a failure is said once */
    size_t next_tensor;
    uint64_t next_element;
    pthread_mutex_t write;          /* writing, and `done` */
    uint64_t done;
    _Atomic int err;                /* the first failure */
};

struct worker {
    struct shared *shared;
    unsigned char *source, *output;
    float *values;
    unsigned char *panel;           /* PANEL_BYTES, 64-byte aligned */
    pthread_t thread;
};

bool quantize_job_reads(enum dtype type)
{
    return dtype_info(type)->supported;
}

static uint64_t n_elements(const struct gguf_tensor *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

static uint64_t bytes_of(enum dtype type, uint64_t elements)
{
    const struct dtype_info *info = dtype_info(type);

    return elements / info->block * info->block_bytes;
}

/* Returns whether this failure is the first. */
static bool record(struct shared *s, int err)
{
    int none = 0;

    return atomic_compare_exchange_strong(&s->err, &none, err);
}

static bool has_ended(struct shared *s)
{
    if (s->job->stop && *s->job->stop)
        record(s, -EINTR);
    return s->err != 0;
}

/* Take the next window and read it. Returns false when there is none, or something has failed. */
static bool read_next(struct worker *w, struct window *window)
{
    struct shared *s = w->shared;
    const struct gguf *g = s->job->source;
    bool got = false;

    pthread_mutex_lock(&s->read);
    while (s->next_tensor < gguf_n_tensors(g) && s->next_element == n_elements(gguf_tensor_at(g, s->next_tensor))) {
        s->next_tensor++;
        s->next_element = 0;
    }
    if (s->next_tensor < gguf_n_tensors(g) && !has_ended(s)) {
        const struct gguf_tensor *t = gguf_tensor_at(g, s->next_tensor);
        const uint64_t left = n_elements(t) - s->next_element;
        *window = (struct window){ s->next_tensor, s->next_element, left < WINDOW ? left : WINDOW };
        const int err = gguf_read(g, t, bytes_of(t->type, window->first), w->source, bytes_of(t->type, window->n));
        s->next_element += window->n;
        if (err)
            record(s, err);
        got = !err;
    }
    pthread_mutex_unlock(&s->read);
    return got;
}

/* Quantised blocks, n values of them, through a panel: kernels/ is the one place that knows their layouts. */
static bool decode_blocks(const struct worker *w, enum dtype type, const unsigned char *from, size_t n)
{
    /* Of F8_E4M3, what belongs together (128 elements from a row's start) may begin anywhere here: block by block. */
    const size_t block = dtype_info(type)->block, most = type == DTYPE_F8_E4M3 ? block : PANEL_K;
    unsigned bad = 0;

    assert(panel_bytes(type, most) <= PANEL_BYTES);
    for (size_t done = 0; done < n;) {
        const size_t k = n - done >= most ? most : block;       /* the end may be short of 256 */
        const void *rows[PANEL_ROWS] = { 0 };
        size_t n_rows = 0;
        for (; n_rows < PANEL_ROWS && (n_rows + 1) * k <= n - done; n_rows++)
            rows[n_rows] = from + bytes_of(type, done + n_rows * k);
        bad |= panel_pack(type, w->panel, rows, k);
        for (unsigned row = 0; row < n_rows; row++)
            panel_unpack_row(type, w->panel, row, k, w->values + done + row * k);
        done += n_rows * k;
    }
    return !bad;
}

/* w->values = the n values at `from`. Returns false when a block's scale is not finite. */
static bool decode(const struct worker *w, enum dtype type, const unsigned char *from, size_t n)
{
    uint16_t v;

    switch (type) {
    case DTYPE_F32:
        memcpy(w->values, from, n * sizeof(float));
        return true;
    case DTYPE_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&v, from + 2 * i, sizeof(v));
            w->values[i] = bf16_to_float(v);
        }
        return true;
    case DTYPE_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&v, from + 2 * i, sizeof(v));
            w->values[i] = half_to_float(v);
        }
        return true;
    default:
        return decode_blocks(w, type, from, n);
    }
}

/* Say which value cannot be written: the first that is not finite, else the largest of the piece. */
static void complain(const struct worker *w, const struct window *window, uint64_t at, size_t n, enum dtype type)
{
    const struct gguf *g = w->shared->job->source;
    const struct gguf_tensor *t = gguf_tensor_at(g, window->tensor);
    char quoted[GGUF_QUOTED];
    size_t worst = 0;

    for (size_t i = 0; i < n && isfinite(w->values[worst]); i++)
        if (!(fabsf(w->values[i]) <= fabsf(w->values[worst])))
            worst = i;
    const float value = w->values[worst];
    const uint64_t row = (window->first + at + worst) / t->ne[0];
    if (!isfinite(value))
        log_error("%s: tensor %s row %" PRIu64 ": a value is %s: the file is damaged", gguf_path(g), gguf_quote(t->name, quoted), row,
                  isnan(value) ? "NaN" : "infinite");
    else
        log_error("%s: tensor %s row %" PRIu64 ": %.6g is too large for %s: take --type bf16 or f32", gguf_path(g),
                  gguf_quote(t->name, quoted), row, (double)value, dtype_info(type)->name);
}

static int convert(const struct worker *w, const struct window *window)
{
    const enum dtype from = gguf_tensor_at(w->shared->job->source, window->tensor)->type, to = w->shared->job->types[window->tensor];

    for (uint64_t at = 0; at < window->n; at += PIECE) {
        const size_t n = window->n - at < PIECE ? window->n - at : PIECE;
        if (decode(w, from, w->source + bytes_of(from, at), n) && quantize_values(to, w->output + bytes_of(to, at), w->values, n))
            continue;
        if (record(w->shared, -EINVAL))
            complain(w, window, at, n, to);
        return -EINVAL;
    }
    return 0;
}

static void write_window(const struct worker *w, const struct window *window)
{
    struct shared *s = w->shared;
    const enum dtype from = gguf_tensor_at(s->job->source, window->tensor)->type, to = s->job->types[window->tensor];

    pthread_mutex_lock(&s->write);
    if (!s->err) {
        const int err = gguf_output_write(s->job->out, window->tensor, bytes_of(to, window->first), from == to ? w->source : w->output,
                                          bytes_of(to, window->n));
        s->done += bytes_of(from, window->n);
        if (err)
            record(s, err);
        else if (s->job->progress)
            s->job->progress(s->job->progress_arg, s->done, s->total);
    }
    pthread_mutex_unlock(&s->write);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct window window;

    while (read_next(w, &window)) {
        const struct gguf_tensor *t = gguf_tensor_at(w->shared->job->source, window.tensor);
        if (w->shared->job->types[window.tensor] == (enum dtype)t->type || !convert(w, &window))
            write_window(w, &window);
    }
    return NULL;
}

static int take_buffers(struct worker *w)
{
    w->source = malloc(SOURCE_BYTES);
    w->output = malloc(OUTPUT_BYTES);
    w->values = malloc(PIECE * sizeof(*w->values));
    w->panel = aligned_alloc(64, PANEL_BYTES);
    return w->source && w->output && w->values && w->panel ? 0 : -ENOMEM;
}

static void free_buffers(struct worker *w)
{
    free(w->source);
    free(w->output);
    free(w->values);
    free(w->panel);
}

/* The calling thread is worker 0. A thread that cannot be started is no failure: the others do its share. */
static void run_workers(struct worker *workers, size_t n)
{
    size_t n_started = 1;

    while (n_started < n && !pthread_create(&workers[n_started].thread, NULL, work, &workers[n_started]))
        n_started++;
    work(&workers[0]);
    for (size_t i = 1; i < n_started; i++)
        pthread_join(workers[i].thread, NULL);
}

int quantize_job_run(const struct quantize_job *job)
{
    struct shared s = { .job = job, .read = PTHREAD_MUTEX_INITIALIZER, .write = PTHREAD_MUTEX_INITIALIZER };
    struct worker *workers = calloc(job->n_threads, sizeof(*workers));

    for (size_t i = 0; i < gguf_n_tensors(job->source); i++)
        s.total += gguf_tensor_at(job->source, i)->bytes;
    s.err = workers ? 0 : -ENOMEM;
    for (size_t i = 0; !s.err && i < job->n_threads; i++) {
        workers[i].shared = &s;
        s.err = take_buffers(&workers[i]);
    }
    if (s.err)
        log_error("no memory for %zu threads with a few MiB each: take fewer with --threads", job->n_threads);
    else
        run_workers(workers, job->n_threads);
    for (size_t i = 0; workers && i < job->n_threads; i++)
        free_buffers(&workers[i]);
    free(workers);
    return s.err;
}
