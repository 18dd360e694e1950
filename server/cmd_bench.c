/*
 * cmd_bench.c - `fourway bench MODEL`: prefill and decode rates beside what this machine's memory and units can do.
 *
 * llama-bench's method: random tokens; "pp" reads a prompt of N tokens into an empty cache, "tg" generates N tokens from an empty one,
 * after a warm-up, R times. With every decode rate stands the share of the read bandwidth that the same workers measured within this
 * run (MBU): bytes of weights in the file's own encoding, and of the KV that a step reads, times steps per second. With --profile each test
 * runs once more, with clocks inside the steps: where their time goes.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/clock.h"
#include "common/log.h"
#include "model/forward.h"
#include "model/profile.h"
#include "server/commands.h"
#include "server/machine_file.h"
#include "server/node_choice.h"
#include "server/options.h"
#include "server/progress.h"

enum { MAX_REPS = 100, CHUNK = 512, OWN_OPTIONS = 7 };

struct bench {
    struct model *model;
    struct model_info info;
    struct model_rates rates;
    uint64_t file_bytes, prompt, gen, depth, reps;
    struct option_list batches;
    struct kv_sequence *sequences;
    struct step_token *tokens;
    uint64_t random;
    bool profile;
    double membw_read_per_s;            /* of --machine; 0 without */
    uint64_t step_ns;                   /* in model_step so far */
    uint64_t expert_bytes, n_steps;     /* read of experts by the steps so far, and those */
    uint64_t experts_before;            /* read by the model until the test began */
};

struct result {
    char test[32];
    size_t batch;
    bool decode;
    double params;                      /* weights that a token is multiplied by, on average */
    double median, min, max;            /* tok/s */
    double step_ms, step_bytes, gb_per_s, mbu, mfu;
    double layer_experts;               /* that a step read of a layer, on average; 0: the model has none */
    struct profile profile;             /* of one more repetition; no steps without --profile */
    uint64_t profile_ns;                /* in model_step, by the caller's clock */
};

static int32_t random_token(struct bench *b)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;       /* Knuth's MMIX generator */
    return (int32_t)((b->random >> 33) % model_config(b->model)->vocab_size);
}

static void step(struct bench *b, size_t n)
{
    const uint64_t start = clock_now_ns();
    model_step(b->model, b->tokens, n);
    b->step_ns += clock_now_ns() - start;
    b->expert_bytes += model_expert_bytes(b->model);
    b->n_steps++;
}

/* Positions before n_done count as read. */
static void reserve(struct bench *b, struct kv_sequence *s, size_t n_done, size_t n_tokens)
{
    kv_cache_slide(model_kv_cache(b->model), s, n_done);
    if (kv_cache_reserve(model_kv_cache(b->model), s, n_tokens))
        assert(!"run_bench counted the pages");
}

/* Read `n` prompt tokens into sequence 0, after b->depth that count as read: their keys and values are what the memory holds. */
static void run_prompt(struct bench *b, size_t n)
{
    struct kv_sequence *s = &b->sequences[0];

    for (size_t i = 0; i < n; i += CHUNK) {
        size_t k = n - i < CHUNK ? n - i : CHUNK;
        reserve(b, s, b->depth + i, b->depth + i + k);
        for (size_t j = 0; j < k; j++)
            b->tokens[j] = (struct step_token){ .id = random_token(b), .position = (uint32_t)(b->depth + i + j), .sequence = s,
                                                .wants_logits = i + j + 1 == n, .role = ROLE_PROMPT,
                                                .rope_length = rope_length(&b->info.rope_lengths, b->depth + n) };
        step(b, k);
    }
    kv_cache_release(model_kv_cache(b->model), s);
}

static void run_decode(struct bench *b, size_t n, size_t batch)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < batch; j++) {
            reserve(b, &b->sequences[j], b->depth + i, b->depth + i + 1);
            b->tokens[j] = (struct step_token){ .id = random_token(b), .position = (uint32_t)(b->depth + i), .sequence = &b->sequences[j],
                                                .wants_logits = true, .role = ROLE_GENERATED,
                                                .rope_length = rope_length(&b->info.rope_lengths, b->depth) };
        }
        step(b, batch);
    }
    for (size_t j = 0; j < batch; j++)
        kv_cache_release(model_kv_cache(b->model), &b->sequences[j]);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void run(struct bench *b, size_t n, size_t batch)
{
    if (batch)
        run_decode(b, n, batch);
    else
        run_prompt(b, n);
}

