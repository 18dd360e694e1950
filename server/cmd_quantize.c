/*
 * cmd_quantize.c - `fourway quantize SRC OUT.gguf --type TYPE`: a model with its weights in another type, as a GGUF file.
 *
 * Stopped by a signal, it leaves no file behind, as after any error.
 */
#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "common/clock.h"
#include "common/log.h"
#include "numa/topology.h"
#include "server/commands.h"
#include "server/options.h"
#include "server/progress.h"
#include "server/quantize_job.h"
#include "weights/quantize_plan.h"

enum { MAX_THREADS = 4096, QUANTIZATION_VERSION = 2 };      /* the version of all block types that this program knows */

struct request {
    const char *source, *out;           /* paths */
    const struct quantize_target *target;
    uint64_t n_threads;                 /* 0: one a core */
    bool overwrite, allow_requantize, json;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

/* A file size limit must be an error of write() and not the end of the process: SIGXFSZ; who reads the messages may leave: SIGPIPE. */
static void catch_signals(void)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, before;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!sigaction(numbers[i], NULL, &before) && before.sa_handler != SIG_IGN)      /* nohup */
            sigaction(numbers[i], &action, NULL);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;

    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A file that the source is made of: what is written there would take the source away. */
static bool is_of_source(const struct gguf *g, const char *out)
{
    const size_t n = strlen(out);

    for (size_t i = 0; gguf_part_path(g, i); i++)
        if (same_file(gguf_part_path(g, i), out))
            return true;
    if (!gguf_is_folder(g) || access(out, F_OK) || (n > 5 && !strcmp(out + n - 5, ".gguf")))
        return false;
    char *copy = strdup(out);           /* config.json, or any other file of the folder */
    const bool inside = copy && same_file(gguf_path(g), dirname(copy));
    free(copy);
    return inside;
}

static bool key_is(const struct gguf_kv *kv, const char *name)
{
    return !strcmp(kv->key.data, name);
}

/* All keys but those about how the source lies in files, and what its weights were. */
static void put_metadata(struct gguf_output *o, const struct gguf *g, const struct request *r)
{
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        if (strncmp(kv->key.data, "split.", 6) && !key_is(kv, "general.file_type") && !key_is(kv, "general.quantization_version"))
            gguf_output_put(o, kv);
    }
    gguf_output_put_u32(o, "general.file_type", r->target->file_type);
    gguf_output_put_u32(o, "general.quantization_version", QUANTIZATION_VERSION);
}

static int begin(struct gguf_output *o, const struct gguf *g, const enum dtype *types, const struct request *r)
{
    put_metadata(o, g, r);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        gguf_output_add_tensor(o, t->name, types[i], t->n_dims, t->ne);
    }
    return gguf_output_begin(o);
}

static int default_threads(uint64_t *n)
{
    struct topology t;
    const int err = topology_read(&t, "");

    if (!err)
        *n = topology_default_threads(&t);
    topology_free(&t);
    return err;
}

struct display { uint64_t started_ns, drawn_ns; };

/* Ten times a second is enough for the eye; windows may be done a thousand times. */
static void show(void *arg, uint64_t done, uint64_t total)
{
    struct display *d = arg;
    const uint64_t now_ns = clock_now_ns();

    if (done < total && now_ns - d->drawn_ns < 100000000)
        return;
    d->drawn_ns = now_ns;
    progress_bar("quantizing", d->started_ns, done, total);
}

/* Write all of it. Returns 0 or a negative errno (logged). */
static int write_model(const struct gguf *g, struct gguf_output *o, const enum dtype *types, const struct request *r, uint64_t started_ns)
{
    struct display display = { .started_ns = started_ns };
    const struct quantize_job job = { .source = g, .out = o, .types = types, .n_threads = r->n_threads, .progress = show,
                                      .progress_arg = &display, .stop = &stop };
    int err = begin(o, g, types, r);

    if (!err)
        err = quantize_job_run(&job);
    if (!err && stop)
        err = -EINTR;
    if (err)
        progress_bar("quantizing", started_ns, 1, 1);       /* erased, so that it does not stand beside the message */
    if (err == -EINTR)
        log_error("stopped: %s was not written", r->out);
    return err ? err : gguf_output_finish(o);
}

struct summary {
    uint64_t n_tensors[DTYPE_COUNT];
    uint64_t n_elements, bytes, file_bytes, source_bytes;
    double seconds;
};

static void summarise(struct summary *s, const struct gguf *g, const struct gguf_output *o, const enum dtype *types)
{
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        const uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        s->n_tensors[types[i]]++;
        s->n_elements += n;
        s->bytes += n / dtype_info(types[i])->block * dtype_info(types[i])->block_bytes;
    }
    s->file_bytes = gguf_output_bytes(o);
    s->source_bytes = gguf_file_bytes(g);
}

static double bits_per_weight(const struct summary *s)
{
    return s->n_elements ? 8 * (double)s->bytes / (double)s->n_elements : 0;
}

