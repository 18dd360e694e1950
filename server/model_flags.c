/*
 * model_flags.c - the options that every command with a model has, and what MODEL on a command line means.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/log.h"
#include "model/model.h"
#include "server/options.h"
#include "server/suggest.h"
#include "weights/quantize_plan.h"

enum { ISA_CHOICE_AUTO };                               /* then enum isa + 1 */
enum { KV_CHOICE_BF16, KV_CHOICE_Q8, KV_CHOICE_F32 };
static const enum kv_type kv_types[] = { [KV_CHOICE_BF16] = KV_BF16, [KV_CHOICE_Q8] = KV_Q8, [KV_CHOICE_F32] = KV_F32 };

static const char *const isa_choices[] = { "auto", "scalar", "avx2", "avx512", "avx512bf16", "amx", NULL };
static const char *const gemm_choices[] = { "auto", "native", "onednn", "openblas", NULL };        /* enum gemm_choice */
static const char *const activations_choices[] = { "auto", "q8", "bf16", "f32", NULL };
static const char *const huge_pages_choices[] = { "auto", "explicit", "thp", "off", NULL };        /* enum place_pages */
static const char *const kv_type_choices[] = { "bf16", "q8", "f32", NULL };

const char *const model_presets[] = { "smollm2", "gemma3-270m", NULL };      /* as scripts/get-model */

void model_flags_init(struct model_flags *f)
{
    *f = (struct model_flags){ .nodes = "auto", .kv_type = KV_CHOICE_BF16 };
}

/* Those of quantize_targets, but for the first, f32, in whose place the file's own type stands. */
static const char *const *type_choices(void)
{
    static const char *names[QUANTIZE_TARGETS + 1] = { "file" };

    for (size_t i = 1; i < QUANTIZE_TARGETS; i++)
        names[i] = quantize_targets[i].name;
    return names;
}

void model_flags_options(struct model_flags *f, struct option out[MODEL_FLAGS_OPTIONS])
{
    const struct option options[MODEL_FLAGS_OPTIONS] = {
        { .name = "threads", .letter = 't', .type = OPTION_U64, .out = &f->threads, .metavar = "N", .least = 0, .most = 4096,
          .help = "workers (default 0: one for each physical core)" },
        { .name = "nodes", .type = OPTION_STRING, .out = &f->nodes, .metavar = "auto|all|N|0,1",
          .help = "NUMA nodes to use: all, the first N, these, or as many as make a decode step fastest (default auto)" },
        { .name = "machine", .type = OPTION_STRING, .out = &f->machine, .metavar = "FILE",
          .help = "what fourway membw --write-machine measured here, for --nodes auto, --replicas auto, bench and /metrics" },
        { .name = "virtual-nodes", .type = OPTION_U64, .out = &f->virtual_nodes, .metavar = "N", .least = 0, .most = 64,
          .help = "split as if the machine had N nodes, for tests (default 0: the real ones)" },
        { .name = "ctx", .letter = 'c', .type = OPTION_U64, .out = &f->ctx, .metavar = "N", .least = 0, .most = 1 << 24,
          .help = "most tokens of one sequence, prompt and answer (default 0: the model's own, or what fits the KV cache)" },
        { .name = "isa", .type = OPTION_CHOICE, .out = &f->isa, .choices = isa_choices,
          .help = "instruction set of the kernels (default auto: the best this machine has)" },
        { .name = "gemm", .type = OPTION_CHOICE, .out = &f->gemm, .choices = gemm_choices,
          .help = "who multiplies matrices for prompt tokens (default auto: the fastest that keeps the bits of a request); a library "
                  "takes quantised weights decoded to float32" },
        { .name = "type", .type = OPTION_CHOICE, .out = &f->type, .choices = type_choices(),
          .help = "type of matrices that the model has in 16 or 32 bits or FP8, made while it is loaded, as fourway quantize would "
                  "(default file: as they are)" },
        { .name = "activations", .type = OPTION_CHOICE, .out = &f->activations, .choices = activations_choices,
          .help = "inputs of matrices: auto by weight type, for prompts by instruction set, too; q8 for quantised weights always; bf16 or "
                  "f32 for all, slow, for checking (default auto)" },
        { .name = "kv-type", .type = OPTION_CHOICE, .out = &f->kv_type, .choices = kv_type_choices, .given = &f->kv_type_given,
          .help = "type of the KV cache; q8 takes half the memory of bf16 (default bf16; f32 with --activations f32)" },
        { .name = "kv-bytes", .type = OPTION_SIZE, .out = &f->kv_bytes, .metavar = "SIZE",
          .help = "memory of the KV cache, such as 8G (default 0: four full contexts, at most a quarter of the free memory)" },
        { .name = "huge-pages", .type = OPTION_CHOICE, .out = &f->huge_pages, .choices = huge_pages_choices,
          .help = "pages of weights and KV cache: explicit, from each node's reserved pool; thp, transparent ones; auto, explicit where a "
                  "pool is large enough, else thp; off, 4 KiB (default auto)" },
        { .name = "allow-nonfinite", .type = OPTION_FLAG, .out = &f->allow_nonfinite,
          .help = "load a model with NaN or infinity among its weights; requests that meet them fail (default: refuse it)" },
    };
    memcpy(out, options, sizeof(options));
}

