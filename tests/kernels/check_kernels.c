/*
 * check_kernels.c - how fast every kernel is, beside what this machine can do: `check_kernels --bench`.
 *
 * GB/s of what a kernel must read stand beside the rate at which the same workers read memory, GOP/s beside the best dot
 * instruction of its unit on registers alone.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/bench.h"
#include "tests/kernels/file_blocks.h"

static const char usage[] =
    "usage: check_kernels --bench [options]\n"
    "Every kernel's GB/s or GOP/s beside this machine's own reads and peaks, all workers at once.\n"
    "  --isa LEVEL      a level that this machine has (default: its best)\n"
    "  --threads N      workers (default: one a core)\n"
    "  --type TYPE      this weight type alone, such as Q4_0\n"
    "  --only SECTION   matmul, attention or rest\n"
    "  --json           one JSON object instead of tables\n"
    "  --quick          little work: does it run? The figures mean nothing\n"
    "  --help           this text\n";

static bool is_weight_type(const char *name)
{
    for (size_t i = 0; i < N_WEIGHT_TYPES; i++) {
        if (!strcmp(name, dtype_info(weight_types[i])->name))
            return true;
    }
    return false;
}

static bool is_section(const char *name)
{
    return !strcmp(name, "matmul") || !strcmp(name, "attention") || !strcmp(name, "rest");
}

/* Returns -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct bench_options *o, bool *json)
{
    enum { BENCH = 1, ISA, THREADS, TYPE, ONLY, JSON, QUICK, HELP };
    static const struct option options[] = {
        { "bench", no_argument, NULL, BENCH }, { "isa", required_argument, NULL, ISA }, { "threads", required_argument, NULL, THREADS },
        { "type", required_argument, NULL, TYPE }, { "only", required_argument, NULL, ONLY }, { "json", no_argument, NULL, JSON },
        { "quick", no_argument, NULL, QUICK }, { "help", no_argument, NULL, HELP }, { 0 },
    };
    bool bench = false, good = true;
    char *end;

    for (int option; good && (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case BENCH: bench = true; break;
        case ISA: good = isa_parse(optarg, &o->isa) && o->isa <= cpu_best_isa(); break;
        case THREADS: o->threads = strtoul(optarg, &end, 10); good = o->threads && !*end; break;
        case TYPE: o->type = optarg; good = is_weight_type(optarg); break;
        case ONLY: o->only = optarg; good = is_section(optarg); break;
        case JSON: *json = true; break;
        case QUICK: o->quick = true; break;
        case HELP: fputs(usage, stdout); return 0;
        default: good = false;
        }
    }
    if (!bench || !good || optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    return -1;
}

static void nothing(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    (void)b, (void)w, (void)pass, (void)arg;
}

static void touch(const struct bench *b, const struct worker *w, size_t pass, void *arg)
{
    (void)pass, (void)arg;
    memset(bench_slice(b, w), 1, b->worker_bytes + BENCH_SCRATCH_BYTES);
    if (w->index_in_node == 0)
        memset(bench_shared(b, w), 1, BENCH_SHARED_BYTES);
}

static void report_machine(const struct bench *b, const char *when)
{
    output_machine(b->output, when, b->read_per_s * 1e-9, b->peak_per_s[ACT_Q8] * 1e-9, b->peak_per_s[ACT_BF16] * 1e-9,
                   b->peak_per_s[ACT_F32] * 1e-9);
}

static void bench(struct bench *b)
{
    static const struct { const char *name; void (*run)(struct bench *b); } sections[] = {
        { "matmul", bench_matmul }, { "attention", bench_attention }, { "rest", bench_rest },
    };

    output_text(b->output, "isa", isa_name(b->options->isa));
    output_count(b->output, "threads", b->n_workers);
    output_count(b->output, "nodes", b->n_nodes);
    bench_fill(b, touch, NULL);
    for (enum activation unit = 0; unit < ACT_COUNT; unit++)
        bench_time(b, nothing, NULL, unit, 0, 0);
    report_machine(b, "now");
    for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
        if (!b->options->only || !strcmp(b->options->only, sections[i].name))
            sections[i].run(b);
    }
    report_machine(b, "at best");
    output_finish(b->output);
}

int main(int argc, char **argv)
{
    struct bench_options options = { .isa = cpu_best_isa() };
    bool json = false;
    int status = parse(argc, argv, &options, &json);

    if (status >= 0)
        return status;
    struct bench b;
    struct output *output = output_create(json);
    status = bench_open(&b, &options, output) ? 1 : 0;
    if (!status)
        bench(&b);
    bench_close(&b);
    output_destroy(output);
    return status;
}
