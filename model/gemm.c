/*
 * gemm.c - who multiplies: for each matrix and role of a token a function, by weight type, instruction-set level and role alone.
 *
 * `--gemm auto` is a table with one entry: native. docs/performance.md has the measurements, type by type and level by level. A library
 * that is asked for serves prompt tokens, native kernels the generated ones.
 */
#include "common/log.h"
#include "model/model_internal.h"

static const char *const names[] = {
    [GEMM_AUTO] = "native", [GEMM_NATIVE] = "native", [GEMM_ONEDNN] = "onednn", [GEMM_OPENBLAS] = "openblas",
};

const char *gemm_name(const struct model *m)
{
    return names[m->gemm];
}

int gemm_open(struct model *m)
{
    m->same_bits = true;
    m->gemm_implementation = "";
    if (m->gemm == GEMM_OPENBLAS)
        return openblas_check();
    return m->gemm == GEMM_ONEDNN ? onednn_open(&m->onednn, m->kernels.isa) : 0;
}

void gemm_close(struct model *m)
{
    onednn_close(m->onednn);
}

void gemm_say(const struct model *m)
{
    if (*m->gemm_implementation)
        log_info("prompt tokens are multiplied by %s (%s)", gemm_name(m), m->gemm_implementation);
    if (!m->same_bits)
        log_warn("same bits: off (with --gemm %s the bits of an answer depend on batch mates, nodes and threads)", gemm_name(m));
}

/* --activations q8 is int8 for quantised weights whatever the role; at amx prompts have bf16 else. Plain types keep their own. */
static enum activation activation_of(const struct model *m, enum dtype type, enum token_role role)
{
    const enum activation natural = kernels_activation(type);

    if (m->activations == ACTIVATIONS_F32 || (m->activations == ACTIVATIONS_BF16 && natural != ACT_BF16))
        return ACT_F32;
    return role == ROLE_PROMPT && m->activations != ACTIVATIONS_Q8 ? m->kernels.prompt_activation[type] : natural;
}

/* Our own kernel for weights of a type, activations of a kind and tokens of a role. */
static matmul_fn native(const struct kernels *k, enum dtype type, enum activation activation, enum token_role role)
{
    if (role == ROLE_PROMPT && activation == k->prompt_activation[type])
        return k->matmul_prompt[type];
    return activation == kernels_activation(type) ? k->matmul[type] : k->matmul_f32[type];
}

/* A library in place of the native kernel for prompt tokens. */
static int choose_library(struct model *m, struct matrix *x)
{
    struct product p;

    if (m->gemm == GEMM_OPENBLAS) {
        openblas_prepare(&p, x->type, x->k_padded);
    } else {
        /* Of generated tokens: those of prompts may be our own kernels' (bf16 for quantised weights at amx), not the library's. */
        int err = onednn_prepare(m->onednn, &p, x->tensor->name.data, x->type, x->activation[ROLE_GENERATED], x->k_padded);
        if (err)
            return err;
    }
    x->activation[ROLE_PROMPT] = p.activation;
    x->multiply[ROLE_PROMPT] = p.multiply;
    x->prepared = p.prepared;
    if (!*m->gemm_implementation || (m->same_bits && !p.same_bits))
        m->gemm_implementation = p.implementation;
    m->same_bits &= p.same_bits;
    if (p.scratch_bytes > m->matmul_scratch_bytes)
        m->matmul_scratch_bytes = p.scratch_bytes;
    return 0;
}

int gemm_choose(struct model *m, struct matrix *x)
{
    const size_t scratch_bytes = matmul_scratch_bytes(x->k_padded);

    for (enum token_role role = 0; role < ROLE_COUNT; role++) {
        x->activation[role] = activation_of(m, x->type, role);
        x->multiply[role] = native(&m->kernels, x->type, x->activation[role], role);
    }
    if (scratch_bytes > m->matmul_scratch_bytes)
        m->matmul_scratch_bytes = scratch_bytes;
    /* F8_E4M3 stays with us: a library would get it as float32, four times the bytes and none of the arithmetic. */
    return (m->gemm == GEMM_ONEDNN || m->gemm == GEMM_OPENBLAS) && x->type != DTYPE_F8_E4M3 ? choose_library(m, x) : 0;
}
