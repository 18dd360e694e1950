/*
 * check_roles.c - prompt and generated tokens through matrices of mixed weight types: each gets the activations of its own role and type.
 *
 *     check_roles [LEVEL]      default: the machine's best; at amx with emulated tiles where the machine has none
 *
 * The matrices that read one vector share a record of it, which holds every kind of activation that one of them takes for a token of its
 * role (model_internal.h, struct site_layout). Here q, k and v, gate and up, and the same matrix of two layers differ in type, so that a
 * wrong offset, stride or number of terms reads another kind's bytes. A step is given its tokens one by one, in orders that the engine
 * never makes, too: roles alternate inside a step. The logits, and the hidden states that they come from, must have the bits of a forward
 * pass that knows no records (plain_model.h), whatever the nodes, workers and steps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/amx/amx_emulator.h"
#include "tests/kernels/guarded.h"
#include "tests/model/plain_model.h"
#include "tests/model/tiny_model.h"

#define Q4 DTYPE_Q4_0
#define Q41 DTYPE_Q4_1
#define Q5 DTYPE_Q5_0
#define Q51 DTYPE_Q5_1
#define Q8 DTYPE_Q8_0
#define Q4K DTYPE_Q4_K
#define Q6K DTYPE_Q6_K
#define MX DTYPE_MXFP4
#define NL DTYPE_IQ4_NL
#define XS DTYPE_IQ4_XS
#define Q3K DTYPE_Q3_K
#define Q2K DTYPE_Q2_K
#define BF DTYPE_BF16
#define F16 DTYPE_F16
#define F32 DTYPE_F32

static const struct mix { const char *name; enum tiny_kind kind; struct tiny_types types; } mixes[] = {
    /*              q    k    v    o    gate up   down */
    { "all kinds at a site", TINY_LLAMA, {
        .layer = { { Q4,  BF,  F32, Q8,  Q8,  F16, BF  },
                   { BF,  Q5,  BF,  F16, BF,  Q41, Q51 } }, .head = Q6K } },
    { "int8 and float32", TINY_LLAMA, {
        .layer = { { F16, Q4K, Q8,  F32, F32, Q4,  Q4K },
                   { Q6K, F32, F16, Q41, Q5,  F16, F32 } }, .head = F32 } },
    { "int8 and bf16", TINY_LLAMA, {
        .layer = { { BF,  BF,  Q51, Q4,  Q4K, BF,  Q8  },
                   { Q8,  BF,  Q4,  BF,  BF,  BF,  BF  } }, .head = BF } },
    { "no int8 before attention", TINY_LLAMA, {
        .layer = { { BF,  F32, F16, F32, BF,  F32, F16 },
                   { F32, BF,  BF,  BF,  F16, BF,  BF  } }, .head = Q8 } },
    { "straddling heads", TINY_STRADDLING, {
        .layer = { { F32, Q8,  BF,  Q8,  F16, Q8,  F32 },
                   { Q41, F16, Q6K, F32, BF,  Q4K, Q5  } }, .head = Q4K, .heads = 8 } },
    { "tables, and fewer bits", TINY_LLAMA, {
        .layer = { { MX,  NL,  Q2K, Q3K, XS,  MX,  NL  },
                   { Q3K, XS,  MX,  Q2K, NL,  Q2K, Q3K } }, .head = XS } },
    { "width no multiple of 32", TINY_LLAMA, {
        .layer = { { F32, BF,  F16, Q8,  BF,  F16, Q4  },
                   { BF,  F16, BF,  F16, F32, BF,  F32 } }, .head = BF, .width = 72, .ff = 96 } },
    { "few rows", TINY_STRADDLING, {
        .layer = { { BF,  F32, BF,  F16, F16, BF,  BF  },
                   { F16, BF,  F32, BF,  BF,  BF,  F16 } }, .head = F16, .width = 8, .ff = 20 } },
};

/* Tokens of a sequence: some of the prompt, then some that count as generated; one crosses a chunk of KV. `first` go together in every
 * setting: tiles of many small steps are slow to emulate. */
enum { N_SEQUENCES = 5, MOST_TOKENS = 80 };
static const struct { size_t n_prompt, n, first; } lengths[N_SEQUENCES] = {
    { 1, 14, 1 }, { 16, 21, 5 }, { 62, 67, 56 }, { 0, 9, 1 }, { 3, 4, 1 },
};