static void profile(struct bench *b, size_t n, size_t batch, struct result *r)
{
    const uint64_t before = b->step_ns;

    model_profile(b->model, &r->profile);
    run(b, n, batch);
    model_profile(b->model, NULL);
    r->profile_ns = b->step_ns - before;
}

/* One row: `n` tokens of one prompt (batch 0), or n steps of `batch` sequences. */
static struct result measure(struct bench *b, size_t n, size_t batch)
{
    struct result r = { .batch = batch ? batch : 1, .decode = batch != 0 };
    const double n_tokens = (double)(n * r.batch);
    double rates[MAX_REPS];

    int length = snprintf(r.test, sizeof(r.test), batch ? "tg%zu" : "pp%zu", n);
    if (b->depth)
        snprintf(r.test + length, sizeof(r.test) - (size_t)length, "@%llu", (unsigned long long)b->depth);
    run(b, batch && n > 8 ? 8 : n, batch);
    b->expert_bytes = b->n_steps = 0;
    b->experts_before = model_experts_read(b->model);
    for (size_t i = 0; i < b->reps; i++) {
        uint64_t start = clock_now_ns();
        run(b, n, batch);
        rates[i] = n_tokens / ((double)(clock_now_ns() - start) / 1e9);
    }
    const double experts = (double)b->expert_bytes / (double)b->n_steps;
    const size_t n_moe_layers = model_n_moe_layers(b->model);
    if (n_moe_layers)
        r.layer_experts = (double)(model_experts_read(b->model) - b->experts_before) / (double)b->n_steps / (double)n_moe_layers;
    if (b->profile)
        profile(b, n, batch, &r);
    qsort(rates, b->reps, sizeof(*rates), compare_doubles);
    r.min = rates[0];
    r.max = rates[b->reps - 1];
    r.median = b->reps % 2 ? rates[b->reps / 2] : (rates[b->reps / 2 - 1] + rates[b->reps / 2]) / 2;
    double steps_per_s = batch ? r.median / (double)batch : r.median / n_tokens * (double)((n + CHUNK - 1) / CHUNK);
    double kv_read = 0;
    for (size_t i = 0; i < n; i++)                      /* contexts grow */
        kv_read += (double)r.batch * (double)model_kv_read_bytes(&b->info, b->depth + i) / (double)n;
    r.step_ms = 1000 / steps_per_s;
    r.params = (double)b->info.step_params;
    if (!batch)         /* of a prompt only the last token meets the output matrix */
        r.params -= (double)b->info.head_params * (1 - 1 / n_tokens);
    r.step_bytes = (double)b->info.step_weight_bytes + experts + kv_read;
    r.gb_per_s = r.step_bytes * steps_per_s / 1e9;
    return r;
}

/* The machine's rates, before and after the tests: on a shared machine they swing, and the best is nearest to what it can do. */
static void keep_best(struct unit_rate *best, struct unit_rate now)
{
    if (now.ops_per_s > best->ops_per_s)
        *best = now;
}

static int measure_machine(struct bench *b)
{
    struct model_rates now;
    int err = model_measure(b->model, &now);

    if (err)
        return err;
    if (now.read_bytes_per_s > b->rates.read_bytes_per_s)
        b->rates.read_bytes_per_s = now.read_bytes_per_s;
    keep_best(&b->rates.prompt, now.prompt);
    keep_best(&b->rates.generated, now.generated);
    return 0;
}

static void add_shares(const struct bench *b, struct result *r)
{
    r->mbu = r->gb_per_s * 1e9 / b->rates.read_bytes_per_s;
    r->mfu = 2 * r->params * r->median / (r->decode ? b->rates.generated : b->rates.prompt).ops_per_s;
}

