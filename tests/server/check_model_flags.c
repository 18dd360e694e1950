/*
 * tests/server/check_model_flags.c - flags to model options: what one implies for another, what is refused, where presets lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "model/model.h"
#include "server/options.h"

static char last_line[4096];

static void take_line(void *arg, enum log_level level, const char *message)
{
    (void)arg;
    assert_int_equal(level, LOG_ERROR);
    snprintf(last_line, sizeof(last_line), "%s", message);
}

/* The options after a command line of flags; the status of model_flags_apply, or of the parser. */
static int apply(struct model_options *o, const char *first, ...)
{
    struct model_flags flags;
    struct option options[MODEL_FLAGS_OPTIONS];
    char *argv[16] = { (char *)"try" };
    int argc = 1;
    size_t n_args;
    va_list more;

    va_start(more, first);
    for (const char *word = first; word; word = va_arg(more, const char *))
        argv[argc++] = (char *)word;
    va_end(more);
    *o = (struct model_options){ .max_batch = 3 };
    model_flags_init(&flags);
    model_flags_options(&flags, options);
    struct command command = { .name = "try", .usage = "try", .summary = "try", .options = options, .n_options = MODEL_FLAGS_OPTIONS };
    int status = options_parse(&command, argc, argv, NULL, &n_args);
    return status >= 0 ? status : model_flags_apply(&flags, o);
}

static void check_defaults(void **state)
{
    struct model_options o;

    (void)state;
    assert_int_equal(apply(&o, NULL), 0);
    assert_int_equal(o.n_threads, 0);
    assert_string_equal(o.nodes, "auto");
    assert_int_equal(o.n_virtual_nodes, 0);
    assert_false(o.isa_given);
    assert_int_equal(o.isa, cpu_best_isa());
    assert_int_equal(o.activations, ACTIVATIONS_AUTO);
    assert_int_equal(o.gemm, GEMM_AUTO);
    assert_int_equal(o.kv_type, KV_BF16);
    assert_int_equal(o.type, DTYPE_F32);
    assert_int_equal(o.n_ctx, 0);
    assert_int_equal(o.kv_bytes, 0);
    assert_false(o.allow_nonfinite);
    assert_int_equal(o.max_batch, 3);       /* not a flag: stays */
}

static void check_given(void **state)
{
    struct model_options o;

    (void)state;
    assert_int_equal(apply(&o, "--threads", "5", "--nodes", "0,1", "--virtual-nodes", "4", "--ctx", "4096", "--kv-bytes", "1G",
                           "--isa", "scalar", "--gemm", "native", NULL), 0);
    assert_int_equal(o.n_threads, 5);
    assert_string_equal(o.nodes, "0,1");
    assert_int_equal(o.n_virtual_nodes, 4);
    assert_int_equal(o.n_ctx, 4096);
    assert_true(o.kv_bytes == 1u << 30);
    assert_true(o.isa_given);
    assert_int_equal(o.isa, ISA_SCALAR);
    assert_int_equal(o.gemm, GEMM_NATIVE);
    assert_int_equal(apply(&o, "--gemm", "onednn", NULL), 0);
    assert_int_equal(o.gemm, GEMM_ONEDNN);
    assert_int_equal(apply(&o, "--gemm", "openblas", NULL), 0);
    assert_int_equal(o.gemm, GEMM_OPENBLAS);
    assert_int_equal(apply(&o, "--gemm", "mkl", NULL), 2);
    assert_int_equal(apply(&o, "--allow-nonfinite", NULL), 0);
    assert_true(o.allow_nonfinite);
    assert_int_equal(apply(&o, "--type", "q4_k", NULL), 0);
    assert_int_equal(o.type, DTYPE_Q4_K);
    assert_int_equal(apply(&o, "--type", "bf16", NULL), 0);
    assert_int_equal(o.type, DTYPE_BF16);
    assert_int_equal(apply(&o, "--type", "q6_k", NULL), 0);
    assert_int_equal(o.type, DTYPE_Q6_K);
    assert_int_equal(apply(&o, "--type", "q9", NULL), 2);
}