int model_flags_apply(const struct model_flags *f, struct model_options *o)
{
    int kv_type = f->kv_type;

    if (f->activations == ACTIVATIONS_F32 && !f->kv_type_given)
        kv_type = KV_CHOICE_F32;
    enum isa best = cpu_best_isa();
    o->isa_given = f->isa != ISA_CHOICE_AUTO;
    o->isa = o->isa_given ? (enum isa)(f->isa - 1) : best;
    if (o->isa > best) {
        log_error("--isa %s: the best that this machine has is %s", isa_choices[f->isa], isa_name(best));
        return 2;
    }
    o->n_threads = f->threads;
    o->nodes = f->nodes;
    o->n_virtual_nodes = f->virtual_nodes;
    o->activations = (enum activations_option)f->activations;
    o->gemm = (enum gemm_choice)f->gemm;
    o->kv_type = kv_types[kv_type];
    o->type = quantize_targets[f->type].type;       /* 0: DTYPE_F32, which leaves all as they are */
    o->allow_nonfinite = f->allow_nonfinite;
    o->pages = (enum place_pages)f->huge_pages;
    o->n_ctx = f->ctx;
    o->kv_bytes = f->kv_bytes;
    return 0;
}

/* Path of a preset's file: $FOURWAY_MODELS, or ~/.cache/fourway/models, as scripts/get-model has it. */
static bool preset_path(struct buf *path, const char *name)
{
    const char *models = getenv("FOURWAY_MODELS"), *home = getenv("HOME");

    if (models && *models) {
        buf_printf(path, "%s/%s.gguf", models, name);
    } else if (home && *home) {
        buf_printf(path, "%s/.cache/fourway/models/%s.gguf", home, name);
    } else {
        log_error("cannot look for the model '%s': neither HOME nor FOURWAY_MODELS is set", name);
        return false;
    }
    return !path->failed;
}

bool model_names_preset(const char *name)
{
    for (size_t i = 0; model_presets[i]; i++) {
        if (!strcmp(name, model_presets[i]))
            return true;
    }
    return false;
}

static void say_no_model(const char *name)
{
    struct suggestion s = suggest_start(name);

    for (size_t i = 0; model_presets[i]; i++)
        suggest_offer(&s, model_presets[i]);
    if (suggest_best(&s)) {
        log_error("there is no model '%s': did you mean the preset %s?", name, suggest_best(&s));
        return;
    }
    struct buf presets = { 0 };
    for (size_t i = 0; model_presets[i]; i++)
        buf_printf(&presets, "%s%s", i ? ", " : "", model_presets[i]);
    log_error("there is no model '%s': give the path of a .gguf file or of a Hugging Face folder, or a preset (%s)", name,
              presets.failed ? "" : presets.data);
    buf_free(&presets);
}

int model_resolve(const char *name, char *out, size_t out_size)
{
    struct buf path = { 0 };
    struct stat st;
    bool preset = model_names_preset(name);
    int status = 1;

    if (preset && !preset_path(&path, name))
        goto out;
    if (!preset)
        buf_puts(&path, name);      /* "" too, which no stat() accepts */
    if (path.failed || path.len >= out_size) {
        log_error("the path of the model is too long: %.200s...", name);
        goto out;
    }
    if (stat(path.data, &st)) {
        if (preset && errno == ENOENT)
            log_error("the preset %s is not on this machine: fetch it with scripts/get-model %s", name, name);
        else if (errno == ENOENT)
            say_no_model(name);
        else
            log_error("cannot open the model %s: %s", path.data, strerror(errno));
        goto out;
    }
    while (S_ISDIR(st.st_mode) && path.len > 1 && path.data[path.len - 1] == '/')       /* the last name is the model's */
        path.data[--path.len] = '\0';
    memcpy(out, path.data, path.len + 1);
    status = 0;
out:
    buf_free(&path);
    return status;
}