static uint64_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long long size, resident = 0;

    if (f && fscanf(f, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * 4096;
}

static double part_share(const struct result *r, enum profile_part part)
{
    return (double)r->profile.ns[part] / (double)r->profile_ns;
}

/* A node's workers on average: waiting, copying from other nodes, and the rest, which is work. */
struct node_shares { double compute, copy, barrier; };

static struct node_shares node_shares(const struct result *r, size_t node)
{
    const uint64_t *ns = r->profile.node_ns[node];
    const double step_ns = (double)r->profile_ns;
    uint64_t all = 0;

    for (size_t part = 0; part < PROFILE_PARTS; part++)
        all += ns[part];
    return (struct node_shares){ .compute = (double)(all - ns[PROFILE_WAIT] - ns[PROFILE_EXCHANGE]) / step_ns,
                                 .copy = (double)ns[PROFILE_EXCHANGE] / step_ns, .barrier = (double)ns[PROFILE_WAIT] / step_ns };
}

static void print_profile(const struct result *r, size_t n, size_t n_nodes)
{
    printf("\nwhere a step's time goes, on worker 0 (one more repetition of each test, with clocks in it)\n%-8s %6s %9s", "test", "batch",
           "step ms");
    for (enum profile_part part = 0; part < PROFILE_PARTS; part++)
        printf(" %9s", profile_part_names[part]);
    printf(" %9s %10s\n", "barriers", "a token");
    for (size_t i = 0; i < n; i++) {
        const struct profile *p = &r[i].profile;
        printf("%-8s %6zu %9.3f", r[i].test, r[i].batch, (double)r[i].profile_ns / 1e6 / (double)p->n_steps);
        for (enum profile_part part = 0; part < PROFILE_PARTS; part++)
            printf(" %8.1f%%", 100 * part_share(&r[i], part));
        printf(" %9.1f %10.1f\n", (double)p->n_barriers / (double)p->n_steps, (double)p->n_barriers / (double)p->n_tokens);
    }
    if (n_nodes == 1)
        return;
    printf("\nand on the nodes, their workers on average\n%-8s %6s %6s %9s %9s %9s\n", "test", "batch", "node", "compute", "copy",
           "barrier");
    for (size_t i = 0; i < n; i++) {
        for (size_t v = 0; v < n_nodes; v++) {
            const struct node_shares s = node_shares(&r[i], v);
            printf("%-8s %6zu %6zu %8.1f%% %8.1f%% %8.1f%%\n", r[i].test, r[i].batch, v, 100 * s.compute, 100 * s.copy, 100 * s.barrier);
        }
    }
}

static json_t *node_profiles(const struct bench *b, const struct result *r)
{
    json_t *nodes = json_array();

    for (size_t v = 0; v < b->info.n_nodes; v++) {
        const struct node_shares s = node_shares(r, v);
        json_array_append_new(nodes, json_pack("{s:f, s:f, s:f}", "barrier", s.barrier, "copy", s.copy, "compute", s.compute));
    }
    return nodes;
}

static json_t *profile_json(const struct bench *b, const struct result *r)
{
    const struct profile *p = &r->profile;
    json_t *parts = json_object();

    for (enum profile_part part = 0; part < PROFILE_PARTS; part++)
        json_object_set_new(parts, profile_part_names[part], json_real(part_share(r, part)));
    return json_pack("{s:f, s:o, s:o, s:f, s:f}", "step_ms", (double)r->profile_ns / 1e6 / (double)p->n_steps, "parts", parts,
                     "nodes", node_profiles(b, r), "barriers_per_step", (double)p->n_barriers / (double)p->n_steps, "barriers_per_token",
                     (double)p->n_barriers / (double)p->n_tokens);
}

/* Which of a mixture's experts the tests read: random tokens, so that texts may differ. */
static void print_experts(const struct bench *b, const struct result *r, size_t n)
{
    double busiest = 0;

    for (size_t i = 0; i < model_config(b->model)->n_layers; i++) {
        const double ratio = model_expert_busiest(b->model, i);
        busiest = ratio > busiest ? ratio : busiest;
    }
    printf("\nexperts read of each layer, of %zu (random tokens: texts may differ)\n", model_config(b->model)->n_experts);
    for (size_t i = 0; i < n; i++)
        printf("%-10s %6zu %12.1f\n", r[i].test, r[i].batch, r[i].layer_experts);
    printf("busiest expert of any layer: %.2f of the mean\n", busiest);
}

static void print_text(const struct bench *b, const char *path, const struct result *r, size_t n)
{
    printf("model     %s (%.1f M parameters, %.1f MB)\n", path, (double)b->info.n_params / 1e6, (double)b->file_bytes / 1e6);
    printf("machine   %s, %zu worker%s on %zu %s; all reads %.1f GB/s, %s %.0f GOP/s", isa_name(b->info.isa), b->info.n_threads,
           b->info.n_threads == 1 ? "" : "s", b->info.n_nodes,
           b->info.virtual_nodes ? "virtual nodes" : b->info.n_nodes == 1 ? "node" : "nodes", b->rates.read_bytes_per_s / 1e9,
           b->rates.prompt.unit, b->rates.prompt.ops_per_s / 1e9);
    if (b->rates.generated.unit != b->rates.prompt.unit)
        printf(" for prompts, %s %.0f GOP/s in decode", b->rates.generated.unit, b->rates.generated.ops_per_s / 1e9);
    puts(" (measured now)");
    if (b->membw_read_per_s > 0)
        printf("membw     all reads %.1f GB/s, of which these are %.1f %%\n", b->membw_read_per_s / 1e9,
               100 * b->rates.read_bytes_per_s / b->membw_read_per_s);
    printf("gemm      %s%s%s\n", b->info.gemm, *b->info.gemm_implementation ? ", " : "", b->info.gemm_implementation);
    printf("load      %.2f s; weights %.1f MB, KV %.1f MB, scratch %.1f MB, resident %.1f MB\n\n", b->info.load_s,
           (double)b->info.weight_arena_bytes / 1e6, (double)b->info.kv_bytes / 1e6, (double)b->info.scratch_bytes / 1e6,
           (double)resident_bytes() / 1e6);
    printf("%-10s %6s %12s %22s %10s %8s %7s %7s\n", "test", "batch", "tok/s", "(min .. max)", "step ms", "GB/s", "MBU", "MFU");
    for (size_t i = 0; i < n; i++) {
        char range[32];
        snprintf(range, sizeof(range), "%.1f .. %.1f", r[i].min, r[i].max);
        printf("%-10s %6zu %12.1f %22s %10.3f %8.1f %6.1f%% %6.1f%%\n", r[i].test, r[i].batch, r[i].median, range, r[i].step_ms,
               r[i].gb_per_s, 100 * r[i].mbu, 100 * r[i].mfu);
    }
    if (model_n_moe_layers(b->model))
        print_experts(b, r, n);
    if (b->profile)
        print_profile(r, n, b->info.n_nodes);
}

static void print_json(const struct bench *b, const char *path, const struct result *r, size_t n)
{
    json_t *results = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(results, json_pack("{s:s, s:I, s:{s:f, s:f, s:f}, s:f, s:f, s:f, s:f, s:f}", "test", r[i].test, "batch",
                                                 (json_int_t)r[i].batch, "tok_per_s", "median", r[i].median, "min", r[i].min, "max",
                                                 r[i].max, "gb_per_s", r[i].gb_per_s, "mbu", r[i].mbu, "mfu", r[i].mfu, "step_ms",
                                                 r[i].step_ms, "step_bytes", r[i].step_bytes));
        if (model_n_moe_layers(b->model))
            json_object_set_new(json_array_get(results, i), "layer_experts", json_real(r[i].layer_experts));
        if (b->profile)
            json_object_set_new(json_array_get(results, i), "profile", profile_json(b, &r[i]));
    }
    json_t *all = json_pack("{s:s, s:I, s:I, s:s, s:s, s:I, s:b, s:I, s:f, s:I, s:I, s:I, s:f, s:f, s:s, s:f, s:s, s:o}",
                            "model", path, "params", (json_int_t)b->info.n_params, "file_bytes", (json_int_t)b->file_bytes, "isa",
                            isa_name(b->info.isa), "gemm", b->info.gemm, "nodes", (json_int_t)b->info.n_nodes, "virtual_nodes",
                            b->info.virtual_nodes, "threads", (json_int_t)b->info.n_threads, "load_s", b->info.load_s, "weight_bytes",
                            (json_int_t)b->info.weight_arena_bytes, "scratch_bytes", (json_int_t)b->info.scratch_bytes, "rss_bytes",
                            (json_int_t)resident_bytes(), "read_gb_per_s", b->rates.read_bytes_per_s / 1e9, "peak_gop_per_s",
                            b->rates.prompt.ops_per_s / 1e9, "peak_unit", b->rates.prompt.unit, "decode_peak_gop_per_s",
                            b->rates.generated.ops_per_s / 1e9, "decode_peak_unit", b->rates.generated.unit, "results", results);
    if (b->membw_read_per_s > 0)
        json_object_set_new(all, "membw_read_gb_per_s", json_real(b->membw_read_per_s / 1e9));
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(all);
}