struct sequence { int32_t ids[MOST_TOKENS]; enum token_role roles[MOST_TOKENS]; float *want, *hidden; };

struct setting {
    size_t nodes, threads;
    size_t chunk;           /* most tokens of a sequence in a step */
    bool together;          /* tokens of all sequences in one step */
};
static const struct setting settings[] = {
    { 1, 1, MOST_TOKENS, false }, { 2, 3, 2, false }, { 1, 3, 1, true }, { 2, 4, 7, true }, { 3, 5, MOST_TOKENS, true }, { 8, 8, 30, true },
};
enum { N_SETTINGS = sizeof(settings) / sizeof(settings[0]), N_MIXES = sizeof(mixes) / sizeof(mixes[0]),
       SKIPPED = 77 /* as ctest is told */ };

/* Of sequence i, in its next step. */
static size_t next_tokens(const struct setting *s, size_t i, size_t done)
{
    const size_t left = lengths[i].n - done, n = done == 0 && lengths[i].first > s->chunk ? lengths[i].first : s->chunk;
    return n < left ? n : left;
}

static size_t n_steps, n_logits, n_hidden, n_wrong;

static void compare(const float *got, const float *want, size_t n, const char *what, const struct mix *mix, enum isa isa,
                    const struct setting *s, size_t sequence, const struct step_token *token)
{
    size_t at = 0;

    if (!memcmp(got, want, n * sizeof(float)))
        return;
    while (!memcmp(&got[at], &want[at], sizeof(float)))
        at++;
    if (n_wrong++ < 20)
        printf("%s, %s, nodes %zu, threads %zu, chunk %zu, %s: sequence %zu token %u (%s): %s %zu is %a, not %a\n", mix->name,
               isa_name(isa), s->nodes, s->threads, s->chunk, s->together ? "together" : "alone", sequence, token->position,
               token->role == ROLE_PROMPT ? "prompt" : "generated", what, at, (double)got[at], (double)want[at]);
}

/* The step's logits and hidden states, as they should be. */
static void check_step(struct model *m, const struct mix *mix, enum isa isa, const struct setting *s, const struct sequence *sequences,
                       const struct step_token *tokens, const size_t *of, size_t n)
{
    model_step(m, tokens, n);
    n_steps++;
    for (size_t i = 0, logits = 0, hidden = 0; i < n; i++) {
        const struct sequence *q = &sequences[of[i]];
        const size_t position = tokens[i].position, d_model = model_config(m)->d_model;
        if (tokens[i].wants_logits)
            compare(model_logits(m, logits++), q->want + position * TINY_VOCAB, TINY_VOCAB, "logit", mix, isa, s, of[i], &tokens[i]);
        if (tokens[i].wants_hidden)
            compare(model_hidden(m, hidden++), q->hidden + position * d_model, d_model, "dim", mix, isa, s, of[i], &tokens[i]);
        n_logits += tokens[i].wants_logits;
        n_hidden += tokens[i].wants_hidden;
    }
}