static void check_f32_implies_f32(void **state)
{
    struct model_options o;

    (void)state;
    assert_int_equal(apply(&o, "--activations", "f32", NULL), 0);
    assert_int_equal(o.activations, ACTIVATIONS_F32);
    assert_int_equal(o.kv_type, KV_F32);
    assert_int_equal(apply(&o, "--activations", "f32", "--kv-type", "bf16", NULL), 0);
    assert_int_equal(o.kv_type, KV_BF16);
    assert_int_equal(apply(&o, "--activations", "q8", NULL), 0);
    assert_int_equal(o.kv_type, KV_BF16);
    assert_int_equal(o.activations, ACTIVATIONS_Q8);
    assert_int_equal(apply(&o, "--activations", "bf16", "--kv-type", "f32", NULL), 0);
    assert_int_equal(o.activations, ACTIVATIONS_BF16);
    assert_int_equal(o.kv_type, KV_F32);
    assert_int_equal(apply(&o, "--kv-type", "q8", NULL), 0);
    assert_int_equal(o.kv_type, KV_Q8);
    assert_int_equal(apply(&o, "--activations", "f32", "--kv-type", "q8", NULL), 0);
    assert_int_equal(o.kv_type, KV_Q8);
}

static void check_refused(void **state)
{
    struct model_options o;

    (void)state;
    assert_int_equal(apply(&o, "--kv-type", "int8", NULL), 2);
    /* Every level up to the machine's best is taken, those above are refused with its name. */
    for (int level = 0; level < ISA_COUNT; level++) {
        char want[128];
        int status = apply(&o, "--isa", isa_name((enum isa)level), NULL);
        if (level <= (int)cpu_best_isa()) {
            assert_int_equal(status, 0);
            assert_int_equal(o.isa, level);
        } else {
            snprintf(want, sizeof(want), "--isa %s: the best that this machine has is %s", isa_name((enum isa)level),
                     isa_name(cpu_best_isa()));
            assert_int_equal(status, 2);
            assert_string_equal(last_line, want);
        }
    }
}

/* What a level lacks is said for those above the best one, and for no other. */
static void check_lacks(void **state)
{
    bool refused;

    (void)state;
    for (int level = 0; level < ISA_COUNT; level++) {
        const char *lack = cpu_isa_lack((enum isa)level, &refused);

        assert_int_equal(lack == NULL, level <= (int)cpu_best_isa());
        if (!lack)
            assert_false(refused);
        else
            assert_true(strlen(lack) > 10);
    }
}

static void check_resolve(void **state)
{
    char folder[] = "/tmp/check_model_flags.XXXXXX", file[64], slashes[64], path[PATH_MAX];

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof(file), "%s/smollm2.gguf", folder);
    setenv("FOURWAY_MODELS", folder, 1);

    assert_int_equal(model_resolve("smollm2", path, sizeof(path)), 1);
    assert_string_equal(last_line, "the preset smollm2 is not on this machine: fetch it with scripts/get-model smollm2");
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(model_resolve("smollm2", path, sizeof(path)), 0);
    assert_string_equal(path, file);
    assert_int_equal(model_resolve(file, path, sizeof(path)), 0);
    assert_string_equal(path, file);

    assert_int_equal(model_resolve("smollm", path, sizeof(path)), 1);
    assert_string_equal(last_line, "there is no model 'smollm': did you mean the preset smollm2?");
    assert_int_equal(model_resolve("no-such.gguf", path, sizeof(path)), 1);
    assert_string_equal(last_line, "there is no model 'no-such.gguf': give the path of a .gguf file or of a Hugging Face folder, or a preset (smollm2, gemma3-270m)");
    assert_int_equal(model_resolve("", path, sizeof(path)), 1);
    assert_int_equal(model_resolve(folder, path, sizeof(path)), 0);
    assert_string_equal(path, folder);
    snprintf(slashes, sizeof(slashes), "%s//", folder);         /* the last name of the path is the model's name */
    assert_int_equal(model_resolve(slashes, path, sizeof(path)), 0);
    assert_string_equal(path, folder);
    assert_int_equal(model_resolve(file, path, strlen(file)), 1);       /* no room for the NUL */
    assert_non_null(strstr(last_line, "too long"));
    assert_true(model_names_preset("gemma3-270m"));
    assert_false(model_names_preset("gemma3"));

    unlink(file);
    rmdir(folder);
    unsetenv("FOURWAY_MODELS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_defaults), cmocka_unit_test(check_given), cmocka_unit_test(check_f32_implies_f32),
        cmocka_unit_test(check_refused),
        cmocka_unit_test(check_lacks), cmocka_unit_test(check_resolve),
    };
    log_set_sink(take_line, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