/* What membw measured with all nodes: decode cannot be faster. */
static int read_machine(struct bench *b, const char *path)
{
    struct machine *m = calloc(1, sizeof(*m));
    const int err = m ? machine_load(m, path) : -ENOMEM;

    if (!m)
        log_error("no memory to read the machine file %s", path);
    b->membw_read_per_s = err ? 0 : m->read_bytes_per_s;
    free(m);
    return err;
}

/* Are there pages for the prompt, and for so many sequences that generate? */
static bool has_room(const struct bench *b, size_t n_sequences)
{
    const size_t prompt_pages = kv_pages_for(b->depth + b->prompt), gen_pages = kv_pages_for(b->depth + b->gen) * n_sequences;
    const bool of_prompt = prompt_pages > gen_pages;
    const size_t pages = of_prompt ? prompt_pages : gen_pages, n = of_prompt ? 1 : n_sequences;

    if (pages <= b->info.kv_pages)
        return true;
    log_error("bench: %zu sequence%s of %llu tokens need %zu pages of KV cache, %zu are there (%.2f GB): use a smaller --batch, --prompt, "
              "--gen or --depth", n, n == 1 ? "" : "s", (unsigned long long)(b->depth + (of_prompt ? b->prompt : b->gen)), pages,
              b->info.kv_pages, (double)b->info.kv_bytes / 1e9);
    return false;
}