static void check_setting(const struct gguf *g, const struct mix *mix, enum isa isa, const struct setting *s,
                          const struct sequence *sequences)
{
    /* No more than the largest step takes: memory ends where its records end. */
    size_t most = 0;
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        size_t n = next_tokens(s, i, 0);
        most = s->together ? most + n : n > most ? n : most;
    }
    const struct model_options o = { .n_threads = s->threads, .n_virtual_nodes = s->nodes, .isa_given = true, .isa = isa,
                                     .isa_unchecked = isa > cpu_best_isa(), .n_ctx = 128, .max_batch = N_SEQUENCES,
                                     .full_contexts = N_SEQUENCES, .max_step_tokens = most, .max_step_logits = most,
                                     .max_step_hidden = most };
    struct kv_sequence kv[N_SEQUENCES];
    struct step_token tokens[N_SEQUENCES * MOST_TOKENS];
    size_t done[N_SEQUENCES] = { 0 }, of[N_SEQUENCES * MOST_TOKENS], n = 0;
    struct model *m;

    if (model_open(&m, g, &o, NULL, NULL))
        exit(1);
    for (size_t i = 0; i < N_SEQUENCES; i++)
        if (kv_sequence_create(&kv[i], MOST_TOKENS) || kv_cache_reserve(model_kv_cache(m), &kv[i], lengths[i].n))
            exit(1);
    for (size_t turn = 0, left = 1; left; turn++) {
        left = 0;
        for (size_t j = 0; j < N_SEQUENCES; j++) {
            size_t i = (turn + j) % N_SEQUENCES;        /* another one first each time */
            if (!s->together)
                i = j;
            for (size_t c = next_tokens(s, i, done[i]); c > 0; c--, n++, done[i]++) {
                of[n] = i;
                /* Some want no logits, some their hidden state alone or both: rows of either are not counted as tokens are. */
                tokens[n] = (struct step_token){ .id = sequences[i].ids[done[i]], .position = (uint32_t)done[i], .sequence = &kv[i],
                                                 .wants_logits = (i + done[i]) % 4 != 1, .wants_hidden = (i + done[i]) % 3 != 1,
                                                 .role = sequences[i].roles[done[i]] };
            }
            left += lengths[i].n - done[i];
            if (n && (!s->together || j == N_SEQUENCES - 1)) {
                check_step(m, mix, isa, s, sequences, tokens, of, n);
                n = 0;
            }
        }
    }
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        kv_cache_release(model_kv_cache(m), &kv[i]);
        kv_sequence_destroy(&kv[i]);
    }
    model_close(m);
}

static void check_mix(const struct mix *mix, enum isa isa)
{
    struct sequence *sequences = calloc(N_SEQUENCES, sizeof(*sequences));
    char path[] = "/tmp/fourway-roles-XXXXXX";
    int fd = mkstemp(path);
    struct model_config config;
    struct gguf *g;
    struct rng rng;

    if (!sequences || fd < 0)
        exit(1);
    tiny_model_write_types(path, mix->kind, &mix->types);
    if (gguf_open(&g, path) || model_config_read(&config, g))
        exit(1);
    struct plain_model *plain = plain_model_open(g, isa);
    rng_seed(&rng, 1);
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        for (size_t t = 0; t < lengths[i].n; t++) {
            sequences[i].ids[t] = (int32_t)rng_below(&rng, TINY_VOCAB);
            sequences[i].roles[t] = t < lengths[i].n_prompt ? ROLE_PROMPT : ROLE_GENERATED;
        }
        sequences[i].want = malloc(lengths[i].n * TINY_VOCAB * sizeof(float));
        sequences[i].hidden = malloc(lengths[i].n * config.d_model * sizeof(float));
        if (!sequences[i].want || !sequences[i].hidden)
            exit(1);
        plain_model_run(plain, sequences[i].ids, sequences[i].roles, lengths[i].n, sequences[i].want, sequences[i].hidden);
    }
    for (size_t i = 0; i < N_SETTINGS; i++)
        check_setting(g, mix, isa, &settings[i], sequences);
    for (size_t i = 0; i < N_SEQUENCES; i++) {
        free(sequences[i].want);
        free(sequences[i].hidden);
    }
    free(sequences);
    plain_model_close(plain);
    gguf_close(g);
    close(fd);
    unlink(path);
}

int main(int argc, char **argv)
{
    enum isa isa = cpu_best_isa();

    log_set_level(LOG_WARN);
    if (argc > 2 || (argc == 2 && !isa_parse(argv[1], &isa))) {
        fprintf(stderr, "usage: check_roles [LEVEL]\n");
        return 2;
    }
    const bool emulated = isa > cpu_best_isa();
    if (emulated && !(isa == ISA_AMX && cpu_best_isa() == ISA_AVX512BF16 && amx_emulator_install() == 0)) {
        printf("NOT TESTED: level %s; this machine has %s, and only tiles are emulated\n", isa_name(isa), isa_name(cpu_best_isa()));
        return SKIPPED;
    }
    for (size_t i = 0; i < N_MIXES && !n_wrong; i++)
        check_mix(&mixes[i], isa);
    if (emulated && amx_emulator_count() == 0) {
        printf("no tile was used\n");
        n_wrong++;
    }
    printf("%s: %zu steps, %zu rows of logits, %zu hidden states, %zu wrong\n", isa_name(isa), n_steps, n_logits, n_hidden, n_wrong);
    return n_wrong || n_logits == 0 || n_hidden == 0;
}