static void print_text(const struct summary *s, const struct request *r)
{
    printf("%s: %.1f MB of %.1f MB, %.2f bits a weight (", r->out, (double)s->file_bytes / 1e6, (double)s->source_bytes / 1e6,
           bits_per_weight(s));
    for (uint32_t id = 0, first = 1; id < DTYPE_COUNT; id++) {
        if (!s->n_tensors[id])
            continue;
        printf("%s%s %llu", first ? "" : ", ", dtype_info(id)->name, (unsigned long long)s->n_tensors[id]);
        first = 0;
    }
    printf("), %.1f s\n", s->seconds);
}

static int print_json(const struct summary *s, const struct request *r)
{
    json_t *types = json_object();
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:I, s:o}", "source", r->source, "output", r->out, "type", r->target->name,
                          "source_bytes", (json_int_t)s->source_bytes, "output_bytes", (json_int_t)s->file_bytes, "bits_per_weight",
                          bits_per_weight(s), "seconds", s->seconds, "threads", (json_int_t)r->n_threads, "tensors", types);
    int err = o ? 0 : -1;

    for (uint32_t id = 0; id < DTYPE_COUNT; id++)
        if (s->n_tensors[id])
            err |= json_object_set_new(types, dtype_info(id)->name, json_integer((json_int_t)s->n_tensors[id]));
    if (err)        /* a path that is no UTF-8 */
        log_error("cannot write the summary of %s as JSON", r->out);
    else
        err = json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || putchar('\n') == EOF;
    json_decref(o);
    return err;
}

static int quantize(struct request *r)
{
    struct summary s = { 0 };
    struct gguf_output *o = NULL;
    enum dtype *types = NULL;
    struct gguf *g = NULL;
    const uint64_t started_ns = clock_now_ns();

    catch_signals();
    int err = gguf_open(&g, r->source);
    if (!err && is_of_source(g, r->out)) {
        log_error("%s is a file of the model %s: choose another name for the new one", r->out, r->source);
        err = -EINVAL;
    }
    if (!err && !r->n_threads)
        err = default_threads(&r->n_threads);
    if (!err) {
        types = malloc((gguf_n_tensors(g) + 1) * sizeof(*types));
        err = types ? quantize_plan(g, r->target->type, r->allow_requantize, quantize_job_reads, types) : -ENOMEM;
    }
    if (!err)
        err = gguf_output_create(&o, r->out, r->overwrite, gguf_alignment(g));
    if (!err)
        err = write_model(g, o, types, r, started_ns);
    if (!err) {
        s.seconds = (double)(clock_now_ns() - started_ns) / 1e9;
        summarise(&s, g, o, types);
        if (r->json)
            err = print_json(&s, r);
        else
            print_text(&s, r);
    }
    gguf_output_close(o);
    free(types);
    gguf_close(g);
    return err ? 1 : 0;
}

int cmd_quantize(int argc, char **argv)
{
    const char *names[QUANTIZE_TARGETS + 1] = { NULL };
    struct request r = { 0 };
    const char *args[2];
    char path[4096];
    size_t n_args;
    int type = 0;
    bool type_given = false;
    const struct option options[] = {
        { .name = "type", .type = OPTION_CHOICE, .out = &type, .choices = names, .given = &type_given, .metavar = "TYPE",
          .help = "type of the matrices (required): f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k or q6_k" },
        { .name = "threads", .type = OPTION_U64, .out = &r.n_threads, .metavar = "N", .least = 0, .most = MAX_THREADS,
          .help = "threads (default 0: one a core)" },
        { .name = "overwrite", .type = OPTION_FLAG, .out = &r.overwrite, .help = "replace OUT if it exists" },
        { .name = "allow-requantize", .type = OPTION_FLAG, .out = &r.allow_requantize,
          .help = "quantise weights that are quantised already, which adds a second error to the first" },
        { .name = "json", .type = OPTION_FLAG, .out = &r.json, .help = "one JSON object on stdout" },
    };
    const struct command command = {
        .name = "quantize", .usage = "quantize MODEL OUT.gguf --type TYPE [options]",
        .summary = "Write a model with its weights in another type, as a GGUF file.",
        .options = options, .n_options = sizeof(options) / sizeof(options[0]), .min_args = 2, .max_args = 2,
        .epilogue = "Norms, biases and routers stay as they are; embedding and output matrix are Q6_K where TYPE is smaller. Rows that are "
                    "no multiple of 256 get q5_0, q5_1 or q8_0 for q4_k, q5_k or q6_k. OUT appears when it is complete.",
    };

    for (size_t i = 0; i < QUANTIZE_TARGETS; i++)
        names[i] = quantize_targets[i].name;
    int status = options_parse(&command, argc, argv, args, &n_args);
    if (status >= 0)
        return status;
    if (!type_given) {
        log_error("quantize: --type is missing: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k or q6_k");
        return 2;
    }
    if (!*args[1]) {
        log_error("quantize: the name of the file to write is empty");
        return 2;
    }
    status = model_resolve(args[0], path, sizeof(path));
    if (status)
        return status;
    r.source = path;
    r.out = args[1];
    r.target = &quantize_targets[type];
    return quantize(&r);
}