static int run_bench(struct bench *b, const char *path, const struct model_flags *flags, bool json)
{
    struct model_options o = { .max_batch = 1, .max_step_tokens = CHUNK };
    struct result results[2 + OPTION_LIST_MAX];
    const struct node_wish wish = { .machine_file = flags->machine, .n_replicas = 1, .batch = 1 };
    struct node_choice nodes;
    struct gguf *g = NULL;
    size_t n = 0;
    uint64_t started = clock_now_ns();
    int status = model_flags_apply(flags, &o);

    if (status)
        return status;
    for (size_t i = 0; i < b->batches.n; i++)
        o.max_batch = b->batches.values[i] > o.max_batch ? b->batches.values[i] : o.max_batch;
    o.n_ctx = b->depth + (b->prompt > b->gen ? b->prompt : b->gen);
    if (flags->ctx && flags->ctx < o.n_ctx) {
        log_error("bench: --ctx %llu does not hold --prompt %llu and --gen %llu tokens after --depth %llu", (unsigned long long)flags->ctx,
                  (unsigned long long)b->prompt, (unsigned long long)b->gen, (unsigned long long)b->depth);
        return 2;
    }
    o.full_contexts = o.max_batch;
    status = 1;
    b->sequences = calloc(o.max_batch, sizeof(*b->sequences));
    b->tokens = calloc(o.max_batch > CHUNK ? o.max_batch : CHUNK, sizeof(*b->tokens));
    if (flags->machine && read_machine(b, flags->machine))
        goto out;
    if (!b->sequences || !b->tokens || gguf_open(&g, path) || node_choice_make(&nodes, &o, g, &wish) ||
        model_open(&b->model, g, &o, progress_step, &started))
        goto out;
    b->file_bytes = gguf_file_bytes(g);
    model_info(b->model, &b->info);
    if (!has_room(b, o.max_batch) || measure_machine(b))
        goto out;
    for (size_t i = 0; i < o.max_batch; i++)
        if (kv_sequence_create(&b->sequences[i], o.n_ctx))
            goto out;
    if (b->prompt)
        results[n++] = measure(b, b->prompt, 0);
    for (size_t i = 0; b->gen && i < b->batches.n; i++)
        results[n++] = measure(b, b->gen, b->batches.values[i]);
    if (measure_machine(b))
        goto out;
    for (size_t i = 0; i < n; i++)
        add_shares(b, &results[i]);
    if (json)
        print_json(b, path, results, n);
    else
        print_text(b, path, results, n);
    status = 0;
out:
    for (size_t i = 0; b->sequences && i < o.max_batch; i++)
        if (b->sequences[i].pages)
            kv_sequence_destroy(&b->sequences[i]);
    model_close(b->model);
    gguf_close(g);
    free(b->sequences);
    free(b->tokens);
    return status;
}

int cmd_bench(int argc, char **argv)
{
    struct bench b = { .prompt = 512, .gen = 128, .reps = 5, .batches = { .values = { 1, 4, 16 }, .n = 3 }, .random = 1 };
    struct model_flags flags;
    bool json = false;
    const char *args[1];
    size_t n_args;
    char path[4096];
    struct option options[OWN_OPTIONS + MODEL_FLAGS_OPTIONS] = {
        { .name = "prompt", .letter = 'p', .type = OPTION_U64, .out = &b.prompt, .metavar = "N", .least = 0, .most = 1 << 20,
          .help = "tokens of the prompt to read; 0: no such row (default 512)" },
        { .name = "gen", .letter = 'n', .type = OPTION_U64, .out = &b.gen, .metavar = "N", .least = 0, .most = 1 << 20,
          .help = "tokens to generate for each sequence; 0: no such rows (default 128)" },
        { .name = "batch", .letter = 'b', .type = OPTION_U64_LIST, .out = &b.batches, .metavar = "N,N..", .least = 1, .most = 512,
          .help = "sequences at once, a row each (default 1,4,16)" },
        { .name = "depth", .letter = 'd', .type = OPTION_U64, .out = &b.depth, .metavar = "N", .least = 0, .most = 1 << 20,
          .help = "tokens that each sequence has before (default 0); rows are then called tgN@DEPTH" },
        { .name = "reps", .letter = 'r', .type = OPTION_U64, .out = &b.reps, .metavar = "N", .least = 1, .most = MAX_REPS,
          .help = "repetitions after one warm-up; the median counts (default 5)" },
        { .name = "profile", .type = OPTION_FLAG, .out = &b.profile,
          .help = "once more each, to say where a step's time goes and how many barriers it takes" },
        { .name = "json", .type = OPTION_FLAG, .out = &json, .help = "one JSON object on stdout" },
    };
    const struct command command = {
        .name = "bench", .usage = "bench MODEL [options]",
        .summary = "Measure prefill (ppN) and decode (tgN) beside this machine's own measured reads and peak arithmetic.",
        .options = options, .n_options = OWN_OPTIONS + MODEL_FLAGS_OPTIONS, .min_args = 1, .max_args = 1,
        .epilogue = "MBU: bytes that a decode step must read, in the file's encoding, as a share of the measured reads.\n"
                    "MFU: multiply-adds of the weights as a share of the measured peak of the unit that does most of\n"
                    "them, in prefill or in decode: int8 dots, bf16 dots or float32.",
    };

    model_flags_init(&flags);
    model_flags_options(&flags, options + OWN_OPTIONS);
    int status = options_parse(&command, argc, argv, args, &n_args);
    if (status >= 0)
        return status;
    if (!b.prompt && !b.gen) {
        log_error("bench: --prompt 0 and --gen 0 leave nothing to measure");
        return 2;
    }
    status = model_resolve(args[0], path, sizeof(path));
    return status ? status : run_bench(&b, path, &flags, json);
}
